"""What diagnose says: every lab scenario with its truth, small probes, logs, and what must not be said."""

import itertools
import re
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest

import smtpkit as sk
from smtpkit import attempts, catalogue
from smtpkit.errors import InvalidInput
from smtpkit.lab import names
from smtpkit.voices import priors
from tests import frames, incidents
from tests.sampling import some

SERVERS = ("mx_ip", "backend")
SPEED = {"delisting": 3000, "auth_failure": 180, "outage": 1800, "dnsbl_listed": 28800}
"""Scenarios in which time passes, some made faster; they are asked for six seconds instead of five rounds."""
VERIFIED = {"tls": "verify"}
UNSEEN = {
    "middlebox": "every session gets through: whoami, not the attempts, shows who is in between",
    "null_mx": "no server was asked",
}


def ask(name: str, lab: sk.Lab) -> pd.DataFrame:
    """The evidence that a user would gather in this scenario: probes, or messages where content matters."""
    to = lab.recipients
    if name in ("content_reject", "size_limit", "hanmail"):
        return _sent(lab, name)
    if name == "simpson":
        return _probes(lab, [(r.partition("@")[2], r) for r in to], rounds=1, times=4)
    if name == "local_path":
        return _probes(lab, [(lab.domain, to[0]), ("control.example", "r@control.example")])
    how: dict[str, Any] = {"rounds": 1, "gap": 0.05, "seconds": 6} if name in SPEED else {}
    if name == "rate_limit":
        how = {"rounds": 1, "times": 8}
    if name.startswith("tls_"):
        how |= VERIFIED | {"ca_file": lab.ca_file}
    if name == "balancer":
        how |= {"rounds": 15}
    return _probes(lab, [(lab.domain, r) for r in to], **how)


def _probes(
    lab: sk.Lab, asked: Any, times: int = 1, gap: float = 0, seconds: float = 0, **how: Any
) -> pd.DataFrame:
    """Ask `times` times, and on until `seconds` are over."""
    made, end = [], time.monotonic() + seconds
    for again in itertools.count():
        if again >= times and time.monotonic() > end:
            break
        for us, (domain, to) in itertools.product([s for s in lab.scenario.senders if ":" not in s], asked):
            run = sk.probe(domain, to, lab.sender, network=lab.network_from(us), background=True, **how)
            while run.running:
                time.sleep(0.002)
            made.append(run)
            time.sleep(gap)
    assert [run.error for run in made if run.error] == []
    return sk.Casebook(lab.network.casebook).attempts()


def _sent(lab: sk.Lab, name: str) -> pd.DataFrame:
    texts = ["hello", "see http://win.example/ now", "x" * 70 * 400] if name != "hanmail" else ["hello"]
    made = []
    for i, text in itertools.product(range(5), texts):
        body = "\n".join(text[j : j + 70] for j in range(0, len(text), 70))
        mail = sk.build_message(sender=lab.sender, to=lab.recipient, subject=f"{i}", text=body)
        made.append(sk.send(mail, lab.recipient, live=True, network=lab.network, mx="each"))
    return attempts.conform(pd.concat(made, ignore_index=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in names() if n not in UNSEEN])
def test_each_scenario_of_the_lab_is_named(name: str) -> None:
    with sk.Lab(name, speed=SPEED.get(name)) as lab:
        found, truth = sk.diagnose(ask(name, lab)), lab.truth
    if not truth:
        assert all(c.dimension not in SERVERS for c in found.causes), found
        assert not found.causes or found.confidence < 0.8, found
        return
    (cause,), (true,) = found.causes, truth
    assert cause.kind == true.kind, found
    assert cause.confidence >= 0.8, found
    if true.dimension not in ("body", "size"):
        assert set(cause.values) == set(true.values)
    assert cause.dimension == true.dimension
    assert dict(true.only_for).items() <= dict(cause.only_for).items()
    for ours, theirs in ((cause.onset, true.onset), (cause.recovery, true.recovery)):
        if theirs is not None:
            assert ours is not None
            assert abs(ours - theirs) < pd.Timedelta(seconds=1)
    for ip, at in true.recoveries.items():
        assert abs(cause.recoveries[ip] - at) < pd.Timedelta(seconds=1)


