"""The letter says what the attempts say, no more; nobody is named who should not be."""

import email
import email.policy
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

import smtpkit as sk
from smtpkit import attempts, packet, rows
from smtpkit.address import mailbox
from smtpkit.catalogue import data
from smtpkit.catalogue import rows as catalogue
from smtpkit.diagnosis import diagnose
from smtpkit.errors import InvalidInput
from smtpkit.facts import LINES, contact
from smtpkit.network import Answer
from smtpkit.packet import FILES, KINDS, Packet, report
from tests.frames import OURS, OURS2, Cause, Diagnosis, join, only, pairs, rounds, simpson, staircase

pytestmark = pytest.mark.slow

DATA = Path(__file__).parent / "data"
ONSET = pd.Timestamp("2026-11-24 00:31:00", tz="UTC")
STALE = Diagnosis(
    (Cause("mx_block", "mx_ip", ("192.0.2.14",), onset=ONSET, confidence=0.99),),
    "192.0.2.14 refused 28 of 28.",
)
OWN = "test@daum.example"
GIVEN = {"own": OWN, "key": "k", "tz": "Asia/Seoul", "ptr": "relay1.ours.example"}


def incident() -> pd.DataFrame:
    return _incident().copy()


@cache
def _incident() -> pd.DataFrame:
    """Sends as a log has them: one stale MX, queue ids, several recipients, replies of two lines."""
    frame = rounds(4, 31, lambda i, r, h: "bad" if i == 3 and h > 0.0166 else "sent", source="postfix")
    frame["recipient"] = [OWN if i % 5 == 0 else f"user{i % 7}@daum.example" for i in range(len(frame))]
    frame["reply_host"] = frame.mx_host.str.replace("mx", "be")
    frame["queue_id"] = [f"4F{i:04X}" for i in range(len(frame))]
    bad = frame.code == 554
    frame.loc[bad, "reply"] = (
        "554-5.7.1 [198.51.100.7] blocked (BL-17)\n554 5.7.1 <" + frame.recipient + "> not delivered"
    )
    return frame


@cache
def stale(lang: str = "en") -> Packet:
    """The incident's packet, made once."""
    return report(STALE, frame=incident(), lang=lang, **GIVEN)


@pytest.fixture
def real_charts() -> None:
    """Asked for by the tests that need the charts drawn."""


@pytest.fixture(autouse=True)
def _charts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a second: only the tests about charts draw."""
    if "real_charts" not in request.fixturenames:
        monkeypatch.setattr(packet, "_charts", lambda frame, diagnosis: [])


def written(path: Path, **more: object) -> dict[str, str]:
    """All files of the incident's packet as text."""
    made = report(more.pop("diagnosis", STALE), path, frame=more.pop("frame", incident()), **{**GIVEN, **more})
    return {file.name: file.read_bytes().decode() for file in made.files}


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_the_letter_in_full(lang: str) -> None:
    made = stale(lang)
    assert made.letter == (DATA / f"letter_{lang}.md").read_text(encoding="utf-8")
    assert repr(made) == made.letter


def test_fifteen_lines_a_postmaster_answers() -> None:
    letter = stale().letter
    facts = [
        line for line in letter.split("\n") if re.match(r"    (What|Since|From us|At you|Contrast|[RA]\d) ", line)
    ]
    assert len(facts) == 15
    for text in ("28 of 28", "00:31:00 UTC (2026-11-24 09:31:00 KST)", OURS, "PTR relay1.ours.example",
                 "HELO relay1.ours.example", "mx4.daum.example [192.0.2.14]:25", "back end be4.daum.example",
                 "0 of 81", "95 % interval 87 to 100 %"):  # fmt: skip
        assert text in "\n".join(facts[:5])
    assert all("our queue id 4F" in line for line in facts[5:])


