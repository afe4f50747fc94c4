"""Device and precision by what the machine can do, told apart by stand-ins for torch's own answers."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from truthful_rlhf.labelers.judges.hardware import EXACT, MIXED, ROUNDED, Hardware, HardwareError
from truthful_rlhf.pipeline.config.experiment import ModelSection
from truthful_rlhf.pipeline.config.loading import ConfigError
from truthful_rlhf.pipeline.config.training import DPOSettings, PPOSettings, RewardModelSettings, RLOOSettings
from truthful_rlhf.pipeline.models import load
from truthful_rlhf.pipeline.models.device import training_arguments
from truthful_rlhf.pipeline.models.installed import check_hardware
from truthful_rlhf.pipeline.models.load import BasePolicy

CPU = Hardware("cpu", "float32")


def machine(
    monkeypatch: pytest.MonkeyPatch,
    cuda: bool = False,
    mps: bool = False,
    cuda_bf16: bool = False,
    amx: bool = False,
    cpu_bf16: bool = False,
) -> None:
    """Let torch answer as it would on another machine."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: cuda_bf16)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: amx or cpu_bf16, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)


@pytest.mark.parametrize(
    ("there", "best"),
    [
        ({}, ("cpu", "float32")),
        ({"amx": True}, ("cpu", "float32", ROUNDED)),
        ({"cpu_bf16": True}, ("cpu", "float32", MIXED)),
        ({"cuda": True, "cuda_bf16": True}, ("cuda", "bfloat16")),
        ({"cuda": True}, ("cuda", "float32")),
        ({"mps": True}, ("mps", "float32")),
    ],
)
def test_auto_takes_the_best_that_is_there(
    there: dict[str, bool], best: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, **there)
    assert Hardware.choose() == Hardware(*best)
    assert Hardware.choose(device="cpu", dtype="float32") == CPU, "a user may decide"


