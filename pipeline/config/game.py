"""The configs of ``simulate`` and ``audit``: which rules meet which panels, and how much is simulated."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from truthful_rlhf.aggregation import make_aggregator
from truthful_rlhf.aggregation.game.best_response import STRATEGY_CLASSES
from truthful_rlhf.aggregation.game.campaigns import SPREAD
from truthful_rlhf.aggregation.names import unknown
from truthful_rlhf.labelers.panels import Panels, needs_texts, topics_needed
from truthful_rlhf.pipeline.config.loading import Section
from truthful_rlhf.pipeline.config.rule import Rule

SPSA = "spsa"
NEXT_SHARE = "next_share"
BUNDLED_TOPICS = (
    *("book", "family", "film", "health", "home", "hotel", "music", "neighbourhood"),
    *("restaurant", "school", "shopping", "sport", "technology", "travel", "weather", "work"),
)
"""Topics of the prompts that ship with the package."""


class GameSection(Section):
    """What both commands need: rules, panels, and the pairs that they judge."""

    seed: int = Field(0, ge=0)
    rules: list[Rule] = Field(min_length=1)
    panels: Panels = Field(description="who judges: names of panels that ship, YAML files, or name -> entries")
    audit_rate: float = Field(1.0, ge=0, le=1, description="chance that a pair's outcome is revealed to the rule")
    spread: float = Field(SPREAD, ge=0, description="standard deviation of the pairs' true log-odds that A is better")
    topics: list[str] = Field(
        list(BUNDLED_TOPICS), min_length=1, description="every pair has one of them; those of the bundled prompts"
    )

    @model_validator(mode="after")
    def _can_be_played(self) -> GameSection:
        titles = [rule.title for rule in self.rules]
        if len(set(titles)) < len(titles) or len(set(self.topics)) < len(self.topics):
            raise ValueError("rules must differ from each other, and so must topics")
        for name, specs in self.panels.items():
            for spec in specs:
                place = f"panel {name!r}, entry {spec.name!r}"
                if reason := needs_texts(spec):
                    raise ValueError(f"{place}: {reason}; there are no texts here: train with it in compare")
                for topic in topics_needed(spec):
                    if topic not in self.topics:
                        raise ValueError(f"{place}: {unknown('topic', topic, self.topics)} (the key topics has them)")
        return self


class SimulateConfig(GameSection):
    """Regret curves."""

    seeds: int = Field(5, ge=1, description="independent campaigns per point")
    rounds: list[int] = Field(min_length=1, description="campaign lengths T")
    max_rounds: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict, description="rule -> longest campaign that it is run on"
    )

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

    objectives: list[Literal["next_share", "influence", "taste", "policy_taste"]] = Field(min_length=1)
    strategies: list[str] = Field(min_length=1, description=f"of {', '.join(STRATEGY_CLASSES)}, {SPSA}")
    rounds: int = Field(500, ge=10, description="length of the simulated campaigns")
    discount: float = Field(1.0, ge=0, le=1, description="per round, of influence and taste")
    search: int = Field(16, ge=1, description="campaigns that misreports are chosen on")
    fresh: int = Field(64, ge=2, description="other campaigns that their gain is measured on")
    outcome_model: Literal["own", "true"] = Field(
        "own", description="outcomes as the labeler expects them, or as they are"
    )
    splits: int = Field(4, ge=1, description="annotation files: random halves")
    exact_rounds: int = Field(
        20,
        ge=0,
        le=60,
        description="length of the games of two labelers in which the best adaptive lie is exact; 0: none",
    )

    @field_validator("strategies")
    @classmethod
    def _strategies_exist(cls, strategies: list[str]) -> list[str]:
        for name in strategies:
            if name not in (*STRATEGY_CLASSES, SPSA):
                raise ValueError(unknown("strategy class", name, (*STRATEGY_CLASSES, SPSA)))
        return strategies


def split_arguments(
    first: str, others: list[str] | None, default: str, panels: list[str] | None = None
) -> tuple[str, list[str]]:
    """Return the config and the overrides of a command whose config may be left out: ``simulate audit_rate=0.1``.

    Args:
        first: the first argument: a config, or an override.
        others: further overrides.
        default: the config that is meant where there is none.
        panels: files or names of panels, which become an override.
    """
    name, overrides = (default, [first, *(others or [])]) if "=" in first else (first, others or [])
    return name, [*overrides, *([f"panels={json.dumps(panels)}"] if panels else [])]
