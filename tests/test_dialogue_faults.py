"""What readers of the dialogue proved: servers that ended our run, rows that blamed or thanked the wrong one."""

import base64
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL

import smtpkit as sk
from smtpkit.campaign import Ledger
from smtpkit.errors import InvalidInput
from smtpkit.mx import MxHost, MxRoute
from smtpkit.network import internet
from tests import certs
from tests.fake_network import FakeNetwork
from tests.faultserver import CLOSE, NAME, FaultServer, Script, Wait, offers

ME, A, B = "me@ours.example", "a@fault.example", "b@fault.example"
MSG = sk.build_message(sender=ME, to=A, subject="x", text="hi")


@pytest.fixture
def net(tmp_path: Path) -> Callable[..., Any]:
    def made(**more: Any) -> Any:
        usual = {"allow_networks": ["127.0.0.0/8"], "pace": sk.Pace.none(), "helo": "c.ours.example"}
        usual |= {
            "casebook": tmp_path / "c.sqlite",
            "ledger": tmp_path / "l.sqlite",
            "guard": sk.Guard(allow_to=["*"]),
        }
        usual["timeouts"] = sk.Timeouts(reply=5, final=5, quit=1)
        return internet(**(usual | more))

    return made


def sent(net: Any, server: FaultServer, *to: str, **more: Any) -> pd.DataFrame:
    return sk.send(MSG, to or A, live=True, server=server.address, server_name=NAME, network=net, **more)


def asked(net: Any, script: Script, to: str | None = A, **more: Any) -> tuple[pd.DataFrame, bytes]:
    with FaultServer(script) as server:
        where = {"server": server.address, "server_name": NAME, "network": net} | more
        made = sk.probe("fault.example", to, ME if to else None, rounds=1, **where)
        return made, b"".join(bytes(one.clear) for one in server.settled())


class TlsServer:
    """One session after STARTTLS, on OpenSSL itself: `say` may add octets that are no TLS to the same segment."""

    def __init__(self, pem: Path, play: Callable[["TlsServer"], None]) -> None:
        self.play, self.listener = play, socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")  # it may show a weak key
        context.use_certificate_file(str(pem))
        context.use_privatekey_file(str(pem))
        self.link = SSL.Connection(context, None)
        self.link.set_accept_state()
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        self.sock, _ = self.listener.accept()
        with self.listener, self.sock, suppress(SSL.Error, OSError):
            self.sock.settimeout(10)
            for reply in (f"220 {NAME}", f"250-{NAME}\r\n250 STARTTLS", "220 go"):
                self.sock.sendall(f"{reply}\r\n".encode())
                if reply != "220 go":
                    self.sock.recv(4096)
            self.until(self.link.do_handshake)
            self.play(self)

    def until(self, act: Callable[[], Any]) -> Any:
        while True:
            with suppress(SSL.WantReadError):
                return act()
            self.flush()
            self.link.bio_write(self.sock.recv(65536) or b"\x15\x03\x03")

    def flush(self, more: bytes = b"") -> None:
        with suppress(SSL.WantReadError):
            while True:
                self.sock.sendall(self.link.bio_read(65536))
        self.sock.sendall(more)

    def hear(self, end: bytes = b"\r\n") -> bytes:
        got = b""
        while not got.endswith(end):
            got += self.until(lambda: self.link.recv(65536))
        return got

    def say(self, *lines: bytes, more: bytes = b"") -> None:
        octets = b""
        self.link.send(b"".join(line + b"\r\n" for line in lines))
        with suppress(SSL.WantReadError):
            while True:
                octets += self.link.bio_read(65536)
        self.sock.sendall(octets + more)


def good() -> Path:
    return certs.kept(NAME) / "good.pem"


def named_oddly(folder: Path) -> Path:
    """The good certificate with a subject that no PrintableString may hold; the signature is wrong then, too."""
    pem = good().read_bytes()
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    head = der.index(b"\x0c\x11smtpkit test good", der.index(b"smtpkit test ca"))
    odd = der[:head] + b"\x13\x11*mtpkit_test_good" + der[head + 19 :]
    text = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(odd) + b"-----END CERTIFICATE-----\n"
    (folder / "odd.pem").write_bytes(text + pem[pem.index(b"-----BEGIN PRIVATE") :])
    return folder / "odd.pem"


