"""Verdicts that compared unlike with unlike: EHLO with RCPT, IPv4 with IPv6, a blank with a name."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

import smtpkit as sk
from smtpkit import attempts
from smtpkit.rows import Rows

NO = {"code": 554, "reply": "554 5.7.1 Your IP is blacklisted", "outcome": "rejected"}
V6 = ["192.0.2.10", "2001:db8::10", "192.0.2.11", "2001:db8::11"]
US, US6 = "198.51.100.1", "2001:db8:9::1"


def tries(n: int, bad: Any, ips: Any = 4, gap: float = 60, late: float = 0, **more: Any) -> pd.DataFrame:
    """`n` tries in turn at the MX IPs, up to RCPT; `bad(number)` says which are refused."""
    names = ips if isinstance(ips, list) else [f"192.0.2.{10 + i}" for i in range(ips)]
    at = pd.Timestamp("2026-11-24 08:00", tz="UTC") + pd.Timedelta(seconds=late)
    rows = []
    for i in range(n):
        row = {"started_at": at + pd.Timedelta(seconds=gap * i), "mx_ip": names[i % len(names)]}
        row |= {"domain": "daum.example", "stage": "rcpt", "code": 250, "reply": "250 ok", "outcome": "passed"}
        rows.append(row | {k: v(i) if callable(v) else v for k, v in more.items()} | (NO if bad(i) else {}))
    return pd.DataFrame(rows)


def ehlo(n: int) -> pd.DataFrame:
    return tries(n, lambda i: False, stage="ehlo")


@pytest.mark.parametrize(
    ("probe", "mail", "kind", "said"),
    [
        (80, tries(20, lambda i: True, ["192.0.2.12"], late=30), "provider_block", "20 of 20 attempts"),
        (160, tries(40, lambda i: True, gap=240, late=30), "provider_block", "40 of 40 attempts"),
        (160, tries(40, lambda i: i % 4 == 2, gap=240, late=30), "mx_block", "10 of 10 attempts"),
    ],
    ids=["mail to one server only", "all servers refuse", "one server refuses"],
)
def test_a_probe_that_ended_at_ehlo_clears_nobody_of_rcpt(
    probe: int, mail: pd.DataFrame, kind: str, said: str
) -> None:
    found = sk.diagnose(pd.concat([ehlo(probe), mail], ignore_index=True))
    assert [cause.kind for cause in found.causes] == [kind]
    assert said in found.verdict
    assert f"of {probe}" not in found.verdict


def test_a_letter_counts_as_its_verdict_does() -> None:
    mail = tries(40, lambda i: i % 4 == 2, gap=240, late=30)
    frame = pd.concat([ehlo(160), mail], ignore_index=True)
    lines = Rows(frame, sk.diagnose(frame), order="rate").lines
    assert lines[["k", "n"]].iloc[0].tolist() == [10, 10]
    assert lines.n.sum() == 40


def test_a_server_over_ipv6_is_not_told_from_our_address_there() -> None:
    over6 = tries(80, lambda i: i % 2 == 1, V6)
    found = sk.diagnose(over6.assign(sender_ip=[US, US6] * 40))
    assert [(c.kind, c.values) for c in found.causes] == [("sender_ip_block", (US6,))]
    assert found.confidence > 0.9
    found = sk.diagnose(over6)
    assert found.causes[0].confidence < 0.8
    assert found.more_probes == {}
    assert "may be our own address there that is refused" in found.verdict


def test_one_server_over_ipv6_is_told_where_a_sibling_there_takes_mail() -> None:
    found = sk.diagnose(tries(160, lambda i: i % 4 == 1, V6))
    assert [(c.kind, c.values) for c in found.causes] == [("mx_block", (V6[1],))]
    assert found.confidence > 0.9


def test_one_of_our_addresses_at_a_receiver_with_one_server_is_told() -> None:
    us = [US, "198.51.100.2", "198.51.100.3"]
    found = sk.diagnose(tries(60, lambda i: i % 3 == 0, ["192.0.2.10"], sender_ip=lambda i: us[i % 3]))
    assert [(c.kind, c.values) for c in found.causes] == [("sender_ip_block", (US,))]
    assert found.confidence > 0.9
    assert found.more_probes == {}


PLAIN = tries(60, lambda i: i % 4 == 2)[["started_at", "mx_ip", "code", "reply"]]
BAD = PLAIN.code.ne(250)


@pytest.mark.parametrize(
    "table",
    [
        PLAIN.drop(columns=["code", "reply"]).assign(error=np.where(BAD, "timeout", "")),
        PLAIN.drop(columns=["code", "reply"]).assign(outcome="", error=np.where(BAD, "timeout", ""), code=""),
        PLAIN.assign(recipient=np.where(BAD, "", "a@daum.example")),
        PLAIN.assign(sender_ip=np.where(BAD, "", US)),
        PLAIN.assign(mx_ip=PLAIN.mx_ip.where(PLAIN.index % 8 < 4, PLAIN.mx_ip + " ")),
        PLAIN.assign(session=PLAIN.index // 4, stage="mail"),
    ],
    ids=["error", "outcome, code and error", "recipient", "sender_ip", "mx_ip with a blank", "sessions of rounds"],
)
def test_a_blank_is_no_name_and_no_error(table: pd.DataFrame) -> None:
    if "outcome" in table:
        table["outcome"] = np.where(BAD, "", "accepted")
    found = sk.diagnose(table)
    assert [(c.dimension, c.values) for c in found.causes] == [("mx_ip", ("192.0.2.12",))]
    assert "15 of 15 attempts" in found.verdict
    assert "of 45" in found.verdict
    assert found.confidence > 0.9


def test_an_ipv6_address_has_one_spelling() -> None:
    table = tries(160, lambda i: i % 4 == 1, V6).assign(
        mx_ip=lambda t: t.mx_ip.where(t.index % 8 < 4, t.mx_ip.str.upper())
    )
    assert sk.diagnose(table).causes[0].values == (V6[1],)
    assert len(sk.counts.by_ip(table)) == 4


OURS = ["bad.example", "good.example", "fine.example"]
OF = {"sender": lambda i: f"u@{OURS[i % 3]}", "sender_ip": US}


@pytest.mark.parametrize(
    ("said", "kind"),
    [("554 5.7.23 SPF validation failed", "auth_failure"), ("554 5.7.1 Rejected", "provider_block")],
)
def test_mail_of_one_of_our_domains_is_told_apart(said: str, kind: str) -> None:
    frame = tries(120, lambda i: i % 3 == 0, **OF).replace(NO["reply"], said)
    found = sk.diagnose(frame)
    assert [(c.kind, dict(c.only_for)) for c in found.causes] == [(kind, {"sender_domain": ("bad.example",)})]
    assert "refused mail from bad.example in 40 of 40" in found.verdict
    assert "our other domains 0 of 80" in found.verdict


@pytest.mark.parametrize(
    ("lang", "words"),
    [
        ("en", ["our mail from bad.example", "0 of 80 refused from our 2 other domains"]),
        ("ko", ["다른 발신 도메인 2개"]),
    ],
)
def test_a_letter_of_one_domain_counts_the_others(lang: Any, words: list[str], tmp_path: Any) -> None:
    frame = tries(120, lambda i: i % 3 == 0, **OF).replace(NO["reply"], "554 5.7.1 Rejected")
    frame = attempts.frame(frame.assign(attempt_id=[f"a{i}" for i in range(120)]).to_dict("records"))
    sk.report(sk.diagnose(frame), tmp_path / "x.md", lang=lang)
    text = (tmp_path / "x.md").read_text("utf-8")
    assert all(word in text for word in words), text


def test_two_stale_servers_that_refuse_in_other_words_are_both_told() -> None:
    frame = tries(200, lambda i: i % 4 == 2)
    limit = {"code": 421, "reply": "421 4.7.0 too many connections from your IP", "outcome": "deferred"}
    frame.loc[frame.mx_ip.eq("192.0.2.11"), list(limit)] = list(limit.values())
    found = sk.diagnose(frame)
    assert {c.values for c in found.causes} == {("192.0.2.12",), ("192.0.2.11",)}
    assert found.verdict.count("50 of 50 attempts") == 2
    assert "failed otherwise" not in found.verdict


def test_what_never_had_a_server_is_told_of_none() -> None:
    lost = tries(15, lambda i: True, gap=240, late=30).assign(mx_ip=None, code=None, outcome="failed", reply=None)
    frame = pd.concat([tries(60, lambda i: False), lost.assign(stage="dns", error="dns_servfail")])
    assert "15 name no MX IP (dns_servfail)" in sk.diagnose(frame).verdict


@pytest.mark.parametrize("code", ["OK", "2.0.0", "sent", "5.7.1 no"])
def test_a_code_that_is_a_word_is_refused(code: str) -> None:
    with pytest.raises(sk.errors.InvalidInput, match="is no number"):
        sk.diagnose(PLAIN.assign(code=PLAIN.code.astype(str).replace("250", code)))


def test_a_refusal_that_tells_no_stage_is_held_against_what_was_accepted() -> None:
    """Postfix lines without "(in reply to ...)": the server that took the same mail is its control."""
    frame = tries(60, lambda i: i % 2 == 1, ips=2)
    frame["stage"] = frame.outcome.map({"passed": "body"})
    (cause,) = sk.diagnose(frame).causes
    assert (cause.kind, cause.values) == ("mx_block", ("192.0.2.11",))
    assert Rows(frame, sk.diagnose(frame)).lines.n.tolist() == [30, 30]


@pytest.mark.parametrize("domains", [["daum.example", "naver.example"], ["naver.example", "daum.example"]])
def test_refusals_by_nobody_known_are_told_of_no_receiver_that_is(domains: list[str]) -> None:
    """Without domain and MX IP they were counted as those of the receiver that the frame names last."""
    fine = tries(8, lambda i: False, ips=2, domain=lambda i: domains[i % 2])
    frame = pd.concat([fine, tries(30, lambda i: True, domain=None, mx_ip=None)], ignore_index=True)
    found = sk.diagnose(frame)
    assert not any(name in found.verdict or name in str(found.causes) for name in domains)


HERE = "10.0.0.5"
"""Our own address behind NAT, as of a machine in a cloud; the public one only answers to EHLO tell."""


def refused_at_once(i: int) -> bool:
    return i % 4 == 2


@pytest.mark.parametrize(
    ("seen", "bad", "kind"),
    [
        (lambda i: None if refused_at_once(i) else US, refused_at_once, "mx_block"),
        (lambda i: None if i % 8 == 2 else US, lambda i: i % 8 == 2, "mx_block"),
        (lambda i: None if refused_at_once(i) else (US, "198.51.100.2")[i % 8 > 3], refused_at_once, "mx_block"),
        (lambda i: None, refused_at_once, "mx_block"),
    ],
    ids=[
        "one server",
        "one server, every other time",
        "a pool of addresses",
        "none told",
    ],
)
def test_our_address_behind_nat_is_none_of_its_own_where_a_server_refused_before_it_told_it(
    seen: Any, bad: Any, kind: str
) -> None:
    frame = tries(
        80, bad, seen_ip=seen, local_ip=HERE, vantage="here", stage=lambda i: "banner" if bad(i) else "rcpt"
    )
    found = sk.diagnose(frame.assign(reply=frame.reply.where(frame.outcome == "passed", "554 no")))
    assert [cause.kind for cause in found.causes] == [kind]
    assert found.confidence > 0.8
    known = Rows(frame, found).facts.us.dropna().unique()
    assert HERE not in known


def test_a_copy_to_each_server_is_no_retry_of_the_first() -> None:
    sent = tries(32, lambda i: i % 4 == 3, source="send", message_id=lambda i: f"<{i // 4}@ours.example>",
                 try_number=1, recipient="r@daum.example")  # fmt: skip
    assert sk.diagnose(sent).confidence > 0.8
    logged = sk.diagnose(sent.assign(source="postfix"))
    assert logged.confidence < 0.8, "of a log's lines the later ones are retries"
