"""bench_cluster: one Dask worker against two on this machine, the same files into a Parquet data set.

`python -m tests.bench.bench_cluster --megabytes 50 --files 8 --rounds 5`: clusters in turn, wall time of `read_log`
alone (the workers have started and imported), and the median of the ratios inside a round. A worker has one
core's worth of polars, as CONTRIBUTING says for a hundred hosts. Not here: whether the rows are right
(tests/test_logs_scale.py).
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import distributed

import smtpkit as sk
from tests import loggen

THREADS = {"POLARS_MAX_THREADS": "1"}


@contextmanager
def cluster(workers: int) -> Iterator[Any]:
    """The executor of so many workers, each with its imports done."""
    local = distributed.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None, env=THREADS)
    with local as made, distributed.Client(made) as client:
        client.run(lambda: __import__("smtpkit").read_log)
        yield client.get_executor()


def timed(paths: list[Path], executor: Any) -> float:
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        sk.read_log(paths, executor=executor, into=folder)
        return time.perf_counter() - begun


def main() -> None:
    """Generate, run in turn, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=float, default=50, help="of each file")
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, cluster(1) as one, cluster(2) as two:
        paths = [Path(folder) / f"relay{n}.log" for n in range(given.files)]
        for n, path in enumerate(paths):
            loggen.write(path, given.megabytes, days=4000, per_day=60_000, seed=n, host=f"relay{n}")
        ratios = []
        for number in range(given.rounds):
            alone, both = timed(paths, one), timed(paths, two)
            ratios.append(alone / both)
            print(f"round {number + 1}: one {alone:.2f} s, two {both:.2f} s, ratio {ratios[-1]:.2f}", flush=True)
        print(f"two workers: {statistics.median(ratios):.2f} times one [{min(ratios):.2f}-{max(ratios):.2f}]")


if __name__ == "__main__":
    main()
