"""Logs in every wrapping: headers, packed and rotated files, charsets, other MTAs' lines, and bad input."""

# ruff: noqa: E501 - lines of logs are long

import bz2
import gzip
import io
import json
import lzma
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

import smtpkit as sk
from smtpkit.errors import InvalidInput
from smtpkit.logs import files

SENT = (
    "4XkP2q3Zr1z9tQ: to=<kim@example.net>, relay=mx2.example.net[192.0.2.26]:25, delay=0.9, "
    "delays=0.01/0/0.6/0.29, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 8C1F240A)"
)
SAID = "4XkP2q3Zr1z9tQ: host mx1.example.net[192.0.2.25] said: 421 4.7.0 Try later (in reply to MAIL FROM command)"
REFUSED = "connect to mx1.example.net[2001:db8::25]:25: Network is unreachable"
HEADERS = {
    "RFC 3339": "2026-03-02T09:14:05.811902+09:00 relay1 postfix/smtp[4121]: ",
    "RFC 3339, UTC": "2026-03-02T00:14:05.811902Z relay1 mta7/smtp[4121]: ",
    "RFC 3164": "Mar  2 09:14:05 relay1 postfix/smtp[4121]: ",
    "RFC 3164 with PRI": "<22>Mar  2 09:14:05 relay1 postfix/smtp[4121]: ",
    "RFC 3164 without host": "Mar  2 09:14:05 postfix/smtp[4121]: ",
    "RFC 5424": "<22>1 2026-03-02T00:14:05.811902Z relay1 postfix 4121 - - ",
    "RFC 5424 with data": '<22>1 2026-03-02T00:14:05.811902Z relay1 postfix 4121 - [x@1 a="\\]"] ',
    "a space for the T": "2026-03-02 09:14:05.811902+09:00 relay1 postfix/smtp[4121]: ",
}


def _zstd(octets: bytes) -> bytes:
    return pa.compress(octets, codec="zstd", asbytes=True)


def read(path: Path, text: str | bytes, **more: Any) -> pd.DataFrame:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return sk.read_log(path, **({"year": 2026, "tz": "Asia/Seoul"} | more))


@pytest.mark.parametrize("form", HEADERS)
def test_the_three_tries_of_one_mail_under_each_header(form: str, tmp_path: Path) -> None:
    table = read(tmp_path / "mail.log", "".join(f"{HEADERS[form]}{text}\n" for text in (REFUSED, SAID, SENT)))
    assert table.mx_ip.tolist() == ["2001:db8::25", "192.0.2.25", "192.0.2.26"]
    assert table.kind.tolist() == ["connect_fail", "intermediate", "final"]
    assert table.outcome.tolist() == ["failed", "deferred", "accepted"]
    assert table.stage.tolist() == ["connect", "mail", "body"]
    assert table.code.astype("object").where(table.code.notna(), None).tolist() == [None, 421, 250]
    assert set(table.queue_id) == {"4XkP2q3Zr1z9tQ"}
    assert set(table.domain) == {"example.net"}
    assert {str(at)[:19] for at in table.started_at} == {"2026-03-02 00:14:05"}
    assert table.line.tolist() == [1, 2, 3]
    assert table.attrs["problems"] == []


def test_journald_and_bare_lines(tmp_path: Path) -> None:
    entry = {
        "__REALTIME_TIMESTAMP": "1772410445811902",
        "_PID": "4121",
        "SYSLOG_IDENTIFIER": "postfix/smtp",
        "_HOSTNAME": "r1",
    }
    texts: list[Any] = [SAID, list(SENT.encode())]
    table = read(tmp_path / "a.json", "".join(json.dumps(entry | {"MESSAGE": text}) + "\n" for text in texts))
    assert table.mx_ip.tolist() == ["192.0.2.25", "192.0.2.26"]
    assert str(table.started_at[0]) == "2026-03-02 00:14:05.811902+00:00"
    assert set(table.vantage) == {"r1"}
    bare = read(tmp_path / "bare.log", f"{SAID}\n{SENT}\n")
    assert bare.started_at.isna().all()
    assert bare.mx_ip.tolist() == ["192.0.2.25", "192.0.2.26"]


