"""dns: rbldnsd, Knot (signing) and Unbound (validating) on loopback, on free ports.

Belongs here: starting and stopping them. Not here: NSD (nsd), spam filters (filters), what is asked of them.
"""

import os
from pathlib import Path
from typing import Any, Self

import dns.exception
import dns.flags
import dns.message
import dns.query

from tests.ports import free_port
from tests.servers import daemon, end, program, until

RBL_SOA = "$SOA 5 ns.invalid hostmaster.invalid 0 300 60 3600 5\n"
KNOT = """server:
  rundir: {at}
  listen: 127.0.0.1@{port}
database:
  storage: {at}/db
log:
  - target: stderr
    any: warning
policy:
  - id: lab
    algorithm: ecdsap256sha256
    single-type-signing: on
zone:
"""
UNBOUND = """server:
  interface: 127.0.0.1@{port}
  username: ""
  chroot: ""
  directory: "{at}"
  pidfile: "{at}/unbound.pid"
  use-syslog: no
  do-not-query-localhost: no
  do-ip6: no
  edns-buffer-size: 1232
  infra-host-ttl: 1
  cache-max-ttl: 1
  cache-max-negative-ttl: 1
  local-zone: "." static
"""


def ask(port: int, name: str, kind: str, **more: Any) -> dns.message.Message:
    """One question over UDP; raises Timeout or OSError."""
    return dns.query.udp(dns.message.make_query(name, kind, **more), "127.0.0.1", timeout=0.5, port=port)


class Server:
    """A name server in the foreground; `command` and `probe` are its own."""

    probe: tuple[str, str]

    def __init__(self, at: Path) -> None:
        self.at, self.port = at, free_port()
        at.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        """How it is started."""
        raise AssertionError("each server has its own")

    def start(self) -> Self:
        self._process = daemon(self.command(), self.at / "log")
        try:
            until(self._speaks, 15, f"{type(self).__name__} does not answer")
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}: {self.log()}") from error
        return self

    def _speaks(self) -> bool:
        try:
            return ask(self.port, *self.probe).rcode() in (0, 3)
        except (OSError, dns.exception.Timeout):
            return False

    def stop(self) -> None:
        end(self._process)

    def log(self) -> str:
        path = self.at / "log"
        return path.read_text(errors="replace") if path.exists() else ""


class Rbldnsd(Server):
    """rbldnsd with block lists: zone to (type, lines); files are re-read each second."""

    def __init__(self, at: Path, zones: dict[str, list[tuple[str, str]]]) -> None:
        super().__init__(at)
        self.zones, self.probe = zones, (next(iter(zones)), "SOA")

    def file(self, zone: str, number: int = 0) -> Path:
        return self.at / f"{zone}.{number}"

    def write(self, zone: str, number: int, lines: str) -> None:
        """Set a data set; a running server sees it within two seconds."""
        self.file(zone, number).write_text(RBL_SOA + lines)

    def command(self) -> list[str]:
        sets = []
        for zone, parts in self.zones.items():
            for number, (kind, lines) in enumerate(parts):
                self.write(zone, number, lines)
                sets.append(f"{zone}:{kind}:{self.file(zone, number).name}")
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        run = [program("rbldnsd", "rbldnsd"), "-n", "-4", "-f", "-b", f"127.0.0.1/{self.port}"]
        return [*run, *user, "-w", os.fspath(self.at), "-a", "-c", "1s", *sets]


class Knot(Server):
    """Knot, which signs its zones itself; `anchor()` is the trust anchor of one."""

    def __init__(self, at: Path, zones: dict[str, str]) -> None:
        super().__init__(at)
        self.zones, self.probe = zones, (next(iter(zones)), "DNSKEY")

    def command(self) -> list[str]:
        (self.at / "db").mkdir(exist_ok=True)
        conf = KNOT.format(at=self.at, port=self.port)
        for origin, lines in self.zones.items():
            soa = "@ SOA ns.invalid. host.invalid. 1 3600 600 86400 5\n@ NS ns.invalid.\n"
            (self.at / f"{origin}.zone").write_text(f"$ORIGIN {origin}.\n$TTL 5\n{soa}{lines}")
            conf += f"  - domain: {origin}\n    storage: {self.at}\n    file: {origin}.zone\n"
            conf += "    dnssec-signing: on\n    dnssec-policy: lab\n"
        (self.at / "knot.conf").write_text(conf)
        return [program("knotd", "knot"), "-c", os.fspath(self.at / "knot.conf")]

    def _speaks(self) -> bool:
        try:
            return bool(ask(self.port, *self.probe).answer)
        except (OSError, dns.exception.Timeout):
            return False

    def anchor(self, origin: str) -> str:
        return "".join(f"{rrset}\n" for rrset in ask(self.port, origin, "DNSKEY").answer)


class Unbound(Server):
    """Unbound, validating, that knows only `stubs` (zone to port) and has no way out."""

    def __init__(self, at: Path, stubs: dict[str, int], anchors: str = "") -> None:
        super().__init__(at)
        self.stubs, self.anchors, self.probe = stubs, anchors, ("nowhere.invalid", "A")

    def command(self) -> list[str]:
        conf = UNBOUND.format(at=self.at, port=self.port)
        (self.at / "anchors.key").write_text(self.anchors)
        signed = {line.split(".", 1)[0] for line in self.anchors.splitlines()}
        conf += f'  trust-anchor-file: "{self.at}/anchors.key"\n' if self.anchors else ""
        for zone in self.stubs:
            conf += f'  local-zone: "{zone}." transparent\n'
            conf += "" if zone.split(".", 1)[0] in signed else f'  domain-insecure: "{zone}."\n'
        conf += "remote-control:\n  control-enable: no\n"
        for zone, port in self.stubs.items():
            conf += f'stub-zone:\n  name: "{zone}."\n  stub-addr: 127.0.0.1@{port}\n'
        (self.at / "unbound.conf").write_text(conf)
        return [program("unbound", "unbound"), "-d", "-c", os.fspath(self.at / "unbound.conf")]
