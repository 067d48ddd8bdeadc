"""journal: the SQLite store that evidence goes through: intent before connecting, mark before the dot, result.

Belongs here: the writer, recovery after a kill, the pacing ledger. Not here: frames (casebook), the tables
(data/casebook.sql, data/ledger.sql).

The only order that loses nothing and sends nothing twice: (1) `begun` row, (2) everything up to the body, (3) `dot`
durable (synchronous=FULL) before the final dot is written, (4) the dot, (5) the result. After a crash `begun` is
failed (nothing was handed over) and `dot` is unknown, both `interrupted`.
"""

import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from secrets import randbits
from typing import IO, Any
from uuid import UUID
from weakref import WeakSet

from smtpkit.catalogue import data
from smtpkit.errors import StoreError
from smtpkit.limits import DAY, Pace, Visit

VERSION = "1"
"""What data/casebook.sql makes."""
_PUT = "insert or replace into attempts values (?, ?, ?, ?, ?, ?, ?)"
_OPEN = "from attempts where state in ('begun', 'dot')"
Row = Mapping[str, Any]
_last = [0]


def new_id() -> str:
    """A UUIDv7: sortable by time, and by order within this process (RFC 9562 5.7, 6.2 method 3).

    >>> made = [new_id() for _ in range(100)]
    >>> made == sorted(made)
    True
    """
    _last[0] = now = max(time.time_ns() * 4096 // 1_000_000, _last[0] + 1)
    return str(UUID(int=(now >> 12) << 80 | 7 << 76 | (now & 0xFFF) << 64 | 2 << 62 | randbits(62)))


def sealed(*row: object) -> tuple[object, ...]:
    """The row and its checksum, that `verify` holds it against: 16 hex digits of SHA-256."""
    text = "\x1f".join(map(repr, row))
    return (*row, sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16])


def plain(value: object) -> str:
    """JSON that reads back the same; times become ISO text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


@contextmanager
def loud(path: Path, what: str) -> Iterator[None]:
    """A database error becomes a StoreError that names the file."""
    try:
        yield
    except StoreError:
        raise
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{what} {path}: {error}; nothing is sent without it") from error


def address(path: Path) -> str:
    """The file as SQLite's URI; one that may not be written, or whose folder may not, as read only."""
    ours = os.access(path, os.W_OK) and os.access(path.absolute().parent, os.W_OK)
    how = "mode=ro" if Path(f"{path}-wal").exists() else "immutable=1"  # without a WAL nobody is writing
    return path.absolute().as_uri() + f"?{how}" * (not ours)


def connect(path: Path) -> sqlite3.Connection:
    """An open casebook file, made if it is missing (mode 0600); refuses other versions and other files."""
    with loud(path, "cannot open casebook"):
        if not path.exists():
            path.touch(0o600)
        at = address(path)
        base = sqlite3.connect(at, timeout=30, isolation_level=None, check_same_thread=False, uri=True)
        try:
            known = _is_casebook(base, path)
            if "?" not in at:
                _to_wal(base)
                base.execute("pragma synchronous=normal")
            if not known:
                os.chmod(path, 0o600)
                base.executescript(data("casebook.sql").read_text("utf-8"))
        except BaseException:
            base.close()
            raise
        return base


def _to_wal(base: sqlite3.Connection) -> None:
    """Turn to WAL; of two that do so at once with a new file, SQLite refuses one without the wait it was given."""
    end = time.monotonic() + 30
    while True:
        try:
            base.execute("pragma journal_mode=wal")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)


def _is_casebook(base: sqlite3.Connection, path: Path) -> bool:
    """Whether it is one, or empty; StoreError for a file that holds something else, or is of another version."""
    if not base.execute("select 1 from sqlite_master").fetchone():
        return False
    if {"key", "value"} - {row[1] for row in base.execute("pragma table_info(meta)")}:
        raise StoreError(f"{path} is a database, but no casebook; it stays as it is. Open a new file")
    found = base.execute("select value from meta where key = 'version'").fetchall()
    if found != [(VERSION,)]:
        version = f"version {found[0][0] if found else '?'}; this smtpkit reads {VERSION}"
        raise StoreError(f"{path} is a casebook of {version}. Open a new file")
    return True


