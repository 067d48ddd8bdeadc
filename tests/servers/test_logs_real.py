"""Four real MTAs send through a scripted fleet: the frame from their logs equals what the servers saw."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import smtpkit as sk
from tests.faultserver import CLOSE, SILENT, Acts, FaultServer, offers
from tests.servers import PORT, senders

NO = b"554-5.7.1 Your IP is\r\n554 5.7.1 on our blacklist\r\n"
STALE = {"mail": b"421 4.7.0 [127.0.0.1] is on our blacklist\r\n"}
ALONE: dict[str, dict[str, Acts]] = {
    "accept": {},
    "defer": {"rcpt": b"450 4.2.0 greylisted\r\n"},
    "reject": {"rcpt": b"550 5.1.1 no such user\r\n"},
    "multi": {"rcpt": b"550-5.7.26 not\r\n550-5.7.26 authenticated\r\n550 5.7.26 go away\r\n"},
    "late": {"dot": b"554 5.7.1 spam\r\n"},
    "drop": {"dot": CLOSE},
    "early": {"mail": CLOSE},
    "greet": {"banner": (NO, CLOSE)},
    "slow": {"banner": SILENT},
    "tls": {"ehlo": offers("STARTTLS"), "starttls": (b"220 go\r\n", b"garbage\r\n", CLOSE)},
}
"""Receivers of one server each, 127.0.1.x; beside them one that refuses, and two of four servers."""
REFUSES, ONE, NAMES = "127.0.1.99", "127.0.2.", "127.0.3."
OUT_OF_REACH = {"opensmtpd": ("slow", "tls")}
"""Its time-out of 300 s is compiled in; with OpenSSL 3, Debian's build dies of a broken handshake (double free)."""
UNSEEN = {"sendmail": {NAMES + "1"}}
"""Sendmail does not log a greeting that refuses when the next MX takes the mail."""


class World:
    """The fleet, and how a sender finds it."""

    def __init__(self, stack: contextlib.ExitStack, but: tuple[str, ...] = ()):
        scripts = {f"127.0.1.{n}": script for n, (name, script) in enumerate(ALONE.items(), 1) if name not in but}
        names = {name: f"127.0.1.{n}" for n, name in enumerate(ALONE, 1)} | {"refuse": REFUSES}
        hosts = [f"{ip} mx.{name}.example" for name, ip in names.items()]
        self.routes = {f"{name}.example": [f"mx.{name}.example"] for name in names if name not in but}
        for n in range(1, 5):
            scripts |= {
                f"{ONE}{n}": STALE if n == 1 else {},
                f"{NAMES}{n}": {"banner": (NO, CLOSE)} if n == 1 else {},
            }
            hosts += [f"{ONE}{n} mx.one.example", f"{NAMES}{n} mx{n}.names.example"]
        self.routes |= {
            "one.example": ["mx.one.example"],
            "names.example": [f"mx{n}.names.example" for n in range(1, 5)],
        }
        self.hosts = "".join(f"{row}\n" for row in hosts)
        self.servers = {ip: stack.enter_context(FaultServer(s, ip, port=PORT)) for ip, s in scripts.items()}

    def recipients(self) -> list[str]:
        more = [f"r{n}@{name}.example" for n in range(8) for name in ("one", "names")]
        return [f"r@{domain}" for domain in self.routes] + more

    def saw(self) -> dict[str, tuple[int, int]]:
        """Per IP: connections, and those in which it refused."""
        sessions = {ip: server.settled() for ip, server in self.servers.items()}
        refused = {
            ip: sum(any(s[:1] in b"45" and s for _, s in one.said) for one in all_) for ip, all_ in sessions.items()
        }
        return {ip: (len(all_), refused[ip]) for ip, all_ in sessions.items() if all_}


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as opened:
        yield opened


def told(table: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Per IP: connections, and those in which it refused, as the frame has them."""
    refused = table.outcome.isin(["deferred", "rejected"])
    asked = table[table.mx_ip != REFUSES].assign(refused=refused).groupby(["mx_ip", "session"]).refused.any()
    return {ip: (len(one), int(one.sum())) for ip, one in asked.groupby("mx_ip")}


@pytest.mark.parametrize("kind", list(senders.KINDS))
def test_the_frame_equals_what_the_servers_saw(kind: str, open_folder: Path, stack: contextlib.ExitStack) -> None:
    world = World(stack, OUT_OF_REACH.get(kind, ()))
    with senders.KINDS[kind](open_folder / kind, world.routes, world.hosts) as sender:
        sender.deliver(world.recipients())
        table = sk.read_log(sender.log)
    saw = world.saw()
    assert told(table) == {ip: counts for ip, counts in saw.items() if ip not in UNSEEN.get(kind, set())}
    assert table.attrs["problems"] == []
    assert set(table.source) == {kind}
    at_refuser = table[table.mx_ip == REFUSES]
    assert set(at_refuser.error) == {"refused"}
    assert set(at_refuser.stage) == {"connect"}
    ends(kind, table)


def ends(kind: str, table: pd.DataFrame) -> None:
    """How each lonely server's try ended."""
    rows: Any = {name: table[table.mx_ip == f"127.0.1.{n}"] for n, name in enumerate(ALONE, 1)}
    outcomes = {name: list(part.outcome) for name, part in rows.items() if len(part)}
    assert outcomes["accept"] == ["accepted"]
    assert outcomes["defer"] == ["deferred"]
    assert outcomes["reject"] == outcomes["multi"] == outcomes["late"] == outcomes["greet"] == ["rejected"]
    assert rows["reject"].reply.tolist() == ["550 5.1.1 no such user"]
    assert rows["multi"].enhanced.tolist() == ["5.7.26"]
    if kind in ("postfix", "exim"):
        assert rows["multi"].reply.tolist() == ["550-5.7.26 not\n550-5.7.26 authenticated\n550 5.7.26 go away"]
        assert rows["drop"].outcome.tolist() == ["unknown"]
        assert rows["drop"].maybe_delivered.tolist() == [True]
        assert rows["late"].stage.tolist() == ["body"]
        assert rows["early"][["stage", "error"]].values.tolist() == [["mail", "lost"]]
        assert rows["slow"][["stage", "error"]].values.tolist() == [["banner", "timeout"]]
        assert rows["greet"].stage.tolist() == ["banner"]
    assert "tls_handshake" in set(rows["tls"].error) or kind in OUT_OF_REACH
    assert set(table.sender.dropna()) <= {senders.SENDER, ""}
