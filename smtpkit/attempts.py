"""attempts: the one schema of evidence, and what a frame of it can do.

Belongs here: frames of the schema (data/columns.csv: columns, dtypes, closed lists), the accessor `df.smtp`,
Attempt. Not here: statistics (counts), storage (casebook).
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from datetime import tzinfo
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from smtpkit import catalogue, counts, escape, journal, reasons, reply
from smtpkit.errors import StoreError, of_kind, refuse

if TYPE_CHECKING:
    from smtpkit.transcript import Transcript

_SCHEMA = catalogue.rows("columns.csv")
COLUMNS = {row["column"]: row["dtype"] for row in _SCHEMA if row["frame"] == "attempts"}
"""Column name to dtype, in order; a category's closed list is CATEGORIES[name]."""
CATEGORIES = {row["column"]: tuple(row["values"].split()) for row in _SCHEMA if row["values"]}
REPLIES = {row["column"]: row["dtype"] for row in _SCHEMA if row["frame"] == "replies"}
"""The same of a frame of replies."""
_PLAIN = r"250 2\.0\.0 Ok: queued as [0-9A-Za-z]+"
"""What a plain Postfix says on acceptance names no back end."""


def column(name: str, values: pd.Series) -> pd.Series:
    """`values` as one column of the schema, with its dtype and its full closed list.

    Times without a zone are read as UTC. Raises ValueError for a value outside a closed list.
    """
    kind = _missing(name).dtype
    if values.dtype == kind:
        return values
    if name == "started_at":
        values = counts.moments(values)
    if name in CATEGORIES and (odd := set(values.dropna().unique()) - set(CATEGORIES[name])):
        raise ValueError(f"{name} cannot be {sorted(map(str, odd))}; it is one of {', '.join(CATEGORIES[name])}")
    return values.astype(kind)


@cache
def _missing(name: str) -> Any:
    """One missing value of the column: taking it n times costs a tenth of making n."""
    known = CATEGORIES.get(name)
    return pd.array([None], dtype=pd.CategoricalDtype(list(known)) if known else COLUMNS[name])


def zone(name: str | tzinfo) -> str:
    """The name of a time zone; InvalidInput for what is none."""
    try:
        return ZoneInfo(str(of_kind("tz", name, str | tzinfo, "write one like 'Asia/Seoul'"))).key
    except (KeyError, ValueError, OSError):
        raise refuse("tz", name, "is no time zone", "write one like 'Asia/Seoul' or 'UTC'") from None


def frame(rows: Iterable[Mapping[str, Any]] = (), **attrs: Any) -> pd.DataFrame:
    """Rows (dicts; keys may be missing, unknown keys become extra columns) as an attempts frame.

    No rows: the empty frame, with all columns. `attrs` land in `df.attrs["smtpkit"]`, a hint only.

    >>> frame().shape[0], len(frame().columns) == len(COLUMNS)
    (0, True)
    """
    made = conform(pd.DataFrame(list(rows), dtype="object"))
    made.attrs["smtpkit"] = attrs
    return made


