"""mx: which hosts and addresses take a domain's mail, and how we know. Not here: DNS, connecting (network)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from operator import index
from typing import TYPE_CHECKING, Literal

from smtpkit import escape
from smtpkit.address import helo_name, host_name, ip_or_none, literal, organisation
from smtpkit.errors import InvalidInput, quantity, refuse
from smtpkit.network import Network, chosen

if TYPE_CHECKING:
    import pandas as pd

MAX_HOSTS, MAX_ADDRESSES = 64, 64
"""Per domain and per host; more are cut, and MxRoute.cut says so."""
MxStatus = Literal["mx", "implicit", "null", "nxdomain", "nodata", "servfail", "timeout"]


@dataclass(frozen=True, slots=True)
class MxHost:
    """One MX host; without addresses `error` says why (a dns_... value of the frame's error column)."""

    name: str
    pref: int
    ips: tuple[str, ...]
    error: str | None = None
    receiver: str = ""
    """The organisational domain that pacing counts for."""
    cname: str | None = None
    """Where the name points on; an MX should not be a CNAME (RFC 2181 10.3)."""
    detail: str = ""
    cut: int = 0
    """Addresses beyond the cap that were left out."""


@dataclass(frozen=True, slots=True)
class MxRoute:
    """Where a domain's mail goes: a snapshot with its time, frozen so that every round asks the same addresses.

    `status`: mx, implicit (no MX, the domain's own address: only on NODATA), null (RFC 7505: takes no mail),
    nxdomain, nodata, servfail, timeout. Hosts stand by preference, addresses as the resolver gave them.

    >>> MxRoute("daum.example", "null").status
    'null'
    """

    domain: str
    status: MxStatus
    hosts: tuple[MxHost, ...] = ()
    asked_at: datetime | None = None
    ttl: int | None = None
    """Seconds."""
    cname: str | None = None
    dns_s: float | None = None
    detail: str = ""
    cut: int = 0
    """MX hosts and addresses beyond the caps that were left out."""

    def __iter__(self) -> Iterator[tuple[MxHost, str]]:
        """Every (host, address) by preference."""
        return ((host, ip) for host in self.hosts for ip in host.ips)

    def __getitem__(self, wanted: int | str) -> "MxRoute":
        """The part of the route with one host (its position or name) or one address.

        >>> route = MxRoute("d.example", "mx", (MxHost("mx.d.example", 10, ("192.0.2.1", "192.0.2.2")),))
        >>> [ip for _, ip in route["192.0.2.2"]]
        ['192.0.2.2']
        """
        if not isinstance(wanted, str):
            return replace(self, hosts=(self.hosts[index(wanted)],))
        hosts = [host for host in self.hosts if host.name == wanted.lower().rstrip(".")]
        hosts = hosts or [replace(host, ips=(wanted,)) for host in self.hosts if wanted in host.ips]
        if not hosts:
            known = ", ".join([h.name for h in self.hosts] + [ip for _, ip in self])
            raise InvalidInput(f"{wanted!r} is not on the route of {self.domain}; there are {known}")
        return replace(self, hosts=tuple(hosts))

    def frame(self) -> "pd.DataFrame":
        """One row an address (a host without address: one row): mx_host, mx_pref, mx_ip, error, cname."""
        import pandas as pd

        rows = [(h.name, h.pref, ip, h.error, h.cname) for h in self.hosts for ip in (h.ips or (None,))]
        dtypes = {"mx_host": "str", "mx_pref": "Int32", "mx_ip": "str", "error": "str", "cname": "str"}
        return pd.DataFrame(rows, columns=list(dtypes)).astype(dtypes)

    def __repr__(self) -> str:
        when = f", asked {self.asked_at:%Y-%m-%d %H:%M:%S} UTC" if self.asked_at else ""
        when += f", {self.cut} beyond our caps left out" * bool(self.cut)
        head = f"<MxRoute {self.domain}: {self.status}, {len(self.hosts)} hosts, {len(list(self))} addresses{when}>"
        lines = [f"  {h.pref:>5} {h.name}  {', '.join(h.ips) or h.error}" for h in self.hosts]
        return escape.visible("\n".join([head, *lines, *[f"  {self.detail}"] * bool(self.detail)]))

    def _repr_html_(self) -> str:
        return escape.pre(self)


def lookup_mx(domain: str, network: Network | None = None) -> MxRoute:
    """Every MX host of `domain` and every A and AAAA behind it (RFC 5321 5.1).

    SERVFAIL and time-outs are never "none"; NXDOMAIN, NODATA and null MX are. Raises InvalidInput for what is
    no domain name; what DNS does is a status, never an exception.

    >>> from smtpkit import Lab
    >>> with Lab("healthy") as lab:
    ...     lookup_mx(lab.domain, network=lab.network).status
    'mx'
    """
    net = chosen(network)
    bare = domain.strip("[]").removeprefix("IPv6:") if isinstance(domain, str) else ""
    if ip_or_none(bare):
        raise refuse("domain", domain, "is an address, no domain", f'ask it itself: server=("{bare}", 25)')
    name = host_name("domain", domain)
    asked_at = datetime.now(UTC)
    answer = net.resolve(name, "MX")
    base = MxRoute(name, "mx", (), asked_at, answer.ttl, answer.canonical, answer.seconds, answer.detail)
    if answer.status == "nodata":
        return _implicit(base, net)
    if answer.status != "ok":
        return replace(base, status=answer.status)
    named = {host: pref for pref, host in sorted(map(_record, answer.rows), reverse=True) if host}
    if not named:
        return replace(base, status="null", detail="null MX: this domain takes no mail (RFC 7505)")
    records = sorted((pref, host) for host, pref in named.items())  # a host named twice is asked once, at its best
    hosts = [_host(pref, host, net) for pref, host in records[:MAX_HOSTS]]
    cut = max(len(records) - MAX_HOSTS, 0) + sum(host.cut for host in hosts)
    return replace(base, hosts=tuple(hosts), cut=cut)


def _record(row: str) -> tuple[int, str]:
    pref, _, host = row.partition(" ")
    return int(pref), host.strip().lower().rstrip(".")


def _implicit(base: MxRoute, net: Network) -> MxRoute:
    host = _host(0, base.cname or base.domain, net)
    if host.ips:
        return replace(base, status="implicit", hosts=(host,), cut=host.cut)
    by_error: dict[str | None, MxStatus] = {"dns_servfail": "servfail", "dns_timeout": "timeout"}
    return replace(base, status=by_error.get(host.error, "nodata"), detail=host.detail)


def _host(pref: int, name: str, net: Network) -> MxHost:
    answers = [net.resolve(name, "A"), net.resolve(name, "AAAA")]
    ips = tuple(dict.fromkeys(ip for answer in answers for ip in answer.rows))
    cname = next((answer.canonical for answer in answers if answer.canonical), None)
    statuses = {answer.status for answer in answers}  # one SERVFAIL: we do not know (Postfix, RFC 5321 5.1)
    why = next((f"dns_{soft}" for soft in ("timeout", "servfail") if soft in statuses), "dns_nxdomain")
    error = None if ips and why == "dns_nxdomain" else why
    detail = "; ".join(dict.fromkeys(answer.detail for answer in answers if answer.detail))
    about = (error, receiver_of(name), cname, detail if error else "")
    return MxHost(name, pref, ips[:MAX_ADDRESSES], *about, max(len(ips) - MAX_ADDRESSES, 0))


def receiver_of(name: str) -> str:
    """One receiver: the organisational domain of an MX host name; an address is its own.

    >>> receiver_of("mx1.mail.daum.net"), receiver_of("192.0.2.1")
    ('daum.net', '192.0.2.1')
    """
    return str(ip_or_none(name) or organisation(name))


def single(server: tuple[str, int] | str, name: str | None, domain: str | None, net: Network) -> MxRoute:
    """The route for `server=`: one address, or all addresses of a host name; `name` is the server's name."""
    if not isinstance(server, str) and not (isinstance(server, tuple) and len(server) == 2):
        raise refuse("server", server, "is no server", "write server=('192.0.2.1', 25), or a host name")
    host, port = server if isinstance(server, tuple) else (server, 25)
    quantity("port of server=", port, 1, 65535, whole=True)
    known = None if name is None else host_name("server_name", name)
    if address := ip_or_none(host):
        found = MxHost(known or literal(host), 0, (str(address),))
    else:
        found = _host(0, host_name("server", host), net)
        found = replace(found, name=known or found.name)
    where = helo_name(domain, "domain") if domain else found.name
    receiver = receiver_of(known) if known else found.receiver or receiver_of(host)
    return MxRoute(where, "mx", (replace(found, receiver=receiver),), datetime.now(UTC), cut=found.cut)
