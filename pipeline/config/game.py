"""The configs of ``simulate`` and ``audit``: which rules meet which populations, and how much is simulated."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from truthful_rlhf.aggregation import AGGREGATORS, make_aggregator
from truthful_rlhf.aggregation.base import Aggregator
from truthful_rlhf.aggregation.game.best_response import STRATEGY_CLASSES
from truthful_rlhf.aggregation.game.population import Population, population_from_mapping
from truthful_rlhf.aggregation.names import unknown
from truthful_rlhf.aggregation.rules import with_lottery
from truthful_rlhf.pipeline.config.loading import Section
from truthful_rlhf.pipeline.config.training import NAME

SPSA = "spsa"
NEXT_SHARE = "next_share"


class RuleSpec(Section):
    """An aggregation rule and its options; a name alone stands for the rule with its defaults."""

    name: str = Field(description=f"one of {', '.join(AGGREGATORS)}")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the rule, such as eta: 0.3")

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _can_be_made(self) -> RuleSpec:
        self.make(2)  # names an unknown rule or option and the nearest valid one
        return self

    @property
    def title(self) -> str:
        """The name, with the options if there are any."""
        options = ", ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name}({options})" if options else self.name

    def make(self, n_labelers: int, seed: int = 0) -> Aggregator:
        """Return a fresh aggregator: bound, this method is the ``Rule`` that labelers know.

        Args:
            n_labelers: N >= 1.
            seed: of its own lottery, where it draws one. Searches leave it: a lie and the truth meet the same lots.
        """
        return make_aggregator(self.name, n_labelers, **with_lottery(self.name, self.options, [seed, 2]))


class GameSection(Section):
    """What both commands need: rules, populations and the audit rate."""

    seed: int = Field(0, ge=0)
    rules: list[RuleSpec] = Field(min_length=1)
    populations: list[str] = Field(
        min_length=1, description="built in (aggregation/game/populations.yaml) or defined below"
    )
    define: dict[Annotated[str, Field(pattern=NAME)], dict[str, Any]] = Field(
        default_factory=dict, description="own populations: name (also of a folder) -> groups"
    )
    audit_rate: float = Field(1.0, ge=0, le=1, description="chance that a pair's outcome is revealed to the rule")

    @model_validator(mode="after")
    def _populations_exist(self) -> GameSection:
        self.find_populations()
        titles = [rule.title for rule in self.rules]
        if len(set(titles)) < len(titles) or len(set(self.populations)) < len(self.populations):
            raise ValueError("rules and populations must differ from each other")
        return self

    def find_populations(self) -> list[Population]:
        """Return the populations in the order given."""
        known = {**built_in_populations(), **self.define}
        for name in self.populations:
            if name not in known:
                raise ValueError(unknown("population", name, known))
        return [population_from_mapping(name, known[name]) for name in self.populations]


class EquilibriumSection(Section):
    """How best-responding groups find what they play."""

    rounds: int = Field(500, ge=10, description="length of the simulated campaigns")
    search: int = Field(8, ge=1, description="campaigns that misreports are chosen on")
    fresh: int = Field(32, ge=2, description="other campaigns that they are measured on")
    discount: float = Field(1.0, ge=0, le=1, description="per round, of the labelers' objectives")
    tolerance: float = Field(1e-3, gt=0, description="relative gain below which a group stays with what it plays")
    max_turns: int = Field(40, ge=1, description="best responses per group before giving up")
    stand_in: dict[str, str] = Field(
        default={"dawid_skene": "mean", "glad": "mean", "mace": "mean"},
        description="rule that is too slow to search against -> rule that best-responders think they face",
    )

    @field_validator("stand_in")
    @classmethod
    def _rules_exist(cls, stand_in: dict[str, str]) -> dict[str, str]:
        for name in (*stand_in, *stand_in.values()):
            make_aggregator(name, 2)
        return stand_in


class SimulateConfig(GameSection):
    """Regret curves."""

    seeds: int = Field(5, ge=1, description="independent campaigns per point")
    rounds: list[int] = Field(min_length=1, description="campaign lengths T")
    max_rounds: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict, description="rule -> longest campaign that it is run on"
    )
    equilibrium: EquilibriumSection = EquilibriumSection()

    @field_validator("rounds")
    @classmethod
    def _lengths(cls, rounds: list[int]) -> list[int]:
        if min(rounds) < 1:
            raise ValueError("campaign lengths must be >= 1")
        return sorted(set(rounds))

    @field_validator("max_rounds")
    @classmethod
    def _rules_exist(cls, max_rounds: dict[str, int]) -> dict[str, int]:
        for name in max_rounds:
            make_aggregator(name, 2)
        return max_rounds


class AuditConfig(GameSection):
    """The incentive audit."""

    objectives: list[Literal["next_share", "influence", "taste"]] = Field(min_length=1)
    strategies: list[str] = Field(min_length=1, description=f"of {', '.join(STRATEGY_CLASSES)}, {SPSA}")
    rounds: int = Field(500, ge=10, description="length of the simulated campaigns")
    discount: float = Field(1.0, ge=0, le=1, description="per round, of influence and taste")
    search: int = Field(16, ge=1, description="campaigns that misreports are chosen on")
    fresh: int = Field(64, ge=2, description="other campaigns that their gain is measured on")
    world: Literal["own", "true"] = Field("own", description="outcomes as the labeler expects them, or as they are")
    equilibrium: EquilibriumSection = EquilibriumSection()
    splits: int = Field(4, ge=1, description="annotation files: random halves")

    @field_validator("strategies")
    @classmethod
    def _strategies_exist(cls, strategies: list[str]) -> list[str]:
        for name in strategies:
            if name not in (*STRATEGY_CLASSES, SPSA):
                raise ValueError(unknown("strategy class", name, (*STRATEGY_CLASSES, SPSA)))
        return strategies


def split_arguments(first: str, others: list[str] | None, default: str) -> tuple[str, list[str]]:
    """Return the config and the overrides of a command whose config may be left out: ``simulate audit_rate=0.1``."""
    return (default, [first, *(others or [])]) if "=" in first else (first, others or [])


def built_in_populations() -> Mapping[str, Mapping[str, Any]]:
    """Return the populations that ship with the package, as plain mappings."""
    text = (importlib.resources.files("truthful_rlhf.aggregation.game") / "populations.yaml").read_text(
        encoding="utf-8"
    )
    content: Mapping[str, Mapping[str, Any]] = yaml.safe_load(text)
    return content
