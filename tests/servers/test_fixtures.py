"""The fixtures themselves, by an independent client (smtplib): the listed is refused, others are served."""

import smtplib
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from tests.servers import BLOCK, OTHER_SENDER, PORT, SENDER
from tests.servers.postfix import Fleet

MAIL = b"Subject: hello\r\n\r\n.a dot first\r\n"
REFUSED = {
    "postfix": f"5.7.1 <unknown[{SENDER}]>: Client host rejected: {BLOCK}",
    "exim": f"5.7.1 {BLOCK}",
    "opensmtpd": f"5.7.1 {BLOCK}",
    "sendmail": f"5.7.1 {BLOCK}",
}


def say(ip: str, sender: str, *, tls: bool = False) -> tuple[int, str]:
    """Send MAIL from the address `sender`: (250, "") or the refusal."""
    ours = {"local_hostname": "client.example", "source_address": (sender, 0)}
    try:
        with smtplib.SMTP(ip, PORT, timeout=10, **ours) as client:
            if tls:
                client.starttls(context=ssl._create_unverified_context())
            client.sendmail("me@ours.example", "r@daum.example", MAIL)
    except smtplib.SMTPResponseException as no:
        return no.smtp_code, no.smtp_error.decode()
    return 250, ""


@pytest.mark.parametrize("kind", list(REFUSED))
def test_a_server_refuses_whom_it_lists_and_nobody_else(kind: str, mta: Callable[..., Any]) -> None:
    server = mta(kind, "127.0.0.21")
    server.block(SENDER)
    assert say(server.ip, SENDER) == (554, REFUSED[kind])
    assert say(server.ip, OTHER_SENDER) == (250, "")
    server.settle(1)  # OpenSMTPD starts anew below, and would deliver again what was under way
    server.delist()
    assert say(server.ip, SENDER, tls=kind != "opensmtpd") == (250, "")
    assert server.settle(2).count(b"\n.a dot first\n") == 2


def test_one_of_four_is_stale_and_its_log_says_so(fleet: Fleet) -> None:
    for n in (1, 2, 3, 4):
        fleet.block(n)
    for n in (1, 2, 4):
        fleet.delist(n)
    for n in (1, 2, 3, 4):
        say(fleet[n].ip, SENDER)
    logged = {n: [(row.code, row.verb) for row in fleet[n].logged(SENDER)] for n in (1, 2, 3, 4)}
    assert logged == {1: [(None, "")], 2: [(None, "")], 3: [(554, "CONNECT")], 4: [(None, "")]}
    assert [bool(fleet[n].logged(SENDER)[0].queue_id) for n in (1, 2, 3, 4)] == [True, True, False, True]
    fleet[3].delist()
    assert say(fleet[3].ip, SENDER) == (250, "")
