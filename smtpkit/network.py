"""network: the one module that opens outgoing sockets and asks DNS. Not here: SMTP, MX rules, reply deadlines."""

import errno
import os
import re
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from smtpkit.address import as_ip, helo_name, refuse_controls
from smtpkit.errors import NotAllowed, listed, of_kind, pair_of, path_of, quantity, refuse
from smtpkit.guard import Guard
from smtpkit.limits import LONGEST, Pace, Timeouts

if TYPE_CHECKING:
    from dns.resolver import Resolver

Kind = Literal["A", "AAAA", "MX", "TXT", "PTR", "CNAME", "TLSA", "SOA", "NS", "SPF"]
Status = Literal["ok", "nodata", "nxdomain", "servfail", "timeout"]
_NAT64, _UNICAST, _PAPER = map(IPv6Network, ("64:ff9b::/96", "2000::/3", "3fff::/20"))
_RESERVED = (".test", ".invalid", ".localhost", ".example", ".example.com", ".example.net", ".example.org")
BEGUN = (0, errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", 0))


@dataclass(frozen=True, slots=True)
class Answer:
    """What the name servers said to one question; never an exception.

    `rows` are presentation forms: MX as "10 mx1.example.org", names without the final dot, TXT with its
    strings joined. `secure` is the AD bit, meaningful only from a validating resolver on loopback.
    """

    status: Status
    rows: tuple[str, ...] = ()
    ttl: int | None = None
    canonical: str | None = None
    """The name after CNAMEs, where it differs from the name asked."""
    seconds: float = 0.0
    secure: bool = False
    detail: str = ""
    """What went wrong, for people: rcode, name server, timeout."""


class Network(Protocol):
    """What every function that touches the world takes as `network=`; Internet and the Lab's are the two."""

    label: str
    guard: Guard
    pace: Pace
    timeouts: Timeouts
    casebook: Path
    ledger: Path
    sender_ip: str | None
    helo: str | None

    def resolve(self, name: str, kind: Kind) -> Answer:
        """Ask DNS; a dead, slow or lying server is an Answer with its status."""

    def open(self, ip: str, port: int) -> socket.socket:
        """A non-blocking socket whose connect has begun; raises NotAllowed or OSError."""


def is_public(ip: str) -> bool:
    """Whether `ip` is a global unicast address, also after unmapping what IPv6 may hold (RFC 6890).

    >>> is_public("8.8.8.8"), is_public("::ffff:127.0.0.1"), is_public("192.0.2.1")
    (True, False, False)
    """
    address = ip_address(ip.partition("%")[0])
    held: list[Any] = [address]
    if isinstance(address, IPv6Address):
        if not (address.ipv4_mapped or address in _NAT64 or (address in _UNICAST and address not in _PAPER)):
            return False
        held += [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        held += [IPv4Address(address.packed[-4:])] if address in _NAT64 else []
    return all(one.is_global and not one.is_multicast for one in held if one is not None)


@dataclass(slots=True)
class Internet:
    """The real world as a Network; make it with `sk.internet(...)`."""

    label: str
    guard: Guard
    pace: Pace
    timeouts: Timeouts
    casebook: Path
    ledger: Path
    sender_ip: str | None
    helo: str | None
    source_ip: str | None = None
    nameservers: tuple[tuple[str, int], ...] = ()
    allow_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    reroute: Mapping[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
    socks: str | None = None
    dns_timeout: float = 10.0
    _resolver: "Resolver | None" = field(default=None, repr=False)

    def resolve(self, name: str, kind: Kind) -> Answer:
        begun = time.monotonic()
        answer = _ask(self, name, kind)
        return replace(answer, seconds=time.monotonic() - begun)

    def where(self, ip: str, port: int) -> tuple[str, int]:
        """The address and port that really are connected to (after rerouting)."""
        return self.reroute.get((ip, port), (ip, port))

    def unpaced(self, ip: str, port: int) -> bool:
        """Whether Pace.none() is honoured there: rerouted, or non-global and allowed."""
        return (ip, port) in self.reroute or not is_public(ip)

    def open(self, ip: str, port: int) -> socket.socket:
        target = self.where(ip, port)
        if why := self.refuses(ip, port):  # what is checked is what is connected to: no name is resolved here
            raise NotAllowed(why)
        if self.socks:
            return self._through_socks(*target)
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # else megabytes wait in the kernel, and nobody sees who reads
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 1 << 14)
            if self.source_ip and (":" in self.source_ip) == (":" in target[0]):
                _bind(sock, self.source_ip)
            error = sock.connect_ex(target)
            if error not in BEGUN:
                raise OSError(error, os.strerror(error))
        except BaseException:
            sock.close()
            raise
        return sock

    def refuses(self, ip: str, port: int) -> str:
        """Why this address must not be connected to; "" if it may."""
        address = ip_address(ip.partition("%")[0])
        ok = (ip, port) in self.reroute or is_public(ip) or any(address in net for net in self.allow_networks)
        return "" if ok else f"{ip} is not a public address; name it in allow_networks if you mean it"

    def _through_socks(self, ip: str, port: int) -> socket.socket:
        """Connect through the proxy; this blocks up to the connect timeout."""
        from python_socks import ProxyError, ProxyTimeoutError
        from python_socks.sync import Proxy

        try:
            proxy = Proxy.from_url(f"socks5://{self.socks}")
            sock: socket.socket = proxy.connect(dest_host=ip, dest_port=port, timeout=self.timeouts.connect)
        except ProxyTimeoutError as error:
            raise OSError(errno.ETIMEDOUT, str(error)) from error
        except ProxyError as error:
            code = errno.ECONNREFUSED if error.error_code == 5 else errno.EHOSTUNREACH  # RFC 1928 section 6
            raise OSError(code, f"SOCKS {self.socks}: {error}") from error
        except OSError as error:  # the way there, not its end
            raise OSError(errno.ENETUNREACH, f"SOCKS {self.socks}: {error}; is the tunnel up (ssh -D)?") from error
        sock.setblocking(False)
        return sock


def internet(
    *,
    nameservers: Iterable[str | tuple[str, int]] = (),
    source_ip: str | None = None,
    sender_ip: str | None = None,
    helo: str | None = None,
    allow_networks: Iterable[str] = (),
    reroute: Mapping[tuple[str, int], tuple[str, int]] | None = None,
    socks: str | None = None,
    label: str = "here",
    guard: Guard | None = None,
    pace: Pace | None = None,
    timeouts: Timeouts | None = None,
    casebook: str | Path = "casebook.sqlite",
    ledger: str | Path | None = None,
    dns_timeout: float = 10.0,
) -> Internet:
    """The real world, as seen from here or, with `socks=` (an `ssh -D` to it), from the sending host.

    `nameservers`: addresses or (address, port); none: the system's. `source_ip`: our socket's address;
    `sender_ip`: our public address behind NAT. `allow_networks`: non-global networks that may be connected
    to. `reroute`: {(ip, port): (ip, port)}. `ledger`: where pacing is remembered; default: user's state folder.
    Raises InvalidInput for an address or network that is none.

    >>> sk_net = internet(reroute={("192.0.2.11", 25): ("127.0.0.1", 2511)}, label="relay1")
    >>> sk_net.where("192.0.2.11", 25)
    ('127.0.0.1', 2511)
    """
    servers = listed("nameservers", nameservers)
    asked = [_pair("nameserver", (one, 53) if isinstance(one, str) else one) for one in servers]
    source_ip = None if source_ip is None else str(as_ip(source_ip, "source_ip"))
    sender_ip = None if sender_ip is None else str(as_ip(sender_ip, "sender_ip"))
    networks = tuple(_network(one) for one in listed("allow_networks", allow_networks))
    given = of_kind("reroute", {} if reroute is None else reroute, Mapping, "write {(ip, port): (ip, port)}")
    ways = [(_pair("reroute", one), _pair("reroute", other)) for one, other in given.items()]
    port = re.fullmatch(r"[^\s@/]+:(\d{1,5})", "" if socks is None else refuse_controls("socks", socks))
    if socks is not None and not (port and 0 < int(port[1]) < 65536):
        raise refuse("socks", socks, "is no host and port", 'write one like "127.0.0.1:1080" (ssh -D 1080 HOST)')
    return Internet(
        label=refuse_controls("label", label),
        guard=or_usual("guard", guard, Guard()),
        pace=or_usual("pace", pace, Pace()),
        timeouts=or_usual("timeouts", timeouts, Timeouts()),
        casebook=path_of("casebook", casebook),
        ledger=_state_folder() / "ledger.sqlite" if ledger is None else path_of("ledger", ledger),
        sender_ip=sender_ip or (source_ip if source_ip and is_public(source_ip) else None),
        helo=None if helo is None else helo_name(helo),
        source_ip=source_ip,
        nameservers=tuple(asked),
        allow_networks=networks,
        reroute=dict(ways),
        socks=socks,
        dns_timeout=quantity("dns_timeout", dns_timeout, 0.001, LONGEST),
    )


def _bind(sock: socket.socket, ip: str) -> None:
    try:
        sock.bind((ip, 0))
    except OSError as error:
        raise OSError(error.errno, f"source_ip={ip}: {error.strerror}; give an address of this host") from None


def why_not(network: Network, ip: str, port: int) -> str:
    """Why `network` must not connect there; "" if it may, or has no such rule of its own."""
    return str(getattr(network, "refuses", lambda *_: "")(ip, port))


def in_lab(network: Network, ip: str, port: int) -> bool:
    """Whether Pace.none() is honoured there; a network that does not say is a lab's."""
    return bool(getattr(network, "unpaced", lambda *_: True)(ip, port))


def chosen(network: Network | None) -> Network:
    """The network given, else the real world; InvalidInput for what is none."""
    if network is not None and not (hasattr(network, "resolve") and hasattr(network, "sender_ip")):
        raise refuse("network", network, "is no network", "write network=sk.internet(...), or a lab's lab.network")
    return network or internet()


def or_usual(what: str, given: Any, usual: Any) -> Any:
    """`given`, which is of the kind of `usual`; that, if None."""
    kind = type(usual)
    return usual if given is None else of_kind(what, given, kind, f"write {what}=sk.{kind.__name__}(...)")


def _state_folder() -> Path:
    if place := os.environ.get("SMTPKIT_STATE"):
        return Path(place)
    from platformdirs import user_state_path

    return user_state_path("smtpkit", appauthor=False)


def _pair(what: str, pair: Any) -> tuple[str, int]:
    """(address, port) as it may be used."""
    ip, port = pair_of(what, pair, 'write address and port, like ("192.0.2.1", 53)')
    return str(as_ip(ip, what)), quantity(f"port of {what}", port, 1, 65535, whole=True)


def own_ip(net: Network, far: str = "192.0.2.1") -> str | None:
    """Our address towards `far` by the routing table (no packet leaves); None: no route, a lab, or through SOCKS.

    >>> own_ip(internet(socks="127.0.0.1:1080")) is None
    True
    """
    if not isinstance(net, Internet) or net.socks:
        return None
    if net.source_ip and (":" in net.source_ip) == (":" in far):
        return net.source_ip
    try:
        with socket.socket(socket.AF_INET6 if ":" in far else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((far, 9))
            return str(probe.getsockname()[0])
    except OSError:  # no route there, or this system does not know the family at all
        return None


def _network(text: Any) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text if isinstance(text, IPv4Network | IPv6Network) else str(text), strict=False)
    except ValueError:
        raise refuse("allow_networks", text, "is no network", "write one like 10.0.0.0/8") from None


def _ask(net: Internet, name: str, kind: Kind) -> Answer:
    """One question; every failure becomes a status (SERVFAIL and time-outs are never "no record")."""
    import dns.exception
    import dns.name
    import dns.resolver

    plain = name.rstrip(".").lower()
    if not net.nameservers and f".{plain}".endswith(_RESERVED):
        return Answer("nxdomain", detail=f"{plain} is a reserved name (RFC 2606) and is not asked of real servers")
    try:
        found = _resolver(net).resolve(f"{plain}.", kind, raise_on_no_answer=False, search=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.YXDOMAIN) as error:
        return Answer("nxdomain", detail=str(error))
    except dns.exception.Timeout as error:
        return Answer("timeout", detail=_first_line(error))
    except (dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.EmptyLabel, UnicodeError) as error:
        return Answer("nxdomain", detail=f"{name!r} is no domain name: {error}")
    except (dns.exception.DNSException, OSError, EOFError) as error:  # a lying, broken or missing server
        return Answer("servfail", detail=_first_line(error) or type(error).__name__)
    return _read(plain, found, kind)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:300]


def _resolver(net: Internet) -> "Resolver":
    """dnspython's resolver on our name servers: no cache, no search list, TCP when an answer is cut."""
    if net._resolver is None:
        import dns.resolver

        made, server = dns.resolver.Resolver(configure=not net.nameservers), _server(net)
        made.nameservers = [server(*at) for at in net.nameservers or [(str(ip), 53) for ip in made.nameservers]]
        made.lifetime, made.timeout, made.search = net.dns_timeout, max(net.dns_timeout / 3, 0.5), []
        made.use_edns(0, 0, 1232)
        made.flags = 0x0120  # RD, and AD: tell us if it was validated (RFC 6840 5.7)
        net._resolver = made
    return net._resolver


def _server(net: Internet) -> Any:
    """A name server as dnspython asks it: by TCP through the proxy if there is one, so that answers are the sending
    host's; once more without EDNS where that is not known (RFC 6891 7)."""
    import dns.nameserver
    import dns.query
    import dns.rcode

    class Server(dns.nameserver.Do53Nameserver):
        def query(self, request: Any, timeout: float, *how: Any, **more: Any) -> Any:
            if net.socks:
                with net._through_socks(self.address, self.port) as sock:
                    told = dns.query.tcp(request, self.address, timeout=timeout, sock=sock)
            else:
                told = super().query(request, timeout, *how, **more)
            if request.edns < 0 or told.rcode() not in (dns.rcode.FORMERR, dns.rcode.NOTIMP):
                return told
            request.use_edns(-1)
            return self.query(request, timeout, *how, **more)

    return Server


def _read(name: str, found: Any, kind: Kind) -> Answer:
    """The answer section as rows."""
    import dns.flags

    chain, secure = found.chaining_result, bool(found.response.flags & dns.flags.AD)
    canonical = str(chain.canonical_name).rstrip(".").lower()
    other = canonical if canonical != name else None
    if chain.answer is None:
        return Answer("nodata", canonical=other, secure=secure)
    rows = tuple(_row(record, kind) for record in chain.answer)
    return Answer("ok", rows, int(chain.minimum_ttl), other, secure=secure)


def _row(record: Any, kind: Kind) -> str:
    if kind == "TXT":
        return b"".join(record.strings).decode("utf-8", "backslashreplace")
    text: str = record.to_text()
    return text[:-1] if kind in ("MX", "PTR", "CNAME", "NS") and len(text) > 1 and text[-2:] != " ." else text
