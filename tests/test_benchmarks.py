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

from benchmarks import attacks, audit_rates, company, judges, label_taste, step_sizes
from benchmarks.correlated_judges import AUDIT_RATE, N_JUDGES, N_PAIRS, panel
from truthful_rlhf.aggregation import final_labels, make_aggregator, run_online
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.game.campaigns import TRUTH
from truthful_rlhf.aggregation.log_odds import logit, sigmoid
from truthful_rlhf.aggregation.rules.step_size import AnytimeStep
from truthful_rlhf.aggregation.statistics import accuracy
from truthful_rlhf.labelers import Pairs
from truthful_rlhf.labelers.features import normalised_difference
from truthful_rlhf.labelers.judges.answers import Answers
from truthful_rlhf.labelers.personas import make_persona


def test_a_judge_that_likes_length_follows_it() -> None:
    """The correlation is 1 for reports that are the feature itself, -1 for their opposite; gold is no feature."""
    verbose, expert = make_persona("verbose"), make_persona("expert")
    pairs = Pairs(["p", "q", "r"], ["x"] * 3, ["one two three", "one", "a b c d e"], ["one", "one two", "a b"])
    liked = sigmoid(normalised_difference("length", pairs))
    assert judges.follows(verbose, said(liked), pairs)["follows"] == pytest.approx(1.0)
    assert judges.follows(verbose, said(1.0 - liked), pairs)["follows"] == pytest.approx(-1.0)
    assert judges.follows(expert, said(liked), pairs) == {}


def said(belief: FloatArray) -> Answers:
    """Return the answers of a judge that scores one response at a time."""
    n = len(belief)
    return Answers(belief, *(np.full(n, np.nan) for _ in range(3)), note=[""] * n, cut=[False] * n)


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

FINAL = "online_weighted, final"


def table(rules: list[str], attack: str, share: float, n_seeds: int = 3) -> pd.DataFrame:
    """Return the mean accuracy and gain of some rules under one attack."""
    rows: list[dict[str, Any]] = []
    for seed in range(n_seeds):
        data = attacks.campaign(np.random.default_rng(seed))
        honest, lying = attacks.attacked(attacks.ATTACKS[attack], share, data, seed)
        for rule in rules:
            labels = attacks.RULES[rule]
            rows.append({"rule": rule, **attacks.measured(data, labels(data, lying), labels(data, honest))})
    return pd.DataFrame(rows).groupby("rule").mean()


def test_measures_by_hand() -> None:
    """Three pairs, the last audited; the attack moves the first label from .9 to .4, and the second not at all."""
    data = attacks.campaign(np.random.default_rng(0))
    p_truth, outcomes = np.array([0.9, 0.2, 0.8]), np.array([1.0, 0.0, 1.0])
    data = attacks.Campaign(data.pairs, p_truth, outcomes, np.array([np.nan, np.nan, 1.0]))
    values = attacks.measured(data, np.array([0.4, 0.2, 0.1]), np.array([0.9, 0.2, 1.0]))
    assert values["accuracy"] == 0.5
    assert values["gain"] == pytest.approx(((0.9 - 0.1) ** 2 - (0.4 - 0.1) ** 2) / 2)


def test_exaggeration_pays_under_the_mean_and_not_under_the_mechanism() -> None:
    rules = table(["mean", FINAL], "exaggerate", 0.3)
    assert rules.gain["mean"] > 0.01 > 0.001 > rules.gain[FINAL]
    assert rules.accuracy[FINAL] > 0.9 > 0.7 > rules.accuracy["mean"]


def test_liars_on_one_topic_need_weights_per_topic() -> None:
    rules = table([FINAL, "online_weighted, per topic"], "lie on one topic of five", 0.6)
    assert rules.accuracy["online_weighted, per topic"] > 0.93 > rules.accuracy[FINAL]


def test_who_knows_the_audited_pairs_owns_the_rest() -> None:
    """The weakness that no rule mends; the same liars found out by audits are the control."""
    assert table([FINAL], "know the audited pairs, lie on the rest", 0.6).accuracy.item() < 0.2
    assert table([FINAL], "flip", 0.6).accuracy.item() > 0.9


def test_no_label_of_an_unaudited_pair_sees_its_outcome() -> None:
    """Other outcomes of unaudited pairs change no label; another outcome of an audited one does (the control)."""
    data = attacks.campaign(np.random.default_rng(3))
    reports = attacks.attacked(attacks.ATTACKS["flip"], 0.3, data, 3)[1]
    hidden = np.isnan(data.revealed)
    other = attacks.Campaign(
        data.pairs, 1.0 - data.p_truth, np.where(hidden, 1 - data.outcomes, data.outcomes), data.revealed
    )
    told = attacks.Campaign(data.pairs, data.p_truth, data.outcomes, 1.0 - data.revealed)
    outcome_free = ("mean", "median", "trimmed_mean", "majority")
    for rule, labels in attacks.RULES.items():
        if rule not in ("dawid_skene", "mace"):  # slow
            np.testing.assert_array_equal(labels(data, reports), labels(other, reports), err_msg=rule)
            changed = np.abs(labels(data, reports) - labels(told, reports))[hidden].max()
            assert (changed == 0.0) == (rule in outcome_free), rule


