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
from email.message import Message
from email.policy import compat32
from email.utils import getaddresses, parsedate_to_datetime
from pathlib import Path
from typing import Any

import pandas as pd

from smtpkit import attempts, catalogue, words
from smtpkit.address import ip_or_none
from smtpkit.errors import listed, path_of, refuse
from smtpkit.fields import meaning
from smtpkit.parts import parsed, shown, text_of, texts, unmarked
from smtpkit.reasons import classify

_SAYS = catalogue.patterns("bounces")
_FAILURE = re.compile("|".join(row["words"] for row in catalogue.rows("bounce_subjects.csv")), re.I)
"""What a bounce's Subject says."""
_REPORT = "text/delivery-status"
_RETURNED = ("message/rfc822", "message/global", "text/rfc822-headers")
_OUTCOMES = dict.fromkeys(("delivered", "relayed", "expanded"), "accepted")
"""What a report's Action means (RFC 3464 2.3.3); any other: failed."""
_BESIDE = ("mx_ip", "mx_host", "stage", "code", "enhanced", "reply", "error")


class _Mail(Message):
    """A mail whose reports stay text: the email package parts them, but only if they are plain and of ASCII."""

    def get_content_type(self) -> str:
        kind = super().get_content_type()
        return _REPORT if kind in ("message/delivery-status", "message/global-delivery-status") else kind


_POLICY = compat32.clone(message_factory=_Mail)


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


def _mails(path: Path) -> Iterator[tuple[str, Message]]:
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


def _forwarded(mail: Message) -> list[Any]:
    """The reports that somebody has sent on as attachments; else, and if it is a report, the mail itself."""
    kinds = [(part.get_content_type(), part) for part in shown(mail)]
    inside = [part.get_payload(0) for kind, part in kinds if kind == "message/rfc822"]
    reports = [one for one in inside if one.get_content_type() == "multipart/report"]
    return [mail] if "multipart/report" in dict(kinds) else reports or [mail]


def _found(message: Message) -> tuple[list[dict[str, Any]], list[str]]:
    """A bounce's rows: its report's, else those of its words; and who failed without a word why."""
    said, made = ([_ended(row) for row in way(message)] for way in (_plain, _reported))
    if made:
        return _completed(made, said), []
    sender, *more = (_field(message, name) for name in ("From", "Return-Path", "Auto-Submitted"))
    sure = "X-Failed-Recipients" in message or not sender or bool(_SAYS.daemon.search(sender))
    sure = sure or bool(_FAILURE.search(_field(message, "Subject")))  # <> may be said by somebody away, too
    if not sure and not any(map(_SAYS.daemon.search, more)):
        return [], []
    told = [row for row in said if row.get("code") or row["error"] or row["dsn_log"] or (sure and row["reply"])]
    return told, [row["recipient"] for row in said if row not in told]


def _completed(made: list[dict[str, Any]], said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A report's rows with what the words beside it say of the same end; OpenSMTPD's report has no reply."""
    known: dict[Any, dict[str, Any]] = {}
    for row in said:
        who, code = row["recipient"].lower(), row.get("code")
        known |= {who: row, (who, code): row, (who, str(code)[:1]): row}
    failed = [row for row in made if row["outcome"] != "accepted"]
    times = Counter(row["recipient"].lower() for row in failed)
    for row in failed:
        who, mute = row["recipient"].lower(), not (row["reply"] or row["error"])
        more = known.get((who, str(row["dsn_log"])[:1] if mute else row.get("code")), {})
        more = known.get(who, {}) if mute and not more and times[who] == 1 else more
        row["outcome"] = more["outcome"] if mute and "code" in more else row["outcome"]
        row |= {name: row.get(name) or more.get(name) for name in _BESIDE}
    return made


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


def _blocks(part: Any) -> list[Any]:
    """The blocks of fields of a report; blank lines part them."""
    lines = part.get_payload(decode=True).decode("utf-8", "surrogateescape").replace("\r\n", "\n")
    blocks = map(email.message_from_string, re.split(r"\n(?:[ \t]*\n)+", lines.strip()))
    return [block for block in blocks if block.keys()]


def _recipient(fields: Any) -> str:
    return (_word(fields, "Final-Recipient") or _word(fields, "Original-Recipient")).strip("<> ")


def _reported(message: Message) -> Iterator[dict[str, Any]]:
    """RFC 3464: the fields about the message, then those about each recipient; blank lines part them."""
    for part in shown(message):
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
                "text": said, "why": said,
                "action": _field(fields, "Action").lower(), "dsn_log": _word(fields, "Status") or None,
            }  # fmt: skip


def _plain(message: Message) -> Iterator[dict[str, Any]]:
    """A bounce in free words: each address at the start of a line, with the text up to the next."""
    shows = {part.get_content_subtype(): text_of(part)[0] for part in reversed(texts(message))}
    text = re.sub("\r\n?", "\n", shows.get("plain") or unmarked(shows.get("html", "")))
    text = _SAYS.copy.split(text)[0]
    for folded in (_SAYS.postfix, _SAYS.exim):
        text = folded.sub(lambda said: said[1] + said[2].replace("\n    ", " "), text)
    text, *more = _SAYS.session.split(text)
    session = "".join(more)
    asked = {who.lower(): said for who, said in reversed(_SAYS.asked.findall(session))}
    _, *parts = _SAYS.failed.split(text)
    named = [] if parts else [who for _, who in getaddresses([_field(message, "X-Failed-Recipients")]) if who]
    pairs = [*zip(parts[::2], parts[1::2], strict=True), *((who, text if len(named) == 1 else "") for who in named)]
    for who, piece in pairs:
        if not _SAYS.coded.search(piece):  # Sendmail's dialogue stands behind all its addresses
            piece = asked.get(who.lower()) or (session if len(pairs) == 1 else "") or piece
        bare = _SAYS.bare.search(piece)
        own = re.sub(r":\n{2,}\s*", ":\n", piece.strip()).partition("\n\n")[0] if parts and not bare else ""
        why = own if classify(own).confidence == "high" else ""  # of the MTA that gave up
        yield {"recipient": who, "text": piece, "why": why, "action": "failed", "dsn_log": bare and bare[1],
               "started_at": _when(_field(message, "Date"))}  # fmt: skip


def _original(message: Message) -> dict[str, Any]:
    """Message-ID of what was returned, and whom the bounce went to: the sender."""
    inner = next((part for part in message.walk() if part.get_content_type() in _RETURNED), None)
    payload: Any = inner.get_payload() if inner else None
    head = payload[0] if isinstance(payload, list) else email.message_from_string(str(payload or ""))
    sender = next((who for _, who in getaddresses([_field(message, "To")]) if who), None)
    return {"message_id": _field(head, "Message-ID").strip("<> ") or None, "sender": sender}


def _ended(row: dict[str, Any]) -> dict[str, Any]:
    """The deciding columns: from the server's words, else from the report's Action."""
    text, said = row.pop("text"), row.pop("why")
    before = text
    if found := _SAYS.coded.search(text):
        before, mark = text[: found.start(1)], text[max(0, found.start(1) - 1)]
        said = _SAYS.after.split(found[1])[0].strip().rstrip(mark if mark in "'\"#" else None)
    said = re.sub(r"\s*\n\s*", "\n", said)
    told: dict[str, Any] = {"error": None} | words.ending(text, said)
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
