"""What build_message makes is what the standard library, dkimpy and a server read back."""

import base64
import email
import email.policy
import os
import random
import re
import subprocess
import sys
from datetime import UTC, datetime
from email.header import decode_header, make_header
from pathlib import Path

import dkim
import matplotlib.figure
import pandas as pd
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from hypothesis import event, given
from hypothesis import strategies as st

from smtpkit import escape, fields, parts, signing
from smtpkit.errors import InvalidInput
from smtpkit.message import Message, build_message

BASE = {"sender": "Jo <jo@ours.example>", "to": "r@daum.example"}
FIXED = {"headers": {"Date": "Tue, 24 Nov 2026 09:12:00 +0000", "Message-ID": "<1@ours.example>"}}


def read(message: Message) -> email.message.EmailMessage:
    """The message as the stdlib's modern parser sees it."""
    return email.message_from_bytes(message.octets, policy=email.policy.SMTP)


def unstuff(wire: bytes) -> bytes:
    """What a server stores (RFC 5321 4.5.2), line by line."""
    return b"".join(line[1:] if line.startswith(b".") else line for line in wire.splitlines(keepends=True))


def test_the_whole_message_stands_as_it_was_meant() -> None:
    made = build_message(
        **BASE, **FIXED, subject="Hello", text="One line.\n.\nlast", cc=["Kim, J. <k@daum.example>"]
    )
    assert made.octets.decode() == (
        "Date: Tue, 24 Nov 2026 09:12:00 +0000\r\n"
        "From: Jo <jo@ours.example>\r\n"
        "To: r@daum.example\r\n"
        'Cc: "Kim, J." <k@daum.example>\r\n'
        "Subject: Hello\r\n"
        "Message-ID: <1@ours.example>\r\n"
        "MIME-Version: 1.0\r\n"
        'Content-Type: text/plain; charset="utf-8"\r\n'
        "Content-Transfer-Encoding: 7bit\r\n"
        "\r\n"
        "One line.\r\n.\r\nlast\r\n"
    )
    assert made.wire.endswith(b"\r\n\r\nOne line.\r\n..\r\nlast\r\n")
    assert (made.sender, made.envelope_to) == ("jo@ours.example", ("r@daum.example", "k@daum.example"))
    assert (made.size, made.message_id) == (len(made.octets), "<1@ours.example>")


def test_required_fields_are_there_and_new_each_time() -> None:
    one, two = build_message(**BASE), build_message(**BASE)
    assert {"From", "Date", "Message-ID"} <= set(read(one).keys())
    assert one.message_id != two.message_id
    assert one.message_id.endswith("@ours.example>")
    assert abs((read(one)["Date"].datetime - datetime.now(UTC)).total_seconds()) < 5


def test_from_can_be_left_out_on_purpose_and_the_lint_says_so() -> None:
    made = build_message(**BASE, text="x", headers={"From": None})
    assert "From" not in read(made)
    assert made.sender == "jo@ours.example"
    assert made.lint().set_index("check").status["from"] == "fail"


def test_fields_of_the_caller_take_the_place_of_ours() -> None:
    more = {"From": "Boss <boss@ours.example>", "Date": None, "X-Test": "a  b ", "References": "<a@b> <c@d>"}
    made = read(build_message(**BASE, headers=more))
    assert made["From"] == "Boss <boss@ours.example>"
    assert "Date" not in made
    assert made["X-Test"] == "a  b "
    assert made["References"] == "<a@b> <c@d>"


