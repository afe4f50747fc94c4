"""A response ends once, and everybody reads the tokens that were sampled: DPO, reward model, best-of-n and the KL."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.pipeline.experiment.test_methods import experiment, mean_of
from truthful_rlhf.pipeline.experiment.evaluation import evaluate
from truthful_rlhf.pipeline.models import tokens
from truthful_rlhf.pipeline.models.load import load_tokenizer
from truthful_rlhf.pipeline.training.soft_dpo import SoftDPOTrainer
from truthful_rlhf.reward_model.gold import ClassifierGold
from truthful_rlhf.reward_model.trainer import SoftRewardTrainer

Ids = tuple[int, ...]
ENDS = range(0, 120)
"""The first of them is the tokenizer's own end-of-text token."""


class Readers:
    """Notes the token ids that reach the data sets of the trainers, and the reward model."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: dict[str, set[tuple[Ids, ...]]] = {"dpo": set(), "reward": set(), "scored": set()}
        for trainer, name in ((SoftDPOTrainer, "dpo"), (SoftRewardTrainer, "reward")):
            monkeypatch.setattr(trainer, "train", self._noting(trainer.train, name))
        score = ClassifierGold.score_tokens

        def noted(gold: ClassifierGold, sequences: Sequence[Sequence[int]]) -> Any:
            self.seen["scored"] |= {(tuple(sequence),) for sequence in sequences}
            return score(gold, sequences)

        monkeypatch.setattr(ClassifierGold, "score_tokens", noted)

    def _noting(self, train: Any, name: str) -> Any:
        def noted(trainer: Any, *args: Any, **kwargs: Any) -> Any:
            columns = ("prompt_ids", "chosen_ids", "rejected_ids") if name == "dpo" else ("chosen_ids", "rejected_ids")
            rows = zip(*(trainer.train_dataset[column] for column in columns), strict=True)
            self.seen[name] |= {tuple(tuple(ids) for ids in row) for row in rows}
            return train(trainer, *args, **kwargs)

        return noted


def sampled_pairs(run: Path) -> pd.DataFrame:
    table = pd.read_parquet(run / "pairs" / "pairs.parquet")
    for column in tokens.TOKEN_COLUMNS:
        table[column] = [tuple(int(token) for token in ids) for ids in table[column]]
    return table


def check_both_kinds(responses: Sequence[Ids]) -> None:
    """Among the responses are some that ended and some that were cut, and none goes on after its end."""
    ended = [ids[-1] in ENDS for ids in responses]
    assert 0 < sum(ended) < len(ended), "or the test would show nothing"
    assert not any(token in ENDS for ids in responses for token in ids[:-1])


@pytest.fixture
def often_ending(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """Return a tiny model with many tokens that end a text, as chat models have several, so that many responses end."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "model"
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    model.generation_config.eos_token_id = list(ENDS)
    model.save_pretrained(folder)
    load_tokenizer(str(tiny_model_folder)).save_pretrained(folder)
    return folder


