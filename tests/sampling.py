"""sampling: of a big table of like rows the fast run takes some, CI takes all."""

from collections.abc import Iterable
from typing import Any

import pytest


def some(rows: Iterable[Any], every: int = 8) -> list[Any]:
    """The rows as parameters; all but each `every`th are marked slow."""
    return [row if n % every == 0 else pytest.param(row, marks=pytest.mark.slow) for n, row in enumerate(rows)]