def test_every_figure_can_be_counted_again_from_the_csv_and_the_charts_have_the_same(tmp_path: Path) -> None:
    text = written(tmp_path)
    table = pd.read_csv(tmp_path / "attempts.csv")
    counted = table.counted_as.value_counts().to_dict()
    assert counted == {"accused, refused": 28, "sibling": 81}
    assert f"{counted['accused, refused']} of 28" in text["letter.md"]
    assert f"0 of {counted['sibling']}" in text["letter.md"]
    lines = rows.Rows(incident(), STALE).lines.set_index("accused")
    assert (lines.k[True], lines.n[True], lines.n[False].sum()) == (28, 28, 81)
    quoted = table.dropna(subset="line").set_index("line")
    assert sorted(quoted.index) == [f"A{i}" for i in range(1, 6)] + [f"R{i}" for i in range(1, 6)]
    known = incident().set_index("attempt_id")
    for name, row in quoted.iterrows():
        truth = known.loc[row.attempt_id]
        (line,) = re.findall(rf"    {name} (.*)", text["letter.md"])
        assert line.startswith(f"{truth.started_at:%Y-%m-%d %H:%M:%S}.000 {truth.mx_ip} {truth.stage.upper()} ")
        assert line.endswith(f"queue id {truth.queue_id}")
        assert f'id="{name}"' in text["report.html"]
    ids = re.findall(r"<code>([^<]*)</code>", text["report.html"])
    assert [len(part.split()) for part in ids] == [28, 28, 0, 81, 1, 1]
    assert set(ids[0].split()) == set(table.attempt_id[table.counted_as == "accused, refused"])


def test_quotes_are_verbatim_spread_and_answered_by_siblings_in_the_same_quarter_hour() -> None:
    table = report(STALE, frame=incident(), own="user1@daum.example", key="k").table
    bad, good = (table[table.line.str.startswith(letter)] for letter in "RA")
    refused = table[table.counted_as == "accused, refused"]
    assert bad.attempt_id.iloc[[0, -1]].tolist() == refused.attempt_id.iloc[[0, -1]].tolist()
    assert (good.outcome == "accepted").all()
    assert set(good.mx_ip) == {"192.0.2.11", "192.0.2.12", "192.0.2.13"}
    assert set(good.sender_ip) == {OURS}
    for (_, r), (_, a) in zip(bad.iterrows(), good.iterrows(), strict=True):
        assert abs(r.started_at - a.started_at) <= pd.Timedelta("15min")


def test_siblings_that_accepted_an_hour_later_are_no_contrast() -> None:
    late = rounds(3, 8, only(), begun="2026-11-24 02:00")
    frame = join(rounds(4, 8, lambda i, r, h: "bad" if i == 3 else "mute"), late)
    letter = report(replace(STALE, causes=(replace(STALE.causes[0], onset=None),)), frame=frame, **GIVEN).letter
    assert "No acceptance was seen" in letter
    assert "R5 " in letter
    assert "A1 " not in letter
    assert "Since     2026-11-24 00:30:15 UTC" in letter, "first seen, not 'about'"


def test_only_the_same_sender_is_compared() -> None:
    cause = Cause("mx_block", "mx_ip", ("192.0.2.13",), {"sender_ip": (OURS2,)})
    made = report(Diagnosis((cause,), "v"), frame=pairs(), **GIVEN)
    assert "10 of 10 attempts refused" in made.letter
    assert "0 of 30 refused by your 3 other MX addresses" in made.letter
    assert set(made.table.sender_ip) == {OURS2}
    ours = Diagnosis((Cause("sender_ip_block", "sender_ip", (OURS2,)),), "v")
    frame = join(rounds(3, 5, only()), rounds(3, 5, only(0, 1, 2), begun="2026-11-24 00:30:02", sender_ip=OURS2))
    letter = report(ours, frame=frame, **GIVEN).letter
    assert "15 of 15 attempts refused at RCPT" in letter
    assert "0 of 15 refused from our 1 other address in the same time" in letter


def test_no_model_probability_leaves_the_house(tmp_path: Path) -> None:
    """A verdict has none, and a letter has the verdict's counts."""
    for text in (*written(tmp_path).values(), data("verdict.txt.j2").read_text("utf-8")):
        assert not re.search("probab|0\\.99", text)


@pytest.mark.parametrize(
    "cause",
    [
        pytest.param(None, id="healthy"),
        pytest.param(Cause("local_path", "none"), id="local path"),
        pytest.param(Cause("recipient_bad", "recipient", ("user1@daum.example",)), id="recipient"),
        pytest.param(Cause("mx_block", "mx_ip", ("192.0.2.14",), confidence=0.7), id="not enough evidence"),
        pytest.param(Cause("mx_block", "mx_ip", ("192.0.2.11",)), id="never refused"),
        pytest.param(Cause("inconclusive", "none"), id="inconclusive"),
    ],
)
def test_no_letter_where_no_receiver_is_to_blame(cause: Cause | None, tmp_path: Path) -> None:
    diagnosis = Diagnosis((cause,) if cause else (), "user1@daum.example says no.")
    made = report(diagnosis, tmp_path / "case", frame=incident(), **GIVEN)
    assert (made.letter, made.draft, made.to) == (None, None, "")
    assert sorted(file.name for file in made.files) == ["attempts.csv", "report.html"]
    assert "No letter" in repr(made)
    assert "user1" not in made.page
    assert len(made.table) == len(incident())
    for end in (".md", ".eml") if cause is None else ():
        with pytest.raises(InvalidInput, match="no letter"):
            report(diagnosis, tmp_path / f"x{end}", frame=incident(), **GIVEN)
    assert not list(tmp_path.glob("x*"))


