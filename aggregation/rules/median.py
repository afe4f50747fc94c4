"""The median of the present reports.

With fixed weights and single-peaked tastes no labeler can move the median towards its own view by lying (Moulin), but
nothing is learnt: against a biased majority the regret grows linearly.
"""

from __future__ import annotations

import numpy as np

from truthful_rlhf.aggregation.base import BoolArray, FloatArray
from truthful_rlhf.aggregation.rules.fixed import FixedRule


class Median(FixedRule):
    """Take the middle report of those present; the mean of the two in the middle if their number is even.

    Examples:
        >>> Median(4).predict_one([0.9, 0.2, 0.7, float("nan")])
        0.7
    """

    def _aggregate(self, reports: FloatArray, present: BoolArray) -> FloatArray:
        ordered = np.sort(reports, axis=1)  # NaN goes last
        n_present = present.sum(axis=1)
        rows = np.arange(len(reports))
        return 0.5 * (ordered[rows, (n_present - 1) // 2] + ordered[rows, n_present // 2])
