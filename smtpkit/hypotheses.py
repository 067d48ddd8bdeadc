"""hypotheses: the explanations that compete for one site's failures, each with its score.

An explanation is a cell of attempts (a server's, a recipient's, a stretch of time) in which failures of one or
two voices have a cause of their own; all else is noise. Its score is the log of how much likelier the failures
are so than as noise alone, less the price of every choice made. Not here: voices of replies (voices), frames
(reading), second causes (diagnosis), words (verdicts).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, combinations
from typing import Any

import numpy as np
from scipy.special import betaln, gammaln

from smtpkit.voices import priors

Array = np.ndarray
_NAMES, _MILD = {"recipient"}, {"recipient", "vague5_rcpt"}
"""Sounds of replies that name the recipient, and that may be about it."""
VOICES, KEPT, LEAST, TIMES = 8, 4, 0.06, 3.0
"""Voices tried as a cause's; cells kept per kind; the rate, and how many times the rest's, worth a name."""


@dataclass(frozen=True, slots=True)
class Found:
    """An explanation: kind, cell (mask over the scale's rows), voices, and its score against 'healthy'.

    onset, recovery: the first and the last row of the cell, where it does not reach the frame's ends.
    """

    kind: str
    dimension: str
    mask: Array = field(repr=False)
    voices: tuple[int, ...]
    ways: float
    values: tuple[Any, ...] = ()
    score: float = -np.inf
    onset: int | None = None
    recovery: int | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


def series(k: Any, n: Any, a: float | Array, b: float | Array) -> Any:
    """Log chance of one series with k failures in n whose rate was drawn from Beta(a, b)."""
    return betaln(a + k, b + n - k) - betaln(a, b)


def ways(m: Any, size: int, many: bool) -> Any:
    """Price of m guilty out of `size`: each is with chance 1/8; if `many`, any number may be as likely as any."""
    few = m * np.log(8) + (size - m) * np.log(8 / 7)
    any_number = np.log(size + 1) + gammaln(size + 1) - gammaln(m + 1) - gammaln(size - m + 1)
    return np.minimum(few, any_number) if many else few


class Scale:
    """One site's attempts as arrays in order of time, and the scale on which explanations are weighed.

    codes: dimension to a number per row (-1: not known); sounds: the class of each voice.
    """

    def __init__(self, codes: Mapping[str, Array], t: Array, voice: Array, sounds: Sequence[str]) -> None:
        p = self.p = priors()
        self._said: dict[tuple[str, tuple[int, ...]], float] = {}
        self.codes, self.t, self.voice, self.sounds = codes, t, voice, list(sounds)
        self.n, self.k = len(t), int((voice >= 0).sum())
        self.total = np.bincount(voice[voice >= 0], minlength=len(self.sounds))
        self.server = np.unique(codes["mx_ip"], return_inverse=True)[1]
        self.ns, self.ks = np.bincount(self.server), self.by_server(voice >= 0)
        usual = np.array([p["sounds"]["healthy"][s] for s in self.sounds])
        self.said = self.total + p["noise_voices"] * usual / p["voices_per_sound"]
        self.none = gammaln(self.said), gammaln(p["noise_voices"] + self.k)
        self.alike, self.quiet = series(self.k, self.n, *p["noise_rate"]), self.noise(self.ks, self.ns)
        order = np.argsort(-self.total, kind="stable")[:VOICES]
        heard = [int(v) for v in order if self.total[v] >= min(2, self.k)]
        self.choirs = [[v] for v in heard] + [list(two) for two in combinations(heard[:4], 2)]

    def by_server(self, mask: Array) -> Array:
        """How many of these rows went to each server."""
        return np.bincount(self.server[mask], minlength=int(self.server.max(initial=-1)) + 1)

    def speaks(self, voices: Iterable[int]) -> Array:
        """Rows that failed with one of these voices."""
        table = np.zeros(len(self.sounds) + 1, bool)
        table[list(voices)] = True
        return np.asarray(table[self.voice])

    def rate(self, kind: str, k: Any, n: Any) -> Any:
        """Log chance of k failures in n within the cell of a cause of this kind."""
        return series(k, n, *self.p["rate"].get(kind, self.p["rate"]["default"]))

    def noise(self, ks: Array, ns: Array) -> float:
        """Log chance of the noise by server: one rate for all, or rates that differ harmlessly."""
        (a, b), k, n = self.p["noise_rate"], ks.sum(), ns.sum()
        mean, alike = (k + a) / (n + a + b), series(k, n, a, b)
        learned = alike - (k * np.log(mean) + (n - k) * np.log1p(-mean))
        parts = [np.log(self.p["noise_alike"]) + alike]
        for spread, weight in self.p["noise_spread"]:
            parts.append(np.log(weight) + learned + series(ks, ns, spread, spread / mean - spread).sum())
        return float(np.logaddexp.reduce(parts))

    def voiced(self, kv: Array, voices: Sequence[int]) -> Any:
        """Gain where failures kv (.., voices) are a cause's and no longer noise of many voices."""
        k, m, several = kv.sum(-1), len(voices), self.p["several_voices"]
        words = (gammaln(self.said[voices] - kv) + gammaln(1 + kv)).sum(-1) - self.none[0][voices].sum()
        noise = self.none[1] - gammaln(self.p["noise_voices"] + self.k - k)
        own = np.log(several[min(m, len(several)) - 1]) + gammaln(m) - gammaln(m + k)
        return words + noise + own

    def pooled(self, kind: str, n: Any, kv: Array, voices: Sequence[int]) -> Any:
        """Score of cells of n rows with kv failures if all servers were equally noisy: fast, to choose cells."""
        k = kv.sum(-1)
        rest = series(self.k - k, self.n - k, *self.p["noise_rate"]) - self.alike
        return self.rate(kind, k, n) + rest + self.voiced(kv, voices)

    def says(self, kind: str, voices: tuple[int, ...]) -> float:
        """Log chance that a cause of this kind speaks so, with the kind's prior against healthy."""
        if (kind, voices) not in self._said:
            p = self.p
            words = [p["sounds"][kind].get(self.sounds[v], 0.004) / p["voices_per_sound"] for v in voices]
            prior = p["prior"][kind] / p["prior"]["healthy"]
            self._said[kind, voices] = float(np.log(words).sum() + np.log(prior))
        return self._said[kind, voices]

    def count(self, f: Found) -> tuple[int, Array]:
        """Rows of the cell, and failures of each of its voices."""
        said = self.voice[f.mask]
        return len(said), np.bincount(said + 1, minlength=len(self.sounds) + 1)[1:][list(f.voices)]

    def quick(self, f: Found) -> Found:
        """The explanation with the score of `pooled`, before it is said what the voices say of its kind."""
        return replace(f, score=float(self.pooled(f.kind, *self.count(f), list(f.voices)) - f.ways))

    def judge(self, f: Found) -> Found:
        """The explanation with its full score; no score where the practical floor is not reached."""
        (n, kv), gone = self.count(f), self.by_server(f.mask & self.speaks(f.voices))
        k = int(kv.sum())
        rest = int(self.total[list(f.voices)].sum()) - k
        if not k or k < LEAST * n or k * (self.n - n) < TIMES * rest * n:
            return replace(f, score=-np.inf)
        score = self.rate(f.kind, k, n) + self.voiced(kv, list(f.voices)) + self.says(f.kind, f.voices)
        score += self.noise(self.ks - gone, self.ns - gone) - self.quiet - f.ways
        return replace(f, score=float(score))


def groups(scale: Scale, dimension: str, kinds: Sequence[str], most: int) -> Iterator[Found]:
    """Up to `most` values of a dimension, those whose rows fail with these voices more than the rest."""
    known = scale.codes[dimension] >= 0
    names, place = np.unique(scale.codes[dimension][known], return_inverse=True)
    if len(names) < 1 + (dimension != "recipient"):
        return
    n, voice, wide = np.bincount(place), scale.voice[known], len(scale.sounds)
    flat = np.bincount((place * wide + voice)[voice >= 0], minlength=len(n) * wide).reshape(len(n), wide)
    for voices in scale.choirs:
        order = suspects(scale, kinds[0], n, flat[:, voices].sum(1))[:most]
        sums = np.cumsum(n[order]), np.cumsum(flat[order][:, voices], axis=0)
        price = ways(np.arange(1, len(order) + 1), len(names), most > 3)
        scores = scale.pooled(kinds[0], *sums, voices) - price
        rank, row = np.full(len(names), len(names)), np.full(scale.n, len(names))
        rank[order] = np.arange(len(order))
        row[known] = rank[place]
        for i in np.argsort(-scores)[:2]:
            paid, values = float(price[i]), tuple(names[order[: i + 1]].tolist())
            for kind in kinds:
                yield Found(kind, dimension, row <= i, tuple(voices), paid, values, float(scores[i]))
        for i, g in enumerate(order[:3] if len(voices) == 1 and kinds[0] in scale.p["timed"] else ()):
            one = Found(kinds[0], dimension, row == i, tuple(voices), float(price[0]), (int(names[g]),))
            yield from (replace(f, kind=kind) for f in cuts(scale, one) for kind in kinds)


def suspects(scale: Scale, kind: str, n: Array, k: Array) -> Array:
    """Groups with failures, the most convincing first: far above the rate of all, then near it, then below."""
    q = (k.sum() + 0.5) / (n.sum() + 10)
    some = np.flatnonzero(k > 0)
    k, n = k[some], n[some]
    own, above = scale.rate(kind, k, n) - k * np.log(q) - (n - k) * np.log1p(-q), k > q * n
    return some[np.lexsort((np.where(above, -own, own), ~above))]


def cuts(scale: Scale, f: Found) -> Iterator[Found]:
    """The same cell from an onset on, up to a recovery, or between the two."""
    rows, voices = np.flatnonzero(f.mask), list(f.voices)
    at = np.flatnonzero(scale.speaks(voices)[rows])  # an onset lies before a failure, a recovery after one
    if len(at) < 3 or len(rows) < 5:
        return
    before = np.zeros((len(rows) + 1, len(voices)))
    np.cumsum(scale.voice[rows][:, None] == voices, axis=0, out=before[1:])
    since = scale.pooled(f.kind, len(rows) - at, before[-1] - before[at], voices)
    until = scale.pooled(f.kind, at + 1, before[at + 1], voices)
    i, j, price = int(at[np.argmax(since)]), int(at[np.argmax(until)]) + 1, float(np.log(len(rows) + 1))
    lo, hi = np.array([i, 0, i]), np.array([len(rows), j, max(i, j)])
    paid = f.ways + price + np.array([np.log(2), np.log(2), price + 1])
    scores = scale.pooled(f.kind, hi - lo, before[hi] - before[lo], voices) - paid
    for cut in np.flatnonzero((hi - lo >= 2) & (hi - lo < len(rows))):
        yield between(f, rows, int(lo[cut]), int(hi[cut]), float(paid[cut]), float(scores[cut]))


def between(f: Found, rows: Array, lo: int, hi: int, price: float, score: float = 0.0) -> Found:
    """The cell cut down to its rows lo..hi."""
    mask = np.zeros_like(f.mask)
    mask[rows[lo:hi]] = True
    onset, recovery = int(rows[lo]) if lo else None, int(rows[hi - 1]) if hi < len(rows) else None
    detail = {**f.detail, "cell": f.mask}
    return replace(f, mask=mask, ways=price, score=score, onset=onset, recovery=recovery, detail=detail)


def wide(scale: Scale, alone: bool) -> Iterator[Found]:
    """The whole site: its own block, a public list it asks, our authentication; or all of it for a time."""
    everything, rows = np.ones(scale.n, bool), np.arange(scale.n)
    for voices in scale.choirs:
        for kind, dimension, price, together in scale.p["whole"]:
            paid = together if alone else price
            score = float(scale.pooled(kind, scale.n, scale.total[voices], voices) - paid)
            yield Found(kind, dimension, everything, tuple(voices), paid, score=score)
        for p in (0.85, 0.5):  # the stretch with the largest sum of log odds
            odds = np.where(scale.speaks(voices), np.log(p / 0.03), np.log((1 - p) / 0.97))
            total = np.concatenate([[0], np.cumsum(odds)])
            hi = int(np.argmax(total - np.minimum.accumulate(total)))
            lo = int(np.argmin(total[: hi + 1]))
            if hi - lo >= 3:
                outage = Found("outage", "time", everything, tuple(voices), 0.0)
                yield scale.quick(between(outage, rows, lo, hi, 2 * float(np.log(scale.n + 1))))


def ordered(scale: Scale, kind: str, dimension: str, values: Array, price: float) -> Iterator[Found]:
    """All rows whose value is at least a limit; the limit itself is in `detail`, with the next value below."""
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(-values[known], kind="stable")]
    down, said = values[order], scale.voice[order]
    last = np.flatnonzero(np.append(down[1:] != down[:-1], True))
    price += float(np.log(len(last) + 1))
    for voices in scale.choirs:
        failed = np.flatnonzero(scale.speaks(voices)[order])
        if not len(failed):
            continue
        ends = np.unique(last[np.searchsorted(last, failed)])  # the best cell ends with a failure
        kv = np.stack([np.cumsum(said == v)[ends] for v in voices], axis=-1)
        scores = scale.pooled(kind, ends + 1, kv, voices) - price
        i = int(ends[np.argmax(scores)])
        mask = np.zeros(scale.n, bool)
        mask[order[: i + 1]] = True
        limit = (float(down[i]), float(down[i + 1]) if i + 1 < len(down) else np.nan)
        score, detail = float(scores.max()), {"limit": limit}
        yield Found(kind, dimension, mask, tuple(voices), price, (), score, detail=detail)


