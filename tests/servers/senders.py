"""senders: real Postfix, Exim, Sendmail and OpenSMTPD that send to loopback fleets, and the logs they write.

Belongs here: one sender each: `deliver(recipients)` hands over one mail per recipient and returns when all were
tried once; `log` is the file. Not here: the servers they send to (faultserver), what smtpkit reads of it.

Each runs in a mount namespace with a hosts file of its own, so that `mx.one.example` can have four addresses.
"""

import re
import shutil
import smtplib
import socket
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from tests.servers import PORT, answers, copy_of, daemon, end, mtas, program, root, unpacked, until
from tests.servers.postfix import OWNERS, SERVICES

MAIL = "From: <news@ours.example>\nTo: <{to}>\nSubject: hello\nMessage-ID: <{n}.{kind}@ours.example>\n\nhello\n"
SENDER = "news@ours.example"
ENTER = "mount --make-rprivate / && mount --bind {at}/etc/hosts /etc/hosts && "


class Sender:
    """`routes`: domain to host name or names; `hosts`: the hosts file; `wait`: the time-out in seconds."""

    kind = ""

    def __init__(self, at: Path, routes: dict[str, Sequence[str]], hosts: str, wait: int = 3):
        self.at, self.routes, self.wait = at, routes, wait
        (at / "etc").mkdir(parents=True)
        (at / "etc/hosts").write_text(f"127.0.0.1 localhost relay1.ours.example\n{hosts}")
        root()
        program("unshare", "util-linux")

    def __enter__(self) -> "Sender":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def log(self) -> Path:
        return self.at / "mail.log"

    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def inside(self, script: str, text: str = "", check: bool = True) -> str:
        """Run a shell script in the namespace."""
        command = ["unshare", "-m", "bash", "-c", ENTER.format(at=self.at) + script]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=120)
        assert not check or done.returncode == 0, done.stderr + done.stdout
        return done.stderr + done.stdout

    def mails(self, recipients: Sequence[str]) -> list[tuple[str, str]]:
        return [(to, MAIL.format(to=to, n=n, kind=self.kind)) for n, to in enumerate(recipients)]

    def submit(self, recipients: Sequence[str], ip: str) -> None:
        for to, text in self.mails(recipients):
            with smtplib.SMTP(ip, PORT, timeout=20) as client:
                client.sendmail(SENDER, to, text)


MAIN = """compatibility_level = 3.6
queue_directory = {at}/queue
data_directory = {at}/data
maillog_file = {at}/mail.log
maillog_file_prefixes = {at}
myhostname = relay1.ours.example
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = loopback-only
inet_protocols = all
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
smtp_host_lookup = native
transport_maps = texthash:{at}/etc/transport
smtp_tls_security_level = may
smtp_tls_loglevel = 1
smtp_connect_timeout = {wait}s
smtp_helo_timeout = {wait}s
smtp_mail_timeout = {wait}s
smtp_data_done_timeout = {wait}s
smtp_connection_cache_on_demand = no
smtp_destination_concurrency_failed_cohort_limit = 0
smtp_destination_recipient_limit = 1
notify_classes =
bounce_queue_lifetime = 1d
maximal_backoff_time = 4000s
minimal_backoff_time = 4000s
"""


