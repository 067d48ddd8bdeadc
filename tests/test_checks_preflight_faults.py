"""What readers of the preflight proved: passes that receivers refuse, failures that are none."""

import base64
import hashlib
import socket
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding

import smtpkit as sk
from smtpkit import checks
from smtpkit.checks import dnsbl, spf
from smtpkit.errors import InvalidInput
from smtpkit.lint import Reading, lint
from smtpkit.message import Message, build_message
from smtpkit.network import Answer
from tests import certs
from tests import test_checks_transport as tls
from tests.fake_network import FakeNetwork, reverse
from tests.frames import only, rounds
from tests.test_checks_faults import PEM, PLAIN, RSA, RSA_P
from tests.test_checks_faults import zone as zone_with

IP, ZEN = "198.51.100.7", "zen.spamhaus.org"
KEY = f"v=DKIM1; k=rsa; p={RSA_P}"
OURS = zone_with(KEY)


def told(message: bytes | None = None, more: dict[str, Any] | None = None, **asked: Any) -> dict[str, str]:
    """Check to its first status."""
    network = FakeNetwork(OURS | (more or {}))
    asked = {"ip": IP, "helo": "mx.ours.example"} | asked
    frame = checks.preflight("ours.example", message=message, network=network, **asked)
    return dict(zip(reversed(frame.check), reversed(frame.status.astype(str)), strict=True))


def linted(octets: bytes, *names: str) -> list[str]:
    status = {row["check"]: row["status"] for row in lint(octets)}
    return [status[name] for name in names]


def signed(octets: bytes, field: str, extra: str = "") -> bytes:
    """A right signature over one field and the body."""
    head, _, body = octets.partition(b"\r\n\r\n")
    line = next(one for one in head.split(b"\r\n") if one.lower().startswith(field.encode() + b":"))
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    tags = "DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d=ours.example; s=s1;"
    tags += f"{extra} h={field}; bh={digest}; b="
    value = base64.b64encode(RSA.sign(line + b"\r\n" + tags.encode(), padding.PKCS1v15(), hashes.SHA256()))
    return tags.encode() + value + b"\r\n" + octets


def test_a_signature_that_leaves_from_out_counts_for_nothing() -> None:
    forged = signed(PLAIN.octets, "subject").replace(b"From: a@ours", b"From: ceo@ours")
    found = told(forged, ip="203.0.113.9", helo="x.example")
    assert (found["dkim"], found["dmarc"]) == ("fail", "fail")
    assert told(signed(PLAIN.octets, "from"))["dkim"] == "pass"


def test_a_signature_over_the_body_s_start_says_so() -> None:
    body = PLAIN.octets.partition(b"\r\n\r\n")[2]
    octets = signed(PLAIN.octets, "from", f" l={len(body)};") + b"appended\r\n"
    frame = checks.preflight("ours.example", message=octets, network=FakeNetwork(OURS))
    (row,) = frame[frame.check == "dkim"].itertuples()
    assert (row.status, f"l={len(body)}: text may be appended" in row.evidence) == ("pass", True)


BCC = PLAIN.octets.replace(b"Subject:", b"Bcc: secret@hidden.example\r\nSubject:")


@pytest.mark.parametrize("field", [b"Bcc:", b"bCC:", b"Resent-Bcc:"])
def test_nobody_is_shown_who_was_hidden(field: bytes) -> None:
    octets = BCC.replace(b"Bcc:", field)
    with sk.Lab("healthy") as lab:
        for live in (False, True):
            with pytest.raises(InvalidInput, match="Bcc"):
                sk.send(octets, lab.recipient, sender=lab.sender, live=live, network=lab.network)
        assert lab.mailbox == []
    assert linted(octets, "hidden") == ["fail"]
    with pytest.raises(InvalidInput, match=r"(?i)bcc"):
        build_message(sender="a@o.example", to="r@x.example", headers={field.decode()[:-1]: "s@x.example"})


