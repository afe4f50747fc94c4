"""What a labeler that wants the labels near its own view gains by the best misreport found, by rule and kind of label.

Taste here is - mean (q - own view)^2 over the unaudited pairs, with q the label that the campaign ends with (for
``online``: that it states). 144 pairs, a fifth audited. Who lies: an ordinary labeler of the panel ``honest``, and a
contrarian of ``biased_majority``, alone, whose outcomes are drawn as it expects them; all others do what they do in the
panel. Misreports: shading or exaggerating by one factor, from the start, the middle or four fifths on, and pushing
every report to one side (``aggregation.game.best_response``). The best is chosen on ten campaigns and its gain measured
on thirty others, in shares of the truthful payoff, with a bootstrap interval: a lower bound on what a cleverer liar
gains. Rules that read votes (majority, Dawid-Skene, MACE) cannot be moved by a factor above 0, only by pushing.

GLAD and MACE are left out (seconds, half a second per fit).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks.attacks import RULES, Rule
from benchmarks.attacks import Campaign as Attacked
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.game.best_response import StrategyClass, grid_search
from truthful_rlhf.aggregation.game.campaigns import TRUTH, Campaign
from truthful_rlhf.aggregation.game.incentives import describe, relative_gain
from truthful_rlhf.aggregation.game.misreport import Misreport
from truthful_rlhf.aggregation.log_odds import sigmoid
from truthful_rlhf.labelers import LabelerSpec, Panel, ReportContext
from truthful_rlhf.labelers.panels import built_in_panels
from truthful_rlhf.pipeline.config.game import BUNDLED_TOPICS
from truthful_rlhf.pipeline.game.campaigns import judge_pairs

ABOUT = "what a labeler gains in taste by the best misreport found, by rule and kind of label (about 5 minutes)"

N_PAIRS, AUDIT_RATE, N_SEARCHED, N_MEASURED = 144, 0.2, 10, 30
LIARS = {"honest": 0, "biased_majority": 0}
LIES = {
    "scale": StrategyClass("one factor", scales=(0.5, 1.25, 2.0, 4.0), starts=(0.0, 0.5, 0.8)),
    "shift": StrategyClass("to one side", shifts=(-1.0, 1.0)),
}
LEFT_OUT = ("mace",)


class Taste:
    """The payoff of a misreport of one labeler under one rule and kind of label."""

    def __init__(self, labels: Rule, campaigns: list[tuple[Campaign, Any]], column: int) -> None:
        """Take the labeler in a column; ``campaigns`` come with their pairs."""
        self.labels, self.campaigns, self.column = labels, campaigns, column

    def payoffs(self, misreport: Misreport) -> FloatArray:
        """Return - mean (label - own view)^2 over the unaudited pairs of every campaign, shape ``(n_campaigns,)``."""
        result = []
        for campaign, pairs in self.campaigns:
            view = campaign.beliefs[:, self.column]
            reports = campaign.reports.copy()
            reports[:, self.column] = misreport(view)
            outcomes = campaign.expected_by(self.column)
            data = Attacked(pairs, sigmoid(pairs.gold_a), outcomes, campaign.revealed(outcomes))
            distance = (self.labels(data, reports) - view) ** 2
            result.append(-float(distance[~campaign.audited].mean()))
        return np.array(result)


def drawn(panel: str, n_campaigns: int, seed: int) -> list[tuple[Campaign, Any]]:
    """Return simulated campaigns of a panel with their pairs."""
    found = []
    for k in range(n_campaigns):
        rng = np.random.default_rng([seed, k])
        crowd = Panel.from_specs([LabelerSpec.model_validate(entry) for entry in built_in_panels()[panel]], rng)
        judged = judge_pairs(crowd, N_PAIRS, 1, rng, topics=BUNDLED_TOPICS, audit_rate=AUDIT_RATE)
        found.append((judged.campaigns(ReportContext(audit_rate=AUDIT_RATE))[0], judged.pairs))
    return found


def best_lie(labels: Rule, searched: list[tuple[Campaign, Any]], column: int) -> Misreport:
    """Return the misreport that pays best in the searched campaigns."""
    taste = Taste(labels, searched, column)
    found = [grid_search(taste.payoffs, family, N_PAIRS) for family in LIES.values()]
    return max(found, key=lambda lie: float(taste.payoffs(lie).mean()))


def run() -> pd.DataFrame:
    rows = []
    rules = {rule: labels for rule, labels in RULES.items() if rule not in LEFT_OUT}
    with tqdm(total=len(LIARS) * len(rules), unit="search") as progress:
        for panel, column in LIARS.items():
            searched, fresh = drawn(panel, N_SEARCHED, 1), drawn(panel, N_MEASURED, 2)
            for rule, labels in rules.items():
                lie, taste = best_lie(labels, searched, column), Taste(labels, fresh, column)
                gain, low, high = relative_gain(taste.payoffs(lie), taste.payoffs(TRUTH), np.random.default_rng(0))
                words = describe(lie, N_PAIRS)
                rows.append({"panel": panel, "rule": rule, "misreport": words, "gain": gain, "low": low, "high": high})
                progress.update()
    return pd.DataFrame(rows)
