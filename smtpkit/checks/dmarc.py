"""dmarc: DKIM keys and signatures (by dkimpy), and what a receiver makes of SPF and DKIM together, by RFC 9989.

Not here: signing (signing), SPF (spf). Selectors cannot be listed: the message is asked, not the domain.
"""

import re
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import dkim

from smtpkit.address import organisation
from smtpkit.checks import spf
from smtpkit.checks.found import Row, Sender, near, say, silent
from smtpkit.lint import Reading, tags
from smtpkit.network import Answer

WEAKER = {"reject": "quarantine", "quarantine": "none", "none": "none"}  # t=y, RFC 9989 4.7
Told = tuple[str, str]
"""A result of SPF or DKIM, and the domain that it holds for."""
_LEAKS = (dkim.DKIMException, ValueError, LookupError, TypeError, AssertionError)  # what dkimpy's parsers raise
_VERSION = re.compile(r"\s*[vV]\s*=\s*DMARC1\s*(;|$)")  # RFC 9989 4.8: the value exactly so


def key(answer: Answer) -> tuple[str, str]:
    """The finding and the evidence of a DKIM key record's answer (RFC 6376 3.6.1, RFC 8301, RFC 8463)."""
    if not answer.rows:
        return ("unreadable", silent(answer)) if silent(answer) else ("missing", answer.status)
    said = " | ".join(answer.rows)
    if len(answer.rows) > 1:
        return "broken", f"{len(answer.rows)} records at one name: {said}"
    if (tag := tags(said)).get("p") == "":
        return "revoked", said
    try:
        _, size, kind, _ = dkim.evaluate_pk("the key", _plain(said))
    except _LEAKS as error:
        return "broken", f"{str(error) or 'no such key can be read'}: {said}"
    if why := _useless(tag):
        return "broken", f"{why}: {said}"
    faults = {"weak": size < 1024, "short": size < 2048} if kind == b"rsa" else {}
    faults |= {"test": "y" in _listed(tag, "t", ""), "ok": True}
    return next(filter(faults.get, faults)), f"{kind.decode()}, {size} bits: {said}"


def _plain(record: str) -> bytes:
    """A key record as dkimpy reads it, which knows no list of services."""
    return re.sub(r"(?i);\s*s\s*=[^;]*|^\s*s\s*=[^;]*;", "", record).encode("utf-8", "surrogateescape")


def _listed(tag: dict[str, str], name: str, default: str) -> list[str]:
    return re.split(r"\s*:\s*", tag.get(name, default).strip().lower())


def _useless(tag: dict[str, str]) -> str:
    """What a key says of itself that makes it none for mail (RFC 6376 3.6.1, RFC 8301)."""
    if not {"email", "*"} & set(_listed(tag, "s", "*")):
        return f"s={tag['s']}: the key is not for email"
    return "" if "sha256" in _listed(tag, "h", "sha256") else f"h={tag['h']}: the key is not for SHA-256"


def _unfit(sign: dict[str, str], key: dict[str, str]) -> str:
    """Why a signature does not count with this key, however right it is (RFC 6376 3.6.1, 6.1.1, RFC 8301)."""
    if "from" not in _listed(sign, "h", ""):
        return f"h={sign.get('h', '')}: From is not signed, so anybody may write it"
    if re.fullmatch("[0-9]{1,12}", end := sign.get("x", "")) and int(end) < time.time():  # dkimpy gives 10 h more
        return f"x={end}: expired on {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(int(end)))} UTC"
    if sign.get("a", "").lower().endswith("-sha1"):
        return f"{sign['a']}: receivers must not verify SHA-1 (RFC 8301)"
    whose = sign.get("i", "").rpartition("@")[2].lower()
    strict = "s" in _listed(key, "t", "") and whose not in ("", sign.get("d", "").lower())
    return f"the key says t=s, and i= names {whose}" if strict else ""


def verify(octets: bytes, network: Any) -> Iterator[tuple[str, str, str, str]]:
    """(domain, selector, result, why) of each signature. result: pass; fail, as the message or the key is another;
    unfit, as it would count for nothing in any case; unknown, as DNS withheld the key."""
    for index, tag in enumerate(Reading(octets).signatures):
        domain, selector = tag.get("d", "").lower(), tag.get("s", "")
        answer = network.resolve(f"{selector}._domainkey.{domain}", "TXT")
        yield domain, selector, *_verified(octets, index, tag, answer)


