"""checks.transport: MTA-STS with its policy over real HTTPS on loopback, TLS-RPT, TLSA."""

import smtplib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256, sha512
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import smtpkit as sk
from smtpkit.checks import transport
from smtpkit.checks.found import Row, Sender
from tests import certs
from tests.fake_network import FakeNetwork

POLICY = "version: STSv1\nmode: enforce\nmx: mx1.ours.example\nmx: *.mx.ours.example\nmax_age: 604800\n"
HOST = "mta-sts.ours.example"
DIGEST = "ab" * 32


def zone(**more: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "ours.example": {"MX": ["10 mx1.ours.example", "20 a.mx.ours.example"]},
        "mx1.ours.example": {"A": ["192.0.2.11"]},
        "a.mx.ours.example": {"A": ["192.0.2.12"], "AAAA": ["2001:db8::12"]},
        "_mta-sts.ours.example": {"TXT": ["v=STSv1; id=20261124"]},
        "_smtp._tls.ours.example": {"TXT": ["v=TLSRPTv1; rua=mailto:tls@ours.example"]},
        HOST: {"A": ["192.0.2.80"]},
    }
    return told | {name.replace("__", "."): value for name, value in more.items()}


class Site(BaseHTTPRequestHandler):
    """Serves `page` with `status`."""

    page: ClassVar[str] = POLICY
    status: ClassVar[int] = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/.well-known/mta-sts.txt" else 404)
        self.send_header("Location", "https://elsewhere.example/")
        self.end_headers()
        self.wfile.write(self.page.encode())

    def log_message(self, *_: Any) -> None:
        """Keep the test's output clean."""


class Web(FakeNetwork):
    """A FakeNetwork whose port 443 is a server on loopback."""

    port = 0

    def open(self, ip: str, port: int) -> socket.socket:
        assert (ip, port) == ("192.0.2.80", 443)
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", self.port))
        return sock


@contextmanager
def served(at: Path, name: str = HOST, page: str = POLICY, status: int = 200) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs.make(at, name) / "good.pem")
    handler = type("Handler", (Site,), {"page": page, "status": status})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a refused handshake is the test
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def sts(network: FakeNetwork) -> Row:
    who = Sender("ours.example", network, mail_from="ours.example")
    return next(row for row in transport.rows(who) if row.check == "mta_sts")


@pytest.mark.parametrize(
    ("page", "status", "result", "words"),
    [
        pytest.param(POLICY, 200, "pass", "v=STSv1; id=20261124; version: STSv1 / mode: enforce", id="good"),
        pytest.param(POLICY.replace("\n", "\r\n"), 200, "pass", "enforce", id="crlf"),
        pytest.param(POLICY.replace("enforce", "testing"), 200, "warn", "testing", id="testing"),
        pytest.param("version: STSv1\nmode: none\nmax_age: 60\n", 200, "warn", "none", id="off"),
        pytest.param(POLICY.replace("*.mx", "*.mail"), 200, "fail", "*.mail", id="mismatch"),
        pytest.param(POLICY.replace("*.mx.ours", "*.ours"), 200, "fail", "*.ours", id="one label only"),
        pytest.param(POLICY.replace("604800", "99999999"), 200, "fail", "99999999", id="age"),
        pytest.param(POLICY.replace("enforce", "force"), 200, "fail", "force", id="mode"),
        pytest.param("<html>", 200, "fail", "<html>", id="html"),
        pytest.param(POLICY, 301, "fail", "answers 301", id="redirect"),
        pytest.param(POLICY, 404, "fail", "answers 404", id="not found"),
    ],
)
def test_the_policy_is_fetched_and_read(
    page: str, status: int, result: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path, page=page, status=status) as port:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        row = sts(Web(zone(), port=port))
    assert (row.status, words in row.evidence) == (result, True), row


def test_a_certificate_of_another_name_is_no_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(tmp_path, name="www.ours.example") as port:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        wrong = sts(Web(zone(), port=port))
        monkeypatch.delenv("SSL_CERT_FILE")
        untrusted = sts(Web(zone(), port=port))
    assert wrong.status == untrusted.status == "fail"
    assert "Hostname mismatch" in wrong.evidence
    assert "certificate verify failed" in untrusted.evidence


def test_a_dead_web_server_is_no_policy_and_a_network_that_opens_nothing_unknown() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert sts(Web(zone(), port=free.getsockname()[1])).status == "fail"
    assert sts(FakeNetwork(zone())).status == "unknown"
    assert sts(FakeNetwork(zone() | {HOST: "timeout"})).status == "unknown"
    assert sts(FakeNetwork(zone() | {HOST: {"TXT": ["x"]}})).status == "fail"


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ("nxdomain", "warn"),
        ("servfail", "unknown"),
        ({"TXT": ["v=STSv1"]}, "fail"),
        ({"TXT": ["v=STSv1; id=a b"]}, "fail"),
        ({"TXT": ["v=STSv1; id=1", "v=STSv1; id=2"]}, "fail"),
        ({"TXT": ["v=spf1 -all"]}, "warn"),
    ],
)
def test_the_mta_sts_record(told: Any, status: str) -> None:
    assert sts(FakeNetwork(zone() | {"_mta-sts.ours.example": told})).status == status


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({"TXT": ["v=TLSRPTv1; rua=mailto:tls@ours.example"]}, "pass"),
        ({"TXT": ["v=TLSRPTv1;rua=https://r.ours.example/tls"]}, "pass"),
        ({"TXT": ["v=TLSRPTv1; rua=tls@ours.example"]}, "fail"),
        ({"TXT": ["v=TLSRPTv1"]}, "fail"),
        ("nxdomain", "warn"),
        ("timeout", "unknown"),
    ],
)
def test_the_tls_rpt_record(told: Any, status: str) -> None:
    who = Sender("ours.example", FakeNetwork(zone() | {"_smtp._tls.ours.example": told}))
    assert next(row for row in transport.rows(who) if row.check == "tls_rpt").status == status


