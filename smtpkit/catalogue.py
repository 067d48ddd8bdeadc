"""catalogue: finds, reads and fills in the files of data/. Not here: what the rows mean."""

import csv
import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from smtpkit.errors import InvalidInput, path_of
from smtpkit.escape import visible


def data(name: str = "") -> Path:
    """The path of a file in data/, in a wheel as in a checkout.

    Raises InvalidInput if there is no such file.

    >>> data("provider_codes.csv").name
    'provider_codes.csv'
    """
    inside = Path(__file__).with_name("data")
    folder = inside if inside.is_dir() else Path(__file__).parents[1] / "data"
    path = folder / path_of("name", name)
    if not path.exists():
        known = ", ".join(sorted(p.name for p in folder.iterdir()))
        raise InvalidInput(f"no file {name!r} in data/; there are: {known}")
    return path


@cache
def rows(name: str) -> tuple[dict[str, str], ...]:
    """The rows of a CSV file in data/ as dicts, in the file's order; read once."""
    with data(name).open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def render(name: str, **words: Any) -> str:
    """The template `name`.j2 of data/ with `words` in it; in a page each is escaped, and none may be missing."""
    return str(_template(name).render(words))


@cache
def _template(name: str) -> Any:
    import jinja2

    counts = name.startswith(("letter", "report", "verdict"))  # elsewhere a number may be a port
    more: Any = {"finalize": lambda thing: f"{thing:,}" if counts and type(thing) is int else thing}
    more |= {"autoescape": name.endswith(".html"), "keep_trailing_newline": True, "trim_blocks": True}
    env = jinja2.Environment(undefined=jinja2.StrictUndefined, **more)
    env.filters["visible"] = lambda thing: visible(str(thing))
    return env.from_string(data(f"{name}.j2").read_text("utf-8"))


def patterns(module: str) -> SimpleNamespace:
    """How a module knows texts (data/patterns.csv), compiled, case aside.

    >>> patterns("words").code.match("550 no")[1]
    '550'
    """
    own = {row["name"]: row["pattern"] for row in rows("patterns.csv") if row["module"] == module}
    return SimpleNamespace(**{name: re.compile(text, re.IGNORECASE | re.MULTILINE) for name, text in own.items()})
