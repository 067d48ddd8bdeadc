"""Sessions by hand with real servers: a delivery, XCLIENT, delivery reports, AUTH; and swaks beside it."""

import re
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

import smtpkit as sk
from smtpkit.auth import Secret
from smtpkit.transcript import read_transcripts
from tests.servers import BLOCK, PORT, SENDER
from tests.servers.conftest import network
from tests.truth import MAIL, PATIENT

IP, OUTSIDE = "127.0.0.21", "192.0.2.21"
TO, FROM = "r@daum.example", "me@ours.example"


def by_hand(path: Path, **more: Any) -> sk.Dialogue:
    net = network(path, {OUTSIDE: IP})
    settings = {
        "network": net,
        "guard": sk.Guard(allow_to=["@daum.example"]),
        "server_name": "mx1.daum.example",
    }
    return sk.Dialogue((OUTSIDE, 25), **(settings | more))


def test_a_delivery_to_postfix_under_tls(mta: Any, tmp_path: Path) -> None:
    server = mta("postfix", IP)
    ca = server.at / "etc/ca.pem"
    with by_hand(tmp_path, live=True, tls="verify", ca_file=ca) as talk:
        talk.ehlo(), talk.starttls(), talk.ehlo()
        assert talk.tls.verified, talk.tls.problem
        assert {"PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "DSN"} <= set(talk.offers)
        assert talk.vrfy(TO).code == 252
        assert talk.mail(FROM, "BODY=8BITMIME", ret="HDRS", envid="a b").code == 250
        assert talk.rcpt(TO, notify="NEVER").code == 250
        assert talk.rcpt("nobody@elsewhere.example").code == 454 or talk.last.code == 554
        assert talk.data().error == "guard", "elsewhere.example is not allowed"
        talk.rset(), talk.quit()
    with by_hand(tmp_path, live=True) as talk:
        talk.ehlo()
        talk.mail(FROM, ret="FULL", envid="a b"), talk.rcpt(TO, notify=("SUCCESS", "DELAY"), orcpt=TO)
        assert talk.data(MAIL).code == 250
    row = talk.frame().iloc[0]
    assert row.outcome == "accepted"
    assert row.queue_id in server.log()
    assert b"Subject: hello" in server.settle(1)
    assert re.search(rf"{row.queue_id}: from=<{FROM}>", server.log())


def test_postfix_refuses_what_it_does_not_know(mta: Any, tmp_path: Path) -> None:
    server = mta("postfix", IP)
    with by_hand(tmp_path) as talk:
        assert talk.command("XYZZY").code == 500
        assert talk.rcpt(TO).code == 503
        assert talk.ehlo("[192.0.2.9]").code == 250
        assert talk.mail(FROM, "FOO=bar").code == 555
        assert talk.mail(FROM, "SIZE=99999999").code == 552
        talk.rset()
        assert talk.mail("사람@ours.example", "SMTPUTF8").code == 250
    assert "helo=<[192.0.2.9]>" in server.log()


def test_xclient_shows_whom_the_blacklist_means(mta: Any, tmp_path: Path) -> None:
    """Postfix lets a trusted host ask as another: our two addresses, one of them blacklisted."""
    server = mta("postfix", IP, more="smtpd_authorized_xclient_hosts = 127.0.0.0/8")
    server.block("198.51.100.7")
    said = {}
    for ours in ("198.51.100.7", "198.51.100.8"):
        with by_hand(tmp_path) as talk:
            talk.ehlo()
            assert "ADDR" in talk.offers["XCLIENT"]
            talk.command(f"XCLIENT ADDR={ours} NAME=mail.ours.example")
            said[ours] = (talk.last.code, talk.ehlo().code, talk.mail(FROM).code)
    assert said["198.51.100.8"] == (220, 250, 250)
    assert 554 in said["198.51.100.7"]
    assert BLOCK in server.log()


def test_swaks_and_we_hear_the_same(mta: Any, tmp_path: Path) -> None:
    path = shutil.which("swaks")
    if not path:
        pytest.skip("swaks is not installed (Debian: apt-get install swaks)")
    server = mta("postfix", IP)
    server.block(SENDER)
    command = [path, "--server", f"{IP}:{PORT}", "--local-interface", SENDER, "--helo", "mail.ours.example"]
    run = subprocess.run(
        [*command, "-f", FROM, "-t", TO, "-q", "RCPT"], capture_output=True, text=True, check=False
    )
    (theirs,) = read_transcripts(run.stdout)
    with by_hand(tmp_path) as talk:
        assert talk.last.code == 554
    ours = talk.transcript
    assert [(one.command, one.reply.raw) for one in theirs] == [(one.command, one.reply.raw) for one in ours]


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_aiosmtpd_lets_the_right_password_in(mechanism: str, tmp_path: Path) -> None:
    """A peer's own AUTH, under its own STARTTLS; the password is in no file of ours."""
    import ssl

    from tests import certs

    def check(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        good = (data.login, data.password) == (b"jo", b"hunter2-marker")
        return AuthResult(success=good, handled=False)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs.kept() / "good.pem")
    controller = Controller(
        object(),
        hostname="127.0.0.1",
        port=PORT + 1,
        authenticator=check,
        tls_context=context,
        require_starttls=True,
    )
    controller.start()
    try:
        address = ("127.0.0.1", PORT + 1)
        net = network(tmp_path, {}, reroute={("192.0.2.1", 587): address})
        for password, code in (("wrong", 535), ("hunter2-marker", 235)):
            with sk.Dialogue(("192.0.2.1", 587), network=net, timeouts=PATIENT) as talk:
                talk.ehlo(), talk.starttls(), talk.ehlo()
                assert talk.auth("jo", Secret(password), mechanism).code == code
    finally:
        controller.stop()
    found = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"hunter2" not in found
    assert not any(b64encode(form) in found for form in (b"\0jo\0hunter2-marker", b"hunter2-marker"))
    assert list(sk.Casebook(net.casebook).attempts().outcome) == ["rejected", "passed"]
