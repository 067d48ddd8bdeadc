"""exim: Exim's mainlog as attempts: final lines (=> -> ** ==) and the H= lines between them.

Belongs here: which H= line a final line repeats, what is no try. Not here: other MTAs, files.
"""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar

import polars as pl

from smtpkit.logs import headers
from smtpkit.logs.plain import Bare, Head, octal, today
from smtpkit.logs.rows import SHIFT
from smtpkit.words import ending

_STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?(?: [+-]\d{4})?"
_KEY = r"\w{6}-\w{6,11}-\w{2,4} "
_LINE = re.compile(rf"(?:({_STAMP}) )?(?:\[\d+\] )?({_KEY[:-1]}) (.*)")
_OWN = rf"^{_STAMP} (?:\[\d+\] )?{_KEY}"
_INNER = re.compile(rf"^(?![\"{{]).*?(?<!/\d\] )(?={_STAMP} (?:\[\d+\] )?{_KEY})")
_BEHIND = rf"{_KEY}(?:<=|[=>-]>|\*[*>]|==|H=|Completed|TLS |SMTP [et])" + r'|^[{].*"MESSAGE" ?: ?\['
"""Lines with another front: syslog's, journald's (octets come as a list), or one that cannot be read."""
_FINAL = re.compile(
    r'(=>|->|>>|\*>|\*\*|==) +("(?:[^"\\]|\\.)*"\S*?|\S+?)(?: \([^()]*\))?(?: <([^>]*)>)?:?(?: (.*))?$'
)
_HOST = re.compile(
    r"(?<!\S)H=(\S+?)?(?: DS)?(?: \([^()]*\))? ?\[([0-9A-Fa-f:.]+)\](?::(\d{1,5}))?\*?((?: [A-Za-z]+=\S+)*):? ?"
)
_FRONT = re.compile(r"^(?:[A-Z]+=\S+ ?)*(?:defer \(-?\d+\))?")
_SAID = re.compile(r"SMTP error from remote mail server (after .+?|in response to .+?): (\d{3}(?:[ -].*)?)$", re.S)
_REPLY = re.compile(r' C="((?:[^"\\]|\\.)*)"')
_TLS = re.compile(r" X=([^: ]+):(\S+?)(?::\d+)?(?: |$)")
_SURE = re.compile(r" CV=(?:yes|dane)\b")
_ID, _SIZE, _LOCAL_IP = re.compile(r" id=(\S+)"), re.compile(r" S=(\d{1,18})\b"), re.compile(r" I=\[([^\]]+)\]")
_RUN = timedelta(minutes=5)
"""A final line repeats no H= line that lies longer before it: that is of an earlier queue run."""
_TRANSPORT = re.compile(r"\bT=(\S+)")
_TOLD = ("stage", "outcome", "maybe_delivered", "code", "enhanced", "reply", "error")
_LINK = ("tls", "tls_cipher", "tls_verified", "local_ip")
_ACL = re.compile(
    r"(?:(?:temporarily )?rejected|Warning:|discarded) |"
    r"TLS error on connection \((?:recv|send|uncork|SSL_read|SSL_write)"
)
"""So begins what is said of clients, whose H= looks like a host's, and of servers that end TLS without a word."""
_HELD = re.compile(r"retry time(?:out exceeded| not reached)|all hosts have been failing")


def _ending(text: str) -> dict[str, Any]:
    text = octal(text.replace(r"\n", "\n"))
    said = _SAID.search(text)
    return ending(said[1], said[2]) if said else ending(text)


def _server(host: re.Match[str]) -> dict[str, Any]:
    return {"mx_host": host[1], "mx_ip": host[2], "port": int(host[3]) if host[3] else None}


