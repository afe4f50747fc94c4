"""A person (or a judge) whose judgments were recorded, as a labeler like any other."""

from __future__ import annotations

from typing import Any

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.names import nearest
from truthful_rlhf.labelers.pairs import Pairs
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.table import Annotations


class RecordedLabeler:
    """Replay one labeler of an annotation table.

    What a person believed is not known; what it reported is. The recorded report serves as the belief, so that any
    strategy can be tried on real data ("what if this expert had exaggerated?"). Pairs that it never judged are NaN.

    Args:
        annotations: the table.
        labeler_id: one of its labelers.

    Examples:
        >>> from truthful_rlhf.labelers.recorded.table import read_annotations
        >>> rows = [{"pair_id": "p1", "prompt": "2+2?", "response_a": "4", "response_b": "5",
        ...          "labeler_id": "ann", "report": 0.9}]
        >>> ann = RecordedLabeler(read_annotations(rows), "ann")
        >>> ann.belief(Pairs(["p1", "p2"], ["2+2?", "?"], ["4", "x"], ["5", "y"]))
        array([0.9, nan])
        >>> ann.belief(Pairs(["p1"], ["2+2?"], ["5"], ["4"]))  # shown the other way round
        array([0.1])
    """

    def __init__(self, annotations: Annotations, labeler_id: str) -> None:
        if labeler_id not in annotations.labeler_ids:
            raise AnnotationError(
                f"{annotations.source}: no labeler {labeler_id!r}{nearest(labeler_id, annotations.labeler_ids)}"
            )
        self.labeler_id = labeler_id
        own = np.flatnonzero(annotations.labeler == annotations.labeler_ids.index(labeler_id))
        rounds = annotations.round_of_report[own]
        self._reports = {
            annotations.pair_ids[t]: float(r) for t, r in zip(rounds, annotations.report[own], strict=True)
        }
        first = annotations.texts.take(annotations.text_row[rounds]).column("response_a").to_pylist()
        self._first_response = dict(zip(self._reports, first, strict=True))

    def belief(self, pairs: Pairs) -> FloatArray:
        """Return the recorded probability that A is better, shape ``(n,)``, NaN where it did not judge."""
        reports = np.array([self._reports.get(pair_id, np.nan) for pair_id in pairs.pair_id], dtype=np.float64)
        for k, (pair_id, a, b) in enumerate(zip(pairs.pair_id, pairs.response_a, pairs.response_b, strict=True)):
            first = self._first_response.get(pair_id, a)
            if first != a and first == b:
                reports[k] = 1.0 - reports[k]
        return np.round(reports, 12)  # 1 - 0.9 is 0.1 for people

    def report(self, pairs: Pairs, context: Any = None) -> FloatArray:
        """Return the recorded reports; the context of the mechanism cannot change the past."""
        return self.belief(pairs)
