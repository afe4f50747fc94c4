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
