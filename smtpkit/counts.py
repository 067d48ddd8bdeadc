"""counts: how many attempts failed, by MX IP or by anything else, each rate with its interval.

A function takes an attempts frame (or any table with some of its columns) and returns a frame or a column.
Not here: why they failed (diagnosis), charts (plot).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from smtpkit.address import ip_or_none
from smtpkit.errors import listed, of_kind, refuse
from smtpkit.reasons import OURS

Z95 = 1.959963984540054
READ = "sk.read_table(df, columns={...}) reads them"
BRIEF = 600
"""Seconds: a frame that lasts no longer has its times told with their seconds, in verdicts and in charts."""
_TEXTS = """attempt_id session mx_ip code error outcome stage domain recipient_domain recipient sender sender_ip
seen_ip local_ip vantage mx_host banner_host ehlo_host reply_host message_id queue_id body_id""".split()
_CAPITAL = r"[A-Z][^@]*$|\.$"
_STAGES = "dns connect banner ehlo starttls auth mail rcpt data body".split()
_EARLY, _DEPTH = _STAGES[:7], dict(zip(_STAGES, (0, 0, 0, 0, 0, 0, 1, 1, 2, 2), strict=True))
_WORDS = ["ok", "deferred", "refused", "silent"]
_OUTCOMES = {"accepted": 0, "passed": 0, "deferred": 1, "rejected": 2, "failed": 3, "unknown": 3, "withheld": -1}


def unfinished(frame: pd.DataFrame) -> pd.Series:
    """True where an attempt has not ended yet: the frame has outcomes, but here no outcome, code or error.

    >>> unfinished(pd.DataFrame({"outcome": ["passed", None], "code": [250, None]})).tolist()
    [False, True]
    """
    return frame.reindex(columns=["outcome", "code", "error"]).isna().all(axis=1) & ("outcome" in frame)


def endings(frame: pd.DataFrame) -> pd.Series:
    """How each attempt ended: ok, deferred, refused, silent; missing where we withheld or stopped it.

    Missing, too, where it has not ended. From `outcome`, else from `code` (2xx, 3xx ok, 4xx deferred, 5xx refused,
    no code silent).

    >>> list(endings(pd.DataFrame({"code": [250, 451, 554, None]})))
    ['ok', 'deferred', 'refused', 'silent']
    """
    return pd.Series(pd.array(_WORDS, dtype="str").take(_endings(frame), allow_fill=True), frame.index)


def _endings(frame: pd.DataFrame) -> np.ndarray:
    """The same as numbers of words, -1 where none fits."""
    of_kind("frame", frame, pd.DataFrame, READ)
    if not {"outcome", "code", "error"} & set(frame):
        raise refuse("columns", list(frame), "say nothing of an ending", "bring outcome, code or error")
    code, (place, outcomes) = _get(frame, "code"), pd.factorize(_get(frame, "outcome"))
    first = pd.to_numeric(code, errors="coerce").to_numpy("float64", na_value=np.nan) // 100
    text = code[np.isnan(first) & (place < 0)].dropna().astype("str")  # of millions of rows the few
    for odd in text[text.str.match(r"(?i)\s*(?!nan|none|null|n/a)\w\S")]:
        raise refuse("code", odd, "is no number", READ)
    told = np.array([_OUTCOMES.get(outcome, np.nan) for outcome in outcomes] + [np.nan])[place]
    if (strange := place[np.isnan(told) & np.isnan(first) & (place >= 0)]).size:
        raise refuse("outcome", outcomes[strange[0]], f"is none of {', '.join(_OUTCOMES)}", READ)
    by_code = np.select([(first == 2) | (first == 3), first == 4, first == 5], [0, 1, 2], 3)
    made = np.where(np.isnan(told), by_code, told).astype("int64")
    ours = _get(frame, "error").astype("object").isin(OURS)
    made[(ours | unfinished(frame)).to_numpy(bool)] = -1
    return np.asarray(made)


def failures(frame: pd.DataFrame) -> pd.Series:
    """True where an attempt failed, False where it got through, missing (`boolean`) where it is no evidence.

    >>> failures(pd.DataFrame({"outcome": ["passed", "rejected", "withheld"]})).tolist()
    [False, True, <NA>]
    """
    ended = _endings(frame)
    return pd.Series(ended > 0, frame.index, dtype="boolean").mask(ended < 0)


def sessions(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with rows of one session counted once up to MAIL: one refused connection is one refusal.

    Rows that were decided at RCPT or later stay, one a recipient; so do rows without `session`. An attempt that two
    joined frames hold (`attempt_id`) counts once. Blank texts are missing, of an address the first spelling stands,
    domains are in small letters. Labels that are no row's own are numbered anew.

    >>> len(sessions(pd.DataFrame({"session": ["a", "a", "b"], "stage": ["banner", "banner", "rcpt"]})))
    2
    """
    of_kind("frame", frame, pd.DataFrame, READ)
    for name in frame.columns[frame.columns.duplicated()]:
        raise refuse("column", name, "is there twice", "keep one of them")
    frame = _tidy(frame if frame.index.is_unique else frame.reset_index(drop=True))
    if {"attempt_id", "mx_ip"} <= set(frame) and frame.attempt_id.dropna().duplicated().any():
        frame = frame[~frame.duplicated(["attempt_id", "mx_ip"]) | frame.attempt_id.isna()]
    if not {"session", "stage"} <= set(frame):
        return frame
    again = (frame.stage.astype("object").isin(_EARLY) & frame.session.notna()).to_numpy(bool, copy=True)
    where = [name for name in ("session", "mx_ip") if name in frame]  # people number theirs from 1 for each server
    again[again] = frame.loc[again, where].duplicated()
    return frame[~again]


