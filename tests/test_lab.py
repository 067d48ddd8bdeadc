"""The lab, seen by independent clients: smtplib, raw sockets, ssl, dnspython."""

import gc
import os
import re
import select
import smtplib
import socket
import ssl
import struct
import sys
import threading
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import dns.message
import dns.query
import dns.rdatatype
import pytest

from smtpkit.catalogue import data
from smtpkit.errors import InvalidInput, NotAllowed
from smtpkit.lab import Lab, LabNetwork, Seen, names
from smtpkit.lab.rules import Clock, wire
from smtpkit.lab.scenario import load
from tests.tallies import tallies

ONE = {"domain": "r.example", "mx": [{"name": "mx.r.example", "ips": ["192.0.2.1"]}]}
OPENING = [b"EHLO c.example\r\n", b"MAIL FROM:<a@ours.example>\r\n", b"RCPT TO:<r@r.example>\r\n"]


def world(*rules: dict[str, object], **more: object) -> dict[str, object]:
    """One server, some rules."""
    return {**ONE, "rule": list(rules), **more}


def one_mx(**traits: object) -> dict[str, object]:
    return {"domain": "r.example", "mx": [{"name": "mx.r.example", "ips": ["192.0.2.1"], **traits}]}


def dial(network: LabNetwork, ip: str = "192.0.2.1") -> socket.socket:
    sock = network.open(ip, 25)
    assert select.select([], [sock], [], 5)[1]
    sock.settimeout(5)
    return sock


def reply(sock: socket.socket) -> bytes:
    """One whole reply, and not an octet more."""
    got = b""
    while not (got.endswith(b"\r\n") and got.splitlines()[-1][3:4] == b" "):
        octet = sock.recv(1)
        if not octet:
            return got
        got += octet
    return got


def talk(network: LabNetwork, *commands: bytes, ip: str = "192.0.2.1") -> list[bytes]:
    """The first lines of the banner and of the replies to `commands`, in lock step."""
    with dial(network, ip) as sock:
        said = [reply(sock)]
        for command in commands:
            sock.sendall(command)
            said.append(reply(sock))
    return [one.splitlines()[0] if one else b"" for one in said]


def codes(network: LabNetwork, *commands: bytes, ip: str = "192.0.2.1") -> list[int]:
    return [int(line[:3]) if line else 0 for line in talk(network, *commands, ip=ip)]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(ONE) as lab:
        yield lab


