"""Sampling repeats with its seed and leaves the global generator alone; the vLLM engine gets the same settings.

vLLM itself needs a GPU: what is tested is what it is handed, by a stand-in that reads the saved model as vLLM would.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from tests.precision import EXACT
from truthful_rlhf.pipeline.config.training import SamplingSettings
from truthful_rlhf.pipeline.models import vllm_engine
from truthful_rlhf.pipeline.models.generate import sample_responses
from truthful_rlhf.pipeline.models.load import load_model, load_tokenizer
from truthful_rlhf.pipeline.models.tokens import Encoder
from truthful_rlhf.pipeline.models.vllm_engine import EngineNotFoundError

PROMPTS = ["The film was", "My dog", "I bought this phone"]


def sample(model: Any, folder: Path, seed: int = 0, **settings: Any) -> list[Any]:
    chosen = SamplingSettings(max_new_tokens=6, **settings)
    tokenizer = load_tokenizer(str(folder))
    encoded = [Encoder(tokenizer).prompt(prompt) for prompt in PROMPTS]
    return sample_responses(model, tokenizer, encoded, chosen, seed, "test")


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


class Engines:
    """A stand-in for vLLM that counts its engines: alive, started, and shut down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, end: int) -> None:
        self.started: list[str] = []
        self.shut_down: list[str] = []
        self.handed: dict[str, Any] = {}
        self._alive: list[weakref.ref[Any]] = []
        engines = self

        class LLM:
            def __init__(self, model: str, seed: int, trust_remote_code: bool) -> None:
                assert not trust_remote_code
                assert engines.alive == 0, "the one before has the memory still"
                engines.started.append(model)
                engines._alive.append(weakref.ref(self))
                engines.handed["model"] = load_model(model)
                core = SimpleNamespace(shutdown=lambda: engines.shut_down.append(model))
                self.llm_engine = SimpleNamespace(engine_core=core)
                self.itself = self  # a circle, as in vLLM: only the garbage collector ends it

            def generate(self, prompts: list[dict[str, list[int]]], parameters: list[Any]) -> list[Any]:
                assert all(prompt["prompt_token_ids"] for prompt in prompts)
                engines.handed["parameters"] = parameters
                return [SimpleNamespace(outputs=[SimpleNamespace(token_ids=(65, 66, end, 67))]) for _ in prompts]

        stand_in = ModuleType("vllm")
        stand_in.LLM, stand_in.SamplingParams = LLM, lambda **settings: settings  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "vllm", stand_in)

    @property
    def alive(self) -> int:
        return sum(engine() is not None for engine in self._alive)


@pytest.fixture
def engines(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engines]:
    yield Engines(monkeypatch, load_tokenizer(str(tiny_model_folder)).eos_token_id)
    vllm_engine.release()


@pytest.mark.usefixtures("in_float64")
def test_vllm_gets_the_merged_policy_and_the_settings(tiny_model_folder: Path, engines: Engines) -> None:
    from peft import get_peft_model

    from truthful_rlhf.pipeline.models.lora import lora_config

    policy = get_peft_model(load_model(str(tiny_model_folder)), lora_config(4))
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    responses = sample(policy, tiny_model_folder, engine="vllm", temperature=0.7)
    end = load_tokenizer(str(tiny_model_folder)).eos_token_id
    assert [response.token_ids for response in responses] == [(65, 66, end)] * 3
    handed = engines.handed
    assert [p["seed"] for p in handed["parameters"]] == [0, 1, 2]
    assert handed["parameters"][0]["temperature"] == 0.7
    assert handed["parameters"][0]["max_tokens"] == 6
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        expected, base = policy(ids).logits, load_model(str(tiny_model_folder))(ids).logits
        torch.testing.assert_close(handed["model"](ids).logits, expected, rtol=0, atol=EXACT)
    assert not torch.allclose(expected, base, atol=1e-2)


def test_one_engine_serves_a_model_until_its_weights_change(tiny_model_folder: Path, engines: Engines) -> None:
    model = load_model(str(tiny_model_folder))
    for seed in (0, 1):
        sample(model, tiny_model_folder, seed=seed, engine="vllm")
    assert len(engines.started) == 1
    assert [p["seed"] for p in engines.handed["parameters"]] == [1, 2, 3]  # the call's own seed, not the engine's
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    sample(model, tiny_model_folder, engine="vllm")
    sample(load_model(str(tiny_model_folder)), tiny_model_folder, engine="vllm")
    assert len(engines.started) == 3
    assert engines.shut_down == engines.started[:2]
    assert engines.alive == 1


def test_a_freed_engine_leaves_nothing(tiny_model_folder: Path, engines: Engines) -> None:
    model = load_model(str(tiny_model_folder))
    sample(model, tiny_model_folder, engine="vllm")
    folder = Path(engines.started[0])
    assert folder.exists()  # an engine that runs may read it
    vllm_engine.release()
    assert engines.shut_down == [str(folder)]
    assert engines.alive == 0
    assert not folder.exists()
    vllm_engine.release()  # nothing to free
    sample(model, tiny_model_folder, engine="vllm")
    assert len(engines.started) == 2


class Released(Exception):
    """The engine was freed, and nothing had happened before."""


TRAINERS = {
    "reference": lambda dpo, **_: dpo.reference_log_probabilities("", None, None),
    "dpo": lambda dpo, **_: dpo.train_dpo("", None, None, Path(), 0),
    "reward model": lambda reward, **_: reward.train_reward_model("", None, None, Path(), 0),
    "ppo": lambda ppo, **_: ppo.train_ppo("", "", [], None, None, Path(), 0),
    "rloo": lambda rloo, **_: rloo.train_rloo("", "", [], None, None, Path(), 0),
}


@pytest.mark.parametrize("name", TRAINERS)
def test_whoever_trains_frees_the_engine_first(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from truthful_rlhf.pipeline.training import dpo, ppo, reward, rloo

    def release() -> None:
        raise Released

    modules = {"dpo": dpo, "ppo": ppo, "reward": reward, "rloo": rloo}
    for module in modules.values():
        monkeypatch.setattr(module, "release", release)
    with pytest.raises(Released):
        TRAINERS[name](**modules)
