"""The linear rule, normalised: pi_i (1 - eta l_i), divided by its weighted mean over the labelers present.

A documented variant of the online weighted mechanism and its negative control: dividing by a sum that contains the own
report makes the share slightly *not* truthful. With weight 1/4 against others who report 0, the best report is off the
belief by up to .015 at eta = .1 and .084 at eta = .5 (tests/aggregation/test_theorems.py). The regret bound of
``aggregation.rules.online_weighted`` does not carry over with the same constants: the classical bound is
(1 + eta) L_i + ln N / eta against the labeler i with total loss L_i.
"""

from __future__ import annotations

from typing import Literal

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.rules.multiplicative import MultiplicativeRule, mixed
from truthful_rlhf.aggregation.rules.step_size import make_schedule


class LinearWeighted(MultiplicativeRule):
    """Scale weights by 1 - eta l_i and normalise over those present.

    Examples:
        >>> rule = LinearWeighted(2, eta=0.5)
        >>> rule.learn_one([1.0, 0.0], outcome=1)
        >>> rule.weights_.round(4).tolist()
        [0.6667, 0.3333]
    """

    def __init__(self, n_labelers: int, eta: float | Literal["auto"] = "auto") -> None:
        """Start with equal weights; ``eta`` in (0, 1/2], or "auto": the schedule of ``aggregation.rules.step_size``."""
        super().__init__(n_labelers)
        self.eta = eta
        self._schedule = make_schedule(n_labelers, eta, fixed_share=0.0)

    def _moved(self, weights: FloatArray, losses: FloatArray, initial: FloatArray) -> FloatArray:
        (eta,), (share,) = self._schedule.steps(self.n_updates_, 1)
        moved = weights * (1.0 - eta * losses)
        return mixed(moved * (weights.sum() / moved.sum()), share, initial)

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
        from truthful_rlhf.aggregation.rules.compiled.updates import centred_updates

        etas, shares = self._schedule.steps(self.n_updates_, len(outcomes))
        state = weights, self._initial, self.n_updates_
        return centred_updates(reports, outcomes, *state, etas, shares, fractions, 1.0, points, soft_labels, history)
