"""Charts: what they say, whom they mark, that outside text is inert, and that colour is never alone."""

import io
import itertools
from functools import cache

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib._pylab_helpers import Gcf
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from smtpkit import attempts, drawing, plot, rows
from smtpkit.diagnosis import diagnose
from smtpkit.errors import InvalidInput
from smtpkit.escape import options
from tests.frames import OURS2, Cause, Diagnosis, join, only, pairs, rounds, row, simpson, staircase

CHARTS = [plot.grid, plot.forest, plot.heatmap, plot.lanes, plot.timeline]
SLOW = pytest.mark.slow
each = pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.__name__)
STALE = Diagnosis(
    (Cause("mx_block", "mx_ip", ("192.0.2.14",)),),
    "192.0.2.14 refused 5 of 5 attempts; the 3 other MX IPs 0 of 15.",
)
TIME = pd.Timestamp("2026-11-24 01:00", tz="UTC")


FIVE_ROUNDS = rounds(4, 5, only(3))


def stale():
    return FIVE_ROUNDS.copy()


@cache
def drawn(chart):
    """The chart of `stale` and its diagnosis, drawn once for all who only look at it."""
    return chart(stale(), STALE)


def png(fig):
    """The chart as a picture of 40 dots an inch."""
    store = io.BytesIO()
    fig.savefig(store, format="png", dpi=40)
    return imread(io.BytesIO(store.getvalue()))


def texts(fig):
    """Every text of a drawn chart, those of the ticks included."""
    fig.draw_without_rendering()
    return [text.get_text() for text in fig.findobj(Text) if text.get_text() and text.get_visible()]


def heads(fig):
    """Row heads with runs of blanks as one, top to bottom."""
    return [" ".join(label.get_text().split()) for label in fig.axes[0].get_yticklabels()]


def codes(fig):
    return [text.get_text() for text in fig.axes[0].texts if text.get_bbox_patch() is not None]


# ---- what they say


def test_grid_names_the_odd_row_in_title_head_frame_and_cells():
    fig = drawn(plot.grid)
    assert heads(fig) == [
        "192.0.2.11 mx1 10",
        "192.0.2.12 mx2 10",
        "192.0.2.13 mx3 10",
        "✘ 192.0.2.14 mx4 10",
    ]
    assert sorted(codes(fig)) == ["250"] * 15 + ["✘ 554"] * 5
    frames = [p for p in fig.axes[0].patches if isinstance(p, Rectangle) and not p.get_fill()]
    assert [round(p.get_y() + p.get_height() / 2) for p in frames] == [3]
    assert {"0 of 5", "5 of 5", "refused"} <= set(texts(fig))
    bold = [label.get_fontweight() for label in fig.axes[0].get_yticklabels()]
    assert bold == ["normal"] * 3 + ["bold"]
    assert fig.get_suptitle() == "192.0.2.14 refused 5 of 5 attempts; the 3 other MX IPs 0 of 15".replace(
        "5 of 5", "5\u00a0of\u00a05"
    ).replace("MX IPs 0 of 15", "MX\u00a0IPs 0\u00a0of\u00a015")


def test_foot_says_domain_number_source_depth_time_and_our_address():
    fig = drawn(plot.grid)
    said = fig.get_supxlabel().replace("\u00a0", " ")
    assert said == (
        "daum.example, 20 attempts (probe, up to rcpt) · 24 Nov 2026 00:30 to 00:31 UTC · from 198.51.100.7"
    )


@each
def test_alt_text_has_the_sentence_and_the_counts(chart):
    fig = drawn(chart)
    assert "192.0.2.14 refused 5 of 5 attempts; the 3 other MX IPs 0 of 15" in fig.alt
    assert "20 attempts" in fig.alt


def test_a_picture_in_a_page_has_its_alt_text():
    assert f'alt="{drawn(plot.grid).alt}"' in drawn(plot.grid).img()


