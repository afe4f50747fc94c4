"""The cells of an experiment's grid, and where the artefacts of each lie in the run folder."""

from __future__ import annotations

from dataclasses import dataclass

from truthful_rlhf.aggregation.names import nearest
from truthful_rlhf.pipeline.config.experiment import SHARED, Config
from truthful_rlhf.pipeline.config.loading import ConfigError
from truthful_rlhf.pipeline.config.rule import TRUTH, RuleSection
from truthful_rlhf.pipeline.config.training import DPOSettings, OnlineDPOSettings, PolicySettings

BASE = "base"


@dataclass(frozen=True)
class Layout:
    """Where the artefacts of a seed, of a panel and rule, and of a condition lie below the run folder."""

    seed: str
    judged: str
    condition: str

    def of_seed(self, seed: int, name: str) -> str:
        """Return the path of an artefact that all conditions of a seed share."""
        return self.seed.format(seed=seed) + name

    def of_labels(self, condition: Condition, name: str) -> str:
        """Return the path of an artefact that the methods of a panel and rule share: labels, the reward model.

        The online loop shares none: which pairs are judged depends on its policy.
        """
        if isinstance(condition.method, OnlineDPOSettings):
            return self.of_condition(condition, name)
        return self.judged.format(seed=condition.seed, panel=condition.panel, rule=condition.title) + name

    def of_condition(self, condition: Condition, name: str) -> str:
        """Return the path of an artefact of one condition; the base policy belongs to the seed."""
        if condition.rule is None:
            return self.of_seed(condition.seed, f"{BASE}/{name}")
        parts = {"panel": condition.panel, "rule": condition.title, "method": condition.method.title}
        return self.condition.format(seed=condition.seed, **parts) + name


GRID = Layout("seed-{seed}/", "seed-{seed}/{panel}/{rule}/", "seed-{seed}/{panel}/{rule}/{method}/")
SINGLE = Layout("", "", "")  # one condition: its files lie in the run folder itself


@dataclass(frozen=True)
class Condition:
    """One cell of the grid: a seed, a panel, a rule and a method; without a rule it is the base policy (untrained)."""

    seed: int
    panel: str
    rule: RuleSection | None
    policy: PolicySettings | None

    @property
    def title(self) -> str:
        """Return the rule's title, or ``base``."""
        return BASE if self.rule is None else self.rule.title

    @property
    def method(self) -> PolicySettings:
        """Return how the policy is trained, with the rule's own loss if it has one; the base policy is not trained."""
        assert self.policy is not None
        assert self.rule is not None
        if self.rule.loss is None:
            return self.policy
        loss = {"loss": self.rule.loss}
        if isinstance(self.policy, DPOSettings):
            return self.policy.model_copy(update=loss)
        return self.policy.model_copy(update={"reward_model": self.policy.reward_model.model_copy(update=loss)})


def choose_condition(config: Config, panel: str | None, rule: str | None, method: str | None = None) -> Condition:
    """Return one cell of a config's grid, by the names of its panel, rule and method; the only one needs no name.

    Args:
        config: whose grid.
        panel: name of a panel, or None for the only one.
        rule: title of a rule, ``truth``, or None for the only one.
        method: title of a method, or None for the only one.

    Raises:
        ConfigError: the name is not in the config, or there are several and none was named.
    """
    seed = _only("seeds", [str(s) for s in config.seeds], None, "--seed")
    panel_name = _only("panels", list(config.panels), panel, "--panel")
    rules = {entry.title: entry for entry in config.rules}
    methods = {entry.title: entry for entry in config.policy}
    policy = methods[_only("methods", list(methods), method, "--method")]
    if rule == TRUTH:
        return Condition(int(seed), SHARED, RuleSection(name=TRUTH), policy)
    return Condition(int(seed), panel_name, rules[_only("rules", list(rules), rule, "--rule")], policy)


def _only(what: str, names: list[str], wanted: str | None, option: str) -> str:
    if wanted is not None and wanted not in names:
        raise ConfigError(f"{option} {wanted}: the config has {what} {', '.join(names)}{nearest(wanted, names)}")
    if wanted is None and len(names) > 1:
        raise ConfigError(f"the config has several {what} ({', '.join(names)}): choose one with {option}")
    return wanted if wanted is not None else names[0]
