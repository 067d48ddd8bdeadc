"""diagnosis: what a frame of attempts says: which part is guilty, since when, how sure.

Belongs here: Cause, Diagnosis, `diagnose`: receiver by receiver; a second cause; how sure; what must not be said.
Not here: explanations and scores (hypotheses), sentences (verdicts).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from scipy.special import softmax

from smtpkit import counts, escape, verdicts
from smtpkit.errors import of_kind
from smtpkit.hypotheses import Array, Found, among, by_chance, explain
from smtpkit.reading import Reading
from smtpkit.voices import priors

SITES, MOST, NAMED, SPARE, SECOND, SECOND_SERVER, CAP = 12, 6, 0.65, 1.5, 6.0, 10.0, 0.75
"""Receivers looked at, those with most failures first; causes told; chance below which no server is named; log odds
that a server more must bring, that a further cause needs, and one that accuses a server; the most we believe where
nobody shows our own path open, or the sign is too weak."""
_SERVERS, _WIDE = ("mx_ip", "backend", "pair"), ("dnsbl", "recipient_bad")
_PEOPLE = ("recipient_bad", "greylisting", "inconclusive")
"""Dimensions that accuse a server; kinds that several receivers may share; kinds that are nobody's fault there."""
_SHOWN = ("n", "failed", "as_cause", "rate", "low", "high", "accused")


@dataclass(frozen=True, slots=True, repr=False)
class Cause:
    """One thing that makes mail fail, and what it follows; kinds and dimensions: data/diagnosis.json.

    only_for: where alone it holds, `{"sender_ip": ("198.51.100.8",)}`, or sender_domain, vantage, family. onset,
    recovery (UTC): None reaches the frame's end. recoveries: by MX IP, None: still refuses. evidence: the rows.

    >>> Cause("mx_block", "mx_ip", ("192.0.2.14",), confidence=0.97)
    Cause mx_block: mx_ip 192.0.2.14 (confidence 0.97)
    """

    kind: str
    dimension: str
    values: tuple[str, ...] = ()
    only_for: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    onset: pd.Timestamp | None = None
    recovery: pd.Timestamp | None = None
    recoveries: Mapping[str, pd.Timestamp | None] = field(default_factory=dict)
    confidence: float = 0.0
    evidence: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False)

    def __repr__(self) -> str:
        what = " ".join([self.dimension, ", ".join(map(escape.one_line, self.values))]).strip()
        for name, only in self.only_for.items():
            what += f", only for {name} {', '.join(map(escape.one_line, only))}"
        for word, at in (("since", self.onset), ("until", self.recovery)):
            what += f", {word} {at:%Y-%m-%d %H:%M} UTC" if at is not None else ""
        sure = "above 0.99" if self.confidence >= 0.99 else f"{self.confidence:.2f}"
        return f"Cause {self.kind}: {what} (confidence {sure})"


@dataclass(frozen=True, slots=True, repr=False)
class Diagnosis:
    """What `diagnose` found: causes (none: healthy), the verdict in sentences with counts.

    table: attempts by MX IP as `sk.counts.by`, with as_cause (failures like the causes') and accused. more_probes:
    sessions still missing, by MX IP. considered: explanations weighed. confidence: that the first kind is right.

    >>> Diagnosis((), "All 20 sessions at 4 MX IPs got through.")
    All 20 sessions at 4 MX IPs got through.
    """

    causes: tuple[Cause, ...]
    verdict: str
    table: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False)
    more_probes: Mapping[str, int] = field(default_factory=dict)
    considered: int = 0
    confidence: float = 0.0
    frame: pd.DataFrame | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        lines = [escape.visible(self.verdict), *(f"  {cause!r}" for cause in self.causes), self._text()]
        return "\n".join(filter(None, lines))

    def _text(self) -> str:
        shown = self.table.head(20)[[c for c in _SHOWN if c in self.table]]
        return escape.visible(shown.to_string(float_format="{:.2f}".format)) if len(shown) else ""

    def _repr_html_(self) -> str | None:
        if not escape.options.html:
            return None
        causes = "".join(f"<li>{escape.html(repr(cause))}</li>" for cause in self.causes)
        return f"<p><b>{escape.html(self.verdict)}</b></p><ul>{causes}</ul>{escape.pre(self._text())}"


