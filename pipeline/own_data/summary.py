"""The table of a comparison on people's own annotations: one row per rule and method, reference points first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.statistics import effective_size, ratio_interval
from truthful_rlhf.pipeline.config.experiment import OWN_PANEL
from truthful_rlhf.pipeline.config.rule import RuleSection
from truthful_rlhf.pipeline.config.training import PolicySettings
from truthful_rlhf.pipeline.experiment.conditions import Condition
from truthful_rlhf.pipeline.experiment.context import N_FOLDS, Experiment
from truthful_rlhf.pipeline.experiment.folds import read_recorded
from truthful_rlhf.pipeline.own_data.cells import Grid, fold_experiments
from truthful_rlhf.pipeline.own_data.estimates import DIFFERENCE, LEVEL, SHARE, Interval, Verdicts, holm
from truthful_rlhf.pipeline.own_data.judges import Wins, read_wins
from truthful_rlhf.pipeline.own_data.preferences import PREFERENCES, read_likelihoods
from truthful_rlhf.pipeline.storage.tables import read_table

LIKELIHOOD = "base model, log-likelihood per token"
LONGER = "the longer response"
FIELDS = ("policy", "reward_model", "label")


@dataclass(frozen=True)
class Row:
    """What was measured of one rule and method over all folds and seeds; None where there is nothing to measure."""

    rule: str
    method: str | None
    is_reference: bool
    accuracy: Interval | None = None
    """Of the policy's implicit preference on the held-out verdicts (of a reference without policy, its own)."""
    log_loss: Interval | None = None
    """In nats; 0.693 is saying nothing."""
    reward_accuracy: Interval | None = None
    reward_log_loss: Interval | None = None
    label_accuracy: Interval | None = None
    """Of the rule's own labels of the held-out pairs, their outcomes not revealed."""
    label_log_loss: Interval | None = None
    ahead: Interval | None = None
    """Accuracy (the policy's, or else the reward model's) minus that of the plain mean under the same method."""
    ahead_log_loss: Interval | None = None
    """The mean's log loss minus its own."""
    p_value: float | None = None
    """Of ``ahead``, adjusted for the number of rules; only of rules."""
    differing: float | None = None
    """Share of the verdicts on which it and the mean are not equally right."""
    gap: float | None = None
    """Normalised gap: lost of what training on all outcomes gained over the base model's own preference."""
    gap_interval: tuple[float | None, float | None] | None = None
    n_tokens: float | None = None
    kl: float | None = None
    """To the base policy, in nats per response."""
    wins_base: Interval | None = None
    """Win rate against the base policy's responses, as judges see it."""
    wins_mean: Interval | None = None

    @property
    def is_shown(self) -> bool:
        """Whether the difference to the plain mean is more than chance."""
        return self.p_value is not None and self.p_value <= LEVEL

    def record(self) -> dict[str, Any]:
        """Return the row as ``results.csv`` and ``evaluation.json`` have it: flat, None where nothing is known."""
        return flat(self)


@dataclass(frozen=True)
class Difference:
    """Two rules under one method on the same verdicts, the first minus the second."""

    rule: str
    other: str
    method: str
    accuracy: Interval
    log_loss: Interval
    """The other's log loss minus the rule's: above 0 the rule is better, as in accuracy."""
    wins: Interval | None = None
    """The rule's win rate against the other, as judges see it."""

    def record(self) -> dict[str, Any]:
        """Return it flat, as ``differences.csv`` has it."""
        return flat(self)


def flat(row: Row | Difference) -> dict[str, Any]:
    """Return the fields of a row, intervals as three columns; None where nothing is known."""
    found: dict[str, Any] = {}
    for name, value in vars(row).items():
        if isinstance(value, Interval):
            found |= {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}
        elif isinstance(value, tuple):
            found |= {f"{name}_low": value[0], f"{name}_high": value[1]}
        else:
            found[name] = value
    return found


@dataclass(frozen=True)
class Table:
    """All rows, and what they were measured on."""

    rows: tuple[Row, ...]
    n_verdicts: int
    n_effective: float
    """Equally weighted verdicts that would tell as much."""
    n_groups: int
    n_seeds: int
    wins: Wins | None
    differences: tuple[Difference, ...] = ()
    """Of every two rules under every method."""