class TestScenarioFiles:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            pytest.param("", "key 'domain': '' is missing", id="empty"),
            pytest.param("domian = 'x'", "key 'domian': 'x' is no key here; there are: about, domain", id="key"),
            pytest.param("domain = 3", "key 'domain': 3 is not of type str", id="type"),
            pytest.param("domain='d'\nspeed = 0", "key 'speed': 0.0 is too small", id="speed"),
            pytest.param("domain='d'\nseed = true", "key 'seed': True is not of type int", id="bool"),
            pytest.param("domain='d'\nmx = 'x'", "key 'mx': ('x',) is not a list of tables", id="mx"),
            pytest.param("domain='d'\n[[mx]]\nname='m'", "[[mx]] 1: key 'ips': '' is missing", id="ips"),
            pytest.param(
                "domain='d'\n[[mx]]\nname='m'\nips='8.8.8.8'",
                "[[mx]] 1: key 'ips': '8.8.8.8' is no documentation address",
                id="global",
            ),
            pytest.param(
                "domain='d'\n[[mx]]\nname='m'\nips='192.0.2.1'\ntls='bad'",
                "key 'tls': 'bad' is none of: good, none, expired, wrong_name, broken",
                id="choice",
            ),
            pytest.param(
                "domain='d'\n[[rule]]\nstage='mail'\n[[rule]]\nstage='lunch'",
                "[[rule]] 2: key 'stage': 'lunch' is none of: banner, ehlo",
                id="stage",
            ),
            pytest.param(
                "domain='d'\n[[rule]]\nreply='550 x'", "[[rule]] 1: key 'stage': '' is missing", id="when"
            ),
            pytest.param(
                "domain='d'\n[[rule]]\nstage='mail'\nreply='no'",
                "key 'reply': 'no' is no reply; write",
                id="reply",
            ),
            pytest.param(
                "domain='d'\n[[rule]]\nstage='mail'\nchance=2", "key 'chance': 2.0 is no chance", id="chance"
            ),
            pytest.param(
                "domain='d'\n[[rule]]\nstage='mail'\nper_hour=-1", "'per_hour': -1 is too small", id="count"
            ),
            pytest.param(
                "domain='d'\n[[rule]]\nstage='mail'\nip='192.0.2.99'",
                "[[rule]] 1: key 'ip': '192.0.2.99' is no server's; there are: 203.0.113.25",
                id="a rule of no server's address",
            ),
            pytest.param(
                "domain='d'\nmx=[{name='mx1.d.example', ips='192.0.2.1'}]\n[[rule]]\nstage='mail'\nhost='mx2.*'",
                "[[rule]] 1: key 'host': 'mx2.*' is no server's; there are: mx1.d.example",
                id="a rule of no server's name",
            ),
            pytest.param("domain='d'\n[[truth]]\nkind='gremlins'", "key 'kind': 'gremlins' is none of", id="kind"),
            pytest.param(
                "domain='d'\n[texts]\nbye='221 x'",
                "key 'bye': '221 x' is no key here; there are: banner",
                id="texts",
            ),
            pytest.param("domain='d'\n[texts]\nquit='x'", "key 'quit': 'x' is no reply", id="text"),
            pytest.param("domain='d'\n[zone]\nx='y'", "key 'x': 'y' is not of type dict", id="zone"),
            pytest.param(
                "domain='d'\n[zone.'x.example']\nstatus='gone'",
                "key 'status': 'gone' is none of: servfail",
                id="status",
            ),
            pytest.param(
                "domain='d'\n[zone.'x.example']\nTXT=[1]", "key 'TXT': (1,) is not a list of str", id="rows"
            ),
            pytest.param("domain = ", "cannot be read", id="no TOML"),
        ],
    )
    def test_a_mistake_names_file_key_and_value(self, tmp_path: Path, text: str, words: str) -> None:
        path = tmp_path / "mine.toml"
        path.write_text(text)
        with pytest.raises(InvalidInput) as caught:
            Lab(path)
        assert words in str(caught.value)
        assert "mine.toml" in str(caught.value)

    @pytest.mark.parametrize("name", ["stale", "", "healthy.json", "../healthy"])
    def test_an_unknown_name_lists_the_known_ones(self, name: str) -> None:
        with pytest.raises(InvalidInput, match=r"there are: .*healthy.*stale_blacklist.*\.toml file"):
            Lab(name)

    def test_a_missing_file_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="cannot be read"):
            Lab(tmp_path / "none.toml")

    def test_the_readme_s_example_is_a_scenario(self) -> None:
        text = (data("scenarios") / "README.md").read_text("utf-8")
        scenario = load(tomllib.loads(text.split("```toml\n")[1].split("```")[0]))
        assert [mx.name for mx in scenario.mx][:2] == ["mx1.daum.example", "mx2.daum.example"]
        assert scenario.truth[0].only_for == {"sender_ip": ["198.51.100.8"]}

    def test_a_file_of_one_s_own(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.toml"
        path.write_text("domain='r.example'\n[[mx]]\nname='mx.r.example'\nips='192.0.2.1'\n")
        with Lab(path) as lab:
            assert codes(lab.network, *OPENING) == [220, 250, 250, 250]


class TestDialogue:
    def test_smtplib_delivers_the_octets_that_it_was_given(self, lab: Lab) -> None:
        body = (
            b"From: a@ours.example\r\nSubject: dots\r\n\r\n.\r\n..\r\n.lead\r\nend.\r\n"
            + b"x" * 990
            + b"\r\n\xea\xb0\x80\r\n"
        )
        host, port = lab.network.where("192.0.2.1", 25)
        with smtplib.SMTP(host, port, "c.example") as client:
            assert client.sendmail("a@ours.example", ["r@r.example", "s@r.example"], body) == {}
        (mail,) = lab.mailbox
        assert mail.octets == body
        assert (mail.sender, mail.recipients) == ("a@ours.example", ("r@r.example", "s@r.example"))
        assert (mail.ip, mail.host, mail.client, mail.helo, mail.tls) == (
            "192.0.2.1", "mx.r.example", "198.51.100.7", "c.example", False,
        )  # fmt: skip

    def test_a_megabyte_arrives_whole(self, lab: Lab) -> None:
        body = b"Subject: big\r\n\r\n" + (b"." + os.urandom(36).hex().encode() + b"\r\n") * 14_000
        host, port = lab.network.where("192.0.2.1", 25)
        with smtplib.SMTP(host, port, "c.example") as client:
            client.sendmail("a@ours.example", ["r@r.example"], body)
        assert len(body) > 1 << 20
        assert lab.mailbox[0].octets == body

    @pytest.mark.parametrize("step", [1, 7, 4096], ids="{}-octets".format)
    def test_the_end_is_found_however_the_octets_come(self, lab: Lab, step: int) -> None:
        whole = b"".join(OPENING) + b"DATA\r\n"
        content = b"..\r\nA: b\r\n\r\n...x\r\n.\r\nQUIT\r\n"
        with dial(lab.network) as sock:
            reply(sock)
            sock.sendall(OPENING[0])
            reply(sock)
            sock.sendall(whole.removeprefix(OPENING[0]))
            assert [reply(sock)[:3] for _ in range(3)] == [b"250", b"250", b"354"]
            for at in range(0, len(content), step):
                sock.sendall(content[at : at + step])
            assert [reply(sock)[:3] for _ in range(2)] == [b"250", b"221"]
        assert lab.mailbox[0].octets == b".\r\nA: b\r\n\r\n..x\r\n"

    def test_an_empty_message_is_a_message(self, lab: Lab) -> None:
        assert codes(lab.network, *OPENING, b"DATA\r\n", b".\r\n")[-1] == 250
        assert lab.mailbox[0].octets == b""

    def test_a_group_of_commands_gets_its_replies_in_order(self, lab: Lab) -> None:
        with dial(lab.network) as sock:
            reply(sock)
            sock.sendall(b"EHLO c.example\r\n")
            assert b"250-PIPELINING\r\n" in reply(sock)
            sock.sendall(
                b"MAIL FROM:<a@ours.example> SIZE=10 BODY=8BITMIME\r\nRCPT TO:<r@r.example>\r\n"
                b"RCPT TO:<x@elsewhere.example>\r\nRCPT TO:<s@r.example>\r\nDATA\r\n"
            )
            assert [reply(sock)[:9] for _ in range(5)] == [
                b"250 2.1.0", b"250 2.1.5", b"554 5.7.1", b"250 2.1.5", b"354 End d",
            ]  # fmt: skip
        assert lab.mailbox == []

    @pytest.mark.parametrize(
        ("commands", "want"),
        [
            pytest.param([b"MAIL FROM:<a@b.example>\r\n"], 503, id="MAIL before EHLO"),
            pytest.param([b"EHLO\r\n"], 501, id="EHLO without name"),
            pytest.param([b"EHLO a b\r\n"], 501, id="EHLO with two names"),
            pytest.param([OPENING[0], OPENING[2]], 503, id="RCPT before MAIL"),
            pytest.param([OPENING[0], b"DATA\r\n"], 503, id="DATA before RCPT"),
            pytest.param([*OPENING[:2], OPENING[1]], 503, id="MAIL twice"),
            pytest.param([*OPENING[:2], OPENING[0], OPENING[2]], 503, id="EHLO forgets MAIL"),
            pytest.param([*OPENING[:2], b"RSET\r\n", OPENING[2]], 503, id="RSET forgets MAIL"),
            pytest.param([*OPENING, b"DATA now\r\n"], 501, id="DATA with words"),
            pytest.param([OPENING[0], b"MAIL FROM:a@b.example\r\n"], 501, id="path without brackets"),
            pytest.param([OPENING[0], b"MAIL TO:<a@b.example>\r\n"], 501, id="wrong word"),
            pytest.param([OPENING[0], b"MAIL FROM: Me <a@b.example>\r\n"], 250, id="as Sendmail takes it"),
            pytest.param([OPENING[0], b"MAIL FROM:<a@b.example> SIZE=9 BODY=8BITMIME\r\n"], 250, id="parameters"),
            pytest.param([OPENING[0], b"MAIL FROM:<>\r\n"], 250, id="null sender"),
            pytest.param([OPENING[0], b'mail from:<"a b\\"c"@b.example>\r\n'], 250, id="quoted local part"),
            pytest.param([*OPENING[:2], b"RCPT TO:<>\r\n"], 501, id="empty recipient"),
            pytest.param([*OPENING[:2], b"RCPT TO:<Postmaster>\r\n"], 250, id="postmaster"),
            pytest.param([*OPENING[:2], b"RCPT TO:<r@R.EXAMPLE>\r\n"], 250, id="domain in capitals"),
            pytest.param([b"NOOP\r\n"], 250, id="NOOP"),
            pytest.param([b"VRFY r\r\n"], 252, id="VRFY"),
            pytest.param([b"XYZZY\r\n"], 502, id="unknown"),
            pytest.param([b"NOOP\n"], 500, id="bare LF"),
            pytest.param([b"NO\x00OP\r\n"], 500, id="NUL"),
            pytest.param([OPENING[0], b"STARTTLS now\r\n"], 501, id="STARTTLS with words"),
            pytest.param([b"HELO c.example\r\n", b"STARTTLS\r\n"], 503, id="STARTTLS after HELO"),
            pytest.param([*OPENING, b"DATA\r\n", b"a\nb\r\n.\r\n"], 550, id="bare LF in the message"),
            pytest.param([*OPENING, b"DATA\r\n", b"a\n.\nb\r\n.\r\n"], 550, id="LF dot LF ends nothing"),
            pytest.param([*OPENING, b"DATA\r\n", b"a\rb\r\n.\r\n"], 550, id="bare CR in the message"),
        ],
    )
    def test_order_and_syntax(self, lab: Lab, commands: list[bytes], want: int) -> None:
        said = codes(lab.network, *commands, b"QUIT\r\n")
        assert said[len(commands)] == want
        assert said[-1] == 221
        assert lab.mailbox == []

    def test_the_client_s_address_is_the_one_that_was_told(self, lab: Lab) -> None:
        with dial(lab.network_from("198.51.100.99")) as sock:
            reply(sock)
            sock.sendall(OPENING[0])
            assert b"mx.r.example greets c.example [198.51.100.99]" in reply(sock)
        assert {seen.client for seen in lab.log} == {"198.51.100.99"}

    def test_over_ipv6_we_speak_from_our_ipv6_address(self) -> None:
        with Lab(one_mx(ips=["2001:db8::1"])) as lab:
            assert b"[2001:db8:5::7]" in talk(lab.network, OPENING[0], ip="2001:db8::1")[1]


class TestTls:
    @pytest.mark.parametrize(
        ("kind", "problem"),
        [
            pytest.param("good", None, id="good"),
            pytest.param("expired", "certificate has expired", id="expired"),
            pytest.param("wrong_name", "Hostname mismatch", id="wrong name"),
            pytest.param("broken", "HANDSHAKE_FAILURE", id="broken"),
        ],
    )
    def test_each_certificate_has_its_one_fault(self, kind: str, problem: str | None) -> None:
        with Lab(one_mx(tls=kind)) as lab, dial(lab.network) as sock:
            context = ssl.create_default_context(cafile=str(lab.ca_file))
            said = [reply(sock)]
            for command in (OPENING[0], b"STARTTLS\r\n"):
                sock.sendall(command)
                said.append(reply(sock))
            assert b"250 STARTTLS\r\n" in said[1]
            assert said[2] == b"220 2.0.0 Ready to start TLS\r\n"
            if problem:
                with pytest.raises(ssl.SSLError, match=problem):
                    context.wrap_socket(sock, server_hostname="mx.r.example")
                return
            with context.wrap_socket(sock, server_hostname="mx.r.example") as tls:
                assert tls.version() == "TLSv1.3"
                tls.sendall(OPENING[1])
                assert reply(tls)[:3] == b"503"  # all that was said in clear is forgotten
                tls.sendall(OPENING[0])
                assert b"STARTTLS" not in reply(tls)
                for command, want in ((OPENING[1], b"250"), (OPENING[2], b"250"), (b"DATA\r\n", b"354")):
                    tls.sendall(command)
                    assert reply(tls)[:3] == want
                tls.sendall(b"hi\r\n.\r\nQUIT\r\n")
                assert [reply(tls)[:3] for _ in range(2)] == [b"250", b"221"]
            assert lab.mailbox[0].tls
            assert lab.mailbox[0].octets == b"hi\r\n"

    def test_where_it_is_not_offered_it_is_refused(self) -> None:
        with Lab(one_mx(tls="none")) as lab:
            said = talk(lab.network, OPENING[0], b"STARTTLS\r\n")
            assert said[2] == b"503 5.5.1 STARTTLS is not offered"

    def test_what_follows_starttls_in_clear_is_never_obeyed(self, lab: Lab) -> None:
        with dial(lab.network) as sock:
            for command in (b"", OPENING[0], b"STARTTLS\r\nMAIL FROM:<>\r\n"):
                sock.sendall(command)
                last = reply(sock)
            assert last == b"220 2.0.0 Ready to start TLS\r\n"
            assert select.select([sock], [], [], 0.1)[0] == []
        assert [seen.stage for seen in lab.log][:3] == ["banner", "ehlo", "starttls"]
        assert "mail" not in {seen.stage for seen in lab.log}

    def test_a_client_that_resets_after_starttls_leaves_no_socket_open(self, lab: Lab) -> None:
        for _ in range(20):
            with dial(lab.network) as sock:
                for command in (b"", OPENING[0]):
                    sock.sendall(command)
                    reply(sock)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.sendall(b"STARTTLS\r\n")
        lab.close()
        assert gc.collect() >= 0  # a socket left open is a ResourceWarning, and warnings are errors

    def test_a_client_that_hangs_in_the_handshake_does_not_hold_the_lab(self) -> None:
        with Lab(ONE) as lab:
            sock = dial(lab.network)
            for command in (b"", OPENING[0], b"STARTTLS\r\n"):
                sock.sendall(command)
                reply(sock)
        assert lab.log[-1].stage == "lost"
        sock.close()


class TestRules:
    def test_several_lines_carry_the_codes_of_the_first(self) -> None:
        rule = {"stage": "rcpt", "reply": "550 5.7.1 [{client}] blocked\n차단"}
        for charset in ("utf-8", "euc-kr"):
            with Lab(world(rule, charset=charset)) as lab, dial(lab.network) as sock:
                reply(sock)
                for command in OPENING:
                    sock.sendall(command)
                    last = reply(sock)
                assert last == b"550-5.7.1 [198.51.100.7] blocked\r\n550 5.7.1 " + "차단".encode(charset) + b"\r\n"

    def test_what_a_client_says_is_no_template(self) -> None:
        rule = {"stage": "mail", "reply": "550 5.7.1 no {sender} {nothing}"}
        with Lab(world(rule)) as lab:
            said = talk(lab.network, OPENING[0], b"MAIL FROM:<{client}@x.example>\r\n")
            assert said[2] == b"550 5.7.1 no {client}@x.example {nothing}"

    @pytest.mark.parametrize(
        ("rule", "holds"),
        [
            pytest.param({"client": "198.51.100.*"}, True, id="client fits"),
            pytest.param({"client": ["203.0.113.*", "198.51.100.8"]}, False, id="client does not"),
            pytest.param({"sender": "A@OURS.example"}, True, id="sender, case"),
            pytest.param({"recipient": "?@r.example"}, True, id="recipient"),
            pytest.param({"recipient": "?@r.example", "helo": "other"}, False, id="all must hold"),
            pytest.param({"host": "mx.*", "ip": "192.0.2.1"}, True, id="server"),
            pytest.param({"ip": "203.0.113.25"}, False, id="another server"),
            pytest.param({"clear": True}, True, id="in clear"),
            pytest.param({"since": 3600}, False, id="not yet"),
            pytest.param({"until": 3600}, True, id="still"),
            pytest.param({"chance": 0}, False, id="no chance"),
            pytest.param({"first": 60}, True, id="first contact"),
            pytest.param({"per_hour": 1}, False, id="under the limit"),
        ],
    )
    def test_conditions(self, rule: dict[str, object], holds: bool) -> None:
        with Lab(world({"stage": "rcpt", "reply": "554 5.7.1 no", **rule})) as lab:
            assert codes(lab.network, *OPENING)[-1] == (554 if holds else 250)

    @pytest.mark.parametrize(
        ("rule", "message", "want"),
        [
            pytest.param({"lacks": "From"}, b"To: x\r\n\r\nFrom: y\r\n", 554, id="no From"),
            pytest.param({"lacks": "From"}, b"To: x\r\nfrom : y\r\n\r\n", 250, id="From"),
            pytest.param({"contains": "win.example"}, b"A: b\r\n\r\nhttp://win.example/\r\n", 554, id="words"),
            pytest.param({"contains": "win.example"}, b"A: b\r\n\r\nhello\r\n", 250, id="no words"),
            pytest.param({"larger": 10}, b"123456789\r\n", 554, id="larger"),
            pytest.param({"larger": 11}, b"123456789\r\n", 250, id="as large"),
        ],
    )
    def test_conditions_of_the_message(self, rule: dict[str, object], message: bytes, want: int) -> None:
        with Lab(world({"stage": "body", "reply": "554 5.6.0 no", **rule})) as lab:
            assert codes(lab.network, *OPENING, b"DATA\r\n", message + b".\r\n")[-1] == want
            assert len(lab.mailbox) == (want == 250)

    def test_after_a_refused_ehlo_no_mail_begins(self) -> None:
        with Lab(world({"stage": "ehlo", "reply": "550 5.7.1 no"})) as lab:
            assert codes(lab.network, *OPENING) == [220, 550, 503, 503]

    def test_a_refusing_banner_is_followed_by_nothing_but_quit(self) -> None:
        with Lab(world({"stage": "banner", "reply": "554 5.7.1 {host} no"})) as lab:
            assert codes(lab.network, OPENING[0], b"QUIT\r\n") == [554, 503, 221]
            assert tallies(lab)["192.0.2.1"] == (1, 1)

    @pytest.mark.parametrize("stage", ["banner", "ehlo", "mail", "rcpt", "data", "body"])
    @pytest.mark.parametrize("drop", ["close", "reset"])
    def test_drops(self, stage: str, drop: str) -> None:
        with Lab(world({"stage": stage, "drop": drop})) as lab, dial(lab.network) as sock:
            got = b"?"
            try:
                got = reply(sock)
                for command in (*OPENING, b"DATA\r\n", b".\r\n"):
                    if got:
                        sock.sendall(command)
                        got = reply(sock)
            except ConnectionResetError:
                got = b"RST"
            assert got == (b"" if drop == "close" else b"RST")
            assert tallies(lab)["192.0.2.1"] == (1, 1)
            assert lab.mailbox == []

    def test_silence_is_silence_and_does_not_hold_the_lab(self) -> None:
        with Lab(world({"stage": "ehlo", "drop": "silence"})) as lab, dial(lab.network) as sock:
            reply(sock)
            sock.sendall(OPENING[0])
            assert select.select([sock], [], [], 0.1)[0] == []

    def test_a_slow_rule_does_not_hold_the_lab(self) -> None:
        with Lab(world({"stage": "banner", "delay": 60})) as lab:
            sock = dial(lab.network)
            assert select.select([sock], [], [], 0.05)[0] == []
        sock.close()

    def test_greylisting_ends_for_this_triplet_only(self) -> None:
        rule = {"stage": "rcpt", "first": 300, "reply": "451 4.7.1 {recipient} greylisted"}
        with Lab(world(rule)) as lab:
            assert codes(lab.network, *OPENING)[-1] == 451
            lab.clock.advance(299)
            assert codes(lab.network, *OPENING)[-1] == 451
            lab.clock.advance(2)
            assert codes(lab.network, *OPENING)[-1] == 250
            assert codes(lab.network, *OPENING[:2], b"RCPT TO:<new@r.example>\r\n")[-1] == 451
            assert codes(lab.network_from("198.51.100.8"), *OPENING)[-1] == 451

    def test_two_a_minute_and_the_blacklist_above_twenty_an_hour(self) -> None:
        with Lab("rate_limit") as lab:
            ips = ["192.0.2.11", "192.0.2.12"]
            assert [codes(lab.network, ip=ips[n % 2])[0] for n in range(4)] == [220, 220, 421, 421]
            lab.clock.advance(61)
            assert [codes(lab.network, ip=ips[0])[0] for _ in range(17)] == [220, 220, *[421] * 14, 554]
            lab.clock.advance(7200)
            assert codes(lab.network, ip=ips[1])[0] == 554
            assert codes(lab.network_from("198.51.100.8"), ip=ips[1])[0] == 220
            lab.clock.advance(86400)
            assert codes(lab.network, ip=ips[1])[0] == 220

    def test_a_limit_of_each_server_for_itself(self) -> None:
        rule = {"stage": "banner", "per_minute": 1, "per_server": True, "reply": "421 4.7.0 too fast"}
        with Lab({**world(rule), "mx": [{"name": "mx.r.example", "ips": ["192.0.2.1", "192.0.2.2"]}]}) as lab:
            first = [codes(lab.network, ip=ip)[0] for ip in ("192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.2")]
            assert first == [220, 220, 421, 421]

    def test_the_seed_repeats_chance_and_balancer(self) -> None:
        def play(seed: int) -> list[tuple[str, str]]:
            rule = {"stage": "banner", "chance": 0.5, "reply": "421 4.3.2 {host} busy"}
            with Lab({**world(rule), **one_mx(backends=["b1", "b2", "b3"])}, seed=seed) as lab:
                for _ in range(30):
                    talk(lab.network)
                return [(seen.host, seen.reply) for seen in lab.log if seen.stage == "banner"]

        once = play(4)
        assert once == play(4)
        assert once != play(5)
        assert {host for host, _ in once} == {"b1", "b2", "b3"}

    def test_wire_knows_codes_without_enhanced_ones(self) -> None:
        assert wire("421 busy\nlater", "utf-8") == b"421-busy\r\n421 later\r\n"


class TestNetwork:
    def test_a_lab_reaches_nothing_but_itself(self, lab: Lab) -> None:
        for ip in ("8.8.8.8", "127.0.0.1", "10.0.0.1", "::1", "mx.r.example"):
            with pytest.raises(NotAllowed, match="documentation addresses only"):
                lab.network.open(ip, 25)

    def test_addresses_and_ports_without_a_server(self, lab: Lab) -> None:
        with pytest.raises(OSError, match="unreachable"):
            lab.network.open("192.0.2.200", 25)
        assert failure(lab.network, "192.0.2.1", 587) == "refused"
        for ip, port in (("192.0.2.1", 587), ("192.0.2.200", 25)):  # a direct call stays on this machine, too
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(lab.network.where(ip, port))

    @pytest.mark.parametrize("fault", ["refused", "timeout", "unreachable"])
    def test_dead_servers_and_a_dead_road(self, fault: str) -> None:
        with Lab(one_mx(dead=fault)) as lab:
            assert failure(lab.network, "192.0.2.1") == fault
            assert codes(lab.network, ip="203.0.113.25") == [220]
            assert (lab.log[0].stage, lab.log[0].reply) == ("connect", fault)
        with Lab({**ONE, "path": fault}) as lab:
            assert {failure(lab.network, ip) for ip in ("192.0.2.1", "203.0.113.25")} == {fault}
            assert codes(lab.network, ip="2001:db8:c::25") == [220]

    def test_its_limits_are_those_of_a_lab(self, lab: Lab) -> None:
        network = lab.network
        assert network.guard.allow_to == ("@r.example",)
        assert network.pace.wait([], "192.0.2.1", 0.0) == 0
        assert (network.timeouts.reply, network.timeouts.final) == (10, 20)
        assert (network.label, network.sender_ip, network.helo) == (
            "lab",
            "198.51.100.7",
            "mail.ours.example",
        )
        assert network.casebook.parent == network.ledger.parent
        assert lab.network_from("198.51.100.8").casebook == network.casebook

    def test_a_sender_must_be_a_documentation_address(self, lab: Lab) -> None:
        with pytest.raises(InvalidInput, match="'8\\.8\\.8\\.8' is no documentation address"):
            lab.network_from("8.8.8.8")

    def test_before_start_it_says_how_to_start(self) -> None:
        lab = Lab(ONE)
        assert lab.domain == "r.example"
        for use in (
            lambda: lab.network,
            lambda: lab.log,
            lab.close,
            lambda: lab.network_from("198.51.100.8"),
        ):
            with pytest.raises(InvalidInput, match="not running"):
                use()

    def test_one_lab_is_one_fleet(self, lab: Lab) -> None:
        with pytest.raises(InvalidInput, match="running already"):
            lab.start()
        assert lab.network is lab.network

    @pytest.mark.parametrize("speed", [0, -1, float("nan")])
    def test_a_clock_that_stands_still_is_refused(self, speed: float) -> None:
        with pytest.raises(InvalidInput, match="speed"):
            Lab(ONE, speed=speed)


def failure(network: LabNetwork, ip: str, port: int = 25) -> str:
    """How a connect fails: as an engine would see it."""
    try:
        sock = network.open(ip, port)
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return "unreachable"
    with sock:
        if not select.select([], [sock], [], 0.05)[1]:
            return "timeout"
        return "refused" if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) else "open"


