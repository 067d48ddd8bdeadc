"""DNS that is dead, slow, lying or odd: what lookup_mx tells, and that a soft error never becomes "none"."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import smtpkit as sk
from smtpkit import mx
from smtpkit.network import Answer
from tests import faultdns
from tests.test_send_faults import Proxy

faultdns.ZONE.update({
    ("good.fault.test", "MX"): ["20 b.fault.test.", "10 a.fault.test."],
    ("a.fault.test", "A"): ["192.0.2.1", "192.0.2.2"],
    ("a.fault.test", "AAAA"): ["2001:db8::1"],
    ("b.fault.test", "A"): ["192.0.2.3"],
    ("implicit.fault.test", "A"): ["192.0.2.9"],
    ("nothing.fault.test", "TXT"): ["hello"],
    ("null.fault.test", "MX"): ["0 ."],
    ("nullandmore.fault.test", "MX"): ["0 .", "10 a.fault.test."],
    ("nullten.fault.test", "MX"): ["10 ."],
    ("nulltwice.fault.test", "MX"): ["0 .", "10 ."],
    ("twice.fault.test", "MX"): ["20 A.fault.test.", "10 a.fault.test.", "30 b.fault.test."],
    ("alias.fault.test", "CNAME"): ["good.fault.test."],
    ("loop.fault.test", "CNAME"): ["loop2.fault.test."],
    ("loop2.fault.test", "CNAME"): ["loop.fault.test."],
    ("dangling.fault.test", "CNAME"): ["nowhere.fault.test."],
    ("mxalias.fault.test", "MX"): ["10 pointing.fault.test."],
    ("pointing.fault.test", "CNAME"): ["a.fault.test."],
    ("gone.fault.test", "MX"): ["10 nowhere.fault.test."],
    ("halfdead.fault.test", "MX"): ["10 servfail.fault.test.", "20 b.fault.test."],
    ("literal.fault.test", "MX"): ["10 192.0.2.7."],
    ("loopback.fault.test", "MX"): ["10 inside.fault.test."],
    ("inside.fault.test", "A"): ["127.0.0.1"],
    ("cutthentcp.fault.test", "MX"): ["10 a.fault.test."],
    ("slow.fault.test", "MX"): ["10 a.fault.test."],
    ("wrongidfirst.fault.test", "MX"): ["10 a.fault.test."],
    ("garbagefirst.fault.test", "MX"): ["10 a.fault.test."],
    ("noedns.fault.test", "MX"): ["10 a.fault.test."],
    ("noedns4.fault.test", "MX"): ["10 a.fault.test."],
    ("many.fault.test", "MX"): [f"{n} m{n}.fault.test." for n in range(300)],
})  # fmt: skip
A = ["192.0.2.1", "192.0.2.2", "2001:db8::1"]


@pytest.fixture(scope="module")
def server() -> Iterator[faultdns.FaultDns]:
    with faultdns.FaultDns() as running:
        yield running


@pytest.fixture
def net(server: faultdns.FaultDns, tmp_path: Path) -> "sk.network.Internet":
    ours = {"casebook": tmp_path / "c.sqlite", "ledger": tmp_path / "l.sqlite"}
    return sk.internet(nameservers=[("127.0.0.1", server.port)], dns_timeout=0.5, **ours)


@pytest.mark.parametrize(
    ("name", "status", "ips"),
    [
        ("good", "mx", [*A, "192.0.2.3"]),
        ("implicit", "implicit", ["192.0.2.9"]),
        ("nothing", "nodata", []),
        ("nobody-wrote-this", "nxdomain", []),
        ("null", "null", []),
        ("nullandmore", "mx", A),
        ("nullten", "null", []),
        ("nulltwice", "null", []),
        ("twice", "mx", [*A, "192.0.2.3"]),
        ("alias", "mx", [*A, "192.0.2.3"]),
        ("dangling", "nxdomain", []),
        ("mxalias", "mx", A),
        ("gone", "mx", []),
        ("halfdead", "mx", ["192.0.2.3"]),
        ("cutthentcp", "mx", A),
        ("slow", "mx", A),
        ("wrongidfirst", "mx", A),
        ("garbagefirst", "mx", A),
        ("noedns", "mx", A),
        ("noedns4", "mx", A),
        ("servfail", "servfail", []),
        ("refused", "servfail", []),
        ("formerr", "servfail", []),
        ("notimp", "servfail", []),
        ("silent", "timeout", []),
    ],
)
def test_what_the_name_server_does(name: str, status: str, ips: list[str], net: "sk.network.Internet") -> None:
    route = sk.lookup_mx(f"{name}.fault.test", network=net)
    assert (route.status, sorted(ip for _, ip in route)) == (status, sorted(ips))


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("short", "empty", "qr0", "pointer", "question")]


@pytest.mark.parametrize("name", ["garbage", "wrongid", "cut", "loop", *SLOW])
def test_a_lie_is_a_soft_error(name: str, net: "sk.network.Internet") -> None:
    """Nothing usable came: that is no answer, and never "no such domain" nor the liar's address."""
    begun = time.monotonic()
    route = sk.lookup_mx(f"{name}.fault.test", network=net)
    assert route.status in ("servfail", "timeout")
    assert list(route) == []
    assert route.detail
    assert time.monotonic() - begun < 3


