"""What a Korean postmaster met: replies misread, times invented, bounces and tables that lost words or rows."""

import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.text import Text

import smtpkit as sk
from smtpkit import drawing, plot, rows
from smtpkit.errors import InvalidInput
from smtpkit.escape import decode
from tests.frames import Cause, Diagnosis, only, rounds

REPLIES = {
    "554 5.7.1 스팸으로 판단되어 수신자에게 전달할 수 없습니다": "content",
    "554 5.7.1 IP 주소가 차단 목록에 있어 수신자에게 전달할 수 없습니다": "ip_blocked",
    "450 4.7.1 서버 오류로 수신자에게 전달할 수 없습니다": "server_busy",
    "552 5.3.4 크기 초과로 사용자에게 전달할 수 없습니다": "too_big",
    "550 5.7.1 IP 주소를 확인할 수 없습니다. 역방향 DNS 없음": "host_identity",
    "550 발신 메일 주소가 존재하지 않습니다": "sender_domain",
    "553 발신 주소가 유효하지 않습니다": "sender_domain",
    "421 4.7.0 접속이 너무 많습니다. 잠시 후 다시 시도해 주세요": "rate_limited",
    "450 4.7.1 발송량 초과": "rate_limited",
    "450 4.7.1 연결 수 제한을 초과하였습니다": "rate_limited",
    "554 5.7.1 스팸 발송 IP로 등록되어 있습니다": "ip_blocked",
    "550 휴면 계정입니다": "recipient_unavailable",
    "550 탈퇴한 회원입니다": "recipient_unavailable",
    "451 4.7.1 그레이리스트 처리": "greylisted",
    "452 4.3.1 시스템 저장 공간이 부족합니다": "server_busy",
    "550 5.1.1 사용자가 없습니다": "recipient_unknown",
    "552 5.2.2 메일함 용량을 초과하였습니다": "mailbox_full",
}


@pytest.mark.parametrize("text", REPLIES)
def test_korean_replies_mean_what_they_say(text: str) -> None:
    assert sk.classify(text).reason == REPLIES[text]


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        ("똠방각하 IP가 차단되었습니다".encode("cp949"), "똠방각하 IP가 차단되었습니다"),
        ("차단".encode("euc-kr"), "차단"),
        ("Ärger".encode("latin-1"), r"\xc4rger"),
    ],
    ids=["cp949", "euc-kr", "latin-1"],
)
def test_octets_of_korean_windows_are_read_and_latin_1_stays(octets: bytes, text: str) -> None:
    assert decode(octets) == text


@pytest.mark.parametrize("charset", ["euc-kr", "ks_c_5601-1987", "KS_C_5601-1989", "cp949", "windows-949"])
def test_a_korean_charset_is_the_one_of_windows(charset: str) -> None:
    """Outlook calls its code page 949 ks_c_5601-1987; every reader of mail takes the names for one."""
    text = "(광고) 똠방각하 펲시"
    word = f"=?{charset}?B?{b64encode(text.encode('cp949')).decode()}?="
    head = f"From: a@ours.example\r\nSubject: {word}\r\nContent-Type: text/plain; charset={charset}\r\n\r\n"
    message = sk.Message.from_octets(head.encode() + text.encode("cp949"))
    told = message.lint().set_index("check")
    assert message.header("Subject") == text
    assert (told.status["charset"], told.value["advertisement"].startswith(text)) == ("pass", True)


def bounce(folder: Path, name: str, head: str, body: bytes) -> Path:
    (folder / name).write_bytes(f"Subject: failure\nMIME-Version: 1.0\n{head}\n\n".encode() + body)
    return folder


@pytest.mark.parametrize("charset", ["unknown-8bit", "x-windows-949"])
def test_a_charset_that_python_lacks_loses_nothing(charset: str, tmp_path: Path) -> None:
    bounce(tmp_path, "a.eml", f"Content-Type: text/plain; charset={charset}", b"<r@d.example>:\n550 5.1.1 no\n")
    bounce(tmp_path, "b.eml", "Content-Type: text/plain", b"<s@d.example>:\n550 5.1.1 no\n")
    assert sk.read_bounces(tmp_path).recipient.tolist() == ["r@d.example", "s@d.example"]