class TestDns:
    WORLD = world(
        dnsbl=[{"zone": "bl.example", "ips": ["198.51.100.7", "2001:db8:5::7"], "text": "why", "until": 60}],
        zone={
            "alias.example": {"CNAME": "r.example"},
            "loop.example": {"CNAME": "loop.example"},
            "ours.example": {"TXT": ["v=spf1 -all", 'quotes " and \\ ' + "x" * 300]},
            "dead.example": {"status": "timeout"},
            "sick.example": {"status": "servfail"},
            "null.example": {"MX": "0 ."},
        },
    )

    @pytest.mark.parametrize(
        ("name", "kind", "status", "rows"),
        [
            pytest.param("r.example", "MX", "ok", ("10 mx.r.example",), id="MX"),
            pytest.param("R.Example.", "MX", "ok", ("10 mx.r.example",), id="case and dot"),
            pytest.param("mx.r.example", "A", "ok", ("192.0.2.1",), id="A"),
            pytest.param("mx.r.example", "AAAA", "nodata", (), id="no AAAA"),
            pytest.param("mx.control.example", "AAAA", "ok", ("2001:db8:c::25",), id="AAAA"),
            pytest.param("1.2.0.192.in-addr.arpa", "PTR", "ok", ("mx.r.example",), id="their PTR"),
            pytest.param("7.100.51.198.in-addr.arpa", "PTR", "ok", ("mail.ours.example",), id="our PTR"),
            pytest.param("mail.ours.example", "A", "ok", ("198.51.100.7",), id="forward-confirmed"),
            pytest.param("example", "A", "nodata", (), id="empty non-terminal"),
            pytest.param("nobody.example", "A", "nxdomain", (), id="no such name"),
            pytest.param("alias.example", "MX", "ok", ("10 mx.r.example",), id="CNAME followed"),
            pytest.param("alias.example", "CNAME", "ok", ("r.example",), id="CNAME"),
            pytest.param("loop.example", "A", "servfail", (), id="CNAME loop"),
            pytest.param("null.example", "MX", "ok", ("0 .",), id="null MX"),
            pytest.param("_dmarc.ours.example", "TXT", "ok", ("v=DMARC1; p=none",), id="DMARC"),
            pytest.param("7.100.51.198.bl.example", "A", "ok", ("127.0.0.2",), id="listed"),
            pytest.param("7.100.51.198.bl.example", "TXT", "ok", ("why",), id="listed, why"),
            pytest.param("8.100.51.198.bl.example", "A", "nxdomain", (), id="not listed"),
            pytest.param("2.0.0.127.bl.example", "A", "ok", ("127.0.0.2",), id="test entry"),
            pytest.param("1.0.0.127.bl.example", "A", "nxdomain", (), id="test entry, negative"),
            pytest.param("2.0.0.127.zen.spamhaus.org", "A", "ok", ("127.0.0.2",), id="a known list's test entry"),
            pytest.param("7.100.51.198.zen.spamhaus.org", "A", "nxdomain", (), id="a known list"),
            pytest.param("sick.example", "A", "servfail", (), id="servfail"),
            pytest.param("dead.example", "A", "timeout", (), id="timeout"),
        ],
    )
    def test_the_zone_and_the_name_server_say_the_same(
        self, name: str, kind: str, status: str, rows: tuple[str, ...]
    ) -> None:
        with Lab(self.WORLD) as lab:
            answer = lab.network.resolve(name, kind)  # type: ignore[arg-type]  # kinds come from the table
            assert (answer.status, answer.rows) == (status, rows)
            query = dns.message.make_query(name, kind)
            try:
                said = dns.query.udp(query, lab.dns[0], port=lab.dns[1], timeout=0.2)
            except dns.exception.Timeout:
                assert status == "timeout"
                return
            want = dns.rdatatype.from_text(kind)
            found = [rd.to_text() for rrset in said.answer if rrset.rdtype == want for rd in rrset]
            found = [text.strip('"').rstrip(".").lower() for text in found]  # compression keeps the question's case
            assert found == [row.rstrip(".").lower() for row in rows]
            codes = {"ok": "NOERROR", "nodata": "NOERROR", "nxdomain": "NXDOMAIN", "servfail": "SERVFAIL"}
            assert dns.rcode.to_text(said.rcode()) == codes[status]

    def test_long_texts_survive_the_wire(self) -> None:
        with Lab(self.WORLD) as lab:
            query = dns.message.make_query("ours.example", "TXT")
            said = dns.query.udp(query, lab.dns[0], port=lab.dns[1], timeout=1)
            texts = [b"".join(rd.strings).decode() for rd in said.answer[0]]
            assert sorted(texts) == sorted(lab.network.resolve("ours.example", "TXT").rows)

    def test_listings_end_and_records_can_be_published(self) -> None:
        with Lab(self.WORLD) as lab:
            six = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.5.0.0.0.8.b.d.0.1.0.0.2.bl.example"
            assert lab.network.resolve(six, "A").rows == ("127.0.0.2",)
            lab.clock.advance(60)
            assert lab.network.resolve(six, "A").status == "nxdomain"
            lab.zone.publish("s1._domainkey.ours.example", "TXT", "v=DKIM1; p=abc")
            assert lab.network.resolve("S1._domainkey.ours.example", "TXT").rows == ("v=DKIM1; p=abc",)

    def test_noise_does_not_end_the_name_server(self) -> None:
        with Lab(ONE) as lab, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for noise in (b"", b"x", b"\0" * 12, b"\xff" * 600):
                sock.sendto(noise, lab.dns)
            query = dns.message.make_query("r.example", "MX")
            assert dns.query.udp(query, lab.dns[0], port=lab.dns[1], timeout=1).answer


