"""rows: an attempts frame and a diagnosis as the rows a chart draws, counted; beyond 20 most are folded.

Belongs here: which rows, in which order, who is marked, k of n, the words around a chart. Not here: drawing.
"""

import re
from collections.abc import Sequence
from os.path import commonprefix
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from smtpkit.address import ip_or_none, is_told
from smtpkit.counts import BRIEF, as_far, depths, endings, moments, sessions, unfinished, wilson
from smtpkit.drawing import CROSS, WORDS, inert, pad, say
from smtpkit.errors import refuse
from smtpkit.reading import senders
from smtpkit.voices import hear

if TYPE_CHECKING:
    from smtpkit.diagnosis import Cause, Diagnosis

MOST, FILL, TALL = 20, 12, 40
"""Rows drawn one by one, at most; how many are left where there are more, and if the accused need more of them."""
_READ = """started_at mx_pref code mx_ip mx_host sender_ip seen_ip local_ip outcome error reason domain source asked
attempt_id stage reply_host banner_host ehlo_host recipient recipient_domain vantage""".split()
_WORD = dict(zip(("ok", "deferred", "refused", "silent"), WORDS[:4], strict=True))
_KEY = {"mx_ip": "ip", "sender_ip": "sender", "backend": "backend", "recipient": "recipient"}
_BARE = r"\d{4}-\d\d-\d\d([ T][\d:.]*)?|no time"
_HEAD = {"ip": "MX IP", "sender": "from", "backend": "back end", "recipient": "recipient"}


class Rows:
    """The rows of one chart: an attempts frame, counted by MX IP (by pair if senders differ in a cause).

    order: by preference and address; before that by "rate" (highest first) or by "back" (time of recovery).
    facts: an attempt a row (at, ip, sender, word, says, why, hit, counted, accused, y, ...); withheld ones are not
    counted. lines: a drawn row each, in order (label, k, n, other, low, high, accused, back). top: their heading.
    word: what k counts. turns: "onset" and "recovery" as the two attempts around them. since: the window that is
    counted, in words. clock: the format of a time. notes: case notes, (time, text).
    """

    def __init__(self, frame: pd.DataFrame, diagnosis: "Diagnosis | None", order: str = "", unit: str = ""):
        if diagnosis is not None and not hasattr(diagnosis, "causes"):
            raise refuse("diagnosis", diagnosis, "is none", "give what diagnose(frame) gave")
        f = self.facts = read(frame)
        made, causes = f.word.ne("withheld"), getattr(diagnosis, "causes", ())
        self.causes = [cause for cause in causes if cause.kind not in ("healthy", "inconclusive")]
        self.about = next((cause.dimension for cause in self.causes), "")  # what the title is about
        self.title = _title(f[made], (~made).sum(), getattr(diagnosis, "verdict", ""))
        self.foot, self.notes = _foot(f, f[made]), list[tuple[pd.Timestamp, str]]()
        f["dated"] = f["at"].notna() | (diagnosis is None) | f["at"].isna().all()  # diagnoses leave out the others
        made &= f.dated
        f["told"] = told(f, self.causes)
        self.word, f["hit"] = _hits(f, self.causes, judged=diagnosis is not None)
        if self.causes and self.word != "slow":
            made &= as_far(depths(f.stage), f.hit.to_numpy(bool), f.word.eq("accepted").to_numpy(bool))
        keys = [unit] if unit else self._unit(order)
        self.unit = _HEAD[keys[0]]
        f["key"] = f[keys[0]].fillna("?").str.cat([f[key].fillna("?") for key in keys[1:]], sep=" ")
        f["accused"], f["theirs"], then = False, not self.causes, pd.Series(False, f.index)
        for cause in self.causes:
            own = match(f, cause, keys) & (cause.confidence >= 0.8)
            f["accused"], f["theirs"] = f.accused | own, f.theirs | at_receiver(f, cause)
            then |= own & ~((f["at"] < pd.Timestamp(cause.onset)) | (f["at"] > pd.Timestamp(cause.recovery)))
        only = list[str]()
        if len(self.causes) > 1 and (made & f.accused & ~then).any():  # no window for all: each accused has its own
            made, only = made & (then | ~f.accused), [say("{} in the time of its cause", CROSS)]
        if keys == ["sender"] and not f.theirs[made].all():  # an address of ours speaks to several receivers
            made &= f.theirs
            only += sorted(set(f.domain[made].dropna().astype("str")))
        self.turns = self._turns(f[made])
        span, dates = f["at"].max() - f["at"].min(), f["at"].dt.date.nunique()
        day = "%d %b %Y %H:%M" if span > pd.Timedelta("300D") else "%d %b %H:%M"
        self.clock = "%H:%M:%S" if span < pd.Timedelta(BRIEF, "s") else "%H:%M" if dates < 2 else say(day)
        f["counted"], self.since = self._window(made)
        only += [self.since] * bool(self.since)
        self.foot += say(" \u00b7 counted: {}", ", ".join(only)) * bool(only)
        known = {ip: at for cause in self.causes for ip, at in cause.recoveries.items()}
        f["back"] = pd.to_datetime(f.ip.map(known), utc=True)
        self.lines, self.top = _lines(f, keys, order)

    def _window(self, counted: pd.Series) -> tuple[pd.Series, str]:
        """Of these attempts those between onset and recovery, and that window in words."""
        at, said = self.facts["at"], list[str]()
        if "onset" in self.turns:
            first = self.turns["onset"][1]
            counted, said = counted & (at >= first), [say("since {:{}}", first, self.clock)]
        if "recovery" in self.turns:
            last = self.turns["recovery"][0]
            counted, said = counted & (at <= last), [*said, say("until {:{}}", last, self.clock)]
        return counted, say("{} UTC", " ".join(said)) if said else ""

    def _unit(self, order: str) -> list[str]:
        """What one row is: an MX IP, with the sender IP or the back end beside it where a cause needs that."""
        asked = {name for cause in self.causes for name in (cause.dimension, *cause.only_for)}
        if order == "rate" and self.about == "recipient":
            return ["recipient"]
        if "sender_ip" in asked and not asked & {"mx_ip", "backend"}:
            return ["sender"]
        pairs = self.facts.sender.nunique() > 1 and ("sender_ip" in asked or not self.causes)
        return ["ip", *["sender"] * pairs, *["backend"] * ("backend" in asked)]

    def _turns(self, made: pd.DataFrame) -> dict[str, tuple[pd.Timestamp, pd.Timestamp]]:
        """Onset and recovery as the two attempts on the accused rows that lie around them, if a time is known."""
        if len(self.causes) != 1 or self.causes[0].recoveries:
            return {}
        onset, recovery = (pd.Timestamp(at) for at in (self.causes[0].onset, self.causes[0].recovery))
        at = made["at"][made.accused | (not made.accused.any())]
        found = {"onset": (at[at < onset].max(), at[at >= onset].min())}
        found["recovery"] = (at[at <= recovery].max(), at[at > recovery].min())
        return {name: pair for name, pair in found.items() if pd.notna(pair[0]) and pd.notna(pair[1])}

    def of(self, form: str = "{:,} of {:,}") -> list[str]:
        """k of n of each row, for its right side; nothing where nothing was counted."""
        three = zip(self.lines.k, self.lines.n, self.lines.other, strict=True)
        return [say(form, k, n) + f" +{m:,}" * bool(m and "/" in form) if n else "" for k, n, m in three]


