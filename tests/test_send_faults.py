"""What a reader of sending, engine and network proved: copies too many, rows too few, blame for our own way."""

import os
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import smtpkit as sk
from smtpkit.mx import MxHost, MxRoute
from smtpkit.network import own_ip
from smtpkit.probing import our_helo
from tests.faultserver import CLOSE, SILENT, Acts, FaultServer, Script, Wait, offers

ME, A, B, C = "me@ours.example", "a@rcv.example", "b@rcv.example", "c@rcv.example"
IPS = ("192.0.2.1", "192.0.2.2")


def mail(to: Any = A, **more: Any) -> sk.Message:
    return sk.build_message(sender=ME, to=to, **({"subject": "x", "text": "hi"} | more))


def route(*ips: str, status: Any = "mx") -> MxRoute:
    hosts = [MxHost(f"mx{n}.rcv.example", 10 * n, (ip,), receiver="rcv.example") for n, ip in enumerate(ips, 1)]
    return MxRoute("rcv.example", status, tuple(hosts))


@pytest.fixture
def net(tmp_path: Path) -> Callable[..., Any]:
    def made(*servers: FaultServer, **more: Any) -> Any:
        ways = {(ip, 25): server.address for ip, server in zip(IPS, servers, strict=False)}
        usual = {
            "reroute": ways,
            "pace": sk.Pace.none(),
            "helo": "c.ours.example",
            "guard": sk.Guard(allow_to=["*"]),
        }
        usual |= {"casebook": tmp_path / "c.sqlite", "ledger": tmp_path / "l.sqlite"}
        return sk.internet(**(usual | {"timeouts": sk.Timeouts(reply=5, final=5, quit=1)} | more))

    return made


def bodies(server: FaultServer) -> int:
    return sum(bool(session.body) for session in server.settled())


def test_a_mailbox_at_an_address_literal_may_be_written_to(net: Callable[..., Any]) -> None:
    """RFC 5321 4.1.3: postmaster@[192.0.2.1] is how a server without a name is told."""
    with FaultServer({}) as server:
        (row,) = sk.send(mail("postmaster@[192.0.2.1]"), live=True, server=IPS[0], network=net(server)).itertuples()
        assert b"RCPT TO:<postmaster@[192.0.2.1]>" in bytes(server.settled()[0].clear)
    assert (row.outcome, row.domain, row.recipient_domain) == ("accepted", "[192.0.2.1]", "[192.0.2.1]")


# ---- what was sent is not sent again ----------------------------------------------------------------------------
Step = dict[str, Any]
TWICE: dict[str, tuple[list[Step], list[str]]] = {
    "a cell that builds its message anew": ([{}, {}], ["accepted", "withheld"]),
    "first one, then a copy to each": ([{}, {"mx": "each"}], ["accepted", "withheld"]),
    "a copy to each, then one": ([{"mx": "each"}, {}], ["accepted", "withheld"]),
    "again, then not": ([{}, {"again": True}, {}], ["accepted", "accepted", "withheld"]),
    "again and again": ([{}, {"again": True}, {"again": True}], ["accepted"] * 3),
    "another case": ([{}, {"case": "other"}], ["accepted"] * 2),
    "another subject": ([{}, {"message": mail(subject="y")}], ["accepted"] * 2),
    "another text": ([{}, {"message": mail(text="ho")}], ["accepted"] * 2),
    "another field": ([{}, {"message": mail(headers={"X-Test": "2"})}], ["accepted"] * 2),
    "another date only": ([{}, {"message": mail(headers={"Date": "Mon, 2 Mar 2026 09:00:00 +0900"})}],
                          ["accepted", "withheld"]),
}  # fmt: skip


@pytest.mark.parametrize("name", TWICE)
def test_what_this_case_has_sent_is_withheld(name: str, net: Callable[..., Any]) -> None:
    steps, expected = TWICE[name]
    with FaultServer({}) as server:
        made = [
            sk.send(**({"message": mail(), "live": True, "domain": route(IPS[0]), "network": net(server)} | step))
            for step in steps
        ]
        assert [frame.outcome.iloc[0] for frame in made] == expected
        assert bodies(server) == expected.count("accepted")


