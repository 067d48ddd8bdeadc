"""progress: one line that says how far a run is; its last state stays. Not here: what is counted (campaign)."""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any, cast

from smtpkit import escape

GAP = 1 / 8
"""Seconds between updates; one costs a kernel about 1 ms."""
YOUNG = 1.0
"""Seconds before anything is shown."""


class Progress:
    """`show(...)` as often as you like; drawn 8 times a second at the most, and once at the end."""

    def __init__(self, label: str, unit: str = "sessions") -> None:
        self.label, self.unit, self.text = label, unit, ""
        self.begun, self._last = time.monotonic(), 0.0
        self._done, self._total = 0, 0
        self._handle: Any = None

    def show(self, done: int, total: int, said: str, *, last: bool = False) -> None:
        """Say how far it is; nothing is drawn in the first second."""
        now = time.monotonic()
        young = now - self.begun < YOUNG and self._handle is None
        if young or not (last or now - self._last >= GAP) or not escape.options.progress:
            return
        self._last, self._done, self._total = now, done, max(total, done, 1)
        self.text = f"{self.label}: {done} of {total} {self.unit}, {said}, {now - self.begun:.0f} s"
        with suppress(OSError, ValueError):  # the front end is gone, or stderr is closed: the run goes on
            self._draw(last)

    def _draw(self, last: bool) -> None:
        if self._handle is None:
            self._handle = _notebook(self) or "terminal"
        elif self._handle != "terminal":
            self._handle.update(self)
        if self._handle == "terminal" and (last or sys.stderr.isatty()):
            begin, end = "\r\x1b[K" * sys.stderr.isatty(), "\n" * last
            sys.stderr.write(f"{begin}{escape.one_line(self.text)}{end}")
            sys.stderr.flush()

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        label = escape.html(self.label)
        bar = f"<progress value='{self._done}' max='{self._total}' aria-label='{label}'></progress>"
        return f"<div role='status' aria-live='polite'>{bar} {escape.html(self.text)}</div>"


def during(label: str, unit: str, *works: Callable[[], Any]) -> list[Any]:
    """What each of `works` gives, side by side, with a line that tells how long it takes; an interrupt leaves them.

    >>> during("sums", "answers", lambda: 1 + 1, lambda: 2 + 2)
    [2, 4]
    """
    pool, line, number = ThreadPoolExecutor(len(works)), Progress(label, unit), len(works)
    try:
        running = [pool.submit(work) for work in works]
        while left := wait(running, GAP).not_done:
            line.show(number - len(left), number, "waiting for the others")
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    line.show(number, number, "done", last=True)
    return [one.result() for one in running]


def _notebook(progress: Progress) -> Any:
    """A display handle if a kernel shows this process, else None."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython
    from IPython.display import display

    return cast("Any", display)(progress, display_id=True) if hasattr(get_ipython(), "kernel") else None
