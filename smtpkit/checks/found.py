"""found: rows, what every check says; the big receivers' rules over them; their page that a person likes to read.

Not here: any check. Data: preflight.csv (a finding's status, advice, source), sender_rules.csv, preflight.html.j2.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from smtpkit.address import as_ip
from smtpkit.catalogue import render, rows
from smtpkit.escape import one_line
from smtpkit.network import Answer

STATUSES = ("pass", "warn", "fail", "unknown")
COLUMNS = ("check", "subject", "status", "evidence", "advice", "source")
MOST_NAMES = 10  # of one PTR answer that are asked, as RFC 7208 4.6.4 has it for SPF
LONGEST = 1500  # characters of evidence kept; a DNS answer may hold 64 KB
_GRAVITY = ("pass", "warn", "unknown", "fail")
_ABSENT = ("no List-Unsubscribe", "not marked as an advertisement")
"""Lints that pass because the message is not of the kind that the rule is about."""


class Row(NamedTuple):
    """One finding: `evidence` is what was seen, verbatim; `advice` what to do; `source` who says so."""

    check: str
    subject: str
    status: str
    evidence: str
    advice: str = ""
    source: str = ""


class Sender(NamedTuple):
    """Whom a preflight asks about: From's domain, the reverse-path's domain, the message as it would be sent."""

    domain: str
    network: Any
    ip: str | None = None
    helo: str | None = None
    mail_from: str = ""
    selector: str | None = None
    octets: bytes | None = None
    local: str = "postmaster"  # RFC 7208 4.3: where the reverse-path has none

    @property
    def sent_by(self) -> str:
        """The reverse-path, as SPF reads it."""
        return f"{self.local}@{self.mail_from}"

    @property
    def greeting(self) -> str:
        """The HELO name: the one given, else as our sends greet: the confirmed PTR name; "" if none is known."""
        return self.helo or (next(iter(confirmed(self.ip, self.network)[1]), "") if self.ip else "")


def say(check: str, finding: str | Mapping[str, object], subject: str, evidence: str, **words: str) -> Row:
    """A row with status, advice and source of a finding from data/preflight.csv; of several the first that holds.

    `words` fill the advice.
    """
    found = finding if isinstance(finding, str) else next(name for name, holds in finding.items() if holds)
    known = next(row for row in rows("preflight.csv") if (row["check"], row["finding"]) == (check, found))
    seen = f"not asked: {evidence}" if found in ("unasked", "no_ip") else evidence
    return Row(check, subject, known["status"], seen, known["advice"].format(**words), known["source"])


def frame(found: Iterable[Row], **attrs: Any) -> pd.DataFrame:
    """Rows as a frame of `str` columns; status is a category of STATUSES."""
    cut = [[one_line(text)[:LONGEST] for text in row] for row in found]
    made = pd.DataFrame(cut, columns=list(COLUMNS)).astype("str")
    made["status"] = pd.Categorical(made["status"], categories=list(STATUSES))
    made.attrs["smtpkit"] = attrs
    return made


def silent(answer: Answer) -> str:
    """Why the answer says nothing, "" if it does: NXDOMAIN and NODATA are answers, SERVFAIL is none."""
    detail = f": {answer.detail}" if answer.detail else ""
    return "" if answer.status in ("ok", "nodata", "nxdomain") else f"DNS {answer.status}{detail}"


def near(answer: Answer, word: str) -> str:
    """What stands where a record is missing and names it (`word`, capitals): its quotes or commas made it none."""
    return "".join(f"; what is there does not begin as one: {row}" for row in answer.rows if word in row.upper())


def confirmed(ip: str, network: Any) -> tuple[list[str], list[str], str]:
    """PTR names of `ip`, those that lead back to it (FCrDNS), and why something could not be asked."""
    answer = network.resolve(as_ip(ip).reverse_pointer, "PTR")
    back = {name: network.resolve(name, "AAAA" if ":" in ip else "A") for name in answer.rows[:MOST_NAMES]}
    good = [name for name, told in back.items() if as_ip(ip) in map(as_ip, told.rows)]
    return list(answer.rows), good, next(filter(None, map(silent, (answer, *back.values()))), "")


def page(checked: pd.DataFrame) -> str:
    """A preflight as one HTML page: marks and words beside colours; all escaped; asks nobody for anything.

    What needs work stands in full; lists, lints and rules that pass, or cannot be seen, share a row.
    """
    told = {"domain": "", "ip": "", "at": None} | checked.attrs.get("smtpkit", {})
    found = checked.astype("str").to_dict("records")
    for row in found:
        parted = row["subject"].partition({"dnsbl": " in ", "rule": ", "}.get(row["check"], "\0"))
        lint = row["check"].startswith("message: ")
        row["whose"], row["what"] = ("lints", row["check"][9:]) if lint else (parted[0], parted[2])
    return render("preflight.html", told=told, rows=found)


def _told(found: Sequence[Row], need: str) -> str:
    """The gravest status of a check's rows; "dnsbl/zen": of the list that is called so; "~": a warning will do."""
    check, _, zone = need.rstrip("~").partition("/")
    said = [row for row in found if row.check == check and zone in row.subject.rpartition(" in ")[2]]
    told = ["unknown" if row.evidence in _ABSENT and row.status == "pass" else row.status for row in said]
    any_will_do = check in ("dkim", "dkim_key")  # RFC 6376 6.1
    status = (min if any_will_do else max)(told, key=_GRAVITY.index, default="unknown")
    return "pass" if need.endswith("~") and status == "warn" else status


def rules(found: Sequence[Row]) -> Iterator[Row]:
    """One row a rule; a rule's `needs` are checks joined by & (all) or | (one of them)."""
    for rule in rows("sender_rules.csv"):
        needs = rule["needs"].replace("|", "&").split("&") if rule["needs"] else []
        told = {need.rstrip("~"): _told(found, need) for need in needs}
        status = (min if "|" in rule["needs"] else max)(told.values(), key=_GRAVITY.index, default="unknown")
        says = ", ".join(f"{name} {was}" for name, was in told.items()) or "cannot be seen from here"
        advice = f"Answered with {rule['codes']}" if rule["codes"] and status == "fail" else ""
        subject = f"{rule['provider']}, {rule['applies']} mail: {rule['requirement']}"
        source = f"{rule['source']} ({rule['dated']}, {rule['confidence']})"
        yield Row("rule", subject, status, says, advice, source)
