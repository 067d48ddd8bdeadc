"""limits: how long to wait and how often to ask, as pure values. Not here: clocks, sleeping, the ledger on disk."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import takewhile
from typing import Any

from smtpkit.errors import listed, quantity

LONGEST = 1e8
"""Seconds, three years: the longest wait; a kernel's clock does not take any number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Deadlines for whole replies, in seconds on the monotonic clock (RFC 5321 4.5.3.2).

    The RFC's minimums are for a queue (5 minutes each); a person at a notebook waits less. Only the wait
    after the final dot is never cut: to give up there means "maybe delivered", not "failed".
    Raises InvalidInput for a wait that is not a positive number.

    >>> Timeouts(reply=30).final
    600
    """

    connect: float = 30
    """TCP handshake, s. No RFC value; Linux itself gives up after about 127 s."""
    handshake: float = 30
    """TLS handshake, s. No RFC value."""
    reply: float = 120
    """Greeting and each command, s. RFC: 300, DATA 120; banners after 20 to 30 s are common."""
    final: float = 600
    """Reply to the final dot, s. RFC 5321 4.5.3.2.6: 600; shorter for a lab only."""
    quit: float = 5
    """Reply to QUIT, s; it is recorded, never judged."""
    idle: float = 270
    """How long a session parked by hand may wait for the user, s; servers allow 300 (RFC 5321 4.5.3.2.7)."""
    body_rate: float = 500
    """Octets per second below which a server counts as no longer reading (Postfix smtp_min_data_rate)."""
    total: float | None = None
    """The whole attempt up to the final dot, s; None: only the single limits count."""

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            if name != "total" or self.total is not None:
                object.__setattr__(self, name, quantity(name, getattr(self, name), 1e-6, LONGEST))


@dataclass(frozen=True, slots=True)
class Visit:
    """One session at a receiver, as the ledger remembers it; times are seconds since 1970."""

    at: float
    ip: str
    ended: float | None = None
    refused: bool | None = False
    """None: we broke it off, or its process was killed, so nobody knows."""
    stop: bool = False


HOUR, DAY = 3600.0, 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often one receiver may be asked; the defaults keep an investigator off blacklists.

    Pure: `.wait(visits, ip, now)` gives seconds, somebody else sleeps. None in a limit means "no limit".
    Raises InvalidInput for a negative gap or a limit below one.

    >>> Pace().wait([Visit(at=100.0, ip="192.0.2.1", ended=101.0)], "192.0.2.2", now=102.0)
    4.0
    """

    at_once: int | None = 1
    """Open connections per receiver at a time."""
    receiver_gap: float = 5
    """Seconds between the end of one session and the start of the next, per receiver."""
    ip_gap: float = 20
    """The same per IP address."""
    per_hour: int | None = 60
    per_day: int | None = 200
    rests: tuple[float, ...] = (60, 120, 300)
    """Rest of an IP after its first, second, third and later refusal in a row, s."""
    asks_after_refusal: int = 5
    """How often an IP that refused is asked again in one run."""
    receiver_rest: float = 1800
    """Rest of the whole receiver after words like "too many", s."""
    patience: float = 900
    """A longer wait is not waited for: the job becomes a row, withheld, error paced."""

    def __post_init__(self) -> None:
        made: dict[str, Any] = {"rests": tuple(quantity("rests", rest) for rest in listed("rests", self.rests))}
        for name in ("receiver_gap", "ip_gap", "receiver_rest", "patience", "asks_after_refusal"):
            made[name] = quantity(name, getattr(self, name), whole=name.startswith("asks"))
        for name in ("at_once", "per_hour", "per_day"):
            limit = getattr(self, name)
            made[name] = None if limit is None else quantity(name, limit, 1, whole=True)
        for name, value in made.items():
            object.__setattr__(self, name, value)

    @staticmethod
    def none() -> "Pace":
        """No pauses at all; honoured only for rerouted, or allowed non-global, addresses (a lab).

        >>> Pace.none().wait([], "192.0.2.1", 0.0)
        0.0
        """
        return Pace(
            at_once=None, receiver_gap=0, ip_gap=0, per_hour=None, per_day=None, rests=(0,), receiver_rest=0,
            asks_after_refusal=1_000_000,
        )  # fmt: skip

    def wait(self, visits: Sequence[Visit], ip: str, now: float) -> float:
        """Seconds until `ip` may be asked, given the receiver's visits (any order); 0.0: now.

        An open visit (ended None) counts against at_once: then the gap that would follow is the answer.

        >>> Pace(ip_gap=20).wait([Visit(at=0.0, ip="192.0.2.1", ended=1.0)], "192.0.2.1", now=11.0)
        10.0
        """
        mine = [v for v in visits if v.ip == ip]
        at = [now, self._after_rest(mine), self._after_gap(mine, self.ip_gap)]
        at += [self._after_gap(visits, self.receiver_gap)]
        at += [(v.ended or v.at) + self.receiver_rest for v in visits if v.stop]
        at += [self._after_full(visits, self.per_hour, HOUR), self._after_full(visits, self.per_day, DAY)]
        if self.at_once is not None and sum(v.ended is None for v in visits) >= self.at_once:
            at.append(now + max(self.receiver_gap, 0.1))
        return max(at) - now

    def _after_gap(self, visits: Sequence[Visit], gap: float) -> float:
        return max((v.ended + gap for v in visits if v.ended is not None), default=0.0)

    def _after_rest(self, visits: Sequence[Visit]) -> float:
        told = sorted((v for v in visits if None not in (v.ended, v.refused)), key=lambda v: v.at)
        row = [v.ended or v.at for v in takewhile(lambda v: v.refused, reversed(told))]
        return row[0] + self.rests[min(len(row), len(self.rests)) - 1] if row and self.rests else 0.0

    def _after_full(self, visits: Sequence[Visit], limit: int | None, span: float) -> float:
        if limit is None or len(visits) < limit:
            return 0.0
        return sorted(v.at for v in visits)[-limit] + span