def _tidy(frame: pd.DataFrame) -> pd.DataFrame:
    """A table that people made themselves, as far as its texts tell rows apart."""
    texts = {name: frame[name] for name in _TEXTS if name in frame and frame[name].dtype in (object, "str")}
    found = {name: text.mask(blank) for name, text in texts.items() if (blank := text.eq("")).any()}
    if "mx_ip" in texts:
        given = found.get("mx_ip", texts["mx_ip"])
        known = {ip: ip_or_none(str(ip).strip()) or ip for ip in given.dropna().unique()}
        first = {address: str(ip).strip() for ip, address in reversed(known.items())}
        if any(ip != first[address] for ip, address in known.items()):
            found["mx_ip"] = given.map({ip: first[address] for ip, address in known.items()})
    for name in {"domain", "recipient_domain", "recipient"} & set(texts):  # a local part's case counts
        given = found.get(name, texts[name]).astype("str")
        if pd.Series(given.unique()).str.contains(_CAPITAL).any():
            found[name] = given.str.replace(_CAPITAL, lambda m: m[0].lower().rstrip("."), regex=True)
    return frame.assign(**found) if found else frame


def depths(stage: pd.Series) -> np.ndarray:
    """How far attempts got, as numbers: up to EHLO and AUTH, to MAIL or RCPT, to DATA; nan: not told.

    >>> depths(pd.Series(["ehlo", "rcpt", "body", None])).tolist()
    [0.0, 1.0, 2.0, nan]
    """
    return np.asarray(stage.astype("object").map(_DEPTH).to_numpy("float64"))


def as_far(depth: np.ndarray, failed: np.ndarray, through: np.ndarray) -> np.ndarray:
    """All but those that got through less far, if that is told, than most of these failures."""
    deep = depth[failed & ~np.isnan(depth)]
    return np.asarray(~through | ~(depth < (np.median(deep) if len(deep) else 0)))