def bye(server: TlsServer) -> None:
    server.hear()
    server.say(f"250 {NAME}".encode())
    server.hear()
    server.say(b"221 bye")


@pytest.mark.parametrize(("tls", "outcome"), [("may", "passed"), ("verify", "failed")])
def test_a_certificate_that_cannot_be_read_ends_nothing_but_is_not_good(
    net: Any, tmp_path: Path, tls: str, outcome: str
) -> None:
    server = TlsServer(named_oddly(tmp_path), bye)
    (row,) = sk.probe("fault.example", rounds=1, server=server.address, network=net(), tls=tls).itertuples()
    assert (row.outcome, row.tls_verified) == (outcome, False)
    assert row.tls_problem


def test_a_weak_key_is_told_in_words(net: Any, tmp_path: Path) -> None:
    root, key = certs._root("ca"), rsa.generate_private_key(65537, 1024)
    leaf = certs._sign(key, "weak", NAME, (-1, 9), root)  # type: ignore[arg-type]  # there are EC keys else
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "weak.pem").write_bytes(leaf.public_bytes(Encoding.PEM) + secret)
    (tmp_path / "ca.pem").write_bytes(root[1].public_bytes(Encoding.PEM))
    server = TlsServer(tmp_path / "weak.pem", bye)
    where = {"server": server.address, "server_name": NAME, "ca_file": tmp_path / "ca.pem", "network": net()}
    (row,) = sk.probe("fault.example", rounds=1, **where).itertuples()
    assert (row.outcome, row.tls_verified, row.tls_problem) == ("passed", False, "key too weak (depth 0)")


def test_what_tls_died_of_is_told_though_the_certificate_was_good(net: Any) -> None:
    """So of a server that wants our certificate, by TLS 1.3: it says so after the handshake."""

    def clear(server: TlsServer) -> None:
        server.hear()
        server.sock.sendall(b"250 in clear\r\n")

    server, ca = TlsServer(good(), clear), certs.kept(NAME) / "ca.pem"
    where = {"server": server.address, "server_name": NAME, "ca_file": ca, "network": net()}
    (row,) = sk.probe("fault.example", rounds=1, **where).itertuples()
    assert (row.outcome, row.error, row.tls_verified) == ("failed", "lost", True)
    assert "wrong version number" in row.tls_problem


def test_a_new_handshake_in_mid_session_is_a_row(net: Any) -> None:
    def play(server: TlsServer) -> None:
        server.hear()
        server.link.send(b"250-mx\r\n250 8BITMIME\r\n")
        server.link.renegotiate()
        with suppress(SSL.WantReadError):
            server.link.do_handshake()
        server.flush()
        server.sock.recv(65536)

    server = TlsServer(good(), play)
    made = sk.probe("fault.example", A, ME, rounds=1, server=server.address, network=net())
    assert made[["outcome", "error"]].values.tolist() == [["failed", "lost"]]


def test_a_reply_before_a_broken_record_is_the_reply(net: Any) -> None:
    def play(server: TlsServer) -> None:
        for reply in (f"250 {NAME}", "250 ok", "250 ok", "354 go"):
            server.hear()
            server.say(reply.encode())
        server.hear(b"\r\n.\r\n")
        server.say(b"250 2.0.0 Ok: queued as ABCDEF12", more=b"\x15\x03\x03\x00\x02\x02\x50")

    made = sent(net(), TlsServer(good(), play))  # type: ignore[arg-type]  # it has an address, too
    assert made[["outcome", "code"]].values.tolist() == [["accepted", 250]]


def test_what_was_sent_with_again_is_not_sent_twice_by_a_plain_send(net: Any) -> None:
    with FaultServer({}) as server:
        said = [sent(net(), server, again=again).outcome[0] for again in (True, False, True)]
        assert said == ["accepted", "withheld", "accepted"]
        assert sum(bool(one.body) for one in server.settled()) == 2


