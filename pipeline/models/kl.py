"""The KL divergence of a policy to the base policy, along sampled responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.pipeline.models.generate import Response

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


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

    Args:
        policy: the trained policy.
        base: the policy before training.
        tokenizer: of both.
        prompts: n texts.
        responses: n responses that were sampled from the policy.
        batch_size: sequences per forward pass.
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
        divergence = torch.zeros(mask.shape, dtype=torch.float64)
        divergence[mask] = (log_policy.exp() * (log_policy - log_base)).sum(dim=-1).double().cpu()
        values.extend(divergence.sum(dim=-1).tolist())
    return np.array(values, dtype=np.float64)
