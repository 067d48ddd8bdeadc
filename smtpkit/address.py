"""address: mailboxes, host names and envelopes as they may go on the wire.

Belongs here: the one place that refuses control characters, and the one normal form that guard, envelope and
header share. Not here: header syntax (fields), who may be written to (guard).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from smtpkit.errors import InvalidInput, listed, of_kind, refuse

# C0, DEL, C1, line separators, bidi marks, lone surrogates: none ever reaches the wire.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_ATOM = r"(?:[\w!#$%&'*+/=?^`{|}~-]|[^\x00-\x7f\s@])+"  # RFC 5321 4.1.2; RFC 6531 3.3: any letter and mark
_DOT_STRING = re.compile(rf"{_ATOM}(\.{_ATOM})*\Z")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"\Z')
_NAMED = re.compile(r'\s*(?:"(?:[^"\\]|\\.)*"|[^<>"]*)\s*<([^<>]*)>\s*\Z')
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\Z")
_LITERAL = re.compile(r"\[(?P<tag>ipv6:)?(?P<ip>.*)\]", re.IGNORECASE)
_PAPER = [ip_network(one) for one in "192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 2001:db8::/32 3fff::/20".split()]
MAX_LOCAL, MAX_DOMAIN, MAX_PATH = 64, 255, 254  # octets; RFC 5321 4.5.3.1


def refuse_controls(what: str, text: str) -> str:
    """`text` itself; InvalidInput if it is no text or has a control, line-separator, bidi or lone surrogate."""
    if found := _CONTROL.search(of_kind(what, text, str, "give a str")):
        where = f"has the control character U+{ord(found[0]):04X} at position {found.start()}"
        raise refuse(what, text, where, "leave it out; nothing was sent")
    return text


def host_name(what: str, text: str) -> str:
    """A host or domain name in its normal form: A-labels, lower case, no final dot (RFC 5891).

    >>> host_name("domain", "도메인.Example.")
    'xn--hq1bm8jm9l.example'
    """
    name = refuse_controls(what, text).strip().removesuffix(".")
    if not name.isascii():
        name = _a_label(what, name)
    if not name or len(name) > MAX_DOMAIN or not all(map(_LABEL.match, name.split("."))):
        raise refuse(what, text, "is not a host name", "write one like mail.example.org")
    return name.lower()


def _a_label(what: str, name: str) -> str:
    import idna

    try:
        return idna.encode(name, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise refuse(what, name, f"is not an international domain name ({error})", "write its A-label") from None


def host_or_none(text: str) -> str | None:
    """`host_name` of it; None if it is none."""
    try:
        return host_name("name", text)
    except InvalidInput:
        return None


def numeric(name: str) -> bool:
    """Whether it is written as an IP address, right or wrong, and so is no host name."""
    return ":" in name or name.replace(".", "").isdigit()


def ip_or_none(text: str) -> IPv4Address | IPv6Address | None:
    """`text` as an IP address; None if it is none, or has a zone (`fe80::1%eth0`), which may be any text."""
    try:
        return ip_address(text) if isinstance(text, str) and "%" not in text else None  # 5 would be 0.0.0.5
    except ValueError:
        return None


def sending_ip(ip: str, what: str = "ip") -> IPv4Address | IPv6Address:
    """The address that lists, SPF and PTR know: `::ffff:192.0.2.1` is IPv4 (RFC 7208 5)."""
    address = as_ip(ip, what)
    return getattr(address, "ipv4_mapped", None) or address


def is_told(ip: str) -> bool:
    """Whether others know a host by it: a global address, or one for documentation, as in the lab.

    >>> is_told("8.8.8.8"), is_told("192.0.2.1"), is_told("10.0.0.1"), is_told("here")
    (True, True, False, False)
    """
    address = ip_or_none(ip)
    return address is not None and (address.is_global or any(address in paper for paper in _PAPER))


def as_ip(ip: str, what: str = "ip") -> IPv4Address | IPv6Address:
    """`ip` as an address; InvalidInput if it is none."""
    if address := ip_or_none(ip):
        return address
    raise refuse(what, ip, "is no IP address", "write one like 192.0.2.1 or 2001:db8::1")


def literal(ip: str) -> str:
    """The address literal of `ip` (RFC 5321 4.1.3).

    >>> literal("2001:db8::1")
    '[IPv6:2001:db8::1]'
    """
    address = ip_address(ip)
    return f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"


def helo_name(text: str, what: str = "HELO name") -> str:
    """What may stand after EHLO, or after @: a host name or an address literal, in normal form.

    >>> helo_name("[192.0.2.1]"), helo_name("Mail.Ours.Example")
    ('[192.0.2.1]', 'mail.ours.example')
    """
    found = _LITERAL.fullmatch(refuse_controls(what, text).strip())
    address = ip_or_none(found["ip"]) if found else None
    fits = found and address and address.version == (6 if found["tag"] else 4)
    return literal(str(address)) if fits else host_name(what, text)


def mailbox(text: str, what: str = "address") -> str:
    """One mailbox in its normal form: local part as it is, domain as A-labels in lower case, or a literal.

    Takes `a@b`, `<a@b>` and `Name <a@b>`. InvalidInput for anything that could be read in two ways: several
    @, source routes, comments, blanks outside quotes, controls, more than 254 octets.

    >>> mailbox("Kim <r@FAULT.Example>"), mailbox("사람@도메인.example")
    ('r@fault.example', '사람@xn--hq1bm8jm9l.example')
    """
    refuse_controls(what, text)
    named = _NAMED.match(text)
    plain = (named[1] if named else text).strip()
    local, at, domain = plain.rpartition("@")
    if not at:
        raise refuse(what, text, "has no @", "write local@domain")
    if not (_DOT_STRING.match(local) or _QUOTED.match(local)):
        if re.search("@.*[,;]", local):
            raise refuse(what, text, "looks like several addresses", "give them as a list")
        raise refuse(what, text, "has a local part that is no dot-string or quoted string", "write local@domain")
    made = f"{local}@{helo_name(domain, what)}"
    if len(local.encode()) > MAX_LOCAL or len(made.encode()) > MAX_PATH:
        raise refuse(what, text, f"has over {MAX_LOCAL} octets before the @ or {MAX_PATH} in all", "shorten it")
    return made


def reverse_path(text: str) -> str:
    """A sender's mailbox in its normal form; "" for the null reverse-path, taken only when written `<>`."""
    if not isinstance(text, str) or not text.strip():
        raise refuse("sender", text, "is empty", "write me@your.domain, or '<>' for the null reverse-path")
    return "" if text.strip() == "<>" else mailbox(text, "sender")


