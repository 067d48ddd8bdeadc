"""Preflight against real parts: rbldnsd, Knot (signing), NSD, Unbound (validating), rspamd, spamd; a dead DNS."""

import base64
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import rsa

import smtpkit as sk
from smtpkit import checks
from smtpkit.checks import dnsbl
from smtpkit.message import build_message
from tests.ports import free_port
from tests.servers import PORT, folder
from tests.servers.dns import Knot, Rbldnsd, Unbound, ask
from tests.servers.filters import Rspamd, Spamd
from tests.servers.nsd import Nsd
from tests.servers.postfix import Postfix

OURS, LISTED, MAIL = "198.51.100.7", "198.51.100.66", "mail.ours.example"
ZEN = "zen.spamhaus.org"
TEST = ":127.0.0.2:test entry\n127.0.0.2\n"


@cache
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def zone(digest: str) -> str:
    form = ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo
    public = base64.b64encode(key().public_key().public_bytes(*form)).decode()
    return f"""@ MX 10 mail
@ TXT "v=spf1 include:_spf.ours.example -all"
_spf TXT "v=spf1 ip4:{OURS} ~all"
mail A {OURS}
mail TXT "v=spf1 a -all"
_25._tcp.mail TLSA 3 1 1 {digest}
_dmarc TXT "v=DMARC1; p=reject; rua=mailto:d@ours.example"
s1._domainkey TXT "v=DKIM1; k=rsa; p={public[:200]}" "{public[200:]}"
_smtp._tls TXT "v=TLSRPTv1; rua=mailto:t@ours.example"
"""


REVERSE = f"""7 PTR {MAIL}.
66 PTR pool-66.isp.example.
"""
LISTS = {
    ZEN: [("ip4set", f"{TEST}:127.0.0.3:https://check.spamhaus.org/query/ip/$\n{LISTED}\n"),
          ("ip4set", f":127.0.0.10:PBL $\n{LISTED}\n")],
    "bl.spamcop.net": [("ip4set", ":127.255.255.254:Error: open resolver\n0.0.0.0/1\n128.0.0.0/1\n")],
    "psbl.surriel.com": [("ip4set", ":127.0.0.2:the whole world\n0.0.0.0/1\n128.0.0.0/1\n")],
    "b.barracudacentral.org": [("ip4set", TEST)],
    "dbl.spamhaus.org": [("dnset", ":127.0.1.4:phish\nbad.example\n")],
}  # fmt: skip


@dataclass
class World:
    """The running servers and smtpkit's own Internet on top of them; the MX is a Postfix."""

    lists: Rbldnsd
    resolver: Unbound
    network: Any


def internet(port: int, at: Path, **more: Any) -> Any:
    store = {"casebook": at / "casebook.sqlite", "ledger": at / "ledger.sqlite", "pace": sk.Pace.none()}
    return sk.internet(
        nameservers=[("127.0.0.1", port)], sender_ip=OURS, helo=MAIL, dns_timeout=2.0, **store, **more
    )


def shown(server: tuple[str, int]) -> str:
    """The digest of the key that a mail server shows, as openssl's client sees it: TLSA 3 1 1."""
    run = ["openssl", "s_client", "-starttls", "smtp", "-connect", f"{server[0]}:{server[1]}"]
    done = subprocess.run(run, input=b"QUIT\r\n", capture_output=True, timeout=20, check=False)
    key = x509.load_pem_x509_certificate(done.stdout).public_key()
    return sha256(key.public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)).hexdigest()


