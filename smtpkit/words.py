"""words: what the words of a log, a bounce or somebody's table say about one try, as columns of the schema.

Belongs here: code, enhanced code, lines, stage and error of a text. Not here: what a reply means (reasons).
"""

import re
from functools import lru_cache
from typing import Any

from smtpkit.address import ip_or_none, sending_ip
from smtpkit.catalogue import patterns, rows
from smtpkit.escape import visible
from smtpkit.reply import Reply

_SHAPES = patterns("words")
_STAGES = {row["words"]: row["stage"] for row in rows("log_stages.csv")}
_ERRORS = [
    (re.compile(row["words"], re.IGNORECASE), row["error"], row["stage"] or None) for row in rows("log_errors.csv")
]
"""Words, the error that they name, and the stage it means if the text names none."""
OUTCOMES = {"2": "accepted", "4": "deferred", "5": "rejected"}


def answer(text: str) -> dict[str, Any]:
    r"""`code`, `enhanced`, `reply` of a text that begins with a reply code; {} if it does not.

    Lines that a log has joined come apart again where the same code stands with a hyphen.

    >>> answer("550-5.7.26 not 550 5.7.26 today")["reply"]
    '550-5.7.26 not\n550 5.7.26 today'
    """
    text = text.strip()
    found = _SHAPES.code.match(text)
    if not found:
        return {}
    code = found[1]
    if text[3:4] == "-" and "\n" not in text:
        *first, last = re.split(rf"\s+(?={code}-)", text)
        text = "\n".join([*first, re.sub(rf"\s+(?={code}(?: |$))", "\n", last, count=1)])
    enhanced = Reply(int(code), text.encode("utf-8", "backslashreplace")).enhanced
    return {"code": int(code), "enhanced": enhanced, "reply": visible(text)}


@lru_cache(4096)
def server(text: str) -> tuple[str | None, str | None]:
    """Host and IP of a server as logs, reports and people write it; None for what is not there.

    >>> server("mx1.d.example[192.0.2.1]:25"), server("192.0.2.1:25"), server("[IPv6:2001:DB8::1]")
    (('mx1.d.example', '192.0.2.1'), (None, '192.0.2.1'), (None, '2001:db8::1'))
    """
    text = text.strip()[:300]
    found = _SHAPES.server.match(text)
    alone = re.sub(r"^(\d+(?:\.\d+){3}):\d+$", r"\1", text)
    ip = ip_or_none(found[2] if found else alone)
    host = found[1] if found and ip else "" if ip else re.split(r"[\s\[(:]", alone)[0].rstrip(".")
    return host or None, str(sending_ip(str(ip))) if ip else None


def stage(text: str) -> str | None:
    """The stage that the last "in reply to X", "after X" or "while doing X" names.

    >>> stage("lost connection with mx.example[192.0.2.1] while sending RCPT TO")
    'rcpt'
    """
    phrases = _SHAPES.when.findall(text)
    return _named(phrases[-1]) if phrases else None


@lru_cache
def _named(phrase: str) -> str | None:
    return next((stage for known, stage in _STAGES.items() if re.search(known, phrase)), None)


def ending(text: str, said: str = "", at: str | None = None) -> dict[str, Any]:
    """stage, outcome, error, maybe_delivered, code, enhanced, reply: how a try ended by the log's words.

    `text` are the MTA's own words, `said` the server's after them, `at` the stage if the caller knows it.

    >>> ending("lost connection while sending end of data")["outcome"]
    'unknown'
    """
    if replied := answer(said):
        outcome = OUTCOMES.get(str(replied["code"])[0], "failed")
        where = at or stage(text) or ("body" if outcome == "accepted" else None)
        return {"stage": where, "outcome": outcome, "maybe_delivered": outcome == "accepted", **replied}
    error, where = next(((e, s) for pattern, e, s in _ERRORS if pattern.search(text)), (None, None))
    named = at or stage(text) or where
    maybe = error in ("lost", "timeout", "reset") and "end of data" in text
    outcome = "unknown" if maybe else "failed"
    return {"stage": named, "outcome": outcome, "maybe_delivered": maybe, "error": error}
