"""How firm a judge is that was asked about one response at a time: its differences of scores need a scale.

A journal keeps such a judge's differences at one fixed scale (`KEPT_SCALE`), whatever else was in the batch. When the
reports are written they are scaled to the spread of all its differences, and where outcomes are known by the factor
that makes these most probable, under a prior that keeps few outcomes from saying much (`aggregation.calibration`).
The factor of a pair with an outcome is fitted to other pairs' outcomes (`aggregation.auditing.folds`), so that no
report has seen its own. A factor is above 0: no report changes sides.
"""

from __future__ import annotations

import numpy as np

from truthful_rlhf.aggregation.auditing.folds import held_out_labels
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.calibration import sharpness
from truthful_rlhf.aggregation.log_odds import logit, sigmoid
from truthful_rlhf.labelers.judges.ask import spread_scale

KEPT_SCALE = 0.1
"""Of the differences in a journal: small, so that none of them is rounded to certainty."""


def scaled(kept: FloatArray, outcome: FloatArray) -> FloatArray:
    """Return reports from the beliefs that a journal keeps, shape ``(n,)``.

    Args:
        kept: sigmoid(`KEPT_SCALE` times the difference), NaN: not judged, shape ``(n,)``.
        outcome: 1 A better, 0 B better, NaN not known, shape ``(n,)``.

    Examples:
        >>> kept = sigmoid(KEPT_SCALE * np.array([8.0, -8.0] * 20))
        >>> [float(scaled(kept, y)[0].round(2)) for y in (np.full(40, np.nan), np.array([1.0, 0.0] * 20))]
        [0.75, 0.96]
    """
    judged = ~np.isnan(kept)
    difference = logit(kept[judged]) / KEPT_SCALE
    by_spread = sigmoid(spread_scale(difference) * difference)

    def labels(revealed: FloatArray) -> FloatArray:
        return sigmoid(sharpness(by_spread, revealed) * logit(by_spread))

    known = outcome[judged]
    reports = np.full(len(kept), np.nan)
    reports[judged] = np.where(np.isnan(known), labels(known), held_out_labels(labels, known))
    return reports
