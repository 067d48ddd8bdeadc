"""loggen: invented Postfix logs of any size, and what truly happened in them.

Belongs here: a sender's days (arrivals, deliveries, retries) as log lines in order of time, with the real count of
attempts and failures per MX IP. Not here: what a parser makes of it. `python -m tests.loggen --help`
"""

import argparse
import gzip
import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

STALE = "192.0.2.14"
KST = timezone(timedelta(hours=9))
START = datetime(2026, 3, 2, tzinfo=KST)
ONSET = START + timedelta(days=3, hours=9, minutes=12)
NAMES = "kim lee park choi jung kang cho yoon jang lim han oh seo shin kwon hwang ahn song ryu hong".split()
QUOTED = ('"a, b"', '"x>, relay=none"', '"sales team"', '"kim: to=<me"', '"no (status=sent"')
ALPHABET = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"
TLS = "TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits) key-exchange X25519 server-signature RSA-PSS"
TLS += " (2048 bits) server-digest SHA256"
DMARC = (
    "550-5.7.26 Your email has been blocked because the sender is unauthenticated. "
    "550-5.7.26 gmail.example requires"
)
DMARC += " all senders to authenticate with either SPF or DKIM. 550 5.7.26 See support {q} - gsmtp"
SUSPENDED = "delivery temporarily suspended: connect to mx1.gone.example[203.0.113.81]:25: Connection refused"
LOST = "lost connection with {server} while sending end of data -- message may be sent more than once"


@dataclass(frozen=True)
class Site:
    """A receiver: its MX as (name, address), how often mail goes there, how it answers."""

    domain: str
    mx: tuple[tuple[str, str], ...]
    weight: int
    tls: str = "Untrusted"
    dead: tuple[str, ...] = ()
    bounce: float = 0.01
    grey: float = 0.0
    unknown: str = "550 5.1.1 <{r}>: Recipient address rejected: User unknown in virtual mailbox table"


def _mx(domain: str, *ips: str, name: str = "mx{n}") -> tuple[tuple[str, str], ...]:
    return tuple((f"{name.format(n=n)}.{domain}", ip) for n, ip in enumerate(ips, 1))


NAVER = "550 5.1.1 <{r}>: 존재하지 않는 사용자입니다 - nsmtp"
SITES = (
    Site("daum.example", _mx("daum.example", *(f"192.0.2.{n}" for n in (11, 12, 13, 14)), name="mx"), 30),
    Site("naver.example", _mx("naver.example", *(f"198.51.100.2{n}" for n in (1, 2, 3))), 25, unknown=NAVER),
    Site("gmail.example", _mx("gmail.example", "2001:db8:4::1a", "203.0.113.26"), 25, "Trusted", unknown=DMARC),
    Site("slow.example", _mx("slow.example", "203.0.113.61", "203.0.113.62"), 6, "", grey=0.3),
    Site("half.example", _mx("half.example", "203.0.113.71", "203.0.113.72"), 6, dead=("203.0.113.71",)),
    Site("gone.example", _mx("gone.example", "203.0.113.81"), 3, dead=("203.0.113.81",)),
)


def rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, KST).isoformat(timespec="microseconds")


def rfc3164(at: float) -> str:
    moment = datetime.fromtimestamp(at, KST)
    return f"{moment:%b} {moment.day:2} {moment:%H:%M:%S}"


@dataclass
class Truth:
    """Attempts and failures (4xx, 5xx, no answer) per IP, and how many lines of which kind."""

    attempts: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    lines: Counter[str] = field(default_factory=Counter)

    def add(self, ip: str, good: bool) -> None:
        self.attempts[ip] += 1
        self.failed[ip] += not good


@dataclass
class Run:
    """One message in one smtp process: it begins at `begun`, the clock stands at `now`."""

    pid: int
    qid: str
    site: Site
    arrived: float
    begun: float
    now: float
    use: int = 1


