"""Letters and verdicts of realistic weeks of logs: the same counts in both, and nothing said that was not seen."""

import re
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

import smtpkit as sk
from smtpkit import packet
from smtpkit.packet import report
from smtpkit.rows import Rows
from tests.frames import Cause, Diagnosis, staircase

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a second and is not asked here."""
    monkeypatch.setattr(packet, "_charts", lambda frame, diagnosis: [])


def week(n: int = 160, gap: str = "5min", **more: Any) -> pd.DataFrame:
    """Attempts at four MX IPs of one receiver in turn; all got through."""
    f = pd.DataFrame({"started_at": pd.date_range("2026-11-24", periods=n, freq=gap, tz="UTC")})
    f["mx_ip"] = [f"192.0.2.{11 + i % 4}" for i in range(n)]
    f = f.assign(domain="daum.example", sender_ip="198.51.100.7", sender="me@ours.example", port=25)
    f["recipient"] = [f"u{i % 23}@daum.example" for i in range(n)]
    return f.assign(mx_host="mx.daum.example", **more, **answer("250 2.0.0 Ok: queued", "body"))


def answer(reply: str | None, stage: str, error: str | None = None) -> dict[str, Any]:
    """The columns of one answer; of none, if there is no reply."""
    code = int(reply[:3]) if reply else pd.NA
    outcome = {2: "accepted", 4: "deferred", 5: "rejected"}[code // 100] if reply else "failed"
    enhanced = reply.split()[1] if reply and reply[4:6] in ("2.", "4.", "5.") else None
    return {"code": code, "enhanced": enhanced, "reply": reply, "stage": stage, "outcome": outcome, "error": error}


def told(f: pd.DataFrame, where: Any, reply: str | None, stage: str = "rcpt", error: str | None = None) -> None:
    """Let these rows be answered so."""
    for name, value in answer(reply, stage, error).items():
        f[name] = f[name].astype("object").mask(where, value)


def line(made: packet.Packet, head: str) -> str:
    """The letter's line of that head."""
    (found,) = [one for one in str(made.letter).split("\n") if one.startswith(f"    {head} ")]
    return found[4 + len(head) :].strip()


def behind_one_address() -> pd.DataFrame:
    """Four back ends behind one address, one of them stale; six acceptances do not say which it was."""
    f = week(mx_ip="192.0.2.9", gap="4min", reply_host=[f"be{i % 4}.daum.example" for i in range(160)])
    told(f, f.reply_host.eq("be3.daum.example"), "554 5.7.1 198.51.100.7 blocked by local blacklist", "mail")
    return f.assign(reply_host=f.reply_host.mask(f.index.isin(range(0, 160, 28))))


def test_a_row_of_no_known_back_end_is_no_sibling() -> None:
    found = sk.diagnose(f := behind_one_address())
    unknown = f.reply_host.isna().sum()
    assert found.causes[0].values == ("be3.daum.example",)
    assert f"the 3 other back ends refused 0 of {120 - unknown}" in found.verdict
    said = line(made := report(found), "Contrast")
    assert said.startswith(f"0 of {120 - unknown} refused by your 3 other back ends")
    assert made.table.backend.notna().all()


def test_another_back_end_behind_the_same_address_is_a_contrast() -> None:
    quoted = report(behind_one_address()).table
    good = quoted[quoted.line.str.startswith("A")]
    assert len(good) == 5
    assert good.backend.nunique() == 3, "new ones first"


def test_a_server_stands_once_at_you_whether_a_line_has_a_port_or_not() -> None:
    f = week(port=pd.array([25, pd.NA, pd.NA, pd.NA] * 40, dtype="Int32"))
    f.loc[40:, "port"] = 25
    f.loc[:40:8, "mx_host"] = None
    told(f, f.mx_ip.isin(["192.0.2.13", "192.0.2.14"]), "554 5.7.1 198.51.100.7 is on our blacklist", "mail")
    servers = "mx.daum.example [192.0.2.13]:25, mx.daum.example [192.0.2.14]:25"
    assert line(report(f), "At you") == servers


BUSY = {"451": "451 4.3.2 Please try again later", "452": "452 4.3.1 Insufficient system storage"}


def counts(text: str) -> list[tuple[int, int]]:
    """What a sentence says as k of n."""
    found = re.findall(r"([\d,]+) of ([\d,]+)(?! MX)", text)
    return [(int(k.replace(",", "")), int(n.replace(",", ""))) for k, n in found]


@pytest.mark.parametrize("reply", BUSY.values(), ids=BUSY)
def test_a_server_that_answers_each_time_is_not_said_to_be_silent(reply: str) -> None:
    f = week()
    told(f, f.mx_ip.eq("192.0.2.14"), reply, "mail")
    found = sk.diagnose(f)
    assert found.causes[0].kind == "mx_dead"
    assert f'192.0.2.14 deferred 40 of 40 attempts, with replies like "{reply}" (95 %' in found.verdict
    found = replace(found, causes=(replace(found.causes[0], confidence=0.9),))
    english, korean = (" ".join(str(report(found, lang=lang).letter).split()) for lang in ("en", "ko"))
    assert f"has deferred all our mail ({reply[:9]}, quoted below) while the others" in english
    assert f"모두 임시 거부 처리되었습니다({reply[:9]}, 아래 원문)" in korean
    for text in (found.verdict, english, korean):
        assert not re.search("usable|does not answer|응답하지 않", text)


