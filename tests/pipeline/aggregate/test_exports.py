"""What training gets: oriented pairs, both TRL formats, loadable without this package."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import load_dataset

from tests.pipeline.aggregate.campaigns import rows_of
from truthful_rlhf.labelers.recorded.table import read_annotations
from truthful_rlhf.pipeline.aggregate import aggregate_table, exports
from truthful_rlhf.pipeline.aggregate.campaign import AggregationSettings, run_campaign
from truthful_rlhf.pipeline.aggregate.exports import write_labels, write_weights

REPORTS = np.array([[0.9, 0.8], [0.1, np.nan], [0.5, 0.5]])
OUTCOMES = np.array([np.nan, np.nan, 0.0])


def test_the_soft_label_table_is_oriented() -> None:
    table = aggregate_table(rows_of(REPORTS, OUTCOMES), rule="mean").soft_labels
    assert table.columns.tolist()[:4] == ["prompt", "chosen", "rejected", "soft_label"]
    assert table["chosen"].tolist() == ["first 0", "second 1", "second 2"]
    assert table["rejected"].tolist() == ["second 0", "first 1", "first 2"]
    np.testing.assert_allclose(table["soft_label"], [0.85, 0.9, 1.0])
    assert table["n_labelers"].tolist() == [2, 1, 2]
    assert table["audited"].tolist() == [False, False, True]
    assert table["chosen_is_a"].tolist() == [True, False, False]
    assert table["pair_id"].tolist() == ["p0000", "p0001", "p0002"]


def test_datasets_loads_both_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "_CHUNK_PAIRS", 2)  # more than one row group
    result = run_campaign(read_annotations(rows_of(REPORTS, OUTCOMES)), AggregationSettings(rule="mean"))
    paths = write_labels(result, tmp_path)
    assert [path.name for path in paths] == [
        "soft_labels.parquet",
        "trl_preference.parquet",
        "trl_preference_conversational.parquet",
    ]
    cache = str(tmp_path / "cache")
    plain, chat = (load_dataset("parquet", data_files=str(p), split="train", cache_dir=cache) for p in paths[1:])
    assert plain.column_names == ["prompt", "chosen", "rejected", "soft_label"]
    assert plain[1] == {"prompt": "prompt 1", "chosen": "second 1", "rejected": "first 1", "soft_label": 0.9}
    assert chat[1] == {
        "prompt": [{"role": "user", "content": "prompt 1"}],
        "chosen": [{"role": "assistant", "content": "second 1"}],
        "rejected": [{"role": "assistant", "content": "first 1"}],
        "soft_label": 0.9,
    }
    assert pd.read_parquet(paths[0]).equals(aggregate_table(rows_of(REPORTS, OUTCOMES), rule="mean").soft_labels)


SOFT = pd.DataFrame(
    {
        "prompt": [f"prompt {k}" for k in range(4)],
        "chosen": [f"good {k}" for k in range(4)],
        "rejected": [f"bad {k}" for k in range(4)],
        "soft_label": [0.5, 0.7, 0.9, 1.0],
        "pair_id": [f"p{k}" for k in range(4)],
    }
)
Z = np.array([0.3, -1.2, 2.0, 0.8])
"""Score differences good - bad of any model on these pairs."""


def hard_loss(table: pd.DataFrame, weight: np.ndarray) -> float:
    """Return the summed loss of a trainer that knows winners only, -log sigmoid(z of the winner)."""
    z = {f"p{k}": value for k, value in enumerate(Z)}
    sign = np.where(table["chosen"].str.startswith("good"), 1.0, -1.0)
    return float((weight * np.log1p(np.exp(-sign * table["pair_id"].map(z).to_numpy()))).sum())


def cross_entropy() -> float:
    q = SOFT["soft_label"].to_numpy()
    return float((q * np.log1p(np.exp(-Z)) + (1 - q) * np.log1p(np.exp(Z))).sum())


def test_the_weighted_hard_loss_is_the_cross_entropy() -> None:
    table = exports.weighted(SOFT)
    assert len(table) == 7  # the certain pair has one direction
    np.testing.assert_allclose(table.groupby("pair_id")["weight"].sum(), 1.0)
    assert hard_loss(table, table["weight"].to_numpy()) == pytest.approx(cross_entropy(), abs=1e-12)
    assert abs(hard_loss(table, np.ones(7)) - cross_entropy()) > 0.1  # control: without the weights it is another loss


@pytest.mark.parametrize("copies", [1, 3, 4, 10])
def test_winners_are_drawn_from_the_soft_label(copies: int) -> None:
    rng = np.random.default_rng(0)
    wins, losses, draws = np.zeros(4), 0.0, 200
    for _ in range(draws):
        table = exports.resampled(SOFT, copies, rng)
        assert table.groupby("pair_id").size().tolist() == [copies] * 4
        good = table["chosen"].str.startswith("good")
        assert (table["chosen"].str.split().str[0] != table["rejected"].str.split().str[0]).all()
        won = good.groupby(table["pair_id"]).sum().to_numpy()
        assert (np.abs(won - copies * SOFT["soft_label"]) < 1).all()
        wins += won
        losses += hard_loss(table, np.ones(len(table)))
        if copies == 10:  # k q is whole: nothing is left to chance
            assert won.tolist() == [5, 7, 9, 10]
            break
    else:
        # a count has a standard deviation of at most 1/2 per draw: 4 standard errors
        np.testing.assert_allclose(wins / draws, copies * SOFT["soft_label"], atol=4 * 0.5 / draws**0.5)
        assert losses / draws == pytest.approx(copies * cross_entropy(), rel=0.05)


def test_both_files_are_written_where_copies_are_asked_for_and_the_same_again(tmp_path: Path) -> None:
    result = run_campaign(read_annotations(rows_of(REPORTS, OUTCOMES)), AggregationSettings(rule="mean"))
    paths = [write_labels(result, tmp_path / name, copies=4) for name in ("a", "b")]
    assert [path.name for path in paths[0][3:]] == [
        "trl_preference_resampled.parquet",
        "trl_preference_weighted.parquet",
    ]
    assert all(one.read_bytes() == other.read_bytes() for one, other in zip(*paths, strict=True))
    assert len(pd.read_parquet(paths[0][3])) == 12
    assert set(pd.read_parquet(paths[0][4])) == {"prompt", "chosen", "rejected", "pair_id", "weight"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask to speak of")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_files_have_the_mode_that_the_umask_leaves(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_labels(aggregate_table(rows_of(REPORTS, OUTCOMES)).campaign, tmp_path)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {mode}


def test_to_trl_equals_the_files(tmp_path: Path) -> None:
    rows = rows_of(REPORTS, OUTCOMES)
    table = aggregate_table(rows)
    paths = write_labels(table.campaign, tmp_path)
    for format, path in (("plain", paths[1]), ("conversational", paths[2])):
        made = table.to_trl("plain" if format == "plain" else "conversational")
        loaded = load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
        assert made.to_list() == loaded.to_list()


def test_without_texts_there_is_nothing_to_train_on(tmp_path: Path) -> None:
    rows = [{"task": "t", "worker": "w", "label": "A"}]
    table = aggregate_table(rows)
    assert [p.name for p in write_labels(table.campaign, tmp_path)] == ["soft_labels.parquet"]
    assert table.soft_labels["chosen_is_a"].tolist() == [True]
    with pytest.raises(ValueError, match="nothing to train on"):
        table.to_trl()


def test_weights_table(tmp_path: Path) -> None:
    result = run_campaign(read_annotations(rows_of(REPORTS, np.array([1.0, np.nan, 0.0]))), AggregationSettings())
    table = pd.read_parquet(write_weights(result, tmp_path))
    assert table["round"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert table["labeler_id"].tolist() == ["l00", "l01"] * 4
    np.testing.assert_allclose(table.groupby("round")["weight"].sum(), 1.0)
    np.testing.assert_allclose(table["weight"][:2], 0.5)
    assert table["weight"].iloc[-2] > 0.5, "the first labeler was nearer to both outcomes"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    with exports._parquet_writer(path) as write:
        write(pd.DataFrame({"x": [1]}))

    def fail() -> None:
        with exports._parquet_writer(path) as write:
            write(pd.DataFrame({"x": [2]}))
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert pd.read_parquet(path)["x"].tolist() == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]
