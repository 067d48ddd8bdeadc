"""steps: the dialogue as a generator that asks for effects; no socket, no clock, no thread.

Belongs here: effects, what comes back, which replies let a dialogue go on, the road from connect to QUIT.
Not here: octets on sockets (engine), who may be written to (guard), AUTH's mechanisms (auth).
"""

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from smtpkit.address import Envelope
from smtpkit.reply import Reply

Tls = Literal["off", "may", "require", "verify", "implicit"]


@dataclass(frozen=True, slots=True)
class Lost:
    """What an effect is answered with when the connection gave no usable answer; after it a step returns."""

    error: str
    unsent: int = 0
    """Octets that the kernel did not take: a dot that never left cannot have delivered anything."""
    replies: tuple[Reply, ...] = ()
    """Replies that did come, in order, before the loss."""
    code: None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Connect:
    """Open the connection; answered with None or Lost."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Send octets, wait for one reply a stage (no stage: only send); answered with list[Reply] or Lost."""

    data: bytes = b""
    stages: tuple[str, ...] = ()
    wait: Literal["reply", "final", "quit"] = "reply"
    shown: str | None = None
    """The command as a transcript may show it, where it holds a secret."""
    decided: "tuple[Verdict, ...]" = ()
    """What is certain already when this leaves: QUIT is not waited for before it is written down."""


@dataclass(frozen=True, slots=True)
class Secure:
    """TLS handshake; octets that were still unread make it Lost (RFC 3207, CVE-2011-0411)."""


@dataclass(frozen=True, slots=True)
class MarkDot:
    """Resumed only once "the dot is about to leave" is on disk for these recipients (positions)."""

    recipients: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True)
class Park:
    """Wait for the user; answered by the user's next effect, None (leave), or Lost."""


