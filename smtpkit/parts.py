"""parts: bodies, tables, pictures and files as MIME parts on stdlib `email`. Not here: header fields (fields)."""

import io
import mimetypes
import re
from collections.abc import Callable, Iterator, Sequence
from email.contentmanager import raw_data_manager
from email.message import MIMEPart
from email.parser import BytesFeedParser
from email.policy import compat32
from functools import cache
from hashlib import sha256
from html import unescape
from pathlib import Path
from typing import Any

from smtpkit.errors import InvalidInput, refuse
from smtpkit.escape import cell, decode, html, visible
from smtpkit.fields import FOLD, LINE, check_text, codec, encode

BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")
"""What is no line end on the wire, and smuggles one."""
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f]")
_HIDDEN = re.compile(r"(?is)<(style|script|title)\b(?:[^<]|<(?!/\1\b))*|<!--(?:[^-]|-(?!->))*(?:-->)?")
_INLINE = re.compile(r"(?i)</?(?:a|b|i|u|em|strong|font|span|code|tt|wbr|sup|sub|small|big)\b[^<>]*>")
_POLICY = compat32.clone(linesep="\r\n", max_line_length=FOLD, cte_type="7bit")


def written(part: MIMEPart) -> bytes:
    """Its octets. `fields` has folded the values: the library's own folding differs by patch release."""
    return part.as_bytes(policy=_POLICY.clone(max_line_length=0))


def text_part(text: str, subtype: str, charset: str) -> MIMEPart:
    """Text as a leaf: 7bit if it fits, else quoted-printable or base64, the shorter one."""
    if not isinstance(text, str):
        raise refuse(f"{subtype} body", type(text).__name__, "is no text", "give a str or a DataFrame")
    if hidden := _CONTROL.search(text):
        raise refuse(f"{subtype} body", hidden[0], "is a control character", "take it out of the text")
    encode(f"the {subtype} body", text, charset)
    part = MIMEPart(_POLICY)
    part.set_content(text, subtype=subtype, charset=charset, content_manager=raw_data_manager)
    return part


def file_part(name: str, octets: bytes, charset: str, cid: str | None = None) -> MIMEPart:
    """Octets as a base64 leaf: an attachment or, with `cid`, a picture shown inside the HTML."""
    if re.search(r'[/\\<>"]|\A\s|\s\Z|\A\Z', check_text("file name", name)):
        why = 'is empty, or has / \\ < > " or a blank at an end, which readers strip'
        raise refuse("file name", name, why, "give the name only")
    if len(encode("the file name", name, charset)) > 255:
        raise refuse("file name", name, "has over 255 octets", "shorten it")
    part, (kind, packed) = MIMEPart(_POLICY), mimetypes.guess_type(name)
    if not kind or packed or kind.startswith(("message/", "multipart/")):
        kind = "application/octet-stream"  # those may not be base64 (RFC 2046 5.2.1)
    part.set_content(octets, *kind.split("/"), content_manager=raw_data_manager)
    if kind.startswith("text/") and "\ufffd" not in octets.decode("utf-8", "replace"):
        part.set_param("charset", "utf-8")
    if cid:
        part["Content-ID"] = f"<{cid}>"
    shown = name if name.isascii() and "=?" not in name else (charset, "", name)  # some readers decode names
    part.add_header("Content-Disposition", "inline" if cid else "attachment", filename=shown)
    return part


def gather(subtype: str, parts: Sequence[MIMEPart]) -> MIMEPart:
    """multipart/`subtype` of `parts`, or the only part; two builds of one message have one boundary."""
    if len(parts) == 1:
        return parts[0]
    digest = sha256(b"".join([subtype.encode(), *map(written, parts)])).hexdigest()
    made = MIMEPart(_POLICY)
    made["Content-Type"] = f'multipart/{subtype};\r\n boundary="=_{digest[:40]}"'
    for part in parts:
        made.attach(part)
    return made


def is_table(thing: Any) -> bool:
    """A pandas DataFrame, known without importing pandas."""
    return hasattr(thing, "to_html") and hasattr(thing, "itertuples")


def on_text(table: Any, how: Callable[[str], str]) -> Any:
    """A copy of a DataFrame with every text in cells, columns and index put through `how`; dtypes stay.

    Octets are texts as well (what is no UTF-8 in them stays as it is), and so is what lists and dicts hold.
    """
    known, odd = cache(how), ("utf-8", "surrogateescape")

    def safe(thing: Any) -> Any:
        if isinstance(thing, bytes):
            return known(thing.decode(*odd)).encode(*odd)
        if type(thing) in (list, tuple, set):
            return type(thing)(map(safe, thing))
        if isinstance(thing, dict):
            return {safe(key): safe(value) for key, value in thing.items()}
        return known(thing) if isinstance(thing, str) else thing

    def labels(index: Any) -> Any:
        plain = index.dtype.kind in "iuf" or (index.nlevels > 1 and not len(index))  # holds no text
        return (index if plain else index.map(safe)).set_names([safe(name) for name in index.names])

    if not is_table(table):
        raise refuse("frame", type(table).__name__, "is no DataFrame", "give one")
    made = table.copy()
    for place, kind in enumerate(table.dtypes):
        column = table.iloc[:, place]
        if str(kind) == "category" and [safe(word) for word in kind.categories] != list(kind.categories):
            made.isetitem(place, column.astype("object").map(safe))
        elif str(kind) in ("str", "string", "object"):
            made.isetitem(place, column.map(safe).astype(kind))
    made.columns, made.index = labels(made.columns), labels(made.index)
    return made


