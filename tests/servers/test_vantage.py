"""Probing through `ssh -D` to a sending host: connections and DNS leave there, over a real OpenSSH."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import smtpkit as sk
from tests.faultserver import GOOD, FaultServer
from tests.servers import program, until
from tests.servers.conftest import DNS_PORT
from tests.servers.nsd import Nsd

SOCKS, SSHD = 10861, 10862


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def tunnel(tmp_path: Path) -> Iterator[str]:
    """A SOCKS proxy on loopback, served by ssh to an sshd of our own."""
    program("sshd", "openssh-server")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    shutil.copy(tmp_path / "user.pub", tmp_path / "authorized")
    Path("/run/sshd").mkdir(exist_ok=True)
    settings = {"Port": SSHD, "ListenAddress": "127.0.0.1", "HostKey": tmp_path / "host", "PidFile": "none",
                "AuthorizedKeysFile": tmp_path / "authorized", "StrictModes": "no", "UsePAM": "no"}  # fmt: skip
    (tmp_path / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    sshd = subprocess.Popen(
        ["/usr/sbin/sshd", "-D", "-e", "-f", tmp_path / "sshd_config"], stderr=subprocess.DEVNULL
    )
    until(lambda: listens(SSHD), 10, "sshd does not listen")
    command = ["ssh", "-N", "-D", f"127.0.0.1:{SOCKS}", "-p", str(SSHD), "-i", str(tmp_path / "user"),
               "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "127.0.0.1"]  # fmt: skip
    ssh = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    until(lambda: listens(SOCKS), 10, "ssh -D does not listen")
    yield f"127.0.0.1:{SOCKS}"
    for process in (ssh, sshd):
        process.terminate()
        process.wait()


def test_a_probe_goes_through_it(tunnel: str, nsd: Nsd, tmp_path: Path) -> None:
    with FaultServer(GOOD) as server:
        net = sk.internet(
            socks=tunnel, nameservers=[("127.0.0.1", DNS_PORT)], label="relay1", helo="relay1.ours.example",
            sender_ip="198.51.100.7", reroute={(f"192.0.2.{n}", 25): server.address for n in (11, 12, 13, 14)},
            pace=sk.Pace.none(), casebook=tmp_path / "c.sqlite", ledger=tmp_path / "l.sqlite",
        )  # fmt: skip
        frame = sk.probe("daum.example", network=net, rounds=1)
        assert len(server.sessions) == 4
    assert list(frame["outcome"]) == ["passed"] * 4
    assert set(frame["mx_ip"]) == {"192.0.2.11", "192.0.2.12", "192.0.2.13", "192.0.2.14"}
    assert set(frame["vantage"]) == {"relay1"}
    assert set(frame["sender_ip"]) == {"198.51.100.7"}


def test_a_dead_port_behind_it_is_a_refused_row(tunnel: str, nsd: Nsd, tmp_path: Path) -> None:
    net = sk.internet(
        socks=tunnel, nameservers=[("127.0.0.1", DNS_PORT)], helo="relay1.ours.example", pace=sk.Pace.none(),
        reroute={(f"192.0.2.{n}", 25): ("127.0.0.1", 1) for n in (11, 12, 13, 14)},
        casebook=tmp_path / "c.sqlite", ledger=tmp_path / "l.sqlite",
    )  # fmt: skip
    frame = sk.probe("daum.example", network=net, rounds=1)
    assert list(frame["outcome"]) == ["failed"] * 4
    assert set(frame["error"]) <= {"refused", "unreachable", "lost"}