@pytest.mark.parametrize("charset", ["utf-8", "euc-kr"])
def test_text_in_every_place_survives_in_every_charset(charset: str) -> None:
    word = "보고서 한글"
    long = f"{word} " * 40 + "end"
    made = build_message(
        sender=f"{word} <a@ours.example>",
        to=[f"{word}, {word} <b@daum.example>", "c@daum.example"],
        subject=long,
        text=f"{long}\n.{word}\n",
        html=f"<p>{word}</p>",
        attachments={f"{word * 10}.txt": word.encode(charset), "plain.bin": bytes(range(256)) * 9},
        headers={"X-Note": word, "List-Id": f"{word} <l.ours.example>"},
        charset=charset,
    )
    back = read(made)
    assert back["Subject"] == long
    assert [(a.display_name, a.addr_spec) for a in back["To"].addresses] == [
        (f"{word}, {word}", "b@daum.example"),
        ("", "c@daum.example"),
    ]
    assert back["From"].addresses[0].display_name == word
    assert back["X-Note"] == word
    assert made.header("List-Id") == f"{word} <l.ours.example>"
    assert back.get_body("plain").get_content().replace("\r\n", "\n") == f"{long}\n.{word}\n"
    assert back.get_body("html").get_content().strip() == f"<p>{word}</p>"
    first, second = back.iter_attachments()
    assert (first.get_filename(), first.get_payload(decode=True)) == (
        f"{word * 10}.txt",
        word.encode(charset),
    )
    assert (second.get_filename(), second.get_content()) == ("plain.bin", bytes(range(256)) * 9)
    assert not made.needs_8bit
    assert max(map(len, made.octets.split(b"\r\n"))) <= 998
    assert not [part.defects for part in back.walk() if part.defects]
    for word in re.findall(rb"=\?[^?]+\?b\?[^?]*\?=", made.octets):
        assert len(word) <= 75, "RFC 2047 section 2"
    assert made.lint().query("status == 'fail'").empty


@pytest.mark.parametrize("text", ["👨\u200d👩\u200d👧 news", "می\u200cخواهم", "שלום\u200f!", "a\tb"], ids=ascii)
def test_marks_that_scripts_need_are_no_controls(text: str) -> None:
    made = build_message(sender=f"{text} <a@ours.example>", to="r@daum.example", subject=text)
    assert read(made)["Subject"] == text
    assert made.header("From") == f"{text} <a@ours.example>" or "\t" in text


def test_one_path_may_stand_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    for path in (tmp_path / "a.txt", str(tmp_path / "a.txt"), [str(tmp_path / "a.txt")]):
        (file,) = read(build_message(**BASE, attachments=path)).iter_attachments()
        assert (file.get_filename(), file.get_content()) == ("a.txt", "x")
    with pytest.raises(InvalidInput, match=r"none\.pdf"):
        build_message(**BASE, attachments="none.pdf")


def test_korean_octets_are_the_ones_that_korean_readers_know() -> None:
    made = build_message(**BASE, subject="안녕", text="안녕", attachments=[("안녕.txt", b"")], charset="euc-kr")
    assert b"Subject: =?euc-kr?b?" + base64.b64encode("안녕".encode("euc-kr")) + b"?=" in made.octets
    assert b"filename*=euc-kr''%BE%C8%B3%E7.txt" in made.octets


@pytest.mark.parametrize("letter", ["똠", "☃", "日\U0001f4e7"])
def test_a_character_that_the_charset_lacks_is_named(letter: str) -> None:
    with pytest.raises(InvalidInput, match=f"{letter[-1]}.*euc-kr.*utf-8"):
        build_message(**BASE, subject=f"a {letter}", charset="euc-kr")


@pytest.mark.parametrize(
    "charset", ["utf-16", "utf-7\r\nX: y", "utf-8\r\n", "utf-8-sig", "latin1", "rot13", "nope", "idna"]
)
def test_odd_charsets_are_refused(charset: str) -> None:
    with pytest.raises(InvalidInput, match="charset"):
        build_message(**BASE, text="x", charset=charset)