def _verified(octets: bytes, index: int, tag: dict[str, str], answer: Answer) -> tuple[str, str]:
    if silent(answer):
        return "unknown", silent(answer)
    if (finding := key(answer)[0]) in ("missing", "revoked", "broken"):
        return "unfit", f"the key is {finding}: see dkim_key"
    if unfit := _unfit(tag, tags(answer.rows[0])):
        return "unfit", unfit
    try:
        good = dkim.DKIM(octets).verify(index, dnsfunc=lambda *_, **__: _plain(answer.rows[0]))
    except _LEAKS as error:
        changed = "body hash mismatch" in str(error)
        return "fail" if changed else "unfit", f"{'changed: ' * changed}{type(error).__name__}: {error}"
    if not good:
        return "fail", "changed: a signed header, or signed with another key"
    more = f", but l={tag['l']}: text may be appended unseen (RFC 6376 8.2)" if "l" in tag else ""
    return "pass", f"verified{more}"


class Walk(NamedTuple):
    """A DNS tree walk (RFC 9989 4.10): records by name, nearest first; names with several, which count as none."""

    domain: str
    found: dict[str, str]
    asked: int
    several: list[str]
    failed: str
    organisation: str


def walk(domain: str, network: Any) -> Walk:
    """Ask _dmarc at the domain and above it, at most 8 names; only psd=n or psd=y ends it early."""
    labels, found, several = domain.split("."), dict[str, str](), list[str]()
    names = [domain, *(".".join(labels[n:]) for n in range(max(1, len(labels) - 7), len(labels)))]
    for name in names:
        answer = network.resolve(f"_dmarc.{name}", "TXT")
        records = [row for row in answer.rows if _VERSION.match(row)]
        several += [name] if len(records) > 1 else []
        found |= {name: records[0]} if len(records) == 1 else {}
        psd, why = tags(found.get(name, "")).get("psd", "").lower(), silent(answer)
        if why or psd in ("n", "y"):
            break
    top = next(reversed(found), domain)  # RFC 9989 4.10.2: the fewest labels, or one below a suffix
    top = ".".join(labels[-name.count(".") - 2 :]) if psd == "y" and name != domain else top
    return Walk(domain, found, names.index(name) + 1, several, f"_dmarc.{name}: {why}" if why else "", top)


def policy(author: str, network: Any) -> tuple[Walk, str, str, str]:
    """(walk, policy asked for, name of the record, record) for a From domain (RFC 9989 4.10.1, 4.7)."""
    made = walk(author, network)
    places = [author, made.organisation, *[*made.found][-1:]]  # the last one: a public suffix, or the same
    places = places[:1] if made.failed else places  # of half a walk only its start
    at = next((name for name in places if name in made.found), "")
    tag, order = tags(made.found.get(at, "")), ["p"]
    if at and at != author:
        order = ["np"] * (network.resolve(author, "A").status == "nxdomain") + ["sp", "p"]
    asked = next((tag[name].lower() for name in order if tag.get(name, "").lower() in WEAKER), "none")
    return made, WEAKER[asked] if tag.get("t", "").lower() == "y" else asked, at, made.found.get(at, "")


def verdict(author: str, spf: Told, dkim: Iterable[Told], network: Any) -> tuple[str, str, str]:
    """DMARC for a message From `author` (RFC 9989): pass, fail, none or unknown; policy for a fail; why.

    Pass needs one pass whose domain is aligned: the same organisational domain, or with aspf=s or adkim=s the same
    name. A walk or an identifier that DNS failed makes it unknown, never none or fail.
    """
    author = author.lower().rstrip(".")
    made, asked, at, record = policy(author, network)
    if not at:
        missing = f"no record at _dmarc.{author} or above; {made.asked} asked"
        return "unknown" if made.failed else "none", "", made.failed or missing
    tag, told, why = tags(record), set[str](), list[str]()
    for kind, strict, (result, domain) in [("SPF", "aspf", spf), *(("DKIM", "adkim", one) for one in dkim)]:
        near = _near(made, domain.lower().rstrip("."), tag.get(strict, "r").lower() == "s", network)
        why.append(f"{kind} {result} for {domain or 'no domain'}, {near}")
        told |= {"pass"} if (result, near) == ("pass", "aligned") else set()
        told |= {"unknown"} if result in ("pass", "temperror", "unknown") and near != "not aligned" else set()
    result = "pass" if "pass" in told else "unknown" if told else "fail"
    return result, asked, "; ".join(why)


