"""names: what the sender is called: PTR, HELO, and whether its domain takes mail and answers DNS.

Not here: SPF of the HELO name (spf), lists of names (dnsbl).
"""

from collections.abc import Iterator
from typing import Any

from smtpkit.address import as_ip, organisation
from smtpkit.catalogue import patterns
from smtpkit.checks.found import MOST_NAMES, Row, Sender, confirmed, say, silent
from smtpkit.mx import lookup_mx

_SHAPES = patterns("names")


def called(who: Sender) -> Iterator[Row]:
    """PTR of the sending address and the HELO name."""
    helo = who.greeting
    yield _ptr(who.ip, who.network) if who.ip else say("ptr", "no_ip", who.domain, "no sending address known")
    yield _helo(helo, who) if helo else say("helo", "unasked", who.ip or who.domain, "no HELO name known")


def _ptr(ip: str, network: Any) -> Row:
    names, good, why = confirmed(ip, network)
    back = f"{', '.join(good)} leads back" if good else why or "none leads back"
    first = good[0] if good else ""
    generic = _SHAPES.generic.search(first.removesuffix(organisation(first)) or first)  # a firm may be called so
    many = f"{len(names)} names, {MOST_NAMES} of them asked: " if len(names) > MOST_NAMES else ""
    faults = {"many": many, "generic": good and generic, "ok": good, "unreadable": why, "unconfirmed": names}
    return say("ptr", faults | {"none": True}, ip, f"PTR {many}{', '.join(names) or 'none'}; {back}")


def _helo(helo: str, who: Sender) -> Row:
    if not _SHAPES.host.match(helo):
        finding = "literal" if helo.startswith("[") else "no_name"
        return say("helo", finding, helo, "no fully qualified host name")
    if not who.ip:
        return say("helo", "no_ip", helo, "no sending address known")
    answers = [who.network.resolve(helo, kind) for kind in ("A", "AAAA")]
    rows, mine = [row for one in answers for row in one.rows], answers[":" in who.ip]
    ours = as_ip(who.ip) in map(as_ip, mine.rows)
    says = silent(mine) or f"{helo} has {', '.join(rows) or 'no address'}; sending from {who.ip}"
    return say("helo", {"ok": ours, "unreadable": silent(mine), "elsewhere": rows, "none": True}, helo, says)


def _mx(domain: str, network: Any) -> Row:
    route = lookup_mx(domain, network)
    said = [f"{host.pref} {host.name} [{', '.join(host.ips) or host.error}]" for host in route.hosts]
    slow = any(host.error in ("dns_servfail", "dns_timeout") for host in route.hosts)
    finding = route.status if route.status != "mx" or list(route) else "servfail" if slow else "dead"
    return say("mx", finding, domain, ", ".join(said) or route.detail or route.status)


def rows(who: Sender) -> Iterator[Row]:
    """PTR, HELO, and for From and MAIL FROM domain: MX, SOA, the two mailboxes every domain has."""
    yield from called(who)
    for domain in dict.fromkeys((who.domain, who.mail_from)):
        yield _mx(domain, who.network)
        answer = who.network.resolve(domain, "SOA")
        finding = "unreadable" if silent(answer) else "none" if answer.status == "nxdomain" else "ok"
        yield say("soa", finding, domain, silent(answer) or ", ".join(answer.rows) or answer.status)
    yield say("mailboxes", "unasked", f"postmaster@{who.domain}, abuse@{who.domain}", "DNS does not tell")
