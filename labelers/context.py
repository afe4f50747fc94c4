"""What labelers and their strategies may legitimately know when they report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.labelers.pairs import Pairs


@dataclass(frozen=True)
class ReportContext:
    """What is public about the campaign: the rule, how often outcomes are revealed, and how far it has come.

    Neither the aggregator nor any outcome or report of another labeler is part of it.
    """

    rule: str = "mean"
    """Name of the aggregation rule, a key of ``aggregation.AGGREGATORS``."""
    rule_options: Mapping[str, Any] = field(default_factory=dict)
    audit_rate: float = 1.0
    """Chance in [0, 1] that a pair's outcome is revealed."""
    kappa: float | None = None
    """True log-odds per unit of gold reward, > 0; None: what the pairs say."""
    first_round: int = 0
    """Round of the campaign that the batch's first pair is (batches of the online loop go on counting)."""
    weights: FloatArray | None = None
    """Present weight of every labeler of the panel, shape ``(N,)``; None: not published. A strategy sees its own."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.audit_rate <= 1.0:
            raise ValueError(f"audit_rate must be in [0, 1], got {self.audit_rate!r}")
        if self.kappa is not None and not 0.0 < self.kappa < np.inf:
            raise ValueError(f"kappa must be finite and > 0, got {self.kappa!r}")
        if self.first_round < 0:
            raise ValueError(f"first_round must be >= 0, got {self.first_round!r}")


class Labeler(Protocol):
    """Who judges: has a belief about every pair and states a report, both probabilities that A is better."""

    labeler_id: str

    def belief(self, pairs: Pairs) -> FloatArray:
        """Return the belief that A is better, shape ``(n,)``, in [0, 1], NaN where the labeler does not judge."""
        ...

    def report(self, pairs: Pairs, context: ReportContext) -> FloatArray:
        """Return what the labeler states, shape ``(n,)``, in [0, 1], NaN where it does not judge."""
        ...


@dataclass(frozen=True)
class PublicProfile:
    """What is publicly known about how one labeler of the panel judges: a distribution, not its reports.

    The log-odds of its taste are ``gold`` times the true log-odds plus ``other`` times an independent feature of the
    same spread; it sees them with ``noise``, adds its ``bias`` and reports the log-odds of this belief times ``scale``.
    One with an ``objective`` chooses its scale: it plays an equilibrium with all others that have one.
    """

    gold: float = 1.0
    other: float = 0.0
    noise: float = 1.5
    scale: float = 1.0
    bias: float = 0.0
    objective: str | None = None


@dataclass(frozen=True)
class StrategyContext:
    """The situation of one labeler that turns its beliefs about a batch into reports."""

    pairs: Pairs
    context: ReportContext
    rng: np.random.Generator
    """The labeler's own stream for this batch."""
    allies: FloatArray
    """Beliefs of the members of its bloc, itself included, shape ``(n, k)``."""
    impartial: FloatArray
    """What it expects the outcomes to be, taste aside, shape ``(n,)``; its belief where it cannot tell them apart."""
    profiles: tuple[PublicProfile, ...]
    """All N labelers of the panel as they are known publicly."""
    position: int
    """Which of the N it is."""

    @property
    def weight(self) -> float | None:
        """Its own present weight, if weights are published."""
        return None if self.context.weights is None else float(self.context.weights[self.position])