class _Measured:
    """What was measured, by condition: arrays of shape (seeds, verdicts)."""

    def __init__(self, experiment: Experiment, grid: Grid) -> None:
        self.experiment, self.grid = experiment, grid
        table = read_recorded(experiment)
        self.table = table[table["recorded_outcome"].notna()].reset_index(drop=True)
        group = np.unique(self.table["group"], return_inverse=True)[1]
        outcome, weight = (self.table[name].to_numpy(dtype=np.float64) for name in ("recorded_outcome", "weight"))
        self.verdicts = Verdicts(outcome, weight, group)

    def conditions(self, rule: RuleSection, policy: PolicySettings) -> list[tuple[Experiment, Condition]]:
        """Return a rule and method in every seed and fold."""
        return [(e, Condition(seed, OWN_PANEL, rule, policy)) for seed, e in fold_experiments(self.experiment)]

    def preferences(self, rule: RuleSection, policy: PolicySettings) -> dict[str, FloatArray | None]:
        """Return P(A better) of the verdicts by `FIELDS`, each of shape (seeds, n); None where there is none."""
        parts = [
            read_table(e.path(e.layout.of_condition(condition, PREFERENCES)), ["pair_id", *FIELDS])
            for e, condition in self.conditions(rule, policy)
        ]
        by_seed = [
            pd.concat(parts[k : k + N_FOLDS]).set_index("pair_id").loc[self.table["pair_id"]]
            for k in range(0, len(parts), N_FOLDS)
        ]
        found: dict[str, FloatArray | None] = {}
        for name in FIELDS:
            values = np.array([part[name].to_numpy(dtype=np.float64) for part in by_seed])
            found[name] = None if np.isnan(values).all() else np.where(np.isnan(values), 0.5, values)
        return found

    def responses(self, rule: RuleSection, policy: PolicySettings) -> dict[str, Any]:
        """Return the mean length in tokens and KL in nats of the responses to held-out prompts."""
        parts = [
            read_table(e.path(e.layout.of_condition(condition, "samples.parquet")), ["n_tokens", "kl"])
            for e, condition in self.conditions(rule, policy)
        ]
        everything = pd.concat(parts)
        return {name: float(everything[name].mean()) for name in ("n_tokens", "kl")}


def summarise(experiment: Experiment, grid: Grid) -> Table:
    """Return the table of a finished comparison."""
    measured = _Measured(experiment, grid)
    verdicts = measured.verdicts
    wins = read_wins(experiment)
    base = _own_preferences(measured)
    rows = [
        Row(title, None, True, accuracy=verdicts.interval(_each_seed(measured, verdicts.hits(said)), SHARE))
        for title, said in base.items()
    ]
    differences: list[Difference] = []
    for policy in experiment.config.policy:
        rows += _of_method(measured, policy, verdicts.hits(base[LIKELIHOOD]), wins)
        differences += _between_rules(measured, policy, wins)
    one_group = np.zeros(len(verdicts.weight), dtype=np.int64)
    size = float(effective_size(verdicts.weight, one_group, 1)[0])
    return Table(
        tuple(rows),
        len(verdicts.outcome),
        size,
        verdicts.n_groups,
        len(experiment.config.seeds),
        wins,
        tuple(differences),
    )


def audited_share(experiment: Experiment) -> float:
    """Return the mean share of the training pairs whose outcome the rules saw, over seeds and folds, in [0, 1]."""
    shares = [
        read_table(inside.path(inside.layout.of_seed(seed, "outcomes.parquet")), ["audited"])["audited"].mean()
        for seed, inside in fold_experiments(experiment)
    ]
    return float(np.mean(shares))


def _each_seed(measured: _Measured, values: FloatArray) -> FloatArray:
    return np.tile(values, (len(measured.experiment.config.seeds), 1))


def _own_preferences(measured: _Measured) -> dict[str, FloatArray]:
    """Return what prefers without training, P(A better) in {0, 1/2, 1}: the base model per token, and length alone."""
    known = read_likelihoods(measured.experiment).set_index("pair_id").loc[measured.table["pair_id"]]
    a, b = (known[f"n_tokens_{side}"].to_numpy(dtype=np.float64) for side in "ab")
    likely = known["log_p_a"].to_numpy(dtype=np.float64) / a - known["log_p_b"].to_numpy(dtype=np.float64) / b
    return {LIKELIHOOD: (1.0 + np.sign(likely)) / 2.0, LONGER: (1.0 + np.sign(a - b)) / 2.0}


