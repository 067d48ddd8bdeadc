"""logref: Postfix's log read line by line with one expression a kind: slow, plain, the judge of the fast path.

Belongs here: lines to rows, in plain Python, and what a bench compares with. Not here: other MTAs, frames.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from smtpkit.words import ending

PATH = r'"(?:[^"\\]|\\.)*"[^>]*|[^\s<>]*'
HEAD = re.compile(r"(\d{4}-\d\d-\d\dT\S+) (\S+) ([^\s\[:]+)(?:\[(\d+)\])?: (.*)")
QUEUED = re.compile(r"([0-9A-Za-z]{5,24}): (.*)")
FINAL = re.compile(
    rf"to=<({PATH})>, (?:orig_to=<({PATH})>, )?relay=([^,]*), (?:conn_use=(\d+), )?delay=[^,]*, "
    r"(?:delays=([^,]*), )?(?:tls=[^,]*, )?(?:dsn=([^,]*), )?status=([\w-]+) \((.*)"
)
RELAY = re.compile(r"([^\[]*)\[([0-9A-Fa-f.:]+(?:%[\w.-]+)?)\](?::(\d+))?")
FROM = re.compile(r"from=<(.*)>, size=(\d+), nrcpt=")
MESSAGE_ID = re.compile(r"(?:resent-)?message-id=<(.*?)>?$")
SAID = re.compile(
    r"(?:TLS is required, but |SASL authentication failed; )?(?:host|server) (\S+?)\[([^\]\s]+)\](?::(\d{1,5}))? "
    r"(said|refused to talk to me|refused to start TLS): (.*?)"
    r"(?: \(in reply to ([^()]+?)(?: command)?\))?$"
)
LOST = re.compile(r"(?:lost connection|conversation) with (\S+?)\[([^\]\s]+)\](?::(\d{1,5})\b)?")
UNMET = re.compile(r"TLS is required, but was not offered by host (\S+?)\[([^\]\s]+)\](?::(\d{1,5})\b)?")
CONNECT = re.compile(r"(?:connect|SSL_connect error) to (\S+?)\[([^\]\s]+)\](?::(\d{1,5})\b)?")
TLS = re.compile(r"(\w+) TLS connection \w+ to (\S+?)\[([^\]]+)\]:\d+: (\S+) with cipher (\S+)")
Row = dict[str, Any]


def server(text: str) -> Row:
    """The server that a text names, and how the try ended."""
    if m := SAID.match(text):
        at = (
            "auth"
            if "SASL" in m[0].split(";")[0]
            else {"said": None, "refused to talk to me": "banner"}.get(m[4], "starttls")
        )
        told = ending(f"in reply to {m[6]}" if m[6] else "", m[5], at)
    else:
        m = CONNECT.match(text) or LOST.match(text) or UNMET.match(text)
        told = ending(text, text)
    return ({"mx_host": m[1], "mx_ip": m[2], "port": int(m[3]) if m[3] else None} if m else {}) | told


def ours(row: Row) -> bool:
    """Whether a filter of ours was asked, or a socket, or whatever speaks LMTP."""
    if row["tag"].endswith("/lmtp") or row.get("port") in (24, 7025):
        return True
    host, ip = row.get("mx_host") or "", row.get("mx_ip") or ""
    return "/" in ip or bool(re.match(r"127\.|::1$", ip) and (host == ip or host.startswith("localhost")))


def seconds(delays: str | None) -> Row:
    parts: list[str | None] = delays.split("/") if delays else [None] * 4
    names = ("queue_s", "connect_s", "body_s")
    return {name: float(p) if p else None for name, p in zip(names, parts[1:], strict=True)}


class Reference:
    """Feed lines, then take `rows()`."""

    def __init__(self) -> None:
        self.said: dict[tuple[str, str], list[tuple[int, str, Any]]] = defaultdict(list)
        self.waiting: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
        self.peers: dict[tuple[str, str, str | None], list[Row]] = defaultdict(list)
        self.secured: dict[tuple[str, str], Row] = {}
        self.kept: list[Row] = []

    def feed(self, number: int, line: str) -> None:
        head = HEAD.match(line)
        if not head:
            return
        at, host, pid, text = datetime.fromisoformat(head[1]).astimezone(UTC), head[2], head[4] or "", head[5]
        base = {"n": number, "started_at": at, "vantage": host, "pid": pid, "tag": head[3]}
        queued = QUEUED.match(text)
        if queued:
            self._queued(base, queued[1], queued[2])
        elif CONNECT.match(text):
            self._early(base | {"kind": "connect_fail", "text": text})
        elif m := TLS.match(text):
            made = {"tls_trust": m[1], "tls": m[4], "tls_cipher": m[5]}
            self.peers[host, pid, m[3]].append({"n": number, "made": made})
            self.secured |= {(host, pid): {"mx_host": m[2], "mx_ip": m[3]}} if pid else {}

    def _queued(self, base: Row, qid: str, rest: str) -> None:
        base |= {"queue_id": qid}
        history = self.said[base["vantage"], qid]
        if m := FINAL.match(rest):
            self._final(base, m)
        elif rest.startswith("to=<") and ", mailer=" not in rest.partition(", status=")[0]:
            self._ends(base | {"recipient": "", "text": None})
        elif m := FROM.match(rest):
            size = int(m[2]) if int(m[2]) < 1 << 63 else None
            history.append((base["n"], "from", (m[1], size)))
        elif m := MESSAGE_ID.match(rest):
            history.append((base["n"], "id", m[1]))
        elif rest == "removed":
            history.append((base["n"], "removed", None))
        elif SAID.match(rest) or LOST.match(rest) or UNMET.match(rest):
            self._early(base | {"kind": "intermediate", "text": rest})
        elif rest.startswith("Server certificate not ") and (base["vantage"], base["pid"]) in self.secured:
            last = self.secured[base["vantage"], base["pid"]]
            self._early(base | last | {"kind": "intermediate", "text": rest})

    def _early(self, row: Row) -> None:
        row |= server(row["text"])
        if not ours(row):
            about = "" if row["pid"] else row.get("queue_id", row["text"])
            self.waiting[row["vantage"], row["pid"], about].append(row)

    def _final(self, base: Row, m: re.Match[str]) -> None:
        text = m[8].removesuffix(")")
        row = base | {"kind": "final", "recipient": m[1], "orig_to": m[2], "text": text, **server(text)}
        row |= {"conn_use": int(m[4]) if m[4] else None, "dsn_log": m[6], **seconds(m[5])}
        row["lossy"] = not m[8].endswith(")")
        named = RELAY.fullmatch(m[3])
        if m[3] != "none":
            row |= {"mx_host": None, "mx_ip": None, "port": None}
        if named:
            row |= {"mx_host": named[1], "mx_ip": named[2], "port": int(named[3]) if named[3] else None}
        asked = m[3] == "none" and (row.get("mx_ip") or row.get("error"))
        if m[7] == "deliverable":
            row |= {"stage": "rcpt", "outcome": "passed", "maybe_delivered": False}
        if text.startswith("delivery temporarily suspended"):
            row["kind"] = "suspended"
        elif ours(row) or not (named or asked):
            row["kind"] = "local"
        self._ends(row)
        self._keep(row, row["n"])

    def _ends(self, row: Row) -> None:
        """What waits in the row's process is told; without process, what has its queue id, or its text."""
        for about in {"", row["queue_id"], row["text"]} if not row["pid"] else {""}:
            waiting = self.waiting.pop((row["vantage"], row["pid"], about), [])
            for n, early in enumerate(waiting, 1):
                if about == early["text"] and n < len(waiting):
                    self._keep(early, early["n"])
                else:
                    self._meets(early, row)

    def _meets(self, early: Row, final: Row) -> None:
        """A try before the final line: the same one told twice, one of this delivery, or of another."""
        near = final["started_at"] - early["started_at"] < timedelta(hours=1)
        mine = near and early.get("queue_id", final["queue_id"]) == final["queue_id"]
        told = early["text"] == final["text"] or early.get("error") == final.get("error") == "tls_handshake"
        if mine and told and early.get("mx_ip") == final.get("mx_ip"):
            return
        if mine:
            domain = final["recipient"].rpartition("@")[2].lower()
            self._keep(early | {"queue_id": final["queue_id"], "domain": domain}, final["n"])
        else:
            self._keep(early, early["n"])

    def _keep(self, row: Row, asof: int) -> None:
        row["active"] = 0
        for n, kind, value in self.said.get((row["vantage"], row.get("queue_id", "")), []):
            if n >= asof:
                break
            if kind == "removed":
                row |= {"sender": None, "size_bytes": None, "message_id": None, "active": 0}
            elif kind == "from":
                row |= {"sender": value[0], "size_bytes": value[1], "active": n}
            else:
                row["message_id"] = value
        self.peers[row["vantage"], row["pid"], row.get("mx_ip")].append(row)
        self.kept.append(row)

    def rows(self) -> Iterator[Row]:
        """Every try in order of its line."""
        for waiting in self.waiting.values():
            for early in waiting:
                self._keep(early, early["n"])
        for events in self.peers.values():
            self._secure(sorted(events, key=lambda event: event["n"]))
        tries = ("final", "intermediate", "connect_fail")
        yield from sorted((row for row in self.kept if row["kind"] in tries), key=lambda row: row["n"])

    def _secure(self, events: list[Row]) -> None:
        """A TLS line belongs to the connection that begins with the next row; a reused one keeps it."""
        before: Row | None = None
        made: Row = {}
        for event in events:
            if "made" not in event:
                session = (event.get("queue_id"), event["active"])
                other = before is None or "made" in before or before["session"] != session
                if event.get("conn_use") is None and other:
                    made = (before or {}).get("made", {})
                event |= made | {"session": session}
            before = event


def read(lines: Iterable[str]) -> list[Row]:
    """All rows of a log of RFC 3339 lines."""
    judge = Reference()
    for number, line in enumerate(lines, 1):
        judge.feed(number, line)
    return list(judge.rows())
