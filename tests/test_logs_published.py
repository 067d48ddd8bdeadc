"""Lines as they stand in logs that people have published, each in a shape of its own with example addresses."""

# ruff: noqa: E501 - lines of logs are long

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import smtpkit as sk


def read(folder: Path, *lines: str, **more: Any) -> pd.DataFrame:
    (folder / "mail.log").write_text("".join(f"{line}\n" for line in lines))
    return sk.read_log(folder / "mail.log", **({"year": 2026, "tz": "UTC"} | more))


def told(table: pd.DataFrame, names: str) -> list[list[Any]]:
    found = table.sort_values("line", kind="stable")[names.split()]
    return found.astype(object).where(found.notna(), None).to_numpy().tolist()


def beside(table: pd.DataFrame) -> dict[str, int]:
    """Lines that are no try, and problems."""
    counts = {kind: kept["lines"] for kind, kept in table.attrs["skipped"].items()}
    return counts | {"problems": sum(one["count"] for one in table.attrs["problems"])}


E = "2026-03-02 09:14:05 1xAbCd-0001Ef-2G "
MX = "R=d T=remote_smtp H=mx1.example.net [192.0.2.25]"
AFTER = "SMTP error from remote mail server after"
TAKEN = f'=> kim@example.net {MX} X=TLS1.3:A:256 CV=yes C="250 OK"'
OK = ["kim@example.net", "192.0.2.25", "accepted", None]
EXIM = {
    "a server that leaves out TLS's close after QUIT": (
        [
            "H=mx1.example.net [192.0.2.25] TLS error on connection (recv): The TLS connection was non-properly terminated.",
            "H=mx1.example.net [192.0.2.25] TLS error on connection (recv_tls_read): The TLS connection was non-properly terminated.",
            TAKEN,
        ],
        [OK],
    ),
    "a handshake that fails": (
        ["H=mx1.example.net [192.0.2.25] TLS error on connection (SSL_connect): error:0A000152", TAKEN],
        [[None, "192.0.2.25", "failed", "tls_handshake"], OK],
    ),
    "an alias at home": ([TAKEN.replace(" R=", " <info@ours.example> R=")], [OK]),
    "an alias of an alias": ([TAKEN.replace(" R=", " (a@ours.example, b@ours.example) <c@ours.example> R=")], [OK]),
    "two blanks, and a quoted address": ([TAKEN.replace("=> ", "->  ").replace(" R=", ' <" a"@ours.example> R=')], [OK]),
    "a mailbox by its local part": (["=> kim <kim@ours.example> R=v T=dovecot_delivery C=\"250 2.0.0 Saved\""], []),
    "LMTP to a store elsewhere": (
        [
            '=> kim@example.net <kim@example.net> R=v T=remote_lmtp H=box.example.net [192.0.2.77]:2125 C="LMTP done:250 ok"',
            '=> kim <kim@example.net> R=v T=Dovecot_LMTP H=box [192.0.2.77] C="250 Saved"',
        ],
        [],
    ),
    "refused, by Exim 4.80": (
        [f"** kim@example.net R=d T=remote_smtp: {AFTER} RCPT TO:<kim@example.net>: host mx1.example.net [192.0.2.25]: 550-5.1.1 no\\n550 5.1.1 such"],
        [["kim@example.net", "192.0.2.25", "rejected", None]],
    ),
    "deferred, by Exim 4.80": (
        [f"== kim@example.net R=d T=remote_smtp defer (-44): {AFTER} RCPT TO:<kim@example.net>: host mx1.example.net [192.0.2.25]: 450 4.3.2 later"],
        [["kim@example.net", "192.0.2.25", "deferred", None]],
    ),
    "one refused before another took it, by Exim 4.80": (
        [f"{AFTER} MAIL FROM:<s@ours.example>: host mx2.example.net [192.0.2.26]: 421 busy", TAKEN],
        [[None, "192.0.2.26", "deferred", None], OK],
    ),
    "lost after the final dot, by Exim 4.80": (
        ["== kim@example.net R=d T=remote_smtp defer (-18): Remote host mx1.example.net [192.0.2.25] closed connection in response to end of data"],
        [["kim@example.net", "192.0.2.25", "unknown", "lost"]],
    ),
    "no connection, by Exim 4.80": (
        [
            "mx2.example.net [192.0.2.26] Connection refused",
            "mx1.example.net [192.0.2.25]:25 Operation timed out",
            "== kim@example.net R=d T=remote_smtp defer (60): Operation timed out",
        ],
        [[None, "192.0.2.26", "failed", "refused"], ["kim@example.net", "192.0.2.25", "failed", "timeout"]],
    ),
    "cut off, by Exim 4.80": (
        [
            "SMTP timeout while connected to mx2.example.net [192.0.2.26] after RCPT TO:<kim@example.net>: Connection timed out",
            "Remote host mx3.example.net [192.0.2.27] closed connection in response to EHLO h",
            TAKEN,
        ],
        [[None, "192.0.2.26", "failed", "timeout"], [None, "192.0.2.27", "failed", "lost"], OK],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "rows"), EXIM.values(), ids=EXIM)