CAUSES = {
    "mx_block": Cause("mx_block", "backend", ("be4.daum.example",)),
    "delist_propagation": Cause(
        "delist_propagation", "mx_ip", tuple(f"192.0.2.{n}" for n in range(11, 17)),
        recoveries={"192.0.2.11": pd.Timestamp("2026-11-24 05:30", tz="UTC"), "192.0.2.16": None},
        ),
    "sender_ip_block": Cause("sender_ip_block", "sender_ip", (OURS,)),
    "provider_block": Cause("provider_block", "domain", ("daum.example",)),
    "rate_limit": Cause("rate_limit", "rate", ("60",)),
    "mx_tls": Cause("mx_tls", "mx_ip", ("192.0.2.14",)),
    "mx_dead": Cause("mx_dead", "mx_ip", ("192.0.2.13", "192.0.2.14")),
}  # fmt: skip
SAYS = {
    "mx_block": ("one of your mail servers refuses", "메일 서버 가운데 1대만"),
    "delist_propagation": (
        "Cleared   192.0.2.11 2026-11-24 05:30:00 UTC",
        "해제      192.0.2.11 2026-11-24 05:30:00 UTC",
    ),
    "sender_ip_block": ("refuse one of our addresses", "발송 IP 하나를 거부"),
    "provider_block": ("all your mail servers", "모든 메일 서버가"),
    "rate_limit": ("28 of 124 attempts deferred", "124건 중 28건 임시 거부"),
    "mx_tls": ("28 of 31 attempts failed at STARTTLS", "STARTTLS 단계에서 31건 중 28건 실패"),
    "mx_dead": ("2 of your mail servers do not answer", "메일 서버 2대가 응답하지"),
}


def frame_of(kind: str) -> pd.DataFrame:
    frame = incident()
    bad = frame.code == 554
    if kind == "delist_propagation":
        return staircase()
    if kind == "rate_limit":
        return rounds(4, 31, lambda i, r, h: "busy" if i == 3 and h > 0.0166 else "good")
    if kind == "mx_dead":
        return rounds(4, 31, only(2, 3, kind="mute"))
    if kind == "mx_tls":
        frame.loc[bad, "stage"] = "starttls"
        frame.loc[bad, ["code", "enhanced", "reply"]] = None
        frame.loc[bad, "outcome"], frame.loc[bad, "error"] = "failed", "tls_handshake"
        frame.loc[bad, "tls_problem"] = "certificate expired"
        return frame
    return join(frame, rounds(2, 3, only(), domain="other.example", recipient=None, sender_ip=OURS2))


@pytest.mark.slow
def test_every_kind_of_letter_is_written_in_both_languages() -> None:
    assert list(CAUSES) == KINDS
    for kind, cause in CAUSES.items():
        for lang, said in zip(("en", "ko"), SAYS[kind], strict=True):
            letter = report(Diagnosis((cause,), "v"), frame=frame_of(kind), lang=lang, **GIVEN).letter
            assert said in letter, letter
            assert "R1 " in letter
    letter = report(Diagnosis((CAUSES["mx_tls"],), "v"), frame=frame_of("mx_tls"), **GIVEN).letter
    assert "(no reply: tls_handshake, certificate expired)" in letter
    assert (
        "none: nothing else of yours"
        in report(Diagnosis((CAUSES["provider_block"],), "v"), frame=frame_of("provider_block"), **GIVEN).letter
    )


