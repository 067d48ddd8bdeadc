"""cells: charts made of cells: MX IP x round, x kind of reply, x sender IP, x accused recipient.

Not here: the public calls (plot), the rows and their counts (rows), heads and foot (drawing).
"""

from collections.abc import Callable, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from smtpkit import drawing
from smtpkit.drawing import BOXES, CROSS, INK, MUTE, inert, ink, say
from smtpkit.rows import Rows, ip_order, match

ROUNDS, COLUMNS = 12, 7
"""Rounds, and columns of a matrix, that are drawn one by one, at most."""
Say = Callable[[pd.DataFrame], tuple[str, str]]  # the look and the text of a cell with these attempts


def rounds(view: Rows, ax: Axes) -> None:
    f, top = view.facts[view.facts.dated], say(view.word)
    room, x = drawing.heads(ax, view.lines, view.of(), view.top, top)[1], f.groupby("key").cumcount()
    begun = f.groupby(x)["at"].min()
    days = begun.dt.date.nunique() > 1
    most = int(min(ROUNDS, max(4, room // (26 if days else 21))))
    if many := len(begun) > most:
        x, names = _slots(f["at"], int(max(3, min(most, room // 34))))
        view.foot += say(" \u00b7 cells: {}/attempts", top)
    else:
        wide = room / len(begun) > 36
        form = say("%d %b\n%H:%M") if days else "%H:%M:%S" if wide else "%H:%M"
        times = enumerate(begun.dt.strftime(form).fillna(""), 1)
        names = [say("round {}" if wide else "{}", number) + f"\n{at}" for number, at in times]
    _cells(ax, f, x, names, room, lambda part: _say(part, many))
    for y in view.lines.index[view.lines.accused]:
        _frame(ax, (len(names) - 1) / 2, y, len(names) + 0.06)


def _slots(at: pd.Series, most: int) -> tuple[pd.Series, list[str]]:
    """Each attempt's slot of time, `most` at most, and the slots' names; without times all in one."""
    if at.isna().any():
        return pd.Series(0, at.index), [say("all rounds")]
    edges, slot = drawing.slots(at, most)
    step = edges[1] - edges[0]
    day = "%d %b\n%Y" if edges[0].year < edges[-1].year else "%d %b"
    clock = day if step.days else "%H:%M\n%d %b" if step >= pd.Timedelta("1min") else "%H:%M:%S"
    return slot, list(edges[:-1].strftime(say(clock)))


def _say(part: pd.DataFrame, always: bool = True) -> tuple[str, str]:
    """One attempt by its code; several as hits of all made, other failures as "+1", in the prevailing look."""
    words, hit = part.word.to_numpy(object), part.hit.to_numpy(bool)
    made = words != "withheld"
    if not made.any() or (len(part) == 1 and not always):
        return words[0], inert(part.says.iloc[0])
    bad, other = words[made & hit], words[made & ~hit & (words != "accepted")]
    most = [some[0] for some in (bad, other) if 2 * len(some) >= made.sum()]
    text = f"{len(bad)}/{made.sum()}" + f" +{len(other)}" * bool(len(other))
    return (most or ["mixed" if len(bad) else "accepted"])[0], text


def matrix(view: Rows, ax: Axes, by: str) -> None:
    """MX IP x kind of reply: how many; x sender IP or recipient: k of n. What failed as a cause says is framed."""
    f = view.facts[view.facts.counted].assign(column=view.facts[by].fillna("unknown").str.replace("_", " "))
    worst = f.groupby("column").hit.agg(["sum", "size"]).sort_values(["sum", "size"], ascending=False).index
    names = sorted(worst[:COLUMNS], key=ip_order)
    x = f.column.map({name: x for x, name in enumerate(names)}).fillna(len(names)).astype("int64")
    tell: Say = (lambda part: (part.word.iloc[0], f"{len(part):,}")) if by == "kind" else _say
    side = [f"of {n:,}" for n in view.lines.n] if by == "kind" else view.of()
    room = drawing.heads(ax, view.lines, side, view.top, "attempts" if by == "kind" else say(view.word))[1]
    heads = [inert(f"from {name}" if by == "sender" else name) for name in [*names, "other"][: x.max() + 1]]
    points = room / len(heads)
    broken = [drawing.fill(head, 0.9 * points, _size(points)) for head in heads]
    heads = ["\n".join(lines if len(lines) < 16 else [*lines[:15], "\u2026"]) for lines in broken]
    drawing.taller(ax, 1.3 * _size(points) * (max(head.count("\n") for head in heads) - 1))
    _cells(ax, f, x, heads, room, tell)
    for cause in view.causes:
        framed = f.hit & match(f, cause, ["ip", "sender", "recipient"])
        for y, column in set(zip(f.y[framed], x[framed], strict=True)):
            _frame(ax, column, y, 0.98)


def _cells(ax: Axes, f: pd.DataFrame, x: pd.Series, names: Sequence[str], room: float, tell: Say) -> None:
    """A cell for all attempts of one row and column, and the columns' heads; how far cells reach nobody asks."""
    points = room / len(names)
    for (y, column), part in f.groupby([f.y, x]):
        word, text = tell(part)
        loud, box = word == "refused", BOXES[word]
        ax.add_artist(Rectangle((column - 0.47, y - 0.42), 0.94, 0.84, **{"ec": "#9A9A9A", "lw": 0.5} | box))
        text = f"{CROSS} {text}" if loud else text
        size = min(9, 0.88 * points / ((0.72 if loud else 0.62) * len(text)))
        colour = "white" if loud else MUTE if word == "withheld" else INK
        style = ink(size=size, color=colour, weight="bold" if loud else "normal", ha="center", va="center")
        ax.text(column, y, text, bbox={"boxstyle": "square,pad=0.15", "fc": box["fc"], "ec": "none"}, **style)
    ax.set_xticks(range(len(names)), list(names), **ink(size=_size(points)))
    ax.set_xlim(-0.6, max(len(names), 2) - 0.4)
    ax.tick_params(bottom=False)
    ax.spines["bottom"].set_visible(False)


def _size(points: float) -> float:
    """How large the heads of columns so wide are written."""
    return min(8.5, max(6.2, 0.17 * points))


def _frame(ax: Axes, x: float, y: float, wide: float) -> None:
    ax.add_patch(Rectangle((x - wide / 2, y - 0.48), wide, 0.96, fill=False, lw=1.8, ec=INK, zorder=4))