def test_exim(lines: list[str], rows: list[Any], tmp_path: Path) -> None:
    table = read(tmp_path, *(E + line for line in lines), mta="exim")
    assert told(table, "recipient mx_ip outcome error") == rows
    assert set(table.domain) <= {"example.net"}
    assert beside(table)["problems"] == 0


def test_exim_by_the_words_of_an_old_version_has_stage_and_reply(tmp_path: Path) -> None:
    table = read(tmp_path, E + EXIM["refused, by Exim 4.80"][0][0], mta="exim")
    assert told(table, "mx_host stage enhanced reply") == [
        ["mx1.example.net", "rcpt", "5.1.1", "550-5.1.1 no\n550 5.1.1 such"]
    ]


def test_a_host_of_exim_s_without_address_is_counted(tmp_path: Path) -> None:
    table = read(tmp_path, E + TAKEN, E + TAKEN.replace(" [192.0.2.25]", ""), mta="exim")
    assert (len(table), beside(table)["problems"]) == (1, 1)


def test_a_server_s_words_about_another_host_are_no_server(tmp_path: Path) -> None:
    words = f"{AFTER} end of data: 550 Remote host mx9.example.net [192.0.2.99] closed connection"
    table = read(tmp_path, f"{E}** kim@example.net {MX}: {words}", mta="exim")
    assert told(table, "mx_ip code") == [["192.0.2.25", 550]]


@pytest.mark.parametrize("front", ["/var/log/exim4/mainlog.1:", "2026-03-02T09:14:06.123456789Z ", "exim-1  | "])
def test_exim_behind_grep_and_containers(front: str, tmp_path: Path) -> None:
    table = read(tmp_path, front + E + TAKEN, mta="exim")
    assert told(table, "recipient mx_ip outcome error") == [OK]
    assert (str(table.started_at[0])[:19], beside(table)) == ("2026-03-02 09:14:05", {"problems": 0})


@pytest.mark.parametrize("line", ['{{"log":"{}","stream":"stdout"}}', '"{}"'])
def test_a_line_of_exim_inside_other_quotes_is_counted_and_not_half_read(line: str, tmp_path: Path) -> None:
    table = read(tmp_path, E + TAKEN, line.format((E + TAKEN).replace('"', r"\"")), mta="exim")
    assert (len(table), beside(table)) == (1, {"problems": 1})


S = "Mar  2 09:14:05 relay1 smtpd[41]: "
NAMED = "from=<s@ours.example>, to=<kim@example.net>, rcpt=<->, source=203.0.113.1, relay=192.0.2.25 (mx1.example.net), delay=1s"
SMTPD = {
    "6.0, refused": (
        [
            "8f4864084ecc48f4 mta event=connecting address=smtp+tls://192.0.2.25:25 host=mx1.example.net",
            '8f4864084ecc48f4 mta event=delivery evpid=7077717e797a776e from=<s@ours.example> to=<kim@example.net> rcpt=<-> source="203.0.113.1" relay="192.0.2.25 (mx1.example.net)" delay=1s result="PermFail" stat="550 5.7.1 no"',
            "8f4864084ecc48f4 mta event=closed reason=quit messages=0",
        ],
        [["kim@example.net", "192.0.2.25", 25, "rejected", None, "550 5.7.1 no"]],
    ),
    "6.0, no connection": (
        [
            "8f4864084ecc48f4 mta event=connecting address=smtp://192.0.2.25:25 host=mx1.example.net",
            "8f4864084ecc48f4 mta event=error reason=Connection refused",
        ],
        [[None, "192.0.2.25", 25, "failed", "refused", None]],
    ),
    "5.7, taken": (
        [
            "smtp-out: session 8f4864084ecc48f4: connecting to smtp+tls://192.0.2.25:25 (mx1.example.net)",
            f"smtp-out: session 8f4864084ecc48f4: evpid=7077717e797a776e, status=Ok, {NAMED}, stat=250 2.0.0 Ok: queued, as 1",
        ],
        [["kim@example.net", "192.0.2.25", 25, "accepted", None, "250 2.0.0 Ok: queued, as 1"]],
    ),
    "5.7, no answer from DNS": (
        [
            "smtp-out: session 0000000000000000: evpid=7077717e797a776e, status=TempFail, from=<>, to=<kim@example.net>, rcpt=<->, source=-, relay=example.net, delay=0s, stat=Temporary failure in MX lookup"
        ],
        [["kim@example.net", None, None, "failed", "dns_servfail", None]],
    ),
    "5.4, deferred": (
        [
            "smtp-out: Connected on session 8f4864084ecc48f4",
            f"relay: TempFail for 7077717e797a776e: session=8f4864084ecc48f4, {NAMED}, stat=451 4.7.1 later",
        ],
        [["kim@example.net", "192.0.2.25", None, "deferred", None, "451 4.7.1 later"]],
    ),
    "5.4, closed": (
        [
            "smtp-out: Connecting to smtp://192.0.2.25:25 (mx1.example.net) on session 8f4864084ecc48f4...",
            "smtp-out: Error on session 8f4864084ecc48f4: Connection closed unexpectedly",
        ],
        [[None, "192.0.2.25", 25, "failed", "lost", None]],
    ),
}