def test_header_lines_are_short_and_never_blank_and_long_links_stay_whole() -> None:
    link = f"<https://ours.example/{'u' * 900}>"
    to = [f"User Number {n} <u{n}@daum.example>" for n in range(60)]
    made = build_message(
        sender="a@ours.example", to=to, headers={"List-Unsubscribe": f"<mailto:u@ours.example>, {link}"}
    )
    head = parts.split(made.octets)[0].decode().split("\r\n")
    assert all(line.strip() for line in head[:-1])
    assert max(len(line) for line in head if link not in line) <= 76
    assert f" {link}" in head
    assert read(made)["List-Unsubscribe"] == f"<mailto:u@ours.example>, {link}"
    assert len(made.envelope_to) == 60


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({"headers": {"X-A": "b" * 1000 + " ", "References": "<" + "r" * 1000 + ">"}}, id="no fold"),
        pytest.param({"headers": {"Bcc": "x@daum.example"}}, id="bcc"),
        pytest.param({"headers": {"Content-Type": "text/html"}}, id="content"),
        pytest.param({"headers": {"mime-version": "2.0"}}, id="mime"),
        pytest.param({"headers": {"Reply-To": "a@b.example", "reply-to": "c@d.example"}}, id="twice"),
        pytest.param({"headers": {"From": ""}}, id="empty From"),
        pytest.param({"headers": {"X A": "b"}}, id="blank in name"),
        pytest.param({"headers": {"X-A:": "b"}}, id="colon in name"),
        pytest.param({"headers": {"": "b"}}, id="no name"),
        pytest.param({"headers": {"X-\ud55c": "b"}}, id="name not ASCII"),
        pytest.param({"headers": {"Message-ID": "<a@b>\r\nBcc: c@d"}}, id="message-id inject"),
        pytest.param({"headers": {"Date": datetime(2026, 1, 1)}}, id="date no str"),
        pytest.param({"text": "a\x00b"}, id="NUL"),
        pytest.param({"text": "a\ud800b"}, id="half a character"),
        pytest.param({"html": "a\x1bb"}, id="escape"),
        pytest.param({"html": "<p>", "inline": {"chart": b"png"}}, id="inline not shown"),
        pytest.param({"inline": {"chart": b"png"}}, id="inline without html"),
        pytest.param({"attachments": [("../etc/passwd", b"")]}, id="path as name"),
        pytest.param({"attachments": [("", b"")]}, id="no file name"),
        pytest.param({"attachments": [("길" * 86, b"")]}, id="long name"),
        pytest.param({"attachments": [("<a>", b"")]}, id="name in brackets"),
        pytest.param({"attachments": [(" a", b"")]}, id="blank before the name"),
        pytest.param({"attachments": [("a.txt\u3000", b"")]}, id="blank behind the name"),
        pytest.param({"attachments": [("a\r\nX: y", b"")]}, id="file name inject"),
        pytest.param({"attachments": [("a.txt", 5)]}, id="no content"),
        pytest.param({"attachments": [("a.pdf", pd.DataFrame({"a": [1]}))]}, id="table as pdf"),
        pytest.param({"sender": "a@ours.example\r\nBcc: b@c.example"}, id="sender inject"),
        pytest.param({"sender": "A\r\nBcc: x <a@ours.example>"}, id="name inject"),
        pytest.param({"sender": "A <b@c.example> <a@ours.example>"}, id="two addresses"),
        pytest.param({"to": "a@b.example, c@d.example"}, id="comma list"),
        pytest.param({"to": ["x"]}, id="no address"),
        pytest.param({"sender": ["a@b.example", "c@d.example"]}, id="two senders"),
        pytest.param({"sender": []}, id="no sender"),
        pytest.param({"text": 5}, id="text no str"),
        pytest.param({"html": b"<p>"}, id="html octets"),
        pytest.param({"html": ["<p>", 5]}, id="html of a number"),
        pytest.param({"headers": {"Message-ID": 5}}, id="id no str"),
        pytest.param({"headers": {"X-A": 5}}, id="value no str"),
    ],
)
def test_what_cannot_be_sent_as_meant_is_refused(bad: dict) -> None:
    with pytest.raises(InvalidInput):
        build_message(**{**BASE, **bad})


HOSTILE = [
    "a\nBcc: x@y.example",
    "a\r\nBcc: x@y.example",
    "a\rBcc: x@y.example",
    "a\r\n\r\nbody",
    "a\n",
    "\r\n.\r\nMAIL FROM:<x@y.example>",
    "a\x00b",
    "a\x0bBcc: x@y.example",
    "a\x0cBcc: x@y.example",
    "a\x1cBcc: x@y.example",
    "a\x85Bcc: x@y.example",
    "a\u2028Bcc: x@y.example",
    "a\u2029Bcc: x@y.example",
    "a\x7f",
    "\ud800",
]


@pytest.mark.parametrize("place", ["subject", "value", "name", "display", "file", "address", "message_id", "cid"])
@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_injection_is_refused_in_every_place(place: str, text: str) -> None:
    given = {
        "subject": {"subject": text},
        "value": {"headers": {"X-A": text}},
        "name": {"headers": {f"X{text}": "b"}},
        "display": {"sender": f"{text} <a@ours.example>"},
        "file": {"attachments": [(text, b"")]},
        "address": {"to": f"{text}@daum.example"},
        "message_id": {"headers": {"Message-ID": f"<{text}@ours.example>"}},
        "cid": {"html": f"cid:{text}", "inline": {text: b""}},
    }[place]
    with pytest.raises(InvalidInput):
        build_message(**{**BASE, **given})


