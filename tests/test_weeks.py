"""What diagnose says of a week's log: retries, greylisting, several faults at once, one of our own addresses."""

import heapq
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import smtpkit as sk

pytestmark = pytest.mark.slow

START, HOUR, DAY = pd.Timestamp("2026-03-02", tz="UTC"), 3600.0, 86400.0
HOSTS = {"relay1": "198.51.100.7", "relay2": "198.51.100.8"}
LISTED = "554 5.7.1 Client host [{us}] blocked using zen.spamhaus.org"
BLOCKED = "421 4.7.0 {us} is blocked, see our blacklist"
NOBODY = "550 5.1.1 <{to}>: User unknown"
GREY = "450 4.2.0 <{to}>: Recipient address rejected: Greylisted"


@dataclass
class Try:
    """One session that a rule may refuse, with `code text` at RCPT, or by a client's own words."""

    at: float
    domain: str
    ip: str
    host: str
    us: str
    sender: str
    to: str
    size: int


Rule = Callable[[Try], str | None]


@dataclass
class Week:
    """Mail of two Postfix relays as their log. receivers: MX IPs by domain; rules: who refuses what."""

    receivers: dict[str, list[str]]
    rules: Sequence[Rule] = ()
    mails: int = 150
    seed: int = 1
    senders: Sequence[str] = ("news@ours.example", "kim@ours.example")
    people: int = 40
    tries: int = 9
    more: Sequence[dict[str, Any]] = ()
    """Single mails: at, to, and sender, size, host where that matters."""
    lines: list[tuple[float, str]] = field(default_factory=list)

    def frame(self, folder: Path) -> pd.DataFrame:
        r = random.Random(self.seed)
        domains = list(self.receivers)
        drawn = (
            {"at": r.random() * 6 * DAY, "to": f"u{r.randrange(self.people)}@{r.choice(domains)}"}
            for _ in range(self.mails * len(domains))
        )
        queue = [(mail["at"], n, 0, mail) for n, mail in enumerate(itertools.chain(drawn, self.more))]
        heapq.heapify(queue)
        while queue:  # in order of time: what a server has seen before counts
            at, n, again, mail = heapq.heappop(queue)
            if not again:
                self._queued(r, f"3{n:07X}", mail)
            mail["to"] = self._left(r, at, **mail)
            if mail["to"] and again < self.tries:
                heapq.heappush(queue, (at + min(4000, 300 * 2**again) + 60 * r.random(), n, again + 1, mail))
        texts = [f"{(START + pd.Timedelta(seconds=t)).isoformat()} {line}\n" for t, line in sorted(self.lines)]
        (folder / "mail.log").write_text("".join(texts), "utf-8")
        frame = sk.read_log(folder / "mail.log")
        return frame.assign(sender_ip=frame.vantage.map(HOSTS).astype("str"))

    def _queued(self, r: random.Random, queue: str, mail: dict[str, Any]) -> None:
        at, host = mail.pop("at"), mail.setdefault("host", r.choice(list(HOSTS)))
        sender, size = (
            mail.setdefault("sender", r.choice(self.senders)),
            mail.setdefault("size", r.randrange(900, 90000)),
        )
        mail["queue"] = queue
        self.lines.append((at - 0.2, f"{host} postfix/cleanup[9]: {queue}: message-id=<{queue}@ours.example>"))
        text = f"from=<{sender}>, size={size}, nrcpt=1 (queue active)"
        self.lines.append((at - 0.1, f"{host} postfix/qmgr[9]: {queue}: {text}"))

    def _left(self, r: random.Random, at: float, to: str, host: str, sender: str, size: int, queue: str) -> str:
        """One delivery to the recipients `to`, at two MX IPs at most; whom it leaves in the queue."""
        left, domain = to.split(", "), to.rpartition("@")[2]
        who = f"{host} postfix/smtp[{r.randrange(900, 999999)}]: {queue}"
        ips = r.sample(self.receivers[domain], len(self.receivers[domain]))[:2]
        for n, ip in enumerate(ips):
            at += 0.4
            tried = [Try(at, domain, ip, host, HOSTS[host], sender, person, size) for person in left]
            left = [t.to for t in tried if self._answered(t, who, last=n == len(ips) - 1)]
            if not left:
                break
        return ", ".join(left)

    def _answered(self, t: Try, who: str, last: bool) -> bool:
        """What one server says of one recipient; whether that one must be tried elsewhere or again."""
        said = next(filter(None, (rule(t) for rule in self.rules)), "250 2.0.0 Ok: queued as 7B1C0DE")
        server, said = f"mx.{t.domain}[{t.ip}]", said.format(us=t.us, to=t.to)
        why, relay = f"host {server} said: {said} (in reply to RCPT TO command)", f"{server}:25"
        status = {"2": "sent", "5": "bounced"}.get(said[0], "deferred")
        if status == "sent":
            why = said
        elif not said[0].isdigit():
            why, relay = f"connect to {server}:25: {said}", "none"
        line = f"{who}: to=<{t.to}>, relay={relay}, delay=1, delays=0.1/0.1/0.4/0.4, dsn=4.0.0, status={status}"
        line = f"{line} ({why})"
        if status == "deferred" and not last:
            line = f"{who}: {why}" if relay != "none" else f"{who.rpartition(': ')[0]}: {why}"
        self.lines.append((t.at, line))
        return status == "deferred"


