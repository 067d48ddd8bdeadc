"""Words of logs and bounces: each rule of data/log_*.csv has an example that no earlier rule fits."""

import pandas as pd
import pytest

from smtpkit import attempts, evidence, suspicion, voices
from smtpkit.attempts import CATEGORIES, COLUMNS
from smtpkit.catalogue import rows
from smtpkit.words import ending, stage


@pytest.mark.parametrize("rule", rows("log_errors.csv"), ids=lambda rule: rule["error"])
def test_each_rule_fits_its_example_first(rule: dict[str, str]) -> None:
    told = ending(rule["example"])
    assert told["error"] == rule["error"]
    assert rule["error"] in CATEGORIES["error"]
    assert rule["stage"] in ("", *CATEGORIES["stage"])


@pytest.mark.parametrize("rule", rows("log_stages.csv"), ids=lambda rule: rule["stage"])
def test_each_stage_is_named_by_its_example(rule: dict[str, str]) -> None:
    assert stage(rule["example"]) == rule["stage"]


def test_the_stage_that_a_text_names_counts_more_than_the_rule() -> None:
    assert ending("lost connection while sending RCPT TO")["stage"] == "rcpt"
    assert ending("lost connection")["stage"] == "connect"


def test_small_functions_say_what_they_are_for() -> None:
    assert evidence.queue_id("2.0.0 Ok: queued as 4XkP2q3Zr1z9tQ") == "4XkP2q3Zr1z9tQ"
    assert evidence.seen_ip("mx1.example Hello c.example [198.51.100.7]") == "198.51.100.7"
    busy = "4.4.5 CCRT 192.0.2.9: Server is busy(RT)"
    assert voices.sound(busy, 421, "4.4.5", "banner", ours="192.0.2.9") == "block"
    voice, table = voices.hear(pd.DataFrame({"code": [550, 250, 550], "reply": ["no a@x", "ok", "no b@x"]}))
    assert (voice.tolist(), table.n.tolist()) == ([0, -1, 0], [2])
    assert suspicion.judge([0, 0, 0, 5], [2, 2, 2, 5]).named.tolist() == [False, False, False, True]
    assert attempts.column("outcome", pd.Series(["accepted", None])).dtype.name == "category"
    assert attempts.zone("Asia/Seoul") == "Asia/Seoul"
    assert list(attempts.classified(attempts.frame()).columns) == list(COLUMNS)
