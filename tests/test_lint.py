"""Each check of data/lints.csv fires on the message it is for, and stays quiet on a good one."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpkit.address import organisation
from smtpkit.catalogue import rows
from smtpkit.lint import Reading, lint
from smtpkit.message import Message, build_message

GOOD = b"""\
Date: Tue, 24 Nov 2026 09:12:00 +0000\r
From: Jo <jo@mail.ours.example>\r
To: r@daum.example\r
Subject: Hello\r
Message-ID: <1@ours.example>\r
MIME-Version: 1.0\r
Content-Type: text/html; charset=utf-8\r
Content-Transfer-Encoding: 8bit\r
\r
"""
BODY = b"<p>Hello</p>\r\n"


def status(octets: bytes, check: str, **more: object) -> tuple[str, str]:
    """Status and value of one check."""
    (row,) = [row for row in lint(octets, **more) if row["check"] == check]
    return row["status"], row["value"]


def changed(*swaps: tuple[bytes, bytes], body: bytes = BODY) -> bytes:
    """The good message with some of its octets swapped."""
    made = GOOD
    for old, new in swaps:
        assert old in made
        made = made.replace(old, new)
    return made + body


def field(line: str, body: bytes = BODY) -> bytes:
    """The good message with one more header field."""
    return line.encode() + b"\r\n" + GOOD + body


def test_every_row_has_its_check_and_every_check_its_row_with_advice_and_source() -> None:
    checks = [found[0] for found in Reading(b"").found()]
    assert sorted(checks) == sorted(row["check"] for row in rows("lints.csv"))
    assert all(row[name] for row in rows("lints.csv") for name in ("limit", "advice", "source"))


def test_a_good_message_passes_all() -> None:
    made = build_message(
        sender="Jo <jo@ours.example>", to="r@daum.example", subject="안녕", text="t", html="<p>t</p>"
    )
    frame = made.lint()
    assert list(frame.columns) == ["check", "status", "value", "limit", "advice", "source"]
    assert [str(kind) for kind in frame.dtypes] == ["str"] * 6
    odd = frame[frame.status != "pass"].set_index("check").status.to_dict()
    assert odd == {"align_dkim": "unknown"}
    assert (frame.advice[frame.status == "pass"] == "").all()
    assert frame.advice[frame.status != "pass"].str.len().min() > 20


CASES = [
    pytest.param("from", changed((b"From: Jo <jo@mail.ours.example>\r\n", b"")), "fail", "no From", id="no From"),
    pytest.param("from", field("From: b@ours.example"), "fail", "b@ours.example | Jo", id="two From"),
    pytest.param("from", changed((b"Jo <jo@mail.ours.example>", b"Jo")), "fail", "Jo", id="From without address"),
    pytest.param("from", changed((b"Jo <", b'"a <b@c.example>" <')), "pass", "", id="address inside the name"),
    pytest.param(
        "date", changed((b"Date: Tue, 24 Nov 2026 09:12:00 +0000\r\n", b"")), "fail", "no Date", id="no Date"
    ),
    pytest.param(
        "date",
        changed((b"Tue, 24 Nov 2026 09:12:00 +0000", b"yesterday")),
        "fail",
        "unreadable",
        id="odd Date",
    ),
    pytest.param(
        "message_id", changed((b"Message-ID: <1@ours.example>\r\n", b"")), "fail", "no Message-ID", id="no id"
    ),
    pytest.param(
        "message_id",
        changed((b"<1@ours.example>", b"1@ours.example")),
        "fail",
        "1@",
        id="id without brackets",
    ),
    pytest.param("message_id", changed((b"<1@", b"<" + b"1" * 500 + b"@")), "fail", "<111", id="id over 500"),
    pytest.param("message_id", field("Message-Id: <2@ours.example>"), "fail", "<2@", id="two ids"),
    pytest.param("single_fields", field("Subject: two"), "fail", "subject 2 times", id="two subjects"),
    pytest.param("single_fields", field("X-A: 1\r\nX-A: 2"), "pass", "none", id="two X fields are fine"),
    pytest.param("line_length", GOOD + b"x" * 999 + b"\r\n", "fail", "999 octets in line 10", id="999"),
    pytest.param("line_length", GOOD + b"x" * 998 + b"\r\n", "pass", "998 octets in line 10", id="998"),
    pytest.param("line_length", field("X-A: " + "y" * 1000), "fail", "1005 octets in line 1", id="header line"),
    pytest.param("line_ends", GOOD + b"a\nb\r\n", "fail", "1 bare", id="LF"),
    pytest.param("line_ends", GOOD + b"a\rb\r\n\0", "fail", "2 bare", id="CR and NUL"),
    pytest.param("line_ends", GOOD + b"a\r\r\n", "fail", "1 bare", id="CR CR LF"),
    pytest.param(
        "transport",
        GOOD + "é\r\n".encode(),
        "warn",
        "0 octets above 127 in the header, 2 in",
        id="8-bit body",
    ),
    pytest.param("transport", field("X-A: é"), "warn", "2 octets above 127 in the header, 0 in", id="8-bit header"),
    pytest.param(
        "charset", GOOD + b"\xbe\xc8\r\n", "fail", "utf-8 of the html part does not fit", id="EUC-KR as UTF-8"
    ),
    pytest.param(
        "charset",
        changed((b"utf-8", b"x-nope")),
        "fail",
        "x-nope of the html part is not known",
        id="odd name",
    ),
    pytest.param(
        "charset",
        changed((b"; charset=utf-8", b""), body=b"\xc3\xa9\r\n"),
        "fail",
        "us-ascii",
        id="no charset",
    ),
    pytest.param(
        "charset",
        changed((b"charset=utf-8", b"charset*=us-ascii'en'utf-8"), body=b"\xc3\xa9\r\n"),
        "pass",
        "1 text parts fit",
        id="a charset as RFC 2231 writes it",
    ),
    pytest.param("control_characters", GOOD + "a\x85b\r\n".encode(), "warn", "U+0085 in html", id="U+0085"),
    pytest.param("control_characters", GOOD + b"a\x1b\r\n", "warn", "U+001B in html", id="escape"),
    pytest.param(
        "control_characters", field("X-A: =?utf-8?b?woU=?="), "warn", "U+0085 in header", id="in a header"
    ),
    pytest.param("gmail_clipping", GOOD + b"x" * 92_159, "pass", "92,159 octets", id="under 90 KB"),
    pytest.param("gmail_clipping", GOOD + b"x" * 92_160, "warn", "92,160 octets of HTML", id="90 KB"),
    pytest.param("gmail_clipping", GOOD + b"x" * 104_449, "fail", "104,449 octets of HTML", id="102 KB"),
    pytest.param(
        "gmail_clipping",
        GOOD + b"<img src='data:image/png;base64," + b"A" * 120_000 + b"' alt=''>",
        "fail",
        "120,041 octets of HTML, 120,041 as sent; 120,022 of them in 1 data: URIs",
        id="data URI",
    ),
    pytest.param("text_alternative", GOOD + BODY, "warn", "html", id="HTML alone"),
    pytest.param("text_alternative", changed((b"text/html", b"text/plain")), "pass", "plain", id="text alone"),
    pytest.param("one_click", GOOD + BODY, "pass", "no List-Unsubscribe", id="no list mail"),
    pytest.param("one_click", field("List-Id: <l.ours.example>"), "warn", "no List-Unsubscribe", id="list without"),
    pytest.param("one_click", field("List-Unsubscribe: <https://o.example/u>"), "warn", "Post: none", id="no Post"),
    pytest.param(
        "one_click",
        field("List-Unsubscribe: <mailto:u@o.example>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click"),
        "fail",
        "mailto",
        id="no https",
    ),
    pytest.param(
        "one_click",
        field("List-Unsubscribe: <https://o.example/u>\r\nList-Unsubscribe-Post: One-Click"),
        "fail",
        "Post: One-Click",
        id="wrong text",
    ),
    pytest.param(
        "one_click",
        field("List-Unsubscribe: <https://o.example/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click"),
        "warn",
        "not signed",
        id="unsigned",
    ),
    pytest.param(
        "one_click",
        field(
            "DKIM-Signature: v=1; d=ours.example;\r\n h=from:list-unsubscribe; b=x\r\n"
            "List-Unsubscribe: <https://o.example/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click"
        ),
        "fail",
        "not signed",
        id="one of two signed",
    ),
    pytest.param("align_dkim", field("DKIM-Signature: v=1; d=Ours.example; h=from"), "pass", "Ours", id="aligned"),
    pytest.param(
        "align_dkim",
        field("DKIM-Signature: v=1; d=esp.example; h=from"),
        "warn",
        "esp.example",
        id="not aligned",
    ),
    pytest.param("images", GOOD + b"<img src='cid:none' alt=''>", "fail", "no such part: cid:none", id="no part"),
    pytest.param("images", GOOD + b"<IMG SRC=http://o.example/a.png ALT=x>", "warn", "not https", id="http"),
    pytest.param("images", GOOD + b"<img src=https://o.example/a.png>", "warn", "no alt text", id="no alt"),
    pytest.param("images", GOOD + b"<img src=https://o.example/a.png alt=''>", "pass", "1 images", id="good image"),
    pytest.param("images", GOOD + b"<img src='file:///C:/a.png' alt=a>", "fail", "cannot be reached", id="file"),
    pytest.param(
        "images", GOOD + b"<img src=http://localhost/a alt=a>", "fail", "cannot be reached", id="localhost"
    ),
    pytest.param("images", GOOD + b"<img src=/a.png alt=a>", "fail", "cannot be reached", id="relative"),
    pytest.param("images", GOOD + b"<img src=a.png alt=a>", "fail", "cannot be reached", id="no scheme"),
    pytest.param("images", GOOD + b"<img alt=a>", "fail", "cannot be reached", id="no src"),
    pytest.param(
        "advertisement",
        changed((b"Hello\r", "(광고) 할인\r".encode()), body="수신 거부: 여기\r\n".encode()),
        "pass",
        "(광고)",
        id="ad",
    ),
    pytest.param(
        "advertisement",
        changed((b"Hello\r", "(광고) 할인\r".encode())),
        "warn",
        "수신거부",
        id="ad, no way out",
    ),
    pytest.param(
        "advertisement",
        changed((b"Hello\r", "[광고] 할인\r".encode())),
        "fail",
        "[광고]",
        id="other brackets",
    ),
    pytest.param(
        "advertisement",
        changed((b"Hello\r", "(광 고) 할인\r".encode())),
        "fail",
        "(광 고)",
        id="blank inside",
    ),
    pytest.param(
        "advertisement",
        changed((b"Hello\r", "할인 (광고)\r".encode())),
        "fail",
        "할인 (광고)",
        id="at the end",
    ),
    pytest.param("advertisement", changed((b"Hello\r", b"(AD) sale\r")), "fail", "(AD)", id="AD"),
    pytest.param(
        "advertisement",
        changed((b"Hello\r", b"(AD) sale\r"), body="<p>수신 거부</p>".encode()),
        "fail",
        "(AD)",
        id="AD that can be refused",
    ),
    pytest.param(
        "advertisement", changed((b"Hello\r", "광고 문의\r".encode())), "fail", "광고 문의", id="no brackets"
    ),
    pytest.param(
        "advertisement", changed((b"Hello\r", "회의 자료 (add)\r".encode())), "pass", "not marked", id="no ad"
    ),
]


@pytest.mark.parametrize(("check", "octets", "expected", "value"), CASES)
def test_a_check_says(check: str, octets: bytes, expected: str, value: str) -> None:
    said, seen = status(octets, check)
    assert (said, value in seen) == (expected, True), seen


@pytest.mark.parametrize(
    ("size", "limit", "expected"),
    [pytest.param(21 << 20, None, "warn", marks=pytest.mark.slow),
     pytest.param(26 << 20, None, "fail", marks=pytest.mark.slow),
     pytest.param(26 << 20, 50 << 20, "fail", marks=pytest.mark.slow),
     (1000, 999, "fail"), (1000, 1000, "pass"), (1000, 0, "pass")],
)  # fmt: skip
def test_size_after_encoding_against_25_mb_and_the_receivers_size(
    size: int, limit: int | None, expected: str
) -> None:
    octets = GOOD + b"a" * (size - len(GOOD))
    said = f"{size:,} octets" + (f", SIZE {limit:,}" if limit else "")
    assert status(octets, "size", size_limit=limit) == (expected, said)


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        ("b@ours.example", "pass"),
        ("b@x.OURS.example", "pass"),
        ("b@other.example", "warn"),
        (None, "unknown"),
    ],
)
def test_the_reverse_path_is_compared_with_from(sender: str | None, expected: str) -> None:
    assert status(GOOD + BODY, "align_spf", sender=sender)[0] == expected


def test_organisational_domains_follow_the_public_suffix_list() -> None:
    assert organisation("mail.Ours.co.kr") == "ours.co.kr"
    assert organisation("co.kr") == "co.kr"


def test_html_as_quoted_printable_is_measured_both_ways() -> None:
    made = build_message(
        sender="a@ours.example", to="r@daum.example", text="t", html="<p>" + "한" * 20_000, charset="utf-8"
    )
    said, seen = status(made.octets, "gmail_clipping")
    plain, sent = (int(number.replace(",", "")) for number in re.findall(r"([\d,]+) (?:octets|as sent)", seen))
    assert (said, plain) == ("pass", 60_005)
    assert 80_000 < sent < 90_000


def test_hostile_values_come_out_on_one_line() -> None:
    _, seen = status(changed((b"Jo <", b"=?utf-8?b?G1sySgo=?= <")), "from")
    assert seen == "\\x1b[2J\\x0a <jo@mail.ours.example>"


pieces = st.sampled_from(
    [b"From:", b"From: <", b"\r\n", b"\n", b"\r", b"\0", b" ", b"=?utf-8?b?gg==?=", b"=?x?q?=C", b"\xff",
     b"Content-Type: text/html; ", b"charset=", b"utf-7", b"multipart/mixed; boundary=x\r\n\r\n--x\r\n",
     b"Content-Transfer-Encoding: base64", b"DKIM-Signature: d=;h=", b"Date: ", b"Tue, 99 Foo 9999999 +9999",
     b")", b"<img src=", b"cid:", b"data:,", b"Subject: ("]
)  # fmt: skip


@given(st.lists(pieces, max_size=25))
def test_any_octets_get_one_row_a_check(found: list[bytes]) -> None:
    made = lint(b"".join(found), sender="a@ours.example", size_limit=10)
    assert [row["check"] for row in made] == [row["check"] for row in rows("lints.csv")]
    assert {row["status"] for row in made} <= {"pass", "warn", "fail", "unknown"}
    assert not [row for row in made if re.search("[\x00-\x1f]", row["value"])]
    Message.from_octets(b"".join(found)).lint()