def test_the_host_without_address_says_why(net: "sk.network.Internet") -> None:
    told = {h.name: (h.ips, h.error) for h in sk.lookup_mx("halfdead.fault.test", network=net).hosts}
    assert told == {"servfail.fault.test": ((), "dns_servfail"), "b.fault.test": (("192.0.2.3",), None)}
    (host,) = sk.lookup_mx("gone.fault.test", network=net).hosts
    assert (host.ips, host.error) == ((), "dns_nxdomain")
    (host,) = sk.lookup_mx("mxalias.fault.test", network=net).hosts
    assert host.cname == "a.fault.test"
    twice = sk.lookup_mx("twice.fault.test", network=net).hosts
    assert [(host.pref, host.name) for host in twice] == [(10, "a.fault.test"), (30, "b.fault.test")]


def test_a_dead_name_server_ends_in_time(tmp_path: Path) -> None:
    with faultdns.dead_name_server() as address:
        net = sk.internet(nameservers=[address], dns_timeout=0.5, ledger=tmp_path / "l", casebook=tmp_path / "c")
        begun = time.monotonic()
        assert sk.lookup_mx("good.fault.test", network=net).status == "timeout"
    assert 0.25 < time.monotonic() - begun < 2


def test_through_a_proxy_the_next_name_server_is_asked_too(server: faultdns.FaultDns) -> None:
    """The first is dead; an MTA of that host would ask the second."""
    with Proxy(("127.0.0.1", server.port), shut="192.0.2.53") as proxy:
        two = [("192.0.2.53", 53), ("192.0.2.54", 53)]
        net = sk.internet(socks=proxy.name, nameservers=two, dns_timeout=2)
        told = [sk.lookup_mx(f"{name}.fault.test", network=net).status for name in ("good", "nothing", "nobody")]
    assert told == ["mx", "nodata", "nxdomain"]


def test_hundreds_of_mx_are_cut_and_said(net: "sk.network.Internet", server: faultdns.FaultDns) -> None:
    route = sk.lookup_mx("many.fault.test", network=net)
    assert (len(route.hosts), route.cut) == (64, 300 - 64)
    assert server.asked["many.fault.test", "MX", "tcp"] == 1, "cut on UDP, asked again on TCP"


def test_reserved_names_are_not_asked_of_real_servers(tmp_path: Path) -> None:
    """RFC 2606: example.com, .test and the like go nowhere unless name servers are given."""
    net = sk.internet(ledger=tmp_path / "l", casebook=tmp_path / "c")
    for name in ("example.com", "mail.example.org", "a.test", "b.invalid", "localhost.localhost"):
        answer = net.resolve(name, "MX")
        assert (answer.status, "reserved" in answer.detail) == ("nxdomain", True)


