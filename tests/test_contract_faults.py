"""Promises of the plan's page, as an outside tool tests them: each row broke one of them once."""

from pathlib import Path

import pytest

import smtpkit as sk
from smtpkit.network import Network
from smtpkit.steps import Lost
from tests import frames
from tests.faultserver import FaultServer


def network(server: FaultServer, folder: Path) -> Network:
    """192.0.2.11 is that server; nothing waits."""
    files = {"casebook": folder / "casebook.sqlite", "ledger": folder / "ledger.sqlite"}
    return sk.internet(
        reroute={("192.0.2.11", 25): server.address}, helo="client.example", pace=sk.Pace.none(), **files
    )


# nobody is blamed for failed connections unless somebody else answers: a receiver is no control for itself

BREAKS: dict[str, tuple[int, int, int, float]] = {
    "one server, for a minute": (1, 5, 5, 5),
    "two servers, for ten minutes": (2, 20, 20, 20),
    "four servers, for half an hour": (4, 6, 6, 60),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_receiver_that_answered_before_is_no_control_for_itself(name: str) -> None:
    servers, good, mute, gap = BREAKS[name]
    frame = frames.rounds(servers, good + mute, lambda _i, r, _h: "good" if r < good else "mute", gap=gap)
    found = sk.diagnose(frame)
    assert [cause for cause in found.causes if cause.confidence >= 0.8] == []
    assert "our own path may be" in found.verdict
    seconds = gap * servers * (good + mute)
    other = {"domain": "control.example", "mx_ip": "203.0.113.25", "recipient": None, "recipient_domain": None}
    beside = frames.rounds(1, int(seconds // 120) + 2, frames.only(), begun="2026-11-24 00:30:02", gap=120, **other)
    (cause,) = sk.diagnose(frames.join(frame, beside)).causes
    assert (cause.kind, cause.confidence >= 0.8) == ("outage", True), "another receiver answers meanwhile"


# a message leaves only for recipients that the guard allows: none named is none allowed

HANDS_OVER = ("DATA", "TURN", "ETRN daum.example", "SEND FROM:<me@ours.example>", "SAML FROM:<me@ours.example>")


@pytest.mark.parametrize("barred", ["", "1"], ids=["", "SMTPKIT_NO_SEND"])
@pytest.mark.parametrize("line", HANDS_OVER)
def test_nothing_is_handed_over_before_a_recipient_is_named(
    line: str, barred: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A server may take DATA without RCPT: the allow-list was empty, and the message was his."""
    monkeypatch.setenv("SMTPKIT_NO_SEND", barred)
    with FaultServer({"other": b"250 ok\r\n"}) as server:
        talk = sk.Dialogue(("192.0.2.11", 25), network=network(server, tmp_path), live=True)
        talk.ehlo(), talk.mail("me@ours.example")
        answer = talk.command(line)
        talk.quit()
        (session,) = server.settled()
    assert isinstance(answer, Lost)
    assert answer.error == "guard"
    assert "recipient" in answer.text
    assert line.encode() not in session.clear
    assert list(talk.frame().outcome) == ["withheld" if line == "DATA" else "passed"]
