"""Default pacing against a receiver that blacklists who comes too often: never blacklisted, over two notebooks."""

import threading
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import smtpkit as sk
from smtpkit.mx import MxHost
from tests.fasttime import FastTime
from tests.faultserver import FaultServer, Session

SPEED = 400.0
IPS = [f"192.0.2.{n}" for n in (11, 12, 13, 14)]
SOON = b"421 4.7.0 Too many connections from your IP, try again later\r\n"
LISTED = b"554 5.7.1 Your IP is on our blacklist\r\n"


class Receiver:
    """Four servers that count together: over 2 connections a minute is 421, over 20 an hour a blacklist."""

    def __init__(self, clock: FastTime) -> None:
        self.clock, self.came, self.blacklisted, self.lock = clock, [], False, threading.Lock()
        self.servers = [Counting({}, f"127.0.0.{10 + n}") for n in range(len(IPS))]
        for server in self.servers:
            server.receiver = self

    def greeting(self) -> bytes | None:
        with self.lock:
            now = self.clock.time()
            self.came.append(now)
            self.blacklisted |= sum(now - at < 3600 for at in self.came) > 20
            if self.blacklisted:
                return LISTED
            return SOON if sum(now - at < 60 for at in self.came) > 2 else None

    def __enter__(self) -> "Receiver":
        for server in self.servers:
            server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.__exit__()

    @property
    def reroute(self) -> dict[tuple[str, int], tuple[str, int]]:
        return {(ip, 25): server.address for ip, server in zip(IPS, self.servers, strict=True)}

    def busiest(self, span: float) -> int:
        """The most connections in any `span` seconds."""
        return max(sum(0 <= at - begin < span for at in self.came) for begin in self.came)


class Greeter(Session):
    def _talk(self) -> None:
        self.script = {"banner": greeting} if (greeting := self.server.receiver.greeting()) else {}
        super()._talk()


class Counting(FaultServer):
    session_type = Greeter
    receiver: Receiver


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FastTime:
    return FastTime(SPEED).install(monkeypatch)


def notebook(receiver: Receiver, folder: Path, **more: Any) -> pd.DataFrame:
    """A notebook of its own: its casebook, its network; only the user's ledger is shared."""
    folder.mkdir()
    hosts = tuple(MxHost(f"mx{n}.daum.example", 10, (ip,), None, "daum.example") for n, ip in enumerate(IPS))
    route = sk.MxRoute("daum.example", "mx", hosts)
    ours = {"casebook": folder / "casebook.sqlite", "ledger": folder.parent / "ledger.sqlite"}
    network = sk.internet(reroute=receiver.reroute, helo="client.example", **ours)
    return sk.probe(route, network=network, **more)


@pytest.mark.slow
def test_two_notebooks_one_after_the_other(clock: FastTime, tmp_path: Path) -> None:
    with Receiver(clock) as receiver:
        first = notebook(receiver, tmp_path / "one")
        second = notebook(receiver, tmp_path / "two")
        came = len(receiver.came)
        clock.sleep(1900)
        third = notebook(receiver, tmp_path / "three")
    assert not receiver.blacklisted
    assert receiver.busiest(3600) <= 20
    assert receiver.busiest(60) <= 3, "the third in a minute was refused, and then nobody came"
    told = Counter(first["error"].astype(object).fillna(first["outcome"]))
    assert told["passed"] == 2
    assert told["deferred"] == 1
    assert told["paced"] == len(first) - 3 > 0
    assert set(second["error"]) == {"paced"}, "the second notebook remembers the first one's refusal"
    assert came == 3
    assert "passed" in set(third["outcome"]), "after its rest the receiver is asked again"


@pytest.mark.slow
def test_gaps_hold_for_a_receiver_and_for_an_ip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody refuses: 20 sessions, one at a time, 5 s apart, and 20 s apart at each IP."""
    clock = FastTime(100).install(monkeypatch)
    with Receiver(clock) as receiver:
        receiver.greeting = lambda: receiver.came.append(clock.time())
        frame = notebook(receiver, tmp_path / "one")
    assert list(frame["outcome"]) == ["passed"] * 20
    assert len(receiver.came) == 20
    by_time = frame.sort_values("started_at")
    assert set(by_time["mx_ip"].iloc[:4]) == set(IPS), "interleaved"
    assert by_time["try_number"].diff().abs().max() <= 2, "no IP runs ahead of its siblings"
    assert set(map(tuple, by_time.groupby("mx_ip")["try_number"].agg(list))) == {(1, 2, 3, 4, 5)}
    slack = 1.5  # seconds of the fast clock: a thread of the server may be 15 ms late
    assert all(b - a >= 5 - slack for a, b in pairwise(receiver.came))
    assert all(b - a >= 20 - slack for a, b in zip(receiver.came, receiver.came[4:], strict=False))


@pytest.mark.slow
def test_an_ip_that_refuses_is_asked_five_more_times_at_most(clock: FastTime, tmp_path: Path) -> None:
    """Without words like "too many" only that IP rests: 60, 120, 300 s."""
    with Receiver(clock) as receiver:
        receiver.greeting = lambda: receiver.came.append(clock.time())
        receiver.servers[2].script = {}
        busy = b"421 4.4.5 Server is busy\r\n"
        receiver.servers[2].session_type = type("Busy", (Session,), {})
        receiver.servers[2].script = {"banner": busy}
        frame = notebook(receiver, tmp_path / "one", rounds=8)
    mine = frame[frame["mx_ip"] == IPS[2]]
    asked = mine[mine["outcome"] == "deferred"]
    assert len(asked) == 6, "the first refusal and five more"
    assert set(mine.loc[mine["outcome"] == "withheld", "error"]) == {"paced"}
    others = frame[frame["mx_ip"] != IPS[2]]
    assert set(others["outcome"]) == {"passed"}
    assert len(others) == 24
