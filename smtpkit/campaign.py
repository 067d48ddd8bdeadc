"""campaign: runs plans: the only way to the engine, so that guard, pace, journal and progress hold for all.

Belongs here: Run, the worker's loop, what may start when. Not here: which sessions are wanted (probing, sending).
"""

import os
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from smtpkit import evidence
from smtpkit.casebook import Casebook
from smtpkit.engine import Engine
from smtpkit.errors import EngineFault, SmtpkitError, StoreError, quantity
from smtpkit.guard import gate
from smtpkit.jobs import Job, Plan, Result, Rules, Session
from smtpkit.journal import Journal, Ledger, new_id
from smtpkit.limits import Pace
from smtpkit.network import Network, why_not
from smtpkit.progress import Progress
from smtpkit.reasons import OURS, too_often
from smtpkit.steps import Lost, MarkDot, Verdict

__all__ = ["Rules", "Run", "Worker", "run"]
AT_ONCE, PER_IP = 64, 8
"""Live sessions in all, and per IP where the pace sets no limit: below a kernel's 1,024 descriptors."""


class Run:
    """A campaign under way: `.frame()` so far, `.stop()`, `.wait()`; `.error` if the worker failed."""

    def __init__(self, plan: Plan, network: Network, rules: Rules, label: str = "probe") -> None:
        self.network, self.rules, self.id = network, rules, ""
        self.error: BaseException | None = None
        self.stopped, self._pid = False, os.getpid()
        self.done = self.total = self.refused = 0
        self.on_park: Callable[[Session], None] = lambda _: None
        """What hears that a session waits for its user."""
        self._progress = Progress(label)
        self._plan, self._ready = plan, threading.Event()
        self.due = 0.0  # when the pace lets the next session begin, while none is live
        self._over = threading.Event()  # Thread.join, interrupted, takes a live one for dead (Python < 3.13)
        self.worker: Worker | None = None
        self._thread = threading.Thread(target=self._work, name="smtpkit", daemon=True)

    def start(self) -> "Run":
        """Begin; returns once the casebook is open (or raises why it is not); an interrupt until then ends it."""
        try:
            self._thread.start()
            while not self._ready.is_set():
                self._await(self._ready)
        except KeyboardInterrupt:  # in Thread.start: it runs already, and nobody would wait for it
            self.stop()
            raise
        if self.error and not self.id:
            raise self.error
        return self

    def _work(self) -> None:
        try:
            self.worker = Worker(self, self._plan)
            self.id = self.worker.journal.run
            self._ready.set()
            self.worker.loop()
        except BaseException as error:  # whatever it was, it is kept and raised to the caller
            self.error = error
        finally:
            self._ready.set()
            self._over.set()

    def call(self, what: Callable[[], None]) -> None:
        """Have the worker do something; from any thread."""
        if self.running and self.worker is not None:
            self.worker.engine.call(what)

    def stop(self) -> None:
        """End all sessions; rows of what was not asked yet are not made."""
        self.stopped = self.stopped or self.running
        self.call(lambda: None)

    @property
    def running(self) -> bool:
        """Whether the worker is still at it; StoreError in a forked process, where it is not."""
        if os.getpid() != self._pid:
            raise StoreError("this run belongs to the process that began it; begin one of your own here")
        return not self._over.is_set()

    def frame(self) -> pd.DataFrame:
        """The attempts so far."""
        frame = Casebook(self.rules.casebook).attempts(run=self.id)
        frame.attrs["smtpkit"] |= {"stopped": self.stopped}
        return frame

    def wait(self, timeout: float | None = None) -> pd.DataFrame:
        """Wait for the end and give the frame; the first interrupt stops the run, the second is raised.

        Raises what the worker failed of, and TimeoutError.
        """
        until = None if timeout is None else time.monotonic() + quantity("timeout", timeout)
        while self.running:
            self._await(self._over)
            if until is not None and time.monotonic() > until and self.running:
                raise TimeoutError(f"the run is still going after {timeout} s; .wait() again or .stop()")
        self._tell(last=True)
        if self.error is not None:
            raise self.error
        return self.frame()

    def _await(self, event: threading.Event) -> None:
        try:
            event.wait(0.1)
            self._tell()
        except KeyboardInterrupt:
            if self.stopped:
                raise
            self.stop()

    def _tell(self, last: bool = False) -> None:
        pause = self.due - time.monotonic()
        said = f"{self.refused} refused" + ", stopped" * self.stopped
        said += f", the pace pauses {pause:.0f} s" * (pause >= 1 and not last)
        self._progress.show(self.done, self.total, said, last=last)

    def __repr__(self) -> str:
        ended = "failed" if self.error else "stopped" if self.stopped else "done"
        state = "running" if self.running else ended
        return f"<Run {self.id[:8]} {state}: {self.done} of {self.total} sessions, {self.refused} refused>"


@dataclass(slots=True)
class _Server:
    """What a run knows of one IP address, or of the rows that have none."""

    waiting: deque[Job] = field(default_factory=deque)
    not_before: float = 0.0
    live: int = 0
    asked: int = 0
    since: int = 0
    """Sessions from its first refusal on."""


