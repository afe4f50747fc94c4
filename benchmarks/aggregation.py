"""Reports per second of every rule, beside crowd-kit and beside the speed of memory, on the same data in one run.

The bound is one pass over the reports: the measured time of summing the matrix. An online rule also writes one weight
per report into new memory, as a copy of the matrix does: the second bound. crowd-kit gets the votes as the table that
it works on; making that table is not counted. The labels of ``online_weighted`` that nobody gains by bending are timed
in turn with ``median``, run by run, and their ratio is the median over the runs: a busy machine slows both down.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from truthful_rlhf.aggregation import AGGREGATORS, make_aggregator, run_online
from truthful_rlhf.aggregation.rules.quantile_labels import LABELS

ABOUT = "reports per second of every rule against crowd-kit and against one pass over memory (about 2 minutes, 4 GB)"

SIZES = [
    (10, 10_000),
    (10, 100_000),
    (10, 1_000_000),
    (100, 10_000),
    (100, 100_000),
    (100, 1_000_000),
    (1000, 1_000),
    (1000, 10_000),
]
BATCH_LIMITS = {"dawid_skene": 1_000_000, "glad": 10_000, "mace": 100_000, "examined": 1_000_000}
"""Reports above which a rule takes longer than the whole benchmark may."""
PEERS = {"crowd-kit MajorityVote": ("MajorityVote", 10_000_000), "crowd-kit DawidSkene": ("DawidSkene", 10_000_000)}
ABSENT = 0.1


def campaign(n_labelers: int, n_rounds: int) -> tuple[Any, Any]:
    """Return reports (a tenth absent) of labelers of mixed accuracy, and outcomes."""
    rng = np.random.default_rng(n_labelers)
    outcomes = (rng.random(n_rounds) < 0.5).astype(np.float64)
    skill = rng.uniform(0.0, 0.6, n_labelers)
    reports = skill * outcomes[:, None] + (1.0 - skill) * rng.random((n_rounds, n_labelers))
    reports[rng.random(reports.shape) < ABSENT] = np.nan
    return reports, outcomes


def best_seconds(job: Callable[[], object], least: float = 0.3, most_runs: int = 7) -> float:
    """Return the shortest of several runs: those that fit into ``least`` seconds, at least one."""
    times: list[float] = []
    while not times or (sum(times) < least and len(times) < most_runs):
        start = time.perf_counter()
        job()
        times.append(time.perf_counter() - start)
    return min(times)


def peer_seconds(peer: str, reports: Any) -> float:
    """Return the time of a crowd-kit model on the hard votes."""
    import crowdkit.aggregation as crowdkit

    tasks, workers = np.nonzero(~np.isnan(reports))
    votes = pd.DataFrame({"task": tasks, "worker": workers, "label": (reports[tasks, workers] > 0.5).astype(np.int64)})
    model = getattr(crowdkit, peer)()
    return best_seconds(lambda: model.fit(votes))


def made(name: str, n_labelers: int) -> Any:
    """Return a fresh rule; one that draws lotteries gets a secret, and its median, which needs no keys."""
    options = {"secret": b"benchmark", "label": "median"} if name == "examined" else {}
    return make_aggregator(name, n_labelers, **options)


def warm_up() -> None:
    """Compile and import before anything is measured."""
    reports, outcomes = campaign(3, 20)
    for name in AGGREGATORS:
        run_online(made(name, 3), reports, outcomes)


def rerun(name: str, reports: Any, outcomes: Any, keep_weights: bool = True) -> None:
    """Run a new rule over the campaign."""
    run_online(made(name, reports.shape[1]), reports, outcomes, keep_weights=keep_weights)


def times_median(label: str, reports: Any, outcomes: Any, runs: int = 9) -> tuple[float, float]:
    """Return the seconds of ``online_weighted`` with a label, and their ratio to those of ``median``, run by run."""
    n_rounds, n_labelers = reports.shape
    secret = b"known to everybody: a benchmark"
    keys = [f"pair-{t}" for t in range(n_rounds)] if label in ("quantile", "drawn") else None
    pairs = []
    for _ in range(runs):
        rule = make_aggregator("online_weighted", n_labelers, label=label, secret=secret)
        own = best_seconds(partial(run_online, rule, reports, outcomes, keys, keep_weights=False), most_runs=1)
        pairs.append((own, best_seconds(partial(rerun, "median", reports, outcomes), most_runs=1)))
    return min(own for own, _ in pairs), float(np.median([own / other for own, other in pairs]))


def measure(n_labelers: int, n_rounds: int) -> list[dict[str, Any]]:
    reports, outcomes = campaign(n_labelers, n_rounds)
    seconds = {"one pass over memory": best_seconds(reports.sum), "one copy": best_seconds(reports.copy)}
    for name in AGGREGATORS:
        if reports.size <= BATCH_LIMITS.get(name, np.inf):
            seconds[name] = best_seconds(partial(rerun, name, reports, outcomes))
    seconds["linear_weighted, labels only"] = best_seconds(
        partial(rerun, "linear_weighted", reports, outcomes, keep_weights=False)
    )
    ratios = {}
    for label in LABELS:
        title = f"online_weighted, {label}, labels only"
        seconds[title], ratios[title] = times_median(label, reports, outcomes)
    for title, (peer, limit) in PEERS.items():
        if reports.size <= limit:
            seconds[title] = peer_seconds(peer, reports)
    bound, copy = seconds["one pass over memory"], seconds["one copy"]
    peer_time = seconds.get("crowd-kit DawidSkene", np.nan)
    return [
        {
            "labelers": n_labelers,
            "rounds": n_rounds,
            "rule": name,
            "million reports/s": reports.size / elapsed / 1e6,
            "times the bound": elapsed / bound,
            "times a copy": elapsed / copy,
            "times as fast as DawidSkene": peer_time / elapsed,
            "times the time of median": ratios.get(name, np.nan),
        }
        for name, elapsed in seconds.items()
    ]


def run() -> pd.DataFrame:
    warm_up()
    rows: list[dict[str, Any]] = []
    for n_labelers, n_rounds in SIZES:
        rows += measure(n_labelers, n_rounds)
        print(f"  {n_labelers} labelers x {n_rounds} rounds done", flush=True)
    return pd.DataFrame(rows)