@each
def test_without_a_diagnosis_the_title_only_counts_and_nobody_is_marked(chart):
    fig = chart(stale())
    assert "15 of 20 attempts at 4 MX IPs were accepted; 5 refused" in fig.alt
    assert not any(head.startswith("✘") for head in heads(fig))


def test_a_cause_below_confidence_marks_nobody():
    weak = Diagnosis((Cause("mx_block", "mx_ip", ("192.0.2.14",), confidence=0.6),), "Not enough evidence.")
    assert not any(head.startswith("✘") for head in heads(plot.grid(stale(), weak)))


def test_healthy_counts_refusals_and_shows_the_odd_time_out():
    frame = rounds(6, 5, lambda i, turn, _: "mute" if (i, turn) == (2, 3) else "good")
    fig = plot.forest(frame, Diagnosis((), "No MX IP stands out: 29 of 30 sessions passed."))
    assert {"0/5", "0/5 +1", "refused/n +other"} <= set(texts(fig))
    assert codes(plot.grid(frame)).count("timeout") == 1


def test_counts_follow_the_evidence_not_every_failure():
    """A greylisted attempt elsewhere is "other", not a hit."""
    frame = rounds(3, 6, lambda i, turn, _: "bad" if i == 1 else "grey" if (i, turn) == (2, 0) else "good")
    table = frame[frame.reason.eq("ip_blocked")]
    found = Diagnosis((Cause("mx_block", "mx_ip", ("192.0.2.12",), evidence=table),), "192.0.2.12 refused 6 of 6.")
    lines = rows.Rows(frame, found).lines
    assert list(zip(lines.k, lines.n, lines.other, strict=True)) == [(0, 6, 0), (6, 6, 0), (0, 6, 1)]
    bare = Diagnosis((Cause("mx_block", "mx_ip", ("192.0.2.12",), evidence=table[["mx_ip"]]),), "x")
    assert list(rows.Rows(frame.drop(columns="attempt_id"), bare).lines.k) == [0, 6, 0]


def test_a_block_that_speaks_by_421_is_counted():
    found = Diagnosis((Cause("mx_block", "mx_ip", ("192.0.2.12",)),), "192.0.2.12 deferred 5 of 5.")
    view = rows.Rows(rounds(3, 5, only(1, kind="busy")), found)
    assert (view.word, list(view.lines.k)) == ("deferred", [0, 5, 0])


def test_from_an_onset_on_only_later_attempts_count_and_the_turn_is_drawn():
    frame = rounds(4, 24, only(3, since=1.0), gap=75)
    turned = frame.started_at[frame.outcome.eq("rejected")].min()
    found = Diagnosis((Cause("mx_block", "mx_ip", ("192.0.2.14",), onset=turned),), "192.0.2.14 refused.")
    view = rows.Rows(frame, found)
    assert view.turns["onset"] == (
        frame.started_at[frame.mx_ip.eq("192.0.2.14") & frame.outcome.eq("passed")].max(),
        turned,
    )
    assert list(view.lines.n) == [(frame.started_at.ge(turned) & frame.mx_ip.eq(ip)).sum() for ip in view.lines.ip]
    fig = plot.lanes(frame, found)
    words = next(text for text in fig.axes[0].texts if text.get_text().startswith("turned"))
    assert words.get_text() == "turned 01:28 to 01:33"
    marks = max(line.get_window_extent().y1 for line in fig.axes[0].lines)
    fig.draw_without_rendering()
    assert words.get_window_extent().y0 >= marks, "the words lie over marks"


def test_forest_is_sorted_by_rate_with_intervals_and_a_line_at_the_others():
    fig = drawn(plot.forest)
    assert heads(fig)[0] == "✘ 192.0.2.14 mx4 10"
    bars = [line.get_xdata() for line in fig.axes[0].lines if len(line.get_xdata()) == 2]
    assert bars[0][0] == pytest.approx(56.55, abs=0.01)  # Wilson, 5 of 5
    assert bars[1] == pytest.approx([0, 43.45], abs=0.01)
    assert list(bars[-1]) == [0, 0]  # dashed, 0 of 15
    assert {"5/5", "0/5"} <= set(texts(fig))


