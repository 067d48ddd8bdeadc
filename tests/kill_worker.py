"""kill_worker: sends numbered messages in a process of its own, over and over, whoever kills it.

Run by test_kill: `python -m tests.kill_worker CASEBOOK PORT COUNT`. It imports all once, then for each number
on its input forks a child that sends all messages from that number on, as a cell that is run again does; it
answers with the child's process id and, once it ended, with its status. Not here: the server, the judging.
"""

import os
import sys
from pathlib import Path

import smtpkit as sk

TO = "r@fault.example"


def message(n: int) -> bytes:
    """Message `n`; its number is in Message-ID, so that the server can count."""
    head = f"From: me@ours.example\r\nTo: {TO}\r\nSubject: {n}\r\nMessage-ID: <{n}@ours.example>\r\n"
    return f"{head}Date: Wed, 25 Nov 2026 01:00:00 +0000\r\n\r\nnumber {n}\r\n".encode()


def send_all(path: Path, port: int, numbers: range) -> None:
    network = sk.internet(
        allow_networks=["127.0.0.0/8"], pace=sk.Pace.none(), helo="client.example",
        casebook=path, ledger=path.with_suffix(".ledger"),
        guard=sk.Guard(allow_to=(TO,), max_messages=10**6, max_connections=10**6),
    )  # fmt: skip
    for n in numbers:
        where = {"server": ("127.0.0.1", port), "server_name": "mx.fault.example", "tls": "off"}
        sk.send(message(n), TO, sender="me@ours.example", live=True, network=network, case="kills", **where)


def tell(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def main(path: str, port: str, count: str) -> None:
    assert callable(sk.send)  # loads all that a send needs, before the fork
    sk.Casebook(Path(path)).attempts()
    for first in sys.stdin:
        pid = os.fork()
        if not pid:
            send_all(Path(path), int(port), range(int(first), int(count)))
            os._exit(0)
        tell(pid)
        tell(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
