"""jobs: one session: what to do, what was heard, what came of it. Not here: octets (engine), dialogue (steps)."""

import errno
import socket
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from smtpkit import catalogue, reasons
from smtpkit.address import refuse_controls
from smtpkit.errors import path_of
from smtpkit.guard import Guard
from smtpkit.limits import Pace, Timeouts
from smtpkit.network import Network, in_lab, or_usual
from smtpkit.reply import Reply, ReplyReader
from smtpkit.steps import FINE, Effect, Lost, Step, Tls, Verdict
from smtpkit.tls import TlsFacts, TlsLink


@dataclass(frozen=True, slots=True)
class Job:
    """One session to hold, or (step None) rows that are decided already and connect nowhere."""

    step: Step | None
    ip: str | None
    port: int = 25
    receiver: str = ""
    server_name: str | None = None
    tls: Tls = "may"
    ca_file: Path | None = None
    fields: tuple[Mapping[str, object], ...] = ({},)
    """What is known of each recipient's row beforehand."""
    verdict: Verdict | None = None
    after: float = 0.0
    """Its address is not asked before this many seconds from now."""
    live: bool = False
    named: tuple[str, ...] | None = ()
    """Whom RCPT may name besides the allow-list; None: anybody, for a user who types it by hand."""
    keys: tuple[str, ...] = ()
    """What must not be handed over twice, one a recipient; "" for none."""


EXPECTED = {**FINE, "quit": {221}, "vrfy": {250, 251, 252}, "other": range(200, 400)}
"""What a reply's code should be by stage; 250 elsewhere."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One reply, with the command that it answers (redacted) and how long it took, s."""

    stage: str
    command: str
    reply: Reply
    sent_at: datetime | None = None
    latency_s: float | None = None

    @property
    def expected(self) -> bool:
        """Whether the code is what such a command is answered with when all is well."""
        return not self.reply.broken and self.reply.code in EXPECTED.get(self.stage, (250,))

    @property
    def meaning(self) -> str:
        """What the code means by the standards; for a refusal also the likely reason, and what to do."""
        known = {row["code"]: row["meaning"] for row in catalogue.rows("reply_codes.csv")}
        said = known.get(str(self.reply.code), "no code of the standards")
        if self.reply.broken or self.reply.code not in range(400, 600):
            return "no valid reply" if self.reply.broken else said
        told = reasons.classify(self.reply.text, self.reply.code, stage=self.stage)
        return f"{said} ({told.reason.replace('_', ' ')}: {told.advice})"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a job."""

    job: Job
    session: str
    attempt_ids: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    heard: tuple[Heard, ...] = ()
    times: Mapping[str, float] = field(default_factory=dict)
    """Seconds by stage, and `latency`: the whole session."""
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    local_ip: str | None = None
    tls: TlsFacts | None = None
    anomalies: tuple[str, ...] = ()
    tls_problem: str | None = None


Plan = Generator[list[Job], Result | None, Any]


def hold(jobs: Sequence[Job]) -> Generator[list[Job], Result | None, list[Result]]:
    """The part of a plan that holds these sessions; what came of them."""
    got: list[Result] = []
    for turn in range(len(jobs)):
        result = yield [] if turn else list(jobs)
        assert result is not None  # only the first `next` of a plan sends none
        got.append(result)
    return got


_LOST = {
    errno.ECONNREFUSED: "refused", errno.ETIMEDOUT: "timeout", errno.ECONNRESET: "reset", errno.EPIPE: "reset",
    errno.ECONNABORTED: "reset", errno.EMFILE: "interrupted", errno.ENFILE: "interrupted",
}  # fmt: skip


def lost(error: OSError) -> Lost:
    """An operating system's error in the words of the frame."""
    return Lost(_LOST.get(error.errno or 0, "unreachable"), text=error.strerror or str(error))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What holds for a run: whom, how often, how long, where it is written."""

    guard: Guard
    pace: Pace
    timeouts: Timeouts
    casebook: Path
    case: str

    @classmethod
    def of(
        cls, network: Network, *, guard: Guard | None = None, pace: Pace | None = None,
        timeouts: Timeouts | None = None, casebook: Any = None, case: str | None = None,
    ) -> "Rules":  # fmt: skip
        """The network's own rules, with what the caller gave in their place; InvalidInput for another type."""
        book = network.casebook if casebook is None else getattr(casebook, "path", casebook)
        return cls(
            guard=or_usual("guard", guard, network.guard),
            pace=or_usual("pace", pace, network.pace),
            timeouts=or_usual("timeouts", timeouts, network.timeouts),
            casebook=path_of("casebook", book).absolute(),
            case=refuse_controls("case", "default" if case is None else case),
        )

    def pace_at(self, network: Network, ip: str, port: int) -> Pace:
        """The pace that holds at an address: Pace.none() is honoured in a lab only."""
        return self.pace if in_lab(network, ip, port) or self.pace != Pace.none() else Pace()


class Session:
    """One live session: its step, its socket, what it waits for."""

    def __init__(self, job: Job, name: str, attempt_ids: tuple[str, ...], step: Step, limits: Timeouts) -> None:
        self.job, self.name, self.attempt_ids, self.step, self.limits = job, name, attempt_ids, step, limits
        self.sock: socket.socket | None = None
        self.link: TlsLink | None = None
        self.facts: TlsFacts | None = None
        self.reader = ReplyReader()
        self.effect: Effect | None = None
        self.out = memoryview(b"")
        self.replies: list[Reply] = []
        self.ended: str | None = None
        """Why nothing more comes from the server: lost, reset, ...; None: the connection is up."""
        self.deadline = float("inf")
        self.total = float("inf") if limits.total is None else time.monotonic() + limits.total
        self.heard: list[Heard] = []
        self.kept = 0
        """How many of these are written down."""
        self.hide: Callable[[Reply], Reply] = lambda reply: reply
        """What takes our secrets out of a reply before anybody sees it."""
        self.times: dict[str, float] = {}
        self.anomalies: list[str] = []
        self.begun, self.started_at = time.monotonic(), datetime.now(UTC)
        self.asked_at, self.asked_utc = self.begun, self.started_at
        self.local_ip: str | None = None
        self.problem: str | None = None
        self.mask = 0

    def result(self, verdicts: tuple[Verdict, ...]) -> Result:
        """What is known now, as the result."""
        self.times["latency"] = time.monotonic() - self.begun
        odd = tuple(dict.fromkeys(self.anomalies))
        return Result(
            self.job, self.name, self.attempt_ids, verdicts, tuple(self.heard), self.times, self.started_at,
            self.local_ip, self.facts, odd, self.problem,
        )  # fmt: skip
