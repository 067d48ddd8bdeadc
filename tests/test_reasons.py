"""What replies mean: every rule by its example, replies of real servers, tables of odd cases, whole frames.

Sets of real replies, labelled by hand from the reasons' definitions (data/reasons.csv) before they were run:
`replies_tuned.csv` (a, b: rules were mended on them; k: texts of server software, from memory) and
`replies_held.csv` (c to g), each met once by rules that had not seen it, and used to mend them only after that.
At first sight, label given / right of those labelled: a 94 / 89 %, b 86 / 86 %, c 96 / 91 %, d 96 / 89 %,
e 90 / 84 %, f 96 / 93 %, g 99 / 84 %. From g everything was taken out whose template an earlier set had (69 of 143
replies), so it holds rare texts only; addresses and IPs in it are replaced. c to g together (348): 95 / 88 %.
"""

import csv
import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpkit import attempts, reasons
from smtpkit.catalogue import rows
from smtpkit.errors import InvalidInput

DATA = Path(__file__).parent / "data"
WORDS = [row for row in rows("reply_rules.csv") if row["example"]]
PROVIDERS = list(rows("provider_codes.csv"))
CODES = [row for row in rows("enhanced_codes.csv") if row["reason"]]


def real(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def host_of(row: dict[str, str]) -> str | None:
    """A host of the provider, if the rule asks for one."""
    first = row["hosts"].split(";")[0]
    return f"mx1{first}" if first.startswith(".") else first or None


def as_text(example: str) -> str:
    return example.replace("\\n", "\n")


@pytest.mark.parametrize("row", WORDS, ids=lambda row: row["rule"])
def test_a_word_rule_takes_its_example_and_leaves_the_near_miss(row: dict[str, str]) -> None:
    """No earlier rule shadows it, and what looks like it goes elsewhere."""
    stage = row["stage"].split("|")[0] or None
    told = reasons.classify(as_text(row["example"]), stage=stage)
    assert (told.rule, told.reason) == (row["rule"], row["reason"])
    assert told.matched
    assert told.matched in " ".join(as_text(row["example"]).split()) or "-" in row["example"][3:4]
    assert row["unlike"], "a rule needs a text that it must not take"
    assert reasons.classify(as_text(row["unlike"])).rule != row["rule"]


@pytest.mark.parametrize("row", PROVIDERS, ids=lambda row: row["rule"])
def test_a_provider_rule_takes_its_example(row: dict[str, str]) -> None:
    stage = row["stage"].split("|")[0] or None
    told = reasons.classify(row["example"], stage=stage, mx_host=host_of(row))
    assert (told.rule, told.reason) == (row["rule"], row["reason"])
    assert "://" in told.source or "article" in told.source


NAMED = re.compile("google|gsmtp|yahoo|gmx|qq.com|outlook|ionos")
"""The text itself names the provider."""
COMMON = [row for row in PROVIDERS if row["hosts"] and not NAMED.search(row["example"].lower())]


@pytest.mark.parametrize("row", COMMON, ids=lambda row: row["rule"])
def test_a_provider_s_common_words_count_at_that_provider_only(row: dict[str, str]) -> None:
    assert reasons.classify(row["example"], mx_host="mx1.b.example").rule != row["rule"]


@pytest.mark.parametrize("row", CODES, ids=lambda row: row["enhanced_code"])
def test_an_enhanced_code_counts_where_words_say_nothing(row: dict[str, str]) -> None:
    code = row["enhanced_code"].removeprefix("x.")
    told = reasons.classify(f"550 5.{code} zzz")
    assert (told.reason, told.rule, told.confidence) == (row["reason"], row["rule"], row["confidence"])
    assert reasons.classify("zzz", code=550, enhanced=f"5.{code}").rule == told.rule
    wrong = reasons.classify(f"550 4.{code} zzz")
    assert wrong.rule != told.rule, "the class must be the code's first digit"


def test_rules_are_told_apart_and_use_the_closed_lists() -> None:
    book, _ = reasons._book()
    names = [row["rule"] for row, *_ in book]
    assert len(names) == len(set(names))
    assert {row["reason"] for row, *_ in book} <= set(attempts.CATEGORIES["reason"])
    assert {row["reason"] for row in rows("reasons.csv")} == set(attempts.CATEGORIES["reason"])
    scopes = {row.get("scope") or "unknown" for row, *_ in book} | {r["scope"] for r in rows("reasons.csv")}
    assert scopes <= set(attempts.CATEGORIES["scope"])
    assert {row["confidence"] for row, *_ in book} <= {"high", "medium", "low", "none"}


# the words or the code lie: replies.md 6, each documented where data/provider_codes.csv says
LIES = [
    ("yandex", "550 5.7.1 No such user!", "mx.yandex.ru", "rcpt", "recipient_unknown"),
    ("yahoo", "552 1 Requested mail action aborted, mailbox not found", "mta5.am0.yahoodns.net", "body",
     "recipient_unknown"),
    ("qq", "550 Mailbox unavailable or access denied [abc]. https://service.mail.qq.com/detail/122/166",
     "mx3.qq.com", "body", "rate_limited"),
    ("docomo_after_data", "550 Unknown user r@docomo.ne.jp", "mfsmax.docomo.ne.jp", "data", "recipient_policy"),
    ("docomo_at_rcpt", "550 Unknown user r@docomo.ne.jp", "mfsmax.docomo.ne.jp", "rcpt", "recipient_unknown"),
    ("au_without_address", "550 : User unknown", "msmx.au.com", "rcpt", "recipient_policy"),
    ("au_with_address", "550 <r@ezweb.ne.jp>: User unknown", "lsean.ezweb.ne.jp", "rcpt", "recipient_unknown"),
    ("spectrum", "550 5.1.0 <a@c.example> sender rejected. Please see https://www.spectrum.net/ AUP#In-1310",
     "mx0.charter.net", "mail", "rate_limited"),
    ("kakao", "421 4.4.5 CCRT 192.0.2.7: Connection refused. Server is busy(RT)", "mx1.daum.net", "connect",
     "ip_blocked"),
    ("exchange", "550 5.4.1 Recipient address rejected: Access denied. AS(201806281)",
     "b-example.mail.protection.outlook.com", "rcpt", "recipient_unknown"),
    ("mimecast_resources", "451 Internal resources are temporarily unavailable - "
     "https://community.mimecast.com/docs/DOC-1369#451", "eu-smtp-inbound-1.mimecast.com", "rcpt", "greylisted"),
    ("mimecast_recipient", "451 Recipient temporarily unavailable", "eu-smtp-inbound-1.mimecast.com", "rcpt",
     "ip_blocked"),
    ("comcast_recent", "452 4.1.1 <r@comcast.net> too many recent messages", "mx1.comcast.net", "rcpt",
     "rate_limited"),
    ("comcast_quota", "552 5.1.1 <r@comcast.net> extended quota violation", "mx1.comcast.net", "rcpt",
     "mailbox_full"),
    ("netease", "451 DT:SPM 163 mx40,WsCowAAnEhlCoEVa5GjcAA--.20089S3 1514512452, please try again 15min later",
     "163mx01.mxmail.netease.com", "body", "content"),
    ("gmail_rate", "550 5.2.1 The user you are trying to contact is receiving mail at a rate that prevents "
     "additional messages from being delivered. https://support.google.com/mail/?p=ReceivingRatePerm - gsmtp",
     "aspmx.l.google.com", "rcpt", "rate_limited"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "host", "stage", "reason"), [pytest.param(*row[1:], id=row[0]) for row in LIES])
def test_where_words_or_code_lie(text: str, host: str, stage: str, reason: str) -> None:
    assert reasons.classify(text, mx_host=host, stage=stage).reason == reason


@pytest.mark.parametrize(
    ("text", "reason", "words"),
    [
        ("550 Mailbox does not exist: hourly quota exceeded", "rate_limited", "hourly quota exceed"),
        ("451 4.7.1 [C12] RBL Restriction: rate exceeded, please wait", "rate_limited", "rate exceed"),
        ("554 5.7.1 [192.0.2.7] blocked: too many connections", "ip_blocked", "192.0.2.7] blocked"),
        (
            "550-Verification failed for <a@c.example>\n550 No Such User\n550 Sender verify failed",
            "sender_domain",
            "",
        ),
        ("451 You are greylisted: you dont seem to have a reverse dns entry", "greylisted", "greylis"),
        ("550 5.7.1 No such user, spam refused", "recipient_unknown", "No such user"),
    ],
)
def test_of_two_causes_the_one_that_changes_what_to_do(text: str, reason: str, words: str) -> None:
    told = reasons.classify(text)
    assert told.reason == reason
    assert words in told.matched


@pytest.mark.parametrize(
    "text",
    [
        "554 Service unavailable; Client host [192.0.2.7] blocked using zen.spamhaus.org; Error: open resolver",
        "554 Client host [192.0.2.7] blocked using bl.example; https://check.spamhaus.org/returnc/pub/192.0.2.53/",
        "554 Client host [192.0.2.7] blocked using zen.spamhaus.org; answer 127.255.255.254",
        "554 blocked using zen.spamhaus.org; https://www.spamhaus.org/returnc/vol/ query volume exceeded",
    ],
)
def test_a_list_that_refused_the_receiver_is_the_receiver_s_fault(text: str) -> None:
    told = reasons.classify(text)
    assert (told.reason, told.scope) == ("ip_blocked", "mx_host")
    assert "not listed" in told.advice
    assert reasons.classify("554 Client host [192.0.2.7] blocked using zen.spamhaus.org").scope == "source_ip"


@pytest.mark.parametrize(
    ("text", "lists"),
    [
        ("554 resimta Comcast BL000000", []),
        ("554 resimta Comcast BL000001", ["Spamhaus Zen"]),
        ("554 resimta Comcast BL000110", ["Cloudmark CSI", "SenderScore"]),
        ("554 cox AUP#IPBL0010", ["Return Path"]),
        ("554 cox AUP#IPBL1111", ["Spamhaus Zen", "Return Path", "Invaluement ivmSIP", "Cloudmark CSI"]),
        ("554 cox AUP#URLBL101", ["SURBL", "Invaluement ivmURI"]),
    ],
)
def test_bit_masks_are_read(text: str, lists: list[str]) -> None:
    told = reasons.classify(text)
    assert told.reason == ("content" if "URLBL" in text else "ip_blocked")
    assert ("Lists named: " + ", ".join(lists) + "." in told.advice) if lists else "names no list" in told.advice


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("550 5.7.606 Access denied, banned sending IP [192.0.2.7]", "ip_blocked"),
        ("550 5.7.649 Access denied", "ip_blocked"),
        ("451 4.7.500 Server busy", "rate_limited"),
        ("451 4.7.699 Access denied", "rate_limited"),
        ("451 4.7.899 Access denied", "rate_limited"),
        ("550 5.7.1 charter.net AUP#In-1120", "host_identity"),
        ("550 5.7.1 charter.net AUP#Out-1180", "auth_policy"),
        ("550 5.7.1 charter.net AUP#1230", "ip_blocked"),
        ("554 See https://postmaster.gmx.net/en/case?c=rdns&i=ip&v=192.0.2.7&r=0M1", "host_identity"),
        ("554 See https://postmaster.web.de/de/case?c=hi&i=ip&v=192.0.2.7&r=0M1", "malformed"),
    ],
)
def test_ranges_and_queries_are_read(text: str, reason: str) -> None:
    assert reasons.classify(text).reason == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("550 5.1.1 존재하지 않는 사용자입니다", "recipient_unknown"),
        ("552 5.2.2 수신자의 메일함 용량이 초과되었습니다", "mailbox_full"),
        ("550 5.7.1 스팸 메일로 분류되어 차단되었습니다", "content"),
        ("421 4.3.2 귀하의 IP가 차단되었습니다", "ip_blocked"),
        ("550 휴면 계정입니다. 계정이 휴면 상태입니다", "recipient_unavailable"),
        ("552 메일 크기가 제한을 초과했습니다", "too_big"),
        ("451 잠시 후 다시 시도해 주세요", "server_busy"),
        ("550 5.1.1 RUSR 192.0.2.7: No such user: <r@hanmail.net>", "recipient_unknown"),
        ("550 5.2.1 RACT 192.0.2.7: Mailbox is inactive: <r@hanmail.net>", "recipient_unavailable"),
        ("554 5.7.1 DAS51 192.0.2.7: Your mail is blocked automatically by anti-spam system. (E06)", "ip_blocked"),
        ("421 4.3.2 Your IP(192.0.2.7) is filtered and this connection will be closed. "
         "You must register your IP to http://realip.naver.com", "ip_blocked"),
        ("421 4.3.1 You send too many messages.", "rate_limited"),
        ("550 You are registered as spammer (by user's reject list)", "recipient_policy"),
        ("552 Boîte du destinataire pleine", "mailbox_full"),
        ("550 Empfänger unbekannt", "recipient_unknown"),
        ("550 El usuario no existe", "recipient_unknown"),
        ("550 宛先のメールアドレスは存在しません", "recipient_unknown"),
        ("550 Пользователь не найден", "recipient_unknown"),
        ("550 收件人邮箱不存在", "recipient_unknown"),
        ("552 邮箱空间不足", "mailbox_full"),
    ],
)  # fmt: skip
def test_other_languages(text: str, reason: str) -> None:
    assert reasons.classify(text).reason == reason