class Remarks(list[Any]):
    """What a reading says beside its rows, as it lies in `.attrs`: pandas copies those deeply at every step."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "Remarks":
        return self  # ten thousand mails that cannot be read would cost each chart half a minute


def conform(table: pd.DataFrame) -> pd.DataFrame:
    """Any frame with some of the schema's columns as an attempts frame: missing ones added, dtypes set.

    Columns that are not of the schema stay, at the end. Used after concat and when Parquet is read back.

    >>> list(conform(pd.DataFrame({"mx_ip": ["192.0.2.1"]})).columns) == list(COLUMNS)
    True
    """
    none = np.zeros(len(table), int)
    every = {n: column(n, table[n]).array if n in table else _missing(n).take(none) for n in COLUMNS}
    made = pd.DataFrame(every, table.index)
    more = table.columns.difference(list(COLUMNS), sort=False)
    made[more] = table[more].infer_objects()
    made.attrs = dict(table.attrs)
    return made


def classified(table: pd.DataFrame) -> pd.DataFrame:
    """The frame with reason, scope, rule and reply_host filled from the replies; other columns unchanged."""
    made = table.assign(**{n: column(n, says).array for n, says in reasons.classify_frame(table).items()})
    lacking = made["reply_host"].isna() & ~made["reply"].str.fullmatch(_PLAIN, na=True)
    found, number = reasons.each_once(made.loc[lacking, ["reply", "mx_host"]], reasons.reply_host)
    made.loc[lacking, "reply_host"] = pd.array(found, dtype="str").take(number)
    return made


_STORED = "session seq stage command code raw anomalies sent_at latency_s".split()
"""What the store keeps of a reply."""


def stored(base: Any, session: str | None = None) -> list[tuple[Any, ...]]:
    """The replies in a casebook, of one session or of all, in order."""
    where, value = ("where session = ?", (session,)) if session else ("", ())
    return list(base.execute(f"select {', '.join(_STORED)} from replies {where} order by session, seq", value))


def replies_frame(rows: Iterable[Sequence[Any]]) -> pd.DataFrame:
    """What `stored` gives as a frame with the columns REPLIES."""
    table = pd.DataFrame(rows, columns=_STORED, dtype="object")
    heard = [reply.Reply(code, raw) for code, raw in zip(table.code, table.raw, strict=True)]
    table["attempt_id"], table["anomalies"] = table.session, table.anomalies.replace("", None)
    table["enhanced"] = [one.enhanced for one in heard]
    table["text"] = [escape.visible(one.text) for one in heard]
    table["sent_at"] = pd.to_datetime(table.sent_at, utc=True, format="ISO8601")
    return table[list(REPLIES)].astype(REPLIES)


def json_lines(table: pd.DataFrame) -> str:
    """The frame with one JSON object a line; times are ISO text, whole to the microsecond."""
    return str(table.to_json(orient="records", lines=True, date_format="iso", date_unit="us", force_ascii=False))


class Attempt:
    """One row of a frame: columns as attributes (None where missing), `.replies`, `.transcript`."""

    def __init__(self, row: pd.Series, casebook: str | None) -> None:
        self._row, self._casebook = row, casebook

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._row.index:
            raise AttributeError(f"an attempt has no column {name!r}")
        value = self._row[name]
        return None if pd.isna(value) else value

    def _stored(self) -> list[Any]:
        if self._casebook is None or not Path(self._casebook).exists():
            raise StoreError("this frame does not know its casebook; use sk.Casebook(path).replies(session)")
        with closing(journal.connect(Path(self._casebook))) as base:
            return stored(base, self._row["session"])

    @property
    def replies(self) -> pd.DataFrame:
        """Every reply of the session, in order."""
        return replies_frame(self._stored())

    @property
    def transcript(self) -> "Transcript":
        """The dialogue in swaks' notation."""
        from smtpkit.transcript import from_replies  # it brings TLS along: a log needs none

        nobody = f"{self.mx_host or self.domain}: no server asked ({self.error or self.outcome})"
        whom = f"{self.mx_host or '?'} [{self.mx_ip}]:{self.port}" if self.mx_ip else nobody
        note = f"{whom}, {self.started_at:%Y-%m-%d %H:%M:%S} UTC"
        return from_replies(self._stored(), note, implicit=self.tls_asked == "implicit")

    def __repr__(self) -> str:
        known = {name: self._row[name] for name in self._row.index if not pd.isna(self._row[name])}
        return "\n".join(f"{name:>16}  {escape.one_line(str(value))}" for name, value in known.items())

    def _repr_html_(self) -> str:
        return escape.pre(repr(self))


@pd.api.extensions.register_dataframe_accessor("smtp")
class SmtpAccessor:
    """`df.smtp`: what an attempts frame can do; `df.smtp[i]` is an Attempt. Also as functions in smtpkit.counts.

    >>> frame([{"mx_ip": "192.0.2.1", "outcome": "passed"}]).smtp[0].mx_ip
    '192.0.2.1'
    """

    def __init__(self, table: pd.DataFrame) -> None:
        if lacking := sorted({"mx_ip", "outcome"} - set(table.columns)):
            raise AttributeError(f"no attempts frame: it has no {', '.join(lacking)} (see sk.read_table)")
        self._table = table

    def __getitem__(self, number: int) -> Attempt:
        return Attempt(self._table.iloc[number], self._table.attrs.get("smtpkit", {}).get("casebook"))

    def __getattr__(self, name: str) -> Any:
        if name not in self.__dir__():
            raise AttributeError(f"df.smtp has no {name!r}; it has {', '.join(self.__dir__())}")
        return partial(getattr(counts, name), self._table)

    def __dir__(self) -> list[str]:
        return ["by", "by_ip", "failures", "sessions"]
