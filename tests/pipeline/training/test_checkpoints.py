"""A training that stops half-way goes on from its last checkpoint, and ends with the same bytes as one that did not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

from truthful_rlhf.pipeline.config.training import DPOSettings, RewardModelSettings, RLOOSettings, SamplingSettings
from truthful_rlhf.pipeline.models.load import load_tokenizer
from truthful_rlhf.pipeline.models.tokens import Encoder, TrainingPrompts, orient_tokens, with_token_ids
from truthful_rlhf.pipeline.training import checkpoints
from truthful_rlhf.pipeline.training.checkpoints import Checkpoints, last_checkpoint
from truthful_rlhf.pipeline.training.dpo import preference_dataset, reference_log_probabilities, train_dpo
from truthful_rlhf.pipeline.training.log import TrainingLog
from truthful_rlhf.pipeline.training.reward import train_reward_model
from truthful_rlhf.pipeline.training.rloo import train_rloo

Training = Callable[[Path, Path | None], None]
"""Takes the folder of the result, and that of the checkpoints."""


class Stopped(Exception):
    """What stands for the end of the process."""


def preferences(n: int = 16) -> Dataset:
    words = [" a wonderful surprise", " terrible, slow and ugly", " great food", " late again"]
    rows = {
        "prompt": [("The film was", "My dog is")[k % 2] for k in range(n)],
        "chosen": [words[k % 4] for k in range(n)],
        "rejected": [words[(k + 1) % 4] for k in range(n)],
        "soft_label": [0.5 + 0.4 * np.sin(k) ** 2 for k in range(n)],
    }
    return Dataset.from_dict(rows)


@pytest.fixture(scope="module")
def reward_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model with opinions."""
    import torch
    from transformers import AutoModelForSequenceClassification

    folder = tmp_path_factory.mktemp("reward")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        classifier = AutoModelForSequenceClassification.from_pretrained(tiny_model_folder, num_labels=1)
        torch.nn.init.normal_(classifier.score.weight, std=0.3)
    classifier.save_pretrained(folder)
    load_tokenizer(str(tiny_model_folder)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trainings(tiny_model_folder: Path, reward_folder: Path) -> dict[str, Training]:
    """All that can go on, with 6 to 9 updates over two passes or more; the adapters' A begin at random."""
    dpo = DPOSettings(learning_rate=1e-2, batch_size=4, micro_batch_size=2, epochs=2.0, lora_rank=4)
    reward = RewardModelSettings(learning_rate=1e-2, batch_size=4, epochs=2.0, lora_rank=4)
    full = reward.model_copy(update={"lora_rank": None, "learning_rate": 1e-3})
    rloo = RLOOSettings(
        updates=9, batch_size=8, micro_batch_size=4, responses_per_prompt=2, learning_rate=5e-3, lora_rank=4
    )
    reused = rloo.model_copy(update={"trl": {"num_iterations": 2}})
    prompts = ["The film was", "My dog is", "A", "I bought this phone", "The soup", "The train", "Which", "We loved it"]
    read = TrainingPrompts.of_texts(prompts, Encoder(load_tokenizer(str(tiny_model_folder))))
    sampling = SamplingSettings(max_new_tokens=4)
    policy = tiny_model_folder

    def with_rloo(settings: RLOOSettings) -> Training:
        return lambda out, folder: train_rloo(policy, reward_folder, read, settings, sampling, out, 3, None, folder)

    return {
        "dpo": lambda out, folder: train_dpo(policy, preferences(), dpo, out, 3, checkpoints=folder),
        "reward_model": lambda out, folder: train_reward_model(policy, preferences(), reward, out, 3, folder),
        "reward_model_full": lambda out, folder: train_reward_model(policy, preferences(), full, out, 3, folder),
        "rloo": with_rloo(rloo),
        "rloo_reusing_responses": with_rloo(reused),
    }


def stop_after(update: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a checkpoint after every update that allows it, and stop behind the first from ``update`` on."""
    on_save = Checkpoints.on_save

    def save_and_stop(self: Checkpoints, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        on_save(self, args, state, control, **kwargs)
        if state.global_step >= update:
            raise Stopped

    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(Checkpoints, "on_save", save_and_stop)


def updates_done(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list that fills with the updates that are done from now on."""
    done: list[int] = []

    def note(self: TrainingLog, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        done.append(state.global_step)

    monkeypatch.setattr(TrainingLog, "on_step_end", note)
    return done


def weights(folder: Path) -> bytes:
    (file,) = folder.glob("*.safetensors")
    return file.read_bytes()


def losses(folder: Path) -> list[tuple[int, float]]:
    entries = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [(entry["step"], entry["loss"]) for entry in entries if "loss" in entry]


@pytest.mark.parametrize(
    ("name", "update"),
    [
        *(("dpo", 3), ("dpo", 4), ("reward_model", 3), ("reward_model_full", 3)),
        *(("rloo", 1), ("rloo", 4), ("rloo", 7), ("rloo_reusing_responses", 5)),
    ],
)
def test_it_goes_on_to_the_same_bytes(
    name: str, update: int, trainings: dict[str, Training], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, half, folder = tmp_path / "whole", tmp_path / "half", tmp_path / "checkpoints"
    trainings[name](whole, None)
    with monkeypatch.context() as patch:
        stop_after(update, patch)
        with pytest.raises(Stopped):
            trainings[name](half, folder)
    last = last_checkpoint(folder)
    assert last is not None
    begun = int(last.name.rpartition("-")[2])
    assert sorted(path.name for path in folder.iterdir() if path != folder / "README.md") == [
        last.name,
        f"{last.name}.json",
    ], "older ones are removed"
    assert not list(half.glob("*.safetensors")), "the control: it had not come to its end"
    shutil.rmtree(half)  # what a killed stage leaves behind is removed
    done = updates_done(monkeypatch)
    trainings[name](half, folder)
    assert done == list(range(begun + 1, len(losses(whole)) + 1)), "it went on, and did not begin anew"
    assert weights(half) == weights(whole)
    assert losses(half) == losses(whole)


def test_without_the_passes_before_the_prompts_would_be_others(
    trainings: dict[str, Training], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of RLOO's order: TRL alone begins with the first pass again."""
    trainings["rloo"](tmp_path / "whole", None)
    with monkeypatch.context() as patch:
        stop_after(4, patch)
        with pytest.raises(Stopped):
            trainings["rloo"](tmp_path / "half", tmp_path / "checkpoints")
    monkeypatch.setattr("truthful_rlhf.pipeline.training.checkpoints.passes_over_data", lambda checkpoint: 0)
    trainings["rloo"](tmp_path / "half", tmp_path / "checkpoints")
    assert weights(tmp_path / "half") != weights(tmp_path / "whole")


def test_an_adapter_that_is_trained_further_goes_on_as_well(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the online loop: the training starts from an adapter, and TRL keeps a second one for the reference."""
    settings = DPOSettings(learning_rate=1e-2, batch_size=4, epochs=1.0, lora_rank=4)
    table = preferences().to_pandas().assign(pair_id=[f"p{k}" for k in range(16)], chosen_is_a=True)
    pairs = table.rename(columns={"chosen": "response_a", "rejected": "response_b"})
    encoder = Encoder(load_tokenizer(str(tiny_model_folder)))
    pairs = with_token_ids(pairs, encoder)
    data = preference_dataset(
        orient_tokens(pd.DataFrame(table), pairs), reference_log_probabilities(tiny_model_folder, pairs, settings)
    )
    train_dpo(tiny_model_folder, data, settings, tmp_path / "start", 3)

    def go_on(out: Path, folder: Path | None) -> None:
        train_dpo(tiny_model_folder, data, settings, out, 4, tmp_path / "start", folder)

    go_on(tmp_path / "whole", None)
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        with pytest.raises(Stopped):
            go_on(tmp_path / "half", tmp_path / "checkpoints")
    go_on(tmp_path / "half", tmp_path / "checkpoints")
    assert weights(tmp_path / "half") == weights(tmp_path / "whole")
    assert weights(tmp_path / "half") != weights(tmp_path / "start")


def test_a_short_training_writes_none(trainings: dict[str, Training], tmp_path: Path) -> None:
    trainings["dpo"](tmp_path / "out", tmp_path / "checkpoints")
    assert not list(tmp_path.rglob("checkpoint-*"))


@pytest.mark.parametrize("damage", ["half written", "flipped bit", "no checksum"])
def test_a_damaged_checkpoint_is_ignored_and_removed(
    damage: str, trainings: dict[str, Training], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "checkpoints"
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        with pytest.raises(Stopped):
            trainings["dpo"](tmp_path / "half", folder)
    assert last_checkpoint(folder) == folder / "checkpoint-3", "the control"
    if damage == "no checksum":
        (folder / "checkpoint-3.json").unlink()
    else:
        file = folder / "checkpoint-3/optimizer.pt"
        content = file.read_bytes()
        flipped = content[:40] + bytes([content[40] ^ 1]) + content[41:]
        file.write_bytes(content[: len(content) // 2] if damage == "half written" else flipped)
    assert last_checkpoint(folder) is None
    assert not list(folder.glob("checkpoint-*"))
    done = updates_done(monkeypatch)
    trainings["dpo"](tmp_path / "again", folder)
    assert done == list(range(1, 9)), "it began anew"
