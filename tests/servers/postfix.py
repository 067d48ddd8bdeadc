"""postfix: real Postfix servers on loopback, each with a blacklist, a mailbox and a log of its own.

Belongs here: one instance (Postfix), four of them as one receiver's MX (Fleet), what their logs say.
Not here: other servers, what smtpkit makes of them.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.servers import (
    BLOCK,
    PORT,
    SENDER,
    answers,
    certificate,
    copy_of,
    program,
    root,
    until,
    when,
)

IPS = ("127.0.0.11", "127.0.0.12", "127.0.0.13", "127.0.0.14")
OWNERS = {"etc": "root", "queue": "root", "data": "postfix", "mail": "nobody"}
MAIN = """compatibility_level = 3.6
queue_directory = {at}/queue
data_directory = {at}/data
maillog_file = {at}/mail.log
maillog_file_prefixes = {at}
myhostname = {name}
mydestination =
inet_interfaces = loopback-only
inet_protocols = ipv4
message_size_limit = 10240000
mailbox_size_limit = 0
virtual_mailbox_limit = 0
smtpd_peername_lookup = no
smtpd_tls_security_level = may
smtpd_tls_cert_file = {at}/etc/good.pem
smtpd_tls_key_file = {at}/etc/good.pem
default_transport = error:5.4.4 nothing leaves the lab
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {at}/mail
virtual_mailbox_maps = static:all
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
smtpd_delay_reject = {delay}
smtpd_client_restrictions = check_client_access cidr:{at}/etc/blacklist.cidr
smtpd_relay_restrictions =
smtpd_recipient_restrictions = reject_unauth_destination
{more}
"""
# service, private, unprivileged, wake-up, limit, program; no smtp client: nothing can leave
SERVICES = """pickup n - 60 1 pickup|cleanup n - - 0 cleanup|qmgr n - 300 1 qmgr|error - - - - error
rewrite - - - - trivial-rewrite|bounce - - - 0 bounce|defer - - - 0 bounce|trace - - - 0 bounce
proxymap - - - - proxymap|showq n - - - showq|retry - - - - error|virtual - n - - virtual
anvil - - - 1 anvil|tlsmgr - - 1000? 1 tlsmgr"""
LINE = re.compile(r"(\w{3} [ \d]\d [\d:]{8}) \S+ postfix/smtpd\[(\d+)\]: (.*)")
CONNECT = re.compile(r"connect from \S+\[([\d.]+)\]")
REJECT = re.compile(r"NOQUEUE: reject: (\w+) from \S+\[[\d.]+\]: (\d{3}) ([\d.]+) ([^;]*)")
QUEUED = re.compile(r"([0-9A-F]{6,}): client=")


@dataclass
class Logged:
    """One connection as the server's own log tells it."""

    at: datetime
    client: str
    code: int | None = None
    enhanced: str = ""
    verb: str = ""
    text: str = ""
    queue_id: str = ""


