"""What real servers wrote when a server broke off under TLS, and lines that took the log readers' time or nerve."""

# ruff: noqa: E501 - lines of logs are long

import json
from pathlib import Path
from typing import Any

import pytest

import smtpkit as sk
from smtpkit import words
from smtpkit.logs import exim, opensmtpd, plain, sendmail
from tests.test_logs_published import AFTER, DOWN, MX, OK, SENT, TAKEN, E, P, beside, read, told

BROKEN = "TLS error on connection"
MX1, MX2 = "H=mx1.example.net [192.0.2.25]", "H=mx2.example.net [192.0.2.26]"
CUT = "Remote host closed connection in response to"
LOST = [None, "192.0.2.25", "failed", "lost"]
EXIM = {
    "refused MAIL, and hung up": (
        [
            f"{MX1} {BROKEN} (recv): The TLS connection was non-properly terminated.",
            f"{MX1} {BROKEN} (uncork): Success.",
            f"** kim@example.net {MX}: {AFTER} pipelined MAIL FROM:<s@ours.example>: 550 5.7.1 no",
        ],
        [["kim@example.net", "192.0.2.25", "rejected", None]],
    ),
    "hung up at MAIL; Exim 4.96 writes to the next one through the dead session": (
        [
            f"{MX1} {BROKEN} (recv): The TLS connection was non-properly terminated.",
            f"{MX1}: {CUT} MAIL FROM:<s@ours.example>",
            f"{MX1} {BROKEN} (send): The specified session has been invalidated for some reason.",
            f"{MX2}: {CUT} sending data block",
            f"== kim@example.net R=d T=out defer (-18) {MX2}: {CUT} sending data block",
        ],
        [LOST, ["kim@example.net", "192.0.2.26", "failed", "interrupted"]],
    ),
    "hung up in the data by itself": (
        [f"{MX1}: {CUT} sending data block", TAKEN.replace("mx1", "mx2").replace(".25", ".26")],
        [LOST, ["kim@example.net", "192.0.2.26", "accepted", None]],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "rows"), EXIM.values(), ids=EXIM)
def test_exim_and_a_server_that_breaks_tls(lines: list[str], rows: list[Any], tmp_path: Path) -> None:
    table = read(tmp_path, *(E + line for line in lines), mta="exim")
    assert told(table, "recipient mx_ip outcome error") == rows
    assert beside(table) == {"problems": 0}


def test_a_server_s_words_stay_as_they_are(tmp_path: Path) -> None:
    said = "450 Remote host bad.example [192.0.2.99] closed"
    line = f"== kim@example.net R=d T=out defer (-44): {AFTER} RCPT TO:<kim@example.net>: host mx1.example.net [192.0.2.25]: {said}"
    assert told(read(tmp_path, E + line, mta="exim"), "mx_ip reply") == [["192.0.2.25", said]]


S = "Mar  2 09:14:05 relay1 sendmail[41]: "
TO = "to=kim@example.net, delay=00:00:01, xdelay=00:00:01, mailer=esmtp, pri=1, relay=mx1.example.net. [192.0.2.25], "


@pytest.mark.parametrize("stat", ["", ": Connection reset by mx1.example.net.", ": Connection timed out with mx1"])
def test_sendmail_does_not_say_when_a_connection_ended(stat: str, tmp_path: Path) -> None:
    """`dsn=4.4.2` stands for a reply that did not come: to EHLO, or to the final dot."""
    table = read(tmp_path, f"{S}6220E5aB005120: {TO}dsn=4.4.2, stat=Deferred{stat}")
    assert told(table, "mx_ip stage outcome maybe_delivered") == [["192.0.2.25", None, "unknown", None]]
    refused = read(tmp_path, f"{S}6220E5aB005120: {TO}dsn=4.0.0, stat=Deferred: Connection refused by mx1")
    assert told(refused, "stage outcome error") == [["connect", "failed", "refused"]]


def test_who_may_have_got_the_mail_was_reached(tmp_path: Path) -> None:
    """A reply that did not come was told as a connection that nobody answered, and our own path suspected."""
    lost = [
        f"{S}62{n:02d}E5aB005120: {TO}dsn=4.4.2, stat=Deferred: Connection timed out with mx1" for n in range(14)
    ]
    assert "own path" not in sk.diagnose(read(tmp_path, *lost)).verdict


