"""Who is guilty? Ours beside the naive highest rate and per-IP Fisher with Benjamini-Hochberg, in one run.

Run: python -m tests.bench.bench_diagnose INCIDENTS [--fresh N] [--seed S] [--out FILE]

INCIDENTS: a folder with attempts_dev[_hard].parquet, truth_dev[_hard].json and score.py. The incidents judge by
cross-validation: the wordings (first part of the domain) are dealt into folds, the numbers that are fitted (the
temperature of the confidence, and below which confidence nobody is named) are chosen on the other folds.
`--fresh`: so many new incidents of each kind from tests/incidents.py, which no number was fitted on.
"""

import argparse
import importlib.util
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import fisher_exact

from smtpkit import attempts
from smtpkit.counts import by_ip
from smtpkit.diagnosis import Diagnosis, diagnose
from tests import incidents

ERRORS = {"refused": "refused", "timed out": "timeout", "reset": "reset", "route": "unreachable",
          "unreachable": "unreachable", "certificate": "tls_verify", "TLS": "tls_handshake",
          "SSL": "tls_handshake"}  # fmt: skip
"""Words of the incidents' client errors, and what our frame calls them."""
FIGURES = """kind_accuracy kind_accuracy_sick set_precision set_recall stale_mx_exact innocent_server_accused
false_alarm_healthy simpson_trap_fallen both_causes_found delist_recoveries_right onset_within_tol ece
seconds_per_5000""".split()
Prediction = dict[str, Any]


