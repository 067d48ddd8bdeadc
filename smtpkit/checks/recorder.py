"""recorder: DNS answers by a deadline, kept in a file and shown again. Not here: attempts (casebook)."""

import json
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

from smtpkit.errors import InvalidInput, NotAllowed
from smtpkit.network import Answer


class Within:
    """A network for one preflight: each question is asked once, and every answer is there by the deadline.

    One question may take a third of the time, so that a dead name server does not silence the others.
    """

    def __init__(self, network: Any, seconds: float) -> None:
        self._network, self._seconds, self._end = network, seconds, time.monotonic() + seconds
        self._asked: dict[tuple[str, str], tuple[Future[Answer], float]] = {}
        self.pool = ThreadPoolExecutor(32)
        self.links: list[Any] = []
        """Connections that may be open when the time is up."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    @property
    def left(self) -> float:
        """Seconds to the deadline, at least 0."""
        return max(self._end - time.monotonic(), 0.0)

    def end(self) -> None:
        """Wait for nobody, and end what drips: Python's own end would wait for its thread."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        for link in self.links:
            with suppress(OSError, AttributeError):  # it has ended, and perhaps closed its socket
                link.sock.shutdown(2)

    def resolve(self, name: str, kind: str) -> Answer:
        """The answer; a timeout that says so where it is not there in time."""
        return self._once(name, kind, self._seconds / 3, partial(self._network.resolve, name, kind))

    def page(self, url: str, get: Callable[[], str]) -> Answer:
        """What another server shows: a policy file, certificates."""
        then = partial(self._network.resolve, url, "PAGE") if isinstance(self._network, Replay) else None
        return self._once(url, "PAGE", self._seconds, then or partial(shown, get))

    def _once(self, name: str, kind: str, seconds: float, ask: Callable[[], Answer]) -> Answer:
        if (key := (name.rstrip(".").lower(), kind)) not in self._asked and self.left:
            self._asked[key] = self.pool.submit(ask), min(time.monotonic() + seconds, self._end)
        try:
            future, until = self._asked[key]
            return future.result(max(until - time.monotonic(), 0))
        except (KeyError, TimeoutError):
            return Answer("timeout", detail=f"no answer within the {self._seconds:g} s for all checks")

    def save(self, path: str | Path) -> None:
        """Write what was answered, readable by you only; a DQS key is written as <key>."""
        told = [(*key, future.result()) for key, (future, _) in self._asked.items() if future.done()]
        lines = [json.dumps({"name": name, "kind": kind} | asdict(answer)) for name, kind, answer in told]
        Path(path).touch(mode=0o600)
        Path(path).write_text(masked("\n".join(lines), dqs_key(self._network)), "utf-8")


class Replay:
    """A recording as a network: what was not asked then is a timeout, never "no record". Opens nothing.

    Raises InvalidInput for a file that is no recording.
    """

    label, sender_ip, helo, casebook = "replay", None, None, None

    def __init__(self, path: str | Path) -> None:
        self.known: dict[tuple[str, str], Answer] = {}
        for number, line in enumerate(Path(path).read_text("utf-8").splitlines(), 1):
            try:
                row = json.loads(line)
                key = row.pop("name"), row.pop("kind")
                self.known[key] = Answer(**row | {"rows": tuple(row["rows"])})
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise InvalidInput(f"{path} line {number} is no recorded answer ({error!r})") from error
        self.dqs_key = "<key>" if any("<key>" in name for name, _ in self.known) else ""

    def resolve(self, name: str, kind: str) -> Answer:
        """The answer of then; kind PAGE: what another server showed at that URL."""
        return self.known.get((name.rstrip(".").lower(), kind), Answer("timeout", detail="not in the recording"))


def shown(get: Callable[[], str]) -> Answer:
    """What `get` gives as the one row of an answer; its error as why there is none."""
    try:
        return Answer("ok", (get(),))
    except (OSError, HTTPException) as error:
        return Answer("timeout" if isinstance(error, (NotAllowed, TimeoutError)) else "nodata", detail=str(error))


def dqs_key(network: Any) -> str:
    """The key for Spamhaus' Data Query Service: a recording's mark for it, else from the environment."""
    return str(getattr(network, "dqs_key", os.environ.get("SMTPKIT_DQS_KEY", "")))


def masked(text: str, key: str) -> str:
    """`text` with the key written as <key>."""
    return re.sub(re.escape(key), "<key>", text, flags=re.IGNORECASE) if key else text
