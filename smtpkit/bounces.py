"""bounces: what came back as attempts frames: delivery reports (RFC 3464, 6533), and letters in free words.

Belongs here: mailboxes, reports, the words around a reply. Not here: what a text says of a try (words).
"""

import email
import mailbox
import re
from codecs import BOM_UTF8
from collections import Counter
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
from smtpkit.parts import parsed, unmarked
from smtpkit.reasons import classify

_SAYS = catalogue.patterns("bounces")
_FAILURE = re.compile("|".join(row["words"] for row in catalogue.rows("bounce_subjects.csv")), re.I)
"""What a bounce's Subject says."""
_REPORT = "text/delivery-status"
_RETURNED = ("message/rfc822", "message/global", "text/rfc822-headers")
_OUTCOMES = {"delayed": "deferred", "delivered": "accepted", "relayed": "accepted", "expanded": "accepted"}
"""What a report's Action means; any other: failed."""


class _Mail(EmailMessage):
    """A mail whose reports stay text: the email package parts them, but only if they are plain and of ASCII."""

    def get_content_type(self) -> str:
        kind = super().get_content_type()
        return _REPORT if kind in ("message/delivery-status", "message/global-delivery-status") else kind


_once = lru_cache(64)(policy.default.header_factory)  # the package parses a Content-Type dozens of times
_POLICY = policy.default.clone(header_factory=_once, message_factory=_Mail)


def read_bounces(paths: Any) -> pd.DataFrame:
    """Bounces as an attempts frame: .eml files, mbox files, maildirs and folders of these; a row per recipient.

    RFC 3464 and 6533 reports (Remote-MTA, Diagnostic-Code, Status, Action, Last-Attempt-Date), with the server's IP
    from the words beside them; and letters as Exim, qmail and others write them, as far as recipient and reply can
    be found: `reply` may be why their own MTA gave up. `vantage` is the MTA that reported, `file` the bounce; what
    gave nothing is in `.attrs["problems"]`. Raises InvalidInput if there is no such file.

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
    mails = (pair for one in given for pair in _mails(path_of("paths", one)))
    for name, message in ((name, inner) for name, mail in mails for inner in _forwarded(mail)):
        found, mute = _found(message)
        common = {"source": "bounce", "file": name, **_original(message)}  # once: a report may name thousands
        rows += [common | row for row in {tuple(one.items()): one for one in found}.values()]  # said twice: once
        why = [f"why {who} failed is not said" for who in dict.fromkeys(mute)]
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
    else:
        with path.open("rb") as file:
            first = file.read(5)
            if first != b"From ":
                yield str(path), parsed((first + file.read()).removeprefix(BOM_UTF8), _POLICY)
                return
        box = mailbox.mbox(path, create=False)
        for number, key in enumerate(box.iterkeys(), 1):
            yield f"{path}#{number}", parsed(box.get_bytes(key), _POLICY)
        box.close()


def _forwarded(mail: EmailMessage) -> list[Any]:
    """The reports that somebody has sent on as attachments, else the mail itself."""
    inside = [part.get_payload(0) for part in _own(mail) if part.get_content_type() == "message/rfc822"]
    return [one for one in inside if one.get_content_type() == "multipart/report"] or [mail]


def _found(message: EmailMessage) -> tuple[list[dict[str, Any]], list[str]]:
    """A bounce's rows: its report's, with what its words say of the server, else its words' own; who has none."""
    said = [_ended(row) for row in _plain(message)]
    known: dict[Any, dict[str, Any]] = {}
    for row in said:
        who, code = row["recipient"].lower(), row.get("code")
        known |= {who: row, (who, code): row, (who, str(code)[:1]): row}
    made = [_ended(row) for row in _reported(message)]
    times = Counter(row["recipient"].lower() for row in made if row["outcome"] != "accepted")
    for row in made:
        who, code = row["recipient"].lower(), row.get("code")
        mute = not (row["reply"] or row["error"])  # OpenSMTPD's report has no Diagnostic-Code
        alone = known.get(who, {}) if row["outcome"] != "accepted" and times[who] == 1 else {}
        more = known.get((who, str(row["dsn_log"])[:1]), alone) if mute else known.get((who, code), {})
        row |= {name: row[name] or more.get(name) for name in ("mx_ip", "mx_host", "stage")}
        words_own = ("code", "enhanced", "reply", "error") + ("outcome",) * ("code" in more) if mute else ()
        row |= {name: more[name] for name in words_own if name in more}
    marks = [_field(message, name) for name in ("From", "Return-Path", "Auto-Submitted")]
    sure = "X-Failed-Recipients" in message or not marks[0] or bool(_SAYS.daemon.search(marks[0]))
    sure = sure or bool(_FAILURE.search(_field(message, "Subject")))  # <> may be said by somebody away, too
    said = said if sure or any(map(_SAYS.daemon.search, marks)) else []
    told = [row for row in said if row.get("code") or row["error"] or row["dsn_log"] or (sure and row["reply"])]
    return made or told, [row["recipient"] for row in said if not made and row not in told]


def _field(head: Any, name: str) -> str:
    """A field as it stands, unfolded: the email package fails on some that are broken. Odd octets are Korean."""
    raw = next((str(value) for key, value in head.raw_items() if key.lower() == name.lower()), "")
    return meaning(re.sub(r"[\r\n]+[ \t]*", " ", raw).encode("utf-8", "surrogateescape"))


def _word(fields: Any, name: str) -> str:
    """A report's field without its type: `dns; mx.example` is `mx.example`."""
    return _field(fields, name).split(";", 1)[-1].strip()


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
    whole = message.get_content_type() == "multipart/report"
    for part in message.get_payload() if message.is_multipart() else []:
        if not (whole and part.get_content_type() in _RETURNED):
            yield from _own(part)


