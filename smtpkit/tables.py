"""tables: people's own evidence as attempts frames: their CSV, Excel or frame, and the bounces they were sent.

Belongs here: which column is what, replies as people write them, delivery reports. Not here: times (dates), logs
of MTAs (logs), the schema (attempts).
"""

import csv
import email
import io
import mailbox
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC
from email import policy
from email.message import EmailMessage
from email.utils import getaddresses, parsedate_to_datetime
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import pandas as pd

from smtpkit import attempts, catalogue, words
from smtpkit.address import ip_or_none
from smtpkit.dates import times, whole_times
from smtpkit.errors import refuse
from smtpkit.escape import decode

_KNOWN = {word: row["column"] for row in catalogue.rows("table_columns.csv") for word in row["written"].split()}
_ENDS = {word: row["column"] for row in catalogue.rows("table_outcomes.csv") for word in row["written"].split()}
_SAID = re.compile(r"(?s)(?:^|;|:(?!\s*2))\s*([245]\d\d)[ :-]\s*(.*?)(?: \(in reply to .*)?$")
"""A reply behind the words of a log, or a report's type: `host mx said: 550 no`, `smtp; 550 no`."""


def read_table(source: Any, columns: Mapping[str, str] | None = None, *, tz: str | None = None) -> pd.DataFrame:
    """Anybody's table of tries as an attempts frame: a pandas frame, or a CSV or Excel file (UTF-8 or EUC-KR).

    `columns`: {"their name": "column of the schema"}; what it leaves out is guessed by name and content, said
    in a warning and in `.attrs["guessed"]`. "550 5.7.1 text" becomes code, enhanced and reply; outcome, domain
    and MX host follow from what is there. `tz` is the zone of times that have none (else UTC, with a note).

    `.attrs["problems"]` names the rows (by position) whose time, code, IP, reply or outcome cannot be read.
    Raises InvalidInput if a column is not there, or if there is nothing like a reply or code.

    >>> made = pd.DataFrame({"when": ["2026-03-02 09:00"], "ip": ["192.0.2.1"], "reply": ["550 5.7.1 no"]})
    >>> named = {"when": "started_at", "ip": "mx_ip", "reply": "reply"}
    >>> read = read_table(made, named, tz="Asia/Seoul")
    >>> read[["started_at", "code", "enhanced", "outcome"]].astype("str").iloc[0].tolist()
    ['2026-03-02 00:00:00+00:00', '550', '5.7.1', 'rejected']
    """
    table = source if isinstance(source, pd.DataFrame) else _opened(Path(source))
    if not table.columns.is_unique:
        raise refuse("columns", list(table), "have a name twice", "rename one of them")
    given = dict(columns or {})
    odd = [name for name in given if name not in table] + [n for n in given.values() if n not in attempts.COLUMNS]
    if odd:
        raise refuse("columns", odd, "are neither in the table nor in the schema", f"the table has {list(table)}")
    table = whole_times(table, set(given))
    if guessed := _guess(table, set(given), set(given.values())):
        said = ", ".join(f"{theirs!r} as {ours}" for theirs, ours in guessed.items())
        warnings.warn(f"read_table guessed: {said}; columns= settles it", stacklevel=2)
    named = table.rename(columns=given | guessed).reset_index(drop=True)
    if not {"reply", "code", "error", "outcome"} & set(named):
        why = "has no column like a reply or a code"
        raise refuse("table", list(table), why, 'name one: columns={"x": "reply"}')
    problems: list[dict[str, Any]] = []
    notes: list[str] = []
    _read_values(named, tz, problems, notes)
    written = named.reindex(columns=["reply", "code", "enhanced"]).astype(object)
    written = written.where(written.notna(), None)
    told = pd.DataFrame([_told(*row) for row in written.itertuples(index=False)], dtype=object)
    vague = named.get("outcome", pd.Series(None, named.index, dtype=object)).eq("failed")  # a reply says how
    for name in told:
        stays = name in named and name not in ("reply", "code")
        given = named[name].mask(vague) if name == "outcome" and stays else named.get(name)
        named[name] = given.fillna(told[name]) if stays else told[name]
    if "outcome" in named:
        named["outcome"] = named["outcome"].mask(vague & named["outcome"].isna(), "failed")
    mute = written.notna().any(axis=1) & named.reindex(columns=["outcome", "error"]).isna().all(axis=1)
    _note("reply", written["reply"], mute, problems)
    made = attempts.classified(attempts.conform(_joined(named)))
    made.attrs = {"smtpkit": {"source": "table"}, "guessed": guessed, "problems": problems, "notes": notes}
    return made