class Postfix:
    """One Postfix on `ip` port 2525 with the mailbox `mail/all`; `start()` returns when it is up."""

    def __init__(self, at: Path, ip: str, name: str, *, domain: str, delay: bool = False, more: str = ""):
        self.at, self.ip, self.name, self.domain = at, ip, name, domain
        self._settings = {"delay": "yes" if delay else "no", "more": more}
        self.up = False

    def start(self) -> "Postfix":
        root()
        program("postfix", "postfix"), program("script", "bsdutils")
        for part, owner in OWNERS.items():
            (self.at / part).mkdir(parents=True, exist_ok=True)
            shutil.chown(self.at / part, owner)
        if not (self.at / "etc/main.cf").exists():
            self._configure()
        self.control("start")
        self.up = True
        until(lambda: answers(self.ip), 10, f"Postfix does not listen on {self.ip}")
        return self

    def _configure(self) -> None:
        etc = self.at / "etc"
        certificate(etc, self.name)
        rows = [row.split() for row in SERVICES.replace("\n", "|").split("|")]
        inner = "".join(f"{a} unix {b} {c} n {d} {e} {f}\n" for a, b, c, d, e, f in rows)
        listener = f"{self.ip}:{PORT} inet n - n - - smtpd\npostlog unix-dgram n - n - 1 postlogd\n"
        main = MAIN.format(at=self.at, name=self.name, domain=self.domain, **self._settings)
        copy_of(etc / "main.cf", main)
        copy_of(etc / "master.cf", listener + inner)
        copy_of(etc / "blacklist.cidr", "")

    def control(self, verb: str) -> None:
        """`postfix VERB`; without a terminal Postfix hides why it failed, so ask again with one."""
        command = ["postfix", "-c", f"{self.at}/etc", verb]
        if subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode:
            again = ["script", "-qec", " ".join(command), "/dev/null"]
            said = subprocess.run(again, capture_output=True, text=True, check=False)
            raise AssertionError(f"{' '.join(command)}: {said.stdout}")

    def block(self, *clients: str) -> None:
        """The blacklist is these addresses and no others, from the next connection on."""
        rows = "".join(f"{client}/32 554 5.7.1 {BLOCK}\n" for client in clients)
        copy_of(self.at / "etc/blacklist.cidr", rows)
        if self.up:
            self.restart()  # a cidr map is read when a process starts, and a reload lets old ones finish

    def delist(self) -> None:
        self.block()

    def restart(self) -> None:
        self.stop()
        self.start()

    def stop(self) -> None:
        if self.up:
            self.control("stop")
            self.up = False

    @property
    def mailbox(self) -> Path:
        return self.at / "mail/all"

    def settle(self, messages: int, seconds: float = 10) -> bytes:
        """The mailbox, once it holds `messages` messages and the queue is empty."""
        until(lambda: self._held() >= messages, seconds, f"{self.name} has fewer than {messages} mails")
        return self.mailbox.read_bytes() if self.mailbox.exists() else b""

    def _held(self) -> int:
        return self.log().count("status=sent (delivered to mailbox)")

    def log(self) -> str:
        path = self.at / "mail.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def logged(self, client: str | None = None) -> list[Logged]:
        """Its connections in order (from `client` only), with the refusal or the queue id of each."""
        rows: list[Logged] = []
        open_in: dict[str, Logged] = {}  # one smtpd process serves one connection at a time
        for stamp, pid, said in LINE.findall(self.log()):
            if made := CONNECT.match(said):
                open_in[pid] = row = Logged(when(stamp), made[1])
                rows.append(row)
            elif no := REJECT.match(said):
                row = open_in[pid]
                row.verb, row.code, row.enhanced, row.text = no[1], int(no[2]), no[3], no[4]
            elif yes := QUEUED.match(said):
                open_in[pid].queue_id = yes[1]
        return [row for row in rows if client in (None, row.client)]


class Fleet:
    """Four Postfix servers, 127.0.0.11 to .14, that are the MX of one domain.

    A context manager. `block(n)` puts SENDER on server n's blacklist, `delist(n)` takes it off; n is 1 to 4.
    """

    def __init__(self, at: Path, *, domain: str = "daum.example", delay: bool = False, more: str = ""):
        self.domain = domain
        self.servers = [
            Postfix(at / f"mx{n}", ip, f"mx{n}.{domain}", domain=domain, delay=delay, more=more)
            for n, ip in enumerate(IPS, 1)
        ]

    def __enter__(self) -> "Fleet":
        try:
            for server in self.servers:
                server.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __getitem__(self, n: int) -> Postfix:
        return self.servers[n - 1]

    def block(self, n: int) -> None:
        self[n].block(SENDER)

    def delist(self, n: int) -> None:
        self[n].delist()

    def stop(self) -> None:
        for server in self.servers:
            server.stop()