def test_korean_rules_show_the_date_of_their_source() -> None:
    old = [row for row in PROVIDERS if row["provider"].startswith(("Kakao", "Naver", "Korean"))]
    assert len(old) >= 10
    assert all(row["date"] for row in old)
    assert reasons.classify("421 4.4.1 CHIC 192.0.2.7: Network is busy").source.endswith("2020-11")


def test_a_refusal_without_a_cause_is_unknown_and_says_what_to_compare() -> None:
    for text, stage, word in (
        ("550 sorry", "rcpt", "another recipient"),
        ("554 mx.b.example", "banner", "another source IP"),
        ("550 sorry", "body", "plain message"),
        ("521 access denied", "banner", "another source IP"),
        ("550 5.7.1 Denied by policy", "mail", "postmaster"),
    ):
        told = reasons.classify(text, stage=stage)
        assert (told.reason, told.scope, told.confidence) == ("unknown", "unknown", "none")
        assert word in told.advice


def test_nothing_else_is_unknown() -> None:
    for text in ("550 sorry", "550 5.7.1 zzz", "550 5.0.0 zzz", "", "250 ok", "250 user unknown", "zzz"):
        told = reasons.classify(text)
        assert (told.reason, told.scope, told.rule, told.confidence) == ("unknown", "unknown", "", "none"), text


