"""errors: what smtpkit raises, sorted by whose mistake it was. Not here: what a server does (that is a row)."""

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
