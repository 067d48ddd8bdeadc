"""nsd: a real name server on loopback for zones written in the test. Not here: DNS faults."""

import os
from pathlib import Path

import dns.message
import dns.query

from tests.servers import daemon, end, program, until

CONF = """server:
  ip-address: 127.0.0.1@{port}
  username: ""
  chroot: ""
  database: ""
  zonesdir: "{at}"
  pidfile: "{at}/nsd.pid"
  xfrdfile: "{at}/xfrd.state"
  zonelistfile: "{at}/zone.list"
remote-control:
  control-enable: no
"""
SOA = "@ 60 IN SOA ns.invalid. hostmaster.invalid. 1 3600 600 86400 60\n@ 60 IN NS ns.invalid.\n"


class Nsd:
    """NSD on 127.0.0.1 `port` with `zones`: origin to the zone file's lines (SOA and NS are added)."""

    def __init__(self, at: Path, port: int, zones: dict[str, str]):
        self.at, self.port, self.zones = at, port, zones

    def start(self) -> "Nsd":
        self.at.mkdir(exist_ok=True)
        conf = CONF.format(at=self.at, port=self.port)
        for origin, rows in self.zones.items():
            (self.at / f"{origin}.zone").write_text(f"$ORIGIN {origin}.\n$TTL 60\n{SOA}{rows}")
            conf += f'zone:\n  name: "{origin}"\n  zonefile: "{origin}.zone"\n'
        (self.at / "nsd.conf").write_text(conf)
        command = [program("nsd", "nsd"), "-d", "-c", os.fspath(self.at / "nsd.conf")]
        self._process = daemon(command, self.at / "nsd.log")
        until(self._speaks, 10, f"NSD does not answer: {self.log()}")
        return self

    def _speaks(self) -> bool:
        question = dns.message.make_query(next(iter(self.zones)), "SOA")
        try:
            return bool(dns.query.udp(question, "127.0.0.1", timeout=0.3, port=self.port).answer)
        except (OSError, dns.exception.Timeout):
            return False

    def stop(self) -> None:
        end(self._process)

    def log(self) -> str:
        path = self.at / "nsd.log"
        return path.read_text(errors="replace") if path.exists() else ""