def mailbox_or_none(text: str) -> str | None:
    """`mailbox` of it; None if it is none."""
    try:
        return mailbox(text)
    except InvalidInput:
        return None


def domain_of(address: str | None) -> str | None:
    """The domain of a normalised mailbox; None for none and for the null reverse-path."""
    return address.rpartition("@")[2] if address else None


@cache
def _suffixes() -> Any:
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList()


def organisation(domain: str) -> str:
    """The organisational domain by the Public Suffix List; a public suffix is its own.

    >>> organisation("mail.Ours.co.kr"), organisation("co.kr")
    ('ours.co.kr', 'co.kr')
    """
    return str(_suffixes().privatesuffix(domain.lower()) or domain.lower())


@dataclass(frozen=True, slots=True)
class Envelope:
    """Reverse-path and recipients, normalised; what guard, MAIL and RCPT all see.

    `sender` "" is the null reverse-path `<>`, taken only when written so. Raises InvalidInput.

    >>> Envelope.of("Me <me@ours.example>", ["r@daum.example"]).mail
    b'MAIL FROM:<me@ours.example>'
    """

    sender: str
    recipients: tuple[str, ...]

    @classmethod
    def of(cls, sender: str, recipients: str | Sequence[str]) -> "Envelope":
        """Check and normalise; a str is one recipient; the same mailbox twice is one recipient."""
        named = listed("recipients", recipients)
        if not named:
            raise InvalidInput("no recipient given; name at least one, such as to='you@example.org'")
        return cls(reverse_path(sender), tuple(dict.fromkeys(mailbox(one, "recipient") for one in named)))

    @property
    def needs_smtputf8(self) -> bool:
        """Whether an address is not ASCII (RFC 6531); a domain never is here."""
        return not "".join((self.sender, *self.recipients)).isascii()

    @property
    def mail(self) -> bytes:
        """MAIL without parameters and line end (RFC 5321 3.3: no blank after the colon)."""
        return f"MAIL FROM:<{self.sender}>".encode()

    @property
    def rcpts(self) -> tuple[bytes, ...]:
        """RCPT for each recipient, without parameters and line end."""
        return tuple(f"RCPT TO:<{one}>".encode() for one in self.recipients)
