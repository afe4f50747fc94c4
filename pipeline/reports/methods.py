"""What a policy method has to show beside the table of gaps: reward models, training curves, iterations, best of n.

Everything is read from the artefacts of the first seed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from truthful_rlhf.pipeline.config.training import OnlineDPOSettings
from truthful_rlhf.pipeline.experiment.best_of_n import CURVE
from truthful_rlhf.pipeline.experiment.conditions import Condition
from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.reports import figures
from truthful_rlhf.pipeline.reports.figures import over_optimisation_figure
from truthful_rlhf.pipeline.storage.figures import as_png
from truthful_rlhf.pipeline.storage.tables import read_table

ONLINE = "online.parquet"
PPO_CURVES = {
    "reward model's score": ("objective/scores", None),
    "KL to base (nats)": ("objective/kl", None),
    "gold reward": ("gold", None),
    "prompt + response (tokens)": ("text_tokens", None),
}
RLOO_CURVES = {
    "reward model's score": ("rewards/reward_model/mean", None),
    "KL to base (nats)": ("kl", "completions/mean_length"),  # TRL logs it per token
    "gold reward": ("rewards/gold/mean", None),
    "response (tokens)": ("completions/mean_length", None),
}


@dataclass
class MethodSection:
    """Figures and tables of one panel."""

    figures: list[tuple[str, str]] = field(default_factory=list)
    """Name of an image, caption."""
    side_by_side: list[tuple[str, str]] = field(default_factory=list)
    """Small ones, one per condition."""
    tables: list[tuple[str, list[str], list[list[str]]]] = field(default_factory=list)
    """Caption, columns, rows; the first column is text."""


def method_section(
    experiment: Experiment, panel: str, conditions: Sequence[Condition], images: dict[str, bytes]
) -> MethodSection:
    """Describe what the method of some conditions did, drawing into ``images``.

    Args:
        experiment: the experiment.
        panel: name of the panel.
        conditions: of one method: the truth, then every rule.
        images: name -> PNG bytes, added to.
    """
    section = MethodSection()
    for describe in _DESCRIPTIONS[conditions[0].method.method]:
        describe(experiment, panel, conditions, images, section)
    return section


Describe = Callable[[Experiment, str, Sequence[Condition], dict[str, bytes], MethodSection], None]


def _reward_models(
    experiment: Experiment,
    panel: str,
    conditions: Sequence[Condition],
    images: dict[str, bytes],
    section: MethodSection,
) -> None:
    rows = []
    for condition in conditions:
        path = experiment.path(experiment.layout.of_labels(condition, "calibration.parquet"))
        for measured in read_table(path, ["target"]).to_dict("records"):
            numbers = [f"{measured[name]:.3f}" for name in ("accuracy", "mean_squared_error", "log_loss", "ece")]
            rows.append([condition.title, str(measured["target"]), str(measured["n_pairs"]), *numbers])
    section.tables.append(
        (
            "Reward models on pairs of held-out training prompts: trained on the rule's soft labels, measured against"
            " those and against the true preference.",
            ["trained on", "measured against", "pairs", "accuracy", "MSE", "log loss", "ECE"],
            rows,
        )
    )
    for condition in conditions:
        name = f"reliability_{panel}_{condition.title}"
        path = experiment.path(experiment.layout.of_labels(condition, "reliability.png"))
        images[name] = path.read_bytes()
        section.side_by_side.append((name, f"Reliability of the reward model trained on {condition.title}."))


def _training_curves(metrics: Mapping[str, tuple[str, str | None]]) -> Describe:
    def describe(
        experiment: Experiment,
        panel: str,
        conditions: Sequence[Condition],
        images: dict[str, bytes],
        section: MethodSection,
    ) -> None:
        logs = {condition.title: _updates(experiment, condition) for condition in conditions}
        panels = {}
        for title, (metric, factor) in metrics.items():
            lines = {}
            for rule, log in logs.items():
                known = log.dropna(subset=[metric]) if metric in log else log.iloc[:0]
                if len(known):
                    lines[rule] = (known["step"], known[metric] * (known[factor] if factor else 1.0))
            if lines:
                panels[title] = lines
        name = f"training_{panel}_{conditions[0].method.title}"
        images[name] = figures.lines(panels, "update")
        section.figures.append((name, "Every update: mean over the batch of responses that it was computed from."))

    return describe


def _updates(experiment: Experiment, condition: Condition) -> pd.DataFrame:
    path = experiment.path(experiment.layout.of_condition(condition, "policy/metrics.jsonl"))
    return pd.DataFrame([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])


def _iterations(
    experiment: Experiment,
    panel: str,
    conditions: Sequence[Condition],
    images: dict[str, bytes],
    section: MethodSection,
) -> None:
    tables = {
        condition.title: read_table(experiment.path(experiment.layout.of_condition(condition, ONLINE)), ["iteration"])
        for condition in conditions
    }
    shown = {
        "gold reward of the pairs": "gold",
        "label accuracy": "label_accuracy",
        "regret on revealed outcomes": "regret_revealed",
    }
    panels = {
        title: {
            rule: (table["iteration"], table[column]) for rule, table in tables.items() if table[column].notna().any()
        }
        for title, column in shown.items()
    }
    name = f"online_{panel}_{conditions[0].method.title}"
    images[name] = figures.lines(panels, "iteration", whole_numbers=True)
    section.figures.append(
        (
            name,
            "Iteration by iteration. The pairs of iteration k were written by the policy of iteration k - 1; label"
            " accuracy is that of the labels as stated before any outcome.",
        )
    )
    for rule, table in tables.items():
        weights = [column for column in map(str, table.columns) if column.startswith("weight ")]
        if weights and float(np.ptp(table[weights].to_numpy(), axis=0).max()) > 0:
            rows = [[str(k), *(f"{w:.3f}" for w in row)] for k, row in enumerate(table[weights].to_numpy())]
            columns = ["iteration", *(column.removeprefix("weight ") for column in weights)]
            section.tables.append((f"Weights under {rule} at the end of each iteration.", columns, rows))


def _best_of_n(
    experiment: Experiment,
    panel: str,
    conditions: Sequence[Condition],
    images: dict[str, bytes],
    section: MethodSection,
) -> None:
    curves = {
        condition.title: read_table(experiment.path(experiment.layout.of_condition(condition, CURVE)), ["n", "gold"])
        for condition in conditions
    }
    name = f"best_of_n_{panel}"
    images[name] = as_png(over_optimisation_figure(curves))
    section.figures.append(
        (
            name,
            "Gold reward of best-of-n for n = 1, 2, 4, ...: further right, the reward model is optimised harder. A"
            " curve that falls while its reward model's score rises is over-optimised. Bars: one standard error.",
        )
    )
    ns = next(iter(curves.values()))["n"].tolist()
    rows = []
    for rule, curve in curves.items():
        rows.append([f"{rule}: gold reward", *(f"{gold:.3f}" for gold in curve["gold"])])
        rows.append([f"{rule}: reward model's score", *(f"{reward:.2f}" for reward in curve["reward"])])
    section.tables.append(("Best of n.", ["", *(f"n = {n}" for n in ns)], rows))


_DESCRIPTIONS: dict[str, tuple[Describe, ...]] = {
    "dpo": (),
    "online_dpo": (_iterations,),
    "ppo": (_training_curves(PPO_CURVES), _reward_models),
    "rloo": (_training_curves(RLOO_CURVES), _reward_models),
    "best_of_n": (_best_of_n, _reward_models),
}


def campaign_outcomes(experiment: Experiment, condition: Condition) -> Any:
    """Return the outcomes of a condition's whole campaign, shape ``(T,)``: audited or not, over all its iterations."""
    layout, policy = experiment.layout, condition.method
    if isinstance(policy, OnlineDPOSettings):
        paths = [layout.of_condition(condition, f"online/{k}/outcomes.parquet") for k in range(policy.iterations)]
    else:
        paths = [layout.of_seed(condition.seed, "outcomes.parquet")]
    tables = [read_table(experiment.path(path), ["outcome"]) for path in paths]
    return np.concatenate([table["outcome"].to_numpy(dtype=np.float64) for table in tables])
