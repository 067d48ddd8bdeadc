"""transport: what the domain publishes about TLS to it: MTA-STS, TLS-RPT, TLSA held against its MX's certificates.

Not here: TLS itself (tls), whether certificates are valid (probe with tls="verify").
"""

import hashlib
import re
import select
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from http.client import HTTPException, HTTPSConnection
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import Certificate, load_pem_x509_certificates
from OpenSSL.crypto import X509, X509Store, X509StoreContext, X509StoreContextError, X509StoreFlags

from smtpkit.campaign import run
from smtpkit.checks.found import Row, Sender, near, say, silent
from smtpkit.jobs import Plan, Result, hold
from smtpkit.lint import tags
from smtpkit.mx import MxHost, MxRoute, lookup_mx, single
from smtpkit.probing import question
from smtpkit.tls import described, wrong_name

LONGEST_POLICY, LONGEST_AGE = 65536, 31557600  # RFC 8461 3.2 and 3.3
_DIGESTS = {"1": "sha256", "2": "sha512"}  # RFC 6698 2.1.3
_TLSA = re.compile(r"(?i)[23] [01] (0 ([\da-f]{2})+|1 [\da-f]{64}|2 [\da-f]{128})")  # usages: RFC 7672 3.1
_SECONDS, _WORST = 10.0, ("mismatch", "unseen", "ok")


def fetch(host: str, path: str, network: Any) -> str:
    """https://host/path through a Network, certificate verified, no redirect; raises OSError, HTTPException."""
    (found,) = single(host, None, None, network).hosts
    kind = TimeoutError if found.error in ("dns_timeout", "dns_servfail") else OSError
    wrong: Exception = kind(found.detail or f"{host} has no address")
    for ip in found.ips[:8]:
        try:
            return _got(host, path, ip, network)
        except (OSError, HTTPException) as error:
            wrong = error
    raise wrong


def _got(host: str, path: str, ip: str, network: Any) -> str:
    """The page, from one address."""
    with closing(network.open(ip, 443)) as sock, closing(HTTPSConnection(host)) as link:
        link._create_connection = lambda *_: sock  # type: ignore[attr-defined]  # the library's seam for other sockets
        if not select.select([], [sock], [], _SECONDS)[1]:
            raise TimeoutError(f"{host} does not answer")
        sock.settimeout(_SECONDS)
        sock.getpeername()  # OSError if it is not connected
        getattr(network, "links", []).append(link)
        link.request("GET", path)
        with closing(link.getresponse()) as reply:
            if reply.status != 200:
                raise OSError(f"https://{host}{path} answers {reply.status} {reply.reason}")
            return str(reply.read(LONGEST_POLICY).decode("utf-8", "replace"))


def _record(network: Any, name: str, version: str, tag: str, form: str) -> tuple[str, str]:
    """The finding of the one TXT record at `name` whose first tag is `version`, if a tag has its form; evidence."""
    answer = network.resolve(name, "TXT")
    found = [row for row in answer.rows if row.replace(" ", "").split(";")[0] == version]
    good = len(found) == 1 and re.match(form, tags(found[0]).get(tag, ""))
    lacking = "broken" if found else "unreadable" if silent(answer) else "none"
    said = silent(answer) or " | ".join(found) or "no record" + near(answer, version[2:5])
    return "ok" if good else lacking, said


def _sts(who: Sender, route: MxRoute) -> Row:
    name, host, path = f"_mta-sts.{who.domain}", f"mta-sts.{who.domain}", "/.well-known/mta-sts.txt"
    finding, said = _record(who.network, name, "v=STSv1", "id", r"[A-Za-z0-9]{1,32}\Z")
    if finding == "ok":
        answer = who.network.page(f"https://{host}{path}", partial(fetch, host, path, who.network))
        text = "".join(answer.rows)
        finding = _policy(text, route) if answer.rows else "unfetched" if silent(answer) else "no_policy"
        said = f"{said}; {' / '.join(text.splitlines()) or answer.detail}"
    return say("mta_sts", finding, name, said)


def _policy(text: str, route: MxRoute) -> str:
    """The finding of a policy file (RFC 8461 3.2) for the MX hosts there are."""
    lines = [[part.strip() for part in line.split(":", 1)] for line in text.splitlines() if ":" in line]
    told, patterns = dict(reversed(lines)), {value.lower() for name, value in lines if name == "mx"}
    age, mode = told.get("max_age", ""), told.get("mode", "")
    if told.get("version") != "STSv1" or not re.fullmatch(r"\d{1,10}", age) or int(age) > LONGEST_AGE:
        return "broken"
    good = {"enforce": "ok", "testing": "testing", "none": "off"}.get(mode, "broken")
    if mode not in ("enforce", "testing"):
        return good
    covered = all({host.name, f"*.{host.name.partition('.')[2]}"} & patterns for host in route.hosts)
    unread = route.status in ("servfail", "timeout")
    return "broken" if not patterns else "unreadable" if unread else good if covered else "mismatch"