@pytest.mark.parametrize(
    "text", ["=?utf-8?q?=0A?=Bcc: x@y.example", "=?utf-8?b?Cg==?=", "a =?euc-kr?B?vsiz5w==?= b"]
)
def test_what_looks_encoded_arrives_as_the_text_it_was(text: str) -> None:
    given = {"sender": f"{text.split(':')[0]} <a@ours.example>", "to": "r@daum.example", "subject": text}
    made = build_message(**given, attachments={f"{text.replace(':', '')}.txt": b"x"})
    assert read(made)["Subject"] == text
    assert [part.get_filename() for part in read(made).iter_attachments()] == [f"{text.replace(':', '')}.txt"]
    assert str(make_header(decode_header(email.message_from_bytes(made.octets)["Subject"]))) == text
    assert made.header("From") == f"{text.split(':')[0]} <a@ours.example>"
    assert "Bcc" not in read(made)


OLDER = """
import sys
sys.path[:0] = [sys.argv[1]]
from email import message_from_bytes
from smtpkit.errors import InvalidInput
from smtpkit.message import build_message
refused = 0
for text in eval(sys.stdin.read()):
    for given in ({"subject": text}, {"headers": {"X-A": text}}, {"headers": {"X" + text: "b"}},
                  {"sender": text + " <a@ours.example>"}, {"attachments": [(text, b"")]}):
        try:
            build_message(**{"sender": "a@ours.example", "to": "r@daum.example", **given})
        except InvalidInput:
            refused += 1
made = build_message(sender="\\uc774 <a@ours.example>", to="r@daum.example", text="\\ubcf8\\ubb38",
    html="<p>h</p>", subject="=?UTF-8?Q?=0A?=Bcc: x@y.example", attachments=[("\\ubcf4.txt", b"x")],
    charset="euc-kr")
back = message_from_bytes(made.octets)
assert back.keys() == "Date From To Subject Message-ID MIME-Version Content-Type".split(), back.keys()
assert made.header("Subject") == "=?UTF-8?Q?=0A?=Bcc: x@y.example"
print(sys.version_info[:2], refused, made.body_id)
"""


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_injection_is_refused_with_nothing_but_the_standard_library_of_each_python(version: str) -> None:
    folders = sorted((Path.home() / ".pyenv/versions").glob(f"{version}.*/bin/python"))
    python = sys.executable if version == "{}.{}".format(*sys.version_info) else folders and str(folders[-1])
    if not python:
        pytest.skip(f"no Python {version} under ~/.pyenv/versions")
    root = str(Path(parts.__file__).parents[1])
    run = subprocess.run(
        [python, "-I", "-S", "-W", "error", "-c", OLDER, root],
        input=ascii(HOSTILE),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert run.returncode == 0, run.stderr
    assert f"{5 * len(HOSTILE)} {made_once().body_id}" in run.stdout, "the same octets on every Python"


def made_once() -> Message:
    return build_message(
        sender="이 <a@ours.example>",
        to="r@daum.example",
        text="본문",
        html="<p>h</p>",
        attachments=[("보.txt", b"x")],
        charset="euc-kr",
    )


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]) | st.sampled_from("가나 \"\\,;:=?<>@()[]'%.-_"),
    max_size=200,
)


@given(subject=text, display=text, value=text, body=text, file=text, charset=st.sampled_from(["utf-8", "euc-kr"]))
def test_any_text_arrives_unchanged_or_is_refused(subject, display, value, body, file, charset) -> None:
    display = re.sub('["<>\\\\]', "", display).strip()
    try:
        made = build_message(
            sender=f"{display} <a@ours.example>",
            to="r@daum.example",
            subject=subject,
            text=body,
            attachments=[(file, b"x")],
            headers={"X-V": value},
            charset=charset,
        )
    except InvalidInput:
        event("refused")
        return
    event("sent")
    back = email.message_from_bytes(made.octets)
    assert set(back.keys()) <= {*"Date From To Subject Message-ID X-V MIME-Version Content-Type".split()}
    assert made.header("Subject") == (subject or None)
    assert made.header("X-V") == value
    name, box = email.utils.parseaddr(back["From"])
    assert (str(make_header(decode_header(name))), box) == (display, "a@ours.example")
    plain, attached = back.get_payload()
    assert attached.get_payload(decode=True) == b"x"
    assert email.utils.collapse_rfc2231_value(attached.get_filename()) == file
    sent = body.encode(charset).splitlines() or [b""]
    assert plain.get_payload(decode=True).splitlines() == sent
    assert unstuff(made.wire) == made.octets


