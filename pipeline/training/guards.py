"""Stop a policy training that has left the range in which its method can be trusted, and say why and what to change."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback


class PolicyDivergedError(RuntimeError):
    """Policy training was stopped: a measure of divergence left its range."""


@dataclass(frozen=True)
class Limit:
    """The largest value of a measure that is allowed."""

    name: str
    measure: Callable[[Mapping[str, float]], float | None]
    """Takes the logged metrics; None where a log does not have it."""
    largest: float
    remedy: str
    """The config key that would keep the measure below."""


class DivergenceGuard(TrainerCallback):
    """Raise ``PolicyDivergedError`` when a measure is above its limit, or no number.

    An exception, because TRL's PPO loop does not ask its callbacks whether to stop.
    """

    def __init__(self, *limits: Limit) -> None:
        self.limits = limits

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Check the latest values."""
        for limit in self.limits:
            value = limit.measure(logs or {})
            if value is None or (math.isfinite(value) and value <= limit.largest):
                continue
            raise PolicyDivergedError(
                f"stopped at update {state.global_step}: the {limit.name} is {value:.3g}, the limit is"
                f" {limit.largest:g}. The policy moves too fast or too far from the base policy for its rewards to"
                f" mean anything: lower policy.learning_rate or change {limit.remedy}"
            )
