"""What a dialogue costs, evidence persisted, beside peers.

Run: python -m tests.bench.bench_dialogue [DIALOGUES] [ROUNDS]

The peers hand the same message to the same sink (Postfix's smtp-sink, a process of its own): Postfix's smtp-source
in C, a smtplib thread pool, aiosmtplib. smtpkit writes an intent row, a durable mark before the dot and the result
with all replies; the others write nothing. Each round runs all of them, in turn; ratios are medians of the rounds.
"""

import asyncio
import os
import resource
import smtplib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiosmtplib

import smtpkit as sk
from smtpkit.mx import MxHost

IP, PORT, SENDER, TO = "127.0.0.51", 2525, "me@ours.example", "r@daum.example"
MESSAGE = sk.build_message(sender=SENDER, to=TO, subject="bench", text="hello\n" * 100)
OCTETS = bytes(MESSAGE.octets)
AT_ONCE = 8


def by_smtpkit(n: int) -> None:
    """`send(mx="each")`: a copy to each of 200 addresses, all led to the sink."""
    with tempfile.TemporaryDirectory() as folder:
        addresses = [f"192.0.2.{k}" for k in range(1, 201)]
        network = sk.internet(
            reroute={(ip, 25): (IP, PORT) for ip in addresses}, pace=sk.Pace.none(), helo="mail.ours.example",
            casebook=Path(folder) / "casebook.sqlite", ledger=Path(folder) / "ledger.sqlite",
            guard=sk.Guard(allow_to=[TO], max_messages=10**6, max_connections=10**6),
        )  # fmt: skip
        hosts = tuple(MxHost(f"mx{k}.daum.example", 10, (ip,)) for k, ip in enumerate(addresses))
        for start in range(0, n, len(addresses)):
            chosen = hosts[: min(len(addresses), n - start)]
            frame = sk.send(
                MESSAGE, TO, live=True, again=True, mx="each", tls="off", network=network,
                domain=sk.MxRoute("daum.example", "mx", chosen),
            )  # fmt: skip
            assert set(frame["outcome"]) == {"accepted"}, frame["outcome"].value_counts()


def one_by_smtplib(_: int) -> None:
    with smtplib.SMTP(IP, PORT, local_hostname="mail.ours.example") as client:
        client.sendmail(SENDER, TO, OCTETS)


def by_smtplib(n: int) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one_by_smtplib, range(n)))


def by_aiosmtplib(n: int) -> None:
    async def one(gate: asyncio.Semaphore) -> None:
        async with (
            gate,
            aiosmtplib.SMTP(hostname=IP, port=PORT, local_hostname="mail.ours.example") as client,
        ):
            await client.sendmail(SENDER, [TO], OCTETS)

    async def every() -> None:
        gate = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(one(gate) for _ in range(n)))

    asyncio.run(every())


def by_smtp_source(n: int) -> None:
    with tempfile.NamedTemporaryFile(suffix=".eml") as file:
        file.write(OCTETS)
        file.flush()
        command = [
            "/usr/sbin/smtp-source",
            "-m",
            str(n),
            "-s",
            str(AT_ONCE),
            "-f",
            SENDER,
            "-t",
            TO,
            "-F",
            file.name,
        ]
        subprocess.run([*command, f"inet:{IP}:{PORT}"], check=True)


PEERS: dict[str, Callable[[int], None]] = {
    "smtp-source": by_smtp_source, "smtplib pool": by_smtplib, "aiosmtplib": by_aiosmtplib, "smtpkit": by_smtpkit,
}  # fmt: skip


def cost(work: Callable[[int], None], n: int) -> tuple[float, float]:
    """(CPU, wall) of n dialogues, in ms each; CPU of this process and its children, the sink's left out."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    begun = time.perf_counter()
    work(n)
    wall = time.perf_counter() - begun
    then = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(t.ru_utime + t.ru_stime - b.ru_utime - b.ru_stime for t, b in zip(then, (own, children), strict=True))
    return 1000 * cpu / n, 1000 * wall / n


def main(n: int = 400, rounds: int = 5) -> None:
    command = ["/usr/sbin/smtp-sink", "-u", "nobody", f"inet:{IP}:{PORT}", "1000"]
    sink = subprocess.Popen(command if os.geteuid() == 0 else command[:1] + command[3:])
    try:
        time.sleep(0.5)
        for work in PEERS.values():
            work(8)
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in PEERS}
        for _ in range(rounds):
            for name, work in PEERS.items():
                took[name].append(cost(work, n))
    finally:
        sink.terminate()
        sink.wait()
    print(
        f"{n} dialogues a round, {rounds} rounds, {AT_ONCE} at once; ms a dialogue (median), smtpkit's ratio to it"
    )
    print("| peer | CPU, ms | wall, ms | smtpkit CPU / peer | smtpkit wall / peer |\n|---|---|---|---|---|")
    for name, rows in took.items():
        cpu, wall = (statistics.median(column) for column in zip(*rows, strict=True))
        ours = took["smtpkit"]
        ratio = [statistics.median(o[k] / r[k] for o, r in zip(ours, rows, strict=True)) for k in (0, 1)]
        print(f"| {name} | {cpu:.2f} | {wall:.2f} | {ratio[0]:.2f} | {ratio[1]:.2f} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