@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "smtp; {}",
        "X-Postfix; host mx1.b.example[192.0.2.9] said: {} (in reply to RCPT TO command)",
        "(host mx1.b.example[192.0.2.9] said: {} (in reply to RCPT TO command))",
        "host mx1.b.example[192.0.2.9]:25 refused to talk to me: {}",
        "SMTP error from remote mail server after RCPT TO:<r@b.example>: host mx1.b.example [192.0.2.9]: {}",
    ],
)
def test_a_log_line_around_the_reply_changes_nothing(around: str) -> None:
    told = reasons.classify(
        around.format("550 5.1.1 <spam@virus.example>: Recipient address rejected: User unknown")
    )
    assert (told.reason, told.matched) == ("recipient_unknown", "User unknown")


def test_lines_joined_by_a_log_read_as_the_lines_do() -> None:
    lines = "550-5.7.1 [192.0.2.7] Our system has detected that this message is\n550 5.7.1 likely unsolicited mail."
    one = lines.replace("\n", " ")
    assert reasons.classify(lines) == reasons.classify(one)
    assert reasons.classify(lines).matched == "likely unsolicited mail"


def test_names_and_addresses_are_no_words() -> None:
    text = "550 5.1.1 <virus.spam@blocked.greylist.example>: zzz from spf.ptr.spamhaus-like.example [192.0.2.7]"
    assert reasons.classify(text).rule == "enhanced:x.1.1"


