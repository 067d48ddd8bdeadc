"""locate against four real Postfix: the stale one alone, behind a balancer, and not there at all."""

import random
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import smtpkit as sk
from tests.servers import PORT, SENDER
from tests.servers.conftest import IPS, network
from tests.servers.nsd import Nsd
from tests.servers.postfix import Fleet

WHO = ("daum.example", "r@daum.example", "me@ours.example")
SHARED = "127.0.0.15"
STALE, TWIN = 4, 3


class Balancer(socketserver.ThreadingTCPServer):
    """One address in front of several servers; it calls them from the client's own address, as a real one may."""

    allow_reuse_address, daemon_threads = True, True

    def __init__(self, address: tuple[str, int], pick: Callable[[], str]) -> None:
        self.pick, self.met = pick, list[str]()
        super().__init__(address, Forward)


class Forward(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        target = self.server.pick()
        self.server.met.append(target)
        with socket.create_connection((target, PORT), source_address=(self.client_address[0], 0)) as behind:
            answers = threading.Thread(target=pump, args=(behind, self.request))
            answers.start()
            pump(self.request, behind)
            answers.join()


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Octets from one to the other, until the one has no more."""
    try:
        while octets := source.recv(65536):
            sink.sendall(octets)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()  # the other side hung up


@pytest.fixture
def balanced() -> Iterator[Callable[[Callable[[], str]], Balancer]]:
    running: list[Balancer] = []

    def start(pick: Callable[[], str]) -> Balancer:
        running.append(Balancer((SHARED, PORT), pick))
        threading.Thread(target=running[-1].serve_forever, args=(0.05,), daemon=True).start()
        return running[-1]

    yield start
    for one in running:
        one.shutdown()
        one.server_close()


def as_logged(frame: pd.DataFrame, fleet: Fleet) -> None:
    """Every session is one connection in some Postfix's log, and every refusal one of its refusals."""
    logged = [line for n in IPS for line in fleet[n].logged(SENDER)]
    assert len(frame) == len(logged)
    assert (frame.outcome == "rejected").sum() == sum(line.code == 554 for line in logged)


@pytest.mark.parametrize("order", ["in turn", 1, 2, 3, 4, 5])
def test_the_stale_one_behind_a_balancer_is_named_within_40_connections(
    order: Any, fleet: Fleet, nsd: Nsd, balanced: Any, tmp_path: Path
) -> None:
    """The fourth address leads to a stale server half of the time, else to its healthy twin."""
    fleet.block(STALE)
    both = [fleet[TWIN].ip, fleet[STALE].ip]
    turns, dice = cycle(both), random.Random(order)
    balancer = balanced(lambda: next(turns) if order == "in turn" else dice.choice(both))
    ips = {outside: fleet[n].ip for n, outside in IPS.items()} | {IPS[STALE]: SHARED}
    found = sk.locate(*WHO, network=network(tmp_path, ips))
    (cause,) = found.causes
    assert cause.kind == "mx_block"
    assert cause.values in ((IPS[STALE],), (fleet[STALE].name,)), found.verdict
    assert found.confidence >= 0.8
    assert len(found.frame) <= 40
    assert set(found.frame.mx_ip[found.frame.outcome == "rejected"]) == {IPS[STALE]}
    assert set(balancer.met) == set(both)
    as_logged(found.frame, fleet)
    assert fleet[TWIN].log().count("status=sent") == 0


def test_the_stale_one_is_named_in_ten(fleet: Fleet, fleet_network: Any) -> None:
    fleet.block(2)
    found = sk.locate(*WHO, network=fleet_network)
    assert (found.causes[0].kind, found.causes[0].values) == ("mx_block", (IPS[2],))
    assert len(found.frame) <= 10
    as_logged(found.frame, fleet)


def test_nobody_is_named_where_all_is_well(fleet: Fleet, fleet_network: Any) -> None:
    found = sk.locate(*WHO, network=fleet_network)
    assert [c for c in found.causes if c.kind != "mx_slow"] == []  # a loaded machine may be slow
    assert "No MX IP refuses 30% or more" in found.verdict
    as_logged(found.frame, fleet)


def test_nobody_is_named_where_all_refuse(fleet: Fleet, fleet_network: Any) -> None:
    for n in IPS:
        fleet.block(n)
    found = sk.locate(*WHO, network=fleet_network)
    assert [cause.kind for cause in found.causes] == ["provider_block"]
    assert len(found.frame) <= 10
    as_logged(found.frame, fleet)