@pytest.mark.parametrize("mx", ["first", "each"])
def test_what_an_older_casebook_says_was_sent_is_withheld(mx: str, net: Callable[..., Any]) -> None:
    message = mail()
    parts = ["default", str(message.message_id), message.body_id, A, IPS[0] if mx == "each" else "", ""]
    with FaultServer({}) as server:
        book = sk.Casebook(net(server).casebook)
        with closing(sqlite3.connect(book.path)) as base, base:
            base.execute(
                "insert into claims values (?, 'x')", (sha256("\0".join(parts).encode()).hexdigest()[:32],)
            )
        frame = sk.send(message, live=True, mx=mx, domain=route(IPS[0]), network=net(server))
        assert list(frame.outcome) == ["withheld"]


def test_an_unknown_ending_is_not_sent_again_by_the_same_cell(net: Callable[..., Any]) -> None:
    with FaultServer({"dot": SILENT}) as server:
        net = net(server, timeouts=sk.Timeouts(reply=5, final=0.3, quit=0.1))
        ends = [sk.send(mail(), live=True, domain=route(IPS[0]), network=net).outcome.iloc[0] for _ in range(2)]
        assert ends == ["unknown", "withheld"]


@pytest.mark.parametrize("again", [False, True])
def test_each_gives_one_copy_to_an_ip_of_two_names(again: bool, net: Callable[..., Any]) -> None:
    with FaultServer({}) as server:
        net, twin = net(server), route(IPS[0], IPS[0])
        if again:
            sk.send(mail(), live=True, domain=twin, mx="each", network=net)
        frame = sk.send(mail(), live=True, domain=twin, mx="each", network=net, again=again)
        assert sorted(frame.outcome) == ["accepted", "withheld"]
        assert bodies(server) == 1 + again


@pytest.mark.parametrize("ways", [("first", "each"), ("each", "first")])
def test_of_two_runs_at_once_one_delivers(ways: tuple[str, str], net: Callable[..., Any]) -> None:
    with FaultServer({"data": (Wait(0.15), b"354 go\r\n")}) as server:
        call = {"live": True, "domain": route(IPS[0]), "network": net(server)}
        runs = [sk.send(mail(), **call, mx=mx, background=True) for mx in ways]
        ends = pd.concat([run.wait() for run in runs])  # type: ignore[union-attr]  # Runs, no frames
        assert sorted(ends.outcome) == ["accepted", "withheld"]
        assert set(ends.stage) == {"body"}, "both had come to the message, and one dot was held back"
        assert bodies(server) == 1


# ---- no row is lost ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("status", ["null", "nxdomain", "servfail", "timeout"])
@pytest.mark.parametrize("live", [False, True])
def test_each_recipient_has_a_row_where_there_is_no_address(
    status: str, live: bool, net: Callable[..., Any]
) -> None:
    frame = sk.send(mail([A, B, C]), live=live, domain=route(status=status), network=net())
    assert list(frame.recipient) == [A, B, C]
    assert set(frame.stage) == {"dns"}


@pytest.mark.parametrize("live", [False, True])
def test_a_host_without_an_address_is_named(live: bool, net: Callable[..., Any]) -> None:
    dead = MxRoute("rcv.example", "mx", (MxHost("mx1.rcv.example", 10, (), "dns_timeout", detail="slow"),))
    frame = sk.send(mail([A, B]), live=live, domain=dead, network=net())
    assert list(frame.mx_host) == ["mx1.rcv.example"] * 2
    assert list(frame.error) == ["dns_timeout"] * 2
    assert list(frame.why) == ["slow"] * 2