def measured(name: str, sets: str) -> tuple[float, float, float]:
    """Share labelled, share right of those labelled, and share that has the label or the second one."""
    chosen = [row for row in real(name) if row["set"] in sets]
    told = [
        reasons.classify(row["text"], stage=row["stage"] or None, mx_host=row["mx_host"] or None).reason
        for row in chosen
    ]
    given = [(row, reason) for row, reason in zip(chosen, told, strict=True) if reason != "unknown"]
    right = sum(reason == row["label"] for row, reason in given) / len(given)
    near = sum(reason in (row["label"], row.get("also")) for row, reason in given) / len(given)
    return len(given) / len(chosen), right, near


@pytest.mark.parametrize(
    ("name", "sets", "least"),
    [("replies_tuned.csv", "abk", 0.95), ("replies_held.csv", "cdef", 0.95), ("replies_held.csv", "g", 0.9)],
)
def test_replies_of_real_servers(name: str, sets: str, least: float) -> None:
    """A floor for mending: no set may fall behind. What unseen replies get is in this file's first lines."""
    for each in sets:
        labelled, right, _ = measured(name, each)
        assert labelled >= 0.95, (each, labelled)
        assert right >= least, (each, right)


@pytest.mark.parametrize(
    ("name", "sets", "least", "either"), [("second", "o", 0.89, 0.95), ("third", "tu", 0.86, 0.93)]
)
def test_batches_labelled_by_somebody_else(name: str, sets: str, least: float, either: float) -> None:
    """Rules were mended on them. At first sight labelled 96 and 97 %, first label 85, 84 %, either 93, 92 %."""
    labelled, right, near = measured(f"replies_{name}.csv", sets)
    assert labelled >= 0.95
    assert right >= least
    assert near >= either


