"""dates: times as people write them in tables, Koreans too, as UTC.

Not here: a table's other columns (tables), what pandas cannot read of itself, in order (data/dates.csv).
"""

import re
from typing import Any

import pandas as pd

from smtpkit.catalogue import rows

_WRITTEN = {row["written"]: row["read"] for row in rows("dates.csv")}
"""What pandas cannot read, in the words that it can."""
_SHAPES = {row["name"]: row["pattern"] for row in rows("patterns.csv") if row["module"] == "dates"}
ZONE = "times without a zone were read as UTC; give tz='Asia/Seoul' if they are not"
_SHORT = "dates such as 26.03.04 were read as year.month.day; write them as 2026-03-04 if they are not"
_DATES = "dates such as {} were read as {}; write them as 2026-03-04 if they are not"


def whole_times(table: pd.DataFrame, settled: set[Any]) -> pd.DataFrame:
    """A day and a clock in columns of their own, if each is the only one of its kind, as one time."""
    kinds = _SHAPES["day"], _SHAPES["clock"]
    pair = [[name for name in table if _fits(table[name].dropna(), how)] for how in kinds]
    if list(map(len, pair)) != [1, 1] or pair[1][0] in settled:
        return table
    (day,), (clock,) = pair
    made = table.drop(columns=clock)
    made[day] = table[day].astype("str").str.removesuffix(" 00:00:00") + " " + table[clock].astype("str")
    return made


def _fits(values: pd.Series, how: str) -> bool:
    """Whether all are written like that; the first ones are asked first."""
    some = (values.head(200), values)
    return len(values) > 0 and all(part.astype("str").str.strip().str.fullmatch(how).all() for part in some)


def times(column: pd.Series, tz: str | None, notes: list[str]) -> pd.Series:
    """A column of times as UTC, missing where none can be read; `tz` is the zone of those without one."""
    if pd.api.types.is_datetime64_any_dtype(column):
        known = column.dt.tz is not None
        return column.dt.tz_convert("UTC") if known else _placed(column.astype("datetime64[us]"), tz, notes)
    number = pd.to_numeric(column, errors="coerce").astype("float64")
    number = number.where(number.between(1e8, 1e10) | number.between(8e11, 1e13))  # seconds; milliseconds
    micros = (number * 1e6).where(number < 1e11, number * 1e3).round().astype("Int64")
    texts = column.where(number.isna()).astype("str").str.strip().str.replace(r"^(\d{8,14})\.0$", r"\1", regex=True)
    if texts.str.contains(_SHAPES["odd"], na=False).any():
        texts = texts.replace(_WRITTEN, regex=True)
    if (short := texts.str.match(r"\d\d\.\s?\d\d?\.\s?\d\d?(?!\d)", na=False)).any():
        texts = texts.where(~short, "20" + texts.str.replace(r"\.\s?", "-", n=2, regex=True))
        notes.append(_SHORT)
    aware = texts.str.contains(_SHAPES["aware"], na=False)
    vague = f"{_SHAPES['named']}|{_SHAPES['hours']}|^(?:{_SHAPES['clock']})$"
    texts = texts.mask(texts.str.contains(vague, na=False) & ~aware)
    texts, how = _years_first(texts, notes), {"errors": "coerce", "format": "mixed"}
    parsed = pd.to_datetime(texts.where(aware), utc=True, **how).dt.as_unit("us")
    made = parsed.fillna(_placed(pd.to_datetime(texts.where(~aware), **how), tz, notes).dt.as_unit("us"))
    made = made.where(made.dt.year > 1980)  # pandas takes the year 1 where none is written
    return made.fillna(pd.to_datetime(micros, unit="us", utc=True))


def _years_first(texts: pd.Series, notes: list[str]) -> pd.Series:
    """02.03.2026 as 2026-03-02 where dots part all, or where some first number is no month and no second is."""
    found = texts.str.extract(_SHAPES["order"]).dropna()
    first, second = (found[at].astype("int") > 12 for at in (0, 2))
    days = bool(len(found)) and not second.any() and (first.any() or found[1].eq(".").all())
    if len(found) and not first.any() and not second.any():
        shown = re.split(r"[\sT]", texts[found.index[0]])[0]
        notes.append(_DATES.format(shown, "day.month.year" if days else "month/day/year"))
    return texts.str.replace(_SHAPES["order"].replace(r"|\d\d)", ")"), r"\4-\3-\1", regex=True) if days else texts


def _placed(local: pd.Series, tz: str | None, notes: list[str]) -> pd.Series:
    """Times of a clock on the wall in `tz` as UTC; an hour that came twice, or never, is missing."""
    if not tz and local.notna().any():
        notes.append(ZONE)
    return local.dt.tz_localize(tz or "UTC", ambiguous="NaT", nonexistent="NaT").dt.tz_convert("UTC")