@pytest.mark.parametrize(("lines", "rows"), SMTPD.values(), ids=SMTPD)
def test_opensmtpd_before_6_4(lines: list[str], rows: list[Any], tmp_path: Path) -> None:
    table = read(tmp_path, *(S + line for line in lines))
    assert told(table, "recipient mx_ip port outcome error reply") == rows
    assert set(table.mx_host.dropna()) <= {"mx1.example.net"}
    assert beside(table) == {"problems": 0}


def test_an_outcome_in_no_known_form_of_opensmtpd_s_is_counted(tmp_path: Path) -> None:
    lines = [SMTPD["5.7, taken"][0][1], f"relay: TempFail for 7077717e797a776e: {NAMED}, stat=451 later"]
    table = read(tmp_path, *(S + line for line in lines))
    assert (len(table), beside(table)) == (1, {"problems": 1})


def test_a_server_s_words_make_no_line_of_opensmtpd_s(tmp_path: Path) -> None:
    words = "550 smtp-out: Error on session 8f4864084ecc48f4: relay: Ok"
    lines = SMTPD["6.0, refused"][0]
    table = read(tmp_path, S + lines[0], S + lines[1].replace("550 5.7.1 no", words))
    assert told(table, "outcome reply") == [["rejected", words]]


SENT = "4XkP2q3Zr1z9tQ: to=<kim@example.net>, relay=mx1.example.net[192.0.2.25]:25, delay=0.9, delays=0/0/0.6/0.3, dsn=2.0.0, status=sent (250 2.0.0 Ok)"
DOWN = "connect to mx2.example.net[192.0.2.26]:25: Connection refused"
P, ISO = "Mar  2 09:14:05 relay1 postfix/smtp[41]: ", "2026-03-02T09:14:05.811902+00:00 relay1 postfix/smtp[41]: "
FRONTS = {
    "docker logs -t before RFC 3339": f"2026-03-02T09:14:05.123456789Z {ISO}",
    "Kubernetes before RFC 3339": f"2026-03-02T09:14:05.123456789Z stdout F {ISO}",
    "kubectl --prefix": f"[pod/mail-0/postfix] {P}",
    "busybox": "Mar  2 09:14:05 relay1 mail.info postfix/smtp[41]: ",
    "grep": f"/var/log/mail.log.1:{P}",
    "grep, RFC 3339": f"mail.log:{ISO}",
    "zgrep -n": f"mail.log.2.gz:117:{P}",
    "docker compose in colour": f"\x1b[36mpostfix-1  | \x1b[0m{P}",
    "a line in colour": f"\x1b[31m{P}",
}


@pytest.mark.parametrize("front", FRONTS.values(), ids=FRONTS)
def test_fronts_of_logs_that_people_hand_over(front: str, tmp_path: Path) -> None:
    table = read(tmp_path, front + DOWN, front + SENT)
    assert told(table, "mx_ip vantage domain outcome") == [
        ["192.0.2.26", "relay1", "example.net", "failed"],
        ["192.0.2.25", "relay1", "example.net", "accepted"],
    ]
    assert {str(at)[:19] for at in table.started_at} == {"2026-03-02 09:14:05"}
    assert beside(table) == {"problems": 0}


def test_a_host_named_mail_is_no_level(tmp_path: Path) -> None:
    front = "mail-1  | Mar  2 09:14:05 mail.example.org postfix/smtp[41]: "
    assert read(tmp_path, front + SENT).vantage.tolist() == ["mail.example.org"]


def test_a_shipper_s_records(tmp_path: Path) -> None:
    record = json.dumps({"@timestamp": "2026-03-02T09:14:06Z", "message": P + SENT, "host": {"name": "h"}})
    other = json.dumps({"message": SENT, "appname": "postfix/smtp"})
    table = read(tmp_path, record, other, "[1]", '{"message": 7}', '{"log": [')
    assert told(table, "mx_ip vantage") == [["192.0.2.25", "relay1"]]
    assert beside(table) == {"problems": 1}