def _opened(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise refuse("table", str(path), "is no file", "give a CSV or Excel file, or a frame")
    try:
        return _parsed(path)
    except (csv.Error, ValueError, BadZipFile) as why:  # pandas' errors are ValueErrors
        said, instead = str(why).partition("\n")[0][:120], "quote texts that have commas, save .xls as .xlsx"
        raise refuse("table", str(path), f"cannot be read ({said})", instead) from None


def _parsed(path: Path) -> pd.DataFrame:
    if path.suffix.lower() in (".xlsx", ".xlsm", ".xls"):
        return pd.read_excel(path, dtype=object, engine="openpyxl")
    octets, text = path.read_bytes().removeprefix(b"\xef\xbb\xbf"), ""
    wide = octets[:2] in (b"\xff\xfe", b"\xfe\xff")  # Excel's "Unicode text"
    for name in ["utf-16"] if wide else ["utf-8", "euc-kr", "cp949"]:  # CP949: EUC-KR as Korean Excel writes it
        with suppress(UnicodeError):
            text = text or octets.decode(name)
    text = text or decode(octets)
    how: Any = {"sep": None, "engine": "python", "dtype": object, "skipinitialspace": True, "index_col": False}
    return pd.read_csv(io.StringIO(text), **how)


def _guess(table: pd.DataFrame, settled: set[str], taken: set[str]) -> dict[str, str]:
    """Columns by their names, then by what most of their values look like."""
    guessed: dict[str, str] = {}
    free = [name for name in table if name not in settled]
    for way in (_by_name, _by_content):
        for name in free:
            ours = way(str(name), table[name]) if name not in guessed else None
            if ours and ours not in taken:
                guessed[name] = ours
                taken = taken | {ours}
    return {theirs: ours for theirs, ours in guessed.items() if theirs != ours}


def _by_name(name: str, values: pd.Series) -> str | None:
    plain = re.sub(r"[\s.-]+", "_", name.strip().lower())
    ours = plain if plain in attempts.COLUMNS else _KNOWN.get(plain) or _KNOWN.get(plain.replace("_", ""))
    numbers = pd.to_numeric(values.dropna(), errors="coerce").notna()
    if ours in ("reply", "code") and len(numbers) and _outcomes(values.dropna()).notna().all():
        return "outcome"
    return None if ours == "code" and numbers.mean() <= 0.5 else ours


def _by_content(name: str, values: pd.Series) -> str | None:
    seen = values.dropna().astype(str).head(200)
    if not len(seen):
        return None
    looks = {
        "mx_ip": seen.map(_is_ip),
        "recipient": seen.str.fullmatch(r"\s*<?[^\s@]+@[\w.-]+>?\s*"),
        "started_at": seen.str.match(r"\d{4}\s?[-/.년]\s?\d\d?\s?[-/.월]\s?\d\d?"),
        "reply": seen.str.match(r"[245]\d\d[ -]"),
    }
    return next((ours for ours, fits in looks.items() if fits.mean() > 0.8), None)


def _is_ip(text: object) -> bool:
    return ip_or_none(str(text).strip().strip("[]")) is not None


def _read_values(named: pd.DataFrame, tz: str | None, problems: list[dict[str, Any]], notes: list[str]) -> None:
    """Times, codes and IPs in place; what cannot be read is missing, and a problem."""
    readers: dict[str, Any] = {
        "started_at": lambda column: times(column, tz, notes),
        "code": lambda column: _codes(pd.to_numeric(column, errors="coerce")),
        "outcome": _outcomes,
        "mx_ip": lambda column: column.astype("str").str.strip().str.strip("[]").where(column.map(_is_ip)),
    }  # fmt: skip
    for name in [name for name in readers if name in named]:
        read = readers[name](named[name])
        _note(name, named[name], read.isna() & named[name].notna(), problems)
        named[name] = read
    for name in set(named) & set(attempts.COLUMNS) - set(readers):
        kind = attempts.COLUMNS[name]
        if kind in ("str", "category"):
            stripped = named[name].astype(str).str.strip()
            named[name] = named[name].where(named[name].isna(), stripped).replace("", None)
        else:
            named[name] = pd.to_numeric(named[name], errors="coerce")


def _note(name: str, column: pd.Series, bad: pd.Series, problems: list[dict[str, Any]]) -> None:
    rows, first = list(column.index[bad]), str(next(iter(column[bad]), ""))[:100]
    if rows:
        problems.append({"why": f"{name} cannot be read", "count": len(rows), "lines": rows[:20], "text": first})


def _outcomes(column: pd.Series) -> pd.Series:
    """Outcomes as the schema or as people call them; what is neither is missing."""
    return column.astype("str").str.replace(r"\s", "", regex=True).str.lower().map(_ENDS)


def _codes(numbers: pd.Series) -> pd.Series:
    return numbers.where(numbers.between(100, 599) & (numbers % 1 == 0)).astype("Int16")


def _told(reply: str | None, code: int | None, enhanced: str | None) -> dict[str, Any]:
    """What a reply, or a code and its words, say: the deciding columns."""
    text = str(reply or "").strip()
    found = None if words.answer(text) else _SAID.search(text)
    if found and (code is None or int(code) == int(found[1])):
        told = words.ending(text, f"{found[1]} {found[2]}")
        return told | {"stage": told["stage"] if "in reply to" in text else None}
    if code is not None and not words.answer(text):
        text = " ".join(filter(None, [str(int(code)), None if enhanced and enhanced in text else enhanced, text]))
    told = words.ending(text, text)
    if not text:
        return {}
    if "code" in told:
        return told | {"stage": None}
    ending = _ENDS.get(re.sub(r"\s", "", text).lower())
    unread = {"reply": text, "code": code, "outcome": ending, "maybe_delivered": None}
    return {"reply": None, "code": None, "text": text} | told if told["error"] else unread


def _joined(named: pd.DataFrame) -> pd.DataFrame:
    """Domains from addresses, a host from other rows of its IP, closed lists kept closed."""
    for address in {"recipient", "sender"} & set(named):
        domain = named[address].astype("str").str.rpartition("@")[2].str.strip("<> ").str.lower()
        named[f"{address}_domain"] = domain.where(domain != "")
    if "domain" not in named and "recipient_domain" in named:
        named["domain"] = named["recipient_domain"]
    if {"mx_ip", "mx_host"} <= set(named):
        pairs = named[["mx_ip", "mx_host"]].dropna().drop_duplicates()
        hosts = pairs.drop_duplicates("mx_ip", keep=False).set_index("mx_ip")["mx_host"]
        named["mx_host"] = named["mx_host"].fillna(named["mx_ip"].map(hosts))
    for name in set(attempts.CATEGORIES) & set(named):
        named[name] = named[name].where(named[name].isin(attempts.CATEGORIES[name]), None)
    return named.assign(source="table")


_SMTP = re.compile(r"(?:x-)?smtp[^;]*;\s*", re.I)
_SERVER = re.compile(r"(?:host |with |to )?([\w.-]+\.[\w.-]+)? ?[\[(]((?:IPv6:)?[0-9A-Fa-f.:]{4,45})[\]),]")
_CODED = re.compile(r"(?m)(?:^|[\s:>])([245]\d\d[ -](?:.*\n?)(?:\s*[245]\d\d[ -].*\n?)*)")
_FAILED = re.compile(r"(?m)^[ \t]*<?([^\s<>@:]+@[\w.-]+\w)>?(?::|[ \t]*$|\s*\()")
_OUTCOMES = {"delayed": "deferred", "delivered": "accepted", "relayed": "accepted", "expanded": "accepted"}
"""What a report's Action means; any other: failed."""


def read_bounces(paths: Any) -> pd.DataFrame:
    """Bounces as an attempts frame: .eml files, mbox files, maildirs and folders of these; a row per recipient.

    RFC 3464 reports (Remote-MTA, Diagnostic-Code, Status, Action, Last-Attempt-Date), and plain ones as Exim,
    qmail and others write them, as far as a recipient and a reply can be found. `vantage` is the MTA that
    reported, `file` the bounce. `.attrs["problems"]` names the mails in which no recipient could be read.
    Raises InvalidInput if there is no such file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "b.eml")
    ...     written = path.write_text("Subject: failure\\n\\n<r@d.example>:\\n550 5.1.1 no such user\\n")
    ...     read_bounces(path)[["recipient", "code"]].values.tolist()
    [['r@d.example', 550]]
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    rows: list[dict[str, Any]] = []
    problems = []
    for name, message in (pair for one in given for pair in _mails(Path(one))):
        found = list(_reported(message)) or list(_plain(message))
        common = {"source": "bounce", "file": name, **_original(message)}
        rows += [common | row | _ended(row) for row in found]
        if not found:
            problems.append({"why": "no failed recipient was found", "count": 1, "lines": [], "text": name})
    made = attempts.classified(attempts.frame(rows))
    made.attrs = {"smtpkit": {"source": "bounce"}, "problems": problems, "notes": []}
    return made


def _mails(path: Path) -> Iterator[tuple[str, EmailMessage]]:
    if path.is_dir():
        for inner in sorted(p for p in path.rglob("*") if p.is_file()):
            yield from _mails(inner)
    elif not path.is_file():
        raise refuse("paths", str(path), "names no file", "give .eml files, an mbox, a maildir or a folder")
    elif path.read_bytes()[:5] == b"From ":
        box = mailbox.mbox(path, create=False)
        for number, key in enumerate(box.iterkeys(), 1):
            yield f"{path}#{number}", email.message_from_bytes(box.get_bytes(key), policy=policy.default)
        box.close()
    else:
        yield str(path), email.message_from_bytes(path.read_bytes(), policy=policy.default)


def _raw(fields: Any, name: str) -> str:
    """A field's text; where its octets are no ASCII and no UTF-8, as Korean."""
    found = str(fields.get(name, ""))
    raw = next((value for key, value in getattr(fields, "raw_items", dict)() if key.lower() == name.lower()), "")
    return decode(re.sub(r"\r?\n", "", raw).encode("utf-8", "surrogateescape")) if "\ufffd" in found else found


def _word(fields: Any, name: str) -> str:
    """A report's field without its type: `dns; mx.example` is `mx.example`."""
    text = str(fields.get(name, ""))
    return text.partition(";")[2].strip() if ";" in text else text.strip()


def _when(text: str) -> Any:
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)


