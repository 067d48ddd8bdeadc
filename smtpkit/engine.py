"""engine: moves octets and keeps deadlines for many sessions in one thread; nothing else.

Belongs here: selectors, timers, whole-reply deadlines on the monotonic clock, the tick that gates connects and dots
by one journal commit. Not here: what replies mean (steps), whom to ask when (campaign), files (journal).
"""

import errno
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Any

from smtpkit.errors import NotAllowed
from smtpkit.jobs import Heard, Session, lost
from smtpkit.network import Network
from smtpkit.reply import Reply
from smtpkit.steps import Ask, Connect, Effect, Got, Lost, MarkDot, Park, Secure, Verdict
from smtpkit.tls import HandshakeError, TlsLink

CHUNK = 65536
_WAITING = object()
"""In the place of an answer: there is none yet."""
Decided = Callable[[Session, tuple[Verdict, ...]], object]


class Engine:
    """Sessions in, results out; the owner calls `begin`, then `turn` until nothing is live.

    `done` is told of each session's end, `decided` of verdicts that are certain before it, `parked` of Park.
    """

    def __init__(
        self, network: Network, done: Decided, decided: Decided, parked: Callable[[Session], None]
    ) -> None:
        self.network, self._done, self._decided, self._parked = network, done, decided, parked
        self.live: dict[str, Session] = {}
        self.marks: list[Session] = []
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, None)

    # from other threads -------------------------------------------------------------------------------------------
    def call(self, what: Callable[[], None]) -> None:
        """Have the worker do something soon; from any thread."""
        self._inbox.put(what)
        try:
            self._waker.send(b".")
        except BlockingIOError:
            return  # enough wake-ups are waiting already
        except OSError:  # the engine was closed meanwhile
            self._obey()

    def _obey(self) -> None:
        with suppress(Empty):  # a thread may take what another was about to
            while True:
                self._inbox.get_nowait()()

    # the worker's side --------------------------------------------------------------------------------------------
    def begin(self, session: Session) -> None:
        """Start a session whose intent is on disk."""
        self.live[session.name] = session
        self.resume(session, None)

    def turn(self, patience: float) -> None:
        """Wait for octets, deadlines or a wake-up, `patience` s at the most; then move everything that can."""
        due = min((session.deadline for session in self.live.values()), default=float("inf"))
        patience = min(patience, max(due - time.monotonic(), 0.0))
        for key, mask in self._selector.select(patience):
            if key.data is None:
                self._woken.recv(CHUNK)
            else:
                self._move(key.data, mask)
        self._obey()
        self._fire()

    def end_all(self, error: str) -> None:
        """Answer every live session's effect with Lost(error)."""
        for session in list(self.live.values()):
            self._drop(session, error)

    def _drop(self, session: Session, error: str) -> None:
        self.resume(session, Lost(error, len(session.out), tuple(session.replies)))

    def close(self) -> None:
        """Close every socket and the selector."""
        for session in list(self.live.values()):
            self._leave(session)
        self._selector.close()
        self._woken.close()
        self._waker.close()
        self._obey()

    # one session --------------------------------------------------------------------------------------------------
    def resume(self, session: Session, got: Any) -> None:
        """Hand the step its answer, if there is one, and start its next effect, as long as effects end at once."""
        while got is not _WAITING:
            try:
                session.effect = effect = session.step.send(got)
            except StopIteration as end:
                self._leave(session)
                self._done(session, end.value)
                return
            got = self._start(session, effect)

    def _start(self, session: Session, effect: Effect) -> Any:
        session.asked_at, session.asked_utc, session.replies = time.monotonic(), datetime.now(UTC), []
        session.deadline = float("inf")
        match effect:
            case Ask():
                return self._ask(session, effect)
            case Secure():
                return self._secure(session)
            case Connect():
                self._connect(session)
            case MarkDot():
                self.marks.append(session)
            case Park():
                self._until(session, session.limits.idle)
                self._parked(session)
        return _WAITING

    def _connect(self, session: Session) -> None:
        self._until(session, session.limits.connect)
        if getattr(self.network, "socks", None):  # it blocks until the far end has answered, or the proxy gives up
            threading.Thread(target=self._open_aside, args=(session,), daemon=True).start()
        else:
            self._opened(session, self._open(session))

    def _open(self, session: Session) -> socket.socket | Lost:
        assert session.job.ip is not None
        try:
            return self.network.open(session.job.ip, session.job.port)
        except NotAllowed as error:
            return Lost("guard", text=str(error))
        except OSError as error:
            return lost(error)

    def _open_aside(self, session: Session) -> None:
        """In a thread of its own."""
        got = self._open(session)
        self.call(lambda: self._opened(session, got))

    def _opened(self, session: Session, got: socket.socket | Lost) -> None:
        if session.name not in self.live:  # given up meanwhile
            if not isinstance(got, Lost):
                got.close()
        elif isinstance(got, Lost):
            session.problem = got.text
            self.resume(session, got)
        else:
            session.sock = got
            self._listen(session)

    def _connected(self, session: Session) -> Got:
        assert session.sock is not None
        error = session.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error == errno.ECONNRESET:  # after the handshake: a refused SYN is ECONNREFUSED
            session.ended = "reset"
        elif error:
            return lost(OSError(error, "connect"))
        session.local_ip = session.sock.getsockname()[0]
        session.times["connect"] = time.monotonic() - session.asked_at
        return None

    def _ask(self, session: Session, ask: Ask) -> Any:
        if ask.data:
            self._receive(session)  # what has come already must not count for this command
        if session.reader.pending and ask.data and ask.wait != "quit":
            session.anomalies.append("early_bytes")
            early = [session.hide(reply) for reply in [session.reader.next()] if reply]
            session.heard += [Heard("early", "", reply, session.asked_utc, 0.0) for reply in early]
            return Lost("protocol", len(ask.data), tuple(early))
        if ask.decided:
            self._decided(session, ask.decided)
        if session.link is not None:
            try:
                session.link.write(ask.data)
            except HandshakeError:
                return Lost(session.ended or "lost", len(ask.data))
        session.out = memoryview(ask.data if session.link is None else session.link.outgoing())
        self._until(session, getattr(session.limits, ask.wait))
        return self._talk(session)

    def _secure(self, session: Session) -> Any:
        if session.job.tls != "implicit":
            self._receive(session)
        if session.reader.pending:
            session.anomalies.append("early_bytes")
            return Lost("protocol")
        session.link = TlsLink(session.job.server_name, session.job.ca_file)
        self._until(session, session.limits.handshake)
        return self._shake(session)

    def _shake(self, session: Session) -> Any:
        assert session.link is not None
        try:
            done = session.link.shake()
        except HandshakeError as error:
            session.problem = str(error)
            return Lost("tls_handshake", text=str(error))
        session.out = memoryview(bytes(session.out) + session.link.outgoing())
        self._push(session)
        if not done:
            return Lost("tls_handshake") if session.ended else _WAITING
        session.facts = session.link.facts()
        session.times["starttls"] = time.monotonic() - session.asked_at + session.times.get("starttls", 0.0)
        self._unwrap(session)
        bad = session.job.tls == "verify" and session.facts.problem
        return Lost("tls_verify", text=session.facts.problem or "") if bad else None

    # octets -------------------------------------------------------------------------------------------------------
    def _move(self, session: Session, mask: int) -> None:
        if mask & selectors.EVENT_READ:  # not while it connects
            self._receive(session)
        match session.effect:
            case Connect():
                self.resume(session, self._connected(session))
            case Secure():
                self.resume(session, self._shake(session))
            case Ask():
                self.resume(session, self._talk(session))
            case _:
                self._listen(session)

    def _receive(self, session: Session) -> None:
        """Read what is there; the end of the connection is kept, not raised."""
        if session.sock is None or session.ended:
            return
        try:
            octets = session.sock.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            session.ended = lost(error).error
            return
        if not octets:
            session.ended = "lost"
        elif session.link is None:
            session.reader.feed(octets)
        else:
            session.link.feed(octets)
            self._unwrap(session)

    def _unwrap(self, session: Session) -> None:
        """Clear text out of TLS, once the handshake is over."""
        if session.link is None or session.facts is None:
            return
        clear, ended = session.link.read()
        session.reader.feed(clear)
        if ended is not None:
            session.problem, session.ended = ended or session.problem, session.ended or "lost"

    def _push(self, session: Session) -> None:
        """Write what can be written now; the end of the connection is kept, not raised."""
        while session.out and session.sock is not None:
            try:
                taken = session.sock.send(session.out[: CHUNK // 4])  # what waits in the kernel tells of no reader
            except BlockingIOError:
                break
            except OSError as error:
                self._receive(session)  # what the server said before it went
                session.ended = lost(error).error
                break
            session.out = session.out[taken:]
            self._progress(session, taken)
        self._listen(session)

    def _progress(self, session: Session, taken: int) -> None:
        """A server that goes on reading a message gets more time (Postfix smtp_min_data_rate)."""
        effect, limits = session.effect, session.limits
        if isinstance(effect, Ask) and not effect.stages:
            left = session.deadline - time.monotonic() + taken / limits.body_rate
            self._until(session, min(left, limits.reply))

    def _talk(self, session: Session) -> Any:
        """Write what can be written; what the Ask is answered with, if it can be now."""
        self._push(session)
        ask, unsent = session.effect, len(session.out)
        assert isinstance(ask, Ask)
        while reply := session.reader.next():
            self._note(session, ask, reply)
            if len(session.replies) == len(ask.stages):
                return list(session.replies)
            if reply.broken or not ask.stages:  # no later reply could be paired; or nobody asked for one
                return Lost("protocol", unsent, tuple(session.replies))
            self._until(session, session.limits.reply)  # each command has its own time (RFC 5321 4.5.3.2)
        if not (ask.stages or unsent):
            return []
        return Lost(session.ended, unsent, tuple(session.replies)) if session.ended else _WAITING

    def _note(self, session: Session, ask: Ask, reply: Reply) -> None:
        reply, latency = session.hide(reply), time.monotonic() - session.asked_at
        stage = ask.stages[len(session.replies)] if ask.stages else "body"
        if ask.wait != "quit":
            session.anomalies.extend(reply.anomalies)
            session.times[stage] = session.times.get(stage, 0.0) * (ask.stages == ("rcpt",)) + latency
        if not ask.stages and (reply.broken or reply.code not in range(400, 600)):  # no refusal of the message
            session.anomalies.append("early_bytes")
        session.heard.append(Heard(stage, _shown(ask, len(session.replies)), reply, session.asked_utc, latency))
        session.replies.append(reply)

    # sockets and timers -------------------------------------------------------------------------------------------
    def _listen(self, session: Session) -> None:
        """Watch for what is still awaited: nothing more is read from a connection that has ended."""
        connecting = isinstance(session.effect, Connect)
        mask = 0 if session.ended or connecting else selectors.EVENT_READ
        mask |= selectors.EVENT_WRITE if session.out or connecting else 0
        if session.sock is None or mask == session.mask:
            return
        if session.mask and mask:
            self._selector.modify(session.sock, mask, session)  # one call of the system, not two
        elif mask:
            self._selector.register(session.sock, mask, session)
        else:
            self._selector.unregister(session.sock)
        session.mask = mask

    def _until(self, session: Session, seconds: float) -> None:
        """Wait so long, but not beyond the whole attempt's deadline, which ends at the final dot."""
        final = isinstance(session.effect, Ask) and session.effect.wait == "final"
        session.deadline = min(time.monotonic() + seconds, float("inf") if final else session.total)

    def _fire(self) -> None:
        """Deadlines that passed, the earliest first."""
        now = time.monotonic()
        late = [one for one in self.live.values() if one.deadline <= now]
        for session in sorted(late, key=lambda one: one.deadline):
            self._drop(session, "timeout")

    def _leave(self, session: Session) -> None:
        """An orderly close: never a reset towards a real receiver."""
        self.live.pop(session.name, None)
        if session.sock is not None:
            if session.mask:
                self._selector.unregister(session.sock)
            session.sock.close()
            session.sock = None


def _shown(ask: Ask, number: int) -> str:
    """The command that the reply answers, as one line."""
    if ask.shown or not ask.stages:
        return ask.shown or "(message)"
    line = ask.data.split(b"\r\n")[number if len(ask.stages) > 1 else 0]
    return line.decode("utf-8", "backslashreplace")
