"""transcript: a dialogue as people read it (swaks' marks) and as machines keep it (JSON lines).

Belongs here: Transcript, its notations, reading swaks' own output, replaying. Not here: the store (casebook).
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from math import ceil
from shlex import quote
from typing import Any

from smtpkit import catalogue, escape
from smtpkit.address import as_ip, helo_name, mailbox
from smtpkit.errors import InvalidInput, listed, of_kind, one_of, quantity
from smtpkit.jobs import Heard
from smtpkit.limits import DAY, Pace, Visit
from smtpkit.mx import MxRoute
from smtpkit.network import or_usual
from smtpkit.reply import Reply


@dataclass(frozen=True, slots=True)
class Transcript(Sequence[Heard]):
    """The exchanges of one session, in order; prints in swaks' notation.

    >>> print(Transcript((Heard("banner", "", Reply(220, b"220 mx1.example ESMTP\\r\\n")),)))
    <-  220 mx1.example ESMTP
    """

    rows: tuple[Heard, ...] = ()
    note: str = ""
    """A remark that stands first, such as whom it was held with."""
    tls_from: int | None = None
    """Position of the first exchange inside TLS; None: no TLS, or not known."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: Any) -> Any:
        return self.rows[number]

    def __str__(self) -> str:
        """swaks' notation: `->` we said, `<-` the server, `<**` unexpected, `~` under TLS, `===` remarks."""
        told = [f"=== {escape.one_line(self.note)}"] * bool(self.note)
        for number, line in enumerate(self.rows):
            safe = self.tls_from is not None and number >= self.tls_from
            said, good, odd = (" ~>", "<~ ", "<~*") if safe else (" ->", "<- ", "<**")
            told += ["=== TLS started"] * (number == self.tls_from)
            told += [f"{said} {escape.one_line(line.command)}"] * bool(line.command)
            mark = good if line.expected else odd
            told += [f"{mark} {escape.one_line(text)}" for text in line.reply.shown.split("\n")]
        return "\n".join(told)

    def __repr__(self) -> str:
        return str(self) or "<Transcript: nothing was said>"

    def _repr_html_(self) -> str | None:
        head = f"<details open><summary>SMTP dialogue, {len(self)} replies</summary>"
        return f"{head}{escape.pre(self)}</details>" if escape.options.html else None

    def jsonl(self) -> str:
        """One JSON object a line: stage, command, code, raw (latin-1), anomalies, sent_at, latency_s."""
        return "".join(json.dumps(_as_json(line), ensure_ascii=False) + "\n" for line in self.rows)

    @classmethod
    def from_jsonl(cls, text: str) -> "Transcript":
        """What `jsonl` wrote; InvalidInput names the line that cannot be read."""
        return cls(tuple(_from_json(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()))

    def replay(self) -> list[tuple[str, bytes]]:
        """The server's part as a script: (stage, octets) in order, for a scripted server.

        >>> Transcript((Heard("banner", "", Reply(220, b"220 hi\\r\\n")),)).replay()
        [('banner', b'220 hi\\r\\n')]
        """
        return [(line.stage, line.reply.raw) for line in self.rows]


def _as_json(line: Heard) -> dict[str, object]:
    at = line.sent_at.isoformat() if line.sent_at else None
    raw = line.reply.raw.decode("latin-1")
    facts = {"stage": line.stage, "command": line.command, "code": line.reply.code, "raw": raw}
    return facts | {"anomalies": list(line.reply.anomalies), "sent_at": at, "latency_s": line.latency_s}


def _from_json(number: int, text: str) -> Heard:
    try:
        row = json.loads(text)
        raw, odd = row["raw"].encode("latin-1"), ",".join(row["anomalies"])
        return _line(row["stage"], row["command"], row["code"], raw, odd, row["sent_at"], row["latency_s"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"line {number} of the transcript is not one of jsonl()'s: {error!r}") from None


def _line(stage: str, command: str, code: int | None, raw: bytes, odd: str, at: str | None, took: Any) -> Heard:
    reply = Reply(code, raw, tuple(filter(None, odd.split(","))))
    return Heard(stage, command, reply, datetime.fromisoformat(at) if at else None, took)


def from_replies(rows: Iterable[Sequence[Any]], note: str = "", *, implicit: bool = False) -> Transcript:
    """A transcript from rows of the store's replies: session, seq, stage, command, code, raw, anomalies, ...

    `implicit`: TLS from the first octet on.
    """
    lines = [_line(*row[2:]) for row in rows]
    shook = (n for n, line in enumerate(lines, 1) if line.stage == "starttls" and line.expected)
    begun = 0 if implicit else next(shook, len(lines))
    return Transcript(tuple(lines), note, begun if begun < len(lines) else None)


_MARKED = re.compile(r"(===|\*\*\*| ->| ~>| \*\*>|<- |<\*\*|<~ |<~\*) ?(.*)")
_VERBS = {v: v.lower() for v in "EHLO MAIL RCPT STARTTLS AUTH DATA QUIT".split()}
_VERBS |= {"HELO": "ehlo", ".": "body"}


def read_transcripts(text: str) -> list[Transcript]:
    """The sessions in swaks' own output (of one or several runs), ready for `.jsonl()` and `.replay()`.

    Message lines between DATA and the dot are left out, and what AUTH sent is made ***. Raises InvalidInput if
    no line has swaks' marks.

    >>> [(line.stage, line.reply.code) for line in read_transcripts("<-  220 hi\\n -> QUIT\\n<-  221 bye")[0]]
    [('banner', 220), ('quit', 221)]
    """
    made, text = list[_Reading](), of_kind("text", text, str, "read the file as text")
    for mark, rest in (match.groups() for match in map(_MARKED.match, text.splitlines()) if match):
        begins = mark == "===" and rest.startswith(("At ", "Trying ")) and made and made[-1].tried
        if begins or not made:
            made.append(_Reading())
        made[-1].take(mark, rest)
    if not made:
        raise InvalidInput("no line has swaks' marks (===, ->, <-); give swaks' output as it was printed")
    return [Transcript(tuple(one.rows), "; ".join(one.notes), one.tls_from) for one in made]


class _Reading:
    """One session of swaks' output, line by line."""

    def __init__(self) -> None:
        self.rows, self.notes = list[Heard](), list[str]()
        self.tls_from: int | None = None
        self._waiting, self._lines, self._in_message = list[str](), list[str](), False
        self.tried = False

    def take(self, mark: str, rest: str) -> None:
        if mark == "===":
            self.tried |= rest.startswith("Trying ")
            self.notes += [rest] * rest.startswith(("At ", "Trying "))
            self.tls_from = len(self.rows) if rest.startswith("TLS started") else self.tls_from
        elif mark == "***":
            self.notes.append(rest.strip())
        elif mark.startswith("<"):
            self._lines.append(rest)
            if rest[3:4] != "-":
                self._reply()
        elif not self._in_message or rest == ".":
            self._waiting.append(rest)

    def _reply(self) -> None:
        """Pair a whole reply with the oldest command that waits for one."""
        lines, self._lines = self._lines, []
        code = int(lines[-1][:3]) if re.match(r"[0-9]{3}\b", lines[-1]) else None
        said = self._waiting.pop(0) if self._waiting else "." * self._in_message
        words = said.split()
        stage = _VERBS.get(words[0].upper().partition(":")[0], "other") if words else "other"
        if not words and not self.rows:
            stage = "banner"
        if self.rows and (self.rows[-1].stage, self.rows[-1].reply.code) == ("auth", 334):
            stage, said = "auth", "***"
        elif stage == "auth":
            said = " ".join([*words[:2], "***"])
        self._in_message = stage == "data" and code == 354
        self.rows.append(Heard(stage, said, Reply(code, "".join(f"{line}\r\n" for line in lines).encode())))


_TLS = {"may": "--tls-optional", "require": "--tls", "verify": "--tls --tls-verify", "off": ""}


def swaks_script(
    route: MxRoute, sender: str, recipient: str | None = None, *, sender_ips: Sequence[str] = (), rounds: int = 5,
    helo: str | None = None, tls: str = "may", port: int = 25, pace: Pace | None = None,
) -> str:  # fmt: skip
    """A probe as a shell script for a sending host that has swaks and no Python: paced, nothing delivered.

    Every address of the route is asked in each round, from each of `sender_ips` (`--local-interface`), to RCPT or
    without a recipient to EHLO. Its output is what `read_transcripts` takes.

    >>> from smtpkit.mx import MxHost
    >>> route = MxRoute("d.example", "mx", (MxHost("mx.d.example", 10, ("192.0.2.1",)),))
    >>> print(swaks_script(route, "me@ours.example", rounds=1).splitlines()[-1])
    ask 192.0.2.1
    """
    one_of("tls", tls, _TLS)
    of_kind("route", route, MxRoute, "give what lookup_mx gave")
    rounds, pace = quantity("rounds", rounds, 1, 1000, whole=True), or_usual("pace", pace, Pace())
    sender_ips = [str(as_ip(ip, "sender_ips")) for ip in listed("sender_ips", sender_ips)]
    known = {"--port": str(quantity("port", port, 1, 65535, whole=True)), "--from": mailbox(sender, "sender")}
    known |= {} if helo is None else {"--helo": helo_name(helo)}
    known["--to"] = mailbox(sender if recipient is None else recipient, "recipient")
    known["--quit-after"] = "RCPT" if recipient else "EHLO"
    told = [*(f"{name} {quote(value)}" for name, value in known.items() if value), _TLS[tls]]
    sessions, now, seen = list[tuple[int, str]](), 0, dict[str, list[Visit]]()
    for _, ours, (host, ip) in product(range(rounds), sender_ips or [""], list(route)):
        visits = seen.setdefault(host.receiver, [])
        wait = ceil(pace.wait(visits, ip, now))
        now += wait
        visits[:] = [*(one for one in visits if one.at > now - DAY), Visit(now, ip, now)]  # as the ledger counts
        sessions.append((wait, " ".join(quote(one) for one in (ip, ours) if one)))
    more = {"rounds": rounds, "minutes": round(now / 60), "told": " ".join(told), "sessions": sessions}
    return catalogue.render("probe.sh", domain=route.domain, **more)
