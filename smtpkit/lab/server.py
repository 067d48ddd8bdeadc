"""server: one SMTP session of a lab server, from banner to close (RFC 5321 from the other side).

Belongs here: the commands, their order and syntax. Not here: listening (lab), what a scenario answers (rules).
"""

import contextlib
import re
import socket
import struct
import threading
from collections import namedtuple
from functools import partialmethod
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING

from smtpkit.lab.rules import Facts, fill, wire

if TYPE_CHECKING:
    from smtpkit.lab import Lab

Seen = namedtuple("Seen", "at session ip host client stage command code reply")
"""One reply as its server knows it; `at` in lab seconds; without a code, `reply` says what happened."""
Mail = namedtuple("Mail", "host ip client helo sender recipients tls octets")
"""One accepted message: its envelope, and its octets without dot-stuffing and final dot."""
_PATH = r'[^<>]*<((?:"(?:[^"\\]|\\.)*"|[^"<>\s])*)>(?: [!-~]+)*'  # lenient as Postfix: a name may stand before it
_SYNTAX = {
    "EHLO": r" *(\S+) *", "HELO": r" *(\S+) *", "STARTTLS": "", "MAIL": f"(?i:from):{_PATH}",
    "RCPT": f"(?i:to):(?!.*<>){_PATH}", "DATA": "", "QUIT": "",
}  # fmt: skip
_FIXED = {"VRFY": "252 2.0.0 Try RCPT", **dict.fromkeys(("NOOP", "RSET"), "250 2.0.0 Ok")}


class Over(Exception):
    """The session ends here; not an error."""


