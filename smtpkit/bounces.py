"""bounces: what came back as attempts frames: delivery reports (RFC 3464), and plain letters in free words.

Belongs here: mailboxes, reports, the words around a reply. Not here: what a text says of a try (words), subjects in
many languages (data/bounce_subjects.csv).
"""

import email
import mailbox
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.utils import getaddresses, parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from smtpkit import attempts, catalogue, words
from smtpkit.address import ip_or_none
from smtpkit.errors import listed, path_of, refuse
from smtpkit.escape import decode
from smtpkit.fields import meaning
from smtpkit.parts import parsed

_POLICY = policy.default.clone(header_factory=lru_cache(64)(policy.default.header_factory))
"""The email package parses a field at each look: a Content-Type dozens of times."""
_SMTP = re.compile(r"(?:x-)?smtp[^;]*;\s*", re.I)
_SERVER = re.compile(r"[\[(](?:IPv6:)?([0-9A-Fa-f.:]{4,40})[\]),]")
_BEFORE = re.compile(r"([\w-]+(?:\.[\w-]+)+)\.? ?$")
_QMAIL = re.compile(r"(?m)^(?:Connected to |Giving up on )?(\d{1,3}(?:\.\d{1,3}){3})\b")
_CODED = re.compile(r"(?m)(?:^|[\s:>])([245]\d\d[ -](?:.*\n?)(?:\s*[245]\d\d[ -].*\n?)*)")
_BARE = re.compile(r"\(#([45]\.\d{1,3}\.\d{1,3})\)")
_FAILED = re.compile(r"(?m)^[ \t]*<?([^\s<>@:]+@[\w.-]+\w)>?(?::|[ \t]*$|\s*\()")
_FOLDED = re.compile(r"(?m)^<[^\s<>]+>: .*(?:\n {4}\S.*)+")
_COPY = re.compile(r"(?im)^(?:-+ .*(?:copy|original|returned|below).*|Return-path:|Received:)")
_SESSION = re.compile(r"(?im)^[ \t]*-+ Transcript of session follows -+")
_ASKED = re.compile(r"(?i)RCPT To:\s*<([^\s<>]+)>.*((?:\n<<< .*)+)")
_DAEMON = re.compile(r"mailer-daemon|MicrosoftExchange|postmaster|mail.?delivery|^<>$|^auto-", re.I)
_FAILURE = re.compile("|".join(row["words"] for row in catalogue.rows("bounce_subjects.csv")), re.I)
"""What a bounce's From, Return-Path or Auto-Submitted says, and its Subject."""
_RETURNED = ("message/rfc822", "message/global", "text/rfc822-headers")
_OUTCOMES = {"delayed": "deferred", "delivered": "accepted", "relayed": "accepted", "expanded": "accepted"}
"""What a report's Action means; any other: failed."""


def read_bounces(paths: Any) -> pd.DataFrame:
    """Bounces as an attempts frame: .eml files, mbox files, maildirs and folders of these; a row per recipient.

    RFC 3464 reports (Remote-MTA, Diagnostic-Code, Status, Action, Last-Attempt-Date), with the server's IP from
    the words beside them; and plain ones as Exim, qmail and others write them, as far as a recipient and a reply
    can be found. `vantage` is the MTA that reported, `file` the bounce. `.attrs["problems"]` names the mails and
    recipients of which nothing could be read. Raises InvalidInput if there is no such file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "b.eml")
    ...     written = path.write_text("Subject: failure\\n\\n<r@d.example>:\\n550 5.1.1 no such user\\n")
    ...     read_bounces(path)[["recipient", "code"]].values.tolist()
    [['r@d.example', 550]]
    """
    given = listed("paths", paths)
    if not given or "" in given:
        raise refuse("paths", paths, "names no file", "give a mail, an mbox or a folder; '.' is this one")
    rows: list[dict[str, Any]] = []
    problems = attempts.Remarks()
    for name, message in (pair for one in given for pair in _mails(path_of("paths", one))):
        found, mute = _found(message)
        common = {"source": "bounce", "file": name, **_original(message)}  # once: a report may name thousands
        rows += [common | row for row in found]
        why = [f"why {who} failed is not said" for who in mute]
        why += ["no failed recipient was found"] * (not found and not mute)
        problems += [{"why": one, "count": 1, "lines": [], "text": name} for one in why]
    made = attempts.classified(attempts.frame(rows))
    made.attrs = {"smtpkit": {"source": "bounce"}, "problems": problems, "notes": []}
    return made


