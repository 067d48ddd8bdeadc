"""Counting: what is a failure, what is no evidence, one session once, intervals against scipy."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import smtpkit as sk
from smtpkit import attempts, counts
from smtpkit.errors import InvalidInput
from tests.frames import OURS2, only, pairs, rounds


@pytest.mark.parametrize(
    ("row", "ending"),
    [
        pytest.param({"outcome": "accepted", "code": 250}, "ok", id="accepted"),
        pytest.param({"outcome": "passed", "code": 250}, "ok", id="passed"),
        pytest.param({"outcome": "deferred", "code": 421}, "deferred", id="deferred"),
        pytest.param({"outcome": "rejected", "code": 554}, "refused", id="refused"),
        pytest.param({"outcome": "failed", "error": "timeout"}, "silent", id="timeout"),
        pytest.param({"outcome": "failed", "code": 220, "error": "tls_handshake"}, "silent", id="tls"),
        pytest.param({"outcome": "unknown", "error": "lost"}, "silent", id="unknown"),
        pytest.param({"outcome": "withheld", "error": "paced"}, None, id="withheld"),
        pytest.param({"outcome": "failed", "error": "interrupted"}, None, id="interrupted"),
        pytest.param({"outcome": "unknown", "error": "stopped"}, None, id="stopped"),
        pytest.param({"code": 252}, "ok", id="252 without outcome"),
        pytest.param({"code": 354}, "ok", id="354 without outcome"),
        pytest.param({"code": 452}, "deferred", id="452 without outcome"),
        pytest.param({"error": "refused"}, "silent", id="no code, no outcome"),
        pytest.param({"error": "guard"}, None, id="guard without outcome"),
    ],
)
def test_how_an_attempt_ended(row: dict[str, object], ending: str | None) -> None:
    frame = attempts.frame([{"mx_ip": "192.0.2.1", **row}])
    bare = pd.DataFrame([row])
    for table in (frame, bare):
        (got,) = counts.endings(table)
        assert (None if pd.isna(got) else got) == ending
        assert counts.failures(table).tolist() == [pd.NA if ending is None else ending != "ok"]


def test_a_table_without_any_ending_is_refused() -> None:
    with pytest.raises(InvalidInput, match="bring outcome, code or error"):
        counts.failures(pd.DataFrame({"mx_ip": ["192.0.2.1"]}))


def test_a_session_counts_once_up_to_mail_and_by_recipient_after_it() -> None:
    rows = [("s1", "banner", 554)] * 3 + [("s2", "rcpt", 550)] * 2 + [("s3", "mail", 451)] * 2
    rows += [(None, "connect", None)] * 2
    frame = attempts.frame(
        {
            "session": s,
            "stage": stage,
            "code": code,
            "mx_ip": "192.0.2.1",
            "error": None if code else "timeout",
        }
        for s, stage, code in rows
    )
    assert counts.sessions(frame).session.tolist()[:4] == ["s1", "s2", "s2", "s3"]
    table = counts.by_ip(frame)
    assert table.loc["192.0.2.1", ["n", "failed", "deferred", "refused", "silent"]].tolist() == [
        6,
        6,
        1,
        3,
        2,
    ]


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(kn: tuple[int, int]) -> None:
    from scipy.stats import binomtest  # 0.4 s to import: where it is used

    low, high = counts.wilson([kn[0]], [kn[1]])
    other = binomtest(*kn).proportion_ci(0.95, "wilson")
    assert np.allclose([low[0], high[0]], [other.low, other.high], atol=1e-12)
    assert 0 <= low[0] <= kn[0] / kn[1] <= high[0] <= 1


def test_wilson_of_nothing_is_missing() -> None:
    low, high = counts.wilson([0, 0], [0, 4])
    assert np.isnan([low[0], high[0]]).all()
    assert low[1] == 0


def test_by_ip_counts_rates_times_and_skips_withheld_rows() -> None:
    frame = rounds(4, 10, only(3))
    frame.loc[[0, 3], ["outcome", "error"]] = ["withheld", "paced"]
    table = counts.by_ip(frame)
    assert list(table.index) == ["192.0.2.14", "192.0.2.12", "192.0.2.13", "192.0.2.11"]
    assert table.n.tolist() == [9, 10, 10, 9]
    assert table.failed.tolist() == [9, 0, 0, 0]
    assert table.rate.iloc[0] == 1
    assert table["first"].iloc[0] == frame.started_at[3]
    assert str(table["last"].dtype) == "datetime64[us, UTC]"


def test_by_pairs_and_an_unknown_key() -> None:
    table = counts.by(pairs(), ["mx_ip", "sender_ip"])
    assert table.index[0] == ("192.0.2.13", OURS2)
    assert table.failed.tolist() == [10] + [0] * 7
    with pytest.raises(InvalidInput, match="'nonsense'"):
        counts.by(pairs(), "nonsense")


def test_what_has_not_ended_is_no_failure() -> None:
    frame = attempts.frame([{"mx_ip": "192.0.2.1", "stage": "rcpt"}, {"mx_ip": "192.0.2.1", "code": 250}])
    assert counts.unfinished(frame).tolist() == [True, False]
    assert counts.failures(frame).tolist() == [pd.NA, False]
    assert counts.by_ip(frame)[["n", "failed", "silent"]].iloc[0].tolist() == [1, 0, 0]
    assert counts.endings(pd.DataFrame({"code": [250, None]})).tolist() == ["ok", "silent"]


def test_rows_without_a_key_are_a_row_of_their_own() -> None:
    frame = attempts.frame([{"code": 550}, {"mx_ip": "192.0.2.1", "code": 250}])
    table = counts.by_ip(frame)
    assert table.n.tolist() == [1, 1]
    assert pd.isna(table.index[0])


OTHERS = {
    "outcomes in others' words": ({"outcome": ["sent", "bounced"]}, "outcome 'sent' is none of accepted"),
    "outcomes in capitals": ({"outcome": ["Accepted", "Rejected"]}, "outcome 'Accepted'"),
    "replies as codes": ({"code": ["250 2.0.0 Ok", "550-5.7.1 no"]}, "code '250 2.0.0 Ok' is no number"),
    "times of people": ({"code": [250, 550], "started_at": ["yesterday"] * 2}, "started_at 'yesterday' is no time"),
}


@pytest.mark.parametrize(("columns", "said"), OTHERS.values(), ids=OTHERS)
def test_what_is_not_the_schema_s_is_no_failure_but_refused(columns: dict[str, list[object]], said: str) -> None:
    table = pd.DataFrame({"mx_ip": ["192.0.2.1"] * 2, "started_at": ["2026-03-02"] * 2} | columns)
    for ask in (counts.by_ip, sk.diagnose):
        with pytest.raises(InvalidInput, match=said) as refused:
            ask(table)
        assert "sk.read_table" in str(refused.value)


def test_others_words_beside_a_code_and_texts_for_numbers_and_times_count() -> None:
    table = pd.DataFrame(
        {"mx_ip": ["192.0.2.1"] * 3, "code": ["250", "550.0", None], "outcome": ["sent", "odd", None]}
    )
    table["started_at"] = ["2026-03-02 09:14+09:00", "2026-03-02T00:14:00.5Z", "2026-03-02 00:14:01"]
    row = counts.by_ip(table).loc["192.0.2.1"]
    assert (row.n, row.failed, row.refused) == (2, 1, 1)
    assert [str(row[name]) for name in ("first", "last")] == [
        "2026-03-02 00:14:00+00:00",
        "2026-03-02 00:14:01+00:00",
    ]
    assert sk.diagnose(table).table.n.sum() == 2
