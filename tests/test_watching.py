"""watch: rounds until every MX IP accepts and no list has us; stored, resumed, polite, stopped."""

import time

import pandas as pd
import pytest

import smtpkit as sk
from smtpkit import watching
from smtpkit.campaign import Run
from smtpkit.checks import dnsbl
from smtpkit.errors import InvalidInput
from smtpkit.network import Answer
from tests.fasttime import FastTime
from tests.tallies import tallies

pytestmark = pytest.mark.slow

IPS = {f"192.0.2.{n}" for n in (11, 12, 13, 14)}


class Wrapped:
    """A lab's network whose answers about MX are `answers` one after the other, then the lab's own."""

    def __init__(self, network, answers):
        self._network, self._answers = network, list(answers)

    def __getattr__(self, name):
        return getattr(self._network, name)

    def resolve(self, name, kind):
        return self._answers.pop(0) if kind == "MX" and self._answers else self._network.resolve(name, kind)


def look(lab, network=None, **more):
    options = {"network": network or lab.network, "every": 0.05, "zones": []} | more
    return sk.watch(lab.domain, lab.recipient, lab.sender, **options)


@pytest.fixture(scope="module")
def stairs():
    """Servers that recover 1, 3, 5 and 7 lab half hours after the start, at 1 lab hour a second; and the truth."""
    with sk.Lab("delisting", speed=3600) as lab:
        frame = look(lab, every=0.1, zones=None)
        return frame, lab.truth[0].recoveries, dnsbl.history(lab.network.casebook), lab.mailbox


@pytest.mark.slow
def test_it_ends_when_all_accept_twice(stairs):
    frame, _, _, mailbox = stairs
    rounds = frame.groupby("try_number").outcome.agg(lambda one: set(one) == {"passed"})
    assert rounds.iloc[-2:].all()
    assert not rounds.iloc[:-2].rolling(2).sum().eq(2).any()
    assert set(frame.groupby("try_number").mx_ip.nunique()) == {4}
    assert mailbox == []


def test_each_recovery_is_seen_between_two_rounds(stairs):
    frame, truth, _, _ = stairs
    for ip, at in truth.items():
        mine = frame[frame.mx_ip == ip]
        last_bad, first_good = (mine.started_at[mine.outcome == one] for one in ("rejected", "passed"))
        assert first_good.min() > last_bad.max(), "once it accepts, it goes on"
        ended = (mine.started_at + pd.to_timedelta(mine.latency_s, unit="s"))[mine.outcome == "passed"].min()
        assert last_bad.max() - pd.Timedelta("50ms") <= at <= ended + pd.Timedelta("50ms")


def test_the_staircase_is_drawn(stairs):
    frame, truth, _, _ = stairs
    found = sk.diagnose(frame)
    assert [cause.kind for cause in found.causes] == ["delist_propagation"]
    for ip, at in found.causes[0].recoveries.items():
        assert abs(at - truth[ip]) < pd.Timedelta("1s")
    assert sk.plot.timeline(frame, found).alt.startswith("Recovery of each MX IP")


def test_block_lists_are_asked_each_round(stairs):
    frame, _, history, _ = stairs
    assert set(history.state) == {"not listed"}
    assert set(history.seen) == {frame.try_number.max()}


def test_it_goes_on_while_a_block_list_has_us():
    """The servers accept after half a lab day, the list lets go after a whole one."""
    with sk.Lab("healthy") as quiet:
        scenario = vars(quiet.scenario)["mx"]
    listed = {"zone": "zen.spamhaus.org", "ips": "198.51.100.7", "code": "127.0.0.3", "until": 86400}
    mx = [{"name": one.name, "ips": list(one.ips)} for one in scenario if "control" not in one.name]
    with sk.Lab({"domain": "daum.example", "mx": mx, "dnsbl": [listed], "speed": 86400.0}) as lab:
        begun = time.monotonic()
        frame = look(lab, every=0.1, zones=["zen.spamhaus.org"])
        assert time.monotonic() - begun > 0.8, "a lab day is 1 s"
        assert set(frame.outcome) == {"passed"}
        history = dnsbl.history(lab.network.casebook)
    assert list(history.sort_values("since").state) == ["listed", "not listed"]


def test_each_round_resolves_anew():
    """One MX at first, four from the second look on: the new ones are asked in the same round."""
    with sk.Lab("healthy") as lab:
        first = Answer("ok", ("10 mx1.daum.example",))
        frame = look(lab, Wrapped(lab.network, [first]))
    assert [set(part.mx_ip) for _, part in frame.groupby("try_number")] == [IPS, IPS]
    with sk.Lab("healthy") as lab:
        frame = look(lab, Wrapped(lab.network, [first, first, first]))
    assert [set(part.mx_ip) for _, part in frame.groupby("try_number")] == [{"192.0.2.11"}, {"192.0.2.11"}]


