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
def test_a_list_that_gives_no_answer_holds_the_end_back(answer: Answer) -> None:
    with sk.Lab("healthy") as lab:
        assert last(look(lab, (ZEN, "A", answer), zones=[ZEN], rounds=4)) == 4
        assert set(dnsbl.history(lab.network.casebook).state) == {"unknown"}
        assert last(look(lab, (ZEN, "A", answer), zones=[ZEN], rounds=1)) == 5
        assert last(look(lab, (ZEN, "A", answer), zones=[])) == 5, "unless it is left out"


def test_a_list_that_refuses_us_for_good_does_not() -> None:
    with sk.Lab("healthy") as lab:
        frame = look(lab, (ZEN, "A", Answer("ok", ("127.255.255.254",))), zones=[ZEN], rounds=20)
        assert last(frame) < 20
        assert set(dnsbl.history(lab.network.casebook).state) == {"refused"}


def test_a_list_that_had_us_and_refuses_now_has_us_still() -> None:
    with sk.Lab("healthy") as lab:
        ip = lab.network.sender_ip
        refuses = (ZEN, "A", Answer("ok", ("127.255.255.254",)))
        sk.Casebook(lab.network.casebook).note(f'dnsbl [["{ZEN}", "{ip}", "listed", "127.0.0.2"]]')
        assert last(look(lab, refuses, zones=[ZEN], rounds=4)) == 4
        assert last(look(lab, refuses, zones=[ZEN], rounds=1)) == 5


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
    with pytest.raises(InvalidInput, match="60 seconds or more"):
        sk.watch("fault.example", server="192.0.2.1", network=net, every=1, zones=[])
