"""truth: how a row of a table of server behaviours is played and compared.

Belongs here: Case (script in, row and octets out), Play (runs all cases of a table, many at once). Not here:
cases.
"""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import smtpkit as sk
from tests.faultserver import NAME, FaultServer, Script, Session

ALLOWED = ("@fault.example", "@xn--4cab6c.se", "@xn--hq1bm8jm9l.fault.example")
HELO, SENDER, TO = "client.example", "me@ours.example", "r@fault.example"
MAIL = (
    b"From: me@ours.example\r\nTo: r@fault.example\r\nSubject: hello\r\n"
    b"Date: Wed, 25 Nov 2026 01:00:00 +0000\r\nMessage-ID: <1@ours.example>\r\n\r\n.one dot\r\nhello\r\n"
)
WIRE = {
    "E": b"EHLO client.example\r\n",
    "H": b"HELO client.example\r\n",
    "S": b"STARTTLS\r\n",
    "M": b"MAIL FROM:<me@ours.example>\r\n",
    "R": b"RCPT TO:<r@fault.example>\r\n",
    "D": b"DATA\r\n",
    "B": MAIL.replace(b"\r\n.one", b"\r\n..one"),
    ".": b".\r\n",
    "Q": b"QUIT\r\n",
}
"""One letter a command: `EMRDB.Q` is a whole delivery on the wire. Behind `|`: inside TLS. A last `!`: a TLS
handshake was begun, and no readable command came after it. A last `+`: some of the message, and no dot."""
Wire = str | bytes | tuple[bytes, bytes]
BIG = b"Subject: big\r\n\r\n" + (b"x" * 998 + b"\r\n") * 4000
PATIENT = sk.Timeouts(connect=10, handshake=10, reply=10, final=10, quit=5, body_rate=1)
HASTY = sk.Timeouts(connect=2, handshake=2, reply=2, final=3, quit=0.5, body_rate=1)
"""For cases that run into a limit; PATIENT everywhere else, so that a busy machine changes no verdict."""
AT_LIMIT, AT_FINAL = (2.0, 8.0), (3.0, 9.0)
"""Seconds in which a hasty case ends: not before its limit, and long before the server would be done."""


@dataclass(frozen=True)
class Case:
    """One behaviour of a server, and what must be told about it.

    `row`: words in the order outcome, stage, code, enhanced, error; a `-` where the row has nothing. `wire`:
    see WIRE. `until` is how far a probe goes; None sends.
    """

    name: str
    script: Script
    row: str
    wire: Wire
    maybe: bool = False
    anomalies: str | None = ""
    """None: it depends on who is faster, and is not compared."""
    until: str | None = None
    to: tuple[str, ...] = (TO,)
    tls: str = "may"
    hasty: bool = False
    within: tuple[float, float] = (0.0, 8.0)
    rows: tuple[str, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)
    message: bytes = MAIL
    server: Mapping[str, Any] = field(default_factory=dict)
    call: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Played:
    """What came of a case."""

    case: Case
    frame: pd.DataFrame
    sessions: Sequence[Session]
    seconds: float


def network(folder: Path, name: str, **more: Any) -> Any:
    """Loopback only, no pauses, a casebook of the case's own."""
    safe = re.sub(r"\W+", "_", name)
    return sk.internet(
        allow_networks=["127.0.0.0/8", "::1/128"],
        pace=sk.Pace.none(),
        helo=HELO,
        casebook=folder / f"{safe}.sqlite",
        ledger=folder / f"{safe}.ledger.sqlite",
        **more,
    )


def ask(case: Case, address: tuple[str, int], folder: Path) -> pd.DataFrame:
    """The public function that the case is about, against `address`."""
    common: dict[str, Any] = {
        "network": network(folder, case.name),
        "server": address,
        "server_name": NAME,
        "tls": case.tls,
        "timeouts": HASTY if case.hasty else PATIENT,
        "sender": SENDER,
    }
    if case.until is None:
        common["guard"] = sk.Guard(allow_to=ALLOWED)
        return sk.send(case.message, to=list(case.to), live=True, **(common | case.call))
    common |= case.call
    recipient = None if case.until in ("banner", "ehlo", "starttls") else case.to[0]
    return sk.probe("fault.example", recipient, until=case.until, rounds=1, **common)


def play(case: Case, folder: Path) -> Played:
    with FaultServer(case.script, **case.server) as server:
        begun = time.monotonic()
        frame = ask(case, server.address, folder)
        seconds = time.monotonic() - begun
        return Played(case, frame, server.settled(), seconds)


class Play:
    """All cases of a table that this run asks for, several at once; `play[name]` waits for one."""

    def __init__(self, cases: Iterable[Case], folder: Path, request: pytest.FixtureRequest, at_once: int = 8):
        mine = [item for item in request.session.items if item.path == request.path]
        asked = {item.callspec.params["case"] for item in mine if "case" in getattr(item, "fixturenames", ())}
        self.pool = ThreadPoolExecutor(at_once)
        self.futures: dict[str, Future[Played]] = {
            case.name: self.pool.submit(play, case, folder)
            for case in cases
            if any(name == case.name or name.endswith(f": {case.name}") for name in asked)
        }

    def __getitem__(self, name: str) -> Played:
        return self.futures[name].result()

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)


SAID = ["outcome", "stage", "code", "enhanced", "error"]


def words(row: Mapping[str, Any]) -> str:
    """A row of a frame in the notation of Case.row."""
    told = (row[name] for name in SAID)
    return " ".join("-" if pd.isna(value) else str(value) for value in told)


def octets(wire: Wire) -> tuple[bytes, bytes]:
    """Expected octets: in clear, inside TLS."""
    if isinstance(wire, bytes):
        return wire, b""
    if isinstance(wire, tuple):
        return wire
    clear, _, secret = wire.strip("!+").partition("|")
    return b"".join(WIRE[w] for w in clear), b"".join(WIRE[w] for w in secret)


def check_wire(wire: Wire, session: Session) -> None:
    """The client said exactly this."""
    clear, secret = octets(wire)
    said, more = bytes(session.clear[: len(clear)]), bytes(session.clear[len(clear) :])
    assert (said, bytes(session.secret)) == (clear, secret)
    if isinstance(wire, str) and wire.endswith("!"):
        assert more[:2] == b"\x16\x03"
        assert not any(verb in more.upper() for verb in (b"MAIL FROM", b"RCPT TO", b"EHLO ", b"QUIT"))
    elif isinstance(wire, str) and wire.endswith("+"):
        assert more.startswith(BIG[:500])
        assert b"\r\n.\r\n" not in more
        assert b"QUIT" not in more
    else:
        assert more == b""


def check(played: Played) -> None:
    """Everything a case says, against everything the frame and the server say."""
    case, frame = played.case, played.frame
    expected = case.rows or (case.row,)
    assert [words(row) for row in frame[SAID].to_dict("records")] == list(expected)
    assert len(played.sessions) == 1, "one connection and no second try"
    check_wire(case.wire, played.sessions[0])
    maybe = frame["maybe_delivered"].fillna(False)
    accepted = frame["outcome"].eq("accepted")
    assert list(maybe & ~accepted) == [case.maybe] * len(frame)
    if case.anomalies is not None:
        assert [*map(str, frame["anomalies"].fillna(""))] == [case.anomalies] * len(frame)
    for name, value in case.columns.items():
        assert list(frame[name].astype(object).where(frame[name].notna(), None)) == [value] * len(frame), name
    low, high = case.within
    assert low <= played.seconds <= high
