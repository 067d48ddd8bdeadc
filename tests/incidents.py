"""incidents: a simulator of mail trouble with known causes, written apart from the development incidents.

One world = servers, senders, recipients, traffic, noise, and causes; messages come one by one, are answered, and
may be tried again elsewhere. Beside the usual kinds it makes what the development incidents lack: a block of one
(sender IP, MX IP) pair, a stale back end behind a balancer, our own path broken. The wordings are its own.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from smtpkit import attempts

Said = tuple[str, int | None, str | None, str]  # stage, code, enhanced, text (or the error, if code is None)
WORDS: dict[str, tuple[Said, ...]] = {
    "block": (
        (
            "banner",
            554,
            None,
            "554 {host} Your IP [{us}] is on our internal deny list, see http://{site}/rbl",
        ),
        ("rcpt", 550, "5.7.1", "550 5.7.1 Mail from {us} refused: sending host has a poor reputation"),
        ("mail", 553, None, "553 Sorry, we do not accept mail from your network ({us})"),
        (
            "rcpt",
            550,
            "5.7.606",
            "550 5.7.606 Access denied, banned sending IP [{us}]. To request removal visit {site}",
        ),
        ("banner", 421, None, "421 {us} temporarily blacklisted, contact postmaster@{site}"),
        ("rcpt", 554, "5.7.1", "554 5.7.1 [{us}] 귀하의 IP는 차단되었습니다"),
        (
            "data",
            550,
            "5.7.350",
            "550 5.7.350 Remote server returned message detected as coming from a blocked source",
        ),
        (
            "mail",
            451,
            "4.7.650",
            "451 4.7.650 The mail server [{us}] has been temporarily limited. Reputation too low",
        ),
        ("rcpt", 554, None, "554 Refused you. {tag}"),
        ("rcpt", 571, "5.7.1", "571 Delivery not authorized, message refused"),
        ("banner", 550, None, "550 Connection denied, policy {tag}"),
    ),
    "rate": (
        ("mail", 421, "4.7.0", "421 4.7.0 Maximum messages per connection window from {us} exceeded"),
        ("rcpt", 452, "4.5.3", "452 4.5.3 Too many recipients received this hour"),
        ("banner", 421, None, "421 Too much load from your address, slow down ({tag})"),
        ("rcpt", 450, "4.7.1", "450 4.7.1 Sending quota for {us} used up, try in the next interval"),
        ("rcpt", 451, None, "451 Throttled"),
    ),
    "grey": (
        ("rcpt", 450, "4.2.0", "450 4.2.0 {to}: Greylisted for {seconds} seconds"),
        ("rcpt", 451, "4.7.1", "451 4.7.1 First seen triplet, please retry delivery later"),
        ("rcpt", 451, None, "451 Deferred by spamd, come again in a while"),
        ("rcpt", 451, "4.7.1", "451 4.7.1 Not accepting right now, try again"),
    ),
    "recipient": (
        ("rcpt", 550, "5.1.1", "550 5.1.1 {to}... User unknown"),
        ("rcpt", 550, None, "550 Invalid recipient {to}"),
        ("rcpt", 554, None, "554 delivery error: This account has been deactivated ({tag})"),
        ("rcpt", 452, "4.2.2", "452 4.2.2 {to} Mailbox over its quota"),
        ("rcpt", 550, "5.2.1", "550 5.2.1 This mailbox is administratively closed"),
        ("rcpt", 550, None, "550 Address rejected {to}"),
    ),
    "size": (
        ("mail", 552, "5.3.4", "552 5.3.4 Declared message size is larger than this host takes"),
        ("data", 552, None, "552 Too large, limit reached"),
        ("mail", 523, None, "523 the total number of octets exceeds the administrative limit"),
    ),
    "content": (
        ("data", 554, "5.7.1", "554 5.7.1 Your message looks like spam ({tag})"),
        ("data", 550, None, "550 High probability of spam, message not taken"),
        ("data", 554, "5.6.0", "554 5.6.0 Attachment of a forbidden type"),
    ),
    "auth": (
        ("data", 550, "5.7.26", "550 5.7.26 Unauthenticated mail from {ours} is refused, set up SPF or DKIM"),
        ("mail", 550, "5.7.23", "550 5.7.23 SPF: {us} is not permitted by {ours}"),
        ("data", 554, "5.7.1", "554 5.7.1 DMARC alignment of {ours} failed ({tag})"),
        ("data", 550, None, "550 Message did not pass our sender checks"),
    ),
    "listed": (
        ("rcpt", 554, "5.7.1", "554 5.7.1 Blocked by bl.spamcop.net: https://www.spamcop.net/bl.shtml?{us}"),
        ("rcpt", 550, None, "550 Rejected because {us} is listed in zen.spamhaus.org"),
        ("banner", 554, None, "554 {us} found in b.barracudacentral.org"),
        ("rcpt", 550, "5.7.1", "550 5.7.1 DNSBL hit for {us} (dnsbl.sorbs.net)"),
    ),
    "dead": (
        ("connect", None, None, "timeout"),
        ("connect", None, None, "refused"),
        ("connect", None, None, "unreachable"),
        ("banner", None, None, "timeout"),
        ("banner", 421, "4.3.2", "421 4.3.2 {host} going down for maintenance"),
    ),
    "tls": (
        ("starttls", None, None, "tls_handshake"),
        ("starttls", None, None, "tls_verify"),
        ("starttls", 454, "4.7.0", "454 4.7.0 TLS engine failed"),
    ),
    "down": (
        ("connect", None, None, "timeout"),
        ("mail", 451, "4.3.0", "451 4.3.0 Backend lookup failed, id {tag}"),
        ("rcpt", 450, None, "450 Database connection problem"),
        ("data", 452, "4.3.1", "452 4.3.1 Insufficient system storage"),
        ("banner", 421, None, "421 {host} overloaded"),
    ),
    "noise": (
        ("connect", None, None, "timeout"),
        ("banner", None, None, "timeout"),
        ("ehlo", None, None, "lost"),
        ("data", None, None, "lost"),
        ("banner", None, None, "reset"),
        ("rcpt", 451, "4.3.0", "451 4.3.0 Internal error {tag}"),
        ("mail", 421, "4.3.2", "421 4.3.2 Try another server"),
        ("rcpt", 450, None, "450 Unable to verify address now"),
        ("data", 554, "5.7.1", "554 5.7.1 Suspicious message {tag}"),
        ("rcpt", 550, "5.1.1", "550 5.1.1 {to}... User unknown"),
        ("rcpt", 451, "4.7.1", "451 4.7.1 Not accepting right now, try again"),
    ),
}
"""Replies by what causes them; {us} is our address, {to} the recipient, {host} theirs."""


@dataclass
class World:
    """One incident in the making."""

    rng: np.random.Generator
    hard: bool = False
    sites: list[str] = field(default_factory=list)
    ips: list[tuple[str, str, str]] = field(default_factory=list)  # site, host, ip
    senders: list[str] = field(default_factory=list)
    recipients: list[tuple[str, str]] = field(default_factory=list)  # site, address
    causes: list[Callable[[dict[str, Any]], Said | None]] = field(default_factory=list)
    truth: list[dict[str, Any]] = field(default_factory=list)
    span: float = 0.0
    base: float = 0.0
    backends: dict[str, list[str]] = field(default_factory=dict)
    favour: dict[str, np.ndarray] = field(default_factory=dict)

    def pick(self, pool: Sequence[Any], k: int) -> list[Any]:
        return [pool[i] for i in self.rng.choice(len(pool), size=min(k, len(pool)), replace=False)]

    def voices(self, what: str) -> list[Said]:
        return self.pick(WORDS[what], 1 if self.rng.random() < 0.7 else 2)

    def strength(self) -> float:
        if self.hard:
            return float(self.rng.choice([1.0, self.rng.uniform(0.15, 0.9)], p=[0.3, 0.7]))
        return float(self.rng.choice([1.0, self.rng.uniform(0.4, 1.0)], p=[0.5, 0.5]))

    def timed(self) -> tuple[float, float]:
        """Start and end of a cause in seconds; infinite where it reaches the frame's ends."""
        cut = self.rng.uniform(0.2, 0.8) * self.span
        return [(-np.inf, np.inf), (cut, np.inf), (-np.inf, cut)][int(self.rng.choice(3, p=[0.5, 0.3, 0.2]))]

    def add(
        self,
        kind: str,
        dimension: str,
        values: Sequence[str],
        rule: Callable[[dict[str, Any]], bool],
        *,
        what: str = "block",
        p: float | None = None,
        when: tuple[float, float] = (-np.inf, np.inf),
        voices: list[Said] | None = None,
        **more: Any,
    ) -> None:
        """A cause: rows for which `rule` holds fail with chance p, in its own words."""
        chance, (since, until), hits = p or self.strength(), when, [0]
        voices = voices or self.voices(what)

        def answer(row: dict[str, Any]) -> Said | None:
            if since <= row["t"] < until and rule(row) and self.rng.random() < chance:
                hits[0] += 1
                return voices[int(self.rng.integers(len(voices)))]
            return None

        self.causes.append(answer)
        self.truth.append({"kind": kind, "dimension": dimension, "values": list(values), "count": hits} | more)


