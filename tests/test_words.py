"""Words of logs and bounces: each rule of data/log_*.csv has an example that no earlier rule fits."""

import pytest

from smtpkit.attempts import CATEGORIES
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
