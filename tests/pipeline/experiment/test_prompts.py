"""Prompts from any source come split, unique, and with errors that name the row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from truthful_rlhf.pipeline.experiment.prompts import PromptsError, load_prompts


def load(source: Path | str, n_train: int = 2, n_held_out: int = 2, column: str = "prompt"):
    return load_prompts(str(source), column, n_train, n_held_out, np.random.default_rng(0))


def write_rows(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_bundled_prompts_keep_their_split() -> None:
    train, held_out = load("bundled", 448, 192)
    assert len({p.text for p in train} | {p.text for p in held_out}) == 640


def test_the_same_generator_draws_the_same_prompts_and_another_does_not() -> None:
    assert load("bundled", 50, 20) == load("bundled", 50, 20)
    other = load_prompts("bundled", "prompt", 50, 20, np.random.default_rng(1))
    assert other != load("bundled", 50, 20)


def test_rows_without_a_split_are_split_without_overlap(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "p.jsonl", [{"prompt": f"opener {k}"} for k in range(10)] + [{"prompt": "opener 0"}])
    train, held_out = load(source, 6, 4)
    assert len({p.text for p in train} | {p.text for p in held_out}) == 10


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"promt": "x"}, "row 2: no key 'prompt' .did you mean 'promt'"),
        ({"prompt": "  "}, "row 2: 'prompt' must be a text that is not empty"),
        ({"prompt": 3}, "row 2: 'prompt' must be a text"),
        ({"prompt": "x", "split": "test"}, "row 2: split 'test' is not one of train, held_out"),
        (["x"], "row 2: expected an object"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, row: object, message: str) -> None:
    source = write_rows(tmp_path / "p.jsonl", [{"prompt": "fine"}, row])
    with pytest.raises(PromptsError, match=message):
        load(source)


def test_a_split_on_some_rows_is_refused_instead_of_losing_the_others(tmp_path: Path) -> None:
    """Six of ten prompts have no split: they were left out of both sides without a word."""
    rows = [{"prompt": f"opener {k}"} for k in range(6)]
    rows += [{"prompt": f"last {k}", "split": ("train", "held_out")[k % 2]} for k in range(4)]
    with pytest.raises(
        PromptsError, match=r"row 1: no split, though row 7 has one \(6 of 10 rows have none\); give every row"
    ):
        load(write_rows(tmp_path / "some.jsonl", rows))
    train, held_out = load(write_rows(tmp_path / "all.jsonl", rows[6:]))  # the control: with a split each, they load
    assert {p.text for p in train + held_out} == {f"last {k}" for k in range(4)}


def test_too_few_prompts_missing_file_and_broken_text(tmp_path: Path) -> None:
    with pytest.raises(PromptsError, match="has 448 train prompts, the config asks for 449"):
        load("bundled", 449, 1)
    with pytest.raises(PromptsError, match="does not exist"):
        load(tmp_path / "none.jsonl")
    (tmp_path / "bad.jsonl").write_bytes(b'{"prompt": "\xff"}\n')
    with pytest.raises(PromptsError, match="not valid UTF-8 JSON"):
        load(tmp_path / "bad.jsonl")
