"""probing: `probe`: the same question to every IP of every MX, round by round. Not here: how it runs (campaign)."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from smtpkit.address import Envelope, as_ip, domain_of, helo_name, literal, mailbox, reverse_path
from smtpkit.campaign import Run, run
from smtpkit.errors import InvalidInput, flag, one_of, path_of, quantity, refuse
from smtpkit.escape import one_line
from smtpkit.jobs import Job, hold
from smtpkit.mx import MxHost, MxRoute, lookup_mx, single
from smtpkit.network import Network, chosen, is_public, own_ip
from smtpkit.progress import during
from smtpkit.steps import Step, Talk, Tls, Verdict, session

UNTIL = ("banner", "ehlo", "starttls", "mail", "rcpt")
RULES = ("pace", "timeouts", "guard", "casebook", "case")
TLS_MODES = ("off", "may", "require", "verify", "implicit")
NO_MAIL = {"null": "null_mx", "servfail": "dns_servfail", "timeout": "dns_timeout"}
"""The error of a route without hosts by its status; all others: dns_nxdomain."""


Row = Mapping[str, object]


def find_route(domain: "str | MxRoute | None", server: Any, server_name: str | None, net: Network) -> MxRoute:
    """The route: given, looked up, or one server named by hand."""
    if server is not None:
        return single(server, server_name, domain.domain if isinstance(domain, MxRoute) else domain, net)
    if server_name is not None:
        raise refuse("server_name", server_name, "has no server=", "write server=('192.0.2.1', 25) beside it")
    if domain is None:
        raise InvalidInput("whom to ask? give a domain, a route of lookup_mx, or server=('192.0.2.1', 25)")
    return domain if isinstance(domain, MxRoute) else lookup_mx(domain, net)


def our_helo(helo: str | None, net: Network) -> str:
    """The HELO name: given, the network's, our forward-confirmed PTR name, else an address literal."""
    if (named := net.helo if helo is None else helo) is not None:
        return helo_name(named)
    ip = net.sender_ip or own_ip(net) or own_ip(net, "2001:db8::1") or "127.0.0.1"
    if not net.sender_ip and not is_public(ip):
        return literal(ip)
    for name in net.resolve(as_ip(ip).reverse_pointer, "PTR").rows:
        with suppress(InvalidInput):  # a PTR record may hold anything
            if ip in net.resolve(helo_name(name), "AAAA" if ":" in ip else "A").rows:
                return helo_name(name)
    return literal(ip)


