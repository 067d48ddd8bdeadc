"""What readers of other MTAs' logs met: each of these rows was lost, doubled, or blamed on the wrong server."""

# ruff: noqa: E501 - lines of logs are long

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import smtpkit as sk
from smtpkit.errors import InvalidInput
from smtpkit.logs import files
from smtpkit.running import run_notebook

E, F = "2026-03-02 09:14:05 1xAbCd-0001Ef-2G ", "2026-03-02 09:14:05 1xAbCe-0001Ef-2G "
REFUSED = "== a@aaa.example R=dnslookup T=remote_smtp defer (111): Connection refused"
TOOK = '=> b@bbb.example R=d T=t H=mx.bbb.example [198.51.100.1] C="250 OK"'


def read(folder: Path, *lines: str, **more: Any) -> pd.DataFrame:
    (folder / "log").write_text("".join(f"{line}\n" for line in lines))
    return sk.read_log(folder / "log", **{"year": 2026} | more)


def values(table: pd.DataFrame, names: str) -> list[list[Any]]:
    found = table.sort_values(["file", "line"], kind="stable")[names.split()]
    return found.astype(object).where(found.notna(), None).to_numpy().tolist()


def beside(table: pd.DataFrame) -> dict[str, int]:
    """Lines that are no try, and problems, by name."""
    skipped = {kind: kept["lines"] for kind, kept in table.attrs["skipped"].items()}
    return skipped | {"problems": sum(p["count"] for p in table.attrs["problems"])}


PAIRS = {
    "a domain that was taken between closes nothing of another": (
        ["H=mx.aaa.example [192.0.2.1] Connection refused", TOOK, REFUSED],
        [["bbb.example", "b@bbb.example", "198.51.100.1", None], ["aaa.example", "a@aaa.example", "192.0.2.1", "refused"]],
    ),
    "two domains at once, told apart by their words": (
        ["H=mx.aaa.example [192.0.2.1] Connection refused", "H=mx.bbb.example [198.51.100.1] No route to host", REFUSED,
         "== b@bbb.example R=d T=t defer (113): No route to host"],
        [["aaa.example", "a@aaa.example", "192.0.2.1", "refused"], ["bbb.example", "b@bbb.example", "198.51.100.1", "unreachable"]],
    ),
    "two domains at once, with the same words": (
        ["H=mx.aaa.example [192.0.2.1] Connection refused", "H=mx.bbb.example [198.51.100.1] Connection refused", REFUSED,
         REFUSED.replace("a@aaa", "b@bbb")],
        [["aaa.example", "a@aaa.example", "192.0.2.1", "refused"], ["bbb.example", "b@bbb.example", "198.51.100.1", "refused"]],
    ),
    "two recipients share a host that refused": (
        ["H=mx.aaa.example [192.0.2.1] Connection refused", "H=mx.aaa.example [192.0.2.2] Connection refused", REFUSED,
         REFUSED.replace("a@", "c@")],
        [["aaa.example", None, "192.0.2.1", "refused"], ["aaa.example", "a@aaa.example", "192.0.2.2", "refused"],
         ["aaa.example", "c@aaa.example", "192.0.2.2", "refused"]],
    ),
    "what is left over has a domain": (
        ["H=mx.hoster.example [192.0.2.1] Connection refused", TOOK, "Completed"],
        [["bbb.example", None, "192.0.2.1", "refused"], ["bbb.example", "b@bbb.example", "198.51.100.1", None]],
    ),
    "what is left over of two domains has none": (
        ["H=mx.hoster.example [192.0.2.1] Connection refused", TOOK, TOOK.replace("bbb", "ccc"), "Completed"],
        [[None, None, "192.0.2.1", "refused"], ["bbb.example", "b@bbb.example", "198.51.100.1", None],
         ["ccc.example", "b@ccc.example", "198.51.100.1", None]],
    ),
    "what is left over has a domain as others have it": (
        ["H=mx.hoster.example [192.0.2.1] Connection refused", TOOK.replace("bbb.", "도메인."), "Completed"],
        [["xn--hq1bm8jm9l.example", None, "192.0.2.1", "refused"], ["xn--hq1bm8jm9l.example", "b@도메인.example", "198.51.100.1", None]],
    ),
    "two hosts that were waited for longer than five minutes": (
        ["H=mx1.aaa.example [192.0.2.1] Connection timed out", "H=mx2.aaa.example [192.0.2.2] Connection timed out",
         REFUSED.replace("(111): Connection refused", "(110): Connection timed out")],
        [["aaa.example", None, "192.0.2.1", "timeout"], ["aaa.example", "a@aaa.example", "192.0.2.2", "timeout"]],
    ),
    "no transport ran, so no host was asked": (
        ["H=mx.aaa.example [192.0.2.1] Connection refused", REFUSED, "== b@bbb.example R=dnslookup defer (-1): lookup of host: try again"],
        [["aaa.example", "a@aaa.example", "192.0.2.1", "refused"], ["bbb.example", "b@bbb.example", None, "dns_servfail"]],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "rows"), PAIRS.values(), ids=PAIRS)