_HELD = WeakSet[IO[bytes]]()
"""The lock files that are ours. A forked child, which may live longer, lets them go."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: [file.close() for file in _HELD])


class Lock:
    """A lock file beside the casebook; free once its process is gone, whatever happened to it."""

    def __init__(self, casebook: Path, run: str) -> None:
        casebook = casebook.resolve()  # by whatever link it was reached
        self.path = casebook.with_name(f".{casebook.name}.{run}.lock")
        self._file: IO[bytes] | None = None

    def take(self) -> bool:
        """Whether the lock was free; it is ours then."""
        try:
            file = self.path.open("ab")
        except PermissionError:  # another user's
            return False
        try:
            _flock(file)
        except OSError:
            file.close()
            return False
        self._file = file
        _HELD.add(file)
        return True

    def drop(self) -> None:
        """Give it back and remove the file."""
        if self._file and not self._file.closed:
            self.path.unlink(missing_ok=True)  # somebody may have tidied the folder
            self._file.close()


def _flock(file: IO[bytes]) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Journal:
    """The writer of one run: rows gather, `commit` makes them durable; one per worker thread."""

    def __init__(self, path: Path, facts: Row) -> None:
        self.path, self.run = path.absolute(), new_id()
        self._lock, self._pid = Lock(self.path, self.run), os.getpid()
        self._begun = set[str]()
        with loud(self.path, "cannot open casebook"):
            self.base = connect(self.path)
            try:
                self._inode = os.stat(self.path).st_ino
                self._lock.take()
                recover(self.base, self.path)
                started = (self.run, self._pid, datetime.now(UTC).isoformat(), plain(facts))
                self.base.execute("insert into runs values (?, ?, ?, ?)", started)
            except BaseException:
                self.close()
                raise

    def _begin(self) -> None:
        if self.base.in_transaction:
            return
        if os.getpid() != self._pid:
            raise StoreError(f"casebook {self.path} was opened before a fork; open it anew in this process")
        if os.stat(self.path).st_ino != self._inode:
            raise StoreError(f"casebook {self.path} was moved or replaced while open; nothing more is sent")
        self.base.execute("begin immediate")

    def _write(self, statement: str, *rows: Sequence[object]) -> None:
        with loud(self.path, "cannot write casebook"):
            self._begin()
            self.base.executemany(statement, rows)

    def _ask(self, statement: str, *values: str) -> list[Any]:
        with loud(self.path, "cannot write casebook"):
            self._begin()  # what is found stays so until we have written
            return self.base.execute(statement, values).fetchall()

    def begin(self, session: str, rows: Sequence[tuple[str, Row]]) -> None:
        """Write intent: (attempt_id, planned facts) each; a second time while begun: what is meant now."""
        self._write(_PUT, *[sealed(n, self.run, session, "begun", plain(planned), "{}") for n, planned in rows])
        self._begun.update(number for number, _ in rows)

    def claim(self, attempt_ids: Sequence[str], keys: Sequence[str]) -> bool:
        """Mark that the dot is about to leave; False if another attempt has one of these keys already.

        A key of 32 signs is for any server; with more behind it, for that one: each bars the other.
        """
        rival = "select 1 from claims where key = substr(?1, 1, 32) or key between ?1 and ?1 || ' ~'"
        if any(self._ask(rival, key) for key in keys if key):
            return False
        for number, key in zip(attempt_ids, keys, strict=True):
            self._write("insert into claims values (?, ?)", *[(key, number)] * bool(key))
            self._end(number, "dot", {"claim": key})
        return True

    def finish(self, rows: Sequence[tuple[str, Row]], keys: Sequence[str]) -> None:
        """Write results; a claim whose message certainly was not taken is given back."""
        for (number, result), key in zip(rows, keys, strict=True):
            if result["outcome"] in ("accepted", "unknown"):
                result = {**result, "claim": key}
            else:
                self._write("delete from claims where key = ? and attempt_id = ?", (key, number))
            self._end(number, "final", result)

    def _end(self, attempt_id: str, state: str, result: Row) -> None:
        """Write state and result of an attempt that is not final yet, or only because our lock was lost."""
        stands = "state = 'final' and json_extract(result, '$.error') is not 'interrupted'"
        found = self._ask(f"select run, session, planned, {stands} from attempts where attempt_id = ?", attempt_id)
        if not found:
            raise StoreError(f"casebook {self.path} lost attempt {attempt_id}; nothing more is sent")
        run, session, planned, over = found[0]
        if not over:
            self._write(_PUT, sealed(attempt_id, run, session, state, planned, plain(result)))

    def heard(self, session: str, rows: Iterable[Sequence[object]]) -> None:
        """Write replies: seq, stage, command, code, raw, anomalies, sent_at, latency_s each."""
        made = [sealed(session, *row) for row in rows]
        self._write("insert into replies values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", *made)

    def commit(self) -> None:
        """Make what was written last; after `durable` it is on disk when this returns."""
        if self.base.in_transaction:
            with loud(self.path, "cannot write casebook"):
                self.base.execute("commit")

    def durable(self) -> None:
        """From now on each commit is synchronous=FULL: for runs that hand messages over."""
        self.commit()
        with loud(self.path, "cannot write casebook"):
            self.base.execute("pragma synchronous=full")

    def close(self) -> None:
        """End the run, with how many attempts it made; what was not committed is rolled back."""
        sql = "update runs set facts = json_insert(facts, '$.attempts', ?) where id = ?"  # -1: purged meanwhile
        with suppress(sqlite3.Error):  # without that number `verify` sees less, and nothing else is lost
            if self._begun and not self.base.in_transaction:
                self.base.execute(sql, (len(self._begun), self.run))
        self.base.close()
        self._lock.drop()


def recover(base: sqlite3.Connection, path: Path) -> None:
    """End what killed runs left open: begun becomes failed, dot unknown; runs whose lock is held are left alone."""
    for (run,) in base.execute(f"select distinct run {_OPEN}").fetchall():
        lock = Lock(path, run)
        if lock.take():
            try:
                _end_run(base, run)
            finally:
                lock.drop()


def _end_run(base: sqlite3.Connection, run: str) -> None:
    base.execute("begin immediate")
    columns = "attempt_id, session, state, planned, iif(json_valid(result), result, '{}')"
    found = base.execute(f"select {columns} {_OPEN} and run = ?", (run,)).fetchall()
    for attempt_id, session, state, planned, result in found:
        dot = state == "dot"
        end = {"stage": "body", "outcome": "unknown"} if dot else {"stage": "connect", "outcome": "failed"}
        end |= {"error": "interrupted", "maybe_delivered": dot}
        result = plain(json.loads(result) | end)
        base.execute(_PUT, sealed(attempt_id, run, session, "final", planned, result))
    base.execute("commit")


_TOLD = (False, True, None)
"""What 0, 1, 2 in the ledger's column `refused` mean; 2: we broke it off, so nobody knows."""


