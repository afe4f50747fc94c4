"""A campaign in a few dictionaries, told only what was acknowledged: what the real one is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from truthful_rlhf.aggregation import LabeledCampaign, label_campaign
from truthful_rlhf.aggregation.rules import draws_from_a_secret
from truthful_rlhf.pipeline.live.campaign import Campaign


@dataclass
class PlainCampaign:
    wanted: int
    columns: int
    known: dict[str, float] = field(default_factory=dict)
    labelers: list[str] = field(default_factory=list)
    pairs: list[str] = field(default_factory=list)
    standing: dict[str, dict[str, float]] = field(default_factory=dict)
    counted: dict[str, dict[str, float]] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)
    outcomes: dict[str, tuple[float | None, int]] = field(default_factory=dict)

    def add(self, *pairs: str) -> None:
        for pair in pairs:
            self.pairs.append(pair)
            self.standing[pair], self.counted[pair] = {}, {}

    def report(self, labeler: str, pair: str, report: float) -> None:
        self.standing[pair][labeler] = report
        self._count(pair, lambda counted: counted.update({labeler: report}))
        if len(self.standing[pair]) == self.wanted and pair not in self.closed:
            self.closed.append(pair)

    def take_away(self, labeler: str, pair: str) -> None:
        del self.standing[pair][labeler]
        self._count(pair, lambda counted: counted.pop(labeler))

    def outcome(self, pair: str, outcome: float | None) -> None:
        self.outcomes[pair] = (outcome, len(self.closed))

    def _count(self, pair: str, change: Callable[[dict[str, float]], object]) -> None:
        """Change what the rule sees, unless an expert's outcome has come."""
        if self.outcomes.get(pair, (None, 0))[0] is None:
            change(self.counted[pair])

    @property
    def rounds(self) -> list[str]:
        return self.closed + [pair for pair in self.pairs if pair not in self.closed and self.counted[pair]]

    @property
    def n_reports(self) -> int:
        return sum(map(len, self.standing.values()))

    def labels(self, campaign: Campaign) -> LabeledCampaign | None:
        """Return what `label_campaign` makes of it; None without any report."""
        rounds, settings = self.rounds, campaign.settings
        reports = np.full((len(rounds), self.columns), np.nan)
        outcomes, arrival = np.full(len(rounds), np.nan), np.arange(1, len(rounds) + 1)
        for t, pair in enumerate(rounds):
            for labeler, report in self.counted[pair].items():
                reports[t, self.labelers.index(labeler)] = report
            if pair in self.closed and pair in self.known:
                outcomes[t] = self.known[pair]
            elif pair in self.closed and self.outcomes.get(pair, (None, 0))[0] is not None:
                outcomes[t], arrival[t] = self.outcomes[pair][0], max(t + 1, self.outcomes[pair][1])
        if np.isnan(reports).all():
            return None
        drawn = draws_from_a_secret(settings.rule, settings.options)
        secret = {"secret": campaign.secrets.label_secret()} if drawn else {}
        return label_campaign(
            reports,
            outcomes,
            settings.rule,
            settings.labels,
            pair_ids=rounds,
            topics=[campaign.state().rounds.topic[t] for t in range(len(rounds))] if settings.per_topic else None,  # type: ignore[index]
            outcome_after=arrival,
            **settings.options,
            **secret,
        )

    def check(self, campaign: Campaign) -> None:
        """Assert that the real one says the same, to the bit."""
        state, wanted = campaign.state(), self.labels(campaign)
        assert state.counts.reports == self.n_reports
        assert state.counts.closed == len(self.closed)
        assert state.rounds.pair_ids == self.rounds
        if wanted is None:
            assert state.result is None
            return
        found = state.result
        assert found is not None
        assert found.soft_labels.tobytes() == wanted.soft_labels.tobytes()
        assert found.stated.tobytes() == wanted.stated.tobytes()
        joined = wanted.last_weights[: len(self.labelers)]
        assert found.weights.tobytes() == (joined / joined.sum()).tobytes()