def test_a_bounce_folded_by_postfix_is_whole(tmp_path: Path) -> None:
    said = b"<r@d.example>: host mx1.d.example[192.0.2.11] said: 550 5.7.1 Service\n    unavailable; client"
    said += b" [192.0.2.7]\n    blocked using zen.spamhaus.org (in reply to\n    RCPT TO command)\n"
    (row,) = sk.read_bounces(bounce(tmp_path, "a.eml", "Content-Type: text/plain", said)).itertuples()
    assert row.reply == "550 5.7.1 Service unavailable; client [192.0.2.7] blocked using zen.spamhaus.org"
    assert (row.mx_ip, row.reason) == ("192.0.2.11", "ip_blocked")


def test_a_report_in_euc_kr_keeps_its_words(tmp_path: Path) -> None:
    report = "--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; x.example\n\n"
    report += "Final-Recipient: rfc822; r@d.example\nAction: failed\nStatus: 5.7.1\n"
    report += "Diagnostic-Code: smtp; 550 5.7.1 IP가 차단되었습니다\n\n--b--\n"
    head = 'Content-Type: multipart/report; report-type=delivery-status; boundary="b"'
    (row,) = sk.read_bounces(bounce(tmp_path, "a.eml", head, report.encode("euc-kr"))).itertuples()
    assert (row.reply, row.reason) == ("550 5.7.1 IP가 차단되었습니다", "ip_blocked")


def read(columns: dict[str, list[Any]], **more: Any) -> pd.DataFrame:
    table = pd.DataFrame(columns | {"IP": "192.0.2.1", "응답": "550 5.1.1 no"})
    with pytest.warns(UserWarning, match="guessed"):
        return sk.read_table(table, tz="Asia/Seoul", **more)


@pytest.mark.parametrize(
    "columns",
    [
        {"날짜": ["2026-11-24"], "시간": ["09:05:01"]},
        {"시간": ["09:05:01"], "날짜": ["2026-11-24"]},
        {"날짜": ["2026년 11월 24일"], "시각": ["오전 09:05:01"]},
        {"date": [pd.Timestamp("2026-11-24")], "time": [pd.Timestamp("2026-11-24 09:05:01").time()]},
        {"발송시각": ["2026-11-24 09:05:01 KST"]},
        {"발송시각": ["2026년 11월 24일 (화) 오전 9시 05분 01초"]},
    ],
    ids=["day and clock", "clock first", "Korean", "Excel's cells", "KST", "in words"],
)
def test_times_as_koreans_write_them(columns: dict[str, list[Any]]) -> None:
    made = read(columns)
    assert str(made.started_at[0]) == "2026-11-24 00:05:01+00:00"
    assert made.attrs["problems"] == []


def test_a_clock_without_a_day_is_no_time() -> None:
    made = read({"시간": ["09:05:01"]})
    assert made.started_at.isna().all()
    assert [one["why"] for one in made.attrs["problems"]] == ["started_at cannot be read"]


