"""A mail sent for real arrives octet for octet, in the mailbox of each real server."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import smtpkit as sk
from tests.servers import PORT
from tests.servers.conftest import network

BODIES = {
    "dot lines": ".\r\n..\r\n.a\r\n...\r\n.\r\n",
    "first octet is a dot": ".first\r\nlast\r\n",
    "long lines": "\r\n".join("x" * n for n in (78, 79, 512, 900, 996, 997, 998)) + "\r\n",
    "UTF-8": "안녕하세요, 차단된 주소입니다.\r\nÄÖÜ €\r\n",
    "blank lines at the end": "a\r\n\r\n\r\n",
    "looks like the end": "a\r\n.\r\nQUIT\r\n",
    "From at the start of a line": "From me to you\r\nFrom: no header\r\n",
    "empty": "",
}
SENDER, TO = "me@ours.example", "r@daum.example"


def one(tmp_path: Path, server: Any) -> dict[str, Any]:
    """Keywords that lead a send to this one server."""
    made = network(tmp_path, {"192.0.2.21": server.ip})
    guard = sk.Guard(allow_to=(TO,))
    return {
        "network": made,
        "server": ("192.0.2.21", 25),
        "server_name": server.name,
        "guard": guard,
        "live": True,
    }


def wire(message: sk.Message) -> bytes:
    """The message as a server should hold it: no dot-stuffing."""
    return re.sub(rb"^\.", b"", bytes(message.wire), flags=re.MULTILINE)


def arrived(mailbox: bytes, message: sk.Message) -> bytes:
    """What the mailbox holds from our first header field on, with the network's line ends again.

    Servers put their own fields on top; an mbox writes LF, and `>From ` for a line that begins with From.
    """
    sent = wire(message)
    first = sent.partition(b"\r\n")[0]
    held = mailbox[mailbox.index(first) :].replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return re.sub(rb"^>From ", b"From ", held, flags=re.MULTILINE)


@pytest.mark.parametrize("body", BODIES)
def test_postfix_holds_what_was_built(body: str, mta: Callable[..., Any], tmp_path: Path) -> None:
    server = mta("postfix", "127.0.0.21")
    message = sk.build_message(sender=SENDER, to=TO, subject=f"본문: {body}", text=BODIES[body])
    frame = sk.send(message, TO, sender=SENDER, **one(tmp_path, server))
    assert list(frame["outcome"]) == ["accepted"]
    held = arrived(server.settle(1), message)
    assert held.startswith(wire(message))
    assert held[len(wire(message)) :] == b"\r\n", "one empty line, the mbox's own, and nothing else"


@pytest.mark.parametrize("kind", ["postfix", "exim", "opensmtpd", "sendmail"])
def test_a_megabyte_arrives_everywhere(kind: str, mta: Callable[..., Any], tmp_path: Path) -> None:
    """Text with dots and Korean, and 1 MB of octets as an attachment."""
    server = mta(kind, "127.0.0.21")
    octets = bytes(n * n % 251 for n in range(1_000_000))
    text = "".join(BODIES.values())
    files = [("증거 1.bin", octets)]
    message = sk.build_message(sender=SENDER, to=TO, subject="1 MB", text=text, attachments=files)
    frame = sk.send(message, TO, sender=SENDER, **one(tmp_path, server))
    assert list(frame["outcome"]) == ["accepted"]
    (row,) = frame.to_dict("records")
    assert row["tls"] == ("plain" if kind == "opensmtpd" else "TLSv1.3")
    assert row["size_bytes"] == len(message.wire) - len(re.findall(rb"^\.", message.wire, re.MULTILINE))
    assert row["queue_id"] in server.log() + server.settle(1).decode("latin-1")
    assert wire(message) in arrived(server.settle(1), message)


def test_a_stranger_to_the_allow_list_gets_nothing(mta: Callable[..., Any], tmp_path: Path) -> None:
    server = mta("postfix", "127.0.0.21")
    message = sk.build_message(sender=SENDER, to="other@daum.example", subject="no", text="no\n")
    keywords = one(tmp_path, server)
    frame = sk.send(message, "other@daum.example", sender=SENDER, **keywords)
    assert list(frame["outcome"]) == ["withheld"]
    assert list(frame["error"]) == ["guard"]
    dry = sk.send(message, TO, sender=SENDER, **(keywords | {"live": False}))
    assert list(dry["outcome"]) == ["withheld"]
    assert server.logged("127.0.0.98") == [], "not even a connection"


def test_a_real_server_whose_handshakes_fail(mta: Callable[..., Any], tmp_path: Path) -> None:
    """Debian 12's OpenSMTPD offers STARTTLS and breaks it: told as such, and nothing goes on in clear."""
    server = mta("opensmtpd", "127.0.0.21", tls=True)
    message = sk.build_message(sender=SENDER, to=TO, subject="tls", text="secret\n")
    frame = sk.send(message, TO, sender=SENDER, **one(tmp_path, server))
    told = frame[["outcome", "stage", "error"]].to_dict("records")
    assert told == [{"outcome": "failed", "stage": "starttls", "error": "tls_handshake"}]
    assert "smtp message" not in server.log()
    clear = sk.send(message, TO, sender=SENDER, tls="off", **one(tmp_path, server))
    assert list(clear["outcome"]) == ["accepted"]


def test_the_port_is_the_rerouted_one(mta: Callable[..., Any], tmp_path: Path) -> None:
    """The row names the address that the world would see, not loopback's."""
    server = mta("postfix", "127.0.0.21")
    frame = sk.probe("daum.example", TO, SENDER, rounds=1, **{k: v for k, v in one(tmp_path, server).items()
                     if k not in ("live", "guard")})  # fmt: skip
    (row,) = frame.to_dict("records")
    assert (row["mx_ip"], row["port"], row["local_ip"]) == ("192.0.2.21", 25, "127.0.0.98")
    assert row["port"] != PORT