def read(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns a chart reads, missing ones added; needs `mx_ip`, and `code`, `error` or `outcome`.

    Rows of one session count once up to MAIL; what has not ended is left out; what we withheld or stopped is told.
    """
    if not isinstance(frame, pd.DataFrame):
        raise refuse("frame", type(frame).__name__, "is no frame", "give the attempts first, then the diagnosis")
    if "mx_ip" not in frame:
        raise refuse("columns", list(frame), "have no mx_ip", "sk.read_table(df, columns={...}) names it")
    frame = sessions(frame).loc[lambda known: ~unfinished(known).to_numpy()]
    f = frame.reindex(columns=_READ).assign(row=frame.index, voice=hear(frame)[0]).reset_index(drop=True)
    zoned(f.started_at)
    f["at"], text = moments(f.started_at), f[_READ[3:]].astype("str")
    word, tls = endings(frame).map(_WORD).fillna("withheld"), text.error.isin(["tls_handshake", "tls_verify"])
    f["word"] = np.where(word.eq("no answer").to_numpy() & tls, "TLS failed", word)
    f["ip"], f["host"] = text.mx_ip.fillna("no address"), text.mx_host.str.rstrip(".")
    f["sender"] = senders(text)
    hidden = {ip for ip in text.local_ip.dropna().unique() if not is_told(ip)} - {*text.sender_ip, *text.seen_ip}
    f["us"] = f.sender.mask(f.sender.isin(hidden))
    mailbox = text.recipient.str.extract(r"@([^@<>\s]+)>?\s*$")[0]
    f["domain"] = text.domain.fillna(text.recipient_domain).fillna(mailbox)
    f["backend"] = text.reply_host.fillna(text.banner_host).fillna(text.ehlo_host)
    said = pd.to_numeric(f.code, errors="coerce").astype("Int64").astype("str")
    said = said.fillna(text.error).fillna(text.outcome).fillna("?")
    f["says"] = said.where(f.word.ne("TLS failed"), "TLS")
    f["why"] = text.reason.where(f.reason.ne("unknown")).fillna(text.error).fillna(f.says)
    kind = f.why.where(f.word.ne("accepted"), "accepted")
    f["kind"] = kind.where(kind.eq(said), kind + " " + said).where(f.says.ne("TLS"), said)
    f["pref"] = pd.to_numeric(f.mx_pref, errors="coerce").astype("float64")
    return f.sort_values("at", kind="stable", ignore_index=True)


def zoned(at: pd.Series) -> None:
    """Raise InvalidInput for times without a zone: shown as UTC, as charts and letters do, they are hours off."""
    text = at.dropna().head(99).astype("str")
    for bare in text[text.str.fullmatch(_BARE)]:
        instead = f'pd.to_datetime({at.name}).dt.tz_localize("Asia/Seoul") names it'
        raise refuse(str(at.name), bare, "has no time zone", instead)


def told(f: pd.DataFrame, causes: Sequence["Cause"]) -> pd.Series:
    """The attempts that are the causes' evidence."""
    found = pd.Series(False, f.index)
    for evidence in (cause.evidence for cause in causes):
        named = "attempt_id" in evidence and evidence.attempt_id.notna().all()
        found |= f.attempt_id.isin(evidence.attempt_id) if named else f.row.isin(evidence.index)
    return found


def _hits(f: pd.DataFrame, causes: Sequence["Cause"], judged: bool) -> tuple[str, pd.Series]:
    """Which attempts count in k: those that failed as the causes' evidence did; without evidence all failures."""
    failed = f.word.isin(WORDS[1:])
    if any(cause.kind == "mx_slow" for cause in causes):
        return "slow", f.told
    alike = f.voice.isin(f.voice[failed & f.told])
    hit = failed & alike if alike.any() else failed if causes or not judged else f.word.eq("refused")
    kinds = sorted(set(f.word[hit])) or ["refused"]
    return (kinds[0] if len(kinds) == 1 else "failed"), hit


def match(f: pd.DataFrame, cause: "Cause", keys: Sequence[str]) -> pd.Series:
    """The attempts that a cause accuses, if it is told by these keys."""
    found = at_receiver(f, cause) & (_KEY.get(cause.dimension) in keys)
    for name, values in {**cause.only_for, cause.dimension: cause.values}.items():
        if (key := _KEY.get(name)) in keys:
            found &= f[key].isin(values)
    return found


def at_receiver(f: pd.DataFrame, cause: "Cause") -> pd.Series:
    """The attempts at the receiver that a cause is about, by domain and MX IP; all, if it names servers."""
    if cause.dimension in ("mx_ip", "backend", "recipient"):
        return pd.Series(True, f.index)
    own = {"sender_ip": f.sender, "domain": f.domain}.get(cause.dimension)
    failed = f.hit & (True if own is None else own.isin(cause.values))
    domain = f.domain[failed & (f.told | (not (failed & f.told).any()))].mode()[:1]
    here = f.domain.isin(domain) | domain.empty
    return here | f.ip.isin(set(f.ip[here]) - {"no address"})


def ip_order(text: str) -> tuple[int, int, str]:
    """IPv4 before IPv6, each by number; what is no address comes last."""
    address = ip_or_none(text)
    return (address.version, int(address), "") if address else (9, 0, text)


def _lines(f: pd.DataFrame, keys: Sequence[str], order: str) -> tuple[pd.DataFrame, str]:
    """The drawn rows, in order; beyond 20 the accused, their neighbours and the worst; what is left in one, or in
    two if some of it is accused. Sets y."""
    table = _sums(f, f.key).assign(rate=lambda t: -t.k / t.n, shut=lambda t: t.k > 0)
    table["place"] = [tuple(map(ip_order, key.split(" "))) for key in table.index]
    first = {"rate": ["rate"], "back": ["shut", "back"]}.get(order, [])
    table = table.sort_values([*first, "pref", "place"], kind="stable")
    keep = np.ones(len(table), bool)
    if len(table) > MOST:
        near = np.convolve(table.accused, np.ones(5), "same") > 0.5
        chosen = np.lexsort((-(table.k + table.other), ~near, ~table.accused))[: min(TALL, max(FILL, near.sum()))]
        keep = np.isin(np.arange(len(table)), chosen)
    y, (*labels, top) = keep.cumsum() - 1, _labels(table[keep], keys)
    for mark, folded in (CROSS, ~keep & table.accused), (" ", ~keep & ~table.accused):
        y[folded] = len(labels)
        labels += [f"{mark} " + say("{:,} more", folded.sum())] * bool(folded.any())
    f["y"] = f.key.map(pd.Series(y, table.index)).astype("int64")
    *labels, top = pad([*labels, top])
    lines = _sums(f, f.y).assign(label=labels)
    lines["back"] = lines.back.where(~f.back.isna().groupby(f.y).any())  # of several the last, if all are back
    lines["low"], lines["high"] = wilson(lines.k.to_numpy(), lines.n.to_numpy())
    return lines, top


def _sums(f: pd.DataFrame, by: pd.Series) -> pd.DataFrame:
    """Counted attempts of each row: k hits, n, other failures; its address, hosts, preference and so on."""
    f = f.assign(n=f.counted, k=f.counted & f.hit, other=f.counted & ~f.hit & f.word.isin(WORDS[1:]))
    how = {"n": "sum", "k": "sum", "other": "sum", "accused": "any", "pref": "min", "back": "max"}
    hosts = f.groupby(by).host.agg(lambda names: sorted(set(names.dropna())))
    return f.groupby(by).agg(how | dict.fromkeys(_KEY.values(), "first")).assign(hosts=hosts)


def _labels(lines: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    """Row heads in columns that line up, at last their heading; a column without any value is left out."""
    pref = ["" if pd.isna(value) else f"{value:4.0f}" for value in lines.pref]
    columns = {_HEAD["ip"]: lines.ip, "host": short_hosts(lines.hosts), "pref": pref} if "ip" in keys else {}
    columns |= {_HEAD[key]: lines[key].fillna("") for key in keys if key != "ip"}
    texts = [*(f"{CROSS} " if flag else "  " for flag in lines.accused), "  "]
    for name, values in columns.items():
        shown = [inert(value, mono=True) for value in values]
        most = 40 if name != "host" else 56 - max(map(len, lines.ip), default=0)  # more would make all letters tiny
        shown = [v if len(v) < most else f"{v[: most // 2 - 1]}\u2026{v[1 - most // 2 :]}" for v in shown]
        if any(shown):
            texts = pad(f"{text}{value}  " for text, value in zip(texts, [*shown, say(name)], strict=True))
    return [text[:-2] for text in texts]


def short_hosts(hosts: Sequence[Sequence[str]]) -> list[str]:
    """Host names without the part all share; several hosts of one address as "mx1 +1"."""
    ends = [name.split(".")[::-1] for names in hosts for name in names]
    same = min([len(commonprefix(ends)), *(len(end) - 1 for end in ends)])  # noqa: RUF071  of lists it compares labels
    short = [[name.rsplit(".", same)[0] for name in names] for names in hosts]
    return [names[0] + f" +{len(names) - 1}" * (len(names) > 1) if names else "" for names in short]


def _title(made: pd.DataFrame, held: int, verdict: str) -> str:
    """The verdict's first sentences that fit above a chart; without one, the counts and nothing else."""
    if verdict.strip():  # intervals are for the forest and the letter; of a list the head is enough
        text = re.sub(r" ?\(95 % [^()]*\)", "", " ".join(verdict.split()))
        said = [re.sub(r"(?<!yet): .{120,}", ".", one) for one in re.split(r"(?<=[.!?]) ", text)]
        while len(said) > 1 and len(" ".join(said)) > 220:
            said.pop()
        return " ".join(said).removesuffix(".")
    if not len(made):
        return f"No attempt was made: {held} withheld by us" if held else "This frame has no attempts"
    n, ips = made.word.value_counts(), made.ip.nunique()
    done = f"{n.get('accepted', 0):,} of {len(made):,} attempts at {ips} MX IP{'s' * (ips != 1)} were accepted"
    rest = ", ".join(f"{n[word]:,} {word.replace('no ', 'without ')}" for word in WORDS[1:] if word in n)
    return f"{done}; {rest}" if rest else done


def _foot(f: pd.DataFrame, made: pd.DataFrame) -> str:
    """Domain, number of attempts, source, depth, time range in UTC, our address, what was not counted."""
    named = [f[name].dropna().astype("str").unique() for name in ("domain", "source", "asked", "us")]
    domain, source, depth, us = (", ".join(one[:3]) + " \u2026" * (len(one) > 3) for one in named)
    how = ", ".join(filter(None, [source, say("up to {}", depth) * bool(depth)]))
    said = f"{domain}, " * bool(domain) + say("{:,} attempt" if len(made) == 1 else "{:,} attempts", len(made))
    parts = [said + f" ({how})" * bool(how)]
    a, b, held, undated = made["at"].min(), made["at"].max(), len(f) - len(made), made["at"].isna().sum()
    if pd.notna(a):
        day = say("%d %b %Y %H:%M")
        until = say(" to {:{}}", b, "%H:%M" if a.date() == b.date() else day)
        parts.append(f"{a:{day}}{until * (a.floor('min') < b.floor('min'))} UTC")
    parts += [say("from {}", us) * bool(us), say("{:,} withheld by us, not counted", held) * bool(held)]
    return " \u00b7 ".join(filter(None, [*parts, say("{:,} without a time", undated) * bool(undated)]))
