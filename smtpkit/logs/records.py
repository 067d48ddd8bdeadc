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
from smtpkit.words import answer, ending

_KUMO = {"Delivery": "accepted", "Bounce": "rejected", "TransientFailure": "deferred"}
_KUMO_FIELDS = {"session": "session_id", "size_bytes": "size", "tls": "tls_protocol_version"}
_KUMO_FIELDS |= {"sender": "sender", "tls_cipher": "tls_cipher"}
_PEER = re.compile(r"(\S+?)\.? ?[\[(]([0-9A-Fa-f:.]+)[\])]")


class Kumo(Bare):
    """One JSON object a line."""

    marks: ClassVar = (b'"egress_pool"', b'"peer_address"', b'{"type":"')
    words: ClassVar = ("{",)

    def line(self, head: Head) -> None:
        try:
            record: dict[str, Any] = json.loads(head[4])
            kind, response = record["type"], record.get("response") or {}
            at = datetime.fromtimestamp(float(record["timestamp"]), UTC)
        except (ValueError, KeyError, TypeError):
            self.odd(head)
            return
        if kind not in _KUMO:
            self.add(head, record.get("id"), kind=str(kind).lower(), started_at=at)
            return
        peer, code = record.get("peer_address") or {}, response.get("code")
        status = ".".join(str(n) for n in (response.get("enhanced_code") or {}).values())
        said = " ".join(filter(None, [str(code or ""), status, str(response.get("content") or "")]))
        told = ending(said, said if code and peer else "", "body" if kind == "Delivery" else None)
        headers, ours = record.get("headers") or {}, str(record.get("source_address") or "")
        facts = {name: record.get(theirs) for name, theirs in _KUMO_FIELDS.items()} | {
            "started_at": at, "kind": "final" if peer or told.get("stage") == "dns" else "suspended",
            "mx_host": peer.get("name"), "mx_ip": peer.get("addr"),
            "message_id": str(headers.get("Message-ID", "")).strip("<>") or None,
            "sender_ip": ours.rpartition(":")[0].strip("[]") or None,
            "try_number": int(record.get("num_attempts") or 0) + 1,
        }  # fmt: skip
        to = record.get("recipient")
        for one in to if isinstance(to, list) else [to]:
            self.add(head, record.get("id"), recipient=one, **facts, **told)


class Power(Bare):
    """CSV whose header names the columns; d delivered, b bounced, t and tq tried in vain."""

    marks: ClassVar = (b"type,time", b",timeLogged,")
    words: ClassVar = (",",)

    def __init__(self) -> None:
        super().__init__()
        self._names: list[str] = []

    def line(self, head: Head) -> None:
        values = next(csv.reader([head[4]]), [])
        if values[:1] == ["type"]:
            self._names = values
            return
        row = dict(zip(self._names, values, strict=False))
        at = self.clock.instant(row.get("timeLogged") or "")
        if len(values) != len(self._names) or at is None:
            self.odd(head)
            return
        peer, said = _PEER.match(row.get("dsnMta", "")), row.get("dsnDiag", "").removeprefix("smtp;")
        told = ending(said, said if answer(said) else "", "body" if row["type"] == "d" else None)
        if row["type"] == "d":
            told |= {"outcome": "accepted", "maybe_delivered": True, "error": None}
        ip = row.get("dlvDestinationIp") or row.get("dlvDesintationIp") or (peer[2] if peer else None)
        kind = "final" if row["type"] in ("d", "b", "t", "tq") and (ip or told["stage"] == "dns") else "suspended"
        facts = {
            "started_at": at, "kind": kind, "mx_host": peer[1] if peer else None, "mx_ip": ip,
            "sender": row.get("orig"), "recipient": row.get("rcpt"), "sender_ip": row.get("dlvSourceIp") or None,
            "size_bytes": int(row["dlvSize"]) if row.get("dlvSize", "").isdigit() else None,
            "dsn_log": (row.get("dsnStatus") or "").split(" ")[0] or None, "session": f"power/{head[0]}",
        }  # fmt: skip
        self.add(head, row.get("jobId") or None, **facts, **told)