class TestLeavingNothingBehind:
    def test_threads_sockets_and_files_are_gone(self) -> None:
        before = set(threading.enumerate())
        descriptors = open_descriptors()
        with Lab(one_mx(dead="timeout")) as lab:
            folder = lab.network.casebook.parent
            assert lab.dns[1]
            held = [dial(lab.network, "203.0.113.25") for _ in range(5)]
            held.append(lab.network.open("192.0.2.1", 25))
            assert folder.is_dir()
        for sock in held:
            sock.close()
        assert set(threading.enumerate()) == before
        assert open_descriptors() == descriptors
        assert not folder.exists()
        lab.close()  # once more is harmless
        assert len(tallies(lab)) == 3  # what was seen stays

    def test_start_and_close_by_hand(self) -> None:
        lab = Lab(ONE).start()
        try:
            assert codes(lab.network) == [220]
        finally:
            lab.close()

    def test_hostile_clients(self, lab: Lab) -> None:
        def bother(number: int) -> None:
            with dial(lab.network) as sock:
                noise = [
                    b"",
                    os.urandom(3000),
                    b"\n" * 50,
                    b"EHLO x\r\n" + b"A" * 70_000,
                    b"GET / HTTP/1.1\r\n\r\n",
                ]
                try:
                    sock.sendall(noise[number % len(noise)])
                    if number % 3:
                        sock.shutdown(socket.SHUT_WR)
                    elif number % 2:
                        sock.recv(4)
                except OSError:
                    return  # the lab hung up first

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(bother, range(60)))
        assert codes(lab.network, *OPENING) == [220, 250, 250, 250]

    def test_many_at_once(self, lab: Lab) -> None:
        with ThreadPoolExecutor(16) as pool:
            said = list(pool.map(lambda _: codes(lab.network, *OPENING, b"QUIT\r\n"), range(64)))
        assert said == [[220, 250, 250, 250, 221]] * 64
        assert tallies(lab)["192.0.2.1"] == (64, 0)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