def test_what_is_over_is_said_to_be_over() -> None:
    over = replace(STALE.causes[0], recovery=pd.Timestamp("2026-11-24 00:40:20", tz="UTC"))
    letters = [report(Diagnosis((over,), "v"), frame=incident(), lang=x, **GIVEN).letter for x in ("en", "ko")]
    assert "; over since about 2026-11-24 00:40:20 UTC" in letters[0]
    assert "refresh it.\nThis seems to be over" in letters[0]
    assert "지금은 정상화된" in letters[1]
    back = {f"192.0.2.{n}": pd.Timestamp("2026-11-27", tz="UTC") for n in range(11, 17)}
    last = replace(CAUSES["delist_propagation"], recoveries=back, recovery=None)
    letter = report(Diagnosis((last,), "v"), frame=staircase(), **GIVEN).letter
    assert "one after the other" in letter
    assert letter.count("2026-11-27 00:00:00 UTC") == 6
    assert "still refuse" not in letter
    some = replace(last, recoveries={**back, "192.0.2.13": None})
    assert "still refuse" in report(Diagnosis((some,), "v"), frame=staircase(), **GIVEN).letter


def test_recipients_are_pseudonyms_everywhere_but_the_test_mailbox(tmp_path: Path) -> None:
    text = written(tmp_path)
    for name, said in text.items():
        assert "user" not in said.replace("default-src", ""), name
    eml = email.message_from_bytes((tmp_path / "letter.eml").read_bytes(), policy=email.policy.SMTP)
    inside = [part.get_content() for part in eml.walk() if part.get_content_maintype() == "text"]
    assert "user" not in "".join(inside)
    assert OWN in text["letter.md"]
    first = re.search(r"R\d .* (u-[0-9a-f]{8}@daum\.example),", text["letter.md"])[1]
    assert f"<{first}> not delivered" in text["letter.md"], "the same in what the server said"
    assert report(STALE, frame=incident(), **GIVEN).letter == text["letter.md"], "stable with the same key"


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


def test_the_page_is_complete_in_itself(real_charts: None) -> None:
    page = report(STALE, frame=incident(), **GIVEN).page
    tags = Tags(page).seen
    pictures = [have for tag, have in tags if tag == "img"]
    assert len(pictures) == 3
    assert all(have["src"].startswith("data:image/png;base64,iVBOR") and len(have["alt"]) > 60 for have in pictures)
    assert not {tag for tag, _ in tags} & {"script", "link", "iframe", "object", "form", "base"}
    assert not [have for _, have in tags if set(have) & {"href", "srcset", "onload", "onerror"}]
    assert "default-src 'none'; img-src data:" in page
    assert "url(" not in page


EVIL = "<img src=x onerror=run()>`\x1b[2J\u202e# =1+1"


def test_hostile_text_is_inert_in_every_file(tmp_path: Path) -> None:
    frame = incident()
    bad = frame.code == 554
    for name in ("mx_host", "reply_host", "helo", "queue_id", "sender_ip", "domain", "error"):
        frame[name] = frame[name].astype("object")
    frame.loc[bad, ["mx_host", "reply_host", "helo", "queue_id"]] = EVIL
    frame.loc[bad, "reply"] = f"554 {EVIL}\n# heading\n\n    code\n```\n=cmd|' /C calc'!A0"
    frame.loc[bad, "recipient"] = f"{EVIL}@daum.example"
    frame.loc[bad, "enhanced"] = "=1+1"
    frame["error"] = None
    text = written(tmp_path, frame=attempts.conform(frame))
    for name in ("letter.md", "report.html", "attempts.csv"):
        assert "\x1b" not in text[name]
        assert "\u202e" not in text[name]
    assert "<img src=x" not in text["report.html"]
    assert {tag for tag, have in Tags(text["report.html"]).seen if "onerror" in have} == set()
    for line in text["letter.md"].split("\n"):
        assert line.startswith("    ") or not re.search(r"[<`]|\x1b", line.replace("\\x1b", "")), line
    assert text["letter.md"].count("\n# ") == 0
    cells = pd.read_csv(tmp_path / "attempts.csv", dtype="str").fillna("")
    assert not cells.map(lambda cell: bool(re.match(r"\s*[=+@]", cell))).to_numpy().any()
    assert "'=1+1" in set(cells.enhanced)


def test_hostile_addresses_never_reach_the_heading() -> None:
    frame = incident()
    frame["mx_ip"] = frame.mx_ip.where(frame.mx_ip != "192.0.2.14", "<b>\n# x")
    cause = replace(STALE.causes[0], values=("<b>\n# x",))
    made = report(Diagnosis((cause,), "v"), frame=frame, **GIVEN)
    assert made.subject == "?b??x0a? x: 28 of 28 attempts from 198.51.100.7 refused, none of 81 elsewhere"