def diagnose(frame: pd.DataFrame) -> Diagnosis:
    """Which explanation fits the failures best: a server, a sender, recipients, time, our rate, or none.

    Explanations compete on one scale, 'healthy' among them; further causes are looked for after the first. Rows of
    one session count once up to MAIL; withheld rows are no evidence. `frame` needs started_at (no zone: UTC),
    mx_ip, and code, error or outcome; other columns of an attempts frame are used if they are there. Raises
    InvalidInput: a needed column is missing, or times cannot be read.

    >>> at = pd.Timestamp("2026-11-24", tz="UTC")
    >>> rows = [(at + pd.Timedelta(minutes=i), f"192.0.2.1{i % 4}", 554 if i % 4 == 2 else 250) for i in range(40)]
    >>> found = diagnose(pd.DataFrame(rows, columns=["started_at", "mx_ip", "code"]))
    >>> found.causes[0].values
    ('192.0.2.12',)
    """
    of_kind("frame", frame, pd.DataFrame, "give what probe, send, read_log or read_table gave")
    frame = frame.copy(deep=False) if frame.index.is_unique else frame.reset_index(drop=True)
    read = Reading(frame)
    chosen, sure, found, considered, untold = _causes(read)
    more = verdicts.more_probes(read, chosen, sure, found)
    verdict = verdicts.say(read, chosen, sure, more, untold)
    causes = tuple(_cause(read, f, c) for f, c in chosen)
    return Diagnosis(causes, verdict, _table(read, chosen), more, considered, sure, frame)


def _causes(read: Reading) -> tuple[list[tuple[Found, float]], float, list[Found], int, Array]:
    """One cause after the other, each in the rows that those before leave; receivers of which nothing is told."""
    left, chosen, doubtful = np.ones(len(read.t), bool), list[tuple[Found, float]](), list[Found]()
    f, sure, found, considered = _best(read, left)
    c, others = sure, found
    while f is not None and len(chosen) < MOST and (not chosen or f.score >= SECOND):
        rows, told = read.explained(f), [g for g, _ in chosen]
        if f.kind in _WIDE and (same := [n for n, g in enumerate(told) if g.kind == f.kind]):
            chosen[same[0]] = _several(read, f.kind, [told[same[0]], f])[0], chosen[same[0]][1]
        elif f.kind != "inconclusive" and _news(read, f, told):
            chosen.append((f, c))
        elif (again := rows & read.again(f, told)).any():  # what is left of servers that are told hides others
            rows = again
        else:
            doubtful.append(f)  # that receiver is asked no further
            here = set(read.site[rows].tolist())
            rows = rows | (len(here) == 1) & (read.voice >= 0) & np.isin(read.site, [*here])
        left &= ~rows
        f, c, others, _ = _best(read, left) if rows.any() else (None, 0.0, [], 0)
    untold = _untold(read, left, doubtful[not chosen :], others)
    chosen = _in_order(read, chosen or [(f, sure) for f in doubtful[:1]])
    told = read.site[read.explained(*(f for f, _ in chosen))]
    return chosen, chosen[0][1] if chosen else sure, found, considered, np.setdiff1d(untold, told)


