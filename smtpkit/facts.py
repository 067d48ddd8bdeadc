"""facts: which attempts speak in a letter: the accused, their siblings, those quoted; the figures they give.

Belongs here: roles of attempts, counts with intervals, both clocks, the contact. Not here: who is guilty
(diagnosis), which attempts count (rows, as in the charts), the words (data/letter.*.md.j2), files (packet).
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import tzinfo
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from smtpkit import rows
from smtpkit.address import mailbox_or_none, organisation
from smtpkit.catalogue import rows as catalogue
from smtpkit.counts import percent
from smtpkit.diagnosis import Cause, Diagnosis
from smtpkit.drawing import WORDS
from smtpkit.escape import one_line, visible
from smtpkit.hypotheses import rates
from smtpkit.reading import Reading, sender_domain

LINES, NEAR = 5, pd.Timedelta("15min")
"""Refusals quoted, with as many acceptances beside them, and how near in time these must be."""
COLUMNS = """line counted_as attempt_id started_at local_time mx_host mx_ip port backend sender_ip helo sender
recipient stage outcome code enhanced reply error queue_id message_id tls session vantage""".split()
"""Of attempts.csv: `counted_as` says in which figure an attempt counts, `line` where it is quoted."""
_QUOTED = "at ip stage recipient source queue_id error tls_problem code outcome word reply".split()
_COLUMN = {name: name for name in ("domain", "mx_ip", "backend", "sender_domain")} | {"sender_ip": "ours"}
"""Where the attempts have what a cause names."""


class Facts:
    """Attempts in their roles: mine (the accused's), bad (those that failed so), rest (siblings), the quoted.

    Siblings: same receiver, same sender IP unless that is accused; of a limit (rate) who is slower; where servers
    recover one by one, each from then on. No cause: none.
    """

    def __init__(self, table: pd.DataFrame, diagnosis: Diagnosis, cause: Cause | None) -> None:
        self.cause, self.view = cause, rows.Rows(table, replace(diagnosis, causes=(cause,)) if cause else diagnosis)
        known = "attempt_id at back domain ip host backend us word told hit theirs accused counted".split()
        found = self.view.facts[known].assign(ours=self.view.facts.sender)
        self.all = f = found.merge(table.drop(columns="domain"), on="attempt_id", validate="one_to_one")
        f["sender_domain"] = sender_domain(f)
        mine, self.rate = f.counted & self._marked(f), dict[str, Any]()
        apart = [one for one in getattr(diagnosis, "causes", ()) if one is not cause]
        like = self._siblings(f, mine, apart)
        if cause is not None and cause.dimension == "rate" and f.told.any():
            others = rows.told(self.view.facts, apart)
            self.rate, fast, slow = hurried(table, f.attempt_id[f.told], f.attempt_id[others])
            mine, like = (f.counted & f.attempt_id.isin(ids) for ids in (fast, slow))
        after = mine & (f["at"] >= f.back)  # who stopped refusing is a sibling from then on
        mine, like = mine & ~after, like | after
        self.mine, self.bad, self.rest = f[mine], f[mine & f.hit], f[like]
        k = len(self.bad)
        self.quoted = self.bad.iloc[np.linspace(0, k - 1, min(LINES, k)).round().astype(int)]

    def _marked(self, f: pd.DataFrame) -> pd.Series:
        """The accused's rows: at that receiver those of the servers, addresses and domains that are named."""
        if self.cause is None:
            return f.accused
        marked = f.theirs
        for name, values in {self.cause.dimension: self.cause.values, **self.cause.only_for}.items():
            marked = marked & f[_COLUMN[name]].isin(values) if name in _COLUMN else marked
        return marked

    def _siblings(self, f: pd.DataFrame, mine: pd.Series, apart: list[Cause]) -> pd.Series:
        """The rows that the accused's are compared with; who is not known, or accused beside it, is none."""
        unit = getattr(self.cause, "dimension", "")
        same = _among(f.domain, f.domain[mine]) & (_among(f.ours, f.ours[mine]) | (unit == "sender_ip"))
        if unit in _COLUMN:
            beside = [value for one in apart if one.dimension == unit for value in one.values]
            same &= f[_COLUMN[unit]].notna() & ~f[_COLUMN[unit]].isin(beside)
        return f.counted & ~mine & same & (self.cause is not None)

    @cached_property
    def contrast(self) -> pd.DataFrame:
        """For each refusal quoted an acceptance by a sibling near in time; same recipient, new server first."""
        near = self.rest if len(self.rest) else self.mine
        pool, chosen = near[near.word == "accepted"], list[Any]()
        unit = pool.backend if self.cause is not None and self.cause.dimension == "backend" else pool.ip
        for bad in self.quoted.itertuples():
            other = pool.ip.ne(bad.ip) | pool.ours.ne(bad.ours) | bool(len(self.rest))
            whom = pool.recipient.ne(bad.recipient).fillna(True) & pd.notna(bad.recipient)
            order = pd.DataFrame({"whom": whom, "used": unit.isin(unit[chosen]), "away": abs(pool["at"] - bad.at)})
            close = order[(order.away <= NEAR) & other & ~pool.index.isin(chosen)]
            chosen += list(close.sort_values(["whom", "used", "away"]).index[:1])
        return pool.loc[sorted(chosen)]

    def figures(self) -> dict[str, tuple[Any, pd.DataFrame]]:
        """Each figure of the letter with the attempts behind it."""
        counted = {"k": self.bad, "n": self.mine, "other_k": self.rest[self.rest.hit], "others": self.rest}
        first, last = (self.bad["at"].min(), self.bad.iloc[:1]), (self.bad["at"].max(), self.bad.iloc[-1:])
        return {name: (len(those), those) for name, those in counted.items()} | {"since": first, "last": last}

    def words(self, zone: tzinfo | str) -> dict[str, Any]:
        """What the templates reckon with; `several`, `prose` and `quote` make text from outside inert."""
        cause, bad = self.cause, self.bad
        assert cause is not None, "a letter has a cause"
        made: dict[str, Any] = {name: figure for name, (figure, _) in self.figures().items()}
        made["back"] = back = sorted((at, ip) for ip, at in cause.recoveries.items() if pd.notna(at))
        made["still"] = still = bool(set(self.mine.ip) - {ip for _, ip in back}) and pd.isna(cause.recovery)
        names = self.mine.groupby("ip")[["host", "port"]].first().reindex(bad.ip).set_axis(bad.index)
        server = names.host.fillna("unnamed") + " [" + bad.ip + "]"  # one entry a server: not all lines have a port
        bad = bad.assign(server=server.where(names.port.isna(), server + ":" + names.port.astype("str")))
        made["left"] = bad[~bad.ip.isin([ip for _, ip in back])] if still else bad
        made["codes"] = several((bad.code.astype("str") + " " + bad.enhanced.astype("str").fillna("")).str.strip())
        made["otherwise"] = list(self.rest.word[~self.rest.hit & self.rest.word.isin(WORDS[1:])])
        made["ways"] = [word for word in WORDS if bad.word.eq(word).any()]
        made["contact"] = contact(bad.host, bad.domain)
        made |= {"several": several, "quote": _quote, "when": lambda at: when(at, zone)}
        made["prose"] = lambda text: re.sub(r"[^\w.:(),+ -]", "?", text)  # nothing that Markdown would obey
        made |= {"cause": cause, "mine": self.mine, "rest": self.rest, "bad": bad, "interval": percent}
        return made | {"quoted": self.quoted, "contrast": self.contrast, "rate": self.rate}

    def table(self, zone: tzinfo | str) -> pd.DataFrame:
        """attempts.csv: the attempts that count in a figure (without a cause: all), in order of time."""
        f = self.all.assign(mx_ip=self.all.ip, sender_ip=self.all.us, counted_as="", line="")
        for role, those in ("accused", self.mine), ("sibling", self.rest):
            f.loc[those.index, "counted_as"] = [role + f", {self.view.word}" * hit for hit in those.hit]
        for letter, those in ("R", self.quoted), ("A", self.contrast):
            f.loc[those.index, "line"] = [f"{letter}{number}" for number in range(1, len(those) + 1)]
        f["local_time"] = f["at"].dt.tz_convert(zone).dt.strftime("%Y-%m-%d %H:%M:%S %Z").fillna("")
        kept = f if self.cause is None else f[f.counted_as.ne("")]
        return kept.sort_values("at", kind="stable")[COLUMNS].reset_index(drop=True)


def hurried(table: pd.DataFrame, told: pd.Series, others: pd.Series) -> tuple[Any, pd.Series, pd.Series]:
    """Of a limit found in attempts `told`: its detail, who came too fast as `diagnose` counts, and who did not."""
    ids = (read := Reading(table)).rows.attempt_id
    site, so = np.isin(read.site, read.site[ids.isin(told)]), ids.isin(told).to_numpy()
    scale = read.scale(at := np.flatnonzero(site & ~ids.isin(others)))  # what another cause explains is not counted
    best = min(
        rates(scale), key=lambda f: (np.count_nonzero((f.mask & scale.speaks(f.voices)) != so[at]), -f.score)
    )
    site[at[best.mask]] = False
    return best.detail, ids.iloc[at[best.mask]], ids[site]


def _among(column: pd.Series, known: pd.Series) -> pd.Series:
    """Whether each is one of the known; all, if nothing is known."""
    return column.isin(known.dropna().unique()) | known.isna().all()


def _quote(letter: str, attempts: pd.DataFrame, ours: str, theirs: str) -> str:
    """Attempts verbatim; a log has our queue id (`ours`), a reply theirs."""
    shown, lines = attempts[_QUOTED].astype("object"), list[str]()
    for number, row in enumerate(shown.where(shown.notna(), None).itertuples(), 1):
        at = row.at and f"{row.at:%Y-%m-%d %H:%M:%S.%f}"[:-3]
        head = [f"{letter}{number}", at, row.ip, row.stage and row.stage.upper(), row.recipient]
        queue = theirs if row.source in ("probe", "send", "dialogue") else ours
        known = " ".join(one_line(text) for text in head if text)
        known += f", {queue} {one_line(row.queue_id)}" if row.queue_id else ""
        why = ", ".join(filter(None, (row.error, row.tls_problem))) or "unknown"
        heard = row.code or (row.outcome if row.word == "accepted" else None)
        said = visible(row.reply or (f"({heard})" if heard else f"(no reply: {why})"))
        lines += [f"    {known}", *(f"       {line}" for line in said.split("\n"))]
    return "\n".join(lines)


def when(at: pd.Timestamp, zone: tzinfo | str) -> str:
    """A time in UTC and in the zone; only once if both are the same."""
    if pd.isna(at):
        return "at an unknown time"
    utc, here = (pd.Timestamp(at).tz_convert(one) for one in ("UTC", zone))
    text = f"{utc:%Y-%m-%d %H:%M:%S} UTC"
    return f"{text} ({here:%Y-%m-%d %H:%M:%S %Z})" if here.utcoffset() else text


def several(values: Iterable[Any]) -> str:
    """The first three different values on one line, and how many more there are."""
    known = [one_line(str(value)) for value in pd.Series(values).dropna().unique()]
    return ", ".join(known[:3]) + (f" (+{len(known) - 3})" if len(known) > 3 else "")


def contact(hosts: Iterable[Any], domains: Iterable[Any]) -> dict[str, str]:
    """The row of data/contacts.csv for the first known host and domain; only a name's characters get through."""
    first = (next((name for name in names if pd.notna(name)), "") for names in (hosts, domains))
    host, domain = (re.sub(r"[^\w.-]", "", name).rstrip(".") for name in first)
    known = ((tuple(row["mx_suffix"].strip("*").split(";")), row) for row in catalogue("contacts.csv"))
    row = next(row for ends, row in known if f".{host.lower()}".endswith(ends))  # the last is for every host
    email = row["email"].replace("{domain}", domain or organisation(host) * ("." in host))
    return row | {"email": email if mailbox_or_none(email) else ""}
