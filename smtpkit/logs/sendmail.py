"""sendmail: Sendmail's `to=` lines and refused connects as attempts.

Belongs here: what the fields say. Not here: other MTAs, files. Sendmail does not log a greeting that refuses
when another MX takes the mail, and of a long reply it keeps the first line: `lossy`.
"""

import re
from typing import Any, ClassVar

import pandas as pd

from smtpkit.logs.plain import Head, Lines, octal
from smtpkit.words import OUTCOMES, answer, ending

_LINE = re.compile(r"([A-Z]{3}\d{5}|[0-9A-Za-z]{12,20}): (.*)", re.S)
_FROM = re.compile(r"from=<?(.*?)>?, size=(\d{1,18}),(?:.*?, msgid=<?(.*?)>?(?:,|$))?")
_TO = re.compile(
    r"to=(.*?)(?:, \[more\])?, (?:ctladdr=.*?, )?delay=[\d:+]+, "
    r"(?:xdelay=((?:\d{1,5}\+)?\d\d:\d\d:\d\d), )?mailer=([^,]+), ((?:(?:tls_\w+|cipher)=[^,]*, )*)(?:pri=\d+, )?"
    r"(?:relay=(.*?), )?(?:dsn=([\d.]+), )?(?:reply=(.*), )?stat=(.*)"
)
_RELAY = re.compile(r"(\S*?)\.? ?\[(?:IPv6:)?([0-9A-Fa-f:.]+)\]")
_REFUSED = re.compile(
    r"makeconnection \((\S*?)\.? \[(?:IPv6:)?([0-9A-Fa-f:.]+)\]\.(\d{1,5}) \(.*?\)\) failed: (.*)"
)
_RULE = re.compile(r"ruleset=tls_\w+, .*?relay=(\S{1,255}?)\.?, reject=(?!.*TLS handshake)")
_TLS = re.compile(r"STARTTLS=client, relay=(\S+?)\.?, version=(\S+), verify=(\S+), cipher=([^,]+)")
_FIELD = re.compile(r"(tls_verify|tls_version|cipher)=([^,]*)")


class Reader(Lines):
    """`refused`: connects that a final line may repeat; `own`: who failed our TLS policy; `tls`: handshakes."""

    marks: ClassVar = (b", mailer=", b", nrcpts=", b" makeconnection (", b'"MESSAGE"')
    words: ClassVar = (": to=", ": from=", "makeconnection (", "STARTTLS=client", ": ruleset=tls_")

    def __init__(self) -> None:
        super().__init__()
        self._refused: dict[tuple[str | None, str], list[dict[str, Any]]] = {}
        self._own: dict[tuple[str | None, str, str | None], str] = {}
        self._tls: dict[tuple[str | None, str | None], tuple[str, dict[str, Any]]] = {}

    def line(self, head: Head) -> None:
        if m := _TLS.match(head[4]):
            made = {"tls": m[2], "tls_verified": m[3] == "OK", "tls_cipher": m[4]}
            self._tls[head[2], head[3]] = m[1].strip("[]").removeprefix("IPv6:").lower(), made
            return
        if not (found := _LINE.match(head[4])):
            return
        qid, text = found.groups()
        if m := _FROM.match(text):
            self.messages[head[2], qid] = {"sender": m[1], "size_bytes": int(m[2]), "message_id": m[3]}
        elif m := _REFUSED.match(text):
            facts = {"mx_host": m[1], "mx_ip": m[2], "port": int(m[3]), "session": f"{qid}/{head[0]}"}
            told = ending(m[4], at="connect")
            row = self.add(head, qid, kind="connect_fail", open=True, **facts, **told)
            self._refused.setdefault((head[2], qid), []).append(row)
        elif m := _RULE.match(text):
            self._own[head[2], qid, head[3]] = m[1].lower()
        elif m := _TO.match(text):
            self._final(head, qid, m)
        elif text.startswith("to=") and ", status=" not in text and ", delays=" not in text:  # else Postfix's
            self.odd(head)

    def _final(self, head: Head, qid: str, m: re.Match[str]) -> None:
        to, took, mailer, link, relay, dsn, reply, stat = m.groups()
        server = _RELAY.search(relay or "")
        told = self._told(reply, stat)
        if server and "code" not in told and not told.get("error") and (dsn or "")[:1] in ("4", "5"):
            told["outcome"] = OUTCOMES[dsn[0]]  # a refusal whose code was not logged
        if dsn == "4.4.2" and told.get("error"):  # no reply came, to whatever was asked last, be it the final dot
            told |= {"stage": None, "outcome": "unknown", "maybe_delivered": None}
        seconds = pd.Timedelta(took.replace("+", " days ")).total_seconds() if took else None  # "4+06:01:51"
        facts: dict[str, Any] = {"kind": "final", "dsn_log": dsn, "latency_s": seconds, **told}
        facts["lossy"] = "\n" not in (told.get("reply") or "") and (told.get("reply") or "")[3:4] == "-"
        if server:
            facts |= {"mx_host": server[1], "mx_ip": server[2], **self._link(head, link, server)}
            facts["session"] = self.session(head, qid, head[3], server[2])
        for early in self._refused.pop((head[2], qid), []):
            early |= {"open": False, "domain": to.rpartition("@")[2].strip("<> ").lower()}
            if server and early["mx_ip"] == server[2] and told.get("error"):
                early["gone"] = True
                facts |= {"port": early["port"], "session": early["session"], "stage": "connect"}
        own = server and self._own.get((head[2], qid, head[3])) == server[1].lower() and not stat.startswith("Sent")
        idle = stat == "Deferred" and dsn == "4.0.0" and not reply  # a lost connection is 4.4.2
        held = own or stat == "queued" or idle  # by the host's status: nobody was asked
        if held or not server or mailer not in ("esmtp", "smtp", "smtp8", "dsmtp", "relay", "esmtps"):
            facts["kind"] = "final" if told.get("stage") == "dns" else "suspended" if held else "local"
        for one in re.split(r",(?=<|[^\s,<>]+@)", to):
            self.add(head, qid, recipient=one.strip("<> "), **facts)

    def _link(self, head: Head, told: str, server: re.Match[str]) -> dict[str, Any]:
        """TLS by the line's own fields, or by its process's last handshake, if that was with this server."""
        peer, made = self._tls.pop((head[2], head[3]), ("", {}))
        if fields := dict(_FIELD.findall(told)):
            verified = fields.get("tls_verify") == "OK"
            return {"tls": fields.get("tls_version"), "tls_cipher": fields.get("cipher"), "tls_verified": verified}
        return made if peer in (server[1].lower(), server[2].lower()) else {}

    def _told(self, reply: str | None, stat: str) -> dict[str, Any]:
        """The reply's words, or those that `stat=` holds; "Sent" has lost its code."""
        said = octal(reply or stat)
        if stat.startswith("Sent"):
            return {"stage": "body", "outcome": "accepted", "maybe_delivered": True} | answer(said)
        said = said if answer(said) else said.partition(": ")[2]
        handshake = "TLS handshake failed" in said
        told = ending("TLS handshake failed" if handshake else stat, "" if handshake else said)
        if "code" not in told and not told["error"] and stat.startswith("Deferred"):
            told["error"] = "lost"
        return told