class Postfix(Sender):
    kind, ip = "postfix", "127.0.0.41"

    def __enter__(self) -> "Postfix":
        program("postfix", "postfix")
        for part, owner in OWNERS.items():
            (self.at / part).mkdir(exist_ok=True)
            shutil.chown(self.at / part, owner)
        rows = [row.split() for row in SERVICES.replace("\n", "|").split("|")]
        inner = "".join(f"{a} unix {b} {c} n {d} {e} {f}\n" for a, b, c, d, e, f in rows)
        outer = f"{self.ip}:{PORT} inet n - n - - smtpd\npostlog unix-dgram n - n - 1 postlogd\n"
        outer += "smtp unix - - n - - smtp\n"
        copy_of(self.at / "etc/main.cf", MAIN.format(at=self.at, wait=self.wait))
        copy_of(self.at / "etc/master.cf", outer + inner)
        ways = {domain: ", ".join(f"[{h}]:{PORT}" for h in names) for domain, names in self.routes.items()}
        copy_of(self.at / "etc/transport", "".join(f"{domain} smtp:{way}\n" for domain, way in ways.items()))
        self.inside(f"script -qec 'postfix -c {self.at}/etc start' /dev/null")
        return self

    def __exit__(self, *_: object) -> None:
        self.inside(f"postfix -c {self.at}/etc stop", check=False)

    def deliver(self, recipients: Sequence[str]) -> None:
        self.submit(recipients, self.ip)
        tried = lambda: all(re.search(f" to=<{to}>,.* status=", self.said()) for to in recipients)  # noqa: E731 - a poll
        until(tried, 60, "Postfix has not tried them all")


EXIM = """exim_path = {binary}
spool_directory = {at}/spool
log_file_path = {at}/log/%slog
primary_hostname = relay1.ours.example
log_selector = +outgoing_port +pid +outgoing_interface +received_recipients
keep_environment =
deliver_drop_privilege
trusted_users = Debian-exim
local_interfaces = 127.0.0.42
begin routers
{routers}
begin transports
out:
  driver = smtp
  port = {port}
  allow_localhost
  connect_timeout = {wait}s
  command_timeout = {wait}s
  final_timeout = {wait}s
  hosts_randomize
begin retry
* * F,2h,1h
"""
ROUTER = """{name}:
  driver = manualroute
  domains = {domain}
  transport = out
  route_list = * {hosts} byname
  self = send
  host_find_failed = defer
"""


class Exim(Sender):
    kind = "exim"

    def __enter__(self) -> "Exim":
        binary = unpacked("exim/usr/sbin/exim4")
        for part in ("spool", "log"):
            (self.at / part).mkdir()
            shutil.chown(self.at / part, "Debian-exim", "Debian-exim")
        routers = [
            ROUTER.format(name=f"r{n}", domain=domain, hosts=":".join(names))
            for n, (domain, names) in enumerate(self.routes.items())
        ]
        conf = EXIM.format(binary=binary, at=self.at, port=PORT, wait=self.wait, routers="".join(routers))
        (self.at / "exim.conf").write_text(conf)
        self._binary = binary
        return self

    @property
    def log(self) -> Path:
        return self.at / "log/mainlog"

    def deliver(self, recipients: Sequence[str]) -> None:
        for to, text in self.mails(recipients):
            self.inside(f"{self._binary} -C {self.at}/exim.conf -odf -f {SENDER} {to}", text, check=False)


MC = """OSTYPE(`linux')
define(`confDOMAIN_NAME', `relay1.ours.example')
define(`QUEUE_DIR', `{at}/queue')
define(`STATUS_FILE', `{at}/etc/statistics')
define(`confSERVICE_SWITCH_FILE', `{at}/etc/service.switch')
define(`confTO_IDENT', `0')
define(`confLOG_LEVEL', `14')
define(`confTO_CONNECT', `{wait}s')
define(`confTO_INITIAL', `{wait}s')
define(`confTO_HELO', `{wait}s')
define(`confTO_MAIL', `{wait}s')
define(`confTO_RCPT', `{wait}s')
define(`confTO_DATAFINAL', `{wait}s')
define(`confDONT_BLAME_SENDMAIL', `MapInUnsafeDirPath,TrustStickyBit')
define(`ESMTP_MAILER_ARGS', `TCP $h {port}')
undefine(`ALIAS_FILE')
FEATURE(`nocanonify')
FEATURE(`no_default_msa')
FEATURE(`accept_unresolvable_domains')
FEATURE(`mailertable', `hash -o {at}/etc/mailertable')
MAILER(`smtp')
"""


DEV = """mount -t tmpfs dev /dev && mknod /dev/null c 1 3 && mknod /dev/urandom c 1 9 && mknod /dev/random c 1 8 \
&& chmod 666 /dev/* && ln -s {at}/syslog /dev/log && """


