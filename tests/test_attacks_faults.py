"""What an audit against the contract and the list of attacks proved: each of these held on paper only."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import smtpkit as sk
from smtpkit import checks, network
from smtpkit.auth import Secret
from smtpkit.checks import transport
from smtpkit.errors import InvalidInput
from smtpkit.guard import Guard
from smtpkit.reply import MAX_SESSION, ReplyReader
from tests.fake_network import FakeNetwork
from tests.faultserver import NAME, FaultServer, offers
from tests.truth import network as net_of

AT = pd.date_range("2026-11-24", periods=40, freq="60s", tz="UTC")


@pytest.mark.parametrize("code", [450, 550, 554])
def test_the_barest_frame_is_diagnosed(code: int) -> None:
    frame = pd.DataFrame({"started_at": AT, "mx_ip": "192.0.2.1", "code": code})
    found = sk.diagnose(frame)
    assert found.verdict
    assert "nan" not in repr(found).lower().replace("nan\n", "")
    assert sk.report(found).subject


def test_what_has_no_domain_accuses_none() -> None:
    table = {"started_at": AT, "mx_ip": ["198.51.100.1", "192.0.2.1"] * 20, "code": [550, 250] * 20}
    found = sk.diagnose(pd.DataFrame(table | {"domain": [None, "innocent.example"] * 20}))
    assert "innocent.example" not in {value for cause in found.causes for value in cause.values}


def test_a_server_that_takes_anything_for_data_gets_no_dot(tmp_path: Path) -> None:
    script = {"other 1": b"354 go\r\n", "other 2": (), "other": b"250 queued as X1\r\n"}
    with FaultServer(script) as server:
        talk = sk.Dialogue(server.address, network=net_of(tmp_path, "gate"), server_name=NAME, live=False)
        for line in (
            "EHLO c.example",
            "MAIL FROM:<a@ours.example>",
            "RCPT TO:<v@bad.example>",
            "XX DATA",
            "x",
            ".",
        ):
            talk.command(line)
        talk.stop()
        while talk.frame().outcome.isna().any():  # the worker writes the end
            time.sleep(0.01)
        assert b"\r\n.\r\n" not in b"".join(bytes(one.clear) for one in server.settled())
    assert talk.frame().outcome.tolist() == ["withheld"]


def test_nothing_is_kept_of_a_flood_that_nobody_reads() -> None:
    reader = ReplyReader()
    for _ in range(4 * MAX_SESSION // 65536):
        reader.feed(b"250 A\r\n" * 9362)
    assert len(b"".join(reader._lines) + reader._buffer) <= MAX_SESSION
    while not (reply := reader.next()) or not reply.broken:
        assert reply is not None
    assert "too_long" in reply.anomalies


INSIDE = [
    "fec0::1",
    "64:ff9b:1::a00:1",
    "::a00:1",
    "::7f00:1",
    "::ffff:0:a00:1",
    "3fff::1",
    "5f00::1",
    "64:ff9b::a00:1",
]
OUTSIDE = ["2a00:1450:4001::1a", "64:ff9b::808:808", "::ffff:8.8.8.8", "8.8.8.8"]


@pytest.mark.parametrize("ip", INSIDE + OUTSIDE)
def test_what_is_inside_is_not_public(ip: str) -> None:
    assert network.is_public(ip) == (ip in OUTSIDE)


@pytest.mark.parametrize("where", ["noop", "quit", "rcpt <r@fault.example>"])
def test_a_secret_that_is_quoted_later_is_hidden(where: str, tmp_path: Path) -> None:
    quoted = b"AGpvAFp4OU1BUktFUg=="  # base64 of \0jo\0Zx9MARKER
    said = b"250-you said " + quoted + b"\r\n250 or Zx9MARKER\r\n"
    script = {"ehlo": offers("AUTH PLAIN"), "auth": b"535 5.7.8 no\r\n", where: said}
    with FaultServer(script) as server:
        net = net_of(tmp_path, "auth", reroute={("192.0.2.1", 587): server.address})
        talk = sk.Dialogue(("192.0.2.1", 587), network=net, server_name=NAME)
        talk.ehlo("c.example")
        with pytest.raises(InvalidInput, match="is no Secret"):
            talk.auth("jo", "Zx9MARKER", "PLAIN", in_clear=True)  # type: ignore[arg-type]  the wrong type is the point
        talk.auth("jo", Secret("Zx9MARKER"), "PLAIN", in_clear=True)
        shown = [
            repr(talk.noop()),
            repr(talk.mail("a@ours.example")),
            repr(talk.rcpt("r@fault.example")),
            repr(talk.quit()),
        ]
    kept = sk.Casebook(net.casebook)
    shown += [str(talk.transcript), kept.replies().to_csv(), kept.attempts().to_csv()]
    assert "***" in "".join(shown)
    assert not any(word in "".join(shown) for word in ("Zx9MARKER", quoted.decode()))


def test_a_policy_server_that_drips_keeps_nobody() -> None:
    class Link:
        sock = type("Sock", (), {"shutdown": lambda self, how: ended.append(how)})()

    ended: list[int] = []
    within = checks.Within(FakeNetwork({}), 5)
    within.links += [type("Closed", (), {"sock": None})(), Link()]
    within.end()
    assert ended == [2]
    assert "links" in Path(transport.__file__).read_text("utf-8")


FORKED = """
import os, sys, smtpkit as sk
from smtpkit.errors import StoreError
with sk.Lab("healthy") as lab:
    talk = sk.Dialogue(("192.0.2.11", 25), network=lab.network)
    run = sk.probe(lab.domain, network=lab.network, rounds=1, background=True)
    if (child := os.fork()) == 0:
        said = []
        for ask in (talk.noop, run.wait, run.stop):
            try:
                ask()
            except StoreError as error:
                said.append("begin one of your own" in str(error))
        os._exit(0 if said == [True] * 3 else 1)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_is_told_and_does_not_hang() -> None:
    assert subprocess.run([sys.executable, "-c", FORKED], timeout=60, check=False).returncode == 0


