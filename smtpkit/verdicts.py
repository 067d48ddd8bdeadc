"""verdicts: what was found as sentences with counts from the frame, and how many more probes would tell.

Belongs here: figures, intervals, times in UTC; the sentences themselves stand in data/diagnosis.json. Not here:
what was found and how sure that is (diagnosis). No sentence holds a model probability: letters are made of them.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
import pandas as pd
from scipy.special import rel_entr

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
    """The verdict: one sentence a cause, and what must be added to it; untold: receivers that it leaves out."""
    left = [_text("undated", n=read.undated)] * (read.undated > 0)
    left += [_text("unasked", ips=_list(read.unasked))] * bool(read.unasked)
    if not len(read.t):
        return " ".join([_text("nothing"), *left])
    codes = [read.codes["domain"][int(np.argmax(read.site == site))] for site in untold]
    if names := [read.names["domain"][code] for code in codes if code >= 0]:
        left.append(_text("untold", n=len(names), sites=_list(names), alone=_alone(read, untold)))
    said = [_one(read, f, c) for f, c in chosen] or [_healthy(read, sure)]
    if more:
        by_count = pd.Series(more).groupby(pd.Series(more)).groups
        parts = [f"{k} more of {_list(ips)}" for k, ips in sorted(by_count.items(), reverse=True)]
        said.append(f"Sessions that would tell: {'; '.join(parts)}.")
    short = set(read.column("asked")) <= EHLO and bool((read.voice < 0).any())
    return " ".join(said + left + [_text("ehlo")] * short)


def _text(name: str, **fields: object) -> str:
    """A sentence of data/diagnosis.json, filled in; "" if there is none."""
    return str(priors()["say"].get(name, "")).format(**fields)


def _alone(read: Reading, sites: Array) -> str:
    """How to ask of one of these receivers alone: the first whose rows all have their domain in its own column."""
    for site in sites if "domain" in read.rows else ():
        domains = read.rows["domain"][read.site == site]
        if domains.notna().all() and domains.nunique() <= 4:
            return _text("alone", domains=one_line(repr(sorted(map(str, domains.unique())))))
    return ""


def _healthy(read: Reading, sure: float) -> str:
    failed, n, ips = read.voice >= 0, len(read.t), len(read.names["mx_ip"])
    where = f"{n:,} {_unit(read)} at {ips} MX IP{'s' * (ips != 1)}"
    doubt = "" if sure >= SURE else " This is not enough evidence to rule out one that fails now and then."
    if (none := failed & (read.codes["mx_ip"] < 0)).any():
        doubt = _text("unnamed", n=f"{none.sum():,}", errors=_errors(read, none) or "no error told") + doubt
    name = "no_pattern" if failed.any() else "clean"
    return _text(name, failed=f"{failed.sum():,}", where=where, doubt=doubt)


def _one(read: Reading, f: Found, sure: float) -> str:
    """One cause; below the confidence that a verdict needs it says so."""
    fields = _fields(read, f)
    if "suspect" in f.detail:
        return _text("inconclusive", **fields) + _one(read, f.detail["suspect"], 1)
    if f.kind == "inconclusive" and not fields["lookup"]:
        return _text("path" if "path" in f.detail else "no_server" if fields["errors"] else "no_ip", **fields)
    mute = f.kind == "mx_block" and {read.voices.sound[v] for v in f.voices} <= {"dead", "lost"}
    kind = "mx_dead" if mute else "mx_busy" if f.kind == "mx_dead" and fields["like"] else f.kind
    if fields["lookup"]:
        kind = "local_dns" if kind == "local_path" else "lookup"
    text = str(priors()["say"][kind])
    if (single := fields["n2"] == "0") and ";" in text:
        text = text.partition(";")[0] + "; there is nothing to compare with."
    more = {"unlike": "unlike" in f.detail, "uncontrolled": bool({"uncontrolled", "path"} & set(f.detail))}
    more[f"{f.kind}_later"] = single
    added = "".join(_text(name, **fields) for name, so in more.items() if so)
    return ("" if sure >= SURE else "Not enough evidence yet: ") + text.format(**fields) + added


def _fields(read: Reading, f: Found) -> dict[str, object]:
    """What the sentences are filled with, counted from the rows."""
    rest, failed, so = rest_of(read, f), read.voice >= 0, np.isin(read.said(f), f.voices)
    cells = {"k": f.mask & so, "n": f.mask, "k2": rest & so, "n2": rest}
    made: dict[str, object] = {name: f"{cell.sum():,}" for name, cell in cells.items()}
    low, high = percent(cells["k"].sum(), f.mask.sum())
    other, through = (rest & failed & ~so).sum(), (rest & ~failed).sum()
    made |= {"ci": f" (95 % interval {low}-{high} %)", "other": f" ({other:,} failed otherwise)" * bool(other)}
    made |= {"unit": _unit(read), "who": _who(read, f), "rest": _others(read, f, rest), "site": _site(read, f)}
    sounds = set(read.voices.sound.reindex([*f.voices]))
    made["how"] = priors()["how"].get(*sounds, "") if len(sounds) == 1 else ""
    made["over"] = " over SPF, DKIM or DMARC" if sounds == {"auth"} else ", as when SPF, DKIM or DMARC fails"
    turns = ("since", read.turn(f, f.onset, -1)), ("until", read.turn(f, f.recovery, 1))
    made["when"] = "".join(f" {word} about {_clock(read, at)}" for word, at in turns if at is not None)
    asked, sites = f.mask & (read.codes["mx_ip"] >= 0), len(np.unique(read.site[f.mask]))
    ips, shut = (len(np.unique(read.codes["mx_ip"][x])) for x in (asked, asked & so))
    made["ips"] = f"all {ips} MX IPs" if ips == shut else f"{shut} of {ips} MX IPs"
    made["ips"] = made["ips"] if ips > 1 else "the one MX IP asked" if ips else "MX IPs that no row names"
    made["alike"] = " alike: no single server is at fault" * (ips == shut > 1)
    made["many"] = "1 recipient was" if len(f.values) == 1 else f"{len(f.values):,} recipients were"
    made["sites"] = "at this receiver" if sites == 1 else f"at {sites} receivers"
    made |= {"failed": failed.sum(), "all": len(failed), "errors": _errors(read)}
    us, six = _list([*chain(*f.detail.get("ours", {}).values())]), set(read.road[f.mask & so] % 2)
    made |= {"here": us or "here", "us": f"mail from {us} in " * bool(us)}
    made["beside"] = f" From our other addresses {through:,} of {made['n2']} got through." * bool(us)
    made["family"] = " over IPv6" * ("family" in f.detail)
    made["only"] = {(0,): " over IPv4", (1,): " over IPv6"}.get(tuple(six), "")
    return made | _of_detail(read, f) | _said(read, f.mask & so)


def _said(read: Reading, bad: Array) -> dict[str, object]:
    """How these rows failed: unanswered, or with a reply and an example of it; or DNS gave no server to ask."""
    code, error = read.number("code")[bad], read.column("error")[bad]
    parts = {"left unanswered": np.isnan(code), "deferred": code < 500, "refused": code >= 500}
    heard = read.column("reply")[bad].groupby(read.voice[bad])
    texts = pd.DataFrame({"n": heard.size(), "text": heard.first()}).sort_values("n").text.dropna()
    example = next((text[:80] for text in texts[::-1] if text[:1].isdigit() and "@" not in text), "")
    like = f', with replies like "{one_line(example)}"' if example else ", with replies" * bool((code > 0).any())
    none = (read.codes["mx_ip"][bad] < 0).all() and error.str.match("dns_|null_mx").eq(True).all()
    did = " or ".join(word for word, some in parts.items() if some.any())
    return {"did": did, "like": like, "lookup": _errors(read, bad) * bool(none)}


def _errors(read: Reading, rows: Array | slice = slice(None)) -> str:
    """The errors of these rows, each once."""
    return one_line(", ".join(read.column("error")[rows].dropna().unique()))


def _of_detail(read: Reading, f: Found) -> dict[str, object]:
    """What only some kinds say: a delay, a limit, when each server recovered."""
    made: dict[str, object] = {}
    if "delay" in f.detail:
        delay = int(f.detail["delay"])
        last = read.t[read.explained(f)].max() + max(delay, 300)
        made["within"] = f"within {_duration(delay)} of it" if delay else "at the first try"
        made["again"] = _clock(read, pd.Timestamp(last, unit="s", tz="UTC"), 0)
    if "limit" in f.detail:
        made["limit"] = f"{f.detail['limit'][0]:,.0f}"
        made["window"] = _duration(f.detail.get("window", 0)) + " at one MX IP" * (f.detail.get("each") == "pair")
    if "ends" in f.detail:
        ends = {read.names["mx_ip"][ip]: end for ip, end in f.detail["ends"].items()}
        back = sorted((read.middle(*end), one_line(ip)) for ip, end in ends.items() if end)
        still = [ip for ip, end in ends.items() if not end]
        texts = [f"{ip} since about {_clock(read, at)}" for at, ip in back]
        made["back"] = "; ".join(texts + [f"{_list(still)} not yet"] * bool(still))
    return made


def rest_of(read: Reading, f: Found) -> Array:
    """What the cell is compared with: the receiver's other attempts in the same time; else all others."""
    like = read.voice < 0 if f.kind == "mx_slow" else read.as_far(read.explained(f))
    same = np.isin(read.site, read.site[f.mask]) & like
    inside, when = f.detail.get("cell", f.mask), read.t[f.mask]
    if "rest" in f.detail:
        return np.asarray(f.detail["rest"])
    if f.dimension in ("time", "domain") or f.kind == "delist_propagation":
        return np.asarray(~f.mask & like & (same | (inside.all() or f.dimension != "time")))
    since = when.min() if f.onset is not None else -np.inf
    until = when.max() if f.recovery is not None else np.inf
    if f.dimension in ("mx_ip", "backend", "pair"):  # who is not known, or accused as well, is no sibling
        codes = read.codes[f.dimension]
        same &= (codes >= 0) & ~np.isin(codes, [*f.values, *f.detail.get("accused", ())])
    return np.asarray(same & ~inside & (read.t >= since) & (read.t <= until))


