"""drawing: what all charts share: inert text, a figure with alt text, row heads, title, foot, time axis.

Not here: which chart shows what (plot), counting (rows), colours, marks and fonts (data/charts.toml).
"""

import base64
import re
import tomllib
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from datetime import UTC
from functools import cache, lru_cache, partial
from typing import Any

import pandas as pd
from matplotlib import dates, style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from smtpkit.catalogue import data
from smtpkit.escape import html, one_line, options
from smtpkit.parts import picture

OK, WAIT, BAD, MUTE = "#0072B2", "#E69F00", "#B84A00", "#6B6B6B"
INK, BAND, CROSS = "#1B1B1B", "#FBEFE7", "\u2718"
WORDS = ("accepted", "deferred", "refused", "no answer", "TLS failed")
LOOK: dict[str, Any] = tomllib.loads(data("charts.toml").read_text(encoding="utf-8"))
MARKS, BOXES, BARS = LOOK["marks"], LOOK["boxes"], LOOK["bars"]
WIDTH, PAD, KEY, LETTER = 7.0, 9, 32, 0.602
"""Inches; points from row heads to axes, and from the axes down to the key; a monospaced letter's width in em."""
TONGUE = ContextVar("TONGUE", default="en")  # the language of a chart's words
look = partial(style.context, ["default", LOOK["style"]])
"""The charts' own style, whatever the user's; nothing global stays changed."""
_WORD = re.compile(" *[^ ]+")
_GLUE = re.compile(r"(?<=\d) (?=of \d|%|UTC|MX\b)|(?<=\d of) (?=\d)|(?<=\bMX) (?=IP)|(?<=\d-\d\d) (?=\d\d:)")


@cache
def families(mono: bool = False) -> list[str]:
    """The fonts to try, of those installed."""
    here = {font.name for font in fontManager.ttflist}
    return [name for name in LOOK["fonts"]["mono" if mono else "sans"] if name in here]


@cache
def _drawn(mono: bool, weight: str) -> frozenset[int]:
    """The code points that some font of the list can draw."""
    files = {findfont(FontProperties(family=[name], weight=weight)) for name in families(mono)}
    return frozenset(number for file in files for number in get_font(file).get_charmap())


def inert(text: object, mono: bool = False, weight: str = "normal") -> str:
    r"""Any text as one line that can be drawn: hidden characters, and those no font has, are written out.

    >>> inert("250 ok\x1b[2J\n"), inert("차단 \U0001f4e7")
    ('250 ok\\x1b[2J\\x0a', '차단 \\U0001f4e7')
    """
    known = _drawn(mono, weight)
    shown = one_line(str(text))
    return "".join(c if ord(c) in known else c.encode("ascii", "backslashreplace").decode() for c in shown)


def say(text: str, *values: object) -> str:
    """Words of ours in the charts' language (data/charts.toml), where a font can draw it; values filled in."""
    told = LOOK["words"].get(TONGUE.get(), {}).get(text, text)
    able = _drawn(False, "normal").issuperset(map(ord, told.replace("\n", "")))
    return str(told if able else text).format(*values)


def ink(mono: bool = False, **more: Any) -> dict[str, Any]:
    """Properties of every text we draw: our fonts, no TeX, no mathtext."""
    return {"family": families(mono), "color": INK, "parse_math": False, "usetex": False} | more


@lru_cache(10_000)
def _wide(word: str, size: float, weight: str, mono: bool = False) -> float:
    """What is drawn of it, in points."""
    font = FontProperties(family=families(mono), size=size, weight=weight)
    return float(text_to_path.get_text_width_height_descent(word, font, False)[0])


def letters(text: str) -> int:
    """How many monospaced letters wide it is drawn; Hangul is wider than a letter."""
    return len(text) if text.isascii() else round(_wide(text, 100, "normal", True) / (100 * LETTER))


def pad(texts: Iterable[str]) -> list[str]:
    """The texts with blanks behind them, all as wide as the widest."""
    wide = [(text, letters(text)) for text in texts]
    return [text + " " * (max(n for _, n in wide) - have) for text, have in wide]