def test_the_draft_is_a_mail_that_can_be_sent(tmp_path: Path) -> None:
    made = report(STALE, tmp_path / "a.eml", frame=incident(), sender="Jo <jo@ours.example>", **GIVEN)
    assert made.files == (tmp_path / "a.eml",)
    read = email.message_from_bytes((tmp_path / "a.eml").read_bytes(), policy=email.policy.SMTP)
    assert (read["From"], read["To"], read["X-Unsent"]) == (
        "Jo <jo@ours.example>",
        "postmaster@daum.example",
        "1",
    )
    assert read["Subject"] == made.subject
    body = read.get_body("plain").get_content().replace("\r\n", "\n")
    assert body.startswith("Dear postmaster,\n")
    assert body.strip() == made.letter.split("\n\n", 2)[2].strip()
    (file,) = read.iter_attachments()
    assert file.get_filename() == "attempts.csv"
    assert file.get_content().count("\n") == 1 + len(made.table)
    assert made.draft.lint().query("status == 'fail'").empty
    assert made.draft.sender == "jo@ours.example"
    assert stale().draft.sender == "postmaster@ours.example"


def test_a_huge_table_goes_into_the_draft_as_the_quoted_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packet, "MOST", 100)
    made = report(STALE, frame=incident(), **GIVEN)
    (file,) = email.message_from_bytes(made.draft.octets, policy=email.policy.SMTP).iter_attachments()
    assert file.get_content().count("\n") == 1 + 2 * LINES, "one attempt one line"


def test_a_receiver_with_a_form_only_gets_no_address() -> None:
    frame = incident()
    frame["mx_host"] = frame.mx_host.str.replace("daum.example", "mx.daum.net")
    made = report(STALE, frame=frame, lang="ko", **GIVEN)
    assert made.to == ""
    assert "문의 양식: https://cs.kakao.com/" in made.letter
    assert "To" not in email.message_from_bytes(made.draft.octets)


def test_contacts_have_sources_and_every_host_finds_one() -> None:
    table = catalogue("contacts.csv")
    assert table[-1]["mx_suffix"] == "*"
    for row in table:
        assert all(row[name] for name in ("provider", "asks", "asks_ko", "source", "dated"))
        assert re.fullmatch(r"20\d\d-\d\d", row["dated"])
        assert row["email"] or row["url"]
        assert not row["url"] or re.match(r"https?://", row["url"])
        assert not row["email"] or mailbox(row["email"].replace("{domain}", "a.example"))
    assert contact(["mx1.NAVER.com."], ["naver.com"])["url"] == "https://help.naver.com/"
    assert contact(["notnaver.com"], ["notnaver.com"])["email"] == "postmaster@notnaver.com"
    assert contact([None, "x-com.mail.protection.outlook.com"], ["x.com"])["url"] == "https://sender.office.com/"


def test_the_name_of_our_address_is_asked_where_a_network_is_given() -> None:
    asked: list[tuple[str, str]] = []

    class Net:
        def resolve(self, name: str, kind: str) -> Answer:
            asked.append((name, kind))
            return Answer("ok", ("relay1.ours.example",)) if len(asked) == 1 else Answer("nxdomain")

    given = {**GIVEN, "ptr": None, "network": Net()}
    assert "PTR relay1.ours.example," in report(STALE, frame=incident(), **given).letter
    assert asked == [("7.100.51.198.in-addr.arpa", "PTR")]
    assert "PTR none (nxdomain)," in report(STALE, frame=incident(), **given).letter
    assert "PTR not asked," in report(STALE, frame=incident(), own=OWN).letter


def test_a_frame_alone_is_diagnosed_and_a_bare_table_will_do() -> None:
    full = report(incident(), **GIVEN)
    assert full.letter == stale().letter.replace(
        "00:31:00 UTC (2026-11-24 09:31:00", "00:31:05 UTC (2026-11-24 09:31:05"
    )
    assert report(diagnose(incident()), **GIVEN).letter == full.letter, "a Diagnosis brings its frame"
    bare = incident()[["started_at", "mx_ip", "code"]].set_index(pd.Index(range(7, 131)))
    made = report(bare)
    assert "28 of 28 attempts refused (95" in made.letter
    assert made.subject == "192.0.2.14: 28 of 28 attempts refused, none of 81 elsewhere"
    assert "From us   address not known, PTR not asked, HELO not known, MAIL FROM not known" in made.letter
    assert made.table.attempt_id.iloc[0] == "row 22"
    assert made.draft is None, "there is no sender to write as"


