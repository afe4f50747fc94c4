"""The examples run as they are, on a tiny model, and do what their text says."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import pandas as pd
import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(scope="module")
def example(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Return the names that the example has bound when it has run."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copy(EXAMPLES / "annotations.csv", folder)
    source = (EXAMPLES / "aggregate_to_dpo.py").read_text(encoding="utf-8")
    assert source.count('MODEL = "bundled"') == 1
    script = folder / "aggregate_to_dpo.py"
    script.write_text(source.replace('MODEL = "bundled"', f"MODEL = {str(tiny_model_folder)!r}"), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return runpy.run_path(str(script))


def test_it_trains_on_the_soft_labels(example: dict[str, object]) -> None:
    trainer, result = example["trainer"], example["result"]
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]  # type: ignore[attr-defined]
    assert trainer.state.global_step == 12  # type: ignore[attr-defined]
    assert len(losses) == 3
    assert "soft_label" in result.to_trl().column_names  # type: ignore[attr-defined]


def test_the_mechanism_gives_weight_to_those_whom_the_expert_confirmed(example: dict[str, object]) -> None:
    heaviest = example["result"].weights["labeler_id"][:4]  # type: ignore[attr-defined]
    assert set(heaviest) == {"expert", "honest-1", "honest-2", "honest-3"}


def test_the_table_says_what_the_text_says() -> None:
    table = pd.read_csv(EXAMPLES / "annotations.csv")
    annotators = set(table["annotator"])
    assert len(annotators) == 10
    assert sum(name.startswith("bloc") for name in annotators) == 6
    assert table["pair_id"].nunique() == 48
    assert table.groupby("pair_id")["expert_says"].first().notna().sum() == 15