def fill(text: str, width: float, size: float, weight: str = "normal", most: int = 99) -> list[str]:
    """`text` in lines no wider than `width` points; a wider word is broken at a sign, up to `most` lines."""
    lines = [""]

    def over(line: str) -> bool:
        return sum(_wide(word, size, weight) for word in _WORD.findall(line)) > 0.97 * width

    for part in _WORD.findall(text):
        if len(lines) > most:
            break
        if lines[-1] and over(lines[-1] + part):
            lines.append("")
        lines[-1] += part if lines[-1] else part.lstrip(" ")
        while len(lines[-1]) > 1 and len(lines) <= most and over(lines[-1]):
            line = lines.pop()
            some = range(1, min(len(line), int(5 * width / size) + 2))  # none is narrower than size/5
            cut = max(1, bisect_left(some, True, key=lambda n: over(line[:n])))
            cut = max(line.rfind(sign, 0, cut) + 1 for sign in ".:@/-") or cut
            lines += [line[:cut], line[cut:]]
    return lines


def wrap(text: str, width: float, size: float, weight: str = "normal", most: int = 4) -> str:
    """`text` in lines of `width` points, broken between clauses if it fits so, never inside "0 of 211"."""
    text = _GLUE.sub("\u00a0", text)
    plain = fill(text, width, size, weight, most)
    clauses = [line for part in re.split("(?<=[;.:]) +", text) for line in fill(part, width, size, weight, most)]
    lines = clauses if len(clauses) <= len(plain) else plain
    return "\n".join(lines if len(lines) <= most else [*lines[: most - 1], f"{lines[most - 1]} \u2026"])


class Chart(Figure):
    """A figure that pyplot does not know and that says in `alt` what it shows: `<img alt=...>` in a notebook."""

    alt: str = ""

    def savefig(self, fname: Any, **more: Any) -> None:
        with look():
            super().savefig(fname, **({"dpi": 150} | more))

    def __repr__(self) -> str:
        return f"<Chart: {self.alt}>"

    def img(self) -> str:
        """The picture as one HTML element without outside requests."""
        shape = f'width="{96 * self.get_figwidth():.0f}" style="max-width:100%;background:#fff"'
        octets = base64.b64encode(picture(self)[0]).decode()
        return f'<img alt="{html(self.alt)}" {shape} src="data:image/png;base64,{octets}">'

    def _ipython_display_(self) -> None:
        """One picture: IPython's inline backend would add a second, without alt text, to every Figure."""
        from IPython.display import display

        shown = {"text/html": self.img()} if options.html else {"image/png": picture(self)[0]}
        display({"text/plain": repr(self)} | shown, raw=True)  # type: ignore[no-untyped-call]  # IPython has no types


def root(ax: Axes) -> Any:
    """The figure that the axes lie in."""
    return ax.get_figure(root=True)


def across(ax: Axes) -> float:
    """Points that a chart may fill: its figure's width, or that of the user's axes."""
    fig = root(ax)
    return 72 * float(fig.get_figwidth() * (0.98 if isinstance(fig, Chart) else ax.get_position().width))


def sheet(height: float, ax: Axes | None) -> Axes:
    """The axes of a new chart `height` inches high, or `ax` made ready: white, without a box."""
    made: Axes = ax or Chart(figsize=(WIDTH, height), layout="constrained").subplots()
    root(made).set_facecolor("white")
    made.set_facecolor("white")
    made.spines[["top", "right", "left"]].set_visible(False)
    made.tick_params(colors=INK)
    return made


def finish(ax: Axes, kind: str, title: str, facts: str, down: float = 40) -> Figure:
    """Title above, notes and facts at the foot (`down` points under the user's own axes), both as alt text."""
    fig, own = root(ax), isinstance(root(ax), Chart)
    size = 10.5 if own else 9.5
    title, lines = inert(title, weight="bold"), [inert(line) for line in facts.split("\n")]
    head = wrap(title, across(ax), size, "bold")
    foot = "\n".join(wrap(line, across(ax), 7.5) for line in lines)
    if own:
        fig.suptitle(head, x=0.01, ha="left", **ink(size=size, weight="bold"))
        fig.supxlabel(foot, x=0.01, ha="left", **ink(size=7.5, color="#444444"))
        taller(ax, 72 * (0.19 * head.count("\n") + 0.14 * foot.count("\n")))
        fig.alt = f"{kind}. {title} ({lines[-1]})"
    else:
        ax.set_title(head, loc="left", pad=18, **ink(size=size, weight="bold"))
        put(ax, foot, (0, 0), (0, -down), **ink(size=8, va="top"))
    return fig  # type: ignore[no-any-return]  # a Figure


