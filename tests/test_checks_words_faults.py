"""What senders publish and write, and what was said of it: wrong causes, lost evidence, verdicts by chance."""

import time
from typing import Any

import pytest

import smtpkit as sk
from smtpkit import checks
from smtpkit.address import mailbox
from smtpkit.errors import InvalidInput
from smtpkit.lint import lint
from smtpkit.message import build_message
from tests.fake_network import FakeNetwork, reverse
from tests.test_checks_faults import PEM, PLAIN, RSA_P
from tests.test_checks_faults import zone as zone_with
from tests.test_checks_preflight_faults import signed

IP = "198.51.100.7"
KEY = f"v=DKIM1; k=rsa; p={RSA_P}"

NAMES = {
    "a long domain": ("s1", f"{'a' * 30}.{'b' * 30}.example"),
    "a long label": ("s1", f"{'a' * 64}.example"),
    "a long selector": (f"{'s' * 40}.{'t' * 40}", "ours.example"),
    "two dots": ("s1", "ours..example"),
    "a dot first": ("s1", ".ours.example"),
    "a slash": ("s/1", "ours.example"),
}


@pytest.mark.parametrize(("selector", "domain"), NAMES.values(), ids=NAMES)
def test_a_signature_that_nobody_could_verify_is_not_made(selector: str, domain: str) -> None:
    with pytest.raises(InvalidInput):
        PLAIN.sign(PEM, selector, domain)


def test_a_domain_is_signed_for_in_its_normal_form() -> None:
    assert b" d=ours.example;" in PLAIN.sign(PEM, "s1", "Ours.example.").octets
    assert b" i=@" + b"a" * 58 + b".example;" in PLAIN.sign(PEM, "s1", f"{'a' * 58}.example").octets


def judged(message: bytes | None = None, more: dict[str, Any] | None = None, **asked: Any) -> Any:
    """The preflight of ours.example, by check."""
    zone = zone_with(KEY) | {"ours.example": {"TXT": [f"v=spf1 ip4:{IP} -all"], "MX": ["10 mx.ours.example"]}}
    network = FakeNetwork(zone | {reverse(IP, "in-addr.arpa"): {"PTR": ["mx.ours.example"]}} | (more or {}))
    given = {"ip": IP, "helo": "mx.ours.example"} | asked
    return checks.preflight("ours.example", message=message, network=network, **given).set_index("check")


SIGNED = PLAIN.sign(PEM, "s1", "ours.example").octets
PATHS = {
    "ours, unsigned": (PLAIN.octets, "a@ours.example", "unknown"),
    "ours, signed": (SIGNED, "a@ours.example", "pass"),
    "another's, unsigned": (PLAIN.octets, "b@esp.example", "fail"),
}


@pytest.mark.parametrize(("octets", "path", "status"), PATHS.values(), ids=PATHS)
def test_dmarc_fails_nobody_for_an_spf_that_was_not_asked(octets: bytes, path: str, status: str) -> None:
    found = judged(octets, ip=None, helo=None, mail_from=path)
    assert (found.status["spf"], found.status["dmarc"]) == ("unknown", status)
    assert ("ip=" in found.advice["dmarc"]) == (status == "unknown")


NO_KEYS = {
    "none there": {"TXT": []},
    "revoked": {"TXT": ["v=DKIM1; p="]},
    "cut": {"TXT": [KEY[:200]]},
    "two letters wrong": {"TXT": [KEY.replace("BAQEFAAOC", "BAQEFXgOC")]},
    "another record behind it": {"TXT": [KEY, "google-site-verification=x"]},
    "another record before it": {"TXT": ["google-site-verification=x", KEY]},
}


@pytest.mark.parametrize("told", NO_KEYS.values(), ids=NO_KEYS)
def test_a_key_that_is_not_there_is_no_message_that_was_changed(told: dict[str, list[str]]) -> None:
    found = judged(SIGNED, {"s1._domainkey.ours.example": told})
    assert (found.status["dkim"], found.status["dkim_key"]) == ("fail", "fail")
    assert found.evidence["dkim"].startswith("the key is ")
    assert "key" in found.advice["dkim"]


