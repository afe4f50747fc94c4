"""The online weighted mechanism: accuracy is paid with influence.

With squared loss l_i = (r_i - y)^2 and score s_i = 1 - l_i, a round among the present labelers S is aggregated as

    q = sum_{i in S} pi_i r_i / pi(S),                       stated before the outcome y is used,

and on a revealed outcome, with the weighted mean score sbar = sum_{i in S} pi_i s_i / pi(S),

    w_i = pi_i (1 + eta_t (s_i - sbar))                      i in S; absent labelers keep their weight.

This is weighted-score wagering (Lambert et al. 2008) used as an online learner (WSU, arXiv 2002.08837), restricted to
the labelers present (sleeping experts).

*Simplex.* sum_S w_i = pi(S) + eta_t (sum_S pi_i s_i - pi(S) sbar) = pi(S); and w_i > 0 since |s_i - sbar| <= 1 and
eta <= 1/2.

*Truthful for the next weight.* As a function of i's own report, w_i = const + eta_t pi_i (1 - pi_i / pi(S)) s_i, and
the coefficient is positive unless i is alone. The squared score is strictly proper, so reporting the belief strictly
maximises the expected next weight, whatever the others report. This is exact for the next round's weight only.

*Regret, constant eta, all present.* With x_t = Lbar_t - l_it in [-1, 1] and ln(1 + z) >= z - z^2 for z >= -1/2,
0 >= ln w_i >= -ln N + eta sum x_t - eta^2 T, so sum x_t <= ln N / eta + eta T; q's loss is at most the weighted mean
loss Lbar_t by convexity. With absences the same holds per labeler over the rounds in which it was present.

*Anytime step size* (``eta="auto"``). eta_t = min(1/2, c sqrt(ln N / t)) over the revealed rounds t, followed by

    pi_i <- a w_i + (1 - a) pi(S) / |S|,      a = eta_{t+1} / eta_t <= 1,     i in S.

Being affine and increasing in w_i, with a fixed in advance, it keeps the truthfulness above. Regret, all present: let
Psi_t = ln(N pi_i) / eta_t. By concavity ln pi_i >= a ln w_i + (1 - a) ln(1/N), hence Psi_{t+1} >= ln(N w_i) / eta_t
>= Psi_t + x_t - eta_t, so sum x_t <= Psi_{T+1} + sum eta_t <= ln N / eta_{T+1} + sum_t eta_t
<= 2 ln N + (1/c) sqrt((T+1) ln N) + 2c sqrt(T ln N), where 2 ln N stands in while the cap of 1/2 binds.
"""

from __future__ import annotations

import numpy as np

from aggregation.base import NOTHING_KNOWN, FloatArray, check_outcome, check_round, uniform

LARGEST_ETA = 0.5
ANYTIME_SCALE = 1.0


class OnlineWeighted:
    """Weight labelers by their past accuracy, so that the expected next weight is best served by honest reports.

    Args:
        n_labelers: N >= 1.
        eta: step size in (0, 1/2], used as it is; or ``"auto"``, an anytime schedule that needs no horizon.
        fixed_share: in [0, 1): after every update, this share of the present labelers' weight is spread evenly over
            them, so that a labeler can recover when it improves (drift). It costs incentive: influence earned by
            accuracy decays, and with it what a labeler who looks further ahead loses by lying.

    Attributes:
        weights_: influence of each labeler, shape ``(N,)``, on the simplex.
        n_revealed_: revealed rounds learned from.

    References:
        WSU: arXiv 2002.08837. The derivations are in this module's docstring.

    >>> rule = OnlineWeighted(2, eta=0.5)
    >>> rule.learn_one(np.array([0.9, 0.1]), 1.0)
    >>> rule.weights_
    array([0.6, 0.4])
    >>> rule.predict_one(np.array([0.8, 0.2])).__round__(2)
    0.56
    """

    def __init__(self, n_labelers: int, eta: float | str = "auto", fixed_share: float = 0.0) -> None:
        """Make the mechanism with equal weights."""
        if eta != "auto" and not (isinstance(eta, int | float) and 0.0 < eta <= LARGEST_ETA):
            raise ValueError(f'eta must be "auto" or a number in (0, {LARGEST_ETA}], got {eta!r}')
        if not 0.0 <= fixed_share < 1.0:
            raise ValueError(f"fixed_share must be in [0, 1), got {fixed_share!r}")
        self.n_labelers = n_labelers
        self.eta = eta
        self.fixed_share = fixed_share
        self.weights_ = uniform(n_labelers)
        self.n_revealed_ = 0

    def predict_one(self, reports: FloatArray) -> float:
        """Return the weighted mean of the present reports; 0.5 where nobody present has weight."""
        row = check_round(reports, self.n_labelers)
        present = ~np.isnan(row)
        total = self.weights_[present].sum()
        return float(np.dot(self.weights_[present], row[present]) / total) if total > 0 else NOTHING_KNOWN

    def learn_one(self, reports: FloatArray, outcome: float) -> None:
        """Move weight from the present labelers who scored below their mean to those above; NaN: nothing."""
        row = check_round(reports, self.n_labelers)
        if np.isnan(check_outcome(outcome)):
            return
        eta = self.eta_at(self.n_revealed_ + 1)
        kept = (1.0 - self.fixed_share) * self.eta_at(self.n_revealed_ + 2) / eta
        self.n_revealed_ += 1
        present = ~np.isnan(row)
        total = self.weights_[present].sum()
        if total <= 0:
            return
        scores = 1.0 - (row[present] - outcome) ** 2
        mean_score = np.dot(self.weights_[present], scores) / total
        moved = self.weights_[present] * (1.0 + eta * (scores - mean_score))
        weights = self.weights_.copy()
        weights[present] = kept * moved + (1.0 - kept) * total / present.sum()
        self.weights_ = weights / weights.sum()

    def eta_at(self, revealed: int) -> float:
        """Return the step size of the given revealed round, counted from 1."""
        if isinstance(self.eta, str):
            return min(LARGEST_ETA, ANYTIME_SCALE * float(np.sqrt(np.log(max(2, self.n_labelers)) / revealed)))
        return float(self.eta)