def test_exims_final_line_has_its_own_host(lines: list[str], rows: list[Any], tmp_path: Path) -> None:
    late = E.replace("09:14", "09:20")  # a second time-out comes after six minutes
    table = read(tmp_path, *((late if n and "timed" in line else E) + line for n, line in enumerate(lines)))
    assert values(table, "domain recipient mx_ip error") == rows


def test_a_host_of_another_domain_is_not_accused(tmp_path: Path) -> None:
    lines = [
        f"2026-03-02 09:{n:02}:00 1xAb{n:02}-0001Ef-2G {line.replace('mx.bbb', f'mx{n % 2}.bbb').replace('100.1', f'100.{n % 2}')}"
        for n in range(30)
        for line in ("H=mx.aaa.example [192.0.2.1] Connection refused", TOOK, REFUSED)
    ]
    table = read(tmp_path, *lines)
    found = table.groupby("domain").mx_ip.unique().map(sorted).to_dict()
    assert found == {"aaa.example": ["192.0.2.1"], "bbb.example": ["198.51.100.0", "198.51.100.1"]}


SENDMAIL = "Mar  2 23:59:58 relay1 sendmail[5120]: 6220E5aB005120: "
SMTPD = "Mar  2 23:59:58 relay1 smtpd[77]: 83cc6ff1e6f7b26b "
TO = "to=<k@e.example>, delay=00:00:01, xdelay=00:00:01, mailer=esmtp, pri=1, relay=mx1.e.example. [192.0.2.1], dsn=2.0.0, stat=Sent (ok)"
HANDSHAKE = "Mar  2 23:59:58 relay1 sendmail[5120]: STARTTLS=client, relay=mx1.e.example., version=TLSv1.3, verify=OK, cipher=A, bits=256/256"
TOOK_IT = 'mta delivery evpid=5943e9580d0fe84b from=<n@o.example> to=<k@e.example> rcpt=<-> source="198.51.100.7" '
TOOK_IT += 'relay="192.0.2.1 (ptr.e.example)" delay=1s result="Ok" stat="250 ok"'
KUMO = {
    "type": "TransientFailure", "id": "d7", "sender": "n@o.example", "recipient": "k@e.example", "timestamp": 1772410445,
    "peer_address": {"name": "mx1.e.example.", "addr": "192.0.2.25"}, "source_address": {"address": "198.51.100.7:53210"},
}  # fmt: skip
OWN = "KumoMTA internal: failed to "
REACH = "connect to 192.0.2.25:25 and read initial banner: Connection refused (os error 111)"


def kumo(content: str, code: int = 400, command: str | None = None, **more: Any) -> str:
    return json.dumps(KUMO | {"response": {"code": code, "content": content, "command": command}} | more)