def parties(helo: str, sender: str | None = None, recipient: str | None = None) -> dict[str, object]:
    """Whom a row names: HELO, reverse-path, recipient and their domains."""
    return {
        "helo": helo, "sender": "<>" if sender == "" else sender, "sender_domain": domain_of(sender),
        "recipient": recipient, "recipient_domain": domain_of(recipient),
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Aim:
    """How servers are asked: what all rows and sessions of a probe, a send or a Dialogue share."""

    network: Network
    port: int
    tls: Tls
    ca_file: Path | None
    helo: str
    base: Row
    """Columns of every row."""

    def row(self, route: MxRoute, host: MxHost | None, ip: str | None, more: Row) -> dict[str, object]:
        """What a row says before anything is asked; our address only where it is of the MX IP's family."""
        ours = self.network.sender_ip
        return {
            "domain": route.domain, "mx_host": host.name if host else None, "mx_pref": host.pref if host else None,
            "mx_ip": ip, "port": self.port, "dns_s": route.dns_s, "tls_asked": self.tls,
            "sender_ip": ours if ip is None or (":" in ip) == (":" in (ours or "")) else None, **self.base, **more,
        }  # fmt: skip

    def job(self, step: Step, host: MxHost, ip: str, rows: Sequence[Row], **more: Any) -> Job:
        """One session with `ip`."""
        name = host.name if "[" not in host.name else None  # a certificate is for no address literal
        return Job(step, ip, self.port, host.receiver, name, self.tls, self.ca_file, tuple(rows), **more)

    def dead_ends(self, route: MxRoute, more: Row, partly: bool = False) -> list[Job]:
        """A row of stage dns for a domain, or a host, that has no address (`partly`: or none of one family)."""
        ends: list[Any] = [(None, NO_MAIL.get(route.status), route.detail)]
        if route.hosts:
            ends = [(h, h.error, h.detail) for h in route.hosts if not h.ips or (partly and h.error)]
        jobs = []
        for host, error, detail in ends:
            row = self.row(route, host, None, {**more, **({"why": one_line(detail)} if detail else {})})
            verdict = Verdict("dns", "failed", error=error or "dns_nxdomain")
            jobs.append(Job(None, None, self.port, fields=(row,), verdict=verdict))
        return jobs


def aimed(
    domain: "str | MxRoute | None", network: Network, base: Row, *, server: Any = None,
    server_name: str | None = None, tls: str = "may", ca_file: str | Path | None = None, helo: str | None = None,
) -> tuple[Aim, MxRoute]:  # fmt: skip
    """How to ask, and whom, with a progress line where DNS is slow; raises InvalidInput."""
    mode, path = one_of("tls", tls, TLS_MODES), None if ca_file is None else path_of("ca_file", ca_file)
    if path:
        from smtpkit.tls import read_authorities

        read_authorities(path)
    whose = domain.domain if isinstance(domain, MxRoute) else server if domain is None else domain
    asking: list[Any] = [
        partial(our_helo, helo, network),
        partial(find_route, domain, server, server_name, network),
    ]
    name, route = during(f"DNS for {whose}", "lookups", *asking)
    port = int(server[1]) if isinstance(server, tuple) else 25
    return Aim(network, port, mode, path, name, base), route


def probe(
    domain: "str | MxRoute | None" = None,
    recipient: str | None = None,
    sender: str | None = None,
    *,
    network: Network | None = None,
    until: str | None = None,
    rounds: int = 5,
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
    """Ask every IP of every MX of `domain` the same, `rounds` times, interleaved; nothing is delivered.

    To EHLO (STARTTLS where offered), or with `recipient` (then `sender` too) to RCPT; `until` names another
    last stage: banner, ehlo, starttls, mail, rcpt. What a server does is a row of the frame (design of its
    columns: smtpkit.attempts.COLUMNS), never an exception. Raises InvalidInput for the caller's mistakes before
    anything is sent, StoreError if the casebook cannot be written.

    >>> from smtpkit import Lab
    >>> with Lab("healthy") as lab:
    ...     frame = probe(lab.domain, network=lab.network, rounds=1)
    >>> set(frame.outcome)
    {'passed'}
    """
    rounds, background = quantity("rounds", rounds, 1, 1000, whole=True), flag("background", background)
    asked, route = question(
        domain, recipient, sender, network=network, until=until, server=server, server_name=server_name,
        tls=tls, ca_file=ca_file, helo=helo,
    )  # fmt: skip
    jobs = asked.dead_ends(route)
    jobs += [asked.job(route, host, ip, n + 1) for n in range(rounds) for host, ip in route]
    rules = {"pace": pace, "timeouts": timeouts, "guard": guard, "casebook": casebook, "case": case}
    return run(hold(jobs), asked.aim.network, label=f"probe {route.domain}", background=background, **rules)


@dataclass(frozen=True, slots=True)
class Question:
    """What a probe asks of each server: how deep, in whose name; `locate` and `watch` ask the same."""

    talk: Talk
    aim: Aim
    row: Row

    def dead_ends(self, route: MxRoute, number: int | None = None) -> list[Job]:
        """Rows for what has no address, in the round of that number."""
        return self.aim.dead_ends(route, {**self.row, "try_number": number}, partly=True)

    def job(self, route: MxRoute, host: MxHost, ip: str, number: int) -> Job:
        """One session with `ip`; `number` counts them."""
        row = self.aim.row(route, host, ip, {**self.row, "try_number": number})
        named = self.talk.envelope.recipients if self.talk.envelope else ()
        return self.aim.job(session(self.talk), host, ip, [row], named=named)


def question(
    domain: "str | MxRoute | None", recipient: str | None, sender: str | None, *, network: Network | None = None,
    until: str | None = None, **how: Any,
) -> tuple[Question, MxRoute]:  # fmt: skip
    """What is asked, and of whom, checked before anything is sent; `how`: as `aimed`. Raises InvalidInput."""
    depth: Any = one_of("until", ("ehlo" if recipient is None else "rcpt") if until is None else until, UNTIL)
    envelope = _envelope(depth, recipient, sender)
    if isinstance(domain, str):
        helo_name(domain, "domain")
    aim, route = aimed(domain, chosen(network), {"source": "probe", "asked": depth}, **how)
    utf8 = envelope is not None and envelope.needs_smtputf8
    talk = Talk(helo=aim.helo, tls=aim.tls, until=depth, envelope=envelope, needs_smtputf8=utf8)
    row = parties(aim.helo, *((envelope.sender, envelope.recipients[0]) if envelope else ()))
    return Question(talk, aim, row), route


def _envelope(depth: str, recipient: str | None, sender: str | None) -> Envelope | None:
    back = None if sender is None else reverse_path(sender)
    to = None if recipient is None else mailbox(recipient, "recipient")
    if depth not in ("mail", "rcpt"):
        return None
    if sender is None:
        raise InvalidInput(f"a probe up to {depth} needs sender='me@your.domain': it is never <> by itself")
    if to is None and depth == "rcpt":
        raise InvalidInput("a probe up to rcpt needs the recipient's address; it is named, nothing is delivered")
    return Envelope.of(sender, to or f"postmaster@{domain_of(back) or 'invalid'}")