@pytest.mark.parametrize("name", ["silent", "servfail", "null", "gone", "nobody-wrote-this", "loopback", "literal"])
def test_a_probe_makes_rows_of_it(name: str, net: "sk.network.Internet") -> None:
    """No exception and no connection: rows of stage dns, or withheld by the guard."""
    expected = {
        "silent": ("failed", "dns", "dns_timeout"), "servfail": ("failed", "dns", "dns_servfail"),
        "null": ("failed", "dns", "null_mx"), "gone": ("failed", "dns", "dns_nxdomain"),
        "nobody-wrote-this": ("failed", "dns", "dns_nxdomain"), "loopback": ("withheld", "connect", "guard"),
        "literal": ("failed", "dns", "dns_nxdomain"),
    }  # fmt: skip
    frame = sk.probe(f"{name}.fault.test", network=net, rounds=1)
    told = frame[["outcome", "stage", "error"]].drop_duplicates().itertuples(index=False, name=None)
    assert list(told) == [expected[name]]


def test_a_notebook_shows_why_there_is_no_server(net: "sk.network.Internet") -> None:
    shown = sk.lookup_mx("null.fault.test", net)._repr_html_()
    assert "takes no mail (RFC 7505)" in shown
    host = sk.mx.MxHost("<b>mx", 10, ("192.0.2.1",))
    assert "&lt;b&gt;mx  192.0.2.1" in sk.mx.MxRoute("d.example", "mx", (host,))._repr_html_()


# the rules of a route, on answers made by hand --------------------------------------------------------------------
class Zone:
    """A name server of answers made by hand: (name, kind) to rows, a status, or both; NODATA else."""

    sender_ip = None

    def __init__(self, answers: dict[tuple[str, str], Any]) -> None:
        self.answers = answers

    def resolve(self, name: str, kind: str) -> Answer:
        told = self.answers.get((name, kind), "nodata")
        return Answer("ok", tuple(told)) if isinstance(told, list) else Answer(told)


MX, OK = ("d.example", "MX"), ["192.0.2.1"]
ROUTES: dict[str, tuple[dict[tuple[str, str], Any], str, list[tuple[str, str, str | None]]]] = {
    "one family is not known, the other answers": (
        {MX: ["10 a.example."], ("a.example", "A"): OK, ("a.example", "AAAA"): "servfail"},
        "mx", [("a.example", "192.0.2.1", "dns_servfail")],
    ),
    "a time-out tells more than a SERVFAIL": (
        {MX: ["10 a.example."], ("a.example", "A"): "servfail", ("a.example", "AAAA"): "timeout"},
        "mx", [("a.example", "", "dns_timeout")],
    ),
    "a host without any address": ({MX: ["10 a.example."]}, "mx", [("a.example", "", "dns_nxdomain")]),
    "no MX, and the address is not known": ({("d.example", "A"): "servfail"}, "servfail", []),
    "no MX, and the address takes too long": ({("d.example", "AAAA"): "timeout"}, "timeout", []),
    "no MX, no address": ({}, "nodata", []),
    "no MX, an address": ({("d.example", "A"): OK}, "implicit", [("d.example", "192.0.2.1", None)]),
    "the root beside another host is no host": (
        {MX: ["0 .", "10 a.example."], ("a.example", "A"): OK}, "mx", [("a.example", "192.0.2.1", None)],
    ),
    "the root alone takes no mail": ({MX: ["0 ."]}, "null", []),
    "the root with a preference takes no mail": ({MX: ["10 ."]}, "null", []),
    "the same address twice is asked once": (
        {MX: ["10 a.example."], ("a.example", "A"): OK * 2}, "mx", [("a.example", "192.0.2.1", None)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("why", ROUTES)
def test_a_route(why: str) -> None:
    answers, status, hosts = ROUTES[why]
    route = sk.lookup_mx("d.example", network=Zone(answers))
    assert route.status == status
    assert [(host.name, ", ".join(host.ips), host.error) for host in route.hosts] == hosts


def test_what_is_beyond_the_caps_is_counted() -> None:
    many = [f"192.0.2.{n}" for n in range(70)]
    zone = {MX: [f"10 m{n:02}.example." for n in range(66)], ("m00.example", "A"): many}
    route = sk.lookup_mx("d.example", network=Zone(zone))
    assert (len(route.hosts), len(route.hosts[0].ips), route.cut) == (64, 64, 2 + 6)
    assert "8 beyond our caps left out" in repr(route)
    assert sk.lookup_mx("m00.example", network=Zone(zone)).cut == 6
    assert mx.single("m00.example", None, None, Zone(zone)).cut == 6
