"""records: logs that are records already: KumoMTA's JSON lines and PowerMTA's accounting CSV, as documented.

Belongs here: which field is which column. Not here: syslog (the MTAs' modules). Neither was tried on a running
server; the fields are those of kumomta.com's log record page and of PowerMTA's manual (accounting).
"""

import csv
import json
import re
from datetime import UTC, datetime
from typing import Any, ClassVar

from smtpkit.logs.plain import Bare, Head
from smtpkit.logs.rows import SHIFT
from smtpkit.words import answer, ending, stage

_KUMO = {"Delivery": "accepted", "Bounce": "rejected", "TransientFailure": "deferred"}
_FIELDS = {"session": "session_id", "sender": "sender", "tls": "tls_protocol_version", "tls_cipher": "tls_cipher"}
_CONNECT = re.compile(
    r"connect to (?:(?P<mx_host>[^\s/]+?)\.?/)?\[?(?P<mx_ip>[0-9A-Fa-f.:]+?)\]?:(?P<port>\d{1,5}) "
    r".*?(?=connect to |$)",
    re.S,
)
_RECORDS = {"d", "b", "t", "tq", "r", "f", "rb", "rs"}
_PEER = re.compile(r"(\S+?)\.? ?[\[(]([0-9A-Fa-f:.]+)[\])]")


class Kumo(Bare):
    """One JSON object a line."""

    marks: ClassVar = (b'"egress_pool"', b'"peer_address"', b'{"type":"')
    words: ClassVar = ("{",)

    def line(self, head: Head) -> None:
        if not head[4].startswith("{") or '"type"' not in head[4]:
            return
        try:
            record: dict[str, Any] = json.loads(head[4])
            made = _kumo(record)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError):
            self.odd(head)
            return
        for facts in made:
            self.add(head, _text(record.get("id")), **facts)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _kumo(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a record: one for each recipient, and each server that could not be reached."""
    at = datetime.fromtimestamp(float(record["timestamp"]), UTC)
    if record["type"] not in _KUMO:
        return [{"kind": str(record["type"]).lower(), "started_at": at}]
    headers, ours, size = record.get("headers") or {}, record.get("source_address") or "", record.get("size")
    tries = int(record.get("num_attempts") or 0)
    if max(tries, int(size or 0)) >= 1 << 31:
        raise OverflowError("no size and no count is so large")
    ours = str(ours.get("address") if isinstance(ours, dict) else ours)
    facts = {name: _text(record.get(theirs)) for name, theirs in _FIELDS.items()} | {
        "started_at": at, "size_bytes": None if size is None else int(size),
        "message_id": str(headers.get("Message-ID", "")).strip("<>") or None,
        "sender_ip": ours.rpartition(":")[0].strip("[]") or None,
        "try_number": tries + 1,
    }  # fmt: skip
    to, made = record.get("recipient"), _kumo_tries(record)
    whom = to if isinstance(to, list) else [to]
    return [facts | told | {"recipient": _text(one)} for one in whom for told in made]


def _kumo_tries(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Server and ending. What KumoMTA says itself has a code, too, and is no reply."""
    response, peer = record.get("response") or {}, record.get("peer_address") or {}
    content, command, code = str(response.get("content") or ""), response.get("command"), response.get("code")
    when = f" (in reply to {'end of data' if command == '.' else command})" if command else ""
    own = content.startswith("KumoMTA internal")
    if own and not peer and (failed := list(_CONNECT.finditer(content))):
        fail = {"kind": "connect_fail"}
        return [fail | m.groupdict() | {"port": int(m["port"])} | ending(m[0], at="connect") for m in failed]
    status = ".".join(str(n) for n in (response.get("enhanced_code") or {}).values())
    said = " ".join(filter(None, [str(code or ""), status, content]))
    at = "body" if record["type"] == "Delivery" else stage(when)
    told = ending(content + when if own else said, said if code and peer and not own else "", at)
    kind = "final" if peer or told["stage"] == "dns" else "suspended"
    return [{"kind": kind, "mx_host": _text(peer.get("name")), "mx_ip": _text(peer.get("addr")), **told}]


class Power(Bare):
    """CSV whose header names the columns; d delivered, b bounced, t and tq tried in vain."""

    marks: ClassVar = (b"type,time", b",timeLogged,")
    words: ClassVar = (",",)

    def __init__(self) -> None:
        super().__init__()
        self._names: list[str] = []
        self._file = 0

    def line(self, head: Head) -> None:
        if (file := head[0] >> SHIFT) != self._file:
            self._file, self._names = file, []
        first = head[4].partition(",")[0].strip('"#\ufeff')
        if first == "type" or first in _RECORDS:
            try:
                self._record(head, first, next(csv.reader([head[4]])))
            except csv.Error:
                self.odd(head)

    def _record(self, head: Head, first: str, values: list[str]) -> None:
        if first == "type":
            self._names = [first, *values[1:]]
            return
        row = dict(zip(self._names, values, strict=False))
        at = self.clock.instant(row.get("timeLogged") or "")
        if len(values) != len(self._names) or at is None:
            self.odd(head)
            return
        peer, said = _PEER.match(row.get("dsnMta", "")), row.get("dsnDiag", "").removeprefix("smtp;")
        told = ending(said, said if answer(said) else "", "body" if first == "d" else None)
        if first == "d":
            told |= {"outcome": "accepted", "maybe_delivered": True, "error": None}
        ip = row.get("dlvDestinationIp") or row.get("dlvDesintationIp") or (peer[2] if peer else None)
        kind = "final" if first in ("d", "b", "t", "tq") and (ip or told["stage"] == "dns") else "suspended"
        facts = {
            "started_at": at, "kind": kind, "mx_host": peer[1] if peer else None, "mx_ip": ip,
            "sender": row.get("orig"), "recipient": row.get("rcpt"), "sender_ip": row.get("dlvSourceIp") or None,
            "size_bytes": int(row["dlvSize"]) if re.fullmatch(r"[0-9]{1,10}", row.get("dlvSize", "")) else None,
            "dsn_log": (row.get("dsnStatus") or "").split(" ")[0] or None, "session": f"power/{head[0]}",
        }  # fmt: skip
        self.add(head, row.get("jobId") or None, **facts, **told)
