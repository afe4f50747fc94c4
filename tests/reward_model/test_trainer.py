"""The reward trainer's loss is the cross-entropy of reward differences against the soft labels, on every step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer

from tests.precision import EXACT, LOGGED
from truthful_rlhf.reward_model import SoftRewardTrainer

SOFT = np.linspace(9 / 64, 1.0, 12)
"""Multiples of 1/64: they travel as float32, which holds them, and 1 - q, exactly."""
LORA = {"peft_config": LoraConfig(r=4, target_modules="all-linear", modules_to_save=["score"], task_type="SEQ_CLS")}


def preferences(soft_labels: np.ndarray | None, n: int = 12) -> Dataset:
    words = [" a wonderful surprise", " terrible, slow and ugly", " great food", " late again", " happy", " awful soup"]
    rows: dict[str, Any] = {
        "prompt": ["The film was"] * n,
        "chosen": [words[k % 6] for k in range(n)],
        "rejected": [words[(k + 1 + k // 6) % 6] for k in range(n)],
    }
    return Dataset.from_dict(rows if soft_labels is None else rows | {"soft_label": soft_labels})


@pytest.fixture
def make(tiny_model_folder: Path, tmp_path: Path) -> Callable[..., Any]:
    def build(trainer: type[RewardTrainer], data: Dataset, changes: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        torch.manual_seed(0)
        arguments: dict[str, Any] = {
            "output_dir": str(tmp_path),
            "learning_rate": 1e-2,
            "per_device_train_batch_size": 4,
            "num_train_epochs": 2,
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "report_to": "none",
            "save_strategy": "no",
            "logging_steps": 1,
        }
        return trainer(
            model=AutoModelForSequenceClassification.from_pretrained(
                tiny_model_folder, num_labels=1, dtype=torch.float64
            ),
            args=RewardConfig(**(arguments | (changes or {}))),
            train_dataset=data,
            processing_class=AutoTokenizer.from_pretrained(tiny_model_folder),
            **kwargs,
        )

    return build


def check_every_step(trainer: Any, labels_used: Callable[[torch.Tensor], torch.Tensor]) -> list[float]:
    """Train, comparing every loss with torch's cross-entropy on rewards from a forward pass of our own."""
    original, sizes = trainer.compute_loss, []

    def compared(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            rewards = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[:, 0]
        n = len(rewards) // 2
        z = rewards[:n] - rewards[n:]
        expected = binary_cross_entropy_with_logits(z, labels_used(inputs["soft_label"].double()))
        result = original(model, inputs, *args, **kwargs)
        loss = result[0] if isinstance(result, tuple) else result
        torch.testing.assert_close(loss, expected, rtol=0, atol=EXACT)
        sizes.append(z.abs().max().item())
        return result

    trainer.compute_loss = compared
    trainer.train()
    return sizes


@pytest.mark.parametrize(
    ("changes", "kwargs"),
    [
        pytest.param({}, {}, id="full"),
        pytest.param({}, LORA, id="lora"),
        pytest.param({"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}, LORA, id="accumulated"),
    ],
)
def test_the_loss_is_the_cross_entropy_on_every_step(
    make: Callable[..., Any], changes: dict[str, Any], kwargs: dict[str, Any]
) -> None:
    sizes = check_every_step(make(SoftRewardTrainer, preferences(SOFT), changes, **kwargs), lambda q: q)
    assert len(sizes) >= 6
    assert max(sizes) > 0.1


def test_ignoring_the_column_would_be_noticed(make: Callable[..., Any]) -> None:
    """Negative control: hard labels fail the same check."""
    with pytest.raises(AssertionError):
        check_every_step(make(SoftRewardTrainer, preferences(SOFT)), torch.ones_like)


def losses(trainer: Any) -> list[float]:
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_certain_labels_give_exactly_the_stock_trajectory(make: Callable[..., Any]) -> None:
    for changes in ({}, {"center_rewards_coefficient": 0.01}):
        stock = losses(make(RewardTrainer, preferences(None), changes))
        ours = losses(make(SoftRewardTrainer, preferences(np.ones(12)), changes))
        np.testing.assert_allclose(ours, stock, rtol=0, atol=LOGGED)
    assert np.abs(np.subtract(losses(make(SoftRewardTrainer, preferences(SOFT))), stock)).max() > 1e-2


def test_the_trained_model_recovers_the_soft_labels(make: Callable[..., Any]) -> None:
    """The optimum of the loss is sigmoid(z) = q: repeated pairs of one label must come to that probability."""
    target = 0.73
    pair = {"prompt": ["The film was"] * 8, "chosen": [" great food"] * 8, "rejected": [" late again"] * 8}
    data = Dataset.from_dict(pair | {"soft_label": [target] * 8})
    trainer = make(SoftRewardTrainer, data, {"max_steps": 60, "lr_scheduler_type": "constant"})
    trainer.train()
    batch = trainer.data_collator([trainer.train_dataset[0]])
    with torch.no_grad():
        rewards = trainer.model.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    assert torch.sigmoid(rewards[0] - rewards[1]).item() == pytest.approx(target, abs=0.02)


def test_evaluation_uses_the_soft_labels(make: Callable[..., Any]) -> None:
    trainer = make(SoftRewardTrainer, preferences(SOFT))
    trainer.train()
    hard, soft = (trainer.evaluate(preferences(labels))["eval_loss"] for labels in (np.ones(12), SOFT))
    assert abs(hard - soft) > 1e-3


def test_a_missing_column_or_a_margin_raises(make: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="no column 'soft_label'"):
        make(SoftRewardTrainer, preferences(None))
    with pytest.raises(ValueError, match="no column 'soft_label'"):
        make(SoftRewardTrainer, preferences(SOFT), eval_dataset=preferences(None))
    with pytest.raises(ValueError, match="'margin'"):
        make(SoftRewardTrainer, preferences(SOFT).add_column("margin", [0.5] * 12))
    with pytest.raises(ValueError, match=r"row 3.*must be a probability"):
        make(SoftRewardTrainer, preferences(np.where(np.arange(12) == 3, 2.0, 0.5)))


@pytest.mark.parametrize("loss", ["hard", "robust"])
def test_other_losses_differ(make: Callable[..., Any], loss: str) -> None:
    other = losses(make(SoftRewardTrainer, preferences(SOFT), soft_label_loss=loss))
    soft = losses(make(SoftRewardTrainer, preferences(SOFT)))
    assert np.abs(np.subtract(other, soft)).max() > 1e-3
