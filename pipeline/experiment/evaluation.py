"""Measure a policy on held-out prompts: gold reward, KL to the base policy, win rate against it, response length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.pipeline.models.generate import Response

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Estimate:
    """A mean over prompts with its standard error."""

    mean: float
    standard_error: float

    @classmethod
    def over_prompts(cls, values: FloatArray, responses_per_prompt: int) -> Estimate:
        """Average one value per response, grouped by prompt: prompts, not responses, are the independent units."""
        means = np.asarray(values, dtype=np.float64).reshape(-1, responses_per_prompt).mean(axis=1)
        return cls(float(means.mean()), float(means.std(ddof=1) / np.sqrt(len(means))))


def win_rate(gold: FloatArray, gold_base: FloatArray) -> FloatArray:
    """Return 1 where the policy's response beats the base policy's on the same prompt, 0.5 for ties, shape ``(n,)``."""
    result: FloatArray = np.where(gold > gold_base, 1.0, np.where(gold == gold_base, 0.5, 0.0))
    return result


def alignment_gap(truth: float, rule: float, base: float) -> dict[str, float | None]:
    """Return the alignment gap J(truth) - J(rule), raw and divided by what training on the truth gained.

    0: nothing lost; 1: everything lost; above 1: worse than not training. The normalised gap is None (unknown) where
    training on the truth gained nothing, because then nothing could be lost.
    """
    gained = truth - base
    return {"gap": truth - rule, "normalised_gap": (truth - rule) / gained if gained > 0 else None}


def kl_to_base(
    policy: PreTrainedModel,
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    responses: Sequence[Response],
    batch_size: int = 16,
) -> FloatArray:
    """Estimate KL(policy || base) per response, in nats, shape ``(n,)``.

    The sum over the response's positions of the exact KL between the two next-token distributions, along responses
    sampled from the policy: unbiased for the sequence KL as the plain log-ratio is, with far less variance.
    """
    import torch
    from tqdm.auto import tqdm

    values: list[float] = []
    starts = range(0, len(prompts), batch_size)
    for start in tqdm(starts, desc="KL to the base policy", disable=len(starts) < 3):
        rows = slice(start, start + batch_size)
        prompt_ids = [tokenizer(prompt)["input_ids"] for prompt in prompts[rows]]
        sequences = [p + list(r.token_ids) for p, r in zip(prompt_ids, responses[rows], strict=True)]
        width = max(len(sequence) for sequence in sequences)
        input_ids = torch.full((len(sequences), width), tokenizer.pad_token_id)
        mask = torch.zeros((len(sequences), width), dtype=torch.bool)
        attention = torch.zeros((len(sequences), width), dtype=torch.long)
        for k, sequence in enumerate(sequences):
            input_ids[k, : len(sequence)] = torch.tensor(sequence)
            attention[k, : len(sequence)] = 1
            mask[k, len(prompt_ids[k]) - 1 : len(sequence) - 1] = True  # position t predicts token t + 1
        arguments: dict[str, Any] = {
            "input_ids": input_ids.to(policy.device),
            "attention_mask": attention.to(policy.device),
        }
        with torch.no_grad():  # the softmax over the vocabulary is what costs: at the positions of the response only
            log_policy = policy(**arguments).logits[mask].log_softmax(dim=-1)
            log_base = base(**arguments).logits[mask].log_softmax(dim=-1)
        divergence = torch.zeros(mask.shape)
        divergence[mask] = (log_policy.exp() * (log_policy - log_base)).sum(dim=-1).cpu()
        values.extend(divergence.sum(dim=-1).tolist())
    return np.array(values, dtype=np.float64)