WORKER = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
"""Each process that runs tests has a world of its own, side by side."""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with folder() as at:
        started: list[Any] = []

        def start(server: Any) -> Any:
            started.append(server.start())
            return started[-1]

        try:
            mx = start(Postfix(at / "postfix", f"127.0.{WORKER}.31", MAIL, domain="ours.example"))
            signer = start(Knot(at / "knot", {"ours.example": zone(shown((mx.ip, PORT)))}))
            reverse = start(
                Nsd(
                    at / "nsd",
                    free_port(),
                    {"100.51.198.in-addr.arpa": REVERSE, "broken.example": "@ A 192.0.2.1\n"},
                )
            )
            lists = start(Rbldnsd(at / "lists", LISTS))
            stubs = {"ours.example": signer.port, **dict.fromkeys(LISTS, lists.port)}
            stubs |= dict.fromkeys(("100.51.198.in-addr.arpa", "broken.example"), reverse.port)
            anchors = signer.anchor("ours.example")
            anchors += anchors.replace("ours.example.", "broken.example.")
            resolver = start(Unbound(at / "unbound", stubs, anchors))
            ways = {(OURS, 25): (mx.ip, PORT)}
            yield World(lists, resolver, internet(resolver.port, at, reroute=ways))
        finally:
            for server in reversed(started):
                server.stop()


def message() -> Any:
    plain = build_message(sender="Jo <me@ours.example>", to="r@daum.example", subject="Hello", text="Hello Kim.\n")
    return plain.sign(key(), "s1", "ours.example")


def test_a_signed_sender_passes_with_dnssec(world: World) -> None:
    checked = checks.preflight("ours.example", network=world.network, message=message())
    status = checked.drop_duplicates("check").set_index("check").status
    good = [
        "spf",
        "spf_helo",
        "spf_record",
        "dkim_key",
        "dkim",
        "dmarc_record",
        "dmarc",
        "ptr",
        "helo",
        "mx",
        "soa",
    ]
    assert status[[*good, "tls_rpt", "tlsa"]].eq("pass").all(), checked[checked.status != "pass"].to_string()
    tlsa = checked.set_index("check").evidence["tlsa"]
    assert tlsa.endswith(f"; AD; {OURS} fits")
    spf = checked.set_index("check").evidence["spf"]
    assert spf.startswith(f"pass: include:_spf.ours.example, ip4:{OURS}; 1 of 10")


def test_without_a_validating_resolver_tlsa_is_not_checked(world: World, tmp_path: Path) -> None:
    stubs = {zone: world.resolver.stubs[zone] for zone in ("ours.example",)}
    with folder() as at:
        plain = Unbound(at / "plain", stubs).start()
        try:
            checked = checks.preflight("ours.example", network=internet(plain.port, tmp_path))
        finally:
            plain.stop()
    row = checked.set_index("check").loc["tlsa"]
    assert (row.status, row.evidence.endswith("no AD bit")) == ("unknown", True)


def test_broken_dnssec_is_unknown_and_never_no_record(world: World) -> None:
    assert ask(world.resolver.port, "broken.example", "A").rcode() == 2, "Unbound says SERVFAIL"
    checked = checks.preflight("broken.example", OURS, MAIL, network=world.network)
    mine = checked[checked.subject.str.contains("broken.example") & checked.check.ne("rule")]
    assert set(mine[mine.check.isin(["spf", "spf_record", "dmarc_record", "mx", "soa", "mta_sts"])].status) == {
        "unknown"
    }
    assert not mine.evidence.str.contains("no record|no SPF").any()


def test_real_lists_listed_refused_dead_and_clear(world: World) -> None:
    table = dnsbl.lookup(LISTED, world.network, LISTS).set_index("zone")
    assert table.state.astype("str").to_dict() == {
        ZEN: "listed",
        "bl.spamcop.net": "refused",
        "psbl.surriel.com": "dead",
        "b.barracudacentral.org": "not listed",
    }
    zen = table.loc[ZEN]
    assert set(zen.codes.split("; ")) == {"127.0.0.3", "127.0.0.10"}
    assert set(zen.meaning.split(", ")) == {"CSS", "PBL by ISP"}
    assert f"https://check.spamhaus.org/query/ip/{LISTED}" in zen.text
    names = dnsbl.lookup("bad.example", world.network, LISTS)
    assert names[["zone", "meaning"]].values.tolist() == [["dbl.spamhaus.org", "phish"]]
    assert dnsbl.lookup("ours.example", world.network, LISTS).state.tolist() == ["not listed"]


