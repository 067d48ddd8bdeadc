"""What two readers proved of `watch` and `locate`: all clear too early, no way to resume, the innocent accused."""

import signal
import sqlite3
import threading
from contextlib import closing
from typing import Any

import pandas as pd
import pytest

import smtpkit as sk
from smtpkit.checks import dnsbl
from smtpkit.errors import InvalidInput
from smtpkit.network import Answer, Internet

pytestmark = pytest.mark.slow

ZEN = "zen.spamhaus.org"


class Scripted:
    """A lab's network in which some DNS answers are a test's own: name or the end of it, kind, answer."""

    def __init__(self, lab: sk.Lab, *script: tuple[str, str, Answer]) -> None:
        self._network, self._script = lab.network, script

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def resolve(self, name: str, kind: Any) -> Answer:
        said = [told for end, of, told in self._script if name.endswith(end) and kind == of]
        return said[0] if said else self._network.resolve(name, kind)


def look(lab: sk.Lab, *script: tuple[str, str, Answer], **more: Any) -> pd.DataFrame:
    options = {"network": Scripted(lab, *script), "every": 0.1, "zones": []} | more
    return sk.watch(lab.domain, lab.recipient, lab.sender, **options)


def last(frame: pd.DataFrame) -> int:
    return int(frame.try_number.max())


# all clear ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("status", ["servfail", "timeout"])
def test_a_host_whose_lookup_fails_for_a_while_holds_the_end_back(status: Any) -> None:
    with sk.Lab("healthy") as lab:
        fault = ("mx2.daum.example", "A", Answer(status))
        frame = look(lab, fault, rounds=4)
        assert last(frame) == 4
        assert set(frame.try_number[frame.mx_ip.isna()]) == {1, 2, 3, 4}
        assert last(look(lab, fault, rounds=1, clear=1)) == 5, "a case that goes on judges as the rounds did"
        assert last(look(lab, clear=1)) == 6


def test_a_host_that_certainly_has_no_address_does_not() -> None:
    with sk.Lab("healthy") as lab:
        gone = [("mx2.daum.example", kind, Answer("nxdomain")) for kind in ("A", "AAAA")]
        frame = look(lab, *gone, rounds=9)
        assert last(frame) == 2
        assert "dns_nxdomain" in set(frame.error)
        assert last(look(lab, *gone, rounds=9)) == 2, "nor when the case is taken up again"


@pytest.mark.parametrize("answer", [Answer("timeout"), Answer("servfail")], ids=["timeout", "servfail"])
def test_a_list_that_never_answers_does_not_hold_the_end_back(answer: Answer) -> None:
    with sk.Lab("healthy") as lab:
        assert last(look(lab, (ZEN, "A", answer), zones=[ZEN], rounds=20)) < 20
        assert set(dnsbl.history(lab.network.casebook).state) == {"unknown"}


def test_a_list_that_refuses_us_for_good_does_not() -> None:
    with sk.Lab("healthy") as lab:
        frame = look(lab, (ZEN, "A", Answer("ok", ("127.255.255.254",))), zones=[ZEN], rounds=20)
        assert last(frame) < 20
        assert set(dnsbl.history(lab.network.casebook).state) == {"refused"}


SILENT = {
    "refuses": Answer("ok", ("127.255.255.254",)),
    "is not there": Answer("timeout"),
    "is broken": Answer("servfail"),
}


@pytest.mark.parametrize("name", SILENT)
def test_a_list_that_had_us_and_says_nothing_now_has_us_still(name: str) -> None:
    with sk.Lab("healthy") as lab:
        ip = lab.network.sender_ip
        refuses = (ZEN, "A", SILENT[name])
        sk.Casebook(lab.network.casebook).note(f'dnsbl [["{ZEN}", "{ip}", "listed", "127.0.0.2"]]')
        assert last(look(lab, refuses, zones=[ZEN], rounds=4)) == 4
        assert last(look(lab, refuses, zones=[ZEN], rounds=1)) == 5
        assert last(look(lab, refuses, zones=[])) == 5, "unless it is left out"


def test_lists_that_were_never_asked_are_asked_before_a_case_is_over() -> None:
    with sk.Lab("healthy") as lab:
        assert last(look(lab)) == 2
        assert last(look(lab, zones=[ZEN])) > 2


# resumed, stopped -----------------------------------------------------------------------------------------------
def test_a_case_of_dns_failures_goes_on() -> None:
    with sk.Lab("healthy") as lab:
        dead = ("daum.example", "MX", Answer("servfail"))
        look(lab, dead, rounds=1)
        frame = look(lab, dead, rounds=1)
        assert list(frame.try_number) == [1, 2]
        assert set(frame.error) == {"dns_servfail"}
        assert last(look(lab)) == 4


