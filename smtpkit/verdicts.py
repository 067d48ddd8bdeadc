"""verdicts: what was found as sentences with counts from the frame, and how many more probes would tell.

Belongs here: figures, intervals, times in UTC; the sentences themselves stand in data/verdict.txt.j2. Not here:
what was found and how sure that is (diagnosis). No sentence holds a model probability: letters are made of them.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import rel_entr

from smtpkit.catalogue import render
from smtpkit.counts import BRIEF, percent
from smtpkit.escape import one_line
from smtpkit.hypotheses import Array, Found
from smtpkit.reading import Reading
from smtpkit.voices import priors

SURE, CLEAR, EHLO = 0.8, 5, {"connect", "banner", "ehlo", "starttls"}
"""Confidence that a verdict needs; clean sessions that exclude, at 95 %, a server that refuses half."""


def say(
    read: Reading, chosen: Sequence[tuple[Found, float]], sure: float, more: Mapping[str, int], untold: Array
) -> str:
    """The verdict: a sentence a cause, and what must be added to it; untold: receivers that it leaves out."""
    failed = read.voice >= 0
    nameless = failed & (read.codes["mx_ip"] < 0)
    codes = [read.codes["domain"][np.argmax(read.site == site)] for site in untold]
    names = [read.names["domain"][code] for code in codes if code >= 0]
    short = set(read.column("asked").unique()) <= EHLO and (read.voice < 0).any()
    words: dict[str, Any] = {
        "causes": [_figures(read, f) | {"sure": c >= SURE} for f, c in chosen if len(failed)],
        "n": len(failed), "failed": int(failed.sum()), "errors": _errors(read), "unit": _unit(read),
        "unnamed": int(nameless.sum()), "unnamed_errors": _errors(read, nameless) if nameless.any() else "",
        "ips": len(read.names["mx_ip"]), "sure": sure >= SURE,
        "more": [(k, _list([ip for ip in more if more[ip] == k])) for k in sorted({*more.values()}, reverse=True)],
        "undated": read.undated, "unasked": _list(read.unasked),
        "untold": len(names), "untold_names": _list(names), "alone": _alone(read, untold) if names else "",
        "short": priors()["ehlo"] if short else "",
    }  # fmt: skip
    return " ".join(filter(None, render("verdict.txt", **words).split("\n")))


def _alone(read: Reading, sites: Array) -> str:
    """How to ask of one of these receivers alone: the first whose rows all have their domain in its own column."""
    for site in sites if "domain" in read.rows else ():
        domains = read.rows["domain"][read.site == site]
        if domains.notna().all() and domains.nunique() <= 4:
            return one_line(repr(sorted(map(str, domains.unique()))))
    return ""


def _figures(read: Reading, f: Found) -> dict[str, Any]:
    """What the sentence about a cause is filled with, counted from the rows."""
    rest, failed, so = rest_of(read, f), read.voice >= 0, np.isin(read.said(f), f.voices)
    cells = {"k": f.mask & so, "n": f.mask, "k2": rest & so, "n2": rest, "through": rest & ~failed}
    cells["other"] = rest & failed & ~so & (f.kind != "mx_slow")
    made: dict[str, Any] = {name: int(cell.sum()) for name, cell in cells.items()}
    made["low"], made["high"] = percent(made["k"], made["n"])
    sounds = set(read.voices.sound.reindex([*f.voices]))
    made |= {"kind": f.kind, "mute": sounds <= {"dead", "lost"}, "sound": sounds.pop() if len(sounds) == 1 else ""}
    made |= {"dimension": f.dimension, "names": _list(read.named(f)), "site": _site(read, f)}
    turns = {"since": read.turn(f, f.onset, -1), "until": read.turn(f, f.recovery, 1)}
    made |= {word: at and _clock(read, at) for word, at in turns.items()}
    made["via"] = _list(read.only_for(f).get("sender_ip", ()))
    made["others"] = len(np.unique(read.codes[f.dimension][rest])) if f.dimension in ("mx_ip", "backend") else 0
    made["otherwise"] = bool(np.isin(read.site[rest], read.site[f.mask]).any())
    asked = [read.codes["mx_ip"][cell & (read.codes["mx_ip"] >= 0)] for cell in (f.mask, f.mask & so)]
    made["ips"], made["shut"] = (len(np.unique(codes)) for codes in asked)
    made |= {"sites": len(np.unique(read.site[f.mask])), "many": len(f.values)}
    ours = f.detail.get("ours", {})
    made |= {"ours": _list([*chain(*ours.values())]), "domains": "sender_domain" in ours}
    roads = set(read.road[f.mask & so] % 2)
    made["road"] = "" if len(roads) != 1 else "IPv6" if roads == {1} else "IPv4"
    made |= {name: name in f.detail for name in ("family", "unlike", "uncontrolled", "path")}
    made["suspect"] = _figures(read, f.detail["suspect"]) if "suspect" in f.detail else None
    return made | _of_detail(read, f) | _said(read, f.mask & so)


def _said(read: Reading, bad: Array) -> dict[str, str]:
    """How these rows failed: unanswered, or with a reply and an example of it; or DNS gave no server to ask."""
    code, error = read.number("code")[bad], read.column("error")[bad]
    parts = {"left unanswered": np.isnan(code), "deferred": code < 500, "refused": code >= 500}
    heard = read.column("reply")[bad].groupby(read.voice[bad])
    texts = pd.DataFrame({"n": heard.size(), "text": heard.first()}).sort_values("n").text.dropna()
    example = next((text[:80] for text in texts[::-1] if text[:1].isdigit() and "@" not in text), "")
    like = f', with replies like "{one_line(example)}"' if example else ", with replies" * bool((code > 0).any())
    none = (read.codes["mx_ip"][bad] < 0).all() and error.str.match("dns_|null_mx").eq(True).all()
    did = " or ".join(word for word, some in parts.items() if some.any())
    return {"did": did, "like": like, "lookup": _errors(read, bad) if none else ""}


def _errors(read: Reading, rows: Array | slice = slice(None)) -> str:
    """The errors of these rows, each once."""
    return one_line(", ".join(read.column("error")[rows].dropna().unique()))


def _of_detail(read: Reading, f: Found) -> dict[str, Any]:
    """What only some kinds say: a delay, a limit, when each server recovered."""
    made: dict[str, Any] = {name: f.detail.get(name) for name in ("delay", "window", "each")}
    if "delay" in f.detail:
        last = read.t[read.explained(f)].max() + max(f.detail["delay"], 300)
        made["again"] = _clock(read, pd.Timestamp(last, unit="s", tz="UTC"), 0)
    if "limit" in f.detail:
        made["limit"] = round(f.detail["limit"][0])
    if "ends" in f.detail:
        ends = {one_line(read.names["mx_ip"][ip]): end for ip, end in f.detail["ends"].items()}
        made["still"] = _list([ip for ip, end in ends.items() if not end])
        back = sorted((read.middle(*end), ip) for ip, end in ends.items() if end)
        made["back"] = [(ip, _clock(read, at)) for at, ip in back]
    return made


def rest_of(read: Reading, f: Found) -> Array:
    """What the cell is compared with: the receiver's other attempts in the same time; else all others."""
    like = read.voice < 0 if f.kind == "mx_slow" else read.as_far(read.explained(f))
    same = np.isin(read.site, read.site[f.mask]) & like
    inside, when = f.detail.get("cell", f.mask), read.t[f.mask]
    if "rest" in f.detail:
        return np.asarray(f.detail["rest"])
    if f.dimension in ("time", "domain") or f.kind == "delist_propagation":
        return np.asarray(~f.mask & (same if f.dimension == "time" else like))
    since = when.min() if f.onset is not None else -np.inf
    until = when.max() if f.recovery is not None else np.inf
    if f.dimension in ("mx_ip", "backend", "pair"):  # who is not known, or accused as well, is no sibling
        codes = read.codes[f.dimension]
        same &= (codes >= 0) & ~np.isin(codes, [*f.values, *f.detail.get("accused", ())])
    return np.asarray(same & ~inside & (read.t >= since) & (read.t <= until))


