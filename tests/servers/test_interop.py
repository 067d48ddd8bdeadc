"""What smtpkit and five real servers do together: a table, made here, that CONTRIBUTING.md must show as it is."""

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import smtpkit as sk
from tests.servers import PORT, certificate
from tests.servers.conftest import network

SERVERS = ("postfix", "exim", "opensmtpd", "sendmail", "aiosmtpd")
SENDER, TO = "me@ours.example", "r@daum.example"
GUIDE = Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.fixture
def start(mta: Callable[..., Any], open_folder: Path) -> Iterator[Callable[[str], str]]:
    """Call it with a kind: the address of a started server."""
    from aiosmtpd.controller import Controller
    from aiosmtpd.handlers import Sink

    controllers = []

    def begin(kind: str) -> str:
        if kind != "aiosmtpd":
            return str(mta(kind, "127.0.0.41").ip)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate(open_folder / "tls", "mx1.daum.example"))
        more = {"port": PORT, "enable_SMTPUTF8": True, "tls_context": context}
        controllers.append(Controller(Sink(), hostname="127.0.0.42", **more))
        controllers[0].start()
        return "127.0.0.42"

    yield begin
    for controller in controllers:
        controller.stop()


class Peer:
    """One server, and what can be asked of it; each answer is "yes" or says what it said instead."""

    def __init__(self, ip: str, folder: Path) -> None:
        self.network = network(folder, {"192.0.2.41": ip})
        self.many = [f"r{n}@daum.example" for n in range(50)]
        guard = sk.Guard(allow_to=["@daum.example"], max_messages=100)
        where = {"server": ("192.0.2.41", 25), "server_name": "mx1.daum.example"}
        self.how: dict[str, Any] = where | {"network": self.network, "guard": guard, "live": True}

    def say(self, **more: Any) -> sk.Dialogue:
        return sk.Dialogue(("192.0.2.41", 25), server_name="mx1.daum.example", network=self.network, **more)

    def offered(self, word: str) -> bool:
        with self.say() as talk:
            talk.ehlo()
            return word in talk.offers

    def send(self, word: str = "", to: Any = TO, message: Any = None, **more: Any) -> str:
        if word and not self.offered(word):
            return "not offered"
        made = message or sk.build_message(sender=more.get("sender", SENDER), to=TO, subject="hi", text="hello")
        frame = sk.send(made, to, again=True, **({"tls": "off", "sender": SENDER} | self.how | more))
        if set(frame["outcome"]) != {"accepted"}:
            return f"{frame['stage'].iloc[0]}: {frame['error'].iloc[0]}"
        self.last = frame
        return "yes"

    def pipelined(self) -> str:
        """MAIL, RCPT and DATA leave as one: their replies were asked for at the same moment."""
        if (said := self.send("PIPELINING")) != "yes":
            return said
        replies = self.last.smtp[0].replies.set_index("stage")["sent_at"]
        return "yes" if len({replies["mail"], replies["rcpt"], replies["data"]}) == 1 else "one by one"

    def dsn(self) -> str:
        if not self.offered("DSN"):
            return "not offered"
        with self.say() as talk:
            talk.ehlo()
            said = talk.mail(SENDER, ret="HDRS", envid="A 1"), talk.rcpt(TO, notify=["FAILURE"], orcpt=TO)
        return "yes" if [one.code for one in said] == [250, 250] else str(said)

    def table(self) -> dict[str, str]:
        eight = f"From: {SENDER}\r\nSubject: hi\r\n\r\n안녕\r\n".encode()
        megabyte = sk.build_message(
            sender=SENDER, to=TO, subject="1 MB", text="hi", attachments=[("a.bin", bytes(1_000_000))]
        )
        return {
            "plain": self.send(),
            "STARTTLS": self.send("STARTTLS", tls="require"),
            "PIPELINING": self.pipelined(),
            "8BITMIME": self.send("8BITMIME", message=eight),
            "SMTPUTF8": self.send("SMTPUTF8", sender="보내는이@ours.example"),
            "DSN": self.dsn(),
            "1 MB": self.send(message=megabyte),
            "50 recipients": self.send(to=self.many),
        }


@pytest.mark.parametrize("kind", SERVERS)
def test_the_table_of_the_guide_is_what_happens(kind: str, start: Callable[[str], str], tmp_path: Path) -> None:
    said = Peer(start(kind), tmp_path).table()
    assert said["plain"] == said["1 MB"] == said["50 recipients"] == "yes"
    row = f"| {kind} | {' | '.join(said.values())} |"
    assert row in GUIDE.read_text("utf-8"), f"CONTRIBUTING.md does not say:\n{row}"
