"""Measure what each rule of a grid lost against training on the truth: one row per panel, rule and method."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.statistics import percentile_interval, ratio_interval
from truthful_rlhf.pipeline.config.rule import TRUTH
from truthful_rlhf.pipeline.experiment.conditions import Condition
from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.experiment.estimates import Estimate, alignment_gap
from truthful_rlhf.pipeline.experiment.grid import groups
from truthful_rlhf.pipeline.reports.rows import FIELDS, LABEL_MEASURES, AlignmentGap, GapRow, Measures
from truthful_rlhf.pipeline.storage.tables import read_table

_RESAMPLES = 2000


def summarise_grid(experiment: Experiment) -> list[GapRow]:
    """Return one row per panel, rule and method, averaged over seeds, with the alignment gap and its interval.

    The gap is that to the truth under the same method. The base policy stands first, without a method; its gap is that
    to the first method.
    """
    all_groups = groups(experiment.config)
    gold = [[gold_by_prompt(experiment, condition) for condition in group.conditions] for group in all_groups]
    base = gold[0]
    truths = {group.method: values for group, values in zip(all_groups, gold, strict=True) if group.title == TRUTH}
    truths[None] = truths[all_groups[1].method]
    return [
        GapRow(
            panel=group.panel,
            rule=group.title,
            method=group.method,
            measures=mean_over_seeds([measures_of(experiment, condition) for condition in group.conditions]),
            gap=gap_with_interval(truths[group.method], values, base),
        )
        for group, values in zip(all_groups, gold, strict=True)
    ]


def gold_by_prompt(experiment: Experiment, condition: Condition) -> FloatArray:
    """Return the gold reward of a policy's responses to each held-out prompt, shape ``(n_held_out,)``."""
    table = read_table(experiment.path(experiment.layout.of_condition(condition, "samples.parquet")), ["gold"])
    n = experiment.config.evaluation.responses_per_prompt
    return table["gold"].to_numpy(dtype=np.float64).reshape(-1, n).mean(axis=1)


def _mean(by_seed: list[FloatArray]) -> float:
    return float(np.mean([values.mean() for values in by_seed]))


def mean_over_seeds(by_seed: Sequence[Measures]) -> Measures:
    """Return the mean of every measure and its standard error, over seeds or, for one seed, its own."""
    known = [measures.known() for measures in by_seed]
    estimates = {name: [measures[name] for measures in known if name in measures] for name in FIELDS}
    return Measures(**{name: _over_seeds(of_name) for name, of_name in estimates.items() if of_name})


def _over_seeds(estimates: Sequence[Estimate]) -> Estimate:
    values = np.array([estimate.mean for estimate in estimates])
    one = estimates[0].standard_error
    return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else one)


def measures_of(experiment: Experiment, condition: Condition) -> Measures:
    """Return what was measured of one condition; the base policy has no labels and no win rate."""
    measures = {name: Estimate(**e) for name, e in read_json(experiment, condition, "evaluation.json").items()}
    if condition.rule is not None:
        labels = read_labels(experiment, condition)
        known = {name: labels[name] for name in LABEL_MEASURES if labels[name] is not None}
        measures |= {name: Estimate(value, float("nan")) for name, value in known.items()}
    return Measures(**measures)


def read_json(experiment: Experiment, condition: Condition, name: str) -> dict[str, Any]:
    """Read a JSON artefact of a condition.

    Args:
        experiment: the experiment.
        condition: whose artefact.
        name: of the file.
    """
    return _json(experiment.path(experiment.layout.of_condition(condition, name)))


def read_labels(experiment: Experiment, condition: Condition) -> dict[str, Any]:
    """Read ``labels.json`` of a condition, which its methods share."""
    return _json(experiment.path(experiment.layout.of_labels(condition, "labels.json")))


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def gap_with_interval(truth: list[FloatArray], rule: list[FloatArray], base: list[FloatArray]) -> AlignmentGap:
    """Return the raw and the normalised alignment gap with 95 % intervals.

    The interval is a paired bootstrap: seeds are resampled, then held-out prompts within each seed, the same ones for
    the rule, the truth and the base. With a single seed it covers the choice of prompts only, not the training. That of
    the normalised gap is a ``ratio_interval``: resamples in which training on the truth gained nothing count, and where
    they are many an end is None, which means no bound. Without a normalised gap there is no interval.

    Args:
        truth: gold reward by seed and prompt, ``n_seeds`` arrays of shape ``(n_prompts,)``, of the truth's policies.
        rule: the same of the rule's policies.
        base: the same of the base policy.
    """
    draws = resampled_means([truth, rule, base])
    gaps, gained = draws[:, 0] - draws[:, 1], draws[:, 0] - draws[:, 2]
    raw, normalised = alignment_gap(_mean(truth), _mean(rule), _mean(base))
    ends = None
    if normalised is not None:
        low, high = ratio_interval(gaps, gained, normalised)
        ends = (low if np.isfinite(low) else None, high if np.isfinite(high) else None)
    return AlignmentGap(raw, normalised, percentile_interval(gaps), ends)


def resampled_means(groups: list[list[FloatArray]]) -> FloatArray:
    """Return bootstrap means of paired groups of gold rewards, shape ``(n_resamples, n_groups)``.

    Args:
        groups: gold reward by seed and prompt, each ``n_seeds`` arrays of shape ``(n_prompts,)``. Seeds are resampled,
            then prompts within each seed, the same ones in all groups.
    """
    rng = np.random.default_rng(0)  # fixed: the same artefacts give the same report
    stacked = np.stack(groups)  # (n_groups, seeds, prompts)
    _, n_seeds, n_prompts = stacked.shape
    draws = np.empty((_RESAMPLES, len(groups)))
    for k in range(_RESAMPLES):
        seeds = rng.integers(n_seeds, size=(n_seeds, 1))
        prompts = rng.integers(n_prompts, size=(n_seeds, n_prompts))
        draws[k] = stacked[:, seeds, prompts].mean(axis=(1, 2))
    return draws