AUTHORS = {
    "a name and a bare one": ("Jo <b@ours.example>, c@other.example", "fail", "unknown"),
    "a bare one and a name": ("a@ours.example, Jo <b@other.example>", "fail", "unknown"),
    "cron's": ("root@ours.example (Cron (the) Daemon)", "pass", "pass"),
    "a comma in quotes": ('"Jo, of Ours" <b@ours.example>', "pass", "pass"),
}


@pytest.mark.parametrize(("author", "lint_says", "dmarc_says"), AUTHORS.values(), ids=AUTHORS)
def test_from_is_one_mailbox(author: str, lint_says: str, dmarc_says: str) -> None:
    octets = PLAIN.octets.replace(b"From: a@ours.example", f"From: {author}".encode())
    found = told(octets, {"ours.example": {"TXT": [f"v=spf1 ip4:{IP} -all"]}})
    assert (found["message: from"], found["dmarc"]) == (lint_says, dmarc_says)


LISTED = {"A": ["127.0.0.3"]}
LISTS = {
    reverse("127.0.0.2", ZEN): {"A": ["127.0.0.2"]},
    reverse("127.0.0.2", "bl.spamcop.net"): {"A": ["127.0.0.2"]},
    reverse(IP, ZEN): LISTED,
    "ours.example.dbl.spamhaus.org": {"A": ["127.0.1.2"]},
    "xn--hq1bm8jm9l.example.dbl.spamhaus.org": {"A": ["127.0.1.2"]},
}
QUESTIONS = {
    "an address": (IP, ZEN, "listed"),
    "of a socket for both": (f"::ffff:{IP}", ZEN, "listed"),
    "IPv6 where only IPv4 is listed": ("2001:db8::7", "bl.spamcop.net", "unknown"),
    "a final dot": ("ours.example.", "dbl.spamhaus.org", "listed"),
    "in Korean": ("도메인.example", "dbl.spamhaus.org", "listed"),
}


@pytest.mark.parametrize(("subject", "zone", "state"), QUESTIONS.values(), ids=QUESTIONS)
def test_a_list_is_asked_what_was_meant(subject: str, zone: str, state: str) -> None:
    assert dnsbl.lookup(subject, FakeNetwork(LISTS), [zone]).state.tolist() == [state]


@pytest.mark.parametrize(("subject", "zone"), [("jo@ours.example", "dbl.spamhaus.org"), (IP, "zen.spamhaus.com")])
def test_what_no_list_can_be_asked_is_refused(subject: str, zone: str) -> None:
    with pytest.raises(InvalidInput):
        dnsbl.lookup(subject, FakeNetwork(LISTS), [zone])


def test_a_mapped_address_has_the_names_of_its_own() -> None:
    more = {reverse(IP, "in-addr.arpa"): {"PTR": ["mx.ours.example"]}}
    found = told(None, more, ip=f"::ffff:{IP}")
    assert (found["ptr"], found["helo"]) == ("pass", "pass")


@pytest.mark.parametrize(("who", "status"), [("jo", "pass"), ("ann", "fail")])
def test_spf_is_asked_for_the_whole_reverse_path(who: str, status: str) -> None:
    more = {
        "ours.example": {"TXT": ["v=spf1 exists:%{l}._u.ours.example -all"]},
        "jo._u.ours.example": {"A": ["127.0.0.2"]},
    }
    found = told(PLAIN.octets, more, mail_from=f"{who}@ours.example")
    assert (found["spf"], found["dmarc"]) == (status, status)


RECORDS = {
    "all the world": ("ip4:0.0.0.0/0 -all", "fail", "pass"),
    "an include of it": ("include:x.example -all", "fail", "pass"),
    "a network of all": ("a:mx.ours.example/0 -all", "fail", "pass"),
    "neutral": ("mx ?all", "warn", "neutral"),
    "a host called so": ("mx a:www.club.football", "warn", "neutral"),
    "a redirect to nothing": ("redirect=gone.example", "fail", "permerror"),
    "terms behind all": (f"ip4:{IP} -all " + " ".join(f"a:a{n}.x.example" for n in range(11)), "pass", "fail"),
    "a redirect": ("redirect=y.example", "pass", "fail"),
}


