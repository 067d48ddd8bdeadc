"""What is handed out (pictures, letters, files) and said something wrong, or too much; one row a fault."""

import re

import pandas as pd
import pytest

from smtpkit import packet, plot, rows
from smtpkit.counts import by_ip
from smtpkit.diagnosis import diagnose
from smtpkit.errors import InvalidInput
from smtpkit.packet import report
from smtpkit.styling import redact
from tests.frames import Cause, Diagnosis, join, only, rounds, row

pytestmark = pytest.mark.slow

TIME = pd.Timestamp("2026-11-24 00:30", tz="UTC")
SERVER = Cause("mx_block", "mx_ip", ("192.0.2.12",))
BOTH = Diagnosis((SERVER, Cause("recipient_bad", "recipient", ("gone@x.example",))))


def one_bad_server_and_dead_mailboxes():
    """192.0.2.12 refuses us; beside it some mailboxes are gone, at all servers."""
    dead = [row("nobody", TIME, n % 4, recipient="gone@x.example", sender_ip=f"198.51.100.{n}") for n in range(8)]
    return join(rounds(4, 5, only(1)), pd.DataFrame(dead)).assign(sender_ip="198.51.100.7")


@pytest.mark.parametrize("draw", [plot.forest, plot.heatmap])
def test_charts_are_about_the_cause_that_their_title_names(draw):
    """Dead mailboxes, as a later cause, gave a row a recipient, and a frame around innocent servers."""
    fig = draw(one_bad_server_and_dead_mailboxes(), BOTH)
    words = [label.get_text() for label in (*fig.axes[0].get_yticklabels(), *fig.axes[0].get_xticklabels())]
    assert any("192.0.2.12" in word for word in words)
    assert not any("@" in word for word in words)


def test_many_dead_mailboxes_fit_into_a_picture():
    """One row each: of 1,000 a picture 167 inches high and of 5 MB, of 4,000 none."""
    gone = [f"{n}@daum.example" for n in range(100)]
    whom = [*gone, *(f"ok{n}@daum.example" for n in range(100))]
    frame = pd.DataFrame([row("nobody" if to in gone else "good", TIME, 0, recipient=to) for to in whom])
    view = rows.Rows(frame, Diagnosis((Cause("recipient_bad", "recipient", tuple(gone)),)), order="rate")
    assert view.lines.label.str.rstrip().tolist()[-2:] == ["\u2718 60 more", "  100 more"]
    assert view.lines.iloc[-2:][["k", "n", "accused"]].to_numpy().tolist() == [[60, 60, True], [0, 100, False]]
    assert len(view.lines) == 42


SEOUL = rounds(4, 5, only(1)).assign(
    started_at=lambda f: f.started_at.dt.tz_convert("Asia/Seoul").dt.tz_localize(None)
)


@pytest.mark.parametrize("kind", ["datetime64[us]", "str", "object"])
def test_a_letter_takes_no_times_without_a_zone(kind):
    """A table of Seoul's clock gave a letter nine hours off that said UTC; as text, charts as well."""
    frame = SEOUL.assign(started_at=SEOUL.started_at.astype(kind))
    for made in (report, lambda some: report(diagnose(some), frame=some), plot.lanes):
        with pytest.raises(InvalidInput, match="09:30:00' has no time zone"):
            made(frame)
    assert report(frame.assign(started_at=pd.to_datetime(frame.started_at).dt.tz_localize("Asia/Seoul"))).letter


@pytest.mark.parametrize("made", [diagnose, report, plot.grid, by_ip])
@pytest.mark.parametrize("name", ["code", "mx_ip", "started_at"])
def test_a_column_that_is_there_twice_is_refused_by_name(made, name):
    """The first of the two was believed by verdicts; charts and letters fell over pandas' words."""
    frame = rounds(4, 5, only(1))[["started_at", "mx_ip", "code"]]
    with pytest.raises(InvalidInput, match=f"column '{name}' is there twice"):
        made(pd.concat([frame[[name]], frame], axis=1))


