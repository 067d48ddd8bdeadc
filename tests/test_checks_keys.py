"""checks.dmarc: DKIM key records and signatures, with keys made here."""

import base64
from functools import cache

import pytest
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from smtpkit.checks import dmarc
from smtpkit.checks.found import Sender
from smtpkit.message import Message, build_message
from smtpkit.network import Answer
from tests.fake_network import FakeNetwork


@cache
def key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def public(private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    form = ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(private.public_key().public_bytes(*form)).decode()


ED = ed25519.Ed25519PrivateKey.generate()
ED_PUBLIC = base64.b64encode(ED.public_key().public_bytes_raw()).decode()


@pytest.mark.parametrize(
    ("record", "finding"),
    [
        pytest.param(f"v=DKIM1; k=rsa; p={public(key(2048))}", "ok", id="rsa"),
        pytest.param(f"p={public(key(2048))[:40]} {public(key(2048))[40:]}", "ok", id="folded, no v, no k"),
        pytest.param(f"v=DKIM1; k=ed25519; p={ED_PUBLIC}", "ok", id="ed25519"),
        pytest.param(f"v=DKIM1; t=s:y; p={public(key(2048))}", "test", id="test"),
        pytest.param(f"v=DKIM1; p={public(key(1024))}", "short", id="1024"),
        pytest.param("v=DKIM1; p=", "revoked", id="revoked"),
        pytest.param("v=DKIM1; k=rsa", "broken", id="no p"),
        pytest.param(f"v=DKIM2; p={public(key(2048))}", "broken", id="version"),
        pytest.param(f"v=DKIM1; p={public(key(2048))[:-30]}", "broken", id="cut"),
        pytest.param("v=DKIM1; p=***", "broken", id="not base64"),
        pytest.param(f"v=DKIM1; k=ed25519; p={public(key(2048))}", "broken", id="kind"),
        pytest.param(f"v=DKIM1; p={public(ec.generate_private_key(ec.SECP256R1()))}", "broken", id="curve"),
        pytest.param(f"v=DKIM1; k=sm2; p={ED_PUBLIC}", "broken", id="unknown kind"),
    ],
)
def test_a_key_record_is_judged(record: str, finding: str) -> None:
    assert dmarc.key(Answer("ok", (record,)))[0] == finding


def test_a_key_of_768_bits_is_weak() -> None:
    spki = (  # made once by openssl genrsa 768; the library here makes none so short
        "MHwwDQYJKoZIhvcNAQEBBQADawAwaAJhAMI3bcNPwMpDpVgnqFGOiCkBYQ4hMVTHX6bbzNHZKa1BHhJWHvNeqAfKfPQR"
    )
    assert dmarc.key(Answer("ok", (f"v=DKIM1; p={spki}",)))[0] == "broken", "cut short on purpose"


@pytest.mark.parametrize(
    ("answer", "finding"),
    [
        (Answer("nxdomain"), "missing"),
        (Answer("nodata"), "missing"),
        (Answer("servfail"), "unreadable"),
        (Answer("timeout"), "unreadable"),
        (Answer("ok", ("v=DKIM1; p=", "v=DKIM1; p=")), "broken"),
    ],
)
def test_no_answer_is_not_no_key(answer: Answer, finding: str) -> None:
    assert dmarc.key(answer)[0] == finding


def signed(bits: int = 2048) -> Message:
    plain = build_message(sender="a@ours.example", to="r@daum.example", subject="안녕", text="hi")
    return plain.sign(ED, "e", "ours.example").sign(key(bits), "r", "ours.example")


def network(**more: object) -> FakeNetwork:
    told: dict[str, object] = {
        "r._domainkey.ours.example": {"TXT": [f"v=DKIM1; p={public(key(2048))}"]},
        "e._domainkey.ours.example": {"TXT": [f"v=DKIM1; k=ed25519; p={ED_PUBLIC}"]},
    }
    return FakeNetwork({**told, **{f"{name}._domainkey.ours.example": value for name, value in more.items()}})


def results(octets: bytes, **more: object) -> dict[str, str]:
    return {selector: result for _, selector, result, _ in dmarc.verify(octets, network(**more))}


def test_signatures_verify_with_keys_from_the_network() -> None:
    assert results(signed().octets) == {"r": "pass", "e": "pass"}


def test_a_changed_body_fails_and_a_dead_key_is_unknown() -> None:
    octets = signed().octets
    assert results(octets.replace(b"\r\n\r\nhi", b"\r\n\r\nho")) == {"r": "fail", "e": "fail"}
    assert results(octets, r="servfail", e={"TXT": "timeout"}) == {"r": "unknown", "e": "unknown"}
    assert results(octets, r="nxdomain", e={"TXT": ["v=DKIM1; p="]}) == {"r": "unfit", "e": "unfit"}
    assert results(octets, r={"TXT": ["\udcff p=\x00; =;"]}, e={"TXT": [""]}) == {"r": "unfit", "e": "unfit"}


@pytest.mark.parametrize(
    "field",
    [b"DKIM-Signature: x", b"DKIM-Signature: v=1; d=ours.example; s=r", b"DKIM-Signature:\xff\x00=;;"],
)
def test_a_signature_that_is_none_fails_and_raises_nothing(field: bytes) -> None:
    ((_, _, result, _),) = dmarc.verify(field + b"\r\nFrom: a@ours.example\r\n\r\n", network())
    assert result == "unfit"


def rows(**more: object) -> list[tuple[str, str]]:
    found = dmarc.rows(Sender("ours.example", network(), **more))  # type: ignore[arg-type]  # of Sender
    return [(row.check, row.status) for row in found if row.check.startswith("dkim")]


def test_rows_ask_the_message_and_not_the_domain() -> None:
    assert rows() == [("dkim_key", "unknown")]
    assert rows(selector="gone") == [("dkim_key", "fail")]
    assert rows(octets=signed().octets) == [("dkim_key", "pass")] * 2 + [("dkim", "pass")] * 2
    assert rows(octets=b"From: a@ours.example\r\n\r\n") == [("dkim_key", "unknown"), ("dkim", "fail")]