def test_a_line_that_was_repeated_counts_as_often(tmp_path: Path) -> None:
    text = HEADERS["RFC 3164"] + REFUSED + "\n" + HEADERS["RFC 3164"] + f"message repeated 3 times: [ {REFUSED}]\n"
    table = read(tmp_path / "mail.log", text)
    assert len(table) == 4
    assert table.attempt_id.is_unique


def test_the_year_goes_on_at_new_year_and_comes_from_the_file(tmp_path: Path) -> None:
    lines = [
        f"{day} 23:00:00 relay1 postfix/smtp[1]: {REFUSED}\n" for day in ("Dec 30", "Dec 31", "Jan  1", "Feb  3")
    ]
    path = tmp_path / "mail.log"
    path.write_text("".join(lines))
    stamp = datetime(2027, 2, 4, tzinfo=UTC).timestamp()
    os.utime(path, (stamp, stamp))
    assert [str(at)[:10] for at in sk.read_log(path).started_at] == [
        "2026-12-30",
        "2026-12-31",
        "2027-01-01",
        "2027-02-03",
    ]
    assert [at.year for at in sk.read_log(path, year=2019).started_at] == [2019, 2019, 2020, 2020]
    assert "read as UTC" in sk.read_log(path).attrs["notes"][0]
    assert sk.read_log(path, tz="UTC").attrs["notes"] == []


def test_a_clock_change_is_counted(tmp_path: Path) -> None:
    stamps = ("Oct 25 01:30:00", "Oct 25 02:30:00", "Mar 28 02:30:00")
    text = "".join(f"{at} relay1 postfix/smtp[1]: {REFUSED}\n" for at in stamps)
    table = read(tmp_path / "mail.log", text, tz="Europe/Berlin", year=2026)
    told = {problem["why"].split(" (")[0]: problem["lines"] for problem in table.attrs["problems"]}
    assert told == {"an hour that came twice": [2], "a time that is none": [3]}
    assert len(table) == 3, "no row is lost"


SETS = (
    ["mail.log.10.gz", "mail.log.2.gz", "mail.log.1", "mail.log"],
    ["maillog-20260301.gz", "maillog-20260308", "maillog"],
    ["mail.2.log.gz", "mail.1.log", "mail.log"],  # logrotate's `extension .log`
    ["mail-20260301.log.gz", "mail-20260308.log", "mail.log"],
    ["mail.log.2026-03-01T09:00:00", "mail.log.2026-03-01T10:00:00", "mail.log"],
    ["mail.log.old", "mail.log"],
)


def test_rotated_and_packed_sets_are_read_from_the_oldest(tmp_path: Path) -> None:
    def line(hour: int) -> bytes:
        return f"2026-03-02T{hour:02}:00:00+09:00 relay1 postfix/smtp[{hour}]: {SENT.replace('kim', f'r{hour}')}\n".encode()

    (tmp_path / "mail.log").write_bytes(line(5))
    (tmp_path / "mail.log.1").write_bytes(line(4))
    (tmp_path / "mail.log.2.gz").write_bytes(gzip.compress(line(3)))
    (tmp_path / "mail.log.10.xz").write_bytes(lzma.compress(line(2)))
    (tmp_path / "mail.log.11.zst").write_bytes(_zstd(line(1)))
    (tmp_path / "mail.log.12.bz2").write_bytes(bz2.compress(line(0)))
    for asked in (tmp_path / "mail.log*", [tmp_path / "mail.log.1", tmp_path / "mail.log*"], tmp_path):
        table = sk.read_log(asked)
        assert table.recipient.tolist() == [f"r{n}@example.net" for n in range(6)]
        assert table.file.iloc[-1] == str(tmp_path / "mail.log")
        assert set(table.line) == {1}
    names = ["m-20260301.gz", "m-20260228", "m", "other.log"]
    assert sorted(names, key=files.age) == ["m-20260228", "m-20260301.gz", "m", "other.log"]
    for names in SETS:
        assert sorted(set(names), key=files.age) == names
        assert len({files.age(name)[0] for name in names}) == 1, "one set has one year= of its first line"


