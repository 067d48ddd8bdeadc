"""What a reader of letters and charts found wrong, a row each: it failed before it was mended."""

import contextlib
import csv
import itertools
import os
import re
import signal
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import smtpkit as sk
from smtpkit import attempts, cli, drawing, packet, parts, watching
from smtpkit.campaign import Run
from smtpkit.checks import dnsbl
from smtpkit.errors import InvalidInput, StoreError
from smtpkit.network import Answer
from smtpkit.packet import report
from smtpkit.rows import Rows

pytestmark = pytest.mark.slow

OURS = [f"198.51.100.{n}" for n in range(7, 11)]


@pytest.fixture(autouse=True)
def _no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a second and is not asked here."""
    monkeypatch.setattr(packet, "_charts", lambda frame, diagnosis: [])


def sends(**more: Any) -> pd.DataFrame:
    """80 attempts at four MX IPs in turn; one of them refuses all."""
    at = pd.date_range("2026-11-24", periods=80, freq="30s", tz="UTC")
    f = pd.DataFrame({"started_at": at, "mx_ip": [f"192.0.2.{11 + n % 4}" for n in range(80)]})
    f = f.assign(domain="daum.example", recipient="kim@daum.example", sender="me@ours.example")
    return f.assign(code=f.mx_ip.eq("192.0.2.14").map({True: 554, False: 250})).assign(**more)


def line(letter: str | None, head: str) -> str:
    """The letter's line of that head."""
    (found,) = [one for one in str(letter).split("\n") if one.startswith(f"    {head} ")]
    return found


