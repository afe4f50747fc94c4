"""The case that the mechanism is for, held to its promise on simulated judges (the benchmark ``correlated_judges``)."""

from __future__ import annotations

import numpy as np

from aggregation import final_labels, make_aggregator, run_online
from aggregation.statistics import accuracy
from benchmarks.correlated_judges import AUDIT_RATE, N_JUDGES, N_PAIRS, panel


def accuracies(rule: str, lie: bool = False) -> float:
    """Mean accuracy on the unaudited pairs over six panels; ``lie``: the audits reveal coin flips."""
    scores = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        votes, outcomes = panel(rng)
        audited = rng.permutation(N_PAIRS) < round(AUDIT_RATE * N_PAIRS)
        told = rng.integers(2, size=N_PAIRS).astype(float) if lie else outcomes
        aggregator = make_aggregator(rule, N_JUDGES)
        revealed = np.where(audited, told, np.nan)
        run_online(aggregator, votes, revealed)
        labels = final_labels(aggregator, votes, revealed)
        scores.append(accuracy(labels, np.where(audited, np.nan, outcomes)))
    return float(np.mean(scores))


def test_a_tenth_of_the_pairs_audited_overrules_a_distracted_majority() -> None:
    assert accuracies("majority") < 0.65
    assert accuracies("online_weighted") >= 0.84


def test_control_audits_that_tell_nothing_win_nothing() -> None:
    assert accuracies("online_weighted", lie=True) < 0.70