def _in_order(read: Reading, chosen: list[tuple[Found, float]]) -> list[tuple[Found, float]]:
    """The causes as told: sure ones that a letter can mend, sure ones, others; the accused are no siblings.

    An unsure one that explains over three times what all the sure ones without a letter do stands before them.
    """
    chosen = [(_ours(read, f), c) for f, c in chosen]
    accused = [(f.dimension, v) for f, _ in chosen for v in f.values]
    for n, (f, c) in enumerate(chosen):
        chosen[n] = replace(f, detail={**f.detail, "accused": [v for name, v in accused if name == f.dimension]}), c
    many = np.array([read.explained(f).sum() for f, _ in chosen], int)
    key = np.array([2.0 if c < verdicts.SURE else f.kind in priors()["last"] for f, c in chosen])
    server = np.array([f.kind not in _PEOPLE for f, _ in chosen], bool)
    key[server & (key == 2) & (many > 3 * many[key == 1].sum())] = 0.5
    return [chosen[n] for n in np.argsort(key, kind="stable")]


def _untold(read: Reading, left: Array, doubtful: list[Found], found: list[Found]) -> Array:
    """Receivers with failures that may have a cause which is not told, and those that were not looked at."""
    sick, times = np.unique(read.site[left & (read.voice >= 0)], return_counts=True)
    order = np.argsort(-times, kind="stable")[SITES:]
    hidden = read.explained(*doubtful) | left & read.explained(*(f for f in found if f.score > 0))
    return np.union1d(sick[order][times[order] > 2], read.site[hidden])


def _best(read: Reading, keep: Array) -> tuple[Found | None, float, list[Found], int]:
    """The best explanation of the kept rows (None: healthy), how sure its kind is, all of them, and how many."""
    if not (read.codes["mx_ip"][keep] >= 0).any():
        return Found("inconclusive", "none", np.zeros(len(read.t), bool), (), 0.0), 0.0, [], 0
    found, considered = weigh(read, keep)
    top = found[0] if found and found[0].score > 0 else None
    best, mine = dict[str, Found](), np.flatnonzero(read.explained(top)) if top else np.arange(0)
    for f in found:  # by kind the best that explains half of what the top one does
        if 2 * np.count_nonzero(f.mask[mine] & among(read.said(f)[mine], f.voices)) >= len(mine):
            best.setdefault(f.kind, f)
    share = softmax(np.array([0.0, *(f.score for f in best.values())]) / priors()["temperature"])
    sure = min(0.99, float(share.max()))
    if top is None:  # so few sessions of each server may miss one that is sick
        each = keep.sum() / len(np.unique(read.codes["mx_ip"][keep]))
        return None, min(sure, 1 - 0.5 / (each + 0.5)), found, considered
    guilty = [(f.dimension, set(f.values)) == (top.dimension, set(top.values)) for f in best.values()]
    there = float(share[1:][guilty].sum())
    return *_fair(read, _guilty(read, keep, top, found), sure, there), found, considered


def _news(read: Reading, f: Found, told: Sequence[Found]) -> bool:
    """Whether it may be told after these: strong enough, and nothing like it told of the same receiver."""
    if told and (f.kind == "local_path" or f.score < (SECOND_SERVER if f.dimension in _SERVERS else SECOND)):
        return False
    alike = [g for g in told if g.kind == f.kind and np.isin(read.site[g.mask], read.site[f.mask]).any()]
    always = read.explained(f).sum() >= 0.9 * f.mask.sum()  # else in the same words alone
    same = all(f.dimension == g.dimension and (always or set(f.voices) <= set(g.voices)) for g in alike)
    return not alike or (same and f.dimension in _SERVERS and not any(set(f.values) & set(g.values) for g in alike))


def _guilty(read: Reading, keep: Array, f: Found, found: list[Found]) -> Found:
    """The fewest servers that explain about as much; of these one, where each with times of its own is likelier:
    the next look finds the rest."""
    alike = [g for g in found if (g.kind, g.dimension) == (f.kind, f.dimension) and set(g.values) <= set(f.values)]
    if f.dimension not in _SERVERS:
        return f
    f = min((g for g in alike if g.score > f.score - SPARE), key=lambda g: len(g.values))
    for one in [g for g in alike if set(g.values) < set(f.values) and f.kind in priors()["timed"]][:1]:
        rest = set(f.values) - set(one.values)
        then = weigh(read, keep & ~read.explained(one))[0]
        other = next((g for g in then if g.kind == f.kind and set(g.values) == rest), None)
        if other is not None and one.score + other.score > f.score + SPARE and other.score > SECOND_SERVER:
            return one
    return f