NAME = "_25._tcp.mx1.ours.example"
SECURE = ("ours.example", "mx1.ours.example", NAME)


def tlsa(network: FakeNetwork) -> Row:
    """The row of the first MX host."""
    rows = [row for row in transport.rows(Sender("ours.example", network)) if row.check == "tlsa"]
    assert [row.subject for row in rows] == [NAME, "_25._tcp.a.mx.ours.example"]
    return rows[0]


@pytest.mark.parametrize(
    ("told", "secure", "status"),
    [
        pytest.param({"TLSA": [f"3 1 1 {DIGEST}"]}, (), "unknown", id="no AD"),
        pytest.param({"TLSA": [f"3 1 1 {DIGEST}"]}, SECURE[1:], "unknown", id="MX not signed"),
        pytest.param({"TLSA": [f"3 1 1 {DIGEST}"]}, SECURE[::2], "unknown", id="address not signed"),
        pytest.param({"TLSA": [f"1 1 1 {DIGEST}"]}, SECURE, "fail", id="usage 1"),
        pytest.param({"TLSA": [f"3 1 1 {DIGEST[:-2]}"]}, SECURE, "fail", id="short digest"),
        pytest.param({"TLSA": ["3 1 9 abcd"]}, SECURE, "fail", id="unknown digest"),
        pytest.param("nxdomain", SECURE, "warn", id="none"),
        pytest.param("servfail", SECURE, "unknown", id="broken DNSSEC"),
    ],
)
def test_tlsa_counts_only_where_everything_is_signed(told: Any, secure: Any, status: str) -> None:
    row = tlsa(FakeNetwork(zone() | {NAME: told}, secure=secure))
    assert row.status == status, row


@pytest.fixture(scope="module")
def lab() -> Iterator[sk.Lab]:
    """Its MX at 192.0.2.11 offers STARTTLS."""
    with sk.Lab("healthy") as lab:
        yield lab


def live(lab: sk.Lab, *records: str, ip: str = "192.0.2.11") -> Row:
    """The row for MX hosts that are the lab's, in a zone that is signed."""
    names = ("open", "where", "guard", "pace", "timeouts", "casebook", "ledger")
    more = {name: getattr(lab.network, name) for name in names}
    told = zone() | {NAME: {"TLSA": records}, "mx1.ours.example": {"A": [ip]}}
    return tlsa(FakeNetwork(told, secure=SECURE, helo="mail.ours.example", **more))


@pytest.fixture(scope="module")
def leaf(lab: sk.Lab) -> x509.Certificate:
    """The certificate of that MX, as smtplib sees it."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP(*lab.network.where("192.0.2.11", 25)) as server:
        server.starttls(context=context)
        return x509.load_der_x509_certificate(server.sock.getpeercert(True))  # type: ignore[union-attr]  # it speaks TLS now


@pytest.mark.parametrize("record", ["3 1 1", "3 0 1", "3 1 2", "3 0 2", "3 1 0"])
def test_tlsa_is_held_against_the_certificate_shown(record: str, lab: sk.Lab, leaf: x509.Certificate) -> None:
    _, selector, kind = record.split()
    octets = leaf.public_bytes(Encoding.DER)
    if selector == "1":
        octets = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    seen = {"0": octets, "1": sha256(octets).digest(), "2": sha512(octets).digest()}[kind].hex()
    row = live(lab, f"3 1 1 {DIGEST}", f"{record} {seen[:20]} {seen[20:].upper()}")
    assert (row.status, row.evidence[-21:]) == ("pass", "; AD; 192.0.2.11 fits"), row


def test_another_certificate_is_a_failure_and_none_seen_is_unknown(lab: sk.Lab) -> None:
    row = live(lab, f"3 1 1 {DIGEST}")
    assert (row.status, row.evidence) == ("fail", f"3 1 1 {DIGEST}; AD; 192.0.2.11 shows none that fits")
    dead = live(lab, f"3 1 1 {DIGEST}", ip="192.0.2.99")
    assert (dead.status, "192.0.2.99 not checked: no certificate was seen (" in dead.evidence) == (
        "unknown",
        True,
    )


def test_an_mx_without_starttls_cannot_fit(lab: sk.Lab) -> None:
    with sk.Lab(
        {"domain": "daum.example", "mx": [{"name": "mx1.daum.example", "ips": "192.0.2.11", "tls": "none"}]}
    ) as bare:
        row = live(bare, f"3 1 1 {DIGEST}")
    assert (row.status, row.evidence[-20:]) == ("fail", "shows none that fits"), row
