"""What is trained on people's own annotations: every rule, and the reference points that outcomes allow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from truthful_rlhf.aggregation.statistics import verdicts_needed
from truthful_rlhf.labelers.recorded.annotations import Annotations
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.pipeline.config.experiment import AUDITS, OWN_PANEL, Config
from truthful_rlhf.pipeline.config.rule import TRUTH, RuleSection
from truthful_rlhf.pipeline.experiment.conditions import Condition
from truthful_rlhf.pipeline.experiment.context import N_FOLDS, Experiment
from truthful_rlhf.pipeline.experiment.evaluation import build_shared, evaluate
from truthful_rlhf.pipeline.experiment.folds import build_split, prompt_groups
from truthful_rlhf.pipeline.experiment.parts import Part
from truthful_rlhf.pipeline.own_data.preferences import build_likelihoods, measure

MEAN = "mean"
LARGEST_DIFFERENCE = 0.3
"""A file whose verdicts cannot even show this difference of two accuracies is refused."""


@dataclass(frozen=True)
class Grid:
    """The conditions of one seed and fold, in the order of the table: reference points first.

    Attributes:
        rules: with the plain mean, which is added where the config has none.
        mean: the title of the rule that the others are compared with.
        truth: the title of what was trained on the outcomes of all pairs; None where some are not known.
        audits: whether any outcome is audited.
    """

    rules: tuple[RuleSection, ...]
    mean: str
    truth: str | None
    audits: bool

    @property
    def references(self) -> tuple[RuleSection, ...]:
        """What is trained beside the rules: on the audited outcomes alone, and on all outcomes if these are known."""
        section = RuleSection(name=TRUTH)  # takes no options from a config
        audits = section.model_copy(update={"called": AUDITS})
        truth = section.model_copy(update={"called": TRUTH, "audit_rate": 1.0})
        return (*([audits] if self.audits else []), *([truth] if self.truth == TRUTH else []))


def make_grid(config: Config, all_known: bool) -> Grid:
    """Return what is trained.

    Args:
        config: whose rules.
        all_known: whether every pair of the file has an outcome.
    """
    means = [rule for rule in config.rules if rule.name == MEAN]
    rules = config.rules if means else [RuleSection(name=MEAN), *config.rules]
    truth = (TRUTH if config.audit_rate < 1 else AUDITS) if all_known else None  # all audited: that is the truth
    return Grid(tuple(rules), means[0].title if means else MEAN, truth, config.audit_rate > 0)


def check_verdicts(annotations: Annotations) -> None:
    """Refuse a file whose verdicts could not show anything.

    Raises:
        AnnotationError: without texts, with too few verdicts, or with verdicts on too few prompts.
    """
    if not annotations.has_texts:
        raise AnnotationError(
            f"{annotations.source}: a policy is trained on texts: every pair needs prompt, response_a and response_b"
        )
    known = ~np.isnan(annotations.outcome)
    n, needed = int(known.sum()), verdicts_needed(LARGEST_DIFFERENCE)
    if n < needed:
        points = f"{100 * LARGEST_DIFFERENCE:.0f} points"
        raise AnnotationError(
            f"{annotations.source}: {n} known outcomes cannot show a difference of {points} between two policies;"
            f" {needed} would do ({needed - n} more), {verdicts_needed(0.2)} show 20 points (two-sided 5 %, power 0.8,"
            " policies that differ on 30 % of the verdicts)."
            f" Draw the pairs to audit: truthful-rlhf audit-plan FILE --budget {needed - n}"
        )
    prompts = annotations.texts.take(annotations.text_row).column("prompt").to_pylist()
    groups = len(set(prompt_groups(prompts)[known]))
    if groups < N_FOLDS:
        raise AnnotationError(
            f"{annotations.source}: the outcomes are on {groups} groups of prompts that contain one another;"
            f" {N_FOLDS} folds need at least {N_FOLDS}"
        )


def conditions(config: Config, grid: Grid, seed: int) -> list[Condition]:
    """Return the trained conditions of a seed, with every method.

    Args:
        config: whose methods.
        grid: what is trained.
        seed: of the run.
    """
    return [
        Condition(seed, OWN_PANEL, rule, policy) for rule in (*grid.references, *grid.rules) for policy in config.policy
    ]


def fold_experiments(experiment: Experiment) -> Iterator[tuple[int, Experiment]]:
    """Yield the seeds, each with the experiment of each of its folds."""
    for seed in experiment.config.seeds:
        for fold in range(N_FOLDS):
            yield seed, experiment.in_fold(fold)


def parts(config: Config, grid: Grid) -> list[Part]:
    """Return the parts of a run, one per seed and fold; all of them need `build_first`.

    Their cells return the fingerprints of the stages that measured the policies' responses.
    """
    found = []
    for seed in config.seeds:
        by_rule: dict[str, list[Condition]] = {}
        for condition in conditions(config, grid, seed):
            by_rule.setdefault(condition.title, []).append(condition)
        for fold in range(N_FOLDS):
            name = f"seed {seed}, fold {fold}"
            cells = {
                f"{name}: {title}": partial(_train_and_measure, fold=fold, cell=tuple(cell))
                for title, cell in by_rule.items()
            }
            found.append(Part((f"{name}: pairs and base policy", partial(_build_fold, seed=seed, fold=fold)), cells))
    return found


def build_first(experiment: Experiment) -> list[str]:
    """Build what all folds need: the base policy's likelihoods of all verdicts, and who is held out where."""
    build_likelihoods(experiment)
    return [build_split(experiment, seed) for seed in experiment.config.seeds]


def _build_fold(experiment: Experiment, seed: int, fold: int) -> list[str]:
    build_shared(experiment.in_fold(fold), seed)
    return []


def _train_and_measure(experiment: Experiment, fold: int, cell: tuple[Condition, ...]) -> list[str]:
    inside = experiment.in_fold(fold)
    keys = []
    for condition in cell:
        keys.append(evaluate(inside, condition))
        measure(inside, condition)
    return keys