def moments(given: pd.Series) -> pd.Series:
    """Times as UTC, as pandas or ISO 8601 write them (no zone: UTC), or numbers since 1970: seconds down to ns.

    Raises InvalidInput for what is none of these.

    >>> moments(pd.Series(["2026-11-24T09:00+09:00", "2026-11-24 00:00:00.5"])).dt.second.tolist()
    [0, 0]
    """
    of_kind("times", given, pd.Series, "give one column of a frame")
    how: dict[str, Any] = {"utc": True}
    if pd.api.types.is_numeric_dtype(given):
        unit = int(np.searchsorted((1e11, 1e14, 1e17), given.astype("float64").max()))
        how |= {"unit": ("s", "ms", "us", "ns")[unit]}
    elif not pd.api.types.is_datetime64_any_dtype(given):
        given, how = given.astype("object"), how | {"format": "ISO8601"}
    try:
        return pd.to_datetime(given, **how)
    except (ValueError, TypeError) as error:
        why = f"is no time ({str(error).partition('. You')[0]})"  # then come words on how to call pandas
        raise refuse(str(given.name or "time"), str(given.iloc[0]), why, READ) from None


def wilson(k: Sequence[int] | np.ndarray, n: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95 % interval of k out of n, as (low, high); missing where n is 0 (Wilson 1927).

    >>> [float(round(x[0], 3)) for x in wilson([20], [20])]
    [0.839, 1.0]
    """
    k, n = np.asarray(k, float), np.asarray(n, float)
    n = np.where(n > 0, n, np.nan)
    middle, half = k + Z95**2 / 2, Z95 * np.sqrt(k * (n - k) / n + Z95**2 / 4)
    low, high = ((middle + sign * half) / (n + Z95**2) for sign in (-1, 1))
    return np.where(k == 0, 0 * n, low), np.where(k == n, 1.0, high)


def percent(k: int, n: int) -> tuple[int, int]:
    """The same in whole percent, rounded outwards; (0, 100) where n is 0.

    >>> percent(20, 20)
    (83, 100)
    """
    low, high = (float(end[0]) for end in wilson([k], [n])) if n else (0.0, 1.0)
    return math.floor(100 * low + 1e-9), math.ceil(100 * high - 1e-9)


def by(frame: pd.DataFrame, keys: str | Sequence[str]) -> pd.DataFrame:
    """Attempts counted by the columns `keys`, the highest failure rate first.

    Columns: n (attempts that are evidence), failed, of these deferred, refused, silent (no usable answer);
    rate, low, high (Wilson 95 %); first, last (times in UTC). Rows without a key are a row of their own.

    >>> by(pd.DataFrame({"mx_ip": ["192.0.2.1", "192.0.2.2"], "code": [250, 554]}), "mx_ip").rate.to_dict()
    {'192.0.2.2': 1.0, '192.0.2.1': 0.0}
    """
    keys, rows = listed("keys", keys), sessions(frame)
    lacking = [key for key in keys if key not in list(rows)]
    if lacking or not keys:
        raise refuse("keys", lacking, "are no columns of this frame", f"take some of {', '.join(map(str, frame))}")
    ended = _endings(rows)
    parts = {"n": ended >= 0, "failed": ended > 0} | {word: ended == i for i, word in enumerate(_WORDS) if i}
    made = pd.DataFrame({name: part.astype("int64") for name, part in parts.items()}, rows.index)
    made["at"] = moments(_get(rows, "started_at"))
    groups = made.groupby([rows[key] for key in keys], dropna=False, observed=True)
    table = groups[list(parts)].sum()
    low, high = wilson(table.failed, table.n)
    table = table.assign(rate=table.failed / table.n.where(table.n > 0), low=low, high=high)
    table = table.assign(first=groups["at"].min(), last=groups["at"].max())
    return table.sort_values(["rate", "n"], ascending=False, kind="stable")


def by_ip(frame: pd.DataFrame) -> pd.DataFrame:
    """`by(frame, "mx_ip")`.

    >>> by_ip(pd.DataFrame({"mx_ip": ["192.0.2.1"], "code": [554]})).failed.to_dict()
    {'192.0.2.1': 1}
    """
    return by(frame, "mx_ip")


def _get(frame: pd.DataFrame, name: str) -> pd.Series:
    return frame[name] if name in frame else pd.Series(None, frame.index, dtype="object")
