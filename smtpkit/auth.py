"""auth: SASL on submission ports: PLAIN, LOGIN, CRAM-MD5, XOAUTH2. Not here: who asks for it (by_hand).

Every octet that holds a secret goes out with a redacted `shown`; no repr, transcript, traceback or error has it.
"""

import hmac
import os
from base64 import b64decode, b64encode
from collections.abc import Generator
from dataclasses import replace
from getpass import getpass
from pathlib import Path

from smtpkit.errors import InvalidInput, refuse
from smtpkit.reply import Reply
from smtpkit.steps import Ask, Asking, Over, Verdict, ask

MECHANISMS = ("CRAM-MD5", "PLAIN", "LOGIN", "XOAUTH2")
"""In the order tried: the one that does not show the password first."""


class Secret:
    """A password or token that never shows itself; `Secret.find()` asks environment, file, then the user.

    >>> Secret("hunter2")
    Secret(***)
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        if not (isinstance(text, str) and text and text.isprintable()):
            raise InvalidInput("the password is empty, no text, or has a control character; nothing was sent")
        self._text = text

    @classmethod
    def find(cls, prompt: str = "password: ") -> "Secret":
        """SMTPKIT_PASSWORD, the file that SMTPKIT_PASSWORD_FILE names, else getpass."""
        if text := os.environ.get("SMTPKIT_PASSWORD"):
            return cls(text)
        if path := os.environ.get("SMTPKIT_PASSWORD_FILE"):
            try:
                return cls(Path(path).read_text(encoding="utf-8").rstrip("\r\n"))
            except (OSError, UnicodeDecodeError):  # whose traceback has the octets
                raise refuse("SMTPKIT_PASSWORD_FILE", path, "is no readable file of UTF-8", "mend it") from None
        return cls(getpass(prompt))

    def reveal(self) -> str:
        """The text itself, for the wire only."""
        return self._text

    def masked(self, reply: Reply, user: str) -> Reply:
        """The reply without this secret, plain or as AUTH writes it: some servers quote what they were sent."""
        raw = reply.raw
        for text in (f"\0{user}\0{self._text}", _bearer(user, self._text), self._text):
            raw = raw.replace(_b64(text).encode(), b"***").replace(text.encode(), b"***")
        return replace(reply, raw=raw)

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce__(self) -> tuple[object, ...]:
        raise InvalidInput("a Secret is not pickled; make it anew where it is needed")


class _Wire(bytes):
    """Octets that a traceback with values does not show."""

    def __repr__(self) -> str:
        return "b'***'"


def login(mechanism: str, user: str, secret: Secret) -> Asking:
    """The AUTH exchange of one mechanism (RFC 4954); ends the road unless the server says 235.

    A 334 that asks for more than the mechanism has, or is no challenge, is cancelled with `*`.
    """
    lines = _lines(mechanism, user, secret)
    data = _Wire(f"AUTH {mechanism} {next(lines)}".strip().encode() + b"\r\n")
    reply = yield from ask("auth", data, shown=f"AUTH {mechanism} ***")
    while reply.code == 334:
        try:
            data = _Wire(lines.send(reply.text.strip()).encode() + b"\r\n")
        except (StopIteration, ValueError):
            got = yield Ask(b"*\r\n", ("auth",))
            cancelled = got[-1] if isinstance(got, list) else None
            raise Over(Verdict("auth", "failed", cancelled, "protocol")) from None
        reply = yield from ask("auth", data, shown="***")
    return reply


def _b64(text: str) -> str:
    return b64encode(text.encode()).decode()


def _bearer(user: str, token: str) -> str:
    return f"user={user}\1auth=Bearer {token}\1\1"


def _lines(mechanism: str, user: str, secret: Secret) -> Generator[str, str, None]:
    """Our lines, each made from the challenge before it; the first is the initial response, "" for none."""
    match mechanism:
        case "PLAIN":  # RFC 4616
            yield _b64(f"\0{user}\0{secret.reveal()}")
        case "LOGIN":
            yield ""
            yield _b64(user)
            yield _b64(secret.reveal())
        case "CRAM-MD5":  # RFC 2195
            challenge = yield ""
            octets = b64decode(challenge, validate=True)
            yield _b64(f"{user} {hmac.new(secret.reveal().encode(), octets, 'md5').hexdigest()}")
        case _:  # XOAUTH2
            yield _b64(_bearer(user, secret.reveal()))
            yield ""  # the error details came as a challenge; an empty line ends it
