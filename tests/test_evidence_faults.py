"""What readers of real evidence met: each of these lost, doubled or misread a row without a word."""

import json
import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

import smtpkit as sk
from smtpkit.errors import InvalidInput
from smtpkit.journal import Journal
from tests.frames import values

POSTFIX = "2026-03-02T09:14:05.000000+09:00 relay1 postfix/smtp[41]: "
KEY = "4XkP2q3Zr1z9tQ: "
SENT = "to=<r@d.example>, relay=mx2.d.example[192.0.2.2]:25, delay=1, delays=0/0/1/0, dsn=2.0.0, "
SENT += "status=sent (250 2.0.0 Ok)"
REFUSED = "connect to mx[192.0.2.25]:25: Connection refused"
OLD = " relay1 postfix/smtp[41]: " + REFUSED + "\n"


def test_a_row_that_waited_for_the_next_file_is_kept_beside_that_file_s_own(tmp_path: Path) -> None:
    held = POSTFIX + "connect to mx1.d.example[192.0.2.1]:25: Connection timed out\n"
    (tmp_path / "mail.log.1").write_text(held)
    (tmp_path / "mail.log").write_text(POSTFIX.replace("[41]", "[77]") + KEY + SENT + "\n")
    made = sk.read_log(tmp_path / "mail.log*", into=tmp_path / "set")
    assert sorted(made.frame().mx_ip) == ["192.0.2.1", "192.0.2.2"]


@pytest.mark.parametrize("mta", ["auto", "postfix"])
def test_mail_in_the_middle_of_other_programs_lines_is_found(mta: str, tmp_path: Path) -> None:
    others = "2026-03-02T09:00:00+09:00 relay1 kernel: some other program's line\n" * 10_000
    (tmp_path / "messages").write_text(others + (POSTFIX + REFUSED + "\n") * 50 + others)
    assert len(sk.read_log(tmp_path / "messages", mta=mta)) == 50


MX1 = "mx1.d.example[192.0.2.1]"
NO_AUTH = f"SASL authentication failed; server {MX1} said: 535 5.7.8 Error"
NO_TLS = f"TLS is required, but host {MX1} refused to start TLS: 454 4.7.0 no"
UNMET = {"SASL": (NO_AUTH, "auth", "rejected", 535), "STARTTLS": (NO_TLS, "starttls", "deferred", 454)}


