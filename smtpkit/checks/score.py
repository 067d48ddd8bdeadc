"""score: what the spam filters rspamd and SpamAssassin, running beside us, make of a message.

Not here: starting them (the README says how). The standard library's HTTP client connects: the engine is the
user's own program, not the world.
"""

import json
import re
from contextlib import closing
from email.utils import formatdate
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

import pandas as pd

from smtpkit.address import refuse_controls
from smtpkit.catalogue import patterns

_SHAPES = patterns("score")
SECONDS = 60.0
Heard = tuple[str, float, float, list[tuple[str, float, str]]]
"""Verdict, score, limit, and of each rule that fired its name, points and words."""


def score(
    message: Any, *, ip: str, helo: str, sender: str, recipient: str, rspamd: str = "", spamd: str = ""
) -> pd.DataFrame:
    """One row a rule that fired: engine, verdict, score, limit, symbol, points, description.

    `rspamd`: its worker's URL, such as "http://127.0.0.1:11333"; `spamd`: "127.0.0.1:783". Where an engine's
    own DNS failed, or it is not there, it has one row: verdict "refused", no score, and the reason: with dead
    DNS a good message looks like spam. Raises InvalidInput for control characters in the envelope.

    >>> score(b"From: a@b.example", ip="192.0.2.1", helo="b.example", sender="", recipient="").empty
    True
    """
    envelope = {"IP": ip, "Helo": helo, "Hostname": helo, "From": sender, "Rcpt": recipient}
    envelope = {name: refuse_controls(name, value) for name, value in envelope.items() if value}
    octets, made = getattr(message, "octets", message), list[tuple[Any, ...]]()
    for engine, place, ask in (("rspamd", rspamd, _rspamd), ("spamd", spamd, _spamd)):
        if not place:
            continue
        try:
            verdict, total, limit, fired = ask(place, octets, envelope)
            if failed := ", ".join(name for name, *_ in fired if _SHAPES.failed.match(name)):
                raise ValueError(f"its own DNS failed ({failed}): its score {total:g} says nothing")
            made += [(engine, verdict, total, limit, *one) for one in fired or [("", 0.0, "no rule fired")]]
        except (OSError, HTTPException, ValueError, KeyError) as error:
            why = error if isinstance(error, ValueError) else repr(error)
            made.append((engine, "refused", None, None, "", None, f"{place}: {why}"))
    columns = "engine verdict score limit symbol points description".split()
    dtypes = dict.fromkeys(columns, "str") | dict.fromkeys(("score", "limit", "points"), "float64")
    return pd.DataFrame(made, columns=columns).astype(dtypes)


def _rspamd(place: str, octets: bytes, envelope: dict[str, str]) -> Heard:
    with closing(HTTPConnection(urlsplit(place).netloc or place, timeout=SECONDS)) as link:
        link.request("POST", "/checkv2", octets, envelope)
        told = json.loads(link.getresponse().read())
    fired = [(one["name"], one["score"], one.get("description", "")) for one in told["symbols"].values()]
    return told["action"], told["score"], told["required_score"], sorted(fired, key=lambda one: -abs(one[1]))


def _spamd(place: str, octets: bytes, envelope: dict[str, str]) -> Heard:
    """SPAMC REPORT; spamd reads the client's address from a Received field, which is written here."""
    helo, sender = envelope.get("Helo", "unknown"), envelope.get("From", "")
    trace = f"Return-Path: <{sender}>\r\nReceived: from {helo} ({helo} [{envelope['IP']}])\r\n"
    body = f"{trace}\tby mx.invalid with ESMTP; {formatdate()}\r\n".encode() + octets
    link = HTTPConnection(place, timeout=SECONDS)
    link.connect()
    with link.sock as sock:
        sock.sendall(b"REPORT SPAMC/1.5\r\nContent-length: %d\r\n\r\n" % len(body) + body)
        heard = b"".join(iter(lambda: sock.recv(65536), b"")).decode("utf-8", "replace")
    found = re.search(r"(?m)^Spam: (\w+) ; (-?[\d.]+) / (-?[\d.]+)", heard)
    if not found:
        raise ValueError(f"no verdict in {heard[:80]!r}")
    fired = [(name, float(points), " ".join(said.split())) for points, name, said in _SHAPES.points.findall(heard)]
    return "spam" if found[1] == "True" else "ham", float(found[2]), float(found[3]), fired
