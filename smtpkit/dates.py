"""dates: times as people write them in tables, Koreans too, as UTC. Not here: a table's other columns (tables)."""

from typing import Any

import pandas as pd

from smtpkit.errors import refuse

_DAY = r"\s*\d{2,4}\s?[-/.년]\s?\d\d?\s?[-/.월]\s?\d\d?\s?[.일]?(?: 00:00:00)?\s*"
_CLOCK = r"\s*(?:오전|오후|[AaPp][Mm])?\s*\d\d?(?::\d\d){1,2}(?:\.\d+)?\s*(?:[AaPp][Mm])?\s*"
_KOREAN = {
    r"(\d+)년\s*(\d+)월\s*(\d+)일": r"\1-\2-\3",
    r"\s*(?:\([월화수목금토일]\)|[월화수목금토일]요일)": "",
    r"(\d+)시\s*(\d+)분(?:\s*(\d+)초)?": r"\1:\2:0\3",
    r":0(\d\d)\b": r":\1",
    r"오전\s*([\d:.]+)": r"\1 AM",
    r"오후\s*([\d:.]+)": r"\1 PM",
    r"(:\d\d) ?KST$": r"\1+09:00",
}
_ZONE = "times without a zone were read as UTC; give tz='Asia/Seoul' if they are not"
_SHORT = "dates such as 26.03.04 were read as year.month.day; write them as 2026-03-04 if they are not"
_DATES = "dates such as 03/04/2026 were read as month/day/year; write them as 2026-03-04 if they are not"


def whole_times(table: pd.DataFrame, settled: set[Any]) -> pd.DataFrame:
    """A day and a clock in columns of their own, if each is the only one of its kind, as one time."""
    texts = {name: table[name].dropna().astype("str") for name in table}
    pair = [[n for n, t in texts.items() if len(t) and t.str.fullmatch(how).all()] for how in (_DAY, _CLOCK)]
    if list(map(len, pair)) != [1, 1] or pair[1][0] in settled:
        return table
    (day,), (clock,) = pair
    made = table.drop(columns=clock)
    made[day] = table[day].astype("str").str.removesuffix(" 00:00:00") + " " + table[clock].astype("str")
    return made


def times(column: pd.Series, tz: str | None, notes: list[str]) -> pd.Series:
    """A column of times as UTC, missing where none can be read; `tz` is the zone of those without one."""
    if pd.api.types.is_datetime64_any_dtype(column) and column.dt.tz is not None:
        return column.dt.tz_convert("UTC")
    number = pd.to_numeric(column, errors="coerce")
    number = number.where(number.between(1e8, 1e10) | number.between(1e11, 1e13))  # seconds; milliseconds
    if number.notna().any() and not pd.api.types.is_datetime64_any_dtype(column):
        return pd.to_datetime(number, unit="ms" if number.median() > 1e11 else "s", utc=True)
    texts = column.astype("str").replace(_KOREAN, regex=True)
    if (short := texts.str.match(r"\d\d\.\s?\d\d?\.\s?\d\d?(?!\d)", na=False)).any():
        texts = texts.where(~short, "20" + texts.str.replace(r"\.\s?", "-", n=2, regex=True))
        notes.append(_SHORT)
    texts = texts.mask(texts.str.fullmatch(_CLOCK, na=False))  # a clock without a day is no time
    aware = texts.str.contains(r":\d\d(?:[.,]\d+)? ?(?:Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)$", na=False)
    parsed = pd.to_datetime(texts.where(aware), errors="coerce", utc=True, format="mixed")
    local = pd.to_datetime(texts.where(~aware), errors="coerce", format="mixed")
    if texts.str.match(r"\d\d?[/.]\d\d?[/.]\d{4}", na=False).any():
        notes.append(_DATES)
    if not tz and local.notna().any():
        notes.append(_ZONE)
    try:
        placed = local.dt.tz_localize(tz or "UTC", ambiguous="NaT", nonexistent="NaT").dt.tz_convert("UTC")
    except (KeyError, ValueError) as why:
        raise refuse("tz", tz, f"is no time zone ({why})", "write one like 'Asia/Seoul'") from None
    return parsed.fillna(placed)
