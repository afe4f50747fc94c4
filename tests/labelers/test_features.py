"""Features order texts whose order is beyond dispute, and their differences have one unit."""

from __future__ import annotations

import time

import numpy as np
import pytest

from truthful_rlhf.labelers import Pairs
from truthful_rlhf.labelers.features import FEATURES, normalised_difference, raw_difference, root_mean_square

ORDERED = {
    "length": ("Yes.", "Yes, and here is why it is so."),
    "formality": ("Yeah, it's totally cool, guys!", "It is an excellent result."),
    "readability": ("Incomprehensible institutional considerations predominate.", "The cat sat on the mat. It slept."),
    "hedging": ("It will rain.", "Perhaps it might rain, I think."),
    "politeness": ("No.", "Thank you, you are very welcome."),
    "structure": ("one two", "Here:\n- one\n- two\n3. three"),
}


def make_pairs(texts_a: list[str], texts_b: list[str]) -> Pairs:
    n = len(texts_a)
    return Pairs([str(k) for k in range(n)], ["?"] * n, texts_a, texts_b)


def test_every_feature_is_tested() -> None:
    assert set(ORDERED) == set(FEATURES)


@pytest.mark.parametrize("name", FEATURES)
def test_orders_clear_cases(name: str) -> None:
    low, high = ORDERED[name]
    assert FEATURES[name](low) < FEATURES[name](high)


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize(
    "text", ["", " \n", "!?.", "日本語のテキスト", "ein Wörtchen", "\x00\ud800", "<b>&amp;</b>", "-" * 5000]
)
def test_every_text_has_a_finite_value(name: str, text: str) -> None:
    assert np.isfinite(FEATURES[name](text))


def test_flesch_of_a_hand_count() -> None:
    """Six words of one syllable in one sentence: 206.835 - 1.015 * 6 - 84.6 * 1."""
    assert FEATURES["readability"]("The cat sat on the mat.") == pytest.approx(206.835 - 6.09 - 84.6)


def test_hedging_is_a_share() -> None:
    assert FEATURES["hedging"]("Maybe it is so, maybe not.") == pytest.approx(2 / 6)


@pytest.mark.parametrize("name", FEATURES)
def test_differences_have_unit_size_and_flip_with_the_order(name: str) -> None:
    low, high = ORDERED[name]
    pairs = make_pairs([low, high, low, high], [high, low, low, low])
    difference = normalised_difference(name, pairs)
    assert root_mean_square(difference) == pytest.approx(1.0)
    swapped = normalised_difference(name, make_pairs(list(pairs.response_b), list(pairs.response_a)))
    np.testing.assert_array_equal(swapped, -difference)
    assert difference[2] == 0.0


def test_a_feature_that_never_varies_tells_nothing_apart() -> None:
    np.testing.assert_array_equal(normalised_difference("length", make_pairs(["a b", "c"], ["d e", "f"])), [0.0, 0.0])


def test_gold_needs_gold() -> None:
    with pytest.raises(ValueError, match="needs pairs with gold rewards"):
        raw_difference("gold", make_pairs(["a"], ["b"]))


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("unit", ["a'", "- ", "i think", ".", ".x", "1", "\n ", "\t", "e"])
def test_hostile_texts_take_linear_time(name: str, unit: str) -> None:
    """Half a megabyte of near-matches and an end that fails them: a quadratic pattern would take minutes."""
    text = unit * (500_000 // len(unit)) + "x"
    start = time.perf_counter()
    FEATURES[name](text)
    assert time.perf_counter() - start < 5.0
