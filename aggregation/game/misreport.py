"""The parametric family of misreports that labelers may choose from.

A misreport acts on the log-odds of the belief: report = sigmoid(scale * logit(belief) + shift). Scale 1 and shift 0 is
the truth; scale > 1 exaggerates, 0 < scale < 1 shades towards 1/2, scale < 0 flips; shift pushes one way on every pair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.log_odds import logit, sigmoid


@dataclass(frozen=True)
class Misreport:
    """A transformation of beliefs into reports, used from round ``start`` on (honest before: a sleeper)."""

    scale: float = 1.0
    shift: float = 0.0
    start: int = 0

    @property
    def is_truthful(self) -> bool:
        """Whether every report equals the belief."""
        return self.scale == 1.0 and self.shift == 0.0

    def __call__(self, beliefs: FloatArray, first_round: int = 0) -> FloatArray:
        """Return the reports, shape ``(T,)`` as ``beliefs``; their first is round ``first_round`` of the campaign."""
        beliefs = np.asarray(beliefs, dtype=np.float64)
        if self.is_truthful:
            return beliefs.copy()
        lies = sigmoid(self.scale * logit(beliefs) + self.shift)
        rounds = first_round + np.arange(len(beliefs))
        return np.where(rounds >= self.start, lies, beliefs)