def _mails(path: Path) -> Iterator[tuple[str, EmailMessage]]:
    if path.is_dir():
        for inner in sorted(p for p in path.rglob("*") if p.is_file()):
            yield from _mails(inner)
    elif not path.is_file():
        raise refuse("paths", str(path), "names no file", "give .eml files, an mbox, a maildir or a folder")
    elif _begins(path, b"From "):
        box = mailbox.mbox(path, create=False)
        for number, key in enumerate(box.iterkeys(), 1):
            yield f"{path}#{number}", parsed(box.get_bytes(key), _POLICY)
        box.close()
    else:
        yield str(path), parsed(path.read_bytes(), _POLICY)


def _begins(path: Path, octets: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(octets)) == octets


def _found(message: EmailMessage) -> tuple[list[dict[str, Any]], list[str]]:
    """A bounce's rows: its report's, with what its words say of the server, else its words' own; who has none."""
    said = [_ended(row) for row in _plain(message)]
    known = {(row["recipient"].lower(), row.get("code")): row for row in said}
    for row in (made := [_ended(row) for row in _reported(message)]):
        more = known.get((row["recipient"].lower(), row.get("code")), {})
        row |= {name: row[name] or more.get(name) for name in ("mx_ip", "mx_host", "stage")}
    marks = [_field(message, name) for name in ("From", "Return-Path", "Auto-Submitted")]
    is_bounce = "X-Failed-Recipients" in message or any(map(_DAEMON.search, marks))
    is_bounce = is_bounce or not marks[0] or bool(_FAILURE.search(_field(message, "Subject")))
    told = [row for row in said if row.get("code") or row["error"] or row["dsn_log"]] if is_bounce else []
    return made or told, [row["recipient"] for row in said if not made and is_bounce and row not in told]


def _field(head: Any, name: str) -> str:
    """A field as it stands, unfolded: the email package fails on some that are broken. Odd octets are Korean."""
    raw = next((str(value) for key, value in head.raw_items() if key.lower() == name.lower()), "")
    return meaning(re.sub(r"\r?\n", "", raw).encode("utf-8", "surrogateescape"))


def _word(fields: Any, name: str) -> str:
    """A report's field without its type: `dns; mx.example` is `mx.example`."""
    text = _field(fields, name)
    return text.partition(";")[2].strip() if ";" in text else text


def _when(text: str) -> datetime | None:
    """A time, by RFC 5322 or ISO; None if it is none, or of a zone that only its writer knows."""
    text = re.sub(r"KST$", "+0900", text.strip())
    for way in (parsedate_to_datetime, datetime.fromisoformat):
        with suppress(ValueError, TypeError):
            at = way(text)
            odd = at.tzinfo is None and text[-1:].isalpha()
            return None if odd else at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
    return None


def _own(message: Any) -> Iterator[Any]:
    """The parts that speak of the failure: not the letter that a report returns, which may claim anything."""
    yield message
    kind = message.get_content_type()
    for part in message.get_payload() if message.is_multipart() and kind != "message/delivery-status" else []:
        if kind != "multipart/report" or part.get_content_type() not in _RETURNED:
            yield from _own(part)


def _recipient(fields: Any) -> str:
    return _word(fields, "Final-Recipient") or _word(fields, "Original-Recipient")