def test_simpson_shows_the_recipient_and_clears_the_server():
    found = Diagnosis((Cause("recipient_bad", "recipient", ("gone@daum.example",)),), "gone@daum.example is dead.")
    fig = plot.forest(simpson(), found)
    assert heads(fig) == ["✘ gone@daum.example", "r@daum.example"]
    assert {"20/20", "0/60"} <= set(texts(fig))
    matrix = plot.heatmap(simpson(), found)
    assert [head.split()[0] for head in heads(matrix)] == ["192.0.2.11", "192.0.2.12", "192.0.2.13"]
    assert sorted(codes(matrix)) == ["0/26", "0/30", "0/4", "✘ 18/18", "✘ 2/2"]
    frames = [p for p in matrix.axes[0].patches if isinstance(p, Rectangle) and not p.get_fill()]
    assert sorted((round(p.get_x() + 0.49), round(p.get_y() + 0.48)) for p in frames) == [(0, 0), (0, 1)]


def test_pair_matrix_frames_the_one_cell():
    cause = Cause("mx_block", "mx_ip", ("192.0.2.13",), only_for={"sender_ip": (OURS2,)})
    fig = plot.heatmap(pairs(), Diagnosis((cause,), "192.0.2.13 refuses 198.51.100.8: 10 of 10 attempts."))
    assert sorted(codes(fig)) == ["0/10"] * 7 + ["✘ 10/10"]
    frames = [p for p in fig.axes[0].patches if isinstance(p, Rectangle) and not p.get_fill()]
    assert [(round(p.get_x() + 0.49), round(p.get_y() + 0.48)) for p in frames] == [(1, 2)]
    grid = plot.grid(pairs(), Diagnosis((cause,), "x"))
    assert [head for head in heads(grid) if head.startswith("✘")] == ["✘ 192.0.2.13 mx3 10 198.51.100.8"]


def test_a_blocked_sender_is_one_row_among_the_senders():
    found = Diagnosis((Cause("sender_ip_block", "sender_ip", (OURS2,)),), "198.51.100.8 is refused everywhere.")
    says = lambda i, turn, hour: "bad"  # noqa: E731  the test's own answer
    frame = join(rounds(4, 3, only()), rounds(4, 3, says, begun="2026-11-24 00:30:02", sender_ip=OURS2))
    for chart in (plot.grid, plot.lanes):
        assert heads(chart(frame, found)) == ["198.51.100.7", "✘ 198.51.100.8"]
    assert list(rows.Rows(frame, found).lines.k) == [0, 12]


def test_an_outage_counts_between_onset_and_recovery():
    frame = rounds(2, 30, lambda i, turn, hour: "mute" if 10 <= turn < 20 else "good", gap=60)
    bad = frame.started_at[frame.outcome.eq("failed")]
    cause = Cause("outage", "time", onset=bad.min(), recovery=bad.max())
    view = rows.Rows(frame, Diagnosis((cause,), "An outage."))
    assert (list(view.lines.k), list(view.lines.n)) == ([10, 10], [10, 10])
    assert view.since == "since 00:50 until 01:09 UTC"
    assert "turned 00:49 to 00:50, recovered 01:09 to 01:10" in texts(plot.lanes(frame, Diagnosis((cause,), "x")))


def test_a_slow_server_is_counted_by_its_evidence():
    frame = rounds(3, 4, only())
    slow = frame[frame.mx_ip.eq("192.0.2.12")][:3]
    cause = Cause("mx_slow", "mx_ip", ("192.0.2.12",), evidence=slow)
    view = rows.Rows(frame, Diagnosis((cause,), "192.0.2.12 is slow."))
    assert (view.word, list(view.lines.k)) == ("slow", [0, 3, 0])


def test_heatmap_counts_reasons_and_leaves_zeros_blank():
    frame = rounds(3, 4, lambda i, turn, _: "bad" if i == 1 else "mute" if (i, turn) == (0, 0) else "good")
    fig = plot.heatmap(frame)
    assert sorted(codes(fig)) == ["1", "3", "4", "✘ 4"]
    names = [label.get_text() for label in fig.axes[0].get_xticklabels()]
    assert names == ["accepted 250", "ip blocked 554", "network timeout"]


