"""Conversations: one template for sampling, training and evaluation, from a file of messages to an evaluated policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.pipeline.experiment.test_methods import experiment, mean_of
from tests.ppo import marked
from truthful_rlhf.pipeline.cli import app
from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.experiment.evaluation import evaluate
from truthful_rlhf.pipeline.experiment.prompts import Prompt, PromptsError, load_prompts
from truthful_rlhf.pipeline.models.load import load_tokenizer
from truthful_rlhf.pipeline.models.tokens import Encoder

TURNS = [
    {"role": "user", "content": "Is the soup good?"},
    {"role": "assistant", "content": "It is."},
    {"role": "user", "content": "And the bread?"},
]


def as_a_chat(one: Experiment, system: str | None = None) -> Experiment:
    model = one.config.model.model_copy(update={"chat": True, "system": system})
    one.config = one.config.model_copy(update={"model": model})
    return one


def write_conversations(folder: Path) -> None:
    rows = [{"prompt": [{"role": "user", "content": f"Is film {k} good?"}]} for k in range(12)]
    rows += [{"prompt": [*TURNS[:2], {"role": "user", "content": f"And film {k}?"}]} for k in range(12)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("method", marked(["dpo", "ppo", "rloo", "best_of_n", "online_dpo"]))
def test_from_messages_to_evaluation(method: str, tiny_model_folder: Path, tmp_path: Path) -> None:
    one, _ = experiment(tiny_model_folder, tmp_path, method)
    write_conversations(tmp_path)
    as_a_chat(one, system="Be brief.")
    evaluate(one, mean_of(one))
    tokenizer = load_tokenizer(str(tiny_model_folder))
    where = "online/0/pairs.parquet" if method == "online_dpo" else "pairs/pairs.parquet"
    pairs = pd.read_parquet(tmp_path / "run" / where)
    for ids in pairs["prompt_ids"]:  # the template of the fixture: "role: content" lines, then "assistant: "
        read = tokenizer.decode(ids)
        assert read.startswith("system: Be brief.\nuser: Is ")
        assert read.endswith("\nassistant: ")
    several = pairs[pairs["prompt"].str.contains("assistant: It is.", regex=False)]
    assert len(several), "labelers see what was said before"
    assert not pairs["prompt"].str.contains("Be brief").any()
    samples = pd.read_parquet(tmp_path / "run" / "samples.parquet")
    assert len(samples) == 8
    assert np.isfinite(samples["kl"]).all()


def test_a_text_is_the_users_message_and_raw_text_stays_as_it_is(tiny_model_folder: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model_folder))
    chat, raw = Encoder(tokenizer, chat=True), Encoder(tokenizer)
    assert chat.prompt("Hello") == chat.prompt([{"role": "user", "content": "Hello"}])
    assert tokenizer.decode(chat.prompt("Hello")) == "user: Hello\nassistant: "
    assert raw.prompt("Hello") == tokenizer("Hello")["input_ids"]
    assert tokenizer.decode(chat.response("Hello", "Yes")) == "Yes" + tokenizer.eos_token
    own = Encoder(tokenizer, chat=True, system="Be brief.")
    assert own.conversation("Hi")[0] == {"role": "system", "content": "Be brief."}
    given = [{"role": "system", "content": "Be long."}, *TURNS]
    assert own.conversation(given) == given, "the file's own system message stays"


def test_a_conversation_is_read_by_people_without_its_markup(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    rows: list[Any] = [{"prompt": [{"role": "system", "content": "S"}, *TURNS]}, {"prompt": TURNS[2:]}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {p.text: p for split in load_prompts(str(file), "prompt", 1, 1, np.random.default_rng(0)) for p in split}
    long = "user: Is the soup good?\n\nassistant: It is.\n\nuser: And the bread?"
    assert set(found) == {long, "And the bread?"}
    assert found[long].written == rows[0]["prompt"]
    assert Prompt("a text").written == "a text"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (TURNS[:2], "the last message of 'prompt' must be the user's"),
        ([], "the last message of 'prompt' must be the user's"),
        ([{"role": "tool", "content": "x"}], "needs a 'role'"),
        ([{"role": "user"}], "a 'content' that is text"),
        ([{"role": "user", "content": [{"type": "image"}]}], "a 'content' that is text"),
        (["Hello"], "needs a 'role'"),
        ([{"role": "user", "content": "  "}], "must be a text that is not empty"),
    ],
)
def test_what_is_no_conversation_is_named(value: Any, text: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": row}) + "\n" for row in ("fine", value)))
    with pytest.raises(PromptsError, match="row 2: ") as error:
        load_prompts(str(file), "prompt", 1, 1, np.random.default_rng(0))
    assert text in str(error.value)


def test_conversations_without_a_chat_and_a_chat_without_a_template_are_refused(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    experiment(tiny_model_folder, tmp_path, "dpo")
    write_conversations(tmp_path)
    config = str(tmp_path / "config.yaml")
    result = CliRunner().invoke(app, ["validate", config])
    assert result.exit_code != 0
    assert "set model.chat=true" in " ".join(result.output.split())
    assert CliRunner().invoke(app, ["validate", config, "model.chat=true"]).exit_code == 0
    result = CliRunner().invoke(app, ["validate", config, "model.system=Be brief."])
    assert "only a chat has a system message" in " ".join(result.output.split())
    tokenizer = load_tokenizer(str(tiny_model_folder))
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="has no chat template"):
        Encoder(tokenizer, chat=True)


def test_a_gold_reward_keeps_the_turns_apart() -> None:
    from truthful_rlhf.reward_model.gold import make_gold

    prompts, responses = ["Was it not"], [" good"]
    raw, chat = make_gold("vader"), make_gold("vader", chat=True)
    assert raw.score(prompts, responses) == chat.score(["Was it"], [" not good"])
    assert chat.score(["fine"], ["good"]) != raw.score(["fine"], ["good"]), "'finegood' is no word"
