"""fields: header fields as octets: encoded, folded and checked by us, whatever the Python; and read back.

Not here: bodies (parts), which fields a message needs (message).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from email.charset import BASE64, Charset
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.utils import quote
from itertools import chain, groupby, repeat

from smtpkit.address import refuse_controls
from smtpkit.errors import refuse
from smtpkit.escape import decode

LINE = 998
"""Octets of a line without its CRLF (RFC 5322 2.1.1, RFC 5321 4.5.3.1.6)."""
FOLD = 76
"""Where lines are folded: the limit of a line with an encoded word (RFC 2047 section 2)."""
_ATOMS = re.compile(r"[\w!#$%&'*+/=?^`{|}~-]+( [\w!#$%&'*+/=?^`{|}~-]+)*\Z", re.ASCII)  # RFC 5322 3.2.3
_ASCII = re.compile(r"(?i)((resent-)?(message-id|date)|in-reply-to|references|list-unsubscribe(-post)?)\Z")
_URI = r"(?i)<(?:\S+@|[a-z][\w+.-]*:)[^<>]*[^\x00-\x7f<>][^<>]*>"
_KOREAN = re.compile(r"(?i)(cs)?(euc[-_]?kr|ks_?c_?5601.*|cp949|(x-)?windows-949|korean)\Z")
_FREE = re.compile(r"(?i)(subject|comments|x-.*)\Z")  # unstructured: blanks count there


def check_text(what: str, text: str) -> str:
    """Text that may stand in a header: no control character or line separator; InvalidInput else.

    TAB passes, and so do the joiners and direction marks of emoji, Persian, Arabic and Hebrew.
    """
    refuse_controls(what, re.sub("[\t\u200c-\u200f]", "", text) if isinstance(text, str) else text)
    return text


def encode(what: str, text: str, charset: str) -> bytes:
    """`text` in utf-8 or euc-kr; InvalidInput names the first character that it lacks."""
    try:
        octets = text.encode(charset)
        if charset != "euc-kr" or octets == text.encode("cp949"):
            return octets
        # Python writes a syllable that KS X 1001 lacks in parts, and mail readers show those
        lacks = next(letter for letter in text if len(letter.encode(charset)) > 2)
    except UnicodeEncodeError as error:
        lacks = text[error.start]
    instead = 'choose charset="utf-8", or another character'
    raise refuse("character", lacks, f"is not in {charset} ({what})", instead)


def encoded_words(name: str, text: str, charset: str) -> list[str]:
    """`text` as base64 encoded words, cut between characters (RFC 2047 section 5)."""
    encode(f"header {name}", text, charset)
    how = Charset(charset)
    how.header_encoding = BASE64
    return list(filter(None, how.header_encode_lines(text, repeat(max(73 - len(name), 40)))))


def fold(name: str, tokens: Iterable[str]) -> str:
    """A value folded between its tokens; no line of it is blank."""
    lines, room = [""], FOLD - len(name) - 1
    for token in tokens:
        if len(lines[-1]) + 1 + len(token) > room and (lines[-1] or len(name) > 34):
            lines.append("")
            room = FOLD
        lines[-1] += f" {token}"
    return "\r\n".join(lines).removeprefix(" ")


def value(name: str, text: str, charset: str) -> str:
    """The value of the field `name` that means `text`; runs of words that are not plain become encoded words.

    What looks encoded ("=?") is encoded again, so that no reader decodes what was written as text.

    >>> value("Subject", "(광고) new", "utf-8")
    '=?utf-8?b?KOq0keqzoCk=?= new'
    """
    words = check_text(f"header {name}", text).split()
    outside = re.sub(r"\([^()]*\)", "", text)  # comments may be in any language
    if re.search(_URI, text) or (_ASCII.match(name) and not outside.isascii()):
        raise refuse(f"header {name}", text, "must be ASCII (RFC 2047 5)", "write a URL with %XX, a host as xn--")
    if _FREE.match(name) and (text != " ".join(words) or any(len(word) > 900 for word in words)):
        return fold(name, encoded_words(name, text, charset))
    runs = groupby(words, key=lambda word: word.isascii() and "=?" not in word)
    coded = (run if plain else encoded_words(name, " ".join(run), charset) for plain, run in runs)
    return fold(name, chain.from_iterable(coded))


def mailboxes(name: str, boxes: Sequence[tuple[str, str]], charset: str) -> str:
    """The value of an address field from (display name, address) pairs; these are checked already."""
    tokens: list[str] = []
    for display, box in boxes:
        if not display.isascii() or "=?" in display:
            tokens += encoded_words(name, display, charset)
        elif display:
            tokens += display.split(" ") if _ATOMS.match(display) else [f'"{quote(display)}"']
        tokens.append(f"<{box}>," if display else f"{box},")
    return fold(name, [*tokens[:-1], tokens[-1].removesuffix(",")])


def _unfolded(raw: bytes) -> str:
    return decode(re.sub(rb"\r\n(?=[ \t])", b"", raw)).strip()


def codec(charset: str) -> str:
    """What readers take a charset's name for: a Korean one is Windows' code page 949 (WHATWG Encoding)."""
    return "uhc" if _KOREAN.match(charset) else charset


def meaning(raw: bytes) -> str:
    """A raw value as a person reads it: unfolded and decoded; what cannot be decoded stays as it is."""
    text = _unfolded(raw)
    try:
        return str(make_header([(part, name and codec(name)) for part, name in decode_header(text)]))
    except (HeaderParseError, LookupError, ValueError):
        return text


def read(head: bytes) -> Iterator[tuple[str, str]]:
    """Name in lower case and meaning of each field of a header."""
    for name, raw in re.findall(rb"(?m)^([!-9;-~]+)[ \t]*:((?:[^\n]|\n[ \t])*)", head):
        how = _unfolded if _ASCII.match(name.decode()) else meaning
        yield name.decode().lower(), how(raw.rstrip(b"\r"))
