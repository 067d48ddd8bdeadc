"""lab: a mail world on loopback: MX fleets with known faults, their DNS, a healthy control receiver.

Belongs here: the lab as a whole: its listeners, its networks. Not here: SMTP (server), DNS (zone, nameserver),
scenario files (scenario; data/scenarios/README.md tells how to write one).
"""

import errno
import os
import socket
import threading
from collections.abc import Mapping
from contextlib import ExitStack, closing, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

from smtpkit.errors import InvalidInput, NotAllowed, refuse
from smtpkit.guard import Guard
from smtpkit.lab.certificates import contexts
from smtpkit.lab.nameserver import NameServer, Zone
from smtpkit.lab.rules import Clock, Rulebook
from smtpkit.lab.scenario import CONTROL, documentation, load, names
from smtpkit.lab.server import Mail, Seen, Session
from smtpkit.limits import Pace, Timeouts
from smtpkit.network import BEGUN, Answer, Kind

if TYPE_CHECKING:
    from smtpkit.diagnosis import Cause

__all__ = ["Lab", "LabNetwork", "Mail", "Seen", "names"]
_HERE, _PORT = ("127.0.0.1", 0), 25


class Lab:
    """A receiver with a known fault, on loopback; a context manager, or `.start()` and `.close()`.

    `scenario`: a name (`smtpkit.lab.names()` lists them), the path of a TOML file of your own, or a mapping.
    `seed` and `speed` (lab seconds per real second) replace the scenario's. Nothing leaves this machine, no
    root is needed, casebook and ledger are temporary. Raises InvalidInput for a scenario that cannot be used.
    Once started: `.network`, `.clock` (`.now()`, `.advance(seconds)`), `.zone` (`.publish(name, kind, ...)`),
    `.log` (a Seen each reply, as its server knows it), `.mailbox` (a Mail each accepted message), `.ca_file`,
    `.dns` (address and port of a name server).

    >>> with Lab("stale_blacklist") as lab:
    ...     lab.domain, lab.network.resolve(lab.domain, "MX").rows[0]
    ('daum.example', '10 mx1.daum.example')
    """

    def __init__(
        self, scenario: str | Path | Mapping[str, Any], *, seed: int | None = None, speed: float | None = None
    ) -> None:
        self.scenario = load(scenario, seed=seed, speed=speed)
        self.domain, self.about, self.sender = self.scenario.domain, self.scenario.about, self.scenario.sender
        self.recipients: tuple[str, ...] = self.scenario.recipients
        self.recipient = self.recipients[0]
        self.stopping = threading.Event()
        self.stopping.set()

    def __getattr__(self, name: str) -> Any:
        if name in ("network", "log", "mailbox", "clock", "zone", "dns", "ca_file", "folder", "_ends"):
            raise InvalidInput("this lab is not running; write `with sk.Lab(...) as lab:`, or lab.start()")
        raise AttributeError(f"a lab has no {name!r}")

    def start(self) -> Self:
        """Start the servers; `close` ends them, and so does the end of Python."""
        if not self.stopping.is_set():
            raise InvalidInput("this lab is running already; close it first, or make another one")
        self.stopping.clear()
        self._ends, self.lock = ExitStack(), threading.Lock()
        place = TemporaryDirectory(prefix="smtpkit-lab-", ignore_cleanup_errors=True)  # may be in use
        self.folder, self.clock = Path(self._ends.enter_context(place)), Clock(self.scenario.speed)
        self.contexts = contexts(self.folder, [mx.name for mx in self.scenario.mx])
        self.ca_file, self.rules = self.folder / "ca.pem", Rulebook(self.scenario.rule, self.clock)
        self.log, self.mailbox, self.live = list[Seen](), list[Mail](), set[Session]()
        self.calls, self.listeners = dict[tuple[int, int], str](), dict[str, socket.socket]()
        self.zone = Zone(self.scenario, self.clock)
        self.dns = self._ends.enter_context(closing(NameServer(self.zone))).address
        self.closed = self._ends.enter_context(socket.socket())
        self.closed.bind(_HERE)  # never listens: connecting to it is refused
        # an address named twice is one server, as described first
        self.servers = {ip: mx for mx in reversed(self.scenario.mx) for ip in mx.ips}
        for ip in [ip for ip, mx in self.servers.items() if not mx.dead]:
            self.listeners[ip] = one = self._ends.enter_context(socket.create_server(_HERE))
            thread = threading.Thread(target=self._serve, args=(ip, one), daemon=True)
            thread.start()
            self._ends.callback(thread.join)
            self._ends.callback(lambda at: socket.create_connection(at).close(), one.getsockname())
        self.network = self.network_from(self.scenario.senders[0])
        return self

    def _serve(self, ip: str, listener: socket.socket) -> None:
        """Let clients in, each with a thread of its own, until the lab closes and knocks itself."""
        for number in count(1):
            sock, (_, port) = listener.accept()
            if self.stopping.is_set():
                sock.close()
                break
            with self.lock:
                client = self.calls.pop((port, listener.getsockname()[1]), self.scenario.senders[0])
            session = Session(self, self.servers[ip], f"{ip}#{number}", client, sock)
            self.live.add(session)
            session.start()

    def close(self) -> None:
        """End every server and thread, remove the temporary files; log and mailbox stay readable."""
        self.stopping.set()
        self._ends.close()
        while live := list(self.live):
            for session in live:
                with suppress(OSError):  # not connected any more, or just becoming a TLS socket
                    socket.socket.shutdown(session.sock, socket.SHUT_RDWR)
                session.join(0.05)

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Lab {self.domain}: {self.about}>"

    def network_from(self, sender_ip: str) -> "LabNetwork":
        """The same world seen from another address of ours (a documentation address)."""
        if not documentation(str(sender_ip)):
            raise refuse("sender_ip", sender_ip, "is no documentation address", "write one like 198.51.100.8")
        return LabNetwork(self, sender_ip)

    @property
    def truth(self) -> "tuple[Cause, ...]":
        """What is wrong, as `diagnose` should say it; empty: healthy. Times are real ones (UTC)."""
        from pandas import Timestamp

        from smtpkit.diagnosis import Cause

        def when(at: float) -> Any:
            return (moment := self.clock.when(at)) and Timestamp(moment)

        def cause(told: dict[str, Any]) -> Cause:
            more = {"onset": when(told["onset"]), "recovery": when(told["recovery"]), "confidence": 1.0}
            more["only_for"] = {key: tuple(values) for key, values in told["only_for"].items()}
            more["recoveries"] = {ip: when(at) for ip, at in told["recoveries"].items()}
            return Cause(**told | more)

        return tuple(cause(vars(one)) for one in self.scenario.truth)


