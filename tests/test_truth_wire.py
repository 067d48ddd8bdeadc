"""The octets themselves: curl's expectations for DATA and IDN, rosetta-test's injection groups, re-expressed.

curl's tests compare what a client sent with what the standard asks, octet by octet (cases 901 to 969, 1520).
rosetta-test (codeZeilen) asks what a client does with CR and LF in each argument of each command.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import smtpkit as sk
from tests.faultserver import NAME, FaultServer, offers
from tests.truth import HELO, SENDER, TO, WIRE, Case, Play, check, network

HEAD = b"From: me@ours.example\r\nDate: Wed, 25 Nov 2026 01:00:00 +0000\r\nMessage-ID: <1@ours.example>\r\n\r\n"
TAKEN = "accepted body 250 2.0.0 -"
BODIES = {
    "a plain line": (b"body\r\n", b"body\r\n"),
    "no line end at the end": (b"body", b"body\r\n"),
    "no body": (b"", b""),
    "only line ends": (b"\r\n\r\n\r\n", b"\r\n\r\n\r\n"),
    "a dot is the first octet": (b".body\r\n", b"..body\r\n"),
    "a line that is a dot": (b"a\r\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n"),
    "two dots": (b"..\r\n", b"...\r\n"),
    "dots on every line": (b".\r\n.\r\n..\r\n...x\r\n", b"..\r\n..\r\n...\r\n....x\r\n"),
    "dots inside lines stay": (b"a.b\r\na .\r\n ..\r\n", b"a.b\r\na .\r\n ..\r\n"),
    "a dot at the very end": (b"a\r\n.", b"a\r\n..\r\n"),
    "a command in the body": (b"a\r\n.\r\nQUIT\r\nMAIL FROM:<>\r\n", b"a\r\n..\r\nQUIT\r\nMAIL FROM:<>\r\n"),
    "octets above 127": (b"\xea\xb0\x80\r\n", b"\xea\xb0\x80\r\n"),
}
"""Body as built, body on the wire (RFC 5321 4.5.2)."""
EDGES = [n + off for n in (4096, 8192, 16384, 65536, 262144) for off in (-3, -2, -1, 0, 1)]
"""Where a writer's blocks may end: a line that begins with a dot starts exactly there."""


def said(body: bytes, **other: bytes) -> bytes:
    """A whole delivery: `body` on the wire, other commands where named."""
    letters = {**WIRE, **other, "B": HEAD + body}
    return b"".join(letters[letter] for letter in "EMRDB.Q")


def data() -> Iterator[Case]:
    for name, (built, wired) in BODIES.items():
        eight = {"M": WIRE["M"][:-2] + b" BODY=8BITMIME\r\n"} if max(built, default=0) > 127 else {}
        yield Case(f"DATA: {name}", {}, TAKEN, said(wired, **eight), message=HEAD + built)
    for edge in EDGES:
        filler = b"x" * 62 + b"\r\n"
        room = edge - len(HEAD)
        lines = filler * (room // 64 - 1)
        lines += b"y" * (room - len(lines) - 2) + b"\r\n"
        assert len(HEAD + lines) == edge
        wire = said(lines + b"..dot\r\n" + filler)
        yield Case(
            f"DATA: a dot line at octet {edge}", {}, TAKEN, wire, message=HEAD + lines + b".dot\r\n" + filler
        )


def idn() -> Iterator[Case]:
    """Host parts go out as A-labels; SMTPUTF8 is asked for only where a local part needs it."""
    plain = HEAD + b"body\r\n"
    utf8, none = {"ehlo": offers("SMTPUTF8", "8BITMIME")}, {"ehlo": offers("8BITMIME")}
    puny, local = b"MAIL FROM:<sender@xn--4cab6c.se>", "MAIL FROM:<Avsändaren@xn--4cab6c.se>".encode()
    to, to_local = (
        b"RCPT TO:<recipient@xn--4cab6c.se>\r\n",
        "RCPT TO:<Stödmottagaren@xn--4cab6c.se>\r\n".encode(),
    )
    host, both = {"sender": "sender@åäö.se"}, {"sender": "Avsändaren@åäö.se"}
    for name, offered in (("with SMTPUTF8", utf8), ("without SMTPUTF8", none)):
        wire = said(b"body\r\n", M=puny + b"\r\n")
        yield Case(f"IDN: sender's host, {name}", offered, TAKEN, wire, call=host, message=plain)
        wire = said(b"body\r\n", R=to)
        yield Case(f"IDN: recipient's host, {name}", offered, TAKEN, wire, to=("recipient@åäö.se",), message=plain)
    wire = said(b"body\r\n", M=local + b" SMTPUTF8\r\n")
    yield Case("IDN: sender's local part, with SMTPUTF8", utf8, TAKEN, wire, call=both, message=plain)
    wire = said(b"body\r\n", M=WIRE["M"][:-2] + b" SMTPUTF8\r\n", R=to_local)
    who = ("Stödmottagaren@åäö.se",)
    yield Case("IDN: recipient's local part, with SMTPUTF8", utf8, TAKEN, wire, to=who, message=plain)
    no = "failed mail - - not_offered"
    yield Case("IDN: sender's local part, without SMTPUTF8", none, no, "EQ", call=both, message=plain)
    yield Case("IDN: recipient's local part, without SMTPUTF8", none, no, "EQ", to=who, message=plain)


CASES = {case.name: case for table in (data, idn) for case in table()}


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Play]:
    playing = Play(CASES.values(), tmp_path_factory.mktemp("wire"), request)
    yield playing
    playing.close()


