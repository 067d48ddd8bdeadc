"""opensmtpd: one real OpenSMTPD on loopback with its own blacklist and maildir. Not here: other servers."""

import os
import shutil
from pathlib import Path

from tests.servers import BLOCK, PORT, answers, certificate, daemon, end, mtas, program, root, unpacked, until

PKI = 'pki lab cert "{at}/etc/cert.pem"\npki lab key "{at}/etc/key.pem"\n'
CONF = """{pki}table blacklist file:{at}/blacklist
filter stale phase connect match src <blacklist> disconnect "554 5.7.1 {block}"
listen on {ip} port {port} hostname {name} {tls} filter stale
action "keep" maildir "{at}/mail" virtual {{ "@{domain}" = nobody }}
match from any for domain "{domain}" action "keep"
"""
# Its spool, sockets and helpers lie in compiled-in places: bound over, in a mount namespace of its own.
ENTER = """mount --make-rprivate / && mount --bind {at}/run /run \
&& mount --bind {at}/etc/resolv.conf /etc/resolv.conf && mount --bind {at}/spool /var/spool/smtpd \
&& mount --bind {libexec} /usr/libexec/opensmtpd \
&& exec {binary} -d -f {at}/smtpd.conf"""


class OpenSmtpd:
    """OpenSMTPD on `ip` port 2525; each message is a file in `mail/new`.

    `tls=True` offers STARTTLS, and Debian 12's build breaks each handshake with OpenSSL 3 ("missing private
    key" in its log): a real server with the fault that looks like a down link.
    """

    greets_with = 554

    def __init__(self, at: Path, ip: str, name: str, *, domain: str, tls: bool = False):
        self.at, self.ip, self.name, self.domain, self.tls = at, ip, name, domain, tls

    def start(self) -> "OpenSmtpd":
        root()
        program("unshare", "util-linux")
        binary = unpacked("opensmtpd/usr/sbin/smtpd")
        for part in ("spool", "run", "mail", "etc"):
            (self.at / part).mkdir(parents=True, exist_ok=True)
        (self.at / "spool").chmod(0o711)
        shutil.chown(self.at / "mail", "nobody", "nogroup")
        certificate(self.at / "etc", self.name)
        (self.at / "etc/resolv.conf").write_text("lookup file\nnameserver 127.0.0.1\n")
        (self.at / "blacklist").touch()
        settings = {"ip": self.ip, "name": self.name, "domain": self.domain, "port": PORT, "block": BLOCK}
        settings |= {"pki": PKI.format(at=self.at) * self.tls, "tls": "tls pki lab" * self.tls}
        (self.at / "smtpd.conf").write_text(CONF.format(at=self.at, **settings))
        self._begin(binary)
        return self

    def _begin(self, binary: Path) -> None:
        libexec = mtas() / "opensmtpd/usr/libexec/opensmtpd"
        script = ENTER.format(at=self.at, binary=binary, libexec=libexec)
        self._process = daemon(["unshare", "-m", "bash", "-c", script], self.at / "daemon.log")
        until(lambda: answers(self.ip), 10, f"OpenSMTPD does not listen on {self.ip}")

    def block(self, *clients: str) -> None:
        """The blacklist is these addresses; a table is read at start, so start anew."""
        (self.at / "blacklist").write_text("".join(f"{client}\n" for client in clients))
        self.stop()
        self._begin(unpacked("opensmtpd/usr/sbin/smtpd"))

    def delist(self) -> None:
        self.block()

    def stop(self) -> None:
        end(self._process)

    def settle(self, messages: int, seconds: float = 10) -> bytes:
        """All delivered messages, once there are `messages` of them."""
        until(lambda: len(self._mails()) >= messages, seconds, f"{self.name} has fewer than {messages} mails")
        return b"\n".join(path.read_bytes() for path in self._mails())

    def _mails(self) -> list[Path]:
        return sorted((self.at / "mail").glob("new/*"), key=os.path.getmtime)

    def log(self) -> str:
        return (self.at / "daemon.log").read_text(errors="replace")
