"""What a sender's checks met: each of these said pass, or sent, where it must not."""

import base64

import dkim
import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

import smtpkit as sk
from smtpkit import checks
from smtpkit.address import Envelope, as_ip, helo_name, mailbox
from smtpkit.checks import dnsbl, transport
from smtpkit.errors import InvalidInput
from smtpkit.lint import Reading
from smtpkit.message import Message, build_message
from tests.fake_network import FakeNetwork

OURS = {"ip": "198.51.100.7", "helo": "mx.ours.example"}
EDWARDS, RSA = ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)
ED_P = base64.b64encode(EDWARDS.public_key().public_bytes(form.Encoding.Raw, form.PublicFormat.Raw)).decode()
RSA_P = base64.b64encode(
    RSA.public_key().public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)
).decode()
PEM = RSA.private_bytes(form.Encoding.PEM, form.PrivateFormat.TraditionalOpenSSL, form.NoEncryption())
PLAIN = build_message(sender="a@ours.example", to="r@x.example", subject="s", text="hi")


def zone(key: str) -> dict[str, dict[str, list[str]]]:
    return {
        "ours.example": {"TXT": ["v=spf1 -all"], "MX": ["10 mx.ours.example"], "SOA": ["x"]},
        "mx.ours.example": {"A": ["198.51.100.7"]},
        "_dmarc.ours.example": {"TXT": ["v=DMARC1; p=reject"]},
        "s1._domainkey.ours.example": {"TXT": [key]},
    }


def signed(algorithm: bytes = b"rsa-sha256", identity: bytes | None = None) -> bytes:
    how = {"signature_algorithm": algorithm, "identity": identity, "include_headers": [b"from"]}
    return dkim.sign(PLAIN.octets, b"s1", b"ours.example", PEM, **how) + PLAIN.octets


SIGNED = {
    "right": (signed(), f"v=DKIM1; k=rsa; p={RSA_P}", "pass"),
    "right, for email among others": (signed(), f"v=DKIM1; s=email:tlsrpt; k=rsa; p={RSA_P}", "pass"),
    "right, a hash that the key takes": (signed(), f"v=DKIM1; h=sha1:sha256; k=rsa; p={RSA_P}", "pass"),
    "SHA-1": (signed(b"rsa-sha1"), f"v=DKIM1; k=rsa; p={RSA_P}", "fail"),
    "a hash that the key does not take": (signed(), f"v=DKIM1; h=sha1; k=rsa; p={RSA_P}", "fail"),
    "t=s and a name below": (signed(identity=b"@sub.ours.example"), f"v=DKIM1; t=s; k=rsa; p={RSA_P}", "fail"),
    "a key for something else": (signed(), f"v=DKIM1; k=rsa; s=other; p={RSA_P}", "fail"),
}


@pytest.mark.parametrize(("octets", "key", "status"), SIGNED.values(), ids=SIGNED)
def test_a_signature_counts_as_a_receiver_counts_it(octets: bytes, key: str, status: str) -> None:
    found = checks.preflight("ours.example", message=octets, network=FakeNetwork(zone(key)), **OURS)
    told = found.set_index("check").status
    assert (told["dkim"], told["dmarc"]) == (status, status)


KEYS = {
    "another service": (f"v=DKIM1; k=rsa; s=other; p={RSA_P}", "fail"),
    "several services": (f"v=DKIM1; k=ed25519; s=email:tlsrpt; p={ED_P}", "pass"),
    "any service": (f"s=*; k=ed25519; p={ED_P}", "pass"),
}


@pytest.mark.parametrize(("key", "status"), KEYS.values(), ids=KEYS)
def test_a_key_says_whether_it_is_for_email(key: str, status: str) -> None:
    found = checks.preflight("ours.example", selector="s1", network=FakeNetwork(zone(key)), **OURS)
    assert found.set_index("check").status["dkim_key"] == status


