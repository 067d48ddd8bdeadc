"""sending: `send`: one message, delivered only with live=True and an allow-list. Not here: what it is (message)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from smtpkit.address import Envelope, refuse_controls
from smtpkit.campaign import Rules, Run, run
from smtpkit.casebook import Casebook
from smtpkit.errors import InvalidInput, flag, one_of, refuse
from smtpkit.escape import one_line
from smtpkit.fields import read
from smtpkit.jobs import Job, Plan, Result, hold
from smtpkit.journal import new_id
from smtpkit.lint import HIDDEN
from smtpkit.message import Message
from smtpkit.mx import MxHost, MxRoute
from smtpkit.network import Network, chosen, in_lab, is_public, own_ip, why_not
from smtpkit.parts import split
from smtpkit.probing import Aim, aimed, parties
from smtpkit.steps import Talk, Verdict, session

_FINAL = ("accepted", "rejected", "unknown", "withheld")
Way = tuple[MxHost | None, str | None]
_NOWHERE: Way = (None, None)
_BARRED = "the recipient is not in the guard's allow_to; name it there if you mean it (or SMTPKIT_NO_SEND is set)"
_RENEWED = ("message-id", "date", "dkim-signature")
_SENT = "sent in this case before, or may have been; again=True sends it once more"


def send(
    message: Message | bytes,
    to: str | Sequence[str] | None = None,
    *,
    sender: str | None = None,
    live: bool = False,
    again: bool = False,
    spoof_ok: str | None = None,
    mx: str = "first",
    domain: "str | MxRoute | None" = None,
    network: Network | None = None,
    server: "tuple[str, int] | str | None" = None,
    server_name: str | None = None,
    tls: str = "may",
    ca_file: str | Path | None = None,
    helo: str | None = None,
    pace: Any = None,
    timeouts: Any = None,
    guard: Any = None,
    casebook: Any = None,
    case: str | None = None,
    background: bool = False,
) -> pd.DataFrame | Run:
    """Hand `message` to the recipients' MX; without `live=True` show what would be done, and deliver nothing.

    `mx`: "first" tries IPs by preference until accepted, rejected or unknown, hosts of equal preference by name
    (an MTA takes turns; here the same server is met again); "each" sends one copy to each IP. Recipients of
    several domains are refused: send once a domain. What this case has sent already (or may have), by either way,
    is withheld unless `again=True`; a message that differs in Message-ID, Date or signature alone is the same.
    Withheld is also, from a public address (`sender_ip` of the network, or this machine's), a message whose sender
    domain's SPF says fail for it; `spoof_ok="the reason"` sends it all the same.
    A row that is withheld says in column `why` what to do; a dry run's has the message's lints there.
    Raises InvalidInput before anything is sent.

    >>> from smtpkit import Lab, build_message
    >>> with Lab("healthy") as lab:
    ...     mail = build_message(sender=lab.sender, to=lab.recipient, subject="hi", text="hello")
    ...     frame = send(mail, lab.recipient, live=True, network=lab.network)
    >>> list(frame.outcome)
    ['accepted']
    """
    net = chosen(network)
    made = message if isinstance(message, Message) else Message.from_octets(message)
    one_of("mx", mx, ("first", "each"))
    live, again, background = flag("live", live), flag("again", again), flag("background", background)
    if not made.octets.strip():
        raise InvalidInput("the message is empty; nothing was sent")
    back = sender if sender is not None else made.sender
    if back is None:
        raise InvalidInput("send needs sender='me@your.domain' (the reverse-path); it is never <> by itself")
    if spoof_ok is not None and not refuse_controls("spoof_ok", spoof_ok).strip():
        raise refuse("spoof_ok", spoof_ok, "is no reason", "write why this sender may be used from here")
    envelope = Envelope.of(back, list(made.envelope_to) if to is None else to)
    domains = sorted({one.rpartition("@")[2] for one in envelope.recipients})
    if len(domains) > 1 and server is None and domain is None:
        raise InvalidInput(f"recipients of {len(domains)} domains ({', '.join(domains)}): send once a domain")
    given = {"guard": guard, "pace": pace, "timeouts": timeouts, "casebook": casebook, "case": case}
    rules = Rules.of(net, **given)
    fields = [name for name, value in read(split(made.octets)[0]) if value]
    if (hops := fields.count("received")) > 25:
        raise refuse("message with Received lines", hops, "goes in a loop (ours end at 25)", "send its origin")
    if not set(HIDDEN).isdisjoint(fields):
        instead = "take the field out, and send to its recipients apart"
        raise refuse("a header with Bcc", made.message_id, "would show it to every recipient", instead)
    copies, most = len(envelope.recipients), rules.guard.max_messages
    if live and copies > most:
        raise InvalidInput(f"{copies} recipients are over guard.max_messages={most}; raise it, or send in parts")
    aim, route = aimed(
        domains[0] if domain is None else domain, net, {"source": "send", "asked": "body"}, server=server,
        server_name=server_name, tls=tls, ca_file=ca_file, helo=helo,
    )  # fmt: skip
    why = {"spoof_ok": spoof_ok} if spoof_ok else _forged(envelope.sender, net, route, aim.port) if live else {}
    work = _Sending(made, envelope, route, aim, rules, mx == "each", why, new_id() if again else "")
    return run(
        work.plan() if live else work.dry(), net, label=f"send to {route.domain}", background=background, **given
    )


@dataclass
class _Sending:
    """One call of `send`, as a plan."""

    message: Message
    envelope: Envelope
    route: MxRoute
    aim: Aim
    rules: Rules
    each: bool
    why: Mapping[str, str]
    """Columns of every row: `why` all is withheld, or why a forbidden sender was used (`spoof_ok`)."""
    again: str
    """What tells the keys of this call from those before, if it shall send once more."""

    def key(self, recipient: str) -> str:
        """What must not be handed over twice: case, recipient, and all of the message but what a build renews."""
        return sha256(f"{self.rules.case}\0{recipient}\0{self._content}".encode()).hexdigest()[:32]

    @cached_property
    def _content(self) -> str:
        """Read once: a message may have many octets, and many recipients."""
        head, body = split(self.message.octets)
        kept = "\0".join(f"{n}:{v}" for n, v in read(head) if n not in _RENEWED)
        return sha256(kept.encode() + b"\0" + body).hexdigest()

    def once(self, recipient: str, ip: str) -> str:
        """The key of older casebooks: by Message-ID, of one mode only."""
        parts = [self.rules.case, self._name, self.ids["body_id"], recipient, ip if self.each else "", ""]
        return sha256("\0".join(map(str, parts)).encode()).hexdigest()[:32]

    @cached_property
    def _name(self) -> str:
        return self.message.message_id or sha256(self.message.octets).hexdigest()

    @cached_property
    def ids(self) -> dict[str, object]:
        """What tells the message from others."""
        made = self.message
        return {"message_id": made.message_id, "body_id": made.body_id, "size_bytes": made.size}

    def about(self, recipient: str, number: int) -> dict[str, object]:
        """Columns of a recipient's row, wherever it is tried."""
        who = parties(self.aim.helo, self.envelope.sender, recipient)
        return {**self.ids, **self.why, **who, "try_number": number}

    def rows(self, way: Way, who: Sequence[str], number: int) -> tuple[dict[str, object], ...]:
        """The rows of one try, one a recipient."""
        return tuple(self.aim.row(self.route, *way, self.about(one, number)) for one in who)

    def job(self, way: tuple[MxHost, str], who: Sequence[str], number: int, keys: tuple[str, ...]) -> Job:
        """One try to hand it to one IP."""
        part = Envelope(self.envelope.sender, tuple(who))
        utf8 = part.needs_smtputf8 or self.message.needs_smtputf8
        talk = Talk(
            helo=self.aim.helo, tls=self.aim.tls, until="body", envelope=part, body=self.message.wire,
            size=self.message.size, needs_8bit=self.message.needs_8bit, needs_smtputf8=utf8, pipeline=True,
        )  # fmt: skip
        rows = self.rows(way, who, number)
        return self.aim.job(session(talk), *way, rows, live=True, named=part.recipients, keys=keys)

    def withheld(self, way: Way, who: Sequence[str], why: str, error: str | None = "guard") -> Job:
        """Rows of what is not sent, with the reason."""
        rows = tuple({"why": why, **row} for row in self.rows(way, who, 1))
        return Job(None, way[1], self.aim.port, fields=rows, verdict=Verdict("connect", "withheld", error=error))

    def dead_ends(self) -> list[Job]:
        """Rows of what has no address, one a recipient."""
        about = [self.about(one, 1) for one in self.envelope.recipients]
        return [job for more in about for job in self.aim.dead_ends(self.route, more)]

    def lints(self) -> str:
        """What the dry run says of the message."""
        found = replace(self.message, sender=self.envelope.sender).lint()
        odd = found[found.status.isin(["warn", "fail"])]
        told = [f"{row.status} {row.check}: {row.value}" for row in odd.itertuples()]
        return f"a dry run; live=True and an allow_to deliver it. Lints: {one_line('; '.join(told) or 'all pass')}"

    def dry(self) -> Plan:
        """The dry run: whom it would try, in order; nothing connects."""
        jobs, why = self.dead_ends(), self.lints()
        ways = list(self.route) if self.each else list(self.route)[:1]
        jobs += [self.withheld(way, self.envelope.recipients, why, None) for way in ways]
        yield from hold(jobs)

    def plan(self) -> Plan:
        """Try by try: the next IP gets those recipients that no server has decided about."""
        stop, may = "why" in self.why, self.rules.guard.may_deliver
        barred = [one for one in self.envelope.recipients if stop or not may(one)]
        left = [one for one in self.envelope.recipients if one not in barred]
        ways, book = list(self.route), Casebook(self.rules.casebook)
        first = next(iter(ways), _NOWHERE)
        yield from hold([self.withheld(first, [one], _BARRED) for one in barred] + self.dead_ends())
        for number, turn in enumerate([ways] if self.each else [[way] for way in ways], 1):
            todo = [job for way in turn for job in self._fresh(book, way, left, number)]
            if not todo:
                return
            results = yield from hold(todo)
            left = [one for result in results for one in self._undecided(result)]

    def _undecided(self, result: Result) -> list[str]:
        """Whom the next IP gets; an address that we may not ask decides nothing."""
        unmet = why_not(self.aim.network, str(result.job.ip), self.aim.port)
        told = zip(result.job.fields, result.verdicts, strict=True)
        return [str(row["recipient"]) for row, end in told if unmet or end.outcome not in _FINAL]

    def _fresh(self, book: Casebook, way: tuple[MxHost, str], who: Sequence[str], number: int) -> list[Job]:
        """Jobs for recipients not served yet; those served before become withheld rows."""
        plain = {one: self.key(one) for one in who}
        keys = {one: f"{key} {way[1]}" if self.each else key for one, key in plain.items()}
        old = {one: self.once(one, way[1]) for one in who}
        known = book.claimed([*plain.values(), *old.values()])
        served = known if self.each else {key[:32] for key in known}  # one copy to each IP is a copy to somebody
        before = {one for one in who if {plain[one], keys[one], old[one]} & served}
        if self.again:  # a key of its own only for what was sent: a first copy leaves the plain one behind
            keys |= {one: f"{self.again} {keys[one]}" for one in before}
        done = [] if self.again else [one for one in who if one in before]
        new = [one for one in who if one not in done]
        jobs = [self.withheld(way, done, _SENT)] if done else []
        return jobs + ([self.job(way, new, number, tuple(keys[one] for one in new))] if new else [])


def _forged(sender: str, net: Network, route: MxRoute, port: int) -> dict[str, str]:
    """{"why": ...} where SPF says fail for our public address (given, or this machine's), else nothing."""
    real = [ip for _, ip in route if not in_lab(net, ip, port)]
    ours = net.sender_ip or (own_ip(net, real[0]) if real else None)
    if not ours or not is_public(ours):
        return {}
    from smtpkit.checks.spf import spf_forbids

    why = spf_forbids(sender, ours, net)
    return {"why": f'{why}; spoof_ok="reason" sends it all the same'} if why else {}
