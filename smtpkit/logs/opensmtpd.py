"""opensmtpd: OpenSMTPD's `mta` lines as attempts, by session.

Belongs here: which delivery a connection's lines belong to. Not here: other MTAs, files. One session may carry
many mails; a name in `relay=` is the address's PTR; a refused greeting names no recipient.
"""

import re
from typing import Any, ClassVar

from smtpkit.logs.plain import Head, Lines, today
from smtpkit.logs.rows import SHIFT
from smtpkit.words import answer, ending

_LINE = re.compile(r"(?:.*?smtpd(?:\[\d+\])?: )?([0-9a-f]{16}) (?:mta|smtp) (?:event=)?(\w+)(?: (.*))?$")
_FIELD = re.compile(r'\b(\w+)=(?:"((?:[^"\\]|\\.)*)"|<([^>]*)>|(\S+))')
_RELAY = re.compile(r"(?:\[?(?:IPv6:)?)([0-9A-Fa-f:.]+?)\]? \((.*)\)$")
_ADDRESS = re.compile(r"smtps?(?:\+\w+)?://(?:\[(?:IPv6:)?)?([0-9.]+|[0-9A-Fa-f:.]+(?=\]))\]?:(\d{1,5})\b")


class Reader(Lines):
    """By session: address and port, line and time they were told, the error that a delivery line may repeat."""

    letters = 8
    marks: ClassVar = b' smtp message | mta delivery | mta connecting | mta event=|smtp-out: |"MESSAGE"'.split(b"|")
    words: ClassVar = (
        " mta delivery | mta connecting | mta error | mta tls | smtp envelope | smtp message | mta disconnected"
        "| mta connected| mta event=| smtp event=|smtp-out: |relay: "
    ).split("|")

    def __init__(self) -> None:
        super().__init__()
        self._peers: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
        self._early: dict[str, dict[str, Any]] = {}

    def line(self, head: Head) -> None:
        old = head[4].startswith(("smtp-out: ", "relay: "))
        if not (found := _LINE.match(today("opensmtpd", head[4]) if old else head[4])):
            self._odd += [(head[0], head[4])] * (old and ", stat=" in head[4])
            return
        session, verb, text = found.groups()
        fields = _fields(text or "")
        if verb == "connecting" and (at := _ADDRESS.match(fields.get("address", ""))):
            peer = {"mx_ip": at[1], "port": int(at[2]), "mx_host": fields.get("host")}
            self._peers[session] = peer, {"n": head[0], "started_at": head[1]}
        elif verb == "tls" and session in self._peers:
            made = (text or "").replace("ciphers=", "").split(":")
            self._peers[session][0].update({"tls": made[0], "tls_cipher": made[1] if len(made) > 1 else None})
        elif verb == "message" and "msgid" in fields:
            size = re.fullmatch(r"\d{1,18}", fields.get("size", ""))
            self.messages[head[2], fields["msgid"]] = {"size_bytes": int(size[0]) if size else None}
        elif verb == "delivery":
            self._delivery(head, session, fields)
        elif verb == "error" and session in self._peers:
            self._error(head, session, (text or "").removeprefix("reason="))
        elif verb in ("disconnected", "closed"):
            self._peers.pop(session, None)
            self._early.pop(session, {})["open"] = False

    def _error(self, head: Head, session: str, reason: str) -> None:
        """A connection that ended before any mail: a refused greeting, or no answer."""
        told = ending(f"after {reason}", reason.partition("rejected: ")[2])
        kind = "connect_fail" if told["stage"] in ("connect", None) else "intermediate"
        peer, begun = self._peers[session]
        if "code" not in told and not told["error"]:
            self.odd(head)
            return
        self._early[session] = self.add(head, None, kind=kind, session=session, open=True, **peer, **told)
        if (begun["n"] ^ head[0]) >> SHIFT:  # the next file's reader cannot know the address
            self._early[session] |= begun

    def _delivery(self, head: Head, session: str, fields: dict[str, str]) -> None:
        peer, _ = self._peers.get(session, ({}, {}))
        facts: dict[str, Any] = {"recipient": fields.get("to"), "sender": fields.get("from"), "kind": "final"}
        facts |= {"session": session, **peer}
        if early := self._early.pop(session, None):
            early["gone"] = True
        if relay := _RELAY.match(fields.get("relay", "")):
            host = peer.get("mx_host") or relay[2]
            facts |= {"mx_ip": relay[1], "mx_host": host, "local_ip": fields.get("source")}
        stat, result = fields.get("stat", ""), fields.get("result", "")
        told = ending(stat, stat if answer(stat) else "")
        if result == "Ok":
            told |= {"stage": "body", "outcome": "accepted", "maybe_delivered": True, "error": None}
        elif answer(stat):
            told["stage"] = None
        if "mx_ip" not in facts:
            facts |= {"kind": "final" if told.get("stage") == "dns" else "suspended", "session": None}
        self.add(head, fields.get("evpid") or None, **facts, **told)


def _fields(text: str) -> dict[str, str]:
    """The first of each name counts; `stat`, the last, holds the server's words, with their quotes as they are."""
    ours, _, stat = text.partition(' stat="')
    pairs = reversed([(m[1], m[2] or m[3] or m[4] or "") for m in _FIELD.finditer(ours)])
    return dict(pairs) | {"stat": stat.removesuffix('"')}
