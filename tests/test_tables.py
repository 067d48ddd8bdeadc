"""Other people's evidence: CSV, Excel and frames in any shape, and bounces of many makes."""

import mailbox
import pickle
import re
from pathlib import Path

import pandas as pd
import pytest

import smtpkit as sk
from smtpkit.attempts import COLUMNS
from smtpkit.catalogue import rows
from smtpkit.errors import InvalidInput

SEED = """time,ip,reply
2026-03-02 09:14:05,192.0.2.11,250 2.0.0 Ok: queued as 4XkP2q3Zr1z9tQ
2026-03-02 09:14:35,192.0.2.14,554 5.7.1 [198.51.100.7] is on our blacklist
2026-03-02 09:15:05,192.0.2.14,Connection timed out
2026-03-02 09:15:35,192.0.2.12,"550-5.7.26 not
550 5.7.26 today"
"""


def seed(path: Path, text: str = SEED, charset: str = "utf-8") -> Path:
    path.write_bytes(text.encode(charset))
    return path


def test_the_seeds_own_table_is_read_and_what_was_guessed_is_said(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"'time' as started_at, 'ip' as mx_ip"):
        table = sk.read_table(seed(tmp_path / "mine.csv"), tz="Asia/Seoul")
    assert table.attrs["guessed"] == {"time": "started_at", "ip": "mx_ip"}
    assert list(table.columns)[: len(COLUMNS)] == list(COLUMNS)
    assert str(table.started_at[0]) == "2026-03-02 00:14:05+00:00"
    assert table.code.astype("object").where(table.code.notna(), None).tolist() == [250, 554, None, 550]
    assert table.enhanced.fillna("").tolist() == ["2.0.0", "5.7.1", "", "5.7.26"]
    assert table.outcome.tolist() == ["accepted", "rejected", "failed", "rejected"]
    assert table.error.astype("object").fillna("").tolist() == ["", "", "timeout", ""]
    assert table.reply[1] == "554 5.7.1 [198.51.100.7] is on our blacklist"
    assert table.reply[3] == "550-5.7.26 not\n550 5.7.26 today"
    assert table.reason[1] == "ip_blocked"
    assert set(table.source) == {"table"}
    assert table.attrs["problems"] == table.attrs["notes"] == []


def test_a_mapping_settles_it_without_a_word(tmp_path: Path) -> None:
    named = {"time": "started_at", "ip": "mx_ip", "reply": "reply"}
    table = sk.read_table(seed(tmp_path / "mine.csv"), named, tz="Asia/Seoul")
    assert table.attrs["guessed"] == {}
    assert len(table) == 4


@pytest.mark.parametrize("charset", ["utf-8", "utf-8-sig", "euc-kr"])
def test_korean_tables(tmp_path: Path, charset: str) -> None:
    text = "일시\t수신IP\t수신자\t응답\n"
    text += "2026년 3월 2일 오후 9:14:05\t192.0.2.1\tkim@D.example\t550 5.1.1 존재하지 않는 사용자\n"
    with pytest.warns(UserWarning, match="guessed"):
        table = sk.read_table(seed(tmp_path / "표.csv", text, charset), tz="Asia/Seoul")
    row = table.iloc[0]
    assert str(row.started_at) == "2026-03-02 12:14:05+00:00"
    assert (row.mx_ip, row.recipient, row.domain) == ("192.0.2.1", "kim@D.example", "d.example")
    assert row.reply == "550 5.1.1 존재하지 않는 사용자"


def test_an_excel_file(tmp_path: Path) -> None:
    made = pd.DataFrame(
        {
            "sent_at": [pd.Timestamp("2026-03-02 09:14:05")],
            "server": ["mx1.d.example"],
            "code": [421.0],
            "msg": ["busy"],
        }
    )
    made.to_excel(tmp_path / "mine.xlsx", index=False)
    with pytest.warns(UserWarning, match="'msg' as reply"):
        table = sk.read_table(tmp_path / "mine.xlsx", tz="Asia/Seoul")
    row = table.iloc[0]
    assert (str(row.started_at), row.mx_host, row.code, row.reply) == (
        "2026-03-02 00:14:05+00:00", "mx1.d.example", 421, "421 busy")  # fmt: skip
    assert row.outcome == "deferred"


def test_columns_are_guessed_by_what_they_hold() -> None:
    made = pd.DataFrame({"a": ["2026-03-02T00:00:00Z"], "b": ["192.0.2.1"], "c": ["r@d.example"], "d": ["250 ok"]})
    with pytest.warns(UserWarning, match="guessed"):
        table = sk.read_table(made)
    assert table.attrs["guessed"] == {"a": "started_at", "b": "mx_ip", "c": "recipient", "d": "reply"}
    assert table.attrs["notes"] == []


