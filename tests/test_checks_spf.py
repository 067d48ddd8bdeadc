"""checks.spf: all verdicts and explanations of the openspf RFC 7208 suite; the tree; the guard for sends."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import smtpkit as sk
from smtpkit import sending
from smtpkit.checks import spf
from smtpkit.checks.found import Sender
from smtpkit.errors import InvalidInput
from smtpkit.mx import MxHost, MxRoute
from tests.fake_network import FakeNetwork

SUITE = Path(__file__).parent / "data/rfc7208-tests.yml"


def zone(rows: dict[str, Any]) -> dict[str, Any]:
    """The suite's zonedata as a FakeNetwork takes it: SPF records stand for TXT where no TXT is named."""
    made: dict[str, Any] = {}
    for name, records in rows.items():
        kinds: dict[str, Any] = {}
        for record in records if isinstance(records, list) else [records]:
            if record == "TIMEOUT":
                kinds["*"] = "timeout"
                continue
            ((kind, value),) = record.items()
            told = kinds.setdefault(kind, [])
            if value != "NONE":
                parts = value if isinstance(value, list) else [value]
                told.append((" " if kind == "MX" else "").join(map(str, parts)))
        if "SPF" in kinds and "TXT" not in kinds and "*" not in kinds:
            kinds["TXT"] = kinds["SPF"]
        made[str(name)] = {kind: told for kind, told in kinds.items() if told or "*" not in kinds}
    return made


@cache
def suite() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml takes a tenth of the time
    documents = [part for part in yaml.load_all(SUITE.read_text("utf-8"), loader) if part]
    return [(name, case, zone(doc["zonedata"])) for doc in documents for name, case in doc["tests"].items()]


def test_the_suite_is_whole() -> None:
    assert len(suite()) == 203
    assert sum("explanation" in case for _, case, _ in suite()) == 22


@pytest.mark.parametrize(("case", "told"), [pytest.param(c, z, id=name) for name, c, z in suite()])
def test_the_verdict_and_its_explanation_are_those_of_openspf(case: Any, told: Any) -> None:
    network = FakeNetwork(told)
    made = spf.check_host(case["host"], case.get("mailfrom") or "", case.get("helo") or "", network)
    wanted = case["result"] if isinstance(case["result"], list) else [case["result"]]
    assert made.result in wanted
    if "explanation" in case:  # the suite writes IPv6 nibbles in capitals, RFC 7208 7.4 in small letters
        wanted = None if case["explanation"] == "DEFAULT" else case["explanation"].lower()
        assert (made.explanation and made.explanation.lower()) == wanted


ZONE = {
    "ours.example": {"TXT": ["v=spf1 include:a.example include:b.example -all", "other"]},
    "a.example": {"TXT": ["v=spf1 ip4:192.0.2.0/24 a:x.a.example exists:%{i}.z.example ~all"]},
    "x.a.example": {"A": ["198.51.100.9"]},
    "b.example": {"TXT": ["v=spf1 mx include:ours.example redirect=c.example"], "MX": ["10 mx.b.example"]},
    "mx.b.example": {"A": ["198.51.100.8"], "AAAA": ["2001:db8::8"]},
    "c.example": {"TXT": ["v=spf1 include:%{d}.m.example ?all"]},
    "exp.example": {"TXT": ["v=spf1 exp=why.exp.example -all"]},
    "why.exp.example": {"TXT": ["%{i} may not send for %{d}"]},
    "soft.example": {"TXT": ["v=spf1 ~all"]},
    "dead.example": "servfail",
    "mute.example": {"TXT": "timeout"},
    "world.example": {"TXT": ["v=spf1 +all"]},
    "two.example": {"TXT": ["v=spf1 -all", "v=spf1 ~all"]},
    "bad.example": {"TXT": ["v=spf1 ip4:1.2.3 -all"]},
    "open.example": {"TXT": ["v=spf1 a"]},
    "old.example": {"TXT": ["v=spf1 ptr -all"]},
    "void.example": {"TXT": ["v=spf1 a:n1.void.example a:n2.void.example a:n3.void.example ip4:192.0.2.9 -all"]},
    "wide.example": {"TXT": ["v=spf1 ip4:192.0.2.9 " + " ".join(f"a:a{n}.a.example" for n in range(11)) + " -all"]},
    "none.example": {"TXT": ["hello"]},
}


def check(domain: str, ip: str = "192.0.2.9", helo: str = "mail.ours.example") -> spf.Spf:
    return spf.check_host(ip, f"me@{domain}", helo, FakeNetwork(ZONE))


