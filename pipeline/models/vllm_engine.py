"""Sample with vLLM where it is installed (``sampling.engine: vllm``): the same settings, a faster engine for GPUs.

vLLM reads models from folders, so the policy, adapter merged, is saved to a temporary one. Its random numbers are its
own: responses differ from those of the default engine, in distribution they do not.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from truthful_rlhf.pipeline.config.training import SamplingSettings


NOT_INSTALLED = (
    "sampling.engine is vllm, but vLLM is not installed: pip install vllm (Linux, CUDA), or use transformers"
)


class EngineNotFoundError(RuntimeError):
    """The config asks for an engine that is not installed."""


def sample_token_ids(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    settings: SamplingSettings,
    seed: int,
) -> list[list[int]]:
    """Return the token ids of one response per prompt, each with a seed of its own derived from ``seed``.

    Raises:
        EngineNotFoundError: vLLM is not installed.
    """
    try:
        from vllm import LLM, SamplingParams
    except ImportError as error:
        raise EngineNotFoundError(NOT_INSTALLED) from error
    with tempfile.TemporaryDirectory() as folder:
        _merged(model).save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)
        engine = LLM(model=folder, seed=seed, trust_remote_code=False)
        parameters = [
            SamplingParams(
                temperature=settings.temperature,
                top_p=settings.top_p,
                min_tokens=1,
                max_tokens=settings.max_new_tokens,
                seed=seed + position,
            )
            for position in range(len(prompts))
        ]
        outputs = engine.generate(list(prompts), parameters)
    return [list(output.outputs[0].token_ids) for output in outputs]


def _merged(model: Any) -> Any:
    """Return a model without adapter; the one that was given keeps its own."""
    return copy.deepcopy(model).merge_and_unload() if hasattr(model, "merge_and_unload") else model
