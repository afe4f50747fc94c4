"""A panel: labelers of any kind, each with a strategy, who judge the same pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.labelers.context import Labeler, PublicProfile, ReportContext, StrategyContext
from truthful_rlhf.labelers.pairs import Pairs
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.simulated import batch_rng
from truthful_rlhf.labelers.sources import make_labelers
from truthful_rlhf.labelers.spec import LabelerSpec
from truthful_rlhf.labelers.strategies import Strategy

__all__ = ["LabelerSpec", "Member", "Panel"]

NOTHING_SPECIAL = PublicProfile()


@dataclass(frozen=True)
class Member:
    """A place on a panel: who judges, what it does with its beliefs, and with whom it colludes if it does.

    Attributes:
        labeler: the source of beliefs.
        strategy: from beliefs to reports.
        bloc: name of the entry of the panel; members of one bloc are allies.
        seed: randomness of the strategy, never of the belief.
        profile: what the others know about it.
    """

    labeler: Labeler
    strategy: Strategy
    bloc: str = ""
    seed: int = 0
    profile: PublicProfile = NOTHING_SPECIAL


@dataclass(frozen=True)
class Views:
    """What the labelers of a panel hold of a batch of n pairs.

    Attributes:
        beliefs: that A is better, shape ``(n, N)``, NaN where a labeler does not judge.
        impartial: what each expects of the outcomes, taste aside; its belief where it cannot tell, shape ``(n, N)``.
    """

    beliefs: FloatArray
    impartial: FloatArray

    def part(self, rows: slice) -> Views:
        """Return the views of some of the pairs."""
        return Views(self.beliefs[rows], self.impartial[rows])


class Panel:
    """Labelers who judge the same pairs.

    Args:
        members: at least one; their labeler ids must differ.

    Examples:
        >>> pairs = Pairs(["p"], ["2+2?"], ["4"], ["5"], np.array([2.0]), np.array([0.0]))
        >>> specs = [LabelerSpec(name="expert", persona="expert"), LabelerSpec(name="loud", count=2, persona="noisy")]
        >>> panel = Panel.from_specs(specs, np.random.default_rng(0))
        >>> panel.labeler_ids, panel.report(pairs, ReportContext(rule="mean")).shape
        (('expert', 'loud-1', 'loud-2'), (1, 3))
    """

    def __init__(self, members: Sequence[Member]) -> None:
        if not members:
            raise ValueError("a panel needs at least one labeler")
        self.members = tuple(members)
        self.labeler_ids: tuple[str, ...] = tuple(member.labeler.labeler_id for member in members)
        for labeler_id in self.labeler_ids:
            if self.labeler_ids.count(labeler_id) > 1:
                raise AnnotationError(
                    f"panel: two labelers are called {labeler_id!r}; give the entries different names"
                )

    @classmethod
    def from_specs(cls, specs: Sequence[LabelerSpec], rng: np.random.Generator) -> Panel:
        """Return the panel that the entries of a config describe.

        Every labeler gets seeds of its own for its beliefs and for its strategy, so that changing a strategy, or the
        count of one entry, changes no other belief (common random numbers).
        """
        members = []
        for spec, stream in zip(specs, rng.spawn(len(specs)), strict=True):
            for labeler, strategy_seed in make_labelers(spec, stream):
                members.append(Member(labeler, spec.make_strategy(), spec.name, strategy_seed, spec.profile()))
        return cls(members)

    def beliefs(self, pairs: Pairs) -> FloatArray:
        """Return everybody's beliefs, shape ``(n, N)``, NaN where a labeler does not judge."""
        return np.column_stack([member.labeler.belief(pairs) for member in self.members])

    @property
    def profiles(self) -> tuple[PublicProfile, ...]:
        """What is publicly known of every labeler."""
        return tuple(member.profile for member in self.members)

    def views(self, pairs: Pairs) -> Views:
        """Return what everybody holds of a batch before anybody decides what to report."""
        beliefs = self.beliefs(pairs)
        impartial = beliefs.copy()
        for position, member in enumerate(self.members):
            expected = getattr(member.labeler, "impartial", None) if member.strategy.traits.uses_impartial else None
            if expected is not None:
                impartial[:, position] = expected(pairs)
        return Views(beliefs, impartial)

    def report(self, pairs: Pairs, context: ReportContext) -> FloatArray:
        """Return everybody's reports, shape ``(n, N)``, NaN where a labeler does not judge."""
        if context.kappa is not None:
            pairs = replace(pairs, kappa=context.kappa)
        return self.report_views(self.views(pairs), pairs, context)

    def report_views(self, views: Views, pairs: Pairs, context: ReportContext) -> FloatArray:
        """Return what everybody makes of its view, shape ``(n, N)``, NaN where a labeler does not judge.

        Args:
            views: of these pairs.
            pairs: the batch.
            context: what is public about the campaign.
        """
        blocs = np.array([member.bloc for member in self.members])
        reports = np.empty_like(views.beliefs)
        for position, member in enumerate(self.members):
            own = views.beliefs[:, position]
            situation = StrategyContext(
                pairs=pairs,
                context=context,
                rng=batch_rng(member.seed, pairs),
                allies=views.beliefs[:, blocs == member.bloc],
                impartial=views.impartial[:, position],
                profiles=self.profiles,
                position=position,
            )
            reports[:, position] = np.where(np.isnan(own), np.nan, member.strategy.report(own.copy(), situation))
        return reports