def test_a_delisting_is_seen_and_kept_as_history(world: World) -> None:
    gone = "198.51.100.99"
    lines = LISTS[ZEN][0][1]
    world.lists.write(ZEN, 0, f"{lines}{gone}\n")
    deadline = time.monotonic() + 20
    tables = []
    while len(tables) < 2 and time.monotonic() < deadline:
        state = dnsbl.lookup(gone, world.network, [ZEN])
        if state.state[0] == ("listed", "not listed")[len(tables)]:
            tables.append(state)
            world.lists.write(ZEN, 0, lines)
        time.sleep(0.3)
    spells = dnsbl.history(world.network.casebook)
    spells = spells[spells.subject == gone].reset_index()
    assert spells.state.tolist()[-2:] == ["listed", "not listed"]
    assert spells.since.iloc[-1] > spells.until.iloc[-2]


@pytest.fixture(scope="module")
def rspamd(world: World) -> Iterator[Rspamd]:
    with folder() as at:
        server = Rspamd(at / "rspamd", world.resolver.port).start()
        yield server
        server.stop()


ENVELOPE = {"helo": MAIL, "sender": "me@ours.example", "recipient": "r@daum.example"}


def test_rspamd_scores_a_good_and_a_listed_sender(rspamd: Rspamd) -> None:
    good = checks.score(message(), ip=OURS, rspamd=rspamd.url, **ENVELOPE)
    assert good.score[0] < 2, good.to_string()
    assert {"R_SPF_ALLOW", "R_DKIM_ALLOW", "DMARC_POLICY_ALLOW"} <= set(good.symbol)
    unsigned = build_message(sender="me@ours.example", to="r@daum.example", subject="Hello", text="Hello.\n")
    listed = checks.score(unsigned, ip=LISTED, rspamd=rspamd.url, **ENVELOPE)
    assert listed.score[0] > good.score[0] + 3
    assert listed.symbol.str.contains("SPAMHAUS").any()


def test_rspamd_with_a_dead_resolver_is_refused() -> None:
    with folder() as at:
        server = Rspamd(at / "rspamd", free_port()).start()
        try:
            table = checks.score(message(), ip=OURS, rspamd=server.url, **ENVELOPE)
        finally:
            server.stop()
    assert table.verdict.tolist() == ["refused"]
    assert table.score.isna().all()
    assert "R_SPF_DNSFAIL" in table.description[0]


def test_spamd_gives_a_second_opinion() -> None:
    with folder() as at:
        server = Spamd(at / "spamd").start()
        try:
            good = checks.score(message(), ip="9.9.9.10", spamd=server.place, **ENVELOPE)
            gtube = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
            bad = build_message(sender="me@ours.example", to="r@daum.example", subject="x", text=gtube)
            spam = checks.score(bad, ip="9.9.9.10", spamd=server.place, **ENVELOPE)
        finally:
            server.stop()
    assert good.verdict[0] == "ham", good.to_string()
    assert (spam.verdict[0], spam.set_index("symbol").points["GTUBE"]) == ("spam", 1000.0)


def test_a_dead_name_server_leaves_everything_unknown_within_the_deadline(tmp_path: Path) -> None:
    begun = time.monotonic()
    checked = checks.preflight("ours.example", network=internet(free_port(), tmp_path), deadline=6)
    assert time.monotonic() - begun < 9
    assert set(checked.status) == {"unknown"}


def test_a_recording_of_real_dns_is_shown_again_offline(world: World, tmp_path: Path) -> None:
    path, mail = tmp_path / "then.jsonl", message()
    then = checks.preflight("ours.example", network=world.network, message=mail, record=path)
    again = checks.preflight("ours.example", OURS, MAIL, network=checks.Replay(path), message=mail)
    pd.testing.assert_frame_equal(then, again)
    assert checks.page(again).count("<tr") > 20