@pytest.mark.parametrize(
    ("case", "result", "term"),
    [
        ("ours.example 192.0.2.9", "pass", "include:a.example, ip4:192.0.2.0/24"),
        ("world.example 2001:db8::1", "pass", "+all"),
        ("soft.example 192.0.2.9", "softfail", "~all"),
        ("open.example 192.0.2.9", "neutral", "no term matched"),
        ("void.example 192.0.2.9", "permerror", "void DNS lookup limit exceeded (2) at 'a:n3.void.example'"),
        ("none.example 192.0.2.9", "none", "no v=spf1 record for none.example"),
        ("dead.example 192.0.2.9", "temperror", "TXT lookup failed for dead.example"),
        ("mute.example 192.0.2.9", "temperror", "TXT lookup failed for mute.example"),
        ("ours.example 203.0.113.5", "permerror", "DNS lookup limit exceeded (10) at 'mx'"),
    ],
    ids=str,
)
def test_the_verdict_names_the_term_that_decided(case: str, result: str, term: str) -> None:
    made = check(*case.split())
    assert (made.result, made.term) == (result, term)


def test_a_verdict_is_found_inside_a_running_event_loop() -> None:
    async def cell() -> str:
        return check("ours.example").result

    with ThreadPoolExecutor(1) as apart:  # where no browser test of this run has a loop going
        assert apart.submit(lambda: asyncio.run(cell())).result() == "pass"


def test_null_sender_is_judged_by_the_helo_name() -> None:
    made = spf.check_host("198.51.100.8", "<>", "b.example", FakeNetwork(ZONE))
    assert (made.result, made.term) == ("pass", "mx")


def test_the_trace_holds_every_question() -> None:
    trace = check("ours.example").trace
    assert set(trace.domain.dropna()) >= {"ours.example", "a.example"}
    assert trace.kind.tolist()[-1] == "result"


@pytest.mark.parametrize("ip", ["", "192.0.2", "192.0.2.1/32", "mail.ours.example"])
def test_an_address_that_is_none_is_the_callers_mistake(ip: str) -> None:
    with pytest.raises(InvalidInput, match="is no IP address"):
        spf.check_host(ip, "me@ours.example", "", FakeNetwork(ZONE))


def test_the_tree_counts_each_include_and_ends_at_loops() -> None:
    tree = spf.tree("ours.example", "192.0.2.9", network=FakeNetwork(ZONE))
    assert tree.loc[0, ["term", "total", "result"]].tolist() == ["v=spf1", 8, "pass"]
    by_term = tree.set_index("term")
    assert by_term.total[["include:a.example", "include:b.example", "redirect=c.example"]].tolist() == [
        3,
        5,
        2,
    ]
    assert by_term.note["include:ours.example"] == "a loop"
    assert by_term.note["include:%{d}.m.example"] == "depends on the message"
    assert by_term.result["ip4:192.0.2.0/24"] == "pass"
    assert by_term.result["include:b.example"] == "", "not reached"


def test_the_tree_is_whole_where_the_verdict_stopped_at_a_limit() -> None:
    tree = spf.tree("wide.example", "203.0.113.5", network=FakeNetwork(ZONE))
    assert tree.result[0] == "permerror"
    assert tree.total[0] == 11
    assert tree.term.tolist()[-1] == "-all"


def test_a_zone_that_includes_for_ever_ends() -> None:
    zone = {f"{n}.example": {"TXT": [f"v=spf1 include:{n + 1}.example -all"]} for n in range(500)}
    network = FakeNetwork(zone)
    tree = spf.tree("0.example", network=network)
    assert len(network.asked) == spf.MOST_RECORDS
    assert tree.note.tolist()[spf.MOST_RECORDS] == "not read: too many records"


@pytest.mark.parametrize(
    ("domain", "status", "words"),
    [
        pytest.param("ours.example", "fail", "include:ours.example: a loop", id="loop"),
        pytest.param("wide.example", "fail", "11 of 10 DNS terms", id="limit"),
        pytest.param("world.example", "fail", "+all", id="world"),
        pytest.param("two.example", "fail", "2 SPF records", id="two"),
        pytest.param("bad.example", "fail", "invalid IPv4 network", id="syntax"),
        pytest.param("none.example", "fail", "no SPF record", id="none"),
        pytest.param("dead.example", "unknown", "DNS servfail", id="dead"),
        pytest.param("mute.example", "unknown", "DNS timeout", id="mute"),
        pytest.param("old.example", "warn", "ptr", id="ptr"),
        pytest.param("open.example", "warn", "1 of 10 DNS terms: v=spf1 a", id="open-end"),
        pytest.param("soft.example", "pass", "0 of 10", id="fine"),
    ],
)
def test_the_record_itself_is_judged(domain: str, status: str, words: str) -> None:
    who = Sender(domain, FakeNetwork(ZONE), mail_from=domain)
    row = {row.check: row for row in spf.rows(who)}["spf_record"]
    assert (row.status, words in row.evidence) == (status, True), row


