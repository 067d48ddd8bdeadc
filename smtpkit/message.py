"""message: what is sent: a MIME message as octets that never change, its envelope, a safe face.

Not here: encoding (fields, parts), DKIM (signing), what a receiver may hold against it (lint).
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.message import MIMEPart
from email.utils import format_datetime, unquote
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from smtpkit import escape, fields, parts
from smtpkit.address import mailbox, refuse_controls
from smtpkit.catalogue import render
from smtpkit.errors import listed, of_kind, one_of, pair_of, quantity, refuse
from smtpkit.lint import HIDDEN, ONCE
from smtpkit.lint import lint as _lint

_NAMED = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^<>"]*?)\s*<([^<>]*)>\s*\Z')
_NAME = re.compile(r"[!-9;-~]{1,76}\Z")  # of a header field, RFC 5322 2.2
_BOXES = ("from", "to", "cc", "reply-to", "sender")
_NOT_YOURS = (*HIDDEN, "dkim-signature", "return-path", "mime-version")


@dataclass(frozen=True, slots=True, repr=False)
class Message:
    """A message ready for DATA: its octets, and the envelope meant for them.

    `octets`: header, empty line and body with CRLF, before dot-stuffing. `sender`: the reverse-path meant for
    it, None if that is given when it is sent. `envelope_to`: the recipients meant for it, To and Cc.

    >>> m = Message.from_octets(b"From: a@ours.example\\n\\n.dot\\n")
    >>> m.octets, m.wire[-9:]
    (b'From: a@ours.example\\r\\n\\r\\n.dot\\r\\n', b'\\r\\n..dot\\r\\n')
    """

    octets: bytes
    sender: str | None = None
    envelope_to: tuple[str, ...] = ()

    @classmethod
    def from_octets(cls, octets: bytes) -> "Message":
        """An existing message, such as an .eml file: bare CR and LF become CRLF, and one CRLF ends it.

        Its envelope is given to `send`: a header is not trusted for it.
        """
        if not isinstance(octets, (bytes, bytearray, memoryview)):
            raise refuse("message", type(octets).__name__, "is not octets", 'read the file in mode "rb"')
        made = re.sub(rb"\r\n|\r|\n", b"\r\n", bytes(octets))
        return cls(made if made.endswith(b"\r\n") else made + b"\r\n")

    @property
    def wire(self) -> bytes:
        """The octets after DATA: dot-stuffed once (RFC 5321 4.5.2), ending in CRLF, without the final dot."""
        return (b"\r\n" + self.octets).replace(b"\r\n.", b"\r\n..")[2:]

    @property
    def size(self) -> int:
        """Octets as SIZE= counts them: before stuffing, without the final dot (RFC 1870 section 3)."""
        return len(self.octets)

    @property
    def body_id(self) -> str:
        """16 hex digits of SHA-256 over the wire octets after the header."""
        return sha256(parts.split(self.wire)[1]).hexdigest()[:16]

    @property
    def message_id(self) -> str | None:
        """The Message-ID with its angle brackets; None if there is none."""
        return self.header("Message-ID")

    @property
    def needs_8bit(self) -> bool:
        """Whether BODY=8BITMIME is needed (RFC 6152)."""
        return not self.octets.isascii()

    @property
    def needs_smtputf8(self) -> bool:
        """Whether SMTPUTF8 is needed: UTF-8 in the header or in an address (RFC 6531)."""
        head = parts.split(self.octets)[0].decode("utf-8", "replace")
        boxes = "".join((self.sender or "", *self.envelope_to))
        return not boxes.isascii() or (not head.isascii() and "\ufffd" not in head)

    def header(self, name: str) -> str | None:
        """The first header field of that name as text, encoded words decoded; None if there is none."""
        found = fields.read(parts.split(self.octets)[0])
        wanted = refuse_controls("name", name).lower()
        return next((text for field, text in found if field == wanted), None)

    def lint(self, size_limit: int | None = None) -> Any:
        """What a receiver may hold against it: a frame of check, status, value, limit, advice, source (all str).

        `size_limit`: the SIZE that the receiver's EHLO reply offers, octets. Asks no network.
        """
        import pandas as pd

        most = None if size_limit is None else quantity("size_limit", size_limit, whole=True)
        return pd.DataFrame(_lint(self.octets, sender=self.sender, size_limit=most), dtype="str")

    def sign(self, key: Any, selector: str, domain: str) -> "Message":
        """A new Message with a DKIM-Signature in front: see `signing.signature` for keys and errors."""
        from smtpkit.signing import signature

        return replace(self, octets=signature(self.octets, key, selector, domain) + self.octets)

    def __repr__(self) -> str:
        envelope = f"{self.sender or 'no sender yet'} to {', '.join(self.envelope_to) or 'nobody yet'}"
        subject = escape.one_line(self.header("Subject") or "")
        return f"<Message {subject!r}, {self.size:,} octets, {escape.one_line(envelope)}>"

    def _repr_html_(self) -> str | None:
        """Header and body escaped; the HTML body in a frame that runs no script and asks for nothing."""
        if not escape.options.html:
            return None
        html = (one for one in parts.texts(parts.parsed(self.octets)) if one.get_content_subtype() == "html")
        halves = (escape.decode(half[:8000]) for half in parts.split(self.octets))
        shown = (*halves, *(parts.text_of(one)[0][:8000] for one in html))
        head, body, *pages = (text.replace("\r\n", "\n") for text in shown)
        return render("message.html", title=repr(self), head=head, body=body, pages=pages)


def build_message(
    *, sender: str, to: str | Sequence[str], subject: str = "", text: Any = None, html: Any = None,
    attachments: str | Path | Mapping[str, Any] | Iterable[Any] = (), inline: Mapping[str, Any] | None = None,
    headers: Mapping[str, Any] = MappingProxyType({}), cc: str | Sequence[str] = (), charset: str = "utf-8",
) -> Message:  # fmt: skip
    """A MIME message with From, Date and Message-ID, safe for 7-bit transport.

    Parameters
    ----------
    sender, to, cc : "a@b" or "Name <a@b>", or a list of these; they are the envelope as well.
    text : str or DataFrame.
    html : str, DataFrame, matplotlib figure, or a list of these; but for a plain str, `text` is made as well.
    attachments : paths or (name, content), or a dict of name to content: octets, text, a Path, a figure, a
        DataFrame (name.csv, safe from formulas).
    inline : name to picture (octets, Path or figure), for `<img src="cid:name">` in html.
    headers : further fields, or others in place of ours; None leaves one out: `{"From": None}`.
    charset : of header and bodies, "utf-8" or "euc-kr".

    Raises InvalidInput for what cannot be sent as meant: control characters in names and values, fields that
    are not the caller's, characters that the charset lacks, pictures that html does not show.

    >>> m = build_message(sender="Jo <jo@ours.example>", to="r@daum.example", subject="안녕", text="hi")
    >>> m.header("Subject"), m.sender, m.envelope_to, m.needs_8bit
    ('안녕', 'jo@ours.example', ('r@daum.example',), False)
    """
    charset = one_of("charset", str(charset).lower(), ("utf-8", "euc-kr"), "is not supported")
    to, cc, named = listed("to", to), listed("cc", cc), 'write {"name": ...}'
    headers = of_kind("headers", headers, Mapping, named)
    inline = of_kind("inline", {} if inline is None else inline, Mapping, named)
    author, others = _boxes("sender", sender), _boxes("to", to) + _boxes("cc", cc)
    if len(author) != 1:
        instead = 'give one; more authors go into headers={"From": [...]}'
        raise refuse("sender", sender, "is not one address", instead)
    domain = author[0][1].rpartition("@")[2]
    ours = {"Date": format_datetime(datetime.now(UTC)), "From": sender, "To": to, "Cc": cc}
    ours |= {"Subject": subject, "Message-ID": f"<{uuid4().hex}@{domain}>"}
    known = {name.lower(): name for name in ours}
    fresh = {known.get(str(name).lower(), str(name)): value for name, value in headers.items()}
    head = [*_head(ours | fresh, charset), ("MIME-Version", "1.0")]
    pairs = attachments.items() if isinstance(attachments, Mapping) else listed("attachments", attachments)
    files = [parts.file_part(name, parts.as_file(name, content), charset) for name, content in map(_file, pairs)]
    root = parts.gather("mixed", [_body(text, html, inline, domain, charset), *files])
    octets = b"".join(f"{name}: {value}\r\n".encode() for name, value in head) + parts.written(root)
    leaves = sum(not part.is_multipart() for part in root.walk())
    parts.proof(octets, [*(name for name, _ in head), *root.keys()], leaves)
    return Message(octets, author[0][1], tuple(dict.fromkeys(box for _, box in others)))


def _file(one: Any) -> tuple[str, Any]:
    """Name and content of an attachment."""
    if isinstance(one, str | Path):
        return Path(one).name, Path(one)
    name, content = pair_of("attachment", one, "give a path, or (name, content)")
    return name, content


def _boxes(what: str, given: str | Sequence[str]) -> list[tuple[str, str]]:
    """(display name, normalised address) of each; the address is the one the envelope uses."""
    found = []
    for text in listed(what, given):
        named = _NAMED.match(fields.check_text(what, text))
        found.append((unquote(named[1]), mailbox(named[2], what)) if named else ("", mailbox(text, what)))
    return found


def _head(given: Mapping[str, Any], charset: str) -> Iterator[tuple[str, str]]:
    """The header fields with their values as written."""
    times = Counter(name.lower() for name in given)
    for name, value in given.items():
        key = name.lower()
        if not _NAME.match(name):
            raise refuse("header name", name, "is not 1 to 76 printable ASCII without colon", "write X-Test")
        if key in _NOT_YOURS or key.startswith("content-"):
            instead = "leave it out; who else gets it is send(to=...), the reverse-path is sender="
            raise refuse("header", name, "is not written by hand", instead)
        if key in ONCE and times[key] > 1:
            raise refuse("header", name, "may stand there once only (RFC 5322 3.6)", "give it once")
        blank = hasattr(value, "__len__") and len(value) == 0
        if value is None or (blank and (key in ("to", "cc", "subject") or not isinstance(value, str))):
            continue
        boxes = _boxes(name, value) if key in _BOXES else ()
        yield name, fields.mailboxes(name, boxes, charset) if boxes else fields.value(name, value, charset)


def _body(text: Any, html: Any, inline: Mapping[str, Any], domain: str, charset: str) -> MIMEPart:
    """Text, HTML, or both as alternatives; pictures related to the HTML."""
    text = parts.piece(text, "")[1] if parts.is_table(text) else text
    pictures = {name: parts.as_file(name, picture) for name, picture in inline.items()}
    if html is not None and not isinstance(html, str):
        pieces = html if isinstance(html, (list, tuple)) else [html]
        made = [parts.piece(thing, f"figure{n}.png") for n, thing in enumerate(pieces, 1)]
        pictures |= {f"figure{n}.png": octets for n, (_, _, octets) in enumerate(made, 1) if octets}
        html = "\n".join(page for page, _, _ in made)
        text = "\n\n".join(words for _, words, _ in made) if text is None else text
    shown: list[MIMEPart] = []
    for name, octets in pictures.items():
        cid = f"{sha256(octets).hexdigest()[:16]}.{len(shown)}@{domain}"
        html, times = re.subn(rf"(?i)cid:{re.escape(name)}(?![\w.@-])", f"cid:{cid}", html or "")
        if not times:
            raise refuse("inline", name, "is not shown by html", f'write <img src="cid:{name}" alt="..."> there')
        shown.append(parts.file_part(name if "." in name else f"{name}.png", octets, charset, cid))
    bodies = []
    if text is not None or html is None:
        bodies.append(parts.text_part("" if text is None else text, "plain", charset))
    if html is not None:
        bodies.append(parts.gather("related", [parts.text_part(html, "html", charset), *shown]))
    return parts.gather("alternative", bodies)