def test_the_short_ids_of_old_sendmails(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        f"{S}QAA05120: from=<s@ours.example>, size=300, class=0, pri=30300, nrcpts=1, msgid=<1@ours.example>, proto=SMTP",
        f"{S}QAA05120: {TO.replace('pri=1, ', '')}stat=Sent (OK id=1)",
    )
    assert told(table, "queue_id sender outcome") == [["QAA05120", "s@ours.example", "accepted"]]


HUGE = "9" * 24
GOOD = f"{S}6220E5aB005120: {TO}dsn=2.0.0, stat=Sent (Ok)"
D = "Mar  2 09:14:05 relay1 smtpd[41]: 8f4864084ecc48f4 "
GIVEN = f'{D}mta delivery evpid=7077717e797a776e from=<> to=<k@d.example> rcpt=<-> source="-" relay="192.0.2.25 (mx)" delay=1s result="Ok" stat="250 Ok"'
ODD = {
    "size, Exim": [E + f"<= s@ours.example U=root P=local S={HUGE} id=1@x", E + TAKEN],
    "port, Exim": [E + TAKEN.replace(".25]", f".25]:{HUGE}")],
    "size, Sendmail": [f"{S}6220E5aB005120: from=<s@ours.example>, size={HUGE}, class=0, nrcpts=1", GOOD],
    "port, Sendmail": [f"{S}6220E5aB005120: makeconnection (mx. [192.0.2.2].{HUGE} (2)) failed: No", GOOD],
    "time taken, Sendmail": [GOOD, GOOD.replace("xdelay=00:00:01", "xdelay=1:2")],
    "size, OpenSMTPD": [f"{D}smtp message address=x msgid=7077717e size={HUGE} nrcpt=1", GIVEN],
    "no size, OpenSMTPD": [f"{D}smtp message address=x msgid=7077717e size= nrcpt=1", GIVEN],
    "port, OpenSMTPD": [f"{D}mta connecting address=smtp://192.0.2.25:{HUGE} host=mx", GIVEN],
    "time of a journal": [P + SENT, json.dumps({"MESSAGE": SENT, "__REALTIME_TIMESTAMP": HUGE})],
    "time of KumoMTA's": [
        json.dumps({"type": "Bounce", "timestamp": 10**17, "egress_pool": "a"}),
        json.dumps({"type": "Delivery", "timestamp": 1, "recipient": "k@d.example", "peer_address": {"addr": "192.0.2.25"}, "response": {"code": 250}}),
    ],
}  # fmt: skip


@pytest.mark.parametrize("lines", ODD.values(), ids=ODD)
def test_one_odd_number_costs_one_line_and_not_the_log(lines: list[str], tmp_path: Path) -> None:
    assert told(read(tmp_path, *lines), "mx_ip outcome")[:1] == [["192.0.2.25", "accepted"]]


BEHIND = {
    "two blanks, by rsyslog's template": lambda line: f"{P} {line}",
    "two blanks, RFC 3339": lambda line: f"2026-03-02T09:14:05.811902+00:00 relay1 postfix/smtp[41]:  {line}",
    "a tab": lambda line: f"{P[:-1]}\t{line}",
    "Filebeat": lambda line: json.dumps(
        {"@timestamp": "2026-03-02T09:14:06Z", "message": P + line, "log": {"offset": 1, "file": {"path": "/var/log/mail.log"}}}
    ),
}  # fmt: skip


@pytest.mark.parametrize("dressed", BEHIND.values(), ids=BEHIND)
def test_what_stands_between_front_and_message(dressed: Any, tmp_path: Path) -> None:
    table = read(tmp_path, dressed(DOWN), dressed(SENT))
    assert told(table, "mx_ip domain") == [["192.0.2.26", "example.net"], ["192.0.2.25", "example.net"]]
    assert (OK[1], beside(table)) == (table.mx_ip[1], {"problems": 0})


ENDLESS = {
    "hosts": (exim._HOST.search, "H="),
    "hosts' names": (exim._HOST.search, " H=a (b"),
    "an old Exim": (lambda text: plain.today("exim", text), "(SMTP error from remote mail server "),
    "fields": (lambda text: list(opensmtpd._FIELD.finditer(text)), "a"),
    "rules": (lambda text: sendmail._RULE.match(f"ruleset=tls_x, {text}"), "relay="),
    **{word: (words.ending, word) for word in ("lookup ", "type=a ", "certificate ", "verif", "STARTTLS ", "TLS ")},
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize(("look", "unit"), ENDLESS.values(), ids=ENDLESS)
def test_a_line_without_end_is_read_at_once(look: Any, unit: str) -> None:
    """Each took the square of the time: up to 40 s."""
    assert not isinstance(look(unit * (60_000 // len(unit))), Exception)
