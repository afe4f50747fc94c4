"""The stages that join the parts: command line, generation, policy training, evaluation and report.

Known elsewhere as: RLHF, preference optimisation, alignment; the *alignment gap* is a regret of the policy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from truthful_rlhf.pipeline.training.soft_dpo import SoftDPOTrainer

__all__ = ["SoftDPOTrainer"]


def __getattr__(name: str) -> Any:
    """Import the trainer, and with it torch and TRL, when it is first asked for."""
    if name in __all__:
        from truthful_rlhf.aggregation.extras import explained

        with explained(name):
            return getattr(importlib.import_module("truthful_rlhf.pipeline.training.soft_dpo"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