def test_one_reply_is_read_without_pandas() -> None:
    ask = "import sys; import smtpkit as sk; print(sk.classify('550 user unknown').reason, 'pandas' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["recipient_unknown", "False"]


# whole frames


def frame(*given: dict[str, object]) -> pd.DataFrame:
    return attempts.frame(given)


def test_a_frame_gets_the_same_answers_as_single_replies() -> None:
    seen = real("replies_held.csv")
    table = frame(
        *(
            {
                "reply": row["text"],
                "stage": row["stage"] or None,
                "mx_host": row["mx_host"] or None,
                "outcome": "rejected",
            }
            for row in seen
        )
    )
    told = reasons.classify_frame(table)
    for row, reason, scope, rule in zip(seen, told["reason"], told["scope"], told["rule"], strict=True):
        one = reasons.classify(row["text"], stage=row["stage"] or None, mx_host=row["mx_host"] or None)
        assert (reason, scope, rule if one.rule else "") == (one.reason, one.scope, one.rule), row["text"]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        pytest.param({"outcome": "accepted", "code": 250, "reply": "250 ok"}, None, id="accepted"),
        pytest.param({"outcome": "passed", "code": 250, "reply": "250 spam"}, None, id="passed"),
        pytest.param({"outcome": "withheld", "error": "guard"}, None, id="guard"),
        pytest.param({"outcome": "withheld", "error": "paced"}, None, id="paced"),
        pytest.param({"outcome": "failed", "error": "stopped"}, None, id="stopped"),
        pytest.param({"outcome": "failed", "error": "interrupted"}, None, id="interrupted"),
        pytest.param({"outcome": "failed", "error": "refused"}, "network", id="refused"),
        pytest.param({"outcome": "failed", "error": "dns_servfail"}, "network", id="dns"),
        pytest.param({"outcome": "failed", "error": "timeout", "code": 220}, "network", id="late"),
        pytest.param({"outcome": "failed", "error": "tls_verify"}, "tls", id="tls"),
        pytest.param({"outcome": "failed", "error": "null_mx"}, "routing", id="null_mx"),
        pytest.param({"outcome": "failed", "error": "protocol"}, "protocol", id="protocol"),
        pytest.param({"outcome": "unknown", "error": "lost"}, "network", id="lost_after_dot"),
        pytest.param({"outcome": "failed", "error": "lost", "reply": "421 4.7.0 [TSS04] no", "code": 421},
                     "ip_blocked", id="refused_then_lost"),
        pytest.param({"outcome": "rejected", "code": 550, "enhanced": "5.1.1"}, "recipient_unknown", id="codes"),
        pytest.param({"outcome": "rejected", "reply": "550 zzz", "code": 550}, "unknown", id="unknown"),
        pytest.param({}, None, id="nothing"),
    ],
)  # fmt: skip
def test_rows_without_a_usable_reply(row: dict[str, object], expected: str | None) -> None:
    told = reasons.classify_frame(frame(row))
    assert told["reason"].isna().all() if expected is None else told["reason"][0] == expected
    if "error" in row and expected:
        assert told["rule"][0] == f"error:{row['error']}" or "reply" in row


