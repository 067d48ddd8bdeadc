"""A thousand SIGKILLs at protocol points. Run: python -m tests.bench.bench_kill [KILLS] [MESSAGES]

Sends MESSAGES messages with a worker that is killed KILLS times, at connect, EHLO, MAIL, RCPT, DATA, body, dot,
after the reply and at QUIT in turn; then judges as tests/test_kill.py does and prints what stands in the casebook.
"""

import sys
import tempfile
import time
from pathlib import Path

from tests.test_kill import judge, killed


def main(kills: int = 1000, messages: int = 2500) -> None:
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        server, rows, starts = killed(Path(folder) / "c.sqlite", kills, messages)
        judge(server, rows, kills, messages)
        print(f"{kills} kills over {messages} messages, {starts} starts, {time.perf_counter() - begun:.0f} s")
        print(f"kills by point: {dict(server.kills)}")
        print(f"rows: {rows['outcome'].value_counts().to_dict()}; lost 0, left twice 0")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
