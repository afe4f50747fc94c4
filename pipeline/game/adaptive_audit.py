"""The part of the incentive audit that a cleverer liar hardly beats: exact adaptive lies in games of two labelers.

``aggregation.game.adaptive_lies`` solves them; here each rule of an audit that can be solved becomes one stage.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from truthful_rlhf.aggregation.game.adaptive_lies import RULES, SmallGame, best_adaptive_lie
from truthful_rlhf.aggregation.rules.hedge import Hedge
from truthful_rlhf.pipeline.config.game import AuditConfig
from truthful_rlhf.pipeline.config.rule import Rule
from truthful_rlhf.pipeline.storage.artifacts import RunFolder, write_json
from truthful_rlhf.pipeline.storage.inputs import StageInputs

SOLVED = {"next_share": "next share", "influence": "influence", "taste": "taste", "policy_taste": "policy"}
"""Objectives of an audit, by what ``adaptive_lies`` calls them."""
POLICY_ROUNDS, POLICY_GRID = 4, 16
"""Of ``policy_taste``, whose state has a second dimension: minutes per rule beyond that."""
GRID = 200


@dataclass(frozen=True, kw_only=True)
class AdaptiveInputs(StageInputs):
    """What the exact games against a rule depend on."""

    rule: Mapping[str, Any]
    exact_rounds: int
    objectives: list[str]


def can_be_solved(rule: Rule) -> bool:
    """Return whether games of two labelers against a rule can be solved: the rule, and its options, are known."""
    known = {"online_weighted": {"eta", "label", "secret"}, "linear_weighted": {"eta"}, "hedge": {"eta"}}
    return rule.name in RULES and set(rule.options) <= known.get(rule.name, set())


def adaptive_stages(config: AuditConfig, folder: RunFolder) -> Iterator[str]:
    """Solve the games of every rule that can be solved; a stage's name is yielded before it is built.

    Args:
        config: of the audit: its rules, objectives and ``exact_rounds``.
        folder: where the stages are kept.
    """
    for rule in solved_rules(config):
        yield f"two labelers: {rule.title}"
        path = adaptive_path(rule)

        def build(scratch: Path, rule: Rule = rule, path: str = path) -> None:
            write_json(scratch / path, [_row(rule, name, config.exact_rounds) for name in config.objectives])

        inputs = AdaptiveInputs(
            rule=rule.model_dump(), exact_rounds=config.exact_rounds, objectives=list(config.objectives)
        )
        folder.stage(path.removesuffix(".json"), inputs, [path], build)


def solved_rules(config: AuditConfig) -> list[Rule]:
    """Return the rules of an audit whose games are solved; none if ``exact_rounds`` is 0."""
    return [rule for rule in config.rules if can_be_solved(rule)] if config.exact_rounds else []


def adaptive_path(rule: Rule) -> str:
    """Return the artefact of a rule's games, relative to the run folder."""
    return f"adaptive/{rule.title}.json"


def _row(rule: Rule, objective: str, n_rounds: int) -> dict[str, Any]:
    policy = objective == "policy_taste"
    eta = rule.options.get("eta", Hedge(2).eta if rule.name == "hedge" else "auto")
    found = best_adaptive_lie(
        rule.name,
        SOLVED[objective],
        SmallGame(n_rounds=min(n_rounds, POLICY_ROUNDS) if policy else n_rounds),
        label=rule.options.get("label"),
        eta=eta,
        grid=POLICY_GRID if policy else GRID,
    )
    return {**asdict(found), "rule": rule.title, "objective": objective}
