"""What must not change a verdict: other names, another order or dtype, another receiver beside; and what must."""

import io
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import smtpkit as sk
from smtpkit import attempts, rows
from smtpkit.diagnosis import Diagnosis
from tests import frames
from tests.sampling import some
from tests.test_diagnosis_faults import BLOCKED, BUSY, OK, made

Frame = pd.DataFrame
Change = Callable[[Frame], Frame]
HOUR, RNG = pd.Timedelta("1h"), np.random.default_rng(12)
EMPTY = "outcome code reply enhanced latency_s error".split()
FRAMES: dict[str, Callable[[], Frame]] = {
    "one stale server": lambda: frames.rounds(4, 6, frames.only(1)),
    "one (sender, server) pair": frames.pairs,
    "a dead mailbox": frames.simpson,
    "servers recover one by one": lambda: frames.staircase().iloc[::2].reset_index(drop=True),
    "a server that went dead": lambda: frames.rounds(4, 12, frames.only(2, kind="mute", since=0.03)),
    "many recipients, stale since noon": lambda: made(80, lambda i, ip: BLOCKED if ip == 2 and i > 30 else OK),
    "first contacts": lambda: frames.rounds(4, 6, lambda i, r, h: "grey" if r < 1 else "good"),
    "nothing": lambda: frames.rounds(5, 8, frames.only()),
}


@cache
def frame_of(name: str) -> Frame:
    return FRAMES[name]()


@cache
def known(name: str) -> tuple[Any, ...]:
    return told(sk.diagnose(frame_of(name)))


def told(found: Diagnosis, back: Callable[[str], str] = str, later: pd.Timedelta = 0 * HOUR) -> tuple[Any, ...]:
    """Who is accused of what, since when, how sure and with how many rows; names and times turned back."""

    def at(moment: pd.Timestamp | None) -> pd.Timestamp | None:
        return None if moment is None else (moment - later).round("10ms")

    def names(some: Any) -> list[str]:
        return sorted(back(str(value)) for value in some)

    causes = [
        (
            (c.kind, c.dimension, names(c.values), {k: names(v) for k, v in c.only_for.items()}),
            (at(c.onset), at(c.recovery), {back(ip): at(t) for ip, t in c.recoveries.items()}, len(c.evidence)),
        )
        for c in found.causes
    ]
    return causes, [c.confidence for c in found.causes], found.confidence


def alike(one: tuple[Any, ...], two: tuple[Any, ...]) -> None:
    assert one[0] == two[0]
    assert one[1:] == (pytest.approx(two[1], abs=0.05), pytest.approx(two[2], abs=0.05))


def each(names: str, change: Callable[[pd.Series], Any]) -> Change:
    """These columns (those that are there) changed."""
    return lambda f: f.assign(**{name: change(f[name]) for name in names.split() if name in f})


def said(more: Callable[[int, pd.Timestamp], str]) -> Change:
    """Every reply with something more at its end, by its number and time."""

    def change(f: Frame) -> Frame:
        tails = [more(n, at) for n, at in enumerate(f.started_at)]
        return f.assign(reply=f.reply + pd.Series(tails, f.index, dtype="str"))

    return change


def replaced(pattern: str, by: str) -> Change:
    """In all texts."""
    texts = "mx_ip mx_host domain recipient recipient_domain sender_ip local_ip reply"
    return each(texts, lambda s: s.astype("str").str.replace(pattern, by, regex=True))


def without(f: Frame, **more: Any) -> Frame:
    """The frame's rows withheld by us."""
    held = f.assign(**dict.fromkeys(EMPTY), attempt_id=f.attempt_id + "w", session=f.session + "w")
    return attempts.conform(held.assign(outcome="withheld", error="paced", stage="connect", **more))


def elsewhere(f: Frame, **more: Any) -> Frame:
    """The same attempts at another receiver."""
    ids = {name: "o" + f[name] for name in ("attempt_id", "session", "message_id")}
    other = replaced("daum", "other")(replaced(r"192\.0\.2\.", "203.0.113.")(f))
    return attempts.conform(other.assign(**ids, **more))


def beside(f: Frame) -> Frame:
    """A healthy receiver that answers ten times faster."""
    passed = {
        "outcome": "passed",
        "code": 250,
        "reply": "250 2.1.5 Ok",
        "stage": "rcpt",
        "latency_s": f.latency_s / 10,
    }
    answers = dict.fromkeys(EMPTY) | passed | (OK if f.stage.eq("body").any() else {})
    return frames.join(f, elsewhere(f, **answers))


def again(f: Frame, how: Callable[[Any], Frame] = pd.read_csv, **more: Any) -> Frame:
    return how(io.StringIO(f.to_csv(index=False)), **more)


def parquet(f: Frame) -> Frame:
    f.to_parquet(kept := io.BytesIO())
    return pd.read_parquet(kept)


