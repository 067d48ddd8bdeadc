"""Many files on many workers, into a Parquet data set: the same rows, whoever is lost on the way."""

import os
import signal
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import smtpkit as sk
from smtpkit.errors import InvalidInput
from tests import loggen

SAME = [
    "attempt_id",
    "started_at",
    "mx_ip",
    "outcome",
    "sender",
    "size_bytes",
    "message_id",
    "recipient",
    "reply",
    "reason",
]


@pytest.fixture
def week(tmp_path: Path) -> list[Path]:
    """Four files of one relay's log; messages go over from one into the next."""
    loggen.write(tmp_path / "whole", days=2, per_day=150, seed=3)
    lines = (tmp_path / "whole").read_text().splitlines(keepends=True)
    quarter = len(lines) // 4 + 1
    paths = [tmp_path / f"mail.log.{n}" for n in (4, 3, 2, 1)]
    for n, path in enumerate(paths):
        path.write_text("".join(lines[n * quarter : (n + 1) * quarter]))
    (tmp_path / "whole").unlink()
    return paths


def rows(table: pd.DataFrame) -> list[list[Any]]:
    """What must be equal, in one order."""
    kept = table[SAME].astype("str").fillna("")
    return sorted(kept.values.tolist())


def test_workers_give_the_rows_that_one_process_gives(week: list[Path]) -> None:
    alone = sk.read_log(week)
    assert alone.sender.notna().all()
    with ThreadPoolExecutor(2) as pool:
        table = sk.read_log(week, executor=pool)
    assert len(table) == len(alone)
    assert rows(table) == rows(alone)
    assert table.attrs["skipped"].keys() == alone.attrs["skipped"].keys()


@pytest.mark.slow
def test_a_data_set_by_day_and_host_is_read_lazily(week: list[Path], tmp_path: Path) -> None:
    alone = sk.read_log(week)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        kept = sk.read_log(week, executor=pool, into=tmp_path / "set")
    assert sorted(path.name for path in (tmp_path / "set").iterdir())[0] == "day=2026-03-01"
    assert {path.name for path in (tmp_path / "set").glob("*/*")} == {"host=relay1"}
    assert len(kept.frame()) == len(alone)
    assert rows(kept.frame()) == rows(alone), "what an earlier file said of a message is joined"
    day = kept.frame(day="2026-03-02", host="relay1")
    assert len(day) == (alone.started_at.dt.strftime("%Y-%m-%d") == "2026-03-02").sum()
    tries = alone.set_index("attempt_id").try_number
    for part in (kept.frame(), day):
        assert part.set_index("attempt_id").try_number.equals(tries[part.attempt_id])
    assert (day.try_number > 1).any(), "a first try of the day before counts"
    assert day.dtypes.equals(alone.dtypes)
    one = kept.frame(mx_ip=["192.0.2.14", "192.0.2.13"], outcome="accepted")
    assert set(one.mx_ip) == {"192.0.2.14", "192.0.2.13"}
    assert one.reason.isna().all()
    assert kept.lazy().select("line").collect().height == len(alone)
    with pytest.raises(InvalidInput, match="'nonsense'"):
        kept.frame(nonsense=1)


def test_one_process_writes_the_same_set(week: list[Path], tmp_path: Path) -> None:
    kept = sk.read_log(week, into=tmp_path / "set")
    assert rows(kept.frame()) == rows(sk.read_log(week))
    assert kept.attrs["problems"] == []


def _die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Mortal(Executor):
    """A pool whose worker is killed at the second file."""

    def __init__(self) -> None:
        self._pool, self._asked = ProcessPoolExecutor(1, mp_context=get_context("spawn")), 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        self._asked += 1
        if self._asked == 2:
            time.sleep(0.5)
            return self._pool.submit(_die)
        return self._pool.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._pool.shutdown(wait=wait, cancel_futures=cancel_futures)


@pytest.mark.slow
def test_a_lost_worker_costs_no_file(week: list[Path]) -> None:
    with Mortal() as pool:
        table = sk.read_log(week, executor=pool)
    assert len(table) == len(sk.read_log(week))
    lost = [p for p in table.attrs["problems"] if "a worker was lost" in p["why"]]
    assert lost, "and it is told"
    assert all("was read here" in p["why"] for p in lost)


def test_a_mistake_on_a_worker_is_raised_here(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(256)) * 100)
    with ThreadPoolExecutor(1) as pool, pytest.raises(InvalidInput, match="binary"):
        sk.read_log(tmp_path / "a", executor=pool)


@pytest.mark.slow
def test_dask(week: list[Path], tmp_path: Path) -> None:
    """The executor of a Dask cluster (extra `cluster`)."""
    distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Dask's own deprecations are not ours to mend
        local = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
        with local as cluster, distributed.Client(cluster) as client:
            kept = sk.read_log(week, executor=client.get_executor(), into=tmp_path / "set")
    assert len(kept.frame()) == len(sk.read_log(week))
