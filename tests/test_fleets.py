"""Fleets drawn by chance in the lab: what must hold whatever servers do, held against what they logged.

Not here: what one reply means (test_truth*), scenarios with a name (test_lab).
"""

from collections import Counter
from random import Random
from time import monotonic, sleep
from typing import Any

import pandas as pd
import pytest

import smtpkit as sk

SOON = sk.Timeouts(connect=0.4, handshake=1, reply=0.5, final=0.5, quit=0.2)
STAGES = ["banner", "ehlo", "starttls", "mail", "rcpt", "data", "body", "quit"]
SAID = ["421 4.3.2 {host} going down", "450 4.7.1 later", "554 5.7.1 [{client}] is blocked",
        "550 5.1.1 <{recipient}>?", "502 5.5.1 what", "250 2.0.0 fine", "354 go",
        "452 4.2.2 full\nand more"]  # fmt: skip
TO = ["r@daum.example", "s@daum.example"]


def fleet(draw: Random) -> dict[str, Any]:
    """One to four hosts with one or two addresses, and up to four faults at any stage."""
    ips = draw.sample([*(f"192.0.2.{n}" for n in range(11, 19)), *(f"2001:db8:d::{n}" for n in range(11, 15))], 8)
    mx: list[dict[str, Any]] = [
        {"name": f"mx{n}.daum.example", "ips": ips[2 * n : 2 * n + draw.randint(1, 2)],
         "pref": draw.choice([10, 20]), "tls": draw.choice(["good", "none", "none", "broken"]),
         "dead": draw.choice(["", "", "", "", "refused"])}
        for n in range(draw.randint(1, 4))
    ]  # fmt: skip
    known = [ip for host in mx for ip in host["ips"]]
    rules = []
    for _ in range(draw.randint(0, 4)):
        rule: dict[str, Any] = {"stage": draw.choice(STAGES), "ip": draw.sample(known, draw.randint(1, len(known)))}
        rule |= {"chance": draw.choice([0.3, 0.7, 1.0]), "first": draw.choice([0.0, 0.0, 60.0])}
        rule |= {"reply": draw.choice([*SAID, ""]), "drop": draw.choice(["", "", "close", "reset", "silence"])}
        rules.append(rule)
    return {"domain": "daum.example", "mx": mx, "rule": rules, "recipients": TO, "seed": draw.randrange(1000)}


def ask(draw: Random, lab: sk.Lab) -> tuple[str, pd.DataFrame]:
    """Something that a user may do, and the rows of it."""
    how, to = draw.choice(["probe", "locate", "dry", "first", "first again", "each"]), TO[: draw.randint(1, 2)]
    keywords: dict[str, Any] = {"network": lab.network, "timeouts": SOON}
    if how == "probe":
        made = sk.probe(lab.domain, TO[0], lab.sender, rounds=2, **keywords)
        assert isinstance(made, pd.DataFrame)
        return how, made
    if how == "locate":
        return how, sk.locate(lab.domain, TO[0], lab.sender, most=8, **keywords).frame
    mail = sk.build_message(sender=lab.sender, to=to[0], subject="hello", text="hello")
    keywords |= {"live": how != "dry", "mx": "each" if how == "each" else "first", "sender": lab.sender}
    return how, pd.concat([sk.send(mail, to, **keywords) for _ in range(1 + how.endswith("again"))])


def settled(lab: sk.Lab) -> None:
    """Wait until the servers have noticed that nobody talks to them."""
    end = monotonic() + 5
    while lab.live and monotonic() < end:
        sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(24))
def test_rows_are_what_servers_saw(seed: int) -> None:
    draw = Random(seed)
    with sk.Lab(fleet(draw)) as lab:
        route = {(host.name, ip, host.pref) for host, ip in sk.lookup_mx(lab.domain, lab.network)}
        how, rows = ask(draw, lab)
        settled(lab)
        book = sk.Casebook(lab.network.casebook)
        assert book.verify().empty
        assert set(book.attempts().attempt_id) == set(rows.attempt_id)
        replies = book.replies()
    met = rows[rows.mx_ip.notna()]
    assert set(zip(met.mx_host, met.mx_ip, met.mx_pref, strict=True)) <= route
    held = met[(met.outcome != "withheld") | (met.stage != "connect")].drop_duplicates("session")
    said: dict[str, list[int]] = {}
    for one in lab.log:
        said.setdefault(one.session or f"{one.ip} {len(said)}", []).extend([one.code] if one.code else [])
    assert len(held) == len(said), "each session is told once"
    for ip, sessions in held.sort_values("session").groupby("mx_ip").session:
        for number, session in enumerate(sessions, 1):
            heard = replies[replies.session == session].sort_values("seq").code.dropna().tolist()
            assert heard == said.get(f"{ip}#{number}", [])[: len(heard)]
    took = Counter((mail.ip, to) for mail in lab.mailbox for to in mail.recipients)
    told = {out: Counter(zip(some.mx_ip, some.recipient, strict=True)) for out, some in rows.groupby("outcome")}
    accepted, unknown = told.get("accepted", Counter()), told.get("unknown", Counter())
    assert accepted <= took <= accepted + unknown
    assert not took or how in ("first", "first again", "each")
    assert max(Counter((to, ip if how == "each" else "") for ip, to in took.elements()).values(), default=1) == 1
