"""SIGKILL at every point of the protocol: no attempt lost, no message sent twice, each unknown explained."""

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

import smtpkit as sk
from tests.faultserver import GOOD, FaultServer, Session

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
POINTS = ("connect", "ehlo", "mail", "rcpt", "data", "body", "dot", "replied", "quit")
AFTER_MARK = ("body", "dot", "replied", "quit")
"""Between the mark and a result on disk (QUIT leaves with it): only these may leave an `unknown`. A server that
comes late to read the body kills a client that has set the mark meanwhile."""


class Killer(Session):
    """A good server that kills its client when the plan says so, and counts the dots it read."""

    def _do(self, point: str, line: bytes = b"") -> None:
        if point == "dot":
            self.server.dots[self._number()] += 1
        self.server.reached(point)
        super()._do(point, line)
        if point == "dot":
            self.server.reached("replied")

    def _read_body(self) -> None:
        self.server.reached("body")
        super()._read_body()

    def _number(self) -> int:
        found = re.search(rb"Message-ID: <(\d+)@", self.body)
        assert found
        return int(found[1])


class KillServer(FaultServer):
    """Kills at `plan`: after how many further connections, at which point."""

    session_type = Killer

    def __init__(self, plan: Iterator[tuple[int, str]]):
        super().__init__(GOOD)
        self.plan, self.pid, self.kills, self.dots = plan, 0, Counter[str](), Counter[int]()
        self.skip, self.point = next(plan)

    def reached(self, point: str) -> None:
        if point == "connect" and self.skip:
            self.skip -= 1
        if self.pid and not self.skip and point == self.point:
            pid, self.pid = self.pid, 0
            self.kills[point] += 1
            os.kill(pid, signal.SIGKILL)


def plan(kills: int, messages: int) -> Iterator[tuple[int, str]]:
    """`kills` kills spread over the messages, the points in turn; then none."""
    for n in range(kills):
        yield 1 + n % max(messages // kills, 1), POINTS[n % len(POINTS)]
    yield 10**9, ""


@contextmanager
def workers(path: Path, port: int, count: int) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "tests.kill_worker", os.fspath(path), str(port), str(count)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        yield process
        process.stdin.close()
        assert process.wait(10) == 0


def one_start(worker: "subprocess.Popen[str]", server: KillServer, first: int) -> int:
    """Have a child send from message `first` on; how it ended."""
    worker.stdin.write(f"{first}\n")
    worker.stdin.flush()
    server.pid = int(worker.stdout.readline())
    return int(worker.stdout.readline())


def killed(path: Path, kills: int, messages: int) -> tuple[KillServer, pd.DataFrame, int]:
    """Send `messages` messages with a worker that dies `kills` times; what the server saw, and the rows."""
    with KillServer(plan(kills, messages)) as server, workers(path, server.address[1], messages) as worker:
        starts, status = 0, int(signal.SIGKILL)
        while status == signal.SIGKILL:
            status = one_start(worker, server, max(max(server.dots, default=0) - 3, 0))
            starts += 1
            server.skip, server.point = next(server.plan, (10**9, ""))
        assert status == 0, "the last worker ended by itself"
        dots = server.dots.total()
        assert one_start(worker, server, 0) == 0, "the whole cell once more"
        assert server.dots.total() == dots, "and nothing was sent"
        return server, sk.Casebook(path).attempts(), starts


def number(rows: pd.DataFrame) -> "pd.Series[int]":
    return rows["message_id"].str.extract(r"(\d+)@", expand=False).astype(int)


def judge(server: KillServer, rows: pd.DataFrame, kills: int, messages: int) -> None:
    """The invariants I1 to I5 of attempts under kills."""
    tries = rows[rows["outcome"] != "withheld"]
    by_message = dict(iter(tries.groupby(number(tries))))
    assert sum(server.kills.values()) == kills
    assert set(server.kills) == set(POINTS), "each point was hit"
    assert set(by_message) == set(range(messages)), "no message without a row"
    assert tries["outcome"].notna().all(), "each attempt came to an end"
    assert max(server.dots.values()) == 1, "no dot left twice"
    for n, own in by_message.items():
        outcomes = set(own["outcome"])
        assert outcomes <= {"accepted", "failed", "unknown"}
        assert len(own[own["outcome"].isin(["accepted", "unknown"])]) == 1, f"message {n}: {outcomes}"
        if server.dots[n]:
            assert outcomes & {"accepted", "unknown"}, f"message {n} arrived, and its rows say {outcomes}"
        if "accepted" in outcomes:
            assert server.dots[n] == 1
    unknown = tries[tries["outcome"] == "unknown"]
    assert set(unknown["error"]) == {"interrupted"}
    assert unknown["maybe_delivered"].all()
    assert len(unknown) <= sum(server.kills[point] for point in AFTER_MARK)
    ended = tries[tries["outcome"] == "failed"]
    assert set(ended["error"]) == {"interrupted"}
    assert len(ended) + len(unknown) <= kills


MANY = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize(
    ("kills", "messages"), [(9, 20), pytest.param(40, 100, marks=MANY), pytest.param(300, 320, marks=MANY)]
)
def test_kills_over_messages(kills: int, messages: int, tmp_path: Path) -> None:
    server, rows, starts = killed(tmp_path / "casebook.sqlite", kills, messages)
    assert starts == kills + 1
    judge(server, rows, kills, messages)


def test_the_row_after_the_reply_would_send_twice(tmp_path: Path) -> None:
    """The test bites: a worker that writes its row after the reply, as most do, sends messages twice."""
    sent = tmp_path / "sent.txt"
    sent.touch()
    code = """
import smtplib, sys
from tests.kill_worker import TO, message
path, port, count = sys.argv[1:]
for n in range(int(count)):
    if str(n) not in open(path).read().split():
        with smtplib.SMTP("127.0.0.1", int(port), local_hostname="client.example") as client:
            client.sendmail("me@ours.example", TO, message(n))
        with open(path, "a") as file:
            file.write(f"{n} ")
"""
    with KillServer((1, point) for point in ("dot", "replied") * 5 + ("",)) as server:
        for _ in range(11):
            words = [sys.executable, "-c", code, os.fspath(sent), str(server.address[1]), "12"]
            process = subprocess.Popen(words, cwd=ROOT)
            server.pid = process.pid
            if process.wait(20) == 0:
                break
            server.skip, server.point = next(server.plan, (10**9, ""))
    assert max(server.dots.values()) > 1
