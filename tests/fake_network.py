"""fake_network: a Network for unit tests whose DNS is a dict; it opens nothing and remembers what was asked.

FakeNetwork({"ours.example": {"TXT": ["v=spf1 -all"]}, "slow.example": "timeout"})
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from smtpkit.checks.recorder import shown
from smtpkit.errors import NotAllowed
from smtpkit.network import Answer

Zone = Mapping[str, str | Mapping[str, Sequence[str] | str]]
"""Name to a status ("servfail", "timeout", "nxdomain") or to {kind: rows, or a status}; "*" is any kind."""


class FakeNetwork:
    """Answers from a dict as a resolver would: CNAMEs followed, NODATA and NXDOMAIN told apart."""

    label, sender_ip, helo = "fake", None, None
    guard = pace = timeouts = None
    casebook, ledger = None, Path("unused.sqlite")

    def __init__(self, zone: Zone, *, delay: float = 0.0, secure: Sequence[str] = (), **more: Any) -> None:
        self.zone: dict[str, Any] = {name.rstrip(".").lower(): told for name, told in zone.items()}
        self.delay, self.secure = delay, {name.lower() for name in secure}
        self.asked: list[tuple[str, str]] = []
        self.__dict__ |= more

    def resolve(self, name: str, kind: str) -> Answer:
        self.asked.append((name, kind))
        time.sleep(self.delay)
        asked = name = name.rstrip(".").lower()
        for _ in range(8):
            told = self.zone.get(name)
            if isinstance(told, str):
                return Answer(told, detail=f"{told} from the fake")  # type: ignore[arg-type]  a status
            if not told or kind in told or "CNAME" not in told:
                break
            name = told["CNAME"][0].rstrip(".").lower()
        more = {"canonical": name if name != asked else None, "secure": asked in self.secure}
        if told is None:
            below = any(known.endswith("." + name) for known in self.zone)
            return Answer("nodata" if below else "nxdomain", **more)
        said = told.get(kind, told.get("*", ()))
        if isinstance(said, str):
            return Answer(said, detail=f"{said} from the fake")  # type: ignore[arg-type]  a status
        return Answer("ok", tuple(said), 300, **more) if said else Answer("nodata", **more)

    def open(self, ip: str, port: int) -> Any:
        raise NotAllowed(f"the fake network opens nothing, {ip} port {port} neither")

    def page(self, url: str, get: Callable[[], str]) -> Answer:
        return shown(get)

    def where(self, ip: str, port: int) -> tuple[str, int]:
        return ip, port


def reverse(ip: str, zone: str) -> str:
    """The name that asks `zone` about `ip`."""
    import ipaddress

    return ipaddress.ip_address(ip).reverse_pointer.rsplit(".", 2)[0] + "." + zone