@pytest.mark.parametrize(
    "to", ["v%bad.example@ok.example", "bad.example!v@ok.example", '"v@bad.example"@ok.example']
)
def test_a_domain_on_the_list_lets_no_relay_address_through(to: str) -> None:
    assert not Guard(allow_to="@ok.example").may_deliver(to)
    assert Guard(allow_to=["@ok.example", to]).may_deliver(to)
    assert Guard(allow_to="*").may_deliver(to)


def test_a_second_recipient_behind_the_first_is_seen(tmp_path: Path) -> None:
    with FaultServer({}) as server:
        talk = sk.Dialogue(server.address, network=net_of(tmp_path, "two"), server_name=NAME)
        talk.ehlo("c.example")
        talk.mail("a@ours.example")
        assert getattr(talk.command("RCPT TO:<r@fault.example> <v@bad.example>"), "error", None) == "guard"
        assert getattr(talk.command("RCPT TO:<r@fault.example> NOTIFY=NEVER"), "code", None) == 250
        talk.quit()


def test_a_message_that_went_in_a_loop_is_not_sent() -> None:
    raw = b"Received: by a\r\n" * 26 + b"From: me@ours.example\r\nSubject: x\r\n\r\nReceived: no header\r\n"
    with sk.Lab("healthy") as lab:
        with pytest.raises(InvalidInput, match="26"):
            sk.send(raw, lab.recipient, sender=lab.sender, live=True, network=lab.network)
        fine = raw.replace(b"Received: by a\r\n", b"", 1)
        assert (
            sk.send(fine, lab.recipient, sender=lab.sender, live=True, network=lab.network).outcome[0] == "accepted"
        )


BAD: dict[str, dict[str, Any]] = {
    "a line end in HELO": {"helo": "x.example\r\n"},
    "NUL in HELO": {"helo": "x\0.example"},
    "a surrogate in HELO": {"helo": "x.example\ud800"},
    "a line end in the selector": {"selector": "s\r\nx"},
    "a path as selector": {"selector": "../x"},
}


@pytest.mark.parametrize("name", BAD)
def test_preflight_refuses_what_is_no_name(name: str) -> None:
    with pytest.raises(InvalidInput):
        checks.preflight("ours.example", network=FakeNetwork({}), **BAD[name])


def test_watch_refuses_a_zone_that_is_none() -> None:
    with sk.Lab("healthy") as lab, pytest.raises(InvalidInput, match="zones"):
        sk.watch(lab.domain, network=lab.network, zones=["z.example\r\n"], rounds=1)


def test_addresses_left_out_are_counted_and_a_null_mx_has_none() -> None:
    many = [f"192.0.2.{n}" for n in range(1, 101)]
    zone = {"d.example": {"MX": ["10 mx.d.example"]}, "mx.d.example": {"A": many}, "odd.example": {"MX": ["10 ."]}}
    route = sk.lookup_mx("d.example", network=FakeNetwork(zone))  # type: ignore[arg-type]  enough of a network
    assert (len(list(route)), route.cut) == (64, 36)
    odd = sk.lookup_mx("odd.example", network=FakeNetwork(zone))  # type: ignore[arg-type]  enough of a network
    assert (odd.status, list(odd)) == ("null", [])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_an_empty_file_becomes_a_casebook_that_others_cannot_read(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    path.touch()
    path.chmod(0o666)
    sk.Casebook(path).note("x", at=None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