def test_an_address_we_may_not_ask_does_not_end_the_search(net: Callable[..., Any]) -> None:
    with FaultServer({}) as server:
        frame = sk.send(mail(), live=True, domain=route("10.0.0.1", IPS[0]), network=net(server))
    assert list(zip(frame.mx_ip, frame.outcome, strict=True)) == [("10.0.0.1", "withheld"), (IPS[0], "accepted")]


# ---- interrupts and deadlines -----------------------------------------------------------------------------------
@pytest.mark.slow
def test_an_interrupt_before_the_casebook_opens_sends_nothing(net: Callable[..., Any]) -> None:
    with FaultServer({}) as server:
        net, book = net(server), net().casebook
        sk.Casebook(book)
        lock = sqlite3.connect(book, isolation_level=None, check_same_thread=False)
        lock.execute("begin immediate")
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        threading.Timer(0.8, lock.execute, ("commit",)).start()
        frame = sk.send(mail(), live=True, domain=route(IPS[0]), network=net)
        assert frame.empty
        assert frame.attrs["smtpkit"]["stopped"]
        time.sleep(0.3)
        assert not server.sessions
        lock.close()


def test_an_interrupt_while_a_thread_starts_leaves_no_run(net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        begin(thread)
        if thread.name == "smtpkit":
            raise KeyboardInterrupt

    with FaultServer({"banner": (Wait(0.3), b"220 late\r\n")}) as server:
        net = net(server)
        monkeypatch.setattr(threading.Thread, "start", start)
        with pytest.raises(KeyboardInterrupt):
            sk.send(mail(), live=True, domain=route(IPS[0]), network=net)
        for run in [one for one in threading.enumerate() if one.name == "smtpkit"]:
            run.join()
        assert not any(session.body for session in server.settled())
    assert not set(sk.Casebook(net.casebook).attempts().outcome) & {"accepted", "unknown"}


@pytest.mark.slow
def test_commands_sent_together_have_a_deadline_each(net: Callable[..., Any]) -> None:
    slow: Script = {"ehlo": offers("PIPELINING"), "rcpt": (Wait(0.25), b"250 ok\r\n")}
    to = [f"r{n}@rcv.example" for n in range(5)]
    with FaultServer(slow) as server:
        net = net(server, timeouts=sk.Timeouts(reply=0.8, final=5, quit=1))
        frame = sk.send(mail(to), live=True, domain=route(IPS[0]), network=net)
    assert list(frame.outcome) == ["accepted"] * 5


@contextmanager
def reader(rate: int) -> Iterator[tuple[str, int]]:
    """A server that reads a message at `rate` octets a second."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)

    def serve() -> None:
        link, _ = listener.accept()
        with link, suppress(OSError):
            for reply in (b"220 x\r\n", b"250 x\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
                link.sendall(reply)
                link.recv(4096)
            tail = b""
            while not tail.endswith(b"\r\n.\r\n"):
                got = link.recv(rate // 20)
                if not got:
                    return
                tail = (tail + got)[-5:]
                time.sleep(0.05)
            link.sendall(b"250 ok\r\n")
            link.recv(99)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener:
        yield listener.getsockname()
    thread.join(5)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this kernel hides megabytes in its buffer")
def test_a_server_that_goes_on_reading_is_not_cut(net: Callable[..., Any]) -> None:
    big = mail(text=("x" * 70 + "\n") * 60_000)
    with reader(900_000) as address:
        net = net(reroute={(IPS[0], 25): address}, timeouts=sk.Timeouts(reply=0.8, final=9, quit=1))
        assert list(sk.send(big, live=True, domain=route(IPS[0]), network=net).outcome) == ["accepted"]


# ---- a proxy on the way -----------------------------------------------------------------------------------------
class Proxy:
    """SOCKS5: it never answers for the address `mute`, finds `shut` refuses, and greets by `act`, if given."""

    def __init__(
        self, far: tuple[str, int], mute: str = "", act: Callable[[socket.socket], None] | None = None,
        shut: str = "",
    ):  # fmt: skip
        self.far, self.mute, self.act, self.shut = far, mute, act, shut
        self.listener, self.over = socket.create_server(("127.0.0.1", 0)), threading.Event()
        self.name = "{}:{}".format(*self.listener.getsockname())
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self.serve, args=(self.listener.accept()[0],), daemon=True).start()

    def serve(self, near: socket.socket) -> None:
        with near, suppress(OSError):
            near.recv(100)
            if self.act:
                self.act(near)
                return
            near.sendall(b"\5\0")
            asked = socket.inet_ntoa(near.recv(100)[4:8])
            if asked in (self.mute, self.shut):
                self.over.wait(20 if asked == self.mute else 0)
                near.sendall(b"\5\5\0\1\0\0\0\0\0\0")
                return
            with socket.create_connection(self.far) as far:
                near.sendall(b"\5\0\0\1\0\0\0\0\0\0")
                back = threading.Thread(target=pump, args=(far, near), daemon=True)
                back.start()
                pump(near, far)
                back.join(5)

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.listener.close()


def pump(near: socket.socket, far: socket.socket) -> None:
    with suppress(OSError):
        while octets := near.recv(4096):
            far.sendall(octets)
        far.shutdown(socket.SHUT_WR)


def asked(net: Any, *ips: str, **more: Any) -> pd.DataFrame:
    hosts = tuple(MxHost(f"mx.r{n}.example", 10, (ip,), receiver=f"r{n}.example") for n, ip in enumerate(ips))
    return sk.probe(MxRoute("rcv.example", "mx", hosts), network=net, rounds=1, **more)


@pytest.mark.slow
def test_a_proxy_that_is_silent_about_one_server_delays_no_other(net: Callable[..., Any]) -> None:
    with FaultServer({}) as server, Proxy(server.address, mute=IPS[1]) as proxy:
        net = net(socks=proxy.name, allow_networks=["192.0.2.0/24"], reroute={})
        frame = asked(net, *IPS, timeouts=sk.Timeouts(connect=1, reply=2, total=3)).set_index("mx_ip")
    assert dict(frame.outcome) == {IPS[0]: "passed", IPS[1]: "failed"}
    assert (frame.error[IPS[1]], frame.stage[IPS[1]]) == ("timeout", "connect")


def test_a_stop_does_not_wait_for_a_proxy(net: Callable[..., Any]) -> None:
    with FaultServer({}) as server, Proxy(server.address, mute=IPS[1]) as proxy:
        net = net(socks=proxy.name, allow_networks=["192.0.2.0/24"], reroute={})
        run = asked(net, IPS[1], background=True)
        while not run.frame().outcome.eq("sending").any() and run.running and not run.worker.engine.live:
            time.sleep(0.01)
        run.stop()
        assert list(run.wait(3).error) == ["stopped"]


PROXIES: dict[str, Callable[[socket.socket], None]] = {
    "closes at once": lambda link: link.close(),
    "speaks HTTP": lambda link: link.sendall(b"HTTP/1.0 400 Bad\r\n\r\n"),
    "wants a password": lambda link: link.sendall(b"\5\xff"),
}


@pytest.mark.parametrize("name", [*PROXIES, "is not there"])
def test_a_broken_proxy_is_no_servers_refusal(name: str, net: Callable[..., Any]) -> None:
    with Proxy(("127.0.0.1", 9), act=PROXIES.get(name)) as proxy:
        if name == "is not there":
            proxy.listener.close()
        net = net(socks=proxy.name, allow_networks=["192.0.2.0/24"], reroute={})
        frame = asked(net, *IPS)
    assert set(frame.error) == {"unreachable"}
    assert frame.why.str.contains(f"SOCKS {proxy.name}", regex=False).all()


def test_we_greet_with_the_address_we_speak_from() -> None:
    assert own_ip(sk.internet(source_ip="127.0.0.9"), "127.0.0.1") == "127.0.0.9"


# ---- a plan sees what came of its last session, and holds nothing up ---------------------------------------------
NOT_TAKEN: dict[str, Acts] = {
    "421": (b"421 4.3.2 shutting down\r\n", CLOSE),
    "451 and the end": (b"451 4.3.0 no\r\n", CLOSE),
    "451 and 221 at once": (b"451 4.3.0 no\r\n221 bye\r\n", CLOSE),
}


@pytest.mark.parametrize("name", NOT_TAKEN)
def test_what_was_deferred_at_the_dot_goes_to_the_next_server(name: str, net: Callable[..., Any]) -> None:
    with FaultServer({"dot": NOT_TAKEN[name]}) as one, FaultServer({}) as two:
        frame = sk.send(mail(), A, live=True, domain=route(*IPS), network=net(one, two))
    assert list(frame.outcome) == ["deferred", "accepted"], "withheld as sent before, and nobody has it"


def test_the_casebook_is_free_while_a_plan_waits_for_dns(
    net: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(*_: Any) -> MxRoute:
        with closing(sqlite3.connect(tmp_path / "c.sqlite", timeout=0)) as base:
            base.execute("begin immediate")  # OperationalError: database is locked
        return route(IPS[0])

    monkeypatch.setattr("smtpkit.watching.find_route", found)
    with FaultServer({}) as one:
        frame = sk.watch(route(IPS[0]), network=net(one), every=0.01, rounds=2, clear=3, zones=[])
    assert list(frame.outcome) == ["passed", "passed"]


# ---- our own side, and a careless user's ------------------------------------------------------------------------
def test_a_host_without_ipv4_greets_with_its_ipv6_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtpkit.probing.own_ip", lambda _, far="192.0.2.1": "fd00::5" if ":" in far else None)
    assert our_helo(None, sk.internet()) == "[IPv6:fd00::5]", "servers refuse [127.0.0.1]"


def test_a_system_without_ipv6_has_no_ipv6_address(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def without(family: int, *more: Any) -> socket.socket:
        return real(family if family == socket.AF_INET else 99, *more)  # OSError: no such family

    monkeypatch.setattr("smtpkit.network.socket.socket", without)
    assert own_ip(sk.internet(), "2001:db8::1") is None


def test_a_source_address_that_is_not_ours_is_told(net: Callable[..., Any]) -> None:
    with FaultServer({}) as server:
        frame = sk.probe(route(IPS[0]), network=net(server, source_ip="203.0.113.9"), rounds=1)
    assert list(frame.error) == ["unreachable"]
    assert "source_ip=203.0.113.9" in frame.why[0]


def test_another_working_directory_is_no_other_casebook(
    net: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    with FaultServer({}) as server:
        run = sk.probe(route(IPS[0]), network=net(server, casebook="c.sqlite"), rounds=1, background=True)
        monkeypatch.chdir(tmp_path / "other")
        assert len(run.wait()) == 1
    assert not list((tmp_path / "other").iterdir())


def test_a_watch_ends_where_no_mail_is_taken(net: Callable[..., Any]) -> None:
    run = sk.watch(route(status="null"), network=net(), every=0.01, zones=[], background=True)
    assert list(run.wait(5).error) == ["null_mx"]  # type: ignore[union-attr]  # a Run


def test_a_watch_does_not_wait_for_a_clock_that_was_ahead(net: Callable[..., Any], tmp_path: Path) -> None:
    with FaultServer({}) as server:
        call = {"network": net(server), "every": 0.01, "clear": 9, "rounds": 1, "zones": []}
        sk.watch(route(IPS[0]), **call)
        with closing(sqlite3.connect(tmp_path / "c.sqlite")) as base, base:
            base.execute("update attempts set result = json_set(result, '$.started_at', '2099-01-01T00:00:00Z')")
        run = sk.watch(route(IPS[0]), **call, background=True)
        assert len(run.wait(5)) == 1  # type: ignore[union-attr]  # a Run
