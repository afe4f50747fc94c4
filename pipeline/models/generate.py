"""Sample continuations from a policy, batched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from truthful_rlhf.pipeline.config.training import SamplingSettings
from truthful_rlhf.pipeline.models.vllm_engine import sample_token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Response:
    """A sampled response: its token ids without the end-of-text token, and their text."""

    text: str
    token_ids: tuple[int, ...]


def sample_responses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
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
        prompts: n texts.
        settings: temperature, top-p, length in new tokens, batch size, engine.
        seed: of the sampling.
        description: of the progress bar.
    """
    import torch
    from tqdm.auto import tqdm

    if settings.engine == "vllm":
        ids = sample_token_ids(model, tokenizer, prompts, settings, seed)
        return [_response(row, tokenizer) for row in ids]
    responses: list[Response] = []
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        with tqdm(total=len(prompts), desc=description, unit="responses") as progress:
            for start in range(0, len(prompts), settings.batch_size):
                batch = tokenizer(
                    list(prompts[start : start + settings.batch_size]), return_tensors="pt", padding=True
                ).to(model.device)
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
                    responses.append(_response(row, tokenizer))
                progress.update(len(batch["input_ids"]))
    return responses


def _response(token_ids: list[int], tokenizer: PreTrainedTokenizerBase) -> Response:
    """Return the response that ends before the first end-of-text token."""
    end = tokenizer.eos_token_id
    ids = token_ids[: token_ids.index(end)] if end in token_ids else token_ids
    return Response(tokenizer.decode(ids, skip_special_tokens=True), tuple(ids))