def test_of_many_ptr_names_chance_decides_nothing() -> None:
    names = [f"n{n}.isp.example" for n in range(12)]
    for told in (["mx.ours.example", *names], [*names, "mx.ours.example"]):
        found = judged(None, {reverse(IP, "in-addr.arpa"): {"PTR": told}})
        assert (found.status["ptr"], "13 names, 10 of them asked" in found.evidence["ptr"]) == ("warn", True)
    assert judged(None, {reverse(IP, "in-addr.arpa"): {"PTR": names[:3]}}).status["ptr"] == "fail"


SPF_RECORDS = {
    "three names that are gone": (f"ip4:{IP} a:g1.example a:g2.example mx:g3.example -all", "fail", "void"),
    "an mx of many names": (f"ip4:{IP} mx:many.example -all", "fail", "mx"),
    "an address behind all": (f"ip4:192.0.2.9 -all ip4:{IP}", "pass", f"behind all: ip4:{IP}"),
    "a modifier behind all": (f"ip4:{IP} -all exp=e.ours.example", "pass", "-all exp=e.ours.example"),
    "three names of IPv4 alone": (
        "a:m1.many.example a:m2.many.example a:m3.many.example -all",
        "pass",
        "a permerror for others by IPv6",
    ),
    "names that depend on who sends": (
        "exists:%{i}.a.example exists:%{i}.b.example exists:%{i}.c.example -all",
        "pass",
        "depends on the message",
    ),
    "two names that are gone": (f"ip4:{IP} a:g1.example mx:g3.example -all", "pass", "2 of 10"),
}


@pytest.mark.parametrize(("terms", "status", "words"), SPF_RECORDS.values(), ids=SPF_RECORDS)
def test_a_record_is_shown_as_published_and_read_to_its_end(terms: str, status: str, words: str) -> None:
    names = [f"m{n}.many.example" for n in range(12)]
    more = {"many.example": {"MX": [f"10 {name}" for name in names]}, "ours.example": {"TXT": [f"v=spf1 {terms}"]}}
    found = judged(None, more | {name: {"A": ["192.0.2.1"]} for name in names})
    assert (found.status["spf_record"], words in found.evidence["spf_record"]) == (status, True)
    assert f"v=spf1 {terms}" in found.evidence["spf_record"]


NEARLY = {
    "quotes": ("ours.example", '"v=spf1 -all"', "spf_record", "fail"),
    "a semicolon": ("ours.example", "v=spf1; ip4:192.0.2.1 -all", "spf_record", "fail"),
    "a blank": ("_dmarc.ours.example", "v=DMARC1 p=reject", "dmarc_record", "fail"),
    "another order": ("_dmarc.ours.example", "p=reject; v=DMARC1", "dmarc_record", "fail"),
    "no semicolon": ("_mta-sts.ours.example", "v=STSv1 id=1", "mta_sts", "warn"),
    "another version": ("_smtp._tls.ours.example", "v=TLSRPT1; rua=mailto:a@ours.example", "tls_rpt", "warn"),
}


@pytest.mark.parametrize(("name", "text", "check", "status"), NEARLY.values(), ids=NEARLY)
def test_what_is_nearly_a_record_is_shown(name: str, text: str, check: str, status: str) -> None:
    found = judged(None, {name: {"TXT": [text, "MS=ms1"]}})
    assert found.status[check] == status
    assert (text in found.evidence[check], "MS=ms1" in found.evidence[check]) == (True, False)


def test_a_file_of_unix_is_judged_as_it_would_be_sent() -> None:
    found = judged(SIGNED.replace(b"\r\n", b"\n"))
    assert (found.status["message: line_ends"], found.status["dkim"]) == ("pass", "pass")
    mixed = SIGNED.replace(b"\r\nhi", b"\nhi")
    assert judged(mixed).status["message: line_ends"] == "fail"


