"""Sample with vLLM where it is installed (``sampling.engine: vllm``): the same settings, a faster engine for GPUs.

vLLM reads models from folders, so the policy, adapter merged, is saved to a temporary one. Its random numbers are its
own: responses differ from those of the default engine, in distribution they do not.

An engine takes most of a GPU for as long as it lives, and half a minute to start. So there is one at a time: it serves
all calls with the same model in the same state, and is freed before another one starts and before anything is trained.
"""

from __future__ import annotations

import copy
import gc
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from truthful_rlhf.pipeline.config.training import SamplingSettings

NOT_INSTALLED = (
    "sampling.engine is vllm, but vLLM is not installed: pip install vllm (Linux, CUDA), or use transformers"
)


class EngineNotFoundError(RuntimeError):
    """The config asks for an engine that is not installed."""


@dataclass
class _Running:
    """The engine that is alive, and what it was started with."""

    engine: Any
    folder: tempfile.TemporaryDirectory[str]
    model: weakref.ref[Any]
    state: tuple[tuple[int, int], ...]


_running: _Running | None = None


def sample_token_ids(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    settings: SamplingSettings,
    seed: int,
) -> list[list[int]]:
    """Return the token ids of one response per prompt, each with a seed of its own derived from ``seed``.

    Args:
        model: the policy, with or without an adapter; it is not changed.
        tokenizer: its tokenizer.
        prompts: n lists of token ids.
        settings: ``max_new_tokens``, ``temperature`` and ``top_p`` are read.
        seed: >= 0; response k is drawn with ``seed + k``, whatever the engine has drawn before.

    Raises:
        EngineNotFoundError: vLLM is not installed.
    """
    try:
        from vllm import SamplingParams
    except ImportError as error:
        raise EngineNotFoundError(NOT_INSTALLED) from error
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
    given = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
    outputs = _engine(model, tokenizer).generate(given, parameters)
    return [list(output.outputs[0].token_ids) for output in outputs]


def release() -> None:
    """Free the engine and its memory, if one is alive. Call this before training."""
    global _running
    if _running is None:
        return
    engine, folder = _running.engine, _running.folder
    _running = None
    engine.llm_engine.engine_core.shutdown()  # ends its process and the memory with it
    del engine
    folder.cleanup()
    gc.collect()
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _engine(model: Any, tokenizer: PreTrainedTokenizerBase) -> Any:
    """Return the running engine if it was started with this model as it is now, or a new one in its place."""
    from vllm import LLM

    global _running
    if _running is None or _running.model() is not model or _running.state != _state(model):
        release()
        folder = tempfile.TemporaryDirectory()
        _merged(model).save_pretrained(folder.name, safe_serialization=True)
        tokenizer.save_pretrained(folder.name)
        engine = LLM(model=folder.name, seed=0, trust_remote_code=False)
        _running = _Running(engine, folder, weakref.ref(model), _state(model))
    return _running.engine


def _state(model: Any) -> tuple[tuple[int, int], ...]:
    """Return what changes when weights do: each one's identity, and how often it was written to."""
    return tuple((id(weight), weight._version) for weight in model.parameters())


def _merged(model: Any) -> Any:
    """Return a model without adapter; the one that was given keeps its own."""
    return copy.deepcopy(model).merge_and_unload() if hasattr(model, "merge_and_unload") else model
