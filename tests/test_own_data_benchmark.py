"""The benchmark of the no-gold estimate: its summary by hand, its cells resumable, its linear policies DPO's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import own_data, own_data_linear, real_policies
from benchmarks.own_data import coverage, make_config, run_cells, summary
from truthful_rlhf.aggregation.log_odds import sigmoid

BITS = ["2" * 40 + "0" * 20, "2" * 30 + "0" * 30, "2" * 20 + "0" * 40]


def table(fresh: tuple[float, float, float] = (0.66, 0.5, 0.34)) -> pd.DataFrame:
    """Return a truth and three rules, whose estimates are 2/3, 1/2 and 1/3."""
    rows = [{"seed": 0, "panel": "shared", "rule": "truth", "fresh": 0.8, "gold": 0.5, "right": "2" * 60}]
    for k, rule in enumerate(("a", "b", "c")):
        row = {"panel": "people", "rule": rule, "fresh": fresh[k], "gold": 0.4 - 0.1 * k, "right": BITS[k]}
        rows.append({"seed": 0, **row})
    return pd.DataFrame(rows).assign(estimate=lambda t: [np.mean([int(c) / 2 for c in bits]) for bits in t["right"]])


def test_the_summary_by_hand() -> None:
    """The better the estimate the smaller the gap: a rank correlation of -1; all three differences are held."""
    answers = summary(table()).set_index("question")["answer"]
    assert answers["cells"] == "3"
    assert answers["Spearman, estimate and gap"] == "-1.000"
    assert answers["intervals of differences that hold"].startswith("3 of 3")


def test_a_difference_that_turns_around_on_fresh_pairs_is_not_held() -> None:
    assert coverage(table((0.34, 0.5, 0.66)).iloc[1:]) == (0, 3)


def test_a_linear_policy_minimises_dpos_loss_on_soft_labels() -> None:
    """At the minimum the gradient, sum of (sigmoid(z) - q) x + penalty theta, is 0; the labels decide the side."""
    rng = np.random.default_rng(0)
    x, truth = rng.normal(size=(200, own_data_linear.DIMENSIONS)), rng.normal(size=own_data_linear.DIMENSIONS)
    labels = sigmoid(x @ truth)
    theta = own_data_linear.fitted(x, labels)
    gradient = x.T @ (sigmoid(x @ theta) - labels) + own_data_linear.PENALTY * theta
    np.testing.assert_allclose(gradient, 0.0, atol=1e-3)
    assert np.corrcoef(theta, truth)[0, 1] > 0.95
    assert np.corrcoef(own_data_linear.fitted(x, 1.0 - labels), truth)[0, 1] < -0.95


def test_the_limit_of_chat_leaves_whole_pairs_out(tmp_path: Path) -> None:
    rows = [("p", "short", "x" * 10), ("p", "short", "x" * 5), ("q", "short", "x" * 3)]
    frame = pd.DataFrame(rows, columns=["pair_id", "prompt", "response_a"]).assign(response_b="y")
    file = tmp_path / "all.jsonl"
    frame.to_json(file, orient="records", lines=True)
    assert real_policies.subset(file, 8).count("\n") == 1
    assert real_policies.subset(file, None) == file.read_text()


@pytest.mark.slow
def test_cells_are_written_as_they_come_and_never_twice(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"N_FRESH_PROMPTS": 2, "N_FRESH_RESPONSES": 3, "N_FRESH": 5}
    for name, value in small.items():
        monkeypatch.setattr(own_data, name, value)
    config = make_config(
        str(tiny_model_folder),
        seeds=[0],
        panels=["honest"],
        rules=["mean", "online_weighted"],
        prompts={"source": "bundled", "n_train": 8, "n_held_out": 4},
        sampling={"max_new_tokens": 3},
    )
    first = run_cells(config, tmp_path / "run", most=2)
    assert first["rule"].tolist() == ["truth", "mean"]
    written = (tmp_path / "run" / own_data.CELLS).read_text()
    second = run_cells(config, tmp_path / "run")
    assert second["rule"].tolist() == ["truth", "mean", "online_weighted"]
    assert (tmp_path / "run" / own_data.CELLS).read_text().startswith(written)
    assert run_cells(config, tmp_path / "run").equals(second)
    decided = pd.read_parquet(tmp_path / "run/seed-0/decided.parquet")
    assert decided["kind"].value_counts()["fresh"] == 5
    held_out = set(decided["prompt"][decided["kind"] == "held out"])
    trained = set(pd.read_parquet(tmp_path / "run/seed-0/pairs/pairs.parquet")["prompt"])
    fresh = set(decided["prompt"][decided["kind"] == "fresh"])
    assert not (held_out | fresh) & trained
    assert not held_out & fresh
