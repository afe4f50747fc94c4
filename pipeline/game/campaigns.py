"""Campaigns without texts: a panel judges pairs that are nothing but true log-odds and a topic.

The pairs go through the code that ``compare`` uses: a panel with the same seed states the same reports on pairs of
the same ids, topics and differences in gold, whether they have texts or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from truthful_rlhf.aggregation.base import BoolArray, FloatArray
from truthful_rlhf.aggregation.game.campaigns import SPREAD, Campaign, Nature, draw_nature
from truthful_rlhf.labelers import Pairs, Panel, ReportContext, SimulatedLabeler
from truthful_rlhf.labelers.panel import Views
from truthful_rlhf.pipeline.config.game import GameSection
from truthful_rlhf.pipeline.config.rule import Rule
from truthful_rlhf.pipeline.storage.random import part_rng


def pairs_without_texts(log_odds: FloatArray, topics: Sequence[str], audited: BoolArray | None = None) -> Pairs:
    """Return pairs that are nothing but their truth and a topic; kappa is 1.

    Args:
        log_odds: true log-odds that A is better, shape ``(n,)``.
        topics: one per pair.
        audited: whose outcome is revealed, shape ``(n,)``; None: nobody knows.
    """
    n = len(log_odds)
    empty = [""] * n
    ids = [f"pair-{k:06d}" for k in range(n)]
    return Pairs(ids, empty, empty, empty, gold_a=log_odds, gold_b=np.zeros(n), topic=topics, audited=audited)


@dataclass(frozen=True)
class JudgedPairs:
    """Pairs of several campaigns of ``n_rounds`` each, and what a panel holds of them before it reports."""

    panel: Panel
    nature: Nature
    pairs: Pairs
    views: Views
    n_rounds: int

    def campaigns(self, context: ReportContext) -> list[Campaign]:
        """Return the campaigns with what the panel reports in them.

        A coordinated bloc acts on the view of its first member, so all of it is given that one.

        Args:
            context: the rule and the audit rate as the labelers know them.
        """
        beliefs, posteriors = self.views.beliefs.copy(), self._posteriors()
        for columns in deviators(self.panel).values():
            beliefs[:, columns] = beliefs[:, columns.start, None]
            posteriors[:, columns] = posteriors[:, columns.start, None]
        named = self.pairs.topic
        topics = None if named is None else np.unique(np.asarray(named, dtype=np.str_), return_inverse=True)[1]
        return self.nature.campaigns(self.n_rounds, beliefs, self.reports(context), posteriors, topics)

    def reports(self, context: ReportContext) -> FloatArray:
        """Return all reports, shape ``(n, N)``; the rounds of every campaign begin at 0."""
        parts = (slice(k, k + self.n_rounds) for k in range(0, len(self.pairs), self.n_rounds))
        return np.concatenate([self.panel.report_views(self.views.part(p), self.pairs.part(p), context) for p in parts])

    def _posteriors(self) -> FloatArray:
        columns = []
        for member in self.panel.members:
            if not isinstance(member.labeler, SimulatedLabeler):
                raise TypeError(f"labeler {member.labeler.labeler_id!r} is not simulated: it has no view without texts")
            columns.append(member.labeler.posterior(self.pairs))
        return np.column_stack(columns)


def judge_pairs(
    panel: Panel,
    n_rounds: int,
    n_campaigns: int,
    rng: np.random.Generator,
    *,
    spread: float = SPREAD,
    topics: Sequence[str] = ("",),
    audit_rate: float = 1.0,
) -> JudgedPairs:
    """Draw pairs for campaigns and let a panel look at them.

    Args:
        panel: simulated labelers without a taste for texts; their noise comes from their own seeds.
        n_rounds: T >= 1, pairs per campaign.
        n_campaigns: how many, >= 1; all are judged at once, because a posterior costs more to set up than to evaluate.
        rng: draws the truth, the outcomes, the audits and the topics.
        spread: standard deviation of the true log-odds.
        topics: every pair has one of them, each as likely as the others.
        audit_rate: chance in [0, 1] that an outcome is revealed to the rule.
    """
    if n_rounds < 1 or n_campaigns < 1:
        raise ValueError(f"need at least one round and one campaign, got {n_rounds} and {n_campaigns}")
    drawing, choosing = rng.spawn(2)
    nature = draw_nature(n_rounds * n_campaigns, drawing, spread, audit_rate)
    chosen = choosing.integers(len(topics), size=n_rounds * n_campaigns)
    pairs = pairs_without_texts(nature.log_odds, [topics[k] for k in chosen], nature.audited)
    return JudgedPairs(panel, nature, pairs, panel.views(pairs), n_rounds)


def make_panel(config: GameSection, name: str, seed: int) -> Panel:
    """Return a panel of a config with the random streams that it has in ``compare`` under this seed.

    Args:
        config: of ``simulate`` or ``audit``.
        name: of one of its panels.
        seed: of the campaign.
    """
    return Panel.from_specs(config.panels[name], part_rng(seed, f"panel {name}"))


def context_of(config: GameSection, rule: Rule) -> ReportContext:
    """Return what is public about a campaign of a config under a rule."""
    return ReportContext(rule=rule.name, rule_options=rule.options, audit_rate=config.audit_rate)


def deviators(panel: Panel) -> dict[str, slice]:
    """Return, by entry of a panel, the columns that deviate together: a whole bloc, or the entry's first labeler."""
    found: dict[str, slice] = {}
    for column, member in enumerate(panel.members):
        if member.bloc not in found:
            found[member.bloc] = slice(column, column + 1)
        elif member.strategy.traits.coordinated:
            found[member.bloc] = slice(found[member.bloc].start, column + 1)
    return found
