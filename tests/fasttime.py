"""fasttime: hours of pacing in seconds: the campaign's and the engine's clock, many times faster.

Belongs here: FastTime, and putting it where `time` stands. Not here: what is asked of it.
"""

import time as real

import pytest

from smtpkit import campaign, engine, jobs


class FastTime:
    """Stands where the module `time` stands in campaign, engine and jobs; a wait there is as much shorter."""

    def __init__(self, speed: float) -> None:
        self.speed, self._zero, self._wall = speed, real.monotonic(), real.time()

    def monotonic(self) -> float:
        return self._zero + (real.monotonic() - self._zero) * self.speed

    def time(self) -> float:
        """The wall clock; it began at the real time."""
        return self._wall + (real.monotonic() - self._zero) * self.speed

    def sleep(self, seconds: float) -> None:
        real.sleep(seconds / self.speed)

    def thread_time(self) -> float:
        return real.thread_time()

    def install(self, patch: pytest.MonkeyPatch) -> "FastTime":
        for module in (campaign, engine, jobs):
            patch.setattr(module, "time", self)
        turn = engine.Engine.turn
        patch.setattr(engine.Engine, "turn", lambda this, wait: turn(this, wait / self.speed))
        return self