def test_staircase_tells_when_each_server_opened():
    frame = staircase()
    opened = frame[frame.outcome.eq("passed")].groupby("mx_ip").started_at.min()
    back = {ip: opened.get(ip, pd.NaT) for ip in frame.mx_ip.unique()}
    found = Diagnosis((Cause("delist_propagation", "mx_ip", tuple(back), recoveries=back),), "5 of 6 opened.")
    shuffled = frame.sample(frac=1, random_state=1)
    fig = plot.timeline(shuffled, found, notes=[(TIME, "asked for removal")])
    assert [head.split()[1] for head in heads(fig)] == sorted(back)
    said = texts(fig)
    assert "24 Nov 07:00  4 of 36" in said
    assert "not yet       36 of 36" in said
    assert "1  24 Nov 01:00  asked for removal" in fig.get_supxlabel().split("\n")


def test_timeline_counts_slots_and_flags_notes_in_order():
    late = TIME.tz_convert("Asia/Seoul") + pd.Timedelta(hours=1)
    fig = plot.timeline(stale(), STALE, notes=pd.DataFrame({"at": [late, TIME], "text": ["second", "first"]}))
    assert fig.get_supxlabel().split("\n")[:2] == ["1  24 Nov 01:00  first", "2  24 Nov 02:00  second"]
    assert {"1", "2", "accepted (15)", "refused (5)"} <= set(texts(fig))
    heights = dict.fromkeys(("///", None), 0)
    for bar in fig.axes[0].patches:
        heights[bar.get_hatch()] = heights.get(bar.get_hatch(), 0) + bar.get_height()
    assert (heights["///"], heights[None]) == (5, 15)


@pytest.mark.parametrize("chart", [plot.lanes, plot.timeline])
def test_a_probe_of_a_millisecond_fills_an_axis_of_milliseconds(chart):
    fast = stale().assign(started_at=TIME + pd.to_timedelta(range(0, 1000, 50), unit="us"))
    fig = chart(fast, STALE)
    said = texts(fig)
    assert "milliseconds after 24 Nov 2026 01:00:00.000000 UTC" in said
    assert {"0", "0.2", "0.8"} <= set(said)
    low, high = fig.axes[0].get_xlim()
    assert (high - low) * 86_400_000 == pytest.approx(1, abs=0.1)


def test_flags_of_close_notes_stand_above_each_other():
    hour = stale().assign(started_at=pd.date_range(TIME, periods=20, freq="3min"))
    notes = [(TIME + pd.Timedelta(after), "x") for after in ("5min", "6min", "30min")]
    fig = plot.timeline(hour, STALE, notes=notes)
    fig.draw_without_rendering()
    flags = [text.get_window_extent() for text in fig.axes[0].texts if text.get_text() in ("1", "2", "3")]
    assert len(flags) == 3
    assert not any(a.overlaps(b) for a, b in itertools.combinations(flags, 2))


def test_a_title_without_enough_evidence_says_what_is_seen():
    verdict = "Not enough evidence yet: " + ", ".join(f"192.0.2.{n}" for n in range(11, 41)) + " refused all."
    assert "192.0.2.40" in rows.Rows(stale(), Diagnosis((), verdict)).title


@each
def test_tls_that_failed_is_no_missing_answer(chart):
    table = pd.DataFrame({"mx_ip": ["192.0.2.11", "192.0.2.12"] * 4, "outcome": "failed"})
    table["error"] = ["tls_handshake", "timeout_reply"] * 4
    table["started_at"] = pd.date_range(TIME, periods=8, freq="5s")
    assert rows.Rows(table, None).facts.word.value_counts().to_dict() == {"TLS failed": 4, "no answer": 4}
    assert "4 without answer, 4 TLS failed" in chart(table).alt