def test_an_index_of_any_kind_is_kept_and_an_empty_frame_has_the_columns() -> None:
    table = frame({"reply": "550 5.1.1 user unknown"}, {"reply": "552 5.2.2 over quota"}).set_axis([7, 7])
    told = reasons.classify_frame(table)
    assert list(told.index) == [7, 7]
    assert list(told["reason"]) == ["recipient_unknown", "mailbox_full"]
    assert list(reasons.classify_frame(frame()).columns) == ["reason", "scope", "rule"]
    assert attempts.classified(frame()).dtypes.astype("str")["reason"] == "category"


def test_replies_that_differ_after_an_address_and_dots_are_read_apart() -> None:
    texts = ["550 user@b.example...greylisted", "550 user@b.example...spam"]
    told = reasons.classify_frame(pd.DataFrame({"reply": texts}))
    assert list(told["reason"]) == ["greylisted", "content"]


def test_what_differs_from_reply_to_reply_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    inner = reasons._row
    monkeypatch.setattr(reasons, "_row", lambda *row: asked.append(row[0]) or inner(*row))
    texts = [
        f"550 5.7.1 [192.0.2.{n}] blocked for u{n}@b{n}.example, retry in {n % 60} s, id 4bQz2L3vJ9z2xG{n:05}"
        for n in range(1000)
    ]
    told = reasons.classify_frame(pd.DataFrame({"reply": texts}))
    assert set(told["reason"]) == {"ip_blocked"}
    assert len(asked) < 30
    tags = [f"550 5.7.1 refused (S{n})" for n in (3140, 3150, 8001, 8002)]
    asked.clear()
    assert set(reasons.classify_frame(pd.DataFrame({"reply": tags}))["reason"]) == {
        "ip_blocked", "host_identity", "sender_domain"
    }  # fmt: skip
    assert len(asked) == 4, "provider tags must stay apart"


# back ends


@pytest.mark.parametrize("row", rows("reply_hosts.csv"), ids=lambda row: row["host"])
def test_a_back_end_is_named(row: dict[str, str]) -> None:
    assert reasons.reply_host(row["example"]) == row["host"]


@pytest.mark.parametrize(
    "text",
    [
        "250 2.0.0 Ok: queued as 4ZxYz1",
        "550 5.1.1 user unknown",
        "554 mail.ours.example[192.0.2.7]: Client host rejected",
        "554 mail.ours.example is not allowed to relay",
        "250 2.0.0 OK  1700000000 x12-20020a05 - gsmtp",
        "250 ok:  Message 40279894 accepted",
        "",
    ],
)
def test_no_back_end_is_invented(text: str) -> None:
    assert reasons.reply_host(text) is None


def test_a_frame_learns_its_back_ends_from_accepted_rows_too() -> None:
    queued = "250 2.0.0 Ok: queued on mxfront12.mail.yandex.net as 1-a"
    table = frame({"outcome": "accepted", "code": 250, "reply": queued})
    assert attempts.classified(table)["reply_host"][0] == "mxfront12.mail.yandex.net"


# users' rules


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "ours.csv"
    yield path
    reasons.with_rules()


def test_a_user_s_rules_come_first_and_go_again(own: Path) -> None:
    before = reasons.classify("550 5.1.1 user unknown (X-77)", mx_host="mx.b.example")
    own.write_text(
        "pattern,reason,scope,hosts,code,advice\n"
        r"\(X-77\),rate_limited,recipient,.b.example,5xx,Wait a day" + "\n",
        "utf-8-sig",
    )
    assert reasons.with_rules(own) == 1
    told = reasons.classify("550 5.1.1 user unknown (X-77)", mx_host="mx.b.example")
    assert dataclasses.asdict(told) == {
        "reason": "rate_limited", "scope": "recipient", "rule": "ours:2", "matched": "(X-77)",
        "confidence": "high", "advice": "Wait a day", "source": "ours.csv",
    }  # fmt: skip
    assert reasons.classify("550 5.1.1 user unknown (X-77)", mx_host="mx.c.example").reason == "recipient_unknown"
    assert reasons.classify("450 4.1.1 user unknown (X-77)", mx_host="mx.b.example").reason == "recipient_unknown"
    assert reasons.with_rules() == 0
    assert reasons.classify("550 5.1.1 user unknown (X-77)", mx_host="mx.b.example") == before