def test_rows_without_a_round_of_older_casebooks_belong_to_the_round_before() -> None:
    with sk.Lab("healthy") as lab:
        look(lab, ("mx2.daum.example", "A", Answer("servfail")), rounds=2)
        with closing(sqlite3.connect(lab.network.casebook)) as base, base:
            sql = (
                "update attempts set planned = json_remove(planned, '$.try_number') where result like '%servfail%'"
            )
            base.execute(sql)
        assert last(look(lab, rounds=1, clear=1)) == 3


def test_an_interrupted_watch_is_marked_stopped() -> None:
    with sk.Lab("stale_blacklist") as lab:
        timer = threading.Timer(1.0, signal.raise_signal, [signal.SIGINT])
        timer.start()
        frame = look(lab, every=3600)
        timer.join()
        assert frame.attrs["smtpkit"]["stopped"]
        assert len(frame) == 4
        assert not look(lab, rounds=1).attrs["smtpkit"]["stopped"]


def test_no_pause_is_for_labs_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pace.none() at a public address: the interval is that of real servers."""
    monkeypatch.setattr(Internet, "unpaced", lambda *_: False)
    net = sk.internet(pace=sk.Pace.none(), reroute={("192.0.2.1", 25): ("127.0.0.1", 1)})
    with pytest.raises(InvalidInput, match=r"every \(seconds\) 1 .* 60 or more"):
        sk.watch("fault.example", server="192.0.2.1", network=net, every=1, zones=[])


# who is accused -------------------------------------------------------------------------------------------------
def fleet(*six: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Three servers of IPv4, and these of IPv6."""
    mx = [{"name": f"mx{n}.daum.example", "ips": f"192.0.2.{n}"} for n in (1, 2, 3)]
    return {"domain": "daum.example", "mx": [*mx, *six], **more}


SIX = {"name": "mx6.daum.example", "ips": "2001:db8::6"}


@pytest.mark.parametrize("begin", [False, True], ids=["anew", "from a probe"])
def test_without_a_route_of_our_own_nobody_is_accused(begin: bool) -> None:
    with sk.Lab(fleet(SIX, path6="unreachable")) as lab:
        who = (lab.domain, lab.recipient, lab.sender)
        seen = sk.probe(*who, network=lab.network, rounds=5) if begin else None
        found = sk.locate(*who, network=lab.network, seen=seen)
    assert {cause.dimension for cause in found.causes} <= {"none"}
    assert "2001:db8::6: our own path may be at fault" in found.verdict
    assert "No other MX IP refuses 30%" in found.verdict
    assert len(found.frame) < 60, "the others are cleared all the same"


def test_where_nothing_answers_it_ends_soon() -> None:
    with sk.Lab(fleet(path="unreachable")) as lab:
        found = sk.locate(lab.domain, lab.recipient, lab.sender, network=lab.network)
    assert {cause.dimension for cause in found.causes} <= {"none"}
    assert len(found.frame) == 6


def test_a_dead_server_among_living_ones_of_its_family_is_named() -> None:
    dead = {"name": "mx7.daum.example", "ips": "2001:db8::7", "dead": "unreachable"}
    with sk.Lab(fleet(dead, SIX)) as lab:
        found = sk.locate(lab.domain, lab.recipient, lab.sender, network=lab.network)
    assert [(cause.kind, cause.values) for cause in found.causes] == [("mx_dead", ("2001:db8::7",))]


@pytest.mark.parametrize("other", [{"sender_ip": "198.51.100.99"}, {"vantage": "relay1"}], ids=["IP", "vantage"])
def test_what_another_sender_saw_is_no_evidence(other: dict[str, str]) -> None:
    with sk.Lab("stale_blacklist") as lab, sk.Lab("healthy") as sound:
        who = (lab.domain, lab.recipient, lab.sender)
        seen = sk.probe(*who, network=lab.network, rounds=6).assign(**other)
        found = sk.locate(*who, network=sound.network, seen=seen)
    assert found.causes == ()
    assert "24 rows of `seen` are of another vantage or sender IP" in found.verdict
    assert not set(seen.attempt_id) & set(found.frame.attempt_id)


def test_a_diagnosis_from_a_frame_without_attributes_says_whether_it_was_stopped() -> None:
    with sk.Lab("stale_blacklist") as lab:
        who = (lab.domain, lab.recipient, lab.sender)
        seen = sk.probe(*who, network=lab.network, rounds=1)
        seen.attrs = {}
        found = sk.locate(*who, network=lab.network, seen=seen)
    assert found.causes[0].values == ("192.0.2.14",)
    assert found.frame.attrs["smtpkit"] == {"stopped": False}
