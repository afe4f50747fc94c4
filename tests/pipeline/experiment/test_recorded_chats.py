"""Recorded conversations of several turns: through ``aggregate`` to TRL's format, and into ``compare``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.pipeline.experiment.test_chats import TURNS
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.formats.conversations import Conversation, prompt_text
from truthful_rlhf.labelers.recorded.table import read_annotations
from truthful_rlhf.pipeline.aggregate import aggregate_table
from truthful_rlhf.pipeline.cli import app
from truthful_rlhf.pipeline.models.load import load_tokenizer

SYSTEM = {"role": "system", "content": "Be brief."}
READ = "user: Is the soup good?\n\nassistant: It is.\n\nuser: And the bread?"


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def rows(n: int = 12) -> list[dict[str, Any]]:
    """Three labelers, prompts of one turn, of several, and with a system message."""
    prompts = [[{"role": "user", "content": "Is the soup good?"}], TURNS, [SYSTEM, *TURNS]]
    return [
        {
            **{"pair_id": f"p{t}", "prompt": prompts[t % 3], "labeler_id": f"l{i}", "report": 0.9 - 0.3 * i},
            **{"response_a": answer(f"a wonderful {t}"), "response_b": answer(f"terrible {t}")},
            **{"outcome": 1 if t % 2 else None},
        }
        for t in range(n)
        for i in range(3)
    ]


def write(path: Path, content: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pd.DataFrame(content).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_aggregate_keeps_the_turns(suffix: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    file = write(tmp_path / f"chats.{suffix}", rows())
    result = CliRunner().invoke(app, ["aggregate", str(file), "--out", str(out)])
    assert result.exit_code == 0, result.output + repr(result.exception)
    table = pd.read_parquet(out / "trl_preference_conversational.parquet")
    assert len(table) == 12
    for k, prompt in enumerate(table["prompt"]):
        expected: list[dict[str, str]] = rows()[3 * k]["prompt"]
        assert [dict(message) for message in prompt] == expected
    assert [dict(m) for m in table["chosen"][1]] == answer("a wonderful 1")
    plain = pd.read_parquet(out / "trl_preference.parquet")
    assert plain["prompt"][:3].tolist() == ["Is the soup good?", READ, READ]
    assert plain["chosen"][1] == "a wonderful 1"
    assert "messages" not in pd.read_parquet(out / "soft_labels.parquet")
    trl = aggregate_table(file).to_trl("conversational")
    assert trl[2]["prompt"] == [SYSTEM, *TURNS]


def test_pairs_that_differ_in_an_earlier_turn_only_are_two(tmp_path: Path) -> None:
    """Before, the last turn alone was kept."""
    other = [{"role": "user", "content": "Is the cake good?"}, *TURNS[1:]]
    without_ids = [{**row, "prompt": prompt, "pair_id": None} for prompt in (TURNS, other) for row in rows(2)[3:]]
    same = [{**row, "response_a": answer("yes"), "response_b": answer("no")} for row in without_ids]
    assert read_annotations(write(tmp_path / "a.jsonl", same)).n_pairs == 2
    again = [{**row, "prompt": TURNS} for row in same[:3]]
    assert read_annotations(write(tmp_path / "b.jsonl", again)).n_pairs == 1, "the control"
    system = [{**row, "prompt": [SYSTEM, *TURNS], "labeler_id": "x"} for row in same[:1]]
    found = read_annotations(write(tmp_path / "c.jsonl", [*again, *system]))
    assert (found.n_pairs, len(set(found.pair_ids))) == (2, 2)


def test_one_pair_with_two_histories_is_refused(tmp_path: Path) -> None:
    changed = rows(2)
    changed[4]["prompt"] = TURNS[2:]
    with pytest.raises(AnnotationError, match="row 5: pair 'p1' has another prompt or other responses"):
        read_annotations(write(tmp_path / "a.jsonl", changed))


def test_a_prompt_that_leaves_nothing_to_answer_is_refused(tmp_path: Path) -> None:
    changed = [{**row, "prompt": TURNS[:2]} for row in rows(1)]
    with pytest.raises(AnnotationError, match="row 1: prompt: its last message is the assistant's"):
        read_annotations(write(tmp_path / "a.jsonl", changed))


def test_what_a_prompt_becomes() -> None:
    assert prompt_text("a text") == "a text"
    single = prompt_text(TURNS[:1])
    assert (single, type(single)) == ("Is the soup good?", str)
    several = prompt_text([SYSTEM, *TURNS])
    assert several == READ
    assert isinstance(several, Conversation)
    assert json.loads(several.messages) == [SYSTEM, *TURNS]
    parts = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " what is it?"}]}]
    assert prompt_text(parts) == "[image] what is it?"


def test_chosen_and_rejected_that_hold_the_whole_conversation(tmp_path: Path) -> None:
    content = [
        {"annotator": who, "chosen": [*TURNS, *answer("good")], "rejected": [*TURNS, *answer("bad")]} for who in "ab"
    ]
    file = write(tmp_path / "a.jsonl", content)
    (prompt,) = aggregate_table(file, columns={"labeler_id": "annotator"}).to_trl("conversational")["prompt"]
    assert prompt == TURNS


def compare(model: Path, out: Path, file: Path, *more: str) -> Any:
    small = (
        *("prompts.n_train=8", "prompts.n_held_out=4", "sampling.max_new_tokens=3", "evaluation.n_samples=2"),
        *("rules=[mean]", "panels={honest: [{name: honest, count: 3, persona: noisy}]}", f"pairs.file={file}"),
        "policy={method: dpo, batch_size: 4}",
    )
    arguments = ["compare", "quickstart", f"model.name_or_path={model}", *small, *more, "--out", str(out)]
    return CliRunner().invoke(app, arguments)


def test_what_aggregate_writes_trains_a_chat_model_in_compare(tiny_model_folder: Path, tmp_path: Path) -> None:
    CliRunner().invoke(app, ["aggregate", str(write(tmp_path / "chats.jsonl", rows())), "--out", str(tmp_path / "a")])
    file = tmp_path / "a/trl_preference_conversational.parquet"
    result = compare(tiny_model_folder, tmp_path / "run", file, "model.chat=true")
    assert result.exit_code == 0, result.output + repr(result.exception)
    pairs = pd.read_parquet(tmp_path / "run/seed-0/pairs/pairs.parquet")
    assert sorted(pairs["prompt"].unique()) == ["Is the soup good?", READ]
    assert np.isfinite(pd.read_csv(tmp_path / "run/results.csv")["gold"]).all()
    tokenizer = load_tokenizer(str(tiny_model_folder))
    from truthful_rlhf.pipeline.models.tokens import Encoder, with_token_ids

    read = [tokenizer.decode(ids) for ids in with_token_ids(pairs, Encoder(tokenizer, chat=True))["prompt_ids"]]
    template = "user: Is the soup good?\nassistant: It is.\nuser: And the bread?\nassistant: "
    assert read[1] == template
    assert read[2] == "system: Be brief.\n" + template


def test_a_model_of_texts_does_not_take_conversations(tiny_model_folder: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "chats.jsonl", rows())
    result = compare(tiny_model_folder, tmp_path / "run", file)
    assert result.exit_code == 2, result.output
    assert "set model.chat=true" in " ".join(result.output.split())