@pytest.mark.parametrize(("record", "status", "stranger"), RECORDS.values(), ids=RECORDS)
def test_a_record_is_as_good_as_what_it_does(record: str, status: str, stranger: str) -> None:
    more = {"x.example": {"TXT": ["v=spf1 +all"]}, "y.example": {"TXT": ["v=spf1 mx -all"]}}
    more |= {"ours.example": {"TXT": [f"v=spf1 {record}"]}}
    assert told(None, more)["spf_record"] == status
    assert spf.check_host("203.0.113.66", "a@ours.example", "", FakeNetwork(OURS | more)).result == stranger


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certs.make(tmp_path_factory.mktemp("certs"), "mx1.ours.example")


DANE = {  # as openssl s_client -dane_tlsa_domain says
    "the leaf as authority": ("good", "2 0 1", "leaf", "shows none that fits"),
    "the authority": ("good", "2 0 1", "ca", "fits"),
    "for another name": ("wrong_name", "2 0 1", "ca", "its certificate is not for"),
    "over": ("expired", "2 0 1", "ca", "shows a certificate of"),
    "by another": ("other_ca", "2 0 1", "ca", "a chain that does not hold"),
    "over, but its own": ("expired", "3 0 1", "leaf", "fits"),
    "the authority as its own": ("good", "3 0 1", "ca", "shows none that fits"),
}


@pytest.mark.parametrize(("kind", "record", "whose", "says"), DANE.values(), ids=DANE)
def test_tlsa_2_names_an_authority_that_vouches(
    kind: str, record: str, whose: str, says: str, folder: Path
) -> None:
    shown = {"leaf": x509.load_pem_x509_certificate((folder / f"{kind}.pem").read_bytes())}
    shown["ca"] = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    text = "".join(one.public_bytes(Encoding.PEM).decode() for one in shown.values())
    digest = hashlib.sha256(shown[whose].public_bytes(Encoding.DER)).hexdigest()
    network = FakeNetwork(tls.zone() | {tls.NAME: {"TLSA": [f"{record} {digest}"]}}, secure=tls.SECURE)
    network.page = lambda url, get: Answer("ok", (text,))  # type: ignore[attr-defined]  # what the server shows
    row = tls.tlsa(network)
    assert (row.status, says in row.evidence) == ("pass" if says == "fits" else "fail", True), row


@pytest.mark.parametrize(("host", "says"), [("www.ours.example", "does not hold"), (None, "fits")])
def test_only_an_authority_vouches_for_others(host: str | None, says: str) -> None:
    """A host's certificate between the server's and the anchor is none, though the signatures are right."""
    first, second, third = (certs._key() for _ in range(3))
    ca = certs._sign(first, "ca", None, (-90, 365), None)
    between = certs._sign(second, "between", host, (-60, 60), (first, ca))
    leaf = certs._sign(third, "leaf", "mx1.ours.example", (-60, 60), (second, between))
    text = "".join(one.public_bytes(Encoding.PEM).decode() for one in (leaf, between, ca))
    record = f"2 0 1 {hashlib.sha256(ca.public_bytes(Encoding.DER)).hexdigest()}"
    network = FakeNetwork(tls.zone() | {tls.NAME: {"TLSA": [record]}}, secure=tls.SECURE)
    network.page = lambda url, get: Answer("ok", (text,))  # type: ignore[attr-defined]  # what the server shows
    assert says in tls.tlsa(network).evidence


class Hosts(tls.Web):
    """One of the policy host's addresses refuses."""

    def open(self, ip: str, port: int) -> socket.socket:
        if ip == "192.0.2.81":
            raise OSError(111, "refused")
        return super().open("192.0.2.80", port)


