"""One evidence in many wrappings: whatever a log, a table or a bounce is packed into, the rows are the same."""

import base64
import bz2
import gzip
import json
import lzma
import mailbox
import quopri
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

import smtpkit as sk
from smtpkit.logs import files
from tests import loggen
from tests.sampling import some
from tests.test_logs_forms import EXIM, OPENSMTPD, SENDMAIL

PLACE = ["file", "line", "attempt_id", "session"]
"""What a row is called after the place where it stood."""
HEAD = re.compile(r"(\S+) (\S+) ([^\s\[]+)\[(\d+)\]: (.*)")
SAME = {"year": 2026, "tz": "Asia/Seoul"}


def rows(frame: pd.DataFrame, *but: str) -> list[list[str]]:
    """All that a frame says, in one order; where nothing is said, nothing."""
    kept = frame.drop(columns=[*PLACE, "orig_to", *but], errors="ignore")
    return sorted(kept.astype(object).where(kept.notna(), "").astype(str).to_numpy().tolist())


def beside(frame: pd.DataFrame) -> Any:
    skipped = {kind: kept["lines"] for kind, kept in frame.attrs["skipped"].items()}
    return skipped, [(one["why"], one["count"]) for one in frame.attrs["problems"]]


def put(folder: Path, **named: bytes | str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in named.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


POSTFIX = list(loggen.Sender(seed=4, days=1, per_day=40, stamp=lambda at: loggen.rfc3339(int(at))).lines())
Lines = list[str]


def fronts(write: Callable[[datetime, str, str, str, str], str]) -> Callable[[Lines], Lines]:
    def all_(lines: Lines) -> Lines:
        parts = [HEAD.fullmatch(line).groups() for line in lines]  # type: ignore[union-attr]  # loggen's lines fit
        return [write(datetime.fromisoformat(stamp), *rest) for stamp, *rest in parts]

    return all_


def journal(at: datetime, host: str, tag: str, pid: str, text: str) -> str:
    front = {"__REALTIME_TIMESTAMP": f"{at.timestamp():.0f}000000", "_HOSTNAME": host, "SYSLOG_IDENTIFIER": tag}
    return json.dumps(front | {"_PID": pid, "MESSAGE": text})


def among(lines: Lines) -> Lines:
    """Each line between those of other programs, and of another relay."""
    noise = (
        "dovecot: imap-login: Login: user=<kim>, rip=192.0.2.9",
        "postfix/smtpd[9]: lost connection after EHLO",
    )
    made = [(line[:33], line) for line in lines]
    return [one for stamp, line in made for one in (f"{stamp}relay1 {noise[0]}", line, f"{stamp}relay1 {noise[1]}")]


def other(lines: Lines) -> Lines:
    """Each line once more, of another relay, whose processes and queue ids are the same."""
    return [one for line in lines for one in (line, line.replace(" relay1 ", " relay2 ", 1))]


RFC3164 = fronts(lambda at, host, tag, pid, text: f"{loggen.rfc3164(at.timestamp())} {host} {tag}[{pid}]: {text}")
FORMS: dict[str, Callable[[Lines], Lines]] = {
    "RFC 3164": RFC3164,
    "RFC 5424": fronts(lambda at, host, tag, pid, text: f"<22>1 {at.isoformat()} {host} postfix {pid} - - {text}"),
    "journald": fronts(journal),
    "every second line of RFC 3164": lambda lines: [
        made if n % 2 else line for n, (made, line) in enumerate(zip(RFC3164(lines), lines, strict=True))
    ],
    "another name of syslog's": lambda lines: [line.replace(" postfix/", " mta7/", 1) for line in lines],
    "other programs' lines": among,
    "a mirrored relay": other,
    "aliases, which the fast path cannot read": lambda lines: [
        line if " orig_to=<" in line else line.replace(">, relay=", ">, orig_to=<a@b.example>, relay=", 1)
        for line in lines
    ],
    "a TLS policy in the line": lambda lines: [
        line.replace(", dsn=", ", tls=may, dsn=", 1) if ": to=<" in line else line for line in lines
    ],
}


@pytest.fixture(scope="module")
def postfix(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return sk.read_log(put(tmp_path_factory.mktemp("p"), log="\n".join(POSTFIX)) / "log", **SAME)


@pytest.mark.parametrize("form", some(FORMS.values(), 4), ids=FORMS)
def test_a_log_in_another_form_is_the_same_log(
    form: Callable[[Lines], Lines], postfix: pd.DataFrame, tmp_path: Path
) -> None:
    read = sk.read_log(put(tmp_path, log="\n".join(form(POSTFIX))) / "log", **SAME)
    for _, part in read.groupby("vantage"):
        assert rows(part, "vantage") == rows(postfix, "vantage")
    assert len(read) in (len(postfix), 2 * len(postfix))
    assert read.attrs["problems"] == []


WRITTEN = {
    "Postfix": "\n".join(POSTFIX[: len(POSTFIX) // 4]) + "\n",
    "Exim": EXIM,
    "Sendmail": SENDMAIL,
    "OpenSMTPD": OPENSMTPD,
}
ALL = "".join(WRITTEN.values())
WRAPPED: dict[str, Callable[[bytes], bytes]] = {
    "CRLF": lambda text: text.replace(b"\n", b"\r\n"),
    "a mark of UTF-8": lambda text: b"\xef\xbb\xbf" + text,
    "no last line end": lambda text: text.removesuffix(b"\n"),
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "zstd": lambda text: bytes(pa.compress(text, codec="zstd", asbytes=True)),
}


@pytest.fixture(scope="module")
def all_(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return sk.read_log(put(tmp_path_factory.mktemp("a"), log=ALL) / "log", **SAME)


@pytest.mark.parametrize("wrap", some(WRAPPED.values(), 4), ids=WRAPPED)
def test_a_packed_log_is_the_same_log(wrap: Callable[[bytes], bytes], all_: pd.DataFrame, tmp_path: Path) -> None:
    read = sk.read_log(put(tmp_path, log=wrap(ALL.encode())) / "log", **SAME)
    assert (rows(read), beside(read)) == (rows(all_), beside(all_))


@pytest.mark.parametrize("fifth", some([1, 2, 3, 4], 4))
def test_a_log_of_two_files_is_the_same_log(fifth: int, all_: pd.DataFrame, tmp_path: Path) -> None:
    """But for when OpenSMTPD failed to connect: behind a cut, that is when it began to."""
    lines = [line for text in WRITTEN.values() for line in text.splitlines(keepends=True)]
    cut = len(lines) * fifth // 5
    put(tmp_path, **{"mail.1.log": "".join(lines[:cut]), "mail.log": "".join(lines[cut:])})
    assert rows(sk.read_log(tmp_path, **SAME), "started_at") == rows(all_, "started_at")


def test_a_log_of_many_blocks_is_the_same_log(
    all_: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BLOCK", 4096)
    assert rows(sk.read_log(put(tmp_path, log=ALL) / "log", **SAME)) == rows(all_)


def test_workers_and_parquet_give_the_same_log(postfix: pd.DataFrame, tmp_path: Path) -> None:
    third = len(POSTFIX) // 3
    parts = {f"mail.log.{3 - n}": "\n".join(POSTFIX[n * third : (n + 1) * third or None]) for n in (0, 1)}
    put(tmp_path / "set", **parts, **{"mail.log": "\n".join(POSTFIX[2 * third :])})
    with ThreadPoolExecutor(2) as pool:
        kept = sk.read_log(tmp_path / "set", executor=pool, into=tmp_path / "parquet", **SAME)
    link = ["tls", "tls_cipher", "tls_verified", "tls_trust"]  # of a connection that began in another file
    assert rows(kept.frame(), *link) == rows(postfix, *link)


@pytest.mark.parametrize("name", some(WRITTEN, 4))
def test_each_of_four_mtas_in_one_file_is_read_as_alone(name: str, all_: pd.DataFrame, tmp_path: Path) -> None:
    alone = sk.read_log(put(tmp_path, log=WRITTEN[name]) / "log", **SAME)
    assert rows(all_[all_.source == name.lower()]) == rows(alone)
    assert [problem["count"] for problem in all_.attrs["problems"]] == [2], "one of Exim's, one of Sendmail's"


@pytest.mark.parametrize("copy", some(["mail.info", "syslog", "mail.log.1.gz"]))
def test_a_copy_of_a_log_adds_no_tries(copy: str, all_: pd.DataFrame, tmp_path: Path) -> None:
    """As Debian keeps one, and as a rotation that was cut leaves one; a copy may begin or end elsewhere."""
    put(tmp_path, **{"mail.log": ALL, copy: gzip.compress(ALL.encode()) if copy.endswith("gz") else ALL})
    for pool in (None, ThreadPoolExecutor(1)):
        read = sk.read_log(tmp_path, executor=pool, **SAME)
        assert rows(read) == rows(all_)
        assert [p["count"] for p in read.attrs["problems"] if "earlier file" in p["why"]] == [len(all_)]


def test_what_was_said_twice_stays_so(tmp_path: Path) -> None:
    """In one file; and where no time tells a copy from another try."""
    line = "relay1 postfix/smtp[9]: connect to mx.d.example[192.0.2.1]:25: Connection refused\n"
    put(tmp_path, a=f"2026-03-02T09:14:05+09:00 {line}" * 2, b=f"2026-03-02T09:14:06+09:00 {line}")
    put(tmp_path, c=line.partition(": ")[2], d=line.partition(": ")[2])
    assert sk.read_log(tmp_path).file.str[-1:].value_counts().to_dict() == {"a": 2, "b": 1, "c": 1, "d": 1}


def test_each_line_is_a_row_or_counted(postfix: pd.DataFrame) -> None:
    said = sum(": to=<" in line for line in POSTFIX)
    left = sum(kept["lines"] for kind, kept in postfix.attrs["skipped"].items() if kind != "expired")
    assert said == (postfix.kind == "final").sum() + left


REPLIES = ("250 2.0.0 Ok: queued", "550 5.1.1 <u@d>: no, sorry", '421 4.7.0 "later"; please', "554 차단된 IP")
TABLE = pd.DataFrame(
    {
        "time": [f"2026-03-{n + 9:02} 0{n}:14:05" for n in range(8)],
        "ip": ["192.0.2.1", "2001:db8::25"] * 4,
        "rcpt": [f"u{n}@d.example" for n in range(8)],
        "reply": [*REPLIES, *REPLIES],
    }
)
NAMES = {"time": "발송일시", "ip": "수신IP", "rcpt": "수신자", "reply": "응답"}
UTC = TABLE.assign(time=[f"2026-03-{n + 8:02}T{n + 15:02}:14:05Z" for n in range(8)])
TABLES: dict[str, pd.DataFrame] = {
    "columns in another order": TABLE[["reply", "rcpt", "ip", "time"]],
    "capitals": TABLE.rename(columns=str.upper),
    "Korean names": TABLE.rename(columns=NAMES),
    "UTC": UTC,
    "UTC in ISO's short form": UTC.assign(time=UTC.time.str.replace("[-:]", "", regex=True)),
    "seconds": TABLE.assign(time=pd.to_datetime(UTC.time).astype("datetime64[s, UTC]").astype("int64")),
    "what date says": TABLE.assign(time=pd.to_datetime(TABLE.time).dt.strftime("%a %b %d %H:%M:%S KST %Y")),
    "brackets": TABLE.assign(ip="[" + TABLE.ip + "]"),
    "another index": TABLE.set_index(pd.Index(range(90, 98))),
}


@pytest.mark.filterwarnings("ignore:read_table guessed")
@pytest.mark.parametrize("table", some(TABLES.values(), 4), ids=TABLES)
def test_a_table_in_another_form_is_the_same_table(table: pd.DataFrame, tmp_path: Path) -> None:
    plain = rows(sk.read_table(TABLE, tz="Asia/Seoul"))
    assert rows(sk.read_table(table, tz="Asia/Seoul")) == plain
    for by, charset in ((",", "utf-8-sig"), (";", "euc-kr"), ("\t", "utf-16")):
        (tmp_path / "t.csv").write_bytes(table.to_csv(index=False, sep=by).encode(charset))
        assert rows(sk.read_table(tmp_path / "t.csv", tz="Asia/Seoul")) == plain, charset


ONE = "Final-Recipient: rfc822; {who}@d.example\nAction: failed\nStatus: 5.7.1\nRemote-MTA: dns; mx1.d.example\n"
SAID = "Diagnostic-Code: smtp; 550 5.7.1 차단된 IP 입니다 [198.51.100.7] https://d.example/help/about/blocked/senders\n"
EACH = [ONE.format(who=who) + SAID for who in "kl"]
WORDS = "".join(f"<{who}@d.example>: host mx1.d.example[192.0.2.1] said: 550 5.7.1 차단된\n\n" for who in "kl")
TOP = (
    "From: MAILER-DAEMON@x.example\nTo: news@ours.example\nSubject: failure\nDate: Mon, 2 Mar 2026 09:14:05 +0900\n"
)
CODINGS: dict[str, Callable[[str], str]] = {
    "8bit": str,
    "quoted-printable": lambda text: quopri.encodestring(text.encode()).decode(),
    "base64": lambda text: base64.encodebytes(text.encode()).decode(),
}


def bounce(how: str = "8bit", order: tuple[int, ...] = (0, 1, 2), each: Lines = EACH, top: str = TOP) -> str:
    told = "\n".join(["Reporting-MTA: dns; x.example\n", *each])
    kinds = {"text/plain; charset=utf-8": WORDS, "message/delivery-status": told}
    coded = f"\nContent-Transfer-Encoding: {how}\n\n"
    parts = [f"{kind}{coded}{CODINGS[how](text)}" for kind, text in kinds.items()]
    parts.append("message/rfc822\n\nMessage-ID: <1@ours.example>\n\nhello\n")
    body = "".join(f"--b\nContent-Type: {parts[n]}\n" for n in order)
    return f"{top}MIME-Version: 1.0\nContent-Type: multipart/report;\n\tboundary=b\n\n{body}--b--\n"


BOUNCES = {
    "CRLF": bounce().replace("\n", "\r\n"),
    "a mark of UTF-8": "\ufeff" + bounce(),
    **{how: bounce(how) for how in CODINGS},
    "the letter before its report": bounce(order=(2, 1, 0)),
    "fields in small letters": re.sub(r"(?m)^[\w-]+:", lambda name: name[0].lower(), bounce()),
    "recipients in another order": bounce(each=EACH[::-1]),
    "fields in another order": bounce(each=["\n".join(one.split("\n")[-2::-1]) + "\n" for one in EACH]),
    "fields that are folded": bounce(each=[one.replace(" 차단된", "\n  차단된") for one in EACH]),
    "a header of those who passed it on": bounce(top=f"Return-Path: <>\nReceived: by x\n\tid 1; now\n{TOP}"),
    "sent on as an attachment": f"{TOP}Content-Type: multipart/mixed; boundary=o\n\n--o\n\nsee\n--o\n"
    f"Content-Type: message/rfc822\n\n{bounce()}\n--o--\n",
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The bounce as it is read without any wrapping."""
    read: pd.DataFrame = sk.read_bounces(put(tmp_path_factory.mktemp("plain"), **{"a.eml": bounce()}) / "a.eml")
    assert len(read) == 2
    assert set(read.mx_ip) == {"192.0.2.1"}
    return read


@pytest.mark.parametrize("text", BOUNCES.values(), ids=BOUNCES)
def test_a_bounce_in_another_form_is_the_same_bounce(text: str, plain: pd.DataFrame, tmp_path: Path) -> None:
    read = sk.read_bounces(put(tmp_path, **{"b.eml": text}) / "b.eml")
    assert rows(read) == rows(plain)
    put(tmp_path, box=f"From x Mon Mar  2 09:14:05 2026\n{text.lstrip(chr(0xFEFF))}\n")
    mailbox.Maildir(tmp_path / "dir").add(text.encode())
    for kept in ("box", "dir"):
        assert rows(sk.read_bounces(tmp_path / kept)) == rows(plain), kept
