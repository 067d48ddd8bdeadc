"""sets: logs too big for memory as a Parquet data set, by day and by the host that logged; read lazily.

Belongs here: writing parts, LogSet. Not here: parsing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from glob import escape
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl

from smtpkit.errors import refuse
from smtpkit.logs import rows

_ORDER = ["started_at", "file", "line"]


def fresh(folder: Path) -> Path:
    """The folder. Raises InvalidInput if it holds a set, whose rows would count twice."""
    if any(folder.glob("day=*")):
        advice = "delete it, give another folder, or open it by LogSet(Path(...), {})"
        raise refuse("into", str(folder), "holds the rows of an earlier reading already", advice)
    return folder


def write(part: pl.DataFrame, folder: Path, name: str) -> None:
    """Add rows to the set below `folder`; `name` keeps what one call writes apart from others'."""
    days = rows.whole(part).select(list(rows.SCHEMA)).cast(rows.EMPTY.schema).with_columns(
        day=pl.col("started_at").dt.strftime("%Y-%m-%d").fill_null("none"), host=pl.col("vantage").fill_null("none")
    )  # fmt: skip
    for (day, host), group in days.partition_by("day", "host", as_dict=True, include_key=False).items():
        named = str(host).replace("%", "%25").replace("/", "%2F")  # polars decodes them, as Hive does
        place = folder / f"day={day}" / f"host={named}"
        place.mkdir(parents=True, exist_ok=True)
        group.write_parquet(place / f"{name}.parquet")


@dataclass(frozen=True)
class LogSet:
    """A Parquet data set of attempts, as `read_log(..., into=folder)` leaves it.

    `.attrs` holds problems, skipped and notes of the reading. Open it later by `LogSet(Path("folder"), {})`.
    """

    folder: Path
    attrs: Mapping[str, Any]

    def lazy(self) -> pl.LazyFrame:
        """All rows as a polars LazyFrame; a filter on `day` or `host` opens those parts only."""
        if not any(self.folder.glob("day=*")):
            return rows.EMPTY.lazy()
        parts = Path(escape(str(self.folder)), "day=*", "host=*", "*.parquet")
        return pl.scan_parquet(parts, hive_schema={"day": pl.String, "host": pl.String})

    def _tries(self, part: pl.DataFrame) -> pl.DataFrame:
        """try_number of these rows' messages; tries that stand under other days or servers count as well."""
        same = self.lazy().join(part.lazy().select(rows.MESSAGE), on=rows.MESSAGE, how="semi", nulls_equal=True)
        tries = same.select(*rows.MESSAGE, *_ORDER, "attempt_id", "try_number").sort(_ORDER).collect()
        return rows.numbered(tries).select("attempt_id", "try_number").unique("attempt_id")

    def frame(self, **wanted: Any) -> pd.DataFrame:
        """The rows whose columns have these values (or one of a list), as an attempts frame.

        `day` ("2026-03-02", or a date) and `host` open only their parts. Raises InvalidInput for an unknown column.
        """
        whole = self.lazy()
        if odd := sorted(set(wanted) - set(whole.collect_schema())):
            raise refuse("frame", odd, "are no columns of the set", "filter by day, host or columns of the schema")
        for name, value in wanted.items():
            values = value if isinstance(value, list | tuple | set) else [value]
            days = [f"{v:%Y-%m-%d}" if name == "day" and isinstance(v, date) else v for v in values]
            whole = whole.filter(pl.col(name).is_in(days))
        part = whole.select(list(rows.SCHEMA)).sort(_ORDER).collect()
        made = rows.to_pandas(part.update(self._tries(part), on="attempt_id") if wanted else rows.numbered(part))
        made.attrs = {"smtpkit": {"source": "log"}, **self.attrs}
        return made