def test_the_clock_tells_real_moments() -> None:
    clock = Clock(speed=60.0)
    assert clock.when(float("inf")) is None
    moments = [clock.when(at) for at in (0, 120, 3600)]
    clock.advance(3600)
    began = clock.when(0)
    assert [at and (at - began).total_seconds() for at in moments] == pytest.approx([0, 2, 60])
    later = [clock.when(at) for at in (0, 3000, 3720)]
    assert [at and (at - began).total_seconds() for at in later] == pytest.approx([0, 0, 2], abs=0.1)


REFUSED = {
    "stale_blacklist": ({"192.0.2.14"}, 554),
    "stale_421": ({"192.0.2.14"}, 421),
    "crossed_stale": ({"192.0.2.12"}, 554),
    "ipv6_mixed": ({"2001:db8:d::12"}, 550),
    "provider_block": ({f"192.0.2.{n}" for n in range(11, 15)}, 554),
    "dnsbl_listed": ({"192.0.2.11", "192.0.2.12"}, 554),
    "greylisting": ({"192.0.2.11", "192.0.2.12"}, 451),
    "tls_required": ({"192.0.2.11", "192.0.2.12"}, 530),
    "delisting": ({f"192.0.2.{n}" for n in range(11, 15)}, 554),
}
DEAD = {"mx_dead": {"192.0.2.13"}, "local_path": None, "no_ipv6": None}
QUIET = """healthy mx_slow tls_broken tls_expired tls_wrong_name recipient_unknown simpson size_limit
content_reject auth_failure outage hanmail rate_limit middlebox null_mx implicit_mx stale_pair sender_ip_block
crossed_names balancer""".split()


