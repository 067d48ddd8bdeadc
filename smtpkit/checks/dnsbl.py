"""dnsbl: is an address or a name listed, as far as a zone may be believed; then and now; and what MX servers say.

Not here: which zones there are and what their codes mean (data/dnsbl_zones.csv), statistics of attempts (counts).
"""

import json
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

import pandas as pd

from smtpkit.address import as_ip, host_name, host_or_none, numeric, organisation, sending_ip
from smtpkit.casebook import Casebook
from smtpkit.catalogue import patterns, render
from smtpkit.catalogue import rows as catalogue
from smtpkit.checks.found import Row, Sender, say, silent
from smtpkit.checks.recorder import dqs_key, masked
from smtpkit.errors import listed, refuse
from smtpkit.network import Answer, chosen

STATES = ("listed", "not listed", "refused", "dead", "unknown")
DQS, AT_ONCE = ".dq.spamhaus.net", 8
_COLUMNS = "at zone subject state codes meaning text ttl delist source".split()
_KEPT = ["zone", "subject", "state", "codes"]
_SHAPES = patterns("dnsbl")


def lookup(
    subject: str, network: Any = None, zones: Iterable[str] | None = None, *, casebook: Any = None
) -> pd.DataFrame:
    """Each zone's answer about an IP address or a domain name: one row a zone, states as STATES.

    NXDOMAIN is "not listed"; SERVFAIL and timeout are "unknown"; 127.255.255.x and a zone's own error codes are
    "refused"; an answer outside 127/8 is "unknown" (a resolver that rewrites); a zone whose test entries (RFC 5782
    section 5) list 127.0.0.1 is "dead". `zones`: names from data/dnsbl_zones.csv; default: all alive ones of the
    subject's kind, Spamhaus by its Data Query Service if SMTPKIT_DQS_KEY is set (the key is never shown). The
    answers are kept in the casebook (default: the network's), for `history`.

    >>> from smtpkit.lab import Lab
    >>> with Lab("dnsbl_listed") as lab:
    ...     lookup(lab.network.sender_ip, lab.network).query("state == 'listed'").zone.tolist()
    ['zen.spamhaus.org']
    """
    network, wanted = chosen(network), None if zones is None else set(listed("zones", zones))
    subject = str(sending_ip(subject, "subject")) if numeric(subject) else host_name("subject", subject)
    if strange := (wanted or set()) - {row["zone"] for row in catalogue("dnsbl_zones.csv")}:
        raise refuse("zones", sorted(strange), "are not in data/dnsbl_zones.csv", "write such as zen.spamhaus.org")
    asked = [row for row in _alive(network, numeric(subject)) if wanted is None or row["zone"] in wanted]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        made = list(pool.map(lambda row: _ask(row, subject, network), asked))
    dtypes = dict.fromkeys(_COLUMNS, "str") | {"at": "datetime64[us, UTC]", "ttl": "Int32"}
    table = pd.DataFrame(made, columns=_COLUMNS).astype(dtypes)
    if (book := casebook or network.casebook) and len(table):
        told = json.dumps(table[_KEPT].values.tolist())
        Casebook(getattr(book, "path", book)).note(f"dnsbl {told}", at=table["at"].max())
    table["state"] = pd.Categorical(table["state"], categories=list(STATES))
    return table


def _alive(network: Any, ip: bool) -> list[dict[str, str]]:
    """The zones that can be asked: not ended, and without a key; with a DQS key Spamhaus' own instead."""
    kinds = ("ip", "netblock", "asn", "white_ip") if ip else ("domain",)
    known = [row for row in catalogue("dnsbl_zones.csv") if row["kind"] in kinds]
    paid = [row for row in known if row["zone"].endswith(DQS) and dqs_key(network)]
    twins = [row["zone"].removeprefix("<key>.").replace(DQS, ".spamhaus.org") for row in paid]
    return [row for row in known if row["status"] == "alive" and row["zone"] not in twins] + paid


def _at(subject: str, zone: str) -> str:
    """The name that asks a zone about it: an address backwards, a name as it is."""
    label = as_ip(subject, "subject").reverse_pointer.rsplit(".", 2)[0] if numeric(subject) else subject.lower()
    return f"{label}.{zone}"


def _ask(zone: dict[str, str], subject: str, network: Any) -> tuple[Any, ...]:
    key, text = dqs_key(network), ""
    name = zone["zone"].replace("<key>", key)
    whole = organisation(subject) if zone["listing_type"].startswith("URI domains") else subject  # no host is
    answer = network.resolve(_at(whole, name), "A")
    state, meaning = read(answer, zone)
    if state in ("listed", "not listed"):
        alike = "127.0.0.2" if state == "listed" and ":" in subject else subject  # it knows IPv6 then
        state, meaning = _untrue(zone, alike, name, network) or (state, meaning)
    if state == "listed":
        text = "; ".join(network.resolve(_at(whole, name), "TXT").rows)
    shown = [masked(part, key) for part in ("; ".join(answer.rows), meaning, text)]
    return datetime.now(UTC), zone["zone"], subject, state, *shown, answer.ttl, zone["delist"], zone["source"]