class Reader(Bare):
    """By message id: H= lines, until a final line says whether it repeats them; domains of final lines."""

    marks: ClassVar = (b" Completed\n", b" R=", b" <= ")
    words: ClassVar = (
        " <= | => | -> | >> | ** | == | *> | H=| Completed| SMTP error | SMTP timeout | Remote host "
        "| timed out| refused| reset by | No route | unreachable"
    ).split("|")

    def __init__(self) -> None:
        super().__init__()
        self._early: dict[str, list[dict[str, Any]]] = {}
        self._domains: dict[str, set[str]] = {}
        self._torn: dict[str, Any] = {}

    def heads(self, lines: pl.DataFrame, clock: headers.Clock) -> tuple[Iterator[Head], dict[str, pl.DataFrame]]:
        """Exim's own lines as they are, the others without their front."""
        self.clock, own = clock, headers.LINE.str.contains(_OWN)
        others, odd = headers.split(lines.filter(~own & headers.LINE.str.contains(_BEHIND)), clock)
        made = pl.concat([lines.filter(own).with_columns(msg="line"), others], how="diagonal").sort("n")
        return made.select("n", "at", "host", headers.PID, "msg").iter_rows(), odd

    def line(self, head: Head) -> None:
        n, at, host, pid, text = head
        m = _LINE.match(text) or _LINE.match(_INNER.sub("", text))
        if m and (at := at or self.clock.instant(m[1] or "")):
            self._event((n, at, host, pid, m[3]), m[2], m[3])
        elif m is not None or re.search(_BEHIND, text):
            self.odd(head)

    def _event(self, head: Head, qid: str, text: str) -> None:
        text = today("exim", text) if "[" in text and " H=" not in text else text
        if text.startswith("<= "):
            sender, size, message_id = text.split(" ")[1], _SIZE.search(text), _ID.search(text)
            self.messages[head[2], qid] = {
                "sender": "" if sender == "<>" else sender,
                "size_bytes": int(size[1]) if size else None,
                "message_id": message_id[1] if message_id else None,
            }
        elif text.startswith("Completed"):
            self._close(qid)
            self.messages.pop((head[2], qid), None)
        elif m := _FINAL.match(text):
            self._final(head, qid, m)
        elif host := _HOST.search(text):
            self._between(head, qid, host)

    def _between(self, head: Head, qid: str, host: re.Match[str]) -> None:
        """A try that another address follows, or whose final line comes next."""
        before, after = host.string[: host.start()], host.string[host.end() :]
        if after.startswith("TLS error on connection (send)"):
            self._torn[qid] = head[1], host[2]
        if re.search(" [AFPU]=", host[4]) or _ACL.match(after):
            return
        told = self._told(head, qid, host, before if before.startswith("TLS") else after)
        if "code" not in told and not told["error"]:
            self.odd(head)
            return
        kind = "connect_fail" if told["stage"] == "connect" else "intermediate"
        row = self.add(head, qid, kind=kind, session=f"{qid}/{head[0]}", **_server(host), **told, **_link(head[4]))
        if not before.startswith("TLS"):
            row["open"] = True
            self._early.setdefault(qid, []).append(row)

    def _told(self, head: Head, qid: str, host: re.Match[str] | None, text: str) -> dict[str, Any]:
        """How it ended. Exim 4.96 sends a text on through the TLS that the server before has cut: our own fault."""
        told, torn = _ending(text), self._torn.get(qid)
        cut = torn and host and torn[1] != host[2] and head[1] - torn[0] < _RUN and "sending data block" in text
        return told | ({"error": "interrupted"} if cut and told.get("error") == "lost" else {})

    def _close(self, qid: str) -> None:
        """What is early for this message was a try of its own; its domain is known if the message has but one."""
        domains, _ = self._domains.pop(qid, set()), self._torn.pop(qid, None)
        for row in self._early.pop(qid, []):
            row["open"] = False
            if len(domains) == 1:
                row.setdefault("domain", *domains)

    def end(self) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
        """The rows that waited for more lines, and lines with a problem."""
        for qid in list(self._early):
            self._close(qid)
        return super().end()

    def _same(self, head: Head, qid: str, domain: str, ip: Any, told: dict[str, Any]) -> dict[str, Any]:
        """What a final line takes over from the H= line it repeats: the last so worded, free or its domain's."""
        fits = [
            row
            for row in self._early.get(qid, [])[-500:]  # of all of them time would grow with the square
            if head[1] - row["started_at"] < _RUN
            and (row.get("code"), row.get("error")) == (told.get("code"), told.get("error"))
            and ip in (None, row["mx_ip"])
            and (not row.get("gone") or row["domain"] == domain)
        ]
        if not fits:
            return {}
        row = max(fits, key=lambda row: (f".{row['mx_host']}".endswith(f".{domain}"), row["n"]))
        row |= {"gone": True, "open": False, "domain": domain}
        names = ("mx_host", "mx_ip", "port", "session", *_LINK, *(() if "code" in told else _TOLD))
        if ip is None and (row["n"] ^ head[0]) >> SHIFT:  # the next file's reader cannot know the host
            names += ("n", "started_at")
        return {name: row[name] for name in names if row.get(name) is not None}

    def _final(self, head: Head, qid: str, m: re.Match[str]) -> None:
        mark, recipient, original, text = m.groups("")
        host, good, held = _HOST.search(text), mark in ("=>", "->", ">>"), _HELD.search(text)
        whom, same = recipient if "@" in recipient else original or recipient, dict[str, Any]()
        domain = whom.rpartition("@")[2].lower()
        self._odd += [(head[0], head[4])] * (not host and " H=" in text)
        facts = {"kind": "final", "recipient": whom, "orig_to": original or None, **(_server(host) if host else {})}
        words = text[host.end() :] if host else _FRONT.sub("", text)
        told = _success(text) if good else self._told(head, qid, host, words)
        if (transport := _TRANSPORT.search(text)) and (host or not good):
            self._domains.setdefault(qid, set()).add(domain)
            same = {} if good or held else self._same(head, qid, domain, facts.get("mx_ip"), told)
        if held or not (host or same) or mark == "*>" or (transport and "lmtp" in transport[1].lower()):
            dns = told if not held and told.get("stage") == "dns" else {"kind": "suspended" if held else "local"}
            self.add(head, qid, **facts | dns)
        else:
            same = same or {"session": self.session(head, qid, facts["mx_ip"])}
            self.add(head, qid, **facts | told | _link(text) | same)


def _link(text: str) -> dict[str, Any]:
    """TLS and our own address, which stand before the server's words."""
    text = re.split(r': | C="', text, maxsplit=1)[0]
    tls, ours = _TLS.search(text), _LOCAL_IP.search(text)
    told = {"tls": tls[1], "tls_cipher": tls[2], "tls_verified": bool(_SURE.search(text))} if tls else {}
    return told | ({"local_ip": ours[1]} if ours else {})


def _success(text: str) -> dict[str, Any]:
    reply = _REPLY.search(text)
    told = ending("", octal(re.sub(r'\\(["\\])', r"\1", reply[1]).replace(r"\n", "\n"))) if reply else {}
    return {"stage": "body", "outcome": "accepted", "maybe_delivered": True} | told