def test_every_kind_of_cause_has_its_sentence() -> None:
    told = re.findall(r"f\.kind (?:==|in) (.*?) ", (catalogue.data() / "verdict.txt.j2").read_text("utf-8"))
    assert set(priors()["prior"]) - {"healthy"} <= set(re.findall(r"\w+", " ".join(told)))


def rounds(bad: dict[int, str], n: int = 4, count: int = 5, **more: Any) -> pd.DataFrame:
    return frames.rounds(n, count, lambda i, r, h: bad.get(i, "good"), **more)


@pytest.mark.parametrize("n", [3, 4, 6, 12])
@pytest.mark.parametrize("count", [5, 8])
def test_a_small_clean_probe_names_the_stale_server(n: int, count: int) -> None:
    found = sk.diagnose(rounds({1: "bad"}, n, count))
    (cause,) = found.causes
    assert (cause.kind, cause.dimension, cause.values) == ("mx_block", "mx_ip", ("192.0.2.12",))
    assert 0.8 <= cause.confidence <= 0.99
    assert f"192.0.2.12 refused {count} of {count} sessions as blocked" in found.verdict
    assert f"{n - 1} other MX IPs refused 0 of {count * (n - 1)}" in found.verdict
    assert found.more_probes == {}
    assert len(cause.evidence) == count


def test_one_round_is_not_enough_and_says_what_would_be() -> None:
    found = sk.diagnose(rounds({1: "bad"}, count=1))
    assert all(cause.confidence < 0.8 for cause in found.causes)
    assert "ot enough evidence" in found.verdict
    assert found.more_probes["192.0.2.12"] >= 1


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_a_clean_probe_accuses_nobody(n: int) -> None:
    found = sk.diagnose(rounds({}, n))
    assert found.causes == ()
    assert found.verdict.startswith(f"All {5 * n} sessions")


@pytest.mark.parametrize("seed", some(range(20), 4))
def test_single_failures_in_a_small_probe_accuse_nobody(seed: int) -> None:
    rng = np.random.default_rng(seed)
    where = zip(rng.integers(4, size=3).tolist(), rng.integers(5, size=3).tolist(), strict=True)
    bad = dict(zip(where, rng.permutation(["busy", "mute", "nobody"]).tolist(), strict=True))
    found = sk.diagnose(frames.rounds(4, 5, lambda i, r, h: bad.get((i, r), "good")))
    assert not [c for c in found.causes if c.dimension in SERVERS and c.confidence >= 0.8], found


def test_withheld_rows_are_no_evidence() -> None:
    bare, held = rounds({1: "bad"}), rounds({0: "held", 1: "bad", 2: "held"})
    assert sk.diagnose(held).causes[0].values == ("192.0.2.12",)
    assert "Nothing is known of 192.0.2.11 and 192.0.2.13" in sk.diagnose(held).verdict
    both = frames.join(bare, rounds(dict.fromkeys(range(4), "held"), begun="2026-11-24 01:30"))
    assert sk.diagnose(both).verdict == sk.diagnose(bare).verdict
    assert sk.diagnose(both).confidence == sk.diagnose(bare).confidence


NOTHING = {
    "empty": attempts.frame(),
    "withheld": rounds(dict.fromkeys(range(4), "held")),
    "bare": pd.DataFrame({"started_at": [], "mx_ip": [], "code": []}),
    "no server": rounds({0: "mute"}, 1).assign(mx_ip=None, stage="dns", error="null_mx"),
}


@pytest.mark.parametrize("name", NOTHING)
def test_no_evidence_is_inconclusive_and_no_error(name: str) -> None:
    found = sk.diagnose(NOTHING[name])
    (cause,) = found.causes
    assert (cause.kind, cause.dimension, cause.values) == ("inconclusive", "none", ())
    assert cause.confidence < 0.8
    assert "no" in found.verdict.lower()
    assert repr(found)
    assert found._repr_html_()


def test_a_weakly_slow_server_is_a_suspect_only() -> None:
    table = rounds({}, count=6)
    table.loc[(table.mx_ip == "192.0.2.12") & (table.index < 12), "latency_s"] = 2.0
    found = sk.diagnose(table)
    assert not [c for c in found.causes if c.confidence >= 0.8], found
    assert found.verdict


