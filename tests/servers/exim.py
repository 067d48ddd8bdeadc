"""exim: one real Exim on loopback with its own blacklist, mailbox and log. Not here: other servers."""

import os
import shutil
from pathlib import Path

from tests.servers import BLOCK, PORT, answers, certificate, daemon, end, root, unpacked, until

CONF = """exim_path = {binary}
spool_directory = {at}/spool
log_file_path = {at}/log/%slog
pid_file_path = {at}/exim.pid
primary_hostname = {name}
local_interfaces = {ip}
daemon_smtp_ports = {port}
domainlist local_domains = {domain}
tls_advertise_hosts = *
tls_certificate = {at}/etc/good.pem
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
message_size_limit = 10M
rfc1413_hosts =
host_lookup =
keep_environment =
deliver_drop_privilege
acl_smtp_connect = acl_connect
acl_smtp_rcpt = acl_rcpt
begin acl
acl_connect:
  drop hosts = net-iplsearch;{at}/blacklist
       message = 554 5.7.1 {block}
  accept
acl_rcpt:
  deny !domains = +local_domains
       message = 5.7.1 relay not permitted
  accept
begin routers
all:
  driver = accept
  domains = +local_domains
  transport = mbox
nowhere:
  driver = redirect
  allow_fail
  data = :fail: nothing leaves the lab
begin transports
mbox:
  driver = appendfile
  file = {at}/mail/all
  return_path_add
"""


class Exim:
    """Exim 4 on `ip` port 2525; it gives up root with -C, so all is delivered as Debian-exim."""

    greets_with = 554

    def __init__(self, at: Path, ip: str, name: str, *, domain: str):
        self.at, self.ip, self.name, self.domain = at, ip, name, domain

    def start(self) -> "Exim":
        root()
        binary = unpacked("exim/usr/sbin/exim4")
        for part in ("spool", "log", "mail", "etc"):
            (self.at / part).mkdir(parents=True, exist_ok=True)
            shutil.chown(self.at / part, "Debian-exim", "Debian-exim")
        shutil.chown(certificate(self.at / "etc", self.name), "Debian-exim")
        settings = {"binary": binary, "name": self.name, "ip": self.ip, "port": PORT, "domain": self.domain}
        (self.at / "exim.conf").write_text(CONF.format(at=self.at, block=BLOCK, **settings))
        (self.at / "blacklist").touch()
        command = [os.fspath(binary), "-C", f"{self.at}/exim.conf", "-bdf"]
        self._process = daemon(command, self.at / "daemon.log")
        until(lambda: answers(self.ip), 10, f"Exim does not listen on {self.ip}")
        return self

    def block(self, *clients: str) -> None:
        """The blacklist is these addresses; Exim reads the file anew for each connection."""
        (self.at / "blacklist").write_text("".join(f"{client}: listed\n" for client in clients))

    def delist(self) -> None:
        self.block()

    def stop(self) -> None:
        end(self._process)

    @property
    def mailbox(self) -> Path:
        return self.at / "mail/all"

    def settle(self, messages: int, seconds: float = 10) -> bytes:
        """The mailbox, once it holds `messages` messages."""
        why = f"{self.name} has not delivered {messages} messages"
        until(lambda: self.log().count(" Completed") >= messages, seconds, why)
        return self.mailbox.read_bytes()

    def log(self) -> str:
        return "".join(p.read_text(errors="replace") for p in sorted((self.at / "log").glob("*log")))
