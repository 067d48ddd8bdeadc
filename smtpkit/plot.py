"""plot: the five charts. Each takes an attempts frame and a Diagnosis and draws them; it judges nothing.

Each returns a matplotlib Figure 7 inches wide whose `alt` says what it shows; with `ax=` it draws into your axes.
Not here: cells, heads and foot (cells, drawing), which rows (rows), who is guilty (diagnosis).
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from smtpkit import cells, drawing, rows
from smtpkit.counts import moments
from smtpkit.drawing import BAD, BARS, INK, MARKS, MUTE, OK, WORDS, inert, ink, say
from smtpkit.errors import listed, of_kind, pair_of, refuse
from smtpkit.rows import Rows

if TYPE_CHECKING:
    from smtpkit.diagnosis import Diagnosis

    Notes: TypeAlias = pd.DataFrame | Iterable[tuple[Any, str]]

Draw = Callable[[Rows, Axes], None]
_PIXELS = 1400  # more marks than this beside each other cannot be told apart


def grid(frame: pd.DataFrame, diagnosis: "Diagnosis | None" = None, *, ax: Axes | None = None) -> Figure:
    """MX IP x round, the reply code in each cell; the accused row is framed, bold and marked.

    More rounds than there is room for are counted in slots of time; beyond 20 rows the quiet ones are folded into
    one. Withheld attempts are shown and counted nowhere. The frame needs `mx_ip` and one of `outcome`, `code`,
    `error`; the diagnosis gives the title and who is marked, without it the title only counts.

    Raises InvalidInput: needed columns are missing, or `started_at` has no time zone.

    >>> grid(pd.DataFrame({"mx_ip": ["192.0.2.11"], "code": [250]})).alt[:74]
    'Replies by MX IP and time. 1 of 1 attempts at 1 MX IP were accepted (1 att'
    """
    return _chart(say("Replies by MX IP and time"), rows.Rows(frame, diagnosis), ax, 0.32, 0.75, cells.rounds)


def forest(frame: pd.DataFrame, diagnosis: "Diagnosis | None" = None, *, ax: Axes | None = None) -> Figure:
    """Share of refusals per MX IP (per recipient if one is the first cause) with its Wilson 95 % interval and k/n.

    Highest first; dashed: the others' rate. Parameters and errors as `grid`.

    >>> forest(pd.DataFrame({"mx_ip": ["192.0.2.11"], "code": [550]})).alt[:72]
    'Share refused by MX IP. 0 of 1 attempts at 1 MX IP were accepted; 1 refu'
    """
    view = rows.Rows(frame, diagnosis, order="rate")
    return _chart(say("Share {} by {}", say(view.word), say(view.unit)), view, ax, 0.22, 1.0, _forest)


def _forest(view: Rows, ax: Axes) -> None:
    lines = view.lines[view.lines.n > 0]
    for y, line in lines.iterrows():
        colour, marker = (BAD, "D") if line.accused else (MUTE, "o")
        ax.plot([100 * line.low, 100 * line.high], [y, y], color=colour, lw=2, solid_capstyle="butt")
        ax.plot(100 * line.k / line.n, y, marker, color=colour, ms=6, clip_on=False, zorder=3)
    rest = lines[~lines.accused]
    if lines.accused.any() and len(rest):
        ax.axvline(100 * rest.k.sum() / rest.n.sum(), color=INK, ls="--", lw=0.9)
    right = say("{}/n +other" if lines.other.any() else "{}/n", say(view.word))
    room = drawing.heads(ax, view.lines, view.of("{:,}/{:,}"), view.top, right)[1]
    label = say("{}, % of attempts {} (Wilson 95 % interval)", say(view.word), view.since)
    ax.set_xlabel(drawing.wrap(label.replace("  ", " "), room, 8), **ink(size=8))
    ax.set_xlim(0, 100)
    ax.grid(axis="x", color="#E3E3E3", lw=0.6)


def lanes(frame: pd.DataFrame, diagnosis: "Diagnosis | None" = None, *, ax: Axes | None = None) -> Figure:
    """Every attempt over time, one lane an MX IP; failures sit higher, marks differ by shape.

    The turn is the grey span between the last good and the first bad attempt, a recovery a bar in its lane.
    Parameters and errors as `grid`.

    >>> lanes(pd.DataFrame({"mx_ip": ["192.0.2.11"], "code": [250]})).alt[:60]
    'Attempts over time by MX IP. 1 of 1 attempts at 1 MX IP were'
    """
    view = rows.Rows(frame, diagnosis)
    return _chart(say("Attempts over time by MX IP"), view, ax, 0.24, 0.9, _lanes, timed=True)


def _lanes(view: Rows, ax: Axes) -> None:
    left, room = drawing.heads(ax, view.lines, view.of(), view.top, say(view.word))
    f, (begun, ended) = view.facts, _axis(view, ax, room)
    f["pixel"] = ((f["at"] - begun) / (ended - begun) * _PIXELS).round()
    seen, shown = f.dropna(subset="at").drop_duplicates(["y", "word", "pixel"]), list[Any]()
    back = view.lines.back.dropna()
    for word in [word for word in WORDS if f.word.eq(word).any()]:
        mine, label = seen[seen.word == word], f"{say(word)} ({f.word[f['at'].notna()].eq(word).sum():,})"
        shown += ax.plot(mine["at"], mine.y - 0.13 * (word != "accepted"), ls="", label=label, **MARKS[word])
    ax.vlines(back, back.index - 0.42, back.index + 0.42, color=INK, lw=2)
    drawing.legend(ax, shown, left)


def timeline(
    frame: pd.DataFrame, diagnosis: "Diagnosis | None" = None, *, notes: "Notes" = (), ax: Axes | None = None
) -> Figure:
    """Attempts counted over time; or, if the diagnosis knows recoveries, their staircase, one bar an MX IP.

    notes: case notes, (time, text) pairs or a frame with columns `at` and `text`: numbered flags on the time axis,
    in words at the foot. Other parameters and errors as `grid`; InvalidInput also for a note without a time zone.

    >>> at = pd.Timestamp("2026-11-24 09:00", tz="UTC")
    >>> table = pd.DataFrame({"mx_ip": ["192.0.2.11"], "code": [250], "started_at": [at]})
    >>> timeline(table, notes=[(at, "asked for removal")]).alt[:66]
    'Attempts over time. 1 of 1 attempts at 1 MX IP were accepted (1 at'
    """
    if not isinstance(notes, pd.DataFrame):
        pairs = [pair_of("notes", one, "give (time, text) pairs") for one in listed("notes", notes)]
        notes = pd.DataFrame(pairs, columns=["at", "text"])
    if not {"at", "text"} <= set(notes):
        raise refuse("notes", list(notes), "lack at or text", "give Casebook.notes(), or (time, text) pairs")
    rows.zoned(notes["at"].astype("str").fillna("no time"))
    view = rows.Rows(frame, diagnosis, order="back")
    view.notes = sorted(zip(moments(notes["at"]), map(inert, notes.text), strict=True))
    if view.lines.back.notna().any():
        return _chart("Recovery of each MX IP", view, ax, 0.27, 0.9, _stairs, timed=True)
    return _chart("Attempts over time", view, ax, 0.0, 2.7, _counts, timed=True)


def _counts(view: Rows, ax: Axes) -> None:
    """Attempts in slots of time: what failed at the foot of each bar, accepted above it."""
    f, shown = view.facts.dropna(subset="at"), list[Any]()
    edges, slot = drawing.slots(f["at"], 40)
    below = np.zeros(len(edges) - 1)
    for word in reversed(WORDS):
        n = np.bincount(slot[f.word == word], minlength=len(below))
        look = {"label": f"{word} ({n.sum():,})", "align": "edge", "lw": 0.5} | BARS[word]
        shown += [ax.bar(edges[:-1], n, np.diff(edges), below, **look)] * bool(n.any())
        below += n
    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    days = (edges[1] - edges[0]).days
    each = f"{days} days" if days > 1 else "day" if days else edges.freqstr
    ax.set_ylabel(f"attempts per {each}", **ink(size=8))
    _axis(view, ax, drawing.across(ax) - 60, edges)
    drawing.legend(ax, shown[::-1], 0)


def _stairs(view: Rows, ax: Axes) -> None:
    """One bar a row from its first refusal to its recovery, rows in the order of recovery: a staircase."""
    back = view.lines.back
    shut = view.facts[view.facts.hit].groupby("y")["at"].min().reindex(back.index)
    form = view.clock if view.clock.endswith("S") else "%d %b %H:%M"
    when = back.dt.strftime(form).fillna("not yet").where(shut.notna(), "never shut")
    side = [f"{text:<12}  {of}" for text, of in zip(when, view.of(), strict=True)]
    left, room = drawing.heads(ax, view.lines, side, view.top, f"{'open since':<12}  {say(view.word)}")
    _axis(view, ax, room)
    begun, ended = view.facts["at"].min(), view.facts["at"].max()  # a note may lie outside
    free, steps = back.fillna(ended).where(shut.notna(), begun), back.dropna()
    shut = shut.fillna(begun)
    bad = ax.barh(back.index, free - shut, left=shut, height=0.6, lw=0.5, label=view.word, **BARS["refused"])
    good = ax.barh(back.index, ended - free, left=free, height=0.25, lw=0, label="accepted", fc=OK)
    ax.step(steps, steps.index, where="pre", color=INK, lw=1.2)
    dots = ax.plot(steps, steps.index, "D", ms=4, color=INK, label="opened, about")
    drawing.legend(ax, [bad, good, *dots], left)


def _axis(view: Rows, ax: Axes, room: float, edges: Iterable[Any] = ()) -> tuple[pd.Timestamp, pd.Timestamp]:
    """The time axis: notes as numbered flags, grey spans where the accused turned bad or good again."""
    times = [view.facts["at"].min(), view.facts["at"].max(), *(at for at, _ in view.notes), *edges]
    spare = pd.Timedelta("1s") * int(min(times) == max(times))
    begun, ended = min(times) - spare, max(times) + spare
    drawing.clock(ax, begun, ended, room)
    flag = {"bbox": {"boxstyle": "circle,pad=0.2", "fc": INK, "ec": "white"}, "weight": "bold"}
    flag |= ink(size=7, color="white", ha="center", xycoords=("data", "axes fraction"))
    level, top, before = 0, 0, begun
    for number, (at, _) in enumerate(view.notes, 1):  # a flag too near to the one before stands above it
        level = level + 1 if number > 1 and at - before < (ended - begun) / 40 else 0
        top, before = max(top, level), at
        ax.axvline(at, color=INK, lw=0.8, ls=":")
        drawing.put(ax, str(number), (at, 1), (0, 5 + 14 * level), **flag)
    said, words = {"onset": "turned {:{}} to {:{}}", "recovery": "recovered {:{}} to {:{}}"}, list[str]()
    for name, (first, last) in view.turns.items():
        words.append(say(said[name], first, view.clock, last, view.clock))
        ax.axvspan(first, last, color=INK, alpha=0.13, lw=0)
    head = (",\n" if len(drawing.fill(", ".join(words), room, 8)) > 1 else ", ").join(words)
    drawing.put(ax, head, (0.5, 1), (0, (18 + 14 * top) if view.notes else 3), ha="center", **ink(size=8))
    drawing.taller(ax, 14 * top + 10 * head.count("\n"))
    return begun, ended


def heatmap(frame: pd.DataFrame, diagnosis: "Diagnosis | None" = None, *, ax: Axes | None = None) -> Figure:
    """MX IP x kind of reply; x sender IP, if there are several; x recipient, if one is the first cause.

    A pair that never met stays blank. Parameters and errors as `grid`.

    >>> heatmap(pd.DataFrame({"mx_ip": ["192.0.2.11"], "code": [250]})).get_size_inches()[0].item()
    7.0
    """
    view = rows.Rows(frame, diagnosis, unit="ip")
    by = "sender" if view.facts.sender.nunique() > 1 else "kind"
    by = "recipient" if view.about == "recipient" else by
    kind = f"{'Replies' if by == 'kind' else view.word.capitalize()} by MX IP and {by}"
    return _chart(kind, view, ax, 0.32, 1.0, lambda view, ax: cells.matrix(view, ax, by))


def _chart(
    kind: str, view: Rows, ax: Axes | None, each: float, base: float, draw: Draw, timed: bool = False
) -> Figure:
    """One chart: `each` inches a row, `base` for axis and key; words where nothing can be drawn."""
    of_kind("ax", ax, Axes | None, "give one of matplotlib's, such as plt.subplots()[1]")
    n, why = len(view.lines), ""
    if view.facts.word.eq("withheld").all() and not (n and draw is cells.rounds):
        n, why = 0, "no attempt in this frame was made."
    elif timed and view.facts["at"].isna().all():
        why = "no row has a started_at."
    with drawing.look():
        canvas = drawing.sheet(0.75 + base + each * n * (1 if n <= rows.MOST else 0.75), ax)
        if why:
            canvas.set_axis_off()
            drawing.put(canvas, say(f"Nothing to draw: {why}"), (0.5, 0.5), (0, 0), ha="center", **ink(color=MUTE))
        else:
            draw(view, canvas)
        foot = [f"{i}  {at:%d %b %H:%M}  {text}" for i, (at, text) in enumerate(view.notes, 1)] + [view.foot]
        return drawing.finish(canvas, kind, view.title, "\n".join(foot), 60 if timed else 40)
