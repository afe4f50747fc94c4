"""Run a grid of panels, rules and seeds, and measure what each rule lost against training on the truth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.config import SHARED, TRUTH, Config, RuleSection
from pipeline.evaluate import Estimate, alignment_gap
from pipeline.stages import Condition, Experiment
from pipeline.tables import read_table

FloatArray = NDArray[np.float64]
LABEL_MEASURES = ("label_accuracy", "label_accuracy_unaudited", "brier")
MEASURES = (*LABEL_MEASURES, "gold", "win_rate", "kl", "n_tokens")
_RESAMPLES = 2000


@dataclass(frozen=True)
class Group:
    """The conditions of one panel and rule over all seeds."""

    panel: str
    title: str
    conditions: tuple[Condition, ...]


def groups(config: Config) -> list[Group]:
    """Return the grid: base and truth, which need no panel, then every panel with every rule."""
    rules = [rule for rule in config.rules if rule.name != TRUTH]

    def over_seeds(panel: str, rule: RuleSection | None) -> Group:
        conditions = tuple(Condition(seed, panel, rule) for seed in config.seeds)
        return Group(panel, conditions[0].title, conditions)

    shared = [over_seeds(SHARED, None), over_seeds(SHARED, RuleSection(name=TRUTH))]
    return shared + [over_seeds(panel, rule) for panel in config.panels for rule in rules]


def run_grid(experiment: Experiment) -> None:
    """Run every stage of every condition, seed by seed; what is there already is skipped."""
    by_seed = [
        condition
        for seed in experiment.config.seeds
        for group in groups(experiment.config)
        for condition in group.conditions
        if condition.seed == seed
    ]
    for condition in by_seed:
        experiment.evaluation(condition)


def summarise_grid(experiment: Experiment) -> list[dict[str, Any]]:
    """Return one row per panel and rule, averaged over seeds, with the alignment gap and its interval.

    The interval is a paired bootstrap: seeds are resampled, then held-out prompts within each seed, the same ones for
    the rule, the truth and the base. With a single seed it covers the choice of prompts only, not the training.
    """
    all_groups = groups(experiment.config)
    gold = {(g.panel, g.title): [_gold_by_prompt(experiment, c) for c in g.conditions] for g in all_groups}
    base, truth = (gold[(g.panel, g.title)] for g in all_groups[:2])
    return [
        {
            "panel": group.panel,
            "rule": group.title,
            **_means(experiment, group),
            **alignment_gap(_mean(truth), _mean(gold[(group.panel, group.title)]), _mean(base)),
            **_gap_intervals(truth, gold[(group.panel, group.title)], base),
        }
        for group in all_groups
    ]


def _gold_by_prompt(experiment: Experiment, condition: Condition) -> FloatArray:
    table = read_table(experiment.path(experiment.layout.of_condition(condition, "samples.parquet")), ["gold"])
    n = experiment.config.evaluation.responses_per_prompt
    return table["gold"].to_numpy(dtype=np.float64).reshape(-1, n).mean(axis=1)


def _mean(by_seed: list[FloatArray]) -> float:
    return float(np.mean([values.mean() for values in by_seed]))


def _means(experiment: Experiment, group: Group) -> dict[str, float | None]:
    """Average the measures over seeds; the standard error is over seeds, or over prompts where there is one seed.

    Labels have none within a seed.
    """
    by_seed = [_measures(experiment, condition) for condition in group.conditions]
    means: dict[str, float | None] = {}
    for name in by_seed[0]:
        values = np.array([measures[name].mean for measures in by_seed])
        one = by_seed[0][name].standard_error
        error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else one
        means |= {name: float(values.mean()), f"{name}_se": None if np.isnan(error) else error}
    return {**dict.fromkeys(MEASURES), **means}


def _measures(experiment: Experiment, condition: Condition) -> dict[str, Estimate]:
    """Return what was measured of one condition; the base policy has no labels and no win rate."""
    measures = {name: Estimate(**e) for name, e in read_json(experiment, condition, "evaluation.json").items()}
    if condition.rule is not None:
        labels = read_json(experiment, condition, "labels.json")
        known = {name: labels[name] for name in LABEL_MEASURES if labels[name] is not None}
        measures |= {name: Estimate(value, float("nan")) for name, value in known.items()}
    return measures


def read_json(experiment: Experiment, condition: Condition, name: str) -> dict[str, Any]:
    """Read a JSON artefact of a condition."""
    path = experiment.path(experiment.layout.of_condition(condition, name))
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _gap_intervals(
    truth: list[FloatArray], rule: list[FloatArray], base: list[FloatArray]
) -> dict[str, list[float] | None]:
    """Return 95 % bootstrap intervals of the raw and the normalised alignment gap."""
    rng = np.random.default_rng(0)  # fixed: the same artefacts give the same report
    stacked = np.stack([truth, rule, base])  # (3, seeds, prompts)
    _, n_seeds, n_prompts = stacked.shape
    draws = np.empty((_RESAMPLES, 3))
    for k in range(_RESAMPLES):
        seeds = rng.integers(n_seeds, size=(n_seeds, 1))
        prompts = rng.integers(n_prompts, size=(n_seeds, n_prompts))
        draws[k] = stacked[:, seeds, prompts].mean(axis=(1, 2))
    gaps, gained = draws[:, 0] - draws[:, 1], draws[:, 0] - draws[:, 2]
    normalised = np.quantile(gaps / gained, [0.025, 0.975]).tolist() if (gained > 0).all() else None
    return {"gap_interval": np.quantile(gaps, [0.025, 0.975]).tolist(), "normalised_gap_interval": normalised}


def results_csv(rows: list[dict[str, Any]]) -> str:
    """Return the summary as CSV, with all measures at full precision."""
    return str(pd.DataFrame(rows).to_csv(index=False))


COLUMNS = {
    "panel": "panel",
    "rule": "rule",
    "label_accuracy_unaudited": "label acc.",
    "brier": "Brier",
    "gold": "gold reward",
    "gap": "gap",
    "normalised_gap": "normalised [95 %]",
    "win_rate": "win rate",
    "kl": "KL",
    "n_tokens": "tokens",
}


IN_THE_TERMINAL = ("panel", "rule", "label_accuracy_unaudited", "gold", "gap", "normalised_gap", "kl")


def terminal_table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return headers and cells of what fits eighty columns; with one panel, its name is left out."""
    several_panels = len({row["panel"] for row in rows} - {SHARED}) > 1
    shown = [name for name in IN_THE_TERMINAL if name != "panel" or several_panels]
    positions = [list(COLUMNS).index(name) for name in shown]
    return [COLUMNS[name] for name in shown], [[cells(row)[k] for k in positions] for row in rows]


def cells(row: dict[str, Any]) -> list[str]:
    """Return a summary row as the texts of the columns ``COLUMNS``."""

    def number(name: str, digits: int = 3) -> str:
        return "–" if row[name] is None else f"{row[name]:.{digits}f}"

    def with_error(name: str, digits: int = 3) -> str:
        return number(name, digits) + ("" if row[name] is None else f" ± {row[name + '_se']:.{digits}f}")

    interval = row["normalised_gap_interval"]
    bounds = "" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]"
    return [
        "–" if row["panel"] == SHARED else row["panel"],
        row["rule"],
        number("label_accuracy_unaudited"),
        number("brier"),
        with_error("gold"),
        number("gap"),
        number("normalised_gap", 2) + bounds,
        with_error("win_rate", 2),
        number("kl", 2),
        number("n_tokens", 1),
    ]


def markdown_table(rows: list[dict[str, Any]]) -> str:
    """Return the summary as a Markdown table."""
    lines = ["| " + " | ".join(COLUMNS.values()) + " |", "|" + "---|" * len(COLUMNS)]
    return "\n".join(lines + ["| " + " | ".join(cells(row)) + " |" for row in rows]) + "\n"
