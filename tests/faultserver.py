"""faultserver: a scripted SMTP server that does at each point of the dialogue what a test tells it.

Belongs here: acts (what a server can do), the session that plays them, the record of the client's octets.
Not here: what a client should make of it (the tables of test_truth*).

A script maps a point to acts; points without an entry get a plain good server's answer. The points, in order:
connect, banner, ehlo, helo, starttls, auth, mail, rcpt, data, body (while it comes), dot, rset, noop, quit,
other.
After a TLS handshake `ehlo+tls` and the like come first. `rcpt <r@x>` is that recipient only, `mail 2` the
second MAIL of the session.
"""

import contextlib
import re
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache

from tests import certs

NAME = "mx.fault.example"
MOST = 20.0
"""Seconds after which a session gives up whatever happens, so that no thread outlives its test."""


class End(Enum):
    """Ways a server can stop talking."""

    CLOSE = "closes the connection in order"
    RESET = "sends RST"
    HALF = "closes its sending side, and reads on"
    SILENT = "reads on, and never says a word again"
    DEAF = "neither reads nor writes, and keeps the connection open"


CLOSE, RESET, HALF, SILENT, DEAF = End


@dataclass(frozen=True)
class Wait:
    """Do nothing for a while."""

    seconds: float


@dataclass(frozen=True)
class Drip:
    """Send one octet at a time."""

    octets: bytes
    gap: float = 0.05


@dataclass(frozen=True)
class Flood:
    """Send the same octets again and again until the client has had enough."""

    octets: bytes
    most: int = 50_000_000


@dataclass(frozen=True)
class Tls:
    """A handshake with this certificate (see certs.KINDS)."""

    kind: str = "good"
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3


Act = bytes | Wait | Drip | Flood | Tls | End
Acts = Act | tuple[Act, ...]
Script = Mapping[str, Acts]


def offers(*words: str, name: str = NAME) -> bytes:
    """A reply to EHLO with these extensions."""
    lines = [name, *words]
    return b"".join(f"250{' ' if n == len(words) else '-'}{w}\r\n".encode() for n, w in enumerate(lines))


GOOD: dict[str, Acts] = {
    "banner": f"220 {NAME} ESMTP\r\n".encode(),
    "ehlo": offers("ENHANCEDSTATUSCODES", "8BITMIME"),
    "helo": f"250 {NAME}\r\n".encode(),
    "starttls": (b"220 2.0.0 Ready to start TLS\r\n", Tls()),
    "auth": b"235 2.7.0 Authentication successful\r\n",
    "mail": b"250 2.1.0 Ok\r\n",
    "rcpt": b"250 2.1.5 Ok\r\n",
    "data": b"354 End data with <CR><LF>.<CR><LF>\r\n",
    "dot": b"250 2.0.0 Ok: queued as 4F1D2A\r\n",
    "rset": b"250 2.0.0 Ok\r\n",
    "noop": b"250 2.0.0 Ok\r\n",
    "quit": (b"221 2.0.0 Bye\r\n", CLOSE),
    "other": b"500 5.5.2 Error: command not recognized\r\n",
}
VERBS = ("EHLO", "HELO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT")


@cache
def context(kind: str, newest: ssl.TLSVersion) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certs.kept(NAME) / f"{kind}.pem")
    made.maximum_version = newest
    return made


class Over(Exception):
    """The session is at its end; not an error."""


