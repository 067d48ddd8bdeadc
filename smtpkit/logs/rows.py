"""rows: what all log parsers make: polars rows with the schema's columns and a log's own, and their frame.

Belongs here: dtypes, what follows from other columns (domains, sessions, ids), the way to pandas. Not here:
lines (one module per MTA), files.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from zlib import crc32

import pandas as pd
import polars as pl
import pyarrow as pa

from smtpkit import attempts
from smtpkit.address import host_or_none, ip_or_none, sending_ip
from smtpkit.escape import visible

_TYPES: dict[str, Any] = {"str": pl.String, "category": pl.String, "float64": pl.Float64, "boolean": pl.Boolean}
_TYPES |= {"Int16": pl.Int16, "Int32": pl.Int32, "Int64": pl.Int64, "datetime64[us, UTC]": pl.Datetime("us", "UTC")}
OWN: dict[str, Any] = dict.fromkeys("kind file dsn_log orig_to tls_trust".split(), pl.String)
OWN |= {"line": pl.Int64, "lossy": pl.Boolean, "conn_use": pl.Int32, "queue_s": pl.Float64}
"""A log's columns beside the schema. kind: final, intermediate (no recipient named), connect_fail."""
SCHEMA: dict[str, Any] = {name: _TYPES[kind] for name, kind in attempts.COLUMNS.items()} | OWN
MESSAGE = ["vantage", "queue_id", "message_id", "recipient"]
"""What tries of one message to one recipient have in common."""
SHIFT = 40
"""Lines are numbered through all files: `n` is the file's number << SHIFT, plus the line's."""
_HIDDEN = r"[\p{Cc}\p{Cf}\p{Zl}\p{Zp}&&[^\t\n]]"
_NULLABLE = (pd.Int16Dtype(), pd.Int32Dtype(), pd.Int64Dtype())


EMPTY = pl.DataFrame(schema=SCHEMA)
KNOWN = EMPTY.select("vantage", "queue_id", "sender", "size_bytes", "message_id")
"""What is known of messages in the queue: columns of a frame that goes from file to file."""