def test_what_is_missing_comes_from_what_is_there() -> None:
    made = pd.DataFrame(
        {"mx_ip": ["192.0.2.1", "192.0.2.1", "192.0.2.2"], "mx_host": ["mx1.d.example", None, None],
         "code": [250, 554, 554], "recipient": ["a@d.example"] * 3, "mine": [1, 2, 3]})  # fmt: skip
    table = sk.read_table(made)
    assert table.mx_host.fillna("").tolist() == ["mx1.d.example", "mx1.d.example", ""]
    assert table.domain.tolist() == ["d.example"] * 3
    assert table.outcome.tolist() == ["accepted", "rejected", "rejected"]
    assert table.mine.tolist() == [1, 2, 3], "columns of one's own stay"


def test_words_that_mean_nothing_known_stay_and_claim_nothing() -> None:
    table = sk.read_table(pd.DataFrame({"reply": ["mailbox is on holiday", None], "mx_ip": ["192.0.2.1"] * 2}))
    assert table.reply.fillna("").tolist() == ["mailbox is on holiday", ""]
    assert table.outcome.isna().all()


def test_epochs_and_zones() -> None:
    made = pd.DataFrame({"started_at": [1772411645, 1772411646], "code": [250, 250]})
    assert str(sk.read_table(made).started_at[0]) == "2026-03-02 00:34:05+00:00"
    naive = pd.DataFrame({"started_at": ["2026-03-02 09:14:05", "2026-03-02T09:14:05+09:00"], "code": [250, 250]})
    table = sk.read_table(naive)
    assert [str(at) for at in table.started_at] == ["2026-03-02 09:14:05+00:00", "2026-03-02 00:14:05+00:00"]
    assert "read as UTC" in table.attrs["notes"][0]
    twice = pd.DataFrame(
        {"started_at": ["2026-10-25 02:30:00", "2026-03-29 02:30:00", "04/03/2026 01:00"], "code": [250] * 3}
    )
    table = sk.read_table(twice, tz="Europe/Berlin")
    assert table.started_at.isna().tolist() == [True, True, False], "an hour that came twice, or never"
    assert table.attrs["problems"][0]["count"] == 2
    assert "month/day" in table.attrs["notes"][0]


