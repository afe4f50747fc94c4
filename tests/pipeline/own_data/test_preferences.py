"""What a condition says about held-out pairs: policies by their log-ratios, reward models by their scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.pipeline.own_data import made_up
from truthful_rlhf.pipeline.config.experiment import load_config
from truthful_rlhf.pipeline.experiment.conditions import GRID, Condition
from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.experiment.evaluation import build_shared, evaluate
from truthful_rlhf.pipeline.experiment.folds import held_out_verdicts, read_recorded
from truthful_rlhf.pipeline.models.tokens import joined, with_token_ids
from truthful_rlhf.pipeline.own_data.cells import conditions, make_grid
from truthful_rlhf.pipeline.own_data.preferences import implicit_beta, longest, measure, read_likelihoods
from truthful_rlhf.pipeline.storage.artifacts import RunFolder
from truthful_rlhf.reward_model.gold import ClassifierGold

Measured = tuple[Experiment, dict[str, tuple[Condition, pd.DataFrame]]]


@pytest.fixture(scope="module")
def measured(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Fold 0 of a comparison by DPO and by a reward model, whose every pair has a verdict: what each method says."""
    folder = tmp_path_factory.mktemp("preferences")
    file = made_up.write(folder / "mine.jsonl", made_up.rows(n_verdicts=made_up.N_PAIRS))
    small = ("sampling.max_new_tokens=2", "prompts.n_held_out=2", "audit_rate=0.25", "rules=[majority]")
    methods = "policy=[{method: dpo, beta: 0.3, learning_rate: 0.05}, {method: best_of_n, n: 2}]"
    config = load_config(
        "own_annotations", [f"pairs.file={file}", f"model.name_or_path={tiny_model_folder}", *small, methods]
    )
    (folder / "run").mkdir()
    experiment = Experiment(config, RunFolder(folder / "run"), GRID).in_fold(0)
    build_shared(experiment, 0)
    found = {}
    for condition in conditions(config, make_grid(config, all_known=True), 0):
        if condition.title in ("truth", "majority"):
            evaluate(experiment, condition)
            measure(experiment, condition)
            path = experiment.path(experiment.layout.of_condition(condition, "preferences.parquet"))
            found[f"{condition.title} {condition.method.title}"] = (condition, pd.read_parquet(path))
    return experiment, found


@pytest.mark.slow
def test_a_policy_prefers_by_beta_times_the_difference_of_log_ratios(measured: Measured) -> None:
    """Recomputed with the plain forward pass of transformers, one response at a time."""
    import torch

    experiment, found = measured
    condition, said = found["majority dpo"]
    policy = experiment.base.load(experiment.path(experiment.layout.of_condition(condition, "policy")))
    pairs = with_token_ids(held_out_verdicts(experiment, 0), experiment.encoder)
    for k in range(3):
        ratio = {}
        for side in "ab":
            prompt, response = list(pairs["prompt_ids"][k]), list(pairs[f"ids_{side}"][k])
            logs = []
            for model in (policy, experiment.base_model):
                with torch.no_grad():
                    log_p = model(input_ids=torch.tensor([[*prompt, *response]])).logits[0].log_softmax(dim=-1)
                places = range(len(prompt) - 1, len(prompt) + len(response) - 1)
                logs.append(sum(float(log_p[place, token]) for place, token in zip(places, response, strict=True)))
            ratio[side] = logs[0] - logs[1]
        expected = 1 / (1 + np.exp(-0.3 * (ratio["a"] - ratio["b"])))
        assert said["policy"][k] == pytest.approx(expected, abs=1e-3)
    assert said["policy"].std() > 0
    assert said["reward_model"].isna().all()


@pytest.mark.slow
def test_a_reward_model_prefers_by_its_scores_and_has_no_policy_of_its_own(measured: Measured) -> None:
    experiment, found = measured
    condition, said = found["majority best_of_n"]
    assert implicit_beta(condition.method) is None
    assert said["policy"].isna().all()
    reward = ClassifierGold(str(experiment.path(experiment.layout.of_labels(condition, "reward_model"))))
    pairs = with_token_ids(held_out_verdicts(experiment, 0), experiment.encoder)
    a, b = (reward.score_tokens(joined(pairs["prompt_ids"], pairs[side])) for side in ("ids_a", "ids_b"))
    np.testing.assert_allclose(said["reward_model"], 1 / (1 + np.exp(b - a)), atol=1e-6)
    calibration = pd.read_parquet(experiment.path("seed-0/fold-0/majority/calibration.parquet"))
    assert calibration["target"].tolist() == ["soft labels"]  # there is no true preference to be calibrated to


@pytest.mark.slow
def test_labels_of_held_out_pairs_are_those_of_their_reports(measured: Measured) -> None:
    _, found = measured
    _, said = found["majority dpo"]
    reports = pd.DataFrame(made_up.rows()).groupby("pair_id")["report"].mean()
    for pair, label in zip(said["pair_id"], said["label"], strict=True):
        assert np.sign(label - 0.5) == np.sign(reports[pair] - 0.5)
    _, truth = found["truth dpo"]
    assert truth["label"].isna().all()


@pytest.mark.slow
def test_the_truth_trains_on_all_outcomes_and_the_rules_see_a_quarter(measured: Measured) -> None:
    experiment, _ = measured
    truth, ruled = (
        pd.read_parquet(experiment.path(f"seed-0/fold-0/{rule}/soft_labels.parquet")) for rule in ("truth", "majority")
    )
    assert (truth["soft_label"] == 1.0).all()
    assert len(truth) == len(ruled)
    assert ruled["audited"].sum() == round(0.25 * len(ruled))
    outcomes = {row["pair_id"]: row["outcome"] for row in made_up.rows(n_verdicts=made_up.N_PAIRS)}
    assert [bool(outcomes[pair]) for pair in truth["pair_id"]] == truth["chosen_is_a"].tolist()


@pytest.mark.slow
def test_the_base_model_is_measured_once_on_all_verdicts(measured: Measured) -> None:
    experiment, _ = measured
    known = read_likelihoods(experiment)
    assert known["pair_id"].tolist() == read_recorded(experiment)["pair_id"].tolist()
    assert (known[["log_p_a", "log_p_b"]] < 0).all(axis=None)
    assert longest(experiment.config.policy) == 512


def test_all_audited_is_the_truth_only_where_every_pair_is_known() -> None:
    config = load_config("own_annotations", ["pairs.file=mine.jsonl"])
    assert make_grid(config, all_known=False).truth is None
    assert make_grid(config, all_known=True).truth == "audits"
    some = config.model_copy(update={"audit_rate": 0.1})
    grid = make_grid(some, all_known=True)
    assert grid.truth == "truth"
    assert [rule.title for rule in grid.references] == ["audits", "truth"]
    assert [rule.audit_rate for rule in grid.references] == [None, 1.0]
