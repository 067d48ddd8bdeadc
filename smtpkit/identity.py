"""identity: `whoami`: our own side, before anyone is blamed.

Belongs here: what control receivers tell about us. Not here: how they are asked (probing), what DNS tells about
us (checks.names), status and advice (data/preflight.csv), who is asked by default (data/controls.csv).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pandas as pd

from smtpkit.catalogue import rows as catalogue
from smtpkit.checks.found import Row, Sender, frame, say
from smtpkit.checks.names import called
from smtpkit.errors import listed
from smtpkit.escape import decode
from smtpkit.mx import MxRoute, lookup_mx, receiver_of
from smtpkit.network import Network, chosen
from smtpkit.probing import our_helo, probe

_MASK = re.compile(r"\*{4}|X{7}")  # what a firewall's SMTP inspection writes over banners, extensions


def whoami(
    network: Network | None = None, *, controls: Sequence[str] = (), helo: str | None = None
) -> pd.DataFrame:
    """Our own side as servers and DNS see it: check, subject, status, evidence, advice, source.

    Asks one IPv4 and one IPv6 address of each of `controls` (domains that take mail) up to EHLO; by default a
    lab's own domains, in the real world those of data/controls.csv; the evidence says whom. Status is pass, warn,
    fail or unknown (with the reason). Raises InvalidInput for what is no domain or HELO name.

    >>> from smtpkit import Lab
    >>> with Lab("local_path") as lab:
    ...     told = whoami(lab.network)
    >>> told.query("check == 'port25'").status.item()
    'fail'
    """
    net, standard = chosen(network), [row["domain"] for row in catalogue("controls.csv")]
    name = our_helo(helo, net)
    domains = listed("controls", controls) or getattr(net, "controls", standard)
    asked = _ask([_short(lookup_mx(domain, net)) for domain in domains], net, name)
    reached = [one for one in asked if one.stage not in ("dns", "connect")]
    seen = {one.seen_ip: one.mx_host for one in reached if one.seen_ip}
    found = [_path("port25", 4, asked), _path("ipv6", 6, asked), *_addresses(reached, seen, net)]
    for ip in seen or [net.sender_ip]:
        found += called(Sender("", net, ip, name))
    return frame([*found, _middlebox(reached)])


def _short(route: MxRoute) -> MxRoute:
    """The route with one IPv4 and one IPv6 address left, where it has them."""
    first: dict[bool, Any] = {}
    for host, ip in route:
        first.setdefault(":" in ip, replace(host, ips=(ip,)))
    return replace(route, hosts=tuple(first.values()) or route.hosts)


def _ask(routes: list[MxRoute], net: Network, helo: str) -> list[Any]:
    """All receivers at once; an interrupt ends them all."""
    given: dict[str, Any] = {"network": net, "rounds": 1, "tls": "off", "helo": helo, "case": "whoami"}
    runs: list[Any] = [probe(route, background=True, **given) for route in routes]
    frames = []
    for run in runs:
        frames.append(run.wait())
        _ = [other.stop() for other in runs if run.stopped]
    return [frame.smtp[number] for frame in frames for number in range(len(frame))]


def _said(one: Any, stage: str) -> str:
    """The last reply at that stage, as it came; "" if none did."""
    return "".join(map(decode, one.replies.query("stage == @stage").raw.iloc[-1:])).strip()


def _path(check: str, version: int, asked: Sequence[Any]) -> Row:
    """Whether port 25 can be reached over IPv4 or IPv6: one that answers proves it, two that fail deny it."""
    told = [one for one in asked if not one.mx_ip or ip_address(one.mx_ip).version == version]
    tried = [one for one in told if one.mx_ip and one.outcome != "withheld"]
    finding = "closed" if len({one.domain for one in tried}) > 1 else "alone" if tried else "unasked"
    finding = "no_route" if {one.error for one in tried} == {"unreachable"} else finding
    finding = "open" if any(one.stage != "connect" for one in tried) else finding
    said = [(one, _said(one, "banner") or one.error) for one in told]
    says = [f"{one.mx_host or one.domain} [{one.mx_ip or 'no address'}]: {text}" for one, text in said]
    return say(check, finding, f"IPv{version}", "; ".join(says) or "no receiver with such an address")


def _addresses(reached: Sequence[Any], seen: dict[str, str], net: Network) -> Iterator[Row]:
    """What servers see us at, and what we send from."""
    versions, given = [ip_address(ip).version for ip in seen], net.sender_ip
    finding = "several" if len(versions) > len(set(versions)) else "same"
    odd = given and given not in seen and ip_address(given).version in versions
    said = [f"{ip} says {host}" for ip, host in seen.items()] or ["no EHLO reply named an address"]
    said += [f"sender_ip={given}"] * bool(given)
    finding = "other" if odd else finding if seen else "unsaid"
    yield say("seen_ip", finding, ", ".join(seen), "; ".join(said))
    local = ", ".join(dict.fromkeys(one.local_ip for one in reached if one.local_ip))
    words = f"our socket's address; servers see {', '.join(seen) or 'what none of them tells'}"
    yield say("local_ip", "known" if local else "unknown", local, words if local else "nothing reached")


def _middlebox(reached: Sequence[Any]) -> Row:
    """Whether banners are masked, or one for all, or nobody offers STARTTLS."""
    each = {one.mx_ip: one for one in reached}.values()  # two receivers may share a provider's address
    told = [(receiver_of(one.mx_host or one.domain), _said(one, "banner")) for one in each]
    banners = {receiver: text for receiver, text in told if re.match("[245][0-9]{2}", text)}
    greetings = [text for one in reached if (text := _said(one, "ehlo"))]
    bare = len(greetings) > 1 and not any("STARTTLS" in text.upper() for text in greetings)
    finding = "alone" if len(banners) < 2 else "stripped" if bare else "none"
    names = [text.split()[1:2] for text in banners.values() if text.startswith("220 ")]
    alike = len(names) > 1 and names.count(names[0]) == len(names)
    masked = any(_MASK.search(text) for text in (*banners.values(), *greetings))
    says = "; ".join(f"{name}: {text}" for name, text in banners.items()) or "no banner came"
    return say("middlebox", "masked" if masked else "same" if alike else finding, "", says)