def test_every_scenario_is_known_here() -> None:
    assert set(names()) == {*REFUSED, *DEAD, *QUIET}
    for name in names():
        assert len(Lab(name).about) > 15


def opening(lab: Lab) -> tuple[bytes, bytes, bytes]:
    return (
        b"EHLO mail.ours.example\r\n",
        f"MAIL FROM:<{lab.sender}>\r\n".encode(),
        f"RCPT TO:<{lab.recipient}>\r\n".encode(),
    )


def addresses(lab: Lab) -> list[str]:
    """What a client finds in DNS: every address of every MX, by preference."""
    rows = sorted(row.split() for row in lab.network.resolve(lab.domain, "MX").rows)
    found = [lab.network.resolve(row[1], kind).rows for row in rows for kind in ("A", "AAAA")]  # type: ignore[arg-type]  # literals all
    return list(dict.fromkeys(ip for ips in found for ip in ips))


def outcomes(lab: Lab, network: LabNetwork | None = None) -> dict[str, int]:
    """Per address the last code that a walk to RCPT meets."""
    return {ip: walk(network or lab.network, lab, ip) for ip in addresses(lab)}


def walk(network: LabNetwork, lab: Lab, ip: str) -> int:
    with dial(network, ip) as sock:
        code = int(reply(sock)[:3])
        for command in opening(lab):
            if code >= 400:
                break
            sock.sendall(command)
            code = int(reply(sock)[:3])
    return code