# the letter names the accused and nobody else ---------------------------------------------------------------------
def several_receivers() -> pd.DataFrame:
    """Three domains, each asked from four addresses of ours; one domain refuses one of these."""
    made = []
    for n in range(600):
        domain, us = f"d{n % 3}.example", OURS[n // 3 % 4]
        bad = (domain, us) == ("d1.example", OURS[0])
        made.append((domain, f"192.0.{n % 3}.{11 + n // 12 % 3}", us, f"u{n % 7}@{domain}", 554 if bad else 250))
    f = pd.DataFrame(made, columns=["domain", "mx_ip", "sender_ip", "recipient", "code"])
    f["started_at"] = pd.date_range("2026-11-24", periods=600, freq="20s", tz="UTC")
    return f.assign(
        sender="me@ours.example", stage="mail", reply=f.code.map({554: "554 5.7.1 blocked", 250: "250 ok"})
    )


def test_a_block_of_our_address_is_told_to_the_receiver_that_blocks_it() -> None:
    f = several_receivers()
    found = sk.diagnose(f)
    made = report(found)
    assert [(cause.kind, cause.values) for cause in found.causes] == [("sender_ip_block", (OURS[0],))]
    assert made.subject == f"d1.example: 50 of 50 attempts from {OURS[0]} refused, none of 150 elsewhere"
    assert made.to == "postmaster@d1.example"
    assert set(made.table.recipient.str.rpartition("@")[2]) == {"d1.example"}
    assert made.table.counted_as.value_counts().to_dict() == {"accused, refused": 50, "sibling": 150}


def test_attempts_from_an_address_that_is_not_known_are_no_siblings() -> None:
    """Of three in turn one of our addresses is refused, one gets through, and one is told nowhere."""
    f = sends(sender_ip=[(OURS[0], OURS[1], None)[n % 3] for n in range(80)])
    f["code"] = f.sender_ip.eq(OURS[0]).map({True: 554, False: 250})
    found = sk.Diagnosis((sk.Cause("sender_ip_block", "sender_ip", (OURS[0],), confidence=0.99),), "Refused.")
    said = f"daum.example: 27 of 27 attempts from {OURS[0]} refused, none of 27 elsewhere"
    assert report(found, frame=f).subject == said


def test_charts_count_the_same_attempts_as_the_letter() -> None:
    view = Rows(f := several_receivers(), sk.diagnose(f))
    assert view.lines.set_index("sender")[["k", "n"]].to_numpy().tolist() == [[50, 50], [0, 50], [0, 50], [0, 50]]
    assert view.lines.accused.tolist() == [True, False, False, False]
    assert set(view.facts.domain[view.facts.accused]) == {"d1.example"}
    assert view.foot.endswith("counted: d1.example")


def test_a_limit_is_told_to_the_receiver_that_limits() -> None:
    made, begun = [], pd.Timestamp("2026-11-24", tz="UTC")
    for minute in range(40):
        for k in range(12 if minute % 4 == 0 else 2):
            at, code = begun + pd.Timedelta(minutes=minute, seconds=3 * k), 421 if k >= 5 else 250
            made.append((at, "daum.example", f"192.0.2.{11 + k % 2}", code))
        for k in range(3):
            made.append(
                (begun + pd.Timedelta(minutes=minute, seconds=20 + k), "naver.example", "203.0.113.21", 250)
            )
    f = pd.DataFrame(made, columns=["started_at", "domain", "mx_ip", "code"]).assign(sender_ip=OURS[0])
    f["reply"] = f.code.map({421: "421 4.7.0 Too many connections, limit is 5 per minute", 250: "250 2.0.0 Ok"})
    letter = report(f).letter
    who = f"# daum.example: 70 of 90 attempts from {OURS[0]} deferred, none of 90 that came slower\n"
    assert str(letter).startswith(who)
    assert "0 of 90 deferred of those that came slower" in line(letter, "Contrast")


def test_evidence_without_ids_is_known_by_the_rows_of_the_frame() -> None:
    f = sends().set_index(pd.Index(range(2, 82)))
    f.loc[[3, 7, 12], "code"] = 451
    assert report(f).subject == "192.0.2.14: 20 of 20 attempts refused, none of 60 elsewhere"


def test_a_recipient_who_also_sends_stays_a_pseudonym() -> None:
    f = sends(reply="554 5.7.1 <kim@daum.example> refused, says me@ours.example")
    f.loc[0, "sender"] = "Kim@daum.example"
    made = report(f)
    assert "kim@" not in str(made.letter).lower()
    assert "kim@" not in made.table.drop(columns="sender").to_csv().lower()
    assert "says me@ours.example" in str(made.letter)
    assert "<kim@daum.example> refused" in str(report(f, own="kim@daum.example").letter)


def test_the_count_of_a_back_end_stands_beside_its_name() -> None:
    f = pd.concat([sends()] * 2, ignore_index=True)
    f["started_at"] = pd.date_range("2026-11-24", periods=160, freq="30s", tz="UTC")
    f["reply_host"] = [f"be{n // 4 % 2}.{ip}.example" for n, ip in enumerate(f.mx_ip)]
    f["code"] = f.reply_host.eq("be1.192.0.2.14.example").map({True: 554, False: 250})
    cause = sk.diagnose(f).causes[0]
    assert (cause.dimension, cause.values) == ("backend", ("be1.192.0.2.14.example",))
    who = "be1.192.0.2.14.example"
    assert report(f).subject == f"{who} (behind 192.0.2.14): 20 of 20 attempts refused, none of 140 elsewhere"
    korean = report(f, lang="ko").subject
    assert korean.startswith(f"{who} (192.0.2.14 뒤): ")


# who we are -----------------------------------------------------------------------------------------------------
class Names:
    """A network that notes which names it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def resolve(self, name: str, kind: str) -> Answer:
        self.asked.append(name)
        return Answer("ok", ("mail.ours.example",))


@pytest.mark.parametrize(
    ("given", "said", "asked"),
    [
        ({"local_ip": "192.168.0.10"}, "address not known, PTR not asked", []),
        ({"local_ip": "fe80::1"}, "address not known, PTR not asked", []),
        ({"sender_ip": "10.0.0.1"}, "10.0.0.1, PTR not asked", []),
        ({"local_ip": "192.0.2.99"}, "192.0.2.99, PTR mail.ours.example", ["99.2.0.192.in-addr.arpa"]),
        ({"local_ip": "10.0.0.1", "seen_ip": "8.8.8.8"}, "8.8.8.8, PTR mail", ["8.8.8.8.in-addr.arpa"]),
    ],
    ids=str,
)
def test_a_private_address_is_no_address_of_ours_to_others(given: dict, said: str, asked: list[str]) -> None:
    made = report(sends(**given), network=(net := Names()))
    assert said in line(made.letter, "From us")
    assert net.asked == asked
    assert "192.168" not in made.subject + made.table.to_csv()


def test_attempts_from_private_addresses_are_still_told_apart() -> None:
    f = sends(local_ip=[f"10.0.0.{1 + n // 4 % 2}" for n in range(80)])
    f["code"] = f.local_ip.eq("10.0.0.2").map({True: 554, False: 250})
    made = report(f, frame=f)
    assert made.subject == "daum.example: 40 of 40 attempts refused, none of 40 elsewhere"
    assert "from our 1 other address" in str(made.letter)
    assert Rows(f, sk.diagnose(f)).lines.sender.tolist() == ["10.0.0.1", "10.0.0.2"]


def test_the_draft_is_from_the_domain_that_the_accused_attempts_are_from() -> None:
    stranger = sends(sender="news@stranger.example", mx_ip="203.0.113.9", domain="ours.example", code=250)
    f = pd.concat([stranger.head(1), sends()], ignore_index=True)
    f["started_at"] = pd.date_range("2026-11-24", periods=81, freq="30s", tz="UTC")
    f.loc[1:5, "sender"] = "<>"
    assert report(f).author == "postmaster@ours.example"


@pytest.mark.parametrize("sender", ["<>", "", "MAILER-DAEMON", "me@a..b", "me@[bad]", None])
def test_without_a_sender_all_but_the_draft_is_written(sender: str | None, tmp_path: Path) -> None:
    made = report(sends(sender=sender), tmp_path / "case")
    assert sorted(file.name for file in made.files) == ["attempts.csv", "letter.md", "report.html"]
    assert "no draft: no attempt says who we are; give sender=" in repr(made)
    with pytest.raises(InvalidInput, match="give sender="):
        report(sends(sender=sender), tmp_path / "x.eml")
    assert report(sends(sender=sender), tmp_path / "y.eml", sender="jo@ours.example").draft is not None


def test_attempts_without_a_time_are_counted_and_quoted_nowhere() -> None:
    f = sends()
    f.loc[::3, "started_at"] = pd.NaT
    dated, found = f.dropna(subset="started_at"), sk.diagnose(f)
    k, n = (dated.code == 554).sum(), len(dated)
    made = report(found)
    assert made.subject == f"192.0.2.14: {k} of {k} attempts refused, none of {n - k} elsewhere"
    assert f"refused {k} of {k}" in found.verdict
    assert made.table.started_at.notna().all()
    assert len(made.table) == n
    view = Rows(f, found)
    assert (view.lines.k.sum(), view.lines.n.sum()) == (k, n)
    assert view.foot.endswith("27 without a time")
    assert "withheld" not in view.foot
    assert Rows(f, None).lines.n.sum() == 80


def test_charts_draw_no_attempt_without_a_time_beside_a_diagnosis() -> None:
    f = pd.concat([sends()] * 2, ignore_index=True)
    f["started_at"] = pd.date_range("2026-11-24", periods=160, freq="30s", tz="UTC")
    f.loc[::3, "started_at"] = pd.NaT
    found = sk.diagnose(f)
    cells = [text.get_text() for text in sk.plot.grid(f, found).axes[0].texts]
    assert sum(int(cell.rpartition("/")[2]) for cell in cells if "/" in cell) == f.started_at.notna().sum()
    keys = [text.get_text() for text in sk.plot.lanes(f, found).axes[0].get_legend().get_texts()]
    assert sum(int(key.split("(")[1][:-1]) for key in keys) == f.started_at.notna().sum()


# whom to write to ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "to"),
    [
        ({"mx_host": "corp.example", "recipient": "kim@corp.example"}, "postmaster@corp.example"),
        ({"mx_host": "mx1.mail.corp.co.kr", "recipient": None}, "postmaster@corp.co.kr"),
        ({"mx_host": None, "recipient": "<kim@corp.example>"}, "postmaster@corp.example"),
        ({"mx_host": "mx.google.example", "recipient": "kim@corp.example"}, "postmaster@corp.example"),
        ({"mx_host": "mx.google.example", "recipient_domain": "corp.example"}, "postmaster@corp.example"),
        ({"mx_host": None, "recipient": None}, ""),
        ({"mx_host": "mx", "recipient": None}, ""),
        ({"mx_host": "mx.daum.example", "recipient_domain": "a..b"}, ""),
    ],
    ids=str,
)
def test_the_postmaster_is_the_recipients(given: dict, to: str) -> None:
    f = sends(**given).drop(columns="domain")
    assert report(f).to == to


# every text of a table ------------------------------------------------------------------------------------------
def test_recipients_in_an_index_of_several_levels_are_hidden() -> None:
    table = sk.redact(sk.counts.by(sends(), ["mx_ip", "recipient"]), key="k")
    assert table.index.names == ["mx_ip", "recipient"]
    assert set(table.index.get_level_values(0)) == set(sends().mx_ip)
    assert {name[:2] for name in table.index.get_level_values(1)} == {"u-"}
    wide = sk.redact(table.T.set_axis(pd.MultiIndex.from_tuples([("jo@a.example", n) for n in range(4)]), axis=1))
    assert "jo@" not in wide.to_string()


def test_recipients_in_octets_are_hidden_and_other_octets_stay() -> None:
    raw = [b"550 <jo@daum.example> unknown\r\n", b"\xb1\xe8@daum.example \xff", b"250 \xff\xfe ok", None]
    table = sk.redact(pd.DataFrame({"raw": raw, "text": ["<jo@daum.example>", "", "", ""]}), key="k")
    assert table.raw[0] == b"550 " + table.text[0].encode() + b" unknown\r\n"
    assert table.raw[1].startswith(b"u-")
    assert table.raw[1].endswith(b"@daum.example \xff")
    assert table.raw[2] == raw[2]


def test_no_level_of_an_index_is_a_formula_in_a_csv() -> None:
    evil = '=HYPERLINK("http://evil.example")'
    f = sends(reply=evil)
    text = parts.as_file("x.csv", sk.counts.by(f, ["reply", "mx_ip"]).rename_axis(["=1+1", "mx_ip"])).decode(
        "utf-8-sig"
    )
    rows = list(csv.reader(text.splitlines()))
    assert rows[0][0] == "'=1+1"
    assert {row[0] for row in rows[1:]} == {f"'{evil}"}
    empty = parts.on_text(f.head(0).set_index(["mx_ip", "reply"]), str)
    assert empty.index.names == ["mx_ip", "reply"]


# the command line -------------------------------------------------------------------------------------------------
def probed(monkeypatch: pytest.MonkeyPatch, lab: sk.Lab, *more: str, **rules: Any) -> int:
    """`smtpkit probe` as it would be in the lab."""
    real = sk.probe
    monkeypatch.setattr(sk, "internet", lambda **_: lab.network)
    monkeypatch.setattr(sk, "probe", lambda *who, **how: real(*who, **how, **rules))
    return cli.main(["probe", lab.domain, "--sender", lab.sender, "--recipient", lab.recipient, *more])


def _interrupt(lab: sk.Lab) -> None:
    """Ctrl-C once the lab was asked something."""
    while len(lab.log) < 20:
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_probe_says_so_and_ends_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with sk.Lab("healthy") as lab:
        threading.Thread(target=_interrupt, args=(lab,), daemon=True).start()
        assert probed(monkeypatch, lab, "--rounds", "50", pace=sk.Pace(receiver_gap=0.2, ip_gap=0.2)) == 130
    said = re.search(r"smtpkit: interrupted: (\d+) of (\d+) sessions\n", capsys.readouterr().err)
    assert said
    assert 0 < int(said[1]) < int(said[2]) == 200


def test_a_probe_of_nothing_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    with sk.Lab("healthy") as lab:
        assert probed(monkeypatch, lab) == 0
        monkeypatch.setattr(Run, "frame", lambda run: attempts.frame())
        assert probed(monkeypatch, lab) == 1


# the casebook -----------------------------------------------------------------------------------------------------
def test_notes_are_the_users_and_listings_the_block_lists(tmp_path: Path) -> None:
    book = sk.Casebook(tmp_path / "c.sqlite")
    book.note("asked for removal")
    with sk.Lab("dnsbl_listed") as lab:
        dnsbl.lookup(lab.network.sender_ip, lab.network, casebook=book)
    assert book.notes().text.tolist() == ["asked for removal"]
    assert "listed" in set(dnsbl.history(book).state)


@pytest.mark.parametrize("table", ["t(x)", "meta(k, v)", "notes(at, text)"])
def test_a_database_that_is_no_casebook_is_refused_as_it_is(table: str, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "foreign.sqlite")) as base:
        base.execute(f"create table {table}")
    before = (tmp_path / "foreign.sqlite").read_bytes()
    with pytest.raises(StoreError, match=r"foreign\.sqlite is a database, but no casebook"):
        sk.Casebook(tmp_path / "foreign.sqlite")
    assert (tmp_path / "foreign.sqlite").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["foreign.sqlite"]


# a watch that was broken off --------------------------------------------------------------------------------------
def test_a_watch_goes_on_while_a_list_has_us() -> None:
    with sk.Lab("dnsbl_listed") as lab:
        first = sk.watch(lab.domain, network=lab.network, every=0.1, rounds=3)
        assert set(first.outcome) == {"passed"}
        again = sk.watch(lab.domain, network=lab.network, every=0.1, rounds=2)
        assert again.try_number.max() == 5


def test_a_round_that_asked_one_server_only_does_not_count() -> None:
    with sk.Lab("healthy") as lab:
        ask = {"recipient": lab.recipient, "sender": lab.sender, "network": lab.network, "every": 0.1, "zones": []}
        route = sk.lookup_mx(lab.domain, network=lab.network)
        sk.watch(route["192.0.2.12"], rounds=2, **ask)
        frame = sk.watch(route, **ask)
    assert frame.groupby("try_number").mx_ip.nunique().tolist() == [1, 1, 4, 4]


def test_rounds_after_a_list_let_go_count() -> None:
    with sk.Lab("healthy") as lab:
        route = sk.lookup_mx(lab.domain, network=lab.network)
        frame = sk.watch(route, network=lab.network, every=0.1, rounds=3, clear=4, zones=[])
    plan = watching._Watch(None, None, None, lambda _sessions: 0.0, 2, None)
    ends = frame.groupby("try_number").started_at.max()
    listed = [ends[1] - pd.Timedelta("1D"), ends[1], ends[2], ends[3]]
    said = [None] + [pd.DataFrame({"until": [at, ends[3]], "holds": [True, False]}) for at in listed]
    assert [plan._resume(route, frame, at)[1] for at in said] == [3, 2, 1, 0, 0]


# charts ---------------------------------------------------------------------------------------------------------
def drawn(figure: Any) -> Any:
    """What measures the texts of a chart as they are drawn."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


HANGUL = (
    "다음 고객센터에 차단 해제를 요청하였고 담당자가 해당 서버의 차단 목록을 즉시 갱신하겠다고 전화로 답변하였음"
)


@pytest.mark.parametrize(
    "note", [f"{HANGUL} (ticket id: 118112, filled in till list is null; will call if still ill)", "W" * 150, "x"]
)
def test_no_note_is_written_beyond_the_picture(note: str) -> None:
    figure = sk.plot.timeline(f := sends(), notes=[(f.started_at[0], note)])
    assert figure._supxlabel.get_window_extent(drawn(figure)).x1 <= figure.bbox.width
    assert note.replace(" ", "") in re.sub(r"[\s\xa0]", "", figure._supxlabel.get_text())


def test_rounds_over_several_days_bear_their_day() -> None:
    f = sends().head(24)
    f["started_at"] = pd.Timestamp("2026-11-20 23:00", tz="UTC") + pd.to_timedelta(f.index // 4 * 12, "h")
    heads = [label.get_text() for label in sk.plot.grid(f).axes[0].get_xticklabels()]
    assert heads[:2] == ["round 1\n20 Nov\n23:00", "round 2\n21 Nov\n11:00"]


@pytest.mark.parametrize(
    ("each", "said"), [("1D", "7 days"), ("4D", "14 days"), ("6h", "day"), ("1h", "3h")], ids=str
)
def test_a_slot_of_days_is_told_in_days(each: str, said: str) -> None:
    times = pd.date_range("2026-01-01", periods=80, freq=each, tz="UTC")
    assert sk.plot.timeline(sends(started_at=times)).axes[0].get_ylabel() == f"attempts per {said}"


@pytest.mark.parametrize(
    "host", ["mx.daum.example", "very-long-host-name-of-a-server-that-nobody-types.mail.outlook.example"]
)
@pytest.mark.parametrize("ours", ["198.51.100.{}", "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ff{:02}"])
def test_the_heads_of_a_heatmap_do_not_overlap(host: str, ours: str) -> None:
    f = sends(mx_host=host, sender_ip=[ours.format(n // 4 % 6) for n in range(80)])
    figure = sk.plot.heatmap(f)
    pen = drawn(figure)
    boxes = [label.get_window_extent(pen) for label in figure.axes[0].get_xticklabels()]
    assert len(boxes) == 6
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
    assert "".join(figure.axes[0].get_xticklabels()[0].get_text().split()) == f"from{ours.format(0)}"


@pytest.mark.parametrize("text", ["한" * 5000, "i" * 5000, "a. " * 1500], ids=lambda text: text[:3])
def test_endless_text_is_wrapped_at_once(text: str) -> None:
    begun = time.monotonic()
    lines = drawing.wrap(text, 500, 7.5).split("\n")
    assert time.monotonic() - begun < 10
    assert len(lines) == 4
    assert lines[3].endswith(" …")


LIMIT = "451 4.7.1 Your message rate is too high, limit per hour exceeded"


@pytest.mark.parametrize(
    ("lang", "asks"),
    [("en", "compare the\nlimit there with that of the others."), ("ko", "발송 제한이 다른 서버와 같은지 확인해")],
)
def test_who_speaks_of_a_limit_is_asked_for_its_limit_and_no_block_list(lang: Any, asks: str) -> None:
    """A frame without reasons, as anybody may make it: the verdict heard "as too many", the letter did not."""
    f = sends()
    f = f.assign(code=f.code.replace(554, 451), reply=f.code.map({554: LIMIT, 250: "250 ok"}), stage="rcpt")
    letter = str(report(sk.diagnose(f), lang=lang).letter)
    assert " ".join(asks.split()) in " ".join(letter.split())
    assert "block list" not in letter
    assert "차단 목록" not in letter


@pytest.mark.parametrize(
    ("lang", "says"), [("en", ["1,600 of 1,600", "0 of 4,800 refused"]), ("ko", ["1,600건", "4,800건 중 0건 거부"])]
)
def test_large_counts_have_separators_in_a_letter(lang: Any, says: list[str]) -> None:
    at = pd.date_range("2026-11-24", periods=6400, freq="30s", tz="UTC")
    f = pd.concat([sends()] * 80, ignore_index=True).assign(started_at=at)
    made = report(sk.diagnose(f), lang=lang)
    assert [one for one in says if one not in str(made.letter)] == []
    assert says[0] in made.subject
    assert re.search(r"\b[0-9]{4,}(건| of)", str(made.letter)) is None


def test_tls_fails_with_a_server_and_not_by_it() -> None:
    f = sends(error=None, stage="body")
    bad = f.code.eq(554)
    f.loc[bad, ["error", "stage"]] = ["tls_handshake", "starttls"]
    letter = report(sk.diagnose(f.assign(code=f.code.where(~bad)))).letter
    assert "0 of 60 failed with your 3 other MX addresses" in line(letter, "Contrast")


def test_a_time_that_is_about_is_told_as_koreans_say_it() -> None:
    f = sends().assign(code=[554 if n % 4 == 3 and n > 40 else 250 for n in range(80)])
    since = line(report(sk.diagnose(f), lang="ko").letter, "시작")
    assert re.search(r"KST\) 무렵; 마지막 확인 ", since)
    assert "약 " not in since
