"""How fast is the lab itself? Run: python tests/bench/bench_lab.py

A bench of the engine against the lab measures both: these figures say what the lab's share can be.
"""

import socket
import statistics
import time

from smtpkit.lab import Lab

DIALOGUE = (b"EHLO c.example\r\n", b"MAIL FROM:<a@ours.example>\r\n", b"RCPT TO:<r@daum.example>\r\n")


def session(address: tuple[str, int], body: bytes) -> None:
    with socket.create_connection(address) as sock, sock.makefile("rb") as file:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for command in (b"", *DIALOGUE, *((b"DATA\r\n", body + b".\r\n") if body else ()), b"QUIT\r\n"):
            sock.sendall(command)
            while file.readline()[3:4] == b"-":
                pass


def rate(address: tuple[str, int], times: int, body: bytes = b"") -> float:
    begun = time.perf_counter()
    for _ in range(times):
        session(address, body)
    return times / (time.perf_counter() - begun)


def start() -> float:
    begun = time.perf_counter()
    lab = Lab("healthy").start()
    took = time.perf_counter() - begun
    lab.close()
    return took


if __name__ == "__main__":
    starts = [start() for _ in range(50)]
    print(f"start of four servers: median {statistics.median(starts):.4f} s, worst {max(starts):.4f} s")
    with Lab("healthy") as lab:
        address = lab.network.where("192.0.2.11", 25)
        print(f"sessions to RCPT, one after another: {rate(address, 1000):.0f} a second")
        megabyte = (b"x" * 998 + b"\r\n") * 1000
        print(f"messages of 1 MB, one after another: {rate(address, 50, megabyte):.0f} a second")