def _reported(message: EmailMessage) -> Iterator[dict[str, Any]]:
    """RFC 3464: the fields about the message, then those about each recipient."""
    for part in message.walk():
        blocks: Any = part.get_payload() if part.get_content_type() == "message/delivery-status" else []
        whole, *each = blocks if isinstance(blocks, list) and blocks else [{}]
        for fields in each:
            said = _SMTP.sub("", _raw(fields, "Diagnostic-Code"), count=1)
            at = _when(str(fields.get("Last-Attempt-Date") or whole.get("Arrival-Date") or message["Date"]))
            yield {
                "recipient": _word(fields, "Final-Recipient") or _word(fields, "Original-Recipient"),
                "mx_host": _word(fields, "Remote-MTA").split(" ")[0].rstrip(".") or None,
                "vantage": _word(whole, "Reporting-MTA") or None,
                "started_at": at, "said": said, "text": f"{_word(fields, 'Remote-MTA')} {said}",
                "action": str(fields.get("Action", "")).strip().lower(), "dsn_log": _word(fields, "Status") or None,
            }  # fmt: skip


def _content(body: Any) -> str:
    """The text of a part."""
    try:
        return str(body.get_content())
    except LookupError:  # a charset that Python lacks: unknown-8bit, x-windows-949
        return decode(body.get_payload(decode=True))


