"""frames: simulated attempts frames for tests, and stand-ins for a Diagnosis.

A frame is told by one function: what does MX IP number `i` say in round `r`, `hour` hours after the start?
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from smtpkit import attempts

OURS, OURS2, THEIRS = "198.51.100.7", "198.51.100.8", "daum.example"
FACTS = ("outcome", "stage", "code", "enhanced", "reply", "reason", "scope", "error")
SAYS: dict[str, tuple[Any, ...]] = {
    "good": ("passed", "rcpt", 250, "2.1.5", "250 2.1.5 Recipient ok", None, None, None),
    "sent": ("accepted", "body", 250, "2.0.0", "250 2.0.0 Ok: queued", None, None, None),
    "bad": ("rejected", "rcpt", 554, "5.7.1", "554 5.7.1 [{us}] blocked", "ip_blocked", "source_ip", None),
    "busy": ("deferred", "banner", 421, "4.7.0", "421 4.7.0 too many", "rate_limited", "source_ip", None),
    "grey": ("deferred", "rcpt", 451, "4.7.1", "451 4.7.1 Greylisted", "greylisted", "recipient", None),
    "nobody": ("rejected", "rcpt", 550, "5.1.1", "550 5.1.1 No user", "recipient_unknown", "recipient", None),
    "mute": ("failed", "connect", None, None, None, "network", "mx_host", "timeout"),
    "torn": ("unknown", "body", None, None, None, "network", "mx_host", "lost"),
    "held": ("withheld", "connect", None, None, None, None, None, "paced"),
}
Kind = Callable[[int, int, float], str]


def row(kind: str, at: pd.Timestamp, number: int, **more: Any) -> dict[str, Any]:
    """One attempt at MX host `number` of daum.example, answered as SAYS[kind]."""
    us = more.get("sender_ip") or OURS
    made = dict(zip(FACTS, SAYS[kind], strict=True))
    made["reply"] = made["reply"] and made["reply"].format(us=us)
    ident = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{at.isoformat()} {number} {us} {more.get('recipient')}"))
    made |= {"attempt_id": ident, "session": ident, "case": "d1", "source": "probe", "started_at": at}
    made |= {"domain": THEIRS, "mx_host": f"mx{number + 1}.{THEIRS}", "mx_pref": 10 if number < 8 else 20}
    made |= {"mx_ip": f"192.0.2.{11 + number}", "port": 25, "vantage": "relay1", "local_ip": us}
    made |= {"sender_ip": us, "helo": "relay1.ours.example", "sender": "news@ours.example", "asked": "rcpt"}
    made |= {"recipient": f"r@{THEIRS}", "recipient_domain": THEIRS, "try_number": 1, "latency_s": 0.12}
    return made | more


def rounds(
    n: int, count: int, says: Kind, *, begun: str = "2026-11-24 00:30", gap: float = 5, **more: Any
) -> pd.DataFrame:
    """`count` interleaved rounds over n MX IPs, one session every `gap` seconds."""
    start = pd.Timestamp(begun, tz="UTC")
    rows = [
        row(says(i % n, i // n, gap * i / 3600), start + pd.Timedelta(seconds=gap * i), i % n, **more)
        for i in range(n * count)
    ]
    return attempts.frame(rows)


def join(*parts: pd.DataFrame) -> pd.DataFrame:
    """Several frames as one, in order of time, with the schema's dtypes."""
    return attempts.conform(pd.concat(parts).sort_values("started_at", ignore_index=True))


def only(*bad: int, kind: str = "bad", since: float = 0.0) -> Kind:
    """MX IPs numbered in `bad` answer as `kind` from hour `since` on, all others well."""
    return lambda i, _round, hour: kind if i in bad and hour >= since else "good"


BACK = (6.5, 13.0, 27.5, 33.0, 51.0, 99.0)


def staircase(back: Sequence[float] = BACK) -> pd.DataFrame:
    """Six MX IPs that take the sender off their lists one by one, `back` hours after the start."""
    says: Kind = lambda i, _round, hour: "bad" if hour < back[i] else "good"  # noqa: E731  one expression
    return rounds(len(back), 36, says, begun="2026-11-23 23:00", gap=1200)


def pairs() -> pd.DataFrame:
    """Two sender IPs; 192.0.2.13 refuses only the second."""
    return join(rounds(4, 10, only()), rounds(4, 10, only(2), begun="2026-11-24 00:30:02", sender_ip=OURS2))


def simpson() -> pd.DataFrame:
    """One dead mailbox that nearly always met 192.0.2.12: that IP looks guilty and is not."""
    dead, fine = f"gone@{THEIRS}", f"r@{THEIRS}"
    start = pd.Timestamp("2026-11-24 02:00", tz="UTC")
    plan = [(1, dead)] * 18 + [(0, dead)] * 2 + [(1, fine)] * 4 + [(0, fine)] * 30 + [(2, fine)] * 26
    rows = [
        row("nobody" if who == dead else "good", start + pd.Timedelta(seconds=37 * k), ip, recipient=who)
        for k, (ip, who) in enumerate(plan)
    ]
    return attempts.frame(rows)


@dataclass(frozen=True)
class Cause:
    """Stand-in with the fields of smtpkit.diagnosis.Cause."""

    kind: str
    dimension: str
    values: tuple[str, ...] = ()
    only_for: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    onset: pd.Timestamp | None = None
    recovery: pd.Timestamp | None = None
    recoveries: Mapping[str, pd.Timestamp | None] = field(default_factory=dict)
    confidence: float = 0.99
    evidence: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False)


@dataclass(frozen=True)
class Diagnosis:
    """Stand-in with the fields of smtpkit.diagnosis.Diagnosis."""

    causes: tuple[Cause, ...] = ()
    verdict: str = ""
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    more_probes: Mapping[str, int] = field(default_factory=dict)
    considered: int = 1


def values(frame: pd.DataFrame, *names: str) -> list[list[Any]]:
    """Some columns as lists, missing ones None; a log's rows by file and line."""
    found = frame.sort_values(["file", "line"])[list(names)] if "line" in frame else frame[list(names)]
    return found.astype(object).where(found.notna(), None).to_numpy().tolist()