CASES: dict[str, tuple[list[str], str, list[Any], dict[str, int]]] = {
    "Exim: a host whose name DNSSEC made sure, and DANE": (
        [E + '=> k@e.example R=d T=t H=mx2.e.example DS [192.0.2.26]:25 X=TLS1.3:A:256 CV=dane C="250 OK"',
         F + "** l@e.example R=d T=t H=mx2.e.example DS [192.0.2.26]: SMTP error from remote mail server after RCPT TO:<l@e.example>: 550 5.7.1 no"],
        "mx_host mx_ip port tls_verified code",
        [["mx2.e.example", "192.0.2.26", 25, True, 250], ["mx2.e.example", "192.0.2.26", None, None, 550]], {"problems": 0},
    ),
    "Exim: a filter and a mailbox on this machine, also when they refuse": (
        [E + '=> k@e.example R=amavis T=amavis H=127.0.0.1 [127.0.0.1]:10024 C="250 2.6.0 from MTA(smtp:[127.0.0.1]:10025): 250 OK id=1"',
         E + '=> k@e.example R=dovecot T=lmtp H=localhost [::1] C="250 2.0.0 Saved"', F + "H=localhost [127.0.0.1]:10024 Connection refused",
         F + '=> k@e.example R=d T=t H=mx.e.example [127.0.0.9] C="250 OK"'],
        "mx_ip kind", [["127.0.0.9", "final"]], {"local": 3, "problems": 0},
    ),
    "Exim: TLS and our address where a server refuses, quotes in what it says": (
        [E + 'H=mx1.e.example [192.0.2.1]:25 I=[198.51.100.7]:5 X=TLS1.2:A:256 CV=yes DN="/CN=x, O=y": Remote host closed connection in response to end of data',
         F + "** l@e.example R=d T=t H=mx2.e.example [192.0.2.2] X=TLS1.3:B:256 CV=no I=[198.51.100.7]:9: SMTP error from remote mail server after RCPT TO:<l@e.example>: 550 no X=Z:Y I=[1.1.1.1]",
         F + '=> k@e.example R=d T=t H=mx2.e.example [192.0.2.2] C="250-a\\n250 \\"x\\" b\\\\ok"'],
        "mx_ip tls tls_cipher tls_verified local_ip reply",
        [["192.0.2.1", "TLS1.2", "A", True, "198.51.100.7", None], ["192.0.2.2", "TLS1.3", "B", False, "198.51.100.7", "550 no X=Z:Y I=[1.1.1.1]"],
         ["192.0.2.2", None, None, None, None, '250-a\n250 "x" b\\ok']],
        {"problems": 0},
    ),
    "Exim: what its own server says of clients": (
        [E + "H=client.example (x) [203.0.113.9]:4000 X=TLS1.3:a:256 CV=no F=<a@b.example> rejected after DATA: mailer loop detected",
         E + 'H=client.example (x) [203.0.113.9]:4000 Warning: "SpamAssassin detected message as NOT spam (-0.1)"',
         E + 'H=client.example (x) [203.0.113.9]:4000 F=<"a b"@b.example> temporarily rejected after DATA: clamd: connection refused',
         E + "H=client.example [203.0.113.9]: temporarily rejected after DATA: clamd: connection refused",
         E + "SMTP connection lost after final dot H=client.example [203.0.113.5]:4000 P=esmtp",
         E + "H=mx.e.example [192.0.2.1]: SMTP error from remote mail server after end of data: 554 rejected after DATA: F=<x>",
         E + TOOK],
        "mx_ip code", [["192.0.2.1", 554], ["198.51.100.1", 250]], {"problems": 0},
    ),
    "Exim: names that DNS does not give": (
        [E + "== a@a.example R=dnslookup defer (-1): host lookup did not complete",
         E + "** b@a.example R=dnslookup: an MX or SRV record indicated no SMTP service",
         E + "** c@a.example: all relevant MX records point to non-existent hosts",
         E + "** d@a.example: Unrouteable address", E + '** e@[IPv6:2001:db8::1]: Unrouteable address'],
        "recipient stage error mx_ip",
        [["a@a.example", "dns", "dns_servfail", None], ["b@a.example", "dns", "null_mx", None], ["c@a.example", "dns", "dns_nxdomain", None]], {"local": 2, "problems": 0},
    ),
    "Exim: a recipient in quotes": (
        [E + TOOK.replace("b@", '"kim \\\\\\" lee"@')], "recipient", [['"kim \\\\\\" lee"@bbb.example']], {"problems": 0},
    ),
    "Exim: TLS was asked for and not offered": (
        [E + "H=mx [192.0.2.1]: a TLS session is required, but the server did not offer TLS support", E + TOOK],
        "stage error", [["starttls", "not_offered"], ["body", None]], {"problems": 0},
    ),
    "Sendmail: two hosts refuse before a third": (
        [SENDMAIL + f"makeconnection (mx{n}.e.example. [192.0.2.{n}].25 (2)) failed: Connection refused by mx{n}.e.example." for n in (2, 3)]
        + [SENDMAIL + TO],
        "domain mx_ip outcome", [["e.example", f"192.0.2.{n}", how] for n, how in ((2, "failed"), (3, "failed"), (1, "accepted"))],
        {"problems": 0},
    ),
    "Sendmail: more recipients than it names": (
        [SENDMAIL + TO.replace("<k@e.example>", "<k@e.example>,<l@e.example>, [more]"),
         SENDMAIL + TO.replace("<k@e.example>", "<m@e.example>,n@e.example, [more], ctladdr=<n@o.example>")],
        "recipient", [[f"{name}@e.example"] for name in "klmn"], {"problems": 0},
    ),
    "Sendmail: TLS in the line itself, and a file": (
        [SENDMAIL + TO.replace("pri=", f"tls_verify={how}, tls_version=TLSv1.2, cipher=ECDHE-RSA, pri=") for how in ("OK", "NO")]
        + [SENDMAIL + "to=/var/log/x, ctladdr=<n@o.example>, delay=00:00:01, xdelay=00:00:00, mailer=*file*, pri=1, dsn=2.0.0, stat=Sent"],
        "tls tls_cipher tls_verified outcome", [["TLSv1.2", "ECDHE-RSA", True, "accepted"], ["TLSv1.2", "ECDHE-RSA", False, "accepted"]],
        {"local": 1, "problems": 0},
    ),
    "Sendmail: a handshake is its server's, and its process's on one host": (
        [HANDSHAKE, SENDMAIL + TO.replace("mx1", "mx2"), HANDSHAKE, SENDMAIL.replace("relay1", "relay2") + TO, SENDMAIL + TO,
         HANDSHAKE.replace("mx1.e.example.", "[192.0.2.1]"), SENDMAIL + TO.replace("mx1.e.example. ", "")],
        "mx_host vantage tls", [["mx2.e.example", "relay1", None], ["mx1.e.example", "relay2", None], ["mx1.e.example", "relay1", "TLSv1.3"],
                                [None, "relay1", "TLSv1.3"]],
        {"problems": 0},
    ),
    "Sendmail: names that DNS does not give": (
        [SENDMAIL + TO.replace("relay=mx1.e.example. [192.0.2.1], dsn=2.0.0, stat=Sent (ok)", end) for end in (
            "dsn=4.4.3, stat=Deferred: Name server: e.example.: host name lookup failure",
            "relay=e.example., dsn=5.1.2, stat=Host unknown (Name server: e.example.: host not found)")],
        "stage error mx_ip", [["dns", "dns_servfail", None], ["dns", "dns_nxdomain", None]], {"problems": 0},
    ),
    "OpenSMTPD: quotes and fields in the server's words": (
        [SMTPD + TOOK_IT.replace("Ok", "PermFail").replace("250 ok", said) for said in (
            '550 5.1.1 User "kim" unknown', '550 5.7.1 no result="Ok" see "y"', '550 5.7.1 no stat="250 ok" relay="192.0.2.9 (x)" to=<z@z.example>')],
        "recipient mx_ip outcome reply",
        [["k@e.example", "192.0.2.1", "rejected", said] for said in (
            '550 5.1.1 User "kim" unknown', '550 5.7.1 no result="Ok" see "y"', '550 5.7.1 no stat="250 ok" relay="192.0.2.9 (x)" to=<z@z.example>')],
        {"problems": 0},
    ),
    "OpenSMTPD: names that DNS does not give": (
        [SMTPD + TOOK_IT.replace("192.0.2.1 (ptr.e.example)", "e.example").replace('"Ok"', '"TempFail"').replace("250 ok", stat)
         for stat in ("Domain does not exist", "Temporary failure in MX lookup")],
        "stage error mx_ip", [["dns", "dns_nxdomain", None], ["dns", "dns_servfail", None]], {"problems": 0},
    ),
    "Sendmail: the hop to its own daemon": (
        [SENDMAIL + TO.replace("mx1.e.example. [192.0.2.1]", "[127.0.0.1] [127.0.0.1]"),
         SENDMAIL + "makeconnection (localhost. [127.0.0.1].25 (2)) failed: Connection refused by localhost.",
         SENDMAIL + TO.replace("mx1.e.example. [192.0.2.1]", "[192.0.2.1] [192.0.2.1]")],
        "mx_ip mx_host", [["192.0.2.1", None]], {"local": 2, "problems": 0},
    ),
    "KumoMTA: its own words are no reply, and may say that the mail arrived": (
        [kumo("blocked", 550, "MAIL FROM:<n@o.example>", type="Bounce"), kumo(OWN + "send message: Connection reset by peer", command=".")],
        "mx_ip outcome code stage error reply sender_ip",
        [["192.0.2.25", "rejected", 550, "mail", None, "550 blocked", "198.51.100.7"],
         ["192.0.2.25", "unknown", None, "body", "reset", None, "198.51.100.7"]],
        {"problems": 0},
    ),
    "KumoMTA: servers that could not be reached": (
        [kumo(OWN + "connect to any candidate hosts: " + REACH, peer_address=None),
         kumo(OWN + "connect to any candidate hosts: mx1.e.example./[2001:db8::1]:25: connect to mx1.e.example./[2001:db8::1]:25 and "
              "read initial banner: Network is unreachable, " + REACH, peer_address=None, recipient=["l@e.example", "m@e.example"]),
         kumo(OWN + "do something", peer_address=None)],
        "recipient mx_host mx_ip port stage error code kind",
        [["k@e.example", None, "192.0.2.25", 25, "connect", "refused", None, "connect_fail"]]
        + [[who, *at, None, "connect_fail"] for who in ("l@e.example", "m@e.example") for at in (
            ["mx1.e.example", "2001:db8::1", 25, "connect", "unreachable"], [None, "192.0.2.25", 25, "connect", "refused"])],
        {"suspended": 1, "problems": 0},
    ),
    "KumoMTA: records of another shape are counted": (
        [kumo("ok", 250, type="Delivery"), *('{"type":"Delivery","timestamp":1772410445,' + odd + "}" for odd in (
            '"response":"x"', '"peer_address":"192.0.2.1"', '"headers":[1]', '"num_attempts":"x"', '"size":""')),
         '{"type":"Delivery","timestamp":1e400}', '{"type":["x"],"timestamp":1}', '{"type":"Delivery","size":"12","sender":5,"timestamp":1}'],
        "outcome sender", [["accepted", "n@o.example"]], {"suspended": 1, "problems": 7},
    ),
    "PowerMTA: mails without a name are no retries of each other": (
        ["type,timeLogged,orig,rcpt,dsnDiag,dsnMta,jobId"]
        + [f"d,2026-03-02 09:14:05+0900,n@o.example,k@e.example,ok,mx (192.0.2.1),{job}" for job in ("", "", "j", "j")],
        "queue_id try_number", [[None, None], [None, None], ["j", 1], ["j", 2]], {"problems": 0},
    ),
    "OpenSMTPD: a filter on this machine, a server without a name": (
        [SMTPD + TOOK_IT.replace("192.0.2.1 (ptr.e.example)", "127.0.0.1 (localhost)"), SMTPD + TOOK_IT.replace("ptr.e.example", "")],
        "mx_ip mx_host", [["192.0.2.1", None]], {"local": 1, "problems": 0},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "names", "rows", "others"), CASES.values(), ids=CASES)
