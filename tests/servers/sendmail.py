"""sendmail: one real Sendmail on loopback with its own access list and mailbox. Not here: other servers."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

from tests.servers import BLOCK, PORT, answers, certificate, daemon, end, mtas, program, root, unpacked, until

MC = """OSTYPE(`linux')
define(`confDOMAIN_NAME', `{name}')
define(`confPID_FILE', `{at}/sendmail.pid')
define(`QUEUE_DIR', `{at}/queue')
define(`STATUS_FILE', `{at}/etc/statistics')
define(`confSERVICE_SWITCH_FILE', `{at}/etc/service.switch')
define(`confTO_IDENT', `0')
define(`confQUEUE_LA', `1000')
define(`confREFUSE_LA', `1000')
define(`confDONT_BLAME_SENDMAIL', `MapInUnsafeDirPath,TrustStickyBit')
define(`confDEF_USER_ID', `65534:65534')
define(`confSERVER_CERT', `{at}/etc/cert.pem')
define(`confSERVER_KEY', `{at}/etc/key.pem')
define(`confCACERT', `{at}/etc/ca.pem')
define(`confCACERT_PATH', `{at}/etc')
undefine(`ALIAS_FILE')
FEATURE(`no_default_msa')
FEATURE(`nocanonify')
LOCAL_DOMAIN(`{domain}')
FEATURE(`accept_unresolvable_domains')
FEATURE(`access_db', `hash -T<TMPF> -o {at}/etc/access')
DAEMON_OPTIONS(`Name=lab, Addr={ip}, Port={port}, Family=inet')
MAILER(`smtp')
MAILER_DEFINITIONS
Mkeep, P={at}/etc/keep, F=lsDFMPu8, S=EnvFromSMTP, R=EnvToSMTP,
	D=/, U=nobody:nogroup, T=DNS/RFC822/X-Unix, A=keep $g $u
LOCAL_RULE_0
R$* < @ {domain} . > $*	$#keep $@ local $: $1
R$* < @ {domain} > $*	$#keep $@ local $: $1
"""
ENTER = """mount --make-rprivate / && mount --bind {at}/etc/resolv.conf /etc/resolv.conf \
&& mount --bind {at}/etc/hosts /etc/hosts && exec {binary} -C {at}/etc/sendmail.cf -bD"""


class Sendmail:
    """Sendmail 8 on `ip` port 2525. It greets with 220 whoever comes, and refuses the listed at MAIL."""

    greets_with = 220

    def __init__(self, at: Path, ip: str, name: str, *, domain: str):
        self.at, self.ip, self.name, self.domain = at, ip, name, domain

    def start(self) -> "Sendmail":
        root()
        program("unshare", "util-linux"), program("m4", "m4")
        self._binary = unpacked("sendmail/usr/libexec/sendmail/sendmail")
        for part, mode in (("etc", 0o755), ("queue", 0o700), ("mail", 0o755)):
            (self.at / part).mkdir(parents=True, exist_ok=True)
            (self.at / part).chmod(mode)
        shutil.chown(self.at / "mail", "nobody", "nogroup")
        self._write_files()
        self._compile()
        script = ENTER.format(at=self.at, binary=self._binary)
        self._process = daemon(["unshare", "-m", "bash", "-c", script], self.at / "daemon.log")
        until(lambda: answers(self.ip), 20, f"Sendmail does not listen on {self.ip}")
        return self

    def _write_files(self) -> None:
        etc = self.at / "etc"
        certificate(etc, self.name)
        (etc / "service.switch").write_text("hosts files\naliases files\n")
        (etc / "statistics").touch()
        (etc / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        # an unqualified own name makes Sendmail sleep 60 s before it listens
        (etc / "hosts").write_text(f"127.0.0.1 {self.name} {socket.gethostname()} localhost\n")
        (etc / "keep").write_text(f"#!/bin/sh\n{{ cat; echo; }} >> {self.at}/mail/all\n")
        (etc / "keep").chmod(0o755)
        (etc / "access.txt").touch()

    def _compile(self) -> None:
        etc, cf = self.at / "etc", mtas() / "sendmail/usr/share/sendmail/cf"
        settings = {"name": self.name, "domain": self.domain, "ip": self.ip, "port": PORT}
        (etc / "lab.mc").write_text(MC.format(at=self.at, **settings))
        command = ["m4", f"-D_CF_DIR_={cf}/", f"{cf}/m4/cf.m4", f"{etc}/lab.mc"]
        (etc / "sendmail.cf").write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
        self._make_access()

    def _make_access(self) -> None:
        etc = self.at / "etc"
        command = [self._binary.with_name("makemap"), "-C", etc / "sendmail.cf", "hash", etc / "access"]
        rows = (etc / "access.txt").read_bytes()
        made = subprocess.run([*map(os.fspath, command)], input=rows, capture_output=True, check=False)
        assert made.returncode == 0, made.stderr

    def block(self, *clients: str) -> None:
        """The access list refuses these addresses; Sendmail opens it anew for each connection."""
        rows = "".join(f'Connect:{client}\tERROR:5.7.1:"554 {BLOCK}"\n' for client in clients)
        (self.at / "etc/access.txt").write_text(rows)
        self._make_access()

    def delist(self) -> None:
        self.block()

    def stop(self) -> None:
        end(self._process)

    def settle(self, messages: int, seconds: float = 20) -> bytes:
        """The mailbox, once it holds `messages` messages and the queue is empty."""
        until(lambda: self._held() >= messages, seconds, f"{self.name} has fewer than {messages} mails")
        return (self.at / "mail/all").read_bytes()

    def _held(self) -> int:
        """Delivered messages; 0 while anything is still in the queue."""
        path, waiting = self.at / "mail/all", list((self.at / "queue").glob("[dq]f*"))
        return path.read_bytes().count(b"\nReceived: from") if path.exists() and not waiting else 0

    def log(self) -> str:
        return (self.at / "daemon.log").read_text(errors="replace")
