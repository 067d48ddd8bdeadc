"""checks.dmarc: the tree walk, the policy, alignment and the verdict, by RFC 9989."""

from typing import Any

import pytest

from smtpkit.checks import dmarc
from smtpkit.checks.found import Row, Sender
from tests.fake_network import FakeNetwork


def zone(**records: str) -> FakeNetwork:
    """Records by domain, "_" for "." in the name: zone(a_example="p=none") is _dmarc.a.example."""
    told: dict[str, Any] = {}
    for name, record in records.items():
        domain = name.replace("_", ".")
        told[domain] = {"A": ["192.0.2.1"]}
        if record in ("servfail", "timeout"):
            told[f"_dmarc.{domain}"] = record
        elif record:
            full = f"v=DMARC1; {record}" if record.startswith("p=") and "; v=" not in record else record
            told[f"_dmarc.{domain}"] = {"TXT": full.split("|")}
    return FakeNetwork(told)


def last(who: Sender) -> list[Row]:
    """The rows of DMARC, behind those of DKIM."""
    return list(dmarc.rows(who))[-2:]


DEEP = "a.b.c.d.e.f.g.h.i.example"


def test_the_walk_asks_eight_names_at_most() -> None:
    network = zone()
    assert dmarc.walk(DEEP, network).asked == 8
    asked = [name.removeprefix("_dmarc.") for name, _ in network.asked]
    assert asked == [
        *(DEEP, "d.e.f.g.h.i.example", "e.f.g.h.i.example", "f.g.h.i.example"),
        *("g.h.i.example", "h.i.example", "i.example", "example"),
    ]
    network = zone()
    assert dmarc.walk("b.c.d.e.f.g.h.example", network).asked == 8


@pytest.mark.parametrize(
    ("domain", "records", "organisation"),
    [
        pytest.param("a.ours.example", {"ours_example": "p=none"}, "ours.example", id="above"),
        pytest.param("ours.example", {}, "ours.example", id="no-record"),
        pytest.param("a.ours.example", {}, "a.ours.example", id="no-record-below"),
        pytest.param(
            "a.ours.example", {"a_ours_example": "p=none", "ours_example": "p=reject"}, "ours.example", id="2"
        ),
        pytest.param(
            "x.a.ours.example",
            {"a_ours_example": "p=none; psd=n", "ours_example": "p=reject"},
            "a.ours.example",
            id="psd-n",
        ),
        pytest.param("x.a.ours.example", {"ours_example": "p=none; psd=y"}, "a.ours.example", id="psd-y"),
        pytest.param("ours.example", {"ours_example": "p=none; psd=y"}, "ours.example", id="psd-y-itself"),
        pytest.param(
            "a.ours.example", {"ours_example": "p=none", "example": "p=none; psd=u"}, "example", id="psd-u"
        ),
        pytest.param(
            "a.ours.example", {"a_ours_example": "p=none", "ours_example": "p=none|v=DMARC1; p=reject"},
            "a.ours.example", id="two-records-count-as-none",
        ),
    ],
)  # fmt: skip
def test_the_organisational_domain(domain: str, records: dict[str, str], organisation: str) -> None:
    assert dmarc.walk(domain, zone(**records)).organisation == organisation


@pytest.mark.parametrize(
    ("record", "asked"),
    [
        ("v=DMARC1; p=reject", "reject"),
        ("v = DMARC1 ; P = Reject", "reject"),
        ("V=DMARC1;p=quarantine;", "quarantine"),
        ("v=DMARC1; p=reject; t=y", "quarantine"),
        ("v=DMARC1; p=quarantine; T=Y", "none"),
        ("v=DMARC1; rua=mailto:a@ours.example", "none"),
        ("v=DMARC1; p=rejct", "none"),
        ("v=DMARC1; foo=bar; p=reject; pct=0", "reject"),
        ("v=DMARC1x; p=reject", None),
        ("v=dmarc1; p=reject", None),
        ("p=reject; v=DMARC1", None),
        ("v=DMARC2; p=reject", None),
        ("v=DMARC1", "none"),
    ],
)
def test_records_are_read_as_rfc_9989_says(record: str, asked: str | None) -> None:
    _, says, at, _ = dmarc.policy("ours.example", zone(ours_example=record))
    assert (says if at else None) == asked


def test_subdomains_follow_sp_and_names_that_do_not_exist_np() -> None:
    network = zone(ours_example="p=reject; sp=quarantine; np=none", a_ours_example="")
    assert dmarc.policy("ours.example", network)[1] == "reject"
    assert dmarc.policy("a.ours.example", network)[1] == "quarantine"
    assert dmarc.policy("ghost.ours.example", network)[1] == "none"
    only_sp = zone(ours_example="p=reject; sp=quarantine")
    assert dmarc.policy("ghost.ours.example", only_sp)[1] == "quarantine"
    assert dmarc.policy("a.ours.example", zone(ours_example="p=reject", a_ours_example=""))[1] == "reject"


def test_a_public_suffix_lends_its_policy_where_the_organisation_has_none() -> None:
    network = zone(gov_example="p=none; sp=reject; psd=y", ours_gov_example="", a_ours_gov_example="")
    walk, asked, at, _ = dmarc.policy("a.ours.gov.example", network)
    assert (walk.organisation, asked, at) == ("ours.gov.example", "reject", "gov.example")


ALIGNED = {"ours_example": "p=reject", "other_example": "p=none"}