def test_a_server_that_is_surely_sick_is_named_even_if_not_surely_how() -> None:
    """A 421 for maintenance, 12 of 12 on one server: dead or blocking, but that server."""
    table = rounds({1: "busy"}, count=12).assign(reason=None)
    table = table.replace({"reply": {"421 4.7.0 too many": "421 4.3.2 going down for maintenance"}})
    found = sk.diagnose(table)
    assert found.causes[0].values == ("192.0.2.12",)
    assert "192.0.2.12" in found.verdict


def test_a_probe_that_ends_at_ehlo_says_what_it_cannot_see() -> None:
    assert "cannot see blocks" in sk.diagnose(rounds({}, asked="ehlo")).verdict
    assert "cannot see blocks" not in sk.diagnose(rounds({})).verdict


# our own path


def dead(begun: str = "2026-11-24 00:30", **more: Any) -> pd.DataFrame:
    return rounds(dict.fromkeys(range(4), "mute"), begun=begun, **more)


def control(begun: str = "2026-11-24 00:30", **more: Any) -> pd.DataFrame:
    return rounds({}, 1, begun=begun, **{"domain": "control.example", "mx_ip": "203.0.113.25", **more})


def test_no_receiver_is_blamed_for_failed_connections_without_a_control() -> None:
    found = sk.diagnose(dead())
    (cause,) = found.causes
    assert (cause.kind, cause.values) == ("inconclusive", ())
    assert "our own path" in found.verdict


@pytest.mark.parametrize(
    ("more", "blamed"),
    [({}, True), ({"begun": "2026-11-24 00:45"}, False), ({"begun": "2026-11-24 00:38"}, True),
     ({"vantage": "elsewhere"}, False), ({"mx_ip": "2001:db8::25"}, False)],
)  # fmt: skip
def test_a_control_answers_from_the_same_place_and_family_within_ten_minutes(more: Any, blamed: bool) -> None:
    found = sk.diagnose(frames.join(dead(), control(**more)))
    sure = [c for c in found.causes if c.kind in ("outage", "provider_block", "mx_dead") and c.confidence >= 0.8]
    assert bool(sure) == blamed, found
    assert ("our own path may be" in found.verdict or "our own path" in found.verdict) == (not blamed)


def test_one_dead_server_is_named_because_its_siblings_answer() -> None:
    (cause,) = sk.diagnose(rounds({2: "mute"})).causes
    assert (cause.kind, cause.values) == ("mx_dead", ("192.0.2.13",))


def test_nobody_answers_anywhere_is_our_own_path() -> None:
    both = frames.join(dead(), control().assign(outcome="failed", stage="connect", code=pd.NA, error="timeout"))
    (cause,) = sk.diagnose(both).causes
    assert (cause.kind, cause.values) == ("local_path", ())
    assert "no receiver is" in sk.diagnose(both).verdict


# what no server may be named for


def test_all_servers_refusing_alike_names_no_server() -> None:
    found = sk.diagnose(rounds(dict.fromkeys(range(4), "bad")))
    (cause,) = found.causes
    assert (cause.kind, cause.dimension, cause.values) == ("provider_block", "domain", (frames.THEIRS,))
    assert "no single server is at fault" in found.verdict


def test_delivered_in_the_end_names_no_server() -> None:
    """Every message was put off once, somewhere, and taken at its next try."""
    rng = np.random.default_rng(3)
    tries = [(m, k, "busy" if k == 1 else "sent") for m in range(60) for k in (1, 2)]
    start = pd.Timestamp("2026-11-24", tz="UTC")
    rows = [
        frames.row(says, start + pd.Timedelta(minutes=m + 30 * k), int(rng.integers(4)), source="send",
                   message_id=f"<{m}@ours.example>", recipient=f"u{m}@{frames.THEIRS}", try_number=k)
        for m, k, says in tries
    ]  # fmt: skip
    found = sk.diagnose(attempts.frame(rows))
    assert not [c for c in found.causes if c.dimension in SERVERS], found