def refuse(text: str = BLOCKED, since: float = -1, until: float = 1e9, **what: Any) -> Rule:
    """The attempts with these attributes (`ip="192.0.2.14"`) in this time are refused so."""
    return lambda t: text if since <= t.at < until and all(getattr(t, k) == v for k, v in what.items()) else None


def grey(domain: str, delay: float = 300, known: float = 0, seed: int = 7) -> Rule:
    """Greylisting; the share `known` of its contacts was there before the log begins."""
    seen: dict[Any, float] = {}
    r = random.Random(seed)

    def rule(t: Try) -> str | None:
        if t.domain != domain:
            return None
        first = seen.setdefault((t.us, t.sender, t.to), -1e9 if r.random() < known else t.at)
        return GREY if t.at - first < delay else None

    return rule


def servers(n: int, net: str = "192.0.2") -> list[str]:
    return [f"{net}.{11 + i}" for i in range(n)]


def fine(n: int = 4) -> dict[str, list[str]]:
    """Receivers at which nothing is wrong."""
    return {f"fine{i}.example": [f"203.0.{i}.11", f"203.0.{i}.12"] for i in range(n)}


def letters(found: sk.Diagnosis) -> Iterator[str]:
    """The letters that the sure causes would give."""
    made = (sk.report(found, which=n).letter for n in range(len(found.causes)))
    return (letter for letter in made if letter)


# greylisting, and one mail tried again and again


@pytest.mark.parametrize("known", [0, 0.5, 0.8])
@pytest.mark.parametrize("servers_there", [1, 2, 4])
def test_greylisting_in_a_log_is_no_block(tmp_path: Path, servers_there: int, known: float) -> None:
    """A contact is sender and recipient; the line of a first server, which names no recipient, belongs to it."""
    r = random.Random(servers_there)
    several = [
        {"at": r.random() * 5 * DAY, "to": ", ".join(f"u{x}@grey.example" for x in r.sample(range(40), 3))}
        for _ in range(30)
    ]
    rules = [grey("grey.example", known=known)]
    week = Week({"grey.example": servers(servers_there)} | fine(2), rules, more=several, mails=110)
    found = sk.diagnose(week.frame(tmp_path))
    (cause,) = found.causes
    assert (cause.kind, cause.confidence >= 0.8) == ("greylisting", True), found
    assert list(letters(found)) == []
    assert "; later ones 0 of " in found.verdict