def _fair(read: Reading, f: Found, sure: float, there: float) -> tuple[Found, float]:
    """No server on weak grounds; nobody for failed connections unless somebody shows that our path is open.

    there: the chance that it is this server, whatever ails it.
    """
    weak = (f.dimension in _SERVERS and there < NAMED) or read.explained(f).sum() < 2
    doubt = "suspect" if weak else "unlike" if _unlike(read, f) else _path(read, f)
    if doubt or not _confirmed(read, f):
        sure = min(sure, CAP)
    if doubt in ("suspect", "path"):
        return replace(f, kind="inconclusive", dimension="none", values=(), detail={**f.detail, doubt: f}), sure
    return replace(f, detail={**f.detail, doubt: True}) if doubt else f, sure


def _unlike(read: Reading, f: Found) -> bool:
    """Whether a server that blocks has siblings in the other address family alone: it may be our address there."""
    rest, six = verdicts.rest_of(read, f), read.codes["family"]
    blocks = (f.kind, f.dimension) == ("mx_block", "mx_ip") and (read.codes["sender_ip"][f.mask] < 0).all()
    return bool(blocks and rest.any() and not np.isin(six[rest], six[f.mask]).any())


def _path(read: Reading, f: Found) -> str:
    """The doubt where most failures are unanswered connections: "path", nobody answered on the same road, or
    "uncontrolled", nobody near in time; none where enough others did."""
    failed = read.explained(f)
    if f.kind == "local_path" or 2 * np.count_nonzero(failed & read.mute) < np.count_nonzero(failed):
        return ""
    accused = np.isin(read.codes["mx_ip"], f.values) & (f.dimension == "mx_ip")
    blamed = accused if f.dimension in _SERVERS else np.isin(read.site, read.site[failed])  # that is no control
    if read.controlled(failed, blamed).mean() >= 0.3:
        return ""
    same_road = read.replied & ~accused & np.isin(read.road, read.road[failed])
    if not same_road.any():
        return "path"
    first, last = np.flatnonzero(failed)[[0, -1]]  # or others answered all the while, if seldom
    return "uncontrolled" if np.count_nonzero((same_road & ~blamed)[first : last + 1]) < 3 else ""


def _confirmed(read: Reading, f: Found) -> bool:
    """A one-sided exact test corrected for how many there are; retries are no fresh draws."""
    if f.dimension not in (*_SERVERS, "sender_ip", "size", "body") or f.kind == "delist_propagation":
        return True
    here, so = np.isin(read.site, read.site[f.mask]), np.isin(read.said(f), f.voices)
    order = np.lexsort((~so, ~here))  # of each try's retries one row: at this receiver, that failed so, if any
    once = order[np.unique(read.mail[order], return_index=True)[1]]
    here = np.isin(np.arange(len(here)), once) & here & read.as_far(so & f.mask)
    k, n, cell = (so & here & f.mask).sum(), here.sum(), (here & f.mask).sum()
    tests = len(np.unique(read.codes[f.dimension][here]))
    return by_chance(k, n, (so & here).sum(), cell) * tests < 0.05