def _reported(message: EmailMessage) -> Iterator[dict[str, Any]]:
    """RFC 3464: the fields about the message, then those about each recipient; blank lines part them."""
    for part in _own(message):
        given: Any = part.get_payload() if part.get_content_type() == "message/delivery-status" else []
        blocks = [block for block in given if block.keys()] if isinstance(given, list) else []
        whole = next((block for block in blocks if not _recipient(block)), blocks and blocks[0])
        for fields in filter(_recipient, blocks):
            said = _SMTP.sub("", _field(fields, "Diagnostic-Code"), count=1)
            server = words.server(_word(fields, "Remote-MTA"))
            known = _field(fields, "Last-Attempt-Date"), _field(message, "Date"), _field(whole, "Arrival-Date")
            yield {
                "recipient": _recipient(fields), "mx_host": server[0], "mx_ip": server[1],
                "vantage": _word(whole, "Reporting-MTA") or None,
                "started_at": next(filter(None, map(_when, known)), None),
                "said": said, "text": f"{_word(fields, 'Remote-MTA')} {said}",
                "action": _field(fields, "Action").lower(), "dsn_log": _word(fields, "Status") or None,
            }  # fmt: skip


def _content(body: Any) -> str:
    """The text of a part; one that is not of the charset it claims is Korean."""
    try:
        text = str(body.get_content())
    except (LookupError, ValueError):  # a charset that Python lacks: unknown-8bit, x-windows-949
        text = "\ufffd"
    octets = body.get_payload(decode=True)
    return (decode(octets) if "\ufffd" in text else text).replace("\r\n", "\n")


def _plain(message: EmailMessage) -> Iterator[dict[str, Any]]:
    """A bounce in free words: each address at the start of a line, with the text up to the next."""
    body = message.get_body(("plain",))
    text = _COPY.split(_content(body) if body and not body.is_multipart() else "")[0]
    text = _FOLDED.sub(lambda folded: folded[0].replace("\n    ", " "), text)  # as Postfix folds its lines
    text, *session = _SESSION.split(text)
    asked = {said[1].lower(): said[2] for said in reversed([*_ASKED.finditer(session[0])])} if session else {}
    places = [*_FAILED.finditer(text)]
    ends = [place.start() for place in places[1:]] + [len(text)]
    for place, end in zip(places, ends, strict=False):
        piece = text[place.end() : end]
        if session and not _CODED.search(piece):  # Sendmail's dialogue stands behind all its addresses
            piece = asked.get(place[1].lower()) or (session[0] if len(places) == 1 else piece)
        said, bare = _CODED.search(piece), _BARE.search(piece)
        reply = said[1].partition(" (in reply to")[0].strip() if said else ""
        yield {"recipient": place[1], "said": re.sub(r"\s*\n\s*", "\n", reply), "text": piece, "action": "failed",
               "dsn_log": bare[1] if bare else None, "started_at": _when(_field(message, "Date"))}  # fmt: skip


def _original(message: EmailMessage) -> dict[str, Any]:
    """Message-ID of what was returned, and whom the bounce went to: the sender."""
    inner = next((part for part in message.walk() if part.get_content_type() in _RETURNED), None)
    payload: Any = inner.get_payload() if inner else None
    head = payload[0] if isinstance(payload, list) else email.message_from_string(str(payload or ""))
    to = getaddresses([_field(message, "To")])
    sender = to[0][1] or None if to else None
    return {"message_id": _field(head, "Message-ID").strip("<> ") or None, "sender": sender}


def _ended(row: dict[str, Any]) -> dict[str, Any]:
    """The deciding columns: from the server's words, else from the report's Action."""
    text, said = row.pop("text"), row.pop("said")
    before = text[: m.start(1)] if (m := _CODED.search(text)) else text  # a reply names us
    coded = said if words.answer(said) else (m[1] if (m := _CODED.search(said)) else "")
    told: dict[str, Any] = {"error": None} | words.ending(text, coded)
    if "code" not in told and not told["error"]:
        told |= {"outcome": _OUTCOMES.get(row["action"], "failed"), "reply": said or None, "stage": None}
    if row.pop("action") == "delayed" and told["outcome"] == "failed":
        told["outcome"] = "deferred"
    named, bare = _SERVER.search(before), _QMAIL.search(text)
    ip = ip_or_none(named[1] if named else bare[1] if bare else "")
    called = _BEFORE.search(before[max(0, named.start() - 256) : named.start()]) if named else None
    domain = row["recipient"].rpartition("@")[2].lower()
    host = row.get("mx_host") or (called[1] if called else None)
    server = {"mx_ip": row.get("mx_ip") or (ip and str(ip)), "mx_host": host}
    return {"reply": None} | row | told | server | {"recipient_domain": domain, "domain": domain}