def _tlsa(who: Sender, route: MxRoute, host: MxHost) -> Row:
    """DANE holds only where MX, address and TLSA answers are all secure (RFC 7672 2.2)."""
    asked = [(f"_25._tcp.{host.name}", "TLSA"), (who.domain, "MX"), (host.name, "A"), (host.name, "AAAA")]
    answer, *others = [who.network.resolve(*one) for one in asked]
    rows = [" ".join([*parts[:3], "".join(parts[3:])]) for parts in map(str.split, answer.rows)]
    usable = [row for row in rows if _TLSA.fullmatch(row)]
    seen = [silent(answer) or " | ".join(rows) or answer.status]
    finding = "broken" if rows else "unreadable" if silent(answer) else "none"
    if usable and not all(one.secure for one in (answer, *others) if one.rows):
        finding, seen = "unchecked", [*seen, "no AD bit"]
    elif usable:
        told = {ip: _held(usable, who, route, host, ip) for ip in host.ips}
        finding = min((one for one, _ in told.values()), key=_WORST.index, default="unseen")
        seen += ["AD", *(f"{ip} {why}" for ip, (_, why) in told.items())]
    return say("tlsa", finding, asked[0][0], "; ".join(seen))


def _held(usable: list[str], who: Sender, route: MxRoute, host: MxHost, ip: str) -> tuple[str, str]:
    """The records held against what one address of an MX shows."""
    answer = who.network.page(f"smtp://{ip}:25", partial(_certificates, who, route, host, ip))
    if not answer.rows:
        return "unseen", f"not checked: {answer.detail}"
    chain = load_pem_x509_certificates(answer.rows[0].encode()) if answer.rows[0] else []
    why = "shows none that fits"
    for usage, selector, kind, data in map(str.split, usable):
        for at, one in enumerate(chain):  # usage 3 is the server's own, usage 2 an authority above it
            if (usage == "3") != (at == 0) or _digest(one, selector, kind) != data.lower():
                continue
            why = _untrusted(chain[: at + 1], host.name, who.domain) if at else ""
            if not why:
                return "ok", "fits"
    return "mismatch", why


def _digest(shown: Certificate, selector: str, kind: str) -> str:
    """What a TLSA record holds of this certificate."""
    key = shown.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    octets = shown.public_bytes(Encoding.DER) if selector == "0" else key
    return (octets if kind == "0" else hashlib.new(_DIGESTS[kind], octets).digest()).hex()


def _untrusted(chain: Sequence[Certificate], *names: str) -> str:
    """Why the first of a chain is not vouched for by its last (RFC 7672 3.1.2, 3.2.2); usage 3 needs none of it."""
    leaf = described(chain[0])
    if not leaf.not_before <= datetime.now(UTC) <= leaf.not_after:
        return f"shows a certificate of {leaf.not_before:%Y-%m-%d} to {leaf.not_after:%Y-%m-%d}"
    if all(wrong := [wrong_name(name, [leaf]) for name in names]):
        return f"shows the anchor, but its {wrong[-1]}"
    (first, *above), store = map(X509.from_cryptography, chain), X509Store()
    store.set_flags(X509StoreFlags.PARTIAL_CHAIN)  # an anchor need be no root
    store.add_cert(above[-1])
    try:
        X509StoreContext(store, first, above).verify_certificate()
    except X509StoreContextError as error:
        return f"shows a chain that does not hold ({error})"
    return ""


def _certificates(who: Sender, route: MxRoute, host: MxHost, ip: str) -> str:
    """The chain (PEM) that the address shows after STARTTLS, "" if that is not offered; raises OSError."""
    heard, net = list[Result](), who.network
    asked, _ = question(route, None, None, network=net, tls="require", helo=who.helo)

    def plan() -> Plan:
        heard.extend((yield from hold([asked.job(route, host, ip, 1)])))

    started: Any = run(plan(), net, label=f"certificate of {host.name}", background=True)
    try:
        started.wait(getattr(net, "left", _SECONDS))
    finally:
        started.stop()
    error = heard[0].verdicts[0].error if heard else "no turn"
    if not heard or (heard[0].tls is None and error != "not_offered"):
        raise OSError(f"no certificate was seen ({error})")
    return "".join(one.pem for one in heard[0].tls.chain) if heard[0].tls else ""


def rows(who: Sender) -> Iterator[Row]:
    """MTA-STS with its policy, TLS-RPT, and TLSA of each MX host."""
    route, name = lookup_mx(who.domain, who.network), f"_smtp._tls.{who.domain}"
    yield _sts(who, route)
    finding, said = _record(who.network, name, "v=TLSRPTv1", "rua", r"(?i)(mailto:|https://)\S")
    yield say("tls_rpt", finding, name, said)
    yield from (_tlsa(who, route, host) for host in route.hosts)