def weigh(read: Reading, keep: Array) -> tuple[list[Found], int]:
    """The explanations of the kept rows, receiver by receiver, best first; and how many were weighed."""
    sick, times = np.unique(read.site[keep & ((read.voice >= 0) | (read.slow >= 0))], return_counts=True)
    found, considered, parts = list[Found](), 0, {kind: list[Found]() for kind in _WIDE}
    alone = len(np.unique(read.site[keep])) < 2
    for site in sick[np.argsort(-times, kind="stable")][:SITES].tolist():
        for slow in (False, True):
            here = keep & (read.site == site)
            rows = np.flatnonzero(here & (read.voice < 0) if slow else here & read.as_far(here))
            if slow and np.count_nonzero(read.slow[rows] >= 0) < 3:
                continue
            made, count = _explained(read, rows, slow, alone)
            considered += count
            found += [replace(f, score=f.score - np.log(len(sick))) for f in made]
            for kind, some in parts.items():
                some += [f for f in made if f.kind == kind][:1]
    more = [*_paths(read, keep), *(g for kind, some in parts.items() for g in _several(read, kind, some))]
    return sorted([*found, *more], key=lambda f: -f.score), considered + len(more)


def _explained(read: Reading, rows: Array, slow: bool, alone: bool) -> tuple[list[Found], int]:
    """The explanations of one receiver's rows; where nothing has changed for it, those of the last time."""
    key = (slow, alone, rows.tobytes())
    if key not in read.weighed:
        made, count = explain(read.scale(rows, slow), slow, alone)
        read.weighed[key] = [_widen(f, rows, read) for f in made], count
    return read.weighed[key]


def _widen(f: Found, rows: Array, read: Reading) -> Found:
    """An explanation of one receiver's rows as one of the whole frame's."""
    detail, mask = dict(f.detail), np.zeros(len(read.t), bool)
    mask[rows] = f.mask
    if "cell" in detail:
        detail["cell"] = np.zeros(len(read.t), bool)
        detail["cell"][rows] = f.detail["cell"]
    if "ends" in detail:
        detail["ends"] = {ip: end and (rows[end[0]], rows[end[1]]) for ip, end in detail["ends"].items()}
    onset, recovery = (None if i is None else int(rows[i]) for i in (f.onset, f.recovery))
    values = tuple(np.unique(read.codes["domain"][mask]).tolist()) if f.dimension == "domain" else f.values
    return replace(f, mask=mask, values=values, onset=onset, recovery=recovery, detail=detail)


def _paths(read: Reading, keep: Array) -> Iterator[Found]:
    """Our own path, on one road, in one address family or on all: nobody answered for a while.

    One receiver is enough where there never was a route in one family while the other one works.
    """
    roads = np.unique(read.road[keep & read.mute])
    families = [roads[roads % 2 == family] for family in (0, 1)]
    for chosen in {tuple(some.tolist()) for some in (roads, *families, *roads[:, None]) if len(some)}:
        cell = keep & among(read.road, chosen)
        rows = np.flatnonzero(cell)
        ends = np.flatnonzero(np.concatenate([[True], read.replied[rows], [True]]))
        longest = int(np.argmax(np.diff(ends)))
        run, last = rows[ends[longest] : ends[longest + 1] - 1], longest == len(ends) - 2
        six = bool((read.road[run] % 2).all())
        no_route = len(run) == len(rows) and read.column("error").iloc[run].eq("unreachable").all()
        no_route &= len(np.unique(read.codes["mx_ip"][run])) > 1
        no_route &= (keep & read.replied & (read.road % 2 != six)).any()
        if len(np.unique(read.site[run])) > 1 or no_route:
            detail = {"cell": cell} | ({"family": "IPv6"} if six and no_route else {})
            mask, voices = np.isin(np.arange(len(keep)), run), tuple(np.unique(read.voice[run]).tolist())
            f = Found("local_path", "none", mask[keep], voices, np.log(len(rows) + 1))
            score = read.scale(np.flatnonzero(keep)).judge(f).score
            onset, recovery = int(run[0]) if longest else None, None if last else int(run[-1])
            yield replace(f, mask=mask, score=score, onset=onset, recovery=recovery, detail=detail)


