"""Pace and Timeouts, rule by rule: when an address may be asked, given who was there before."""

from dataclasses import replace

import pytest

from smtpkit.errors import InvalidInput
from smtpkit.limits import Pace, Timeouts, Visit

A, B = "192.0.2.1", "192.0.2.2"
DAY = 86_400.0
FREE = Pace(at_once=None, receiver_gap=0, ip_gap=0, per_hour=None, per_day=None, rests=(), receiver_rest=0)
"""No rule at all: each row below puts one back."""


def visits(*times: float, ip: str = B, **more: object) -> list[Visit]:
    return [Visit(at=at, ip=ip, **{"ended": at, **more}) for at in times]  # type: ignore[arg-type]  # by name


def refused(*times: float) -> list[Visit]:
    return visits(*times, ip=A, refused=True)


WAITS: dict[str, tuple[dict[str, object], list[Visit], float, float]] = {
    "nobody was there": ({}, [], 0, 0),
    "no rule": ({}, [*refused(0), *visits(0, ended=None), *visits(0, stop=True)], 0, 0),
    "the receiver's gap is from the last end": ({"receiver_gap": 5}, visits(0, 2, ended=3), 4, 4),
    "and over after it": ({"receiver_gap": 5}, visits(0, 3), 8, 0),
    "the address's gap is from its own last end": ({"ip_gap": 20}, [*visits(0, ip=A), *visits(9)], 10, 10),
    "a sibling's visit is none of the address's": ({"ip_gap": 20}, visits(9), 10, 0),
    "one is open, one may be": ({"at_once": 1, "receiver_gap": 5}, visits(0, ended=None), 1, 5),
    "one is open, two may be": ({"at_once": 2}, visits(0, ended=None), 1, 0),
    "two are open, two may be": ({"at_once": 2}, visits(0, 0, ended=None), 1, 0.1),
    "one that ended is not open": ({"at_once": 1}, visits(0), 1, 0),
    "an hour is full": ({"per_hour": 3}, visits(0, 100, 200), 300, 3300),
    "the hour has room for one": ({"per_hour": 4}, visits(0, 100, 200), 300, 0),
    "of more than may be the newest count": ({"per_hour": 2}, visits(0, 100, 200), 300, 3400),
    "a day is full": ({"per_day": 2}, visits(0, 100), 200, DAY - 200),
    "the order of visits is no matter": ({"per_hour": 2}, visits(200, 0, 100), 300, 3400),
    "the first refusal rests": ({"rests": (60, 120, 300)}, refused(0), 10, 50),
    "the second in a row rests longer": ({"rests": (60, 120, 300)}, refused(0, 100), 110, 110),
    "the fourth as the third": ({"rests": (60, 120, 300)}, refused(0, 100, 200, 300), 310, 290),
    "who was let in begins anew": (
        {"rests": (60, 120)},
        [*refused(0, 100), *visits(200, ip=A, refused=False), *refused(300)],
        310,
        50,
    ),
    "who was let in last does not rest": ({"rests": (60,)}, [*refused(0), *visits(1, ip=A, refused=False)], 2, 0),
    "what told nothing changes nothing": ({"rests": (60,)}, [*refused(0), *visits(30, ip=A, refused=None)], 40, 20),
    "a sibling's refusal rests nobody else": ({"rests": (60,)}, visits(0, refused=True), 10, 0),
    "too many said, all of the receiver rests": ({"receiver_rest": 1800}, visits(0, stop=True), 10, 1790),
    "of an open visit the begin counts": ({"receiver_rest": 1800}, visits(5, ended=None, stop=True), 10, 1795),
    "the longest wait holds": ({"receiver_gap": 5, "rests": (60,)}, [*refused(0), *visits(9)], 10, 50),
}


@pytest.mark.parametrize("name", WAITS)
def test_how_long_to_wait(name: str) -> None:
    rules, before, now, wait = WAITS[name]
    assert replace(FREE, **rules).wait(before, A, now) == pytest.approx(wait)  # type: ignore[arg-type]  # by name


def test_the_defaults_are_those_of_the_plan() -> None:
    assert Pace() == Pace(
        at_once=1, receiver_gap=5, ip_gap=20, per_hour=60, per_day=200, rests=(60, 120, 300), asks_after_refusal=5,
        receiver_rest=1800, patience=900,
    )  # fmt: skip
    limits = Timeouts()
    assert (limits.connect, limits.handshake, limits.reply, limits.final, limits.total) == (30, 30, 120, 600, None)


def test_a_lab_has_no_pauses_at_all() -> None:
    before = [*refused(0, 0, 0), *visits(*[0.0] * 300, stop=True), *visits(0, ended=None)]
    assert Pace.none().wait(before, A, 0.0) == 0
    assert Pace.none().asks_after_refusal == 1_000_000


@pytest.mark.parametrize(
    "wrong",
    [{name: value} for name in ("connect", "reply", "final", "total") for value in (0, -1, "5", float("inf"), True)]
    + [{"connect": None}, {"reply": float("nan")}],
    ids=str,
)
def test_a_wait_is_a_positive_number(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match=f"{next(iter(wrong))} .* is no number above 0"):
        Timeouts(**wrong)  # type: ignore[arg-type]  # the caller's mistake is what is tested


@pytest.mark.parametrize(
    "wrong",
    [{"rests": 60}, {"rests": (60, -1)}, {"rests": ("60",)}, {"asks_after_refusal": -1},
     {"asks_after_refusal": 1.5}, {"at_once": 0}, {"receiver_rest": float("nan")}],
    ids=str,
)  # fmt: skip
def test_a_pace_is_of_numbers_that_mean_something(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        Pace(**wrong)  # type: ignore[arg-type]  # the caller's mistake is what is tested


def test_none_is_a_pace_too() -> None:
    assert Pace(asks_after_refusal=0, rests=(), receiver_gap=0).rests == ()
    assert Timeouts(total=None, connect=0.1).total is None