DATES = {
    "a zone": ("Tue, 24 Nov 2026 09:12:00 +0900", "pass"),
    "UTC by its comment": ("Tue, 24 Nov 2026 09:12:00 -0000 (UTC)", "pass"),
    "GMT": ("Tue, 24 Nov 2026 09:12:00 GMT", "pass"),
    "no zone": ("Tue, 24 Nov 2026 09:12:00", "warn"),
    "Z": ("Tue, 24 Nov 2026 09:12:00 Z", "pass"),
    "a colon in it": ("Tue, 24 Nov 2026 09:12:00 +09:00", "warn"),
    "a name that means nothing": ("Tue, 24 Nov 2026 09:12:00 KST", "warn"),
    "no date": ("2026-11-24T09:12:00+09:00", "fail"),
}


@pytest.mark.parametrize(("text", "status"), DATES.values(), ids=DATES)
def test_a_date_has_the_zone_that_its_advice_asks_for(text: str, status: str) -> None:
    octets = f"From: a@ours.example\r\nDate: {text}\r\n\r\nhi\r\n".encode()
    assert {row["check"]: row["status"] for row in lint(octets)}["date"] == status


@pytest.mark.parametrize(("ago", "status"), [(60, "fail"), (-3600, "pass")], ids=["over", "not yet"])
def test_a_signature_that_is_over_counts_for_nothing(ago: int, status: str) -> None:
    now = int(time.time())
    found = judged(signed(PLAIN.octets, "from", f" t={now - 600}; x={now - ago};"))
    assert found.status["dkim"] == status
    assert ("expired on" in found.evidence["dkim"]) == (status == "fail")


@pytest.mark.parametrize("selector", ["s1", "s1._domainkey", "s1._domainkey.ours.example"])
def test_a_selector_may_be_pasted_whole(selector: str) -> None:
    assert judged(None, selector=selector).subject["dkim_key"] == "s1._domainkey.ours.example"


@pytest.mark.parametrize(
    "text", ["a@x.example, b@x.example", "a@x.example;b@y.example", "<a@x.example>, <b@x.example>"]
)
def test_several_addresses_in_one_text_are_told_so(text: str) -> None:
    with pytest.raises(InvalidInput, match="several addresses"):
        build_message(sender="a@ours.example", to=text, text="hi")
    assert mailbox('"a@b, c"@x.example') == '"a@b, c"@x.example'


def test_a_dry_run_lints_for_the_sender_it_would_use() -> None:
    with sk.Lab("healthy") as lab:
        told = sk.send(PLAIN, lab.recipient, sender="b@esp.example", network=lab.network)
    assert "warn align_spf: From ours.example, esp.example" in told.why[0]


REPORTS = {
    "our own": ("rua=mailto:d@ours.example", {}, "pass"),
    "another host of ours": ("rua=mailto:d@mail.ours.example!10m", {}, "pass"),
    "two, with blanks": ("rua=mailto:d@ours.example , mailto:e@ours.example", {}, "pass"),
    "no mailto": ("rua=d@ours.example", {}, "warn"),
    "a web page": ("rua=https://ours.example/dmarc", {}, "warn"),
    "another's, which has not agreed": ("rua=mailto:d@reports.example", {}, "warn"),
    "another's, of failures": ("rua=mailto:d@ours.example; ruf=mailto:d@reports.example", {}, "warn"),
    "another's, which agrees": ("rua=mailto:d@reports.example", {"TXT": ["v=DMARC1"]}, "pass"),
    "another's, dead for now": ("rua=mailto:d@reports.example", "servfail", "pass"),
}