def world(rng: np.random.Generator, kind: str, hard: bool) -> World:
    """Servers, addresses, recipients and time; as many as the kind needs."""
    w = World(rng, hard, span=float(np.exp(rng.uniform(np.log(3600), np.log(7 * 86400)))))
    w.base = float(rng.uniform(0.01, 0.1) if hard else rng.uniform(0, 0.05))
    several = kind in ("dnsbl", "local_path") or (kind == "provider_block" and rng.random() < 0.8)
    for i in range(int(rng.integers(3, 6)) if several else 1 + int(rng.random() < 0.2)):
        site = f"rx{i}-{int(rng.integers(1000))}.example"
        w.sites.append(site)
        count = int(rng.integers(3, 12)) if not several else int(rng.integers(2, 5))
        for j in range(count):
            w.ips.append((site, f"mx{j + 1}.{site}", f"198.51.{100 + i}.{10 + 3 * j}"))
        w.backends |= {
            ip: [f"be{ip.rpartition('.')[2]}{c}.{site}" for c in "ab"] for s, _, ip in w.ips if s == site
        }
        many = int(np.exp(rng.uniform(np.log(4), np.log(300))))
        w.recipients += [(site, f"u{int(rng.integers(10**6))}@{site}") for _ in range(many)]
    some = int(rng.integers(2, 6)) if kind in ("sender_ip_block", "pair") else int(rng.integers(1, 6))
    w.senders = [f"203.0.113.{20 + i}" for i in range(some)]
    return w