def test_who_says_that_it_greylists_blocks_nobody(tmp_path: Path) -> None:
    """Even where it does not follow first contacts: the words are believed, no letter is written."""
    r = random.Random(2)
    rules = [lambda t: GREY if t.domain == "grey.example" and r.random() < 0.3 else None]
    found = sk.diagnose(Week({"grey.example": servers(2)} | fine(2), rules).frame(tmp_path))
    assert not [c for c in found.causes if c.kind not in ("greylisting", "recipient_bad")], found
    assert list(letters(found)) == []


ONE_OF_US = {"ip": "192.0.2.14"}, {"us": "198.51.100.8"}
OUTLASTING = ["450 4.7.1 {us} is on our blacklist, greylisting in action", "450 4.7.1 Greylisted, try later", GREY]


@pytest.mark.parametrize("where", ONE_OF_US)
@pytest.mark.parametrize("text", OUTLASTING)
def test_who_refuses_the_same_contacts_for_days_does_not_greylist(
    tmp_path: Path, text: str, where: dict[str, str]
) -> None:
    """Whatever it says: a fault of one server or of one of our addresses, never of the recipients."""
    rules = [refuse(text, since=DAY, domain="r0.example", **where)]
    week = Week(
        {"r0.example": servers(4)} | fine(1), rules, mails=150, people=6, senders=("a@ours.example",), tries=4
    )
    (cause,) = sk.diagnose(week.frame(tmp_path)).causes
    assert (cause.values, cause.confidence >= 0.8) == (tuple(where.values()), True), cause
    assert cause.kind == ("mx_block" if "ip" in where else "sender_ip_block")


def test_one_server_that_greylists_on_its_own_is_no_block(tmp_path: Path) -> None:
    rule = grey("r0.example")
    rules = [lambda t: rule(t) if t.ip == "192.0.2.14" else None]
    found = sk.diagnose(Week({"r0.example": servers(4)} | fine(2), rules, mails=300).frame(tmp_path))
    assert [c.kind for c in found.causes if c.kind != "greylisting"] == [], found


@pytest.mark.parametrize("text", ["452 4.2.2 Mailbox full", "451 4.7.0 Deferred by policy", BLOCKED])
@pytest.mark.parametrize("people", ["z@r0.example", "z@r0.example, y@r0.example, x@r0.example"])
def test_one_mail_retried_for_days_is_about_its_recipients(tmp_path: Path, people: str, text: str) -> None:
    """Not about its size or the address that sends it, however many retries there are."""
    odd = {"at": 20 * HOUR, "to": people, "sender": "odd@ours.example", "size": 60000, "host": "relay2"}
    rules = [refuse(text, sender="odd@ours.example")]
    week = Week({"r0.example": servers(3)} | fine(2), rules, more=[odd], mails=80, tries=60)
    found = sk.diagnose(week.frame(tmp_path))
    (cause,) = found.causes
    assert (cause.kind, set(cause.values)) == ("recipient_bad", set(people.split(", "))), found
    assert list(letters(found)) == []


@pytest.mark.parametrize("mails", [1, 12])
def test_retries_are_no_fresh_draws_for_a_size(tmp_path: Path, mails: int) -> None:
    """Where no recipient is known: one large mail proves nothing, twelve do."""
    more = [{"at": (12 + 3 * i) * HOUR, "to": f"z{i}@r0.example", "size": 95000 + i} for i in range(mails)]
    rules = [lambda t: "451 4.7.0 Deferred by policy" if t.size >= 95000 else None]
    log = Week({"r0.example": servers(2)} | fine(1), rules, more=more, tries=30).frame(tmp_path)
    (cause,) = sk.diagnose(log.assign(recipient=None, sender=None, sender_ip=None)).causes
    assert (cause.kind, cause.confidence >= 0.8) == ("size_limit", mails > 1), cause


