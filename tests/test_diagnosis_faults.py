"""Incidents that readers brought: an innocent part was accused, or a guilty one missed with plenty of evidence."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import smtpkit as sk
from smtpkit import attempts
from tests import frames

Said = dict[str, Any]
OK = {"outcome": "accepted", "stage": "body", "code": 250, "enhanced": "2.0.0", "reply": "250 2.0.0 Ok: queued"}
BLOCKED = {"outcome": "rejected", "stage": "rcpt", "code": 554, "reply": "554 5.7.1 [198.51.100.7] blocked"}
BUSY = {"outcome": "deferred", "stage": "rcpt", "code": 451, "reply": "451 4.3.0 Temporary system problem"}
GREY = {"outcome": "deferred", "stage": "rcpt", "code": 451, "reply": "451 4.7.1 Greylisted, try again"}
AUTH = {"outcome": "rejected", "stage": "data", "code": 550, "reply": "550 5.7.26 unauthenticated mail is refused"}
MANY = {"outcome": "deferred", "stage": "mail", "code": 421, "reply": "421 4.7.0 Too many messages from your IP"}
SILENT = {"outcome": "failed", "stage": "connect", "error": "timeout"}
LOST = {"outcome": "failed", "stage": "ehlo", "error": "lost"}
DNS = {"outcome": "failed", "stage": "dns", "error": "dns_servfail", "mx_ip": None, "mx_host": None}


def made(n: int, says: Callable[[int, int], Said], servers: int = 4, gap: float = 20) -> pd.DataFrame:
    """`n` attempts in turn at the MX IPs 192.0.2.11 and up; `says(number, server)` gives what differs."""
    at, rows = pd.Timestamp("2026-11-24 01:00", tz="UTC"), []
    for i in range(n):
        ip = i % servers
        row: Said = {"attempt_id": f"a{i}", "session": f"s{i}", "source": "send", "asked": "body", "latency_s": 0.2}
        row |= {"started_at": at + pd.Timedelta(seconds=gap * i), "domain": "daum.example", "try_number": 1}
        row |= {"mx_ip": f"192.0.{2 + (11 + ip) // 256}.{(11 + ip) % 256}", "mx_host": f"mx{ip}.daum.example"}
        row |= {"sender_ip": "198.51.100.7"}
        row |= {"recipient": f"u{i}@daum.example", "message_id": f"<{i}@ours.example>", "size_bytes": 2000 + i % 37}
        rows.append(row | says(i, ip))
    return attempts.frame(rows)


@pytest.mark.parametrize(
    ("stale", "servers", "n"), [(4, 6, 240), (5, 6, 240), (7, 8, 400), (9, 20, 400), (5, 6, 30)], ids=str
)
def test_many_stale_servers_are_all_named(stale: int, servers: int, n: int) -> None:
    found = sk.diagnose(made(n, lambda i, ip: BLOCKED if ip < stale else OK, servers))
    assert [(cause.kind, set(cause.values)) for cause in found.causes] == [
        ("mx_block", {f"192.0.2.{11 + ip}" for ip in range(stale)})
    ]
    assert f"the {servers - stale} other MX IP" in found.verdict or stale + 1 == servers


@pytest.mark.parametrize(("silent", "servers"), [(0, 600), (41, 300)], ids=str)
def test_one_stale_server_of_hundreds_is_named(silent: int, servers: int) -> None:
    def says(i: int, ip: int) -> Said:
        return BLOCKED if ip == 13 else SILENT if silent and (7 * ip + i // servers) % silent == 0 else OK

    found = sk.diagnose(made(6 * servers, says, servers, gap=1))
    assert [(cause.kind, cause.values) for cause in found.causes] == [("mx_block", ("192.0.2.24",))]


def test_lookups_that_failed_are_no_rate_limit() -> None:
    found = sk.diagnose(made(400, lambda i, ip: DNS if i % 2 else OK))
    assert "rate_limit" not in {cause.kind for cause in found.causes}
    assert sk.report(found).letter is None


def test_a_site_that_got_slow_accuses_no_server() -> None:
    found = sk.diagnose(made(160, lambda i, ip: OK | {"latency_s": 5.0 if i > 120 else 0.2}))
    assert found.causes == ()


def test_milliseconds_are_not_slow() -> None:
    found = sk.diagnose(made(160, lambda i, ip: OK | {"latency_s": 0.09 if ip == 2 else 0.002}))
    assert found.causes == ()
    slow = sk.diagnose(made(160, lambda i, ip: OK | {"latency_s": 0.9 if ip == 2 else 0.02}))
    assert [cause.values for cause in slow.causes] == [("192.0.2.13",)]


@pytest.mark.parametrize("ending", [SILENT, LOST], ids=["timeout", "lost"])
def test_who_does_not_answer_refuses_no_recipient(ending: Said) -> None:
    bad = np.random.default_rng(5).random(400) < 0.1
    found = sk.diagnose(made(400, lambda i, ip: ending if bad[i] else OK))
    assert {cause.kind for cause in found.causes if cause.confidence >= 0.8} <= {"outage", "healthy"}
    assert sk.report(found).letter is None


@pytest.mark.parametrize("n", [20, 400])
def test_a_server_that_drops_every_connection_is_named(n: int) -> None:
    found = sk.diagnose(made(n, lambda i, ip: LOST if ip == 1 else OK))
    assert [(cause.kind, cause.values) for cause in found.causes] == [("mx_dead", ("192.0.2.12",))]
    assert found.causes[0].confidence >= 0.8


@pytest.mark.parametrize("gap", [20, 144], ids=["an hour", "eight hours"])
@pytest.mark.parametrize(("said", "kind"), [(BUSY, "outage"), (BLOCKED, "provider_block")], ids=["busy", "blocked"])
def test_what_goes_on_to_the_end_is_no_rate_of_ours(said: Said, kind: str, gap: float) -> None:
    found = sk.diagnose(made(200, lambda i, ip: said if i >= 150 else OK, gap=gap))
    assert found.causes[0].kind == kind


def test_who_is_not_known_is_no_sibling() -> None:
    found = sk.diagnose(
        made(80, lambda i, ip: (BLOCKED if ip == 2 else OK) | ({"mx_ip": None} if i % 3 == 0 else {}))
    )
    assert "the 3 other MX IPs refused 0 of 40" in found.verdict
    letter = str(sk.report(found).letter)
    assert "0 of 40 refused by your 3 other MX addresses" in letter


def test_one_pass_of_another_back_end_clears_the_address() -> None:
    said = {"be3.daum.example": OK, "be4.daum.example": BLOCKED}
    names = ["be1", "be4", "be2", "be4", "be1", "be3", "be2", "be4", "be1", "be4"]

    def says(i: int, ip: int) -> Said:
        host = f"{names[i]}.daum.example"
        return said.get(host, OK) | {"banner_host": host}

    found = sk.diagnose(made(10, says, servers=2))
    assert [(cause.dimension, cause.values) for cause in found.causes] == [("backend", ("be4.daum.example",))]


@pytest.mark.parametrize(("lang", "words"), [("en", "refuse 2 of our addresses"), ("ko", "발송 IP 2개를 거부")])
def test_two_of_our_addresses_are_two(lang: Any, words: str) -> None:
    ours = [f"198.51.100.{n}" for n in (7, 8, 9)]
    frame = made(240, lambda i, ip: (BLOCKED if (i // 4) % 3 < 2 else OK) | {"sender_ip": ours[(i // 4) % 3]})
    assert words in str(sk.report(sk.diagnose(frame), lang=lang).letter)


def test_pairs_on_a_diagonal_are_not_told_as_all_with_all() -> None:
    def says(i: int, ip: int) -> Said:
        us = (i // 4) % 2
        return (BLOCKED if (ip, us) in ((1, 0), (2, 1)) else OK) | {"sender_ip": f"198.51.100.{7 + us}"}

    frame = made(320, says)
    for cause in sk.diagnose(frame).causes:
        named = frame.mx_ip.isin(cause.values) & frame.sender_ip.isin(
            cause.only_for.get("sender_ip", frame.sender_ip)
        )
        assert frame[named].outcome.eq("rejected").all() or cause.dimension == "mx_ip"


def test_dmarc_from_the_first_row_on_is_auth_failure() -> None:
    (cause,) = sk.diagnose(made(60, lambda i, ip: AUTH)).causes
    assert (cause.kind, cause.confidence >= 0.8) == ("auth_failure", True)


def test_greylisting_that_was_followed_says_what_came() -> None:
    def says(i: int, ip: int) -> Said:
        late = {"recipient": f"u{i - 60}@daum.example", "message_id": f"<{i - 60}@ours.example>", "try_number": 2}
        return GREY if i < 60 else OK | late

    found = sk.diagnose(made(120, says))
    assert found.causes[0].kind == "greylisting"
    assert "later ones 0 of 60" in found.verdict
    assert "Can't tell" not in found.verdict


def test_a_limit_that_each_server_keeps_says_so() -> None:
    def says(i: int, ip: int) -> Said:
        return MANY if i % 30 >= 20 else OK

    frame = made(240, says, gap=1)
    frame["started_at"] += pd.to_timedelta((np.arange(240) // 30) * 900, unit="s")
    found = sk.diagnose(frame)
    assert found.causes[0].kind == "rate_limit"
    number = int(found.verdict.split("came as number ")[1].split()[0])
    assert ("at one MX IP" in found.verdict) == (number < 10)


@pytest.mark.parametrize(("lang", "words"), [("en", "does not answer us"), ("ko", "응답")])
def test_a_firewall_s_silence_is_no_refusal(lang: Any, words: str) -> None:
    def says(i: int, ip: int) -> Said:
        us = (i // 4) % 2
        return (SILENT if ip == 2 and us else OK) | {"sender_ip": f"198.51.100.{7 + us}"}

    found = sk.diagnose(made(160, says))
    assert "asked from 198.51.100.8, gave no usable answer in 20 of 20 sessions" in found.verdict
    assert "refused" not in found.verdict
    assert words in str(sk.report(found, lang=lang).letter)


@pytest.mark.parametrize("n", [3, 4])
def test_of_two_explanations_as_good_the_one_stands_that_accuses_fewer(n: int) -> None:
    """One server refuses always, another 3 of 12: both would score a little better, and one is sure."""
    bad = {(0, r) for r in range(12)} | {(1, r) for r in (0, 4, 8)}
    found = sk.diagnose(frames.rounds(n, 12, lambda i, r, _: "bad" if (i, r) in bad else "good"))
    assert [(c.kind, c.values) for c in found.causes] == [("mx_block", ("192.0.2.11",))]


def test_a_receiver_s_own_trouble_makes_another_s_cause_no_less_sure() -> None:
    """Causes compete for the rows that the likeliest explains, not for those of other receivers."""
    own = frames.rounds(4, 6, frames.only(1))
    theirs = {"domain": "other.example", "recipient_domain": "other.example", "recipient": "r@other.example"}
    other = frames.rounds(4, 6, frames.only(2, kind="mute"), begun="2026-11-24 00:30:02", **theirs)
    other["mx_ip"] = other.mx_ip.str.replace("192.0.2", "203.0.113")
    both = sk.diagnose(frames.join(own, other))
    assert [c.kind for c in both.causes] == ["mx_block", "mx_dead"]
    assert both.causes[0].confidence == sk.diagnose(own).causes[0].confidence == 0.99


@pytest.mark.parametrize("good", [(), (0,), (0, 1), (11,), (6,)], ids=str)
def test_a_receiver_that_answered_once_is_out_all_the_same(good: tuple[int, ...]) -> None:
    """It was told as "they follow no server", beside another receiver that answered in between all the time."""
    dead = frames.rounds(1, 12, lambda i, r, _: "good" if r in good else "mute", gap=600)
    theirs = {"domain": "other.example", "recipient_domain": "other.example", "recipient": "r@other.example"}
    other = frames.rounds(1, 14, frames.only(), begun="2026-11-24 00:25", gap=600, mx_ip="203.0.113.1", **theirs)
    (cause,) = sk.diagnose(frames.join(dead, other)).causes
    assert (cause.kind, cause.dimension) == ("outage", "time")
    assert len(cause.evidence) == 12 - len(good)
    assert cause.confidence >= 0.8
