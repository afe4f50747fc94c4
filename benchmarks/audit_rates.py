"""How many audited pairs buy which labels: audit rates against the number of pairs, at the level of labels.

The biased majority of ``configs/evidence.yaml``: six contrarians who exaggerate (log-odds times three), three ordinary
annotators and an expert. Gold rewards are drawn from N(0, 0.33^2), independent of each other, kappa 5: the standard
deviation of the bundled model's VADER rewards in the quickstart's pairs is 0.33 too, but theirs have another shape. The
pairs are random; exactly the stated share of them is audited. No model is trained, so the columns say what labels cost
and nothing about the policy.

Final labels: audited pairs have their outcome under every rule. *accuracy*: on the truly better response's side, on
unaudited pairs; *accuracy, all*: with the audited ones, whose outcome is itself on the wrong side now and then; *Brier*
of unaudited pairs against outcomes drawn from the true preference, which the true preference itself cannot bring to
zero (``truth``). Mean and standard error over twenty seeds, which share panel and pairs across rules and rates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from truthful_rlhf.aggregation import label_campaign
from truthful_rlhf.aggregation.base import FloatArray, IntArray
from truthful_rlhf.aggregation.statistics import accuracy, brier
from truthful_rlhf.labelers import LabelerSpec, Pairs, Panel, ReportContext
from truthful_rlhf.pipeline.config.experiment import load_config
from truthful_rlhf.reward_model.gold import true_preference

ABOUT = "accuracy and Brier of labels by audit rate and number of pairs, biased majority (about 20 seconds)"

RATES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5)
NUMBERS_OF_PAIRS = (200, 500, 2_000, 10_000)
RULES = ("mean", "online_weighted")
N_SEEDS = 20
GOLD_DEVIATION = 0.33


@dataclass(frozen=True)
class Campaign:
    """Reports of the panel, and what they are measured on."""

    reports: FloatArray
    p_truth: FloatArray
    outcomes: FloatArray
    order: IntArray
    """The rank of every pair in the order in which pairs are chosen for audit."""


def campaign(n_pairs: int, panel: list[LabelerSpec], kappa: float, rng: np.random.Generator) -> Campaign:
    """Draw pairs, and let the panel judge them."""
    gold_a, gold_b = rng.normal(scale=GOLD_DEVIATION, size=(2, n_pairs))
    p_truth = true_preference(gold_a, gold_b, kappa)
    ids = [f"p{k}" for k in range(n_pairs)]
    pairs = Pairs(ids, ids, ["a"] * n_pairs, ["b"] * n_pairs, gold_a, gold_b, kappa=kappa)
    reports = Panel.from_specs(panel, rng).report(pairs, ReportContext(kappa=kappa))
    return Campaign(reports, p_truth, (rng.random(n_pairs) < p_truth).astype(np.float64), rng.permutation(n_pairs))


def measured(data: Campaign, rate: float) -> Iterator[dict[str, Any]]:
    """Yield a row per rule, and one for the true preferences as labels."""
    n_audited = round(rate * len(data.outcomes))
    audited = data.order < n_audited
    revealed = np.where(audited, data.outcomes, np.nan)
    better = (data.p_truth > 0.5).astype(np.float64)
    for rule in (*RULES, "truth"):
        if rule == "truth":
            labels = np.where(audited, data.outcomes, data.p_truth)
        else:
            labels = label_campaign(data.reports, revealed, rule, keep_weights=False).soft_labels
        yield {
            "audited pairs": n_audited,
            "rule": rule,
            "accuracy": accuracy(labels, np.where(audited, np.nan, better)),
            "accuracy, all": accuracy(labels, better),
            "Brier": brier(labels, np.where(audited, np.nan, data.outcomes)),
        }


def run() -> pd.DataFrame:
    config = load_config("evidence")
    panel, kappa = config.panels["biased_majority"], config.gold.kappa
    rows = []
    with tqdm(total=N_SEEDS * len(NUMBERS_OF_PAIRS), unit="campaign") as progress:
        for n_pairs in NUMBERS_OF_PAIRS:
            for seed in range(N_SEEDS):
                data = campaign(n_pairs, panel, kappa, np.random.default_rng(seed))
                for rate in RATES:
                    rows += [{"pairs": n_pairs, "audit rate": f"{rate:.0%}", **row} for row in measured(data, rate)]
                progress.update()
    groups = pd.DataFrame(rows).groupby(["pairs", "audit rate", "audited pairs", "rule"], sort=False)
    table = pd.DataFrame(index=groups.size().index)
    for measure in ("accuracy", "accuracy, all", "Brier"):
        table[measure] = groups[measure].mean()
        table[f"{measure} s.e."] = groups[measure].sem()
    return table.reset_index()