@pytest.mark.parametrize(
    "held", [["jo@daum.example"], ("jo@daum.example", 1), {"jo@daum.example"}, {"to": ["jo@daum.example"]}]
)
def test_addresses_in_lists_are_redacted(held):
    assert "jo" not in str(redact(pd.DataFrame({"to": [held, None]})).to_dict()).replace("to", "")


DASHED = {
    "192-0-2-1.dyn.example": "ip-{}.dyn.example",
    "host-192-0-2-1-static": "host-ip-{}-static",
    "c192-0-2-1": "cip-{}",
    "7-192.0.2.1-9": "7-ip-{}-9",
    "2026-11-24 1-2-3-4-5 192-0-2-1-7 300-1-1-1": "2026-11-24 1-2-3-4-5 192-0-2-1-7 300-1-1-1",
}


@pytest.mark.parametrize("text", DASHED)
def test_addresses_in_host_names_are_redacted_with_the_others(text):
    token = redact(pd.DataFrame({"a": ["192.0.2.1"]}), ips=True, key="k").a[0].removeprefix("ip-")
    assert redact(pd.DataFrame({"a": [text]}), ips=True, key="k").a[0] == DASHED[text].format(token)


def test_the_table_of_a_letter_has_its_columns_and_no_number_beside_them():
    """A column without a name, 0, 1, 2 ..., stood before them."""
    octets = packet._csv(pd.DataFrame({"line": ["R1"], "reply": ["554 no"]}))
    assert octets.decode("utf-8-sig").split() == ["line,reply", "R1,554", "no"]


def test_the_foot_of_a_chart_names_no_private_address_of_ours():
    frame = rounds(4, 5, only(1)).assign(sender_ip=None, seen_ip=None, local_ip="10.1.2.3")
    assert "10.1.2.3" not in plot.lanes(frame).alt
    assert "from 198.51.100.7" in plot.lanes(frame.assign(seen_ip="198.51.100.7")).alt


def test_the_files_of_a_letter_are_their_owner_s_alone(tmp_path):
    """Casebook and recordings were 0600, what is exported from them was everybody's."""
    packet.Packet("none", "", None, pd.DataFrame({"line": ["R1"]}), None, ()).write(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("to", "said"),
    [
        pytest.param("kim@daum.example", "see Postmaster@daum.example or u-", id="no person"),
        pytest.param("postmaster@daum.example", "see u-", id="whom we wrote to"),
    ],
)
def test_whom_a_refusal_tells_us_to_ask_is_quoted_as_it_is(to, said):
    """In "verbatim" quotes their own postmaster was a pseudonym, as if we had written to him."""
    says = "554 5.7.1 <kim@daum.example>: no; see Postmaster@daum.example or jo@daum.example"
    _, table = packet._pseudonyms(
        Diagnosis(), pd.DataFrame([row("bad", TIME, 0, recipient=to, reply=says)]), [], "k"
    )
    assert said in table.reply[0]
    assert not re.search("jo@|kim@", table.reply[0])


@pytest.mark.parametrize("at", [TIME.tz_localize(None), "2026-11-24 00:31", "yesterday", None, pd.NaT])
def test_a_note_at_no_sure_time_is_refused_beside_one_that_is(at):
    """Sorting them fell over Python's words."""
    with pytest.raises(InvalidInput, match=r"^at '.*' (has no time zone|is no time)"):
        plot.timeline(rounds(4, 5, only(1)), notes=[(TIME, "asked"), (at, "told")])


@pytest.fixture(scope="module")
def three_causes():
    """Dead mailboxes first, which no postmaster mends, then a server of each of two receivers."""
    frame = rounds(4, 5, only(1, 2))
    frame["domain"] = frame.domain.where(frame.mx_ip.ne("192.0.2.13"), "other.example")
    ips = {"recipient_bad": "192.0.2.11", "mx_block": "192.0.2.12", "mx_dead": "192.0.2.13"}
    return frame, tuple(Cause(kind, "mx_ip", (ip,)) for kind, ip in ips.items())


