"""What exact truthfulness for every future round costs: audits, and regret.

*accuracy*: the panel of ``audit_rates`` (six contrarians who exaggerate, three ordinary annotators, an expert), 1,000
pairs, some of them audited first; the final labels' side on the others, under the mean of the weights (what the
weights know) and under the rule's own label ``drawn``. Mean and standard error over twenty seeds.

*regret*: sum of pi l - min_i L_i of the examined rule at hard sequences of 100,000 audited pairs with five labelers,
ten lotteries. The slope of its logarithm over that of time from 1,000 pairs on, with the 95 % bootstrap interval over
seeds, and the largest quotient of the mean regret and the proven bound (which is at most the number of pairs).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks.audit_rates import campaign
from truthful_rlhf.aggregation import final_labels, make_aggregator, run_online
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.rules.examined import examined_regret_bound
from truthful_rlhf.aggregation.statistics import accuracy, percentile_interval
from truthful_rlhf.pipeline.config.experiment import load_config

ABOUT = "the examined rule: accuracy by number of audits, and regret up to 100,000 audited pairs (about a minute)"

AUDITS = (7, 14, 29, 72, 300)
N_PAIRS = 1_000
N_SEEDS = 20
N_ROUNDS = 100_000
N_LABELERS = 5
N_SEQUENCES = 8
RULES: dict[str, dict[str, Any]] = {
    "online_weighted, mean": {"label": "mean"},
    "online_weighted, median": {"label": "median"},
    "online_weighted, drawn": {"label": "drawn"},
    "examined, mean": {"label": "mean"},
    "examined, drawn": {"label": "drawn"},
}


def accuracies(seed: int) -> list[dict[str, Any]]:
    """Return a row per rule and number of audits for one campaign."""
    config = load_config("evidence")
    data = campaign(N_PAIRS, config.panels["biased_majority"], config.gold.kappa, np.random.default_rng(seed))
    better, keys = (data.p_truth > 0.5).astype(np.float64), [f"pair-{t}" for t in range(N_PAIRS)]
    rows = []
    for audits in AUDITS:
        audited = data.order < audits
        for name, options in RULES.items():
            rule = make_aggregator(name.split(",")[0], data.reports.shape[1], secret=b"benchmark %d" % seed, **options)
            revealed = np.where(audited, data.outcomes, np.nan)
            run_online(rule, data.reports, revealed, keys, keep_weights=False)
            labels = final_labels(rule, data.reports, revealed, keys)
            rows.append({"rule": name, "at": audits, "value": accuracy(labels, np.where(audited, np.nan, better))})
    return rows


def sequence(kind: str, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Return extreme reports and outcomes that are hard to learn from.

    ``coins``: nobody is better; ``minority``: one labeler is right in 60 % of the rounds; ``late``: it is wrong for
    a third of the time and right from then on; ``blocks``: everybody in turn is right for a while.
    """
    outcomes = (rng.random(N_ROUNDS) < 0.5).astype(np.float64)
    right = rng.random((N_ROUNDS, N_LABELERS)) < 0.5
    rounds = np.arange(N_ROUNDS)
    if kind == "minority":
        right[:, 0] = rng.random(N_ROUNDS) < 0.6
    elif kind == "late":
        right[:, 0], right[:, 1:] = rounds > N_ROUNDS / 3, (rounds <= N_ROUNDS / 3)[:, None]
    elif kind == "blocks":
        right = (rounds[:, None] // 30 + np.arange(N_LABELERS)) % N_LABELERS == 0
    return np.where(right, outcomes[:, None], 1.0 - outcomes[:, None]), outcomes


def regret_curve(kind: str, seed: int) -> FloatArray:
    reports, outcomes = sequence(kind, np.random.default_rng(seed))
    rule = make_aggregator("examined", N_LABELERS, lotteries=10, label="mean", secret=b"benchmark %d" % seed)
    losses = (reports - outcomes[:, None]) ** 2
    weights = run_online(rule, reports, outcomes).weights
    curve: FloatArray = np.cumsum((weights * losses).sum(axis=1)) - np.cumsum(losses, axis=0).min(axis=1)
    return curve


def regret_rows(kind: str) -> list[dict[str, Any]]:
    """Return the slope with its interval, and the regret in relation to its bound."""
    curves = np.array([regret_curve(kind, seed) for seed in range(N_SEQUENCES)])
    times = np.geomspace(1_000, N_ROUNDS, 12).round().astype(np.int64)
    rng, slopes = np.random.default_rng(0), []
    for _ in range(1_000):
        mean = curves[rng.integers(N_SEQUENCES, size=N_SEQUENCES)].mean(axis=0)[times - 1]
        slopes.append(np.polyfit(np.log(times), np.log(np.maximum(mean, 1.0)), 1)[0])
    low, high = percentile_interval(np.array(slopes), 0.95)
    bound = np.array([examined_regret_bound(N_LABELERS, t) for t in range(1, N_ROUNDS + 1)])
    largest = float((curves.mean(axis=0) / bound).max())
    slope = float(np.mean(slopes))
    named = {"rule": f"examined, {kind}", "at": N_ROUNDS}
    return [
        {"measure": "slope of regret", **named, "value": slope, "low": low, "high": high},
        {"measure": "regret / bound, largest", **named, "value": largest},
    ]


def run() -> pd.DataFrame:
    rows = [row for seed in tqdm(range(N_SEEDS), unit="campaign") for row in accuracies(seed)]
    groups = pd.DataFrame(rows).groupby(["rule", "at"], sort=False)["value"]
    table = pd.DataFrame(
        {"value": groups.mean(), "low": groups.mean() - groups.sem(), "high": groups.mean() + groups.sem()}
    )
    table = table.reset_index()
    table.insert(0, "measure", "accuracy (+- s.e.)")
    regrets = [row for kind in ("coins", "minority", "late", "blocks") for row in regret_rows(kind)]
    return pd.concat([table, pd.DataFrame(regrets)], ignore_index=True)