def _mx_block(w: World) -> None:
    chosen = w.pick([ip for site, _, ip in w.ips if site == w.sites[0]], 1 + int(w.rng.random() < 0.3))
    chosen = chosen[: max(1, len([1 for s, *_ in w.ips if s == w.sites[0]]) - 1)]
    what = "block" if w.rng.random() < 0.75 else "rate"
    w.add("mx_block", "mx_ip", chosen, lambda r: r["mx_ip"] in chosen, what=what, when=w.timed())


def _pair(w: World) -> None:
    (ip,), (us,) = w.pick([ip for *_, ip in w.ips], 1), w.pick(w.senders, 1)
    rule = lambda r: r["mx_ip"] == ip and r["sender_ip"] == us  # noqa: E731  one line says it
    w.add("mx_block", "mx_ip", [ip], rule, when=w.timed(), only_for={"sender_ip": [us]})


def _backend(w: World) -> None:
    back = w.pick(w.backends[w.pick([ip for *_, ip in w.ips], 1)[0]], 1)
    w.add("mx_block", "backend", back, lambda r: r["reply_host"] == back[0], when=w.timed())


def _server(kind: str, what: str) -> Callable[[World], None]:
    def make(w: World) -> None:
        ips = w.pick([ip for site, _, ip in w.ips if site == w.sites[0]], 1)
        w.add(kind, "mx_ip", ips, lambda r: r["mx_ip"] in ips, what=what, when=w.timed())

    return make


def _mx_slow(w: World) -> None:
    ips, p = w.pick([ip for *_, ip in w.ips], 1), w.strength()
    w.truth.append({"kind": "mx_slow", "dimension": "mx_ip", "values": ips, "slow": (ips, max(p, 0.4))})


def _sender_ip_block(w: World) -> None:
    us = w.pick(w.senders, 1)
    rule = lambda r: r["sender_ip"] == us[0] and r["domain"] == w.sites[0]  # noqa: E731  one line says it
    w.add("sender_ip_block", "sender_ip", us, rule, when=w.timed())


def _provider_block(w: World) -> None:
    p = max(w.strength(), 0.5)
    w.add("provider_block", "domain", w.sites[:1], lambda r: r["domain"] == w.sites[0], p=p, when=w.timed())


def _dnsbl(w: World) -> None:
    listing, when = w.pick(w.sites, int(w.rng.integers(2, len(w.sites)))), w.timed()
    for site in listing:
        w.add("dnsbl", "domain", listing, lambda r, s=site: r["domain"] == s, what="listed", p=1.0, when=when)
    w.truth = w.truth[:1]


