"""preflight_peers: one sender, one DNS, asked by smtpkit, checkdmarc and pydnsbl; prints a Markdown table.

Run it: `python -m tests.bench.preflight_peers`. Each case is a zone on a name server of its own on loopback; all
three see the same answers. checkdmarc and pydnsbl are in the test extra only.
"""

import asyncio
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace
from typing import Any, NamedTuple

import dns.nameserver
import dns.resolver

import smtpkit as sk
from smtpkit import checks
from smtpkit.checks import dnsbl
from smtpkit.lab.nameserver import NameServer
from tests.fake_network import FakeNetwork, reverse

IP, HELO, ZEN, PSBL = "198.51.100.7", "mail.ours.example", "zen.spamhaus.org", "psbl.surriel.com"
OURS, DMARC = "ours.example", "_dmarc.ours.example"
AT_ZEN, AT_PSBL = reverse(IP, ZEN), reverse(IP, PSBL)


def txt(*texts: str) -> dict[str, list[str]]:
    """TXT records."""
    return {"TXT": list(texts)}


BASE: dict[str, Any] = {
    OURS: {
        "A": [IP],
        "MX": ["10 mail.ours.example"],
        "SOA": ["ns. h. 1 2 3 4 5"],
        **txt(f"v=spf1 ip4:{IP} -all"),
    },
    HELO: {"A": [IP], **txt("v=spf1 a -all")},
    reverse(IP, "in-addr.arpa"): {"PTR": [HELO]},
    DMARC: txt("v=DMARC1; p=reject"),
    **{reverse("127.0.0.2", zone): {"A": ["127.0.0.2"]} for zone in (ZEN, PSBL)},
    **{f"a{n}.ours.example": {"A": ["192.0.2.1"]} for n in range(11)},
}
MANY = "v=spf1 " + " ".join(f"a:a{n}.ours.example" for n in range(11)) + " -all"


def everywhere(zone: str, code: str, *ips: str) -> dict[str, Any]:
    """The zone answers `code` about our address and these."""
    return {reverse(ip, zone): {"A": [code]} for ip in (IP, "127.0.0.2", *ips)}


class Case(NamedTuple):
    """One question: what is asked, the DNS of it, the truth, and how each tool is read."""

    what: str
    zone: dict[str, Any]
    truth: str
    check: str
    peer: str = "spf"


CASES = (
    Case("SPF names our address", {}, "pass", "spf"),
    Case("SPF does not name it", {OURS: txt("v=spf1 ip4:192.0.2.1 -all")}, "fail", "spf"),
    Case("SPF, name server dead", {OURS: "servfail"}, "not known", "spf"),
    Case("SPF needs 11 look-ups", {OURS: txt(MANY)}, "broken", "spf_record"),
    Case("SPF syntax: `a:b` without a dot", {OURS: txt("v=spf1 a:b -all")}, "broken", "spf_record"),
    Case("two SPF records", {OURS: txt("v=spf1 -all", "v=spf1 ~all")}, "broken", "spf_record"),
    Case("DMARC `v = DMARC1 ; P=Reject`", {DMARC: txt("v = DMARC1 ; P=Reject")}, "reject", "dmarc_record", "dmarc"),
    Case("DMARC `p=reject; t=y`", {DMARC: txt("v=DMARC1; p=reject; t=y")}, "quarantine", "dmarc_record", "dmarc"),
    Case("DMARC, name server dead", {DMARC: "servfail"}, "not known", "dmarc_record", "dmarc"),
    Case("no DMARC record", {DMARC: "nxdomain"}, "missing", "dmarc_record", "dmarc"),
    Case("PTR leads nowhere", {reverse(IP, "in-addr.arpa"): {"PTR": ["gone.ours.example"]}}, "fail", "ptr", ""),
    Case("ZEN lists us", {AT_ZEN: {"A": ["127.0.0.3"]}}, "listed", "dnsbl", "pydnsbl"),
    Case("no list lists us", {}, "not listed", "dnsbl", "pydnsbl"),
    Case("ZEN refuses our resolver", everywhere(ZEN, "127.255.255.254"), "not known", "dnsbl", "pydnsbl"),
    Case("a zone lists the world", everywhere(PSBL, "127.0.0.2", "127.0.0.1"), "zone dead", "dnsbl", "pydnsbl"),
    Case("resolver rewrites NXDOMAIN", {AT_PSBL: {"A": ["203.0.113.80"]}}, "not known", "dnsbl", "pydnsbl"),
    Case("the list's name server is dead", {AT_ZEN: "servfail"}, "not known", "dnsbl", "pydnsbl"),
)  # fmt: skip