def _near(author: Walk, domain: str, strict: bool, network: Any) -> str:
    if domain == author.domain:
        return "aligned"
    if strict or not domain:
        return "not aligned"
    other = walk(domain, network)
    if failed := author.failed or other.failed:
        return f"alignment unknown ({failed})"
    return "aligned" if other.organisation == author.organisation else "not aligned"


def rows(who: Sender) -> Iterator[Row]:
    """Each key and signature, the DMARC record that counts, and the verdict on the message."""
    signed = [*verify(who.octets or b"", who.network)]
    pairs = [one[:2] for one in signed] + ([(who.domain, who.selector)] if who.selector else [])
    for name in dict.fromkeys(f"{selector}._domainkey.{domain}" for domain, selector in pairs):
        finding, evidence = key(who.network.resolve(name, "TXT"))
        yield say("dkim_key", finding, name, evidence)
    if not pairs:
        yield say("dkim_key", "unasked", who.domain, "no selector and no signed message given")
    if who.octets is not None and not signed:
        yield say("dkim", "none", who.domain, "the message has no DKIM-Signature")
    for domain, name, result, why in signed:
        yield say("dkim", result, f"d={domain} s={name}", why)
    yield _record(who.domain, who.network)
    yield _judged(who, [(result, domain) for domain, _, result, _ in signed])


def _record(domain: str, network: Any) -> Row:
    """What is published; where the Public Suffix List (RFC 7489) gives another organisation, that too."""
    made, asked, at, record = policy(domain, network)
    many = f"several records at {', '.join(made.several)}" if made.several else ""
    older = organisation(domain)
    says = "" if older == made.organisation else f" (by the Public Suffix List, RFC 7489: {older})"
    none = many or ("" if made.failed else "no record" + near(network.resolve(f"_dmarc.{domain}", "TXT"), "DMARC"))
    deaf = [*_deaf(at, record, network)]
    told = f"{record}; asks for {asked}; organisation {made.organisation}{says}" if record else none
    faults = {
        "unreadable": made.failed and not record,
        "several": many and (not record or domain in made.several),
        "none": not record,
        "no_policy": tags(record).get("p", "").lower() not in WEAKER,
        "deaf": deaf,
        "p_none": asked == "none",
        "ok": True,
    }
    evidence = [told, *deaf, f"{made.asked} name{'s' * (made.asked > 1)} asked", made.failed]
    return say("dmarc_record", faults, f"_dmarc.{at or domain}", "; ".join(filter(None, evidence)))


def _deaf(at: str, record: str, network: Any) -> Iterator[str]:
    """Where reports do not come: no mailto:, or another's mailbox whose domain has not agreed (RFC 9990)."""
    for uri in re.findall(r"[^,\s]+", ",".join(tags(record).get(name, "") for name in ("rua", "ruf")))[:10]:
        host = (re.findall(r"(?i)\Amailto:[^@]+@([^!]+)", uri) or ["invalid"])[0]
        if organisation(host) != organisation(at):
            told = network.resolve(f"{at}._report._dmarc.{host}", "TXT")
            if not silent(told) and not any(map(_VERSION.match, told.rows)):
                yield f"no reports to {uri}"


def _judged(who: Sender, signed: list[tuple[str, str]]) -> Row:
    author = Reading(who.octets or b"").domain()
    if author is None:
        why = "no message given" if who.octets is None else "the message has not exactly one address in From"
        return say("dmarc", "unasked", who.domain, why)
    made = spf.check_host(who.ip, who.sent_by, who.greeting, who.network) if who.ip else None
    sent = (made.result if made else "unknown"), who.mail_from
    result, asked, why = verdict(author, sent, signed, who.network)
    asks = f"; a fail would be: {asked}" if asked else ""
    return say("dmarc", {"unasked": result == "unknown" and not made, result: True}, f"From {author}", why + asks)
