"""What a consultant proved: rules that accused senders whom the receivers take, advice for what nobody did."""

import pytest

from smtpkit.checks import dmarc, dnsbl, spf
from smtpkit.checks.found import Row, Sender, rules
from smtpkit.lint import lint
from smtpkit.network import Answer
from tests.fake_network import FakeNetwork, reverse
from tests.test_checks_faults import PEM, PLAIN, zone
from tests.test_checks_faults import signed as signed_by
from tests.test_checks_preflight_faults import KEY, signed

IP, ZEN = "198.51.100.7", "zen.spamhaus.org"


def row(check: str, status: str) -> Row:
    return Row(check, "", status, "")


PTR, BITS = "leads back to it", "A DKIM key of 1024 bits"
RULES = {
    "Gmail takes a generic name": (
        [row("ptr", "warn")],
        f"Gmail, all mail: The address has a PTR name that {PTR}",
        "pass",
    ),
    "and refuses none": ([row("ptr", "fail")], f"Gmail, all mail: The address has a PTR name that {PTR}", "fail"),
    "Outlook.com asks for more": ([row("ptr", "warn")], "Outlook.com, all mail: Valid reverse DNS", "warn"),
    "1024 bits are enough": ([row("dkim_key", "warn")], f"Gmail, bulk mail: {BITS}", "pass"),
    "512 are not": ([row("dkim_key", "fail")], f"Gmail, bulk mail: {BITS}", "fail"),
    "one key of two": ([row("dkim_key", "pass"), row("dkim_key", "fail")], f"Gmail, bulk mail: {BITS}", "pass"),
    "an implicit MX": ([row("soa", "pass"), row("mx", "warn")], "Yahoo, all mail: From and MAIL FROM", "pass"),
}


@pytest.mark.parametrize(("found", "rule", "status"), RULES.values(), ids=RULES)
def test_a_rule_asks_for_what_the_receiver_asks_for(found: list[Row], rule: str, status: str) -> None:
    told = next(one for one in rules(found) if one.subject.startswith(rule))
    assert told.status == status
    assert told.advice.startswith("Answered with") == (status == "fail"), "a warning is answered with no refusal"


@pytest.mark.parametrize("theirs", ["v=spf1 include:ours.example -all", "", "v=spf1 ip4:1.2.3 -all", "v=spf1 a b"])
def test_an_include_that_cannot_be_read_fails_the_record(theirs: str) -> None:
    included = {"ours.example": {"TXT": ["v=spf1 include:x.example -all"]}, "x.example": {"TXT": [theirs]}}
    network = FakeNetwork(included)
    assert spf.check_host(IP, "a@ours.example", "", network).result == "permerror"
    found = {one.check: one.status for one in spf.rows(Sender("ours.example", network, mail_from="ours.example"))}
    assert found["spf_record"] == "fail"


CODES = {
    "PBL": (["127.0.0.11"], "by its owner this network sends no mail"),
    "PBL twice": (["127.0.0.10", "127.0.0.11"], "by its owner this network sends no mail"),
    "PBL and XBL": (["127.0.0.11", "127.0.0.4"], "Stop the cause"),
}


@pytest.mark.parametrize(("codes", "advice"), CODES.values(), ids=CODES)
def test_a_range_that_sends_no_mail_is_no_deed(codes: list[str], advice: str) -> None:
    listed = {reverse(IP, ZEN): {"A": codes}, reverse("127.0.0.2", ZEN): {"A": ["127.0.0.2"]}}
    told = {one.subject: one for one in dnsbl.rows(Sender("ours.example", FakeNetwork(listed), IP))}[
        f"{IP} in {ZEN}"
    ]
    assert (told.status, advice in told.advice) == ("fail", True)


SIGNED = PLAIN.sign(PEM, "s1", "ours.example").octets
DKIM = {
    "expired": (signed(PLAIN.octets, "from", " x=1700000000;"), KEY, "Mend the signature"),
    "by SHA-1": (signed_by(b"rsa-sha1"), KEY, "Mend the signature"),
    "without From": (signed(PLAIN.octets, "subject"), KEY, "Mend the signature"),
    "of another version": (SIGNED.replace(b" v=1;", b" v=2;"), KEY, "Mend the signature"),
    "another text": (SIGNED + b"-- \r\nour footer\r\n", KEY, "Sign last"),
    "another subject": (SIGNED.replace(b"Subject: s", b"Subject: [list] s"), KEY, "Sign last"),
}


@pytest.mark.parametrize(("octets", "record", "advice"), DKIM.values(), ids=DKIM)
def test_no_server_is_blamed_for_a_signature_that_never_counted(octets: bytes, record: str, advice: str) -> None:
    network = FakeNetwork(zone(record))
    found = [one for one in dmarc.rows(Sender("ours.example", network, octets=octets)) if one.check == "dkim"]
    assert [(one.status, one.advice.startswith(advice)) for one in found] == [("fail", True)], found


KEYS = {
    "a list with blanks": ("t=y : s; ", "test"),
    "for SHA-1 alone": ("h=sha1; ", "broken"),
    "as opendkim-genkey once wrote it": ("h=rsa-sha256; ", "broken"),
    "for both": ("h=sha1 : sha256; ", "ok"),
}


@pytest.mark.parametrize(("tags", "finding"), KEYS.values(), ids=KEYS)
def test_what_a_key_says_of_itself_is_heard(tags: str, finding: str) -> None:
    assert dmarc.key(Answer("ok", (KEY.replace("k=rsa; ", tags),)))[0] == finding


MIXED, TEXT = "Content-Type: multipart/mixed", "Content-Type: text/plain; charset=utf-8\r\n"
BASE64 = "Content-Transfer-Encoding: base64\r\n\r\n"
FILE = f"\r\nsee below\r\n--B\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment\r\n{BASE64}"
PARTS = {
    "whole": (f"{MIXED}; boundary=B\r\n\r\n--B\r\n{FILE}JVBERi0=\r\n--B--\r\n", "pass"),
    "an attachment cut off": (f"{MIXED}; boundary=B\r\n\r\n--B\r\n{FILE}JVBER\r\n--B--\r\n", "warn"),
    "no boundary named": (f"{MIXED}\r\n\r\n--B\r\n\r\nhi\r\n--B--\r\n", "warn"),
    "another boundary": (f"{MIXED}; boundary=C\r\n\r\n--B\r\n\r\nhi\r\n--B--\r\n", "warn"),
    "the letter cut off": (f"{MIXED}; boundary=B\r\n\r\n--B\r\n\r\nhi\r\n", "warn"),
    "base64": (f"{TEXT}{BASE64}aGVs\r\nbG8=\r\n", "pass"),
    "a footer behind base64": (f"{TEXT}{BASE64}aGVsbG8=\r\n-- \r\nour list\r\n", "warn"),
    "a torn letter within": (
        f"Content-Type: message/rfc822\r\n\r\n{MIXED}; boundary=B\r\n\r\n--B\r\n\r\nhi\r\n",
        "pass",
    ),
}


@pytest.mark.parametrize(("text", "status"), PARTS.values(), ids=PARTS)
def test_parts_that_nobody_can_tell_apart_are_told(text: str, status: str) -> None:
    octets = f"From: a@ours.example\r\nMIME-Version: 1.0\r\n{text}".encode()
    assert {found["check"]: found["status"] for found in lint(octets)}["mime"] == status
