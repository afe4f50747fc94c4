"""The KL divergence of a policy to the base policy, along sampled responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.pipeline.config.training import SamplingSettings
from truthful_rlhf.pipeline.models.generate import Response
from truthful_rlhf.pipeline.models.tokens import end_ids

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def kl_to_base(
    policy: PreTrainedModel,
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Response],
    sampling: SamplingSettings,
    batch_size: int = 16,
) -> FloatArray:
    """Estimate KL(policy || base) per response, in nats, shape ``(n,)``.

    The sum over the response's positions of the exact KL between the two next-token distributions, along responses
    sampled from the policy: unbiased for the KL of whole responses of at most ``max_new_tokens``, as the plain
    log-ratio is, with less variance. The decision to end is a position like any other; a response that was cut at its
    longest had none there. The distributions are those that were sampled: at the sampling's temperature, the policy's
    without what ``top_p`` cuts off (the base's with it, since it may have cut off what the policy says), and neither
    of them ends before its first token.

    Args:
        policy: the trained policy.
        base: the policy before training.
        tokenizer: of both.
        prompts: n lists of token ids.
        responses: n responses that were sampled from the policy.
        sampling: how they were sampled.
        batch_size: sequences per forward pass.
    """
    import torch
    from tqdm.auto import tqdm

    ends = torch.tensor(sorted(end_ids(policy, tokenizer)))
    values: list[float] = []
    starts = range(0, len(prompts), batch_size)
    for start in tqdm(starts, desc="KL to the base policy", disable=len(starts) < 3):
        rows = slice(start, start + batch_size)
        input_ids, attention, mask, first = response_batch(
            tokenizer, prompts[rows], [response.token_ids for response in responses[rows]]
        )
        arguments = {"input_ids": input_ids.to(policy.device), "attention_mask": attention.to(policy.device)}
        with torch.no_grad():  # the softmax over the vocabulary is what costs: at the positions of the response only
            said = [model(**arguments).logits[mask] for model in (policy, base)]
        logits = [rows.to(torch.promote_types(rows.dtype, torch.float32)) / sampling.temperature for rows in said]
        for scores in logits:
            scores[first[mask].nonzero(), ends] = -torch.inf
        logits[0] = _nucleus(logits[0], sampling.top_p)
        log_policy, log_base = (scores.log_softmax(dim=-1) for scores in logits)
        ratio = torch.where(log_policy.isneginf(), 0.0, log_policy - log_base)
        divergence = torch.zeros(mask.shape, dtype=torch.float64)
        divergence[mask] = (log_policy.exp() * ratio).sum(dim=-1).double().cpu()
        values.extend(divergence.sum(dim=-1).tolist())
    return np.array(values, dtype=np.float64)


def response_batch(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return a padded batch of prompts with their responses.

    Args:
        tokenizer: whose padding is used.
        prompts: n lists of token ids, none of them empty.
        responses: n lists of token ids.

    Returns:
        Token ids, attention, the positions that predict a response's tokens, and which predict its first one, each of
        shape ``(n, longest)``.
    """
    import torch

    sequences = [[*prompt, *response] for prompt, response in zip(prompts, responses, strict=True)]
    shape = (len(sequences), max(len(sequence) for sequence in sequences))
    input_ids = torch.full(shape, tokenizer.pad_token_id)
    attention = torch.zeros(shape, dtype=torch.long)
    mask, first = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
    for k, sequence in enumerate(sequences):
        input_ids[k, : len(sequence)] = torch.tensor(sequence)
        attention[k, : len(sequence)] = 1
        mask[k, len(prompts[k]) - 1 : len(sequence) - 1] = True  # position t predicts token t + 1
        first[k, len(prompts[k]) - 1] = True
    return input_ids, attention, mask, first


def _nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Return the logits with what nucleus sampling cuts off at minus infinity."""
    if top_p == 1.0:
        return logits
    from transformers import TopPLogitsWarper

    cut: Tensor = TopPLogitsWarper(top_p)(None, logits)
    return cut
