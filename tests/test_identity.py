"""whoami tells what is wrong on our side, and says unknown where it cannot know."""

import re
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import pytest

import smtpkit as sk
from smtpkit import identity
from smtpkit.catalogue import rows as catalogue
from smtpkit.errors import InvalidInput
from smtpkit.lab.nameserver import NameServer, Zone
from smtpkit.lab.rules import Clock
from smtpkit.lab.scenario import load
from tests.faultserver import CLOSE, SILENT, FaultServer, Script, offers

COLUMNS = ["check", "subject", "status", "evidence", "advice", "source"]


def told(scenario: object, **more: object) -> pd.DataFrame:
    with sk.Lab(scenario) as lab:
        return sk.whoami(lab.network, **more)


def status(frame: pd.DataFrame) -> dict[str, str]:
    """Check to status; of several rows one that is not a pass."""
    order = frame.sort_values("status", ascending=False, key=lambda s: s.eq("pass"), kind="stable")
    return dict(zip(order.check, order.status.astype("str"), strict=True))


def test_a_healthy_side_passes_everything() -> None:
    frame = told("healthy")
    assert list(frame.columns) == COLUMNS
    assert frame.check.tolist() == "port25 ipv6 seen_ip local_ip ptr helo ptr helo middlebox".split()
    assert set(frame.status) == {"pass"}
    assert frame.status.cat.categories.tolist() == ["pass", "warn", "fail", "unknown"]
    assert frame.set_index("check").subject["seen_ip"] == "198.51.100.7, 2001:db8:5::7"
    for text in ("mx1.daum.example [192.0.2.11]: 220 mx1.daum.example ESMTP", "[203.0.113.25]"):
        assert text in frame.evidence[0], "who was asked, and what they said"


PROXY = {
    "domain": "daum.example",
    "texts": {"banner": "220 smtp-proxy.isp.example ESMTP"},
    "mx": [
        {"name": "mx1.daum.example", "ips": "192.0.2.11"},
        {
            "name": "mx.control.example",
            "ips": ["203.0.113.25", "2001:db8:c::25"],
            "domains": "control.example",
        },
    ],
}


@pytest.mark.parametrize(
    ("scenario", "want"),
    [
        pytest.param(
            "local_path",
            "fail warn unknown unknown pass pass unknown",
            id="port 25 blocked",
            marks=pytest.mark.slow,
        ),
        pytest.param("no_ipv6", "pass warn pass pass pass pass pass", id="no IPv6"),
        pytest.param("middlebox", "pass unknown unknown pass pass pass fail", id="masked"),
        pytest.param(PROXY, "pass pass pass pass pass pass fail", id="one banner for all"),
        pytest.param("null_mx", "pass pass pass pass pass pass unknown", id="one receiver has no MX"),
        pytest.param("stale_blacklist", "pass pass pass pass pass pass pass", id="their fault, not ours"),
        pytest.param("provider_block", "pass pass pass pass pass pass pass", id="a block is no closed port"),
        pytest.param("stale_421", "pass pass pass pass pass pass pass", id="421 is an answer"),
    ],
)
def test_each_world_is_told_as_it_is(scenario: object, want: str) -> None:
    names = "port25 ipv6 seen_ip local_ip ptr helo middlebox".split()
    assert status(told(scenario)) == dict(zip(names, want.split(), strict=True))


@pytest.mark.slow
def test_what_is_not_known_says_why() -> None:
    for scenario in ("local_path", "middlebox", "null_mx"):
        frame = told(scenario)
        rows = frame[frame.status != "pass"]
        assert len(rows)
        assert rows.evidence.str.len().gt(5).all()
        assert rows.advice.str.len().gt(20).all()
    assert "daum.example [no address]: null_mx" in told("null_mx").evidence[0]


ONE = {
    "domain": "daum.example",
    "mx": [{"name": "mx1.daum.example", "ips": ["192.0.2.11", "2001:db8:d::11"]}],
}
MAIL = {"mail.ours.example": {"A": "198.51.100.7", "AAAA": "2001:db8:5::7"}}


