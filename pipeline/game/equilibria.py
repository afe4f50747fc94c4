"""The stage that finds what best-responding groups play against a rule; ``simulate`` and ``audit`` share it."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from truthful_rlhf.aggregation.game.campaigns import draw_campaigns
from truthful_rlhf.aggregation.game.equilibrium import Equilibrium, Play, find_equilibrium
from truthful_rlhf.aggregation.game.misreport import Misreport
from truthful_rlhf.aggregation.game.population import Population
from truthful_rlhf.pipeline.config.game import EquilibriumSection, RuleSpec
from truthful_rlhf.pipeline.storage.artifacts import RunFolder, write_json
from truthful_rlhf.pipeline.storage.random import part_rng


@dataclass(frozen=True)
class Equilibria:
    """Equilibria by population and rule, each found once and kept in the run folder."""

    folder: RunFolder
    settings: EquilibriumSection
    seed: int
    audit_rate: float

    def faced(self, rule: RuleSpec) -> RuleSpec:
        """Return the rule that best-responders search against: itself, or its stand-in if it is too slow."""
        stand_in = self.settings.stand_in.get(rule.name)
        return rule if stand_in is None else RuleSpec(name=stand_in)

    def searched(self, population: Population, rules: list[RuleSpec]) -> list[RuleSpec]:
        """Return the rules that the population's best-responders search against, each once; none without them."""
        if not population.best_responders:
            return []
        return list({rule.title: rule for rule in map(self.faced, rules)}.values())

    def stages(self, population: Population, rules: list[RuleSpec]) -> Generator[str, None, dict[str, str]]:
        """Find what the population plays against each rule; each search is named before it starts.

        Returns:
            The fingerprint of each search by the title of the rule that was searched against.
        """
        keys = {}
        for rule in self.searched(population, rules):
            yield f"{population.name}: best responses to {rule.title}"
            keys[rule.title] = self.find(population, rule)
        return keys

    def find(self, population: Population, rule: RuleSpec) -> str:
        """Find the equilibrium unless it is there already, and return the stage's fingerprint."""
        settings, path = self.settings, _path(population, rule)

        def build(scratch: Path) -> None:
            searching, measuring, resampling = part_rng(self.seed, f"equilibrium {population.name}").spawn(3)
            search = draw_campaigns(population, settings.rounds, settings.search, searching, self.audit_rate)
            fresh = draw_campaigns(population, settings.rounds, settings.fresh, measuring, self.audit_rate)
            found = find_equilibrium(
                rule.make,
                population,
                search,
                fresh,
                resampling,
                discount=settings.discount,
                tolerance=settings.tolerance,
                max_turns=settings.max_turns,
            )
            write_json(scratch / path, asdict(found))

        inputs = {
            "population": asdict(population),
            "rule": rule.model_dump(),
            "equilibrium": settings.model_dump(exclude={"stand_in"}),
            "seed": self.seed,
            "audit_rate": self.audit_rate,
        }
        return self.folder.stage(path.removesuffix(".json"), inputs, [path], build)

    def load(self, population: Population, rule: RuleSpec) -> Equilibrium:
        """Return an equilibrium that was found before."""
        content = json.loads((self.folder.root / _path(population, rule)).read_text(encoding="utf-8"))
        plays = tuple(
            Play(
                group=play["group"],
                kind=play["kind"],
                misreport=Misreport(**play["misreport"]),
                at_edge=play["at_edge"],
                over_truth=tuple(play["over_truth"]),
                left=tuple(play["left"]),
            )
            for play in content.pop("plays")
        )
        return Equilibrium(plays, **content)

    def plan(self, population: Population, rule: RuleSpec, n_rounds: int) -> dict[int, Misreport]:
        """Return what best-responding groups play against a rule in a campaign of ``n_rounds``."""
        if not population.best_responders:
            return {}
        return self.load(population, self.faced(rule)).plan(n_rounds)

    def rows(self, population: Population, rules: list[RuleSpec]) -> list[dict[str, Any]]:
        """Return one row per searched rule and best-responding group."""
        rows: list[dict[str, Any]] = []
        for rule in self.searched(population, rules):
            found = self.load(population, rule)
            rows += [_row(population, rule, found, play) for play in found.plays]
        return rows


def _path(population: Population, rule: RuleSpec) -> str:
    return f"equilibria/{population.name}/{rule.title}.json"


def _row(population: Population, rule: RuleSpec, found: Equilibrium, play: Play) -> dict[str, Any]:
    return {
        "population": population.name,
        "rule": rule.title,
        "group": play.group,
        "kind": play.kind,
        "converged": found.converged,
        "turns": found.n_turns,
        "scale": play.misreport.scale,
        "shift": play.misreport.shift,
        "start_share": play.misreport.start / found.n_rounds,
        "at_edge": play.at_edge,
        **dict(zip(("over_truth", "over_truth_low", "over_truth_high"), play.over_truth, strict=True)),
        **dict(zip(("left", "left_low", "left_high"), play.left, strict=True)),
    }
