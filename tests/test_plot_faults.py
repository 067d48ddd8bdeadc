"""Pictures and tables whose words lay over each other, were cut, or said a wrong figure; one row a fault."""

import itertools
import re
import warnings

import pandas as pd
import pytest
from matplotlib.text import Text

from smtpkit import plot
from smtpkit.diagnosis import diagnose
from smtpkit.styling import style
from tests.frames import only, rounds

pytestmark = pytest.mark.slow

BEGUN = pd.Timestamp("2026-01-20 00:30", tz="UTC")
V6 = [f"2001:db8:1234:5678:9abc:def0:1111:100{n}" for n in range(3)]


def over(span, n=3, turns=12, says=None, ips=None):
    """Rounds that take `span` in all."""
    frame = rounds(n, turns, says or only(1))
    steps = pd.Timedelta(span) / (len(frame) - 1)
    frame["started_at"] = [BEGUN + number * steps for number in range(len(frame))]
    return frame.assign(mx_ip=[ips[number % n] for number in range(len(frame))]) if ips else frame


def words(fig):
    """Each text that is seen, with the box it is drawn in; ticks out of sight are none."""
    fig.draw_without_rendering()
    ax = fig.axes[0]
    lost = [
        label
        for axis, (low, high) in ((ax.xaxis, sorted(ax.get_xlim())), (ax.yaxis, sorted(ax.get_ylim())))
        for tick in axis.get_major_ticks()
        for label in (tick.label1, tick.label2)
        if not low <= tick.get_loc() <= high
    ]
    seen = [text for text in fig.findobj(Text) if text.get_text().strip() and text.get_visible()]
    return [(text.get_text(), text.get_window_extent()) for text in seen if text not in lost]


def crossing(fig):
    """Pairs of texts that lie over each other, and texts that leave the picture."""
    seen = words(fig)
    pairs = [
        (a, b)
        for (a, one), (b, two) in itertools.combinations(seen, 2)
        if min(one.x1, two.x1) - max(one.x0, two.x0) > 2 and min(one.y1, two.y1) - max(one.y0, two.y0) > 2
    ]
    return pairs + [text for text, box in seen if box.x0 < -1 or box.x1 > fig.bbox.width + 1]


@pytest.mark.parametrize(
    ("span", "ips"),
    [
        pytest.param("3600D", None, id="ten years"),
        pytest.param("20500D", None, id="one stamp of 1970"),
        pytest.param("2500D", V6, id="seven years of IPv6, which has less room"),
    ],
)
def test_a_grid_of_many_years_is_drawn_and_loses_no_attempt(span, ips):
    fig = plot.grid(over(span, turns=14, ips=ips))
    counts = [text.partition("/")[2] for text, _ in words(fig) if re.fullmatch(r"(✘ )?\d+/\d+", text)]
    assert sum(map(int, counts)) == 42


def test_slots_of_two_years_have_their_year():
    assert {"2026", "2027"} <= {text.partition("\n")[2] for text, _ in words(plot.grid(over("400D", turns=40)))}


@pytest.mark.parametrize("chart", [plot.lanes, plot.timeline], ids=["lanes", "timeline"])
@pytest.mark.parametrize(
    ("span", "ips"),
    [("170min", None), ("50h", V6), ("60h", None), ("180D", None), ("360D", None), ("800D", V6), ("1000D", None)],
)
def test_a_time_axis_says_utc_has_ticks_and_warns_of_nothing(chart, span, ips):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fig = chart(over(span, ips=ips))
        assert any("UTC" in text and "attempts" not in text for text, _ in words(fig))
    low, high = fig.axes[0].get_xlim()
    assert sum(low <= tick <= high for tick in fig.axes[0].get_xticks()) > 1


LONG = [f"mx{n}-inbound-with-a-long-name.region-{n}.mail-{n}.example.net" for n in range(3)]
OUTAGE = lambda i, turn, _: "bad" if i == 1 and 60 < turn < 120 else "good"  # noqa: E731  one expression


@pytest.mark.parametrize("chart", [plot.lanes, plot.forest, plot.timeline], ids=lambda one: one.__name__)
@pytest.mark.parametrize("ips", [None, V6], ids=["IPv4", "IPv6 with long hosts"])
def test_words_at_the_turns_stay_clear_of_the_heads_and_in_the_picture(chart, ips):
    frame = over("200h", turns=200, says=OUTAGE, ips=ips)
    frame = frame.assign(mx_host=[LONG[n % 3] for n in range(len(frame))]) if ips else frame
    found = diagnose(frame)
    assert found.causes[0].recovery is not None
    assert crossing(chart(frame, found)) == []


@pytest.mark.parametrize("number", [1, 4, 12])
def test_notes_upon_each_other_leave_the_bars_their_height(number):
    notes = [(BEGUN + pd.Timedelta(minutes=n), "asked") for n in range(number)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fig = plot.timeline(over("200h"), notes=notes)
        fig.draw_without_rendering()
    assert fig.axes[0].get_window_extent().height / fig.dpi > 1.4


def test_long_recipients_leave_the_cells_their_height():
    frame = over("2h", turns=24)
    frame["recipient"] = [f"first.name.and.surname.{n % 9}@department.of.some.daum.example" for n in range(72)]
    bad = frame.recipient.str.contains("surname.3")
    frame.loc[bad, ["outcome", "code", "reply"]] = ["rejected", 550, "550 5.1.1 No such user"]
    frame.loc[~bad, ["outcome", "code", "reply"]] = ["passed", 250, "250 Ok"]
    fig = plot.heatmap(frame, diagnose(frame))
    assert crossing(fig) == []
    assert fig.axes[0].get_window_extent().height / fig.dpi > 0.7


@pytest.mark.parametrize("chart", [plot.forest, plot.heatmap, plot.lanes, plot.timeline], ids=lambda c: c.__name__)
def test_what_was_withheld_is_no_empty_chart_with_an_axis(chart):
    said = [text for text, _ in words(chart(rounds(3, 2, lambda *_: "held")))]
    assert "Nothing to draw: no attempt in this frame was made." in said
    assert not any(text.replace("\u2212", "-").startswith(("-0", "0.", "paced")) for text in said)


def test_servers_that_open_within_a_minute_are_told_apart():
    frame = rounds(3, 30, lambda i, turn, _: "bad" if turn < 6 * (i + 1) else "good", gap=0.5)
    found = diagnose(frame)
    assert found.causes[0].kind == "delist_propagation"
    opened = re.findall(r"since about (\S+) UTC", found.verdict)
    drawn = [
        text.split()[0] for text, _ in words(plot.timeline(frame, found)) if re.match(r"\d\d:\d\d:\d\d +\d", text)
    ]
    assert drawn == opened
    assert len(set(opened)) == 3


@pytest.mark.parametrize(
    ("figure", "shown"),
    [
        pytest.param(12345.0, "12345", id="a count beside a gap"),
        pytest.param(1234567.0, "1234567", id="octets"),
        pytest.param(1764205432.25, "1764205432.25", id="seconds since 1970"),
        pytest.param(-20483.0, "-20483", id="below zero"),
        pytest.param(0.123456, "0.1235", id="a rate"),
        pytest.param(float("inf"), "inf", id="no end"),
    ],
)
def test_a_figure_is_shown_as_it_is(figure, shown):
    page = style(pd.DataFrame({"n": [figure, None]})).to_html()
    assert re.findall(r"<td[^>]*>([^<]*)</td>", page) == [shown, ""]
