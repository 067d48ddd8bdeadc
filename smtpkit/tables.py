"""tables: people's own evidence as attempts frames: their CSV, their Excel file or their frame.

Belongs here: which column is what, replies as people write them. Not here: times (dates), bounces, logs.
"""

import ast
import csv
import io
import re
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import pandas as pd
from pandas.errors import ParserWarning

from smtpkit import attempts, catalogue, reasons, words
from smtpkit.address import ip_or_none
from smtpkit.dates import times, whole_times
from smtpkit.errors import of_kind, path_of, refuse
from smtpkit.escape import decode

_SHAPES = catalogue.patterns("tables")
_NAMES, _WORDS = catalogue.rows("table_columns.csv"), catalogue.rows("table_outcomes.csv")
_OWN = {name.replace("_", ""): name for name in attempts.COLUMNS}
_KNOWN = _OWN | {w.replace("_", ""): r["column"] for r in _NAMES for w in f"{r['written']} {r['vague']}".split()}
_VAGUE = {word.replace("_", "") for row in _NAMES for word in row["vague"].split()}
"""Names of columns beside which others say more."""
_ENDS = {word: row["column"] for row in _WORDS for word in row["written"].split()}
_BELIED = {f"{row['column']}{code}" for row in _WORDS for code in row["belied_by"].split()}
"""Outcomes with the class of a code that belies them."""


def read_table(source: Any, columns: Mapping[str, str] | None = None, *, tz: str | None = None) -> pd.DataFrame:
    """Anybody's table of tries as an attempts frame: a pandas frame, or a file: CSV (UTF-8 or EUC-KR),
    Excel (its first sheet), Parquet, JSON lines.

    `columns`: {"their name": "column of the schema"}; what it leaves out is guessed by name and content, said
    in a warning and in `.attrs["guessed"]`. "550 5.7.1 text" becomes code, enhanced and reply; outcome, domain
    and MX host follow from what is there. `tz` is the zone of times that have none (else UTC, with a note).

    `.attrs["problems"]` names the rows (by position) whose time, code, IP, reply or outcome cannot be read, or
    whose outcome the reply belies (the reply counts).
    Raises InvalidInput if a column is not there, or if there is nothing like a reply or code.

    >>> made = pd.DataFrame({"when": ["2026-03-02 09:00"], "ip": ["192.0.2.1"], "reply": ["550 5.7.1 no"]})
    >>> named = {"when": "started_at", "ip": "mx_ip", "reply": "reply"}
    >>> read = read_table(made, named, tz="Asia/Seoul")
    >>> read[["started_at", "code", "enhanced", "outcome"]].astype("str").iloc[0].tolist()
    ['2026-03-02 00:00:00+00:00', '550', '5.7.1', 'rejected']
    """
    table = source if isinstance(source, pd.DataFrame) else _opened(path_of("table", source))
    given = dict(of_kind("columns", {} if columns is None else columns, Mapping, 'write {"their name": "reply"}'))
    tz = None if tz is None else attempts.zone(tz)
    table = _checked(table, given)
    table = whole_times(table, set(given) | {name for name in table if _known(name) == "latency_s"})
    guessed = _guess(table, given)
    if guessed:
        said = ", ".join(f"{theirs!r} as {ours}" for theirs, ours in guessed.items())
        warnings.warn(f"read_table guessed: {said}; columns= settles it", stacklevel=2)
    names = given | guessed
    names |= {n: f"their_{n}" for n in names.values() if n in table and n not in names}
    named = table.rename(columns=names).reset_index(drop=True)
    if not {"reply", "code", "error", "outcome"} & set(named):
        instead = 'name one: columns={"x": "reply"}'
        raise refuse("table", list(table), "has no column like a reply or a code", instead)
    problems, notes = attempts.Remarks(), list[str]()
    _read_values(named, tz, problems, notes)
    _decide(named, problems)
    made = attempts.classified(attempts.conform(_joined(named)))
    made.attrs = {"smtpkit": {"source": "table"}, "guessed": guessed, "problems": problems, "notes": notes}
    return made