def _who(read: Reading, f: Found) -> str:
    """The accused; a pair says which address of ours it concerns."""
    names = read.named(f)
    if f.dimension == "pair":
        return f"{_list(names)}, asked from {_list(read.only_for(f)['sender_ip'])},"
    return ("Back end " * (f.dimension == "backend")) + _list(names) if names else _site(read, f)


def _others(read: Reading, f: Found, rest: Array) -> str:
    """What stands beside the accused: its siblings, other receivers, other times."""
    if f.dimension == "pair":
        return "all other pairs of address and MX IP"
    if "ours" in f.detail:
        return "our other domains" if "sender_domain" in f.detail["ours"] else "our other addresses"
    if f.kind == "auth_failure":
        return "before that"
    if f.dimension not in ("mx_ip", "backend"):
        return "otherwise" if np.isin(read.site[rest], read.site[f.mask]).any() else "other receivers"
    m = len(np.unique(read.codes[f.dimension][rest]))
    what = "back end" if f.dimension == "backend" else "MX IP"
    return f"the other {what}" if m == 1 else f"the {m} other {what}s"


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


def _list(names: Sequence[str] | Array, most: int = 4) -> str:
    """a, b and c, escaped; what is beyond `most` only counted."""
    texts = [one_line(str(name)) for name in names[: most if len(names) <= most else most - 1]]
    texts += [f"{len(names) - most + 1} more"] * (len(names) > most)
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


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
