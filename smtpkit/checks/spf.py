"""spf: may this address send for that domain? The verdict, the term that decided, what the record costs.

Belongs here: spftrace led through a Network, the tree of a record. Not here: the drawing (trees).
"""

import asyncio
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import pandas as pd
from spftrace import Evaluator, Limits, SpfPermError, parse

from smtpkit.address import as_ip
from smtpkit.checks.found import Row, Sender, near, say, silent
from smtpkit.network import chosen

_NOBODY = "255.255.255.255", "ffff::ffff"  # no term names them, so the whole record is read
MOST_TERMS, MOST_RECORDS = 10, 60  # RFC 7208 4.6.4; read for one tree: a hostile zone may include for ever
_ASKS = ("include", "a", "mx", "ptr", "exists", "redirect")
_RCODES = {"ok": "NOERROR", "nodata": "NOERROR", "servfail": "SERVFAIL", "timeout": "TIMEOUT"}
_VARIES = "depends on the message"
_BEHIND = r"(?i) [-+~?]?all (?:\S+=\S+ ?)*+(.+)"
Rows = list[dict[str, Any]]
_BLANK = "|_|"  # stands for a blank on the way through spftrace 0.3, which loses every exp= text that has one


class Spf(NamedTuple):
    """The answer of `check_host`.

    `result`: one of the seven of RFC 7208 2.6; `explanation`: what a refused sender shall read (hostile text);
    `term`: the one that decided, with the includes that led to it, else why there is no verdict; `cost`: terms
    that asked DNS and empty answers, with their limits; `trace`: a frame of every step.
    """

    result: str
    explanation: str | None
    term: str
    cost: str
    trace: pd.DataFrame

    def __str__(self) -> str:
        says = f"; the domain explains: {self.explanation}" if self.explanation else ""
        return f"{self.result}: {self.term}; {self.cost}{says}"


async def _lookup(network: Any, name: str, rtype: str) -> tuple[str, list[str]]:
    """spftrace's DNS through a Network."""
    answer = network.resolve(name, rtype)
    rows = [row.split()[-1] if rtype == "MX" else row for row in answer.rows]
    if rtype == "TXT" and len(rows) == 1 and not rows[0].lower().startswith("v=spf1"):
        rows = [rows[0].replace(" ", _BLANK)]
    return _RCODES.get(answer.status, "NXDOMAIN"), rows


def check_host(ip: str, mail_from: str, helo: str, network: Any = None) -> Spf:
    """SPF for a connection from `ip` with this reverse-path ("" or "<>": the null sender) and HELO name.

    DNS goes through `network`; works in a running notebook kernel; what DNS does is a result, never an
    exception. Raises InvalidInput for an `ip` that is none. Source: RFC 7208.

    >>> from smtpkit.lab import Lab
    >>> with Lab("healthy") as lab:
    ...     check_host("203.0.113.9", lab.sender, "mail.ours.example", lab.network).result
    'fail'
    """
    resolver: Any = SimpleNamespace(_lookup=partial(_lookup, chosen(network)))
    evaluator = Evaluator(resolver, Limits(), receiver="smtpkit")
    run = evaluator.evaluate(str(as_ip(ip)), mail_from.strip().strip("<>"), helo)
    with ThreadPoolExecutor(1) as own:  # a notebook's thread has a running loop, in which this may not run
        made = own.submit(asyncio.run, run).result()
    events = json.loads(json.dumps(made.trace.to_list()).replace(_BLANK, " "))
    cost = f"{made.dns_terms_used} of 10 DNS terms, {made.void_lookups_used} of 2 void"
    says = (made.explanation or "").replace(_BLANK, " ") or None
    return Spf(made.result, says, _decided(events), cost, pd.DataFrame(events))


def _decided(events: list[dict[str, Any]]) -> str:
    """The path of terms to the verdict, or why there is none."""
    path: dict[int, str] = {}
    for event in events:
        if event["kind"] == "exit":
            return str(event["reason"])
        if event["kind"] == "mech_start":
            path = {depth: raw for depth, raw in path.items() if depth < event["depth"]}
        elif event["kind"] == "mech_match":
            path[event["depth"]] = event["raw"]
    return ", ".join(path[depth] for depth in sorted(path)) or "no term matched"


def spf_forbids(sender: str, ip: str, network: Any = None) -> str | None:
    """Why a mail from `sender` must not leave from `ip`: its domain's SPF says a clear fail; else None."""
    domain = sender.strip().strip("<>").rpartition("@")[2]
    made = check_host(ip, sender, "", network) if domain else None
    if made is None or made.result != "fail":
        return None
    says = f", and: {made.explanation}" if made.explanation else ""
    return f"SPF of {domain} says fail for {ip} ({made.term}){says}; a receiver takes such a mail for forged"