class Worker:
    """The loop in the worker thread: one journal commit a turn gates connects and dots."""

    def __init__(self, run: Run, plan: Plan) -> None:
        self.run, self.plan, self.rules = run, plan, run.rules
        facts = {"label": run.network.label, "case": run.rules.case, "kit": "smtpkit"}
        self.journal = Journal(run.rules.casebook, facts)
        self.engine = Engine(run.network, self._done, self.keep, run.on_park)
        self._ledger: Ledger | None = None
        self._servers: defaultdict[str, _Server] = defaultdict(_Server)
        self._sessions = self._messages = 0
        self._visits: dict[str, int] = {}  # of live sessions, by name; 0 where no pace holds

    def loop(self) -> None:
        """Until the plan has no more jobs and nothing is live."""
        try:
            self._more(None)
            while self._unfinished() and not self.run.stopped:
                self._turn()
            self.engine.end_all("stopped")
        except BaseException as error:
            with suppress(Exception):  # the first fault is the one that is told
                self.engine.end_all("interrupted")
            if isinstance(error, (SmtpkitError, KeyboardInterrupt)):
                raise
            raise EngineFault(f"the worker failed ({type(error).__name__}: {error}); see Run.error") from error
        finally:
            self._close()

    def _close(self) -> None:
        self.plan.close()
        self.engine.close()
        try:
            self.journal.commit()
        finally:
            self.journal.close()
            if self._ledger:
                for number in filter(None, self._visits.values()):  # now, not when another run finds them open
                    self._ledger.end(number, time.time(), None, False)
                self._ledger.close()

    def _unfinished(self) -> bool:
        return bool(self.engine.live or any(one.waiting for one in self._servers.values()))

    def _turn(self) -> None:
        begun = self._begin_due()
        marks, self.engine.marks = self.engine.marks, []
        answers = [(session, self._claim(session)) for session in marks]
        self.journal.commit()
        for session in begun:
            self.engine.begin(session)
        for session, answer in answers:
            self.engine.resume(session, answer)
        idle = not (begun or answers or self.engine.marks)
        self.engine.turn(self._patience() if idle else 0.0)

    def _patience(self) -> float:
        if not self._unfinished() or any(map(self._may_begin, self._servers.values())):
            return 0.0
        now = time.monotonic()  # an IP that only waits for a session to end is woken by that session
        due = [one.not_before for one in self._servers.values() if one.waiting and one.not_before > now]
        self.run.due = 0.0 if self.engine.live else min(due, default=0.0)
        return max(min([*due, now + 1.0]) - now, 0.0)

    def _more(self, result: Result | None) -> None:
        """Ask the plan for jobs: it may read the casebook, and wait for DNS, so nothing is left open there."""
        self.journal.commit()
        try:
            jobs = next(self.plan) if result is None else self.plan.send(result)
        except StopIteration:
            return
        self.run.total += len(jobs)
        for job in jobs:
            server = self._servers[job.ip or ""]
            server.waiting.append(job)
            server.not_before = max(server.not_before, time.monotonic() + job.after)

    # what may start -----------------------------------------------------------------------------------------------
    def _begin_due(self) -> list[Session]:
        made: list[Session] = []
        while ready := [one for one in self._servers.values() if self._may_begin(one)]:
            for server in sorted(ready, key=lambda one: one.asked):  # rounds stay interleaved
                if self._may_begin(server):
                    made += filter(None, [self._start(server.waiting.popleft(), server)])
        return made

    def _may_begin(self, server: _Server) -> bool:
        few = server.live < (self.rules.pace.at_once or PER_IP) and len(self._visits) < AT_ONCE
        return few and bool(server.waiting) and server.not_before <= time.monotonic()

    def _start(self, job: Job, server: _Server) -> Session | None:
        """A session whose intent is written; None: the job waits, or is a row already."""
        if job.step is None:
            self._row(job)
            return None
        if barred := self._barred(job, server):
            self._withhold(job, *barred)
            return None
        visit, ids = self._visit(job, server), tuple(new_id() for _ in job.fields)
        if visit is None:
            return None
        self._visits[ids[0]] = visit
        self._sessions += 1
        self._messages += job.live * len(job.fields)
        if job.live:
            self.journal.durable()
        step = gate(job.step, self.rules.guard, job.live, job.named)
        session = Session(job, ids[0], ids, step, self.rules.timeouts)
        server.live, server.asked = server.live + 1, server.asked + 1
        self.intend(job, ids)
        return session

    def intend(self, job: Job, ids: Sequence[str], rows: Iterable[int] | None = None) -> None:
        """Write what is meant with a session's rows (or some), as long as they are not decided."""
        moment = datetime.now(UTC).isoformat(timespec="microseconds")
        base = {"started_at": moment, "session": None, "case": self.rules.case, "vantage": self.run.network.label}
        chosen = range(len(ids)) if rows is None else rows
        self.journal.begin(ids[0], [(ids[n], {**base, **job.fields[n]}) for n in chosen])

    def _barred(self, job: Job, server: _Server) -> tuple[str, str] | None:
        """The error of a job that must not connect, and why, with what to do about it."""
        guard, ip = self.rules.guard, job.ip or ""
        most = self.rules.pace_at(self.run.network, ip, job.port).asks_after_refusal
        if why := why_not(self.run.network, ip, job.port):
            return "guard", why
        more = "a run; raise it, or go on in another run"
        if self._sessions >= guard.max_connections:
            return "guard", f"guard.max_connections={guard.max_connections} {more}"
        if job.live and self._messages + len(job.fields) > guard.max_messages:
            return "guard", f"guard.max_messages={guard.max_messages} {more}"
        asks = f"it refused, and was asked {most} times more (pace.asks_after_refusal); ask later"
        return ("paced", asks) if server.since > most else None

    def _withhold(self, job: Job, error: str, why: str) -> None:
        fields = tuple({**row, "why": why} for row in job.fields)
        verdict = Verdict("connect", "withheld", error=error)
        self._row(replace(job, step=None, fields=fields, verdict=verdict))

    def _visit(self, job: Job, server: _Server) -> int | None:
        """The number of a visit reserved in the ledger; None: the job waits for its turn, or has become a row."""
        ip = job.ip or ""
        pace = self.rules.pace_at(self.run.network, ip, job.port)
        if pace == Pace.none():
            return 0
        self._ledger = self._ledger or Ledger(self.run.network.ledger)
        wait, number = self._ledger.ask(pace, job.receiver or ip, ip, time.time())
        if wait > pace.patience:
            patience = f"pace.patience is {pace.patience:.0f} s; ask later"
            self._withhold(job, "paced", f"its next turn is in {wait:.0f} s, and {patience}")
        elif number is None:
            server.not_before = time.monotonic() + max(wait, 0.01)
            server.waiting.appendleft(job)  # its turn stays before later rounds' turns
        return number

    def _row(self, job: Job) -> None:
        """A job that is decided without connecting."""
        assert job.verdict is not None
        ids = tuple(new_id() for _ in job.fields)
        result = Result(job, ids[0], ids, (job.verdict,) * len(job.fields))
        self.intend(job, ids)
        self._write(result)
        self.run.done += 1
        self._more(result)

    # what came of it ----------------------------------------------------------------------------------------------
    def _claim(self, session: Session) -> Lost | None:
        assert isinstance(session.effect, MarkDot)
        chosen = session.effect.recipients
        keys = session.job.keys or ("",) * len(session.attempt_ids)
        if self.journal.claim([session.attempt_ids[n] for n in chosen], [keys[n] for n in chosen]):
            return None
        session.problem = "another run serves one of these recipients, or did; send again for the others"
        return Lost("guard", text=session.problem)

    def _write(self, result: Result) -> None:
        rows = [(i, evidence.row(result, n)) for n, i in enumerate(result.attempt_ids)]
        self.journal.finish(rows, result.job.keys or ("",) * len(rows))

    def keep(self, session: Session, verdicts: tuple[Verdict, ...] = ()) -> Result:
        """Write what a session has heard so far, and with `verdicts` its rows: the first to decide stand."""
        result, known = session.result(verdicts), session.kept
        if verdicts:
            self._write(result)
        self.journal.heard(session.name, [evidence.heard(n, h) for n, h in enumerate(session.heard)][known:])
        session.kept = len(session.heard)
        return result

    def _done(self, session: Session, verdicts: tuple[Verdict, ...]) -> None:
        result = self.keep(session, verdicts)
        self._leave(session.job, self._visits.pop(session.name), verdicts)
        self.run.done += 1
        if not self.run.stopped:
            self._more(result)

    def _leave(self, job: Job, number: int, verdicts: tuple[Verdict, ...]) -> None:
        server = self._servers[job.ip or ""]
        server.live -= 1
        self._messages -= job.live * sum(v.outcome not in ("accepted", "unknown") for v in verdicts)
        said = [v for v in verdicts if v.outcome in ("deferred", "rejected")]
        texts = {(v.reply.text, v.reply.code) for v in said if v.reply}  # many recipients may share one
        stop = any(too_often(*one, job.server_name) for one in texts)
        self.run.refused += bool(said)
        server.since += bool(said or server.since)
        if number and self._ledger:
            ours = bool(verdicts) and all(v.error in OURS for v in verdicts)
            self._ledger.end(number, time.time(), None if ours else bool(said), stop)


def run(
    plan: Plan, network: Network, *, label: str = "run", background: bool = False, **rules: Any
) -> pd.DataFrame | Run:
    """Hold the sessions that `plan` wants; the frame of its attempts, or with `background` the Run.

    `rules`: guard, pace, timeouts, casebook, case; default: the network's. Raises StoreError if the casebook
    cannot be written (then nothing is sent), EngineFault if the worker failed.
    """
    made = Run(plan, network, Rules.of(network, **rules), label).start()
    return made if background else made.wait()