@dataclass
class Sender:
    """One relay's traffic; `lines()` yields it in order of time, `truth` is whole after the last line."""

    seed: int = 1
    days: float = 7
    per_day: float = 600
    host: str = "relay1"
    stamp: Callable[[float], str] = rfc3339
    news: float = 0.2
    truth: Truth = field(default_factory=Truth)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._pids: list[tuple[float, int]] = []
        self._heap: list[tuple[float, int, str]] = []
        self._order, self._next_pid = 0, 4100

    def lines(self) -> Iterator[str]:
        """Log lines without line ends."""
        at, end = START.timestamp(), START.timestamp() + self.days * 86400
        while at < end:
            while self._heap and self._heap[0][0] <= at:
                yield heapq.heappop(self._heap)[2]
            self._message(at)
            at += self._rng.expovariate(self.per_day / 86400)
        while self._heap:
            yield heapq.heappop(self._heap)[2]

    def _say(self, at: float, tag: str, text: str, kind: str = "other") -> None:
        self._order += 1
        self.truth.lines[kind] += 1
        heapq.heappush(self._heap, (at, self._order, f"{self.stamp(at)} {self.host} postfix/{tag}: {text}"))

    def _pid(self, at: float) -> int:
        if self._pids and self._pids[0][0] < at:
            return heapq.heappop(self._pids)[1]
        self._next_pid += self._rng.randint(1, 9)
        return self._next_pid

    def _qid(self) -> str:
        if self._rng.random() < 0.3:
            return f"{self._rng.getrandbits(44):011X}"
        return "4" + "".join(self._rng.choices(ALPHABET, k=8)) + "z" + "".join(self._rng.choices(ALPHABET, k=5))

    def _message(self, at: float) -> None:
        rng, qid = self._rng, self._qid()
        site = rng.choices(SITES, [s.weight for s in SITES])[0]
        news = rng.random() < self.news
        who = [self._recipient(site.domain) for _ in range(rng.randint(8, 20) if news else 1)]
        sender = "news@ours.example" if news else f"{rng.choice(NAMES)}@ours.example"
        client = f"app{rng.randint(1, 9)}.ours.example[198.51.100.{rng.randint(2, 9)}]"
        opened = f"{qid}: from=<{sender}>, size={rng.randint(900, 60_000)}, nrcpt={len(who)} (queue active)"
        self._say(at, "smtpd[3011]", f"connect from {client}")
        self._say(at + 0.001, "smtpd[3011]", f"{qid}: client={client}")
        self._say(at + 0.002, "cleanup[3020]", f"{qid}: message-id=<{rng.getrandbits(60):x}.{qid}@ours.example>")
        self._say(at + 0.004, "qmgr[2001]", opened, "from")
        self._say(
            at + 0.005,
            "smtpd[3011]",
            f"disconnect from {client} ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5",
        )
        now, tries = at + 0.01, 0
        while who and (tries := tries + 1) < 5:
            use = rng.randint(2, 40) if rng.random() < 0.1 else 1
            run = Run(self._pid(now), qid, site, at, now, now, use)
            who = self._deliver(run, who)
            now = run.now + 0.01
            heapq.heappush(self._pids, (now, run.pid))
            if who and tries < 4:
                now = self._wait(qid, opened, who, at, now + 300 * 2**tries + rng.random() * 60)
        expired = f"{qid}: from=<{sender}>, status=expired, returned to sender"
        self._say(now, "qmgr[2001]", expired if who else f"{qid}: removed", "expired" if who else "other")

    def _wait(self, qid: str, opened: str, who: list[str], arrived: float, now: float) -> float:
        """The message becomes active again; sometimes the queue manager will not try."""
        self._say(now, "qmgr[2001]", opened, "from")
        if self._rng.random() < 0.6:
            return now
        age = f"delay={now - arrived:.0f}, delays={now - arrived:.0f}/0.01/0/0"
        for r in who:
            line = f"{qid}: to=<{r}>, relay=none, {age}, dsn=4.4.1, status=deferred ({SUSPENDED})"
            self._say(now + 0.01, "error[4001]", line, "suspended")
        self._say(now + 900, "qmgr[2001]", opened, "from")
        return now + 900

    def _recipient(self, domain: str) -> str:
        odd = self._rng.random() < 0.002
        local = self._rng.choice(QUOTED) if odd else self._rng.choice(NAMES) + str(self._rng.randint(1, 999))
        return f"{local}@{domain}"

    def _deliver(self, run: Run, who: list[str]) -> list[str]:
        """One run over the site's addresses in random order; whom to retry."""
        addresses = self._rng.sample(run.site.mx, len(run.site.mx))
        for left, (name, ip) in zip(range(len(addresses) - 1, -1, -1), addresses, strict=True):
            said = self._setup(run, name, ip)
            if not said:
                return self._talk(run, f"{name}[{ip}]", who)
            connect = said.startswith("connect")
            if connect:
                self._say(run.now, f"smtp[{run.pid}]", said, "connect")
            elif left:
                self._say(run.now, f"smtp[{run.pid}]", f"{run.qid}: {said}", "intermediate")
            if left:
                self.truth.add(ip, False)
                continue
            relay = "none" if connect else f"{name}[{ip}]:25"
            for r in who:
                self._to(run, r, relay, 0.0, "4.7.1", "deferred", said, ip)
        return who

    def _setup(self, run: Run, name: str, ip: str) -> str:
        """Connect, greeting, TLS, MAIL at one address: what went wrong, or ""."""
        rng, server = self._rng, f"{name}[{ip}]"
        if ip in run.site.dead:
            slow = rng.random() < 0.3
            run.now += 30 if slow else 0.003
            return f"connect to {server}:25: Connection {'timed out' if slow else 'refused'}"
        if run.site.tls and run.use == 1 and rng.random() < 0.5:
            text = f"{run.site.tls} TLS connection established to {server}:25: {TLS}"
            self._say(run.now + 0.05, f"smtp[{run.pid}]", text, "tls")
        run.now += 0.02 if run.use > 1 else 0.1 + rng.random()
        if ip == STALE and run.now >= ONSET.timestamp():
            text = f"421 4.7.1 [198.51.100.7] is on our blacklist {rng.getrandbits(32):x}"
            return f"host {server} said: {text} (in reply to MAIL FROM command)"
        return f"host {server} refused to talk to me: 421 4.3.2 Too busy" if rng.random() < 0.002 else ""

    def _talk(self, run: Run, server: str, who: list[str]) -> list[str]:
        """RCPT for each, then the body; whom to retry."""
        rng, site, again = self._rng, run.site, []
        relay, ip, lost = f"{server}:25", server[server.index("[") + 1 : -1], rng.random() < 0.001
        queued = f"250 2.0.0 Ok: queued as {rng.getrandbits(40):010X}"
        for r in who:
            draw = rng.random()
            if draw < site.bounce:
                text = site.unknown.format(r=r, q=f"{rng.getrandbits(40):x}")
                text = f"host {server} said: {text} (in reply to RCPT TO command)"
                self._to(run, r, relay, 0.1, "5.1.1", "bounced", text, ip)
            elif draw < site.bounce + site.grey:
                text = f"host {server} said: 450 4.2.0 <{r}>: Greylisted, try later (in reply to RCPT TO command)"
                self._to(run, r, relay, 0.1, "4.2.0", "deferred", text, ip)
                again.append(r)
            elif lost:
                self._to(run, r, relay, 0.3, "4.4.2", "deferred", LOST.format(server=server), ip)
                again.append(r)
            else:
                self._to(run, r, relay, 0.3, "2.0.0", "sent", queued, ip)
        run.now += 0.4
        return again

    def _to(self, run: Run, r: str, relay: str, d: float, dsn: str, status: str, text: str, ip: str) -> None:
        rng, now = self._rng, run.now + d
        orig = f" orig_to=<{rng.choice(NAMES)}@ours.example>," if rng.random() < 0.05 else ""
        use = f" conn_use={run.use}," if relay != "none" and run.use > 1 else ""
        a, c = run.begun - run.arrived, run.now - run.begun
        delays = f"delay={now - run.arrived:.2g}, delays={a:.2g}/0.01/{c:.2g}/{d:.2g}"
        line = f"{run.qid}: to=<{r}>,{orig} relay={relay},{use} {delays}, dsn={dsn}, status={status} ({text})"
        self._say(now, f"smtp[{run.pid}]", line, "final")
        self.truth.add(ip, status == "sent")


def write(path: Path, megabytes: float = 0, **settings: object) -> Truth:
    """Write a log (gzip if the name says so) until it holds `megabytes`, or all the days; its truth."""
    sender = Sender(**settings)  # type: ignore[arg-type]  # a test's settings, passed on
    room = megabytes * 1e6 or float("inf")
    opened = gzip.GzipFile(path, "wb", mtime=0) if path.suffix == ".gz" else path.open("wb", 1 << 20)
    with opened as file:
        for line in sender.lines():
            room -= file.write(f"{line}\n".encode())
            if room <= 0:
                break
    return sender.truth


def main() -> None:
    """Write one log."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--megabytes", type=float, default=0, help="stop there (else after --days)")
    parser.add_argument("--days", type=float, default=7)
    parser.add_argument("--per-day", type=float, default=600, help="messages")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    truth = write(given.path, given.megabytes, days=given.days, per_day=given.per_day, seed=given.seed)
    print(sum(truth.lines.values()), "lines:", dict(truth.lines))  # noqa: T201 - a command line prints


if __name__ == "__main__":
    main()
