"""casebook: the evidence as frames: read, checked, exported, merged, tidied. Not here: writing (journal)."""

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from smtpkit import attempts, escape, parts
from smtpkit.address import refuse_controls
from smtpkit.catalogue import data
from smtpkit.errors import InvalidInput, StoreError, flag, listed, one_of, path_of, quantity, refuse
from smtpkit.journal import address, connect, loud, recover, sealed

FORMATS = ("parquet", "csv", "jsonl")


class Casebook:
    """A casebook file (SQLite, mode 0600), made if it is missing. Opening it never sends anything.

    What killed runs left open is ended first: begun as failed, dotted as unknown, error interrupted.
    Raises StoreError for a file that is no casebook, or of another version.

    >>> import tempfile
    >>> book = Casebook(Path(tempfile.mkdtemp()) / "c.sqlite")
    >>> book.attempts().empty, book.verify().empty
    (True, True)
    """

    def __init__(self, path: str | Path = "casebook.sqlite") -> None:
        self.path = path_of("casebook", path)
        with self._open() as base:
            recover(base, self.path)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with loud(self.path, "cannot use casebook"), closing(connect(self.path)) as base:
                yield base
        except (ValueError, TypeError) as error:  # changed after it was written, and does not even read back
            raise StoreError(f"{self.path} holds damaged rows ({error}); .verify() names every one") from error

    def attempts(self, case: str | None = None, *, run: str | None = None, classify: bool = True) -> pd.DataFrame:
        """The attempts frame, in the order of time; of one case, if named.

        `classify`: fill reason, scope and rule, which are never stored.
        """
        case, run = (one if one is None else refuse_controls("case or run", one) for one in (case, run))
        classify = flag("classify", classify)
        with self._open() as base:
            which = "(?1 is null or run = ?1) and (?2 is null or json_extract(planned, '$.case') = ?2)"
            sql = f"select attempt_id, session, planned, result from attempts where {which} order by attempt_id"
            found = base.execute(sql, (run, case)).fetchall()
            rows = (json.loads(p) | json.loads(r) | {"attempt_id": a, "session": s} for a, s, p, r in found)
            made = attempts.frame(rows, casebook=str(self.path.absolute())).drop(columns="claim", errors="ignore")
        return attempts.classified(made) if classify else made

    def replies(self, session: str | None = None) -> pd.DataFrame:
        """One row a reply: attempt_id (the session's first), session, seq, stage, command (redacted), code,
        enhanced, text, raw (bytes), anomalies, sent_at (UTC), latency_s (seconds)."""
        session = None if session is None else refuse_controls("session", session)
        with self._open() as base:
            return attempts.replies_frame(attempts.stored(base, session))

    def verify(self) -> pd.DataFrame:
        """What was damaged or taken away: table, key, problem; empty: sound. Of killed runs not all can be told."""
        found = list[tuple[str, str, str]]()
        try:
            with self._open() as base:
                found += [("file", "", said) for (said,) in base.execute("pragma integrity_check") if said != "ok"]
                found += _changed(base)
                for statement in data("verify.sql").read_text("utf-8").split(";")[:-1]:
                    found += base.execute(statement)
        except StoreError as error:
            found.append(("file", str(self.path), str(error)))
        return pd.DataFrame(found, columns=["table", "key", "problem"], dtype="str")

    def export(self, folder: str | Path, formats: Sequence[str] = FORMATS, *, sanitize: bool = True) -> list[Path]:
        """Write attempts and replies into `folder`; the paths written. Same casebook, same octets.

        `parquet` keeps every dtype; `csv` gets a quote before what a spreadsheet would run as a formula, unless
        `sanitize` is False; `jsonl` has one object a line. Raises InvalidInput for another format.
        """
        formats = [one_of("formats", form, FORMATS) for form in listed("formats", formats)]
        place, written, sanitize = path_of("folder", folder), list[Path](), flag("sanitize", sanitize)
        if place.is_file():
            raise refuse("folder", str(place), "is a file", "name a folder, or a new one")
        place.mkdir(parents=True, exist_ok=True)
        for name, table in {"attempts": self.attempts(), "replies": self.replies()}.items():
            table.attrs = {}
            written += [_export(table, place / f"{name}.{form}", sanitize) for form in formats]
        return written

    def merge(self, paths: Iterable[str | Path]) -> int:
        """Take over the attempts, replies and notes of other casebooks; how many attempts were new.

        For probes from several sending hosts, each with a casebook of its own. The others stay as they are, but
        what killed runs left open there is ended; an ending that a copy of a running one lacked comes later.
        """
        new = 0
        for path in [path_of("paths", one) for one in listed("paths", paths)]:
            if not path.exists() or path.samefile(self.path):
                raise InvalidInput(f"there is no other casebook {str(path)!r} to merge; nothing of it was taken")
            other = Casebook(path)
            with other._open() as base:
                if torn := next(_changed(base), None):
                    raise StoreError(f"{path}: {' '.join(torn)}; .verify() names all; nothing of it was taken")
            with self._open() as base:
                base.execute("attach ? as other", (address(other.path),))
                fresh = "state = 'final' and attempt_id not in (select attempt_id from main.attempts)"
                new += base.execute(f"select count(*) from other.attempts where {fresh}").fetchone()[0]
                base.executescript(data("merge.sql").read_text("utf-8"))
        return new

    def note(self, text: str, at: datetime | None = None) -> None:
        """Keep a remark of yours with its time (default now), such as "asked daum to refresh"."""
        if at is not None and (not isinstance(at, datetime) or at.tzinfo is None):
            raise refuse("at", str(at), "is no time with a time zone", "write at=datetime(..., tzinfo=UTC)")
        moment, line = (at or datetime.now(UTC)).astimezone(UTC).isoformat(), refuse_controls("note", text)
        with self._open() as base:
            base.execute("insert into notes values (?, ?, ?)", sealed(moment, line))

    def notes(self) -> pd.DataFrame:
        """Your remarks: at (UTC), text."""
        return self._noted("!=")

    def listings(self) -> pd.DataFrame:
        """What block lists said, as `checks.dnsbl` keeps it among the notes: at (UTC), text."""
        return self._noted("=")

    def _noted(self, same: str) -> pd.DataFrame:
        with self._open() as base:
            sql = f"select at, text from notes where substr(text, 1, 7) {same} 'dnsbl [' order by at"
            made = pd.DataFrame(base.execute(sql).fetchall(), columns=["at", "text"], dtype="str")
            return made.assign(at=pd.to_datetime(made["at"], utc=True, format="ISO8601").dt.as_unit("us"))

    def purge(self, days: int) -> int:
        """Forget attempts, replies and notes older than `days`; how many attempts went. Claims stay: what was
        sent once is still not sent twice."""
        days = quantity("days", days, 0, 100_000, whole=True)
        limit = (datetime.now(UTC) - timedelta(days=days)).isoformat()
        ended = "attempts where state = 'final' and json_extract(planned, '$.started_at') < ?"
        old = f"session in (select session from {ended})"
        with self._open() as base:
            base.execute("begin immediate")
            runs = f"id in (select run from attempts where {old})"
            base.execute(f"update runs set facts = json_set(facts, '$.attempts', -1) where {runs}", (limit,))
            base.execute(f"delete from replies where {old}", (limit,))
            gone = base.execute(f"delete from {ended}", (limit,)).rowcount
            base.execute("delete from notes where at < ?", (limit,))
            base.execute("commit")
        return gone

    def claimed(self, keys: Collection[str]) -> set[str]:
        """What was handed over before, or may have been, and has a key that begins with one of these 32 signs."""
        with self._open() as base:
            sql = f"select key from claims where substr(key, 1, 32) in ({','.join('?' * len(keys))})"
            return {key for (key,) in base.execute(sql, tuple(keys))}

    def __repr__(self) -> str:
        with self._open() as base:
            number = base.execute("select count(*) from attempts").fetchone()[0]
        return f"<Casebook {escape.visible(str(self.path))}: {number} attempts>"


def _changed(base: sqlite3.Connection) -> Iterator[tuple[str, str, str]]:
    base.text_factory = lambda octets: octets.decode("utf-8", "surrogateescape")  # one odd row hides no other
    for table in ("attempts", "replies", "notes"):
        for row in base.execute(f"select * from {table}"):
            if row != sealed(*row[:-1]):
                key = f"{row[0]} {row[1]}" if table == "replies" else str(row[0])
                yield table, key, "its checksum does not fit: changed after it was written"


def _export(table: pd.DataFrame, path: Path, sanitize: bool) -> Path:
    plain = table.drop(columns="raw", errors="ignore")
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    elif path.suffix == ".jsonl":
        path.write_bytes(attempts.json_lines(plain).encode())
    else:
        (parts.on_text(plain, escape.cell) if sanitize else plain).to_csv(path, index=False, lineterminator="\n")
    return path