HOSTS = {"IPv6 only": {"AAAA": ["2001:db8::80"]}, "the first is dead": {"A": ["192.0.2.81", "192.0.2.80"]}}


@pytest.mark.parametrize("addresses", HOSTS.values(), ids=HOSTS)
def test_a_policy_is_fetched_from_any_address(
    addresses: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tls.served(tmp_path) as port:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert tls.sts(Hosts(tls.zone() | {tls.HOST: addresses}, port=port)).status == "pass"


def test_a_policy_without_hosts_is_broken() -> None:
    network = FakeNetwork(tls.zone() | {"ours.example": {"MX": ["0 ."]}})
    network.page = lambda url, get: Answer("ok", ("version: STSv1\nmode: enforce\nmax_age: 604800\n",))  # type: ignore[attr-defined]  # what the host shows
    assert tls.sts(network).status == "fail"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Message-ID", "<한@ours.example>"),
        ("List-Unsubscribe", "<https://ours.example/구독취소>"),
        ("X-Link", "<https://ours.example/구독>"),
    ],
)
def test_a_field_that_must_be_ascii_is(name: str, text: str) -> None:
    with pytest.raises(InvalidInput, match="ASCII"):
        build_message(sender="a@ours.example", to="r@x.example", text="hi", headers={name: text})


