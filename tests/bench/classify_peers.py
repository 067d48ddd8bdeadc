"""What share of real replies gets the right reason: `classify`, enhanced codes alone, three other projects' rules.

Run: python tests/bench/classify_peers.py [--kumomta bounces.toml iana.toml] [--zone-mta bounces.txt]
[--sisimai PERL5_FOLDER]. Their rules are not part of this repository: `npm pack @zone-eu/zone-mta` and Debian's
libsisimai-perl have two of them, KumoMTA's lie in its repository under assets/. Their categories are mapped
generously: where one stands for several of our reasons, any of these counts as right. Our own rules were mended on
these sets after they had met each once, so the first row flatters us; what unseen replies got stands in the first
lines of tests/test_reasons.py.
"""

import argparse
import csv
import random
import re
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from smtpkit import reasons

Reply = dict[str, str]
DATA = Path(__file__).parents[1] / "data"
OTHERS = ("replies_blind.csv", "replies_second.csv", "replies_held.csv", "replies_tuned.csv")
TRUSTED = re.compile(r"[245]\d\d[ -][245]\.(1\.1|1\.2|1\.6|1\.8|1\.10|2\.2|3\.4|7\.2[3-9]|7\.30)(?!\d)")
"""The enhanced codes that can be trusted: those whose meaning is nearly always the registered one."""
KUMOMTA = {
    "SpamBlock": "ip_blocked content sender_domain", "BadConfiguration": "host_identity",
    "InvalidSender": "sender_domain", "AuthenticationFailed": "auth_policy protocol",
    "TooManyRecipients": "rate_limited", "TransientFailure": "rate_limited greylisted server_busy",
    "InvalidRecipient": "recipient_unknown", "InactiveMailbox": "recipient_unavailable",
    "QuotaIssues": "mailbox_full too_big", "PolicyRelated": "recipient_policy content", "SpamContent": "content",
    "VirusRelated": "content", "ProhibitedAttachment": "content", "ContentRelated": "content",
    "ProtocolErrors": "malformed protocol", "RelayDenied": "routing", "BadDomain": "routing",
    "RoutingErrors": "routing", "NoAnswerFromHost": "network", "BadConnection": "network", "DNSFailure": "network",
    "MessageExpired": "network",
}  # fmt: skip
ZONE_MTA = {
    "blacklist": "ip_blocked", "block": "ip_blocked sender_domain", "config": "host_identity tls",
    "sender": "sender_domain", "envelope": "sender_domain recipient_unknown", "dmarc": "auth_policy",
    "auth": "auth_policy protocol", "rate": "rate_limited", "slowdown": "rate_limited", "greylist": "greylisted",
    "recipient": "recipient_unknown recipient_unavailable routing", "capacity": "mailbox_full too_big server_busy",
    "policy": "recipient_policy", "spam": "content", "virus": "content", "message": "malformed too_big content",
    "protocol": "protocol", "network": "network routing", "other": "",
}  # fmt: skip
SISIMAI = {
    "blocked": "ip_blocked host_identity", "badreputation": "ip_blocked", "requireptr": "host_identity",
    "rejected": "sender_domain", "authfailure": "auth_policy", "securityerror": "auth_policy protocol tls",
    "speeding": "rate_limited", "toomanyconn": "rate_limited", "userunknown": "recipient_unknown",
    "hasmoved": "recipient_unknown", "suspend": "recipient_unavailable", "mailboxfull": "mailbox_full",
    "filtered": "recipient_policy", "spamdetected": "content", "virusdetected": "content",
    "policyviolation": "content auth_policy", "mesgtoobig": "too_big", "exceedlimit": "too_big",
    "contenterror": "malformed", "notcompliantrfc": "malformed", "failedstarttls": "tls", "syntaxerror": "protocol",
    "norelaying": "routing", "notaccept": "routing", "hostunknown": "routing sender_domain",
    "systemerror": "server_busy", "systemfull": "server_busy", "expired": "network", "networkerror": "network",
}  # fmt: skip


def replies(name: str = "replies_held.csv") -> list[Reply]:
    """The held-out replies, c to g; or another table of them."""
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def blind(name: str = "replies_blind.csv") -> str:
    """What `classify` gets on replies that were gathered and labelled by somebody who did not know its rules."""
    rows = replies(name)
    told = [(row, reason) for row in rows if (reason := ours(row))]
    right = sum(reason == row["label"] for row, reason in told) / len(told)
    near = sum(reason in (row["label"], row["also"]) for row, reason in told) / len(told)
    alike = [reason == row["label"] for row, reason in told if row.get("reader") == row["label"]]
    both = f"; {sum(alike) / len(alike):.0%} of the {len(alike)} on which two readers agree" if alike else ""
    return (
        f"labelled {len(told) / len(rows):.0%}, right {right:.0%} of those (or the second label: {near:.0%}){both}"
    )


def majority(name: str, part: str) -> str:
    """What `classify` gets on one set by most of its three readers; texts on which all differ do not count."""
    rows = [row for row in replies(name) if row["set"] == part]
    told = [(reason, [row["label"], row["reader"], row["third_reader"]]) for row in rows if (reason := ours(row))]
    right = [said.count(reason) > 1 for reason, said in told if len(set(said)) < 3]
    return f"labelled {len(told) / len(rows):.0%} of {len(rows)}, most readers: right {sum(right)} of {len(right)}"


