"""Sample continuations from a policy, batched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from truthful_rlhf.pipeline.config.training import SamplingSettings
from truthful_rlhf.pipeline.models.tokens import end_ids
from truthful_rlhf.pipeline.models.vllm_engine import sample_token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Response:
    """A sampled response.

    Attributes:
        text: without special tokens.
        token_ids: as sampled; the last one is an end-of-text token unless the response was cut at its longest.
    """

    text: str
    token_ids: tuple[int, ...]


def sample_responses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    settings: SamplingSettings,
    seed: int,
    description: str,
) -> list[Response]:
    """Sample one response per prompt (repeat a prompt for several), with a progress bar.

    The global generator of torch, which ``generate`` insists on, is seeded inside a fork and restored afterwards: the
    same model, prompts, settings and seed give the same responses, and nothing else changes.

    Args:
        model: the policy.
        tokenizer: its tokenizer.
        prompts: n lists of token ids, as `encode_prompt` returns them.
        settings: temperature, top-p, length in new tokens, batch size, engine.
        seed: of the sampling.
        description: of the progress bar.
    """
    import torch
    from tqdm.auto import tqdm

    ends = end_ids(model, tokenizer)
    if settings.engine == "vllm":
        ids = sample_token_ids(model, tokenizer, prompts, settings, seed)
        return [_response(row, tokenizer, ends) for row in ids]
    responses: list[Response] = []
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        with tqdm(total=len(prompts), desc=description, unit="responses") as progress:
            for start in range(0, len(prompts), settings.batch_size):
                rows = [list(row) for row in prompts[start : start + settings.batch_size]]
                batch = tokenizer.pad({"input_ids": rows}, return_tensors="pt", padding_side="left").to(model.device)
                generated = model.generate(
                    **batch,
                    do_sample=True,
                    temperature=settings.temperature,
                    top_p=settings.top_p,
                    top_k=0,
                    min_new_tokens=1,
                    max_new_tokens=settings.max_new_tokens,
                    pad_token_id=tokenizer.pad_token_id,
                )
                for row in generated[:, batch["input_ids"].shape[1] :].tolist():
                    responses.append(_response(row, tokenizer, ends))
                progress.update(len(batch["input_ids"]))
    return responses


def _response(token_ids: list[int], tokenizer: PreTrainedTokenizerBase, ends: frozenset[int]) -> Response:
    """Return the response up to its first end-of-text token, that one included."""
    last = next((place for place, token in enumerate(token_ids) if token in ends), len(token_ids))
    ids = token_ids[: last + 1]
    return Response(tokenizer.decode(ids, skip_special_tokens=True), tuple(ids))