def test_a_note_without_zone_is_refused():
    with pytest.raises(InvalidInput, match="no time zone"):
        plot.timeline(stale(), notes=[(pd.Timestamp("2026-11-24 01:00"), "x")])


@pytest.mark.parametrize(
    ("frame", "names"),
    [
        pytest.param(stale, ["192.0.2.14"], id="stale"),
        pytest.param(pairs, ["192.0.2.13"], id="pair"),
        pytest.param(lambda: rounds(12, 6, only(4, kind="busy")), ["192.0.2.15"], id="a block by 421"),
        pytest.param(lambda: rounds(6, 40, only(3, since=0.2), gap=20), ["192.0.2.14"], id="since an onset"),
        pytest.param(simpson, [], id="Simpson's trap"),
        pytest.param(lambda: rounds(6, 5, only()), [], id="healthy"),
    ],
)
def test_marks_and_counts_are_those_of_diagnose(frame, names):
    table = frame()
    found = diagnose(table)
    view = rows.Rows(table, found)
    marked = [line.label.split()[1] for line in view.lines.itertuples() if line.accused]
    assert marked == names
    if names:
        own = view.lines[view.lines.accused]
        assert f"{own.k.sum()} of {own.n.sum()} sessions" in found.verdict
        assert list(own.k) == [found.table.as_cause[names[0]]]


# ---- many rows, odd frames


def test_64_ips_are_folded_around_the_accused():
    frame = rounds(64, 15, only(37), gap=2)
    found = Diagnosis((Cause("mx_block", "mx_ip", ("192.0.2.48",)),), "192.0.2.48 refused 15 of 15 attempts.")
    fig = plot.grid(frame, found)
    shown = heads(fig)
    assert len(shown) == 13
    assert shown[-1] == "52 more"
    near = [head.split()[-3] for head in shown if head.split()[-1] == "20" and head != "52 more"]
    assert near == [f"192.0.2.{n}" for n in (46, 47, 48, 49, 50)]
    assert "0 of 780" in texts(fig)
    assert sum(rows.Rows(frame, found).lines.n) == len(frame)


def test_20_ips_are_not_folded():
    assert len(heads(plot.grid(rounds(20, 2, only())))) == 20


def test_many_rounds_become_slots_that_lose_no_attempt():
    frame = rounds(3, 40, only(1), gap=60)
    cells = [cell.removeprefix("✘ ").split("/") for cell in codes(plot.grid(frame))]
    assert sum(int(n) for _, n in cells) == 120
    assert sum(int(k) for k, _ in cells) == 40
    undated = frame.drop(columns="started_at")
    cells = [cell.removeprefix("✘ ").split("/") for cell in codes(plot.grid(undated))]
    assert sum(int(n) for _, n in cells) == 120


def test_withheld_rows_are_shown_and_counted_nowhere():
    frame = join(stale(), rounds(4, 1, lambda *_: "held", begun="2026-11-24 00:40"))
    fig = plot.grid(frame)
    assert codes(fig).count("paced") == 4
    assert {"0 of 5", "5 of 5"} <= set(texts(fig))
    assert "20 attempts (probe, up to rcpt)" in fig.alt
    assert "4 withheld by us, not counted" in fig.alt
    assert "1 withheld by us" in plot.lanes(stale().assign(error=["stopped"] + [None] * 19)).alt
    nothing = plot.forest(rounds(2, 1, lambda *_: "held"))
    assert "No attempt was made: 2 withheld by us" in nothing.alt


@each
def test_an_empty_frame_says_so(chart):
    fig = chart(attempts.frame())
    assert "This frame has no attempts" in fig.alt
    assert "Nothing to draw: no attempt in this frame was made." in texts(fig)


@each
def test_a_bare_table_is_enough(chart):
    fig = chart(
        pd.DataFrame({"mx_ip": ["192.0.2.1"] * 3, "code": [250, 554, None], "error": [None, None, "reset"]})
    )
    assert "1 of 3 attempts at 1 MX IP were accepted; 1 refused, 1 without answer" in fig.alt
    assert "3 without a time" in fig.alt
    fig.draw_without_rendering()