@pytest.mark.parametrize(
    ("spf", "dkim", "records", "result"),
    [
        pytest.param(("pass", "ours.example"), [], ALIGNED, "pass", id="spf"),
        pytest.param(("pass", "b.ours.example"), [], ALIGNED, "pass", id="spf-relaxed"),
        pytest.param(("pass", "other.example"), [], ALIGNED, "fail", id="spf-foreign"),
        pytest.param(("fail", "ours.example"), [("pass", "Ours.Example")], ALIGNED, "pass", id="dkim"),
        pytest.param(("fail", "ours.example"), [("fail", "ours.example")], ALIGNED, "fail", id="both-fail"),
        pytest.param(("none", ""), [("pass", "other.example")], ALIGNED, "fail", id="dkim-foreign"),
        pytest.param(
            ("pass", "b.ours.example"), [], {"ours_example": "p=reject; aspf=s"}, "fail", id="strict-spf"
        ),
        pytest.param(
            ("none", ""), [("pass", "b.ours.example")], {"ours_example": "p=none; adkim=S"}, "fail", id="strict"
        ),
        pytest.param(("pass", "ours.example"), [], {}, "none", id="no-record"),
        pytest.param(("temperror", "ours.example"), [], ALIGNED, "unknown", id="spf-dns-failed"),
        pytest.param(("temperror", "other.example"), [], ALIGNED, "fail", id="spf-dns-failed-elsewhere"),
        pytest.param(("none", ""), [("unknown", "ours.example")], ALIGNED, "unknown", id="key-failed"),
        pytest.param(("pass", "ours.example"), [], {"ours_example": "servfail"}, "unknown", id="walk-failed"),
        pytest.param(
            ("pass", "o.example"), [], {"ours_example": "p=none", "o_example": "timeout"}, "unknown", id="2nd"
        ),
        pytest.param(
            ("pass", "b.ours.example"), [], {"ours_example": "p=none", "b_ours_example": "p=none; psd=n"},
            "fail", id="psd-n-cuts-the-tree",
        ),
    ],
)  # fmt: skip
def test_the_verdict(spf: Any, dkim: Any, records: dict[str, str], result: str) -> None:
    told, policy, _ = dmarc.verdict("ours.example", spf, dkim, zone(**records))
    assert told == result
    if result in ("pass", "fail"):
        assert policy in ("none", "reject")


def test_a_walk_that_failed_is_not_a_missing_record() -> None:
    network = FakeNetwork({"_dmarc.ours.example": "nxdomain", "_dmarc.example": "servfail"})
    result, _, why = dmarc.verdict("ours.example", ("pass", "ours.example"), [], network)
    assert (result, why) == ("unknown", "_dmarc.example: DNS servfail: servfail from the fake")


@pytest.mark.parametrize(
    ("records", "status", "words"),
    [
        ({"ours_example": "p=reject"}, "pass", "asks for reject; organisation ours.example; 2 names asked"),
        ({"ours_example": "p=none"}, "warn", "v=DMARC1; p=none"),
        ({"ours_example": "p=nowhere"}, "warn", "p=nowhere"),
        ({}, "fail", "no record; 2 names asked"),
        ({"ours_example": "p=none|v=DMARC1; p=reject"}, "fail", "several records at ours.example"),
        ({"ours_example": "timeout"}, "unknown", "DNS timeout"),
        ({"example": "p=none"}, "warn", "organisation example (by the Public Suffix List, RFC 7489: ours."),
    ],
)  # fmt: skip
def test_rows_of_the_record(records: dict[str, str], status: str, words: str) -> None:
    record, verdict = last(Sender("ours.example", zone(**records), mail_from="ours.example"))
    assert (record.status, words in record.evidence) == (status, True), record
    assert (verdict.status, verdict.evidence) == ("unknown", "not asked: no message given")


def test_half_a_walk_gives_the_own_policy_but_no_organisation() -> None:
    network = zone(ours_example="p=reject", example="servfail")
    record, _ = last(Sender("ours.example", network, mail_from="ours.example"))
    assert (record.status, "asks for reject" in record.evidence) == ("pass", True)
    assert record.evidence.endswith("2 names asked; _dmarc.example: DNS servfail: servfail from the fake")
    own = dmarc.verdict("ours.example", ("pass", "ours.example"), [], network)
    other = dmarc.verdict("ours.example", ("pass", "b.ours.example"), [], network)
    assert (own[0], other[0]) == ("pass", "unknown")
    assert "alignment unknown (_dmarc.example" in other[2]
    below = zone(ours_example="p=reject", a_ours_example="", example="servfail")
    assert dmarc.policy("a.ours.example", below)[1:3] == ("none", ""), "whose it would be is not known"


def test_a_message_is_judged_by_its_from() -> None:
    network = zone(ours_example="p=reject")
    network.zone["ours.example"] = {"TXT": ["v=spf1 ip4:192.0.2.1 -all"]}
    octets = b"From: Jo <jo@sub.ours.example>\r\n\r\nhi\r\n"
    who = Sender("ours.example", network, "192.0.2.1", "mail.ours.example", "ours.example", octets=octets)
    row = last(who)[1]
    assert (row.status, row.subject) == ("pass", "From sub.ours.example")
    assert row.evidence == "SPF pass for ours.example, aligned; a fail would be: reject"
    two = Sender("ours.example", network, "192.0.2.1", octets=b"From: a@x.example, b@y.example\r\n\r\n")
    assert last(two)[1].status == "unknown"
