"""The reward-model stage: it learns what the labels say, and saves what everybody can load."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

from tests.precision import EXACT, LOGGED
from truthful_rlhf.pipeline.config.training import RewardModelSettings
from truthful_rlhf.pipeline.training.reward import evaluate_reward_model, train_reward_model


def preferences(soft_label: float, n: int = 48) -> Dataset:
    prompts = [f"{subject} number {k} was" for k in range(n // 2) for subject in ("The film", "My dog")]
    columns = {"prompt": prompts, "chosen": [" great food"] * n, "rejected": [" terrible"] * n}
    return Dataset.from_dict(columns | {"soft_label": [soft_label] * n})


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("lora_rank", [4, None], ids=["lora", "full"])
def test_it_learns_the_probability_and_saves_an_ordinary_classifier(
    tiny_model_folder: Path, tmp_path: Path, lora_rank: int | None
) -> None:
    from transformers import AutoModelForSequenceClassification

    settings = RewardModelSettings(learning_rate=1e-2, batch_size=8, epochs=6, lora_rank=lora_rank)
    train_reward_model(tiny_model_folder, preferences(0.8), settings, tmp_path, seed=0)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(model).__name__ == "LlamaForSequenceClassification"
    assert model.config.num_labels == 1
    held_out = pd.DataFrame(
        {
            "prompt": ["The film number 99 was"] * 2,
            "response_a": [" great food", " terrible"],
            "response_b": [" terrible", " great food"],
        }
    )
    predicted, table = evaluate_reward_model(tmp_path, held_out, {"truth": np.array([0.8, 0.2])})
    np.testing.assert_allclose(predicted, [0.8, 0.2], atol=0.06)
    assert predicted.sum() == pytest.approx(1.0, abs=EXACT)  # swapping A and B
    assert table.loc[0, "target"] == "truth"
    assert table.loc[0, "accuracy"] == 1.0
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert logged[0]["loss"] == pytest.approx(np.log(2), abs=LOGGED)  # no preference before training
    assert logged[0]["step"] == 1


def test_the_same_seed_gives_the_same_model(tiny_model_folder: Path, tmp_path: Path) -> None:
    settings = RewardModelSettings(batch_size=8, epochs=1, lora_rank=4)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train_reward_model(tiny_model_folder, preferences(0.8), settings, tmp_path / name, seed)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c