def test_a_server_that_does_not_answer_is_still_said_to_be_silent() -> None:
    f = week()
    told(f, f.mx_ip.eq("192.0.2.14"), None, "connect", "timeout")
    assert "192.0.2.14 gave no usable answer in 40 of 40" in (found := sk.diagnose(f)).verdict
    assert "does not answer us while the others do." in " ".join(str(report(found).letter).split())
    told(f, f.mx_ip.eq("192.0.2.14") & (f.index % 3 == 0), BUSY["451"], "mail")
    said = sk.diagnose(f).verdict
    assert 'left unanswered or deferred 40 of 40 attempts, with replies like "451' in said


def test_an_address_in_a_reply_is_not_quoted_in_a_verdict() -> None:
    f = week()
    told(f, f.mx_ip.eq("192.0.2.14"), "451 4.3.2 <kim@daum.example>: Please try again later", "mail")
    assert "192.0.2.14 deferred 40 of 40 attempts, with replies (95 %" in sk.diagnose(f).verdict


def sites(count: int) -> pd.DataFrame:
    """A week to several receivers."""
    f = week(n=80 * count)
    name = [f"d{i % count}.example" for i in f.index]
    f = f.assign(domain=name, mx_host=[f"mx.{one}" for one in name], recipient=[f"u@{one}" for one in name])
    return f.assign(mx_ip=[f"192.0.{2 + i % count}.{11 + i // count % 2}" for i in f.index])


def unresolved(f: pd.DataFrame, where: Any) -> pd.DataFrame:
    """DNS gave these rows no server."""
    told(f, where, None, "dns", "dns_servfail")
    return f.assign(mx_ip=f.mx_ip.mask(where), mx_host=f.mx_host.mask(where), port=25)


def test_a_name_that_dns_does_not_know_failed_at_no_mx_ip() -> None:
    f = sites(4)
    found = sk.diagnose(unresolved(f, f.domain.eq("d1.example")))
    assert "No MX IP of d1.example was asked in 80 of 80 attempts (95 %" in found.verdict
    assert "DNS gave none (dns_servfail)" in found.verdict
    assert "MX IP asked" not in found.verdict
    assert report(found).letter is None


def test_our_own_dns_outage_is_blamed_on_no_receiver() -> None:
    f = sites(8)
    found = sk.diagnose(unresolved(f, (f.index > 100) & (f.index < 180)))
    (cause,) = found.causes
    assert cause.kind == "local_path"
    assert re.match(r"DNS gave no MX IP in any of 79 attempts from here since .* at 8 receivers", found.verdict)
    assert "our own resolver is at fault, no receiver is" in found.verdict
    assert report(found).letter is None


def test_a_resolver_of_one_relay_of_ours_makes_no_letter() -> None:
    f = sites(4).assign(sender_ip="198.51.100.8")
    f.loc[::2, "sender_ip"] = "198.51.100.7"
    f = f.assign(domain="d0.example", mx_host="mx.d0.example")
    found = sk.diagnose(unresolved(f, f.sender_ip.eq("198.51.100.8") & (f.index > 160)))
    assert not re.search("MX IPs? asked|refused", found.verdict)
    assert report(found).letter is None


def bursts() -> pd.DataFrame:
    """Twelve attempts in each fourth minute, else two; from the sixth of a minute on they are limited."""
    begun, rows = pd.Timestamp("2026-11-24", tz="UTC"), []
    for minute in range(200):
        many = 2 if minute % 4 else 12
        rows += [(begun + pd.Timedelta(minutes=minute, seconds=3 * k), k) for k in range(many)]
    f = week(n=len(rows)).assign(started_at=[at for at, _ in rows])
    told(f, [k >= 5 for _, k in rows], "421 4.7.0 Too many connections, limit is 5 per minute", "mail")
    told(f, f.index % 97 == 5, "550 5.1.1 User unknown")
    return f


def test_the_letter_of_a_limit_has_the_verdicts_counts_our_rate_and_a_contrast() -> None:
    found = sk.diagnose(bursts())
    cause = found.causes[0]
    assert cause.kind == "rate_limit"
    (k, n), (k2, n2) = counts(found.verdict)[:2]
    letters = [report(found, lang=lang, tz="UTC") for lang in ("en", "ko")]
    assert k == len(cause.evidence)
    assert counts(line(letters[0], "What")) == [(k, n)]
    assert counts(line(letters[0], "Contrast")) == [(k2, n2)]
    assert "failed otherwise" in line(letters[0], "Contrast")
    (limit,) = re.findall(r"number (\d+) or more within 60 s", found.verdict)
    assert line(letters[0], "Our rate") == (
        f"each of these {n} came as number {limit} or more within 60 s from one address of ours"
    )
    assert f"60초 안에 {limit}번째 이후로" in line(letters[1], "속도")
    assert f"더 느린 발송: {n2}건 중 {k2}건" in line(letters[1], "대조")
    counted = letters[0].table.counted_as.str.split(",").str[0].value_counts().to_dict()
    assert counted == {"accused": n, "sibling": n2}