@pytest.mark.parametrize(
    ("zone", "check", "want", "words"),
    [
        pytest.param({"7.100.51.198.in-addr.arpa": {"PTR": []}}, "ptr", "fail", "PTR none", id="no PTR"),
        pytest.param({"7.100.51.198.in-addr.arpa": {"PTR": "x.ours.example"}}, "ptr", "fail",
                     "PTR x.ours.example; none leads back", id="PTR leads elsewhere"),
        pytest.param({"7.100.51.198.in-addr.arpa": {"status": "servfail"}}, "ptr", "unknown", "DNS servfail",
                     id="PTR servfail"),
        pytest.param({"mail.ours.example": {"status": "timeout"}}, "ptr", "unknown", "DNS timeout",
                     id="forward timeout"),
        pytest.param({"mail.ours.example": {"status": "timeout"}}, "helo", "unknown", "DNS timeout",
                     id="HELO timeout"),
        pytest.param({"mail.ours.example": {"A": [], "AAAA": "2001:db8:5::7"}}, "helo", "warn",
                     "has 2001:db8:5::7; sending from 198.51.100.7", id="HELO of one family only"),
    ],
)  # fmt: skip
def test_names_that_do_not_fit(zone: dict, check: str, want: str, words: str) -> None:
    frame = told({**ONE, "zone": zone})
    assert status(frame)[check] == want
    assert words in " ".join(frame.evidence[frame.check == check])


def test_the_helo_name_is_the_one_that_is_used() -> None:
    assert status(told(ONE, helo="other.example"))["helo"] == "fail"
    frame = told(ONE, helo="[198.51.100.7]")
    row = frame[frame.check == "helo"].iloc[0]
    assert (row.subject, row.status) == ("[198.51.100.7]", "fail")
    with pytest.raises(InvalidInput, match="HELO name"):
        told(ONE, helo="bad\r\nname")


@pytest.mark.slow
def test_one_silent_receiver_proves_nothing() -> None:
    frame = told({**ONE, "path": "timeout", "path6": "timeout"}, controls="daum.example")
    assert status(frame)["port25"] == "unknown"
    assert "second" in frame.advice[0]
    dead = {**ONE, "mx": [{**ONE["mx"][0], "dead": "timeout"}]}
    assert status(told(dead))["port25"] == "pass", "the other one answers"


def test_another_address_of_ours_has_names_of_its_own() -> None:
    with sk.Lab("healthy") as lab:
        frame = sk.whoami(lab.network_from("198.51.100.99"))
    assert status(frame)["ptr"] == "fail"
    assert status(frame)["helo"] == "warn"
    assert frame.subject[frame.check == "seen_ip"].item() == "198.51.100.99, 2001:db8:5::7"


def test_bad_controls_are_refused() -> None:
    with pytest.raises(InvalidInput, match="bad name"):
        told("healthy", controls=["bad name"])


def talk(tmp_path: Path, *scripts: Script, **more: object) -> pd.DataFrame:
    """whoami against scripted servers, one a receiver, with DNS of a lab's kind."""
    mx = [
        {"name": f"mx.r{n}.example", "ips": f"192.0.2.{n}", "domains": f"r{n}.example"}
        for n in range(1, len(scripts) + 1)
    ]
    zone = Zone(load({"domain": "r1.example", "mx": mx}), Clock(1.0))
    dns = NameServer(zone)
    with ExitStack() as stack:
        stack.callback(dns.close)
        servers = [stack.enter_context(FaultServer(script)) for script in scripts]
        net = sk.internet(
            nameservers=[dns.address],
            reroute={(f"192.0.2.{n}", 25): one.address for n, one in enumerate(servers, 1)},
            pace=sk.Pace.none(),
            timeouts=sk.Timeouts(connect=5, reply=1, quit=0.5),
            casebook=tmp_path / "c.sqlite",
            ledger=tmp_path / "l.sqlite",
            **more,
        )
        return sk.whoami(net, controls=[f"r{n}.example" for n in range(1, len(scripts) + 1)])


