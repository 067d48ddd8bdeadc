"""bench_logs: read_log against a per-line `re` reader, pflogsumm and grep, on one generated Postfix log.

`python -m tests.bench.bench_logs --megabytes 300 --rounds 9`: whole processes in turn, medians of the ratios inside
a round, CPU (user + system) and wall. Not here: whether the rows are right (tests/test_logs.py).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests import loggen

READ = "import sys, smtpkit as sk; print(len(sk.read_log(sys.argv[1])))"
PLAIN = "import sys; from tests import logref; print(len(logref.read(open(sys.argv[1], encoding='utf-8'))))"
SHARES = {
    "re-line": (4.0, "times faster than a per-line re"),
    "pflogsumm": (8.0, "times faster than pflogsumm"),
}


@dataclass
class Took:
    """One process."""

    wall: float
    cpu: float
    peak_mb: float


def run(command: list[str], **more: object) -> Took:
    """Run it with its output into a pipe; its own CPU time and peak memory."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, **more)
    while process.stdout.read(1 << 20):
        pass
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return Took(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def commands(path: Path) -> dict[str, list[str]]:
    return {
        "smtpkit": [sys.executable, "-c", READ, str(path)],
        "re-line": [sys.executable, "-c", PLAIN, str(path)],
        "pflogsumm": ["pflogsumm", str(path)],
        "grep": ["grep", "-a", "status=", str(path)],
    }


def rounds(path: Path, count: int, peers: list[str]) -> dict[str, list[Took]]:
    took: dict[str, list[Took]] = {name: [] for name in ["smtpkit", *peers]}
    for number in range(count):
        for name in took:
            took[name].append(run(commands(path)[name]))
        shown = ", ".join(f"{n} {t[-1].wall:.2f} s wall {t[-1].cpu:.2f} s CPU" for n, t in took.items())
        print(f"round {number + 1}: {shown}", flush=True)
    return took


def told(took: dict[str, list[Took]]) -> None:
    """Medians, and the median of the ratios inside a round, with their range."""
    for name, all_ in took.items():
        wall, cpu = (statistics.median(getattr(t, what) for t in all_) for what in ("wall", "cpu"))
        print(f"{name:10} wall {wall:.2f} s, CPU {cpu:.2f} s, peak {max(t.peak_mb for t in all_):.0f} MB")
    for name in [n for n in took if n != "smtpkit"]:
        for what in ("wall", "cpu"):
            pairs = zip(took["smtpkit"], took[name], strict=True)
            ratios = sorted(getattr(theirs, what) / getattr(ours, what) for ours, theirs in pairs)
            middle = statistics.median(ratios)
            if name == "grep":
                low, high = 1 / ratios[-1], 1 / ratios[0]
                print(f"{what}: smtpkit takes {1 / middle:.1f} x grep's [{low:.1f}-{high:.1f}]")
            else:
                print(f"{what}: {name} takes {middle:.1f} times smtpkit's [{ratios[0]:.1f}-{ratios[-1]:.1f}]")


def main() -> None:
    """Generate, run in turn, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=float, default=300)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peers", default="re-line,pflogsumm,grep")
    parser.add_argument("--log", type=Path, help="this log, and none that is generated")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = given.log or Path(folder) / "mail.log"
        if not given.log:
            loggen.write(path, given.megabytes, days=4000, per_day=60_000)
        told(rounds(path, given.rounds, given.peers.split(",")))


if __name__ == "__main__":
    main()