def test_what_is_open_goes_over_into_the_next_file(tmp_path: Path) -> None:
    head = HEADERS["RFC 3339"]
    (tmp_path / "mail.log.1").write_text(
        f"{head}4XkP2q3Zr1z9tQ: from=<news@ours.example>, size=1234, nrcpt=1 (queue active)\n{head}{REFUSED}\n")  # fmt: skip
    (tmp_path / "mail.log").write_text(f"{head}{SENT}\n")
    table = sk.read_log(tmp_path / "mail.log*").sort_values("line")
    assert set(table.sender) == {"news@ours.example"}
    assert set(table.size_bytes) == {1234}
    assert set(table.queue_id) == {"4XkP2q3Zr1z9tQ"}
    unreachable = table[table.kind == "connect_fail"].iloc[0]
    assert (unreachable.domain, unreachable.file) == ("example.net", str(tmp_path / "mail.log.1"))


def test_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (HEADERS["RFC 3339"] + SENT + "\n").encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(text))))
    assert sk.read_log("-").file.tolist() == ["stdin"]


def test_octets_of_any_charset(tmp_path: Path) -> None:
    korean = SENT.replace(
        "sent (250 2.0.0 Ok: queued as 8C1F240A)",
        "bounced (host mx[192.0.2.1] said: 550 차단 (in reply to RCPT TO command))",
    )
    head = HEADERS["RFC 3339"]
    octets = (
        f"{head}{korean}\n".encode("euc-kr")
        + f"{head}{korean}\n".encode()
        + head.encode()
        + SENT.encode()
        + b" \xff\x1b[2J)\n"
    )
    table = read(tmp_path / "mail.log", octets)
    assert table.reply[:2].tolist() == ["550 차단", "550 차단"]
    assert table.reply[2] == "250 2.0.0 Ok: queued as 8C1F240A) \\xff\\x1b[2J"


def test_truncated_and_interleaved_lines_survive(tmp_path: Path) -> None:
    head = HEADERS["RFC 3339"]
    cut = SENT.replace(
        "status=sent (250 2.0.0 Ok: queued as 8C1F240A)",
        "status=bounced (host mx2.example.net[192.0.2.26] said: 550-5.7.1 no 550-5",
    )
    table = read(
        tmp_path / "mail.log",
        f"{head}{SAID}\n{head}{cut}\n{head}{SENT[:60]}\n{head}{SENT[:30]}{head}{SENT}\n{head}{SENT}",
    )
    assert table.lossy.fillna(False).tolist() == [False, True, False]
    assert table.reply[1] == "550-5.7.1 no\n550-5"
    (problem,) = table.attrs["problems"]
    assert (problem["why"], problem["count"], problem["lines"]) == (
        "a line of a try that cannot be read",
        2,
        [3, 4],
    )
    assert problem["file"] == str(tmp_path / "mail.log")


def test_what_is_no_try_is_counted_beside(tmp_path: Path) -> None:
    head, start = HEADERS["RFC 3339"], "4XkP2q3Zr1z9tQ: to=<kim@example.net>, relay="
    end = ", delay=1, delays=1/0/0/0, dsn=4.4.1, status="
    lines = [
        f"{start}none{end}deferred (delivery temporarily suspended: connect to mx[192.0.2.1]:25: Connection refused)",
        f"{start}local{end}sent (delivered to mailbox)",
        f"{start}127.0.0.1[127.0.0.1]:10024{end}sent (250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok)",
        f"{start}mx[private/dovecot-lmtp]{end}sent (250 2.0.0 <kim> Saved)",
        "4XkP2q3Zr1z9tQ: from=<news@ours.example>, status=expired, returned to sender",
        f"{start}none{end}bounced (Host or domain name not found. Name service error for name=example.net type=MX: Host not found)",
    ]
    table = read(tmp_path / "mail.log", "".join(f"{head}{line}\n" for line in lines))
    assert table[["stage", "error"]].values.tolist() == [["dns", "dns_nxdomain"]]
    assert table.mx_ip.isna().all()
    assert {kind: kept["lines"] for kind, kept in table.attrs["skipped"].items()} == {
        "suspended": 1,
        "local": 3,
        "expired": 1,
    }


