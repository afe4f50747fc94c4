"""How reports become one probability: rules, the online mechanism, the game, incentives and statistics.

Imports numpy only; no rule knows where its reports came from or what its soft labels will train.
"""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from aggregation.base import Aggregator, FloatArray, OnlineRun
from aggregation.majority import Majority
from aggregation.mean import Mean
from aggregation.median import Median
from aggregation.online import final_labels, run_online
from aggregation.online_weighted import OnlineWeighted
from aggregation.regret import regret
from aggregation.trimmed_mean import TrimmedMean

AGGREGATORS: dict[str, type[Any]] = {
    "mean": Mean,
    "median": Median,
    "trimmed_mean": TrimmedMean,
    "majority": Majority,
    "online_weighted": OnlineWeighted,
}


def make_aggregator(name: str, n_labelers: int, **options: Any) -> Aggregator:
    """Return the rule called ``name``, one of ``AGGREGATORS``, for ``n_labelers`` labelers.

    Raises:
        ValueError: unknown name or option (the nearest valid one is named), or an option out of range.
    """
    if name not in AGGREGATORS:
        near = difflib.get_close_matches(name, AGGREGATORS, n=1, cutoff=0.0)[0]
        raise ValueError(f"unknown rule {name!r}; did you mean {near!r}? Valid: {', '.join(AGGREGATORS)}")
    valid = [option for option in inspect.signature(AGGREGATORS[name]).parameters if option != "n_labelers"]
    for option in options:
        if option not in valid:
            near_options = difflib.get_close_matches(option, valid, n=1)
            hint = f"did you mean {near_options[0]!r}?" if near_options else f"it has {', '.join(valid) or 'none'}"
            raise ValueError(f"rule {name!r} has no option {option!r}; {hint}")
    rule: Aggregator = AGGREGATORS[name](n_labelers, **options)
    return rule


__all__ = [
    "AGGREGATORS",
    "Aggregator",
    "FloatArray",
    "OnlineRun",
    "OnlineWeighted",
    "final_labels",
    "make_aggregator",
    "regret",
    "run_online",
]
