"""The online weighted mechanism: accuracy is paid with influence.

    pi_i <- pi_i (1 + eta (s_i - sbar)),   s_i = 1 - (r_i - y)^2,   sbar = weighted mean score of the labelers present

Weighted-score wagering (Lambert et al. 2008) used as an online learner, the WSU rule of Freeman, Pennock, Podimata and
Vaughan (2020, arXiv 2002.08837), restricted to the labelers present.

**Truthful for the next weight.** sbar contains the labeler's own score with the weight pi_i / pi(S), so the new weight
is linear in its own score with the coefficient eta pi_i (1 - pi_i / pi(S)) >= 0, and the sum of the weights does not
depend on anybody's report. The squared loss is proper, so in expectation over any belief p = P(y = 1) the new weight is


    constant + eta pi_i (1 - pi_i / pi(S)) (1 - p (1 - p) - (r_i - p)^2),

maximised by r_i = p alone as long as somebody else present has weight. Condition: *whether the pair is audited does
not depend on the own report*, or the update is weighted by the inverse of its chance (``aggregation.auditing.design``).
Nothing is claimed for labelers who look further ahead: what they can gain is measured
(``aggregation.game.incentives``). A labeler who wants the soft label near its own view gains by exaggerating under the
weighted mean; ``label`` states a weighted quantile in its place, which nobody gains by bending within the round, under
the same weights (``aggregation.rules.quantile_labels``: what is proved, for which panels).

**Regret.** With eta <= 1/2 and x_t = Lbar_t - l_it in [-1, 1], ln(1 + z) >= z - z^2 gives
0 >= ln pi_i,T+1 >= -ln N + eta sum x_t - eta^2 T_i over the T_i rounds in which i was present, so

    sum over those rounds of (Lbar_t - l_it)  <=  ln N / eta + eta T_i,

and the loss of the weighted mean q_t is at most Lbar_t (convexity). With eta = sqrt(ln N / T): 2 sqrt(T ln N).
``eta="auto"`` needs no T: ``aggregation.rules.step_size`` has the schedule and its bound. From other initial weights
pi_1, ln(1 / pi_1i) takes the place of ln N.

**Sybils.** Labelers who report the same have the same score, so their weights keep their ratio and their sum moves as
one labeler's: with u = sum of the copies' weights, u <- u (1 + eta (s - sbar)) with the same sbar. So a labeler that
splits into k accounts with identical reports, whose initial weights add up to the one's, changes no soft label and
nobody's weight. Mixing keeps this, because it goes back to the initial weights. The schedule of ``eta="auto"`` keeps it
too if another labeler has the largest initial weight, on which it depends, and nobody judges alone (two accounts would
count as an update). With *equal* weights per account the liar starts with k / (N + k - 1) in place of 1 / N. Accounts
known to belong together are put right by ``initial_weights``; for the others the price is bounded: the regret bound
against anybody else has ln(N + k - 1) in place of ln N. tests/aggregation/test_sybils.py holds all of this.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.rules.multiplicative import MultiplicativeRule, mixed
from truthful_rlhf.aggregation.rules.quantile_labels import Label, StatedLabel
from truthful_rlhf.aggregation.rules.step_size import make_schedule


class OnlineWeighted(MultiplicativeRule):
    """Weight labelers by their past accuracy, so that the belief maximises the expected next weight.

    Examples:
        >>> rule = OnlineWeighted(2, eta=0.5)
        >>> rule.predict_one([0.9, 0.3])
        0.6
        >>> rule.learn_one([0.9, 0.3], outcome=1)
        >>> rule.weights_.round(2).tolist()
        [0.56, 0.44]
        >>> OnlineWeighted(4, label="median").predict_one([0.1, 0.4, 0.6, 0.9])
        0.5
        >>> drawn = OnlineWeighted(4, label="drawn", secret=b"only the owner has this")
        >>> drawn.predict_one([0.1, 0.4, 0.6, 0.9], key="pair-7") in (0.1, 0.4, 0.6, 0.9)
        True
    """

    always_secret: ClassVar[bool] = False
    """Whether every label of the rule needs a secret."""

    def __init__(
        self,
        n_labelers: int,
        eta: float | Literal["auto"] = "auto",
        fixed_share: float = 0.0,
        initial_weights: ArrayLike | None = None,
        label: Label = "mean",
        secret: bytes | None = None,
    ) -> None:
        """Start with equal weights, or with ``initial_weights``.

        Args:
            n_labelers: N >= 1.
            eta: step size in (0, 1/2], or "auto": no horizon needed, O(sqrt(T ln N)) regret at every T.
            fixed_share: share in [0, 1) of the weight of those present that is spread over them like their initial
                weights at every update, so that a labeler that becomes good can rise again (drift). The next weight
                stays an increasing linear function of the own score, so the belief still maximises it, but it counts
                for less: influence fades, and with it what a labeler can earn by accuracy.
            initial_weights: shape ``(N,)``, finite and > 0, divided by their sum; None: equal. Accounts that belong to
                one person share one person's weight: ``[1, 1, 1/2, 1/2]`` for two persons and a third with two.
            label: what is stated under these weights, ``mean``, ``median``, ``quantile`` or ``drawn``; the weights are
                the same under all four (``aggregation.rules.quantile_labels`` has what is proved of each).
            secret: bytes that no labeler has, e.g. ``secrets.token_bytes(32)``; ``quantile`` and ``drawn`` need it, and
                a key per round. It is not saved with the rule: ``set_secret`` after reading one.

        Raises:
            ValueError: a step, share, weight or label out of range, or no secret where the label needs one.
        """
        super().__init__(n_labelers, initial_weights)
        self.eta = eta
        self.fixed_share = fixed_share
        self.initial_weights = initial_weights
        self.label = label
        self._label = StatedLabel(label, secret)
        self._schedule = make_schedule(1.0 / float(self._initial.max()), eta, fixed_share)

    def set_secret(self, secret: bytes) -> None:
        """Hand the secret over again: a rule that was saved and read comes back without it."""
        self._label = StatedLabel(self.label, secret)

    def _moved(self, weights: FloatArray, losses: FloatArray, initial: FloatArray) -> FloatArray:
        (eta,), (share,) = self._schedule.steps(self.n_updates_, 1)
        return mixed(weights * (1.0 - eta * (losses - weights @ losses / weights.sum())), share, initial)

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
        return centred_updates(reports, outcomes, *state, etas, shares, fractions, 0.0, points, soft_labels, history)