def hello(n: int, *words: str) -> Script:
    return {
        "banner": f"220 mx.r{n}.example ESMTP {n}{n}\r\n".encode(),
        "ehlo": offers(*words, name=f"mx.r{n}.example Hello [198.51.100.7]"),
    }


def test_scripted_servers_as_a_real_network_sees_them(tmp_path: Path) -> None:
    frame = talk(tmp_path, hello(1, "STARTTLS"), hello(2, "SIZE"), sender_ip="198.51.100.7")
    assert status(frame) == {
        "port25": "pass", "ipv6": "unknown", "seen_ip": "pass", "local_ip": "pass", "ptr": "pass",
        "helo": "pass", "middlebox": "pass",
    }  # fmt: skip
    assert frame.subject[frame.check == "helo"].item() == "mail.ours.example", "our confirmed PTR name"
    kept = sk.Casebook(tmp_path / "c.sqlite").attempts(case="whoami")
    assert kept.asked.tolist() == ["ehlo", "ehlo"]


def test_another_address_than_we_named(tmp_path: Path) -> None:
    frame = talk(tmp_path, hello(1), hello(2), sender_ip="198.51.100.8")
    assert status(frame)["seen_ip"] == "warn"
    assert "sender_ip=198.51.100.8" in frame.evidence[frame.check == "seen_ip"].item()
    two = talk(tmp_path, hello(1), {**hello(2), "ehlo": offers(name="mx.r2.example [198.51.100.9]")})
    assert status(two)["seen_ip"] == "warn"
    assert two.check.tolist().count("ptr") == 2, "each address has its PTR row"


@pytest.mark.parametrize(
    ("first", "second", "want"),
    [
        pytest.param({"banner": b"220 proxy.isp.example a1\r\n"}, {"banner": b"220 proxy.isp.example b2\r\n"},
                     "fail", id="one machine, two stamps"),
        pytest.param({"banner": b"220 ****0****\r\n"}, {}, "fail", id="one is masked"),
        pytest.param({"ehlo": offers("XXXXXXXA", "8BITMIME")}, {}, "fail", id="extension masked"),
        pytest.param({"ehlo": offers("SIZE", name="a.example")}, {"ehlo": offers("SIZE", name="b.example")},
                     "warn", id="nobody offers STARTTLS"),
        pytest.param({"banner": b"554 5.7.1 a.example no\r\n"}, {"banner": b"554 5.7.1 b.example no\r\n"},
                     "pass", id="refusals are answers"),
        pytest.param({"banner": SILENT}, {"banner": CLOSE}, "unknown", id="no banner",
                     marks=pytest.mark.slow),
        pytest.param({"banner": SILENT}, {}, "unknown", id="one banner", marks=pytest.mark.slow),
        pytest.param({"banner": b"\x1b[2J\xff\xfe garbage\r\n"}, {}, "unknown", id="garbage"),
    ],
)  # fmt: skip
def test_what_stands_in_between(tmp_path: Path, first: Script, second: Script, want: str) -> None:
    frame = talk(tmp_path, {**hello(1, "STARTTLS"), **first}, {**hello(2), **second})
    assert status(frame)["middlebox"] == want
    assert status(frame)["port25"] == "pass", "whoever accepts a connection proves the road"
    assert not re.search(r"[\x00-\x1f\x7f]", "".join(frame.evidence))


def test_controls_say_why_they_may_be_asked() -> None:
    assert [row["domain"] for row in catalogue("controls.csv") if row["why"] and row["source"]]


def test_nobody_is_asked_by_default_but_whom_the_data_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def stop(domain: str, net: object) -> None:
        asked.append(domain)
        raise KeyboardInterrupt

    monkeypatch.setattr(identity, "lookup_mx", stop)
    with pytest.raises(KeyboardInterrupt):
        sk.whoami(sk.internet(helo="mail.ours.example"))
    assert asked == [catalogue("controls.csv")[0]["domain"]]