@pytest.mark.parametrize("case", CASES)
def test_octets(case: str, play: Play) -> None:
    check(play[case])


BAD = {
    "CRLF": "\r\n", "LF": "\n", "CR": "\r", "NUL": "\0", "ESC": "\x1b", "DEL": "\x7f", "TAB": "\t",
    "VT": "\x0b", "NEL": "\x85", "line separator": "\u2028", "a lone surrogate": "\ud800", "bidi": "\u202e",
}  # fmt: skip
INJECTED = "RCPT TO:<evil@fault.example>"
ARGUMENTS: dict[str, Callable[..., Any]] = {
    "EHLO, probe": lambda bad, **where: sk.probe("fault.example", **where, helo=f"client{bad}.example"),
    "EHLO, send": lambda bad, **where: send(where, helo=f"client{bad}.example"),
    "MAIL, probe": lambda bad, **where: sk.probe("fault.example", TO, f"me{bad}@ours.example", **where),
    "MAIL, domain": lambda bad, **where: sk.probe("fault.example", TO, f"me@ours{bad}.example", **where),
    "MAIL, send": lambda bad, **where: send(where, sender=f"me{bad}@ours.example"),
    "RCPT, probe": lambda bad, **where: sk.probe("fault.example", f"r{bad}@fault.example", SENDER, **where),
    "RCPT, domain": lambda bad, **where: sk.probe("fault.example", f"r@fault{bad}.example", SENDER, **where),
    "RCPT, send": lambda bad, **where: send(where, to=f"r{bad}@fault.example"),
    "RCPT, one of two": lambda bad, **where: send(where, to=[TO, f"r{bad}@fault.example"]),
    "domain": lambda bad, **where: sk.probe(f"fault{bad}.example", **where),
    "server name": lambda bad, **where: sk.probe("fault.example", **where | {"server_name": f"mx{bad}.example"}),
}


def send(where: dict[str, Any], *, to: Any = TO, sender: str = SENDER, **more: Any) -> Any:
    guard = sk.Guard(allow_to=("@fault.example",))
    return sk.send(HEAD + b"body\r\n", to, sender=sender, live=True, guard=guard, **where, **more)


@pytest.mark.parametrize("argument", ARGUMENTS)
@pytest.mark.parametrize("bad", BAD)
def test_a_control_character_goes_nowhere(bad: str, argument: str, tmp_path: Path) -> None:
    """Refused before an octet leaves and before a row counts as an attempt."""
    made = network(tmp_path, "injection")
    for tail in ("", INJECTED):
        with FaultServer({}) as server:
            where = {"network": made, "server": server.address, "server_name": NAME}
            with pytest.raises(sk.errors.InvalidInput) as wrong:
                ARGUMENTS[argument](BAD[bad] + tail, **where)
            assert server.settled() == []
        assert not any(ord(c) < 32 or ord(c) == 127 for c in str(wrong.value)), "the error shows it visibly"
    assert not made.casebook.exists() or sk.Casebook(made.casebook).attempts().empty


def test_names_are_written_the_standards_way(tmp_path: Path) -> None:
    """The seed's `MAIL FROM: name<a@b>` is taken as input, and goes out as `MAIL FROM:<a@b>`."""
    with FaultServer({}) as server:
        where = {"network": network(tmp_path, "names"), "server": server.address, "server_name": NAME}
        sk.probe("fault.example", "Postmaster <r@FAULT.example>", "me <me@ours.example>", rounds=1, **where)
        (session,) = server.settled()
    assert bytes(session.clear) == b"".join(WIRE[letter] for letter in "EMRQ")
    assert HELO.encode() in WIRE["E"]