def _clock(read: Reading, at: pd.Timestamp, few: float = BRIEF) -> str:
    """UTC; with the date where the frame has several days, with seconds where it has `few` of them."""
    first, last = (pd.Timestamp(t, unit="s", tz="UTC").date() for t in (read.t[0], read.t[-1]))
    form = "%H:%M:%S" if read.t[-1] - read.t[0] < few else "%H:%M"
    return f"{at:{form}} UTC" if first == last == at.date() else f"{at:%Y-%m-%d {form}} UTC"


def _site(read: Reading, f: Found) -> str:
    domains = np.unique(read.codes["domain"][f.mask])
    return _list(read.names["domain"][domains[domains >= 0]]) or "This receiver"


def _unit(read: Reading) -> str:
    session = read.column("session")
    return "sessions" if session.notna().all() and session.is_unique else "attempts"


def _list(names: Sequence[str] | Array) -> str:
    """a, b and c, escaped; of more than four the first three, and how many more."""
    texts = [one_line(str(name)) for name in names[: 4 if len(names) <= 4 else 3]]
    texts += [f"{len(names) - 3} more"] * (len(names) > 4)
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def more_probes(
    read: Reading, chosen: Sequence[tuple[Found, float]], sure: float, found: Sequence[Found]
) -> dict[str, int]:
    """By MX IP, how many more sessions would settle it: the suspect until it can be named, its siblings cleared.

    Each further session of a server that goes on refusing at its rate brings its Kullback-Leibler distance from the
    rest's rate; a sibling needs 5 clean ones to exclude, at 95 %, that it refuses half.
    """
    unsure = [f.detail.get("suspect", f) for f, c in chosen if c < SURE]
    servers = [f for f in unsure if f.dimension in ("mx_ip", "pair") and "unlike" not in f.detail]
    if not servers and (chosen or (sure >= SURE and len(np.unique(read.site)) > 1)):
        return {}
    here = np.isin(read.site, read.site[np.any([f.mask for f in servers], axis=0)]) if servers else read.t < np.inf
    asked = pd.Series(read.codes["mx_ip"][here]).value_counts()
    need = {int(ip): CLEAR - int(n) for ip, n in asked.items() if ip >= 0 and n < CLEAR}
    for f in servers:
        rest, own = rest_of(read, f), read.explained(f)
        p = (own.sum() + 0.5) / (f.mask.sum() + 1)
        q = min((np.isin(read.voice, f.voices) & rest).sum() + 0.5, 0.5 * (rest.sum() + 1)) / (rest.sum() + 1)
        gain = float(rel_entr(p, q) + rel_entr(1 - p, 1 - q))
        rivals = [g.score for g in found if g.kind != f.kind and 2 * (read.explained(g) & own).sum() >= own.sum()]
        short = max([0.0, *rivals]) + priors()["temperature"] * math.log(9) - f.score
        for ip in np.flatnonzero(np.isin(read.names["mx_ip"], read.named(f))):
            need[int(ip)] = max(1, math.ceil(short / max(gain, 0.05)))
    unasked = {} if servers else dict.fromkeys(read.unasked, CLEAR)
    return {str(read.names["mx_ip"][ip]): k for ip, k in need.items()} | unasked
