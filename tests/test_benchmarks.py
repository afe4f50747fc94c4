"""Benchmarks held to their promises: correlated judges, the table of attacks, the table of audit rates."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest

from benchmarks import attacks, audit_rates, company
from benchmarks.correlated_judges import AUDIT_RATE, N_JUDGES, N_PAIRS, panel
from truthful_rlhf.aggregation import final_labels, make_aggregator, run_online
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.statistics import accuracy


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


# --- attacks --------------------------------------------------------------------------------------------------------


def table(rules: list[str], attack: str, share: float, n_seeds: int = 3) -> pd.DataFrame:
    """Return the mean accuracy, regret and gain of some rules under one attack."""
    rows: list[dict[str, Any]] = []
    for seed in range(n_seeds):
        data = attacks.campaign(np.random.default_rng(seed))
        honest, lying = attacks.attacked(attacks.ATTACKS[attack], share, data, seed)
        for rule in rules:
            stated, final = attacks.RULES[rule](data, lying)
            without = attacks.RULES[rule](data, honest)[1]
            rows.append({"rule": rule, **attacks.measured(data, lying, stated, final, without, honest)})
    return pd.DataFrame(rows).groupby("rule").mean()


def test_measures_by_hand() -> None:
    """Three pairs, the last audited; the attacker lies on the first and the last, and wants the labels at 1 - p."""
    data = attacks.campaign(np.random.default_rng(0))
    p_truth, outcomes = np.array([0.9, 0.2, 0.8]), np.array([1.0, 0.0, 1.0])
    data = attacks.Campaign(data.pairs, p_truth, outcomes, np.array([np.nan, np.nan, 1.0]))
    honest = np.array([[0.9, 0.9], [0.2, 0.2], [0.8, 0.8]])
    lying = np.array([[0.9, 0.1], [0.2, 0.2], [0.8, 0.2]])
    stated = np.array([0.4, 0.2, 0.5])
    values = attacks.measured(data, lying, stated, np.array([0.4, 0.2, 1.0]), np.array([0.9, 0.2, 1.0]), honest)
    assert values["accuracy"] == 0.5
    assert values["gain"] == pytest.approx((0.9 - 0.1) ** 2 - (0.4 - 0.1) ** 2)
    assert values["regret"] == pytest.approx(0.6**2 + 0.2**2 + 0.5**2 - (0.1**2 + 0.2**2 + 0.2**2))


def test_exaggeration_pays_under_the_mean_and_not_under_the_mechanism() -> None:
    rules = table(["mean", "online_weighted"], "exaggerate", 0.3)
    assert rules.gain["mean"] > 0.01 > 0.001 > rules.gain["online_weighted"]
    assert rules.accuracy["online_weighted"] > 0.9 > 0.7 > rules.accuracy["mean"]


def test_liars_on_one_topic_need_weights_per_topic() -> None:
    rules = table(["online_weighted", "online_weighted per_topic"], "lie on one topic of five", 0.6)
    assert rules.accuracy["online_weighted per_topic"] > 0.93 > rules.accuracy["online_weighted"]


def test_who_knows_the_audited_pairs_owns_the_rest() -> None:
    """The weakness that no rule mends; the same liars found out by audits are the control."""
    assert table(["online_weighted"], "know the audited pairs, lie on the rest", 0.6).accuracy.item() < 0.2
    assert table(["online_weighted"], "flip", 0.6).accuracy.item() > 0.9


def test_known_accounts_gain_nothing_by_being_many() -> None:
    data = attacks.campaign(np.random.default_rng(0))

    def labels(rule: attacks.Rule, n_accounts: int) -> FloatArray:
        return rule(data, attacks.split(n_accounts, data.pairs, 0)[1])[1]

    np.testing.assert_allclose(labels(attacks.one_person, 10), labels(attacks.one_person, 1), rtol=0, atol=1e-12)
    for rule in ("mean", "online_weighted"):
        assert np.abs(labels(attacks.RULES[rule], 10) - labels(attacks.RULES[rule], 1)).max() > 1e-3


def test_schemes_replace_the_attackers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks, "N_PAIRS", 4)
    reports = np.array([[0.9, 0.6, 0.8, 0.7]] * 4)  # expert, ordinary, two attackers
    revealed = np.array([np.nan, 1.0, np.nan, 0.0])
    assert attacks.copy_ordinary(reports, 2, revealed).tolist() == [[0.6, 0.6]] * 4
    then_lie = attacks.copy_expert_then_lie(reports, 2, revealed)
    np.testing.assert_allclose(then_lie, [[0.9, 0.9]] * 2 + [[0.1, 0.1]] * 2)
    unless = attacks.lie_unless_audited(reports, 2, revealed)
    np.testing.assert_allclose(unless, [[0.2, 0.3], [0.8, 0.7]] * 2)


def test_the_table_of_attacks_has_a_row_per_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks, "N_SEEDS", 2)
    monkeypatch.setattr(attacks, "SHARES", (0.3,))
    few = ("exaggerate", "copy an ordinary labeler")
    monkeypatch.setattr(attacks, "ATTACKS", {name: attacks.ATTACKS[name] for name in few})
    for rules in ("RULES", "SPLIT_RULES"):
        monkeypatch.delitem(getattr(attacks, rules), "dawid_skene")  # ten times as slow as the others together
    rows = attacks.run()
    assert len(rows) == 5 * (1 + len(few)) + 6 * len(attacks.ACCOUNTS)
    assert np.isfinite(rows.drop(columns=["attack", "attackers", "rule"]).to_numpy()).all()
    known = rows[rows.rule == "online_weighted, accounts known"]
    np.testing.assert_allclose(known.gain, known.gain.iloc[0], rtol=0, atol=1e-12)


# --- audit rates ----------------------------------------------------------------------------------------------------


def test_a_few_dozen_audited_pairs_overrule_a_biased_majority(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_rates, "NUMBERS_OF_PAIRS", (500,))
    monkeypatch.setattr(audit_rates, "N_SEEDS", 4)
    rows = audit_rates.run().set_index(["audited pairs", "rule"])
    assert rows.index.unique("audited pairs").tolist() == [0, 10, 25, 50, 100, 250]
    online = rows.xs("online_weighted", level="rule")
    assert online.accuracy[0] < 0.15
    assert online.accuracy[25] > 0.85
    assert online.Brier[100] < online.Brier[10] < online.Brier[0]
    assert (rows.xs("mean", level="rule").accuracy < 0.15).all()  # the control learns nothing from audits
    assert rows.loc[(0, "mean")].equals(rows.loc[(0, "online_weighted")])
    truth = rows.xs("truth", level="rule")
    assert (truth.accuracy == 1.0).all()
    assert (truth.Brier < online.Brier).all()


# --- company --------------------------------------------------------------------------------------------------------


def test_ratios_are_taken_within_a_round() -> None:
    """The second round hits a machine that is twice as slow; the ratios by hand are those of the first, and 3 once."""
    seconds = [[3.0, 3.0, 9.0, 4.5], [6.0, 6.0, 18.0, 9.0], [3.0, 3.3, 9.6, 9.0]]
    results = [
        {"round": k, "around": around, "choice": choice, "load before": 0.0, "threads": 2, "seconds per step": value}
        for k, times in enumerate(seconds)
        for (around, choice), value in zip(company.VARIANTS, times, strict=True)
    ]
    table = company.ratios(results).set_index(["around", "choice"])
    assert table.loc[(company.ALONE, company.OWN), "times alone"] == 1.0
    np.testing.assert_allclose(table["times alone"], [1.0, 1.0, 3.0, 1.5])
    np.testing.assert_allclose(table["highest"], [1.0, 1.1, 3.2, 3.0])
    np.testing.assert_allclose(table["lowest"], [1.0, 1.0, 3.0, 1.5])
    assert table.loc[(company.BESIDE, company.CHOSEN), "target"] == 1.8


def test_a_busy_neighbour_ends_with_its_parent() -> None:
    """Also when the parent is killed before it can end it."""
    code = (
        "import os; from benchmarks.company import busy_process\n"
        "with busy_process() as neighbour: print(neighbour.pid, flush=True); os._exit(1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    neighbour = int(done.stdout)
    deadline = time.monotonic() + 60
    while _runs(neighbour) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(neighbour)


def _runs(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
