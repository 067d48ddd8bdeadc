"""files: log files as blocks of lines: globs, rotated sets in order, packed files, octets of any charset.

Belongs here: which files, in which order, and their text. Not here: what a line means.
"""

import bz2
import codecs
import contextlib
import glob
import gzip
import io
import lzma
import os
import re
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from smtpkit.catalogue import patterns
from smtpkit.errors import InvalidInput, listed, path_of, refuse
from smtpkit.escape import decode

BLOCK, PIECE = 16 << 20, 1 << 16
"""Octets that are parsed at once, which bounds the memory, and read at once."""
_ZSTD = partial(pa.CompressedInputStream, compression="zstd")
_PACKED = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ": lzma.open, b"\x28\xb5\x2f\xfd": _ZSTD, b"BZh": bz2.open}
_CONTROLS = bytes({*range(32)} - {9, 10, 11, 12, 13, 27})
_SHAPES = patterns("files")


def expand(paths: Any) -> list[str]:
    """The files that paths, globs and folders name, each rotated set from the oldest; "-" is stdin.

    >>> sorted(["mail.log", "mail.log.10.gz", "mail.log.2.gz"], key=age)
    ['mail.log.10.gz', 'mail.log.2.gz', 'mail.log']
    """
    found: list[str] = []
    for one in [os.fspath(path_of("paths", path)) if path else "" for path in listed("paths", paths)]:
        inside = os.path.join(one, "**") if os.path.isdir(one) else one
        named = [one] if one == "-" or os.path.isfile(one) else glob.glob(inside, recursive=True)
        files = [path for path in named if path == "-" or not os.path.isdir(path)]
        if not files:
            raise refuse("paths", one, "names no file", "check the path; globs such as 'mail.log*' are fine")
        found += files
    if not found:
        raise InvalidInput("no log file was named; give a path such as '/var/log/mail.log*'")
    once = {os.path.realpath(path): path for path in reversed(found)}
    return sorted(once.values(), key=age)


def age(path: str) -> tuple[str, str, int]:
    """What the files of one rotated set share; date and number, so that the oldest comes first."""
    base, before, date, number, kind = _SHAPES.rotated.fullmatch(path).groups()  # it fits any text
    newest = "}" if before else "~"
    return base + (kind or ""), re.sub("[-_T:]", "", date or "") or ("!" if number else newest), -int(number or 0)


def written(path: str) -> datetime:
    """When the file was last written; now for stdin."""
    return datetime.now(UTC) if path == "-" else datetime.fromtimestamp(os.stat(path).st_mtime, UTC)


def _unpacked(raw: Any) -> Any:
    """The octets of a packed or plain file, told apart by its first ones; with `read1`."""
    unpack: Any = next((how for magic, how in _PACKED.items() if raw.peek(6).startswith(magic)), None)
    return unpack(raw) if unpack else raw


def blocks(path: str, problems: list[tuple[str, int, str]]) -> Iterator[bytes]:
    """The file's octets in blocks of whole lines; what went wrong is added as (why, line, text).

    Raises InvalidInput if the file is binary.
    """
    before, rest, first = None if path == "-" else os.stat(path), b"", True
    with contextlib.ExitStack() as kept:
        raw = sys.stdin.buffer if path == "-" else kept.enter_context(open(path, "rb", buffering=1 << 16))
        file = _unpacked(raw)
        piece = BLOCK if file is raw else PIECE
        while not problems and (block := b"".join(_pieces(file, piece, problems))):
            if first:  # copytruncate leaves NULs
                block = block.lstrip(b"\0").removeprefix(codecs.BOM_UTF8)
            head = block[:4096]
            if first and len(head.translate(None, _CONTROLS)) < 0.9 * len(head):
                raise refuse("paths", path, "is binary, not a log", "give text, or text packed by gzip, xz, zstd")
            first, end = first and not block, block.rfind(b"\n") + 1
            if end:
                yield b"".join((rest, memoryview(block)[:end]))
            rest = block[end:] if end else rest + block
        if rest:
            yield rest
    if before and not problems and (first or _changed(path, before)):
        why = "an empty file" if first else "rotated or cut while it was read: read the set again"
        problems.append((why, 0, path))


def ahead(items: Iterator[Any]) -> Iterator[Any]:
    """The same items; a thread makes the next one while the last is in use, if polars may use two."""
    if pl.thread_pool_size() == 1:
        yield from items
        return
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


def _pieces(file: Any, piece: int, problems: list[tuple[str, int, str]]) -> Iterator[bytes]:
    """Up to a BLOCK; a broken file gives what came before the break."""
    left = BLOCK
    try:
        while left > 0 and (octets := file.read1(piece)):
            yield octets
            left -= len(octets)
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as wrong:
        problems.append((f"the packed file is broken or not whole ({wrong})", 0, ""))


def _changed(path: str, before: os.stat_result) -> bool:
    try:
        after = os.stat(path)
    except FileNotFoundError:
        return True
    return (after.st_ino, after.st_dev) != (before.st_ino, before.st_dev) or after.st_size < before.st_size


def _in_korean(error: UnicodeError) -> tuple[str, int]:
    """What is not UTF-8 up to the line's end, by the rules for servers' texts (EUC-KR, else `\\xNN`)."""
    assert isinstance(error, UnicodeDecodeError)
    end = error.object.find(b"\n", error.start)
    end = len(error.object) if end < 0 else end
    return decode(error.object[error.start : end]), end


codecs.register_error("smtpkit-line", _in_korean)


def lines(block: bytes, first: int) -> pl.DataFrame:
    """The block as a frame of n (line number, from `first`) and line."""
    try:
        made = pl.read_lines(io.BytesIO(block))
    except pl.exceptions.ComputeError:  # not UTF-8
        made = pl.read_lines(io.BytesIO(block.decode("utf-8", "smtpkit-line").encode()))
    return made.select(pl.int_range(first, first + pl.len(), dtype=pl.Int64).alias("n"), "line")


def name(path: str) -> str:
    """How a file is called in a frame."""
    return "stdin" if path == "-" else str(Path(path))
