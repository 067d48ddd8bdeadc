"""Replies as providers and server software give them, by name, with reason and scope; then traps made of them.

`data/replies_atlas.csv`: texts from bounces, logs, issues, providers' pages and field knowledge, addresses and IPs
replaced (`\\n` parts lines; an empty scope is not asserted), and names that look like a cause: in addresses, hosts,
URLs, IPs.
"""

import csv
from pathlib import Path

import pytest

from smtpkit import reasons

with (Path(__file__).parent / "data" / "replies_atlas.csv").open(encoding="utf-8", newline="") as file:
    ATLAS = list(csv.DictReader(file))


def told(row: dict[str, str], text: str) -> tuple[str, str]:
    said = reasons.classify(text, stage=row["stage"] or None, mx_host=row["mx_host"] or None)
    return said.reason, said.scope


@pytest.mark.parametrize("row", ATLAS, ids=lambda row: row["name"])
def test_a_reply_has_its_reason_and_scope(row: dict[str, str]) -> None:
    reason, scope = told(row, row["text"].replace("\\n", "\n"))
    assert reason == row["reason"]
    assert row["scope"] in ("", scope)


def test_the_names_are_told_apart() -> None:
    assert len({row["name"] for row in ATLAS}) == len(ATLAS)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        pytest.param("r@b.example", "spam.greylist.dnsbl.quota@virus-dmarc.example", id="recipient_of_words"),
        pytest.param("r@b.example", "no-such-user.mailbox-full@spamhaus.example", id="recipient_of_causes"),
        pytest.param("r@b.example", "chic.das51.ou-001.ib101.pol-p1@ers.example", id="recipient_of_tags"),
        pytest.param("r@b.example", f"{'long.' * 12}name@{'long.' * 12}b.example", id="recipient_at_length"),
        pytest.param("192.0.2.7", "203.5.7.64", id="ip_like_a_code"),
        pytest.param("192.0.2.7", "203.5.4.1", id="ip_like_another_code"),
        pytest.param("192.0.2.7", "2001:db8:1:2:3:4:5:7", id="ipv6"),
        pytest.param("192.0.2.7", "xx.xx.xx.xx", id="ip_redacted"),
    ],
)
def test_no_name_decides(name: str, instead: str) -> None:
    rows = [row for row in ATLAS if name in row["text"]]
    assert len(rows) > 40
    for row in rows:
        text = row["text"].replace("\\n", "\n")
        assert told(row, text.replace(name, instead)) == told(row, text), row["name"]