@given(st.lists(st.sampled_from([b".", b"\r", b"\n", b"\r\n", b"a", b"\xec", b"..", b"x" * 70]), max_size=30))
def test_any_octets_are_sent_with_crlf_only_and_stuffed_once(pieces: list[bytes]) -> None:
    octets = b"".join(pieces)
    made = Message.from_octets(octets)
    assert made.octets == re.sub(rb"\r\n|\r|\n", b"\r\n", octets) + (
        b"" if octets[-1:] in (b"\r", b"\n") else b"\r\n"
    )
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n|(\A|\r\n)\.\r\n", made.wire)
    assert unstuff(made.wire) == made.octets


def test_an_eml_keeps_its_octets_and_has_no_envelope() -> None:
    octets = b"From: x@y.example\r\nSubject: \xbe\xc8\xb3\xe7\r\n\r\n" + bytes(range(128, 256)) + b"\r\n"
    made = Message.from_octets(octets)
    assert (made.octets, made.sender, made.envelope_to) == (octets, None, ())
    assert (made.needs_8bit, made.needs_smtputf8) == (True, False), "raw EUC-KR is 8-bit, not UTF-8"
    assert made.header("subject") == "안녕"
    with pytest.raises(InvalidInput, match="octets"):
        Message.from_octets("From: x")


def test_utf8_addresses_need_smtputf8_and_idn_does_not() -> None:
    assert not build_message(sender="a@ours.example", to="r@한글.example").needs_smtputf8
    utf8 = build_message(sender="a@ours.example", to="홍 <길동@daum.example>")
    assert utf8.needs_smtputf8
    assert "<길동@daum.example>".encode() in utf8.octets
    head = Message.from_octets("Subject: 안녕\r\n\r\n".encode())
    assert (head.needs_smtputf8, head.needs_8bit) == (True, True)


def test_the_same_content_has_the_same_body_id_and_other_content_another() -> None:
    table = pd.DataFrame({"ip": ["192.0.2.14"], "refused": [31]})
    once = [build_message(**BASE, html=[table], attachments=[("a.bin", b"x")]) for _ in range(2)]
    assert once[0].body_id == once[1].body_id
    assert re.fullmatch("[0-9a-f]{16}", once[0].body_id)
    assert build_message(**BASE, html=[table], attachments=[("a.bin", b"y")]).body_id != once[0].body_id
    assert Message.from_octets(b"\r\nx").body_id == Message.from_octets(b"From: a@b.example\n\nx").body_id


def test_a_table_is_html_and_text_and_a_figure_is_an_inline_picture() -> None:
    table = pd.DataFrame({"mx_ip": ["192.0.2.14", "<script>"], "said": ["=1+1\x1b[2J", None]}, index=["a", "<b>"])
    figure = matplotlib.figure.Figure()
    figure.subplots().set_title('31 of 31 "refused"')
    back = read(build_message(**BASE, html=["<h1>Hello &amp; bye</h1>", table, figure]))
    page = back.get_body("html").get_content()
    assert "<td>&lt;script&gt;</td>" in page
    assert "<th>&lt;b&gt;</th>" in page
    assert "\\x1b[2J" in page
    words = back.get_body("plain").get_content().replace("\r\n", "\n")
    assert words.startswith("Hello & bye\n")
    assert re.search(r"192\.0\.2\.14 +=1\+1\\x1b\[2J", words)
    assert '[picture: 31 of 31 "refused"]' in words
    src, alt = re.search(r'<img src="cid:([^"]+)" alt="([^"]+)"', page).groups()
    assert alt == "31 of 31 &quot;refused&quot;"
    (shown,) = [part for part in back.walk() if part["Content-ID"] == f"<{src}>"]
    assert shown.get_content_type() == "image/png"
    assert shown.get_content().startswith(b"\x89PNG\r\n")
    assert shown.get_content_disposition() == "inline"


def test_parts_nest_as_readers_expect() -> None:
    made = build_message(
        **BASE, text="t", html="<img src='cid:logo' alt=l><img src='cid:logo2' alt=m>",
        attachments={"a.pdf": b"%PDF"}, inline={"logo": b"1", "logo2": b"2"},
    )  # fmt: skip
    kinds = [part.get_content_type() for part in read(made).walk()]
    assert kinds == [
        *("multipart/mixed", "multipart/alternative", "text/plain", "multipart/related", "text/html"),
        *("image/png", "image/png", "application/pdf"),
    ]
    lint = made.lint().set_index("check")
    assert lint.status["images"] == "pass"
    assert lint.value["images"] == "2 images"