def frames(folder: Path, split: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """The incidents of a split, with our column names."""
    table = pd.read_parquet(folder / f"attempts_{split}.parquet").rename(columns={"ts": "started_at"})
    none = table.code.isna()
    error = pd.Series("lost", table.index, dtype="str")
    for word, name in reversed(ERRORS.items()):
        error = error.mask(table.text.str.contains(word, case=False, regex=False), name)
    table["error"], table["reply"] = error.where(none), table.text.where(~none)
    yield from table.drop(columns="text").groupby("incident")


def predicted(found: Diagnosis) -> Prediction:
    """What the scorer reads."""
    causes = [
        {"kind": c.kind, "dimension": c.dimension, "values": list(c.values)}
        | {"onset": c.onset and c.onset.isoformat(), "recovery": c.recovery and c.recovery.isoformat()}
        | {"recoveries": {ip: at and at.isoformat() for ip, at in c.recoveries.items()}}
        | {"only_for": {key: list(some) for key, some in c.only_for.items()}}
        for c in found.causes
    ]
    first = causes[0] if causes else {"kind": "healthy", "dimension": "none", "values": []}
    return first | {"confidence": found.confidence, "also": causes[1:]}


def naive(frame: pd.DataFrame) -> Prediction:
    """The MX IP with the highest failure rate is guilty."""
    table = by_ip(frame)
    if not table.failed.sum():
        return {"kind": "healthy"}
    return {"kind": "mx_block", "dimension": "mx_ip", "values": [str(table.index[0])]}


def fisher(frame: pd.DataFrame) -> Prediction:
    """One-sided exact test of each MX IP against the rest, Benjamini-Hochberg at 5 %."""
    table = by_ip(frame)
    k, n = int(table.failed.sum()), int(table.n.sum())
    p = [
        fisher_exact([[row.failed, row.n - row.failed], [k - row.failed, n - row.n - k + row.failed]], "greater")[1]
        for row in table.itertuples()
    ]
    order = np.argsort(p)
    passed = np.flatnonzero(np.array(p)[order] <= 0.05 * np.arange(1, len(p) + 1) / len(p))
    guilty = table.index[order[: passed.max() + 1]].astype(str).tolist() if len(passed) else []
    return {"kind": "mx_block", "dimension": "mx_ip", "values": guilty} if guilty else {"kind": "healthy"}


def ask(job: tuple[str, pd.DataFrame]) -> tuple[str, dict[str, Prediction], float, int]:
    """One incident's predictions by method, and the time that ours took."""
    name, frame = job
    begun = time.process_time()
    ours = predicted(diagnose(frame))
    took = time.process_time() - begun
    return name, {"naive": naive(frame), "fisher": fisher(frame), "ours": ours}, took, len(frame)


def scorer(folder: Path) -> Any:
    spec = importlib.util.spec_from_file_location("score", folder / "score.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.score


def run(jobs: list[tuple[str, pd.DataFrame]]) -> tuple[dict[str, dict[str, Prediction]], float]:
    """Predictions by method and incident; CPU seconds of ours for an incident of 5,000 rows.

    That is where the straight line through the incidents of 2,500 rows or more stands at 5,000.
    """
    made: dict[str, dict[str, Prediction]] = defaultdict(dict)
    times: list[tuple[int, float]] = []
    with ProcessPoolExecutor(2) as pool:
        for name, answers, took, n in pool.map(ask, jobs, chunksize=4):
            if n >= 2500:
                times.append((n, took))
            for method, prediction in answers.items():
                made[method][name] = prediction
    enough = len({n for n, _ in times}) > 2
    return made, float(np.polyval(np.polyfit(*zip(*times, strict=True), 1), 5000)) if enough else float("nan")


def tempered(prediction: Prediction, factor: float, floor: float) -> Prediction:
    """The prediction as another temperature gives it; below the floor no server is named."""
    c = min(max(prediction["confidence"], 1e-6), 1 - 1e-6)
    odds = (c / (1 - c)) ** (1 / factor)
    c = min(0.99, odds / (1 + odds))
    if c < floor and prediction.get("dimension") in ("mx_ip", "backend"):
        return {"kind": "inconclusive", "dimension": "none", "values": [], "confidence": c, "also": []}
    return prediction | {"confidence": c}


FOLDS = 4
GRID = [(factor, floor) for factor in (0.6, 0.8, 1.0, 1.25, 1.6, 2.0) for floor in (0.0, 0.65, 0.8)]


def cross_validated(
    ours: dict[str, Prediction], truth: dict[str, Any], wording: dict[str, str], score: Any, hard: bool
) -> dict[str, Prediction]:
    """Each incident's prediction with the numbers that were best on the folds of other wordings."""
    words = sorted(set(wording.values()))
    fold = {name: words.index(wording[name]) % FOLDS for name in ours}

    accused, alarms = (0.03, 0.08) if hard else (0.01, 0.01)

    def cost(names: list[str], factor: float, floor: float) -> float:
        """Limits of the goals first, then what is left to gain."""
        told = {n: tempered(ours[n], factor, floor) for n in names}
        f = score(told, {n: truth[n] for n in names})[0]
        over = max(0, f["innocent_server_accused"] - accused) + max(0, f["false_alarm_healthy"] - alarms)
        return float(10 * over + 2 - f["kind_accuracy"] - f["stale_mx_exact"] + f["ece"])

    made = {}
    for this in range(FOLDS):
        seen = [n for n in ours if fold[n] != this]
        best = min(GRID, key=lambda pair: cost(seen, *pair))
        print(f"  fold {this}: {len(ours) - len(seen)} incidents unseen; factor, floor {best} from the others")
        made |= {n: tempered(ours[n], *best) for n in ours if fold[n] == this}
    return made


def development(folder: Path, split: str) -> dict[str, dict[str, Any]]:
    """The figures of the three methods on a split, ours by cross-validation and as shipped."""
    jobs, score = list(frames(folder, split)), scorer(folder)
    truth = json.loads((folder / f"truth_{split}.json").read_text("utf-8"))
    made, speed = run(jobs)
    wording = {name: frame.domain.iloc[0].partition("-")[0] for name, frame in jobs}
    made["ours, cross-validated"] = cross_validated(made["ours"], truth, wording, score, split == "dev_hard")
    figures = {method: score(told, truth)[0] for method, told in made.items()}
    figures["ours"]["seconds_per_5000"] = speed
    return figures


def fresh(count: int, seed: int, hard: bool) -> dict[str, dict[str, Any]]:
    """The figures of the three methods on new incidents of every kind."""
    several = 3 * count
    names = [
        (kind, i) for kind in incidents.KINDS for i in range(several if kind in ("healthy", "mx_block") else count)
    ]
    made_up = {f"{kind}-{i}": incidents.simulate(kind, seed + i, hard) for kind, i in names}
    made, speed = run([(name, frame) for name, (frame, _) in made_up.items()])
    truth = {name: causes for name, (_, causes) in made_up.items()}
    figures = {method: judged(told, truth) for method, told in made.items()}
    figures["ours"]["seconds_per_5000"] = speed
    return figures


SMALL = ["healthy"] * 3 + "mx_block mx_dead mx_tls mx_slow provider_block greylisting".split()


def small(kind: str, seed: int) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """A probe of 2 to 8 servers, 5 rounds, one recipient, whose cause showed three times; half without noise."""
    rng = np.random.default_rng([seed, SMALL.index(kind)])
    n, site = int(rng.integers(2, 9)), "rx.example"
    ips = [(site, f"mx{i}.{site}", f"198.51.100.{10 + i}") for i in range(n)]
    w = incidents.World(rng, False, [site], ips, ["203.0.113.20"], [(site, f"r@{site}")], span=100.0 * n)
    incidents.KINDS[kind](w)
    noise, base = w.pick(incidents.WORDS["noise"], 3), float(rng.choice([0, 0, 0.03, 0.08]))
    rows = []
    for i, (_, host, ip) in enumerate(ips * 5):
        row = {"t": 20.0 * i, "domain": site, "mx_host": host, "mx_ip": ip, "recipient": f"r@{site}"}
        row |= {"sender_ip": w.senders[0], "body_id": None, "size_bytes": None, "reply_host": None}
        said = next((answer for answer in (cause(row) for cause in w.causes) if answer), None)
        said = noise[int(rng.integers(3))] if said is None and rng.random() < base else said
        rows.append(incidents.answered(w, row, said) | {"source": "probe", "asked": "rcpt"})
    hits = [cause["count"][0] for cause in w.truth if "count" in cause]
    return (attempts.frame(rows), w.truth) if not hits or hits[0] >= 3 else small(kind, seed + 10**6)


def small_probes(count: int, seed: int) -> dict[str, dict[str, Any]]:
    """The figures of the three methods on small probes; `sure`: how many reach 0.8; how many of them are right."""
    made_up = {f"{kind}-{seed + i}": small(kind, seed + i) for kind in set(SMALL) for i in range(count)}
    made_up |= {f"healthy-{seed + i}": small("healthy", seed + i) for i in range(count, 3 * count)}
    made, _ = run([(name, frame) for name, (frame, _) in made_up.items()])
    truth = {name: causes for name, (_, causes) in made_up.items()}
    figures = {method: judged(told, truth) for method, told in made.items()}
    sure = [name for name, p in made["ours"].items() if p["confidence"] >= 0.8]
    right = [made["ours"][n]["kind"] in ({c["kind"] for c in truth[n]} or {"healthy"}) for n in sure]
    figures["ours"] |= {"sure": len(sure) / len(truth), "right where sure": float(np.mean(right))}
    return figures


def judged(told: dict[str, Prediction], truth: dict[str, Any]) -> dict[str, float]:
    """The scorer's figures for incidents whose truth the simulator told."""
    rows = defaultdict(list)
    for name, causes in truth.items():
        p, family = told[name], name.rpartition("-")[0]
        right = {c["kind"] for c in causes} or {"healthy"}
        rows["kind_accuracy"].append(p["kind"] in right)
        named = {v for c in [p, *p.get("also", ())] if c.get("dimension") == "mx_ip" for v in c["values"]}
        guilty = {v for c in causes if c["dimension"] == "mx_ip" for v in c["values"]}
        if not guilty:
            rows["innocent_server_accused"].append(bool(named))
        if family == "healthy":
            rows["false_alarm_healthy"].append(p["kind"] not in ("healthy", "inconclusive"))
        if family == "simpson":
            rows["simpson_trap_fallen"].append(bool(named))
        if family in ("mx_block", "pair"):
            only = {k: sorted(v) for c in causes for k, v in c.get("only_for", {}).items()}
            rows["stale_mx_exact"].append(named == guilty and p.get("only_for", only) == only)
        if family in ("backend", "local_path", "pair"):
            rows[f"kind of {family}"].append(
                p["kind"] in right and set(p.get("values", ())) == {v for c in causes for v in c["values"]}
            )
        if "confidence" in p:
            rows["ece"].append((p["confidence"], p["kind"] in right))
    figures = {key: float(np.mean(some)) for key, some in rows.items() if key != "ece"}
    return figures | ({"ece": ece(rows["ece"])} if rows["ece"] else {}) | wrong(told, truth)


def wrong(told: dict[str, Prediction], truth: dict[str, Any]) -> dict[str, float]:
    """Kind accuracy by family."""
    by = defaultdict(list)
    for name, causes in truth.items():
        by[name.rpartition("-")[0]].append(told[name]["kind"] in ({c["kind"] for c in causes} or {"healthy"}))
    return {f"family {family}": float(np.mean(some)) for family, some in by.items()}


def ece(pairs: list[tuple[float, bool]]) -> float:
    """Mean gap between confidence and truth over ten bins."""
    sure, right = np.array(pairs, float).T
    place = np.minimum((sure * 10).astype(int), 9)
    return float(sum(abs((sure - right)[place == b].sum()) for b in range(10)) / len(pairs))


def table(title: str, figures: dict[str, dict[str, Any]], rows: list[str]) -> str:
    """The figures as Markdown."""
    lines = [f"### {title}", "", "| figure | " + " | ".join(figures) + " |", "|---|" + "---|" * len(figures)]
    for row in rows:
        cells = [f"{f[row]:.3f}" if isinstance(f.get(row), float | int) else "-" for f in figures.values()]
        if set(cells) != {"-"}:
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def million() -> float:
    """Seconds for one million attempts at one receiver of twelve servers, one of which is stale."""
    rng, n = np.random.default_rng(7), 1_000_000
    ip = rng.integers(12, size=n)
    bad = (ip == 4) & (rng.random(n) < 0.7)
    noise = rng.random(n) < 0.02
    frame = pd.DataFrame(
        {
            "started_at": pd.Timestamp("2026-03-02", tz="UTC")
            + pd.to_timedelta(np.sort(rng.integers(86400 * 7, size=n)), unit="s")
        }
    )
    frame["mx_ip"] = pd.Series([f"192.0.2.{i}" for i in range(12)]).to_numpy()[ip]
    frame["recipient"] = pd.Series([f"u{i}@b.example" for i in range(50_000)]).to_numpy()[
        rng.integers(50_000, size=n)
    ]
    frame["code"] = np.where(bad, 554, np.where(noise, 451, 250))
    number = pd.Series(np.arange(n)).astype("str")
    frame["reply"] = ("554 5.7.1 Your IP [203.0.113.9] is blocked, id " + number).where(
        bad, "451 4.3.0 try later " + number
    )
    begun = time.perf_counter()
    assert diagnose(frame).causes[0].values == ("192.0.2.4",)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("incidents", nargs="?", type=Path)
    parser.add_argument("--fresh", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    said = []
    for hard in (False, True):
        word = "hard" if hard else "standard"
        if given.incidents:
            split = "dev_hard" if hard else "dev"
            figures = development(given.incidents, split)
            said.append(table(f"Development incidents, {word} (198)", figures, FIGURES))
            print(said[-1])
        if given.fresh:
            figures = fresh(given.fresh, given.seed, hard)
            more = sorted({k for f in figures.values() for k in f} - set(FIGURES))
            said.append(table(f"Fresh incidents of tests/incidents.py, {word}", figures, FIGURES + more))
            print(said[-1])
    if given.fresh:
        figures = small_probes(5 * given.fresh, given.seed)
        rows = [
            "kind_accuracy",
            "innocent_server_accused",
            "false_alarm_healthy",
            "ece",
            "sure",
            "right where sure",
        ]
        said.append(table("Small probes: 2 to 8 servers, 5 rounds", figures, rows))
        print(said[-1])
    if given.million:
        said.append(f"One million attempts (five columns): {million():.1f} s.\n")
        print(said[-1])
    if given.out:
        given.out.write_text("\n".join(said), "utf-8")


if __name__ == "__main__":
    main()
