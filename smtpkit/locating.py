"""locating: `locate`: probe the most suspect MX IP next, and stop when it is certain who refuses.

Not here: the test (suspicion), what a probe asks (probing), which explanation fits best (diagnosis).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from smtpkit import counts
from smtpkit.campaign import run
from smtpkit.catalogue import render
from smtpkit.diagnosis import Cause, Diagnosis, diagnose
from smtpkit.errors import of_kind, quantity
from smtpkit.escape import one_line
from smtpkit.jobs import Plan, hold
from smtpkit.mx import MxRoute
from smtpkit.network import Network
from smtpkit.probing import RULES, Question, question
from smtpkit.reading import Reading
from smtpkit.reasons import OURS
from smtpkit.steps import Verdict
from smtpkit.suspicion import WEAK, Judgement, judge
from smtpkit.verdicts import SURE
from smtpkit.voices import hear, priors

_SOUNDS = {"dead": "mx_dead", "lost": "mx_dead", "tls": "mx_tls"}


class Tally:
    """Sessions and refusals by MX IP, and whom not to ask; silence counts once its address family answered us.

    apart: since its first refusal somebody of its family got through; else all may refuse from then on.
    """

    def __init__(self, ips: Sequence[str], seen: pd.DataFrame | None = None) -> None:
        self.ips, self.six = list(ips), np.array([":" in ip for ip in ips], bool)
        self.refused, self.asked, self.mute = np.zeros((3, len(self.ips)), np.int64)
        self.held, self.spoke, self.apart = np.zeros((3, len(self.ips)), bool)
        if seen is not None and len(seen):
            read = Reading(seen)
            alone = read.mute.copy()
            if alone.any():
                alone[alone] = ~read.controlled(alone, np.zeros_like(alone))
            table = counts.by_ip(read.rows[~alone]).reindex(self.ips)[["failed", "n"]]
            self.refused, self.asked = np.array(table.fillna(0), np.int64).T
            bad = pd.Series(read.t).where((read.voice >= 0) & ~alone).groupby(read.rows.mx_ip.to_numpy()).min()
            last = [read.t[(read.voice < 0) & (read.codes["family"] == six)].max(initial=0) for six in (0, 1)]
            self.apart = np.array(bad.reindex(self.ips) < np.array(last)[self.six.astype(int)])

    @property
    def shut(self) -> np.ndarray:
        """Who is not asked: we held it, or it was silent twice and nobody of its family has answered."""
        return np.asarray(self.held | (self.mute > 1) & ~self.spoke)

    def judge(self) -> Judgement:
        """The test's judgement; before it names one, others of its family are asked ("since": all refuse now)."""
        now = judge(self.refused, self.asked, self.shut)
        early = now.named & ~self.apart & np.isin(self.six, self.six[~now.named])
        if now.done != "named" or not early.any():
            return now
        out = self.shut | now.named | (self.refused > 0) & ~self.apart | ~np.isin(self.six, self.six[early])
        ask = np.where(out, self.asked.max() + 1, self.asked).argmin()
        return replace(now, done=np.array("since" if out.all() else ""), ask=np.array(ask))

    def hear(self, ip: str, verdict: Verdict) -> None:
        """Count one session; what we withheld or broke off ourselves shuts the IP for this run."""
        number = self.ips.index(ip)
        if verdict.outcome in ("withheld", "unknown") or verdict.error in OURS:
            self.held[number] = True
        elif verdict.stage == "connect" and not self.spoke[number]:
            self.mute[number] += 1
        else:
            alike = self.six == self.six[number]
            self.spoke |= alike
            self.asked[number] += 1
            self.refused[number] += verdict.outcome != "passed"
            self.apart |= alike & (self.refused > 0) & (verdict.outcome == "passed")


def locate(
    domain: str | MxRoute | None = None,
    recipient: str | None = None,
    sender: str | None = None,
    *,
    most: int = 60,
    seen: pd.DataFrame | None = None,
    **keywords: Any,
) -> Diagnosis:
    """Name the MX IP that refuses, with as few sessions as can do it; nothing is delivered.

    In turn to a first refusal, then the likeliest to be stale, until a test stops it that may be looked at after
    every session. Where the innocent refuse at most 5 %, one of them is named, or a server that refuses 30 % or
    more is cleared, in at most 1 run of 100. Where all refuse alike nobody is named. Not every MX IP need be asked.
    most: sessions at most; pace and guard hold as for `probe` and may end it earlier. seen: attempts to begin with,
    such as `.frame` of an unsettled Diagnosis; of another vantage or sender IP they do not count. keywords: of
    `probe`, but rounds and background.

    Returns a Diagnosis whose frame holds what counts of `seen`, and the new attempts. Raises as `probe`.

    >>> from smtpkit import Lab
    >>> with Lab("stale_blacklist") as lab:
    ...     locate(lab.domain, lab.recipient, lab.sender, network=lab.network).causes[0].values
    ('192.0.2.14',)
    """
    most = quantity("most", most, 1, whole=True)
    rules = {name: keywords.pop(name, None) for name in RULES}
    asked, route = question(domain, recipient, sender, **keywords)
    seen = pd.DataFrame() if seen is None else of_kind("seen", seen, pd.DataFrame, "give a frame of attempts")
    like = _alike(seen, asked.aim.network)
    tally = Tally(list(dict.fromkeys(ip for _, ip in route)), like)
    frame = run(_plan(asked, route, tally, most), asked.aim.network, label=f"locate {route.domain}", **rules)
    assert isinstance(frame, pd.DataFrame)
    whole = pd.concat([like, frame], ignore_index=True) if len(like) else frame
    whole.attrs.setdefault("smtpkit", {"stopped": frame.attrs["smtpkit"]["stopped"]})
    told, ehlo = diagnose(whole), str(priors()["ehlo"])
    found = _conclude(told, tally, whole) if tally.ips else told
    others = len(seen) - len(like)
    said = f" {others} rows of `seen` are of another vantage or sender IP: they do not count." * (others > 0)
    said += f" {ehlo}" * (ehlo in told.verdict and ehlo not in found.verdict)
    return replace(found, verdict=found.verdict + said)