def test_tables_are_attached_without_formulas(tmp_path: Path) -> None:
    table = pd.DataFrame({"=cmd": ["=1+1", "-5", "250 ok"], "n": [-1.5, 2, 3]})
    (tmp_path / "보고.pdf").write_bytes(b"%PDF-1.7")
    files = [("t.csv", table), tmp_path / "보고.pdf", ("n.txt", "글")]
    csv, pdf, note = read(build_message(**BASE, attachments=files)).iter_attachments()
    assert csv.get_payload(decode=True).decode("utf-8-sig").splitlines() == [
        "'=cmd,n",
        "'=1+1,-1.5",
        "-5,2.0",
        "250 ok,3.0",
    ]
    assert (pdf.get_filename(), pdf.get_content_type()) == ("보고.pdf", "application/pdf")
    assert note.get_payload(decode=True).decode() == "글"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.eml", "application/octet-stream"), ("a.tar.gz", "application/octet-stream"),
     ("a", "application/octet-stream"), ("a.html", "text/html"), ("a.PNG", "image/png")],
)  # fmt: skip
def test_the_content_type_follows_the_name(name: str, kind: str) -> None:
    (file,) = read(build_message(**BASE, attachments={name: b""})).iter_attachments()
    assert file.get_content_type() == kind


def test_reprs_show_hostile_text_inertly() -> None:
    evil = b"Subject: <img src=x onerror=x()>\x1b[2J\r\nContent-Type: text/html\r\n\r\n<script>x()</script>\x9b"
    made = Message.from_octets(evil)
    assert repr(made).startswith("<Message '<img src=x onerror=x()>\\\\x1b[2J'")
    page = made._repr_html_()
    assert "<script" not in page
    assert "<img" not in page
    assert 'sandbox=""' in page
    assert "default-src &#39;none&#39;" in page
    assert page.count("<iframe") == 1
    assert "\x1b" not in page
    assert "\\x0d" not in page
    escape.options.html = False
    try:
        assert made._repr_html_() is None
    finally:
        escape.options.html = True


def test_a_long_message_is_shown_in_part() -> None:
    made = build_message(**BASE, html="<p>x</p>" * 100_000)
    assert len(made._repr_html_()) < 60_000


# DKIM

VECTOR = Path(__file__).parent / "data" / "rfc8463.eml"
RECORDS = {  # RFC 8463 appendix A.2
    b"brisbane._domainkey.football.example.com.": b"v=DKIM1; k=ed25519; "
    b"p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
    b"test._domainkey.football.example.com.": b"v=DKIM1; k=rsa; "
    b"p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx"
    b"/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l"
    b"/K4w3QIDAQAB",
}
SEED = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="  # appendix A.1
ED25519, RSA = Ed25519PrivateKey.generate(), generate_private_key(65537, 2048)


def record(name: bytes, timeout: float = 5) -> bytes | None:
    """The key records of the RFC and of our two keys (selectors ed and rsa)."""
    raw, der = serialization.Encoding.Raw, serialization.Encoding.DER
    ed = ED25519.public_key().public_bytes(raw, serialization.PublicFormat.Raw)
    rsa = RSA.public_key().public_bytes(der, serialization.PublicFormat.SubjectPublicKeyInfo)
    ours = {b"ed._domainkey.ours.example.": b"v=DKIM1; k=ed25519; p=" + base64.b64encode(ed)}
    ours[b"rsa._domainkey.ours.example."] = b"v=DKIM1; k=rsa; p=" + base64.b64encode(rsa)
    return (RECORDS | ours).get(name)


def verified(message: Message, index: int = 0) -> bool:
    try:
        return dkim.DKIM(message.octets).verify(idx=index, dnsfunc=record)
    except dkim.ValidationError:
        return False


def test_both_signatures_of_rfc_8463_verify_and_a_changed_body_does_not() -> None:
    made = Message.from_octets(VECTOR.read_bytes())
    assert [verified(made, index) for index in (0, 1)] == [True, True]
    spoiled = Message.from_octets(made.octets.replace(b"lost the game", b"won the game"))
    assert [verified(spoiled, index) for index in (0, 1)] == [False, False]