@pytest.mark.parametrize("kind", ["sender_ip_block", "content_reject", "size_limit"])
def test_one_mail_to_many_recipients_is_many_draws(kind: str) -> None:
    """A newsletter: all refused of one address of ours, of one body, of one size, and nobody else."""
    r, rows = random.Random(3), list[dict[str, Any]]()
    for n in range(240):
        which = r.randrange(5) if kind != "sender_ip_block" else r.randrange(2)
        said = (554, "554 5.7.1 198.51.100.8 is blocked, see our blacklist", "mail")
        said = (554, "554 5.7.1 message rejected as spam", "data") if kind == "content_reject" else said
        said = (552, "552 5.3.4 message size exceeds limit", "mail") if kind == "size_limit" else said
        code, reply, stage = said if which == 1 else (250, "250 ok", "body")
        mail = {"started_at": START + pd.Timedelta(minutes=20 * n), "recipient": f"u{r.randrange(90)}@r0.example"}
        mail |= {
            "mx_ip": r.choice(servers(3)),
            "domain": "r0.example",
            "code": code,
            "reply": reply,
            "stage": stage,
        }
        mail |= {
            "sender": "news@ours.example",
            "sender_ip": "198.51.100.7",
            "message_id": f"<{which}@ours.example>",
        }
        mail |= {"body_id": f"{which:016x}"} if kind == "content_reject" else {}
        mail |= {"size_bytes": [1000, 90000, 2000, 3000, 4000][which]} if kind == "size_limit" else {}
        ours = {"sender_ip": f"198.51.100.{7 + which}", "message_id": "<1@ours.example>"}
        rows.append(mail | (ours if kind == "sender_ip_block" else {}))
    (cause,) = sk.diagnose(pd.DataFrame(rows)).causes
    assert (cause.kind, cause.confidence >= 0.8) == (kind, True), cause


# several faults at once


def noise(share: float, seed: int) -> Rule:
    """Unknown users in four wordings, and what fails now and then everywhere."""
    r = random.Random(seed)
    gone: dict[str, str | None] = {}
    words = [NOBODY, "550 5.1.1 No such user here", "550 <{to}>: no mailbox by that name", "553 5.1.1 unknown user"]

    def rule(t: Try) -> str | None:
        if said := gone.setdefault(t.to, r.choice(words) if r.random() < share else None):
            return said
        return next((text for text, p in NOW_AND_THEN.items() if r.random() < p), None)

    return rule


NOW_AND_THEN = {
    "Connection timed out": 0.003,
    "421 4.3.2 Service not available": 0.002,
    "451 4.3.0 Lookup failed": 0.001,
}


def servers_named(found: sk.Diagnosis) -> list[tuple[str, ...]]:
    return [c.values for c in found.causes if c.dimension == "mx_ip" and c.confidence >= 0.8]


@pytest.mark.parametrize("seed", [41, 42])
def test_each_receiver_s_stale_server_is_told_before_unknown_users_and_dead_domains(
    tmp_path: Path, seed: int
) -> None:
    there = {"r0.example": servers(4), "r1.example": servers(3, "192.0.3"), "typo.exmaple": ["203.9.9.9"]} | fine(3)
    stale = [refuse(ip="192.0.2.14", since=2 * DAY), refuse(ip="192.0.3.12", since=3 * DAY)]
    dead = refuse("Connection timed out", domain="typo.exmaple")
    found = sk.diagnose(Week(there, [*stale, dead, noise(0.04, seed)], seed=seed, mails=110).frame(tmp_path))
    assert {c.values for c in found.causes[:2]} == {("192.0.2.14",), ("192.0.3.12",)}, found
    assert {c.kind for c in found.causes[2:]} == {"recipient_bad", "outage"}
    assert len(servers_named(found)) == len(list(letters(found))) == 2
    assert found.confidence >= 0.8


