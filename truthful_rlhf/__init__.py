"""RLHF for labelers who have interests of their own: from many reports to one soft label per pair, and on to a policy.

The short road is loaded when it is first asked for, so that ``import truthful_rlhf`` alone loads nothing heavy:

    from truthful_rlhf import OnlineWeighted, SoftDPOTrainer, aggregate_table, label_campaign, run_online

Known elsewhere as: a *labeler* is an annotator, rater, expert or forecaster; its *report* a forecast; an *audited pair*
a gold question, honeypot or control; a *soft label* a preference probability; a *rule* (aggregator) an algorithm for
prediction with expert advice; how a labeler earns weight is a proper scoring rule.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if not os.path.isdir(os.path.join(os.path.dirname(__file__), "aggregation")):
    raise ImportError(
        f"{os.path.dirname(__file__)} lacks its folders, which are symbolic links in a checkout, and this one has none"
        " (git on Windows writes small text files instead): pip install the wheel (`make wheel` on a system with links"
        " builds it), or turn on Developer Mode and clone again with `git clone -c core.symlinks=true`"
    )

if TYPE_CHECKING:
    from truthful_rlhf.aggregation import (
        AGGREGATORS,
        OnlineWeighted,
        label_campaign,
        make_aggregator,
        regret,
        run_online,
    )
    from truthful_rlhf.pipeline import SoftDPOTrainer
    from truthful_rlhf.pipeline.aggregate import aggregate_table
    from truthful_rlhf.reward_model import SoftRewardTrainer

_HOME = {
    **dict.fromkeys(("AGGREGATORS", "OnlineWeighted", "label_campaign"), "aggregation"),
    **dict.fromkeys(("make_aggregator", "regret", "run_online"), "aggregation"),
    "SoftRewardTrainer": "reward_model",
    "SoftDPOTrainer": "pipeline",
    "aggregate_table": "pipeline.aggregate",
}

__all__ = [
    "AGGREGATORS",
    "OnlineWeighted",
    "SoftDPOTrainer",
    "SoftRewardTrainer",
    "aggregate_table",
    "label_campaign",
    "make_aggregator",
    "regret",
    "run_online",
]


def __getattr__(name: str) -> Any:
    """Import a name of the short road from its home when it is first asked for."""
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the short road for tab completion."""
    return sorted([*globals(), *__all__])
