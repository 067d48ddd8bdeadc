"""Ports for servers that are told where to listen: below those that the kernel gives to clients."""

import contextlib
import os
import random
import socket

_LOW, _HIGH = 15_000, 32_000
_DRAWN = random.Random(os.getpid())  # two workers of one run seldom try the same one; who does finds it taken


def free_port() -> int:
    """A port that is free for UDP and TCP on 127.0.0.1, and that the kernel hands to nobody who asks for any."""
    for _ in range(200):
        port = _DRAWN.randrange(_LOW, _HIGH)
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.socket() as tcp,
            contextlib.suppress(OSError),
        ):
            udp.bind(("127.0.0.1", port))
            tcp.bind(("127.0.0.1", port))
            return port
    raise AssertionError(f"no free port between {_LOW} and {_HIGH}")
