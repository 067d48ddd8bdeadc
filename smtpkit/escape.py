"""escape: the one place where text from outside becomes safe to show or to store. Not here: what it means."""

import html as _html
import re
from dataclasses import dataclass, fields
from typing import Any

# C0 without TAB and LF, DEL, C1; soft hyphen, zero-width and bidi marks, line separators, BOM, surrogates.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_FORMULA = re.compile(r"^\s*[=+\-@\t\r|%＝＋－＠]|^[\d.\s-]*[=@＝＠]")  # Korean and Japanese Excel run wide signs
_PLAIN_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?\Z")


@dataclass(slots=True)
class Options:
    """Display options of the kit: `sk.options.html = False` gives plain text everywhere."""

    html: bool = True
    debug: bool = False
    progress: bool = True


options = Options()


def _show(match: re.Match[str]) -> str:
    c = match[0]
    return f"\\x{ord(c):02x}" if c.isascii() else c.encode("ascii", "backslashreplace").decode()


def visible(text: str) -> str:
    r"""`text` with every control, zero-width and bidi character written out; TAB and LF stay.

    >>> visible("250 ok\x1b[2J")
    '250 ok\\x1b[2J'
    """
    return _HIDDEN.sub(_show, text)


def one_line(text: str) -> str:
    r"""`visible`, and TAB and LF written out as well: one record stays one line.

    >>> one_line("a\nb")
    'a\\x0ab'
    """
    return visible(text).replace("\n", "\\x0a").replace("\t", "\\x09")


def html(text: object) -> str:
    """`text` for an HTML page, attributes included; hidden characters are shown, not obeyed.

    >>> html("<img src=x>")
    '&lt;img src=x&gt;'
    """
    return _html.escape(visible(str(text)), quote=True)


def pre(text: object) -> str:
    """`text` as a block of code in a page: one width for all characters, wherever it is shown.

    >>> pre("<b>")
    "<pre style='font-family:monospace'>&lt;b&gt;</pre>"
    """
    return f"<pre style='font-family:monospace'>{html(text)}</pre>"


class Shown:
    """Mixed into a dataclass: a notebook shows it as a table of its fields; empty ones are left out."""

    __slots__ = ()

    def _repr_html_(self) -> str | None:
        this: Any = self
        known = [(field.name, getattr(self, field.name)) for field in fields(this)]
        rows = (f"<tr><th>{name}</th><td style='text-align:left'>{html(value)}</td></tr>"
                for name, value in known if value not in (None, "", ()))  # fmt: skip
        return f"<table>{''.join(rows)}</table>" if options.html else None


def cell(text: str) -> str:
    """`text` for a CSV or spreadsheet cell: what a spreadsheet would run as a formula gets a quote in front.

    Numbers stay as they are (OWASP, CSV injection).

    >>> cell("=1+1"), cell("-5"), cell("250 ok")
    ("'=1+1", '-5', '250 ok')
    """
    shown = visible(text)
    return f"'{shown}" if _FORMULA.match(shown) and not _PLAIN_NUMBER.match(shown) else shown


def decode(octets: bytes) -> str:
    r"""Octets of a server as text: UTF-8, else EUC-KR (Korean servers), else each odd octet as \xNN.

    >>> decode("차단".encode("euc-kr"))
    '차단'
    """
    return octets.decode(charset(octets), "backslashreplace")


def charset(octets: bytes) -> str:
    """The first of utf-8, euc-kr and (beside Hangul of EUC-KR) cp949 that they are, or else "ascii"."""
    for name in ("utf-8", "euc-kr", *["cp949"] * bool(re.search(rb"[\xb0-\xc8][\xa1-\xfe]", octets))):
        try:
            octets.decode(name)
        except UnicodeDecodeError:
            continue
        return name
    return "ascii"