def taller(ax: Axes, points: float) -> None:
    """Room for what stands beside the axes of a chart of ours; the user's own figure stays as it is."""
    if isinstance(fig := root(ax), Chart):
        fig.set_figheight(fig.get_figheight() + max(0, points) / 72)


def put(ax: Axes, text: str, at: tuple[Any, Any], by: tuple[float, float], **more: Any) -> None:
    """Words at `at` (in fractions of the axes, or as xycoords says), `by` points beside it."""
    style: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom"}
    ax.annotate(text, at, by, **style | more)


def heads(ax: Axes, lines: pd.DataFrame, side: Sequence[str], top: str, right: str) -> tuple[float, float]:
    """Left of each row its label, right its counts; gives the points that labels take, and what the axes have."""
    wide = max(map(letters, lines.label))
    size = min(8.5 if len(lines) <= 20 else 7, 420 / wide)
    text = ink(mono=True, size=size)
    ax.set_yticks(range(len(lines)), lines.label, **text)
    ax.tick_params(axis="y", length=0, pad=PAD)
    ax.set_ylim(len(lines) - 0.4, -0.6)
    for y, label in enumerate(ax.get_yticklabels()):
        weight = "bold" if lines.accused[y] else "normal"
        label.set(fontweight=weight, va="center")
        row = {"xycoords": ("axes fraction", "data"), "va": "center", "weight": weight}
        put(ax, side[y], (1, y), (8, 0), **text | row)
        if lines.accused[y]:
            ax.axhspan(y - 0.5, y + 0.5, color=BAND, zorder=0, lw=0)
    put(ax, top, (0, 1), (-PAD, 3), ha="right", **text | {"color": MUTE})
    put(ax, right, (1, 1), (8, 3), **text | {"color": MUTE})
    left, right_side = (LETTER * size * n for n in (wide, max(map(letters, [*side, right]))))
    beside = PAD + left + right_side + 15 if root(ax).get_layout_engine() else 0  # else they lie outside
    return PAD + left, across(ax) - beside


def clock(ax: Axes, begun: pd.Timestamp, ended: pd.Timestamp, room: float) -> None:
    """A time axis in UTC with as many ticks as `room` points hold; below a second in ms from its beginning."""
    most, margin = int(min(9, max(5, room / 45))), (ended - begun) * 0.02
    if ended - begun < pd.Timedelta("1s"):
        steps = MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(0, (ended - begun) / pd.Timedelta("1ms"))
        ax.set_xticks([begun + pd.Timedelta(step, "ms") for step in steps], [f"{step:g}" for step in steps])
        ax.set_xlabel(say("milliseconds after {:%d %b %Y %H:%M:%S.%f} UTC", begun), loc="right", **ink(size=8))
    else:
        ticks: Any = dates.AutoDateLocator(tz=UTC, minticks=3, maxticks=most)  # type: ignore[no-untyped-call]  # matplotlib.dates has no types
        ticks.intervald |= {getattr(dates, unit): steps for unit, steps in LOOK["ticks"].items()}
        ax.xaxis.set_major_locator(ticks)
        clock = {name: [say(form) for form in forms] for name, forms in LOOK["clock"].items()}
        ax.xaxis.set_major_formatter(dates.ConciseDateFormatter(ticks, tz=UTC, **clock))  # type: ignore[no-untyped-call]  # the same
    ax.set_xlim(begun - margin, ended + margin)


def slots(at: pd.Series, most: int) -> tuple[pd.DatetimeIndex, pd.Series]:
    """The edges of slots of a usual length, `most` at most, that hold all these times; and each time's slot."""
    span = (at.max() - at.min()) or pd.Timedelta("30s")
    year = pd.Timedelta("364D")
    longer = (span // ((most - 1) * year) + 1) * year
    step = next((step for step in map(pd.Timedelta, LOOK["slots"]) if span < (most - 1) * step), longer)
    begun, end = at.min().floor(step), at.max().floor(step) + step
    if end - begun == step:  # one slot alone would be as wide as the axis
        begun, end = begun - step, end + step
    return pd.date_range(begun, end, freq=step), (at - begun) // step


def legend(ax: Axes, handles: Sequence[Any], left: float) -> None:
    """The key of the marks under the time axis, `left` points left of the axes' edge."""
    place = ax.transAxes + ScaledTranslation(-left / 72, -KEY / 72, root(ax).dpi_scale_trans)
    spot: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, 0), "bbox_transform": place}
    ax.legend(handles=list(handles), ncols=4, prop=FontProperties(family=families(), size=8), **spot)