def test_unknown_users_in_many_words_hide_no_server(tmp_path: Path) -> None:
    """Seven of seven refused by a server that is seldom asked, beside twelve unknown users of that receiver."""
    lone = {"r0.example": servers(3)}
    log = Week(lone, [refuse(ip="192.0.2.13"), noise(0.05, 3)], mails=500, people=400, seed=5).frame(tmp_path)
    seldom = log.index[log.mx_ip == "192.0.2.13"]
    found = sk.diagnose(log.drop(seldom[7:]))
    assert found.causes[0].values == ("192.0.2.13",), found
    assert [c.kind for c in found.causes] == ["mx_block", "recipient_bad"]


def test_what_is_not_told_is_counted_and_how_to_see_it(tmp_path: Path) -> None:
    there = {f"r{i}.example": servers(3, f"192.0.{2 + i}") for i in range(8)}
    rules = [refuse(ip=f"192.0.{2 + i}.12", since=DAY) for i in range(8)]
    found = sk.diagnose(Week(there, rules, mails=60).frame(tmp_path))
    assert len(servers_named(found)) == 6, found
    left = next(domain for domain in there if not any(domain in c.evidence.domain.to_numpy() for c in found.causes))
    assert "Receivers with failures of which nothing is told here: 2 (" in found.verdict
    assert left in found.verdict.partition("nothing is told here")[2]


def hint(verdict: str) -> str:
    """What the verdict tells to write."""
    return verdict.partition("ask one alone, as ")[2].removesuffix(".")


def test_the_hint_to_ask_one_alone_can_be_run(tmp_path: Path) -> None:
    """With all domains of that receiver; not where the frame has no such column."""
    there = {f"r{i}.example": servers(3, f"192.0.{2 + i}") for i in range(8)}
    there |= {f"also{domain}": ips for domain, ips in there.items()}
    rules = [refuse(ip=f"192.0.{2 + i}.12", since=DAY) for i in range(8)]
    log = Week(there, rules, mails=30).frame(tmp_path)
    found = eval(hint(sk.diagnose(log).verdict), {"diagnose": sk.diagnose, "frame": log})
    (cause,) = found.causes
    assert cause.dimension == "mx_ip"
    assert found.frame.domain.nunique() == 2
    for other in (log.drop(columns="domain"), log.drop(columns="domain").assign(recipient_domain=log.domain)):
        assert hint(sk.diagnose(other).verdict) == ""


def test_a_receiver_of_which_a_cause_is_told_is_not_called_untold(tmp_path: Path) -> None:
    """Though something weak is left there: a recipient who was refused twice."""
    more = [{"at": (50 + 9 * i) * HOUR, "to": "gone@r0.example"} for i in range(2)]
    rules = [refuse(ip="192.0.2.14", since=2 * DAY), refuse(NOBODY, to="gone@r0.example")]
    week = Week({"r0.example": servers(4)} | fine(2), rules, mails=90, more=more)
    found = sk.diagnose(week.frame(tmp_path))
    assert servers_named(found) == [("192.0.2.14",)]
    assert "nothing is told here" not in found.verdict


