"""reply: octets from a server become Reply values. Not here: sockets, clocks, what a reply means."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from smtpkit.escape import charset, decode, options, pre

# RFC 5321 4.2: Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF.
# Any three ASCII digits pass: 571 and 999 are seen; what is outside the grammar is noted as `bad_code`.
_LINE = re.compile(rb"([0-9]{3})(?:([ -]).*)?", re.DOTALL)
_CODE = re.compile(r"^[0-9]{3}(?:[ -]|$)", re.MULTILINE)
_ENHANCED = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?![.0-9]\S*|\w)")  # RFC 3463, RFC 2034
MAX_LINE, MAX_LINES, MAX_REPLY = 8192, 128, 65536  # octets, lines, octets; RFC 5321 4.5.3.1.5 asks for 512 a line
MAX_SESSION = 1_000_000
"""Octets of all replies of one session; a whole good dialogue needs about 1,000."""
BROKEN = frozenset({"garbage", "too_long", "mixed_codes", "bad_code"})
"""Anomalies after which a reply decides nothing and the connection is closed."""


class EnhancedCode(str):
    """RFC 3463: class, subject and detail, as text.

    >>> EnhancedCode.read("5.7.1 blocked", 550), EnhancedCode.read("4.7.1 odd", 550)
    ('5.7.1', None)
    """

    __slots__ = ()
    class_ = property(lambda self: int(self.split(".")[0]))
    subject = property(lambda self: int(self.split(".")[1]))
    detail = property(lambda self: int(self.split(".")[2]))

    @classmethod
    def read(cls, text: str, code: int | None) -> "EnhancedCode | None":
        """The enhanced code at the start of `text`, if its class is the first digit of `code` (RFC 2034)."""
        match = _ENHANCED.match(text)
        if match is None or match[1] != str(code)[0]:
            return None
        return cls(".".join(str(int(number)) for number in match.groups()))


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply as it came; what can be derived is a property.

    >>> r = Reply(550, b"550-5.7.1 no\\r\\n550 5.7.1 sorry\\r\\n")
    >>> r.lines, r.enhanced
    (('5.7.1 no', '5.7.1 sorry'), '5.7.1')
    """

    code: int | None
    """The last line's three digits; None: no reply (garbage, or a cap was passed), never a refusal."""
    raw: bytes = b""
    """Every octet as it came, line ends too."""
    anomalies: tuple[str, ...] = ()
    """What broke the grammar, in order; empty for a clean reply."""

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines' texts: UTF-8, else EUC-KR; code and separator taken off where they fit the grammar."""
        return tuple(self.text.split("\n")) if self.raw else ()

    @property
    def text(self) -> str:
        """All lines' texts, joined by LF."""
        return _CODE.sub("", self.shown)

    @property
    def shown(self) -> str:
        """The verbatim reply, codes included, lines joined by LF, without the last line end."""
        return decode(self.raw.replace(b"\r\n", b"\n").removesuffix(b"\n"))

    @property
    def enhanced(self) -> EnhancedCode | None:
        """The first line's enhanced code whose class fits the code; None if no line has one."""
        return next((one for line in self.lines if (one := EnhancedCode.read(line, self.code))), None)

    def _repr_html_(self) -> str | None:
        odd = f"\n({', '.join(self.anomalies)})" if self.anomalies else ""
        return pre(self.shown + odd or "(no reply)") if options.html else None

    @property
    def broken(self) -> bool:
        """Whether this cannot count as an answer: no code, garbage, mixed codes, a cap passed."""
        return self.code is None or not BROKEN.isdisjoint(self.anomalies)


class ReplyReader:
    """Octets in, replies out; no socket, no clock.

    Bare LF ends a line (noted), a textless last line ends a reply (RFC 5321 4.2.1), a line that is no reply
    line ends it at once as garbage: what follows could not be paired with a command any more.

    >>> reader = ReplyReader()
    >>> reader.feed(b"220 mx1.example ESM"); reader.next()
    >>> reader.feed(b"TP\\r\\n"); reader.next().code
    220
    """

    def __init__(self) -> None:
        self._buffer, self._lines, self._total = bytearray(), list[bytes](), 0

    @property
    def pending(self) -> bool:
        """Whether octets lie here that no reply has used."""
        return bool(self._buffer or self._lines)

    def feed(self, octets: bytes) -> None:
        """Take octets as they came from the server."""
        self._total += len(octets)
        if self._total <= MAX_SESSION:  # nobody may be there to ask for replies
            self._buffer += octets

    def clear(self) -> None:
        """Forget everything unread, as before TLS (RFC 3207 section 6)."""
        self._buffer.clear()
        self._lines.clear()

    def next(self) -> Reply | None:
        """The next whole reply, or None while more octets are needed."""
        while end := self._buffer.find(b"\n") + 1:
            if self._over(end):
                break
            line = bytes(self._buffer[:end])
            del self._buffer[:end]
            self._lines.append(line)
            match = _LINE.fullmatch(line[:-1].removesuffix(b"\r"))
            if match is None:
                return self._end(None, "garbage")
            if match[2] != b"-":
                return self._end(int(match[1]))
        return self._end(None, "too_long") if self._over(end or len(self._buffer)) else None

    def _over(self, line: int) -> bool:
        """Whether one more line, so far of that many octets, passes a cap."""
        whole = sum(map(len, self._lines)) + line
        return line > MAX_LINE or len(self._lines) >= MAX_LINES or whole > MAX_REPLY or self._total > MAX_SESSION

    def _end(self, code: int | None, *why: str) -> Reply:
        lines, self._lines = self._lines, []
        if why == ("too_long",):
            lines.append(bytes(self._buffer[:MAX_LINE]))
            self.clear()
        return Reply(code, b"".join(lines), why if code is None else _odd(lines, code))


def _odd(lines: Sequence[bytes], code: int) -> tuple[str, ...]:
    """What is outside the grammar in a reply that ended with `code`."""
    seen = {
        "bare_lf": not all(line.endswith(b"\r\n") for line in lines),
        "mixed_codes": len({line[:3] for line in lines}) > 1,
        "bad_code": not 100 <= code <= 599,
        "no_text": not any(line[4:].strip() for line in lines),
        "undecodable": charset(b"".join(lines)) == "ascii",
    }
    return tuple(name for name, true in seen.items() if true)