@each
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            {"started_at": stale().started_at.where(stale().index > 3)}, id="some without a time", marks=SLOW
        ),
        pytest.param({"started_at": TIME}, id="all at once", marks=SLOW),
        pytest.param({"started_at": stale().started_at.dt.tz_convert("Asia/Seoul")}, id="in Seoul", marks=SLOW),
        pytest.param({"started_at": stale().started_at.astype("str")}, id="times as text", marks=SLOW),
        pytest.param({"code": stale().code.astype("str"), "mx_pref": "ten"}, id="numbers as text", marks=SLOW),
        pytest.param({"mx_ip": stale().mx_ip.astype("category")}, id="categories", marks=SLOW),
    ],
)
def test_odd_columns_are_drawn(chart, change):
    twice = pd.concat([stale().assign(**change)] * 2)  # with each label of the index twice
    fig = chart(twice, STALE)
    fig.draw_without_rendering()
    assert "40 attempts" in chart(twice.assign(attempt_id=None, session=None), STALE).alt


def test_missing_columns_and_times_without_zone_are_refused_with_the_way_out():
    with pytest.raises(InvalidInput, match="read_table"):
        plot.grid(pd.DataFrame({"ip": ["192.0.2.1"]}))
    with pytest.raises(InvalidInput, match="tz_localize"):
        plot.grid(pd.DataFrame({"mx_ip": ["::1"], "code": [250], "started_at": [pd.Timestamp("2026-11-24")]}))


def test_recipients_of_one_session_count_once_up_to_mail():
    both = [row("busy", TIME, 0, session="s", recipient=who) for who in ("a@daum.example", "b@daum.example")]
    assert "1 deferred (1 attempt" in plot.grid(attempts.frame(both)).alt.replace("(daum.example, ", "(")
    late = [row("nobody", TIME, 0, session="s", recipient=who) for who in ("a@daum.example", "b@daum.example")]
    assert "2 refused" in plot.grid(attempts.frame(late)).alt


def test_what_has_not_ended_is_left_out():
    frame = join(
        stale(), rounds(1, 1, lambda *_: "good", begun="2026-11-24 00:40").assign(outcome=None, code=pd.NA)
    )
    assert "20 attempts" in plot.grid(frame).alt
    assert "withheld" not in plot.grid(frame).alt


def test_rows_that_never_had_an_address_are_rows():
    frame = attempts.frame([row("mute", TIME, 0, mx_ip=None, stage="dns", error="dns_nxdomain")])
    assert heads(plot.grid(frame)) == ["no address mx1 10"]
    assert codes(plot.grid(frame)) == ["dns_nxdomain"]


def test_ipv6_rows_are_in_full_and_sort_by_number():
    ips = ["2001:db8:85a3:8d3:1319:8a2e:370:7348", "2001:db8::9", "192.0.2.9"]
    frame = attempts.frame([row("good", TIME, 0, mx_ip=ip, mx_host="mx.daum.example") for ip in ips])
    assert [head.split()[0] for head in heads(plot.grid(frame))] == [ips[2], ips[1], ips[0]]


@pytest.mark.parametrize(
    ("hosts", "short"),
    [
        pytest.param([["mx1.a.example"], ["mx2.a.example"]], ["mx1", "mx2"], id="common part left out"),
        pytest.param([["mx.a.example"], ["mx.b.test"]], ["mx.a.example", "mx.b.test"], id="nothing in common"),
        pytest.param([["mx.a.example"], ["mx.a.example"]], ["mx", "mx"], id="one host, many addresses"),
        pytest.param([["a.example", "mx.a.example"]], ["a +1", "a +1"][:1], id="one name ends the other"),
        pytest.param([[], ["mx.a.example"]], ["", "mx"], id="unknown host"),
    ],
)
def test_short_host_names(hosts, short):
    assert rows.short_hosts(hosts) == short


