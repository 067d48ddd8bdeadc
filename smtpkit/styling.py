"""styling: a frame as a table that is safe to show, and as one that is safe to share.

Belongs here: `style` (escaped Styler), `redact` (stable tokens for people and, if asked, addresses of hosts).
Not here: charts (plot), letters (packet), the escaping itself (escape).
"""

import hmac
import re
import secrets
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from smtpkit.address import ip_or_none
from smtpkit.catalogue import patterns
from smtpkit.errors import flag, listed, of_kind, quantity, refuse
from smtpkit.escape import html
from smtpkit.parts import on_text

_GROUND = dict.fromkeys(("accepted", "passed", "pass"), "#E6F0F7") | dict.fromkeys(("deferred", "warn"), "#FBE3B0")
_GROUND |= dict.fromkeys(("rejected", "failed", "fail", "unknown", "withheld"), "#F6D5C3")
_SHAPES = patterns("styling")
_SECRET = secrets.token_bytes(16)


def style(df: pd.DataFrame, rows: int = 200) -> Styler:
    """The frame as a Styler whose cells, index, columns and their names are all escaped.

    Words such as rejected or fail get a ground, and stay words. More than `rows` rows: the first ones, and a
    caption says so (1,000 rows of 8 columns would cost 1 s and 900 kB). A plain `df.style` runs a server's words.

    >>> "&lt;b&gt;" in style(pd.DataFrame({"<b>": ["<b>"]})).to_html()
    True
    """
    df = df.to_frame() if isinstance(df, pd.Series) else df
    of_kind("frame", df, pd.DataFrame, "give one, such as a diagnosis's .table")
    rows = quantity("rows", rows, whole=True)
    made = Styler(df.head(rows), cell_ids=False).format(_cell)
    for axis in (0, 1):
        made = made.format_index(_cell, axis=axis).format_index_names(_cell, axis=axis)
    if len(df) > rows:
        made = made.set_caption(f"the first {rows:,} of {len(df):,} rows")
    return made.set_table_styles([{"selector": "th, td", "props": "text-align:left; vertical-align:top"}])


def _cell(thing: Any) -> str:
    if pd.api.types.is_scalar(thing) and pd.isna(thing):
        return ""
    text = html((f"{thing:.4g}" if abs(thing) < 1000 else f"{thing:.12g}") if isinstance(thing, float) else thing)
    ground = _GROUND.get(text)
    return f'<span style="background-color:{ground};color:#1B1B1B">{text}</span>' if ground else text


def redact(
    df: pd.DataFrame, keep: Iterable[str] = (), *, ips: bool = False, key: str | bytes | None = None
) -> pd.DataFrame:
    """A copy to share: local parts of all mail addresses, in every text, become tokens such as `u-3f9a21c4`.

    keep: addresses that stay, such as your own. ips: IP addresses become tokens too (`ip-77ab01f3`), the MX hosts'
    and those in names (192-0-2-1.dyn.example) as well. key: with the same one an address has the same token next
    time; without, it is new in each process and nobody can try names against the tokens. Domains stay; Message-IDs
    look like mail addresses and go, too.

    >>> redact(pd.DataFrame({"reply": ["550 5.1.1 <jo@daum.example> unknown", None]}), key="k").reply.tolist()
    ['550 5.1.1 <u-29eceb8a@daum.example> unknown', nan]
    """
    addresses, ips = listed("keep", keep), flag("ips", ips)
    kept = {of_kind("keep", one, str, "give mail addresses").strip().lower() for one in addresses}
    given = _SECRET if key is None else of_kind("key", key, str | bytes, "give a secret text")
    secret = given.encode("utf-8", "surrogatepass") if isinstance(given, str) else given
    if not secret:
        raise refuse("key", key, "is empty: anybody could try names against the tokens", "give a secret, or None")

    def token(text: str) -> str:
        return hmac.new(secret, text.encode("utf-8", "surrogateescape"), sha256).hexdigest()[:8]

    def box(found: re.Match[str]) -> str:
        whole = f"{found[1]}@{found[2]}".lower()
        return found[0] if whole in kept else f"u-{token(whole)}@{found[2]}"

    def ip(found: re.Match[str]) -> str:
        for address in (found[0].rstrip("."), found[0].rstrip(".:")):
            if known := ip_or_none(address.replace("-", ".")):
                return f"ip-{token(str(known))}{found[0][len(address) :]}"
        return found[0]

    def hide(text: str) -> str:
        text = _SHAPES.coded.sub(box, _SHAPES.box.sub(box, text))
        return _SHAPES.ip.sub(ip, text) if ips else text

    made: pd.DataFrame = on_text(df, hide)
    made.attrs = {}
    return made