def test_products_are_rounded_only_where_that_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    def highest() -> str:
        return torch.get_float32_matmul_precision()

    machine(monkeypatch, amx=True)
    before = highest()
    with Hardware.choose().reading(20):
        assert highest() == "medium"
        assert not torch.backends.cuda.flash_sdp_enabled(), "short sequences are attended to in plain products"
    with Hardware.choose().reading(2000):
        assert highest() == "medium"
        assert torch.backends.cuda.flash_sdp_enabled()
    with contextlib.suppress(KeyboardInterrupt), Hardware.choose().reading(20):
        raise KeyboardInterrupt
    assert highest() == before == "highest"
    with Hardware.choose(dtype="float32").reading(20):
        assert highest() == before
    for limit, products in (("AVX2", EXACT), ("AVX512_CORE", EXACT), ("AVX512_CORE_BF16", MIXED)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ONEDNN_MAX_CPU_ISA", limit)
            assert Hardware.choose().products == products, "oneDNN would compute in what it has no instructions for"
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert Hardware.choose() == CPU


def test_mixed_precision_follows_weights_that_change(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cpu_bf16=True)
    layer, rows = torch.nn.Linear(4, 2), torch.ones(3, 4)
    with Hardware.choose().reading(20):
        assert not torch.backends.cuda.flash_sdp_enabled(), "short sequences are attended to in plain products"
        before = layer(rows)
        with torch.no_grad():
            layer.weight += 1
        after = layer(rows)
    assert before.dtype == torch.bfloat16
    assert torch.allclose((after - before).float(), torch.tensor(4.0), atol=0.1), "a cast that was kept would be stale"
    assert layer(rows).dtype == torch.float32
    with Hardware.choose().reading(2000):
        assert torch.backends.cuda.flash_sdp_enabled()
        assert layer(rows).dtype == torch.bfloat16


def test_mixed_precision_leaves_the_logits_in_float32(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cpu_bf16=True)
    base, ids = BasePolicy.of(tiny_model_folder), torch.tensor([[5, 6, 7]])
    model = base.load_to_train()
    exact = model(ids).logits
    with base.hardware.reading(3):
        mixed = model(ids).logits
        assert model.model(ids).last_hidden_state.dtype == torch.float32, "what layers add up is not rounded"
        assert model.lm_head(model.model(ids).last_hidden_state).dtype == torch.bfloat16, "a product is"
    assert (exact.dtype, mixed.dtype) == (torch.float32, torch.float32)
    assert torch.allclose(exact, mixed, atol=0.05)


@pytest.mark.parametrize(
    ("there", "asked", "text"),
    [
        ({}, {"device": "cuda"}, "model.device: torch sees no cuda here"),
        ({}, {"dtype": "bfloat16"}, "no instructions for bfloat16"),
        ({"mps": True}, {"dtype": "bfloat16"}, "no instructions for bfloat16"),
        ({"amx": True}, {"dtype": "float16"}, "float16 is for GPUs"),
    ],
)
def test_what_the_machine_cannot_do_is_refused(
    there: dict[str, bool], asked: dict[str, str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, **there)
    with pytest.raises(HardwareError, match=text):
        Hardware.choose(**asked)
    with pytest.raises(ConfigError, match=text):
        check_hardware(ModelSection.model_validate(asked))
    machine(monkeypatch, cuda=True, cuda_bf16=True, amx=True)
    check_hardware(ModelSection.model_validate(asked | {"device": asked.get("device", "cuda")}))  # another machine can


def test_four_bits_need_a_gpu_and_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch)
    with pytest.raises(ConfigError, match=r"model\.load_in_4bit needs a CUDA GPU"):
        check_hardware(ModelSection(load_in_4bit=True))
    machine(monkeypatch, cuda=True)
    with pytest.raises(ConfigError, match="pip install bitsandbytes"):
        check_hardware(ModelSection(load_in_4bit=True))


class Loaded:
    """Stands in for a model and notes where it was moved."""

    def __init__(self) -> None:
        self.places: list[Any] = []

    def to(self, place: Any) -> Loaded:
        self.places.append(place)
        return self

    def eval(self) -> Loaded:
        return self


def test_every_model_goes_to_the_device_in_its_precision(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sampling, KL and scoring too, not training alone; what is trained is float32."""
    import transformers

    asked: list[dict[str, Any]] = []

    def from_pretrained(source: str, **arguments: Any) -> Loaded:
        asked.append(arguments)
        return Loaded()

    monkeypatch.setattr(transformers, "AutoModelForCausalLM", SimpleNamespace(from_pretrained=from_pretrained))
    base = BasePolicy(str(tiny_model_folder), Hardware("cuda", "bfloat16"))
    monkeypatch.setenv("LOCAL_RANK", "1")
    scoring: Any = base.load()
    assert scoring.places == ["cuda:1"]
    assert asked[-1]["dtype"] is torch.bfloat16
    assert asked[-1]["trust_remote_code"] is False
    assert asked[-1]["use_safetensors"] is True
    base.load_to_train()
    assert asked[-1]["dtype"] is torch.float32
    four: Any = BasePolicy(str(tiny_model_folder), Hardware("cuda", "bfloat16"), load_in_4bit=True).load()
    assert asked[-1]["quantization_config"].load_in_4bit
    assert asked[-1]["device_map"] == {"": "cuda:1"}
    assert four.places == [], "a quantised model cannot be moved"
    on_cpu: Any = BasePolicy(str(tiny_model_folder), CPU).load()
    assert on_cpu.places == ["cpu"]
    machine(monkeypatch)
    assert load.load_model(str(tiny_model_folder)).places  # type: ignore[attr-defined]


def test_the_trainer_is_told_the_same(tmp_path: Path) -> None:
    for hardware, cpu, bf16 in ((CPU, True, False), (Hardware("cuda", "bfloat16"), False, True)):
        arguments = training_arguments(str(tmp_path), hardware, 8, 2, gradient_checkpointing=True)
        assert (arguments["use_cpu"], arguments["bf16"]) == (cpu, bf16)
        assert (arguments["per_device_train_batch_size"], arguments["gradient_accumulation_steps"]) == (2, 4)
        assert arguments["gradient_checkpointing"] is True
    with pytest.raises(ValueError, match="not a multiple of micro_batch_size 3"):
        training_arguments(str(tmp_path), CPU, 8, 3)


@pytest.mark.parametrize("settings", [DPOSettings, PPOSettings, RLOOSettings, RewardModelSettings])
def test_every_method_can_save_memory(settings: Any) -> None:
    chosen = settings(micro_batch_size=2, gradient_checkpointing=True)
    assert (chosen.micro_batch_size, chosen.gradient_checkpointing) == (2, True)


@pytest.mark.usefixtures("in_float64")
def test_micro_batches_and_checkpointing_train_the_same_policy(tiny_model_folder: Path, tmp_path: Path) -> None:
    import pandas as pd
    from safetensors.torch import load_file

    from truthful_rlhf.pipeline.training.dpo import preference_dataset, train_dpo

    labels = pd.DataFrame(
        {
            "prompt": [f"The film {k} was" for k in range(8)],
            "chosen": [" a wonderful surprise"] * 8,
            "rejected": [" terrible, slow and ugly"] * 8,
            "soft_label": [0.9] * 8,
        }
    )
    trained = {}
    for name, change in (
        ("whole", {}),
        ("parts", {"micro_batch_size": 2, "gradient_checkpointing": True}),
        ("other", {"batch_size": 4}),
    ):
        settings = DPOSettings(lora_rank=2, epochs=2, **{"batch_size": 8, **change})  # type: ignore[arg-type]
        train_dpo(tiny_model_folder, preference_dataset(labels), settings, tmp_path / name, seed=0)
        trained[name] = load_file(tmp_path / name / "adapter_model.safetensors")
    for key, weights in trained["whole"].items():
        torch.testing.assert_close(weights, trained["parts"][key], rtol=0, atol=1e-7)
    assert any(not torch.allclose(w, trained["other"][key], atol=1e-5) for key, w in trained["whole"].items())