PIPES = {"ehlo": offers("PIPELINING")}
REFUSED, TOO_MANY = b"550 5.1.1 No such user\r\n", (b"421 4.7.0 Too many errors\r\n", CLOSE)
LATER: dict[str, tuple[Script, list[list[Any]]]] = {
    "421 at the second": ({f"rcpt <{B}>": TOO_MANY}, [["rcpt", "rejected", 550], ["rcpt", "deferred", 421]]),
    "421, pipelined": (
        PIPES | {f"rcpt <{B}>": TOO_MANY}, [["rcpt", "rejected", 550], ["rcpt", "deferred", 421]]
    ),
    "lost at DATA, pipelined": (
        {"ehlo": offers("PIPELINING"), "data": CLOSE}, [["rcpt", "rejected", 550], ["data", "failed", None]]
    ),
    "421 after a refused MAIL, pipelined": (
        {"ehlo": offers("PIPELINING"), "mail": b"550 5.7.1 no\r\n", f"rcpt <{A}>": TOO_MANY},
        [["mail", "rejected", 550], ["mail", "rejected", 550]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LATER)
def test_a_recipient_keeps_its_own_refusal_whatever_comes_later(name: str, net: Any) -> None:
    script, told = LATER[name]
    with FaultServer({f"rcpt <{A}>": REFUSED, **script}) as server:
        made = sent(net(), server, A, B)[["stage", "outcome", "code"]].astype(object)
    assert made.where(made.notna(), None).values.tolist() == told


def test_a_421_that_comes_unasked_is_the_same_early_or_late(net: Any) -> None:
    banner, busy = b"220 mx.fault.example\r\n", b"421 4.7.0 too many connections from 198.51.100.7\r\n"
    early = {"banner": (banner + busy, CLOSE)}
    late = {"banner": (banner, Wait(0.2), busy, CLOSE)}
    rows = [asked(net(), script, None)[0].iloc[0] for script in (early, late)]
    assert [(row.outcome, row.code, row.reason) for row in rows] == [("deferred", 421, "rate_limited")] * 2


def test_not_offered_is_tls_only_where_tls_was_not(net: Any) -> None:
    with FaultServer({"ehlo": offers("SIZE 10")}) as server:
        small = sent(net(), server)
    none = asked(net(), {}, tls="require")[0]
    assert [one.error[0] for one in (small, none)] == ["not_offered"] * 2
    assert (pd.isna(small.reason[0]), none.reason[0]) == (True, "tls")


@pytest.mark.parametrize("mx", ["refuses the connection", "greylists"])
def test_the_next_mx_is_asked_within_max_messages(mx: str, net: Any) -> None:
    hosts = [MxHost(f"mx{n}.fault.example", 10 * n, (f"127.0.0.{n}",)) for n in (1, 2)]
    route, grey = MxRoute("fault.example", "mx", tuple(hosts)), {"rcpt": b"451 4.7.1 Greylisted, try again\r\n"}
    with FaultServer(grey, ip="127.0.0.1") as first, FaultServer({}, ip="127.0.0.2") as second:
        ways = {("127.0.0.1", 25): first.address if mx == "greylists" else ("127.0.0.1", 1)}
        one = net(
            reroute=ways | {("127.0.0.2", 25): second.address}, guard=sk.Guard(allow_to=["*"], max_messages=1)
        )
        assert sk.send(MSG, live=True, domain=route, network=one).outcome.iloc[-1] == "accepted"


def test_the_receiver_s_own_back_end_is_not_our_address(net: Any) -> None:
    said = b"550 5.1.1 <a@fault.example>: host store.fault.example[10.0.0.5] said: 550 5.1.1 unknown\r\n"
    row = asked(net(), {"rcpt": said})[0].iloc[0]
    assert pd.isna(row.seen_ip)
    assert row.sender_ip != "10.0.0.5"


@pytest.mark.parametrize(("words", "outcome"), [(["SMTPUTF8", "8BITMIME"], "passed"), (["8BITMIME"], "failed")])
def test_a_probe_asks_for_smtputf8_or_says_that_it_is_not_offered(net: Any, words: list[str], outcome: str) -> None:
    made, wire = asked(net(), {"ehlo": offers(*words)}, "사람@fault.example", tls="off")
    assert made.outcome[0] == outcome
    assert wire.isascii() == (outcome == "failed")
    assert (b" SMTPUTF8" in wire) == (outcome == "passed")


def test_a_new_ledger_is_opened_by_many_at_once(tmp_path: Path) -> None:
    failed = list[BaseException]()

    def go(path: Path, start: threading.Barrier) -> None:
        start.wait()
        try:
            Ledger(path).close()
        except Exception as error:
            failed.append(error)

    for number in range(40):
        start = threading.Barrier(4)
        all_ = [threading.Thread(target=go, args=(tmp_path / f"{number}", start)) for _ in range(4)]
        for one in all_:
            one.start()
        for one in all_:
            one.join()
    assert failed == []


def test_an_address_has_one_pace_under_all_its_names(tmp_path: Path) -> None:
    ledger, pace = Ledger(tmp_path / "l.sqlite"), sk.Pace(ip_gap=20, rests=(60,))
    _, number = ledger.ask(pace, "daum.net", "192.0.2.1", 1000.0)
    assert number is not None
    ledger.end(number, 1001.0, refused=True, stop=False)
    assert ledger.ask(pace, "other.example", "192.0.2.1", 1002.0) == (59.0, None)
    assert ledger.ask(pace, "other.example", "192.0.2.2", 1002.0)[0] == 0.0
    ledger.close()


def test_a_lookup_that_failed_for_one_family_is_told() -> None:
    known = FakeNetwork(
        {
            "fault.example": {"MX": ["10 mx.fault.example"]},
            "mx.fault.example": {"AAAA": ["2001:db8::1"], "A": "servfail"},
        }
    )
    (host,) = sk.lookup_mx("fault.example", network=known).hosts
    assert (host.ips, host.error) == (("2001:db8::1",), "dns_servfail")


def test_an_authority_file_is_read_before_anything_is_said_and_anew(net: Any, tmp_path: Path) -> None:
    (path := tmp_path / "ca.pem").write_bytes(b"none")
    with FaultServer({"ehlo": offers("STARTTLS")}) as server:
        where = {"server": server.address, "server_name": NAME, "network": net(), "tls": "verify", "ca_file": path}
        with pytest.raises(InvalidInput, match=r"ca\.pem"):
            sk.probe("fault.example", rounds=1, **where)
        assert [bytes(one.clear) for one in server.settled()] == []
        path.write_bytes((certs.kept(NAME) / "ca.pem").read_bytes())
        assert sk.probe("fault.example", rounds=1, **where).outcome[0] == "passed"


def test_recipients_asked_at_once_wait_once(net: Any) -> None:
    slow = {"ehlo": offers("PIPELINING"), "mail": (Wait(0.3), b"250 ok\r\n")}
    with FaultServer(slow) as server:
        made = sent(net(), server, *[f"r{n}@fault.example" for n in range(6)])
    assert made.rcpt_s.max() < made.latency_s.max() < 1.5


@pytest.mark.slow
def test_what_another_run_serves_says_so(net: Any) -> None:
    with FaultServer({"data": (Wait(1), b"354 go\r\n")}) as server:
        first = sent(net(), server, A, background=True)
        while not any(b"DATA" in one.clear for one in server.sessions):
            pass
        late = sent(net(), server, A, B)
        assert first.wait().outcome[0] == "accepted"
    assert late.outcome.tolist() == ["withheld", "withheld"]
    assert late.why.str.startswith("another run serves one of these").all()


WRONG: dict[str, Callable[[], Any]] = {
    "rests as a number": lambda: sk.Pace(rests=60),  # type: ignore[arg-type]  the wrong type is the point
    "rests as text": lambda: sk.Pace(rests=("60",)),  # type: ignore[arg-type]  the wrong type is the point
    "asks as text": lambda: sk.Pace(asks_after_refusal="5"),  # type: ignore[arg-type]  the wrong type is the point
}


@pytest.mark.parametrize("name", WRONG)
def test_a_pace_that_would_break_a_run_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"^rests|^asks_after_refusal"):
        WRONG[name]()


def test_addresses_are_kept_as_they_are_written_elsewhere() -> None:
    made = internet(
        sender_ip="2001:DB8:0::7", reroute={("2001:DB8:0::1", 25): ("127.0.0.1", 2525)}, source_ip="127.0.0.1"
    )
    assert (made.sender_ip, made.where("2001:db8::1", 25)) == ("2001:db8::7", ("127.0.0.1", 2525))
    assert internet(source_ip="192.168.1.5").sender_ip is None
    assert internet(source_ip="8.8.8.8").sender_ip == "8.8.8.8"