@pytest.mark.parametrize(
    ("which", "about"), [(None, "192.0.2.12"), (1, "192.0.2.12"), (2, "192.0.2.13"), (-1, "192.0.2.13"), (0, None)]
)
def test_a_letter_is_about_the_cause_that_was_asked_for(three_causes, which, about):
    """Causes that no letter can be about were not counted: number 1 wrote to another receiver about number 2."""
    frame, causes = three_causes
    letter = report(Diagnosis(causes, "v"), frame=frame, which=which).letter
    assert about in letter.partition("\n")[0] if about else letter is None


@pytest.mark.parametrize("which", [3, -4, "second", 0.5])
def test_a_cause_that_is_not_there_is_refused(three_causes, which):
    """It was a page that said that no receiver can mend this."""
    frame, causes = three_causes
    with pytest.raises(InvalidInput, match=f"which {which!r} is none of 3 causes"):
        report(Diagnosis(causes, "v"), frame=frame, which=which)


def test_a_turn_within_years_has_its_year():
    """ "turned 19 Jun" of two Junes."""
    frame = rounds(2, 20, only(1, since=5000), gap=9 * 24 * 3600)
    onset = frame.started_at[frame.code.eq(554)].min()
    view = rows.Rows(frame, Diagnosis((Cause("mx_block", "mx_ip", ("192.0.2.12",), onset=onset),)))
    assert view.since == f"since {onset:%d %b %Y %H:%M} UTC"


OVER = {
    ("mx_block", "en"): "refused our mail while the others accepted it",
    ("mx_block", "ko"): "거부했고, 나머지 서버는 정상적으로 받았습니다",
    ("mx_tls", "en"): "failed with one of your mail servers and worked with the others",
    ("mx_tls", "ko"): "실패했고 나머지 서버에서는 성공했습니다",
    ("provider_block", "en"): "refused our mail. Please tell us why we were listed and what we should change. This",
    ("provider_block", "ko"): "저희 메일을 거부했습니다. 등록되었던 사유와",
}


@pytest.mark.parametrize(("kind", "lang"), OVER)
def test_a_letter_about_what_is_over_does_not_say_that_it_goes_on(kind, lang):
    """One of your mail servers refuses our mail ... This seems to be over."""
    frame = rounds(4, 8, only(1))
    frame.loc[frame.index[-8:], ["outcome", "code", "reply"]] = ["passed", 250, "250 ok"]
    bad = frame[frame.code.eq(554)]
    where = {"provider_block": ("domain", ("daum.example",))}.get(kind, ("mx_ip", ("192.0.2.12",)))
    cause = Cause(kind, *where, recovery=bad.started_at.max() + pd.Timedelta("10s"), evidence=bad)
    letter = report(Diagnosis((cause,), "v"), frame=frame, lang=lang).letter
    assert OVER[kind, lang] in letter.replace("\n", " ")


@pytest.mark.parametrize(("path", "named"), [("a.html", 0), (None, 1)])
def test_a_page_that_goes_alone_sends_nobody_to_another_file(monkeypatch, tmp_path, path, named):
    monkeypatch.setattr(packet, "_charts", lambda *_: [])
    monkeypatch.setattr(packet, "SHOWN", 3)
    made = report(rounds(4, 5, only(1)), path and tmp_path / path)
    assert made.page.partition("<h2>Where")[2].count("attempts.csv") == named


@pytest.mark.parametrize("all_back", [True, False])
def test_servers_drawn_in_one_row_are_back_when_the_last_one_is(all_back):
    ips = [f"192.0.2.{11 + n}" for n in range(45)]
    frame = rounds(45, 2, only(*range(45)))
    back = {ip: TIME + n * pd.Timedelta("1min") for n, ip in enumerate(ips) if all_back or n != 44}
    cause = Cause("delist_propagation", "mx_ip", tuple(ips), recoveries=back)
    lines = rows.Rows(frame, Diagnosis((cause,)), order="back").lines
    assert (len(lines), lines.back[0], lines.label[40].rstrip()) == (41, TIME, "\u2718 5 more")
    assert lines.back[40] is pd.NaT or lines.back[40] == back[ips[44]]
    assert pd.notna(lines.back[40]) == all_back
