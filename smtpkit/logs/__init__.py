"""logs: mail logs of any size as attempts frames: `read_log`.

Belongs here: files to frames, one after the other or on many workers. Not here: one file (parsing), one MTA's
lines (a module each), Parquet (sets).
"""

import os
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:1000,muzzy_decay_ms:0")
# polars' allocator else gives each block's memory back at once: a third of all CPU time (measured)

import polars as pl

from smtpkit import attempts
from smtpkit.errors import one_of, path_of, quantity, refuse
from smtpkit.logs import files, rows, sets
from smtpkit.logs.parsing import READERS, Told, parse

_LOST = (BrokenExecutor, ConnectionError, EOFError)


def read_log(
    paths: Any,
    mta: str = "auto",
    *,
    year: int | None = None,
    tz: str | None = None,
    executor: Executor | None = None,
    into: str | Path | None = None,
) -> Any:
    """Mail logs as an attempts frame: one row per real try, also those that a summary hides in "sent".

    `paths`: paths, globs, folders, "-" for stdin; .gz, .xz, .zst; rotated sets are read from the oldest.
    Tries that two files hold, such as mail.log and syslog, count once (but not in `into`).
    `mta`: postfix, exim, sendmail, opensmtpd, kumomta, powermta; auto tells them apart block by block.
    `year` of a set's first line (with `executor` of each file's) and `tz` ("Asia/Seoul") for stamps without them
    (default: by the file's date; UTC, with a note). `started_at` is the line's time; `vantage` the host that
    logged; `kind`, `file`, `line`, `dsn_log`, `lossy`, `orig_to`, `conn_use`, `queue_s`, `tls_trust` stand beside
    the schema.

    `executor` (any concurrent.futures.Executor, such as Dask's `client.get_executor()`) parses file by file.
    `into`: a folder for Parquet parts by day and host, however big the logs are; a `LogSet` comes back. One
    reading fills one folder: read a set that has grown again into a new one.

    `.attrs["problems"]`: what looked relevant and could not be read (why, file, count, lines, text).
    `.attrs["skipped"]`: lines that are no try: suspended, local, expired. `.attrs["notes"]`: what was assumed.
    Raises InvalidInput for no file, a binary one, a filled folder, an unknown zone, or when no line is of a log.

    >>> import tempfile
    >>> line = "Mar  2 09:14:05 relay1 postfix/smtp[41]: connect to mx[192.0.2.25]:25: Connection refused"
    >>> with tempfile.NamedTemporaryFile("w", suffix=".log") as file:
    ...     read = file.write(line), file.flush(), read_log(file.name, year=2026, tz="Asia/Seoul")
    >>> read[2][["mx_ip", "stage", "error"]].values.tolist()
    [['192.0.2.25', 'connect', 'refused']]
    """
    found = files.expand(paths)
    one_of("mta", mta, ("auto", *READERS))
    year = None if year is None else quantity("year", year, 1970, 9999, whole=True)
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise refuse("executor", executor, "has no .submit", "give one of concurrent.futures, or Dask's")
    told = Told(mta, year, attempts.zone("UTC" if tz is None else tz), tz is not None)
    folder = None if into is None else sets.fresh(path_of("into", into))
    parts = _in_turn(found, told, folder) if executor is None else _by_workers(found, told, folder, executor)
    told.check(found)
    if folder is not None:
        return sets.LogSet(folder, told.attrs())
    all_ = pl.concat([rows.KNOWN, *parts], how="diagonal")
    parts.clear()
    if len(found) > 1 and len(again := rows.copied(all_)):
        for file, count in all_["file"].gather(again).value_counts().iter_rows():
            told.problem("tries that an earlier file holds, too: each counts once", file, 0, "", count)
        all_ = all_.filter(~pl.int_range(pl.len()).is_in(again.implode()))
    made = rows.to_pandas(rows.numbered(all_))
    made.attrs = {"smtpkit": {"source": "log"}, **told.attrs()}
    return made


def _in_turn(found: list[str], told: Told, folder: Path | None) -> list[pl.DataFrame]:
    """One file after the other; what is open at a file's end goes into the next."""
    parts = []
    readers: dict[str, Any] = {}
    for number, path in enumerate(found):
        for block, part in enumerate(parse(path, number, told, readers, number == len(found) - 1, hold=True)):
            if folder is None:
                parts.append(part)
            else:
                sets.write(part, folder, f"{number:06}-{block:06}")
    return parts


def _work(
    told: Told, path: str, number: int, folder: Path | None, after: str | None
) -> tuple[Told, pl.DataFrame, pl.DataFrame]:
    """One file on a worker: rows whose message began in an earlier file come back, the others are stored.

    Tries that are open at its end find their delivery in the next file's first block.
    """
    readers: dict[str, Any] = {}
    parts = list(parse(path, number, told, readers, last=after is None))
    open_ = pl.concat([rows.KNOWN, *(reader.known() for reader in readers.values())])
    if after is not None:
        ahead = replace(told.blank(), names={number: told.names[number]})
        more = parse(after, number + 1, ahead, readers, last=True, most=1)
        parts += [part.filter(pl.col("file") == told.names[number]) for part in more]
    made = pl.concat([rows.KNOWN, *parts], how="diagonal")
    if folder is not None:
        orphan = pl.col("queue_id").is_not_null() & (pl.col("sender").is_null() | pl.col("message_id").is_null())
        sets.write(made.filter(~orphan), folder, f"{number:06}")
        made = made.filter(orphan)
    return told, made, open_


def _by_workers(found: list[str], told: Told, folder: Path | None, executor: Executor) -> list[pl.DataFrame]:
    """Each file on some worker; a file whose worker was lost is read here."""
    asked: list[tuple[tuple[str, int, Path | None, str | None], Future[Any]]] = []
    for number, (path, after) in enumerate(zip(found, [*found[1:], None], strict=True)):
        work = path, number, folder, None if after == "-" else after  # stdin can be read once
        future: Future[Any] = Future()
        try:
            future = executor.submit(_work, told.blank(), *work)
        except BrokenExecutor as why:
            future.set_exception(why)
        asked.append((work, future))
    known, parts = rows.KNOWN, []
    for work, future in asked:
        try:
            theirs, made, open_ = future.result()
        except _LOST as why:
            told.problem(f"a worker was lost ({type(why).__name__}); the file was read here", work[0], 0, "")
            theirs, made, open_ = _work(told.blank(), *work)
        told.add(theirs)
        made = rows.fill(made, known)
        same = pl.concat([known, open_]).group_by("vantage", "queue_id", maintain_order=True)
        known = same.agg(pl.all().drop_nulls().last())
        if folder is None:
            parts.append(made)
        elif len(made):
            sets.write(made, folder, f"{work[1]:06}-joined")
    return parts