def _of_method(measured: _Measured, policy: PolicySettings, base: FloatArray, wins: Wins | None) -> list[Row]:
    """Return the rows of a method, with their differences to the plain mean and their p-values."""
    grid, verdicts = measured.grid, measured.verdicts
    rules = [*((rule, True) for rule in grid.references), *((rule, False) for rule in grid.rules)]
    said = {rule.title: measured.preferences(rule, policy) for rule, _ in rules}
    mean = _decides(said[grid.mean])
    truth = None if grid.truth is None else verdicts.hits(_decides(said[grid.truth]))
    rows = []
    for rule, is_reference in rules:
        own = _decides(said[rule.title])
        row = Row(rule.title, policy.title, is_reference, **measured.responses(rule, policy))
        row = replace(row, **_accuracies(verdicts, said[rule.title]))
        if rule.title != grid.mean:
            row = replace(row, **_ahead(verdicts, own, mean))
        if truth is not None and rule.title != grid.truth:
            row = replace(row, **_gap(verdicts, truth, verdicts.hits(own), _each_seed(measured, base)))
        if wins is not None:
            against = wins.of(rule.title, policy.title)
            row = replace(row, wins_base=against.get("base"), wins_mean=against.get(grid.mean))
        rows.append(row)
    tested = [k for k, row in enumerate(rows) if not row.is_reference and row.rule != grid.mean]
    adjusted = holm([verdicts.p_value(_right(verdicts, said[rows[k].rule]) - verdicts.hits(mean)) for k in tested])
    for k, p in zip(tested, adjusted, strict=True):
        rows[k] = replace(rows[k], p_value=p)
    return rows


def _between_rules(measured: _Measured, policy: PolicySettings, wins: Wins | None) -> list[Difference]:
    """Return every two rules of a method, paired."""
    verdicts = measured.verdicts
    said = {rule.title: _decides(measured.preferences(rule, policy)) for rule in measured.grid.rules}
    return [
        Difference(
            *(rule, other, policy.title),
            accuracy=verdicts.interval(verdicts.hits(said[rule]) - verdicts.hits(said[other]), DIFFERENCE),
            log_loss=verdicts.interval(verdicts.log_losses(said[other]) - verdicts.log_losses(said[rule])),
            wins=None if wins is None else wins.between(rule, other, policy.title),
        )
        for rule, other in combinations(said, 2)
    ]


def _decides(said: Mapping[str, FloatArray | None]) -> FloatArray:
    """Return what a condition is compared by: its policy's preference, or that of the reward model that chooses."""
    found = said["policy"] if said["policy"] is not None else said["reward_model"]
    assert found is not None
    return found


def _right(verdicts: Verdicts, said: Mapping[str, FloatArray | None]) -> FloatArray:
    return verdicts.hits(_decides(said))


def _accuracies(verdicts: Verdicts, said: Mapping[str, FloatArray | None]) -> dict[str, Any]:
    found = {}
    for field, name in (("policy", ""), ("reward_model", "reward_"), ("label", "label_")):
        if (values := said[field]) is not None:
            found[f"{name}accuracy"] = verdicts.interval(verdicts.hits(values), SHARE)
            found[f"{name}log_loss"] = verdicts.interval(verdicts.log_losses(values))
    return found


def _ahead(verdicts: Verdicts, own: FloatArray, mean: FloatArray) -> dict[str, Any]:
    difference = verdicts.hits(own) - verdicts.hits(mean)
    return {
        "ahead": verdicts.interval(difference, DIFFERENCE),
        "ahead_log_loss": verdicts.interval(verdicts.log_losses(mean) - verdicts.log_losses(own)),
        "differing": verdicts.mean(np.abs(difference)),
    }


def _gap(verdicts: Verdicts, truth: FloatArray, own: FloatArray, base: FloatArray) -> dict[str, Any]:
    """Return the normalised gap (truth - own) / (truth - base); nothing where training on the truth gained nothing."""
    gained = verdicts.mean(truth) - verdicts.mean(base)
    if gained <= 0:
        return {}
    gap = verdicts.mean(truth - own) / gained
    low, high = ratio_interval(verdicts.resampled(truth - own), verdicts.resampled(truth - base), gap)
    return {"gap": gap, "gap_interval": (low if np.isfinite(low) else None, high if np.isfinite(high) else None)}
