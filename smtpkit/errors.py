"""errors: what smtpkit raises, sorted by whose mistake it was. Not here: what a server does (that is a row)."""

import os
from collections.abc import Collection, Iterable
from math import inf
from pathlib import Path
from typing import Any


class SmtpkitError(Exception):
    """Base of all errors of ours; `str()` says what was wrong, with the value, and what to do next."""

    def _render_traceback_(self) -> list[str]:
        """Two lines instead of a page in a notebook; `sk.options.debug = True` gives the page back."""
        from smtpkit.escape import options, visible

        if options.debug:
            import traceback

            return traceback.format_exception(self)
        return [f"{type(self).__name__}: {visible(str(self))}", *map(visible, getattr(self, "__notes__", []))]


class InvalidInput(SmtpkitError, ValueError):
    """The caller's value cannot be used; nothing was sent and nothing recorded."""


class StoreError(SmtpkitError, OSError):
    """The casebook or ledger cannot be read or written; nothing is sent without it."""


class NotAllowed(SmtpkitError, PermissionError):
    """The guard refuses this address; a campaign turns it into a row with outcome withheld."""


class EngineFault(SmtpkitError, RuntimeError):
    """The worker failed by a fault of ours; every live attempt was ended as interrupted."""


def refuse(what: str, value: Any, why: str, instead: str) -> InvalidInput:
    """Build the error for a bad value: what it is, the value as it came, why, and what to write instead.

    >>> str(refuse("recipient", "a b", "has a blank", "quote it or leave it out"))
    "recipient 'a b' has a blank; quote it or leave it out"
    """
    shown = repr(value)
    if len(shown) > 1000:  # a whole file or frame, given for something else
        shown = f"{shown[:1000]}... ({len(shown)} characters)"
    return InvalidInput(f"{what} {shown} {why}; {instead}")


def of_kind(what: str, value: Any, kind: Any, instead: str) -> Any:
    """`value`, if it is of that kind; InvalidInput if not."""
    if not isinstance(value, kind):
        wanted = "text" if kind is str else getattr(kind, "__name__", kind)
        raise refuse(what, value, f"is {type(value).__name__}, not {wanted}", instead)
    return value


def flag(what: str, value: Any) -> bool:
    """`value`, if it is True or False (numpy's too): "no" and "False" would count as yes."""
    return bool(of_kind(what, _plain(value), bool, "write True or False"))


def one_of(what: str, value: Any, known: Collection[str], why: str = "is not known") -> Any:
    """`value`, if it is one of the words `known`; InvalidInput with these if not."""
    if not isinstance(value, str) or value not in known:
        raise refuse(what, value, why, f"choose one of {', '.join(known)}")
    return value


def quantity(what: str, value: Any, least: float = 0, most: float = inf, *, whole: bool = False) -> Any:
    """`value` as a number of Python's (numpy's are taken), from `least` to `most`; InvalidInput if it is none."""
    made = _plain(value)
    if not isinstance(made, int if whole else int | float) or isinstance(made, bool) or not least <= made <= most:
        span = ("above 0" if 0 < least < 1 else f"of {least:,g} or more") + f", up to {most:,.0f}" * (most < inf)
        raise refuse(what, value, f"is no {'whole ' * whole}number {span}", "write one")
    return made


def _plain(value: Any) -> Any:
    """A number of numpy's as Python's."""
    return value.item() if getattr(value, "shape", None) == () else value


def listed(what: str, given: Any) -> list[Any]:
    """One thing or several as a list; InvalidInput for what is neither.

    >>> listed("to", "r@daum.example"), listed("to", ("a@b.example",))
    (['r@daum.example'], ['a@b.example'])
    """
    if isinstance(given, (str, bytes, os.PathLike)):
        return [given]
    return list(of_kind(what, given, Iterable, "give one, or a list of them"))


def pair_of(what: str, given: Any, instead: str) -> Any:
    """`given`, if it is a pair of two things; InvalidInput if not."""
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise refuse(what, given, "is no pair", instead)
    return given


def path_of(what: str, given: Any) -> Path:
    """`given` as a Path; InvalidInput if it is no path."""
    path = Path(of_kind(what, given, str | os.PathLike, "give a path as text or as a Path"))
    if "\0" in str(path) or any(len(part.encode("utf-8", "surrogatepass")) > 255 for part in path.parts):
        raise refuse(what, given, "can be no path", "give the name of a file, not what stands in it")
    return path
