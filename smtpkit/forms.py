"""forms: what all forms share: fields that keep their values, a status line, work that never blocks the page.

Not here: the forms themselves (widgets), what they do (probing, sending, by_hand).
"""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import ipywidgets as W  # noqa: N812  the name that its users write

from smtpkit import escape
from smtpkit.catalogue import data, rows

Work = Coroutine[Any, Any, None]
_KEPT: dict[tuple[str, str], Any] = {}
"""Values by form and field: a cell that is run again gives its form back as it was. Never a secret."""


class Raw(str):
    """Python that stands in a call as it is."""

    __slots__ = ()
    __repr__ = str.__str__


def call(function: str, *given: Any, **named: Any) -> Raw:
    """A call as it stands in Python."""
    words = [*map(repr, given), *(f"{name}={value!r}" for name, value in named.items())]
    return Raw(f"{function}({', '.join(words)})")


def page() -> W.HTML:
    """An HTML area; what is put into it is made by us, every text from outside escaped."""
    return W.HTML(layout=W.Layout(width="auto"))


def row(*widgets: W.Widget) -> W.HBox:
    """Widgets beside each other, under the fields and not under their labels."""
    return W.HBox(widgets).add_class("sk-row")


def block(text: str, label: str) -> str:
    """Any text as a block that keeps its lines, shows its end, can be reached by keyboard and has a name."""
    inner = escape.pre(text)
    return f'<div class="sk-log" tabindex="0" role="region" aria-label="{escape.html(label)}">{inner}</div>'


class Form(W.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """A form: fields and buttons (data/forms.csv), a status line, work in the background; its error is kept.

    A button begins the work of its name in the notebook's own loop, and is disabled while that runs.
    """

    def __init__(self, network: Any = None) -> None:
        self.network = network
        self.error: Exception | None = None
        self.fields: dict[str, Any] = {}
        self.buttons: dict[str, W.Button] = {}
        self.status, self.line = page(), page()
        self._tasks: set[asyncio.Future[Any]] = set()
        super().__init__()
        self.add_class("smtpkit-form")
        for one in rows("forms.csv"):
            if one["form"] == type(self).__name__:
                made = getattr(W, one["kind"])(description=one["label"], **json.loads(one["settings"]))
                if one["kind"] == "Button":
                    self._button(one["name"], made)
                else:
                    self._field(one["name"], made, kept=one["kept"] == "yes")

    def show(self, *below: W.Widget) -> None:
        """Lay out the style sheet, the fields and what stands below them."""
        css = W.HTML(f"<style>{data('form.css').read_text('utf-8')}</style>")
        self.children = [css, *self.fields.values(), *below]
        self.changed()

    def _field(self, name: str, made: W.Widget, kept: bool) -> None:
        """A field of this form; if `kept` it has the value that it had in the form before."""
        key = (type(self).__name__, name)
        if kept:
            made.value = _KEPT.get(key, made.value)
            made.observe(lambda change: _KEPT.__setitem__(key, change["new"]), "value")
        made.observe(lambda _change: self.changed(), "value")
        self.fields[name] = made.add_class("sk-field").add_class(f"sk-{name}")

    def _button(self, name: str, made: W.Button) -> None:
        made.on_click(lambda _: None if made.disabled else self.begin(getattr(self, name)(), made))
        self.buttons[name] = made

    def value(self, name: str) -> Any:
        """The value of a field, blanks around a text left out."""
        value = self.fields[name].value
        return value.strip() if isinstance(value, str) else value

    def changed(self) -> None:
        """Called when a field changes."""

    def arm(self) -> None:
        """Called when work has ended: which buttons may be pressed now."""

    def begin(self, work: Work, button: W.Button) -> None:
        """Start work; the reference is kept, else it might be collected. A double click starts it once."""
        button.disabled = True
        task = asyncio.get_running_loop().create_task(self.watched(work, button))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def watched(self, work: Work, button: W.Button) -> None:
        """Do the work and show its error: a notebook drops what a callback raises."""
        self.error = None
        try:
            await work
        except Exception as error:
            self.error = error
            self.say(f"{type(error).__name__}: {error}", bad=True)
        finally:
            button.disabled = False
            self.arm()

    def say(self, text: str, bad: bool = False) -> None:
        """The status line; screen readers read it out."""
        kind, mark = ("bad", "\u2718 ") if bad else ("good", "")
        self.status.value = f'<div role="status" class="{kind}">{mark}{escape.html(text)}</div>'

    def show_call(self, function: str, *given: Any, **named: Any) -> None:
        """The one line of Python that does the same."""
        usual = {"tls": "may", "mx": "first", "rounds": 5, "live": False}
        told = {name: value for name, value in named.items() if value not in (None, "", usual.get(name))}
        told |= {} if self.network is None else {"network": Raw("network")}
        text = escape.html(call(f"sk.{function}", *given, **told))
        self.line.value = f'<div class="quiet">the same as <code>{text}</code></div>'
