"""The mean without the extremes: a compromise between mean and median."""

from __future__ import annotations

from numbers import Real

import numpy as np

from truthful_rlhf.aggregation.base import BoolArray, FloatArray
from truthful_rlhf.aggregation.rules.fixed import FixedRule


class TrimmedMean(FixedRule):
    """Average the present reports without the lowest and the highest ones.

    Of m reports, floor(trim * m) are dropped at each end.

    Examples:
        >>> TrimmedMean(5, trim=0.2).predict_one([0.0, 0.5, 0.6, 0.7, 1.0])
        0.6
    """

    def __init__(self, n_labelers: int, trim: float = 0.2) -> None:
        """Take a panel.

        Args:
            n_labelers: N >= 1.
            trim: share of the reports dropped at each end, in [0, 0.5); 0 is the mean.
        """
        super().__init__(n_labelers)
        if not isinstance(trim, Real) or not 0.0 <= trim < 0.5:
            raise ValueError(f"trim must be in [0, 0.5), got {trim!r}")
        self.trim: float = trim

    def _aggregate(self, reports: FloatArray, present: BoolArray) -> FloatArray:
        ordered = np.sort(reports, axis=1)  # NaN goes last
        n_present = present.sum(axis=1, keepdims=True)
        # 1e-9: 0.3 * 10 is 2.9999999999999996 in floating point, and three reports are meant
        dropped = np.floor(self.trim * n_present + 1e-9).astype(np.int64)
        place = np.arange(reports.shape[1])
        kept = (place >= dropped) & (place < n_present - dropped)
        return np.where(kept, ordered, 0.0).sum(axis=1) / kept.sum(axis=1)