def _several(read: Reading, kind: str, parts: list[Found]) -> list[Found]:
    """The same thing at several receivers as one explanation."""
    prior = float(np.log(priors()["prior"][kind] / priors()["prior"]["healthy"]))
    parts = [f for f in parts if f.score > prior]
    if len(parts) < 2:
        return []
    onset, recovery = (_edge(read, parts, last) for last in (False, True))
    mask = np.any([f.mask for f in parts], axis=0)
    mask[: onset or 0] = False
    mask[len(mask) if recovery is None else recovery + 1 :] = False
    cell = np.any([f.detail.get("cell", f.mask) for f in parts], axis=0)
    voices, values = tuple(v for f in parts for v in f.voices), tuple(v for f in parts for v in f.values)
    score, price = sum(f.score - prior for f in parts) + prior, sum(f.ways for f in parts)
    return [Found(kind, parts[0].dimension, mask, voices, price, values, score, onset, recovery, {"cell": cell})]


def _edge(read: Reading, parts: list[Found], last: bool) -> int | None:
    """The first (last) failure of several parts that begin (end): none where one that may not goes beyond them."""
    ends = [(int(np.flatnonzero(read.explained(f))[-last]), n) for n, f in enumerate(parts)]
    edge, n = max(ends) if last else min(ends)
    turns = [f.recovery if last else f.onset for f in parts]
    through = parts[n].mask & (read.voice < 0)
    sure = turns[n] is not None or (through[edge:] if last else through[:edge]).any()
    return edge if sure and turns.count(None) < len(turns) else None


def _ours(read: Reading, f: Found) -> Found:
    """Narrowed to those of our addresses or domains that alone fail so, while others get through there."""
    bad = read.explained(f)
    rows, told = np.flatnonzero(bad), priors()["ours"].get(f.kind, ())
    name = next((name for name in told if (read.codes[name][bad] >= 0).all()), None)
    if name is None or not len(rows):
        return f
    us = read.codes[name]
    mine, row = np.isin(us, us[bad]), np.arange(len(bad))
    first, last = 0 if f.onset is None else rows[0], row[-1] if f.recovery is None else rows[-1]
    asked = (us >= 0) & (row >= first) & (row <= last) & np.isin(read.site, read.site[bad])
    asked &= bad | read.replied
    if by_chance(len(rows), asked.sum(), len(rows), (asked & mine).sum()) > 0.01:
        return f
    detail = {"ours": {name: read.called(name, np.unique(us[bad]))}, "rest": asked & ~mine}
    detail |= {"cell": f.detail.get("cell", f.mask) & mine}
    return replace(f, mask=f.mask & mine, detail={**f.detail, **detail})


def _cause(read: Reading, f: Found, sure: float) -> Cause:
    """An explanation in the words of the contract."""
    onset, recovery = read.turn(f, f.onset, -1), read.turn(f, f.recovery, 1)
    ends = f.detail.get("ends", {}).items()
    back = {str(read.names["mx_ip"][ip]): end and read.middle(*end) for ip, end in ends}
    dimension, evidence = "mx_ip" if f.dimension == "pair" else f.dimension, read.rows[read.explained(f)]
    return Cause(f.kind, dimension, read.named(f), read.only_for(f), onset, recovery, back, sure, evidence)


def _table(read: Reading, chosen: list[tuple[Found, float]]) -> pd.DataFrame:
    """Attempts by MX IP, with those that failed as the causes do, and who is accused."""
    table = counts.by_ip(read.rows.filter(["mx_ip", "started_at", "outcome", "code", "error"]))  # tidy already
    so = read.rows.mx_ip[read.explained(*(f for f, _ in chosen))].value_counts()
    named = [name for f, _ in chosen if f.dimension in ("mx_ip", "pair") for name in read.named(f)]
    return table.assign(as_cause=so.reindex(table.index, fill_value=0), accused=table.index.isin(named))
