"""How reports become one probability: rules, the online mechanism, the game, incentives and statistics.

Imports numpy only; no rule knows where its reports came from or what its soft labels will train.
"""

from __future__ import annotations

import inspect
from typing import Any

from truthful_rlhf.aggregation.base import Aggregator
from truthful_rlhf.aggregation.calibration import recalibrate
from truthful_rlhf.aggregation.campaign import OnlineRun, final_labels, run_online
from truthful_rlhf.aggregation.chunks import run_chunks
from truthful_rlhf.aggregation.hindsight import best_labeler, regret
from truthful_rlhf.aggregation.names import unknown
from truthful_rlhf.aggregation.per_topic import PerTopic
from truthful_rlhf.aggregation.rules.batch import DawidSkeneRule, GladRule, MaceRule
from truthful_rlhf.aggregation.rules.elf import Elf
from truthful_rlhf.aggregation.rules.hedge import Hedge
from truthful_rlhf.aggregation.rules.linear_weighted import LinearWeighted
from truthful_rlhf.aggregation.rules.majority import Majority
from truthful_rlhf.aggregation.rules.mean import Mean
from truthful_rlhf.aggregation.rules.median import Median
from truthful_rlhf.aggregation.rules.online_weighted import OnlineWeighted
from truthful_rlhf.aggregation.rules.trimmed_mean import TrimmedMean

AGGREGATORS: dict[str, Any] = {
    "mean": Mean,
    "median": Median,
    "trimmed_mean": TrimmedMean,
    "majority": Majority,
    "online_weighted": OnlineWeighted,
    "linear_weighted": LinearWeighted,
    "hedge": Hedge,
    "elf": Elf,
    "dawid_skene": DawidSkeneRule,
    "glad": GladRule,
    "mace": MaceRule,
}
"""Every rule by its name: ``AGGREGATORS[name](n_labelers, **options)``."""


class UnknownOptionError(TypeError, ValueError):
    """A rule was given an option that it does not have."""


def make_aggregator(name: str, n_labelers: int, /, **options: Any) -> Aggregator:
    """Return a fresh rule by name, with its options.

    Raises:
        ValueError: an unknown name or option (the message names the nearest valid one), or a value out of range.

    Examples:
        >>> make_aggregator("online_weighted", 3, eta=0.3).weights_.round(3).tolist()
        [0.333, 0.333, 0.333]
        >>> make_aggregator("online_wieghted", 3)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: unknown rule 'online_wieghted': did you mean 'online_weighted'? valid: mean, median, ...
    """
    if name not in AGGREGATORS:
        raise ValueError(unknown("rule", str(name), AGGREGATORS))
    rule = AGGREGATORS[name]
    valid = [option for option in inspect.signature(rule).parameters if option != "n_labelers"]
    for option in options:
        if option not in valid:
            raise UnknownOptionError(unknown(f"option of rule {name!r}:", option, valid))
    aggregator: Aggregator = rule(n_labelers, **options)
    return aggregator


__all__ = [
    "AGGREGATORS",
    "Aggregator",
    "OnlineRun",
    "OnlineWeighted",
    "PerTopic",
    "UnknownOptionError",
    "best_labeler",
    "final_labels",
    "make_aggregator",
    "recalibrate",
    "regret",
    "run_chunks",
    "run_online",
]