def _alike(seen: pd.DataFrame, net: Network) -> pd.DataFrame:
    """The rows of our own vantage and sender IP, as far as both are told; if ours is not, only where it is one."""
    none, ours = pd.Series(None, seen.index, dtype="str"), net.sender_ip or ""
    vantage, sender, source = (seen.get(n, none).astype("str") for n in ("vantage", "sender_ip", "source"))
    others = vantage.mask(source.isin(["probe", "send", "dialogue"]))  # names of hosts: one host may be us
    ok = vantage.isna() | vantage.eq(net.label) | (others.notna() & (others.nunique() == 1))
    six = sender.str.contains(":").eq(True)
    several = sender.where(ok).groupby(six).transform("nunique").gt(1)
    strange = sender.ne(ours).where(six.eq(":" in ours) & bool(ours), several)
    return seen[ok & (sender.isna() | ~strange)]


def _plan(asked: Question, route: MxRoute, tally: Tally, most: int) -> Plan:
    """One session after the other."""
    hosts = {ip: host for host, ip in reversed(list(route))}
    jobs = asked.dead_ends(route)
    if not tally.ips:
        yield jobs
    for number in range(1, most + 1):
        if tally.shut.all() or (now := tally.judge()).done:  # of no servers all are shut
            break
        ip = tally.ips[int(now.ask)]
        got = yield from hold([*jobs, asked.job(route, hosts[ip], ip, number)])
        tally.hear(ip, next(one.verdicts[0] for one in got if one.job.ip == ip))
        jobs = []


def _conclude(found: Diagnosis, tally: Tally, frame: pd.DataFrame) -> Diagnosis:
    """The test's answer in the words of a Diagnosis; a sure explanation other than a server goes first."""
    now = tally.judge()
    guilty = tuple(ip for ip, named in zip(tally.ips, now.named, strict=True) if named)
    other = [c for c in found.causes[:1] if c.kind != "inconclusive" and found.confidence >= SURE]
    if now.done == "named" and all(c.dimension == "mx_ip" and set(c.values) != set(guilty) for c in other):
        return _named(found, tally, guilty, frame)
    if now.done == "clear" and found.causes and not (other or (tally.shut & ~tally.held).any()):  # excluded
        said = _say(tally, done="clear", depth=frame.asked.iloc[-1])
        return replace(found, causes=(), more_probes={}, verdict=said)
    said = " ".join(filter(None, [found.verdict, _say(tally, done=str(now.done))]))
    return replace(found, verdict=said)


def _named(found: Diagnosis, tally: Tally, guilty: tuple[str, ...], frame: pd.DataFrame) -> Diagnosis:
    """These servers are guilty, as the sequential test says."""
    rows = counts.sessions(frame)
    rows = rows[rows.mx_ip.isin(guilty) & counts.failures(rows).fillna(False)]
    sounds = {_SOUNDS.get(sound, "mx_block") for sound in hear(rows)[1].sound}
    kind = sounds.pop() if len(sounds) == 1 else "mx_block"
    table = found.table.assign(as_cause=found.table.failed, accused=found.table.index.isin(guilty))
    cause = Cause(kind, "mx_ip", guilty, confidence=0.99, evidence=rows)
    verdict = _say(tally, guilty, kind=kind)
    return replace(found, causes=(cause,), verdict=verdict, table=table, more_probes={}, confidence=0.99)


def _say(tally: Tally, guilty: Sequence[str] = (), *, kind: str = "", done: str = "", depth: str = "") -> str:
    """What the test says, with counts and what was not asked (data/locate.txt.j2)."""
    mine = np.isin(tally.ips, guilty)
    words: dict[str, Any] = {"rest": (~mine & (tally.asked > 0)).sum(), "idle": (tally.asked == 0).sum()}
    words["k"], words["k2"] = (tally.refused[some].sum() for some in (mine, ~mine))
    words["n"], words["n2"] = (tally.asked[some].sum() for some in (mine, ~mine))
    words["low"], words["high"] = counts.percent(words["k"], words["n"])
    for name, some in (("held", tally.held), ("mute", tally.shut & ~tally.held)):
        words[name] = one_line(", ".join(np.array(tally.ips)[some]))
    words |= {"guilty": " and ".join(map(one_line, guilty)), "kind": kind, "done": done, "depth": depth}
    text = render("locate.txt", weak=f"{WEAK:.0%}", **words)
    return " ".join(filter(None, text.split("\n")))
