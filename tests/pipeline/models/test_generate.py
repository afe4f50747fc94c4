"""Sampling repeats with its seed and leaves the global generator alone; the vLLM engine gets the same settings.

vLLM itself needs a GPU: what is tested is what it is handed, by a stand-in that reads the saved model as vLLM would.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from tests.precision import EXACT
from truthful_rlhf.pipeline.config.training import SamplingSettings
from truthful_rlhf.pipeline.models.generate import sample_responses
from truthful_rlhf.pipeline.models.load import load_model, load_tokenizer
from truthful_rlhf.pipeline.models.vllm_engine import EngineNotFoundError

PROMPTS = ["The film was", "My dog", "I bought this phone"]


def sample(model: Any, folder: Path, seed: int = 0, **settings: Any) -> list[Any]:
    chosen = SamplingSettings(max_new_tokens=6, **settings)
    return sample_responses(model, load_tokenizer(str(folder)), PROMPTS, chosen, seed, "test")


def test_a_seed_repeats_and_another_does_not(tiny_model_folder: Path) -> None:
    model = load_model(str(tiny_model_folder))
    state = torch.random.get_rng_state()
    first = sample(model, tiny_model_folder)
    assert first == sample(model, tiny_model_folder)
    assert first != sample(model, tiny_model_folder, seed=1)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(1 <= len(response.token_ids) <= 6 for response in first)


def test_a_missing_vllm_is_explained(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(EngineNotFoundError, match="pip install vllm"):
        sample(load_model(str(tiny_model_folder)), tiny_model_folder, engine="vllm")


@pytest.mark.usefixtures("in_float64")
def test_vllm_gets_the_merged_policy_and_the_settings(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft import get_peft_model

    from truthful_rlhf.pipeline.models.lora import lora_config

    handed: dict[str, Any] = {}

    class LLM:
        def __init__(self, model: str, seed: int, trust_remote_code: bool) -> None:
            assert not trust_remote_code
            handed["model"] = load_model(model)

        def generate(self, prompts: list[str], parameters: list[Any]) -> list[Any]:
            handed["parameters"] = parameters
            end = load_tokenizer(str(tiny_model_folder)).eos_token_id
            return [SimpleNamespace(outputs=[SimpleNamespace(token_ids=(65, 66, end, 67))]) for _ in prompts]

    stand_in = ModuleType("vllm")
    stand_in.LLM, stand_in.SamplingParams = LLM, lambda **settings: settings  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", stand_in)
    policy = get_peft_model(load_model(str(tiny_model_folder)), lora_config(4))
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    responses = sample(policy, tiny_model_folder, engine="vllm", temperature=0.7)
    assert [response.token_ids for response in responses] == [(65, 66)] * 3
    assert [p["seed"] for p in handed["parameters"]] == [0, 1, 2]
    assert handed["parameters"][0]["temperature"] == 0.7
    assert handed["parameters"][0]["max_tokens"] == 6
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        expected, base = policy(ids).logits, load_model(str(tiny_model_folder))(ids).logits
        torch.testing.assert_close(handed["model"](ids).logits, expected, rtol=0, atol=EXACT)
    assert not torch.allclose(expected, base, atol=1e-2)