@pytest.mark.filterwarnings("ignore:read_table guessed")
def test_one_unknown_word_costs_its_own_row_only() -> None:
    table = pd.DataFrame(
        {"ip": "192.0.2.1", "결과": ["성공", "타임아웃", "전송 완료", "550 5.1.1 no", "수신 거부"]}
    )
    assert sk.read_table(table).outcome.astype(object).where(lambda x: x.notna(), None).tolist() == [
        "accepted", None, "accepted", "rejected", "rejected"
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore:read_table guessed")
@pytest.mark.filterwarnings("ignore:Length of header")
def test_a_comma_too_many_shifts_no_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("시각,IP,응답\n2026-11-24 14:05:01,192.0.2.1,550 5.1.1 a,\n", "utf-8")
    made = sk.read_table(tmp_path / "a.csv", tz="Asia/Seoul")
    assert (made.mx_ip[0], made.code[0]) == ("192.0.2.1", 550)


@pytest.mark.parametrize(
    ("name", "octets"), [("a.csv", b""), ("b.csv", b"x"), ("c.xlsx", b"none"), ("d.xls", b"\xd0\xcf")]
)
def test_a_file_that_is_no_table_is_refused(name: str, octets: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(octets)
    with pytest.raises(InvalidInput, match=name.partition(".")[0] + r"\.|reply or a code"):
        sk.read_table(tmp_path / name)
    with pytest.raises(InvalidInput, match="twice"):
        sk.read_table(pd.DataFrame([["550 no", "192.0.2.1"]], columns=["a", "a"]))


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_an_answer_without_its_text_is_no_missing_reply(lang: Any) -> None:
    at = pd.date_range("2026-11-24", periods=32, freq="5s", tz="UTC")
    frame = pd.DataFrame({"started_at": at, "mx_ip": [f"192.0.2.{11 + n % 4}" for n in range(32)]})
    frame["code"] = frame.mx_ip.map(lambda ip: 554 if ip == "192.0.2.14" else 250)
    letter = str(sk.report(frame, lang=lang).letter)
    assert "(554)" in letter
    assert "(250)" in letter
    assert "no reply" not in letter
    assert ("(by form)", "(문의 양식)")[lang == "ko"] not in letter, "there is no form to go to"


MX = "[[mx]]\nname = 'mx1.d.example'\nips = '192.0.2.11'\n"
SCENARIOS = {
    "an address beyond 255": (f"domain = 'd.example'\n{MX.replace('.11', '.999')}", "192.0.2.999"),
    "three colons": (f"domain = 'd.example'\n{MX.replace('192.0.2.11', '2001:db8:::1')}", "2001:db8:::1"),
    "nine parts": (
        f"domain = 'd.example'\n{MX.replace('192.0.2.11', '2001:db8:1:2:3:4:5:6:7')}",
        "2001:db8:1:2:3:4:5:6:7",
    ),
    "a part too long": (
        f"domain = 'd.example'\n{MX.replace('192.0.2.11', '2001:db8:12345::1')}",
        "2001:db8:12345::1",
    ),
    "a part too few": (f"senders = '2001:db8:1:2'\ndomain = 'd.example'\n{MX}", "2001:db8:1:2"),
    "capitals in an address": (f"domain = 'd.example'\n{MX.replace('192.0.2.11', '2001:DB8::1')}", "small letters"),
    "a name in Hangul": (f"domain = 'd.example'\n{MX.replace('mx1', '메일')}", "A-label"),
    "a domain in Hangul": (f"domain = '한글.example'\n{MX}", "A-label"),
    "an MX without preference": (f"domain = 'd.example'\n{MX}[zone.'d.example']\nMX = 'mx1'", "preference"),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_says_what_is_wrong_in_it(name: str, tmp_path: Path) -> None:
    text, says = SCENARIOS[name]
    (tmp_path / "own.toml").write_text(text, "utf-8-sig")
    with pytest.raises(InvalidInput, match=says.replace(".", r"\.")):
        sk.Lab(tmp_path / "own.toml")
    with pytest.raises(InvalidInput, match="5"):
        sk.Lab(5)  # type: ignore[arg-type]  the wrong type is the point


def test_the_lab_keeps_to_the_size_that_it_offers() -> None:
    with sk.Lab("healthy") as lab:
        talk = sk.Dialogue(("192.0.2.11", 25), network=lab.network)
        talk.ehlo()
        said = [getattr(talk.mail(lab.sender, f"SIZE={size}"), "code", None) for size in (10_485_761, 10_485_760)]
        talk.quit()
    assert said == [552, 250]


def test_a_domain_in_capitals_is_the_same_domain() -> None:
    given = {"domain": "Daum.Example", "mx": [{"name": "mx1.daum.example", "ips": ["192.0.2.11"]}]}
    with sk.Lab(given) as lab:
        made = sk.probe("daum.example", "r@Daum.example", lab.sender, network=lab.network, rounds=1)
    assert made.outcome.tolist() == ["passed"]


@pytest.mark.parametrize("text", ["550 5.1.1 spam.b.example에 없는 주소", "550 5.1.1 b.spam.example에서 없음"])
def test_a_name_that_a_particle_follows_decides_nothing(text: str) -> None:
    assert sk.classify(text).reason == "recipient_unknown"


def _hangul() -> bool:
    return "\\" not in drawing.inert("가힣")


@pytest.fixture
def korean() -> Any:
    token = drawing.TONGUE.set("ko")
    yield
    drawing.TONGUE.reset(token)


ENGLISH = re.compile(r"refused|attempt|round|since|until|turned|recovered|from |to |host|pref|more|Nov")


@pytest.mark.slow
@pytest.mark.parametrize("chart", [plot.forest, plot.grid, plot.lanes], ids=lambda chart: chart.__name__)
@pytest.mark.parametrize("servers", [4, 30])
@pytest.mark.usefixtures("korean")
def test_a_korean_report_s_charts_have_no_english_word(chart: Any, servers: int) -> None:
    frame = rounds(servers, 30, lambda i, r, h: "bad" if i == 2 and 9 < r < 22 else "sent", gap=600)
    at = frame.started_at[frame.code.eq(554)]
    cause = Cause("mx_block", "mx_ip", ("192.0.2.13",), onset=at.min(), recovery=at.max())
    fig = chart(frame, Diagnosis((cause,), "서버 하나"))
    fig.draw_without_rendering()
    words = [text.get_text() for text in fig.findobj(Text) if text.get_visible()]
    assert [text for text in [fig.alt, *words] if ENGLISH.search(text)] == [] or not _hangul()
    assert ("발신 IP 198.51.100.7" in fig.alt) == _hangul()


@pytest.mark.slow
def test_a_korean_report_leaves_other_charts_english_and_needs_no_font(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Diagnosis((Cause("mx_block", "mx_ip", ("192.0.2.13",)),), "One server refused 5 of 5.")
    frame = rounds(4, 5, only(2))
    assert (
        "MX IP별 거부 비율. " in sk.report(found, frame=frame, lang="ko", own="r@daum.example").page
    ) == _hangul()
    assert plot.forest(frame, found).alt.startswith("Share refused by MX IP. ")
    monkeypatch.setattr(drawing, "_drawn", lambda mono, weight: frozenset(range(32, 127)))
    page = sk.report(found, frame=frame, lang="ko", own="r@daum.example").page
    assert "Share refused by MX IP. One server refused 5 of 5 (daum.example, 20 attempts" in page


def test_each_word_of_a_chart_that_is_translated_is_said_with_the_same_blanks_to_fill() -> None:
    code = "".join(path.read_text("utf-8") for path in Path(drawing.__file__).parent.glob("*.py"))
    known = {form for forms in drawing.LOOK["clock"].values() for form in forms} | {
        *drawing.WORDS,
        "slow",
        "failed",
    }
    for english, korean in drawing.LOOK["words"]["ko"].items():
        written = english.encode("unicode_escape").decode().replace("\\xb7", "\\u00b7")
        assert english in known or f'"{written}"' in code or english.removeprefix("Nothing to draw: ") in code, (
            english
        )
        assert len(re.findall(r"[{]", korean)) == len(re.findall(r"[{]", english))


@pytest.mark.parametrize("hosts", [["메일서버", "mx2", "메일3"], ["mx1", "mx2", "mx3"]], ids=["Hangul", "ASCII"])
def test_columns_of_row_heads_line_up(hosts: list[str]) -> None:
    frame = rounds(3, 2, only(1))
    frame["mx_host"] = [f"{hosts[n % 3]}.d.example" for n in range(6)]
    view = rows.Rows(frame, None)
    assert len({drawing.letters(label) for label in [*view.lines.label, view.top]}) == 1
    assert len({drawing.letters(label[: label.rindex("10")]) for label in view.lines.label}) == 1


def test_long_names_keep_their_ends_and_stay_large_enough_to_read() -> None:
    frame = rounds(3, 2, only(1))
    frame["mx_ip"] = [f"2001:db8:1234:5678:9abc:def0:1111:100{n % 3}" for n in range(6)]
    frame["mx_host"] = [f"a-long-inbound-gateway-of-the-cluster-{n % 3}.d.example" for n in range(6)]
    labels = rows.Rows(frame, None).lines.label
    assert labels.str.contains(r"a-long.*\u2026.*-[012]").all()
    assert labels.str.len().max() <= 70


def test_counts_beside_charts_have_separators() -> None:
    frame = rounds(2, 1200, only(1), gap=1)
    view = rows.Rows(frame, None)
    assert view.of() == ["0 of 1,200", "1,200 of 1,200"]
    assert view.of("{:,}/{:,}") == ["0/1,200", "1,200/1,200"]


def test_of_two_causes_each_row_is_counted_in_the_time_of_its_own() -> None:
    says = lambda i, r, h: "bad" if i == 1 and r > 5 else "mute" if i == 2 and r < 15 else "sent"  # noqa: E731  one expression
    frame = rounds(4, 20, says)
    start, end = frame.started_at[frame.code.eq(554)].min(), frame.started_at[frame.error.eq("timeout")].max()
    block = Cause("mx_block", "mx_ip", ("192.0.2.12",), onset=start, evidence=frame[frame.code.eq(554)])
    dead = Cause("mx_dead", "mx_ip", ("192.0.2.13",), recovery=end, evidence=frame[frame.error.eq("timeout")])
    view = rows.Rows(frame, Diagnosis((block, dead), "Two."))
    assert view.of() == ["0 of 20", "14 of 14", "15 of 15", "0 of 20"]
    assert view.foot.endswith("counted: \u2718 in the time of its cause")
