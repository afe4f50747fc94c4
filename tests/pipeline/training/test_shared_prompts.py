"""Prompts that are read once for both responses: same loss, same gradients, and the plain way wherever that fails."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig
from trl.trainer.utils import selective_log_softmax

from tests.precision import EXACT
from truthful_rlhf.pipeline import SoftDPOTrainer
from truthful_rlhf.pipeline.training import shared_prompts
from truthful_rlhf.pipeline.training.shared_prompts import PLAIN_BATCH, SharedPrompts

PROMPTS = [[7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24], [30, 31, 32, 33, 34, 35, 36, 37, 38]]
RESPONSES = [[[40, 41], [42]], [[43, 44, 45], [46, 47]]]
"""Of the two prompts: chosen, then rejected."""


def batch(prompts: list[list[int]] = PROMPTS, rejected: list[list[int]] | None = None) -> dict[str, Any]:
    """Return what TRL's collator makes: chosen before rejected, padded on the right."""
    rows = [*zip(prompts, (r[0] for r in RESPONSES), strict=True)]
    rows += [*zip(rejected or prompts, (r[1] for r in RESPONSES), strict=True)]
    width = max(len(p) + len(r) for p, r in rows)

    def padded(parts: list[list[int]]) -> Any:
        return torch.tensor([row + [0] * (width - len(row)) for row in parts])

    return {
        "input_ids": padded([p + r for p, r in rows]),
        "attention_mask": padded([[1] * len(p + r) for p, r in rows]),
        "completion_mask": padded([[0] * len(p) + [1] * len(r) for p, r in rows]),
        "ref_chosen_logps": torch.zeros(2),
        "ref_rejected_logps": torch.zeros(2),
    }


@pytest.fixture
def model(tiny_model_folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float64)


def log_probabilities(model: Any, inputs: dict[str, Any]) -> Any:
    """Compute as TRL does."""
    given = {key: value for key, value in inputs.items() if key not in PLAIN_BATCH - {"input_ids", "attention_mask"}}
    logits = model(**given, use_cache=False).logits[:, :-1]
    return (selective_log_softmax(logits, inputs["input_ids"][:, 1:]) * inputs["completion_mask"][:, 1:]).sum(1)


@pytest.mark.parametrize("attention", ["the default", "plain"])
def test_responses_are_as_likely_and_gradients_the_same(model: Any, attention: str) -> None:
    with sdpa_kernel(SDPBackend.MATH) if attention == "plain" else contextlib.nullcontext():
        plain = batch()
        shared = SharedPrompts(possible=True)(model, plain)
        assert shared["input_ids"].shape == (4, 4), "the last token of a prompt, and the longest response"
        apart, together = log_probabilities(model, plain), log_probabilities(model, shared)
        torch.testing.assert_close(together, apart, rtol=EXACT, atol=EXACT)
        weights = [p for p in model.parameters() if p.requires_grad]
        weighted = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)
        ours, theirs = (torch.autograd.grad((weighted * value).sum(), weights) for value in (together, apart))
        for one, other in zip(ours, theirs, strict=True):
            # The layers' norms are computed in float32, whatever the model's precision: sums are off by its rounding.
            torch.testing.assert_close(one, other, rtol=0.0, atol=2**-19 * float(other.abs().max()))


def test_another_cache_would_be_seen(model: Any) -> None:
    """Control: rows of the cache in another order give other log-probabilities."""
    plain = batch()
    shared = SharedPrompts(possible=True)(model, plain)
    shared["past_key_values"].batch_select_indices(torch.tensor([1, 0, 3, 2]))
    assert (log_probabilities(model, shared) - log_probabilities(model, plain)).abs().max() > 1e-3


def test_a_model_that_keeps_something_else_reads_its_prompts_twice(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = model.forward

    def forgetful(**inputs: Any) -> Any:
        return forward(**{key: value for key, value in inputs.items() if key != "past_key_values"})

    monkeypatch.setattr(model, "forward", forgetful)
    plain, share = batch(), SharedPrompts(possible=True)
    assert share(model, plain) is plain
    monkeypatch.undo()
    assert share(model, plain) is plain, "it was found out once"

    def without_choice(**inputs: Any) -> Any:
        if "logits_to_keep" in inputs:
            raise TypeError("unexpected keyword argument 'logits_to_keep'")
        return forward(**inputs)

    monkeypatch.setattr(model, "forward", without_choice)
    assert SharedPrompts(possible=True)(model, plain) is plain


@pytest.mark.parametrize(
    "inputs",
    [
        batch([[7, 8], [30, 31, 32]]),
        batch(rejected=[[*PROMPTS[0][:-1], 99], PROMPTS[1]]),
        batch(rejected=[PROMPTS[0][:-1], PROMPTS[1]]),
        {key: value for key, value in batch().items() if not key.startswith("ref_")},
        batch() | {"pixel_values": torch.zeros(4)},
    ],
    ids=["short prompts", "other prompts", "prompts of other lengths", "reference beside the policy", "images"],
)
def test_other_batches_are_left_as_they_are(model: Any, inputs: dict[str, Any]) -> None:
    assert SharedPrompts(possible=True)(model, inputs) is inputs
    assert SharedPrompts(possible=False)(model, batch()).keys() == PLAIN_BATCH


def trained(folder: Path, out: Path, **changes: Any) -> list[float]:
    """Train on long prompts and return the losses."""
    data = Dataset.from_dict(
        {
            "prompt": ["The film that we saw on the last day of our holiday by the sea was", "My old dog is " * 3] * 4,
            "chosen": [" great", " happy", " good food", " late"] * 2,
            "rejected": [" awful soup", " ugly", " slow", " great"] * 2,
            "soft_label": [0.9, 0.2, 0.5, 1.0] * 2,
        }
    )
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"per_device_train_batch_size": 4, "num_train_epochs": 3, "learning_rate": 1e-2}
    arguments |= {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "precompute_ref_log_probs": True}
    arguments |= {"report_to": "none", "save_strategy": "no", "logging_steps": 1}
    trainer: Any = SoftDPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64),
        args=DPOConfig(output_dir=str(out), **(arguments | changes)),
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_a_training_takes_the_same_course(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    share = shared_prompts._shared
    monkeypatch.setattr(shared_prompts, "_shared", lambda *given: made.append(1) or share(*given))
    shared = trained(tiny_model_folder, tmp_path)
    assert len(made) == 1 + len(shared) == 7, "every batch, and the first once more to compare"
    made.clear()
    checkpointed = trained(tiny_model_folder, tmp_path, gradient_checkpointing=True)
    assert not made
    monkeypatch.setattr(shared_prompts, "_saves", lambda inputs: False)
    plain = trained(tiny_model_folder, tmp_path)
    assert not made
    for losses in (shared, checkpointed):
        # From 1.14 on TRL computes logits in float32, and Adam makes small differences of gradients large ones.
        assert losses == pytest.approx(plain, rel=1e-3), json.dumps([losses, plain])
    assert plain[-1] < plain[0] - 0.05, "it did learn something"
