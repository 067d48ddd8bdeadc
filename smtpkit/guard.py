"""guard: who may be written to; the gate around every step. Not here: connecting (network), pacing (limits)."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from smtpkit.address import host_name, mailbox
from smtpkit.errors import listed, quantity
from smtpkit.steps import Ask, Effect, Got, Lost, MarkDot, Step, Verdict

_PATH, _MORE = rb'<((?:"(?:[^"\\]|\\.)*"|[^">])*)>', rb"(?:\s+[A-Za-z0-9-]+(?:=[^\s<>]*)?)*\s*$"
_RCPT = re.compile(rb"(?i)\s*RCPT\b(?:\s+TO\s*:\s*%s(?=%s))?" % (_PATH, _MORE))
_HANDS_OVER = re.compile(rb"(?i)\s*(DATA|BDAT|BURL|TURN|ETRN|SEND|SOML|SAML)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Whom a send may reach, and how much of it; empty allow_to = nobody, "*" = everybody.

    An entry is a mailbox ("r@daum.example") or a domain ("@example.org", that domain only, and no local part
    that relays, such as v%b.example). Raises InvalidInput for an entry that is neither. The environment's
    SMTPKIT_NO_SEND=1 overrides everything.

    >>> Guard(allow_to=["@Example.org"]).may_deliver("a@example.org")
    True
    >>> Guard().may_deliver("a@example.org")
    False
    """

    allow_to: Sequence[str] = ()
    max_messages: int = 20
    """Copies handed over in one run."""
    max_connections: int = 200
    """Sessions in one run."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "allow_to", tuple(map(_entry, listed("allow_to", self.allow_to))))
        for name in ("max_messages", "max_connections"):
            object.__setattr__(self, name, quantity(name, getattr(self, name), whole=True))

    def may_deliver(self, recipient: str) -> bool:
        """Whether DATA and later are allowed for this recipient; compared in normal form."""
        if os.environ.get("SMTPKIT_NO_SEND", "") not in ("", "0"):
            return False
        made = mailbox(recipient)
        local, _, domain = made.rpartition("@")
        whole = "*" if re.search("[%!@]", local) else f"@{domain}"  # v%b.example@domain: relayed from there
        return any(one in ("*", made, whole) for one in self.allow_to)


def _entry(text: str) -> str:
    if text == "*":
        return text
    if isinstance(text, str) and text.startswith("@"):
        return "@" + host_name("allow_to", text[1:])
    return mailbox(text, "allow_to")


def gate(step: Step, guard: Guard, live: bool, named: Sequence[str] | None) -> Step:
    """`step`, with every effect looked at before it leaves; what is not allowed is answered Lost("guard").

    RCPT may name only `named` recipients (None: whomever the user types); DATA and later need `live` and a guard
    that allows every recipient named so far on this connection. It holds for raw commands typed by hand too: the
    octets are read.
    """
    named, said, body = named if named is None else tuple(map(mailbox, named)), set[str](), False
    try:
        effect = next(step)
        while True:
            ours = body and not isinstance(effect, MarkDot)  # a server may call anything a message
            why = "" if ours else _why_not(effect, guard, live, named, said)
            got: Got = Lost("guard", text=why) if why else (yield effect)
            body = _message_next(effect, got, body)
            effect = step.send(got)
    except StopIteration as end:
        verdicts: tuple[Verdict, ...] = end.value
        return verdicts


def _message_next(effect: Effect, got: Got, body: bool) -> bool:
    """Whether the server now takes octets as the message, not as commands."""
    if body:
        return not (isinstance(effect, Ask) and effect.stages)
    asked = isinstance(effect, Ask) and effect.data.rstrip().upper().endswith(b"DATA")
    return asked and isinstance(got, list) and bool(got) and got[-1].code == 354


def _why_not(effect: Effect, guard: Guard, live: bool, named: tuple[str, ...] | None, said: set[str]) -> str:
    """Why this effect may not leave; "" if it may."""
    if isinstance(effect, MarkDot):
        return _may_hand_over(guard, live, said)
    for line in effect.data.split(b"\n") if isinstance(effect, Ask) else ():
        if match := _RCPT.match(line):
            why = _may_name(match[1], guard, named, said)
        else:
            why = _may_hand_over(guard, live, said) if _HANDS_OVER.match(line) else ""
        if why:
            return why
    return ""


def _may_name(octets: bytes | None, guard: Guard, named: tuple[str, ...] | None, said: set[str]) -> str:
    try:
        recipient = mailbox((octets or b"").decode())
    except ValueError:  # not UTF-8, or no mailbox: a guard cannot know whom it reaches
        return f"recipient {octets!r} is no mailbox that the guard can read"
    said.add(recipient)
    allowed = named is None or recipient in named or guard.may_deliver(recipient)
    return "" if allowed else f"{recipient} is not named and not in allow_to"


def _may_hand_over(guard: Guard, live: bool, said: set[str]) -> str:
    if not live:
        return "DATA needs live=True"
    if not said:
        return "no RCPT has named a recipient yet: the guard cannot know whom it would reach"
    barred = sorted(one for one in said if not guard.may_deliver(one))
    return f"{', '.join(barred)} not in allow_to (or SMTPKIT_NO_SEND is set)" if barred else ""
