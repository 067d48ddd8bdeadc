"""What readers of the bounce reader proved: rows of letters that claim anything, servers and recipients lost."""

import base64
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import smtpkit as sk
from tests.frames import values

HEAD = """From: MAILER-DAEMON@x.example
To: news@ours.example
Date: Mon, 2 Mar 2026 09:14:05 +0900
Subject: failure
"""
PLAIN = f"{HEAD}MIME-Version: 1.0\nContent-Type: text/plain; charset="
WHOLE = "Reporting-MTA: dns; relay.ours.example\nArrival-Date: Wed, 25 Feb 2026 09:00:00 +0900\n"
ONE = """Final-Recipient: rfc822; r@d.example
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx1.d.example
Diagnostic-Code: smtp; 550 5.1.1 no such user
"""


def report(
    each: str = ONE, whole: str = WHOLE, plain: str = "Sorry", returned: str = "Message-ID: <1@o>\n\n"
) -> str:
    parts = {"text/plain": plain, "message/delivery-status": f"{whole}\n{each}", "message/rfc822": returned}
    text = "".join(f"--b\nContent-Type: {kind}\n\n{body}\n" for kind, body in parts.items())
    kind = "Content-Type: multipart/report; report-type=delivery-status; boundary=b"
    return f"{HEAD}MIME-Version: 1.0\n{kind}\n\n{text}--b--\n"


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def rows(text: str | bytes, *names: str) -> list[list[Any]]:
        (tmp_path / "b.eml").write_bytes(text if isinstance(text, bytes) else text.encode())
        frame = sk.read_bounces(tmp_path / "b.eml")
        rows.problems = [one["why"] for one in frame.attrs["problems"]]  # type: ignore[attr-defined]  # a test's
        return values(frame, *names)

    return rows


EVIL = """Final-Recipient: rfc822; victim@big.example
Action: failed
Remote-MTA: dns; mx.big.example (192.0.2.99)
Diagnostic-Code: smtp; 550 5.7.1 your IP is blocked
"""
STATUS = f"Content-Type: message/delivery-status\n\nReporting-MTA: dns; evil\n\n{EVIL}"
CLAIMS = {
    "to be of fields": f"Message-ID: <1@o>\n{STATUS}",
    "to be a report": f"Message-ID: <1@o>\nContent-Type: multipart/report; boundary=e\n\n--e\n{STATUS}--e--\n",
}


@pytest.mark.parametrize("returned", CLAIMS.values(), ids=CLAIMS)
@pytest.mark.parametrize("outer", ["", "multipart/mixed"])
def test_what_the_returned_letter_claims_is_no_evidence(returned: str, outer: str, read: Any) -> None:
    text = report(returned=returned)
    text = f"{HEAD}Content-Type: {outer}; boundary=o\n\n--o\n{text}\n--o--\n" if outer else text
    assert read(text, "recipient", "mx_ip") == [["r@d.example", None]]


def test_the_words_of_a_letter_that_is_attached_are_not_the_bounce_s(read: Any) -> None:
    parts = "--b\nContent-Type: text/html\n\n<p>Sorry</p>\n--b\nContent-Type: message/rfc822\n\n"
    text = f"{HEAD}Content-Type: multipart/mixed; boundary=b\n\n{parts}Subject: x\n\nv@x.example:\n550 no\n--b--\n"
    assert read(text, "recipient") == []


def test_a_forwarded_bounce_is_read(read: Any) -> None:
    """As it stands, and not as sent to who forwarded it."""
    text = "From: kim@x.example\nTo: post@x.example\nContent-Type: multipart/mixed; boundary=f\n\n--f\n\nlook\n"
    each = [report(plain=FOLDED), report(ONE.replace("r@", "s@"), plain=FOLDED.replace("<r@", "<s@"))]
    text += "".join(f"--f\nContent-Type: message/rfc822\n\n{one}\n" for one in each) + "--f--\n"
    names = ["recipient", "code", "mx_ip", "sender", "message_id"]
    assert read(text, *names) == [row for one in each for row in read(one, *names)]
    assert read(text, "recipient", "mx_ip") == [[f"{who}@d.example", "192.0.2.25"] for who in "rs"]


