"""checks: before you send: what a receiver will think of this sender and this message.

Belongs here: `preflight`, which runs every check within its deadline. Not here: any single check (one file each),
texts and sources (data/preflight.csv, sender_rules.csv, dnsbl_zones.csv, lints.csv), the command line (cli).
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from smtpkit.address import helo_name, host_name, refuse_controls, sending_ip
from smtpkit.checks import dmarc, dnsbl, names, spf, transport
from smtpkit.checks.dnsbl import joined
from smtpkit.checks.found import Row, Sender, frame, page, rules
from smtpkit.checks.recorder import Replay, Within
from smtpkit.checks.score import score
from smtpkit.errors import of_kind, path_of, quantity, refuse
from smtpkit.limits import LONGEST
from smtpkit.lint import lint
from smtpkit.network import chosen
from smtpkit.progress import during

__all__ = ["Replay", "joined", "page", "preflight", "score"]


def preflight(
    domain: str, ip: str | None = None, helo: str | None = None, selector: str | None = None, message: Any = None,
    network: Any = None, *, mail_from: str | None = None, deadline: float = 30.0, record: str | Path | None = None,
) -> pd.DataFrame:  # fmt: skip
    """What a receiver will think of mail from `domain`: check, subject, status, evidence, advice, source.

    `ip`, `helo`: where the mail leaves from; default: the network's own, HELO else the address's confirmed PTR.
    `selector`: of the DKIM key, where no signed message is given. `message`: Message or octets; then signatures,
    DMARC verdict and lints are judged as well. `mail_from`: the reverse-path or its domain; default: the
    message's, else `domain`. `deadline`: seconds for all checks. `record`: a file that keeps the answers of DNS and
    servers; network=checks.Replay(file) shows the same again.

    Status is pass, warn, fail or unknown (and why); SERVFAIL and timeout are unknown, never "no record". Where a
    signed TLSA record is published, the domain's MX are asked for their certificates. What block lists say is kept
    in the network's casebook. Raises InvalidInput for a domain, address or message that is none.

    >>> from smtpkit.lab import Lab
    >>> with Lab("healthy") as lab:
    ...     checked = preflight("ours.example", network=lab.network)
    >>> checked.query("check == 'spf'").status.item()
    'pass'
    """
    within = Within(chosen(network), quantity("deadline", deadline, 0.001, LONGEST))
    record = None if record is None else path_of("record", record)
    if record and (record.is_dir() or not record.parent.is_dir()):
        raise refuse("record", str(record), "is no file in a folder that is there", "make the folder, name a file")
    try:
        who = _who(within, domain, ip, helo, selector, message, mail_from)
        checks = spf.rows, dmarc.rows, names.rows, dnsbl.rows, transport.rows, _lints
        asking: list[Any] = [partial(list, check(who)) for check in checks]  # each is a generator
        found = [row for told in during(f"preflight {who.domain}", "checks", *asking) for row in told]
        if record:
            within.save(record)
    finally:
        within.end()
    at = f"{datetime.now(UTC):%Y-%m-%d %H:%M UTC}"
    return frame([*found, *rules(found)], domain=who.domain, ip=who.ip or "", at=at)


def _lints(who: Sender) -> Iterator[Row]:
    """What the message's octets alone tell; of alignment dmarc speaks, by RFC 9989."""
    for row in lint(who.octets) if who.octets is not None else ():
        if not row["check"].startswith("align_"):
            more = (row[name] for name in ("limit", "status", "value", "advice", "source"))
            yield Row(f"message: {row['check']}", *more)


def _who(net: Any, domain: str, ip: Any, helo: Any, selector: Any, message: Any, mail_from: Any) -> Sender:
    """The caller's arguments, checked, with the network's own where they are missing."""
    name, octets = host_name("domain", domain), getattr(message, "octets", message)
    of_kind("message", octets, bytes | None, "give a Message or its octets")
    octets = octets.replace(b"\n", b"\r\n") if octets and b"\r" not in octets else octets  # Unix; `send` does so
    ip = str(sending_ip(given)) if (given := net.sender_ip if ip is None else ip) is not None else None
    sender = getattr(message, "sender", None) if mail_from is None else mail_from
    written = "" if sender is None else refuse_controls("mail_from", sender)
    local, _, path = written.strip().strip("<>").rpartition("@")
    greeting = net.helo if helo is None else helo_name(helo)
    found = None if selector is None else re.sub(r"(?i)\._domainkey(\..*)?\Z", "", host_name("selector", selector))
    who = Sender(name, net, ip, greeting, name, found, octets)
    if path:
        return who._replace(mail_from=host_name("mail_from", path), local=local or "postmaster")
    named = "" if sender is None else who.greeting  # RFC 7208 2.4: of the null reverse-path the HELO name counts
    return who._replace(mail_from=name if not named or named.startswith("[") else host_name("helo", named))
