"""headers: the front of a log line (time, host, process) in all its forms, told from the message behind it.

Belongs here: RFC 3164, 3339 and 5424, journald JSON, repeats, the year that RFC 3164 leaves out. Not here:
what a message says (one module per MTA), files.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from smtpkit.escape import decode

_ISO = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?"
_OLD = r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"
_5424 = re.compile(rf"(?:<\d+>)?1 ({_ISO}) (\S+) (\S+) (\S+) \S+ (?:-|(?:\[(?:\\.|[^\]\\])*\])+) ?\ufeff?(.*)")
_LEVEL = r"mail\.(?:info|notice|warn|err|debug)\w* "
_OTHER = re.compile(
    rf"(?:\S+ +\| |\[\S+\] |\S+?:(?=\S))?(?:<\d+>)?(?:(?P<day>[A-Z][a-z]{{2}}) (?=\d{{4}}-))?({_ISO}|{_OLD})"
    rf"(?:\.\d+)? (?(day)(?:[A-Z]{{2,5}} )?|)(?:std(?:out|err) [FP] )?(?:(?:{_OLD}|{_ISO})(?:\.\d+)? |<[\w.]+> )?"
    rf"(?:(?!{_LEVEL})([^\s:\[]+) )?(?:{_LEVEL})?([^\s:\[]+)(?:\[(\d+)\])?:[ \t]+(?:\[ID \d+ [\w.]+\] )?(.*)"
)
"""Before and behind the stamp may stand what docker compose, docker logs -t, Kubernetes, grep, busybox,
journalctl -o short-full and FreeBSD's syslogd -v write."""
_REPEAT = re.compile(r"message repeated (\d+) times: \[ ?(.*?)\]?$")
_MONTHS = {m: n for n, m in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_FRONT = r"\w\[\d+\]: .*(?:\bto=<|said: |connect to |\bstat(?:us)?=|result=)"
_RECORD = r'^[{].*"(?:__[A-Z_]+|MESSAGE)"'
UNREAD = "a journal record that cannot be read"
STRANGE = "a line of a mail server whose front cannot be read"
LINE, MSG = pl.col("line"), pl.col("msg")
PID = pl.col("tag").str.extract(r"\[([0-9]+)\]:$").alias("pid")


def cut(of: pl.Expr, by: str, *into: str) -> pl.Expr:
    """`of` split at the first places of `by` into these columns; use with `.unnest("_")`."""
    return of.str.splitn(by, len(into)).struct.rename_fields(list(into)).alias("_")


@dataclass
class Clock:
    """The year and zone that RFC 3164 leaves out; it goes along with the lines of one file.

    `latest`: nothing in the file is younger (its mtime). `year`: of the first line, if the caller knows.
    """

    latest: datetime
    tz: str = "UTC"
    year: int | None = None
    month: int = 0
    zoneless: bool = False

    def instant(self, text: str) -> datetime | None:
        """An ISO stamp, in `tz` if it names no zone; None if it is no time."""
        try:
            at = datetime.fromisoformat(text.replace(",", ".").replace(" UTC", "Z").replace(" +", "+"))
            self.zoneless |= at.tzinfo is None
            return at.replace(tzinfo=at.tzinfo or ZoneInfo(self.tz)).astimezone(UTC)
        except (ValueError, OverflowError):
            return None

    def stamped(self, lines: pl.DataFrame) -> pl.DataFrame:
        """Lines with `at` (UTC) and `twice` (a clock change repeats it), by fronts such as `Mar  2 09:14:05`."""
        texts = lines["line"].str.slice(0, 15)
        months = texts.str.slice(0, 3).replace_strict(_MONTHS, default=None, return_dtype=pl.Int32)
        months = months.forward_fill().fill_null(self.month or 1)
        if not len(months):
            return lines.with_columns(at=pl.lit(None, pl.Datetime("us", "UTC")), twice=pl.lit(False))
        step = months - months.shift(1, fill_value=self.month or months[0])
        turns = (step < -6).cast(pl.Int32).cum_sum() - (step > 6).cast(pl.Int32).cum_sum()
        if self.year is None:  # a whole year's file begins on a day that `latest` may reach again
            self.year = min(self._first(texts[n]) for n in (0, -1 if turns[-1] == 0 else 0))
        years = turns + self.year
        self.year, self.month, self.zoneless = int(years[-1]), int(months[-1]), True
        dated, form = (years.cast(pl.String) + " " + texts).str, "%Y %b %e %H:%M:%S"
        zoned = dated.to_datetime(form, strict=False, time_unit="us").dt.replace_time_zone
        ends = [zoned(self.tz, ambiguous=end, non_existent="null") for end in ("earliest", "latest")]
        at = ends[0].dt.convert_time_zone("UTC")
        return lines.with_columns(at=at, twice=(ends[0] != ends[1]).fill_null(False))

    def _first(self, text: str) -> int:
        """The latest year in which `text` is not over a day after `latest`."""
        latest = self.latest.astimezone(ZoneInfo(self.tz)) + timedelta(days=1)
        day = (_MONTHS.get(text[:3], 1), int(text[4:6]) if text[4:6].strip().isdecimal() else 1)
        return latest.year - (day > (latest.month, latest.day))


def canonical(line: str, clock: Clock) -> Iterator[str]:
    """An odd line as `STAMP HOST TAG[PID]: MESSAGE`, once for each repeat; none if it has no header.

    >>> list(canonical("<22>1 2026-03-02T00:14:05Z relay1 postfix 4121 - - 4Xk: removed", Clock(datetime.now(UTC))))
    ['2026-03-02T00:14:05+00:00 relay1 postfix[4121]: 4Xk: removed']
    """
    line = re.sub("\x1b\\[[0-9;]*m", "", line.lstrip("\0\ufeff"))  # colours
    line = _docker(line) if line.startswith("{") and '"__REALTIME_TIMESTAMP"' not in line else line
    plain = _5424.match(line) or _OTHER.match(line)
    found = plain.groups("")[-5:] if plain else _journal(line)
    if not found:
        return
    stamp, host, tag, pid, text = found
    if stamp[:1].isdigit():
        at = clock.instant(stamp)
        stamp = at.isoformat() if at else stamp.replace(" ", "T")
    repeat = _REPEAT.match(text)
    for _ in range(min(int(repeat[1]), 10_000) if repeat else 1):
        yield f"{stamp} {host or '-'} {tag}[{pid}]: {repeat[2] if repeat else text}"


def _docker(line: str) -> str:
    """The line in a record of Docker's log, or of a shipper's; the record itself if it is broken, or holds none."""
    try:
        record = json.loads(line)
        text = record.get("log")  # an object of Filebeat's, which says where the line stood
        return str(text if isinstance(text, str) else record["message"]).rstrip("\n")
    except (ValueError, LookupError, AttributeError, RecursionError):
        return line


def _journal(line: str) -> tuple[str, str, str, str, str] | None:
    """Stamp, host, tag, process and message of a journald record; octets, or values, may come as a list."""
    try:
        entry: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
        at = datetime.fromtimestamp(int(entry["__REALTIME_TIMESTAMP"]) / 1e6, UTC)
        text = entry.get("MESSAGE") or ""
        if isinstance(text, list):
            text = text[0] if isinstance(text[0], str) else decode(bytes(text))
        text = re.sub("\n", " ", text)  # a TypeError if it is no text
    except (ValueError, KeyError, TypeError, OverflowError, OSError, RecursionError):
        return None
    pid = str(entry.get("_PID") or entry.get("SYSLOG_PID") or "")
    tag = str(entry.get("SYSLOG_IDENTIFIER", "-")).replace(" ", "_")
    return at.isoformat(), str(entry.get("_HOSTNAME", "-")), tag, pid, text


def _instants(stamps: pl.Series) -> pl.Series:
    """RFC 3339 stamps as instants; rsyslog's own form, of one zone, by its parts: a third of the time."""
    how: Any = {"strict": False, "time_unit": "us", "time_zone": "UTC"}
    zone = stamps[0][26:] if len(stamps) else ""
    alike = stamps.str.ends_with(zone) & (stamps.str.len_bytes() == 32)
    if re.fullmatch(r"[+-](?:[01]\d|2[0-3]):[0-5]\d", zone) and alike.all():
        micros = stamps.str.slice(20, 6).cast(pl.Int64, strict=False).cast(pl.Duration("us"))
        ahead = datetime.fromisoformat(f"2000-01-01T00:00{zone}").utcoffset()
        return stamps.str.slice(0, 19).str.to_datetime("%Y-%m-%dT%H:%M:%S", **how) + micros - ahead
    return stamps.str.replace("Z", "+00:00", literal=True).str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", **how)


def _plain(lines: pl.DataFrame, clock: Clock, fits: pl.Expr) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Lines in one of the two common forms, by literal splits; and the others."""
    new = lines["line"] < ":"  # it begins with a digit
    iso = lines.filter(new).with_columns(cut(LINE, " ", "at", "host", "tag", "msg")).unnest("_")
    iso = iso.with_columns(_instants(iso["at"]), twice=pl.lit(False))
    old = lines.filter(~new).filter((LINE.str.slice(3, 1) == " ") & (LINE.str.slice(15, 1) == " "))
    old = clock.stamped(old.with_columns(cut(LINE.str.slice(16), " ", "host", "tag", "msg")).unnest("_"))
    made = pl.concat([iso, old.select(iso.columns)]) if len(old) else iso
    odd = [pl.col("host").str.ends_with(":"), pl.col("tag").str.contains("\t", literal=True)]
    odd += [MSG.str.starts_with(front) for front in (" ", "\t", "[ID ", "message repeated ")]
    fits &= pl.col("tag").str.ends_with(":") & ~pl.any_horizontal(odd)
    made = made.filter(made.select(fits.fill_null(False)).to_series())  # half the time of made.filter(fits)
    return made, lines.join(made, on="n", how="anti") if len(made) < len(lines) else lines.clear()


def split(lines: pl.DataFrame, clock: Clock) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    """Lines (n, line) as (n, at, host, tag, msg, line), and those with a problem, by its name.

    The two common forms are read by literal splits; the others are brought into these first.
    """
    began = clock.year, clock.month
    plain, odd = _plain(lines, clock, pl.col("at").is_not_null())
    pairs = [(n, made) for n, line in odd.iter_rows() for made in canonical(line, clock)]
    mended = pl.DataFrame(pairs, schema=odd.schema, orient="row")
    rest = _plain(mended, clock, pl.lit(True))[0].with_columns(pl.col("host").replace("-", None))
    bare = odd.join(mended, on="n", how="anti").with_columns(msg=LINE)
    made = pl.concat([plain, rest, bare], how="diagonal").sort("n") if len(odd) else plain
    leap: Any = made["at"].drop_nulls().diff().abs().max() if len(rest) else None
    if leap and leap > timedelta(40):  # a year may be wrong: it follows from the line before, a mended one, too
        clock.year, clock.month = began
        old = pl.col("tag").is_not_null() & (LINE.str.slice(3, 1) == " ")
        made = pl.concat([made.filter(~old), clock.stamped(made.filter(old))], how="diagonal").sort("n")
    headed = MSG != LINE
    late = pl.lit(clock.latest + timedelta(days=1))
    problems = {
        STRANGE: bare.filter(LINE.str.contains(_FRONT)),
        UNREAD: bare.filter(LINE.str.contains(_RECORD)),
        "a time later than its file: give year= of the first line": made.filter(pl.col("at") > late),
        "an hour that came twice (clock change): read as its first": made.filter("twice"),
        "a time that is none (clock change, or a wrong year or zone)": made.filter(pl.col("at").is_null() & headed),
    }
    return made.select("n", "at", "host", "tag", "msg", "line"), problems
