"""hands: a session whose commands come from the user, one at a time; its rows and verdicts.

Belongs here: handing work to the engine's thread and waiting for it, which rows an answer decides. Not here: the
commands that a user has (by_hand), octets (engine), SASL (auth), who may be written to (guard).
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from time import sleep
from typing import Any

from smtpkit.auth import Secret, login
from smtpkit.campaign import Rules, Run, Worker
from smtpkit.jobs import Job, Plan, Session
from smtpkit.journal import new_id
from smtpkit.message import Message
from smtpkit.network import Network
from smtpkit.reply import Reply
from smtpkit.steps import FINE, Ask, Connect, Lost, MarkDot, Over, Park, Secure, Step, Verdict, judge, offers

Answer = Reply | Lost | None
Work = Generator[Any, Any, Answer]
"""What the user wants done: effects in, one answer out."""
_FRESH = Verdict("connect", "failed", error="stopped")
_PER_MESSAGE = dict.fromkeys(("recipient", "recipient_domain", "message_id", "body_id", "size_bytes"))


class Hands:
    """One session: `_do(work)` in the user's thread, everything else in the worker's while the user waits."""

    last: Answer = Lost("stopped")
    """The latest answer; at first the greeting. None: nothing was said."""
    over = False
    """Whether the connection is closed."""
    _session: Any = None
    _tls_from: int | None = None
    """How many replies came in clear; None: all."""
    _in_message = _decided = _leaving = _told = False
    _final = 0

    def __init__(self, row: Mapping[str, object], jobs: list[Job], network: Network, rules: Rules) -> None:
        self.offers: dict[str, str] = {}
        """What the latest EHLO offered: keyword to its parameters."""
        self._rows, self._verdicts, self._open = [dict(row)], [_FRESH], [0]
        self._run = Run(self._plan(jobs), network, rules, "by hand")
        self._run.on_park = self._parked

    def _start(self, implicit: bool) -> Answer:
        """Wait for our turn, connect, with `implicit` shake hands, and read the greeting."""
        self._run.start()
        self._wait()
        return self._do(self._greet(implicit))

    def _do(self, work: Work | None) -> Answer:
        """Hand over work (None: leave) and wait for its answer; an interrupt stops the session."""
        if self.over:
            self._settle()
            return Lost(getattr(self.last, "error", "lost"), text="the session is over")
        self._told = False
        self._run.call(lambda: self._resume(work))
        self._wait()
        self._settle()
        return self.last

    def _wait(self) -> None:
        """Until there is an answer. An interrupt stops the session, and may come after the news."""
        try:
            self._until(lambda: self._told)
        except KeyboardInterrupt:
            self._run.stop()
            self._until(lambda: self.over)

    def _until(self, done: Callable[[], bool]) -> None:
        """Look up now and then: a signal that another thread took wakes no lock."""
        while not done() and self._run.running:
            sleep(0.002)

    def _settle(self) -> None:
        """Where the session is over: wait until all is written; raises what the worker failed of."""
        self._until(lambda: not self.over)
        if self._run.error:
            raise self._run.error

    # ---- the worker's side of it

    @property
    def _worker(self) -> Worker:
        assert self._run.worker is not None  # it has parked us
        return self._run.worker

    def _resume(self, work: Any) -> None:
        parked = self._session and isinstance(self._session.effect, Park)
        if parked and self._session.name in self._worker.engine.live:
            self._worker.engine.resume(self._session, work)

    def _parked(self, session: Session) -> None:
        self._session = session
        self._worker.keep(session, tuple(self._verdicts) if self._decided else ())
        self._worker.journal.commit()
        self._final, self._decided = len(self._rows) if self._decided else self._final, False
        self._told = True

    def _plan(self, jobs: list[Job]) -> Plan:
        try:
            result = yield jobs
            if result and self._session is None:
                self.last = Lost(result.verdicts[0].error or "stopped")
        finally:  # however it ended: nobody waits for more
            self.over = True
            self._told = True

    def _step(self) -> Step:
        """Do what is handed over, piece by piece, until None, or until nothing more can be said."""
        work: Any = yield Park()
        while isinstance(work, Generator):
            self.last = answer = yield from work
            lost = isinstance(answer, Lost) and answer.error != "guard"
            broken = isinstance(answer, Reply) and (answer.broken or answer.code == 421)
            work = None if lost or broken or self._leaving else (yield Park())
        self.last = work if isinstance(work, Lost) else self.last
        return tuple(self._verdicts)

    def _concerned(self, stage: str) -> list[int]:
        """The rows that an answer at this stage decides; a second transaction or recipient gets a new one."""
        last = len(self._rows) - 1
        used = last < self._final or self._rows[last]["recipient"] is not None
        if stage in ("data", "body"):
            return [n for n in self._open if self._verdicts[n].outcome == "passed"]
        if stage not in ("mail", "rcpt"):
            return [] if used or stage not in FINE else [last]
        if used:
            self._rows.append(self._rows[last] | _PER_MESSAGE)
            self._verdicts.append(_FRESH)
            self._session.attempt_ids += (new_id(),)
            last += 1
        self._open = [*self._open, last] if stage == "rcpt" and used else [last]
        return [last]

    def _mean(self, stage: str, **more: object) -> list[int]:
        """Write in the rows that it concerns what is about to be asked; their positions."""
        rows = self._concerned(stage)
        for n in rows:
            self._rows[n] |= {"asked": stage, **more}
        self._session.job = replace(self._session.job, fields=tuple(map(dict, self._rows)))
        self._worker.intend(self._session.job, self._session.attempt_ids, rows)
        return rows

    def _judge(self, stage: str, rows: Sequence[int], got: Any, dot: bool = False) -> Answer:
        reply = got[-1] if isinstance(got, list) and got else None
        passed = Verdict(stage, "accepted" if dot else "passed", reply)
        for n in rows:
            self._verdicts[n] = judge(stage, got, dot) or passed
        return reply or (got if isinstance(got, Lost) else None)

    # ---- work

    def _greet(self, implicit: bool) -> Work:
        got = yield Connect()
        answer = self._judge("connect", [0], got)
        if answer is None and implicit:
            answer = yield from self._secure()
        self._leaving = answer is not None
        return answer or (yield from self._ask("banner", b""))

    def _ask(self, stage: str, data: bytes, **more: object) -> Work:
        """One command and its reply; `more`: what it changes in the row."""
        rows = self._mean(stage, **more)
        answer = self._judge(stage, rows, (yield Ask(data, (stage,))))
        if stage == "ehlo" and isinstance(answer, Reply):
            self.offers = offers(answer) if answer.code == 250 else {}
        self._open = [] if stage == "rset" else self._open
        self._in_message = _says(answer, 354)
        return answer

    def _starttls(self) -> Work:
        """STARTTLS, and the handshake where the server agrees; what was offered in clear is forgotten."""
        reply = yield from self._ask("starttls", b"STARTTLS\r\n")
        return ((yield from self._secure()) or reply) if _says(reply, 220) else reply

    def _secure(self) -> Work:
        rows, got = self._concerned("starttls"), (yield Secure())
        if got is None:
            self.offers, self._tls_from = {}, len(self._session.heard)
            return None
        return self._judge("starttls", rows, got)

    def _login(self, mechanism: str, user: str, secret: Secret) -> Work:
        """AUTH; a server may quote what it was sent, now or later: our secrets are taken out of its replies."""
        rows, before = self._mean("auth"), self._session.hide
        self._session.hide = lambda reply: secret.masked(before(reply), user)
        try:
            end = Verdict("auth", "passed", (yield from login(mechanism, user, secret)))
        except Over as over:
            end = over.args[0]
        self._verdicts = [end if n in rows else old for n, old in enumerate(self._verdicts)]
        return end.reply or Lost(end.error or "lost")

    def _data(self, message: Message | None) -> Work:
        """DATA; with a message also its octets and the dot, as far as the guard's max_messages goes."""
        rows, most = self._concerned("data"), self._run.rules.guard.max_messages
        if len(rows) + sum(one.outcome in ("accepted", "unknown") for one in self._verdicts) > most:
            return self._judge("data", rows, Lost("guard", text=f"max_messages={most} copies were handed over"))
        made = {} if message is None else {"message_id": message.message_id, "body_id": message.body_id,
                                           "size_bytes": message.size}  # fmt: skip
        reply = yield from self._ask("data", b"DATA\r\n", **made)
        return (yield from self._message(message.wire)) if message and self._in_message else reply

    def _message(self, octets: bytes, end: bool = True) -> Work:
        """Octets of the message, which nothing answers; at the end the mark on disk and the dot: rows are final."""
        rows = self._concerned("body")
        got = (yield Ask(octets)) if octets else None
        if end and not isinstance(got, Lost):
            got = yield MarkDot(tuple(self._mean("body")))
        dot = end and not isinstance(got, Lost)
        if dot:
            got = yield Ask(b".\r\n", ("body",), "final")
            self._in_message, self._decided = False, True
        return self._judge("body", rows, got, dot) if got else None

    def _silence(self, seconds: float) -> Work:
        """Say nothing; what the server says by itself in this time, None if that is nothing."""
        limits, self._session.limits = self._session.limits, replace(self._session.limits, reply=seconds)
        got = yield Ask(b"", ("hang",))
        self._session.limits = limits
        return None if isinstance(got, Lost) and got.error == "timeout" else self._judge("hang", [], got)

    def _leave(self) -> Work:
        """QUIT; its reply decides nothing."""
        self._leaving = True
        got = yield Ask(b"QUIT\r\n", ("quit",), "quit", decided=tuple(self._verdicts))
        return self._judge("quit", [], got)


def _says(answer: Answer, code: int) -> bool:
    return isinstance(answer, Reply) and not answer.broken and answer.code == code