def test_real_verdicts_of_other_incidents_make_the_right_packets() -> None:
    letter = report(staircase(), **GIVEN).letter
    assert letter.startswith(
        "# daum.example: 102 of 102 attempts from 198.51.100.7 refused, none of 114 since their recovery\n"
    )
    assert "    At you    mx6.daum.example [192.0.2.16]:25\n" in letter, "the one that is not back"
    assert (
        report(pairs(), **GIVEN).subject
        == "192.0.2.13: 10 of 10 attempts from 198.51.100.8 refused, none of 30 elsewhere"
    )
    for frame in (simpson(), rounds(4, 10, only()), rounds(4, 1, only(3))):
        assert report(frame, **GIVEN).letter is None


def test_without_attempts_there_is_nothing_to_write() -> None:
    with pytest.raises(InvalidInput, match="frame="):
        report(STALE, **GIVEN)
    with pytest.raises(InvalidInput, match="is neither"):
        report("daum.example", **GIVEN)


def test_a_log_without_hosts_domains_and_times_still_makes_a_letter() -> None:
    frame = incident()[["mx_ip", "code", "outcome", "reply"]]
    made = report(Diagnosis((Cause("mx_block", "mx_ip", ("192.0.2.14",)),), "v"), frame=frame, **GIVEN)
    assert "To: unknown" in made.letter
    assert "Since     at an unknown time" in made.letter
    assert "unnamed [192.0.2.14]" in made.letter
    korean = report(Diagnosis((Cause("mx_block", "mx_ip", ("192.0.2.14",)),), "v"), frame=frame, lang="ko", **GIVEN)
    assert "시작      시각 미상; 마지막 확인 시각 미상" in korean.letter
    known = frame.assign(recipient_domain="daum.example")
    made = report(Diagnosis((Cause("mx_block", "mx_ip", ("192.0.2.14",)),), "v"), frame=known, **GIVEN)
    assert made.to == "postmaster@daum.example"


def test_the_cause_can_be_chosen() -> None:
    frame = incident()
    other = rounds(4, 31, only(0), domain="b.example", gap=5)
    other["mx_ip"] = other.mx_ip.str.replace("192.0.2.1", "203.0.113.1")
    two = Diagnosis((STALE.causes[0], Cause("mx_block", "mx_ip", ("203.0.113.11",))), "v")
    letters = [report(two, frame=join(frame, other), which=which, **GIVEN).letter for which in (0, 1, -1)]
    assert "# 192.0.2.14: 28 of 28" in letters[0]
    assert "To: postmaster@daum.example" in letters[0]
    assert "# 203.0.113.11: 31 of 31" in letters[1]
    assert "To: postmaster@b.example" in letters[1]
    assert "0 of 93 refused by your 3 other" in letters[1]
    assert letters[2] == letters[1]


@pytest.mark.parametrize(
    "bad", [{"lang": "de"}, {"tz": "Asia/Nowhere"}, {"tz": "../etc/passwd"}, {"path": "letter.pdf"}], ids=str
)
def test_bad_input_is_refused_before_anything_is_written(bad: dict, tmp_path: Path) -> None:
    path = tmp_path / bad.pop("path", "case")
    with pytest.raises(InvalidInput):
        report(STALE, path, frame=incident(), **{**GIVEN, **bad})
    assert not list(tmp_path.iterdir())


def test_one_file_or_a_folder_is_written_and_named(tmp_path: Path) -> None:
    assert sorted(written(tmp_path / "case.2026")) == sorted(FILES.values())
    made = report(STALE, tmp_path / "deep" / "x.csv", frame=incident(), **GIVEN)
    assert made.files == (tmp_path / "deep" / "x.csv",)
    assert f"written: {made.files[0]}" in repr(made)


def test_an_ipv6_session_is_told_with_our_ipv6_address() -> None:
    with sk.Lab("ipv6_mixed") as lab:
        frame = sk.probe(lab.domain, lab.recipient, lab.sender, network=lab.network)
    six = frame[frame.mx_ip.str.contains(":")]
    assert set(six.sender_ip.dropna()) == {"2001:db8:5::7"}


def test_a_frame_without_plain_addresses_makes_a_letter() -> None:
    with sk.Lab("provider_block") as lab:
        frame = sk.probe(lab.domain, lab.recipient, lab.sender, network=lab.network)
    assert "PTR not asked" in str(sk.report(sk.redact(frame, ips=True)).letter)
