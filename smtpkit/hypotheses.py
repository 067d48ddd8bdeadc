"""hypotheses: the explanations that compete for one site's failures, each with its score.

An explanation is a cell of attempts (a server's, a stretch of time) in which failures of one or two voices have a
cause of their own; all else is noise. Score: the log of how much likelier the failures are so than as noise, less
the price of every choice made. Not here: voices (voices), frames (reading), causes (diagnosis), words (verdicts).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, combinations
from typing import Any

import numpy as np
from scipy.special import betaln, gammaln

from smtpkit.voices import priors

Array = np.ndarray
_MILD = ("recipient", "vague5_rcpt")
"""Sounds of replies that may be about the recipient; the first names it."""
_PARTS = ("mx_ip", "backend", "sender_ip", "pair")
VOICES, KEPT, LEAST, TIMES, DAY = 8, 4, 0.06, 3.0, 86400.0
"""Voices tried as a cause's; cells kept a kind; rate, and times the rest's, to be named; seconds in which no
greylisting forgets whom it saw."""


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


def among(codes: Array, some: Iterable[int]) -> Array:
    """Where a code is one of these; -1 (not known) never is."""
    wanted = list(some)
    table = np.zeros(max([int(codes.max(initial=-1)), *wanted]) + 2, bool)
    table[wanted] = True
    return np.asarray(table[codes])


def series(k: Any, n: Any, a: float | Array, b: float | Array) -> Any:
    """Log chance of one series with k failures in n whose rate was drawn from Beta(a, b)."""
    return betaln(a + k, b + n - k) - betaln(a, b)


def ways(m: Any, size: int, many: bool) -> Any:
    """Price of m guilty out of `size`: each is with chance 1/8; if `many` or few, any number may be as likely."""
    few = m * np.log(8) + (size - m) * np.log(8 / 7)
    any_number = np.log(size + 1) + _draws(size, m)
    return np.where(many | (8 * m <= size), np.minimum(few, any_number), few)


def by_chance(k: int, n: int, failed: int, drawn: int) -> float:
    """Chance that k or more of the `failed` out of n are among the `drawn` (hypergeometric; Fisher's exact test).

    >>> round(by_chance(3, 20, 3, 5), 4)
    0.0088
    """
    hits = np.arange(k, min(failed, drawn) + 1)
    return float(np.exp(_draws(failed, hits) + _draws(n - failed, drawn - hits) - _draws(n, drawn)).sum())


def _draws(size: Any, m: Any) -> Any:
    """Log of the number of ways to draw m out of `size`."""
    return gammaln(size + 1) - gammaln(m + 1) - gammaln(size - m + 1)


class Scale:
    """One site's attempts as arrays in order of time, and the scale on which explanations are weighed.

    codes: dimension to a number per row (-1: not known); sounds: the class of each voice. voices: the one or two
    that a cause may speak with; choirs: the same as rows of two, where none has the number after the last.
    """

    def __init__(self, codes: Mapping[str, Array], t: Array, voice: Array, sounds: Sequence[str]) -> None:
        p = self.p = priors()
        self.codes, self.t, self.voice, self.sounds = codes, t, voice, list(sounds)
        self.n, self.k = len(t), int((voice >= 0).sum())
        self.total = np.bincount(voice[voice >= 0], minlength=len(self.sounds))
        self.server = np.unique(codes["mx_ip"], return_inverse=True)[1]
        self.ns, self.ks = np.bincount(self.server), np.bincount(self.server, voice >= 0)
        mixes = {kind: np.array([mix.get(s, 0.004) for s in self.sounds]) for kind, mix in p["sounds"].items()}
        self.words = {kind: np.log(mix / p["voices_per_sound"]) for kind, mix in mixes.items()}
        self.said = np.append(self.total + p["noise_voices"] * np.exp(self.words["healthy"]), 1.0)
        self.none = gammaln(self.said), gammaln(p["noise_voices"] + self.k)
        self.alike, self.quiet = series(self.k, self.n, *p["noise_rate"]), self.noise(self.ks, self.ns)
        order = np.argsort(-self.total, kind="stable")[:VOICES]
        heard = [int(v) for v in order if self.total[v] >= min(2, self.k)]
        two = [(v, len(self.sounds)) for v in heard] + list(combinations(heard[:4], 2))
        self.voices = [tuple(v for v in choir if v < len(self.sounds)) for choir in two]
        self.choirs, self.several = np.array(two, int).reshape(-1, 2), np.log(p["several_voices"])

    def by_choir(self, place: Array, voice: Array, size: int) -> Array:
        """Failures by choir, place (a number below size for each row) and voice."""
        wide, failed = len(self.sounds) + 1, voice >= 0
        heard = np.bincount(place[failed] * wide + voice[failed], minlength=size * wide).reshape(size, wide)
        return heard[:, self.choirs].transpose(1, 0, 2)

    def speaks(self, voices: Iterable[int]) -> Array:
        """Rows that failed with one of these voices."""
        return among(self.voice, voices)

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

    def voiced(self, kv: Array, voices: Array) -> Any:
        """Gain where failures kv (.., voices) are a cause's and no longer noise of many voices."""
        k, m = kv.sum(-1), (voices < len(self.sounds)).sum(-1)
        words = (gammaln(self.said[voices] - kv) + gammaln(1 + kv) - self.none[0][voices]).sum(-1)
        noise = self.none[1] - gammaln(self.p["noise_voices"] + self.k - k)
        return words + noise + self.several[np.minimum(m, len(self.several)) - 1] + gammaln(m) - gammaln(m + k)

    def pooled(self, kind: str, n: Any, kv: Array, voices: Array) -> Any:
        """Score of cells of n rows with kv failures if all servers were equally noisy: fast, to choose cells."""
        k = kv.sum(-1)
        rest = series(self.k - k, self.n - k, *self.p["noise_rate"]) - self.alike
        return self.rate(kind, k, n) + rest + self.voiced(kv, voices)

    def says(self, kind: str, voices: tuple[int, ...]) -> float:
        """Log chance that a cause of this kind speaks so, with the kind's prior against healthy."""
        prior = self.p["prior"]
        return float(self.words[kind][list(voices)].sum() + np.log(prior[kind] / prior["healthy"]))

    def count(self, f: Found) -> tuple[int, Array]:
        """Rows of the cell, and failures of each of its voices."""
        said = self.voice[f.mask]
        return len(said), np.bincount(said + 1, minlength=len(self.sounds) + 1)[1:][list(f.voices)]

    def judge(self, f: Found) -> Found:
        """The explanation with its full score; no score where the practical floor is not reached."""
        n, kv = self.count(f)
        k, so, rests = int(kv.sum()), self.speaks(f.voices), [~f.mask]
        if "cell" in f.detail and f.dimension in _PARTS:  # beside the others in the same time, too
            begun, goes_on = (np.maximum.accumulate(f.mask[::way])[::way] for way in (1, -1))
            rests.append(~f.detail["cell"] & begun & goes_on)
        above = all(k * np.count_nonzero(rest) >= TIMES * np.count_nonzero(rest & so) * n for rest in rests)
        if not (k and k >= LEAST * n and above and allowed(self, f)):
            return replace(f, score=-np.inf)
        gone = np.bincount(self.server, f.mask & so)
        score = self.rate(f.kind, k, n) + self.voiced(kv, np.array(f.voices)) + self.says(f.kind, f.voices)
        score += self.noise(self.ks - gone, self.ns - gone) - self.quiet - f.ways
        return replace(f, score=float(score))


def groups(scale: Scale, dimension: str, kind: str, most: int) -> Iterator[Found]:
    """Up to `most` values of a dimension, those whose rows fail with these voices more than the rest."""
    codes, many = scale.codes[dimension], dimension == "recipient"  # of whom any number, or the only one, is bad
    known = codes >= 0
    names, place = np.unique(codes[known], return_inverse=True)
    if len(names) < 2 - many or not len(scale.choirs):
        return
    n, kv = np.bincount(place), scale.by_choir(place, scale.voice[known], len(names))
    k = kv.sum(-1)
    q = (k.sum(-1, keepdims=True) + 0.5) / (n.sum() + 10)
    above = np.where(k > 0, (k - q * n) / np.sqrt(q * (1 - q) * n), -np.inf)  # the rate of all, in its deviations
    order = np.argsort(-above, axis=-1, kind="stable")[:, : min(most, int((k > 0).sum(-1).max()))]
    kv = np.take_along_axis(kv, order[..., None], 1)
    price = ways(np.arange(1, order.shape[1] + 1), len(names), many)
    scores = scale.pooled(kind, n[order].cumsum(1), kv.cumsum(1), scale.choirs[:, None]) - price
    scores[~kv.any(-1)] = -np.inf
    for choir, best in enumerate(np.argsort(-scores, axis=1, kind="stable")[:, :2]):
        voices, guilty = scale.voices[choir], names[order[choir]].tolist()
        for i in best[np.isfinite(scores[choir, best])].tolist():
            mask, values = among(codes, guilty[: i + 1]), tuple(guilty[: i + 1])
            yield Found(kind, dimension, mask, voices, float(price[i]), values, float(scores[choir, i]))
        for one in guilty[:3] if len(voices) == 1 and kind in scale.p["timed"] else ():
            yield from cuts(scale, Found(kind, dimension, codes == one, voices, float(price[0]), (one,)))


def cuts(scale: Scale, f: Found) -> Iterator[Found]:
    """The same cell from an onset on, up to a recovery, or between the two."""
    rows, voices = np.flatnonzero(f.mask), list(f.voices)
    at = np.flatnonzero(scale.speaks(voices)[rows])  # an onset lies before a failure, a recovery after one
    if len(at) < 3 or len(rows) < 5:
        return
    before = np.zeros((len(rows) + 1, len(voices)))
    np.cumsum(scale.voice[rows][:, None] == voices, axis=0, out=before[1:])

    def score(lo: Any, hi: Any) -> Array:
        return np.asarray(scale.pooled(f.kind, hi - lo, before[hi] - before[lo], np.array(voices)))

    size, price = len(rows), float(np.log(len(rows) + 1))
    i, j = at[np.argmax(score(at, size))], at[np.argmax(score(0, at + 1))] + 1
    early, late = at[at < j], at[at >= i]  # each edge beside the other; the frame's own end asks nothing new
    begun = i if j == size else early[np.argmax(score(early, j))]
    ended = j if i == 0 else late[np.argmax(score(i, late + 1))] + 1
    lo, hi = np.array(sorted({(i, size), (0, j), (begun, j), (i, ended)})).T
    paid = f.ways + price + np.where((lo > 0) & (hi < size), price + 1, np.log(2))
    scores = score(lo, hi) - paid
    for cut in np.flatnonzero((hi - lo >= 2) & (hi - lo < size)):
        yield between(f, rows, int(lo[cut]), int(hi[cut]), float(paid[cut]), float(scores[cut]))


def between(f: Found, rows: Array, lo: int, hi: int, price: float, score: float) -> Found:
    """The cell cut down to its rows lo..hi."""
    mask = np.zeros_like(f.mask)
    mask[rows[lo:hi]] = True
    onset, recovery = int(rows[lo]) if lo else None, int(rows[hi - 1]) if hi < len(rows) else None
    detail = {**f.detail, "cell": f.mask}
    return replace(f, mask=mask, ways=price, score=score, onset=onset, recovery=recovery, detail=detail)


def wide(scale: Scale, alone: bool) -> Iterator[Found]:
    """The whole site: its own block, a public list it asks, our authentication, an outage."""
    kv = np.append(scale.total, 0)[scale.choirs]
    for kind, dimension, *prices in scale.p["whole"]:
        price = prices[alone]
        for choir, score in enumerate((scale.pooled(kind, scale.n, kv, scale.choirs) - price).tolist()):
            yield Found(kind, dimension, np.ones(scale.n, bool), scale.voices[choir], price, score=score)


def ordered(scale: Scale, kind: str, dimension: str, values: Array, price: float) -> Iterator[Found]:
    """All rows whose value is at least a limit; the limit itself is in `detail`, with the next value below."""
    known = np.isfinite(values)
    levels, place = np.unique(-values[known], return_inverse=True)
    kv, n = scale.by_choir(place, scale.voice[known], len(levels)), np.bincount(place).cumsum()
    ends = np.flatnonzero(kv.any((0, 2)))  # the best cell ends with a failure
    if not len(ends):
        return
    price += float(np.log(len(levels) + 1))
    scores = scale.pooled(kind, n[ends], kv.cumsum(1)[:, ends], scale.choirs[:, None]) - price
    scores[~kv[:, ends].any(-1)] = -np.inf
    for choir, best in enumerate(scores.argmax(1).tolist()):
        if np.isfinite(score := float(scores[choir, best])):
            at, below = (float(x) for x in -np.append(levels, np.nan)[ends[best] : ends[best] + 2])
            detail = {"limit": (at, below)}
            yield Found(kind, dimension, values >= at, scale.voices[choir], price, (), score, detail=detail)


def rates(scale: Scale) -> Iterator[Found]:
    """Rows that come after many of ours within a minute, five, an hour, from one address to site or server."""
    t = scale.t - scale.t[0]  # within a window as long as the frame a count is only a clock
    windows = [w for w in scale.p["windows"] if 2 * w < t[-1]] or scale.p["windows"][:1]
    for key in ("sender_ip", "pair"):
        codes = scale.codes[key]
        order = np.lexsort((t, codes))
        flat = (t + codes * (2 * windows[-1] + t[-1]))[order]
        for window in windows:
            before = np.empty(scale.n)
            before[order] = np.arange(1, scale.n + 1) - np.searchsorted(flat, flat - window, side="right")
            many = np.where((before >= 3) & ((codes >= 0) | (key == "sender_ip")), before, np.nan)
            for f in ordered(scale, "rate_limit", "rate", many, np.log(6)):
                yield replace(f, detail={**f.detail, "window": window, "each": key})


def first_contacts(scale: Scale) -> Iterator[Found]:
    """Rows within a delay of the first contact of sender and recipient with the site, or with that server."""
    delays = scale.p["delays"]
    for key in ("triplet", "triplet_ip"):
        first, codes = np.unique(scale.codes[key], return_index=True, return_inverse=True)[1:]
        step = np.searchsorted(delays, scale.t - scale.t[first][codes]).astype(float)
        known = (scale.codes[key] >= 0) | (scale.codes[key] < 0).all()
        value = np.where((step < len(delays)) & known, -step, np.nan)
        for f in ordered(scale, "greylisting", "none", value, np.log(2)):
            yield replace(f, detail={"delay": delays[-int(f.detail["limit"][0])]})


def recoveries(scale: Scale) -> Iterator[Found]:
    """Per server the rows up to its own recovery, when most servers were blocked at first."""
    servers = [np.flatnonzero(scale.server == s) for s in range(len(scale.ns))]
    price = float(sum(np.log(len(rows) + 1) for rows in servers))
    for voices in scale.voices:
        odds = np.where(scale.speaks(voices), np.log(0.9 / 0.02), np.log(0.1 / 0.98))
        mask, ends = np.zeros(scale.n, bool), {}
        for rows in servers:
            if end := int(np.argmax(np.concatenate([[0], np.cumsum(odds[rows])]))):
                mask[rows[:end]] = True
                turn = (int(rows[end - 1]), int(rows[end])) if end < len(rows) else None
                ends[int(scale.codes["mx_ip"][rows[0]])] = turn
        if len(ends) > max(1, len(servers) / 2) and any(ends.values()):
            f = Found("delist_propagation", "mx_ip", mask, voices, price, tuple(ends), detail={"ends": ends})
            yield replace(f, score=float(scale.pooled(f.kind, *scale.count(f), np.array(voices)) - price))


def allowed(scale: Scale, f: Found) -> bool:
    """What may not be named however well it scores: a server or sender without another to compare with."""
    spoken, everything = {scale.sounds[v] for v in f.voices}, np.count_nonzero(f.mask) > scale.n - 3
    if spoken & {"tls", "dead", "lost", "grey"} - set(scale.p["sounds"][f.kind]) and not outlasts(scale, f):
        return False
    if everything and f.kind in scale.p["in_words"]:
        return spoken == {scale.p["in_words"][f.kind]}
    if everything and f.kind == "outage":
        return bool((scale.voice[f.mask] >= 0).mean() >= 0.9)  # one that got through is not the end of it
    if f.kind == "auth_failure":
        return f.onset is not None and f.recovery is None
    if f.kind == "dnsbl":
        return spoken == {"listed"}
    if f.kind == "delist_propagation":
        return int(scale.count(f)[1].sum()) >= 2 * len(f.values)
    if f.dimension not in _PARTS:
        return True
    return (f.dimension == "sender_ip" or like_with_like(scale, f)) and compared(scale, f)


def outlasts(scale: Scale, f: Found) -> bool:
    """Who does not answer blocks nobody; nor who says that it greylists, unless contacts that it saw within a day
    are refused beyond the longest greylisting."""
    if {scale.sounds[v] for v in f.voices} & {"tls", "dead", "lost"} or "block" not in scale.p["sounds"][f.kind]:
        return False
    rows = np.flatnonzero(f.mask & (scale.codes["triplet"] >= 0))
    order = rows[np.argsort(scale.codes["triplet_ip"][rows], kind="stable")]
    first, place = np.unique(scale.codes["triplet_ip"][order], return_index=True, return_inverse=True)[1:]
    t = scale.t[order]
    late = (t - t[first][place] > scale.p["delays"][-1]) & (np.diff(t, prepend=-np.inf) < DAY)
    return late.sum() >= 3 and bool(scale.speaks(f.voices)[order[late]].mean() >= 0.9)


def compared(scale: Scale, f: Found) -> bool:
    """Whether there are others to compare with: of a back end one that answers at the same address; of who blocks
    one that our same address asked, and over IPv6 that is never the one that IPv4 servers see.

    Pairs, if it is some, are all of their MX IPs with all of our addresses, as they are told.
    """
    rest = ~among(scale.codes[f.dimension], f.values)
    if f.dimension == "backend":
        known = np.isin(scale.server, scale.server[f.mask]) & (scale.codes["backend"] >= 0)
        return bool((rest & known & (scale.voice < 0)).any())
    if f.kind == "mx_block":
        us, family = (np.isin(scale.codes[name], scale.codes[name][f.mask]) for name in ("sender_ip", "family"))
        if not (rest & (us if f.dimension == "pair" else us | family)).any():
            return False
    theirs, ours = (len(np.unique(scale.codes[side][f.mask])) for side in ("mx_ip", "sender_ip"))
    return int(rest.sum()) > 1 and (f.dimension != "pair" or theirs * ours == len(f.values))


def like_with_like(scale: Scale, f: Found) -> bool:
    """Not where recipients may be at fault who were asked at this server only (Simpson's trap).

    Where most refusals could be about the recipient, one who was refused must have got through elsewhere; or, where
    words do not name recipients, three or more were refused, and not again and again beside others who got through.
    """
    who, failed = scale.codes["recipient"], f.mask & scale.speaks(f.voices)
    named, mild = ([v for v in f.voices if scale.sounds[v] in some] for some in (_MILD[:1], _MILD))
    about = f.mask & scale.speaks(mild)
    if 2 * about.sum() <= failed.sum() or (who[about] < 0).any():
        return True
    refused, times = np.unique(who[about], return_counts=True)
    through = scale.voice < 0
    theirs = through & np.isin(who, refused)
    if (theirs & ~f.mask).any():
        return True
    if 2 * scale.speaks(named)[f.mask].sum() > failed.sum() or len(refused) < 3:
        return False
    pinned = (times > 1).sum() > 1 and not theirs.any()
    return not (pinned and (through & f.mask).any())


def explain(scale: Scale, slow: bool, alone: bool) -> tuple[list[Found], int]:
    """All explanations of a site's failures, judged, best first, and how many were weighed."""
    sets = [("mx_ip", "mx_slow", 2)] if slow else scale.p["groups"]
    made: Iterable[Found] = chain.from_iterable(groups(scale, *some) for some in sets)
    if not slow:
        size = ordered(scale, "size_limit", "size", scale.codes["size"], 0.0)
        made = chain(made, wide(scale, alone), size, rates(scale), first_contacts(scale), recoveries(scale))
    kept, count = defaultdict[tuple[str, str, bool], list[tuple[float, Found]]](list), 0
    for f in made:
        for kind in scale.p["servers"] if (f.kind, f.dimension) == ("mx_block", "mx_ip") else (f.kind,):
            count += 1
            best = kept[kind, f.dimension, "cell" in f.detail]
            best.append((f.score + scale.says(kind, f.voices), f))
            best.sort(key=lambda x: -x[0])
            del best[KEPT:]
    few = [replace(f, kind=kind) for (kind, *_), best in kept.items() for _, f in best]
    timed = [g for f in few if f.kind in scale.p["timed"] and "cell" not in f.detail for g in cuts(scale, f)]
    judged = [scale.judge(f) for f in (*few, *timed)]
    return sorted((f for f in judged if np.isfinite(f.score)), key=lambda f: -f.score), count + len(timed)