CATEGORY = "outcome stage error source domain mx_ip recipient sender_ip reply"
SAME: dict[str, Change] = {
    "rows permuted": lambda f: f.iloc[RNG.permutation(len(f))].reset_index(drop=True),
    "index twice the same": lambda f: f.set_axis([0] * len(f)),
    "index of texts": lambda f: f.set_axis([f"r{n}" for n in range(len(f), 0, -1)]),
    "index of times": lambda f: f.set_axis(pd.DatetimeIndex(f.started_at)),
    "columns permuted": lambda f: f[f.columns[RNG.permutation(f.shape[1])]],
    "empty columns dropped": lambda f: f.dropna(axis=1, how="all"),
    "objects": lambda f: f.astype(object).where(f.notna(), None),
    "texts for categories": lambda f: f.astype({c: "str" for c, t in f.dtypes.items() if str(t) == "category"}),
    "categories for texts": each(CATEGORY, lambda s: s.astype("category")),
    "times of Seoul": each("started_at", lambda s: s.dt.tz_convert("Asia/Seoul")),
    "times without a zone": each("started_at", lambda s: s.dt.tz_localize(None)),
    "times as texts": each("started_at", lambda s: s.astype("str")),
    "as CSV": again,
    "as CSV, gaps as empty texts": lambda f: again(f, dtype=str, keep_default_na=False),
    "as CSV, conformed": lambda f: attempts.conform(again(f)),
    "as Parquet": parquet,
    "domains in capitals here and there": lambda f: f.assign(
        domain=f.domain.where(f.index % 2 == 0, "DAUM.Example.")
    ),
    "recipients' domains in capitals": lambda f: f.assign(
        recipient=f.recipient.where(f.index % 3 > 0, f.recipient.str.replace("@daum", "@DAUM"))
    ),
    "a queue id in each reply": said(lambda n, at: f" [q{n:07d}]"),
    "an id without digits in each reply": said(lambda n, at: " ref " + "xYwVuTsRqPoNmL"[n % 7 : n % 7 + 6]),
    "the date in each reply": said(lambda n, at: f" ({at:%a, %d %b %Y %I:%M:%S %p} +0000)"),
    "a healthy receiver beside": beside,
    "withheld rows beside": lambda f: frames.join(f, without(f.iloc[::3])),
    "all rows twice, with the same ids": lambda f: pd.concat([f, f], ignore_index=True),
}
"""Changes after which diagnose must say what it said before."""


@pytest.mark.parametrize("name", some(FRAMES))
@pytest.mark.parametrize("change", SAME)
def test_the_verdict_stays(change: str, name: str) -> None:
    alike(told(sk.diagnose(SAME[change](frame_of(name)))), known(name))


def drawn(f: Frame) -> tuple[Any, ...]:
    """What a chart counts beside the verdict: hits, other failures and attempts of each MX IP."""
    view = rows.Rows(f, sk.diagnose(f))
    return view.word, view.lines.set_index("ip")[["k", "other", "n", "accused"]].sort_index().to_numpy().tolist()


UNDATED = {"times without a zone": "charts refuse them"}
BARE: dict[str, Change] = {
    "no ids": lambda f: f.assign(attempt_id=None),
    "no ids, conformed": lambda f: attempts.conform(f.drop(columns="attempt_id")),
    "no ids, index twice the same": lambda f: f.drop(columns="attempt_id").set_axis([0] * len(f)),
    "half of the ids": lambda f: f.assign(attempt_id=f.attempt_id.where(f.index % 2 == 0)),
}


@pytest.mark.parametrize("change", some([*BARE, *(name for name in SAME if name not in UNDATED)]))
def test_a_chart_counts_the_same(change: str) -> None:
    f = made(80, lambda i, ip: BLOCKED if ip == 1 else BUSY if i % 20 == 4 else OK)
    changed = (BARE | SAME)[change](f)
    word, lines = drawn(changed)
    kept = [line for line in lines if line[2]]
    assert (word, kept[:4]) == drawn(f)


NAMED: dict[str, tuple[Change, Callable[[str], str]]] = {
    "MX IPs": (replaced(r"192\.0\.2\.(\d+)", r"100.64.0.\1"), lambda s: s.replace("100.64.0.", "192.0.2.")),
    "IPv6 of all": (
        replaced(r"(?:192\.0\.2|198\.51\.100)\.(\d+)", r"2001:db8::1:\1"),
        lambda s: re.sub(
            r"2001:db8::1:(\d+)", lambda m: f"{'192.0.2' if int(m[1]) > 9 else '198.51.100'}.{m[1]}", s
        ),
    ),
    "our addresses": (replaced(r"198\.51\.100\.", "100.65.0."), lambda s: s.replace("100.65.0.", "198.51.100.")),
    "their domain": (replaced("daum.example", "b.test"), lambda s: s.replace("b.test", "daum.example")),
    "their hosts": (each("mx_host", lambda s: "z" + s), str),
    "recipients": (each("recipient", lambda s: "x" + s), lambda s: s.removeprefix("x") if "@" in s else s),
}


