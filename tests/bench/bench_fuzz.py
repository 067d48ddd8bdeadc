"""Mutated replies by the million. Run: python -m tests.bench.bench_fuzz [COUNT] [SEED]

For each: no exception but our own, none takes over 50 ms, every octet is kept, and the reader calls a reply good
only if an independent strict regular expression does.
"""

import random
import re
import sys
import time

from smtpkit.reply import ReplyReader

GOOD = re.compile(rb"(?:([2-5][0-9]{2})-[^\n]*\n)*([2-5][0-9]{2})(?: [^\n]*)?\r?\n", re.DOTALL)
SEEDS = [
    b"220 mx.example ESMTP Postfix\r\n",
    b"250-mx.example\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-STARTTLS\r\n250 SMTPUTF8\r\n",
    b"250 2.1.0 <me@ours.example>... Sender ok\r\n",
    b"354 End data with <CR><LF>.<CR><LF>\r\n",
    b"250 2.0.0 Ok: queued as 4F1D2A\r\n",
    b"554-5.7.1 Service unavailable; client [192.0.2.1] blocked\r\n554 5.7.1 see https://block.example\r\n",
    b"421 4.4.5 CCRT 198.51.100.7: Connection refused. Server is busy(RT)\r\n",
    b"550 5.1.1 " + "없는 사용자입니다".encode("euc-kr") + b"\r\n",
    b"250\r\n", b"250 ok\n", b"HTTP/1.1 400 Bad Request\r\n\r\n",
]  # fmt: skip
PARTS = [b"\r\n", b"\n", b"\r", b"-", b" ", b"2", b"5", b"250", b"550 ", b"\0", b"\xff", b"\x1b", b"9" * 70]


def mutate(octets: bytes, chance: random.Random) -> bytes:
    """One to six changes: an octet set, a piece put in, cut out or doubled, two replies spliced."""
    made = bytearray(octets)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(made) + 1)
        kind = chance.randrange(5)
        if kind == 0 and made:
            made[at % len(made)] = chance.randrange(256)
        elif kind == 1:
            made[at:at] = chance.choice(PARTS)
        elif kind == 2:
            del made[at : at + chance.randint(1, 8)]
        elif kind == 3:
            made[at:at] = made[at : at + chance.randint(1, 40)]
        else:
            made[at:] = chance.choice(SEEDS)[chance.randrange(8) :]
    return bytes(made)


def check(octets: bytes, chance: random.Random) -> str:
    """Read `octets` in pieces: good, broken or open (no whole reply). AssertionError if a rule is broken."""
    reader, raw, said = ReplyReader(), b"", "open"
    cut = sorted(chance.randrange(len(octets) + 1) for _ in range(chance.randrange(4)))
    for begin, end in zip([0, *cut], [*cut, len(octets)], strict=True):
        reader.feed(octets[begin:end])
        while (reply := reader.next()) is not None:
            raw += reply.raw
            codes = {line[:3] for line in reply.raw.split(b"\n")[:-1]}
            strict = bool(GOOD.fullmatch(reply.raw)) and len(codes) == 1
            good = not reply.broken and (reply.code or 0) // 100 in (2, 3, 4, 5)
            assert good == strict, f"told {reply}, and the strict grammar says {strict}"
            assert [str(reply.text), str(reply.enhanced)]
            said = "good" if good else "broken"
    assert raw + b"".join(reader._lines) + reader._buffer == octets, "octets were lost"
    return said


def run(count: int, seed: int) -> tuple[dict[str, int], float]:
    """How many ended in which way, and the slowest in seconds."""
    chance, ended, slowest = random.Random(seed), {"good": 0, "broken": 0, "open": 0}, 0.0
    for _ in range(count):
        octets = mutate(chance.choice(SEEDS), chance)
        begun = time.thread_time()
        ended[check(octets, chance)] += 1
        slowest = max(slowest, time.thread_time() - begun)
    return ended, slowest


def main(count: str = "1000000", seed: str = "1") -> None:
    begun = time.perf_counter()
    ended, slowest = run(int(count), int(seed))
    took = time.perf_counter() - begun
    print(f"{count} mutated replies in {took:.0f} s ({took / int(count) * 1e6:.1f} us each): {ended}")
    print(f"slowest {slowest * 1000:.2f} ms; no exception, no octet lost, none good that the grammar refuses")
    assert slowest < 0.05


if __name__ == "__main__":
    main(*sys.argv[1:])