class TestScenarios:
    @pytest.mark.parametrize("name", sorted(REFUSED))
    def test_refusals_come_from_the_named_servers_only(self, name: str) -> None:
        guilty, code = REFUSED[name]
        with Lab(name) as lab:
            assert outcomes(lab) == {ip: code if ip in guilty else 250 for ip in addresses(lab)}
            tally = tallies(lab)
            assert {ip for ip in tally if tally[ip].refusals} == guilty
            assert walk(lab.network, lab, "203.0.113.25") in (250, 554)  # control: relays for nobody else

    @pytest.mark.parametrize("name", ["healthy", "recipient_unknown", "simpson", "size_limit"])
    def test_quiet_ones_take_the_first_recipient_everywhere(self, name: str) -> None:
        with Lab(name) as lab:
            assert set(outcomes(lab).values()) == {250}

    def test_dead_ones(self) -> None:
        with Lab("mx_dead") as lab:
            assert [ip for ip in addresses(lab) if failure(lab.network, ip) == "timeout"] == ["192.0.2.13"]
        with Lab("local_path") as lab:
            assert {failure(lab.network, ip) for ip in (*addresses(lab), "203.0.113.25")} == {"timeout"}
        with Lab("no_ipv6") as lab:
            kinds = {ip: failure(lab.network, ip) for ip in (*addresses(lab), "2001:db8:c::25")}
            assert kinds == {ip: "unreachable" if ":" in ip else "open" for ip in kinds}

    @pytest.mark.parametrize(
        ("name", "guilty"),
        [("stale_pair", {"192.0.2.13"}), ("sender_ip_block", {f"192.0.2.{n}" for n in range(11, 15)})],
    )
    def test_one_of_our_two_addresses(self, name: str, guilty: set[str]) -> None:
        with Lab(name) as lab:
            assert set(outcomes(lab).values()) == {250}
            other = outcomes(lab, lab.network_from("198.51.100.8"))
            assert {ip for ip, code in other.items() if code != 250} == guilty

    def test_behind_a_balancer_the_back_end_names_itself(self) -> None:
        with Lab("balancer") as lab:
            for _ in range(20):
                walk(lab.network, lab, "192.0.2.21")
            refused = {seen.host for seen in lab.log if seen.stage == "rcpt" and seen.code == 554}
            taken = {seen.host for seen in lab.log if seen.stage == "rcpt" and seen.code == 250}
            assert (refused, taken) == ({"be4.mail.daum.example"}, {"be3.mail.daum.example"})
            named = {(seen.host, seen.reply.split()[1]) for seen in lab.log if seen.stage == "banner"}
            assert {host for host, word in named if host != word} == set()

    def test_the_seed_s_own_dialogue(self) -> None:
        with Lab("hanmail") as lab:
            said = talk(
                lab.network,
                b"EHLO mail.ours.example\r\n",
                b"MAIL FROM: Me <a@ours.example>\r\n",
                b"RCPT TO:<b@hanmail.example>\r\n",
                b"DATA\r\n",
                b"Subject: no From\r\n\r\nhi\r\n.\r\n",
                b"QUIT\r\n",
                ip="192.0.2.11",
            )
            assert said == [
                b"220 mx1.hanmail.example ESMTP",
                b"250-mx1.hanmail.example Hello mail.ours.example [198.51.100.7], pleased to meet you",
                b"250 2.1.0 <a@ours.example>... Sender ok",
                b"250 2.1.5 <b@hanmail.example>... Recipient ok",
                b'354 Enter mail, end with "." on a line by itself',
                b"554 5.6.0 DHFR1 Message requires 'From' header",
                b"221 2.0.0 mx1.hanmail.example closing connection",
            ]

    @pytest.mark.parametrize(
        ("name", "recipient", "message", "want"),
        [
            pytest.param("recipient_unknown", "gone@daum.example", b"hi\r\n", 503, id="unknown"),
            pytest.param("recipient_unknown", "s@daum.example", b"hi\r\n", 250, id="known"),
            pytest.param("size_limit", "r@daum.example", b"x" * 78 + b"\r\n", 250, id="small"),
            pytest.param("size_limit", "r@daum.example", (b"x" * 78 + b"\r\n") * 251, 552, id="large"),
            pytest.param("content_reject", "r@daum.example", b"see http://win.example/\r\n", 554, id="bad link"),
            pytest.param("content_reject", "r@daum.example", b"see http://lab.example/\r\n", 250, id="no link"),
        ],
    )
    def test_the_fault_is_in_the_message_or_recipient(
        self, name: str, recipient: str, message: bytes, want: int
    ) -> None:
        with Lab(name) as lab:
            rcpt = f"RCPT TO:<{recipient}>\r\n".encode()
            for ip in addresses(lab):
                said = codes(lab.network, *opening(lab)[:2], rcpt, b"DATA\r\n", ip=ip)
                if said[-1] == 354:
                    walked = (*opening(lab)[:2], rcpt, b"DATA\r\n", message + b".\r\n")
                    said = codes(lab.network, *walked, ip=ip)
                assert said[-1] == want

    def test_listed_and_delisted(self) -> None:
        with Lab("dnsbl_listed") as lab:
            entry = "7.100.51.198.zen.spamhaus.org"
            assert lab.network.resolve(entry, "A").rows == ("127.0.0.3",)
            lab.clock.advance(86400)
            assert lab.network.resolve(entry, "A").status == "nxdomain"
            assert set(outcomes(lab).values()) == {250}

    def test_delisting_server_by_server(self) -> None:
        with Lab("delisting", speed=1) as lab:
            took = []
            for _ in range(5):
                took.append([ip[-2:] for ip, code in outcomes(lab).items() if code == 250])
                lab.clock.advance(3600)
            assert took == [[], ["11"], ["11", "12"], ["11", "12", "13"], ["11", "12", "13", "14"]]

    def test_outage_and_authentication_begin_and_end(self) -> None:
        with Lab("outage", speed=1) as lab:
            seen = []
            for _ in range(4):
                seen.append(set(outcomes(lab).values()))
                lab.clock.advance(1800)
            assert seen == [{250}, {421}, {421}, {250}]
        with Lab("auth_failure", speed=1) as lab:
            assert set(outcomes(lab).values()) == {250}
            lab.clock.advance(360)
            assert set(outcomes(lab).values()) == {550}

    def test_simpson_meets_the_dead_recipients_on_one_server(self) -> None:
        with Lab("simpson") as lab:
            assert lab.network.resolve("old.corp.example", "MX").rows == (
                "10 mx4.corp.example",
                "50 mx3.corp.example",
            )
            for ip in ("192.0.2.13", "192.0.2.14"):
                for recipient, want in (("old1@old.corp.example", 550), ("r@old.corp.example", 250)):
                    said = codes(lab.network, *opening(lab)[:2], f"RCPT TO:<{recipient}>\r\n".encode(), ip=ip)
                    assert said[-1] == want
            assert set(lab.scenario.truth[0].values) < set(lab.recipients)

    def test_crossed_names_share_addresses_in_pairs(self) -> None:
        with Lab("crossed_names") as lab:
            per_name = [lab.network.resolve(f"mx{n}.daum.example", "A").rows for n in range(1, 5)]
            assert sorted(ip for ips in per_name for ip in ips) == sorted(
                2 * [f"192.0.2.{n}" for n in range(11, 15)]
            )
            said = [walk(lab.network, lab, ip) for _ in range(15) for ip in addresses(lab)]
            assert 2 < said.count(451) < 20
            assert set(said) == {250, 451}

    def test_the_truth_is_told_in_causes(self) -> None:
        with Lab("stale_pair") as lab:
            (cause,) = lab.truth
            assert (cause.kind, cause.dimension, cause.values) == ("mx_block", "mx_ip", ("192.0.2.13",))
            assert cause.only_for == {"sender_ip": ("198.51.100.8",)}
            assert (cause.onset, cause.recovery, cause.recoveries) == (None, None, {})
        with Lab("delisting", speed=3600) as lab:
            (cause,) = lab.truth
            began = lab.clock.when(0)
            waits = {ip: at and (at - began).total_seconds() for ip, at in cause.recoveries.items()}
            assert waits == {"192.0.2.11": 0.5, "192.0.2.12": 1.5, "192.0.2.13": 2.5, "192.0.2.14": 3.5}
        with Lab("healthy") as lab:
            assert lab.truth == ()

    def test_a_middlebox_shows_on_the_control_receiver_too(self) -> None:
        with Lab("middlebox") as lab:
            banners = {talk(lab.network, ip=ip)[0] for ip in (*addresses(lab), "203.0.113.25")}
            assert banners == {b"220 ********************************"}

    def test_null_and_implicit_mx(self) -> None:
        with Lab("null_mx") as lab:
            assert lab.network.resolve(lab.domain, "MX").rows == ("0 .",)
        with Lab("implicit_mx") as lab:
            assert lab.network.resolve(lab.domain, "MX").status == "nodata"
            ips = lab.network.resolve(lab.domain, "A").rows
            assert {ip: walk(lab.network, lab, ip) for ip in ips} == {"192.0.2.11": 250, "192.0.2.12": 250}

    @pytest.mark.slow
    def test_a_slow_server_is_slow(self) -> None:
        with Lab("mx_slow") as lab:
            for ip in ("192.0.2.11", "192.0.2.12"):
                walk(lab.network, lab, ip)
            took = {ip: span([seen for seen in lab.log if seen.ip == ip]) for ip in ("192.0.2.11", "192.0.2.12")}
            assert took["192.0.2.12"] > 0.7 > took["192.0.2.11"]


def test_two_connections_from_one_port_of_ours_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel gives one local port to connections with two servers: an IPv6 client was told its IPv4 address."""
    with Lab("ipv6_mixed") as lab:
        lab.lock = threading.RLock()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]

        def bound() -> socket.socket:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            return sock

        with monkeypatch.context() as patched, lab.lock:  # nobody is let in before both have called
            patched.setattr("smtpkit.lab.socket", SimpleNamespace(socket=bound))
            clients = [lab.network.open(ip, 25) for ip in ("192.0.2.12", "2001:db8:d::12")]
        seen = []
        for sock in clients:
            with sock:
                sock.settimeout(5)
                reply(sock)
                sock.sendall(b"EHLO c.example\r\n")
                seen.append(re.findall(rb"\[(.*?)\]", reply(sock))[:1])
    assert seen == [[b"198.51.100.7"], [b"2001:db8:5::7"]]


def span(seen: list[Seen]) -> float:
    return float(seen[-1].at - seen[0].at)
