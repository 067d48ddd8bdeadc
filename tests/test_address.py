"""Addresses: one normal form, or a clear refusal before an octet is sent."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpkit.address import (
    Envelope,
    domain_of,
    helo_name,
    host_name,
    is_told,
    literal,
    mailbox,
    refuse_controls,
    sending_ip,
)
from smtpkit.errors import InvalidInput

TAKEN = {
    "plain": ("r@daum.example", "r@daum.example"),
    "in brackets": ("<r@daum.example>", "r@daum.example"),
    "with a name": ("Kim <r@daum.example>", "r@daum.example"),
    "with a quoted name that holds an @": ('"a@b" <r@daum.example>', "r@daum.example"),
    "the domain in capitals": ("R@DAUM.Example", "R@daum.example"),
    "a final dot": ("r@daum.example.", "r@daum.example"),
    "a quoted local part": ('"a b"@daum.example', '"a b"@daum.example'),
    "an IPv4 literal": ("r@[192.0.2.1]", "r@[192.0.2.1]"),
    "an IPv6 literal": ("r@[ipv6:2001:DB8::1]", "r@[IPv6:2001:db8::1]"),
    "an international domain": ("r@도메인.example", "r@xn--hq1bm8jm9l.example"),
    "an international local part": ("사람@daum.example", "사람@daum.example"),
    "all of atext": ("!#$%&'*+-/=?^_`{|}~@daum.example", "!#$%&'*+-/=?^_`{|}~@daum.example"),
    "254 octets in all": (LONG := f"r@{'x' * 60}.{'x' * 60}.{'x' * 60}.{'y' * 61}.example", LONG),
    "64 octets before the @": (f"{'x' * 64}@daum.example", f"{'x' * 64}@daum.example"),
}
REFUSED = {
    "no @": "daum.example",
    "nothing": "",
    "only an @": "@",
    "no local part": "@daum.example",
    "no domain": "r@",
    "two @": "a@b@daum.example",
    "a blank": "r r@daum.example",
    "a source route": "@a.example:r@daum.example",
    "a comment": "r(hello)@daum.example",
    "two mailboxes": "a@daum.example, b@daum.example",
    "a bracket inside": "r<x@daum.example",
    "two brackets": "<a@b.example> <r@daum.example>",
    "CR LF and a command": "r@daum.example>\r\nRCPT TO:<x@daum.example",
    "LF": "r@daum.example\n",
    "NUL": "r\x00@daum.example",
    "DEL": "r\x7f@daum.example",
    "C1": "r\x85@daum.example",
    "a bidi mark": "r\u202e@daum.example",
    "a line separator": "r\u2028@daum.example",
    "a lone surrogate": "r\ud800@daum.example",
    "dots in a row": "a..b@daum.example",
    "a dot in front": ".a@daum.example",
    "65 octets before the @": f"{'x' * 65}@daum.example",
    "255 octets in all": LONG.replace("r@", "rr@"),
    "64 letters of Korean": f"{'가' * 22}@daum.example",
    "a literal without its end": "r@[192.0.2.1",
    "a literal without its beginning": "r@192.0.2.1]",
    "over 254 octets": f"r@{'.'.join(['x' * 60] * 4)}.{'y' * 20}.example",
    "a label of 64": f"r@{'x' * 64}.example",
    "an underscore domain is a host all right, a hyphen in front is not": "r@-x.example",
    "a literal that is none": "r@[300.1.1.1]",
    "IPv6 without its tag": "r@[2001:db8::1]",
    "a parameter": "r@daum.example> NOTIFY=NEVER",
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_mailbox_has_one_normal_form(name: str) -> None:
    text, made = TAKEN[name]
    assert mailbox(text) == made
    assert mailbox(made) == made, "it is its own normal form"


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_be_read_in_two_ways_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        mailbox(REFUSED[name])


@pytest.mark.parametrize("value", [None, 3, b"r@daum.example", ["r@daum.example"]], ids=repr)
def test_only_text_is_an_address(value: object) -> None:
    with pytest.raises(InvalidInput, match="not text"):
        mailbox(value)  # type: ignore[arg-type]  # the caller's mistake is what is tested


@given(st.text(max_size=80))
def test_no_text_at_all_can_break_out_of_its_command(text: str) -> None:
    """Whatever is typed: refused, or exactly one MAIL and one RCPT line with nothing behind the bracket."""
    try:
        envelope = Envelope.of(text, [text])
    except InvalidInput:
        return
    for line in (envelope.mail, *envelope.rcpts):
        assert re.fullmatch(rb"(MAIL FROM|RCPT TO):<[^\r\n\x00<>]*>", line) or b'"' in line
        assert not re.search(rb"[\x00-\x1f\x7f]", line)


@given(st.text(max_size=60))
def test_a_helo_name_is_one_word(text: str) -> None:
    try:
        made = helo_name(text)
    except InvalidInput:
        return
    assert re.fullmatch(r"[a-z0-9._-]+|\[(IPv6:)?[0-9a-f:.]+\]", made)


@pytest.mark.parametrize("name", ["mail.ours.example\r\n", "[192.0.2.1]\n", "a\0b", "[192.0.2.1", "192.0.2.1]", ""])
def test_no_helo_name(name: str) -> None:
    with pytest.raises(InvalidInput, match="HELO name"):
        helo_name(name)


@pytest.mark.parametrize(
    ("ip", "told"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1", True),
        ("192.0.2.1", True),
        ("2001:db8::1", True),
        ("10.0.0.1", False),
        ("127.0.0.1", False),
        ("fe80::1%eth0", False),
        ("here", False),
        ("", False),
    ],
)
def test_whom_others_know(ip: str, told: bool) -> None:
    assert is_told(ip) is told


def test_an_address_that_is_given_to_lists_is_ipv4_where_it_can_be() -> None:
    assert [str(sending_ip(ip)) for ip in ("::ffff:192.0.2.1", "192.0.2.1", "2001:db8::1")] == [
        "192.0.2.1",
        "192.0.2.1",
        "2001:db8::1",
    ]


def test_several_addresses_in_one_text_are_told_as_such() -> None:
    with pytest.raises(InvalidInput, match="looks like several addresses"):
        mailbox("a@b.example, c@d.example")
    with pytest.raises(InvalidInput, match="no dot-string or quoted string"):
        mailbox("a b@d.example")
    with pytest.raises(InvalidInput, match="has no @"):
        mailbox("d.example")


@given(st.ip_addresses())
def test_a_literal_reads_back(address: object) -> None:
    assert helo_name(literal(str(address))) == literal(str(address))


@pytest.mark.parametrize("name", ["", ".", "a b", "a..b", "x" * 256, "host\r\nQUIT", "[192.0.2.1]", "https://a"])
def test_no_host_name(name: str) -> None:
    with pytest.raises(InvalidInput):
        host_name("domain", name)


def test_a_refusal_says_what_was_wrong_with_the_value_and_what_to_do() -> None:
    with pytest.raises(InvalidInput, match=r"recipient.*r\\x00.*U\+0000 at position 1.*nothing was sent"):
        mailbox("r\x00@daum.example", "recipient")


class TestEnvelope:
    def test_the_same_mailbox_twice_is_one_recipient(self) -> None:
        made = Envelope.of("me@ours.example", ["r@daum.example", "R <r@DAUM.example>", "s@daum.example"])
        assert made.recipients == ("r@daum.example", "s@daum.example")

    def test_the_null_reverse_path_is_taken_only_when_written(self) -> None:
        assert Envelope.of("<>", "r@daum.example").mail == b"MAIL FROM:<>"
        for sender in ("", " ", None):
            with pytest.raises(InvalidInput, match="null reverse-path"):
                Envelope.of(sender, "r@daum.example")  # type: ignore[arg-type]  # the caller's mistake is tested

    def test_nobody_is_no_envelope(self) -> None:
        with pytest.raises(InvalidInput, match="no recipient"):
            Envelope.of("me@ours.example", [])

    def test_non_ascii_needs_smtputf8_but_a_domain_never_does(self) -> None:
        assert Envelope.of("사람@ours.example", "r@daum.example").needs_smtputf8
        assert not Envelope.of("me@ours.example", "r@도메인.example").needs_smtputf8

    def test_the_seeds_own_spelling_is_taken_and_normalised(self) -> None:
        made = Envelope.of("name<a@b.example>", "<c@d.example>")
        assert (made.mail, made.rcpts) == (b"MAIL FROM:<a@b.example>", (b"RCPT TO:<c@d.example>",))


def test_small_helpers() -> None:
    assert domain_of(None) is domain_of("") is None
    with pytest.raises(InvalidInput, match="str"):
        refuse_controls("note", 3)  # type: ignore[arg-type]  # the caller's mistake is what is tested