def read(answer: Answer, zone: dict[str, str]) -> tuple[str, str]:
    """The state that an A answer of that zone (a row of data/dnsbl_zones.csv) means, and its meaning or why.

    >>> read(Answer("ok", ("127.255.255.254",)), {"codes": "127.0.0.2=SBL", "refusal_codes": ""})
    ('refused', '127.255.255.254: an error, not a listing')
    """
    codes = {code: _meaning(code, zone["codes"]) for code in answer.rows}
    if why := silent(answer):
        return "unknown", why
    if foreign := [code for code in codes if not code.startswith("127.")]:
        return "unknown", f"{foreign[0]} is outside 127.0.0.0/8: the resolver rewrites answers"
    for code in codes:
        error = "an error, not a listing" if code.startswith("127.255.255.") else ""
        if why := _meaning(code, zone["refusal_codes"]) or error:
            return "refused", f"{code}: {why}"
    known = {code: word for code, word in codes.items() if code != "127.0.0.1"}
    if not known:
        return ("unknown", "127.0.0.1 is never a listing") if codes else ("not listed", "")
    if "other=" in zone["refusal_codes"] and not any(known.values()):
        return "refused", f"{', '.join(known)}: not a code of this list, so an error"
    return "listed", ", ".join(word or f"{code} (not in the catalogue)" for code, word in known.items())


def _meaning(code: str, table: str) -> str:
    """What the catalogue's `PATTERN=meaning;...` says of a code; `bit:N` is a bit of its last number."""
    words = []
    for pattern, _, word in (pair.partition("=") for pair in table.split(";")):
        bit = int(pattern[4:]) & int(code.rpartition(".")[2]) if pattern.startswith("bit:") else 0
        words += [word] if fnmatchcase(code, pattern) or bit else []
    return ", ".join(words)


def _untrue(zone: dict[str, str], subject: str, name: str, network: Any) -> tuple[str, str] | None:
    """Why the zone may not be believed; None if its test entries are as RFC 5782 section 5 asks."""
    zone = zone | {"refusal_codes": zone["refusal_codes"].replace("other=", "")}  # test entries have any code
    good, bad = ("::ffff:7f00:1", "::ffff:7f00:2") if ":" in subject else ("127.0.0.1", "127.0.0.2")
    for entry in (good, bad) if numeric(subject) else ("invalid",):
        state, why = read(network.resolve(_at(entry, name), "A"), zone)
        if entry != bad and state == "listed":
            return "dead", f"it lists {entry}, so it lists everybody"
        if entry == bad and state == "not listed":
            return "unknown", f"it does not list its test entry {entry}: gone, or kept from us"
        if state not in ("listed", "not listed"):
            return state, f"its test entry: {why}"
    return None


def rows(who: Sender) -> Iterator[Row]:
    """What each zone says of the address, From's domain, the reverse-path's and the HELO name."""
    if who.ip is None:
        yield say("dnsbl", "no_ip", who.domain, "no sending address known")
    for subject in dict.fromkeys((who.ip or "", who.domain, who.mail_from, who.greeting)):
        known = numeric(subject) or host_or_none(subject)  # a PTR name may be any text
        for row in lookup(subject, who.network).itertuples() if known else ():
            seen = ", ".join(filter(None, (row.meaning, row.codes, row.text))) or row.state
            yield say("dnsbl", _finding(row), f"{subject} in {row.zone}", seen, delist=row.delist or row.zone)


def _finding(row: Any) -> str:
    """The state; of a listing if it is this sender's, its network's, a range's that sends no mail, or praise."""
    if row.state != "listed":
        return str(row.state)
    zone = next(one for one in catalogue("dnsbl_zones.csv") if one["zone"] == row.zone)
    if zone["kind"] == "white_ip" or re.match("good|neutral|trust", row.meaning):
        return "white"
    if all(word.startswith(("PBL", "policy")) for word in row.meaning.split(", ")):
        return "range"
    policy = zone["kind"] in ("netblock", "asn") or re.match("policy|bounces", zone["listing_type"])
    return "policy" if policy else "listed"


def history(casebook: Any) -> pd.DataFrame:
    """What lists said over time, from the casebook: zone, subject, state, codes, since, until, seen.

    A row is a spell in which state and codes stay the same; `until` is when it was last seen so, `seen` how often.
    """
    notes = Casebook(getattr(casebook, "path", casebook)).listings()
    told = [(note.at, *row) for note in notes.itertuples() for row in json.loads(note.text[6:])]
    seen = pd.DataFrame(told, columns=["at", *_KEPT]).sort_values([*_KEPT[:2], "at"], ignore_index=True)
    spell = (seen[_KEPT] != seen[_KEPT].shift()).any(axis=1).cumsum().rename("spell")
    found = seen.groupby([spell, *_KEPT], sort=False)["at"].agg(since="min", until="max", seen="size")
    return found.reset_index().drop(columns="spell")


def joined(lists: pd.DataFrame, attempts: pd.DataFrame) -> str:
    """One paragraph: is the sender listed, who refuses it as blacklisted, and so whose list is to blame.

    `lists`: from `preflight` or `lookup`; `attempts`: from `probe`, `send` or `read_log`.
    """
    if "check" in lists:
        lists = lists[(lists.check == "dnsbl") & lists.subject.str.contains(" in ")]
        zone, listed = lists.subject.str.rpartition(" in ")[2], lists.status.isin(["fail", "warn"])
        mute = lists.status == "unknown"
    else:  # praise is no listing
        zone, listed = lists.zone, [_finding(row) in ("listed", "policy", "range") for row in lists.itertuples()]
        mute = lists.state.isin(["unknown", "refused", "dead"])
    blocked = attempts[attempts.reason == "ip_blocked"]
    theirs = blocked[blocked.reply.fillna("").str.contains(_SHAPES.theirs)].groupby("mx_ip").reply.last()
    told = {"listed": zone[listed], "mute": zone[mute], "zones": zone, "asked": attempts.mx_ip}
    told["refusing"] = blocked.mx_ip[~blocked.mx_ip.isin(theirs.index)]
    words: dict[str, Any] = {name: [*values.dropna().unique()] for name, values in told.items()}
    return render("joined.txt", theirs=theirs, **words).strip()
