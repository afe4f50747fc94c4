"""How likely a policy finds given responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.labelers.judges.hardware import Hardware
from truthful_rlhf.pipeline.models.kl import response_batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FULL_PRECISION = Hardware("cpu", "float32")
"""Whatever the machine, nothing is rounded."""


def log_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    max_length: int,
    batch_size: int = 16,
    hardware: Hardware = FULL_PRECISION,
) -> FloatArray:
    """Return log p(response | prompt) of every response in nats, shape ``(n,)``: what DPO's log-ratios are made of.

    Tokens beyond ``max_length`` are cut off, as the trainer does; 0 where the prompt leaves no room.

    Args:
        model: a causal language model.
        tokenizer: its own.
        prompts: n lists of token ids.
        responses: n lists of token ids, each with the token that ends it if it has one.
        max_length: of a prompt with its response, in tokens.
        batch_size: sequences per forward pass.
        hardware: of the model, which may read faster; by default in the model's own precision.
    """
    import torch
    from tqdm.auto import tqdm

    room = [max(0, max_length - len(prompt)) for prompt in prompts]
    cut = [list(response[:left]) for response, left in zip(responses, room, strict=True)]
    texts = [(*prompt, -1, *response) for prompt, response in zip(prompts, cut, strict=True)]
    first = {text: k for k, text in reversed(list(enumerate(texts)))}  # what stands there twice is read once
    order = sorted((k for k in first.values() if cut[k]), key=lambda k: (len(texts[k]), k))
    values = np.zeros(len(cut))
    starts = range(0, len(order), batch_size)
    for start in tqdm(starts, desc="Log-probabilities", disable=len(starts) < 3):
        rows = order[start : start + batch_size]
        ids, attention, mask, _ = response_batch(tokenizer, [prompts[k] for k in rows], [cut[k] for k in rows])
        with torch.no_grad(), hardware.reading(ids.shape[1]):
            logits = model(input_ids=ids.to(model.device), attention_mask=attention.to(model.device)).logits
        scores = logits[mask]  # the softmax is what costs: at responses only
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32)).log_softmax(dim=-1)
        chosen = ids.roll(-1, dims=1)[mask].to(scores.device)  # position t predicts token t + 1
        sums = torch.zeros(mask.shape, dtype=torch.float64)
        sums[mask] = scores.gather(1, chosen[:, None])[:, 0].double().cpu()
        values[rows] = sums.sum(dim=1).numpy()
    return values[[first[text] for text in texts]]
