"""rules: the lab's clock, which rule of a scenario answers now, its reply. Not here: the dialogue (server)."""

import re
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from functools import cached_property
from types import SimpleNamespace
from typing import Any

Facts = dict[str, Any]
"""What a server knows of a session: the words below, random, tls, message."""
_WORDS = ("host", "ip", "client", "helo", "sender", "recipient", "size")
_NOTHING = SimpleNamespace(delay=0.0, reply="", drop="")


class Clock:
    """Seconds since the lab was first asked something, `speed` times faster than real ones, moved on by hand."""

    def __init__(self, speed: float) -> None:
        self.speed, self._jumps = speed, list[tuple[float, float]]()

    @cached_property
    def _zero(self) -> tuple[float, datetime]:
        return time.monotonic(), datetime.now(UTC)

    def now(self) -> float:
        """Lab seconds since the time was first asked for."""
        zero, jumped = self._zero[0], sum(seconds for _, seconds in self._jumps)
        return (time.monotonic() - zero) * self.speed + jumped

    def advance(self, seconds: float) -> None:
        """Let `seconds` of the lab pass at once."""
        self._jumps.append((self.now(), seconds))

    def when(self, at: float) -> datetime | None:
        """The real moment (UTC) at which the lab's clock shows `at`, or showed it; None for never."""
        if abs(at) == float("inf"):
            return None
        jumped = sum(min(seconds, at - before) for before, seconds in self._jumps if before < at)
        return self._zero[1] + timedelta(seconds=(at - jumped) / self.speed)


class Rulebook:
    """The rules of a scenario and what they remember; all servers of a lab share one."""

    def __init__(self, rules: Sequence[SimpleNamespace], clock: Clock) -> None:
        self._rules, self._clock, self._lock = list(enumerate(rules)), clock, threading.Lock()
        self._first, self._stuck = dict[object, float](), defaultdict[object, float](float)
        self._times = defaultdict[object, list[float]](list)

    def match(self, stage: str, facts: Facts) -> SimpleNamespace:
        """The first rule, in the order of the file, that holds at this stage; else one that does nothing."""
        with self._lock:
            now = self._clock.now()
            fit = (one for one in self._rules if stage in one[1].stage and _fits(one[1], facts, now))
            return next((rule for number, rule in fit if self._holds(number, rule, facts, now)), _NOTHING)

    def _holds(self, number: int, rule: SimpleNamespace, facts: Facts, now: float) -> bool:
        """The conditions that remember."""
        key = (number, facts["client"], facts["ip"] if rule.per_server else "")
        if self._stuck[key] > now:
            return True
        whom = (*key, facts["sender"].lower(), facts["recipient"].lower())
        if rule.first and now - self._first.setdefault(whom, now) >= rule.first:
            return False
        times = self._times[key] = [at for at in self._times[key] if at > now - 3600] + [now]
        counts = (rule.per_minute, sum(at > now - 60 for at in times)), (rule.per_hour, len(times))
        over = [count > limit for limit, count in counts if limit] or [True]
        if not any(over) or facts["random"].random() >= rule.chance:
            return False
        self._stuck[key] = now + rule.sticky
        return True


def _fits(rule: SimpleNamespace, facts: Facts, now: float) -> bool:
    """The conditions that need no memory."""
    header = facts["message"].partition(b"\r\n\r\n")[0]
    given = [(getattr(rule, word), facts[word].lower()) for word in _WORDS[:-1]]
    return (
        all(not some or any(fnmatchcase(value, one.lower()) for one in some) for some, value in given)
        and not (rule.lacks and re.search(rb"(?im)^" + re.escape(rule.lacks.encode()) + rb"[ \t]*:", header))
        and rule.contains.encode() in facts["message"]
        and (not rule.larger or facts["size"] > rule.larger)
        and not (rule.clear and facts["tls"])
        and rule.since <= now < rule.until
    )


def wire(text: str, charset: str) -> bytes:
    """A reply as octets: each line of `text` gets the code and the enhanced code of the first."""
    head = re.match(r"... ([245]\.\d{1,3}\.\d{1,3} )?", text)
    lines = text.replace("\n", f"\n{head[0] if head else ''}").split("\n")
    made = [f"{line[:3]}-{line[4:]}" for line in lines[:-1]] + lines[-1:]
    return "".join(f"{line}\r\n" for line in made).encode(charset, "backslashreplace")


def fill(text: str, facts: Facts) -> str:
    """`text` with its {words} replaced; what a client said is never read as a word again."""
    words = {word: str(facts[word]) for word in _WORDS} | {"id": f"{facts['random'].getrandbits(40):010X}"}
    return re.sub(r"\{(\w+)\}", lambda match: words.get(match[1], match[0]), text)
