"""The case the mechanism is for: 30 correlated LLM judges on 419 pairs, a majority that is right on about 60 %.

Simulated, because no such file may be copied here: judges see the truth with different clarity, and most of them share
one distraction (say, length) that has nothing to do with it. Votes are 0 or 1.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from truthful_rlhf.aggregation import label_campaign
from truthful_rlhf.aggregation.statistics import accuracy

ABOUT = "30 simulated correlated judges on 419 pairs, 10 % audited: accuracy on the other pairs, 20 panels"

N_PAIRS, N_JUDGES, N_PANELS, AUDIT_RATE = 419, 30, 20, 0.1
RULES = ("majority", "mean", "gold_vote", "logistic", "dawid_skene", "glad", "mace", "online_weighted")
CLEAR, DISTRACTED = 4, 26
"""Judges who see the truth well and care little for the distraction, and judges the other way round."""


def panel(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return votes, shape ``(419, 30)``, and outcomes, shape ``(419,)``."""
    outcomes = rng.integers(2, size=N_PAIRS).astype(np.float64)
    truth, distraction = 2 * outcomes - 1, 2.0 * rng.integers(2, size=N_PAIRS) - 1
    sees = np.concatenate([np.full(CLEAR, 1.0), rng.uniform(0.1, 0.6, DISTRACTED)])
    follows = np.concatenate([np.full(CLEAR, 0.2), rng.uniform(0.3, 1.1, DISTRACTED)])
    signal = np.outer(truth, sees) + np.outer(distraction, follows) + rng.normal(size=(N_PAIRS, N_JUDGES))
    return (signal > 0).astype(np.float64), outcomes


def run() -> pd.DataFrame:
    """Return mean accuracy on the unaudited pairs and its standard deviation over panels, per rule."""
    rows = []
    for seed in range(N_PANELS):
        rng = np.random.default_rng(seed)
        votes, outcomes = panel(rng)
        audited = rng.permutation(N_PAIRS) < round(AUDIT_RATE * N_PAIRS)
        revealed, measured = np.where(audited, outcomes, np.nan), np.where(audited, np.nan, outcomes)
        best = max(accuracy(judge, measured) for judge in votes.T)
        rows.append({"rule": "best single judge (oracle)", "accuracy": best})
        for name in RULES:
            labels = label_campaign(votes, revealed, name, keep_weights=False).soft_labels
            rows.append({"rule": name, "accuracy": accuracy(labels, measured)})
    table = pd.DataFrame(rows).groupby("rule", sort=False)["accuracy"]
    return table.agg(["mean", "std"]).rename(columns={"mean": "accuracy", "std": "sd over panels"}).reset_index()
