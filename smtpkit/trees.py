"""trees: an SPF record as a picture. Not here: reading the record (checks.spf), colours and fonts (drawing)."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smtpkit import drawing
from smtpkit.drawing import BAD, INK, MUTE, OK, WAIT, inert, ink

MOST_ROWS, MOST_TERMS = 40, 10  # RFC 7208 4.6.4
_LOOK = {"pass": ("\u2714", OK), "softfail": ("~", WAIT), "no match": ("\u00b7", MUTE), "": ("", MUTE)}
_LOOK |= dict.fromkeys(("neutral", "temperror"), ("?", MUTE))
_FOOT = "bars: DNS terms and all below \u00b7 \u2714 match \u00b7 ~ softfail \u00b7 dot: none, grey: not reached"


def spf_tree(tree: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Draw the frame of `checks.spf.tree`: one row a term, indented below its include; a bar a cost.

    Terms that matched are bold and marked, unreached ones grey. Beyond 40 rows the rest is counted in a line.
    `ax`: axes to draw into; by default a new chart.
    """
    root, shown, left = tree.iloc[0], tree.iloc[:MOST_ROWS], len(tree) - MOST_ROWS
    says = f"{root.domain}: {root.result + ', ' if root.result else ''}{root.total} of {MOST_TERMS} DNS terms"
    with drawing.look():
        canvas = drawing.sheet(0.7 + 0.2 * len(shown), ax)
        for y, row in enumerate(shown.itertuples()):
            _line(canvas, -y, row)
        canvas.set(xlim=(0, 100), ylim=(-len(shown) + 0.4, 0.8), xticks=[], yticks=[])
        canvas.spines["bottom"].set_visible(False)
        foot = f"{left} more terms \u00b7 {_FOOT}" if left > 0 else _FOOT
        return drawing.finish(canvas, "SPF record as a tree", says, foot, 20)


def _line(ax: Axes, y: float, row: Any) -> None:
    mark, colour = _LOOK.get(row.result, ("\u2718", BAD))
    text = inert(f"{row.domain}  {row.term}" if row.depth == 0 else row.term, mono=True)
    text = (text if len(text) < 70 else f"{text[:67]}...") + (f"   {inert(row.note)}" if row.note else "")
    x, weight = 2 + 3 * min(row.depth, 12), "normal" if row.result in ("", "no match") else "bold"
    style: dict[str, Any] = {"size": 7.5, "va": "center"}
    ax.text(x - 1.8, y, mark, **ink(size=9, color=colour, va="center", weight="bold"))
    ax.text(x, y, text, **ink(mono=True, **style, weight=weight, color=INK if row.result else MUTE))
    if row.total:
        width, over = 1.6 * min(row.total, MOST_TERMS), row.total > MOST_TERMS
        colour, hatch = (BAD, "///") if over else ("#E6F0F7", "")
        ax.barh(y, width, 0.55, left=80, ec=INK, lw=0.5, color=colour, hatch=hatch)
        ax.text(81 + width, y, str(row.total), **ink(**style))