@pytest.mark.parametrize("name", some(FRAMES))
@pytest.mark.parametrize("what", NAMED)
def test_other_names_accuse_the_same(what: str, name: str) -> None:
    change, back = NAMED[what]
    alike(told(sk.diagnose(change(frame_of(name))), back), known(name))


@pytest.mark.parametrize(
    "later", [37 * 24 * HOUR, 7.25 * HOUR, -3653 * 24 * HOUR], ids=["days", "hours", "years ago"]
)
@pytest.mark.parametrize("name", some(FRAMES))
def test_all_times_later_turn_the_onset_by_as_much(later: pd.Timedelta, name: str) -> None:
    moved = frame_of(name).assign(started_at=frame_of(name).started_at + later)
    alike(told(sk.diagnose(moved), later=later), known(name))


def test_guilty_and_innocent_swapped_swap_the_accusation() -> None:
    f = frame_of("one stale server")
    swapped = f.assign(mx_ip=f.mx_ip.replace({"192.0.2.12": "192.0.2.13", "192.0.2.13": "192.0.2.12"}))
    assert [cause.values for cause in sk.diagnose(swapped).causes] == [("192.0.2.13",)]


def test_two_receivers_each_with_its_cause_are_both_told() -> None:
    f, other = frame_of("one stale server"), elsewhere(frame_of("a server that went dead"))
    found = {(cause.kind, cause.values) for cause in sk.diagnose(frames.join(f, other)).causes}
    assert found == {("mx_block", ("192.0.2.12",)), ("mx_dead", ("203.0.113.13",))}


def shuffled(seed: int) -> Diagnosis:
    """One receiver whose refusals, 2 to 50 % of all, fall on its attempts at random."""
    rng = np.random.default_rng(seed)
    p, n, servers = (
        float(np.exp(rng.uniform(np.log(0.02), np.log(0.5)))),
        int(rng.integers(40, 250)),
        int(rng.integers(2, 9)),
    )
    bad = [(BLOCKED, BUSY)[i] for i in rng.integers(2, size=n)]
    return sk.diagnose(made(n, lambda i, ip: bad[i] if rng.random() < p else OK, servers))


@pytest.mark.parametrize("seed", some(range(6), 3))
def test_refusals_at_random_accuse_no_server(seed: int) -> None:
    assert not {cause.dimension for cause in shuffled(seed).causes} & {"mx_ip", "backend", "sender_ip"}


@pytest.mark.slow
def test_refusals_at_random_accuse_a_server_in_one_frame_of_a_hundred_at_most() -> None:
    blamed = [any(c.dimension == "mx_ip" and c.confidence >= 0.8 for c in shuffled(n).causes) for n in range(100)]
    assert sum(blamed) <= 1


def test_a_server_is_slow_beside_its_siblings_not_beside_another_receiver() -> None:
    f = made(120, lambda i, ip: OK | {"latency_s": 1.3 if ip == 2 else 0.9 + 0.001 * i}, gap=50)
    fast = elsewhere(made(300, lambda i, ip: OK | {"latency_s": 0.25}))
    assert sk.diagnose(f).causes == sk.diagnose(frames.join(f, fast)).causes == ()


def test_a_back_end_is_told_beside_a_receiver_that_names_none() -> None:
    def says(i: int, ip: int) -> dict[str, Any]:
        odd = (i // 4) % 2
        return (BLOCKED if ip == 1 and odd else OK) | {"reply_host": f"be{ip}{odd}.daum.example"}

    found = sk.diagnose(frames.join(made(240, says), elsewhere(made(240, lambda i, ip: OK))))
    assert [(cause.dimension, cause.values) for cause in found.causes] == [("backend", ("be11.daum.example",))]


def test_a_verdict_quotes_the_receiver_it_is_about() -> None:
    def down(host: str) -> dict[str, Any]:
        return BUSY | {"code": 421, "reply": f"421 4.3.2 {host} going down", "stage": "banner"}

    first = made(1, lambda i, ip: down("mx.daum.example"))
    f = made(120, lambda i, ip: down("mx1.daum.example") if ip == 1 else OK)
    found = sk.diagnose(frames.join(elsewhere(first.assign(started_at=first.started_at - HOUR)), f))
    assert "mx1.daum.example going down" in found.verdict
    assert "other.example" not in found.verdict


def test_words_of_which_each_is_heard_once_still_follow_their_server() -> None:
    f = made(
        40, lambda i, ip: BLOCKED | {"reply": f"554 5.7.1 not today, {'abcdefghij'[i // 4] * 5}"} if ip == 1 else OK
    )
    assert "192.0.2.12 refused 10 of 10" in sk.diagnose(f).verdict
