"""suspicion: which MX IP to ask next, and when to stop: counts in, a judgement out; pure, many runs at once.

Two tests that may be looked at after every session. An e-process a server proves who refuses (Ville: a fair bet
against "at most FLOOR" ever wins the factor F with chance 1/F at most). A posterior, in which each server may be
stale and the others share one unknown rate, demands the contrast: where all refuse alike, nobody is guilty.
Not here: asking (locating), what the refusals mean (diagnosis).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
FLOOR, WEAK = 0.05, 0.3
"""The share of refusals that is nobody's guilt; and the weakest block that "no server is stale" excludes."""
WRONG, MISSED = 0.004, 0.006
"""How often at most an innocent server may be named; and none where one refuses WEAK or more."""
SURE, LIKELY, STALE = 0.99, 0.5, 0.125
"""Chances: to be stale, that naming needs; the same that must be looked into; the same before anything is seen."""
TIMES, BALANCE = 2.0, 1.5
"""A stale server refuses at least so many times as often as the rest; the suspect gets at most so many times
the sessions of all others together: without contrast nobody is guilty."""
_STALE = np.array([[0.2, 0.1], [0.3, 0.2], [0.4, 0.15], [0.55, 0.15], [0.7, 0.1], [0.85, 0.1], [0.99, 0.2]])
_REST = np.array([[0.001, 0.46], [0.02, 0.276], [0.05, 0.184],
                  [0.12, 0.016], [0.25, 0.016], [0.5, 0.016], [0.75, 0.016], [0.99, 0.016]])  # fmt: skip
_CLEAN = np.array([[0.001, 0.85], [0.02, 0.1], [0.05, 0.05]])
"""Rates of refusal and their weights: of a stale server; of the rest, where high ones mean that all are alike; of
a server that is to be cleared (so that 15 clean sessions do)."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """By run and server. chance: to be stale. named: proven to refuse more than FLOOR, and than the rest. By run.
    done: why to stop, "named", "clear" (nobody asked refuses WEAK or more), "alike", "" (go on). ask: whom next."""

    chance: Floats
    named: Flags
    done: NDArray[np.str_]
    ask: Counts


def judge(refused: ArrayLike, asked: ArrayLike, shut: ArrayLike = False) -> Judgement:
    """The judgement on `refused` of `asked` sessions (... x servers); who is `shut` is not to be asked."""
    k, n = np.asarray(refused, np.int64), np.asarray(asked, np.int64)
    most = n.max() + 1
    pairs, place = np.unique(k * most + n, return_inverse=True)  # of many runs few differ
    stale, rest, guilt, clean = (found[place.reshape(n.shape)] for found in _logs(pairs // most, pairs % most))
    chance, alike = _posterior(stale, rest)
    named = (guilt >= np.log(n.shape[-1] / WRONG)) & (chance >= SURE)
    settled = (named | (chance <= LIKELY)).all(-1) & named.any(-1)
    cleared = ((clean >= np.log(1 / MISSED)) | (np.asarray(shut) & (n == 0))).all(-1) & (n > 0).any(-1)
    done = np.select([settled, cleared, alike & (n > 0).all(-1)], ["named", "clear", "alike"], "")
    return Judgement(chance, named, done, _next(chance, named, n, np.broadcast_to(shut, n.shape)))


def _next(chance: Floats, named: Flags, n: Counts, shut: Flags) -> Counts:
    """The likeliest that is not named yet; the one asked least where the contrast to it is missing."""
    never = np.where(shut, -9.0, 0.0)
    suspect = (np.where(named, -1.0, chance) - 1e-6 * n + never).argmax(-1)
    other = np.where(named, -5.0, 0.0) + never - n / (n.sum(-1, keepdims=True) + 1) + 1e-3 * chance
    mine = np.take_along_axis(n, suspect[..., None], -1)[..., 0]
    return np.asarray(np.where(mine > BALANCE * (n.sum(-1) - mine), other.argmax(-1), suspect))


def _posterior(stale: Floats, rest: Floats) -> tuple[Floats, Flags]:
    """By Bayes the chance of each server to be stale; and whether surely all refuse alike, or all are stale."""
    either = np.logaddexp(stale, rest)
    weight = either.sum(-2) + np.log(_REST[:, 1])
    weight = np.exp(weight - weight.max(-1, keepdims=True))
    weight /= weight.sum(-1, keepdims=True)
    guilty = np.exp(stale - either)
    none = (1 - guilty).prod(-2) * (_REST[:, 0] > FLOOR)
    alike = ((none + guilty.prod(-2)) * weight).sum(-1)
    return np.einsum("...nq,...q->...n", guilty, weight), alike >= SURE


def _logs(k: Counts, n: Counts) -> tuple[Floats, ...]:
    """Logarithms: of being stale and of being not, by the rest's rate (last axis); the two e-processes."""
    k, n = k[..., None], n[..., None]

    def seen(rate: Floats) -> Floats:
        return np.asarray(k * np.log(rate) + (n - k) * np.log1p(-rate))

    (bad, share), fine = _STALE.T, _REST[:, 0]
    weights = share[:, None] * (bad[:, None] >= TIMES * fine)
    usable = weights.any(0)
    stale = np.log(STALE) + logsumexp(seen(bad)[..., None], axis=-2, b=weights / (weights.sum(0) + ~usable))
    guilt = logsumexp(seen(bad) - seen(np.array([FLOOR])), axis=-1, b=share)
    clean = logsumexp(seen(_CLEAN[:, 0]) - seen(np.array([WEAK])), axis=-1, b=_CLEAN[:, 1])
    return stale, seen(fine) + np.log(1 - STALE * usable), guilt, clean