def ours(case: Case, address: tuple[str, int]) -> str:
    """smtpkit's own Internet, its resolver pointed at the case's name server."""
    book = Path(mkdtemp(prefix="smtpkit-peers-")) / "casebook.sqlite"
    network = sk.internet(nameservers=[address], sender_ip=IP, helo=HELO, dns_timeout=2.0, casebook=book)
    if case.check == "dnsbl":
        table = dnsbl.lookup(IP, network, [ZEN, PSBL]).astype({"state": "str"})
        odd = table[table.state != "not listed"]
        return "; ".join(f"{row.state}: {row.meaning}" for row in odd.itertuples()) or "not listed"
    checked = checks.preflight("ours.example", network=network)
    row = checked[checked.check == case.check].iloc[0]
    return f"{row.status}: {row.evidence}"


def checkdmarc_says(case: Case, address: tuple[str, int]) -> str:
    """checkdmarc's SPF and DMARC checks through its `resolver=`."""
    import checkdmarc.dmarc
    import checkdmarc.spf

    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [dns.nameserver.Do53Nameserver(*address)]
    resolver.lifetime = 4.0
    checkdmarc.utils.DNS_CACHE.clear()  # a global one: without this each case would see the last one's DNS
    asked = {"spf": checkdmarc.spf.check_spf, "dmarc": checkdmarc.dmarc.check_dmarc}[case.peer]
    told = asked("ours.example", resolver=resolver, timeout=2.0)
    if not told["valid"]:
        return f"invalid: {told.get('error', '')}"
    policy = told.get("tags", {}).get("p", {}).get("value")
    return (
        f"valid, p={policy}" if policy else f"valid, {told.get('dns_lookups')} look-ups; no verdict for an address"
    )


def pydnsbl_says(case: Case, address: tuple[str, int]) -> str:
    """pydnsbl with the same two lists, its resolver pointed at the case's name server."""
    import aiodns
    import pydnsbl
    from pydnsbl.providers import Provider

    async def run() -> Any:
        loop = asyncio.get_running_loop()
        checker = pydnsbl.DNSBLIpChecker([Provider(host) for host in (ZEN, PSBL)], timeout=2, tries=1, loop=loop)
        port = {"udp_port": address[1], "tcp_port": address[1]}
        checker._resolver = aiodns.DNSResolver(nameservers=[address[0]], timeout=2, tries=1, loop=loop, **port)
        return await checker.check_async(IP)

    told = asyncio.run(run())
    failed = f", no answer: {', '.join(p.host for p in told.failed_providers)}" if told.failed_providers else ""
    return (f"listed in {', '.join(told.detected_by)}" if told.blacklisted else "not listed") + failed


def answer(case: Case, ask: Callable[[Case, tuple[str, int]], str]) -> str:
    """One tool's words about a case, on a name server of its own."""
    zone = FakeNetwork(BASE | case.zone)
    server = NameServer(SimpleNamespace(answer=zone.resolve))  # type: ignore[arg-type]  # all it needs
    try:
        said = ask(case, server.address)
    except Exception as error:  # what a peer raises is its answer
        said = f"{type(error).__name__}: {error}"
    finally:
        server.close()
    return said.replace("|", "/").replace("\n", " ")[:110]


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore")  # the peers' own
    print("| case | truth | smtpkit | checkdmarc | pydnsbl |\n|---|---|---|---|---|")
    for case in CASES:
        lint = answer(case, checkdmarc_says) if case.peer in ("spf", "dmarc") else "not asked by it"
        lists = answer(case, pydnsbl_says) if case.peer == "pydnsbl" else "not asked by it"
        print(f"| {case.what} | {case.truth} | {answer(case, ours)} | {lint} | {lists} |")


if __name__ == "__main__":
    main()
