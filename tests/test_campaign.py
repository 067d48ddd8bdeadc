"""Runs: background, stop, rows of what was not asked, limits of the guard, where the pace is honoured."""

import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import smtpkit as sk
from smtpkit import campaign, catalogue, escape, evidence, probing
from smtpkit.errors import EngineFault, InvalidInput, StoreError
from smtpkit.network import Answer, own_ip
from tests.faultserver import GOOD, SILENT, FaultServer, Tls, Wait
from tests.test_store_faults import SENDER, TO, message, network, send


def probe(server: FaultServer, net: Any, **more: Any) -> Any:
    return sk.probe("fault.example", server=server.address, server_name="mx.fault.example", network=net, **more)


class TestBackground:
    def test_it_returns_at_once_and_tells_how_far_it_is(self, tmp_path: Path) -> None:
        with FaultServer({"banner": (Wait(0.3), b"220 hi\r\n")}) as server:
            run = probe(server, network(tmp_path), background=True, rounds=2)
            assert run.running
            assert "running: 0 of 2 sessions" in repr(run)
            frame = run.wait()
        assert not run.running
        assert list(frame["outcome"]) == ["passed", "passed"]
        assert "done: 2 of 2 sessions" in repr(run)
        assert run.error is None

    def test_stop_ends_live_sessions_and_makes_no_rows_of_what_was_not_asked(self, tmp_path: Path) -> None:
        with FaultServer({"ehlo": SILENT}) as server:
            slow = sk.Timeouts(reply=60)
            run = probe(server, network(tmp_path), background=True, rounds=50, timeouts=slow)
            time.sleep(0.3)
            begun = time.monotonic()
            run.stop()
            frame = run.wait()
            assert time.monotonic() - begun < 2
        assert run.stopped
        assert 1 <= len(frame) < 50
        assert set(frame["error"]) == {"stopped"}
        assert frame.attrs["smtpkit"]["stopped"]

    @pytest.mark.slow
    def test_waiting_may_end_before_the_run(self, tmp_path: Path) -> None:
        with FaultServer({"ehlo": SILENT}) as server:
            run = probe(server, network(tmp_path), background=True, rounds=1)
            with pytest.raises(TimeoutError, match=r"wait\(\) again"):
                run.wait(timeout=0.05)
            assert list(run.wait()["error"]) == ["timeout"]


def test_a_store_that_cannot_be_opened_is_raised_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "c.sqlite").write_text("no database, " * 100)
    with FaultServer(GOOD) as server:
        for background in (False, True):
            with pytest.raises(StoreError, match="nothing is sent"):
                probe(server, network(tmp_path), background=background)
        assert server.sessions == []


class TestGuard:
    def test_connections_beyond_its_limit_are_rows_and_not_made(self, tmp_path: Path) -> None:
        with FaultServer(GOOD) as server:
            frame = probe(server, network(tmp_path), guard=sk.Guard(max_connections=3), rounds=5)
            assert len(server.sessions) == 3
        assert list(frame["outcome"]) == ["passed"] * 3 + ["withheld"] * 2
        assert set(frame["error"].dropna()) == {"guard"}

    def test_a_dry_run_connects_nowhere_and_says_so(self, tmp_path: Path) -> None:
        with FaultServer(GOOD) as server:
            frame = send(1, server, network(tmp_path), live=False)
            assert server.sessions == []
        assert list(frame["outcome"]) == ["withheld"]

    def test_live_to_a_stranger_ends_before_data(self, tmp_path: Path) -> None:
        with FaultServer(GOOD) as server:
            frame = send(1, server, network(tmp_path), guard=sk.Guard(allow_to=["other@fault.example"]))
            assert all(b"DATA" not in bytes(session.clear) for session in server.sessions)
        assert list(frame["outcome"]) == ["withheld"]
        assert list(frame["error"]) == ["guard"]

    def test_the_environment_holds_it_all_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SMTPKIT_NO_SEND", "1")
        with FaultServer(GOOD) as server:
            frame = send(1, server, network(tmp_path))
            assert all(b"DATA" not in bytes(session.clear) for session in server.sessions)
        assert list(frame["outcome"]) == ["withheld"]

    def test_private_addresses_are_refused_unless_allowed(self, tmp_path: Path) -> None:
        with FaultServer(GOOD) as server:
            net = sk.internet(casebook=tmp_path / "c.sqlite", ledger=tmp_path / "l.sqlite", helo="client.example")
            frame = probe(server, net, rounds=1)
            assert server.sessions == []
        assert (frame["outcome"].iloc[0], frame["error"].iloc[0]) == ("withheld", "guard")