def _indexed(table: Any) -> bool:
    return type(table.index).__name__ != "RangeIndex"  # a plain 0, 1, 2 index is left out


def picture(figure: Any) -> tuple[bytes, str]:
    """A figure as PNG octets, and its alt text: its own, or else its titles."""
    store = io.BytesIO()
    figure.savefig(store, format="png", dpi=150)
    titles = [figure.get_suptitle(), *(axes.get_title() for axes in figure.get_axes())]
    return store.getvalue(), getattr(figure, "alt", "") or "; ".join(filter(None, titles)) or "figure"


def piece(thing: Any, cid: str) -> tuple[str, str, bytes | None]:
    """Markup, a table or a figure as HTML (all cells escaped), the same in words, and the figure's picture."""
    if hasattr(thing, "savefig"):
        octets, alt = picture(thing)
        page = f'<p><img src="cid:{cid}" alt="{html(alt)}" style="max-width:100%"></p>'
        return page, f"[picture: {alt}]", octets
    if is_table(thing):
        table, how = on_text(thing, visible), {"na_rep": "", "index": _indexed(thing)}
        return table.to_html(border=1, **how), table.to_string(**how), None
    if not isinstance(thing, str):
        raise refuse("html", type(thing).__name__, "cannot be shown", "give markup, a DataFrame or a figure")
    return thing, " ".join(unmarked(thing).split()), None


def unmarked(markup: str) -> str:
    """The text of HTML: what a page hides is left out, words stay whole, each block begins a line."""
    text = _HIDDEN.sub("", markup)
    text = text if "<pre" in text.lower() else re.sub(r"\s+", " ", text)
    lines = unescape(re.sub(r"<[^<>]*>", "\n", _INLINE.sub("", text))).split("\n")
    return "\n".join(line.strip(" ") for line in lines)


def as_file(name: str, content: Any) -> bytes:
    """Octets of an attachment: as they are, of a file, text (UTF-8), a table by its name, a figure."""
    if isinstance(content, (bytes, bytearray, memoryview)):
        return bytes(content)
    if isinstance(content, str):
        return content.encode()
    if isinstance(content, Path):
        try:
            return content.read_bytes()
        except (OSError, ValueError) as error:
            why = f"cannot be read ({getattr(error, 'strerror', error)})"
            raise refuse("attachment", str(content), why, "check the path") from None
    if hasattr(content, "savefig"):
        return picture(content)[0]
    if not is_table(content) or not name.lower().endswith(".csv"):
        instead = "give octets, text, a Path, a figure, or a table whose name ends in .csv"
        raise refuse("attachment", name, f"is a {type(content).__name__}", instead)
    return str(on_text(content, cell).to_csv(index=_indexed(content))).encode("utf-8-sig")


def split(octets: bytes) -> tuple[bytes, bytes]:
    """The header with its last CRLF, and what comes after the empty line."""
    head, blank, body = (b"\r\n" + octets).partition(b"\r\n\r\n")
    return (head + blank[:2])[2:], body


def parsed(octets: bytes, policy: Any = compat32) -> Any:
    """The email package's message, piece by piece: message_from_bytes takes 4 octets for each of a big mail's."""
    parser: Any = BytesFeedParser(policy=policy)
    for at in range(0, len(octets), 1 << 16):
        parser.feed(octets[at : at + (1 << 16)])
    return parser.close()


def shown(mail: Any) -> Iterator[Any]:
    """The parts that a reader shows, and what holds them; letters within the letter are attachments."""
    yield mail
    for part in mail.get_payload() if mail.get_content_maintype() == "multipart" and mail.is_multipart() else ():
        yield from shown(part)


def texts(mail: Any) -> list[Any]:
    """The text parts that a reader shows."""
    leaves = (part for part in shown(mail) if part.get_content_maintype() == "text")
    return [part for part in leaves if part.get_content_disposition() != "attachment"]


def text_of(part: Any) -> tuple[str, str]:
    """The text of a part; if it is not of the charset that it claims it is Korean, and why is said."""
    octets, charset = bytes(part.get_payload(decode=True) or b""), str(part.get_content_charset() or "us-ascii")
    try:
        return octets.decode(codec(charset)), ""
    except (LookupError, ValueError) as error:  # or a charset that Python lacks: unknown-8bit, x-windows-949
        why = "is not known" if isinstance(error, LookupError) else "does not fit its octets"
        return decode(octets), f"{charset} of the {part.get_content_subtype()} part {why}"


def proof(octets: bytes, names: Sequence[str], leaves: int) -> None:
    """Read `octets` back: InvalidInput unless they hold these fields, this many leaves, and fit lines."""
    longest = max(io.BytesIO(octets), key=len).rstrip(b"\r\n")
    if len(longest) > LINE:
        why = f"is a line of {len(longest)} octets; the limit is {LINE} (RFC 5322 2.1.1)"
        raise refuse("text", f"{decode(longest[:60])}...", why, "put blanks where it may be folded")
    read = parsed(octets)
    found = sum(not part.is_multipart() for part in read.walk())
    if BARE.search(octets) or read.keys() != list(names) or found != leaves:
        said = f"{read.keys()}, {found} parts"
        raise InvalidInput(f"the message reads back as {said}; leave out what looks like a header")