def test_verdicts_become_rows() -> None:
    network = FakeNetwork(ZONE)
    who = Sender("ours.example", network, ip="192.0.2.9", helo="none.example", mail_from="ours.example")
    rows = {row.check: row for row in spf.rows(who)}
    assert rows["spf"].status == "pass"
    assert "include:a.example, ip4:192.0.2.0/24; 1 of 10 DNS terms" in rows["spf"].evidence
    assert rows["spf_helo"].status == "warn"
    assert "v=spf1 a -all at the HELO name" in rows["spf_helo"].advice
    dead = {
        row.check: row
        for row in spf.rows(Sender("dead.example", network, ip="192.0.2.9", mail_from="dead.example"))
    }
    assert dead["spf"].status == "unknown"
    assert next(spf.rows(Sender("ours.example", network, mail_from="ours.example"))).status == "unknown"


@pytest.mark.parametrize(
    ("sender", "forbids"),
    [
        pytest.param("me@exp.example", True, id="fail"),
        pytest.param("me@soft.example", False, id="softfail"),
        pytest.param("me@dead.example", False, id="servfail"),
        pytest.param("me@none.example", False, id="none"),
        pytest.param("me@wide.example", False, id="pass"),
        pytest.param("<>", False, id="null"),
    ],
)
def test_only_a_clear_fail_forbids_a_send(sender: str, forbids: bool) -> None:
    why = spf.spf_forbids(sender, "192.0.2.9", FakeNetwork(ZONE))
    assert bool(why) is forbids
    if why:
        assert "192.0.2.9 may not send for exp.example" in why


@pytest.mark.parametrize(
    ("ip", "spoof_ok", "outcome"),
    [
        pytest.param("8.8.8.8", None, "withheld", id="fail"),
        pytest.param("8.8.8.8", "a test of the receiver's SPF", "accepted", id="meant"),
        pytest.param("9.9.9.10", None, "accepted", id="pass"),
        pytest.param(None, None, "accepted", id="address not known"),
    ],
)
def test_a_send_that_would_be_a_forgery_is_withheld(
    ip: str | None, spoof_ok: str | None, outcome: str, tmp_path: Path
) -> None:
    with sk.Lab("healthy") as lab:
        lab.zone.publish("ours.example", "TXT", "v=spf1 ip4:9.9.9.10 -all")
        ways = {(mx, 25): lab.network.where(mx, 25) for _, mx in sk.lookup_mx(lab.domain, lab.network)}
        network = sk.internet(
            nameservers=[lab.dns], sender_ip=ip, helo="mail.ours.example", reroute=ways, pace=sk.Pace.none(),
            guard=sk.Guard(allow_to=[lab.recipient]), casebook=tmp_path / "c.sqlite", ledger=tmp_path / "l.sqlite",
        )  # fmt: skip
        mail = sk.build_message(sender=lab.sender, to=lab.recipient, subject="hi", text="hi")
        with pytest.raises(InvalidInput, match="is no reason"):
            sk.send(mail, network=network, live=True, spoof_ok=" ")
        (row,) = sk.send(mail, network=network, live=True, spoof_ok=spoof_ok).to_dict("records")
        assert len(lab.mailbox) == (outcome == "accepted")
    assert (row["outcome"], row.get("spoof_ok")) == (outcome, spoof_ok)
    if outcome == "withheld":
        assert row["error"] == "guard"
        assert row["why"].startswith("SPF of ours.example says fail for 8.8.8.8 (-all)")


def test_this_machines_public_address_counts_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with sk.Lab("healthy") as lab:
        lab.zone.publish("ours.example", "TXT", "v=spf1 ip4:9.9.9.10 -all")
        net = sk.internet(nameservers=[lab.dns], reroute={("192.0.2.11", 25): ("127.0.0.1", 1)})
        real, routed = (
            MxRoute("d.example", "mx", (MxHost("mx.d.example", 1, (ip,)),)) for ip in ("9.9.9.9", "192.0.2.11")
        )
        told = []
        for ours in ("8.8.8.8", "9.9.9.10", "10.0.0.7", None):
            monkeypatch.setattr(sending, "own_ip", lambda _, far, ours=ours: ours)
            told.append(sending._forged("me@ours.example", net, real, 25).get("why", ""))
        assert told[0].startswith("SPF of ours.example says fail for 8.8.8.8")
        assert told[1:] == ["", "", ""]
        monkeypatch.setattr(sending, "own_ip", lambda _, far: "8.8.8.8")
        assert sending._forged("me@ours.example", net, routed, 25) == {}, "rerouted: no real receiver"