class TestSending:
    def test_the_same_again_is_withheld_unless_asked_for(self, tmp_path: Path) -> None:
        with FaultServer(GOOD) as server:
            net = network(tmp_path)
            outcomes = [send(1, server, net, **more)["outcome"].iloc[0] for more in ({}, {}, {"again": True})]
            other = send(1, server, net, case="another")["outcome"].iloc[0]
        assert outcomes == ["accepted", "withheld", "accepted"]
        assert other == "accepted", "another case has its own memory"

    def test_a_refused_one_may_be_sent_again(self, tmp_path: Path) -> None:
        with FaultServer({"dot": b"550 no\r\n"}) as server:
            net = network(tmp_path)
            assert [send(1, server, net)["outcome"].iloc[0] for _ in range(2)] == ["rejected", "rejected"]

    @pytest.mark.parametrize(
        ("wrong", "word"),
        [
            ({"mx": "last"}, "last"),
            ({"sender": ""}, "null reverse-path"),
            ({"tls": "yes"}, "yes"),
            ({"ca_file": "/nowhere.pem"}, "nowhere"),
            ({"helo": "two words"}, "two words"),
        ],
    )
    def test_a_wrong_argument_is_told_before_an_octet_and_without_a_row(
        self, wrong: dict[str, Any], word: str, tmp_path: Path
    ) -> None:
        with FaultServer(GOOD) as server:
            net = network(tmp_path)
            how = {"server": server.address, "live": True, "sender": SENDER, "network": net} | wrong
            with pytest.raises(InvalidInput, match=word):
                sk.send(message(1), TO, **how)
            assert server.sessions == []
        assert sk.Casebook(net.casebook).attempts().empty

    def test_recipients_of_two_domains_are_not_mixed(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match=r"a\.example, b\.example"):
            sk.send(message(1), ["x@a.example", "y@b.example"], sender=SENDER, network=network(tmp_path))


