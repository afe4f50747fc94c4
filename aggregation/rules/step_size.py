"""Step sizes of the multiplicative rules: a constant, or a schedule that needs no horizon.

**Why not simply eta_t = sqrt(ln N / t).** The log-weights add up eta_t * (advantage in round t), so early rounds keep
more influence than later ones. A labeler that is worse for t0 rounds at a large step and better from then on is still
buried when it has made up for its losses: at steps that fall like 1 / sqrt(t) the regret against it grows linearly.

**The schedule.** Count the rounds in which weights can move (outcome revealed, two labelers present). Epoch
k = 1, 2, ... has n_k = n_1 4^(k-1) of them with the step eta_k = 2^-k, where n_1 = ceil(8 L) and L = ln(N / a). The
last update of an epoch mixes the weights of the labelers present with their mean: pi <- (1 - a) pi + a mean, with
a = 0.1 (from unequal initial weights: with their joint weight, spread like these). So knowledge is kept, and with all
present nobody starts an epoch below a / N. With unequal initial weights nobody starts it below a times its own initial
weight w; then L = ln(1 / (a w)).

**Bound** (all present, any reports and outcomes, no horizon). With x_t = Lbar_t - l_it in [-1, 1] and
ln(1 + z) >= z - z^2 for |z| <= 1/2, n rounds of an epoch in which labeler i starts with the weight p >= a / N give

    0 >= ln p + sum ln(1 + eta_k x_t) >= ln p + eta_k sum x_t - eta_k^2 n,   hence   sum x_t <= L / eta_k + eta_k n

(the mixing comes after the last of these factors). A complete epoch costs at most 3 2^k L + 2^(k-2), where the last
term is the rounding of n_1. After m >= 1 complete epochs and n rounds of the next, with u = n / (4^m L),

    regret <= L 2^m (8 - 6 2^-m + u / 2) + 2^m / 2,          T >= L 4^m (8/3 (1 - 4^-m) + u),

so regret <= 4.9 sqrt(T L) + sqrt(T) for all T >= n_1: the ratio is largest at u = 0 and m to infinity, 8 / sqrt(8/3).
Before that it is at most ln N / eta_1 + eta_1 T. ``regret_bound`` returns the sum over epochs. The loss of q_t is at
most Lbar_t because the squared loss is convex. The known-horizon bound 2 sqrt(T ln N) needs eta = sqrt(ln N / T).

**Incentives.** The step does not depend on reports, and mixing is an increasing linear function of a labeler's updated
weight, so the expected next weight is still maximised by the belief, in every round. With absences, labelers that were
away at the end of an epoch are not mixed (an absent labeler keeps its weight): the bound then has the labeler's own
-ln pi at the start of each epoch in place of L.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Literal, Protocol

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray, IntArray

LARGEST_STEP = 0.5
MIXED_IN = 0.1


class Schedule(Protocol):
    """Step sizes and mixing shares of the updates, by their number."""

    def steps(self, first: int, count: int) -> tuple[FloatArray, FloatArray]:
        """Return steps and mixing shares of the ``count`` updates from number ``first`` (from 0), ``(count,)`` each."""
        ...


@dataclass(frozen=True)
class ConstantStep:
    """The same step and the same mixing share in every update."""

    eta: float
    fixed_share: float = 0.0

    def steps(self, first: int, count: int) -> tuple[FloatArray, FloatArray]:
        """Return the constants, shape ``(count,)`` each."""
        return np.full(count, self.eta), np.full(count, self.fixed_share)


class AnytimeStep:
    """The schedule of the module's docstring."""

    def __init__(self, n_labelers: float, fixed_share: float = 0.0) -> None:
        """Prepare the schedule for N labelers, with an additional mixing share in every update.

        With unequal initial weights N is 1 / the largest of them: the number of labelers if all had it.
        """
        self.fixed_share = fixed_share
        self.log_ratio = math.log(n_labelers / MIXED_IN)
        self.first_epoch = math.ceil(8.0 * self.log_ratio)

    def _epoch(self, updates: IntArray) -> IntArray:
        """Return the epoch k = 1, 2, ... of each update: k - 1 complete epochs end at n_1 (4^(k-1) - 1) / 3."""
        ends = self.first_epoch * (4 ** np.arange(1, 28, dtype=np.int64) - 1) // 3
        return 1 + np.searchsorted(ends, updates, side="right")

    def steps(self, first: int, count: int) -> tuple[FloatArray, FloatArray]:
        """Return steps 2^-k, and mixing shares that are ``MIXED_IN`` in the last update of an epoch."""
        epochs = self._epoch(np.arange(first, first + count + 1, dtype=np.int64))
        shares = np.where(epochs[1:] > epochs[:-1], max(MIXED_IN, self.fixed_share), self.fixed_share)
        return 0.5 ** epochs[:-1].astype(np.float64), shares


def regret_bound(n_labelers: int, n_updates: int) -> float:
    """Return the proven bound on the regret of ``eta="auto"`` after ``n_updates`` updates with all present.

    Examples:
        >>> round(regret_bound(10, 100_000) / (100_000 * math.log(10)) ** 0.5, 2)
        5.66
    """
    schedule = AnytimeStep(n_labelers)
    bound, left, length, eta, log_ratio = 0.0, n_updates, schedule.first_epoch, 0.5, math.log(n_labelers)
    while left > 0:
        played = min(left, length)
        bound += log_ratio / eta + eta * played
        left, length, eta, log_ratio = left - played, 4 * length, eta / 2.0, schedule.log_ratio
    return bound


def make_schedule(n_labelers: float, eta: float | Literal["auto"], fixed_share: float) -> Schedule:
    """Return the schedule that the options of a rule describe, or raise ``ValueError``.

    Args:
        n_labelers: 1 / (the largest initial weight): N where they are equal.
        eta: the step size of every update, in (0, 1/2], or ``"auto"``.
        fixed_share: part of the weight that every update mixes in, in [0, 1).
    """
    if not isinstance(fixed_share, Real) or not 0.0 <= fixed_share < 1.0:
        raise ValueError(f"fixed_share must be in [0, 1), got {fixed_share!r}")
    if eta == "auto":
        return AnytimeStep(n_labelers, fixed_share)
    if not isinstance(eta, Real) or not 0.0 < eta <= LARGEST_STEP:
        raise ValueError(f"eta must be 'auto' or a number in (0, 0.5], got {eta!r}")
    return ConstantStep(float(eta), fixed_share)
