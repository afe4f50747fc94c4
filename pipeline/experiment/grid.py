"""The grid of an experiment: panels x rules x policy methods x seeds, and the parts that it is run in.

A *cell* is what can be run apart from the others once the shared work of its seed is done: one seed, panel and rule,
with all methods, which share the cell's labels and reward model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from truthful_rlhf.pipeline.config.experiment import SHARED, Config
from truthful_rlhf.pipeline.config.rule import TRUTH, RuleSection
from truthful_rlhf.pipeline.config.training import PolicySettings
from truthful_rlhf.pipeline.experiment.conditions import Condition
from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.experiment.evaluation import build_shared, evaluate
from truthful_rlhf.pipeline.experiment.parts import Part


@dataclass(frozen=True)
class Group:
    """The conditions of one panel, rule and method over all seeds."""

    conditions: tuple[Condition, ...]

    @property
    def panel(self) -> str:
        """The panel's name; ``shared`` for the base policy and the truth, which need none."""
        return self.conditions[0].panel

    @property
    def title(self) -> str:
        """The rule's title, ``truth`` or ``base``."""
        return self.conditions[0].title

    @property
    def method(self) -> str | None:
        """The method's title; None for the base policy."""
        policy = self.conditions[0].policy
        return None if policy is None else policy.title


def groups(config: Config) -> list[Group]:
    """Return the grid: the base policy, the truth with every method, then every panel, rule and method."""
    rules = [rule for rule in config.rules if rule.name != TRUTH]

    def over_seeds(panel: str, rule: RuleSection | None, policy: PolicySettings | None) -> Group:
        return Group(tuple(Condition(seed, panel, rule, policy) for seed in config.seeds))

    judged = [(SHARED, RuleSection(name=TRUTH)), *((panel, rule) for panel in config.panels for rule in rules)]
    trained = [over_seeds(panel, rule, policy) for panel, rule in judged for policy in config.policy]
    return [over_seeds(SHARED, None, None), *trained]


def cells(config: Config, seed: int) -> list[tuple[Condition, ...]]:
    """Return the cells of a seed; the base policy belongs to the shared work."""
    by_cell: dict[tuple[str, str], list[Condition]] = {}
    for group in groups(config)[1:]:
        condition = next(condition for condition in group.conditions if condition.seed == seed)
        by_cell.setdefault((group.panel, group.title), []).append(condition)
    return [tuple(conditions) for conditions in by_cell.values()]


def parts(config: Config) -> list[Part]:
    """Return the parts of a run, one per seed."""
    return [
        Part(
            (f"seed {seed}: pairs and base policy", partial(_build_shared, seed=seed)),
            {f"seed {seed}: {c[0].panel}, {c[0].title}": partial(_evaluate, cell=c) for c in cells(config, seed)},
        )
        for seed in config.seeds
    ]


def _build_shared(experiment: Experiment, seed: int) -> list[str]:
    build_shared(experiment, seed)
    return []


def _evaluate(experiment: Experiment, cell: tuple[Condition, ...]) -> list[str]:
    return [evaluate(experiment, condition) for condition in cell]