Effect = Connect | Ask | Secure | MarkDot | Park
Got = list[Reply] | Lost | Effect | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where and how it was decided for one recipient (or the session, if there is none)."""

    stage: str
    outcome: str
    reply: Reply | None = None
    error: str | None = None
    maybe: bool = False
    """The final dot left and no refusal came back."""
    cut: bool = False
    """Nothing more may be said: it would be a line of a message without its dot, or go to a server that is done."""


Step = Generator[Effect, Got, tuple[Verdict, ...]]
Asking = Generator[Effect, Got, Reply]

# RFC 5321 4.3.2; 235 and 334: RFC 4954; 251, 252: RCPT that will be forwarded, or cannot be verified.
FINE: dict[str, tuple[int, ...]] = {
    "banner": (220,), "ehlo": (250,), "starttls": (220,), "auth": (235, 334), "mail": (250,),
    "rcpt": (250, 251, 252), "data": (354,), "body": (250,),
}  # fmt: skip
NO_EHLO = frozenset((500, 501, 502, 504))
"""To these HELO is the next question (RFC 5321 3.2); any other refusal of EHLO is meant for us."""


def judge(stage: str, got: Got, dot: bool = False) -> Verdict | None:
    """The verdict that `got` forces at `stage`; None: go on. `dot`: the final dot was sent with this.

    >>> judge("rcpt", [Reply(550, b"550 no")]).outcome, judge("mail", [Reply(250, b"250 ok")])
    ('rejected', None)
    """
    if isinstance(got, Lost):
        early = got.replies[-1] if got.replies and (stage == "body" or got.replies[-1].code == 421) else None
        if early and (told := _refusal(stage, early)):
            return replace(told, cut=True)
        maybe, ended = dot and not got.unsent, "withheld" if got.error in ("guard", "paced") else "failed"
        return Verdict(stage, "unknown" if maybe else ended, early, got.error, maybe)
    if not isinstance(got, list) or not got:
        return None
    reply = got[-1]
    if not reply.broken and reply.code in FINE[stage]:
        return None
    if told := _refusal(stage, reply):
        return told
    error = "too_long" if "too_long" in reply.anomalies else "protocol"
    return Verdict(stage, "unknown" if dot else "failed", reply, error, dot)


def _refusal(stage: str, reply: Reply) -> Verdict | None:
    """A clean 4xx or 5xx; 552 at RCPT that means "too many recipients" is for later (RFC 5321 4.5.3.1.10)."""
    if reply.broken or reply.code not in range(400, 600):
        return None
    many = stage == "rcpt" and reply.code == 552 and re.search(r"(?i)\b5\.5\.3\b|too many recip", reply.text)
    return Verdict(stage, "deferred" if many or reply.code in range(400, 500) else "rejected", reply)


class Over(Exception):
    """The road ends here; its `args` are the verdicts."""


def need(stage: str, effect: Effect) -> Generator[Effect, Got, Got]:
    """What the effect is answered with; ends the road when that does not let it go on."""
    got = yield effect
    if end := judge(stage, got):
        raise Over(end)
    return got


def ask(stage: str, data: bytes, *, shown: str | None = None) -> Asking:
    """One command, one reply; ends the road when the reply does not let it go on."""
    got = yield from need(stage, Ask(data, (stage,), shown=shown))
    assert isinstance(got, list)
    return got[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """What one session shall do: how it greets, how far it goes, what it hands over."""

    helo: str
    tls: Tls = "may"
    until: str = "ehlo"
    """The last stage asked; "body" hands the message over."""
    envelope: Envelope | None = None
    body: bytes = b""
    """Wire octets of the message: CRLF, dot-stuffed, without the final dot."""
    size: int = 0
    needs_8bit: bool = False
    needs_smtputf8: bool = False
    pipeline: bool = False


Offers = Mapping[str, str]


def offers(reply: Reply) -> dict[str, str]:
    """The extensions of an EHLO reply: keyword in capitals to its parameters (RFC 5321 4.1.1.1).

    >>> offers(Reply(250, b"250-mx\\r\\n250-size 1000\\r\\n250 AUTH=LOGIN PLAIN\\r\\n"))
    {'SIZE': '1000', 'AUTH': 'LOGIN PLAIN'}
    """
    found: dict[str, str] = {}
    for line in reply.lines[1:]:
        word, _, more = re.sub(r"(?i)^AUTH=", "AUTH ", line).replace("\t", " ").strip().partition(" ")
        found.setdefault(word.upper(), more.strip())
    return found


def session(talk: Talk) -> Step:
    """One session from connect to QUIT; one Verdict a recipient, one if there is none.

    After a protocol error, a loss or a 421 nothing more is said; otherwise QUIT, whose reply decides nothing.
    """
    count = len(talk.envelope.recipients) if talk.envelope else 1
    try:
        verdicts = yield from _road(talk)
    except Over as over:
        verdicts = over.args if len(over.args) == count else over.args[:1] * count
    if all(leaves_politely(verdict) for verdict in verdicts):
        yield Ask(b"QUIT\r\n", ("quit",), "quit", decided=verdicts)
    return verdicts


def leaves_politely(verdict: Verdict) -> bool:
    """Whether the connection is still sound enough for QUIT."""
    well = verdict.error in (None, "not_offered") and (verdict.reply is None or verdict.reply.code != 421)
    return well and not verdict.cut  # then a QUIT would be a line of the message


def _road(talk: Talk) -> Step:
    yield from need("connect", Connect())
    if talk.tls == "implicit":
        yield from need("starttls", Secure())  # fails: never a second try in clear
    reply = yield from ask("banner", b"")
    if talk.until == "banner":
        return (Verdict("banner", "passed", reply),)
    reply = yield from greet(talk.helo)
    if talk.tls in ("may", "require", "verify"):
        reply = yield from _encrypt(talk, reply)
    if talk.until in ("ehlo", "starttls"):
        return (Verdict(talk.until, "passed", reply),)
    assert talk.envelope is not None
    return (yield from transaction(talk, talk.envelope, offers(reply)))


def greet(helo: str) -> Asking:
    """EHLO, or HELO where EHLO is not known."""
    try:
        return (yield from ask("ehlo", f"EHLO {helo}\r\n".encode()))
    except Over as over:
        end = over.args[0]
        if end.error or end.reply.code not in NO_EHLO:
            raise
    return (yield from ask("ehlo", f"HELO {helo}\r\n".encode()))


def _encrypt(talk: Talk, greeting: Reply) -> Asking:
    """STARTTLS where it is offered; what was offered in clear is forgotten (RFC 3207 4.2)."""
    must = talk.tls != "may"
    if "STARTTLS" in offers(greeting):
        end = judge("starttls", (yield Ask(b"STARTTLS\r\n", ("starttls",))))
        if end is None:
            yield from need("starttls", Secure())
            return (yield from greet(talk.helo))
        if must or talk.until == "starttls" or not leaves_politely(end):
            raise Over(end)
    elif must:
        raise Over(Verdict("starttls", "failed", error="not_offered"))
    return greeting


NOT_OFFERED = Verdict("mail", "failed", error="not_offered")


def parameters(talk: Talk, offered: Offers) -> str:
    """What goes behind MAIL FROM:<...>; a need that is not offered ends the road before MAIL."""
    limit = offered.get("SIZE", "")
    if limit.isdecimal() and 0 < int(limit[:18]) < talk.size:
        raise Over(NOT_OFFERED)
    words = [f"SIZE={talk.size}"] if talk.size and "SIZE" in offered else []
    for needed, word in ((talk.needs_8bit, "BODY=8BITMIME"), (talk.needs_smtputf8, "SMTPUTF8")):
        if needed and word.removeprefix("BODY=") not in offered:
            raise Over(NOT_OFFERED)
        words += [word] * needed
    return "".join(f" {word}" for word in words)


Said = Sequence[Verdict]
"""What MAIL, each RCPT and DATA were answered, as far as they were; "passed" for what was taken."""


def transaction(talk: Talk, envelope: Envelope, offered: Offers) -> Step:
    """MAIL to the final dot, or to `talk.until`."""
    mail = envelope.mail + parameters(talk, offered).encode()
    lines = [("mail", mail), *(("rcpt", one) for one in envelope.rcpts), ("data", b"DATA")]
    lines = lines[: {"mail": 1, "rcpt": -1}.get(talk.until)]
    together = talk.pipeline and talk.until == "body" and "PIPELINING" in offered
    said, count = list[Verdict](), len(envelope.recipients)
    for batch in [lines] if together else [[line] for line in lines]:
        if not _wanted(batch[0][0], said):
            break
        said += yield from _asked(batch)
        if not leaves_politely(said[-1]):
            raise Over(*(replace(one, cut=True) for one in _each(said, count, said[-1])))
    return _each(said, count, (yield from _message(talk, said)))


def _wanted(stage: str, said: Said) -> bool:
    """Whether it is still to be asked: RCPT where MAIL was taken, DATA where a recipient was."""
    needed = said[:1] if stage == "rcpt" else said[1:]
    return not needed or any(verdict.outcome == "passed" for verdict in needed)


def _asked(lines: Sequence[tuple[str, bytes]]) -> Generator[Effect, Got, list[Verdict]]:
    """A verdict for each command, read by counting (RFC 2920 3.1), up to one after which nothing counts."""
    stages = tuple(stage for stage, _ in lines)
    data = b"".join(line + b"\r\n" for _, line in lines)
    got = yield Ask(data, stages)
    lost = got if isinstance(got, Lost) else None
    came = got if isinstance(got, list) else lost.replies if lost and lost.unsent < len(data) else ()
    made = list[Verdict]()
    for stage, reply in zip(stages, came, strict=False):
        made.append(judge(stage, [reply]) or Verdict(stage, "passed", reply))
        if not leaves_politely(made[-1]):
            return made
    end = judge(stages[len(made)], lost) if lost else None
    return [*made, end] if end else made


def _each(said: Said, count: int, end: Verdict | None) -> tuple[Verdict, ...]:
    """Each recipient's verdict: the refusal of MAIL or of its own RCPT, else `end`; None: its own in any case."""
    mail, *own = said
    if mail.outcome != "passed":
        return (mail,) * count
    told = [*own, *[end or mail] * count][:count]
    return tuple(end if end and one.outcome == "passed" else one for one in told)


def _message(talk: Talk, said: Said) -> Generator[Effect, Got, Verdict | None]:
    """The body, the mark on disk, the dot; a lone dot where DATA was taken for nobody (RFC 2920 3.1)."""
    last = said[-1]
    if last.stage != "data" or last.outcome != "passed":
        return None if last.stage == "rcpt" else last
    taken = tuple(n for n, one in enumerate(said[1:-1]) if one.outcome == said[0].outcome == "passed")
    if not taken:
        yield Ask(b".\r\n", ("body",))
        return None
    for effect in (Ask(talk.body), MarkDot(taken)):
        if end := judge("body", (yield effect)):
            return end
    got = yield Ask(b".\r\n", ("body",), "final")
    reply = got[-1] if isinstance(got, list) and got else None
    return judge("body", got, dot=True) or Verdict("body", "accepted", reply)