@dataclass
class Session:
    """One connection: what the client sent, when, and how it left."""

    sock: socket.socket
    script: Script
    stop: threading.Event
    clear: bytearray = field(default_factory=bytearray)
    """All the client's octets before TLS."""
    secret: bytearray = field(default_factory=bytearray)
    """All its octets inside TLS."""
    body: bytearray = field(default_factory=bytearray)
    """What came between 354 and the final dot, as sent."""
    tls: bool = False
    left: str = ""
    """How the client left: eof, reset, or "" if the server closed first."""
    broken: BaseException | None = None
    """A fault of this server itself."""
    seconds: float = 0.0
    server: "FaultServer | None" = None
    _buffer: bytearray = field(default_factory=bytearray)
    _seen: Counter[str] = field(default_factory=Counter)
    _said: bytes = b""
    said: list[tuple[str, bytes]] = field(default_factory=list)
    """What this server sent, by point."""

    def run(self) -> None:
        begun = time.monotonic()
        try:
            self.sock.settimeout(MOST)
            self._talk()
        except Over:
            pass
        except (ConnectionResetError, BrokenPipeError):
            self.left = "reset"
        except ssl.SSLError as wrong:
            self.left = f"tls: {wrong.reason}"
        except TimeoutError:
            self.left = "never"
        except BaseException as wrong:
            self.broken = wrong
        finally:
            self.seconds = time.monotonic() - begun
            self.sock.close()

    def _talk(self) -> None:
        self._do("connect"), self._do("banner")
        while True:
            line = self._line()
            words = line.split()
            verb = words[0].upper().decode("latin-1") if words else ""
            self._do(verb.lower() if verb in VERBS else "other", line)
            if verb == "DATA" and re.search(rb"(?m)^354", self._said):
                self._read_body()
                self._do("dot")

    def _do(self, point: str, line: bytes = b"") -> None:
        """Play the acts of `point`."""
        self._seen[point] += 1
        acts = self._acts(point, line)
        self._said = b""
        try:
            for act in acts if isinstance(acts, tuple) else (acts,):
                self._act(act)
        finally:
            self.said.append((point, self._said))

    def _acts(self, point: str, line: bytes) -> Acts:
        path = line.partition(b":")[2].split(b">")[0].decode("latin-1").strip() + ">"
        names = [f"{point}+tls"] if self.tls else []
        names += [f"{point} {path}", f"{point} {self._seen[point]}", point]
        for name in names:
            if name in self.script:
                return self.script[name]
        return GOOD.get(point, ())

    def _act(self, act: Act) -> None:
        if isinstance(act, bytes):
            self._said += act
            self.sock.sendall(act)
        elif isinstance(act, Wait):
            self.stop.wait(act.seconds)
        elif isinstance(act, Drip):
            for octet in act.octets:
                self.sock.sendall(bytes([octet]))
                self.stop.wait(act.gap)
            self._said += act.octets
        elif isinstance(act, Flood):
            for _ in range(act.most // len(act.octets)):
                self.sock.sendall(act.octets)
        elif isinstance(act, Tls):
            self._handshake(act)
        else:
            self._end(act)

    def _handshake(self, act: Tls) -> None:
        early = bytes(self._buffer)
        assert not early, f"the client sent {early!r} before it had the answer to STARTTLS"
        self.sock = context(act.kind, act.newest).wrap_socket(self.sock, server_side=True)
        self.tls = True

    def _end(self, how: End) -> None:
        if how is RESET:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif how is HALF:
            self.sock.shutdown(socket.SHUT_WR)
        if how in (HALF, SILENT):
            while self._receive():
                pass
        elif how is DEAF:
            self.stop.wait(MOST)
        raise Over

    def _receive(self) -> bytes:
        octets = self.sock.recv(65536)
        (self.secret if self.tls else self.clear).extend(octets)
        if not octets:
            self.left = "eof"
        return octets

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            octets = self._receive()
            if not octets:
                raise Over
            self._buffer += octets
        line, _, rest = self._buffer.partition(b"\n")
        self._buffer = bytearray(rest)
        return bytes(line) + b"\n"

    def _read_body(self) -> None:
        """Up to the final dot; the acts of `body` are played as soon as its first octets are there."""
        if "body" in self.script:
            while not self._buffer:
                self._more()
            self._do("body")
        while not (end := self._final_dot()):
            self._more()
        self.body += self._buffer[: end - 3]
        del self._buffer[:end]

    def _more(self) -> None:
        octets = self._receive()
        if not octets:
            raise Over
        self._buffer += octets

    def _final_dot(self) -> int:
        if self._buffer.startswith(b".\r\n"):
            return 3
        at = self._buffer.find(b"\r\n.\r\n")
        return at + 5 if at >= 0 else 0


class FaultServer:
    """A listening server on a loopback port of its own; a context manager.

    `sessions` has one Session a connection, finished when `settled()` returns.
    """

    def __init__(self, script: Script, ip: str = "127.0.0.1", *, small_window: bool = False, port: int = 0):
        self.script, self.sessions, self._threads = script, [], []
        self._stop = threading.Event()
        self._listener = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET)
        if small_window:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(port > 0))
        self._listener.bind((ip, port))
        self._listener.listen(128)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]

    sessions: list[Session]
    session_type: type[Session] = Session

    def __enter__(self) -> "FaultServer":
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(5)
        self.settled()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session = self.session_type(sock, self.script, self._stop)
            session.server = self
            thread = threading.Thread(target=session.run, daemon=True)
            self.sessions.append(session)
            self._threads.append(thread)
            thread.start()

    def settled(self, seconds: float = 20) -> list[Session]:
        """The sessions, once each is over; AssertionError if the server itself failed in one."""
        self._stop.set()  # who only waits or is deaf need not do so any longer: the client is done
        deadline = time.monotonic() + seconds
        for thread in list(self._threads):
            thread.join(max(deadline - time.monotonic(), 0))
            assert not thread.is_alive(), "a client has left its connection open"
        for session in self.sessions:
            if session.broken:
                raise session.broken
        return self.sessions


@contextlib.contextmanager
def closed_port(ip: str = "127.0.0.1") -> Iterator[tuple[str, int]]:
    """An address where nobody listens."""
    with socket.socket() as sock:
        sock.bind((ip, 0))
        yield sock.getsockname()


@contextlib.contextmanager
def dead_port(ip: str = "127.0.0.1") -> Iterator[tuple[str, int]]:
    """An address that answers no SYN: its queue of connections is full."""
    with contextlib.ExitStack() as kept:
        sock = kept.enter_context(socket.socket())
        sock.bind((ip, 0))
        sock.listen(0)
        for _ in range(4):
            filler = kept.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
        time.sleep(0.05)
        yield sock.getsockname()
