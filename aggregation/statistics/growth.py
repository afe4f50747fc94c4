"""How fast regret grows with the length of a campaign."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.statistics.intervals import percentile_interval


def log_log_slope(
    horizons: ArrayLike, regrets: ArrayLike, rng: np.random.Generator, n_resamples: int = 2000
) -> tuple[float, float, float]:
    """Fit log(mean regret) = slope * log(T) + constant; return the slope and its 95 % interval over seeds.

    A slope of 1 is linear regret, 1/2 is sqrt(T). Runs are averaged before the logarithm, so that single runs with
    a regret of zero or less are allowed; resamples with a mean of zero or less are left out.

    Args:
        horizons: T > 0, shape ``(h,)``, at least two different ones.
        regrets: regret by run (rows) and horizon (columns), shape ``(n_runs, h)`` or ``(h,)``; column means > 0.
        rng: draws runs with replacement.
        n_resamples: number of bootstrap resamples, >= 1.

    Examples:
        >>> slope, low, high = log_log_slope([10, 100], [[1.0, 10.0], [1.0, 10.0]], np.random.default_rng(0))
        >>> round(slope, 6)
        1.0
    """
    lengths = np.asarray(horizons, dtype=np.float64)
    runs = np.atleast_2d(np.asarray(regrets, dtype=np.float64))
    if lengths.ndim != 1 or len(np.unique(lengths)) < 2 or not (lengths > 0).all():
        raise ValueError(f"a slope needs at least two different horizons > 0, got {np.unique(lengths).tolist()}")
    if runs.shape[1:] != lengths.shape:
        raise ValueError(f"regrets must have one column per horizon ({len(lengths)}), got shape {runs.shape}")
    means = runs.mean(axis=0)
    if not (means > 0).all():
        raise ValueError(f"mean regrets must be > 0 for a log-log slope, got {means.tolist()}")
    resampled = runs[rng.integers(len(runs), size=(n_resamples, len(runs)))].mean(axis=1)
    resampled = resampled[(resampled > 0).all(axis=1)]
    slopes = _slopes(lengths, resampled) if len(resampled) else np.array([np.nan])
    return (float(_slopes(lengths, means[None])[0]), *percentile_interval(slopes))


def _slopes(lengths: FloatArray, means: FloatArray) -> FloatArray:
    """Return least-squares slopes of log(means), shape ``(m, h)``, in log(lengths), shape ``(m,)``."""
    centred = np.log(lengths) - np.log(lengths).mean()
    slopes: FloatArray = np.log(means) @ centred / (centred @ centred)
    return slopes