@pytest.mark.parametrize(("text", "stage", "outcome", "code"), UNMET.values(), ids=UNMET)
def test_a_server_that_fails_auth_or_starttls(text, stage, outcome, code, tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    final = "to=<r@d.example>, relay=mx1.d.example[192.0.2.1]:25, delay=1, delays=0/0/1/0, "
    final += f"dsn=4.7.8, status=deferred ({text})\n"
    log.write_text(POSTFIX + KEY + final)
    assert values(sk.read_log(log), "stage", "outcome", "code") == [[stage, outcome, code]]
    log.write_text(POSTFIX + KEY + text + "\n" + POSTFIX + KEY + SENT + "\n")
    both = [["192.0.2.1", stage, outcome, code], ["192.0.2.2", "body", "accepted", 250]]
    assert values(sk.read_log(log), "mx_ip", "stage", "outcome", "code") == both


def test_a_certificate_that_fails_at_a_server_without_name_is_a_counted_problem(tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    log.write_text(POSTFIX + KEY + "Server certificate not trusted\n" + POSTFIX + KEY + SENT + "\n")
    read = sk.read_log(log)
    assert len(read) == 1
    assert [one["count"] for one in read.attrs["problems"]] == [1]


def test_a_try_of_an_earlier_queue_run_is_its_own(tmp_path: Path) -> None:
    qid, log = "1tAbCd-000123-Xy", tmp_path / "mainlog"
    log.write_text(
        f"2026-03-02 09:00:01 {qid} H=mx1.d.example [192.0.2.1] Connection refused\n"
        f"2026-03-02 09:00:02 {qid} H=mx2.d.example [192.0.2.2] Connection refused\n"
        f"2026-03-02 09:00:02 {qid} == r@d.example R=dnslookup T=remote_smtp defer (111): Connection refused\n"
        f"2026-03-02 10:00:01 {qid} == r@d.example R=dnslookup T=remote_smtp defer (-44) "
        "H=mx1.d.example [192.0.2.1]: "
        "SMTP error from remote mail server after RCPT TO:<r@d.example>: 450 4.2.0 greylisted\n"
    )
    read = sk.read_log(log, tz="UTC")
    assert values(read, "mx_ip", "code") == [["192.0.2.1", None], ["192.0.2.2", None], ["192.0.2.1", 450]]


def test_a_stamp_without_zone_has_the_caller_s_and_else_a_note(tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    log.write_text(f"2026-03-02T09:14:05 relay1 postfix/smtp[41]: {REFUSED}\n")
    assert str(sk.read_log(log, tz="Asia/Seoul").started_at[0]) == "2026-03-02 00:14:05+00:00"
    assert len(sk.read_log(log).attrs["notes"]) == 1
    log.write_text(
        '2026-03-02 09:00:00 1tAbCd-000123-Xy => r@d.example R=d T=r H=mx1.d.example [192.0.2.1] C="250 OK"\n'
    )
    assert len(sk.read_log(log).attrs["notes"]) == 1


def test_the_year_goes_on_from_file_to_file(tmp_path: Path) -> None:
    (tmp_path / "mail.log.1").write_text("Dec 31 23:00:00" + OLD + "Jan  1 01:00:00" + OLD)
    (tmp_path / "mail.log").write_text("Jan  4 09:14:05" + OLD)
    read = sk.read_log(tmp_path / "mail.log*", year=2025, tz="UTC")
    assert [str(at)[:10] for at in read.started_at] == ["2025-12-31", "2026-01-01", "2026-01-04"]


def test_a_log_of_over_a_year_says_that_its_year_must_be_given(tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    log.write_text("".join(day + " 01:00:00" + OLD for day in ("Feb 10", "Aug  1", "Jan  1", "Mar  2")))
    os.utime(log, (datetime(2026, 3, 2, 2, tzinfo=UTC).timestamp(),) * 2)
    assert ["year=" in one["why"] for one in sk.read_log(log, tz="UTC").attrs["problems"]] == [True]


GOOD = POSTFIX + REFUSED + "\n"
EXIM = '2026-03-02 09:00:00 1tAbCd-000123-Xy => r@d.example R=d T=r H=mx1 [192.0.2.1] C="250 OK"\n'
RECORD = {"__REALTIME_TIMESTAMP": "1772409600000000", "MESSAGE": REFUSED, "_HOSTNAME": "r"}
RECORD |= {"SYSLOG_IDENTIFIER": "postfix/smtp", "_PID": "4"}
ODD = {
    "an hour that is none": (GOOD + GOOD.replace("T09", "T29"), 2, 1),
    "a month that is none": (EXIM + EXIM.replace("-03-", "-13-"), 1, 1),
    "a record that was cut": (json.dumps(RECORD) + "\n" + json.dumps(RECORD)[:60] + "\n", 1, 1),
    "a record without time": (json.dumps({k: v for k, v in RECORD.items() if k[1] != "_"}) + "\n" + GOOD, 1, 1),
    "a record with two messages": (json.dumps(RECORD | {"MESSAGE": [REFUSED, "b"]}) + "\n" + GOOD, 2, 0),
}


@pytest.mark.parametrize(("text", "rows", "problems"), ODD.values(), ids=ODD)
def test_one_bad_stamp_or_record_is_a_counted_problem(text: str, rows: int, problems: int, tmp_path: Path) -> None:
    (tmp_path / "mail.log").write_text(text)
    read = sk.read_log(tmp_path / "mail.log", tz="UTC")
    assert len(read) == rows
    assert [one["count"] for one in read.attrs["problems"]] == [1] * problems


REPORT = """To: a@o.example
Subject: Undelivered
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary=B

--B
Content-Type: message/delivery-status

Reporting-MTA: dns; relay1.o.example

Final-Recipient: rfc822; r@d.example
Action: failed
Status: 5.7.1
Remote-MTA: dns; {remote}
Diagnostic-Code: smtp; 554 5.7.1 Service unavailable; Client host
 [198.51.100.7] blocked using zen.spamhaus.org

--B--
"""
REMOTE = {
    "a name": ("mx1.d.example", ["mx1.d.example", None]),
    "as Gmail writes": (
        "mx1.d.example. (192.0.2.14, the server for the domain d.example.)",
        ["mx1.d.example", "192.0.2.14"],
    ),
    "name and address": ("mx1.d.example (192.0.2.14)", ["mx1.d.example", "192.0.2.14"]),
}


@pytest.mark.parametrize(("remote", "server"), REMOTE.values(), ids=REMOTE)
def test_the_address_in_a_server_s_words_is_ours_and_not_the_server_s(remote, server, tmp_path: Path) -> None:
    (tmp_path / "b.eml").write_text(REPORT.format(remote=remote))
    assert values(sk.read_bounces(tmp_path / "b.eml"), "mx_host", "mx_ip") == [server]


def test_a_running_casebook_is_not_ended_by_whoever_opens_a_link_to_it(tmp_path: Path) -> None:
    path, link = tmp_path / "c.sqlite", tmp_path / "links" / "c.sqlite"
    link.parent.mkdir()
    journal = Journal(path, {})
    journal.begin("s1", [("a1", {"started_at": datetime.now(UTC).isoformat()})])
    journal.commit()
    link.symlink_to(path)
    sk.Casebook(link)
    journal.finish([("a1", {"stage": "body", "outcome": "accepted", "code": 250})], [None])
    journal.commit()
    journal.close()
    assert values(sk.Casebook(path).attempts(), "outcome") == [["accepted"]]


def test_a_merge_of_a_running_casebook_s_copy_is_mended_by_the_next(tmp_path: Path) -> None:
    path, copy = tmp_path / "h1.sqlite", tmp_path / "copy.sqlite"
    journal = Journal(path, {})
    journal.begin("s1", [("a1", {"started_at": datetime.now(UTC).isoformat()})])
    journal.claim(["a1"], ["k1"])
    journal.commit()
    with closing(sqlite3.connect(path)) as one, closing(sqlite3.connect(copy)) as two:
        one.backup(two)
    merged = sk.Casebook(tmp_path / "m.sqlite")
    assert merged.merge([copy]) == 1
    assert values(merged.attempts(), "outcome") == [["unknown"]]
    said = (0, "body", ".", 550, b"550 no\r\n", "", datetime.now(UTC).isoformat(), 0.1)
    journal.heard("s1", [said])
    journal.finish([("a1", {"stage": "body", "outcome": "rejected", "code": 550})], ["k1"])
    journal.commit()
    journal.close()
    merged.merge([path])
    assert values(merged.attempts(), "outcome") == [["rejected"]]
    assert merged.claimed(["k1"]) == set()
    assert merged.verify().empty


@pytest.mark.filterwarnings("ignore:read_table guessed")
def test_a_code_that_is_a_word_costs_no_other(tmp_path: Path) -> None:
    table = {
        "ip": ["192.0.2.1"] * 3,
        "status": ["550", "451", "timeout"],
        "message": ["no such user", "try later", "timed out"],
    }
    read = sk.read_table(pd.DataFrame(table))
    assert values(read, "code") == [[550], [451], [None]]
    assert [one["count"] for one in read.attrs["problems"]] == [1]


TIMES = {
    "2026-03-02 09:14:05 +0900": "2026-03-02 00:14:05",
    "2026-03-02 09:14:05+09": "2026-03-02 00:14:05",
    "2026-03-02 09:14:05 UTC": "2026-03-02 09:14:05",
    "Mon, 02 Mar 2026 09:14:05 +0900": "2026-03-02 00:14:05",
    "Mon, 02 Mar 2026 09:14:05 GMT": "2026-03-02 09:14:05",
    "20260302091405": "2026-03-02 00:14:05",
    "20260302": "2026-03-01 15:00:00",
    "26.03.02 09:14": "2026-03-02 00:14:00",
    "20-03-2026": "2026-03-19 15:00:00",
    "1772410445": "2026-03-02 00:14:05",
    "1772410445000": "2026-03-02 00:14:05",
    "46083.385": None,
    "yesterday": None,
}


@pytest.mark.parametrize(("text", "instant"), TIMES.items())
@pytest.mark.parametrize("others", [[], ["2026-03-02 10:00", "0"]], ids=["alone", "among others"])
def test_times_as_people_write_them(text: str, instant: str | None, others: list[str]) -> None:
    times = [text, *others]
    table = pd.DataFrame({"started_at": times, "mx_ip": "192.0.2.1", "reply": "550 no"})
    read = sk.read_table(table, tz="Asia/Seoul")
    assert values(read, "started_at")[0] == [None if instant is None else pd.Timestamp(instant, tz="UTC")]
    assert len(read.attrs["problems"]) == (instant is None or bool(others))


FRONTS = {
    "docker": "mail-1  | Nov 20 09:14:05 relay1 ",
    "milliseconds": "Nov 20 09:14:05.123 relay1 ",
    "a year in front": "2026 Nov 20 09:14:05 relay1 ",
    "kubernetes": "2026-11-20T00:14:05.1Z stdout F ",
}


@pytest.mark.parametrize("front", FRONTS.values(), ids=FRONTS)
def test_lines_whose_front_is_of_no_known_form_are_read_or_counted(front: str, tmp_path: Path) -> None:
    (tmp_path / "mail.log").write_text(GOOD + f"{front}postfix/smtp[41]: {KEY}{SENT}\n" * 5)
    read = sk.read_log(tmp_path / "mail.log", tz="UTC")
    assert len(read) - 1 + sum(one["count"] for one in read.attrs["problems"]) == 5


def test_postfix_in_a_journal_is_no_broken_sendmail(tmp_path: Path) -> None:
    (tmp_path / "mail.log").write_text(json.dumps(RECORD | {"MESSAGE": KEY + SENT}) + "\n")
    read = sk.read_log(tmp_path / "mail.log")
    assert (len(read), read.attrs["problems"]) == (1, [])


def test_sendmail_s_dsn_says_whether_a_refusal_without_code_was_final(tmp_path: Path) -> None:
    line = (
        "Nov 20 09:10:0{} mail sendmail[1000]: 5AK0E5xx00000{}: to=<k@d.example>, delay=00:00:01, xdelay=00:00:01, "
    )
    line += "mailer=esmtp, pri=121234, relay=mx.d.example. [192.0.2.11], dsn={}, stat=Service unavailable\n"
    (tmp_path / "mail.log").write_text(line.format(1, 1, "5.7.1") + line.format(2, 2, "4.7.1"))
    read = sk.read_log(tmp_path / "mail.log", tz="UTC", year=2026)
    assert values(read, "outcome", "code", "dsn_log") == [["rejected", None, "5.7.1"], ["deferred", None, "4.7.1"]]


def test_a_year_that_is_no_number_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mail.log").write_text("Jan  1 01:00:00" + OLD)
    with pytest.raises(InvalidInput, match="year"):
        sk.read_log(tmp_path / "mail.log", year="2025")


SAYS = {
    "a log's words": (
        "host mx[192.0.2.1] said: 550 5.7.1 no (in reply to MAIL FROM command)",
        ["rejected", "mail", 550],
    ),
    "a report's type": ("smtp; 554 5.7.1 no", ["rejected", None, 554]),
    "a colon": ("550: no", ["rejected", None, 550]),
    "nothing": ("sent 250 messages", [None, None, None]),
}


@pytest.mark.parametrize(("reply", "told"), SAYS.values(), ids=SAYS)
def test_a_reply_behind_other_words_is_found_and_none_is_a_problem(reply: str, told: list[object]) -> None:
    table = pd.DataFrame({"started_at": ["2026-03-02 09:14"], "mx_ip": "192.0.2.1", "reply": reply})
    read = sk.read_table(table, tz="UTC")
    assert values(read, "outcome", "stage", "code") == [told]
    assert [one["why"] for one in read.attrs["problems"]] == ["reply cannot be read"] * (told[0] is None)


@pytest.mark.filterwarnings("ignore:read_table guessed")
def test_endings_as_people_call_them() -> None:
    table = {"ip": "192.0.2.1", "결과": ["성공", "실패", "실패", "Bounced"], "사유": ["", "550 5.1.1 no", None, ""]}
    read = sk.read_table(pd.DataFrame(table))
    assert values(read, "outcome", "code") == [
        ["accepted", None],
        ["rejected", 550],
        ["failed", None],
        ["rejected", None],
    ]
    odd = sk.read_table(pd.DataFrame({"mx_ip": ["192.0.2.1"], "how": ["odd"]}), {"how": "outcome"})
    assert [one["why"] for one in odd.attrs["problems"]] == ["outcome cannot be read"]


@pytest.mark.filterwarnings("ignore:read_table guessed")
@pytest.mark.parametrize("charset", ["utf-8", "utf-8-sig", "utf-16", "cp949"])
def test_a_file_as_excel_writes_it(charset: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("수신IP,응답\n192.0.2.1,550 뷁 차단\n".encode(charset))
    assert values(sk.read_table(tmp_path / "a.csv"), "mx_ip", "code") == [["192.0.2.1", 550]]


def test_a_table_without_rows_is_an_empty_frame() -> None:
    assert sk.read_table(pd.DataFrame({"started_at": [], "mx_ip": [], "reply": []})).empty


OWN_WORDS = {
    "too big": ("5.3.4", "message size 9 exceeds size limit 5 of server mx2.d.example[192.0.2.2]", "too_big"),
    "no UTF-8": ("5.6.7", "SMTPUTF8 is required, but was not offered by host mx2.d.example[192.0.2.2]", "protocol"),
    "no code of its own": ("5.0.0", "unheard-of words of mx2.d.example[192.0.2.2]", "unknown"),
}


@pytest.mark.parametrize("name", OWN_WORDS)
def test_what_our_mta_refused_by_itself_has_the_reason_of_its_code(name: str, tmp_path: Path) -> None:
    code, words, reason = OWN_WORDS[name]
    line = SENT.replace("dsn=2.0.0", f"dsn={code}").replace("sent (250 2.0.0 Ok)", f"bounced ({words})")
    (tmp_path / "mail.log").write_text(POSTFIX + KEY + line + "\n")
    assert values(sk.read_log(tmp_path / "mail.log"), "outcome", "code", "enhanced", "reason") == [
        ["failed", None, None, reason]
    ]
