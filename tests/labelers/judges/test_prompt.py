"""Two presentation orders make one belief: theorems on hand-made judges."""

from __future__ import annotations

import numpy as np
import pytest

from truthful_rlhf.labelers.judges.prompt import (
    MAX_CHARACTERS,
    belief_from_orders,
    both_orders,
    judge_messages,
    position_bias,
)
from truthful_rlhf.labelers.pairs import Pairs

PAIRS = Pairs(["p1", "p2"], ["q1", "q2"], ["a1", "a2"], ["b1", "b2"])


def test_every_pair_is_shown_in_both_orders() -> None:
    assert both_orders(PAIRS) == [
        ("q1", "a1", "b1"),
        ("q2", "a2", "b2"),
        ("q1", "b1", "a1"),
        ("q2", "b2", "a2"),
    ]


def test_a_judge_of_content_has_no_position_bias() -> None:
    # it prefers A of the first pair with 0.9 and B of the second with 0.7, wherever they are shown
    first = np.array([0.9, 0.3, 0.1, 0.7])
    np.testing.assert_allclose(belief_from_orders(first), [0.9, 0.3])
    assert position_bias(first) == pytest.approx(0.0)


@pytest.mark.parametrize("favoured", [1.0, 0.0])
def test_a_judge_of_places_has_no_opinion(favoured: float) -> None:
    first = np.full(4, favoured)
    np.testing.assert_allclose(belief_from_orders(first), [0.5, 0.5])
    assert position_bias(first) == pytest.approx(favoured - 0.5)


def test_one_order_alone_would_be_position_bias_so_it_counts_as_not_judged() -> None:
    first = np.array([0.9, np.nan, 0.1, 0.7])
    np.testing.assert_allclose(belief_from_orders(first), [0.9, np.nan])
    assert position_bias(first) == pytest.approx(0.0)
    assert np.isnan(position_bias(np.full(4, np.nan)))


def test_messages_hold_the_persona_and_clipped_clean_texts() -> None:
    system, user = judge_messages("You like cats.", ("q", "x" * 5000, "<end>y"), lambda s: s.replace("<end>", ""))
    assert system == {"role": "system", "content": "You like cats."}
    assert user["content"].count("x") == MAX_CHARACTERS
    assert "<end>" not in user["content"]
    assert [m["role"] for m in judge_messages("", ("q", "a", "b"))] == ["user"]