def test_columns_of_the_row_heads_line_up_and_do_not_touch():
    view = rows.Rows(rounds(12, 1, only()), None)
    assert view.top.split() == ["MX", "IP", "host", "pref"]
    assert "host  pref" in view.top
    ends = [label.rstrip() for label in view.lines.label]
    assert {len(end) for end in ends} == {len(view.top)}


# ---- hostile and foreign text


EVIL = "$\\frac{x$ <img src=x onerror=alert(1)> \x1b[2J \u202e \U0001f4e7 \ue000 100% $y$\n\tnext"


@pytest.mark.slow
@each
def test_hostile_text_is_drawn_as_it_is(chart):
    frame = stale().assign(mx_host=f"{EVIL}.example", domain=EVIL, sender_ip=EVIL, mx_ip=f"{EVIL}9")
    frame["error"] = frame["error"].astype("object").where(frame.code.notna(), EVIL)
    fig = chart(frame, Diagnosis((), EVIL))
    if chart is plot.timeline:
        fig = chart(frame, Diagnosis((), EVIL), notes=[(TIME, EVIL)])
    said = "".join(texts(fig))  # warnings are errors: a glyph that is missing fails here
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert "\\u202e" in said
    assert not any(text.get_parse_math() for text in fig.findobj(Text) if "$" in text.get_text())
    assert "<img src=x" not in fig.img()
    assert fig.img().count("<") == 1


def test_korean_titles_are_drawn_in_korean():
    if not {"NanumGothic", "Noto Sans CJK KR", "Malgun Gothic", "Apple SD Gothic Neo"} & set(drawing.families()):
        assert drawing.inert("차단") == "\\ucc28\\ub2e8"
        return
    fig = plot.grid(stale(), Diagnosis(STALE.causes, "192.0.2.14 서버가 5회 중 5회를 거부했습니다."))
    assert "서버가" in "".join(texts(fig))


def test_no_font_has_it_no_warning(monkeypatch):
    monkeypatch.setattr(drawing, "_drawn", lambda mono, weight: frozenset(range(32, 127)))
    assert drawing.inert("차단 é ok") == "\\ucc28\\ub2e8 \\xe9 ok"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        pytest.param(
            "192.0.2.14 refused 28 of 28 attempts since 00:33 UTC; the 11 other MX IPs 0 of 211",
            ["192.0.2.14 refused 28 of 28 attempts since 00:33 UTC;", "the 11 other MX IPs 0 of 211"],
            id="between clauses",
        ),
        pytest.param("x" * 200, ["x" * 70] * 2 + ["x" * 60], id="a word longer than a line"),
        pytest.param("", [""], id="nothing"),
    ],
)
def test_titles_break_where_a_reader_would(text, lines):
    assert drawing.wrap(text, 494, 10.5, "bold", most=9).replace("\u00a0", " ").split("\n") == lines


def test_no_line_of_a_title_ends_inside_a_count():
    for width in range(130, 500, 7):
        lines = drawing.wrap("the 11 other MX IPs refused 0 of 211 attempts, 95 % sure", width, 10, "bold", 20)
        assert "0\u00a0of\u00a0211" in lines
        assert "95\u00a0%" in lines


# ---- the figure itself


@each
def test_seven_inches_white_and_opaque(chart):
    picture = png(drawn(chart))
    assert picture.shape[1] == 280
    assert (picture[0, 0] == 1).all()
    assert (picture[..., 3] == 1).all()


def test_nothing_global_changes_and_pyplot_is_not_told(monkeypatch):
    before = dict(mpl.rcParams)
    with mpl.rc_context(
        {"text.usetex": False, "axes.facecolor": "black", "savefig.transparent": True, "xtick.color": "w"}
    ):
        fig = plot.lanes(stale(), STALE)
        picture = png(fig)
    assert (picture[0, 0] == 1).all()
    assert dict(mpl.rcParams) == before
    colours = {tick.label1.get_color() for tick in fig.axes[0].xaxis.get_major_ticks()}
    assert "w" not in colours
    assert not Gcf.figs, "pyplot would show the chart a second time"


