"""voices: which failed attempts were answered alike, and what kind of answer that is.

A voice is a reply with its changing parts (addresses, ids, numbers) taken out; a server that refuses for one
reason speaks with one or two voices. Not here: the meaning of one reply (reasons), who is guilty (hypotheses).
"""

import json
import re
from functools import cache
from itertools import repeat
from typing import Any

import numpy as np
import pandas as pd

from smtpkit import catalogue
from smtpkit.counts import endings
from smtpkit.reasons import MOST as MOST_READ
from smtpkit.reasons import classify

MOST = 40
"""Voices told apart; the rarer ones, and those heard once, are heard as one voice of their sound."""
_DATES = "mon tue wed thu fri sat sun jan feb mar apr may jun jul aug sep oct nov dec am pm"
_CHANGING = re.compile(rf"[\d@]|.\..|[a-z][A-Z]|(?i:\b({_DATES.replace(' ', '|')})\b)")
_GIVEN = ("reply", "error", "stage", "enhanced", "sender_ip", "local_ip", "reason")


@cache
def priors() -> dict[str, Any]:
    """What is believed before a frame is seen: data/diagnosis.json."""
    found: dict[str, Any] = json.loads(catalogue.data("diagnosis.json").read_text("utf-8"))
    return found


def sound(text: str, code: int, enhanced: str = "", stage: str = "", ours: str = "", reason: str = "") -> str:
    """What kind of answer a failed reply is; code 0: there was none, and `text` is our own error."""
    if not code and text:
        return _first("sound_of_error", f"{text} {stage}")
    told = classify(text, code, enhanced or None, stage or None) if text else None
    if told and told.reason != "unknown":  # else what the frame says of it
        reason = told.reason if told.confidence == "high" else ""
    found = str(priors()["sound_of_reason"].get(reason, ""))
    if found == "block" and re.search(priors()["listed"], text, re.IGNORECASE):
        return "listed"
    barred = found == "grey" and re.search("(black|block|deny)-?list", text, re.IGNORECASE)
    if ours and ours in text and (barred or found in ("", "busy", "tls", "recipient")):  # no fault of its own
        return "block"
    if found == "content" and code < 500:  # who dislikes a content says so for good
        return "vague4"
    return found or _first("sound_of_code", f"{code} {enhanced} {stage}")


def _first(table: str, text: str) -> str:
    """The sound of the first pattern in a table of data/diagnosis.json that fits."""
    return next(str(name) for pattern, name in priors()[table] if re.search(pattern, text))


def hear(rows: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
    """The voice of each row (-1: got through), and a table of the voices: sound, text (an example), n."""
    failed = endings(rows).ne("ok").to_numpy(bool)
    number, said = _said(rows[failed])
    table = pd.DataFrame(said, columns=["text", "sound"]).assign(n=np.bincount(number, minlength=len(said)))
    place = table.n.rank(method="first", ascending=False)
    final = pd.factorize(table.sound.where((place > MOST) | (table.n < 2), place.astype("str")))[0]
    voice = np.full(len(rows), -1)
    voice[failed] = final[number]
    firsts = np.unique(final, return_index=True)[1]
    kept = table.iloc[firsts].reset_index(drop=True)
    return voice, kept.assign(n=np.bincount(final, table.n, len(kept)).astype("int64"))


def _said(bad: pd.DataFrame) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """By failed row the number of what it says (code, words, reason); of each the first text, and its sound."""
    code = pd.to_numeric(bad["code"], errors="coerce") if "code" in bad else pd.Series(0, bad.index)
    codes = code.to_numpy("float64", na_value=0).astype("int64").tolist()
    given = [bad[n].astype("str").to_numpy(object, na_value="") if n in bad else repeat("") for n in _GIVEN]
    number, told, shapes = dict[tuple[int, str, str], int](), list[tuple[str, str]](), dict[str, str]()
    numbers = np.empty(len(bad), "int64")
    failed = enumerate(zip(codes, *given, strict=False))
    for row, (code, reply, error, stage, enhanced, sender, local, reason) in failed:
        code, text = (code, reply) if code >= 400 else (0, error)
        shape = shapes[text] if text in shapes else shapes.setdefault(text, _shape(text))
        key = (code, shape if code else f"{text} at {stage}", reason)
        numbers[row] = number.setdefault(key, len(number))
        if len(told) < len(number):
            told.append((text, sound(text, code, enhanced, stage, sender or local, reason)))
    return numbers, told


def _shape(text: str) -> str:
    """A text without what changes from reply to reply: dates, words with a digit, an @, a dot or capital within."""
    return " ".join("#" if _CHANGING.search(word) else word for word in text[:MOST_READ].split())