class Sendmail(Sender):
    kind = "sendmail"

    def __enter__(self) -> "Sendmail":
        program("m4", "m4")
        self._binary = unpacked("sendmail/usr/libexec/sendmail/sendmail")
        etc, cf = self.at / "etc", mtas() / "sendmail/usr/share/sendmail/cf"
        (self.at / "queue").mkdir(mode=0o700)
        (etc / "service.switch").write_text("hosts files\naliases files\n")
        (etc / "statistics").touch()
        (etc / "lab.mc").write_text(MC.format(at=self.at, wait=self.wait, port=PORT))
        made = subprocess.run(
            ["m4", f"-D_CF_DIR_={cf}/", f"{cf}/m4/cf.m4", f"{etc}/lab.mc"], capture_output=True, check=True
        )
        (etc / "sendmail.cf").write_bytes(made.stdout)
        rows = "".join(
            f"{domain}\tesmtp:{':'.join(f'[{h}]' for h in names)}\n" for domain, names in self.routes.items()
        )
        makemap = self._binary.with_name("makemap")
        self.inside(f"{makemap} -C {etc}/sendmail.cf hash {etc}/mailertable", rows)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"{self.at}/syslog")
        self._writing = threading.Thread(target=self._write)
        self._writing.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", f"{self.at}/syslog")
        self._writing.join()
        self._socket.close()

    def deliver(self, recipients: Sequence[str]) -> None:
        for to, text in self.mails(recipients):
            flags = f"-C {self.at}/etc/sendmail.cf -odi -f {SENDER}"
            self.inside(DEV.format(at=self.at) + f"{self._binary} {flags} {to}", text, check=False)

    def _write(self) -> None:
        """What syslog gets, as syslogd writes it."""
        with self.log.open("ab", buffering=0) as log:
            while line := self._socket.recv(65536):
                stamp, rest = re.split(rb"(?<=:\d\d) ", line.rstrip(b"\0\n").partition(b">")[2], maxsplit=1)
                log.write(stamp + b" relay1 " + rest + b"\n")


SMTPD = "listen on 127.0.0.44 port {port} hostname relay1.ours.example\n"
ACTION = 'action "a{n}" relay host "smtp://{host}:{port}"\nmatch from any for domain "{domain}" action "a{n}"\n'


class OpenSmtpd(Sender):
    kind = "opensmtpd"

    def __enter__(self) -> "OpenSmtpd":
        binary, libexec = unpacked("opensmtpd/usr/sbin/smtpd"), mtas() / "opensmtpd/usr/libexec/opensmtpd"
        for part in ("spool", "run"):
            (self.at / part).mkdir()
        (self.at / "spool").chmod(0o711)
        (self.at / "etc/resolv.conf").write_text("lookup file\nnameserver 127.0.0.1\n")
        actions = [
            ACTION.format(n=n, host=names[0], port=PORT, domain=domain)
            for n, (domain, names) in enumerate(self.routes.items())
        ]
        (self.at / "smtpd.conf").write_text(SMTPD.format(port=PORT) + "".join(actions))
        script = ENTER.format(at=self.at) + (
            f"mount --bind {self.at}/run /run && mount --bind {self.at}/etc/resolv.conf /etc/resolv.conf && "
            f"mount --bind {self.at}/spool /var/spool/smtpd && mount --bind {libexec} /usr/libexec/opensmtpd && "
            f"exec {binary} -d -v -f {self.at}/smtpd.conf"
        )
        self._process = daemon(["unshare", "-m", "bash", "-c", script], self.log)
        until(lambda: answers("127.0.0.44"), 10, "OpenSMTPD does not listen")
        return self

    def __exit__(self, *_: object) -> None:
        end(self._process)

    def deliver(self, recipients: Sequence[str]) -> None:
        self.submit(recipients, "127.0.0.44")
        until(
            lambda: self.said().count(" mta delivery ") >= len(recipients),
            60,
            "OpenSMTPD has not tried them all",
        )


KINDS = {sender.kind: sender for sender in (Postfix, Exim, Sendmail, OpenSmtpd)}