def test_a_notebook_gets_one_picture_with_alt_text(monkeypatch):
    from IPython.core.displaypub import DisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell
    from matplotlib.figure import Figure

    shell = InteractiveShell.instance()
    try:
        assert isinstance(shell.display_pub, DisplayPublisher)
        shell.display_formatter.active_types = list(shell.display_formatter.format_types)
        shell.display_formatter.formatters["image/png"].for_type(Figure, lambda fig: b"second picture")
        shown = []
        monkeypatch.setattr(shell.display_pub, "publish", lambda data, **more: shown.append(data))
        assert shell.display_formatter.format(plot.grid(stale(), STALE)) == ({}, {})
        monkeypatch.setattr(options, "html", False)
        shell.display_formatter.format(plot.grid(stale(), STALE))
        (page, data) = shown
        assert set(page) == {"text/plain", "text/html"}
        assert set(data) == {"text/plain", "image/png"}
        assert data["text/plain"].startswith("<Chart: Replies by MX IP and time. 192.0.2.14 refused 5 of 5")
    finally:
        InteractiveShell.clear_instance()


@pytest.mark.slow
@each
def test_axes_of_the_user_are_drawn_into(chart):
    from matplotlib.figure import Figure

    fig = Figure(figsize=(9, 5), layout="constrained", facecolor="black")
    ax = fig.subplots()
    assert chart(stale(), STALE, ax=ax) is fig
    assert "192.0.2.14 refused" in ax.get_title(loc="left")
    assert any("20 attempts" in text.replace("\u00a0", " ") for text in texts(fig))
    assert fig.get_facecolor() == (1, 1, 1, 1)


def test_in_axes_made_for_tex_no_words_of_others_are_tex_or_mathtext():
    from matplotlib.figure import Figure

    with mpl.rc_context({"text.usetex": True, "text.parse_math": True}):
        ax = Figure().subplots()
    fig = plot.grid(stale().assign(mx_host="$x$.example"), Diagnosis((), "$y$ refuses."), ax=ax)
    told = [text for text in fig.findobj(Text) if "$" in text.get_text()]
    assert len(told) > 4
    assert not any(text.get_usetex() or text.get_parse_math() for text in told)


def test_in_axes_that_nobody_lays_out_the_cells_have_the_room():
    from matplotlib.figure import Figure

    ax = Figure(figsize=(11, 8)).subplots(2, 2)[0, 0]
    plot.grid(stale(), STALE, ax=ax)
    assert min(text.get_fontsize() for text in ax.texts if text.get_text() == "250") > 6


# ---- colour


MACHADO = {  # Machado 2009, severity 1, in linear RGB
    "normal": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
XYZ = [
    [0.4124564, 0.3575761, 0.1804375],
    [0.2126729, 0.7151522, 0.0721750],
    [0.0193339, 0.1191920, 0.9503041],
]


def cielab(colour, kind):
    c = np.array(to_rgb(colour))
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(MACHADO[kind]) @ linear, 0, 1)
    x = np.array(XYZ) @ seen / [0.95047, 1, 1.08883]
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("kind", MACHADO)
def test_the_verdicts_stay_apart_for_every_eye(kind):
    colours = [cielab(look["color"], kind) for look in drawing.MARKS.values()]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(colours, 2)) >= 15


def test_never_by_colour_alone():
    assert len({look["marker"] for look in drawing.MARKS.values()}) == len(drawing.WORDS)
    cells = [(word == "refused", look.get("hatch", ""), look.get("ls", "")) for word, look in drawing.BOXES.items()]
    assert len(set(cells)) == len(cells)  # refused cells carry ✘ and bold white ink
    assert len({look.get("hatch", "") for look in drawing.BARS.values()}) == len(drawing.WORDS)
    assert drawing.MARKS["deferred"]["mec"] == drawing.INK
    shown = {look["color"] for look in drawing.MARKS.values()}
    assert shown == {drawing.OK, drawing.WAIT, drawing.BAD, drawing.MUTE, drawing.INK}