def _greylisting(w: World) -> None:
    seen: dict[Any, float] = {}
    delay, shared = float(w.rng.choice([60, 300, 600])), w.rng.random() < 0.6

    def first(r: dict[str, Any]) -> bool:
        key = (r["sender_ip"], r["recipient"], None if shared else r["mx_ip"])
        return r["t"] - seen.setdefault(key, r["t"]) < delay

    w.add("greylisting", "none", [], first, what="grey", p=1.0)


def _rate_limit(w: World) -> None:
    limit, window, past = int(w.rng.integers(3, 20)), float(w.rng.choice([60, 300])), dict[Any, list[float]]()

    def over(r: dict[str, Any]) -> bool:
        times = past.setdefault((r["sender_ip"], r["domain"]), [])
        times.append(r["t"])
        return sum(t > r["t"] - window for t in times[-200:]) > limit

    w.add("rate_limit", "rate", [], over, what="rate", p=0.9)


def _recipient_bad(w: World, steer: bool = False) -> None:
    bad = [to for _, to in w.pick(w.recipients, max(2, len(w.recipients) // int(w.rng.integers(8, 20))))]
    w.add("recipient_bad", "recipient", bad, lambda r: r["recipient"] in bad, what="recipient", p=0.98)
    if steer:
        trap = w.pick([ip for *_, ip in w.ips], 1)[0]
        w.favour = {to: np.array([0.9 if ip == trap else 0.1 / len(w.ips) for *_, ip in w.ips]) for to in bad}


def _size_limit(w: World) -> None:
    limit = int(w.rng.integers(30_000, 90_000))
    w.add("size_limit", "size", [str(limit)], lambda r: r["size_bytes"] > limit, what="size", p=1.0)


def _content_reject(w: World) -> None:
    w.add("content_reject", "body", ["body2"], lambda r: r["body_id"] == "body2", what="content", p=0.95)


def _outage(w: World) -> None:
    since = w.rng.uniform(0.1, 0.7) * w.span
    when = (since, since + w.rng.uniform(0.08, 0.3) * w.span)
    w.add(
        "outage",
        "time",
        [],
        lambda r: r["domain"] == w.sites[0],
        what="down",
        p=w.rng.uniform(0.7, 1),
        when=when,
    )


def _auth_failure(w: World) -> None:
    when = (w.rng.uniform(0.2, 0.8) * w.span, np.inf)
    w.add("auth_failure", "time", [], lambda r: True, what="auth", p=w.rng.uniform(0.8, 1), when=when)


def _delisting(w: World) -> None:
    ips = [ip for site, _, ip in w.ips if site == w.sites[0]]
    ends = dict(zip(ips, w.rng.uniform(0.15, 1.1, len(ips)) * w.span, strict=True))
    rule = lambda r: r["mx_ip"] in ends and r["t"] < ends[r["mx_ip"]]  # noqa: E731  one line says it
    w.add("delist_propagation", "mx_ip", ips, rule, p=max(w.strength(), 0.8), recoveries=ends)


def _local_path(w: World) -> None:
    since = w.rng.uniform(0.1, 0.6) * w.span
    when = (since, since + w.rng.uniform(0.2, 0.4) * w.span)
    w.add("local_path", "none", [], lambda r: True, voices=[WORDS["dead"][0]], p=1.0, when=when)


KINDS: dict[str, Callable[[World], None]] = {
    "healthy": lambda w: None,
    "mx_block": _mx_block,
    "pair": _pair,
    "backend": _backend,
    "mx_dead": _server("mx_dead", "dead"),
    "mx_tls": _server("mx_tls", "tls"),
    "mx_slow": _mx_slow,
    "sender_ip_block": _sender_ip_block,
    "provider_block": _provider_block,
    "dnsbl": _dnsbl,
    "greylisting": _greylisting,
    "rate_limit": _rate_limit,
    "recipient_bad": _recipient_bad,
    "simpson": lambda w: _recipient_bad(w, steer=True),
    "size_limit": _size_limit,
    "content_reject": _content_reject,
    "outage": _outage,
    "auth_failure": _auth_failure,
    "delisting": _delisting,
    "local_path": _local_path,
}


def simulate(kind: str, seed: int, hard: bool = False) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """One incident: its attempts frame, and its causes; tried again until the cause made 4 rows fail."""
    for again in range(50):
        rng = np.random.default_rng([seed, again, sorted(KINDS).index(kind), int(hard)])
        w = world(rng, kind, hard)
        KINDS[kind](w)
        rows = traffic(w)
        hits = sum(cause["count"][0] for cause in w.truth if "count" in cause)
        if not w.truth or "slow" in w.truth[0] or hits >= 4:
            return attempts.frame(rows), w.truth
    raise AssertionError(f"{kind} {seed}: no world in which the cause shows")


def traffic(w: World) -> list[dict[str, Any]]:
    """Messages in order of time, each tried until it got through or gave up."""
    rng, n = w.rng, int(np.exp(w.rng.uniform(np.log(60), np.log(1500))))
    retry, sticky = rng.random() < 0.5, w.hard and rng.random() < 0.5
    waiting = [(float(t), i, 1) for i, t in enumerate(np.sort(rng.uniform(0, w.span, n)))]
    to = rng.integers(len(w.recipients), size=n)
    if rng.random() < 0.3 and len(w.recipients) >= n:
        to = rng.permutation(len(w.recipients))[:n]
    mail = {
        "size": np.exp(rng.normal(10, 1, n)).astype(int),
        "body": rng.integers(1, 9, n),
        "us": rng.choice(w.senders, n),
    }
    share = rng.dirichlet(np.full(len(w.ips), 2.0))
    fault = dict(zip([ip for *_, ip in w.ips], np.exp(rng.normal(0, 0.7 * w.hard, len(w.ips))), strict=True))
    bursts = rng.uniform(0, w.span, 3 if w.hard else 0)
    noise = {site: w.pick(WORDS["noise"], 6) for site in w.sites}
    if w.hard:
        noise = {site: [*said, *w.pick(WORDS["block"] + WORDS["rate"], 1)] for site, said in noise.items()}
    last: dict[str, int] = {}
    rows = []
    while waiting:
        t, i, turn = heapq.heappop(waiting)
        site, address = w.recipients[to[i]]
        mine = np.array([s == site for s, *_ in w.ips]) * w.favour.get(address, share)
        spot = last.get(site, -1)
        if not (sticky and spot >= 0 and turn == 1 and rng.random() < 0.8):
            spot = last[site] = int(rng.choice(len(mine), p=mine / mine.sum()))
        row = {
            "t": t,
            "domain": site,
            "mx_host": w.ips[spot][1],
            "mx_ip": w.ips[spot][2],
            "recipient": address,
        }
        row |= {
            "sender_ip": str(mail["us"][i]),
            "body_id": f"body{mail['body'][i]}",
            "size_bytes": int(mail["size"][i]),
        }
        row |= {"message_id": f"<{i}@ours.example>", "try_number": turn, "mx_pref": 10}
        row["reply_host"] = w.backends[row["mx_ip"]][int(rng.integers(2))]
        chance = w.base * fault[row["mx_ip"]] * (5 if (abs(bursts - t) < 0.01 * w.span).any() else 1)
        said = next((s for s in (cause(row) for cause in w.causes) if s), None)
        if said is None and rng.random() < chance:
            said = noise[site][int(rng.integers(len(noise[site])))]
        rows.append(answered(w, row, said))
        if said and retry and turn < 4 and (said[1] or 400) < 500:
            heapq.heappush(waiting, (t + float(rng.uniform(200, 1200)) * turn, i, turn + 1))
    return rows


BEGUN = pd.Timestamp("2026-03-02 08:00", tz="UTC")


def answered(w: World, row: dict[str, Any], said: Said | None) -> dict[str, Any]:
    """The row as a frame has it."""
    stage, code, enhanced, text = said or ("body", 250, "2.0.0", "250 2.0.0 Ok: queued as {tag} on {back}")
    ends = {2: "accepted", 4: "deferred", 5: "rejected"}
    names = {"us": row["sender_ip"], "to": row["recipient"], "host": row["mx_host"], "site": row["domain"]}
    names |= {
        "tag": f"{w.rng.integers(16**8):08X}",
        "ours": "ours.example",
        "seconds": 300,
        "back": row["reply_host"],
    }
    slow = next((cause["slow"] for cause in w.truth if "slow" in cause), ((), 0))
    late = said is None and row["mx_ip"] in slow[0] and w.rng.random() < slow[1]
    made = {key: value for key, value in row.items() if key != "t"}
    if said and code is None:
        made["reply_host"] = None
    made |= {
        "started_at": BEGUN + pd.Timedelta(seconds=row["t"]),
        "stage": stage,
        "code": code,
        "enhanced": enhanced,
    }
    made |= {"outcome": ends[code // 100] if code else "failed", "error": None if code else text}
    made |= {"reply": text.format(**names) if code else None, "source": "send", "asked": "body"}
    return made | {"latency_s": float(np.exp(w.rng.normal(-1, 0.4))) * (8 if late else 1)}