EXIM = r"""2026-03-02 09:14:04 1xAbCd-0001Ef-2G <= news@ours.example U=x P=local S=347 id=1.a@ours.example
2026-03-02 09:14:05 1xAbCd-0001Ef-2G H=mx1.example.net [192.0.2.25]: SMTP error from remote mail server after MAIL FROM:<news@ours.example>: 421 4.7.0 Try again later
2026-03-02 09:14:06 1xAbCd-0001Ef-2G => kim@example.net R=dnslookup T=remote_smtp H=mx2.example.net [192.0.2.26] I=[198.51.100.7]:4000 X=TLS1.3:ECDHE_X25519__AES_256_GCM:256 CV=yes C="250 OK id=77"
2026-03-02 09:14:06 1xAbCd-0001Ef-2G -> lee@example.net R=dnslookup T=remote_smtp H=mx2.example.net [192.0.2.26] C="250 OK id=77"
2026-03-02 09:14:06 1xAbCd-0001Ef-2G Completed
2026-03-02 09:15:00 1xAbCe-0001Ef-2G H=mx1.example.net [2001:db8::25] Connection refused
2026-03-02 09:15:00 1xAbCe-0001Ef-2G == r@example.net R=r T=t defer (111): Connection refused DT=0s
2026-03-02 09:15:01 1xAbCe-0001Ef-2G == r@example.net R=r T=t defer (-53): retry time not reached for any host
2026-03-02 09:16:00 1xAbCf-000000001Ef-002G ** kim@example.net <old@example.net> R=r T=t H=mx1.example.net [192.0.2.25] DT=0s: SMTP error from remote mail server after end of data: 550-5.7.26 \354\260\250\353\213\250\n550 5.7.26 no
2026-03-02 09:17:00 1xAbCg-0001Ef-2G => kim <kim@ours.example> R=local T=maildir
2026-03-02 09:18:00 1xAbCg-0001Ef-2G H=mx1.example.net [192.0.2.25]: something never seen
"""


def test_exims_mainlog(tmp_path: Path) -> None:
    table = read(tmp_path / "mainlog", EXIM)
    seen = table[["mx_ip", "recipient", "outcome", "stage", "line"]].astype("object")
    assert seen.where(seen.notna(), None).values.tolist() == [
        ["192.0.2.25", None, "deferred", "mail", 2],
        ["192.0.2.26", "kim@example.net", "accepted", "body", 3],
        ["192.0.2.26", "lee@example.net", "accepted", "body", 4],
        ["2001:db8::25", "r@example.net", "failed", "connect", 7],
        ["192.0.2.25", "kim@example.net", "rejected", "body", 9],
    ]
    assert table.reply[4] == "550-5.7.26 차단\n550 5.7.26 no"
    assert table.session[1] == table.session[2]
    assert set(table.domain) == {"example.net"}
    assert table.sender[:3].tolist() == ["news@ours.example"] * 3
    assert (table.message_id[0], table.size_bytes[0], table.tls[1], table.local_ip[1]) == (
        "1.a@ours.example",
        347,
        "TLS1.3",
        "198.51.100.7",
    )
    assert bool(table.tls_verified[1])
    assert table.error[3] == "refused"
    assert str(table.started_at[0]) == "2026-03-02 00:14:05+00:00"
    assert [(p["why"], p["lines"]) for p in table.attrs["problems"]] == [
        ("a line of a try that cannot be read", [11])
    ]
    assert {k: v["lines"] for k, v in table.attrs["skipped"].items()} == {"suspended": 1, "local": 1}


SENDMAIL = r"""Mar  2 09:14:04 relay1 sendmail[5120]: 6220E5aB005120: from=<news@ours.example>, size=109, class=0, nrcpts=2, msgid=<1.a@ours.example>, relay=root@localhost
Mar  2 09:14:05 relay1 sendmail[5120]: STARTTLS=client, relay=mx1.example.net., version=TLSv1.3, verify=FAIL, cipher=TLS_AES_256_GCM_SHA384, bits=256/256
Mar  2 09:14:05 relay1 sendmail[5120]: 6220E5aB005120: to=<kim@example.net>,<lee@example.net>, ctladdr=<news@ours.example>, delay=4+00:00:01, xdelay=00:00:01, mailer=esmtp, pri=120512, relay=mx1.example.net. [IPv6:2001:db8::25], dsn=5.1.1, reply=550-5.1.1 No such user, stat=User unknown
Mar  2 09:14:06 relay1 sendmail[5121]: 6220E5aB005121: makeconnection (mx1.example.net. [192.0.2.25].25 (2)) failed: Connection refused by mx1.example.net.
Mar  2 09:14:06 relay1 sendmail[5121]: 6220E5aB005121: to=<kim@example.net>, delay=00:00:01, xdelay=00:00:01, mailer=esmtp, pri=1, relay=mx2.example.net. [192.0.2.26], dsn=2.0.0, stat=Sent (Ok: queued as 8C1F)
Mar  2 09:14:07 relay1 sendmail[5122]: 6220E5aB005122: to=<kim@example.net>, delay=00:00:30, xdelay=00:00:30, mailer=esmtp, pri=1, relay=mx1.example.net. [192.0.2.25], dsn=4.0.0, stat=Deferred: Connection timed out with mx1.example.net.
Mar  2 09:14:08 relay1 sendmail[5123]: 6220E5aB005123: to=kim, delay=00:00:00, mailer=local, pri=1, dsn=2.0.0, stat=Sent
Mar  2 09:14:09 relay1 sendmail[5124]: 6220E5aB005124: to=<kim@example.net>, delay=00:00:00, mailer=es
"""


