"""faultdns: a scripted name server on UDP and TCP: each name has its fault.

Belongs here: how answers go wrong on the wire. Not here: what a resolver should make of it.
"""

import contextlib
import socket
import socketserver
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.ports import free_port

Answers = list[bytes]
"""Datagrams in answer to one question, in order; none: silence."""
ZONE: dict[tuple[str, str], list[str]] = {}
"""(name, type) to records, for names whose answers are good."""


def good(query: dns.message.Message, rows: list[str] | None = None, *, tcp: bool = False) -> dns.message.Message:
    """A sound answer: from `rows`, else from ZONE, following CNAMEs; NXDOMAIN for a name nobody wrote down."""
    answer = dns.message.make_response(query)
    answer.flags |= dns.flags.RA | dns.flags.AA
    (question,) = query.question
    name, kind = question.name.to_text().rstrip(".").lower(), dns.rdatatype.to_text(question.rdtype)
    for _ in range(20):
        found = rows if rows is not None else ZONE.get((name, kind))
        if found is not None:
            answer.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", kind, *found))
            break
        alias = ZONE.get((name, "CNAME"))
        if alias is None:
            known = any(name == owner for owner, _ in ZONE)
            answer.set_rcode(dns.rcode.NOERROR if known else dns.rcode.NXDOMAIN)
            break
        answer.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", "CNAME", *alias))
        name = alias[0].rstrip(".").lower()
    if not tcp and len(answer.to_wire(max_size=65535)) > 1232:
        answer.answer.clear()
        answer.flags |= dns.flags.TC
    return answer


def code(rcode: str) -> Callable[[dns.message.Message, bool], Answers]:
    def fault(query: dns.message.Message, tcp: bool) -> Answers:
        answer = dns.message.make_response(query)
        answer.set_rcode(dns.rcode.from_text(rcode))
        return [answer.to_wire()]

    return fault


def forged(query: dns.message.Message) -> bytes:
    """The right question, another id, and an address of the attacker's."""
    answer = good(query, ["10 evil.fault.test."])
    answer.id = (query.id + 1) % 65536
    return answer.to_wire()


def not_a_response(query: dns.message.Message, tcp: bool) -> Answers:
    return [query.to_wire()]


def loop(query: dns.message.Message, tcp: bool) -> Answers:
    """A compression pointer that points at itself."""
    head = struct.pack("!6H", query.id, 0x8180, 1, 1, 0, 0)
    return [head + query.to_wire()[12:].split(b"\0\0\x29")[0] + b"\xc0\x50" * 40]


def another_question(query: dns.message.Message, tcp: bool) -> Answers:
    other = dns.message.make_query("other.fault.test", "MX")
    other.id = query.id
    return [good(other, ["10 evil.fault.test."]).to_wire()]


def cut_off(query: dns.message.Message, tcp: bool) -> Answers:
    answer = dns.message.make_response(query)
    answer.flags |= dns.flags.TC
    return [] if tcp else [answer.to_wire()]


def cut_then_tcp(query: dns.message.Message, tcp: bool) -> Answers:
    return [good(query, tcp=True).to_wire()] if tcp else cut_off(query, tcp)


def no_edns(rcode: str) -> Callable[[dns.message.Message, bool], Answers]:
    """An old server: a question with EDNS is one that it does not understand (RFC 6891 7)."""

    def fault(query: dns.message.Message, tcp: bool) -> Answers:
        refused = dns.message.make_response(query)
        refused.use_edns(False)
        refused.set_rcode(dns.rcode.from_text(rcode))
        return [(good(query) if query.edns < 0 else refused).to_wire()]

    return fault


def slow(query: dns.message.Message, tcp: bool) -> Answers:
    time.sleep(0.15)
    return [good(query).to_wire()]


FAULTS: dict[str, Callable[[dns.message.Message, bool], Answers]] = {
    "servfail": code("SERVFAIL"), "refused": code("REFUSED"), "formerr": code("FORMERR"),
    "notimp": code("NOTIMP"), "silent": lambda query, tcp: [],
    "garbage": lambda query, tcp: [struct.pack("!H", query.id) + b"\xff" * 60],
    "short": lambda query, tcp: [query.to_wire()[:7]], "empty": lambda query, tcp: [b""],
    "qr0": not_a_response, "pointer": loop, "question": another_question,
    "wrongid": lambda query, tcp: [forged(query)],
    "wrongidfirst": lambda query, tcp: [forged(query), good(query).to_wire()],
    "garbagefirst": lambda query, tcp: [b"\0\1nonsense", good(query).to_wire()],
    "cut": cut_off, "cutthentcp": cut_then_tcp, "slow": slow,
    "noedns": no_edns("FORMERR"), "noedns4": no_edns("NOTIMP"),
}  # fmt: skip
"""First label of the name asked to what the server does."""


class FaultDns:
    """The server; a context manager. `asked` counts questions by (name, type, udp or tcp)."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, str, str]] = Counter()
        self.port = free_port()
        self._udp = socketserver.ThreadingUDPServer(("127.0.0.1", self.port), self._handler(False))
        self._tcp = socketserver.ThreadingTCPServer(("127.0.0.1", self.port), self._handler(True))

    def answers(self, wire: bytes, tcp: bool) -> Answers:
        query = dns.message.from_wire(wire)
        (question,) = query.question
        name = question.name.to_text().rstrip(".").lower()
        how = "tcp" if tcp else "udp"
        self.asked[name, dns.rdatatype.to_text(question.rdtype), how] += 1
        fault = FAULTS.get(name.split(".")[0])
        return fault(query, tcp) if fault else [good(query, tcp=tcp).to_wire(max_size=65535)]

    def _handler(self, tcp: bool) -> type[socketserver.BaseRequestHandler]:
        outer = self

        class Datagram(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                wire, sock = self.request
                for answer in outer.answers(wire, False):
                    sock.sendto(answer, self.client_address)

        class Stream(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                length = struct.unpack("!H", self.rfile.read(2))[0]
                for answer in outer.answers(self.rfile.read(length), True):
                    self.wfile.write(struct.pack("!H", len(answer)) + answer)

        return Stream if tcp else Datagram

    def __enter__(self) -> "FaultDns":
        for server in (self._udp, self._tcp):
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self._udp, self._tcp):
            server.shutdown()
            server.server_close()


@contextlib.contextmanager
def dead_name_server() -> Iterator[tuple[str, int]]:
    """An address that swallows questions."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()