def compact(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with its own copy of its texts: a view would keep the whole block of lines in memory."""
    return pl.DataFrame(frame.to_arrow())


def fill(rows: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Rows without sender, with what earlier files know of their queue id."""
    envelope = pl.col("source").cast(pl.String) == "opensmtpd"  # its id begins with the message's
    key = pl.when(envelope).then(pl.col("queue_id").str.head(8)).otherwise("queue_id").alias("queue_id")
    asked = whole(rows).select("vantage", key)
    more = asked.join(known, on=["vantage", "queue_id"], how="left", nulls_equal=True, maintain_order="left")
    names = ("sender", "size_bytes", "message_id")
    rows = rows.with_columns(pl.coalesce(rows[name], more[name]).alias(name) for name in names)
    return rows.with_columns(sender_domain=_domain(rows["sender"]))


def copied(rows: pl.DataFrame) -> pl.Series:
    """Where rows stand that an earlier file has: mail.info may hold what mail.log does. No time, no copy."""
    said = pl.struct("vantage", "queue_id", "recipient", "started_at", "mx_ip", "kind", "reply", "error").hash()
    seen = whole(rows).select("started_at", "file", said=said).with_row_index("place")
    seen = seen.filter(pl.col("said").is_duplicated() & pl.col("started_at").is_not_null())
    seen = seen.with_columns(nth=pl.int_range(pl.len()).over("said", "file"))
    return seen.filter(~pl.struct("said", "nth").is_first_distinct())["place"]


def numbered(rows: pl.DataFrame) -> pl.DataFrame:
    """try_number of each recipient of each message that has a name, by order of time."""
    rows = whole(rows)
    same = rows.select(pl.struct(MESSAGE).hash().alias("same"))
    often = same["same"].is_duplicated()
    counts = pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("same")
    number = pl.repeat(1, len(same), dtype=pl.Int32, eager=True)
    number.scatter(often.arg_true(), same.filter(often).select(counts).to_series())
    counted = pl.when(pl.any_horizontal(pl.col("queue_id", "message_id").is_not_null())).then(number)
    return rows.with_columns(
        try_number=pl.when(pl.col("recipient").is_not_null()).then(pl.coalesce("try_number", counted))
    )


_FEW = """domain mx_host mx_ip recipient_domain stage outcome error enhanced tls tls_cipher source
kind file dsn_log tls_trust""".split()
"""Columns of few different texts: kept as numbers while reading."""
_MEANING = "code enhanced reply stage mx_host outcome error dsn_log reason scope rule reply_host".split()
"""What replies are read from, and what is read."""


def whole(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with the columns of SCHEMA added where they lack."""
    return rows.with_columns(pl.lit(None, kind).alias(n) for n, kind in SCHEMA.items() if n not in rows.columns)


def complete(rows: pl.DataFrame, files: Mapping[int, str]) -> pl.DataFrame:
    """Rows in order of the lines, with file, domains, session and ids from what is known; no empty columns."""
    rows = whole(rows if rows["n"].is_sorted() else rows.sort("n", maintain_order=True))
    numbers, ips = pl.col("n") // (1 << SHIFT), rows["mx_ip"].unique().drop_nulls()
    rows = rows.with_columns(
        file=numbers.replace_strict(files, default=None, return_dtype=pl.String),
        line=pl.col("n") % (1 << SHIFT),
        recipient_domain=_domain(rows["recipient"]),
        sender_domain=_domain(rows["sender"]),
        mx_host=pl.col("mx_host").str.to_lowercase().str.strip_suffix("."),
        mx_ip=pl.col("mx_ip").replace({ip: str(sending_ip(ip)) for ip in ips if ":" in ip and ip_or_none(ip)}),
    )
    if rows["reply"].str.contains(_HIDDEN).any():
        rows = rows.with_columns(pl.col("reply").map_elements(visible, return_dtype=pl.String))
    begun = pl.col("started_at").cast(pl.Int64).fill_null(0)
    again = pl.col("n").cum_count().over("n") if rows["n"].is_duplicated().any() else pl.lit(1)
    if (rows["source"] == "exim").any():  # two blocks' rows may have the line of one host
        again = pl.format("{}.{}", again, pl.col("recipient").fill_null("").hash())
    sources = rows.select(pl.concat_str("file", pl.col("vantage").fill_null(""), separator="\0")).to_series()
    sums = sources.replace_strict({name: f"{crc32(name.encode()):08x}" for name in sources.unique()})
    made = rows.with_columns(
        domain=pl.coalesce(_domain(rows["domain"]), "recipient_domain"),
        session=pl.coalesce("session", pl.format("log-{}", "n")),
        attempt_id=pl.format("log-{}-{}-{}-{}", begun, sums, "line", again),
    )
    made = made.select(list(SCHEMA)).with_columns(pl.col(_FEW).cast(pl.Categorical))
    return made.select(c for c in made if c.null_count() < max(len(made), 1))


def _domain(addresses: pl.Series) -> pl.Series:
    """The part after the last @, as A-labels in lower case where it is a host name."""
    ends = addresses.str.split("@").list.last().str.to_lowercase() if len(addresses) else addresses
    odd = ends.filter(ends.str.len_bytes() != ends.str.len_chars()).unique()  # not ASCII
    return ends.replace({name: host_or_none(name) or name for name in odd}) if len(odd) else ends


def to_pandas(rows: pl.DataFrame) -> pd.DataFrame:
    """The attempts frame: pandas dtypes, closed lists, reasons and back ends' names."""
    rows = whole(rows)
    meaning = pd.DataFrame({name: _column(rows.drop_in_place(name)) for name in _MEANING})
    others = rows.columns
    with ThreadPoolExecutor(1) as thread:  # meanwhile the replies are read
        made = thread.map(_column, map(rows.drop_in_place, others))
        table = dict(attempts.classified(meaning)) | dict(zip(others, made, strict=True))
    return pd.DataFrame({name: table[name] for name in SCHEMA}, copy=False)


def _column(values: pl.Series) -> pd.Series:
    """One column with the schema's dtype, its texts shared with Arrow."""
    values = values.cast(SCHEMA[values.name])
    if values.name in attempts.CATEGORIES:
        words = list(attempts.CATEGORIES[values.name])
        codes = values.cast(pl.Enum(words)).to_physical().cast(pl.Int16).fill_null(-1).to_numpy()
        return pd.Series(pd.Categorical.from_codes(codes, categories=words))
    types = {pa.from_numpy_dtype(kind.numpy_dtype): kind for kind in _NULLABLE} | {pa.bool_(): pd.BooleanDtype()}
    types |= {pa.large_string(): pd.StringDtype(na_value=float("nan"))}
    return values.to_arrow().to_pandas(types_mapper=types.get)
