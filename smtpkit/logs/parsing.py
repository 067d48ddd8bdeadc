"""parsing: one log file through the parser of its MTA, block after block, and what is told beside the rows.

Belongs here: which MTA, problems, what was skipped and assumed. Not here: files (files), lines (one module each).
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import polars as pl

from smtpkit import attempts, dates
from smtpkit.errors import InvalidInput
from smtpkit.logs import exim, files, headers, opensmtpd, postfix, records, rows, sendmail

Readers = dict[str, Any]
"""A parser by the name of its MTA."""
READERS: Readers = {
    "postfix": postfix.Reader,
    "exim": exim.Reader,
    "sendmail": sendmail.Reader,
    "opensmtpd": opensmtpd.Reader,
    "kumomta": records.Kumo,
    "powermta": records.Power,
}
_SAMPLE = 1 << 19
TRIES = ("final", "intermediate", "connect_fail")
_MOST = 20


@dataclass
class Told:
    """How to read, and all that is told beside the rows."""

    mta: str
    year: int | None
    tz: str
    tz_given: bool
    problems: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    skipped: dict[str, dict[str, Any]] = field(default_factory=dict)
    lines: Counter[str] = field(default_factory=Counter)
    names: dict[int, str] = field(default_factory=dict)
    zoneless: bool = False
    ended: tuple[str, int | None, int] = ("", None, 0)
    """With `year`: the set last read, and its last year and month."""

    def blank(self) -> "Told":
        """The same way to read, with nothing told yet."""
        return replace(self, problems={}, skipped={}, lines=Counter(), names={}, zoneless=False)

    def problem(self, why: str, file: str, line: int, text: str, count: int = 1) -> None:
        blank = {"why": why, "file": files.name(file), "count": 0, "lines": [], "text": text[:300]}
        kept = self.problems.setdefault((why, file), blank)
        kept["count"] += count
        kept["lines"] += [line] * (len(kept["lines"]) < _MOST and line > 0)

    def leave(self, kinds: Iterable[tuple[Any, ...]]) -> None:
        """Count lines that are no try: kind, how many, first and last time."""
        for kind, count, first, last in kinds:
            kept = self.skipped.setdefault(kind, {"lines": 0, "first": first, "last": last})
            kept["lines"] += count
            times = [t for t in (kept["first"], kept["last"], first, last) if t is not None]
            kept |= {"first": min(times, default=None), "last": max(times, default=None)}

    def add(self, other: "Told") -> None:
        """Take over what a worker told."""
        self.problems |= other.problems
        self.leave((kind, *kept.values()) for kind, kept in other.skipped.items())
        self.lines.update(other.lines)
        self.zoneless |= other.zoneless

    def check(self, found: list[str]) -> None:
        """Raise InvalidInput if there were lines, and none of them is of the log that was asked for."""
        seen, wanted = self.lines["all"], [name for name in READERS if self.lines[name]]
        if self.lines["tries"] or not seen or (self.mta == "auto" and wanted) or self.mta in wanted:
            return
        also = f"; it reads like {', '.join(wanted)}" if wanted else ""
        asked = "any known MTA" if self.mta == "auto" else self.mta
        raise InvalidInput(
            f"paths {found[0]!r}{' and others' * (len(found) > 1)}: none of {seen} lines is of {asked}{also}; "
            f"give the log of the sending MTA, and mta= as one of {', '.join(READERS)}"
        )

    def attrs(self) -> dict[str, Any]:
        notes = [dates.ZONE] if self.zoneless and not self.tz_given else []
        return {"problems": attempts.Remarks(self.problems.values()), "skipped": self.skipped, "notes": notes}


def parse(
    path: str, number: int, told: Told, readers: Readers, last: bool, most: int | None = None, hold: bool = False
) -> Iterator[pl.DataFrame]:
    """The rows of one file (of its first `most` blocks); `readers` keep what is open till the `last` file's end."""
    base = files.age(path)[0]
    begins = told.ended[1:] if base == told.ended[0] else (told.year, 0)
    clock = headers.Clock(files.written(path), told.tz, *begins)
    broken: list[tuple[str, int, str]] = []
    told.names[number] = files.name(path)
    blocks = islice(files.blocks(path, broken), most)
    for mta, heads, odd in files.ahead(_heads(blocks, (number << rows.SHIFT) + 1, clock, told, readers)):
        made, unread = readers[mta].feed(heads, hold=hold)
        _note(told, odd | unread)
        if len(made):
            yield _rows(made, mta, told)
    told.zoneless |= clock.zoneless
    if told.year and clock.month:
        told.ended = base, clock.year, clock.month
    for why, line, text in broken:
        told.problem(why, path, line, text)
    if last:
        for mta, reader in readers.items():
            made, unread = reader.end()
            _note(told, unread)
            yield _rows(made, mta, told)


def _heads(
    blocks: Iterator[bytes], first: int, clock: headers.Clock, told: Told, readers: Readers
) -> Iterator[tuple[str, Any, dict[str, pl.DataFrame]]]:
    """MTA, its lines' heads, and those with a problem, block by block."""
    for block in blocks:
        lines = files.lines(block, first)
        first += len(lines)
        told.lines["all"] += len(lines)
        again: set[str] = set()
        for mta in _mtas(block, told, readers):
            words = "|".join(map(re.escape, ("message repeated ", *READERS[mta].words)))
            wanted = lines.filter(headers.LINE.str.contains(words) | headers.LINE.str.starts_with("{"))
            made, odd = readers[mta].heads(wanted, clock)
            yield mta, made, {why: bad for why, bad in odd.items() if why not in again}
            again |= {headers.UNREAD} & set(odd)  # each reader sees every record


def _note(told: Told, odd: dict[str, pl.DataFrame]) -> None:
    for why, bad in odd.items():
        placed = bad.sort("n").with_columns(file=pl.col("n") // (1 << rows.SHIFT))
        for part in placed.partition_by("file") if len(bad) else []:
            path = told.names[part["file"][0]]
            for n, line in part.head(_MOST).select("n", "line").iter_rows():
                told.problem(why, path, n % (1 << rows.SHIFT), line)
            if len(part) > _MOST:
                told.problem(why, path, 0, "", len(part) - _MOST)


def _mtas(block: bytes, told: Told, readers: Readers) -> list[str]:
    """The MTAs whose lines stand at this block's ends, or anywhere in it while none is known; kept from then on."""
    seen = block[:_SAMPLE] + block[-_SAMPLE:] if readers else block
    for name, reader in READERS.items():
        marked = any(mark in seen for mark in reader.marks)
        told.lines[name] += marked
        if name not in readers and (marked if told.mta == "auto" else name == told.mta):
            readers[name] = reader()
    return list(readers)


def _rows(made: pl.DataFrame, mta: str, told: Told) -> pl.DataFrame:
    is_try, at = pl.col("kind").is_in(TRIES), pl.col("started_at")
    others = made.filter(~is_try).group_by("kind", maintain_order=True)
    told.leave(others.agg(pl.len(), at.min(), at.max().alias("last")).iter_rows())
    source = mta if mta in attempts.CATEGORIES["source"] else "other"
    made = made.filter(is_try).with_columns(source=pl.lit(source))
    told.lines["tries"] += len(made)
    return rows.complete(made, told.names)
