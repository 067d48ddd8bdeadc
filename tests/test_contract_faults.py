"""Promises of the plan's page, as an outside tool tests them: each row broke one of them once."""

import pytest

import smtpkit as sk
from tests import frames

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
