"""The reply reader: a table of odd replies, and properties that hold for any octets at all."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smtpkit.reply import MAX_LINE, MAX_LINES, MAX_REPLY, MAX_SESSION, EnhancedCode, Reply, ReplyReader
from tests.bench import bench_fuzz

STRICT = re.compile(rb"(?:([2-5][0-9]{2})-[^\n]*\n)*([2-5][0-9]{2})(?: [^\n]*)?\r?\n", re.DOTALL)
"""One whole reply by RFC 5321 4.2, written down independently of the reader; bare LF is borne."""


def read(octets: bytes) -> list[Reply]:
    """All replies in `octets`, fed at once."""
    reader, found = ReplyReader(), []
    reader.feed(octets)
    while (reply := reader.next()) is not None:
        found.append(reply)
        if reply.broken:
            break
    return found


@pytest.mark.parametrize(
    ("octets", "code", "lines", "enhanced", "anomalies"),
    [
        pytest.param(b"220 mx ESMTP\r\n", 220, ("mx ESMTP",), None, (), id="one line"),
        pytest.param(b"250-a\r\n250-b\r\n250 c\r\n", 250, ("a", "b", "c"), None, (), id="three lines"),
        pytest.param(b"250\r\n", 250, ("",), None, ("no_text",), id="textless"),
        pytest.param(b"250 \r\n", 250, ("",), None, ("no_text",), id="a blank"),
        pytest.param(b"250-a\r\n250\r\n", 250, ("a", ""), None, (), id="textless last line"),
        pytest.param(b"250 ok\n", 250, ("ok",), None, ("bare_lf",), id="bare LF"),
        pytest.param(b"550-5.7.1 a\r\n550 5.7.1 b\r\n", 550, ("5.7.1 a", "5.7.1 b"), "5.7.1", (), id="enhanced"),
        pytest.param(b"550 4.7.1 a\r\n", 550, ("4.7.1 a",), None, (), id="class does not fit"),
        pytest.param(b"550 5.7.1234 a\r\n", 550, ("5.7.1234 a",), None, (), id="four digits of detail"),
        pytest.param(b"550 5.7.1\r\n", 550, ("5.7.1",), "5.7.1", (), id="enhanced and nothing else"),
        pytest.param(b"250-a\r\n550 b\r\n", 550, ("a", "b"), None, ("mixed_codes",), id="mixed"),
        pytest.param(b"999 x\r\n", 999, ("x",), None, ("bad_code",), id="999"),
        pytest.param(b"000 x\r\n", 0, ("x",), None, ("bad_code",), id="000"),
        pytest.param(b"25 x\r\n", None, ("25 x",), None, ("garbage",), id="two digits"),
        pytest.param(b"2500 x\r\n", None, ("2500 x",), None, ("garbage",), id="four digits"),
        pytest.param(b"250=x\r\n", None, ("250=x",), None, ("garbage",), id="another separator"),
        pytest.param("٢٥٠ x\r\n".encode(), None, ("٢٥٠ x",), None, ("garbage",), id="Arabic digits"),
        pytest.param(b"\r\n", None, ("",), None, ("garbage",), id="an empty line"),
        pytest.param("250 차단\r\n".encode(), 250, ("차단",), None, (), id="UTF-8"),
        pytest.param("250 차단\r\n".encode("euc-kr"), 250, ("차단",), None, (), id="EUC-KR"),
        pytest.param(b"250 \xff\xfe\r\n", 250, (r"\xff\xfe",), None, ("undecodable",), id="neither"),
        pytest.param(b"250 a\0b\x1b[2J\r\n", 250, ("a\0b\x1b[2J",), None, (), id="NUL and ESC"),
        pytest.param(b"250 a\rb\r\n", 250, ("a\rb",), None, (), id="bare CR inside"),
    ],
)
def test_one_reply(
    octets: bytes, code: int | None, lines: tuple[str, ...], enhanced: str | None, anomalies: tuple[str, ...]
) -> None:
    (reply,) = read(octets)
    told = (reply.code, reply.lines, reply.enhanced, reply.anomalies)
    assert told == (code, lines, enhanced, anomalies)
    assert reply.raw == octets


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"2" * (MAX_LINE + 1), id="a line without end"),
        pytest.param(b"250-x\r\n" * (MAX_LINES + 1), id="lines without end"),
        pytest.param((b"250-" + b"x" * 8000 + b"\r\n") * 9, id="a reply without end"),
        pytest.param(b"\0" * 100_000, id="NULs"),
        pytest.param(b"250 " + b"x" * MAX_LINE + b"\r\n", id="one long line, and its end"),
    ],
)
def test_what_never_ends_is_cut(octets: bytes) -> None:
    reply = read(octets)[0]
    assert reply.code is None
    assert reply.anomalies == ("too_long",)
    assert reply.broken
    assert len(reply.raw) <= MAX_REPLY + MAX_LINE


LINE = b"250 " + b"x" * (MAX_LINE - 6) + b"\r\n"
EDGES: dict[str, tuple[bytes, int | None, tuple[str, ...]]] = {
    "a line of as many octets as may be": (LINE, 250, ()),
    "one octet more": (b"250 x" + LINE[4:], None, ("too_long",)),
    "as many lines as may be": (b"250-x\r\n" * (MAX_LINES - 1) + b"250 x\r\n", 250, ()),
    "one line more": (b"250-x\r\n" * MAX_LINES + b"250 x\r\n", None, ("too_long",)),
    "a line end and nothing before it": (b"\n", None, ("garbage",)),
    "599": (b"599 x\r\n", 599, ()),
    "600": (b"600 x\r\n", 600, ("bad_code",)),
    "100": (b"100 x\r\n", 100, ()),
    "099": (b"099 x\r\n", 99, ("bad_code",)),
}


@pytest.mark.parametrize("name", EDGES)
def test_the_edge_of_what_is_allowed(name: str) -> None:
    octets, code, anomalies = EDGES[name]
    assert [(one.code, one.anomalies) for one in read(octets)[:1]] == [(code, anomalies)]


def test_what_a_line_without_end_has_left_is_kept_and_the_rest_forgotten() -> None:
    reader = ReplyReader()
    reader.feed(b"250-first\r\n" + b"y" * (2 * MAX_LINE))
    cut = reader.next()
    assert cut is not None
    assert (cut.code, cut.raw) == (None, b"250-first\r\n" + b"y" * MAX_LINE)
    assert not reader.pending
    reader.feed(b"250 new\r\n")
    assert [one.text for one in iter(reader.next, None)] == ["new"]


def test_half_a_reply_is_pending_and_can_be_forgotten_line_by_line() -> None:
    reader = ReplyReader()
    for half in (b"250-a\r\n", b"250-a\r\n250-", b"25"):
        reader.feed(half)
        assert reader.next() is None
        assert reader.pending
        reader.clear()
        assert not reader.pending
    reader.feed(b"220 b\r\n")
    (reply,) = iter(reader.next, None)
    assert reply.raw == b"220 b\r\n"


def test_a_session_has_a_cap_of_its_own() -> None:
    reader, told = ReplyReader(), []
    for _ in range(MAX_SESSION // len(LINE) + 1):
        reader.feed(LINE)
        told.append(reader.next())
    assert [one and one.code for one in told[:-1]] == [250] * (MAX_SESSION // len(LINE))
    assert told[-1] is not None
    assert told[-1].anomalies == ("too_long",)


def test_the_largest_reply_that_is_allowed() -> None:
    """Caps cut only what is over them, however the octets came and whatever waits behind."""
    lines = (b"250-" + b"x" * 505 + b"\r\n") * (MAX_LINES - 1) + b"250 end\r\n"
    assert len(lines) <= MAX_REPLY
    assert [r.code for r in read(lines + b"550 " + b"y" * 505 + b"\r\n")] == [250, 550]


odd_octets = st.lists(
    st.sampled_from(
        [
            b"250",
            b"550",
            b"354",
            b"-",
            b" ",
            b"\r\n",
            b"\n",
            b"\r",
            b"ok",
            b"5.7.1 ",
            b"\0",
            b"\xea\xb0\x80",
            b"\xff",
        ]
    )
    | st.binary(max_size=4),
    max_size=30,
).map(b"".join)


@given(odd_octets)
@example(b"250-a\r\n250 b\r\n220")
def test_octet_by_octet_is_the_same_as_at_once(octets: bytes) -> None:
    reader, found = ReplyReader(), []
    for octet in octets:
        reader.feed(bytes([octet]))
        while not (found and found[-1].broken) and (reply := reader.next()) is not None:
            found.append(reply)
    assert found == read(octets)


@given(odd_octets)
def test_no_octet_is_lost_and_none_invented(octets: bytes) -> None:
    reader = ReplyReader()
    reader.feed(octets)
    raw = b""
    while (reply := reader.next()) is not None:
        raw += reply.raw
    assert raw + b"".join(reader._lines) + reader._buffer == octets


@given(odd_octets)
def test_a_sound_reply_is_one_by_an_independent_grammar(octets: bytes) -> None:
    for reply in read(octets):
        match = STRICT.fullmatch(reply.raw)
        codes = {line[:3] for line in reply.raw.split(b"\n")[:-1]}
        if not reply.broken and reply.code is not None and reply.code // 100 in (2, 3, 4, 5):
            assert match
            assert codes == {str(reply.code).encode()}
        elif match and len(codes) == 1:
            assert reply.code is None or reply.code > 599, f"{reply} is sound and was not taken"


@given(st.text(max_size=12), st.integers(200, 599))
def test_an_enhanced_code_has_the_class_of_the_reply(text: str, code: int) -> None:
    for tail in ("", " blocked"):
        read = EnhancedCode.read(f"{code // 100}.1.{text}{tail}", code)
        assert read is None or re.match(r"[0-9]{1,3}(?![0-9.])", text + tail)
        assert read is None or read == f"{read.class_}.{read.subject}.{read.detail}"
    assert EnhancedCode.read(f"{9 - code // 100}.1.1", code) is None or (9 - code // 100) == code // 100


def test_mutated_replies() -> None:
    """The bench's rules over fewer replies: see tests/bench/bench_fuzz.py for a million."""
    ended, slowest = bench_fuzz.run(10_000, seed=2026)
    assert min(ended.values()) > 1000, ended
    assert slowest < 0.05


def test_a_notebook_shows_a_reply_as_it_came_and_obeys_nothing_in_it() -> None:
    shown = Reply(250, b"250 <script>alert(1)</script>\x1b[2J\r\n", ("bare_lf",))._repr_html_()
    assert (
        shown
        == "<pre style='font-family:monospace'>250 &lt;script&gt;alert(1)&lt;/script&gt;\\x1b[2J\n(bare_lf)</pre>"
    )