def test_sendmails_log(tmp_path: Path) -> None:
    table = read(tmp_path / "maillog", SENDMAIL)
    seen = table[["mx_ip", "recipient", "outcome", "stage", "error"]].astype("object")
    assert seen.where(seen.notna(), None).values.tolist() == [
        ["2001:db8::25", "kim@example.net", "rejected", None, None],
        ["2001:db8::25", "lee@example.net", "rejected", None, None],
        ["192.0.2.25", None, "failed", "connect", "refused"],
        ["192.0.2.26", "kim@example.net", "accepted", "body", None],
        ["192.0.2.25", "kim@example.net", "failed", "connect", "timeout"],
    ]
    assert table.session[0] == table.session[1] != table.session[2]
    assert set(table.domain) == {"example.net"}
    assert table.lossy.fillna(False).tolist() == [True, True, False, False, False]
    assert (table.tls[0], table.tls_cipher[0], bool(table.tls_verified[0])) == (
        "TLSv1.3",
        "TLS_AES_256_GCM_SHA384",
        False,
    )
    assert (table.sender[0], table.message_id[0], table.size_bytes[0]) == (
        "news@ours.example",
        "1.a@ours.example",
        109,
    )
    assert (table.dsn_log[0], table.enhanced[0], table.latency_s[0]) == ("5.1.1", "5.1.1", 1.0)
    assert table.mx_host[0] == "mx1.example.net"
    assert [(p["count"], p["lines"]) for p in table.attrs["problems"]] == [(1, [8])]


OPENSMTPD = """Mar  2 09:14:04 relay1 smtpd[77]: 83cc6ff1e6f7b26b smtp message msgid=5943e958 size=282 nrcpt=1 proto=ESMTP
Mar  2 09:14:05 relay1 smtpd[77]: 83cc6ff46d8e77a7 mta connecting address=smtp://192.0.2.25:25 host=ptr.example.net
Mar  2 09:14:05 relay1 smtpd[77]: 83cc6ff46d8e77a7 mta tls ciphers=TLSv1.3:TLS_AES_256_GCM_SHA384:256
Mar  2 09:14:05 relay1 smtpd[77]: 83cc6ff46d8e77a7 mta delivery evpid=5943e9580d0fe84b from=<news@ours.example> to=<kim@example.net> rcpt=<-> source="198.51.100.7" relay="192.0.2.25 (ptr.example.net)" delay=1s result="Ok" stat="250 2.0.0 Ok: queued as 1"
Mar  2 09:14:06 relay1 smtpd[77]: 83cc6ff46d8e77a7 mta delivery evpid=5943e9580d0fe84c from=<news@ours.example> to=<lee@example.net> rcpt=<-> source="198.51.100.7" relay="192.0.2.25 (ptr.example.net)" delay=1s result="PermFail" stat="550-5.7.26 due to5.7.26 domain's policy"
Mar  2 09:14:07 relay1 smtpd[77]: 93cc6ff46d8e77a8 mta connecting address=smtp://[2001:db8::25]:25 host=ptr2.example.net
Mar  2 09:14:07 relay1 smtpd[77]: 93cc6ff46d8e77a8 mta error reason=BANNER rejected: 554 5.7.1 blocked
Mar  2 09:14:08 relay1 smtpd[77]: 0000000000000000 mta delivery evpid=6943e9580d0fe84c from=<news@ours.example> to=<c@example.net> rcpt=<-> source="-" relay="example.net" delay=11s result="TempFail" stat="Network error on destination MXs"
"""


