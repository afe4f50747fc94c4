"""Stop a policy training that has left the range in which its method can be trusted, and say why and what to change."""

from __future__ import annotations

import math
from typing import Any

from transformers import TrainerCallback


class PolicyDivergedError(RuntimeError):
    """Policy training was stopped: a measure of divergence left its range."""


class DivergenceGuard(TrainerCallback):
    """Raise ``PolicyDivergedError`` when a logged metric is above its limit, or no number.

    An exception, because TRL's PPO loop does not ask its callbacks whether to stop.
    """

    def __init__(self, metric: str, limit: float, remedy: str) -> None:
        """Watch ``metric``; ``remedy`` is the config key that would keep it below ``limit``."""
        self.metric = metric
        self.limit = limit
        self.remedy = remedy

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Check the latest value."""
        value = (logs or {}).get(self.metric)
        if value is None or (math.isfinite(value) and value <= self.limit):
            return
        raise PolicyDivergedError(
            f"stopped at update {state.global_step}: {self.metric} is {value:.3g}, the limit is {self.limit:g}. The"
            " policy moves too fast or too far from the base policy for its rewards to mean anything: lower"
            f" policy.learning_rate or change {self.remedy}"
        )