def test_what_a_line_says(lines: list[str], names: str, rows: list[Any], others: Any, tmp_path: Path) -> None:
    table = read(tmp_path, *lines)
    assert values(table, names) == rows
    assert beside(table) == others


SPLIT = {
    "exim": (
        [E + "<= n@o.example U=x P=local S=347 id=1.a@o.example", E + "H=mx1.aaa.example [192.0.2.1] Connection refused"],
        [E + REFUSED, E + REFUSED.replace("a@", "c@")],
        [["a@aaa.example", "192.0.2.1", "refused", "n@o.example", 347], ["c@aaa.example", "192.0.2.1", "refused", "n@o.example", 347]],
    ),
    "sendmail": (
        [SENDMAIL + "from=<n@o.example>, size=109, class=0, nrcpts=2, msgid=<1.a@o.example>, relay=root@localhost",
         SENDMAIL.replace("aB", "aC") + TO.replace("k@", "l@")],
        [SENDMAIL + TO],
        [["l@e.example", "192.0.2.1", None, None, None], ["k@e.example", "192.0.2.1", None, "n@o.example", 109]],
    ),
    "opensmtpd": (
        [SMTPD + "smtp message msgid=5943e958 size=282 nrcpt=1 proto=ESMTP", SMTPD + TOOK_IT.replace("k@", "l@").replace("84b", "84a"),
         SMTPD.replace("83c", "93c") + "mta connecting address=smtp://192.0.2.9:25 host=ptr2.e.example"],
        [SMTPD + TOOK_IT, SMTPD.replace("83c", "93c") + "mta error reason=BANNER rejected: 554 5.7.1 blocked"],
        [[None, "192.0.2.9", None, None, None], ["l@e.example", "192.0.2.1", None, "n@o.example", 282], ["k@e.example", "192.0.2.1", None, "n@o.example", 282]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("into", [False, True], ids=["frame", "set"])
@pytest.mark.parametrize("mta", SPLIT)
def test_a_message_over_two_files_on_two_workers(mta: str, into: bool, tmp_path: Path) -> None:
    *texts, rows = SPLIT[mta]
    for name, lines in zip(("m.log.1", "m.log"), texts, strict=True):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    with ThreadPoolExecutor(2) as pool:
        for kind, executor in (("alone", None), ("workers", pool)):
            folder = tmp_path / kind if into else None
            made = sk.read_log(tmp_path / "m.log*", year=2026, executor=executor, into=folder)
            table = made.frame() if into else made
            found = values(table, "recipient mx_ip error sender size_bytes")
            assert sorted(found, key=str) == sorted(rows, key=str), kind
            assert table.attempt_id.is_unique


POSTFIX = "2026-03-02T09:14:05+09:00 r postfix/smtp[41]: 4XkP2q3Zr1z9tQ: to=<k@e.example>, relay=mx[192.0.2.25]:25, delay=0.9, delays=0/0/0/0, dsn=2.0.0, status=sent (250 {Ok})"
POWER = "type,timeLogged,orig,rcpt,dsnDiag,dsnMta\nd,2026-03-02 09:14:05+0900,n@o.example,k@e.example,{},mx (192.0.2.1)\n"
SETS: dict[str, tuple[dict[str, str], list[str], int]] = {
    "PowerMTA's file, then Postfix's": ({"acct.csv": POWER.format("smtp;250 ok"), "mail.log": POSTFIX + "\n"}, ["192.0.2.1", "192.0.2.25"], 0),
    "KumoMTA's file, then Postfix's": ({"a.json": kumo("ok", 250) + "\n", "mail.log": POSTFIX + "\n"}, ["192.0.2.25"] * 2, 0),
    "PowerMTA's part without a header": ({"a.csv": POWER.format("smtp;250 ok"), "b.csv": POWER.partition("\n")[2]}, ["192.0.2.1"], 1),
    "a bare CR in the middle of a line": (
        {"a.csv": POWER.format("smtp;550 a\rb") + POWER.format("ok"), "app.log": "10%, \r20%, \rdone\n"}, ["192.0.2.1"], 1),
    "a field too long for a CSV": ({"a.csv": POWER.format("a" * 140_000) + POWER.format("ok")}, ["192.0.2.1"], 1),
}  # fmt: skip


@pytest.mark.parametrize(("texts", "ips", "problems"), SETS.values(), ids=SETS)
def test_a_folder_of_many_mtas(texts: dict[str, str], ips: list[str], problems: int, tmp_path: Path) -> None:
    for name, text in texts.items():
        (tmp_path / name).write_text(text, newline="")
    table = sk.read_log(tmp_path)
    assert table.mx_ip.tolist() == ips
    assert beside(table) == {"problems": problems}


def test_a_folder_takes_one_reading(tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    log.write_text(POSTFIX + "\n")
    assert len(sk.read_log(log, into=tmp_path / "set").frame()) == 1
    log.rename(tmp_path / "mail.log.1")
    log.write_text(POSTFIX.replace("09:14", "09:15") + "\n")
    with pytest.raises(InvalidInput, match=r"set' holds the rows of an earlier reading already; delete it"):
        sk.read_log(tmp_path / "mail.log*", into=tmp_path / "set")
    assert len(sk.read_log(tmp_path / "mail.log*", into=tmp_path / "new").frame()) == 2


def test_rows_of_two_readings_have_ids_of_their_own(tmp_path: Path) -> None:
    texts = {"a": POSTFIX, "b": POSTFIX, "again": POSTFIX.replace(" r ", " relay2 ")}
    for name, text in texts.items():
        (tmp_path / f"{name}.log").write_text(text + "\n")
    ids = [read(tmp_path, text).attempt_id[0] for text in texts.values()]
    assert ids[0] == ids[1] != ids[2], "by the host that logged"
    ids = [sk.read_log(tmp_path / f"{name}.log").attempt_id[0] for name in "ab"]
    assert ids[0] != ids[1], "by the file"


JOURNAL = {"__REALTIME_TIMESTAMP": "1772410445000000", "_HOSTNAME": "h", "SYSLOG_IDENTIFIER": "exim4", "_PID": "12"}
GONE = '1xAbCd-0001Ef-2G => k@e.example R=d T=t H=mx2.e.example [192.0.2.26] C="250 \\314\\201 OK"'
FRONTS = {
    "syslog, one stamp": "Mar  2 00:14:05 h exim[12]: " + GONE,
    "syslog, both stamps": "Mar  2 00:14:05 h exim[12]: 2026-03-02 00:14:05 " + GONE,
    "syslog without a process": "Mar  2 00:14:05 h exim: 2026-03-02 00:14:05 " + GONE,
    "syslog under another name": "Mar  2 00:14:05 h exim-out[12]: 2026-03-02 00:14:05 [12] " + GONE,
    "RFC 3339": "2026-03-02T09:14:05.000000+09:00 h exim[12]: " + GONE,
    "RFC 5424": "<22>1 2026-03-02T00:14:05Z h exim 12 - - 2026-03-02 00:14:05 " + GONE,
    "journald": json.dumps(JOURNAL | {"MESSAGE": GONE}),
    "journald, octets": json.dumps(JOURNAL | {"MESSAGE": list(("2026-03-02 00:14:05 " + GONE).encode())}),
}


@pytest.mark.parametrize("line", FRONTS.values(), ids=FRONTS)
def test_exim_behind_other_fronts(line: str, tmp_path: Path) -> None:
    table = read(tmp_path, E + TOOK, line, mta="exim")
    (row,) = values(table[table.line == 2], "vantage mx_ip recipient queue_id")
    assert row == ["h", "192.0.2.26", "k@e.example", "1xAbCd-0001Ef-2G"]
    assert str(table.started_at[1]) == "2026-03-02 00:14:05+00:00"
    assert beside(table) == {"problems": 0}


def test_a_line_of_exims_that_cannot_be_read_is_counted(tmp_path: Path) -> None:
    bad = ("09:14:05 ", "Mar  2 00:14:05 h exim[12]: [1/2] 2026-03-02 00:14:05 ", "2026-13-02 09:14:05 ")
    table = read(tmp_path, E + TOOK, *(front + GONE for front in bad), POSTFIX)
    assert beside(table) == {"problems": 3}
    assert [p["lines"] for p in table.attrs["problems"]] == [[2, 3, 4]]


def test_a_set_of_hosts_that_are_numbers_in_a_folder_with_brackets(tmp_path: Path) -> None:
    hosts = ["17", "18", "10.0.0.5", "2001:db8::1", "a%20b", "a/b"]
    (tmp_path / "log").write_text("".join(POSTFIX.replace(" r ", f" {host} ") + "\n" for host in hosts))
    kept = sk.read_log(tmp_path / "log", into=tmp_path / "logs [march]")
    assert sorted(kept.frame().vantage) == sorted(hosts)
    assert {host: kept.frame(host=host).vantage.tolist() for host in hosts} == {host: [host] for host in hosts}
    for day in ("2026-03-02", date(2026, 3, 2), [datetime(2026, 3, 2, 9)]):
        assert len(kept.frame(day=day, host="17")) == 1
    assert len(kept.frame(day=date(2026, 3, 3))) == 0


OWN_LOGS = {
    "another receiver": (
        [POSTFIX.replace("14:05", f"14:{n:02}").replace("mx[192.0.2.25]", "mx[192.0.2.26]") if n % 2 else
         POSTFIX.replace("14:05", f"14:{n:02}").replace("250", "host mx[192.0.2.25] said: 554 5.7.1 you are blocked").replace("sent", "bounced")
         for n in range(60)],
        "192.0.2.25 refused 30 of 30"),
    "nothing": ([], "no letter"),
    "only suspended mail": ([POSTFIX.replace("mx[192.0.2.25]:25", "none").replace("sent (250", "deferred (delivery temporarily suspended:")], "no letter"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("lines", "letter"), OWN_LOGS.values(), ids=OWN_LOGS)
def test_a_post_mortem_of_ones_own_log(lines: list[str], letter: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMTPKIT_STATE", str(tmp_path / "state"))
    (tmp_path / "mail.log").write_text("".join(f"{line}\n" for line in lines))
    assert run_notebook("05_postmortem", {"path": str(tmp_path / "mail.log")}, "done.ipynb").error == ""
    cells = json.loads((tmp_path / "done.ipynb").read_text())["cells"]
    (told,) = [cell["outputs"] for cell in cells if "sk.report(" in "".join(cell["source"])]
    assert letter in json.dumps(told)


HOSTS = """2026-03-02 09:14:05 1xAbCd-0001Ef-2G <= s@o.example P=l S=9
2026-03-02 09:14:05 1xAbCd-0001Ef-2G H=mx.b.example [192.0.2.1] Connection refused
"""
DEFERRED = "2026-03-02 09:14:0{} 1xAbCd-0001Ef-2G == {}@b.example R=d T=t defer (111): Connection refused\n"


@pytest.mark.parametrize("block", [16 << 20, 300])
def test_two_recipients_of_one_refused_host_in_two_blocks(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BLOCK", block)
    other = (
        '2026-03-02 09:14:05 1xAbC{}-0001Ef-2G => z@z.example R=d T=t H=mx.z.example [198.51.100.1] C="250 OK"\n'
    )
    (tmp_path / "log.1").write_text(HOSTS)
    (tmp_path / "log").write_text(
        DEFERRED.format(5, "a") + "".join(map(other.format, "efgh")) + DEFERRED.format(7, "c")
    )
    read = sk.read_log(tmp_path / "log*", "exim")
    assert sorted(read.recipient) == ["a@b.example", "c@b.example", *["z@z.example"] * 4]
    assert read.attempt_id.is_unique
    assert len(sk.read_log(tmp_path / "log*", "exim", into=tmp_path / "set").frame()) == 6


FRONTS = ["Mar 2 09:14:05 h ", "2026 Mar  2 09:14:05 h ", "Mar  2 09:14:05 h mail.info ", ""]


@pytest.mark.parametrize("front", FRONTS)
def test_exim_s_own_stamp_is_enough_behind_any_front(front: str, tmp_path: Path) -> None:
    line = '2026-03-02 09:14:05 1xAbCd-0001Ef-2G => k@b.example R=d T=t H=mx.b.example [192.0.2.1] C="250 OK"'
    (tmp_path / "log").write_text(f"{front}exim[12]: {line}\n")
    read = sk.read_log(tmp_path / "log", "exim")
    assert (read.mx_ip.tolist(), str(read.started_at[0])) == (["192.0.2.1"], "2026-03-02 09:14:05+00:00")


def test_a_quoted_word_in_a_reply_does_not_hide_a_container_s_line(tmp_path: Path) -> None:
    """What begins with two underscores was taken for the mark of journald's records."""
    said = 'said: 550 5.7.1 see "__policy" (in reply to RCPT TO command))'
    line = "Mar  2 09:14:05 relay1 postfix/smtp[4]: 4XkP2q3Zr1z9tQ: to=<r@d.example>, relay=mx.d.example[192.0.2.1]:25, "
    line += f"delay=1, delays=0/0/0/1, dsn=5.7.1, status=bounced (host mx.d.example[192.0.2.1] {said}"
    (tmp_path / "log").write_text(json.dumps({"log": f"{line}\n", "stream": "stdout"}) + "\n")
    assert sk.read_log(tmp_path / "log", year=2026).reply.tolist() == ['550 5.7.1 see "__policy"']