def test_servers_with_onsets_of_their_own_are_told_apart(tmp_path: Path) -> None:
    two, since = ("192.0.2.14", "192.0.2.12"), {"192.0.2.14": 2 * DAY, "192.0.2.12": 4 * DAY}
    rules = [refuse(ip=ip, since=at) for ip, at in since.items()]
    found = sk.diagnose(Week({"r0.example": servers(4)} | fine(1), rules, mails=250).frame(tmp_path))
    assert sorted(servers_named(found)) == sorted((ip,) for ip in two), found
    for cause in found.causes:
        onset = (cause.onset - START).total_seconds()
        assert abs(onset - since[cause.values[0]]) < 4 * HOUR
    assert found.verdict.count("the 2 other MX IPs refused 0 of ") == 2


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("there", [12, 16])
def test_no_stale_server_of_many_is_lost(seed: int, there: int) -> None:
    """Half of them, each with an onset of its own; noise everywhere accuses nobody."""
    r, rows = random.Random(seed), list[dict[str, Any]]()
    since = {ip: (8 + 10 * n) * HOUR for n, ip in enumerate(servers(there // 2))}
    for at in sorted(r.random() * 4 * DAY for _ in range(50 * there)):
        ip = r.choice(servers(there))
        bad = at > since.get(ip, 1e9)
        said = (
            {"code": 554, "reply": "554 5.7.1 198.51.100.7 is blocked"} if bad else {"code": 250, "reply": "250 ok"}
        )
        said = {"code": 451, "reply": "451 4.3.0 Lookup failed"} if not bad and r.random() < 0.03 else said
        who = {"sender": "a@ours.example", "recipient": f"u{r.randrange(40)}@r0.example", "domain": "r0.example"}
        rows.append(who | said | {"started_at": START + pd.Timedelta(seconds=at), "mx_ip": ip})
    found = sk.diagnose(pd.DataFrame(rows))
    assert sorted(ip for values in servers_named(found) for ip in values) == sorted(since), found


@pytest.mark.parametrize("seed", range(3))
def test_a_server_that_defers_now_and_then_is_not_accused_after_a_stale_one(tmp_path: Path, seed: int) -> None:
    r = random.Random(seed)
    busy = refuse("451 4.7.1 Try later", ip="192.0.2.12")
    rules = [refuse(ip="192.0.2.14", since=2 * DAY), lambda t: busy(t) if r.random() < 0.2 else None]
    found = sk.diagnose(Week({"r0.example": servers(6)} | fine(1), rules, mails=250, seed=seed).frame(tmp_path))
    assert servers_named(found) == [("192.0.2.14",)], found


def test_servers_with_one_onset_are_told_together(tmp_path: Path) -> None:
    rules = [refuse(ip=ip, since=2 * DAY) for ip in ("192.0.2.14", "192.0.2.12")]
    found = sk.diagnose(Week({"r0.example": servers(4)} | fine(1), rules, mails=250).frame(tmp_path))
    assert [set(values) for values in servers_named(found)] == [{"192.0.2.14", "192.0.2.12"}], found


@pytest.mark.parametrize("seed", range(3))
def test_a_further_cause_is_no_surer_than_alone(tmp_path: Path, seed: int) -> None:
    """A 451 that might be a dead server or a block: not sure alone, nor beside unknown users elsewhere."""
    there = {"r0.example": servers(4)} | fine(4)
    rules = [refuse("451 4.3.2 Please try again later", ip="192.0.2.13"), noise(0.03, seed)]
    log = Week(there, rules, mails=100, seed=seed).frame(tmp_path)
    whole, alone = (sk.diagnose(rows) for rows in (log, log[log.domain == "r0.example"]))
    sure = [max((c.confidence for c in d.causes if c.values == ("192.0.2.13",)), default=0) for d in (whole, alone)]
    assert sure[0] < 0.8
    assert abs(sure[0] - sure[1]) < 0.05, (whole, alone)
    assert list(letters(whole)) == []


def test_how_many_sessions_would_tell_is_said_of_each_doubtful_cause(tmp_path: Path) -> None:
    """Of one that stands after a sure one, too; few, as it refused all."""
    rules = [refuse(ip="192.0.2.11", since=DAY), refuse("421 4.3.2 Service busy", ip="192.0.2.12", since=2 * DAY)]
    found = sk.diagnose(Week({"r0.example": servers(4)} | fine(1), rules, mails=120).frame(tmp_path))
    assert [c.confidence >= 0.8 for c in found.causes] == [True, False], found
    assert list(found.more_probes) == ["192.0.2.12"]
    assert found.more_probes["192.0.2.12"] < 10
    assert "Sessions that would tell: " in found.verdict


def test_few_recipients_do_not_stand_before_a_long_doubtful_outage(tmp_path: Path) -> None:
    """Nobody else was asked, so that our own path may be at fault; before the few recipients it is told."""
    rules = [refuse("Connection timed out", since=2 * DAY, until=2.5 * DAY)]
    rules += [refuse(NOBODY, to=f"u{n}@r0.example") for n in range(4)]
    found = sk.diagnose(Week({"r0.example": servers(4)}, rules, mails=150).frame(tmp_path))
    assert [c.kind for c in found.causes] == ["outage", "recipient_bad"], found
    assert [c.confidence >= 0.8 for c in found.causes] == [False, True]
    assert found.confidence < 0.8


# one of our own addresses


@pytest.mark.parametrize("known", ["sender_ip", "vantage"])
def test_port_25_blocked_for_one_relay_is_told_of_that_relay(tmp_path: Path, known: str) -> None:
    shut = refuse("Connection timed out", since=2 * DAY, until=2.3 * DAY, us="198.51.100.8")
    week = Week(fine(5), [shut], mails=100, tries=4)
    log = week.frame(tmp_path).assign(**({"sender_ip": None} if known == "vantage" else {}))
    found, us = sk.diagnose(log), HOSTS["relay2"] if known == "sender_ip" else "relay2"
    assert found.causes[0].kind == "local_path", found
    assert dict(found.causes[0].only_for) == {known: (us,)}
    assert f" connections from {us} since about" in found.verdict
    assert "From our other addresses " in found.verdict
    assert set(found.causes[0].evidence.vantage) == {"relay2"}


def test_port_25_blocked_for_all_is_told_of_no_relay(tmp_path: Path) -> None:
    week = Week(fine(5), [refuse("Connection timed out", since=2 * DAY, until=2.3 * DAY)], mails=100, tries=4)
    found = sk.diagnose(week.frame(tmp_path))
    assert (found.causes[0].kind, dict(found.causes[0].only_for)) == ("local_path", {})
    assert " connections from here since about" in found.verdict


@pytest.mark.parametrize("us", ["198.51.100.8", ""])
def test_our_address_on_a_public_list_is_named(tmp_path: Path, us: str) -> None:
    """At three of five receivers, of which one was not written to before; with its times."""

    def listed(t: Try) -> str | None:
        asks = t.domain != "fine3.example" and (not us or t.us == us)
        return LISTED if asks and 2 * DAY <= t.at < 4 * DAY and t.domain != "fine4.example" else None

    week = Week(fine(5), [listed], mails=110, seed=3)
    week.more = [{"at": (49 + i) * HOUR, "to": f"u{i}@late.example", "host": "relay2"} for i in range(0, 40, 4)]
    week.receivers["late.example"] = ["203.0.9.11"]
    found = sk.diagnose(week.frame(tmp_path))
    cause = found.causes[0]
    assert cause.kind == "dnsbl", found
    assert dict(cause.only_for) == ({"sender_ip": (us,)} if us else {})
    assert abs((cause.onset - START).total_seconds() - 2 * DAY) < 4 * HOUR
    assert abs((cause.recovery - START).total_seconds() - 4 * DAY) < 4 * HOUR
    if us:
        k = len(cause.evidence)
        assert f"refused mail from {us} in {k} of {k} " in found.verdict
        assert "; our other addresses 0 of " in found.verdict


def test_servers_that_do_not_answer_over_ipv4_are_not_all_servers(tmp_path: Path) -> None:
    six = {"six.example": ["192.0.9.1", "192.0.9.2", "2001:db8:9::1", "2001:db8:9::2"]}
    rules = [refuse("Connection timed out", ip=ip, since=2 * DAY) for ip in six["six.example"][:2]]
    found = sk.diagnose(Week(six, rules).frame(tmp_path))
    assert "No server of six.example answered any of" in found.verdict
    assert "connections over IPv4, and nobody else" in found.verdict
