"""Promises of the plan's page, as an outside tool tests them: each row broke one of them once."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import smtpkit as sk
from smtpkit.mx import MxHost
from smtpkit.network import Network
from smtpkit.probing import our_helo
from smtpkit.steps import Lost
from tests import frames
from tests.fake_network import FakeNetwork, reverse
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


# diagnose takes any frame with started_at, mx_ip, code or error, however its columns are kept


def plain() -> pd.DataFrame:
    at = pd.Timestamp("2026-11-24", tz="UTC")
    rows = [(at + pd.Timedelta(minutes=i), i % 4, 554 if i % 4 == 2 and i > 20 else 250) for i in range(80)]
    return pd.DataFrame([(t, f"192.0.2.1{ip}", c) for t, ip, c in rows], columns=["started_at", "mx_ip", "code"])


def written(frame: pd.DataFrame, dtype: Any) -> pd.DataFrame:
    """Times as Python's isoformat writes them: with a fraction only where there is one."""
    texts = [(at + pd.Timedelta(milliseconds=i % 2)).isoformat() for i, at in enumerate(frame.started_at)]
    return frame.assign(started_at=pd.Series(texts).astype(dtype))


def since_1970(frame: pd.DataFrame, unit: str) -> pd.DataFrame:
    return frame.assign(started_at=frame.started_at.astype(f"datetime64[{unit}, UTC]").astype("int64"))


def from_csv(frame: pd.DataFrame) -> pd.DataFrame:
    text = io.StringIO(sk.attempts.conform(frame).to_csv(index=False))
    return pd.read_csv(text, dtype_backend="pyarrow")


KEPT: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "texts, some with fractions": lambda f: written(f, object),
    "the same as str": lambda f: written(f, "str"),
    "the same as Arrow strings": lambda f: written(f, "string[pyarrow]"),
    "the same as categories": lambda f: written(f, "category"),
    "seconds since 1970": lambda f: since_1970(f, "s"),
    "milliseconds": lambda f: since_1970(f, "ms"),
    "nanoseconds": lambda f: since_1970(f, "ns"),
    "seconds as float": lambda f: f.assign(started_at=[at.timestamp() for at in f.started_at]),
    "all columns of the schema, read back as Arrow": from_csv,
    "numbers as objects": lambda f: f.astype(object),
    "shuffled": lambda f: f.sample(frac=1, random_state=1),
    "an index that comes twice": lambda f: f.set_axis([0] * len(f)),
}


@pytest.mark.parametrize("name", KEPT)
def test_the_same_attempts_have_the_same_diagnosis(name: str) -> None:
    (known,), (found,) = sk.diagnose(plain()).causes, sk.diagnose(frame := KEPT[name](plain())).causes
    assert (found.kind, found.values) == (known.kind, known.values)
    assert abs(found.onset - known.onset) < pd.Timedelta("1s")
    last = sk.counts.by_ip(frame)["last"].max()
    assert abs(last - plain().started_at.max()) < pd.Timedelta("1s")


# who asked up to EHLO only, says so

ENDED = "These sessions ended at EHLO"


@pytest.mark.parametrize(
    "scenario", [pytest.param("mx_dead", marks=pytest.mark.slow), "stale_421", "tls_broken", "healthy"]
)
def test_a_search_that_ends_at_ehlo_says_so(scenario: str) -> None:
    with sk.Lab(scenario) as lab:
        soon = sk.Timeouts(connect=0.1)
        found = sk.locate(lab.domain, network=lab.network, timeouts=soon)
        deeper = sk.locate(lab.domain, lab.recipient, lab.sender, network=lab.network, timeouts=soon)
    assert found.verdict.count(ENDED) == 1
    assert ENDED not in deeper.verdict
    assert "so" not in found.table
    accused = found.table[found.table.accused]
    assert list(accused.as_cause) == list(accused.failed), "the failures of who is named"