def rates(scale: Scale) -> Iterator[Found]:
    """Rows that come after many of ours within a minute, five, an hour, from one address to site or server."""
    windows, t = scale.p["windows"], scale.t - scale.t[0]
    for key in ("sender_ip", "pair"):
        codes = scale.codes[key]
        order = np.lexsort((t, codes))
        flat = (t + codes * (2 * windows[-1] + t[-1]))[order]
        for window in windows:
            before = np.empty(scale.n)
            before[order] = np.arange(1, scale.n + 1) - np.searchsorted(flat, flat - window, side="right")
            many = np.where(before >= 3, before, np.nan)
            for f in ordered(scale, "rate_limit", "rate", many, np.log(6)):
                yield replace(f, detail={**f.detail, "window": window})


def first_contacts(scale: Scale) -> Iterator[Found]:
    """Rows within a delay of the first contact of sender and recipient with the site, or with that server."""
    delays = scale.p["delays"]
    for key in ("triplet", "triplet_ip"):
        codes = np.unique(scale.codes[key], return_inverse=True)[1]
        first = np.full(int(codes.max()) + 1, np.inf)
        np.minimum.at(first, codes, scale.t)
        step = np.searchsorted(delays, scale.t - first[codes]).astype(float)
        value = np.where(step < len(delays), -step, np.nan)
        for f in ordered(scale, "greylisting", "none", value, np.log(2)):
            yield replace(f, detail={"delay": delays[-int(f.detail["limit"][0])]})