def agreement(name: str) -> tuple[float, float, int]:
    """How often this table's labeller and another one agree on a text; with second labels; on how many texts.

    No rules can do better than labellers among themselves.
    """
    known = {template(row): row for row in replies(name)}
    said = [row for table in OTHERS for row in replies(table)]
    pairs = [(row, known[template(row)]) for row in said if template(row) in known]
    same = [a["label"] == b["label"] for a, b in pairs]
    near = [a["label"] in (b["label"], b["also"]) or b["label"] == a.get("also") for a, b in pairs]
    return sum(same) / len(pairs), sum(near) / len(pairs), len(pairs)


def template(row: Reply) -> str:
    """The letters of a text: what stays of it where addresses, ids and numbers differ."""
    return re.sub(r"[^a-z]+", "", row["text"].lower())[:120]


def ours(row: Reply) -> str:
    told = reasons.classify(row["text"], stage=row["stage"] or None, mx_host=row["mx_host"] or None)
    return "" if told.reason == "unknown" else told.reason


def codes(row: Reply) -> str:
    found = TRUSTED.match(row["text"])
    return reasons.classify(f"550 5.{found[1]} zzz").reason if found else ""


def first(rules: Iterable[tuple[str, str]], names: dict[str, str]) -> Callable[[Reply], str]:
    """The reasons of the first rule that fits the reply on one line."""
    known = [(re.compile(pattern, re.IGNORECASE), names[category]) for pattern, category in rules]
    return lambda row: next((told for rule, told in known if rule.search(" ".join(row["text"].split()))), "")


def kumomta(paths: list[Path]) -> Callable[[Reply], str]:
    tables = [tomllib.loads(path.read_text("utf-8"))["rules"] for path in paths]
    return first(((p, name) for table in tables for name, listed in table.items() for p in listed), KUMOMTA)


def zone_mta(path: Path) -> Callable[[Reply], str]:
    lines = [line for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    rules = [line.rsplit(",", 3) for line in lines]
    return first(((rule[0], rule[2]) for rule in rules if len(rule) == 4 and rule[2] in ZONE_MTA), ZONE_MTA)


def sisimai(folder: Path, rows: list[Reply]) -> dict[str, str]:
    """What Sisimai::Reason makes of each text."""
    ask = "while (<STDIN>) { chomp; print Sisimai::Reason->match($_) // '', qq{\\n}; }"
    texts = [" ".join(row["text"].split()) for row in rows]
    run = subprocess.run(
        ["perl", f"-I{folder}", "-MSisimai::Reason", "-e", ask],
        input="\n".join(texts) + "\n", capture_output=True, text=True, check=True,
    )  # fmt: skip
    return dict(zip((row["text"] for row in rows), run.stdout.splitlines(), strict=True))


def million() -> tuple[float, int]:
    """Seconds of one core for 1,000,000 replies, made of the held-out ones with new addresses, IPs and ids."""
    dice, rows = random.Random(1), replies()
    chosen = [dice.choice(rows) for _ in range(1_000_000)]
    more = (f" [192.0.2.{dice.randrange(256)}] u{dice.randrange(9**9)}@b.example id {dice.randrange(16**12):012x}"
            for _ in chosen)  # fmt: skip
    table = {"reply": [row["text"] + new for row, new in zip(chosen, more, strict=True)]}
    frame = pd.DataFrame(table | {name: [row[name] or None for row in chosen] for name in ("stage", "mx_host")})
    begun = time.process_time()
    told = reasons.classify_frame(frame.assign(outcome="rejected"))
    return time.process_time() - begun, int(told["reason"].nunique())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kumomta", nargs="+", type=Path)
    parser.add_argument("--zone-mta", type=Path)
    parser.add_argument("--sisimai", type=Path)
    asked, rows = parser.parse_args(), replies()
    tellers: dict[str, Callable[[Reply], str]] = {"smtpkit": ours, "enhanced codes alone": codes}
    if asked.kumomta:
        tellers["KumoMTA"] = kumomta(asked.kumomta)
    if asked.zone_mta:
        tellers["zone-mta"] = zone_mta(asked.zone_mta)
    if asked.sisimai:
        told = sisimai(asked.sisimai, rows)
        tellers["sisimai"] = lambda row: SISIMAI.get(told[row["text"]], "")
    print(f"{len(rows)} replies, sets c to g: labelled, right of all, right of labelled; then set g alone")
    for name, teller in tellers.items():
        said = [(row["set"], teller(row), row["label"]) for row in rows]
        shown = []
        for part in ("cdefg", "g"):
            some = [(reason.split(), label) for which, reason, label in said if which in part]
            given = [label in reason for reason, label in some if reason]
            shown.append(
                f"{len(given) / len(some):4.0%} {sum(given) / len(some):4.0%} {sum(given) / len(given):4.0%}"
            )
        print(f"{name:22} {'   '.join(shown)}")
    print(f"{len(replies('replies_blind.csv'))} replies labelled blind: {blind()}")
    for name in ("replies_second.csv", "replies_third.csv", "replies_fourth.csv"):
        print(f"{name}, on most of which rules were mended afterwards: {len(replies(name))} replies, {blind(name)}")
        for part in sorted({row["set"] for row in replies(name)}):
            print(f"  set {part}: {majority(name, part)}")
    third = "replies_third.csv"
    same, near, count = agreement(third)
    print(f"its labeller and earlier ones agree on {same:.0%} of {count} texts (with second labels {near:.0%})")
    seconds, kinds = million()
    print(f"1,000,000 replies: {seconds:.1f} s of one core, {kinds} reasons")
