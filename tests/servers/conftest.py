"""Fixtures: real servers, started when a test asks for one and stopped after it.

Behind documentation addresses and port 25, as the lab's are: `fleet_network` leads 192.0.2.11 to .14 to the
four Postfix, and asks a real name server (NSD) for their MX.
"""

import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import pytest

from tests.servers import PORT, SENDER, folder
from tests.servers.exim import Exim
from tests.servers.nsd import Nsd
from tests.servers.opensmtpd import OpenSmtpd
from tests.servers.postfix import Fleet, Postfix
from tests.servers.sendmail import Sendmail

KINDS = {"postfix": Postfix, "exim": Exim, "opensmtpd": OpenSmtpd, "sendmail": Sendmail}
DNS_PORT = 5391
IPS = {n: f"192.0.2.{10 + n}" for n in (1, 2, 3, 4)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "servers" in item.path.parts:
            item.add_marker(pytest.mark.server)


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """Servers have fixed ports: one such test at a time on this machine, however many processes run tests."""
    with (Path(gettempdir()) / "smtpkit-servers.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that daemons of other users may enter."""
    with folder() as path:
        yield path


@pytest.fixture
def mta(open_folder: Path) -> Iterator[Callable[..., Any]]:
    """Call it: `mta("exim", "127.0.0.21", domain="exim.example")` is a started server."""
    running = []

    def start(kind: str, ip: str, *, domain: str = "daum.example", name: str = "", **options: Any) -> Any:
        name = name or f"mx1.{domain}"
        server = KINDS[kind](open_folder / f"{kind}-{ip}", ip, name, domain=domain, **options)
        running.append(server)
        return server.start()

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def fleet(open_folder: Path) -> Iterator[Fleet]:
    """Four Postfix, with SENDER on no blacklist."""
    with Fleet(open_folder) as running:
        yield running


def zone(hosts: int = 4) -> str:
    """daum.example's records: each MX has its own preference and one address."""
    mx = "".join(f"@ MX {10 * n} mx{n}\nmx{n} A {IPS[n]}\n" for n in range(1, hosts + 1))
    return mx + '@ TXT "v=spf1 -all"\n'


@pytest.fixture
def nsd(open_folder: Path) -> Iterator[Nsd]:
    """NSD with daum.example and its four MX."""
    server = Nsd(open_folder / "nsd", DNS_PORT, {"daum.example": zone()}).start()
    yield server
    server.stop()


def network(path: Path, ips: dict[str, str], *, sender: str = SENDER, **more: Any) -> Any:
    """smtpkit's own Internet: real sockets and DNS, documentation addresses led to loopback, no pauses."""
    import smtpkit as sk

    reroute = {(outside, 25): (inside, PORT) for outside, inside in ips.items()}
    settings: dict[str, Any] = {
        "nameservers": [("127.0.0.1", DNS_PORT)],
        "source_ip": sender,
        "reroute": reroute,
        "pace": sk.Pace.none(),
        "helo": "mail.ours.example",
        "casebook": path / "casebook.sqlite",
        "ledger": path / "ledger.sqlite",
    }
    return sk.internet(**(settings | more))


@pytest.fixture
def fleet_network(fleet: Fleet, nsd: Nsd, tmp_path: Path) -> Any:
    """The four Postfix, as the world sees them."""
    return network(tmp_path, {IPS[n]: fleet[n].ip for n in IPS})