def test_the_key_of_rfc_8463_signs_its_message_anew() -> None:
    plain = Message.from_octets(re.sub(rb"(?s)\ADKIM.*?(?=From:)", b"", VECTOR.read_bytes()))
    made = plain.sign(SEED, "brisbane", "football.example.com")
    assert verified(made)
    assert made.octets.endswith(plain.octets)
    assert b"bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=" in re.sub(rb"\s", b"", made.octets), (
        "the RFC's body hash"
    )


@pytest.mark.parametrize(("key", "selector"), [(ED25519, "ed"), (RSA, "rsa")])
def test_signed_fields_cannot_be_added_to(key: object, selector: str) -> None:
    more = {
        "List-Unsubscribe": "<https://ours.example/u>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }
    made = build_message(**BASE, subject="s", text="t", headers=more).sign(key, selector, "ours.example")
    assert verified(made)
    assert made.envelope_to == ("r@daum.example",)
    for field in (
        b"From: x@y.example\r\n",
        b"Subject: x\r\n",
        b"Cc: x@y.example\r\n",
        b"Reply-To: x@y.example\r\n",
    ):
        first, rest = made.octets.split(b"\r\nDate:", 1)
        assert not verified(Message.from_octets(first + b"\r\n" + field + b"Date:" + rest)), field
    lint = made.lint().set_index("check").status
    assert (lint["one_click"], lint["align_dkim"], lint["align_spf"]) == ("pass", "pass", "pass")
    assert all(line.strip() for line in parts.split(made.octets)[0].split(b"\r\n")[:-1])


@pytest.mark.parametrize("bits", [1024, 1536, 2048, 3072, 4096])
def test_no_key_size_makes_a_blank_line_in_the_signature(bits: int) -> None:
    made = build_message(**BASE, text="t").sign(generate_private_key(65537, bits), "s" * 20, "ours.example")
    lines = parts.split(made.octets)[0].split(b"\r\n")[:-1]
    assert all(line.strip() for line in lines)
    assert max(map(len, lines)) <= 78


def test_a_key_may_come_in_every_usual_form_and_is_parsed_once(tmp_path: Path) -> None:
    pem = RSA.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "key.pem").write_bytes(pem.replace(b"\n", b"\r\n"))
    plain = build_message(**BASE, text="t")
    before = signing._load.cache_info().misses
    for key in (pem, pem.decode(), tmp_path / "key.pem", tmp_path / "key.pem"):
        assert verified(plain.sign(key, "rsa", "ours.example"))
    assert signing._load.cache_info().misses - before <= 3
    seed = base64.b64encode(ED25519.private_bytes_raw())
    assert verified(plain.sign(seed, "ed", "ours.example"))


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({"key": b"-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----"}, id="no key"),
        pytest.param({"key": "SECRET"}, id="no seed"),
        pytest.param({"key": generate_private_key(65537, 1024).public_key()}, id="public key"),
        pytest.param({"selector": "a b"}, id="selector"),
        pytest.param({"selector": "a;x=y"}, id="selector inject"),
        pytest.param({"domain": "한글.example"}, id="domain"),
        pytest.param({"domain": "ours.example\r\nX: y"}, id="domain inject"),
        pytest.param({"domain": ""}, id="no domain"),
    ],
)
def test_unusable_keys_and_names_are_refused_and_no_key_is_shown(bad: dict) -> None:
    with pytest.raises(InvalidInput) as caught:
        build_message(**BASE).sign(**{"key": ED25519, "selector": "ed", "domain": "ours.example", **bad})
    assert "SECRET" not in str(caught.value)


def test_only_what_is_there_is_signed_of_what_a_list_may_add() -> None:
    made = build_message(**BASE, headers={"List-Id": "<l.ours.example>"}).sign(ED25519, "ed", "ours.example")
    named = re.sub(r"\s", "", made.header("DKIM-Signature") or "").partition(";h=")[2].partition(";")[0].split(":")
    assert (named.count("list-id"), named.count("list-unsubscribe"), named.count("reply-to")) == (2, 0, 1)


def test_a_name_that_does_not_fit_a_line_is_not_signed() -> None:
    with pytest.raises(InvalidInput, match="too long for one line"):
        build_message(**BASE).sign(ED25519, "ed", f"{'a' * 60}.{'b' * 60}.example")


