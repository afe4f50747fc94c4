"""The plain average: q = mean of the present reports.

Hard to beat under independent honest noise. A labeler that wants the soft label near its own view gains by
exaggerating, and against a biased majority the regret grows linearly.
"""

from __future__ import annotations

import numpy as np

from truthful_rlhf.aggregation.base import BoolArray, FloatArray
from truthful_rlhf.aggregation.rules.fixed import FixedRule


class Mean(FixedRule):
    """Average the reports of those present.

    Examples:
        >>> Mean(3).predict_one([0.9, 0.6, float("nan")])
        0.75
    """

    def _aggregate(self, reports: FloatArray, present: BoolArray) -> FloatArray:
        return np.where(present, reports, 0.0).sum(axis=1) / present.sum(axis=1)
