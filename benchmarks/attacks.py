"""Where the rules hold and where they break: label accuracy under attack, by the share of the panel that attacks.

Panels of twenty: the attackers, one expert, and ordinary annotators (persona ``noisy``). 500 pairs in five topics, a
tenth audited; final labels, measured on the unaudited pairs against the true preference, mean of ten seeds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from aggregation import final_labels, make_aggregator, run_online
from aggregation.statistics import accuracy
from labelers import LabelerSpec, Pairs, Panel, ReportContext

ABOUT = "label accuracy of the rules under attacks by 0 to 60 % of the panel (about 2 minutes)"

N_PAIRS, N_LABELERS, N_SEEDS, AUDIT_RATE = 500, 20, 10, 0.1
RULES = ("mean", "median", "majority", "dawid_skene", "online_weighted")
SHARES = (0.1, 0.3, 0.5, 0.6)
ATTACKS: dict[str, dict[str, Any]] = {
    "exaggerate the opposite": {"persona": "contrarian", "strategy": {"name": "exaggerate", "scale": 4}},
    "flip": {"persona": "noisy", "strategy": "flip"},
    "collude": {"persona": "contrarian", "strategy": "collude"},
    "sleep, then lie": {"persona": "expert", "strategy": {"name": "sleeper", "start": N_PAIRS // 2}},
    "lie on one topic of five": {"persona": "expert", "strategy": {"name": "topic_trigger", "topic": "topic-0"}},
    "random": {"persona": "noisy", "strategy": "random"},
}


def pairs_and_outcomes(rng: np.random.Generator) -> tuple[Pairs, np.ndarray, np.ndarray]:
    """Return pairs with gold rewards, their true preferences, and outcomes drawn from these."""
    gold_a, gold_b = rng.normal(size=(2, N_PAIRS))
    p_truth = 1.0 / (1.0 + np.exp(-2.0 * (gold_a - gold_b)))
    ids = [f"p{k}" for k in range(N_PAIRS)]
    topics = [f"topic-{k % 5}" for k in rng.permutation(N_PAIRS)]
    pairs = Pairs(ids, ids, ["a"] * N_PAIRS, ["b"] * N_PAIRS, gold_a, gold_b, topic=topics, kappa=2.0)
    return pairs, p_truth, (rng.random(N_PAIRS) < p_truth).astype(np.float64)


def label_accuracy(rule: str, reports: np.ndarray, revealed: np.ndarray, p_truth: np.ndarray) -> float:
    """Return how often the rule's labels of unaudited pairs point to the better response."""
    aggregator = make_aggregator(rule, reports.shape[1])
    stated = run_online(aggregator, reports, revealed).soft_labels
    labels = stated if rule == "dawid_skene" else final_labels(aggregator, reports, revealed)
    return float(accuracy(labels, np.where(np.isnan(revealed), (p_truth > 0.5).astype(np.float64), np.nan)))


def one_seed(attack: str, share: float, seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    pairs, p_truth, outcomes = pairs_and_outcomes(rng)
    n_attackers = round(share * N_LABELERS)
    entries: list[dict[str, Any]] = [{"name": "expert", "persona": "expert"}]
    entries += [{"name": "honest", "count": N_LABELERS - 1 - n_attackers, "persona": "noisy"}]
    entries += [{"name": "attacker", "count": n_attackers, **ATTACKS[attack]}] if n_attackers else []
    panel = Panel.from_specs([LabelerSpec.model_validate(entry) for entry in entries], rng)
    reports = panel.report(pairs, ReportContext(rule="mean", audit_rate=AUDIT_RATE, kappa=2.0))
    revealed = np.where(rng.random(N_PAIRS) < AUDIT_RATE, outcomes, np.nan)
    return {rule: label_accuracy(rule, reports, revealed, p_truth) for rule in RULES}


def run() -> pd.DataFrame:
    cases = [("nobody attacks", next(iter(ATTACKS)), 0.0)]
    cases += [(attack, attack, share) for attack in ATTACKS for share in SHARES]
    rows = []
    for title, attack, share in cases:
        seeds = pd.DataFrame([one_seed(attack, share, seed) for seed in range(N_SEEDS)])
        rows.append({"attack": title, "attackers": f"{share:.0%}", **seeds.mean().round(3)})
    return pd.DataFrame(rows)