def test_opensmtpds_log(tmp_path: Path) -> None:
    table = read(tmp_path / "maillog", OPENSMTPD)
    seen = table[["mx_ip", "recipient", "outcome", "stage"]].astype("object")
    assert seen.where(seen.notna(), None).values.tolist() == [
        ["192.0.2.25", "kim@example.net", "accepted", "body"],
        ["192.0.2.25", "lee@example.net", "rejected", None],
        ["2001:db8::25", None, "rejected", "banner"],
    ]
    assert table.session[0] == table.session[1] == "83cc6ff46d8e77a7"
    assert (table.size_bytes[0], table.local_ip[0], table.tls[0], table.port[0]) == (
        282,
        "198.51.100.7",
        "TLSv1.3",
        25,
    )
    assert table.attrs["skipped"]["suspended"]["lines"] == 1


KUMO = {
    "type": "Delivery", "id": "d7ef132b5d7711eea8c8000c29c33806", "sender": "news@ours.example", "recipient": "kim@example.net",
    "queue": "example.net", "site": "mx1.example.net->loopback", "size": 1047, "timestamp": 1772410445, "created": 1772410440,
    "response": {"code": 250, "enhanced_code": {"class": 2, "subject": 0, "detail": 0}, "content": "OK ids=8a5475", "command": None},
    "peer_address": {"name": "mx1.example.net.", "addr": "192.0.2.25"}, "num_attempts": 0, "bounce_classification": "Uncategorized",
    "egress_pool": "pool0", "egress_source": "source1", "source_address": "198.51.100.7:53210", "tls_cipher": "TLS_AES_256_GCM_SHA384",
    "tls_protocol_version": "TLSv1.3", "headers": {}, "meta": {},
}  # fmt: skip


def test_kumomtas_records(tmp_path: Path) -> None:
    bounce = KUMO | {"type": "Bounce", "recipient": ["a@example.net", "b@example.net"], "num_attempts": 1}
    bounce["response"] = {
        "code": 550,
        "enhanced_code": {"class": 5, "subject": 1, "detail": 1},
        "content": "no such user",
    }
    held = KUMO | {
        "type": "TransientFailure",
        "peer_address": None,
        "response": {"code": 451, "content": "throttled by us"},
    }
    records = [KUMO, bounce, held, KUMO | {"type": "Reception"}, {"type": "Delivery"}]
    (tmp_path / "log").write_bytes(_zstd("".join(json.dumps(one) + "\n" for one in records).encode()))
    table = sk.read_log(tmp_path / "log")
    assert table[["recipient", "code", "enhanced", "outcome"]].astype("str").values.tolist() == [
        ["kim@example.net", "250", "2.0.0", "accepted"],
        ["a@example.net", "550", "5.1.1", "rejected"],
        ["b@example.net", "550", "5.1.1", "rejected"],
    ]
    assert (table.mx_ip[0], table.mx_host[0], table.sender_ip[0], table.tls[0]) == (
        "192.0.2.25",
        "mx1.example.net",
        "198.51.100.7",
        "TLSv1.3",
    )
    assert table.reply[1] == "550 5.1.1 no such user"
    assert str(table.started_at[0]) == "2026-03-02 00:14:05+00:00"
    assert table.try_number.tolist() == [1, 2, 2]
    assert {k: v["lines"] for k, v in table.attrs["skipped"].items()} == {"suspended": 1, "reception": 1}
    assert table.attrs["problems"][0]["lines"] == [5]
    assert set(table.source) == {"other"}


