"""From soft labels to a reward: gold rewards, the reward-model trainer and its calibration.

Known elsewhere as: a *reward model* is a preference model or Bradley-Terry model; a *gold reward* the true utility or
gold reward model of over-optimisation studies.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from truthful_rlhf.reward_model.trainer import SoftRewardTrainer

__all__ = ["SoftRewardTrainer"]


def __getattr__(name: str) -> Any:
    """Import the trainer, and with it torch and TRL, when it is first asked for."""
    if name in __all__:
        from truthful_rlhf.aggregation.extras import explained

        with explained(name):
            return getattr(importlib.import_module("truthful_rlhf.reward_model.trainer"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