def _plain(message: EmailMessage) -> Iterator[dict[str, Any]]:
    """A bounce in free words: each address at the start of a line, with the text up to the next."""
    body = message.get_body(("plain",))
    text = _content(body) if body and not body.is_multipart() else ""
    text = re.split(r"(?m)^(?:-+ .*(?:copy|original|returned|below).*|Return-path:|Received:)", text, flags=re.I)[0]
    places = [*_FAILED.finditer(text)]
    ends = [place.start() for place in places[1:]] + [len(text)]
    for place, end in zip(places, ends, strict=False):
        piece = text[place.end() : end]
        if " said: " in piece:  # Postfix folds its lines
            piece = re.sub(r"(?<=\S)\n {4}(?=[^\s\d])", " ", piece)
        said = _CODED.search(piece)
        if said or words.ending(piece)["error"]:
            reply = said[1].partition(" (in reply to")[0].strip() if said else ""
            lines = "\n".join(line.strip() for line in reply.split("\n"))
            yield {"recipient": place[1], "said": lines, "text": piece, "action": "failed",
                   "started_at": _when(str(message["Date"]))}  # fmt: skip


def _original(message: EmailMessage) -> dict[str, Any]:
    """Message-ID of what was returned, and whom the bounce went to: the sender."""
    kinds = ("message/rfc822", "text/rfc822-headers")
    inner = next((part for part in message.walk() if part.get_content_type() in kinds), None)
    payload: Any = inner.get_payload() if inner else None
    head = payload[0] if isinstance(payload, list) else email.message_from_string(str(payload or ""))
    to = getaddresses([str(message["To"] or "")])
    sender = to[0][1] or None if to else None
    return {"message_id": str(head["Message-ID"] or "").strip("<> ") or None, "sender": sender}


def _ended(row: dict[str, Any]) -> dict[str, Any]:
    """The deciding columns: from the server's words, else from the report's Action."""
    text, said = row.pop("text"), row.pop("said")
    server = _SERVER.search(text[: m.start(1)] if (m := _CODED.search(text)) else text)  # a reply names us
    coded = said if words.answer(said) else (m[1] if (m := _CODED.search(said)) else "")
    told = words.ending(text, coded)
    if "code" not in told and not told["error"]:
        told |= {"outcome": _OUTCOMES.get(row["action"], "failed"), "reply": said or None, "stage": None}
    if row.pop("action") == "delayed" and told["outcome"] == "failed":
        told["outcome"] = "deferred"
    ip = server[2].removeprefix("IPv6:") if server and _is_ip(server[2].removeprefix("IPv6:")) else None
    named = row.get("mx_host")
    host = named if named and not _is_ip(named) else server[1] if server else None
    domain = row["recipient"].rpartition("@")[2].lower()
    return told | {"mx_ip": ip, "mx_host": host, "recipient_domain": domain, "domain": domain}