def recoveries(scale: Scale) -> Iterator[Found]:
    """Per server the rows up to its own recovery, when most servers were blocked at first."""
    servers = [np.flatnonzero(scale.server == s) for s in range(len(scale.ns))]
    price = float(sum(np.log(len(rows) + 1) for rows in servers))
    for voices, p in ((voices, p) for voices in scale.choirs for p in (0.9, 0.6)):
        odds = np.where(scale.speaks(voices), np.log(p / 0.02), np.log((1 - p) / 0.98))
        mask, ends = np.zeros(scale.n, bool), {}
        for rows in servers:
            if end := int(np.argmax(np.concatenate([[0], np.cumsum(odds[rows])]))):
                mask[rows[:end]] = True
                turn = (int(rows[end - 1]), int(rows[end])) if end < len(rows) else None
                ends[int(scale.codes["mx_ip"][rows[0]])] = turn
        if len(ends) > max(1, len(servers) / 2) and any(ends.values()):
            made = Found("delist_propagation", "mx_ip", mask, tuple(voices), price, tuple(ends))
            yield scale.quick(replace(made, detail={"ends": ends}))


def allowed(scale: Scale, f: Found) -> bool:
    """What may not be named however well it scores: a server or sender without another to compare with."""
    spoken, everything = {scale.sounds[v] for v in f.voices}, bool(f.mask.all())
    if everything and f.kind in scale.p["in_words"]:
        return spoken == {scale.p["in_words"][f.kind]}
    if everything and f.kind == "outage":
        return scale.k == scale.n
    if f.kind == "auth_failure":
        return f.onset is not None and f.recovery is None
    if f.kind == "dnsbl":
        return spoken == {"listed"}
    if f.kind == "delist_propagation":
        return int(scale.count(f)[1].sum()) >= 2 * len(f.values)
    if f.dimension not in ("mx_ip", "backend", "sender_ip", "pair"):
        return True
    if f.dimension != "sender_ip" and not like_with_like(scale, f):
        return False
    rest = ~np.isin(scale.codes[f.dimension], f.values)
    if f.dimension == "backend":  # one part of an address only, beside a part that answers
        rest &= (
            np.isin(scale.server, scale.server[f.mask]) & (scale.codes["backend"] >= 0) & (scale.voice < 0)
        )
    return int(rest.sum()) >= 2