class Ledger:
    """Visits at receivers; `ask` reserves one or says how long to wait. Times are seconds since 1970.

    It is user-wide, so that pacing holds over cells, notebooks and restarts. `pid` is a random number and names a
    lock file: the id of a process that was killed may be another's by now.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._owner = path, randbits(62)
        self._lock = Lock(path, str(self._owner))
        with loud(path, "cannot open pacing ledger"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.base = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            _to_wal(self.base)
            self.base.executescript(data("ledger.sql").read_text("utf-8"))
            self._lock.take()

    def ask(self, pace: Pace, receiver: str, ip: str, now: float) -> tuple[float, int | None]:
        """(0.0, number of the visit), or (seconds to wait, None)."""
        with loud(self.path, "cannot write pacing ledger"):
            self.base.execute("begin immediate")
            self._bury(receiver, ip, now)
            past = "update visits set at = min(at, ?1), ended = min(ended, ?1) where (receiver = ?2 or ip = ?3)"
            later = " and at > ?1 - ?4 and max(at, ifnull(ended, 0)) > ?1"  # the clock was set back
            self.base.execute(past + later, (now, receiver, ip, DAY))  # else they would never grow old
            wait = pace.wait(self.visits(receiver, ip, now), ip, now)
            sql = "insert into visits (receiver, ip, at, pid) values (?, ?, ?, ?)"
            number = self.base.execute(sql, (receiver, ip, now, self._owner)).lastrowid if wait <= 0 else None
            self.base.execute("commit")
            return max(wait, 0.0), number

    def visits(self, receiver: str, ip: str, now: float) -> list[Visit]:
        """The last day's visits to either."""
        sql = "select at, ip, ended, refused, stop from visits where (receiver = ? or ip = ?) and at > ?"
        found = self.base.execute(sql, (receiver, ip, now - DAY)).fetchall()
        return [Visit(at, ip, ended, _TOLD[refused], bool(stop)) for at, ip, ended, refused, stop in found]

    def _bury(self, receiver: str, ip: str, now: float) -> None:
        """Open visits whose process is gone end when that is first seen: no earlier end is known to be true."""
        sql = "select distinct pid from visits where ended is null and (receiver = ? or ip = ?)"
        for (owner,) in self.base.execute(sql, (receiver, ip)).fetchall():
            lock = Lock(self.path, str(owner))
            if lock.take():
                sql = "update visits set ended = ?, refused = 2 where ended is null and pid = ?"
                self.base.execute(sql, (now, owner))
                lock.drop()

    def end(self, number: int, now: float, refused: bool | None, stop: bool) -> None:
        """Write down how the visit ended; refused None: we broke it off."""
        with loud(self.path, "cannot write pacing ledger"):
            sql = "update visits set ended = ?, refused = ?, stop = ? where id = ?"
            self.base.execute(sql, (now, _TOLD.index(refused), stop, number))

    def close(self) -> None:
        """Let go of the file; visits that are still open end as those of a killed process do."""
        self.base.close()
        self._lock.drop()