def test_a_greylisted_row_says_when_to_look_again() -> None:
    found = sk.diagnose(rounds(dict.fromkeys(range(4), "grey"), begun="2026-11-24 10:35"))
    assert found.causes[0].kind == "greylisting"
    assert "Can't tell yet" in found.verdict
    assert "look again after 10:41 UTC" in found.verdict


@pytest.mark.parametrize("seed", some(range(6), 3))
def test_names_and_order_do_not_matter(seed: int) -> None:
    table, _ = incidents.simulate("mx_block", seed)
    first = sk.diagnose(table)
    rng = np.random.default_rng(seed)
    ips = table.mx_ip.unique()
    other = dict(zip(ips, [f"192.0.2.{x}" for x in rng.permutation(len(ips)) + 50], strict=True))
    again = sk.diagnose(table.sample(frac=1, random_state=seed).assign(mx_ip=table.mx_ip.map(other)))
    assert [c.kind for c in again.causes] == [c.kind for c in first.causes]
    for ours, theirs in zip(first.causes, again.causes, strict=True):
        if ours.dimension == "mx_ip":
            assert {other[v] for v in ours.values} == set(theirs.values)


@pytest.mark.slow
def test_outcomes_dealt_at_random_accuse_nobody() -> None:
    accused = 0
    for seed in range(30):
        table, _ = incidents.simulate("mx_block", seed)
        place = np.random.default_rng(seed).permutation(len(table))
        said = ["outcome", "stage", "code", "enhanced", "reply", "error", "latency_s"]
        table[said] = table[said].iloc[place].set_axis(table.index)
        table["reply_host"] = None
        accused += any(c.dimension in SERVERS and c.confidence >= 0.8 for c in sk.diagnose(table).causes)
    assert accused == 0


# logs, tables, several sources


@pytest.mark.parametrize("columns", [["code"], ["error"], ["outcome"], ["code", "reply"], ["code", "error"]])
def test_three_columns_are_enough(columns: list[str]) -> None:
    full = rounds({1: "mute"} if columns == ["error"] else {1: "bad"}, count=10)
    found = sk.diagnose(pd.DataFrame(full[["started_at", "mx_ip", *columns]]))
    assert found.causes[0].values == ("192.0.2.12",)


def test_what_lacks_is_said() -> None:
    with pytest.raises(sk.errors.InvalidInput if hasattr(sk, "errors") else Exception, match="mx_ip"):
        sk.diagnose(pd.DataFrame({"started_at": ["2026-11-24"], "code": [250]}))


def test_a_log_and_a_probe_together() -> None:
    """A log names neither sender IP nor session, a probe does; the stale server is in both."""
    log = rounds({1: "bad"}, count=8, source="postfix", begun="2026-11-23 20:00", asked="body")
    log = log.assign(session=None, sender_ip=None, local_ip=None, vantage=None, recipient=None)
    (cause,) = sk.diagnose(frames.join(log, rounds({1: "bad"}))).causes
    assert (cause.kind, cause.values) == ("mx_block", ("192.0.2.12",))
    assert len(cause.evidence) == 13


def test_rows_of_one_session_count_once_up_to_mail() -> None:
    one = rounds({1: "busy"}).replace({"reply": {"421 4.7.0 too many": "421 4.7.0 Too many connections"}})
    more = [one[one.stage == "banner"].assign(recipient=f"x{i}@{frames.THEIRS}") for i in range(6)]
    found = sk.diagnose(frames.join(one, *more))
    assert "192.0.2.12 refused 5 of 5 sessions" in found.verdict
    assert found.confidence >= 0.8


def test_a_reply_cannot_write_the_verdict() -> None:
    bad = rounds({1: "bad"}, domain="daum.example\x1b[31m<b>")
    found = sk.diagnose(bad)
    assert "\x1b" not in repr(found)
    assert "<b>" not in (found._repr_html_() or "").replace("<p><b>", "")


@pytest.mark.parametrize("kind", ["pair", "backend", "local_path", "sender_ip_block", "mx_block", "dnsbl"])
@pytest.mark.parametrize("seed", some(range(900, 904), 4))
def test_simulated_incidents_are_named(kind: str, seed: int) -> None:
    table, truth = incidents.simulate(kind, seed)
    found = sk.diagnose(table)
    true = truth[0]
    assert found.causes, true
    cause = found.causes[0]
    assert (cause.kind, cause.dimension) == (true["kind"], true["dimension"])
    assert set(cause.values) == set(true["values"])
    assert {k: list(v) for k, v in cause.only_for.items()} == true.get("only_for", {})