def test_the_adaptive_coalition_plays_what_gains_most_in_its_rehearsals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the mean it exaggerates; a rule that learns to turn liars round is better met by something else.

    The control: a coalition that is left one plan plays that one, and gains less by it.
    """
    monkeypatch.setattr(attacks, "REHEARSALS", (1001,))
    attacks.adapted.cache_clear()
    try:
        played = {rule: attacks.adapted(rule, 12) for rule in ("mean", "gold_vote")}
        assert played["mean"] == "collude, opposite, exaggerated" != played["gold_vote"]
        gains = {}
        for plan in attacks.REHEARSED:
            data, honest, lying = attacks.rehearsal(plan, 12, 1001)
            labels = attacks.RULES["gold_vote"]
            gains[plan] = attacks.measured(data, labels(data, lying), labels(data, honest))["gain"]
        assert max(gains, key=gains.__getitem__) == played["gold_vote"]
        assert gains["collude, opposite, exaggerated"] < gains[played["gold_vote"]]
        monkeypatch.setattr(attacks, "REHEARSED", {"flip": attacks.REHEARSED["flip"]})
        attacks.adapted.cache_clear()
        assert attacks.adapted("mean", 12) == "flip"
    finally:
        attacks.adapted.cache_clear()


def test_copies_copy_and_a_shared_error_is_shared() -> None:
    """Attackers' errors correlate by 1 under copies, by much with a shared error, by nothing without (the control)."""
    data = attacks.campaign(np.random.default_rng(0))

    def correlation(title: str | None) -> float:
        attack = attacks.Attack("noisy") if title is None else attacks.ATTACKS[title]
        lying = attacks.attacked(attack, 0.3, data, 0)[1]
        errors = logit(lying[:, -6:])
        truth = logit(data.p_truth)
        errors = errors - np.outer(truth, truth @ errors / (truth @ truth))
        return float(np.corrcoef(errors.T)[np.triu_indices(6, 1)].mean())

    assert correlation("copy an ordinary labeler") == pytest.approx(1.0)
    assert correlation("mediocre, with one shared error") > 0.9
    assert abs(correlation(None)) < 0.15


def test_known_accounts_gain_nothing_by_being_many() -> None:
    data = attacks.campaign(np.random.default_rng(0))

    def labels(rule: attacks.Rule, n_accounts: int) -> FloatArray:
        return rule(data, attacks.split(n_accounts, data.pairs, 0)[1])

    np.testing.assert_allclose(labels(attacks.one_person, 10), labels(attacks.one_person, 1), rtol=0, atol=1e-12)
    for rule in ("mean", FINAL):
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
    monkeypatch.setattr(attacks, "REHEARSALS", (1001,))
    few = ("exaggerate", "copy an ordinary labeler")
    monkeypatch.setattr(attacks, "ATTACKS", {name: attacks.ATTACKS[name] for name in few})
    rules = {name: attacks.RULES[name] for name in ("mean", "gold_vote", FINAL)}
    monkeypatch.setattr(attacks, "RULES", rules)
    known = "online_weighted, accounts known"
    monkeypatch.setattr(attacks, "SPLIT_RULES", {**rules, known: attacks.one_person})
    attacks.adapted.cache_clear()
    try:
        rows = attacks.run()
    finally:
        attacks.adapted.cache_clear()
    assert len(rows) == 3 * (1 + len(few) + 1) + 4 * len(attacks.ACCOUNTS)
    assert (rows.seeds == 2).all()
    assert np.isfinite(rows[["accuracy", "accuracy +-", "gain", "gain +-"]].to_numpy()).all()
    assert (rows[rows.attack == attacks.ADAPTIVE].played != "").all()
    of_known = rows[rows.rule == known]
    np.testing.assert_allclose(of_known.gain, of_known.gain.iloc[0], rtol=0, atol=1e-12)


# --- label taste and step sizes -------------------------------------------------------------------------------------


def test_taste_finds_that_the_mean_pays_for_exaggeration_and_the_fixed_median_does_not() -> None:
    searched, fresh = label_taste.drawn("honest", 3, 1), label_taste.drawn("honest", 8, 2)
    gains = {}
    for rule in ("mean", "median"):
        labels = attacks.RULES[rule]
        lie = label_taste.best_lie(labels, searched, 0)
        taste = label_taste.Taste(labels, fresh, 0)
        gains[rule] = float((taste.payoffs(lie) - taste.payoffs(TRUTH)).mean())
    assert gains["mean"] > 1e-3
    assert gains["median"] <= 1e-12


def test_a_fast_start_takes_large_steps_first_and_then_the_schedule() -> None:
    auto = AnytimeStep(10)
    fast = step_sizes.FastStart(auto)
    etas, shares = fast.steps(0, 300)
    assert (etas[:8] == 0.9).all()
    assert (shares[:8] == 0.0).all()
    for given, expected in zip((etas[8:], shares[8:]), auto.steps(0, 292), strict=True):
        np.testing.assert_array_equal(given, expected)
    np.testing.assert_array_equal(fast.steps(5, 20)[0], etas[5:25])


def test_the_measured_step_auto_is_the_mechanisms_own() -> None:
    """The schedule that the benchmark sets is the one that runs; another one gives other labels (the control)."""
    draw = step_sizes.simulated("biased_majority", 144, 0)
    revealed = np.where(draw.order < 29, draw.outcomes, np.nan)
    rule = make_aggregator("online_weighted", draw.reports.shape[1])
    run_online(rule, draw.reports, revealed)
    np.testing.assert_array_equal(step_sizes.labels("auto", draw.reports, revealed), rule.predict_many(draw.reports))
    assert np.abs(step_sizes.labels("1", draw.reports, revealed) - rule.predict_many(draw.reports)).max() > 1e-3


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