def test_a_route_that_was_looked_up_stays():
    with sk.Lab("stale_blacklist") as lab:
        route = sk.lookup_mx(lab.domain, network=lab.network)["192.0.2.12"]
        frame = sk.watch(route, lab.recipient, lab.sender, network=lab.network, every=0.05, zones=[])
    assert set(frame.mx_ip) == {"192.0.2.12"}


def test_a_name_server_that_fails_for_a_while_is_a_row_and_no_end():
    with sk.Lab("healthy") as lab:
        frame = look(lab, Wrapped(lab.network, [Answer("servfail"), Answer("servfail"), Answer("timeout")]))
    assert list(frame.error.dropna()) == ["dns_servfail", "dns_servfail", "dns_timeout"][: frame.error.count()]
    assert frame.error.count() >= 2
    assert (frame.groupby("try_number").outcome.agg(set).iloc[-2:] == {"passed"}).all()


# broken off, and resumed -----------------------------------------------------------------------------------------
def test_it_resumes_where_its_case_ends():
    with sk.Lab("stale_blacklist") as lab:
        first = look(lab, rounds=2)
        assert list(first.try_number.unique()) == [1, 2]
        begun = time.monotonic()
        both = look(lab, rounds=1, every=1.0)
        assert time.monotonic() - begun > 0.5, "the interval goes on over a restart"
        assert list(both.try_number.unique()) == [1, 2, 3]
        assert list(both.attempt_id[: len(first)]) == list(first.attempt_id)
        other = look(lab, rounds=1, case="another")
        assert list(other.try_number.unique()) == [1]


def test_a_case_that_ended_well_is_not_asked_again():
    with sk.Lab("healthy") as lab:
        first = look(lab)
        calls = len(lab.log)
        again = look(lab)
        assert list(again.attempt_id) == list(first.attempt_id)
        assert len(lab.log) == calls


def test_one_clean_round_before_the_break_counts():
    with sk.Lab("healthy") as lab:
        look(lab, rounds=1)
        assert look(lab).try_number.max() == 2


def test_in_the_background_it_is_a_run_that_stops_at_once():
    with sk.Lab("stale_blacklist") as lab:
        run = look(lab, every=3600, background=True)
        assert isinstance(run, Run)
        while len(run.frame().dropna(subset="outcome")) < 4:
            assert run.running
            time.sleep(0.02)
        run.stop()
        assert len(run.wait(timeout=10)) == 4
        assert run.error is None
        resumed = look(lab, rounds=1)
        assert list(resumed.try_number.unique()) == [1, 2]


# polite ----------------------------------------------------------------------------------------------------------
def test_real_servers_are_not_asked_every_second():
    with sk.Lab("healthy") as lab:
        with pytest.raises(InvalidInput, match="every"):
            look(lab, every=30, pace=sk.Pace())
        with pytest.raises(InvalidInput, match="every"):
            look(lab, every=0)
        assert lab.log == []


def test_the_interval_grows_where_a_days_sessions_would_not_last():
    assert watching._pause(1800, 200, sessions=4) == 1800
    assert watching._pause(1800, 200, sessions=12) == pytest.approx(86400 * 12 / 200)
    assert watching._pause(1800, None, sessions=64) == 1800


def test_the_guard_ends_it():
    with sk.Lab("stale_blacklist") as lab:
        frame = look(lab, guard=sk.Guard(max_connections=6))
        assert sum(tally.sessions for tally in tallies(lab).values()) == 6
    assert list(frame.error.dropna()) == ["guard", "guard"]


def test_words_that_stop_a_receiver_only_make_it_patient(monkeypatch):
    """ "Too many connections" rests the whole receiver for half an hour; its other servers are asked after it."""
    with sk.Lab("healthy") as lab:
        mx = [{"name": one.name, "ips": list(one.ips)} for one in lab.scenario.mx if "control" not in one.name]
    rule = [{"stage": "mail", "ip": "192.0.2.11", "reply": "554 5.7.1 Blocked: too many connections"}]
    FastTime(3000).install(monkeypatch)
    with sk.Lab({"domain": "daum.example", "mx": mx, "rule": rule}) as lab:
        frame = look(lab, every=1800, rounds=2, pace=sk.Pace())
    assert [set(part.mx_ip) for _, part in frame.groupby("try_number")] == [IPS, IPS]
    assert "withheld" not in set(frame.outcome)