@pytest.mark.parametrize("frame", [None, [], {"mx_ip": ["192.0.2.1"]}], ids=repr)
def test_only_a_frame_is_diagnosed(frame: object) -> None:
    with pytest.raises(InvalidInput, match=", not DataFrame"):
        sk.diagnose(frame)  # type: ignore[arg-type]  # the caller's mistake is what is tested


def test_tls_that_fails_at_all_servers_is_no_refusal() -> None:
    with sk.Lab("healthy") as lab:
        found = sk.diagnose(sk.probe(lab.domain, lab.recipient, lab.sender, network=lab.network, tls="verify"))
    assert [(cause.kind, cause.dimension) for cause in found.causes] == [("mx_tls", "domain")]
    assert "refused" not in found.verdict


def test_tls_of_three_servers_and_a_block_of_the_fourth_are_told_apart() -> None:
    with sk.Lab("stale_421") as lab:
        found = sk.diagnose(sk.probe(lab.domain, lab.recipient, lab.sender, network=lab.network, tls="verify"))
    assert {cause.kind: set(cause.evidence.mx_ip) for cause in found.causes}["mx_tls"] == {
        f"192.0.2.{n}" for n in (11, 12, 13)
    }
    assert "refused 20 of 20" not in found.verdict


def test_a_server_that_was_only_broken_off_is_not_told_as_clean() -> None:
    frame = rounds({})
    frame.loc[frame.mx_ip.eq("192.0.2.12"), ["outcome", "error", "code"]] = "failed", "stopped", None
    found = sk.diagnose(frame)
    assert "Nothing is known of 192.0.2.12" in found.verdict
    assert found.more_probes["192.0.2.12"] == 5


def test_attempts_without_a_time_or_an_address_are_told() -> None:
    frame = rounds({1: "bad"})
    assert "left out: 20" in sk.diagnose(frame.assign(started_at=pd.NaT)).verdict
    assert "No row names the MX IP" in sk.diagnose(frame.assign(mx_ip=None)).verdict


def test_frames_that_are_joined_count_an_attempt_once() -> None:
    frame = rounds({1: "bad"})
    twice = pd.concat([frame, frame])
    assert sk.diagnose(twice).verdict == sk.diagnose(frame).verdict
    assert sk.report(twice).subject == sk.report(frame).subject


def test_two_tables_with_the_same_labels_make_one_letter() -> None:
    frame = rounds({1: "bad"}).drop(columns=["attempt_id", "session"])
    later = frame.assign(started_at=frame.started_at + pd.Timedelta("1h"))
    assert "10 of 10 attempts" in sk.report(pd.concat([frame, later])).subject


def test_a_dead_server_in_a_slow_log_is_dead_all_the_same() -> None:
    """Nobody answers within ten minutes of any failure, but others do all the while."""
    found = sk.diagnose(frames.rounds(4, 8, frames.only(1, kind="mute"), gap=1000))
    assert (found.causes[0].kind, found.causes[0].values) == ("mx_dead", ("192.0.2.12",))
    assert found.causes[0].confidence > 0.8


def test_recipients_refused_in_three_wordings_are_one_cause() -> None:
    words = {0: ("5.1.1", "No user"), 1: ("5.2.2", "Mailbox full"), 2: ("5.2.1", "Account disabled")}
    start, rows = pd.Timestamp("2026-11-24", tz="UTC"), []
    for n in range(120):
        enhanced, text = words.get(n % 10, ("", ""))
        said = {"enhanced": enhanced, "reply": f"550 {enhanced} {text}"} if text else {}
        whom = {"recipient": f"u{n}@{frames.THEIRS}"}
        at = start + pd.Timedelta(minutes=n)
        rows.append(frames.row("nobody" if text else "good", at, n // 10 % 4, **whom, **said))
    causes = sk.diagnose(attempts.frame(rows)).causes
    assert [(c.kind, len(c.values)) for c in causes] == [("recipient_bad", 36)]