def test_an_example_that_an_earlier_rule_takes_is_refused_and_changes_nothing(own: Path) -> None:
    own.write_text("pattern,reason,example\nX-7,content,550 X-77\nX-77,tls,550 X-77\n", "utf-8")
    with pytest.raises(InvalidInput, match=r"ours:3 is decided by ours:2"):
        reasons.with_rules(own)
    assert reasons.classify("550 X-77").reason == "unknown"
    own.write_text("pattern,reason,example\nX-77,tls,550 X-77\nX-7,content,550 X-7\n", "utf-8")
    assert reasons.with_rules(own) == 2
    own.write_text("pattern,reason,example\nX-77,tls,550 X-7\n", "utf-8")
    with pytest.raises(InvalidInput, match="is decided by no rule"):
        reasons.with_rules(own)
    assert reasons.classify("550 X-77").rule == "ours:2", "the rules before stay"


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ("(,content,", "unterminated"),
        ("x,nonsense,", "reasons: ip_blocked"),
        ("x,content,moon", "scope 'moon'"),
        ("x*,content,", "fits any reply"),
    ],
)
def test_a_bad_rule_is_refused_with_its_line_and_changes_nothing(own: Path, row: str, word: str) -> None:
    own.write_text(f"pattern,reason,scope\nfine,content,\n{row}\n", "utf-8")
    with pytest.raises(InvalidInput, match="line 3") as error:
        reasons.with_rules(own)
    assert word in str(error.value)
    assert reasons.classify("554 fine").reason == "unknown"


# nothing breaks it

ODD = st.one_of(st.text(max_size=300), st.binary(max_size=300).map(lambda b: b.decode("latin-1")))
PARTS = st.lists(
    st.sampled_from(
        ["550", "5.1.1", "\n", "-", "host a[1] said: ", "(in reply", "<a@b>", "no such user", "🚫", "\ud800"]
    ),
    max_size=12,
).map(" ".join)  # fmt: skip


@given(
    text=st.one_of(ODD, PARTS),
    code=st.one_of(st.none(), st.integers(-5, 100000)),
    enhanced=st.one_of(st.none(), ODD),
)
def test_no_text_makes_it_raise(text: str, code: int | None, enhanced: str | None) -> None:
    told = reasons.classify(text, code=code, enhanced=enhanced, stage="rcpt", mx_host=text[:40])
    assert told.reason in attempts.CATEGORIES["reason"]
    assert told.scope in attempts.CATEGORIES["scope"]
    reasons.reply_host(text, text[:40])


def test_a_huge_reply_is_read_in_time() -> None:
    for piece in ("a", "user ", "550 5.1.1 ", "@", "<", "host ", "1.", "x.", "\n550-"):
        told = reasons.classify("550 " + piece * (8192 // len(piece)))
        assert told.reason in attempts.CATEGORIES["reason"]


@pytest.mark.parametrize("text", [None, 550, b"550 no"])
def test_only_text_is_a_reply(text: object) -> None:
    with pytest.raises(InvalidInput, match="is no reply"):
        reasons.classify(text)  # type: ignore[arg-type]  # the caller's mistake is what is tested


ELSE = {
    "a loop": ("554 5.4.6 Too many hops", "routing"),
    "a box": ("452 4.2.2 Mailbox size limit exceeded", "mailbox_full"),
    "a box, at length": ("Your recipient has too much mail stored\nin his mailbox.", "mailbox_full"),
    "a letter": ("552 5.3.4 Message size limit exceeded", "too_big"),
}


@pytest.mark.parametrize(("text", "reason"), ELSE.values(), ids=ELSE)
def test_what_exceeds_a_limit_that_is_not_ours_rests_nobody(text: str, reason: str) -> None:
    assert (reasons.classify(text).reason, reasons.too_often(text)) == (reason, False)


@pytest.mark.parametrize(
    "text", ["450 4.2.0 Greylisted, you come too fast", "421 4.7.0 Slow down. Greylisted for 5 min"]
)
def test_who_greylists_and_says_that_we_come_too_fast_is_left_alone(text: str) -> None:
    assert (reasons.classify(text).reason, reasons.too_often(text)) == ("greylisted", True)
    assert not reasons.too_often("451 4.7.1 Greylisted, please come back later")