ADDRESSES = {
    "in full": ("2001:db8:0:0:0:0:0:1a", "2001:db8::1a"),
    "IPv4 in IPv6 dress": ("::ffff:192.0.2.25", "192.0.2.25"),
    "with a zone": ("fe80::1%eth0", "fe80::1%eth0"),
}


@pytest.mark.parametrize(("ip", "short"), ADDRESSES.values(), ids=ADDRESSES)
def test_an_address_has_one_spelling(ip: str, short: str, tmp_path: Path) -> None:
    table = read(tmp_path, P + SENT.replace("192.0.2.25", ip), P + SENT.replace("192.0.2.25", short))
    assert table.mx_ip.tolist() == [short] * 2


def test_sendmail_s_ipv6_is_spelt_as_a_probe_s(tmp_path: Path) -> None:
    line = "sm-mta[41]: 6220E5aB005120: to=<kim@example.net>, delay=00:00:01, xdelay=00:00:01, mailer=esmtp, pri=1, relay=mx1.example.net. [IPv6:2001:db8:0:0:0:0:0:1a], dsn=5.0.0, stat=Service unavailable"
    assert read(tmp_path, "Mar  2 09:14:05 relay1 " + line).mx_ip.tolist() == ["2001:db8::1a"]


@pytest.mark.parametrize("how", ["expired", "force-expired"])
def test_what_was_given_up_is_counted(how: str, tmp_path: Path) -> None:
    queue = P.replace("smtp[", "qmgr[")
    table = read(
        tmp_path, P + SENT, f"{queue}4XkP2q3Zr1z9tR: from=<s@ours.example>, status={how}, returned to sender"
    )
    assert beside(table) == {"expired": 1, "problems": 0}


@pytest.mark.parametrize("port", [10024, 10025, 10026])
def test_a_filter_on_another_machine_is_no_mx(port: int, tmp_path: Path) -> None:
    filtered = SENT.replace("mx1.example.net[192.0.2.25]:25", f"amavis[192.0.2.77]:{port}")
    table = read(tmp_path, P + filtered, P + SENT)
    assert (table.mx_ip.tolist(), beside(table)) == (["192.0.2.25"], {"local": 1, "problems": 0})


def test_sendmail_s_deferred_without_a_word_was_no_try(tmp_path: Path) -> None:
    line = "Mar  2 09:14:05 relay1 sm-mta[41]: 6220E5aB005120: to=<kim@example.net>, delay=00:00:00, xdelay=00:00:00, mailer=esmtp, pri=1, relay=mx1.example.net. [192.0.2.25], dsn=4.0.0, stat=Deferred"
    told_twice = line.replace(" stat=", " reply=450 4.7.1 later, stat=")
    table = read(tmp_path, line, f"{line}: 451 later", told_twice)
    assert (table.code.tolist(), beside(table)) == ([451, 450], {"suspended": 1, "problems": 0})
    lost = read(tmp_path, line.replace("dsn=4.0.0", "dsn=4.4.2"))  # as a real one writes of a connection that ended
    assert lost.mx_ip.tolist() == ["192.0.2.25"]


OWN = {
    "before RCPT": ("tls_rcpt, arg1=kim@example.net", "451 4.3.0 Temporary system failure", "mx1", "4.5.0", "Operating system error", 0),
    "for the certificate": ("tls_server, arg1=FAIL", "403 4.7.0 authentication failed", "mx1", "4.0.0", "Deferred: 403 4.7.0 authentication failed", 0),
    "and the next server deferred it": ("tls_server, arg1=FAIL", "403 4.7.0 no", "mx2", "4.0.0", "Deferred: 451 4.7.1 later", 1),
    "and then took it in clear": ("tls_server, arg1=FAIL", "403 4.7.0 no", "mx1", "2.0.0", "Sent (Ok)", 1),
    "but the handshake itself failed": ("tls_server, arg1=SOFTWARE", "403 4.7.0 TLS handshake failed.", "mx1", "4.0.0", "Deferred: 403 4.7.0 TLS handshake failed.", 1),
}  # fmt: skip


@pytest.mark.parametrize(("rule", "reject", "host", "dsn", "stat", "tries"), OWN.values(), ids=OWN)
def test_our_own_policy_on_tls_is_no_refusal_of_theirs(
    rule, reject, host, dsn, stat, tries, tmp_path: Path
) -> None:
    front = "Mar  2 09:14:05 relay1 sm-mta[41]: 6220E5aB005120: "
    table = read(
        tmp_path,
        f"{front}ruleset={rule}, relay=mx1.example.net., reject={reject}",
        f"{front}to=kim@example.net, delay=00:00:01, xdelay=00:00:01, mailer=esmtp, pri=1, relay={host}.example.net. [192.0.2.25], dsn={dsn}, stat={stat}",
    )
    assert (len(table), beside(table)) == (tries, ({} if tries else {"suspended": 1}) | {"problems": 0})
