"""Default pacing against a real Postfix that limits connections (anvil): its log holds no second warning."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import smtpkit as sk
from tests.fasttime import FastTime
from tests.servers import PORT, SENDER

SPEED = 60.0
LIMITS = """smtpd_client_connection_rate_limit = 1
anvil_rate_time_unit = 1s
smtpd_client_event_limit_exceptions ="""
"""One connection a minute, on a clock that runs 60 times faster; anvil counts in fixed spans of that length."""


def test_postfix_limits_and_we_wait(
    mta: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = FastTime(SPEED).install(monkeypatch)
    server = mta("postfix", "127.0.0.21", more=LIMITS)
    clock.sleep(120)

    def notebook(name: str) -> Any:
        network = sk.internet(
            source_ip=SENDER, reroute={("192.0.2.21", 25): ("127.0.0.21", PORT)}, helo="client.example",
            casebook=tmp_path / f"{name}.sqlite", ledger=tmp_path / "ledger.sqlite",
        )  # fmt: skip
        where = {"server": ("192.0.2.21", 25), "server_name": "mx1.daum.example"}
        return sk.probe("daum.example", network=network, rounds=5, **where)

    first, second = notebook("one"), notebook("two")
    told = Counter(first["error"].astype(object).fillna(first["outcome"]))
    assert told["deferred"] == 1
    assert told["passed"] in (1, 2), "two in one of anvil's minutes at 20 s apart: the second or the third"
    assert told["paced"] == 4 - told["passed"]
    refused = first[first["outcome"] == "deferred"].iloc[0]
    assert (refused["code"], refused["enhanced"]) == (421, "4.7.0")
    assert "too many connections" in refused["reply"]
    assert set(second["error"]) == {"paced"}
    assert server.log().count("Connection rate limit exceeded") == 1
    assert len(server.logged(SENDER)) == told["passed"] + 1
