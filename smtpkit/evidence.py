"""evidence: a result as the row that is kept of it. Not here: the frame (attempts), the store (journal)."""

import re
from collections.abc import Mapping

from smtpkit import catalogue
from smtpkit.address import ip_or_none
from smtpkit.escape import visible
from smtpkit.jobs import Heard, Result
from smtpkit.reply import Reply
from smtpkit.steps import Verdict

_HOST = re.compile(r"\[[\w:.]+\]|[\w-]+(\.[\w-]+)+\.?")  # not <unknown[198.51.100.7]>: in a refusing banner
_BRACKETED = re.compile(r"[\[(](?:IPv6:)?([0-9A-Fa-f:.]{3,45})[\])]")
_QUEUE_IDS = [re.compile(row["pattern"]) for row in catalogue.rows("queue_ids.csv")]
STAGE_TIMES = ("dns", "connect", "banner", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "body")


def queue_id(text: str) -> str | None:
    """The receiver's queue id in a final reply."""
    return next((match[1] for pattern in _QUEUE_IDS if (match := pattern.search(text))), None)


def seen_ip(text: str) -> str | None:
    """The address that a server says it sees us at, as in `250-mx1 Hello c.example [198.51.100.7]`."""
    found = (ip_or_none(match[1]) for match in _BRACKETED.finditer(re.sub(r"(?i)\bhost \S+\[", "", text)))
    return next((str(ip) for ip in found if ip), None)


def _first_word(reply: Reply | None, helo: object) -> str | None:
    """The name that banner and EHLO replies begin with (RFC 5321 4.2, 4.1.1.1), unless it is ours."""
    words = (reply.lines or ("",))[0].split() if reply and not reply.broken else []
    word = next(iter(words[bool(reply and reply.enhanced) :]), "")
    refused = reply is not None and reply.code in range(400, 600)
    quoted = word.rstrip(".").lower() == str(helo).lower() or (refused and ip_or_none(word.strip("[]")))
    return visible(word)[:255] if _HOST.fullmatch(word) and not quoted else None


def _last(result: Result, stage: str) -> Reply | None:
    return next((h.reply for h in reversed(result.heard) if h.stage == stage), None)


def row(result: Result, number: int) -> dict[str, object]:
    """What is known of recipient `number` after the session, as columns of the attempts frame."""
    verdict, fields = result.verdicts[number], result.job.fields[number]
    banner, ehlo = _last(result, "banner"), _last(result, "ehlo")
    told = "" if ehlo is None else ehlo.text.partition("\n")[0]
    seen = seen_ip(told) or (seen_ip(verdict.reply.text) if verdict.reply and verdict.stage != "body" else None)
    return {
        "session": result.session,
        "started_at": result.started_at.isoformat(timespec="microseconds"),
        "banner_host": _first_word(banner, fields.get("helo")),
        "ehlo_host": _first_word(ehlo, fields.get("helo")),
        "local_ip": result.local_ip,
        "seen_ip": seen,
        "sender_ip": fields.get("sender_ip") or seen,
        **decision(verdict),
        **({"why": result.tls_problem} if result.tls_problem and _is_ours(result, verdict) else {}),
        "anomalies": ",".join(result.anomalies) or None,
        **_tls(result),
        "latency_s": result.times.get("latency"),
        **{f"{stage}_s": result.times[stage] for stage in STAGE_TIMES if stage in result.times},
    }


def _is_ours(result: Result, verdict: Verdict) -> bool:
    """Whether what went wrong is told of our side: the server was not met, or we held something back."""
    return verdict.outcome == "withheld" or result.local_ip is None


def decision(verdict: Verdict) -> dict[str, object]:
    """The columns of the deciding reply."""
    reply = verdict.reply
    enhanced = reply.enhanced if reply and not reply.broken else None
    final = verdict.stage == "body" and verdict.outcome == "accepted"
    return {
        "stage": verdict.stage,
        "outcome": verdict.outcome,
        "maybe_delivered": final or verdict.maybe,
        "code": reply.code if reply else None,
        "enhanced": str(enhanced) if enhanced else None,
        "reply": visible(reply.shown) if reply else None,
        "error": verdict.error,
        "queue_id": queue_id(reply.text) if reply and final else None,
    }


def _tls(result: Result) -> Mapping[str, object]:
    facts, ours = result.tls, _is_ours(result, result.verdicts[0])
    problem = (facts.problem if facts else None) or (None if ours else result.tls_problem)
    told: dict[str, object] = {"tls_problem": problem and visible(problem)}
    if facts is None:
        return told | {"tls": "plain" if result.local_ip else None}
    return told | {"tls": facts.version, "tls_cipher": facts.cipher, "tls_verified": facts.verified}


def heard(seq: int, one: Heard) -> tuple[object, ...]:
    """One reply as a row of the store: seq, stage, command, code, raw, anomalies, sent_at, latency_s."""
    odd = ",".join(one.reply.anomalies)
    at = one.sent_at and one.sent_at.isoformat(timespec="microseconds")
    return (seq, one.stage, visible(one.command), one.reply.code, one.reply.raw, odd, at, one.latency_s)