def _blocks(part: Any) -> list[Any]:
    """The blocks of fields of a report; blank lines part them."""
    lines = part.get_payload(decode=True).decode("utf-8", "surrogateescape").replace("\r\n", "\n")
    blocks = map(email.message_from_string, re.split(r"\n(?:[ \t]*\n)+", lines.strip()))
    return [block for block in blocks if block.keys()]


def _recipient(fields: Any) -> str:
    return (_word(fields, "Final-Recipient") or _word(fields, "Original-Recipient")).strip("<> ")


def _reported(message: EmailMessage) -> Iterator[dict[str, Any]]:
    """RFC 3464: the fields about the message, then those about each recipient; blank lines part them."""
    for part in _own(message):
        blocks = _blocks(part) if part.get_content_type() == _REPORT else []
        whole = next((block for block in blocks if not _recipient(block)), blocks and blocks[0])
        for fields in filter(_recipient, blocks):
            said = _SAYS.type.sub("", _field(fields, "Diagnostic-Code"))
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
    octets = body.get_payload(decode=True)
    try:
        text = octets.decode(body.get_content_charset("ascii"))
    except (LookupError, ValueError):  # or a charset that Python lacks: unknown-8bit, x-windows-949
        text = decode(octets)
    return str(text).replace("\r\n", "\n").replace("\r", "\n")


def _plain(message: EmailMessage) -> Iterator[dict[str, Any]]:
    """A bounce in free words: each address at the start of a line, with the text up to the next."""
    shown = (one for one in _own(message) if one.get_content_disposition() != "attachment")
    leaves = [one for one in shown if not one.is_multipart()]
    kinds = {one.get_content_type(): one for one in reversed(leaves)}  # get_body fails where a mail is broken
    text = _content(kinds["text/plain"]) if "text/plain" in kinds else ""
    text = text or (unmarked(_content(kinds["text/html"])) if "text/html" in kinds else "")
    text = _SAYS.copy.split(text)[0]
    for folded in (_SAYS.postfix, _SAYS.exim):
        text = folded.sub(lambda said: said[1] + said[2].replace("\n    ", " "), text)
    text, *session = _SAYS.session.split(text)
    asked = {said[1].lower(): said[2] for said in reversed([*_SAYS.asked.finditer(session[0])])} if session else {}
    places = [(place[1], place.start(), place.end()) for place in _SAYS.failed.finditer(text)]
    named = [] if places else [who for _, who in getaddresses([_field(message, "X-Failed-Recipients")]) if who]
    places += [(who, 0, 0 if len(named) == 1 else len(text)) for who in named]
    ends = [start for _, start, _ in places[1:]] + [len(text)]
    for (who, _, start), end in zip(places, ends, strict=False):
        piece = text[start : max(start, end)]
        if session and not _SAYS.coded.search(piece):  # Sendmail's dialogue stands behind all its addresses
            piece = asked.get(who.lower()) or (session[0] if len(places) == 1 else piece)
        said, bare = _SAYS.coded.search(piece), _SAYS.bare.search(piece)
        own = re.sub(r":\n{2,}\s*", ":\n", piece.strip()).partition("\n\n")[0] if start and not said else ""
        why = "" if bare or classify(own).confidence != "high" else own  # of the MTA that gave up
        mark = piece[max(0, said.start(1) - 1)] if said else ""
        reply = _SAYS.after.split(said[1])[0].strip().rstrip(mark if mark in "'\"#" else None) if said else why
        yield {"recipient": who, "said": re.sub(r"\s*\n\s*", "\n", reply), "text": piece, "action": "failed",
               "dsn_log": bare[1] if bare else None, "started_at": _when(_field(message, "Date"))}  # fmt: skip


def _original(message: EmailMessage) -> dict[str, Any]:
    """Message-ID of what was returned, and whom the bounce went to: the sender."""
    inner = next((part for part in message.walk() if part.get_content_type() in _RETURNED), None)
    payload: Any = inner.get_payload() if inner else None
    head = payload[0] if isinstance(payload, list) else email.message_from_string(str(payload or ""))
    sender = next((who for _, who in getaddresses([_field(message, "To")]) if who), None)
    return {"message_id": _field(head, "Message-ID").strip("<> ") or None, "sender": sender}


def _ended(row: dict[str, Any]) -> dict[str, Any]:
    """The deciding columns: from the server's words, else from the report's Action."""
    text, said = row.pop("text"), row.pop("said")
    before = text[: m.start(1)] if (m := _SAYS.coded.search(text)) else text  # a reply names us
    coded = said if words.answer(said) else (m[1] if (m := _SAYS.coded.search(said)) else "")
    told: dict[str, Any] = {"error": None} | words.ending(text, _SAYS.after.split(coded)[0])
    if "code" not in told and not told["error"]:
        told |= {"outcome": _OUTCOMES.get(row["action"], "failed"), "reply": said or None, "stage": None}
    if row.pop("action") == "delayed" and told["outcome"] == "failed":
        told["outcome"] = "deferred"
    bare = next((m for m in _SAYS.qmail.finditer(text) if m[1] or m.start() < len(before)), None)
    before = _SAYS.ours.sub("", before)
    named = _SAYS.server.search(before)
    ip = ip_or_none(named[1] if named else bare[2] if bare else "")
    called = _SAYS.host.search(before[max(0, named.start() - 256) : named.start()]) if named else None
    domain = row["recipient"].rpartition("@")[2].lower()
    host = row.get("mx_host") or (called and called[1])
    server = {"mx_ip": row.get("mx_ip") or (ip and str(ip)), "mx_host": host}
    return {"reply": None} | row | told | server | {"recipient_domain": domain, "domain": domain}
