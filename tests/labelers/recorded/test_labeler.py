from __future__ import annotations

import numpy as np
import pytest

from truthful_rlhf.labelers.pairs import Pairs
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.labeler import RecordedLabeler
from truthful_rlhf.labelers.recorded.table import read_annotations

ROWS = [
    {"pair_id": p, "prompt": "q", "response_a": f"a{p}", "response_b": f"b{p}", "labeler_id": who, "report": report}
    for p, who, report in [("p", "ann", 0.9), ("q", "ann", 0.2), ("q", "bob", 0.7)]
]


def test_it_replays_what_was_recorded_in_whatever_order_the_pair_is_shown() -> None:
    annotations = read_annotations(ROWS)
    ann, bob = (RecordedLabeler(annotations, name) for name in ("ann", "bob"))
    pairs = Pairs(["q", "p", "unseen"], ["q"] * 3, ["aq", "ap", "x"], ["bq", "bp", "y"])
    turned = Pairs(pairs.pair_id, pairs.prompt, pairs.response_b, pairs.response_a)
    np.testing.assert_array_equal(ann.belief(pairs), [0.2, 0.9, np.nan])
    np.testing.assert_array_equal(bob.report(pairs, None), [0.7, np.nan, np.nan])
    np.testing.assert_allclose(ann.belief(turned), 1.0 - ann.belief(pairs))


def test_an_unknown_labeler_is_answered_with_the_nearest() -> None:
    with pytest.raises(AnnotationError, match=r"no labeler 'anne' .did you mean 'ann'"):
        RecordedLabeler(read_annotations(ROWS), "anne")