@pytest.mark.parametrize(("terms", "agreed", "status"), REPORTS.values(), ids=REPORTS)
def test_a_record_whose_reports_do_not_come_says_so(terms: str, agreed: Any, status: str) -> None:
    more = {"_dmarc.ours.example": {"TXT": [f"v=DMARC1; p=reject; {terms}"]}}
    found = judged(None, more | {"ours.example._report._dmarc.reports.example": agreed})
    assert found.status["dmarc_record"] == status
    assert ("no reports to" in found.evidence["dmarc_record"]) == (status == "warn")


def test_the_two_halves_of_the_world_are_the_world_and_a_redirect_to_nothing_is_told() -> None:
    halves = {"ours.example": {"TXT": ["v=spf1 ip4:0.0.0.0/1 ip4:128.0.0.0/1 -all"]}}
    assert judged(None, halves).status["spf_record"] == "fail"
    sixth = {"ours.example": {"TXT": [f"v=spf1 ip4:{IP} ip6:::/0 -all"]}}
    assert "anybody passes by ip6:::/0" in judged(None, sixth).evidence["spf_record"]
    two = {"ours.example": {"TXT": [f"v=spf1 ip4:{IP} redirect=two.example"]}}
    assert (
        judged(None, two | {"two.example": {"TXT": ["v=spf1 -all", "v=spf1 -all"]}}).status["spf_record"] == "fail"
    )


DBL, ZEN = {"ours.example.dbl.spamhaus.org": {"A": ["127.0.1.2"]}}, "zen.spamhaus.org"
CLEAN = {reverse("127.0.0.2", ZEN): {"A": ["127.0.0.2"]}}
TOLD = {
    "no address is known": ({}, None, "unknown"),
    "the domain is listed, the address is not": (DBL | CLEAN, IP, "pass"),
    "the address is listed": (CLEAN | {reverse(IP, ZEN): {"A": ["127.0.0.3"]}}, IP, "fail"),
}


@pytest.mark.parametrize(("more", "ip", "status"), TOLD.values(), ids=TOLD)
def test_a_rule_on_the_address_is_judged_by_lists_of_addresses(more: dict[str, Any], ip: Any, status: str) -> None:
    found = judged(None, more, ip=ip, helo=None).loc["rule"]
    assert list(found[found.subject.str.contains("not on Spamhaus")].status) == [status]


AUTHORS = {
    "two domains": ("ceo@bank.example <a@ours.example>", "fail", "unknown"),
    "the same twice": ("a@ours.example <a@ours.example>", "pass", "pass"),
    "a name with an @": ("Team @home <a@ours.example>", "pass", "pass"),
    "quoted": ('"ceo@bank.example" <a@ours.example>', "pass", "pass"),
    "in an encoded word": ("=?utf-8?q?ceo@bank.example?= <a@ours.example>", "pass", "pass"),
}


@pytest.mark.parametrize(("author", "lint_says", "dmarc_says"), AUTHORS.values(), ids=AUTHORS)
def test_a_from_that_readers_read_in_two_ways_is_none(author: str, lint_says: str, dmarc_says: str) -> None:
    found = judged(PLAIN.octets.replace(b"From: a@ours.example", f"From: {author}".encode()))
    assert (found.status["message: from"], found.status["dmarc"]) == (lint_says, dmarc_says)


@pytest.mark.parametrize("link", ["cid:logo@ours.example", "cid:logo%40ours.example", "CID:a%20b"])
def test_a_picture_may_be_named_as_a_url_is_written(link: str) -> None:
    head = b"From: a@ours.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/related; boundary=B\r\n\r\n"
    page = f'--B\r\nContent-Type: text/html\r\n\r\n<img src="{link}" alt="">\r\n'.encode()
    pictures = b"".join(
        b"--B\r\nContent-Type: image/png\r\nContent-ID: <%s>\r\n\r\nx\r\n" % name
        for name in (b"logo@ours.example", b"a%20b")
    )
    told = {row["check"]: row["status"] for row in lint(head + page + pictures + b"--B--\r\n")}
    assert told["images"] == "pass"