class TestProgress:
    def test_a_terminal_keeps_the_last_state(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("smtpkit.progress.YOUNG", 0.05)
        with FaultServer({"banner": (Wait(0.3), b"220 hi\r\n"), "mail": b"550 no\r\n"}) as server:
            probe(server, network(tmp_path), recipient=TO, sender=SENDER, rounds=2)
        assert "2 of 2 sessions, 2 refused" in capsys.readouterr().err

    def test_it_can_be_turned_off(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("smtpkit.progress.YOUNG", 0.05)
        monkeypatch.setattr(escape.options, "progress", False)
        with FaultServer({"banner": (Wait(0.3), b"220 hi\r\n")}) as server:
            probe(server, network(tmp_path), rounds=1)
        assert capsys.readouterr().err == ""

    def test_slow_dns_has_a_line_of_its_own(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("smtpkit.progress.YOUNG", 0.05)
        dead = sk.internet(
            nameservers=[("127.0.0.1", 9)], dns_timeout=0.3, casebook=tmp_path / "c.sqlite", helo="me.example"
        )
        frame = sk.probe("d.example", network=dead)
        assert "DNS for d.example: 2 of 2 lookups, done" in capsys.readouterr().err
        assert frame["why"].item().startswith("The resolution lifetime expired")

    def test_a_notebook_gets_a_bar_with_a_label(self) -> None:
        made = campaign.Progress("probe <b>")
        made.text = made._done = made._total = 1  # type: ignore[assignment]  # only the markup is looked at
        assert "role='status'" in made._repr_html_()
        assert "<b>" not in made._repr_html_()


def test_no_pauses_are_not_honoured_for_the_real_world(tmp_path: Path) -> None:
    """Pace.none() against a public address: the default pace holds, so a second session must wait."""
    net = sk.internet(casebook=tmp_path / "c.sqlite", ledger=tmp_path / "l.sqlite", pace=sk.Pace.none())
    assert not net.unpaced("8.8.8.8", 25)
    assert net.unpaced("127.0.0.1", 25)
    assert sk.internet(reroute={("8.8.8.8", 25): ("127.0.0.1", 1)}).unpaced("8.8.8.8", 25)


class TestWhy:
    """A row that was withheld says why, and what to do."""

    def test_an_address_that_is_not_public_waits_for_nothing(self, tmp_path: Path) -> None:
        net = sk.internet(casebook=tmp_path / "c.sqlite", ledger=tmp_path / "l.sqlite")
        begun = time.monotonic()
        frame = sk.probe(server=("10.0.0.1", 25), network=net)
        assert time.monotonic() - begun < 10, "no pause before what is never connected to"
        assert set(frame["error"]) == {"guard"}
        assert set(frame["why"]) == {"10.0.0.1 is not a public address; name it in allow_networks if you mean it"}
        assert frame["tls_problem"].isna().all()
        assert not (tmp_path / "l.sqlite").exists(), "no visit is remembered"

    def test_limits_of_guard_and_pace(self, tmp_path: Path) -> None:
        pace = sk.Pace(receiver_gap=0, ip_gap=0, rests=(0,), asks_after_refusal=1)
        with FaultServer({"banner": b"554 no\r\n"}) as server:
            frame = probe(server, network(tmp_path), pace=pace, guard=sk.Guard(max_connections=2), rounds=3)
            again = probe(server, network(tmp_path), pace=pace, rounds=3)
        assert frame["why"].iloc[-1] == "guard.max_connections=2 a run; raise it, or go on in another run"
        assert "asked 1 times more" in again["why"].iloc[-1]

    def test_a_turn_too_far_away(self, tmp_path: Path) -> None:
        pace = sk.Pace(receiver_gap=100, patience=1)
        with FaultServer(GOOD) as server:
            frame = probe(server, network(tmp_path), pace=pace, rounds=2)
        assert "pace.patience is 1 s" in frame["why"].iloc[-1]


@pytest.mark.parametrize("wrong", [{"pace": 3}, {"guard": ["r@a.example"]}, {"timeouts": 5}, {"case": "a\nb"}])
def test_a_rule_of_another_type_is_refused_before_anything_is_asked(wrong: dict[str, Any], tmp_path: Path) -> None:
    with FaultServer(GOOD) as server, pytest.raises(InvalidInput, match=next(iter(wrong))):
        probe(server, network(tmp_path), **wrong)
    assert server.sessions == []


def test_a_fault_leaves_no_open_visit_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the receiver would count as busy for an hour, as long as this process lives."""
    net = sk.internet(casebook=tmp_path / "c.sqlite", ledger=tmp_path / "l.sqlite", allow_networks=["127.0.0.0/8"])
    with FaultServer(GOOD) as server, monkeypatch.context() as broken:
        broken.setattr(campaign.Session, "__init__", lambda *_: 1 / 0)
        with pytest.raises(EngineFault, match="ZeroDivisionError"):
            probe(server, net, rounds=1)
    with closing(sqlite3.connect(tmp_path / "l.sqlite")) as ledger:
        assert ledger.execute("select count(*), count(ended) from visits").fetchone() == (1, 1)


def test_the_progress_line_tells_a_pause_of_the_pace(tmp_path: Path) -> None:
    with FaultServer(GOOD) as server:
        run = probe(server, network(tmp_path), pace=sk.Pace(receiver_gap=60), rounds=2, background=True)
        while not run.due:
            time.sleep(0.02)
        said: list[str] = []
        run._progress.show = lambda done, total, text, last=False: said.append(text)
        run._tell()
        run.stop()
        run.wait()
    assert said[0].startswith("0 refused, the pace pauses "), said


def test_a_transcript_of_implicit_tls_shows_it_from_the_greeting_on(tmp_path: Path) -> None:
    with FaultServer({"connect": Tls()}) as server:
        frame = probe(server, network(tmp_path), tls="implicit", rounds=1)
    assert str(frame.smtp[0].transcript).splitlines()[1:3] == [
        "=== TLS started",
        "<~  220 mx.fault.example ESMTP",
    ]


def test_withheld_sends_say_what_to_do(tmp_path: Path) -> None:
    with FaultServer(GOOD) as server:
        net = network(tmp_path)
        dry = send(1, server, net, live=False)["why"].item()
        stranger = send(1, server, net, guard=sk.Guard(allow_to=["other@fault.example"]))["why"].item()
        send(1, server, net)
        twice = send(1, server, net)["why"].item()
    assert dry.startswith("a dry run; live=True and an allow_to deliver it. Lints: ")
    assert "not in the guard's allow_to" in stranger
    assert "again=True" in twice


def test_a_dry_run_names_the_lints_that_do_not_pass(tmp_path: Path) -> None:
    odd = b"From: me@ours.example\r\nSubject: no date\r\n\r\nhello\r\n"
    with FaultServer(GOOD) as server:
        net = network(tmp_path)
        frame = sk.send(odd, TO, sender=SENDER, server=server.address, network=net)
    assert "fail date: no Date" in frame["why"].item()


@pytest.mark.parametrize(
    "wrong",
    [
        {"server": ("10.0.0.1",)},
        {"server": ("10.0.0.1", 25, 3)},
        {"server": ("10.0.0.1", "25")},
        {"server": 5},
    ],
)
def test_a_server_that_is_none_is_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"server"):
        sk.probe(network=network(tmp_path), **wrong)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"nameservers": [("127.0.0.1", "x")]}, "nameserver"),
        ({"nameservers": ["localhost"]}, "nameserver"),
        ({"reroute": {"a": ("b", 2)}}, "reroute"),
        ({"reroute": {("192.0.2.1", 25): ("127.0.0.1", 0)}}, "reroute"),
        ({"socks": "here"}, "ssh -D"),
        ({"socks": "user:word@127.0.0.1:1080"}, "ssh -D"),
        ({"allow_networks": ["ten"]}, "allow_networks"),
    ],
)
def test_a_network_that_cannot_be_is_refused(wrong: dict[str, Any], word: str) -> None:
    with pytest.raises(InvalidInput, match=word):
        sk.internet(**wrong)


@pytest.mark.parametrize("ask", [sk.probe, sk.lookup_mx, sk.preflight, sk.Dialogue])
def test_what_is_no_network_is_refused(ask: Any) -> None:
    with pytest.raises(InvalidInput, match="network 'relay1' is no network"):
        ask("daum.example", network="relay1")


def test_one_name_server_or_network_need_no_list() -> None:
    net = sk.internet(nameservers="127.0.0.1", allow_networks="10.0.0.0/8")
    assert net.nameservers == (("127.0.0.1", 53),)
    assert net.refuses("10.1.2.3", 25) == ""


@pytest.mark.parametrize(
    ("own", "names", "helo"),
    [
        ("10.0.0.7", {}, "[10.0.0.7]"),
        ("8.8.8.8", {"PTR": "mail.ours.example", "A": "8.8.8.8"}, "mail.ours.example"),
        ("8.8.8.8", {"PTR": "mail.ours.example", "A": "8.8.4.4"}, "[8.8.8.8]"),
        (None, {}, "[127.0.0.1]"),
    ],
)
def test_our_helo_name_without_a_given_address(
    own: str | None, names: dict[str, str], helo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The routing table tells our address; a private one is not asked of DNS."""
    monkeypatch.setattr(probing, "own_ip", lambda *_: own)
    net = sk.internet()
    monkeypatch.setattr(
        type(net), "resolve", lambda _, name, kind: Answer("ok", (names[kind],)) if names else 1 / 0
    )
    assert probing.our_helo(None, net) == helo


def test_our_own_address_comes_from_the_routing_table() -> None:
    assert own_ip(sk.internet(), "127.0.0.1") == "127.0.0.1"
    assert own_ip(sk.internet(socks="127.0.0.1:1080"), "127.0.0.1") is None


@pytest.mark.slow
def test_rounds_are_interleaved_where_the_pace_waits() -> None:
    mx = [{"name": f"mx{n}.daum.example", "ips": f"192.0.2.{10 + n}", "tls": "none"} for n in range(8)]
    pace = sk.Pace(at_once=1, receiver_gap=0.5, ip_gap=2)
    with sk.Lab({"domain": "daum.example", "mx": mx}) as lab:
        frame = sk.probe(lab.domain, network=lab.network, rounds=2, until="banner", pace=pace)
    first = frame.sort_values("started_at").mx_ip.head(8)
    assert first.nunique() > 5, "the first servers had all their rounds before the last were asked"


def test_rounds_are_interleaved_where_nothing_waits() -> None:
    with sk.Lab("healthy") as lab:
        frame = sk.probe(lab.domain, network=lab.network, rounds=3)
    assert list(frame["try_number"]) == [1] * 4 + [2] * 4 + [3] * 4


@pytest.mark.parametrize("row", catalogue.rows("queue_ids.csv"), ids=lambda row: row["server"])
def test_the_first_pattern_that_finds_a_queue_id_is_that_of_its_server(row: dict[str, str]) -> None:
    fit = (one for one in catalogue.rows("queue_ids.csv") if re.search(one["pattern"], row["example"]))
    assert next(fit) == row
    assert evidence.queue_id(row["example"]) == re.search(row["pattern"], row["example"])[1]


def test_the_transcript_of_what_was_never_asked_says_why() -> None:
    with sk.Lab("healthy") as lab:
        made = sk.probe("nosuch.example", network=lab.network)
        told = str(made.smtp[0].transcript)
    assert told.startswith("=== nosuch.example: no server asked (dns_nxdomain), 20")
