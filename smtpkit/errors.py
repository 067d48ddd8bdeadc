"""errors: what smtpkit raises, sorted by whose mistake it was. Not here: what a server does (that is a row)."""

import os
from collections.abc import Iterable
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
    return InvalidInput(f"{what} {value!r} {why}; {instead}")


def listed(what: str, given: Any) -> list[Any]:
    """One thing or several as a list; InvalidInput for what is neither.

    >>> listed("to", "r@daum.example"), listed("to", ("a@b.example",))
    (['r@daum.example'], ['a@b.example'])
    """
    if isinstance(given, (str, bytes, os.PathLike)):
        return [given]
    if not isinstance(given, Iterable):
        raise refuse(what, given, f"is {type(given).__name__}, no list", "give one, or a list of them")
    return list(given)


def path_of(what: str, given: Any) -> Path:
    """`given` as a Path; InvalidInput if it is no path.

    >>> path_of("casebook", "c.sqlite").name
    'c.sqlite'
    """
    if not isinstance(given, (str, os.PathLike)) or isinstance(os.fspath(given), bytes):
        raise refuse(what, given, f"is {type(given).__name__}, no path", "give one as text or as a Path")
    return Path(given)
