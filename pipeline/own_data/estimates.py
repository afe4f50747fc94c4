"""Estimates on held-out verdicts: means over pairs and seeds, their intervals, and whether a difference was shown.

**Interval.** Pairs of one group of prompts are not independent, and neither are the trainings of one seed: groups and
seeds are resampled, each with replacement and crossed (Owen, arXiv 0712.1111), the same ones for all conditions. With
one seed the interval covers the choice of prompts and not the training. A bootstrap of ten hits in ten, or of two
policies that agreed on every verdict, would have no width. So an interval for a bounded quantity takes pseudo-verdicts
among the groups, as the best simple intervals for shares do: two at each end for a share (Agresti and Coull 1998), half
of one at each end for a paired difference (Agresti and Min 2005). The estimate itself is without them.

**Shown.** A percentile interval from few verdicts on which two policies differ is too narrow, and the best of several
rules is often best by luck. So a difference counts as shown if the sign-flip test over groups of prompts finds it:
where two policies are equally good, the difference of every group is as likely to have the other sign (Fisher's
randomisation test; exact up to the draw of the flips). Its p-values are adjusted for the number of rules by Holm's
method (1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray, IntArray
from truthful_rlhf.aggregation.statistics import hits, percentile_interval
from truthful_rlhf.aggregation.statistics.scores import SMALLEST_CHANCE

Pseudo = Sequence[tuple[float, float]]
SHARE: Pseudo = ((0.0, 1.0), (0.0, 1.0), (1.0, 1.0), (1.0, 1.0))
DIFFERENCE: Pseudo = ((-1.0, 0.5), (1.0, 0.5))
"""Pseudo-verdicts for values in [0, 1] and for paired differences of such: value and weight."""
N_RESAMPLES = 2000
N_FLIPS = 20_000
LEVEL = 0.05


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdicts:
    """The verdicts that were held out, each once per seed.

    Attributes:
        outcome: 1 A better, 0 B better, shape ``(n,)``.
        weight: what each counts for, shape ``(n,)``, > 0.
        group: of its prompt, shape ``(n,)``, in 0 to the number of groups - 1.
    """

    outcome: FloatArray
    weight: FloatArray
    group: IntArray

    @property
    def n_groups(self) -> int:
        """Number of groups of prompts."""
        return int(self.group.max()) + 1

    def hits(self, predicted: FloatArray) -> FloatArray:
        """Return 1 where a prediction is on the verdict's side, 1/2 where it takes none; any shape ``(..., n)``."""
        return hits(predicted, np.broadcast_to(self.outcome, predicted.shape))

    def log_losses(self, predicted: FloatArray) -> FloatArray:
        """Return -log of the chance that was given to each verdict, in nats, in the shape of ``predicted``."""
        chance = np.where(self.outcome == 1.0, predicted, 1.0 - predicted)
        result: FloatArray = -np.log(np.maximum(chance, SMALLEST_CHANCE))
        return result

    def mean(self, values: FloatArray) -> float:
        """Return the weighted mean over verdicts, and over seeds; values of shape ``(seeds, n)``."""
        return float(np.average(values.mean(axis=0), weights=self.weight))

    def resampled(self, values: FloatArray, pseudo: Pseudo = ()) -> FloatArray:
        """Return the mean of every resample of groups and seeds, shape ``(N_RESAMPLES,)``; the same ones every time.

        Args:
            values: shape ``(seeds, n)``.
            pseudo: value and weight of further groups, in verdicts of average weight.
        """
        sums = np.array([np.bincount(self.group, self.weight * row, self.n_groups) for row in values])
        sizes = np.bincount(self.group, self.weight, self.n_groups)
        if pseudo:
            end, size = np.array(pseudo).T
            size = size * self.weight.mean()
            sums = np.hstack([sums, np.tile(end * size, (len(values), 1))])
            sizes = np.append(sizes, size)
        counts, seeds = _times(len(sizes), 0), _times(len(values), 1) / len(values)
        total = np.maximum(counts @ sizes, SMALLEST_CHANCE)
        result: FloatArray = ((counts @ sums.T) * seeds).sum(axis=1) / total
        return result

    def interval(self, values: FloatArray, pseudo: Pseudo = ()) -> Interval:
        """Return the mean of values of shape ``(seeds, n)`` with its interval, and `SHARE` or `DIFFERENCE` in it.

        Args:
            values: shape ``(seeds, n)``.
            pseudo: as in `resampled`.
        """
        return Interval(self.mean(values), *percentile_interval(self.resampled(values, pseudo)))

    def p_value(self, differences: FloatArray) -> float:
        """Return the two-sided p-value of the sign-flip test over groups of prompts.

        Args:
            differences: of two conditions, shape ``(seeds, n)``.
        """
        by_group = np.bincount(self.group, self.weight * differences.mean(axis=0), self.n_groups)
        by_group = by_group[by_group != 0.0]
        if not len(by_group):
            return 1.0
        rng, seen, done = np.random.default_rng(0), 0, 0
        while done < N_FLIPS:  # in pieces: groups may be many
            flips = rng.choice((-1.0, 1.0), size=(min(1000, N_FLIPS - done), len(by_group)))
            seen += int((np.abs(flips @ by_group) >= abs(by_group.sum()) - 1e-9).sum())
            done += len(flips)
        return (seen + 1) / (N_FLIPS + 1)


@lru_cache(maxsize=6)
def _times(n: int, stream: int) -> IntArray:
    """Return how often each of n units is drawn in every resample, shape ``(N_RESAMPLES, n)``: always the same."""
    drawn: IntArray = np.random.default_rng(stream).multinomial(n, np.full(n, 1.0 / n), size=N_RESAMPLES)
    return drawn


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number by Holm's method, in the same order.

    Examples:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, k in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[k]))
        adjusted[k] = largest
    return adjusted