BROKEN = {
    "an empty id": report(returned="Message-ID: <>\n\nx\n"),
    "half a literal": report(returned="Message-ID: <1@[ours\n\nx\n"),
    "a literal as id": report(returned="Message-ID: <[a]@b>\n\nx\n"),
    "half an address": report().replace("To: news@ours.example", "To: Kim <kim@"),
    "a line end in a name": report().replace("To: news@ours.example", "To: =?utf-8?q?a=0Ab?= <a@b>"),
    "half an encoded word": report().replace("Subject: failure", "Subject: =?utf-8?b?x?="),
    "no charset": f"{PLAIN}undefined\n\n<r@d.example>:\n550 no\n",
    "a charset of none": f'{PLAIN}"utf\0"\n\n<r@d.example>:\n550 no\n',
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_field_costs_itself_only(text: str, read: Any) -> None:
    assert read(text, "recipient", "code") == [["r@d.example", 550]]


SENDMAIL = f"""{HEAD}
   ----- The following addresses had permanent fatal errors -----
<kim@naver.example>
<lee@daum.example>

   ----- Transcript of session follows -----
... while talking to mx1.naver.example.:
>>> RCPT To:<kim@naver.example>
<<< 550 5.1.1 no such user
... while talking to mx1.daum.example.:
>>> DATA
<<< 554 5.7.1 blocked
"""


def test_a_dialogue_s_replies_go_to_those_they_name(read: Any) -> None:
    assert read(SENDMAIL, "recipient", "reply") == [["kim@naver.example", "550 5.1.1 no such user"]]
    assert read.problems == ["why lee@daum.example failed is not said"]
    one = SENDMAIL.replace("<kim@naver.example>\n<lee", "<lee").replace(">>> RCPT To:<kim@naver.example>\n", "")
    assert read(one.replace("<<< 550 5.1.1 no such user\n", ""), "recipient", "reply") == [
        ["lee@daum.example", "554 5.7.1 blocked"]
    ]


FOLDED = """<r@d.example>: host mx1.d.example[192.0.2.25] said: 550 5.1.1
    <r@d.example>: no such user (in reply to RCPT TO command)
"""
REMOTE = {
    "a name and an IP in brackets": ("dns; mx1.d.example[192.0.2.14]", ["mx1.d.example", "192.0.2.14"]),
    "an IP alone": ("dns; 192.0.2.14", [None, "192.0.2.14"]),
    "IPv6": ("dns; [IPv6:2001:DB8::14]", [None, "2001:db8::14"]),
}


@pytest.mark.parametrize(("remote", "server"), REMOTE.values(), ids=REMOTE)
def test_the_server_is_read_in_any_form(remote: str, server: list[str | None], read: Any) -> None:
    assert read(report(ONE.replace("dns; mx1.d.example", remote)), "mx_host", "mx_ip") == [server]


def test_postfix_names_the_server_s_address_beside_its_report(read: Any) -> None:
    assert read(report(plain=FOLDED), "mx_host", "mx_ip", "stage") == [["mx1.d.example", "192.0.2.25", "rcpt"]]
    other = FOLDED.replace("550 5.1.1", "451 4.7.1")
    assert read(report(plain=other), "mx_ip") == [[None]], "of another reply's server nothing is taken"


def test_words_folded_by_postfix_are_whole(read: Any) -> None:
    assert read(f"{HEAD}\n{FOLDED}", "recipient", "reply", "stage") == [
        ["r@d.example", "550 5.1.1 <r@d.example>: no such user", "rcpt"]
    ]


LAST = {
    "the letter's own": ("", "2026-03-02 00:14:05"),
    "the last try's": ("Last-Attempt-Date: Mon, 2 Mar 2026 09:13:05 +0900\n", "2026-03-02 00:13:05"),
    "KST": ("Last-Attempt-Date: Mon, 2 Mar 2026 09:13:05 KST\n", "2026-03-02 00:13:05"),
    "ISO": ("Last-Attempt-Date: 2026-03-02 09:13:05 +0900\n", "2026-03-02 00:13:05"),
    "a zone that nobody knows": ("Last-Attempt-Date: Mon, 2 Mar 2026 09:13:05 XYZ\n", "2026-03-02 00:14:05"),
}


@pytest.mark.parametrize(("field", "at"), LAST.values(), ids=LAST)
def test_a_bounce_s_time_is_the_try_s(field: str, at: str, read: Any) -> None:
    assert read(report(ONE + field), "started_at") == [[pd.Timestamp(at, tz="UTC")]]


BLOCKS = {
    "blank lines": report("\n" + ONE + "\n\n" + ONE.replace("r@", "s@")),
    "a blank line first": report(ONE + "\n" + ONE.replace("r@", "s@"), whole="\n" + WHOLE),
    "a line that is no field": report(ONE + "broken off\n\n" + ONE.replace("r@", "s@")),
    "one block": report(WHOLE + ONE + "\n" + ONE.replace("r@", "s@"), whole=""),
}


@pytest.mark.parametrize("text", BLOCKS.values(), ids=BLOCKS)
def test_blank_lines_make_no_recipients(text: str, read: Any) -> None:
    assert read(text, "recipient", "vantage") == [[f"{who}@d.example", "relay.ours.example"] for who in "rs"]


KOREAN = {
    "no charset": "",
    "a Korean reader's name for it": "MIME-Version: 1.0\nContent-Type: text/plain; charset=ks_c_5601-1987\n",
    "a wrong one": "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n",
    "ASCII": "MIME-Version: 1.0\nContent-Type: text/plain; charset=us-ascii\n",
}


@pytest.mark.parametrize("kind", KOREAN.values(), ids=KOREAN)
def test_korean_words_survive_what_the_letter_says_of_them(kind: str, read: Any) -> None:
    text = f"{HEAD}{kind}\n<kim@d.example>:\n550 5.7.1 차단된 IP입니다 똠\n".encode("cp949")
    assert read(text, "reply", "reason") == [["550 5.7.1 차단된 IP입니다 똠", "ip_blocked"]]


QMAIL = f"""{HEAD}
<a@d.example>:
192.0.2.25 does not like recipient.
Remote host said: 550 5.1.1 no such user

<b@d.example>:
Sorry, no mailbox here by that name. (#5.1.1)

<c@e.example>:
Something is odd.

--- Below this line is a copy of the message.
"""


def test_each_recipient_is_a_row_or_a_problem(read: Any) -> None:
    assert read(QMAIL, "recipient", "mx_ip", "code", "outcome", "dsn_log") == [
        ["a@d.example", "192.0.2.25", 550, "rejected", None],
        ["b@d.example", None, None, "failed", "5.1.1"],
    ]
    assert read.problems == ["why c@e.example failed is not said"]


def test_a_letter_that_is_no_bounce_fails_nobody(read: Any) -> None:
    text = "From: returns@x.example\nTo: me@ours.example\nSubject: budget\n\nlee@ours.example: 550 chairs\n"
    assert read(text, "recipient") == []
    assert read.problems == ["no failed recipient was found"]


@pytest.mark.parametrize("text", ["a." * 20_000, "1.1.1.1" * 9_000, "\n" * 40_000, " " * 40_000, "said:" * 9_000])
def test_a_hostile_bounce_ends(text: str, read: Any) -> None:
    assert read(f"{HEAD}\n<r@d.example>:\n{text}\n550 5.1.1 no\n", "recipient") == [["r@d.example"]]
    said = f"smtp; 550 5.1.1 {text}"
    assert read(report(ONE.replace("smtp; 550 5.1.1 no such user", said)), "recipient")[0] == ["r@d.example"]
    assert len(sk.read_table(pd.DataFrame({"mx_host": [text], "reply": [text], "code": [550]}))) == 1


SUBJECTS = [
    *("메일을 보내지 못했습니다", "메일 발송 오류 안내", "전송되지 않은 메일 안내", "배달할 수 없음: 안녕"),
    *("수신 불가 안내", "NDR: hi", "Non remis : hi", "Unzustellbar: hi", "配信不能: hi", "メールエラー通知"),
    *("Warning: could not send message for past 4 hours", "Delivery Status Notification"),
]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_bounce_is_known_in_many_languages(subject: str, read: Any) -> None:
    text = f"From: system@x.example\nSubject: {subject}\n\nr@d.example\n550 5.1.1 no\n"
    assert read(text, "recipient", "code") == [["r@d.example", 550]]


def test_a_text_without_a_sender_is_taken_for_one(read: Any) -> None:
    assert read("Subject: x\n\nr@d.example\n550 5.1.1 no\n", "code") == [[550]]


FIELDS = {
    "a recipient in angle brackets": (ONE.replace("r@d.example", "<r@d.example>"), "550 5.1.1 no such user"),
    "a fold": (ONE.replace("5.1.1 no", "5.1.1\n    no"), "550 5.1.1 no such user"),
    "a fold with a tab behind the code": (
        ONE.replace("smtp; 550 5.1.1 no", "X-Postfix; host mx1.d.example[192.0.2.25] said: 550\n\tno"),
        "550 no such user",
    ),
    "no type, and SMTP among its words": (ONE.replace("smtp; 550 5.1.1 no", "550 no SMTP here; no"), None),
    "the words of the sender's own MTA": (
        ONE.replace("smtp; 550 5.1.1 no such user", "X-Postfix; message size 20 exceeds size limit 10 of\n    mx1"),
        "message size 20 exceeds size limit 10 of mx1",
    ),
    "said twice": (ONE + "\n" + ONE, "550 5.1.1 no such user"),
}


@pytest.mark.parametrize(("each", "reply"), FIELDS.values(), ids=FIELDS)
def test_a_report_s_fields_are_read_as_they_are_meant(each: str, reply: str | None, read: Any) -> None:
    assert read(report(each), "recipient", "domain", "reply") == [
        ["r@d.example", "d.example", reply or "550 no SMTP here; no such user"]
    ]


EXIM = "A message that you sent could not be delivered. The following address failed:\n\n  r@d.example\n"
LETTERS = {
    "DragonFly": "There was an error delivering your mail to <r@d.example>.\n\nmx [192.0.2.25] said:\n550 no\n",
    "SmarterMail": "Failed Recipient: r@d.example\nReason: Remote host said: 550 no\n",
    "MailEnable": "\tRecipient: [SMTP:r@d.example]\n\tReason: Remote SMTP Server Returned: 550 no\n",
    "GMX": '"r@d.example":\nSMTP error from remote server after RCPT command:\n550 no\n',
    "a list": "These failed:\n\n   * r@d.example\n\nSMTP:RCPT host 192.0.2.25: 550 no\n",
    "au": "    Recipient: <r@d.example>\n    >>> RCPT TO:<r@d.example>\n    <<< 550 no\n",
    "MailFoundry": "Unable to deliver message to: <r@d.example>\nServer mx[192.0.2.25] failed with: 550 no\n",
    "CR alone": f"{EXIM}    host mx [192.0.2.25]\n    SMTP error after RCPT TO:\n    550 no\n".replace("\n", "\r"),
}


@pytest.mark.parametrize("text", LETTERS.values(), ids=LETTERS)
def test_letters_of_many_makers_are_read(text: str, read: Any) -> None:
    head = HEAD.replace("\n", "\r") + "\r" if "\r" in text else f"{HEAD}\n"
    assert read(head + text, "recipient", "reply") == [["r@d.example", "550 no"]]


OWN = {
    "a full box": (f"{EXIM}    mailbox is full: retry timeout exceeded\n", "mailbox_full"),
    "a child of qmail": ("<r@d.example>:\nchild status 100...The user's mailfolder is full.\n", "mailbox_full"),
    "Domino": (
        "not delivered to:\n\n  r@d.example\n\nbecause:\n\n  User r (r@d.example) not listed in Domino Directory\n",
        "recipient_unknown",
    ),
    "1&1": ("r@d.example\n\nFor the following reason:\n\nMail size limit exceeded.\n", "too_big"),
    "a quota": ("<r@d.example>:\nSorry, this account is over quota.\n", "mailbox_full"),
}


@pytest.mark.parametrize(("text", "reason"), OWN.values(), ids=OWN)
def test_why_the_sender_s_mta_gave_up_is_kept_in_its_words(text: str, reason: str, read: Any) -> None:
    assert read(f"{HEAD}\n{text}", "recipient", "outcome", "reason", "stage", "code") == [
        ["r@d.example", "failed", reason, None, None]
    ]


def test_a_retry_timeout_is_no_timeout_of_a_connection(read: Any) -> None:
    assert read(f"{HEAD}\n{EXIM}    retry timeout exceeded\n", "error", "stage") == [[None, None]]


def test_whom_a_letter_failed_its_header_may_say(read: Any) -> None:
    text = f"X-Failed-Recipients: g@groups.example\n{HEAD}\nHello news@ours.example,\nthat group may not exist.\n"
    assert read(text) == []
    assert read.problems == ["why g@groups.example failed is not said"]
    assert read(text.replace("that group", "The answer was:\n550 that group"), "recipient", "code") == [
        ["g@groups.example", 550]
    ]


MUTE = """Final-Recipient: rfc822; r@d.example
Action: error
Status: 5.0.0

Final-Recipient: rfc822; s@d.example
Action: delayed
Status: 4.0.0
"""


def test_a_report_without_a_reply_has_the_words_beside_it(read: Any) -> None:
    words = "The list of recipients:\n\nr@d.example: 550 5.2.2 Mailbox full\ns@d.example: Domain does not exist\n"
    assert read(
        report(MUTE, plain=words), "recipient", "code", "reply", "error", "outcome", "reason", "vantage"
    ) == [
        ["r@d.example", 550, "550 5.2.2 Mailbox full", None, "rejected", "mailbox_full", "relay.ours.example"],
        ["s@d.example", None, None, "dns_nxdomain", "deferred", "network", "relay.ours.example"],
    ]


INDENTED = {
    "behind a colon": (
        "    host mx1 [192.0.2.25]: 554 5.7.1 <r@d.example>:\n    Blocked by the recipient\n",
        "554 5.7.1 <r@d.example>: Blocked by the recipient",
    ),
    "an address alone": (
        "    550 5.1.1 unknown or illegal alias:\n    r@d.example\n",
        "550 5.1.1 unknown or illegal alias: r@d.example",
    ),
    "Exim's last words": (
        "    451 4.7.1 <r@d.example>:\n    Greylisted: retry timeout exceeded\n",
        "451 4.7.1 <r@d.example>: Greylisted",
    ),
    "a reply of lines": (
        "    550-5.7.26 not\n    550 5.7.26 authenticated\n",
        "550-5.7.26 not\n550 5.7.26 authenticated",
    ),
}


@pytest.mark.parametrize(("said", "reply"), INDENTED.values(), ids=INDENTED)
def test_a_reply_that_exim_folds_is_whole(said: str, reply: str, read: Any) -> None:
    text = f"{HEAD}\n{EXIM}    SMTP error from remote mail server after RCPT TO:<r@d.example>:\n{said}"
    assert read(text, "recipient", "reply", "stage") == [["r@d.example", reply, "rcpt"]]
    assert read.problems == []


def test_an_answer_of_somebody_away_fails_nobody(read: Any) -> None:
    head = HEAD.replace("MAILER-DAEMON@x", "kim@d").replace("failure", "Automatic reply: hi")
    text = f"Return-Path: <>\n{head}\nPlease write to\n\nlee@d.example\nMy mailbox is no longer in use.\n"
    assert read(text, "recipient") == []


def coded(kind: str, how: str, body: str) -> str:
    head = f"Content-Type: message/{kind}\nContent-Transfer-Encoding: {how}"
    return report().replace(f"{WHOLE}\n{ONE}", body).replace("Content-Type: message/delivery-status", head)


PACKED = base64.encodebytes(f"{WHOLE}\n{ONE}".encode()).decode()
CODED = {
    "base64": (coded("delivery-status", "base64", PACKED), "r@d.example"),
    "quoted-printable": (
        coded("delivery-status", "Quoted-Printable", f"{WHOLE}\n{ONE}".replace("no such", "no=20such")),
        "r@d.example",
    ),
    "quoted-printable, a line of which goes on": (
        coded("delivery-status", "quoted-printable", f"{WHOLE}\n{ONE}".replace("no such", "no =\nsuch")),
        "r@d.example",
    ),
    "quoted-printable of RFC 6533, a line of which goes on": (
        coded("global-delivery-status", "quoted-printable", f"{WHOLE}\n{ONE}".replace("no such", "no =\nsuch")),
        "r@d.example",
    ),
    "of an address that is not of ASCII": (
        coded("global-delivery-status", "8bit", f"{WHOLE}\n{ONE}".replace("rfc822; r@", "utf-8; 김@")),
        "김@d.example",
    ),
}


@pytest.mark.parametrize(("text", "recipient"), CODED.values(), ids=CODED)
def test_a_report_is_read_in_any_coding(text: str, recipient: str, read: Any) -> None:
    assert read(text, "recipient", "reply", "vantage", "mx_host") == [
        [recipient, "550 5.1.1 no such user", "relay.ours.example", "mx1.d.example"]
    ]


PORTALS = {
    "a table": "<tr><td>받는 사람</td><td>r@d.example</td><td>550 5.1.1 no such user</td></tr>",
    "lines": "<p>받는사람: r@d.example</p><style>p { color: red }</style><p>550 5.1.1 no such user</p>",
    "a name in brackets": "수신자 : &lt;r@d.example&gt;<br>550 5.1.1 no such user",
}


@pytest.mark.parametrize("body", PORTALS.values(), ids=PORTALS)
def test_a_letter_of_html_alone_is_read(body: str, read: Any) -> None:
    kind = "MIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\n"
    assert read(f"{HEAD}{kind}\n<html><body>{body}</body></html>\n", "recipient", "reply") == [
        ["r@d.example", "550 5.1.1 no such user"]
    ]


HIDDEN = {
    "a bold code": ("&lt;r@d.example&gt;:<br>550 <b>5.1.1</b> no\n<i>such</i> user", "550 5.1.1 no such user"),
    "a script": ("<script>\nb@x.example: 550 no\n</script><p>r@d.example<p>550 no", "550 no"),
    "a style that never ends": ("<p>r@d.example<p>550 no<style>\nb@x.example: 550 no", "550 no"),
    "a comment": ("<!--\nb@x.example: 550 no\n--><p>r@d.example<p>550 no", "550 no"),
    "lines as they stand": ("<pre>\nr@d.example\n550-no\n550 user\n</pre>", "550-no\n550 user"),
    "Google": ("Your message wasn't delivered to <a><b>r@d.example</b></a> because of<p>550 no", "550 no"),
}


@pytest.mark.parametrize(("body", "reply"), HIDDEN.values(), ids=HIDDEN)
def test_of_html_the_words_are_read_that_a_reader_sees(body: str, reply: str, read: Any) -> None:
    kind = "MIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\n"
    assert read(f"{HEAD}{kind}\n{body}\n", "recipient", "reply") == [["r@d.example", reply]]


@pytest.mark.parametrize("octets", ["<style>", "<!--", "<!---", "<b", "<", "&", "<script>x</", "<pre>\n"])
def test_hostile_html_ends(octets: str, read: Any) -> None:
    kind = "MIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\n"
    assert read(f"{HEAD}{kind}\n<p>r@d.example<p>550 no<p>{octets * 9_000}", "code") == [[550]]


def test_whom_a_letter_reached_did_not_fail(read: Any) -> None:
    text = (
        "We delivered it to a@b.example.\n550 of them.\n\nIt could not be delivered to c@d.example:\n550 5.1.1 no\n"
    )
    assert read(f"{HEAD}\n{text}", "recipient") == [["c@d.example"]]


@pytest.mark.parametrize(
    "said",
    ["Delivery attempts to r@d.example:", "I tried to deliver it to <r@d.example>:", "Delivery to r@d.example:"],
)
def test_a_delivery_to_somebody_need_not_say_that_it_failed(said: str, read: Any) -> None:
    assert read(f"{HEAD}\n{said}\n550 5.1.1 no\n", "recipient", "code") == [["r@d.example", 550]]


TWICE = "Final-Recipient: rfc822; r@d.example\nAction: delayed\nStatus: 4.4.1\n\n"
TWICE += "Final-Recipient: rfc822; r@d.example\nAction: failed\nStatus: 5.1.1\n"
SAID = (
    "<r@d.example>: host mx1[192.0.2.1] said: 450 4.2.0 later\n\n<r@d.example>: host mx2[192.0.2.2] said: 550 no\n"
)


def test_of_a_recipient_named_twice_each_row_has_its_own_words(read: Any) -> None:
    rows = [["deferred", 450, "192.0.2.1"], ["rejected", 550, "192.0.2.2"]]
    assert read(report(TWICE, plain=SAID), "outcome", "code", "mx_ip") == rows
    only = SAID.partition("\n\n")[2]
    assert read(report(TWICE, plain=only), "outcome", "code") == [["deferred", None], ["rejected", 550]]


def test_a_recipient_who_was_reached_keeps_it_whatever_the_words_say(read: Any) -> None:
    done = "Final-Recipient: rfc822; r@d.example\nAction: delivered\nStatus: 2.0.0\n"
    assert read(report(done, plain=SAID), "outcome", "code") == [["accepted", None]]


QUOTED = {
    "Exchange Online": "Remote Server returned '550 5.1.10 RESOLVER; not found'",
    "Exchange 2007": "#550 5.1.10 RESOLVER; not found ##",
}


@pytest.mark.parametrize("said", QUOTED.values(), ids=QUOTED)
def test_a_reply_in_quotes_is_one(said: str, read: Any) -> None:
    assert read(f"{HEAD}\nr@d.example\n{said}\n", "code", "outcome", "reply") == [
        [550, "rejected", "550 5.1.10 RESOLVER; not found"]
    ]


OURS = {
    "a reply's second line": (f"{HEAD}\n<r@d.example>:\n550 5.7.1 Blocked:\n198.51.100.7 is listed\n", None),
    "and qmail's server": (
        f"{HEAD}\n<r@d.example>:\nRemote host said: 550 no:\n198.51.100.7 is listed\nGiving up on 192.0.2.1.\n",
        "192.0.2.1",
    ),
    "a reason without a code": (
        report(ONE.replace("550 5.1.1 no such user", "Your address [198.51.100.7] is blocked")),
        None,
    ),
    "our host": (f"{HEAD}\nr@d.example\n Your host mail.ours.example [198.51.100.7] was told:\n 550 no\n", None),
    "our message": (f"{HEAD}\nr@d.example\n We gave your message to mx [192.0.2.1]:\n 550 no\n", "192.0.2.1"),
    "while sending": (f"{HEAD}\nr@d.example\n Error sending to host mx [192.0.2.1]:\n 550 no\n", "192.0.2.1"),
    "our mail server": (f"{HEAD}\nr@d.example\n Your mail server [198.51.100.7] was told:\n 550 no\n", None),
    "our host, then theirs": (
        f"{HEAD}\nr@d.example\n Your host [198.51.100.7] asked mx [192.0.2.1]:\n 550 no\n",
        "192.0.2.1",
    ),
}


@pytest.mark.parametrize(("text", "ip"), OURS.values(), ids=OURS)
def test_our_address_is_no_server_of_theirs(text: str, ip: str | None, read: Any) -> None:
    assert read(text, "mx_ip") == [[ip]]


def test_a_letter_that_was_cut_costs_itself_only(read: Any) -> None:
    head = f"{HEAD}MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n"
    cut = "Content-Type: multipart/related; boundary=c\n\nThis was cut\n--b\n"
    text = f"{head}{cut}Content-Type: text/plain\n\nr@d.example\n550 no\n--b--\n"
    assert read(text, "recipient") == [["r@d.example"]]
    fields = f"{WHOLE}\nContent-Type: multipart/mixed; boundary=\ufffd\n\n\ufffd\n"
    text = report().replace(f"{WHOLE}\n{ONE}", fields)
    assert read(text, "recipient") == []