def like_with_like(scale: Scale, f: Found) -> bool:
    """Not where recipients may be at fault who were asked at this server only (Simpson's trap).

    Where most refusals could be about the recipient, one who was refused must have got through elsewhere; or, where
    words do not name recipients, three or more were refused, and not again and again beside others who got through.
    """
    who, failed = scale.codes["recipient"], f.mask & scale.speaks(f.voices)
    named, mild = ({v for v in f.voices if scale.sounds[v] in some} for some in (_NAMES, _MILD))
    about = f.mask & scale.speaks(mild)
    if 2 * about.sum() <= failed.sum() or (who[about] < 0).any():
        return True
    refused, times = np.unique(who[about], return_counts=True)
    through = scale.voice < 0
    if (through & np.isin(who, refused) & ~f.mask).any():
        return True
    if 2 * scale.speaks(named)[f.mask].sum() > failed.sum() or len(refused) < 3:
        return False
    pinned = (times > 1).sum() > 1 and not (through & np.isin(who, refused)).any()
    return not (pinned and (through & f.mask).any())


def explain(scale: Scale, slow: bool, alone: bool) -> tuple[list[Found], int]:
    """All explanations of a site's failures, judged, best first, and how many were weighed."""
    made: list[Iterable[Found]] = [
        groups(scale, "mx_ip", ["mx_slow"] if slow else scale.p["servers"], 3 - slow)
    ]
    if not slow:
        made += [groups(scale, *grouped) for grouped in scale.p["groups"]]
        made += [wide(scale, alone), ordered(scale, "size_limit", "size", scale.codes["size"], 0.0)]
        made += [rates(scale), first_contacts(scale), recoveries(scale)]
    kept: dict[tuple[str, str, bool], list[tuple[float, int, Found]]] = {}
    count = 0
    for count, f in enumerate(chain(*made), 1):
        best = kept.setdefault((f.kind, f.dimension, "cell" in f.detail), [])
        best.append((f.score + scale.says(f.kind, f.voices), -count, f))
        best.sort(key=lambda x: x[:2], reverse=True)
        del best[KEPT:]
    few = [f for best in kept.values() for _, _, f in best]
    timed = [g for f in few if f.kind in scale.p["timed"] and "cell" not in f.detail for g in cuts(scale, f)]
    judged = [scale.judge(f) for f in (*few, *timed) if allowed(scale, f)]
    return sorted((f for f in judged if np.isfinite(f.score)), key=lambda f: -f.score), count + len(timed)