class Session(threading.Thread):
    """The dialogue with one client, until the connection is closed."""

    def __init__(self, lab: "Lab", mx: SimpleNamespace, name: str, client: str, sock: socket.socket) -> None:
        super().__init__(name=name, daemon=True)
        ip, random = name.partition("#")[0], Random(f"{lab.scenario.seed}/{name}")
        self.facts: Facts = {"host": random.choice(mx.backends or (mx.name,)), "ip": ip, "client": client}
        self.facts |= {"random": random, "helo": "", "tls": False}
        self.lab, self.mx, self.sock, self.file, self.command = lab, mx, sock, sock.makefile("rb"), ""
        self.secures = self.refused = False
        self.clear()

    def clear(self) -> None:
        """Forget the transaction, not the client (RFC 5321 4.1.1.5)."""
        self.recipients, self.mail_open = list[str](), False
        self.facts |= {"sender": "", "recipient": "", "message": b"", "size": 0}

    def run(self) -> None:
        """Talk until one side leaves; how it ended is in the log."""
        try:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.refused = not self.answer("banner")
            while True:
                self.obey(self.line())
        except Over:
            self.leave()
        except OSError as error:  # the client left, or the lab is closing
            self.note("lost", f"{type(error).__name__}: {error}")
        finally:
            self.file.close()
            self.sock.close()
            self.lab.live.discard(self)

    def leave(self) -> None:
        """Close so that the client can read what it was told: what it still sends must not reset us."""
        with contextlib.suppress(OSError):  # the client may be gone; all that counts was noted
            self.sock.shutdown(socket.SHUT_WR)
            while self.sock.recv(65536):
                pass

    def line(self) -> bytes:
        if line := self.file.readline(65536):
            return line
        raise ConnectionAbortedError("closed without QUIT")

    def note(self, stage: str, reply: str) -> None:
        code = int(reply[:3]) if reply[:3].isdigit() else None
        at, ip, host, client = self.lab.clock.now(), *map(self.facts.get, ("ip", "host", "client"))
        self.lab.log.append(Seen(at, self.name, ip, host, client, stage, self.command, code, reply))

    def say(self, stage: str, text: str, mail: Mail | None = None) -> bool:
        """Give a reply; True if it is a positive one: then `mail` is ours. 421 ends the session."""
        text = fill(text, self.facts)
        self.pause(self.mx.delay)
        self.note(stage, text)
        self.lab.mailbox += [mail] if mail and text[0] == "2" else []
        self.sock.sendall(wire(text, self.lab.scenario.charset))
        if text.startswith("421"):
            raise Over
        return text[0] in "23"

    def pause(self, seconds: float) -> None:
        if self.lab.stopping.wait(seconds):
            raise Over

    def answer(self, stage: str, usual: str = "", mail: Mail | None = None) -> bool:
        """What the scenario's rules say and do at this stage, else the usual reply."""
        rule = self.lab.rules.match(stage, self.facts)
        self.pause(rule.delay)
        fine = False
        if rule.reply or not rule.drop:
            fine = self.say(stage, rule.reply or usual or self.mx.texts[stage], mail)
        if rule.drop:
            self.drop(stage, rule.drop)
        return fine

    def drop(self, stage: str, how: str) -> None:
        self.note(stage, f"({how})")
        while how == "silence" and self.sock.recv(65536):
            pass
        if how == "reset":  # lingering 0 s: the close sends RST
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise ConnectionAbortedError("reset by a rule")
        raise Over

    def obey(self, line: bytes) -> None:
        """One command: refused, or done by the method of its name."""
        text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
        word, _, rest = text.partition(" ")
        self.command, word = text, word.upper()
        found = re.fullmatch(_SYNTAX.get(word, "(?s).*"), rest)
        wrong = self.wrong(word, line) or f"501 5.5.4 Syntax error in the words after {word}" * (found is None)
        if word == "RSET":
            self.clear()
        if found and not wrong:
            getattr(self, word.lower())(*found.groups())
        else:
            self.say(word.lower() if word in _SYNTAX else "other", wrong)

    def wrong(self, word: str, line: bytes) -> str:
        """Why this command cannot come now; "" if it can."""
        odd = re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n", line)
        checks = (
            (odd, "500 5.5.2 Error: bare <LF>, or a control character"),
            (word not in _SYNTAX, _FIXED.get(word, "502 5.5.2 Error: command not recognized")),
            (self.refused and word != "QUIT", "503 5.5.1 This server does not talk to you; QUIT"),
            (word == "STARTTLS" and not self.secures, "503 5.5.1 STARTTLS is not offered"),
            (word == "MAIL" and not self.facts["helo"], "503 5.5.1 Error: send EHLO first"),
            (word == "MAIL" and self.mail_open, "503 5.5.1 Error: nested MAIL"),
            (word == "RCPT" and not self.mail_open, "503 5.5.1 Error: need MAIL command"),
            (word == "DATA" and not self.recipients, "503 5.5.1 Error: need RCPT command"),
        )
        return next((text for holds, text in checks if holds), "")

    def ehlo(self, name: str, extended: bool = True) -> None:
        self.clear()
        self.facts["helo"] = name
        self.secures = extended and self.mx.tls != "none" and not self.facts["tls"]
        offers = [*self.mx.offers, *["STARTTLS"] * self.secures] if extended else []
        if not self.answer("ehlo", "\n".join([self.mx.texts["ehlo"], *offers])):
            self.facts["helo"] = ""

    helo = partialmethod(ehlo, extended=False)

    def starttls(self) -> None:
        if self.answer("starttls"):
            self.file.close()  # with what came behind STARTTLS in clear
            context = self.lab.contexts[self.mx.tls]
            self.sock = tls = context.wrap_socket(self.sock, server_side=True, do_handshake_on_connect=False)
            tls.do_handshake()  # self.sock is set first: a closing lab must be able to end this
            self.file, self.secures = tls.makefile("rb"), False
            self.facts |= {"helo": "", "tls": True}
            self.clear()

    def mail(self, path: str) -> None:
        size = re.search(r"(?i) SIZE=([0-9]{1,20})\b", self.command)
        self.facts |= {"sender": path, "size": int(size[1]) if size else 0}
        most = [int(word[5:]) for word in self.mx.offers if re.fullmatch("(?i)SIZE [0-9]+", word)]
        over = most and 0 < most[0] < self.facts["size"]
        self.mail_open = self.answer("mail", "552 5.3.4 Message size exceeds fixed limit" if over else "")

    def rcpt(self, path: str) -> None:
        self.facts["recipient"], domain = path, path.rpartition("@")[2].lower()
        ours = any(self.facts["ip"] in mx.ips and domain in mx.domains for mx in self.lab.scenario.mx)
        relayed = "" if ours or domain == "postmaster" else "554 5.7.1 <{recipient}>: Relay access denied"
        if self.answer("rcpt", relayed):
            self.recipients.append(path)

    def data(self) -> None:
        if not self.answer("data"):
            return
        lines, self.command = [b"\r\n"], "."
        while (line := self.line()) != b".\r\n" or not lines[-1].endswith(b"\r\n"):  # RFC 5321 4.1.1.4
            stuffed = line.startswith(b".") and lines[-1].endswith(b"\r\n")
            lines.append(line[1:] if stuffed else line)
        octets = b"".join(lines[1:])
        self.facts |= {"message": octets, "size": len(octets)}
        bare = re.search(rb"\r(?!\n)|(?<!\r)\n", octets)
        facts = self.facts | {"recipients": tuple(self.recipients), "octets": octets}
        mail = Mail(**{name: facts[name] for name in Mail._fields})
        self.answer("body", "550 5.5.2 Error: bare <LF> or <CR> in the message" if bare else "", mail)
        self.clear()

    def quit(self) -> None:
        self.answer("quit")
        raise Over
