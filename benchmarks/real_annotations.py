"""The rules on real annotations: accuracy and Brier score on the unaudited pairs, over random orders.

These crowds are healthy, so nothing is to be won and the question is whether anything is lost. The data are
third-party and not part of the project: NYU's debates (github.com/julianmichael/debate, CC-BY 4.0) and the votes of
MT-Bench (arXiv 2306.05685, CC-BY 4.0) as long tables in ``shared/data`` beside the checkout; skipped where absent.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from truthful_rlhf.aggregation import label_campaign
from truthful_rlhf.aggregation.statistics import accuracy, brier

ABOUT = "majority, mean, Dawid-Skene and online_weighted on debates and MT-Bench, unaudited pairs, 20 random orders"

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
FILES = ("nyu_debate.jsonl", "mtbench_human.jsonl")
RULES = ("majority", "mean", "dawid_skene", "online_weighted")
RECALIBRATED = ("mean", "online_weighted")
AUDIT_RATES = (0.05, 0.1, 0.2, 0.5)
N_ORDERS = 20


def load(path: Path) -> tuple[Any, Any]:
    """Return reports, shape ``(T, N)``, and outcomes, shape ``(T,)``, of a long table."""
    table = pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])
    # a few people judged a pair twice: their last word counts
    reports = table.groupby(["pair_id", "labeler_id"])["report"].last().unstack("labeler_id")
    outcomes = table.groupby("pair_id")["outcome"].first().reindex(reports.index)
    return reports.to_numpy(dtype=np.float64), outcomes.to_numpy(dtype=np.float64)


def one_order(reports: Any, outcomes: Any, rate: float, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """Return (accuracy, Brier) of each rule's final labels on the pairs with an outcome that was not revealed."""
    order = rng.permutation(len(outcomes))
    reports, outcomes = reports[order], outcomes[order]
    known = rng.permutation(np.flatnonzero(~np.isnan(outcomes)))
    audited = known[: round(rate * len(known))]
    revealed = np.full(len(outcomes), np.nan)
    revealed[audited] = outcomes[audited]
    measured = outcomes.copy()
    measured[audited] = np.nan
    scores = {}
    for name in RULES:
        labels = label_campaign(reports, revealed, name, keep_weights=False).soft_labels
        scores[name] = (accuracy(labels, measured), brier(labels, measured))
        if name in RECALIBRATED:
            sharper = label_campaign(reports, revealed, name, "recalibrated", keep_weights=False).soft_labels
            scores[f"{name}, recalibrated"] = (accuracy(sharper, measured), brier(sharper, measured))
    return scores


def run() -> pd.DataFrame | None:
    if not DATA.is_dir():
        print(f"  skipped: the real annotations are not here ({DATA} does not exist)")
        return None
    rows = []
    for file in FILES:
        reports, outcomes = load(DATA / file)
        for rate in AUDIT_RATES:
            scores = [one_order(reports, outcomes, rate, np.random.default_rng([k, 0])) for k in range(N_ORDERS)]
            for name in scores[0]:
                hits, squares = np.array([score[name] for score in scores]).T
                rows.append(
                    {
                        "file": file,
                        "audit rate": rate,
                        "rule": name,
                        "accuracy": hits.mean(),
                        "sd over orders": hits.std(ddof=1),
                        "minus mean": (hits - [score["mean"][0] for score in scores]).mean(),
                        "Brier": squares.mean(),
                    }
                )
    return pd.DataFrame(rows)
