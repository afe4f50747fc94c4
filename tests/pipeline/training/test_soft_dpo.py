"""DPO on soft labels: its loss is the cross-entropy on every step, and nothing can fall back to hard labels unseen."""

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
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from tests.precision import EXACT, LOGGED
from truthful_rlhf.pipeline import SoftDPOTrainer
from truthful_rlhf.pipeline.training.soft_dpo import REFERENCE

BETA = 0.5
LONGEST = 64.0
"""No response of these tests is less likely, in nats (checked below)."""
OF_FLOAT32_REFERENCES = BETA * 2 * LONGEST * 2**-24 + EXACT
"""TRL's collator rounds given reference log-probabilities to float32: each is off by up to 2^-24 of itself. z has two
of them, times beta, and the loss changes by no more than z."""
TOKENS = 12
"""No response of these tests has more (checked below)."""
OF_FLOAT32_HEAD = BETA * 4 * TOKENS * (2 * 10.0 + 400) * 2**-24
"""From 1.14 on TRL computes log-probabilities from float32 logits, whatever the model's precision. A logit below 10 and
the sum of 400 exponentials are each off by up to 2^-24 per operand, if all roundings go the same way; z has the tokens
of two responses under two models, times beta. That is 6e-4; a wrong formula is off by 1e-2 and more."""
LORA = {"peft_config": LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")}


def load(folder: Path) -> Any:
    """Load in float64: every test here is about an identity."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)


def preferences(soft_labels: np.ndarray | None, n: int = 12) -> Dataset:
    words = [" a wonderful surprise", " terrible, slow and ugly", " great food", " late again", " happy", " awful soup"]
    rows: dict[str, Any] = {
        "prompt": [("The film was", "My dog is")[k % 2] for k in range(n)],
        "chosen": [words[k % 6] for k in range(n)],
        "rejected": [words[(k + 1 + k // 6) % 6] for k in range(n)],
    }
    return Dataset.from_dict(rows if soft_labels is None else rows | {"soft_label": soft_labels})


def config(folder: Path, **changes: Any) -> DPOConfig:
    arguments: dict[str, Any] = {
        "output_dir": str(folder),
        "beta": BETA,
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
    return DPOConfig(**(arguments | changes))


@pytest.fixture
def make(tiny_model_folder: Path, tmp_path: Path) -> Callable[..., Any]:
    def build(trainer: type[DPOTrainer], data: Dataset, changes: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        torch.manual_seed(0)
        if "peft_config" not in kwargs:
            kwargs["ref_model"] = load(tiny_model_folder)
        return trainer(
            model=load(tiny_model_folder),
            args=config(tmp_path, **(changes or {})),
            train_dataset=data,
            processing_class=AutoTokenizer.from_pretrained(tiny_model_folder),
            **kwargs,
        )

    return build


def independent_z(policy: Any, reference: Any, inputs: dict[str, Any]) -> torch.Tensor:
    """Compute z from its definition, token by token in double precision, with no code of TRL."""

    def log_probability(model: Any) -> torch.Tensor:
        with torch.no_grad():
            logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits.double()
        logps = logits.log_softmax(-1)
        sums = [
            sum(
                logps[row, t - 1, int(inputs["input_ids"][row, t])]
                for t in range(1, inputs["input_ids"].shape[1])
                if inputs["completion_mask"][row, t]
            )
            for row in range(len(logps))
        ]
        return torch.stack([torch.as_tensor(s) for s in sums])

    ratio = log_probability(policy) - log_probability(reference)
    chosen, rejected = ratio.chunk(2)
    return BETA * (chosen - rejected)


def check_every_step(
    trainer: Any, reference: Any, labels_used: Callable[[torch.Tensor], torch.Tensor], tolerance: float = EXACT
) -> list[float]:
    """Train, comparing every loss with torch's cross-entropy on an independent z; return max |z| per step."""
    original, sizes = trainer.compute_loss, []

    def compared(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        z = independent_z(model, reference, inputs)
        assert all(inputs[name].abs().max() < LONGEST for name in REFERENCE if name in inputs)
        expected = binary_cross_entropy_with_logits(z, labels_used(inputs["soft_label"].double()))
        result = original(model, inputs, *args, **kwargs)
        loss = result[0] if isinstance(result, tuple) else result
        assert inputs["completion_mask"].sum(dim=1).max() <= TOKENS
        allowed = max(tolerance, OF_FLOAT32_HEAD) if loss.dtype == torch.float32 else tolerance
        torch.testing.assert_close(loss, expected, rtol=0, atol=allowed, check_dtype=False)
        sizes.append(z.abs().max().item())
        return result

    trainer.compute_loss = compared
    trainer.train()
    return sizes


SOFT = np.linspace(9 / 64, 1.0, 12)
"""Multiples of 1/64: they travel as float32, which holds them, and 1 - q, exactly."""


@pytest.mark.parametrize(
    ("changes", "kwargs", "tolerance"),
    [
        pytest.param({}, {}, EXACT, id="full"),
        pytest.param({}, LORA, EXACT, id="lora"),
        pytest.param({"precompute_ref_log_probs": True}, LORA, OF_FLOAT32_REFERENCES, id="precomputed"),
        pytest.param(
            {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}, LORA, EXACT, id="accumulated"
        ),
        pytest.param({"gradient_checkpointing": True}, LORA, EXACT, id="checkpointed"),
    ],
)
def test_the_loss_is_the_cross_entropy_on_every_step(
    make: Callable[..., Any], tiny_model_folder: Path, changes: dict[str, Any], kwargs: dict[str, Any], tolerance: float
) -> None:
    trainer = make(SoftDPOTrainer, preferences(SOFT), changes, **kwargs)
    sizes = check_every_step(trainer, load(tiny_model_folder), lambda q: q, tolerance)
    assert len(sizes) >= 6
    assert max(sizes) > 0.1  # the policy has moved, so that the identity was not checked at z = 0 only


def test_ignoring_the_column_would_be_noticed(make: Callable[..., Any], tiny_model_folder: Path) -> None:
    """Negative control: the same check fails for hard labels, the silent fall-back that must never happen."""
    trainer = make(SoftDPOTrainer, preferences(SOFT), {}, **LORA)
    reference = load(tiny_model_folder)
    with pytest.raises(AssertionError):
        check_every_step(trainer, reference, torch.ones_like)


def losses(trainer: Any) -> list[float]:
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_certain_labels_give_exactly_the_stock_trajectory(make: Callable[..., Any]) -> None:
    stock = losses(make(DPOTrainer, preferences(None), **LORA))
    ours = losses(make(SoftDPOTrainer, preferences(np.ones(12)), **LORA))
    soft = losses(make(SoftDPOTrainer, preferences(SOFT), **LORA))
    np.testing.assert_allclose(ours, stock, rtol=0, atol=LOGGED)
    assert np.abs(np.subtract(soft, stock)).max() > 1e-2


def test_undecided_labels_leave_the_policy_where_it_is(make: Callable[..., Any]) -> None:
    """At the start z = 0, where the gradient of an undecided pair is zero; one decided pair moves the policy."""

    def moved(soft_labels: np.ndarray) -> float:
        trainer = make(SoftDPOTrainer, preferences(soft_labels), {"weight_decay": 0.0, "max_steps": 1}, **LORA)
        trainer.train()
        return max(e["grad_norm"] for e in trainer.state.log_history if "grad_norm" in e)

    assert moved(np.full(12, 0.5)) < EXACT
    assert moved(np.full(12, 0.6)) > 1e-3


def test_given_reference_log_probabilities_are_used_as_they_are(make: Callable[..., Any]) -> None:
    given = preferences(np.ones(12)).add_column("ref_chosen_logps", [-3.0] * 12)
    with pytest.raises(ValueError, match="needs both"):
        make(SoftDPOTrainer, given, {"precompute_ref_log_probs": True}, **LORA)
    given = given.add_column("ref_rejected_logps", [-5.0] * 12)
    trainer = make(SoftDPOTrainer, given, {"precompute_ref_log_probs": True}, **LORA)
    assert trainer.train_dataset["ref_chosen_logps"][:] == [-3.0] * 12
    computed = make(SoftDPOTrainer, preferences(np.ones(12)), {"precompute_ref_log_probs": True}, **LORA)
    assert abs(losses(trainer)[0] - losses(computed)[0]) > 1e-3


def test_evaluation_uses_the_soft_labels(make: Callable[..., Any]) -> None:
    evaluated = {}
    for name, soft_labels in {"hard": np.ones(12), "soft": SOFT}.items():
        trainer = make(SoftDPOTrainer, preferences(SOFT), eval_dataset=preferences(soft_labels), **LORA)
        trainer.train()
        evaluated[name] = trainer.evaluate()["eval_loss"]
        assert trainer.evaluate(preferences(soft_labels))["eval_loss"] == pytest.approx(evaluated[name], abs=LOGGED)
    assert abs(evaluated["hard"] - evaluated["soft"]) > 1e-3
    with pytest.raises(ValueError, match="no column 'soft_label'"):
        trainer.evaluate(preferences(None))


def test_a_missing_or_wrong_column_raises(make: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="train data set has no column 'soft_label'"):
        make(SoftDPOTrainer, preferences(None), **LORA)
    with pytest.raises(ValueError, match="rename 'soft_labels'"):
        make(SoftDPOTrainer, preferences(SOFT).rename_column("soft_label", "soft_labels"), **LORA)
    with pytest.raises(ValueError, match="eval data set has no column"):
        make(SoftDPOTrainer, preferences(SOFT), eval_dataset=preferences(None), **LORA)
    for bad in (1.2, float("nan"), -0.1):
        with pytest.raises(ValueError, match=r"row 11.*must be a probability"):
            make(SoftDPOTrainer, preferences(np.append(SOFT[:-1], bad)), **LORA)


def test_a_column_lost_between_data_set_and_loss_raises(make: Callable[..., Any]) -> None:
    trainer = make(SoftDPOTrainer, preferences(SOFT), **LORA)
    trainer.data_collator = trainer.data_collator.collate  # TRL's own, which drops the column
    with pytest.raises(ValueError, match="has dropped the column"):
        trainer.train()


@pytest.mark.parametrize(
    "changes",
    [
        {"label_smoothing": 0.1},
        {"loss_type": ["ipo"]},
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]},
        {"loss_weights": [0.5]},
        {"f_divergence_type": "js_divergence"},
        {"use_weighting": True},
        {"ld_alpha": 0.5},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_arguments_that_make_the_term_wrong_are_refused(make: Callable[..., Any], changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot be used with soft labels"):
        make(SoftDPOTrainer, preferences(SOFT), changes, **LORA)


@pytest.mark.parametrize("loss", ["hard", "robust"])
def test_other_losses_train_with_their_own_loss(make: Callable[..., Any], loss: str) -> None:
    trainer = make(SoftDPOTrainer, preferences(SOFT), soft_label_loss=loss, **LORA)
    other = losses(trainer)
    soft = losses(make(SoftDPOTrainer, preferences(SOFT), **LORA))
    assert other[0] == pytest.approx(np.log(2), abs=LOGGED)  # z = 0 at the start, under every loss
    assert np.abs(np.subtract(other, soft)).max() > 1e-3


def loss_of_a_moved_trl(first: Callable[[Any], Any], shown: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return a ``compute_loss`` that multiplies something else by beta first, or has another loss."""

    def compute_loss(self: Any, model: Any, inputs: Any, return_outputs: bool = False, num: Any = None) -> Any:
        logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
        x = 100 * (logits.mean(dim=(1, 2)).chunk(2)[0] - logits.mean(dim=(1, 2)).chunk(2)[1])
        return shown(self.beta * first(x))

    return compute_loss


@pytest.mark.parametrize(
    ("first", "shown", "is_refused"),
    [
        pytest.param(lambda x: x, lambda z: -torch.nn.functional.logsigmoid(z).mean(), False, id="as now"),
        pytest.param(lambda x: x, lambda z: torch.relu(1 - z).mean(), True, id="another loss"),
        pytest.param(lambda x: x.mean(), lambda z: -torch.nn.functional.logsigmoid(z).mean(), True, id="not per pair"),
        pytest.param(
            lambda x: x, lambda z: -torch.nn.functional.logsigmoid(z + 1).mean(), True, id="another difference"
        ),
    ],
)
def test_a_trl_that_computes_another_loss_is_refused(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, first: Any, shown: Any, is_refused: bool
) -> None:
    trainer = make(SoftDPOTrainer, preferences(SOFT), **LORA)
    monkeypatch.setattr(DPOTrainer, "compute_loss", loss_of_a_moved_trl(first, shown))
    if is_refused:
        with pytest.raises(RuntimeError, match=r"does not compute the DPO loss.*trl>=1\.12"):
            trainer.train()
    else:
        trainer.train()


def test_a_trl_that_does_not_multiply_by_beta_is_refused(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make(SoftDPOTrainer, preferences(SOFT), **LORA)
    monkeypatch.setattr(DPOTrainer, "compute_loss", lambda self, model, *_: sum(p.sum() for p in model.parameters()))
    with pytest.raises(RuntimeError, match="does not compute the DPO loss"):
        trainer.train()