def test_powermtas_accounting(tmp_path: Path) -> None:
    text = """type,timeLogged,timeQueued,orig,rcpt,dsnAction,dsnStatus,dsnDiag,dsnMta,dlvSourceIp,dlvDestinationIp,dlvSize
d,2026-03-02 09:14:05+0900,2026-03-02 09:14:04+0900,news@ours.example,kim@example.net,relayed,2.0.0 (success),smtp;250 2.0.0 OK,mx1.example.net (192.0.2.25),198.51.100.7,192.0.2.25,1047
b,2026-03-02 09:14:06+0900,x,news@ours.example,lee@example.net,failed,5.1.1 (bad),"smtp;550 5.1.1 no, really",mx1.example.net (192.0.2.25),198.51.100.7,,1
rs,2026-03-02 09:14:06+0900,x,,,,,,,,,
b,2026
"""
    table = read(tmp_path / "acct.csv", text)
    assert table[["recipient", "mx_ip", "outcome", "reply"]].values.tolist() == [
        ["kim@example.net", "192.0.2.25", "accepted", "250 2.0.0 OK"],
        ["lee@example.net", "192.0.2.25", "rejected", "550 5.1.1 no, really"],
    ]
    assert (table.dsn_log[1], table.sender_ip[0], table.size_bytes[0]) == ("5.1.1", "198.51.100.7", 1047)
    assert str(table.started_at[0]) == "2026-03-02 00:14:05+00:00"
    assert table.attrs["problems"][0]["lines"] == [5]


def test_mixed_mtas_in_one_file(tmp_path: Path) -> None:
    table = read(tmp_path / "mail.log", HEADERS["RFC 3339"] + SENT + "\n" + SENDMAIL + OPENSMTPD + EXIM)
    assert table.source.value_counts().to_dict() == {
        "postfix": 1, "sendmail": 5, "opensmtpd": 3, "exim": 5, "probe": 0, "send": 0, "dialogue": 0, "table": 0, "bounce": 0, "other": 0,
    }  # fmt: skip


def test_bad_input_is_named(tmp_path: Path) -> None:
    head = HEADERS["RFC 3339"]
    with pytest.raises(InvalidInput, match=r"none of 2 lines is of any known MTA"):
        read(tmp_path / "a", "hello\nworld\n")
    with pytest.raises(InvalidInput, match=r"of exim; it reads like postfix"):
        read(tmp_path / "a", f"{head}{SENT}\n", mta="exim")
    with pytest.raises(InvalidInput, match=r"mta 'qmail' is not known; choose one of auto, postfix"):
        read(tmp_path / "a", "x\n", mta="qmail")
    with pytest.raises(InvalidInput, match="is binary, not a log"):
        read(tmp_path / "a", bytes(range(256)) * 100)
    with pytest.raises(InvalidInput, match="'Mars/Base' is no time zone"):
        read(tmp_path / "a", "x\n", tz="Mars/Base")
    with pytest.raises(InvalidInput, match="names no file"):
        sk.read_log(tmp_path / "nothing*")
    with pytest.raises(InvalidInput, match="no log file was named"):
        sk.read_log([])


@pytest.mark.slow
def test_an_empty_or_broken_file_is_a_counted_problem(tmp_path: Path) -> None:
    empty = read(tmp_path / "empty.log", b"")
    assert len(empty) == 0
    assert list(empty.columns) == list(read(tmp_path / "one.log", HEADERS["RFC 3339"] + SENT).columns)
    assert [p["why"] for p in empty.attrs["problems"]] == ["an empty file"]
    whole = (HEADERS["RFC 3339"] + SENT + "\n").encode() * 8000
    for name, pack in (
        ("gz", gzip.compress),
        ("xz", lzma.compress),
        ("zst", _zstd),
        ("bz2", bz2.compress),
    ):
        noisy = b"".join(os.urandom(8).hex().encode().join([line, b"\n"]) for line in whole.split(b"\n"))
        packed = pack(noisy)
        table = read(tmp_path / f"cut.{name}", packed[: len(packed) // 2])
        assert any("not whole" in problem["why"] for problem in table.attrs["problems"]), name
        assert len(table) > 0, name


def test_a_file_that_is_rotated_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mail.log"
    path.write_text(f"{HEADERS['RFC 3339']}{SENT}\n" * 50)
    monkeypatch.setattr(files, "BLOCK", 2000)
    monkeypatch.setattr(files, "PIECE", 2000)
    plain = files._pieces

    def moved(*given: Any) -> Any:
        if path.stat().st_size:
            path.rename(tmp_path / "mail.log.1")
            path.touch()
        return plain(*given)

    monkeypatch.setattr(files, "_pieces", moved)
    table = sk.read_log(path)
    assert len(table) == 50, "the open file was read to its end"
    assert [p["why"] for p in table.attrs["problems"]] == ["rotated or cut while it was read: read the set again"]