def test_bad_values_are_missing_and_counted() -> None:
    made = pd.DataFrame(
        {
            "started_at": ["yesterday", "2026-03-02"],
            "mx_ip": ["mx1", "[192.0.2.1]"],
            "code": [7, 250],
            "error": ["odd", "lost"],
        }
    )
    table = sk.read_table(made, tz="UTC")
    told = {problem["why"]: problem["lines"] for problem in table.attrs["problems"]}
    assert told == {
        "started_at cannot be read": [0],
        "code cannot be read": [0],
        "mx_ip cannot be read": [0],
        "error cannot be read": [0],
    }
    assert table.mx_ip[1] == "192.0.2.1"
    assert table.error.isna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("made", "more", "said"),
    [
        (pd.DataFrame({"a": ["x"]}), {}, "no column like a reply"),
        (pd.DataFrame({"code": [250]}), {"columns": {"b": "mx_ip"}}, "'b'"),
        (pd.DataFrame({"code": [250]}), {"columns": {"code": "nonsense"}}, "'nonsense'"),
        (pd.DataFrame({"code": [250], "started_at": ["2026-03-02 09:00"]}), {"tz": "Mars/Base"}, "Mars/Base"),
        ("/nowhere/mine.csv", {}, "is no file"),
    ],
)
def test_mistakes_are_named(made: object, more: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        sk.read_table(made, **more)


REPORT = """From: MAILER-DAEMON@relay1.ours.example
To: news@ours.example
Subject: Undelivered Mail Returned to Sender
Date: Mon, 2 Mar 2026 09:14:05 +0900
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: text/plain

<kim@naver.example>: host mx1.naver.example[192.0.2.25] said: 550 5.1.1 no such user
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; relay1.ours.example
Arrival-Date: Mon, 2 Mar 2026 09:14:04 +0900

Final-Recipient: rfc822; kim@naver.example
Original-Recipient: rfc822;kim@naver.example
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx1.naver.example (192.0.2.25)
Diagnostic-Code: smtp; 550-5.1.1 no such user
    550 5.1.1 really

Final-Recipient: rfc822; lee@Daum.example
Action: delayed
Status: 4.4.1
Last-Attempt-Date: Mon, 2 Mar 2026 09:20:00 +0900
Remote-MTA: dns; [192.0.2.14]
Diagnostic-Code: X-Postfix; connect to mx.daum.example[192.0.2.14]:25: Connection timed out

--b
Content-Type: message/rfc822

Message-ID: <1.abc@ours.example>
Subject: hello

text
--b--
"""
EXIM = """From: Mail Delivery System <Mailer-Daemon@relay2.ours.example>
To: news@ours.example
Date: Mon, 02 Mar 2026 00:14:05 +0000
Subject: Mail delivery failed: returning message to sender

This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  kim@naver.example
    host mx1.naver.example [2001:db8::25]
    SMTP error from remote mail server after RCPT TO:<kim@naver.example>:
    550 5.1.1 no such user

------ This is a copy of the message, including all the headers. ------

To: nobody@else.example
"""
QMAIL = """From: MAILER-DAEMON@relay3.ours.example
To: news@ours.example
Date: 2 Mar 2026 00:14:05 -0000
Subject: failure notice

Hi. This is the qmail-send program at relay3.ours.example.
I'm afraid I wasn't able to deliver your message to the following addresses.

<kim@naver.example>:
192.0.2.25 does not like recipient.
Remote host said: 550 5.1.1 no such user
Giving up on 192.0.2.25.

<lee@daum.example>:
Sorry, I wasn't able to establish an SMTP connection. (#4.4.1): Connection refused

--- Below this line is a copy of the message.

Message-ID: <2.abc@ours.example>
"""


def test_a_report_has_a_row_per_recipient(tmp_path: Path) -> None:
    table = sk.read_bounces(seed(tmp_path / "b.eml", REPORT))
    kim, lee = table.to_dict("records")
    assert (kim["recipient"], kim["mx_host"], kim["mx_ip"]) == (
        "kim@naver.example",
        "mx1.naver.example",
        "192.0.2.25",
    )
    assert (kim["code"], kim["enhanced"], kim["outcome"]) == (550, "5.1.1", "rejected")
    assert kim["reason"] == "recipient_unknown"
    assert (kim["message_id"], kim["sender"], kim["vantage"]) == (
        "1.abc@ours.example",
        "news@ours.example",
        "relay1.ours.example",
    )
    assert (lee["mx_ip"], lee["error"], lee["stage"], lee["outcome"]) == (
        "192.0.2.14",
        "timeout",
        "connect",
        "deferred",
    )
    assert (lee["domain"], str(lee["started_at"])) == ("daum.example", "2026-03-02 00:20:00+00:00")
    assert lee["mx_host"] == "mx.daum.example"
    assert (str(kim["started_at"]), kim["dsn_log"], lee["dsn_log"]) == (
        "2026-03-02 00:14:05+00:00",
        "5.1.1",
        "4.4.1",
    )


def test_bounces_in_free_words(tmp_path: Path) -> None:
    table = sk.read_bounces([seed(tmp_path / "exim.eml", EXIM), seed(tmp_path / "qmail.eml", QMAIL)])
    rows = table[["recipient", "mx_ip", "code", "outcome", "error"]].astype("object")
    assert rows.where(rows.notna(), None).values.tolist() == [
        ["kim@naver.example", "2001:db8::25", 550, "rejected", None],
        ["kim@naver.example", "192.0.2.25", 550, "rejected", None],
        ["lee@daum.example", None, None, "failed", "refused"],
    ]
    assert table.mx_host[0] == "mx1.naver.example"
    assert set(table.source) == {"bounce"}


def test_an_mbox_and_a_maildir_give_the_same_rows(tmp_path: Path) -> None:
    box, folder = mailbox.mbox(tmp_path / "box"), mailbox.Maildir(tmp_path / "dir")
    for text in (REPORT, EXIM, "Subject: lunch?\nTo: me@ours.example\n\nAt noon?\n"):
        box.add(text)
        folder.add(text)
    box.flush()
    box.close()
    tables = [sk.read_bounces(tmp_path / name) for name in ("box", "dir")]
    seen = [sorted(t[["recipient", "code"]].astype("str").values.tolist()) for t in tables]
    assert seen[0] == seen[1]
    assert len(seen[0]) == 3
    for table in tables:
        assert [(p["why"], p["count"]) for p in table.attrs["problems"]] == [("no failed recipient was found", 1)]


def test_no_such_mailbox() -> None:
    with pytest.raises(ValueError, match="names no file"):
        sk.read_bounces("/nowhere/box")


@pytest.mark.parametrize(
    ("name", "column"),
    [("dates.csv", "written"), ("bounce_subjects.csv", "words"), ("patterns.csv", "pattern")],
)
def test_each_form_in_the_data_is_found_in_its_example(name: str, column: str) -> None:
    assert [row for row in rows(name) if not re.search(row[column], row["example"], re.IGNORECASE)] == []


def test_ten_thousand_unread_mails_are_not_copied_with_every_step(tmp_path: Path) -> None:
    """pandas copies `.attrs` deeply at each operation; charts of such a frame took half a minute."""
    (tmp_path / "b.eml").write_text("Subject: hello\n\nnothing\n")
    table = sk.read_bounces(tmp_path)
    assert table[table["code"].isna()].copy().attrs["problems"] is table.attrs["problems"]
    assert pickle.loads(pickle.dumps(table)).attrs["problems"] == table.attrs["problems"]
