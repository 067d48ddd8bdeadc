"""nameserver: what the lab's DNS says, and a name server (UDP, loopback) that says it.

Not here: resolving outside a lab (network). The name server is for `dig` and for libraries that ask by themselves.
"""

import contextlib
import re
import socket
import threading
from collections import defaultdict
from ipaddress import ip_address
from math import inf
from types import SimpleNamespace
from typing import Any

from dns import exception, message, rcode, rdatatype, zonefile
from dns.name import Name, root

from smtpkit.catalogue import rows
from smtpkit.lab.rules import Clock
from smtpkit.network import Answer

TTL = 300


class Zone:
    """Every name of a scenario; `publish` adds records while the lab runs."""

    def __init__(self, scenario: SimpleNamespace, clock: Clock) -> None:
        self._clock, ours = clock, scenario.sender.rpartition("@")[2]
        self._records: dict[str, dict[str, list[tuple[str, float, float]]]] = defaultdict(lambda: defaultdict(list))
        us = SimpleNamespace(name=scenario.helo, ips=scenario.senders, domains=[ours], pref=10)
        for host in (*scenario.mx, us):
            for ip in host.ips:
                self._add(host.name, "AAAA" if ":" in ip else "A", ip)
                self._add(ip_address(ip).reverse_pointer, "PTR", host.name)
            for domain in host.domains:
                self._add(domain, "MX", f"{host.pref} {host.name}")
                self._add(domain, "SOA", f"ns.{domain} hostmaster.{domain} 2026010101 3600 600 86400 300")
        listed = " ".join(f"ip{4 + 2 * (':' in ip)}:{ip}" for ip in scenario.senders)
        self._add(ours, "TXT", f"v=spf1 {listed} -all")
        self._add(f"_dmarc.{ours}", "TXT", "v=DMARC1; p=none")
        for zone in {one["zone"] for one in (*rows("dnsbl_zones.csv"), *map(vars, scenario.dnsbl))}:
            for ip in ("127.0.0.2", "::ffff:7f00:2"):  # the test entries of RFC 5782 section 5
                self._list(ip, zone, "127.0.0.2")
        for one in scenario.dnsbl:
            for ip in one.ips:
                self._list(ip, one.zone, one.code, one.text, one.since, one.until)
        for name, table in scenario.zone.items():
            for kind, values in table.items():
                self.publish(name, kind, *values)

    def publish(self, name: str, kind: str, *values: str) -> None:
        """Set what `name` says for `kind`; kind "status": servfail, timeout or nxdomain, always."""
        self._records[_plain(name)][kind] = [(value, -inf, inf) for value in values]

    def _add(self, name: str, kind: str, value: str, since: float = -inf, until: float = inf) -> None:
        self._records[_plain(name)][kind].append((value, since, until))

    def _list(self, ip: str, zone: str, code: str, text: str = "", *when: float) -> None:
        for kind, value in [("A", code), ("TXT", text)]:
            if value:
                self._add(ip_address(ip).reverse_pointer.rsplit(".", 2)[0] + f".{zone}", kind, value, *when)

    def answer(self, name: str, kind: str) -> Answer:
        """What a resolver would say now."""
        asked, now = _plain(name), self._clock.now()
        name = asked
        for _ in range(8):
            held = self._records.get(name, {})
            found = {one: [row[0] for row in rows if row[1] <= now < row[2]] for one, rows in held.items()}
            if kind == "CNAME" or not found.get("CNAME"):
                break
            name = _plain(found["CNAME"][0])
        else:
            return Answer("servfail", detail="CNAME loop")
        canonical, told = name if name != asked else None, tuple(dict.fromkeys(found.get(kind, ())))
        exists = any(found.values()) or any(known.endswith("." + name) for known in self._records)
        status: Any = [*found.get("status", ()), "ok" if told else "nodata" if exists else "nxdomain"][0]
        return Answer(status, told if status == "ok" else (), TTL, canonical)


class NameServer:
    """A recursive-looking name server at `.address`; `close` ends it."""

    def __init__(self, zone: Zone) -> None:
        self._zone, self._sock = zone, socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._sock.getsockname()
        self._thread = threading.Thread(target=self._serve, name="lab DNS", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, then the socket."""
        self._sock.sendto(b"", self.address)
        self._thread.join()
        self._sock.close()

    def _serve(self) -> None:
        while (got := self._sock.recvfrom(65535))[1] != self.address:  # close writes to itself
            with contextlib.suppress(exception.DNSException):  # no question: a name server stays silent
                query = message.from_wire(got[0])
                reply = message.make_response(query, recursion_available=True)
                if all(self._answered(reply, one.name, one.rdtype) for one in query.question):
                    self._sock.sendto(reply.to_wire(), got[1])

    def _answered(self, reply: message.Message, owner: Name, rdtype: Any) -> bool:
        """Put the answer into `reply`; False where the scenario says that nobody answers."""
        kind = rdatatype.to_text(rdtype)
        said = self._zone.answer(owner.to_text(), kind)
        if said.status in ("nxdomain", "servfail"):
            reply.set_rcode(rcode.from_text(said.status))
        name = f"{said.canonical}." if said.canonical else str(owner)
        lines = [f"{owner} CNAME {name}"] if said.canonical else []
        lines += [f"{name} {kind} {_quoted(row) if kind == 'TXT' else row}" for row in said.rows]
        reply.answer += zonefile.read_rrsets("\n".join(lines), origin=root, default_ttl=TTL, relativize=False)
        return said.status != "timeout"


def _plain(name: str) -> str:
    return name.rstrip(".").lower()


def _quoted(text: str) -> str:
    """A TXT record's strings of at most 255 octets (RFC 1035 3.3.14), as zone files have them."""
    parts = [text[n : n + 60] for n in range(0, len(text) or 1, 60)]
    return " ".join('"' + re.sub(r'(["\\])', r"\\\1", part) + '"' for part in parts)