def test_a_limit_told_without_its_attempts_still_makes_a_letter() -> None:
    cause = Cause("rate_limit", "rate", confidence=0.9)
    made = report(sk.diagnose(week()), frame=bursts(), tz="UTC")
    assert made.letter is None
    made = report(Diagnosis((cause,), "v"), frame=bursts(), tz="UTC")
    assert "Our rate" not in str(made.letter)


def test_others_that_failed_otherwise_are_told_in_the_contrast() -> None:
    f = week()
    told(f, f.mx_ip.eq("192.0.2.14"), "554 5.7.1 198.51.100.7 is on our blacklist", "mail")
    told(f, f.index.isin([4, 44, 84]), "550 5.1.1 User unknown")
    made = report(f)
    assert made.subject.endswith(": 40 of 40 attempts from 198.51.100.7 refused, none of 120 elsewhere alike")
    assert line(made, "Contrast").endswith("; 3 failed otherwise")
    assert "그 밖의 실패 3건" in line(report(f, lang="ko"), "대조")


def test_content_that_is_refused_everywhere_is_no_listing() -> None:
    f = week()
    told(f, f.index > 60, "550 5.7.1 Message content rejected as spam", "body")
    cause = Cause("provider_block", "domain", ("daum.example",), evidence=f[61:])
    made = report(Diagnosis((cause,), "v"), frame=f.assign(reason="content"))
    assert "Please tell us why and what we should change." in " ".join(str(made.letter).split())
    assert "listed" not in str(made.letter)


def test_who_failed_alike_is_the_same_in_verdict_letter_and_charts() -> None:
    f = week()
    told(f, f.mx_ip.eq("192.0.2.14"), "554 5.7.1 198.51.100.7 is on our blacklist", "mail")
    told(f, f.index % 20 == 1, "554 5.6.0 Attachment of a forbidden type", "body")
    made, view = report(found := sk.diagnose(f)), Rows(f, found)
    assert counts(found.verdict)[:2] == [(40, 40), (0, 120)]
    assert counts(line(made, "What")) + counts(line(made, "Contrast")) == [(40, 40), (0, 120)]
    assert view.lines.k.sum() == 40
    assert line(made, "Contrast").endswith("; 8 failed otherwise")


def test_another_accused_server_is_no_sibling_in_its_neighbours_letter() -> None:
    f = week(n=640)
    late = f.mx_ip.eq("192.0.2.12") & f.index.isin(range(400, 640))
    told(f, f.mx_ip.eq("192.0.2.14") & f.index.isin(range(80, 640)), "554 5.7.1 198.51.100.7 is on our block list")
    told(f, late, "554 5.7.1 198.51.100.7 is on our block list")
    causes = tuple(Cause("mx_block", "mx_ip", (ip,), confidence=0.99) for ip in ("192.0.2.14", "192.0.2.12"))
    for number, cause in enumerate(causes):
        made = report(Diagnosis(causes, "v"), frame=f, which=number)
        others = set(made.table.mx_ip[made.table.counted_as.str.contains("sibling")])
        assert others == {"192.0.2.11", "192.0.2.13"}, cause.values
        assert line(made, "Contrast").startswith("0 of ")


@pytest.mark.parametrize(
    ("lang", "what", "contrast"),
    [
        (
            "en",
            "102 of 102 attempts refused at RCPT until the recovery of each",
            "0 of 114 refused since the recovery",
        ),
        ("ko", "서버별 해제 전까지 RCPT 단계에서 102건 중 102건 거부", "서버별 해제 이후: 114건 중 0건 거부"),
    ],
)
def test_servers_that_recover_one_by_one_are_each_compared_with_itself(lang: str, what: str, contrast: str) -> None:
    """The letter counted all attempts of the receiver, "102 of 216", and compared them with nothing."""
    found = sk.diagnose(staircase())
    made = report(found, lang=lang)
    assert "102 of 102 sessions" in found.verdict
    assert "0 of 114" in found.verdict
    assert what in str(made.letter)
    assert contrast in str(made.letter)
    assert made.table.counted_as.value_counts().to_dict() == {"sibling": 114, "accused, refused": 102}
    never = {ip: at for ip, at in found.causes[0].recoveries.items() if ip != "192.0.2.15"}
    part = replace(found, causes=(replace(found.causes[0], values=tuple(never), recoveries=never),))
    said = ("or by MX addresses that never refused", "(거부한 적 없는 서버 포함)")[lang == "ko"]
    assert said in str(report(part, lang=lang, frame=staircase()).letter)
    assert said not in str(made.letter)