def test_dpo_trains_on_what_was_sampled(often_ending: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readers = Readers(monkeypatch)
    one, _ = experiment(often_ending, tmp_path, "dpo")
    evaluate(one, mean_of(one))
    pairs = sampled_pairs(tmp_path / "run")
    check_both_kinds([*pairs["ids_a"], *pairs["ids_b"]])
    rows = zip(pairs["prompt_ids"], pairs["ids_a"], pairs["ids_b"], strict=True)
    either = {(prompt, *both) for prompt, a, b in rows for both in ((a, b), (b, a))}
    assert len(readers.seen["dpo"]) == len(pairs)
    assert readers.seen["dpo"] <= either


def test_so_do_the_reward_model_and_best_of_n(
    often_ending: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers = Readers(monkeypatch)
    one, _ = experiment(often_ending, tmp_path, "best_of_n")
    evaluate(one, mean_of(one))
    run = tmp_path / "run"
    pairs = sampled_pairs(run)
    whole = {
        side: {(*row.prompt_ids, *getattr(row, side)) for row in pairs.itertuples(index=False)}
        for side in ("ids_a", "ids_b")
    }
    assert readers.seen["reward"]
    assert {ids for row in readers.seen["reward"] for ids in row} <= whole["ids_a"] | whole["ids_b"]
    candidates = pd.read_parquet(run / "candidates.parquet")
    check_both_kinds([tuple(ids) for ids in candidates["token_ids"]])
    shown = {((*map(int, row.prompt_ids), *map(int, row.token_ids)),) for row in candidates.itertuples(index=False)}
    assert shown <= readers.seen["scored"]
    samples = pd.read_parquet(run / "samples.parquet")
    lengths = candidates.groupby("prompt", sort=False)["token_ids"].agg(lambda ids: {len(row) for row in ids})
    assert all(n in lengths[prompt] for prompt, n in zip(samples["prompt"], samples["n_tokens"], strict=True))


def test_a_reward_model_tells_an_end_from_a_cut(tiny_model_folder: Path, tmp_path: Path) -> None:
    """Its score of the same text differs with the end-of-text token; where that is the padding, it cannot (control)."""
    from transformers import AutoModelForSequenceClassification

    tokenizer = load_tokenizer(str(tiny_model_folder))
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model_folder, num_labels=1)
    cut = tokenizer("The film was great")["input_ids"]
    both = [cut, [*cut, tokenizer.eos_token_id]]
    for pad, told in ((tokenizer.pad_token, True), (tokenizer.eos_token, False)):
        tokenizer.pad_token = pad
        model.config.pad_token_id = tokenizer.pad_token_id
        folder = tmp_path / str(told)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        first, second = ClassifierGold(str(folder)).score_tokens(both)
        assert bool(abs(first - second) > 1e-6) is told


def test_recorded_responses_are_whole_and_end_once(tiny_model_folder: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model_folder))
    end = tokenizer.eos_token_id
    pairs = pd.DataFrame(
        {"prompt": ["The film"], "response_a": [" was great"], "response_b": [" was bad" + tokenizer.eos_token]}
    )
    encoded = tokens.with_token_ids(pairs, tokens.Encoder(tokenizer))
    for side, text in (("ids_a", " was great"), ("ids_b", " was bad")):
        ids = encoded[side][0]
        assert ids.count(end) == 1
        assert ids[-1] == end
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokens.with_token_ids(encoded, tokens.Encoder(tokenizer)) is encoded, "what was sampled stays"


def test_padding_is_another_token_where_there_is_one(tiny_model_folder: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model_folder))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|spare|>"]})
    for pad in (None, tokenizer.eos_token):
        tokenizer.pad_token = pad
        tokens.pad_apart_from_end(tokenizer)
        assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    tokenizer.pad_token = "<|pad|>"
    tokens.pad_apart_from_end(tokenizer)
    assert tokenizer.pad_token == "<|pad|>", "a padding of its own stays"


def test_the_training_stays_the_sampled_one_without_a_merge_across_the_seam(tiny_model_folder: Path) -> None:
    """Encoding prompt + response anew may merge tokens that were sampled apart: keeping the ids does not."""
    tokenizer = load_tokenizer(str(tiny_model_folder))
    whole = tokenizer("The film")["input_ids"]
    apart = [token for letter in "The film" for token in tokenizer(letter)["input_ids"]]
    assert len(apart) > len(whole), "the control: the same text has two encodings"
    pairs = pd.DataFrame(
        {
            **{"pair_id": ["p"], "prompt": ["x"], "response_a": ["The film"], "response_b": ["b"]},
            **{"prompt_ids": [[1]], "ids_a": [apart], "ids_b": [[2]]},
        }
    )
    labels = pd.DataFrame({"pair_id": ["p"], "chosen_is_a": [False], "soft_label": [0.9]})
    table = tokens.orient_tokens(labels, tokens.with_token_ids(pairs, tokens.Encoder(tokenizer)))
    np.testing.assert_array_equal(table["rejected_ids"][0], apart)
    np.testing.assert_array_equal(table["chosen_ids"][0], [2])