def tree(domain: str, ip: str | None = None, network: Any = None) -> pd.DataFrame:
    """What a domain's SPF record costs, term by term, includes unfolded, whatever the limits.

    Columns: depth (0 = the domain itself), domain (whose record), term, total (terms that ask DNS: it and all below
    it; RFC 7208 4.6.4 allows 10), result (of the term for `ip`; "" = not reached), note.
    """
    network, said, path = chosen(network), dict[Any, str](), dict[int, str]()
    rows = _walk(domain.lower(), 0, (), network, [MOST_RECORDS])
    made = check_host(ip, f"postmaster@{domain}", "", network) if ip else None
    for event in made.trace.to_dict("records") if made else []:
        depth, kind = event["depth"], event["kind"]
        if kind == "check_start":
            path[depth] = event["domain"].lower().rstrip(".")
        elif kind in ("mech_match", "mech_nomatch"):
            result = "no match" if kind == "mech_nomatch" else event["result"]
            said[depth + 1, path[depth], event["raw"]] = result
    for row in rows:
        row["result"] = said.get((row["depth"], row["domain"], row["term"]), "")
    rows[0]["result"] = made.result if made else ""
    return pd.DataFrame(rows).astype({"result": "str", "note": "str"})


def _walk(domain: str, depth: int, above: tuple[str, ...], network: Any, left: list[int]) -> Rows:
    """The record's own row, then its terms'; an include's row stands for the head of the record it names."""
    left[0] -= 1
    stop = "a loop" if domain in above else "not read: too many records" if left[0] < 0 else ""
    terms, note, _ = ([], stop, "") if stop else _terms(domain, network)
    made: Rows = [{"depth": depth, "domain": domain, "term": "v=spf1", "total": 0, "result": "", "note": note}]
    for term in terms:
        row = made[0] | {"depth": depth + 1, "term": term.raw, "total": 0, "note": ""}
        below: Rows = [{"total": 0, "note": _VARIES if "%" in (term.arg or "") else ""}]
        if term.name in ("include", "redirect") and "%" not in term.arg:
            below = _walk(term.arg.lower().rstrip("."), depth + 1, (*above, domain), network, left)
        row["total"], row["note"] = below[0]["total"] + (term.name in _ASKS), below[0]["note"]
        made[0]["total"] += row["total"]
        made += [row, *below[1:]]
    return made


def _terms(domain: str, network: Any) -> tuple[list[Any], str, str]:
    """The terms that are used, why there are none, and the record as published."""
    answer = network.resolve(domain, "TXT")
    found = [row for row in answer.rows if row.lower().split(" ")[0] == "v=spf1"]
    text = " | ".join(found)
    if len(found) != 1:
        lacking = f"{len(found)} SPF records: {text}" if found else f"no SPF record{near(answer, 'SPF')}"
        return [], silent(answer) or lacking, text
    try:
        record = parse(text)
    except SpfPermError as error:
        return [], f"permerror: {error}: {text}", text
    used = [term for term in record.terms if term.is_mechanism]
    if ends := [at for at, term in enumerate(used, 1) if term.name == "all"]:
        return used[: ends[0]], "", text  # nothing behind all is used, and no redirect beside it (5.1, 6.1)
    return [*used, *filter(None, [record.redirect])], "", text


def rows(who: Sender) -> Iterator[Row]:
    """The verdicts for MAIL FROM and HELO, and what the record costs and holds."""
    if who.ip is None:
        yield say("spf", "no_ip", who.mail_from, "no sending address known")
    else:
        made = check_host(who.ip, who.sent_by, who.greeting, who.network)
        yield say("spf", made.result, f"MAIL FROM {who.mail_from} from {who.ip}", str(made))
    yield _record(who.mail_from, who.network)
    helo = who.greeting
    if who.ip and helo and not helo.startswith("["):
        made = check_host(who.ip, "", helo, who.network)
        yield say("spf_helo", made.result, f"HELO {helo} from {who.ip}", str(made))


def _record(domain: str, network: Any) -> Row:
    cost, (terms, _, text) = tree(domain, network=network), _terms(domain, network)
    head, total, notes = cost.note[0], cost.total[0], [*filter(None, cost.note)]
    says = [f"{total} of {MOST_TERMS} DNS terms: {text}"]
    says += [f"{term}: {note}" for term, note in zip(cost.term, cost.note, strict=True) if note]
    ends = {f"IPv{as_ip(ip).version}": check_host(ip, f"a@{domain}", "", network) for ip in _NOBODY}
    passing = [f"anybody passes by {made.term}" for made in ends.values() if made.result == "pass"]
    by_chance = _VARIES in notes or any(re.match("(?i)[-+~?]?ptr", term) for term in cost.term)  # of the address
    judged = not by_chance or any(note != _VARIES for note in notes)
    lost = {by: made.term for by, made in ends.items() if judged and made.result == "permerror"}
    says += passing[:1] + [f"a permerror for others by {' and '.join(lost)}: {why}" for why in [*lost.values()][:1]]
    says += [f"never read, as it stands behind all: {rest}" for rest in re.findall(_BEHIND, text)]
    faults = {
        "unreadable": head.startswith("DNS"),
        "broken": bool(head),
        "too_many": total > MOST_TERMS,
        "everybody": passing,
        "unread": any(note.startswith("DNS ") for note in notes),
        "limits": len(lost) == len(ends),
        "ptr": any(term.name == "ptr" for term in terms),
        "open_end": not any(f"{term.qualifier}{term.name}" in ("-all", "~all", "+redirect") for term in terms),
        "ok": True,
    }
    return say("spf_record", faults, domain, head or "; ".join(says))
