"""plain: what the line-by-line parsers share: heads in, rows out, messages kept from line to line.

Belongs here: the loop, sessions, problems. Not here: one MTA's lines (a module each), Postfix (postfix).
"""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import polars as pl

from smtpkit import catalogue
from smtpkit.escape import decode
from smtpkit.logs import headers, rows

_OLDER: dict[str, list[tuple[re.Pattern[str], str]]] = {}
for _row in catalogue.rows("log_older.csv"):
    _OLDER.setdefault(_row["mta"], []).append((re.compile(_row["written"]), _row["said"]))
UNREAD = "a line of a try that cannot be read"
Head = tuple[int, datetime | None, str | None, str | None, str]
"""Line number, time, host, process, message."""


def octal(text: str) -> str:
    """The text whose octets outside ASCII Exim and Sendmail write in octal."""
    return re.sub(r"(?:\\[0-7]{3})+", lambda m: decode(bytes(int(o, 8) & 255 for o in m[0].split("\\")[1:])), text)


def today(mta: str, text: str) -> str:
    """What older versions of an MTA wrote, as later ones say it (data/log_older.csv)."""
    return next((old.sub(said, text, count=1) for old, said in _OLDER[mta] if old.search(text)), text)


class Lines:
    """A parser: `line(head)` looks at one message, and calls `add` for each try."""

    letters: int | None = None
    """So many of a queue id's name its message; the others an envelope."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.messages: dict[tuple[str | None, str], dict[str, Any]] = {}
        self._odd: list[tuple[int, str]] = []
        self._sessions: dict[tuple[Any, ...], tuple[int, datetime | None]] = {}

    def heads(self, lines: pl.DataFrame, clock: headers.Clock) -> tuple[Iterator[Head], dict[str, pl.DataFrame]]:
        made, problems = headers.split(lines, clock)
        return made.select("n", "at", "host", headers.PID, "msg").iter_rows(), problems

    def line(self, head: Head) -> None:
        raise AssertionError(f"{type(self)} reads no lines")

    def feed(self, heads: Iterator[Head], hold: bool = False) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
        """The rows that are complete by now, and lines with a problem by its name."""
        for head in heads:
            self.line(head)
        odd = pl.DataFrame(self._odd, schema={"n": pl.Int64, "line": pl.String}, orient="row")
        self._odd = []
        return self._taken(), {UNREAD: odd}

    def _taken(self, last: bool = False) -> pl.DataFrame:
        """The rows so far; one that is `open` may still be told again, and one that is `gone` was."""
        taken = [row for row in self.rows if not row.get("gone") and (last or not row.get("open"))]
        self.rows = [row for row in self.rows if row.get("open") and not last]
        return pl.DataFrame(taken, schema=rows.SCHEMA | {"n": pl.Int64})

    def end(self) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
        """The rows that waited for more lines, and lines with a problem."""
        return self._taken(last=True), {}

    def known(self) -> pl.DataFrame:
        """What is known of messages in the queue."""
        kept = [{"vantage": host, "queue_id": qid, **info} for (host, qid), info in self.messages.items()]
        return pl.DataFrame(kept, schema=rows.KNOWN.schema)

    def add(self, head: Head, queue_id: str | None, **facts: Any) -> dict[str, Any]:
        """One row, with what is known of its message."""
        n, at, vantage, _, _ = head
        base = {"n": n, "started_at": at, "vantage": vantage, "queue_id": queue_id}
        row = base | self.messages.get((vantage, (queue_id or "")[: self.letters]), {}) | facts
        row["mx_host"] = row.get("mx_host") or None
        host, ip = (row["mx_host"] or "localhost").strip("[]").lower(), row.get("mx_ip") or ""
        if re.match(r"127\.|::1$", ip) and (host == ip or host.startswith("localhost")):
            row["kind"] = "local"  # a filter, a submission; a name that DNS gives to 127.x is a server's
        self.rows.append(row)
        return row

    def odd(self, head: Head) -> None:
        self._odd.append((head[0], head[4]))

    def session(self, head: Head, *key: Any) -> str:
        """One name for rows with this key that lie no more than five minutes apart."""
        n, at, *_ = head
        first, before = self._sessions.get(key, (n, at))
        if at and before and (at - before).total_seconds() > 300:
            first = n
        self._sessions[key] = (first, at)
        return "/".join(map(str, (*key, first)))


class Bare(Lines):
    """A parser of lines without syslog's front: `line` finds the time itself, by `clock`."""

    clock: headers.Clock

    def heads(self, lines: pl.DataFrame, clock: headers.Clock) -> tuple[Iterator[Head], dict[str, pl.DataFrame]]:
        self.clock = clock
        return ((n, None, None, None, line) for n, line in lines.iter_rows()), {}