def test_a_table_without_outcomes_that_was_asked_to_ehlo_says_so() -> None:
    frame = plain().assign(asked="ehlo")
    assert ENDED in sk.diagnose(frame).verdict
    assert ENDED not in sk.diagnose(frame.assign(asked="rcpt")).verdict
    beside = frame.assign(asked=frame.index.to_series().mod(2).map({0: "ehlo", 1: None}))
    assert ENDED not in sk.diagnose(beside).verdict, "a log beside a probe went as far as mail goes"


# below 0.8 a verdict says that the evidence is not enough, and how many more sessions would be


FEW: dict[str, tuple[pd.DataFrame, set[str]]] = {
    "one session": (frames.rounds(1, 1, frames.only()), {"192.0.2.11"}),
    "one of each server": (frames.rounds(3, 1, frames.only()), {f"192.0.2.1{n}" for n in (1, 2, 3)}),
    "one of each of two receivers": (
        frames.join(
            frames.rounds(1, 1, frames.only()),
            frames.rounds(1, 1, frames.only(), domain="two.example", mx_ip="203.0.113.5"),
        ),
        {"192.0.2.11", "203.0.113.5"},
    ),
}


@pytest.mark.parametrize("name", FEW)
def test_few_clean_sessions_are_said_to_be_few(name: str) -> None:
    frame, ips = FEW[name]
    found = sk.diagnose(frame)
    assert (found.causes, found.confidence < 0.8) == ((), True)
    assert "not enough evidence" in found.verdict
    assert found.more_probes == dict.fromkeys(ips, 4)
    assert "4 more of " in found.verdict
    assert "not enough" not in sk.diagnose(frames.rounds(4, 5, frames.only())).verdict


# words like "too many" stop the whole receiver

OFTEN = {
    "Korean": "421 4.7.0 너무 많은 접속입니다",
    "Chinese": "451 发信频率过快，请稍后再试",
    "Japanese": "421 4.7.0 接続数が上限を超過しました",
    "QQ": "550 Ip frequency limited [Oaj1ioVTF4gn IP: 192.0.2.7]",
    "Exchange": "421 4.3.2 The maximum number of concurrent connections has exceeded a limit, closing channel",
    "Postfix": "451 4.7.1 <mx.ours.example[192.0.2.7]>: Client host rejected: Please try again slower",
    "too many": "421 4.7.0 Too many connections from your IP",
}
OTHERS = {
    "Kakao": "421 4.4.5 CCRT 192.0.2.9: Server is busy(RT)",
    "Naver": "421 4.3.2 Your IP 192.0.2.9 is filtered and this connection will be closed",
    "a mailbox": "450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents more",
    "a block": "554 5.7.1 Your IP is on our blacklist",
}


@pytest.mark.parametrize("name", [*OFTEN, *OTHERS])
def test_who_is_told_that_he_comes_too_often_leaves_the_receiver_alone(name: str, tmp_path: Path) -> None:
    """What is no word about us lets its siblings be asked: only that IP rests."""
    text = (OFTEN | OTHERS)[name]
    with FaultServer({"banner": f"{text}\r\n".encode()}) as server:
        hosts = tuple(MxHost(f"mx{n}.daum.example", 10, (f"192.0.2.{n}",), None, "daum.example") for n in (11, 12))
        pace = sk.Pace(receiver_gap=0, ip_gap=0, patience=30)
        net = network(server, tmp_path)
        net.reroute |= {("192.0.2.12", 25): server.address}
        frame = sk.probe(sk.MxRoute("daum.example", "mx", hosts), network=net, rounds=1, pace=pace)
    assert list(frame.error.eq("paced")) == [False, name in OFTEN]


# what our own PTR record holds is no mistake of the caller


@pytest.mark.parametrize(
    ("pointer", "helo"),
    [("mail.ours.example", "mail.ours.example"), ("*.x.example", "[203.0.113.9]"), (".", "[203.0.113.9]")],
)
def test_a_ptr_name_that_is_no_host_name_is_not_ours(pointer: str, helo: str) -> None:
    zone = {reverse("203.0.113.9", "in-addr.arpa"): {"PTR": [pointer]}, pointer: {"A": ["203.0.113.9"]}}
    assert our_helo(None, FakeNetwork(zone, sender_ip="203.0.113.9")) == helo