def test_encoded_words_where_none_may_stand_are_no_ids_and_no_links() -> None:
    word = b"=?utf-8?b?PGh0dHBzOi8vb3Vycy5leGFtcGxlL+q1rOuPhT4=?="
    octets = PLAIN.octets.replace(b"Subject:", b"List-Unsubscribe: " + word + b"\r\nSubject:")
    octets = octets.replace(b"Subject:", b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nSubject:")
    assert linted(octets, "one_click") == ["fail"]
    ids = octets.replace(b"Message-ID: <", b"Message-ID: =?utf-8?q?=3C1=40ours=2Eexample=3E?=\r\nX-Id: <")
    assert linted(ids, "message_id") == ["fail"]


LINES = {
    "no field": PLAIN.octets.replace(b"Subject:", b"this is no field\r\nSubject:"),
    "a fold first": b" lead\r\n" + PLAIN.octets,
    "a blank before the colon": PLAIN.octets.replace(b"Subject:", b"Subject :"),
    "a mailbox's line": b"From jo@x Tue Nov 24 09:12:00 2026\r\n" + PLAIN.octets,
}


@pytest.mark.parametrize("octets", LINES.values(), ids=LINES)
def test_a_header_s_lines_are_fields(octets: bytes) -> None:
    assert linted(octets, "header_lines") == ["fail"]
    try:
        assert b"DKIM-Signature" in Message.from_octets(octets).sign(PEM, "s1", "ours.example").octets
    except InvalidInput as why:
        assert "header_lines" in str(why)  # noqa: PT017 - some can be signed


def test_praise_and_a_shared_provider_accuse_nobody() -> None:
    white = "list.dnswl.org"
    lists = {reverse("127.0.0.2", name): {"A": ["127.0.0.2"]} for name in (ZEN, white)}
    lists |= {reverse(IP, white): {"A": ["127.0.10.3"]}}
    assert "Listed in none" in checks.joined(
        dnsbl.lookup(IP, FakeNetwork(lists), [ZEN, white]), rounds(4, 3, only(2))
    )
    hosted = {name: {"MX": f"10 mx.{name}"} for name in ("one.example", "two.example")}
    hosted |= {f"mx.{name}": {"A": "203.0.113.25"} for name in ("one.example", "two.example")}
    mx = [{"name": "mx1.daum.example", "ips": "192.0.2.11"}]
    mx += [{"name": "in1.host.example", "ips": "203.0.113.25", "domains": "one.example"}]
    with sk.Lab({"domain": "daum.example", "mx": mx, "zone": hosted}) as lab:
        seen = sk.whoami(lab.network, controls=["one.example", "two.example"])
    assert seen[seen.check == "middlebox"].status.tolist() == ["unknown"]


def test_one_good_signature_is_enough_for_the_rules() -> None:
    good = signed(PLAIN.octets, "from")
    broken = good.split(b"\r\n")[0].replace(b"bh=", b"bh=AAAA", 1) + b"\r\n"
    network = FakeNetwork(OURS | {"ours.example": OURS["ours.example"] | {"TXT": [f"v=spf1 ip4:{IP} -all"]}})
    asked = {"ip": IP, "helo": "mx.ours.example", "message": broken + good}
    frame = checks.preflight("ours.example", network=network, **asked)
    both = frame[frame.subject.str.contains("SPF and DKIM pass")]
    assert len(both) > 0
    assert set(both.status) == {"pass"}


def test_a_letter_within_the_letter_is_neither_clipped_nor_shown() -> None:
    inner = (
        b"From: x@y.example\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<img src='cid:gone' alt=''>"
        + b"x\r\n" * 40000
    )
    octets = b"From: a@ours.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=B\r\n\r\n"
    octets += b"--B\r\n\r\nsee\r\n"
    octets += (
        b"--B\r\nContent-Type: message/rfc822\r\nContent-Disposition: attachment\r\n\r\n" + inner + b"\r\n--B--\r\n"
    )
    assert linted(octets, "gmail_clipping", "images") == ["pass", "pass"]


@pytest.mark.parametrize("name", ["*.example", "a b.example", "xn--.example", "[198.51.100.7]", "x\n.example"])
def test_a_ptr_name_may_be_any_text(name: str) -> None:
    found = told(None, {reverse(IP, "in-addr.arpa"): {"PTR": [name]}, name: {"A": [IP]}}, helo=None)
    assert found["helo"] == "fail"
    assert "dnsbl" in found


NAMES = {
    "one digit often": ("198.51.100.1", "mx1.dc1.zone1.example", "pass"),
    "two numbers of a fleet": ("198.51.100.35", "a8-35.smtp-out.esp.example", "pass"),
    "a firm called so": (IP, "mail.customink.example", "pass"),
    "another": (IP, "mail.dynatrace.example", "pass"),
    "a pool": (IP, "pool-7.isp.example", "warn"),
    "dynamic": (IP, "dyn7.isp.example", "warn"),
    "made of the address": (IP, "198-51-100-7.isp.example", "warn"),
}


@pytest.mark.parametrize(("ip", "name", "status"), NAMES.values(), ids=NAMES)
def test_a_name_is_generic_by_its_own_part(ip: str, name: str, status: str) -> None:
    more = {reverse(ip, "in-addr.arpa"): {"PTR": [name]}, name: {"A": [ip]}}
    assert told(None, more, ip=ip)["ptr"] == status


@pytest.mark.parametrize(
    "text", ["(" * 200_000 + ")" * 200_000, "()" * 200_000, "," * 400_000], ids=["deep", "many", "commas"]
)
def test_a_hostile_from_ends(text: str) -> None:
    assert linted(f"From: a@ours.example {text}\r\n\r\n".encode(), "from") in (["pass"], ["fail"])


KOREAN = {
    "Subject": "<한국> 소식", "X-Campaign": "봄 <세일>", "List-Help": "<mailto:h@ours.example> (도움말)",
    "List-Id": "소식 <news.ours.example>", "Comments": "1<2 한국 3>2",
}  # fmt: skip


@pytest.mark.parametrize("name", KOREAN)
def test_words_in_angle_brackets_are_words(name: str) -> None:
    headers, subject = ({}, KOREAN[name]) if name == "Subject" else ({name: KOREAN[name]}, "s")
    made = build_message(sender="a@ours.example", to="r@x.example", text="hi", subject=subject, headers=headers)
    assert KOREAN[name] in dict(Reading(made.octets).fields)[name.lower()]


def test_an_empty_bcc_hides_nobody() -> None:
    octets = PLAIN.octets.replace(b"Subject:", b"Bcc: \r\nSubject:")
    assert linted(octets, "hidden") == ["pass"]
    with sk.Lab("healthy") as lab:
        assert len(sk.send(octets, lab.recipient, sender=lab.sender, live=False, network=lab.network)) == 1


@pytest.mark.parametrize(("sign", "status"), [("", "fail"), ("-", "pass"), ("?", "pass")])
def test_an_include_opens_the_door_only_as_it_matches(sign: str, status: str) -> None:
    more = {
        "x.example": {"TXT": ["v=spf1 +all"]},
        "ours.example": {"TXT": [f"v=spf1 {sign}include:x.example ~all"]},
    }
    assert told(None, more)["spf_record"] == status


def test_a_list_that_lists_ipv6_knows_it() -> None:
    zone = {reverse("127.0.0.2", ZEN): {"A": ["127.0.0.2"]}, reverse("2001:db8::7", ZEN): LISTED}
    assert dnsbl.lookup("2001:db8::7", FakeNetwork(zone), [ZEN]).state.tolist() == ["listed"]


@pytest.mark.parametrize(
    "name",
    "ec2-198-51-100-7.ap-northeast-2.compute.amazonaws.com pppoe-7.isp.example dynip-7.isp.example "
    "x.pools.isp.example dslb-7.isp.example cablemodem7.isp.example ip7.ip-198-51-100.isp.example "
    "198x51x100x7.isp.example 7.red-198-51-100.isp.example host7-100.51.isp.example".split(),
)
def test_names_of_home_lines_and_clouds_are_generic(name: str) -> None:
    more = {reverse(IP, "in-addr.arpa"): {"PTR": [name]}, name: {"A": [IP]}}
    assert told(None, more)["ptr"] == "warn"


NOBODYS = {
    "three hosts without AAAA": ("v=spf1 a mx a:mail.ours.example -all", "pass", "for others by IPv6"),
    "nobody has no PTR name": ("v=spf1 a mx ptr -all", "warn", "ptr -all"),
    "a record for each address": ("v=spf1 include:%{ir}.%{d}.has.example ~all", "pass", "depends on the message"),
    "lists of addresses": (
        "v=spf1 exists:%{i}.a.example exists:%{i}.b.example exists:%{i}.c.example ~all",
        "pass",
        "",
    ),
    "a redirect to nothing beside one": (
        "v=spf1 exists:%{i}.a.example redirect=none.example",
        "fail",
        "IPv4 and IPv6",
    ),
    "three names that are not there": ("v=spf1 a:x.example a:y.example a:z.example -all", "fail", "IPv4 and IPv6"),
}


@pytest.mark.parametrize(("record", "status", "evidence"), NOBODYS.values(), ids=NOBODYS)
def test_what_one_family_or_one_address_meets_is_no_fault_of_the_record(
    record: str, status: str, evidence: str
) -> None:
    hosts: dict[str, Any] = {name: {"A": [IP]} for name in ("mx.ours.example", "mail.ours.example")}
    own = {"A": [IP], "MX": ["10 mx.ours.example"], "TXT": [record]}
    frame = checks.preflight("ours.example", ip=IP, network=FakeNetwork(hosts | {"ours.example": own}))
    row = frame[frame.check == "spf_record"].iloc[0]
    assert row.status == status
    assert evidence in row.evidence


@pytest.mark.parametrize(
    "name", ["'news@ours.example'", "[news@ours.example]", "Kim@Home", "@Shop", "news@ours.example:"]
)
def test_a_display_name_with_an_at_is_no_second_domain(name: str) -> None:
    assert Reading(f"From: {name} <news@ours.example>\r\n\r\n".encode()).domain() == "ours.example"


def test_a_date_of_utc_by_one_letter_has_a_zone() -> None:
    found = {check: bad for check, bad, *_ in Reading(b"Date: Sat, 28 Nov 2026 09:14:00 Z\r\n\r\n").found()}
    assert not found["date"]
