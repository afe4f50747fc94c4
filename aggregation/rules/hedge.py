"""Hedge: pi_i exp(-eta l_i), scaled so that the labelers present keep their joint weight.

The squared loss on [0, 1] is exp-concave for eta <= 1/2 (eta (2 (q - y))^2 <= 2), so with all present the weighted mean
has regret at most ln N / eta = 2 ln N at the default: constant, where the truthful mechanism pays sqrt(T). The price is
the incentive: normalised exponentials are not linear in the own score, and the best report for the next share is off
the belief (at eta = .5, with weight 1/10 against others who report 0, by up to .125;
tests/aggregation/test_theorems.py).
"""

from __future__ import annotations

import sys
from numbers import Real

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.rules.multiplicative import SMALLEST_WEIGHT, MultiplicativeRule


class Hedge(MultiplicativeRule):
    """Scale weights by exp(-eta l_i); least regret, no exact incentive property.

    Examples:
        >>> rule = Hedge(2, eta=0.5)
        >>> rule.learn_one([1.0, 0.0], outcome=1)
        >>> rule.weights_.round(4).tolist()
        [0.6225, 0.3775]
    """

    def __init__(self, n_labelers: int, eta: float = 0.5) -> None:
        """Start with equal weights; ``eta`` > 0, up to 1/2 for the bound above (up to 2 is mixable)."""
        super().__init__(n_labelers)
        if not isinstance(eta, Real) or not 0.0 < eta <= sys.float_info.max:
            raise ValueError(f"eta must be a finite number > 0, got {eta!r}")
        self.eta: float = eta

    def _moved(self, weights: FloatArray, losses: FloatArray, initial: FloatArray) -> FloatArray:
        moved = weights * np.exp(-self.eta * losses)
        return moved * (weights.sum() / moved.sum()) + SMALLEST_WEIGHT

    def _compiled(
        self,
        reports: FloatArray,
        outcomes: FloatArray,
        weights: FloatArray,
        fractions: FloatArray,
        points: FloatArray,
        soft_labels: FloatArray,
        history: FloatArray,
    ) -> tuple[int, int]:
        from truthful_rlhf.aggregation.rules.compiled.updates import exponential_updates

        state = weights, fractions, float(self.eta), self.n_updates_
        return exponential_updates(reports, outcomes, *state, soft_labels, history)