class LabNetwork:
    """A lab's Network: documentation addresses and port 25 lie on loopback ports, and nothing waits."""

    label, pace = "lab", Pace.none()
    timeouts = Timeouts(connect=1.5, handshake=5, reply=10, final=20, quit=2)

    def __init__(self, lab: Lab, sender_ip: str) -> None:
        self._lab, self.clock, self.sender_ip = lab, lab.clock, sender_ip
        self.casebook, self.ledger = lab.folder / "casebook.sqlite", lab.folder / "ledger.sqlite"
        self.guard = Guard(allow_to=tuple(f"@{domain}" for domain in lab.scenario.domains))
        self.helo: str | None = lab.scenario.helo
        self.controls = (lab.domain, CONTROL)  # whom whoami asks

    def resolve(self, name: str, kind: Kind) -> Answer:
        """Ask the lab's DNS."""
        return self._lab.zone.answer(name, kind)

    def where(self, ip: str, port: int) -> tuple[str, int]:
        """The loopback address behind `ip` and `port`; a closed port where nobody listens."""
        live = port == _PORT and ip in self._lab.listeners
        host, real = (self._lab.listeners[ip] if live else self._lab.closed).getsockname()
        return host, real

    def open(self, ip: str, port: int) -> socket.socket:
        """A non-blocking socket whose connect has begun; raises NotAllowed or OSError."""
        if not documentation(ip):
            raise NotAllowed(f"{ip}: a lab reaches documentation addresses only; others need sk.internet()")
        lab, mx = self._lab, self._lab.servers.get(ip)
        ours = (self.sender_ip, *lab.scenario.senders)
        client = next((one for one in ours if (":" in one) == (":" in ip)), self.sender_ip)
        fault = lab.scenario.path6 if ":" in ip else lab.scenario.path
        fault = fault or (mx.dead if mx else "unreachable")
        if fault:
            lab.log.append(Seen(lab.clock.now(), "", ip, mx.name if mx else "", client, "connect", "", None, fault))
        if fault == "unreachable":
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        # one that listens itself is never ready to write: so is one whose SYN got lost
        sock = socket.create_server(_HERE) if fault == "timeout" else socket.socket()
        sock.setblocking(False)
        with lab.lock:  # a server must not ask who calls before it is written down
            far = self.where(ip, 0 if fault else port)
            error = 0 if fault == "timeout" else sock.connect_ex(far)
            lab.calls[sock.getsockname()[1], far[1]] = client  # two connections may have one port of ours
        if error not in BEGUN:
            sock.close()
            raise OSError(error, os.strerror(error))
        return sock
