"""A row of the table of alignment gaps: what was measured of one panel, rule and method, and the gap to the truth."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from truthful_rlhf.pipeline.config.experiment import SHARED
from truthful_rlhf.pipeline.experiment.estimates import Estimate


@dataclass(frozen=True)
class Measures:
    """What was measured of one condition, or its mean over seeds; None where a condition has nothing to measure.

    The base policy has no labels and no win rate. A standard error is NaN where it is not known.
    """

    gold: Estimate
    """Gold reward of the responses to held-out prompts."""
    n_tokens: Estimate
    """Length of those responses in tokens."""
    kl: Estimate
    """KL divergence of the policy from the base policy, in nats per response."""
    win_rate: Estimate | None = None
    """How often a response has a higher gold reward than the base policy's, in [0, 1]; ties count half."""
    label_accuracy: Estimate | None = None
    """Share of soft labels on the true side of 1/2."""
    label_accuracy_unaudited: Estimate | None = None
    """The same, of the pairs that nobody audited."""
    brier: Estimate | None = None
    """Mean squared error of the soft labels against the true probability."""
    regret: Estimate | None = None
    """Regret on all outcomes against the best fixed labeler, a sum over pairs."""
    best_weight: Estimate | None = None
    """Last weight of the labeler who was best in hindsight, in [0, 1]."""
    minority_loss: Estimate | None = None
    """Mean squared distance of the soft labels from the reports of the labelers who were outvoted."""

    def known(self) -> dict[str, Estimate]:
        """Return what was measured, by name."""
        return {name: getattr(self, name) for name in FIELDS if getattr(self, name) is not None}


FIELDS = tuple(field.name for field in fields(Measures))
LABEL_MEASURES = ("label_accuracy", "label_accuracy_unaudited", "brier", "regret", "best_weight", "minority_loss")
MEASURES = (*LABEL_MEASURES, "gold", "win_rate", "kl", "n_tokens")
"""All of them, in the order of the columns of ``results.csv``."""


@dataclass(frozen=True)
class AlignmentGap:
    """The alignment gap J(truth) - J(rule) with its 95 % intervals; see `reports.summary.gap_with_interval`."""

    raw: float
    """In units of the gold reward."""
    normalised: float | None
    """As a share of what training on the truth gained; None where that gained nothing."""
    interval: tuple[float, float]
    """Of ``raw``."""
    normalised_interval: tuple[float | None, float | None] | None
    """Of ``normalised``; an end that is None has no bound."""

    def known(self) -> float:
        """Return the normalised gap where training on the truth is known to have gained something."""
        assert self.normalised is not None
        return self.normalised


@dataclass(frozen=True)
class GapRow:
    """One row of the table: a panel, rule and method over all seeds."""

    panel: str
    """``shared`` for the base policy and the truth, which need no panel."""
    rule: str
    """The rule's title, ``truth`` or ``base``."""
    method: str | None
    """None for the base policy."""
    measures: Measures
    gap: AlignmentGap

    @property
    def is_reference(self) -> bool:
        """Whether the row is the base policy or the truth, which no panel labeled."""
        return self.panel == SHARED

    def record(self) -> dict[str, Any]:
        """Return the row as ``results.csv`` and ``evaluation.json`` have it: flat, None where nothing is known.

        A measure that exists has a second entry ``<name>_se``, its standard error.
        """
        known, gap = self.measures.known(), self.gap
        errors = {name: estimate.standard_error for name, estimate in known.items()}
        ends = gap.normalised_interval
        return {
            **{"panel": self.panel, "rule": self.rule, "method": self.method},
            **{name: known[name].mean if name in known else None for name in MEASURES},
            **{f"{name}_se": None if np.isnan(error) else error for name, error in errors.items()},
            **{"gap": gap.raw, "normalised_gap": gap.normalised, "gap_interval": list(gap.interval)},
            "normalised_gap_interval": None if ends is None else list(ends),
        }
