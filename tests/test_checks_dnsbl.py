"""checks.dnsbl: refusals are no listings, dead zones are found out, keys are never shown."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from smtpkit.casebook import Casebook
from smtpkit.catalogue import rows as catalogue
from smtpkit.checks import dnsbl
from smtpkit.checks.found import Sender
from smtpkit.network import Answer
from tests.fake_network import FakeNetwork, reverse

IP, V6, ZEN, KEY = "198.51.100.7", "2001:db8::7", "zen.spamhaus.org", "sEcretKey123"
ZONES = {row["zone"]: row for row in catalogue("dnsbl_zones.csv")}


def alive(*zones: str) -> dict[str, Any]:
    """The right test entry of each zone."""
    tests = ("127.0.0.2", "::ffff:7f00:2")
    return {reverse(test, zone): {"A": ["127.0.0.2"]} for zone in zones or (ZEN,) for test in tests}


def ask(subject: str = IP, zones: tuple[str, ...] = (ZEN,), **names: Any) -> pd.Series:
    """One zone's row; `names` are answers at the subject's, or at another, name."""
    zone = alive(*zones) | {name.replace("__", "."): told for name, told in names.items()}
    return dnsbl.lookup(subject, FakeNetwork(zone), zones).iloc[0]


def at_zen(*codes: str) -> pd.Series:
    return dnsbl.lookup(IP, FakeNetwork({**alive(), reverse(IP, ZEN): {"A": codes}}), [ZEN]).iloc[0]


@pytest.mark.parametrize(
    ("codes", "state", "meaning"),
    [
        (["127.0.0.2"], "listed", "SBL"),
        (["127.0.0.3"], "listed", "CSS"),
        (["127.0.0.4"], "listed", "XBL"),
        (["127.0.0.6"], "listed", "XBL reserved"),
        (["127.0.0.2", "127.0.0.9"], "listed", "SBL, DROP (always with SBL)"),
        (["127.0.0.10"], "listed", "PBL by ISP"),
        (["127.0.0.11", "127.0.0.4"], "listed", "PBL by Spamhaus, XBL"),
        (["127.0.0.30"], "listed", "BCL"),
        (["127.0.0.77"], "listed", "127.0.0.77 (not in the catalogue)"),
        (["127.255.255.252"], "refused", "127.255.255.252: wrong zone name"),
        (["127.255.255.254"], "refused", "127.255.255.254: public or open resolver, or generic rDNS"),
        (["127.255.255.255"], "refused", "127.255.255.255: too many queries"),
        (["127.255.255.250"], "refused", "127.255.255.250: an error, not a listing"),
        (["127.0.0.2", "127.255.255.254"], "refused", "127.255.255.254: public or open resolver"),
        (["127.0.0.1"], "unknown", "127.0.0.1 is never a listing"),
        (["203.0.113.80"], "unknown", "203.0.113.80 is outside 127.0.0.0/8: the resolver rewrites answers"),
    ],
)  # fmt: skip
def test_spamhaus_code_by_code(codes: list[str], state: str, meaning: str) -> None:
    row = at_zen(*codes)
    assert row.state == state
    assert row.meaning.startswith(meaning)
    assert row.codes == "; ".join(codes), "raw codes are kept"


@pytest.mark.parametrize(
    ("zone", "code", "state", "meaning"),
    [
        ("dbl.spamhaus.org", "127.0.1.4", "listed", "phish"),
        ("dbl.spamhaus.org", "127.0.1.255", "refused", "127.0.1.255: an IP was asked"),
        ("multi.surbl.org", "127.0.0.72", "listed", "PH phish, ABUSE"),
        ("multi.surbl.org", "127.0.0.1", "refused", "127.0.0.1: query refused"),
        ("multi.uribl.com", "127.0.0.2", "listed", "black"),
        ("multi.uribl.com", "127.0.0.1", "refused", "127.0.0.1: query refused"),
        ("list.dnswl.org", "127.0.9.2", "listed", "trust medium"),
        ("list.dnswl.org", "127.0.0.255", "refused", "127.0.0.255: query refused"),
        ("dyna.spamrats.com", "127.0.0.36", "listed", "dynamic-looking PTR"),
        ("dyna.spamrats.com", "127.0.0.2", "refused", "127.0.0.2: not a code of this list, so an error"),
        ("rep.mailspike.net", "127.0.0.19", "listed", "good"),
        ("<key>.zrd.dq.spamhaus.net", "127.0.2.9", "listed", "hours since first seen"),
    ],
)
def test_each_zone_speaks_its_own_codes(zone: str, code: str, state: str, meaning: str) -> None:
    assert dnsbl.read(Answer("ok", (code,)), ZONES[zone]) == (state, meaning)


def test_every_row_of_the_catalogue_can_be_read() -> None:
    for row in ZONES.values():
        for code in ("127.0.0.2", "127.0.0.4", "127.0.1.2", "127.255.255.254", "127.0.0.255"):
            assert dnsbl.read(Answer("ok", (code,)), row)[0] in dnsbl.STATES
        assert dnsbl.read(Answer("ok", ("127.255.255.253",)), row)[0] == "refused"


@pytest.mark.parametrize("status", ["servfail", "timeout"])
def test_dead_dns_is_unknown_and_nxdomain_is_not_listed(status: str) -> None:
    row = dnsbl.lookup(IP, FakeNetwork({reverse(IP, ZEN): status}), [ZEN]).iloc[0]
    assert (row.state, row.meaning) == ("unknown", f"DNS {status}: {status} from the fake")
    clear = ask()
    assert (clear.state, clear.meaning, clear.codes) == ("not listed", "", "")


def test_a_zone_must_have_the_right_test_entries() -> None:
    everybody = {reverse(ip, ZEN): {"A": ["127.0.0.2"]} for ip in (IP, "127.0.0.1", "127.0.0.2")}
    row = dnsbl.lookup(IP, FakeNetwork(everybody), [ZEN]).iloc[0]
    assert (row.state, row.meaning) == ("dead", "it lists 127.0.0.1, so it lists everybody")
    gone = dnsbl.lookup(IP, FakeNetwork({}), [ZEN]).iloc[0]
    assert gone.state == "unknown"
    assert "127.0.0.2" in gone.meaning
    refused = FakeNetwork({reverse("127.0.0.2", ZEN): {"A": ["127.255.255.254"]}})
    row = dnsbl.lookup(IP, refused, [ZEN]).iloc[0]
    assert (row.state, row.meaning[:44]) == ("refused", "its test entry: 127.255.255.254: public or o")
    half = FakeNetwork({**alive(), reverse("127.0.0.1", ZEN): "timeout"})
    assert dnsbl.lookup(IP, half, [ZEN]).state[0] == "unknown"
    names = FakeNetwork({f"{name}.dbl.spamhaus.org": {"A": ["127.0.1.2"]} for name in ("ours.example", "invalid")})
    assert dnsbl.lookup("ours.example", names, ["dbl.spamhaus.org"]).state[0] == "dead"


def test_a_test_entry_may_have_any_code() -> None:
    zone = "dyna.spamrats.com"
    told = {reverse("127.0.0.2", zone): {"A": ["127.0.0.2"]}, reverse(IP, zone): {"A": ["127.0.0.36"]}}
    assert dnsbl.lookup(IP, FakeNetwork(told), [zone]).state.tolist() == ["listed"]
    rows = dnsbl.rows(Sender("ours.example", FakeNetwork(told), IP))
    assert [row.status for row in rows if row.subject == f"{IP} in {zone}"] == ["warn"], "a list of policy"


def test_text_ttl_delisting_page_and_source_are_kept() -> None:
    told = {"A": ["127.0.0.3"], "TXT": ["https://check.spamhaus.org/query/ip/198.51.100.7"]}
    row = dnsbl.lookup(IP, FakeNetwork({**alive(), reverse(IP, ZEN): told}), [ZEN]).iloc[0]
    assert (row.text, row.ttl) == (told["TXT"][0], 300)
    assert row.delist.startswith("https://check.spamhaus.org/")
    assert row.source.startswith("https://")


def test_addresses_go_to_address_zones_and_names_to_name_zones() -> None:
    network = FakeNetwork({})
    assert set(dnsbl.lookup(IP, network).zone) == {
        row["zone"] for row in ZONES.values()
        if row["kind"] in ("ip", "netblock", "asn", "white_ip") and row["status"] == "alive"
    }  # fmt: skip
    assert not [name for name, _ in network.asked if "sorbs" in name or "manitu" in name or "<key>" in name]
    assert set(dnsbl.lookup("ours.example", network).zone) == {
        *("dbl.spamhaus.org", "multi.surbl.org", "multi.uribl.com")
    }


def test_ipv6_is_asked_by_nibbles() -> None:
    name = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2." + ZEN
    network = FakeNetwork({**alive(), name: {"A": ["127.0.0.3"]}})
    row = dnsbl.lookup(V6, network, [ZEN]).iloc[0]
    assert (row.state, row.meaning) == ("listed", "CSS")
    assert (name, "A") in network.asked


def test_the_key_goes_to_spamhaus_only_and_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTPKIT_DQS_KEY", KEY)
    zone = f"{KEY}.zen.dq.spamhaus.net"
    told = {"A": ["127.0.0.2"], "TXT": [f"see {KEY.upper()}"]}
    network = FakeNetwork(
        {**alive(zone), reverse(IP, zone): told, reverse(IP, f"{KEY}.authbl.dq.spamhaus.net"): "servfail"}
    )
    table = dnsbl.lookup(IP, network)
    assert {name for name, _ in network.asked if KEY in name}
    assert all(name.endswith(".dq.spamhaus.net") for name, _ in network.asked if KEY in name)
    assert not [name for name, _ in network.asked if name.endswith("." + ZEN)], "asked by the key instead"
    row = table.set_index("zone").loc["<key>.zen.dq.spamhaus.net"]
    assert (row.state, row.text) == ("listed", "see <key>")
    shown = table.to_csv().lower() + "".join(map(str, dnsbl.rows(Sender("ours.example", network, ip=IP)))).lower()
    assert KEY.lower() not in shown


def test_rows_of_the_preflight() -> None:
    zones = [row["zone"] for row in ZONES.values() if row["status"] == "alive"]
    told = {
        **alive(*zones),
        reverse(IP, ZEN): {"A": ["127.0.0.3"], "TXT": ["see"]},
        reverse(IP, "dnsbl-2.uceprotect.net"): {"A": ["127.0.0.2"]},
        reverse(IP, "list.dnswl.org"): {"A": ["127.0.9.3"]},
        reverse(IP, "psbl.surriel.com"): {"A": ["127.255.255.254"]},
        reverse(IP, "bl.spamcop.net"): "timeout",
    }
    found = list(dnsbl.rows(Sender("ours.example", FakeNetwork(told), IP, "[198.51.100.7]")))
    rows = {row.subject.removeprefix(f"{IP} in "): row for row in found}
    assert rows[ZEN].status == "fail"
    assert rows[ZEN].evidence == "CSS, 127.0.0.3, see"
    assert "check.spamhaus.org" in rows[ZEN].advice
    assert rows["dnsbl-2.uceprotect.net"].status == "warn"
    assert rows["list.dnswl.org"].status == "pass"
    refused = rows["psbl.surriel.com"]
    assert (refused.status, refused.evidence[:42]) == (
        "unknown",
        "127.255.255.254: an error, not a listing, ",
    )
    assert "SMTPKIT_DQS_KEY" in refused.advice
    assert rows["bl.spamcop.net"].status == "unknown"
    assert rows["bl.spamcop.net"].evidence.startswith("DNS timeout")
    assert (rows["b.barracudacentral.org"].status, rows["b.barracudacentral.org"].evidence) == (
        "pass",
        "not listed",
    )
    assert not [subject for subject in rows if subject.startswith("[")], "no literal is asked"
    nothing = list(dnsbl.rows(Sender("ours.example", FakeNetwork({}))))
    assert nothing[0].evidence == "not asked: no sending address known"


def test_what_lists_said_is_kept_in_the_casebook_as_spells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zone = {**alive(), reverse(IP, ZEN): {"A": ["127.0.0.3"]}}
    network, book = FakeNetwork(zone, casebook=tmp_path / "c.sqlite"), Casebook(tmp_path / "c.sqlite")
    book.note("dnsbl is no note of ours")
    for hour in range(5):
        if hour == 2:
            del network.zone[reverse(IP, ZEN)]
        monkeypatch.setattr(
            dnsbl, "datetime", SimpleNamespace(now=lambda _, h=hour: datetime(2026, 11, 24, h, tzinfo=UTC))
        )
        dnsbl.lookup(IP, network, [ZEN])
    spells = dnsbl.history(book)
    assert spells[["zone", "subject", "state", "codes", "seen"]].values.tolist() == [
        [ZEN, IP, "listed", "127.0.0.3", 2],
        [ZEN, IP, "not listed", "", 3],
    ]
    assert (spells.since[1] - spells.since[0]) == pd.Timedelta(hours=2)
    assert (spells.until[1] - spells.since[1]) == pd.Timedelta(hours=2)
    assert book.verify().empty
    assert dnsbl.history(tmp_path / "new.sqlite").empty
