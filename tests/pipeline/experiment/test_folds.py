"""Folds of prompts: what contains one another stays together, every verdict is held out once, and none is looked at."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from truthful_rlhf.pipeline.experiment.context import N_FOLDS
from truthful_rlhf.pipeline.experiment.folds import _contained, _stands_at, deal_folds, prompt_groups

FIRST = "Compose an engaging travel blog post about a recent trip to Hawaii."
SECOND = f"user: {FIRST}\n\nassistant: Aloha!\n\nuser: Rewrite it."


def test_turns_of_a_conversation_are_one_group() -> None:
    third = f"{SECOND}\n\nassistant: Done.\n\nuser: Shorter."
    assert prompt_groups([FIRST, "Something else that is long enough.", SECOND, third]).tolist() == [0, 1, 0, 0]


def test_case_and_spaces_do_not_count() -> None:
    assert prompt_groups(["Name  a TREE", "name a tree", "Name a fish"]).tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("inner", "outer", "together"),
    [("art", "What is art?", True), ("art", "Start here", False), ("Why?", "Why? Because.", True), ("2", "12", False)],
)
def test_a_part_of_a_word_is_no_prompt(inner: str, outer: str, together: bool) -> None:
    assert (len(set(prompt_groups([inner, outer]).tolist())) == 1) == together


words = st.text("ab ", min_size=1, max_size=40).map(lambda text: " ".join(text.split())).filter(bool)


@settings(max_examples=60, deadline=None)
@given(st.lists(words, min_size=1, max_size=8, unique=True))
def test_the_search_finds_what_looking_everywhere_finds(texts: list[str]) -> None:
    everywhere = {
        (i, o)
        for i, inner in enumerate(texts)
        for o, outer in enumerate(texts)
        if i != o and any(_stands_at(inner, outer, place) for place in range(len(outer)))
    }
    assert set(_contained(texts)) == everywhere


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=80), st.integers(0, 5))
def test_every_verdict_is_held_out_once_with_its_whole_group(pairs: list[tuple[int, bool]], seed: int) -> None:
    groups = np.unique([group for group, _ in pairs], return_inverse=True)[1]
    known = np.array([verdict for _, verdict in pairs])
    folds = deal_folds(groups, known, np.random.default_rng(seed))
    assert ((folds[known] >= 0) & (folds[known] < N_FOLDS)).all()
    for group in set(groups.tolist()):
        of_group = folds[groups == group]
        assert len(set(of_group.tolist())) == 1
        assert (of_group[0] >= 0) == known[groups == group].any()
    sizes = np.bincount(folds[known], minlength=N_FOLDS)
    largest = np.bincount(groups, weights=known).max()
    assert sizes.max() - sizes.min() <= max(1, largest)


def test_another_seed_deals_otherwise_and_the_same_one_does_not() -> None:
    groups, known = np.arange(40), np.ones(40, dtype=bool)
    first, same, other = (deal_folds(groups, known, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert (first == same).all()
    assert (first != other).any()
