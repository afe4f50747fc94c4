"""Statistics of soft labels, labelers and panels: every table and every report reads them from here.

Accuracy, Brier score, mean squared error, log loss, calibration, intervals, agreement, pay-outs and the growth of
regret. May import `aggregation.base` and numpy only.

*Brier score* is the mean squared distance to outcomes, 0 or 1; the distance to a true probability, which only a
simulation or an experiment knows, is called *mean squared error*.

Weights: where outcomes were observed with unequal chances, give every observation the weight 1 / chance (inverse
probability weighting). A weighted mean is then sum w x / sum w (Hajek's estimator), which estimates the mean over all
pairs and not only over those that were likely to be observed. Without weights every observation counts the same.

Known elsewhere as: a *Brier score* is a quadratic score or squared loss; *calibration error* is ECE; *alpha* is
inter-annotator or inter-rater agreement.
"""

from truthful_rlhf.aggregation.statistics.agreement import krippendorff_alpha
from truthful_rlhf.aggregation.statistics.growth import log_log_slope
from truthful_rlhf.aggregation.statistics.intervals import (
    bounded_mean_interval,
    effective_size,
    mean_interval,
    percentile_interval,
    ratio_interval,
    wilson_interval,
)
from truthful_rlhf.aggregation.statistics.payouts import payouts
from truthful_rlhf.aggregation.statistics.power import difference_shown, verdicts_needed
from truthful_rlhf.aggregation.statistics.reliability import (
    Reliability,
    calibration_error,
    calibration_errors,
    reliability,
)
from truthful_rlhf.aggregation.statistics.scores import (
    accuracy,
    brier,
    hits,
    log_loss,
    mean_by_group,
    mean_squared_error,
)

__all__ = [
    "Reliability",
    "accuracy",
    "bounded_mean_interval",
    "brier",
    "calibration_error",
    "calibration_errors",
    "difference_shown",
    "effective_size",
    "hits",
    "krippendorff_alpha",
    "log_log_slope",
    "log_loss",
    "mean_by_group",
    "mean_interval",
    "mean_squared_error",
    "payouts",
    "percentile_interval",
    "ratio_interval",
    "reliability",
    "verdicts_needed",
    "wilson_interval",
]