@pytest.mark.parametrize("null", ["", "<>"])
def test_of_the_null_reverse_path_the_helo_name_counts(null: str) -> None:
    names = zone("") | {
        "ours.example": {"TXT": ["v=spf1 ip4:198.51.100.7 -all"], "MX": ["10 mx.ours.example"], "SOA": ["x"]},
        "relay.other.example": {"TXT": ["v=spf1 -all"], "A": ["198.51.100.7"]},
    }
    given = {"ip": "198.51.100.7", "helo": "relay.other.example", "network": FakeNetwork(names)}
    found = checks.preflight("ours.example", mail_from=null, message=PLAIN.octets, **given).set_index("check")
    assert "relay.other.example" in found.subject["spf"]
    assert (found.status["spf"], found.status["dmarc"]) == ("fail", "fail")


def test_a_list_of_domains_is_asked_for_the_registered_one() -> None:
    listed = {"bad.example.multi.surbl.org": {"A": ["127.0.0.64"]}, "test.multi.surbl.org": {"A": ["127.0.0.254"]}}
    for name in ("bad.example", "news.bad.example"):
        assert list(dnsbl.lookup(name, FakeNetwork(listed), ["multi.surbl.org"]).state) == ["listed"]


def test_an_empty_message_is_not_sent_and_a_header_that_differs_is_another_message() -> None:
    with sk.Lab("healthy") as lab:
        given = {"sender": lab.sender, "live": True, "network": lab.network}
        with pytest.raises(InvalidInput, match="empty"):
            sk.send(b"", lab.recipient, **given)
        for subject in ("one", "two"):
            octets = f"From: {lab.sender}\nSubject: {subject}\n\nhi\n".encode()
            assert list(sk.send(octets, lab.recipient, **given).outcome) == ["accepted"]


@pytest.mark.parametrize("text", ["a@[IPv6:fe80::1%x> AUTH=<me]", "a@[IPv6:fe80::1%eth0]"])
def test_a_zone_of_an_address_carries_nothing_onto_the_wire(text: str) -> None:
    with pytest.raises(InvalidInput):
        Envelope.of(text, ["r@x.example"])
    with pytest.raises(InvalidInput):
        helo_name(text[2:])
    with pytest.raises(InvalidInput):
        as_ip("fe80::1%x")


@pytest.mark.parametrize("local", ["संपर्क", "jose\u0301", "\U0001f44d", "사람", "สมชาย"])
def test_any_letter_and_mark_may_stand_in_a_local_part(local: str) -> None:
    assert mailbox(f"{local}@x.example") == f"{local}@x.example"


@pytest.mark.parametrize("local", ["a b", "a\u00a0b", "a\u3000b", "a..b", "a@b", "a\u202eb"])
def test_blanks_and_marks_that_turn_text_may_not(local: str) -> None:
    with pytest.raises(InvalidInput):
        mailbox(f"{local}@x.example")


FROMS = {
    "an address in a name": b"From: =?utf-8?b?6rmA7LKg7IiYIDxraW1AbGlzdC5leGFtcGxlPg==?= <a@ours.example>",
    "folded": b"From: Kim\r\n <a@ours.example>",
    "UTF-8": "From: 김 <a@ours.example>".encode(),
}


@pytest.mark.parametrize("head", FROMS.values(), ids=FROMS)
def test_from_is_parsed_before_it_is_decoded(head: bytes) -> None:
    assert Reading(head + b"\r\n\r\nhi\r\n").domain() == "ours.example"


def test_a_file_with_bare_lf_is_read_as_it_would_be_sent() -> None:
    octets = b"From: a@ours.example\nSubject: s\n\nhi\n\nFrom: b@quoted.example\nSubject: x\n"
    assert Reading(octets).domain() == Reading(Message.from_octets(octets).octets).domain() == "ours.example"
    assert Reading(octets).values("subject") == ["s"]


def test_an_mx_that_dns_withholds_is_no_verdict_on_the_policy() -> None:
    names = FakeNetwork({"ours.example": {"MX": "servfail"}})
    route = sk.lookup_mx("ours.example", names)
    text = "version: STSv1\nmode: {}\nmx: mx.else.example\nmax_age: 86400\n"
    assert route.status == "servfail"
    assert transport._policy(text.format("enforce"), route) == "unreadable"
    assert transport._policy(text.format("none") + "mode: enforce\n", route) == "off"