def test_a_table_is_text_and_html_alone_stays_alone() -> None:
    made = read(build_message(**BASE, text=pd.DataFrame({"a": [17]})))
    assert (made.get_content_type(), made.get_content().split()) == ("text/plain", ["a", "17"])
    assert read(build_message(**BASE, html="<p>x</p>")).get_content_type() == "text/html"


def test_a_page_is_shown_in_its_own_charset_and_an_attached_one_is_not() -> None:
    head = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
    page = "Content-Type: text/html; charset=utf-16\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    page += base64.b64encode("<p>안녕</p>".encode("utf-16")).decode() + "\r\n--b\r\n"
    more = b"Content-Type: text/html\r\nContent-Disposition: attachment\r\n\r\n<p>attached</p>\r\n--b--\r\n"
    shown = Message.from_octets(head + page.encode() + more)._repr_html_() or ""
    assert [escape.html(text) in shown for text in ("안녕", "attached")] == [True, True]
    assert shown.count("<iframe") == 1


def test_a_field_that_cannot_be_folded_is_refused() -> None:
    with pytest.raises(InvalidInput, match="is a line of 1016 octets; the limit is 998"):
        build_message(**BASE, headers={"References": f"<{'a' * 1000}@b>"})


def test_what_a_server_would_break_after_signing_is_not_signed() -> None:
    with pytest.raises(InvalidInput, match="998"):
        Message.from_octets(b"From: a@b.example\n\n" + b"x" * 999).sign(ED25519, "ed", "ours.example")
    with pytest.raises(InvalidInput, match="From"):
        build_message(**BASE, headers={"From": None}).sign(ED25519, "ed", "ours.example")


def fuzzed(seed: int) -> Message:
    """A message with odd white space, dots, empty lines, 8-bit octets and folded fields."""
    dice = random.Random(seed)
    pick = lambda pool, n: b"".join(dice.choice(pool) for _ in range(dice.randrange(n)))  # noqa: E731  short here
    pool = [b" ", b"\t", b"\r\n", b".", b"a", b"=", b"\xec\x95\x88", b"\n", b"word ", b"\r\n\r\n"]
    head = [
        b"From: Jo <jo@ours.example>",
        b"Subject:" + pick([b" ", b"\t", b"x", b"\r\n\tfold", b"\xbe"], 20),
    ]
    head += [b"X-" + pick([b"a", b"-"], 5) + b": y"] * dice.randrange(3) + [b"To: r@daum.example"] * dice.randrange(
        3
    )
    dice.shuffle(head)
    return Message.from_octets(b"\r\n".join(head) + b"\r\n\r\n" + pick(pool, 60))


@pytest.mark.parametrize(
    ("first", "last"), [(0, 100), pytest.param(100, 1100, marks=pytest.mark.slow)], ids=["100", "1000"]
)
def test_fuzzed_messages_verify_after_signing_and_after_a_server(first: int, last: int) -> None:
    for seed in range(first, last):
        key, selector = ((ED25519, "ed"), (RSA, "rsa"))[seed % 5 == 0]
        made = fuzzed(seed).sign(key, selector, "ours.example")
        assert verified(Message.from_octets(unstuff(made.wire))), seed


def test_proof_notices_what_the_single_checks_would_let_through() -> None:
    good = b"From: a@b.example\r\nX: y\r\n\r\nbody\r\n"
    parts.proof(good, ["From", "X"], 1)
    for octets, names, leaves in [
        (good, ["From"], 1),
        (good, ["From", "X", "X"], 1),
        (good, ["From", "X"], 2),
        (good.replace(b"X: y", b"X: y\nBcc: z"), ["From", "X"], 1),
        (good.replace(b"X: y", b"X: y\rBcc: z"), ["From", "X"], 1),
        (good.replace(b"body", b"bo\ndy"), ["From", "X"], 1),
        (good.replace(b"body", b"x" * 999), ["From", "X"], 1),
        (good.replace(b"body", b"\0"), ["From", "X"], 1),
    ]:
        with pytest.raises(InvalidInput):
            parts.proof(octets, names, leaves)


def test_meaning_never_raises_on_odd_encoded_words() -> None:
    for raw in (
        b"=?nope?b?AAAA?=",
        b"=?utf-8?b?A?=",
        b"=?utf-8?q?=GG?=",
        b"=?utf-8?b?\xff?=",
        b"=?utf-8?x?AA?=",
    ):
        assert fields.meaning(raw)