def _checked(table: pd.DataFrame, given: Mapping[str, str]) -> pd.DataFrame:
    """The table if its names and those given are clear; named indexes as columns, octets as texts."""
    if not table.columns.is_unique:
        raise refuse("columns", list(table), "have a name twice", "rename one of them")
    if isinstance(table.index, pd.DatetimeIndex) or set(filter(None, table.index.names)) - set(table):
        table = table.reset_index()
    odd = [name for name in given if name not in table] + [n for n in given.values() if n not in attempts.COLUMNS]
    if odd:
        raise refuse("columns", odd, "are neither in the table nor in the schema", f"the table has {list(table)}")
    if len(set(given.values())) < len(given):
        raise refuse("columns", given, "name one column of the schema twice", "leave one of them out")
    return table.apply(_decoded)


def _decoded(column: pd.Series) -> pd.Series:
    """Octets, as smtplib gives them, as texts."""
    odd = pd.api.types.infer_dtype(column) in ("bytes", "mixed")
    return column.map(lambda said: decode(said) if isinstance(said, bytes) else said) if odd else column


def _opened(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise refuse("table", str(path), "is no file", "give a CSV or Excel file, or a frame")
    try:
        table = _parsed(path)
    except (csv.Error, ValueError, BadZipFile, ParserWarning) as why:  # pandas' errors are ValueErrors
        said, instead = str(why).partition("\n")[0][:120], "quote texts that have commas, save .xls as .xlsx"
        raise refuse("table", str(path), f"cannot be read ({said})", instead) from None
    return _headed(path, table)


def _parsed(path: Path) -> pd.DataFrame:
    if path.suffix.lower() in (".xlsx", ".xlsm", ".xls"):
        sheets = pd.read_excel(path, dtype=object, engine="openpyxl", sheet_name=None)
        first, *more = [name for name in sheets if len(sheets[name])] or sheets
        if more:
            warnings.warn(f"read_table read {first!r}; not read: {', '.join(map(repr, more))}", stacklevel=4)
        return sheets[first]
    if path.suffix.lower() == ".jsonl":
        return pd.read_json(path, lines=True, dtype=False)
    if path.suffix.lower() == ".parquet":
        return pd.read_parquet(path)
    octets = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    wide = octets[:2] in (b"\xff\xfe", b"\xfe\xff")  # Excel's "Unicode text"
    text = octets.decode("utf-16", "replace") if wide else decode(octets)
    text = re.sub(r"\Asep=.[\r\n]+", "", text)  # a line for Excel
    head = next(filter(str.strip, text.splitlines()), "")
    by = max("\x1f,;\t|", key=re.sub('"[^"]*"', "", head).count)  # a table of one column has no separator
    how: Any = {"sep": by, "engine": "python", "dtype": object, "skipinitialspace": True, "index_col": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error", ParserWarning)  # a row with more than the head has names for
        return pd.read_csv(io.StringIO(text), **how)


def _headed(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """The table, if its first line names columns."""
    plain = (re.sub(r"\.\d+$", "", str(name).strip()) for name in table)  # pandas writes a second `ip` as `ip.1`
    if len(set(names := list(filter(_known, plain)))) < len(names):  # what nobody needs may have any name
        raise refuse("columns", names, "have a name twice", "rename one of them")
    odd = [str(name) for name in table if _look(name)]
    if odd and not names:
        raise refuse("columns", odd, f"are no names: {path} has no first line of them", "add one: time,ip,reply")
    return table


def _guess(table: pd.DataFrame, given: Mapping[str, str]) -> dict[str, str]:
    """Columns by their names, the schema's first, then by what most of their values look like."""
    guessed, taken = dict[str, str](), set(given.values())
    order = {n: (_plain(n) in _VAGUE, n not in attempts.COLUMNS, _plain(n) not in _OWN) for n in table}
    named = {n: _by_name(n, table[n]) for n in sorted(order, key=lambda n: order[n]) if n not in given}
    looks = {name: _by_content(table[name]) for name in named if not named[name]}
    for name, ours in [*named.items(), *looks.items()]:
        if not ours or ours in taken:
            continue
        taken.add(ours)
        alike = [str(other) for other in looks if looks[other] == ours]
        if name in looks and len(alike) > 1 and ours in ("mx_ip", "recipient"):  # one may be ours
            said = f"{' and '.join(alike)} look alike; columns={{{alike[-1]!r}: {ours!r}}} names it"
            warnings.warn(f"read_table guessed no {ours}: {said}", stacklevel=3)
        elif name != ours:
            guessed[name] = ours
    return guessed


def _plain(name: Any) -> str:
    return re.sub(r"[\s._-]+", "", str(name).lower())


def _known(name: Any) -> str | None:
    return _KNOWN.get(_plain(name))


def _by_name(name: Any, values: pd.Series) -> str | None:
    """What the name says, if the values fit: an `error` is often a reply, a `code` a word, a `source` anything."""
    own, ours, held = _OWN.get(_plain(name)), _known(name), values.dropna().astype("str")
    if own in attempts.CATEGORIES and (not len(held) or held.isin(attempts.CATEGORIES[own]).any()):
        return own
    if ours in ("reply", "code") and own != "reply" and len(held) and held.map(_outcome).notna().all():
        return "outcome"
    if ours == "code":  # a state may be 1 or 2
        numbers = pd.to_numeric(held, errors="coerce")
        return ours if numbers.notna().mean() > 0.5 and numbers.between(100, 599).any() else None
    unlike = ours in ("sender_ip", "local_ip") and not held.map(_is_ip).mean() > 0.5
    return None if unlike else ours


def _by_content(values: pd.Series) -> str | None:
    kinds = values.dropna().head(200).map(_look).value_counts(normalize=True)
    return next((str(ours) for ours, share in kinds.items() if share > 0.8 and ours), None)


def _look(value: Any) -> str:
    """The column that a value looks like; "": none."""
    named = ("recipient", "started_at", "reply")
    found = next((name for name in named if getattr(_SHAPES, name).match(str(value))), "")
    return "mx_ip" if _is_ip(value) else found


def _is_ip(text: object) -> bool:
    return ip_or_none(str(text).strip().strip("[]")) is not None


_FLAGS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
_WAYS: dict[str, Callable[[str], Any]] = {
    "mx_ip": lambda text: words.server(text)[1],
    "outcome": lambda text: _outcome(text),
    "error": lambda text: words.ending(text)["error"],
    "stage": lambda text: words.stage(f"after {text.upper()}"),
}
"""How texts are read that are none of the schema's words: `RCPT TO`, `Connection refused`."""


def _read_values(named: pd.DataFrame, tz: str | None, problems: list[Any], notes: list[str]) -> None:
    """Each column of the schema in place; what cannot be read is missing, and a problem."""
    _part_servers(named)
    for name in [name for name in named if name in attempts.COLUMNS]:
        texts = named[name].astype("str").str.strip()
        texts = texts.where(texts != "")
        read = times(named[name], tz, notes) if name == "started_at" else _read(name, texts)
        _note(name, named[name], read.isna() & texts.notna(), problems)
        named[name] = read


def _read(name: str, texts: pd.Series) -> pd.Series:
    kind, own = attempts.COLUMNS[name], attempts.CATEGORIES.get(name, ())
    if kind == "boolean":
        return texts.str.lower().map(_FLAGS)
    if kind not in ("str", "category"):
        read = pd.to_numeric(texts, errors="coerce").astype("float64")
        whole = kind.startswith("Int")
        fits = (read % 1 == 0) & (read.abs() < 2.0 ** (int(kind[3:]) - 1)) if whole else read.notna()
        return read.where(fits & read.between(100, 599) if name == "code" else fits)
    if kind == "str" and name not in _WAYS:
        return texts
    ours, way = texts.str.lower(), _WAYS.get(name)
    return ours.where(ours.isin(own), texts.map(way, na_action="ignore") if way else None)


def _part_servers(named: pd.DataFrame) -> None:
    """`mx1.d.example[192.0.2.1]:25` as host and IP."""
    if "mx_host" in named:
        texts = named["mx_host"].astype("str")
        host, ip = (texts.map(lambda text, at=at: words.server(text)[at], na_action="ignore") for at in (0, 1))
        named["mx_host"] = named["mx_host"].mask(ip.notna(), host)
        if ip.notna().any():
            named["mx_ip"] = named.get("mx_ip", ip).astype(object).fillna(ip)


def _note(name: str, column: pd.Series, bad: pd.Series, problems: list[Any], why: str = "cannot be read") -> None:
    rows, first = list(column.index[bad]), str(next(iter(column[bad]), ""))[:100]
    if rows:
        problems.append({"why": f"{name} {why}", "count": len(rows), "lines": rows[:20], "text": first})


def _outcome(text: str) -> str | None:
    """An outcome as the schema or as people call it."""
    return _ENDS.get(re.sub(r"\s", "", text).lower())


def _decide(named: pd.DataFrame, problems: list[Any]) -> None:
    """The deciding columns in place, from what was written; equal rows are read once."""
    written = named.reindex(columns=["reply", "code", "enhanced", "outcome"])
    firsts, number = reasons.each_once(written, _told)
    told = pd.DataFrame(firsts or [_told(None, None, None, None)], dtype=object).take(number).set_axis(named.index)
    _note("outcome", written["outcome"], told.pop("belied").astype(bool), problems, "is not what the reply says")
    for name in told:
        stays = name in named and name not in ("reply", "code", "outcome")
        named[name] = named[name].astype(object).fillna(told[name]) if stays else told[name]
    mute = written.notna().any(axis=1) & named.reindex(columns=["outcome", "error"]).isna().all(axis=1)
    _note("reply", written["reply"], mute, problems)


def _told(reply: str | None, code: int | None, enhanced: str | None, outcome: str | None) -> dict[str, Any]:
    """The deciding columns; a reply counts more than what the table calls it."""
    told = _said(reply, code, enhanced)
    belied = f"{outcome}{str(told.get('code'))[0]}" in _BELIED
    own = None if belied or outcome == "failed" else outcome
    return told | {"outcome": own or told.get("outcome") or outcome, "belied": belied}


def _said(reply: str | None, code: int | None, enhanced: str | None) -> dict[str, Any]:
    """What a reply, or a code and its words, say."""
    text = re.sub(r"^(\d{3})\.0$", r"\1", str(reply or "").strip().replace("\r\n", "\n"))
    if python := _SHAPES.python.search(text):
        with suppress(SyntaxError, ValueError):
            text = " ".join(filter(None, (python[1], decode(ast.literal_eval(python[2])))))
    told = words.ending(text, text)
    if "code" not in told:
        found = _SHAPES.said.search(text[:2000])  # time grows with its square
        if found and (code is None or int(code) == int(found[1])):
            said = text[found.end() :].partition(" (in reply to ")[0]
            told = words.ending(text, f"{found[1]} {said}")
        elif code is not None:
            known = None if enhanced and enhanced in text else enhanced
            text = " ".join(filter(None, [str(int(code)), known, text]))
            told = words.ending(text, text)
    if not text:
        return {}
    if "code" in told:
        return told | {"stage": told["stage"] if "in reply to" in text else None}
    if told["error"]:
        return {"reply": None, "code": None, "text": text} | told
    outcome = _outcome(text) or words.OUTCOMES.get((enhanced or "")[:1])
    return {"reply": text, "code": code, "outcome": outcome, "maybe_delivered": None}


def _joined(named: pd.DataFrame) -> pd.DataFrame:
    """Domains from addresses (or domains in their place), a host from other rows of its IP."""
    for address in {"recipient", "sender"} & set(named):
        domain = named[address].astype("str").str.extract(r"(?:@|^(?=[^@]+\.))([^@<>\s]+)>?\s*$")[0]
        named[f"{address}_domain"] = domain.str.lower()
    if "domain" not in named and "recipient_domain" in named:
        named["domain"] = named["recipient_domain"]
    if {"mx_ip", "mx_host"} <= set(named):
        pairs = named[["mx_ip", "mx_host"]].dropna().drop_duplicates()
        hosts = pairs.drop_duplicates("mx_ip", keep=False).set_index("mx_ip")["mx_host"]
        named["mx_host"] = named["mx_host"].astype(object).fillna(named["mx_ip"].map(hosts).astype(object))
    return named.assign(source=named["source"].fillna("table") if "source" in named else "table")
