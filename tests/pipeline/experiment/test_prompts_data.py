"""The bundled prompts are balanced, neutral and leak nothing from one split into the other."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np

from truthful_rlhf import pipeline
from truthful_rlhf.reward_model.gold import VaderGold

ROWS = [
    json.loads(line)
    for line in (Path(pipeline.__file__).parent / "data" / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
]


def similarity(first: str, second: str) -> float:
    """Share of the distinct words of two prompts that stand in both (Jaccard)."""
    a, b = set(first.lower().split()), set(second.lower().split())
    return len(a & b) / len(a | b)


def test_every_topic_has_the_same_share_of_both_splits() -> None:
    counts = Counter((row["topic"], row["split"]) for row in ROWS)
    assert len(ROWS) == 640
    assert set(counts.values()) == {28, 12}
    assert len({topic for topic, _ in counts}) == 16


def test_prompts_are_short_openers_that_a_model_can_continue() -> None:
    for row in ROWS:
        assert 4 <= len(row["prompt"].split()) <= 14, row
        assert row["prompt"] == row["prompt"].strip()
        assert row["prompt"][-1].isalpha(), row


def test_prompts_are_neutral_so_the_response_decides_the_gold_reward() -> None:
    gold = VaderGold().score([row["prompt"] for row in ROWS], [""] * len(ROWS))
    assert np.abs(gold).max() <= 0.35
    for split in ("train", "held_out"):
        assert abs(gold[[row["split"] == split for row in ROWS]].mean()) <= 0.03


def test_no_held_out_prompt_resembles_a_training_prompt() -> None:
    train = [row["prompt"] for row in ROWS if row["split"] == "train"]
    for row in ROWS:
        if row["split"] == "held_out":
            closest = max(train, key=lambda prompt: similarity(prompt, row["prompt"]))
            assert similarity(closest, row["prompt"]) < 0.7, (row["prompt"], closest)
    assert similarity("The soup was cold and", "The soup was hot and") >= 0.6  # the measure would see a twin
