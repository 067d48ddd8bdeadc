"""by_hand: `Dialogue`: one SMTP session typed by hand: telnet with TLS, deadlines, evidence and the guard.

Belongs here: the commands as people call them, DSN's typed parameters. Not here: the session (hands), SASL (auth).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pandas as pd

from smtpkit import auth, escape
from smtpkit.address import mailbox, mailbox_or_none, refuse_controls, reverse_path
from smtpkit.campaign import Rules
from smtpkit.errors import InvalidInput, flag, listed, one_of, quantity, refuse
from smtpkit.hands import Answer, Hands
from smtpkit.limits import LONGEST
from smtpkit.message import Message
from smtpkit.network import Network, chosen
from smtpkit.probing import aimed, parties
from smtpkit.tls import TlsFacts
from smtpkit.transcript import Transcript

SUBMISSION = (587, 465)
_STAGES = {verb: verb.lower() for verb in "EHLO MAIL RCPT DATA RSET NOOP VRFY".split()} | {"HELO": "ehlo"}
_SAYS = {"EHLO": ("helo",), "HELO": ("helo",), "MAIL": ("helo", "sender", "sender_domain"),
         "RCPT": ("recipient", "recipient_domain")}  # fmt: skip
"""What a command changes in its row."""


class Dialogue(Hands):
    """One session by hand: each call sends one command and gives its Reply, or Lost (code None) with the error.

    `server`: (address, port) or a host name; the source address is the network's. `tls`: "implicit" begins with
    a handshake, "verify" leaves at a bad certificate, it and "require" say no MAIL in clear; `starttls()` is
    yours to call. Nothing is compared with what is offered. DATA needs `live=True` and recipients that `guard`
    allows. The casebook has a row a recipient, source "dialogue". `rules`: guard, pace, timeouts, casebook,
    case. Raises InvalidInput for what cannot be said. Left alone it ends after Timeouts.idle.

    >>> from smtpkit import Lab
    >>> with Lab("healthy") as lab, Dialogue(("192.0.2.11", 25), network=lab.network) as talk:
    ...     talk.ehlo().code, talk.mail("me@ours.example").code, talk.command("VRFY root").code
    (250, 250, 252)
    """

    def __init__(
        self, server: "tuple[str, int] | str", *, network: Network | None = None, tls: str = "may",
        helo: str | None = None, live: bool = False, server_name: str | None = None, sender: str | None = None,
        ca_file: str | Path | None = None, connect: bool = True, **rules: Any,
    ) -> None:  # fmt: skip
        net, live, connect = chosen(network), flag("live", live), flag("connect", connect)
        aim, route = aimed(
            None, net, {"source": "dialogue", "asked": "connect"}, server=server, server_name=server_name, tls=tls,
            ca_file=ca_file, helo=helo,
        )  # fmt: skip
        self._tls, self._helo, self._port = aim.tls, aim.helo, aim.port
        self._sender = None if sender is None else reverse_path(sender)
        host, ip = next(iter(route), (None, None))
        self.name = f"{host.name if host else route.domain} [{ip}]:{aim.port}"
        ours = parties(aim.helo)
        row, jobs = aim.row(route, host, ip, ours), aim.dead_ends(route, ours)
        if host and ip:
            jobs = [aim.job(self._step(), host, ip, [row], live=live, named=None)]
        super().__init__(row, jobs, net, Rules.of(net, **rules))
        if connect:
            self.connect()

    def connect(self) -> Answer:
        """Connect and read the greeting, where `connect=False` has left that to you."""
        if self.over or self._session:
            raise InvalidInput("this dialogue has begun; open another with sk.Dialogue(...)")
        return self._start(self._tls == "implicit")

    def command(self, text: str) -> Answer:
        """Send a line as typed. After DATA it is a line of the message, answered by None, until "." ends it."""
        line = refuse_controls("command", text)
        if self._in_message:
            return self._do(self._message(b"" if line == "." else line.encode() + b"\r\n", line == "."))
        verb, _, rest = line.strip().upper().partition(" ")
        if verb in ("AUTH", "BDAT", "BURL"):
            raise refuse("command", verb, "is not sent as it is", "use auth() or data()")
        if not rest and verb in ("DATA", "STARTTLS", "QUIT"):
            return {"DATA": self.data, "STARTTLS": self.starttls, "QUIT": self.quit}[verb]()
        if self._tls in ("require", "verify") and self._tls_from is None and verb in ("MAIL", "RCPT"):
            raise InvalidInput(f"tls={self._tls!r}: {verb} is not said in clear; call starttls() first")
        return self._do(self._ask(_STAGES.get(verb, "other"), line.encode() + b"\r\n", **self._named(verb, line)))

    def _say(self, *words: str) -> Answer:
        return self.command(" ".join(refuse_controls("command", word) for word in words))

    def _named(self, verb: str, line: str) -> dict[str, object]:
        """What a command says of us and of whom; what is no mailbox stays as it is: the server shall judge it."""
        self._helo = line.strip()[5:] if verb in ("EHLO", "HELO") else self._helo
        found = re.search(r'<((?:"(?:[^"\\]|\\.)*"|[^<>"])*)>', line)
        who = found[1] if found else line[5:]
        who = mailbox_or_none(who) or who
        named = parties(self._helo, who, who)
        return {name: named[name] for name in _SAYS.get(verb, ())}

    def ehlo(self, name: str | None = None) -> Answer:
        """EHLO, with another name if given; what is offered is in `offers`."""
        return self._say("EHLO", self._helo if name is None else name)

    def helo(self, name: str | None = None) -> Answer:
        """HELO, for a server that knows no EHLO."""
        return self._say("HELO", self._helo if name is None else name)

    def starttls(self) -> Answer:
        """STARTTLS and the handshake, offered or not; what was offered in clear is forgotten."""
        if self._tls_from is not None:
            raise InvalidInput("TLS is on already; a second STARTTLS cannot be followed by a handshake")
        return self._do(self._starttls())

    def auth(
        self, user: str, secret: auth.Secret | None = None, mechanism: str | None = None, *, in_clear: bool = False
    ) -> Answer:  # fmt: skip
        """AUTH on a submission port, by the safest mechanism offered or the one named; asks for the password
        (`Secret.find`). Mechanisms that show the password need TLS, or `in_clear=True`."""
        offered = self.offers.get("AUTH", "").upper().split()
        known = (one for one in auth.MECHANISMS if one in offered)
        best = next(known, ", ".join(offered) or "PLAIN")
        name = refuse_controls("mechanism", best if mechanism is None else mechanism).upper()
        if self._port not in SUBMISSION:
            raise refuse("port", self._port, "is not for submission", "AUTH is for 587 and 465")
        one_of("mechanism", name, auth.MECHANISMS)
        if name != "CRAM-MD5" and self._tls_from is None and not flag("in_clear", in_clear):
            raise InvalidInput(f"AUTH {name} shows the password to all on the way; call starttls() first")
        if not isinstance(secret, auth.Secret | None):
            raise InvalidInput("secret= is no Secret; write smtpkit.auth.Secret(...), or leave it out to be asked")
        return self._do(self._login(name, refuse_controls("user", user), secret or auth.Secret.find()))

    def mail(
        self, sender: str | None = None, *parameters: str, ret: str | None = None, envid: str | None = None
    ) -> Answer:  # fmt: skip
        """MAIL, with any parameters, offered or not; `ret` FULL or HDRS and `envid` are RFC 3461's."""
        back = self._sender if sender is None else reverse_path(sender)
        if back is None:
            raise InvalidInput("MAIL needs a sender such as 'me@your.domain', or '<>' for the null reverse-path")
        words = [] if ret is None else [f"RET={_words('ret', [ret], ('FULL', 'HDRS'))}"]
        words += [] if envid is None else [f"ENVID={_xtext('envid', envid)}"]
        return self._say(f"MAIL FROM:<{back}>", *parameters, *words)

    def rcpt(
        self, recipient: str, *parameters: str, notify: str | Sequence[str] = (), orcpt: str | None = None
    ) -> Answer:  # fmt: skip
        """RCPT; `notify` "NEVER", or some of SUCCESS, FAILURE, DELAY, and `orcpt` are RFC 3461's."""
        known = ("NEVER",) if isinstance(notify, str) else ("SUCCESS", "FAILURE", "DELAY")
        asked = _words("notify", listed("notify", notify), known)
        words = [f"NOTIFY={asked}"] * bool(asked)
        words += [] if orcpt is None else [f"ORCPT=rfc822;{_xtext('orcpt', orcpt)}"]
        return self._say(f"RCPT TO:<{mailbox(recipient, 'recipient')}>", *parameters, *words)

    def data(self, message: Message | bytes | None = None) -> Answer:
        """DATA, the message and the dot; without a message, give its lines and the "." by `command`."""
        made = message if isinstance(message, Message | None) else Message.from_octets(message)
        return self._do(self._data(made))

    def rset(self) -> Answer:
        """RSET."""
        return self.command("RSET")

    def noop(self) -> Answer:
        """NOOP."""
        return self.command("NOOP")

    def vrfy(self, who: str) -> Answer:
        """VRFY."""
        return self._say("VRFY", who)

    def hang(self, seconds: float) -> Answer:
        """Say nothing for so long: what the server says by itself, or None."""
        return self._do(self._silence(quantity("seconds", seconds, 0.001, LONGEST)))

    def quit(self) -> Answer:
        """QUIT, and close."""
        if self._in_message:
            raise InvalidInput("the server reads a message: command('.') ends it, drop() leaves it unfinished")
        return self._do(self._leave())

    def drop(self) -> None:
        """Close without a word, wherever it stands."""
        self._do(None)

    def stop(self) -> None:
        """End at once whatever is waited for; from any thread."""
        self._run.stop()

    @property
    def tls(self) -> TlsFacts | None:
        """Version, cipher, chain, and why a certificate did not verify; None: in clear."""
        return self._session.facts if self._session else None

    @property
    def transcript(self) -> Transcript:
        """All replies so far with their commands; secrets are left out."""
        return Transcript(tuple(self._session.heard if self._session else ()), self.name, self._tls_from)

    def frame(self) -> pd.DataFrame:
        """The rows of this session; decided after each message, and at the end."""
        if not self._run.error:
            self._settle()
        return self._run.frame()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._in_message or self.over:
            self.drop()
        else:
            self.quit()

    def __repr__(self) -> str:
        state = "over" if self.over else "in clear" if self.tls is None else self.tls.version
        return escape.visible(f"<Dialogue {self.name}, {state}, {len(self.transcript)} replies>")

    def _repr_html_(self) -> str | None:
        return self.transcript._repr_html_()


def _words(what: str, given: Sequence[str], known: Sequence[str]) -> str:
    words = [refuse_controls(what, word).upper() for word in given]
    return ",".join(one_of(what, word, known, "is not what RFC 3461 has there") for word in words)


def _xtext(what: str, text: str) -> str:
    """RFC 3461 4: printable ASCII but + and = as it is, all else as +XX."""
    if not refuse_controls(what, text).isascii():
        raise refuse(what, text, "is not ASCII", "give it as a raw parameter")
    return "".join(f"+{ord(c):02X}" if c in "+= " else c for c in text)
