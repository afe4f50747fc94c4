"""The incentive audit of simulated populations: one stage per population, rule and group of labelers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from truthful_rlhf.aggregation.game.campaigns import Campaign, Objective, Seat, draw_campaigns
from truthful_rlhf.aggregation.game.incentives import gains_by_class, next_share_gain
from truthful_rlhf.aggregation.game.population import Population
from truthful_rlhf.pipeline.config.game import NEXT_SHARE, AuditConfig, RuleSpec
from truthful_rlhf.pipeline.game.equilibria import Equilibria
from truthful_rlhf.pipeline.storage.artifacts import RunFolder, write_json
from truthful_rlhf.pipeline.storage.random import part_rng


@dataclass(frozen=True)
class IncentiveAudit:
    """One ``truthful-rlhf audit`` of simulated populations: its config and the run folder that it writes to."""

    config: AuditConfig
    folder: RunFolder

    @property
    def equilibria(self) -> Equilibria:
        """What best-responding groups play while one labeler deviates."""
        return Equilibria(self.folder, self.config.equilibrium, self.config.seed, self.config.audit_rate)

    @property
    def n_stages(self) -> int:
        """How many stages there are."""
        rules, equilibria = self.config.rules, self.equilibria
        return sum(
            len(equilibria.searched(population, rules)) + len(rules) * len(population.groups)
            for population in self.config.find_populations()
        )

    def stages(self) -> Iterator[str]:
        """Build stage after stage; each one's name is yielded before it is built."""
        for population in self.config.find_populations():
            keys = yield from self.equilibria.stages(population, self.config.rules)
            for rule in self.config.rules:
                for index, group in enumerate(population.groups):
                    yield f"{population.name}: {group.kind} against {rule.title}"
                    self._stage(population, rule, index, keys)

    def rows(self, table: str) -> pd.DataFrame:
        """Return one table of all stages: ``gains`` (whole campaigns) or ``next_share`` (one round, exact)."""
        rows: list[dict[str, Any]] = []
        for population in self.config.find_populations():
            for rule in self.config.rules:
                for index in range(len(population.groups)):
                    path = self.folder.root / _path(population, rule, index)
                    found = json.loads(path.read_text(encoding="utf-8"))[table]
                    rows += [
                        {"population": population.name, "rule": rule.title, "group": index, **row} for row in found
                    ]
        return pd.DataFrame(rows)

    def _stage(self, population: Population, rule: RuleSpec, index: int, equilibrium_keys: dict[str, str]) -> None:
        config, path = self.config, _path(population, rule, index)

        def build(scratch: Path) -> None:
            plan = self.equilibria.plan(population, rule, config.rounds)
            search, fresh = self._campaigns(population)
            found: dict[str, list[dict[str, Any]]] = {"gains": [], NEXT_SHARE: []}
            for name in config.objectives:
                rng = part_rng(config.seed, f"audit {population.name} {rule.title} {index} {name}")
                if name == NEXT_SHARE:
                    found[name].append(asdict(next_share_gain(rule.make, population, index, fresh, plan, rng)))
                    continue
                objective = Objective(name, config.discount)
                searching, measuring = (
                    Seat(rule.make, population, index, campaigns, objective, plan, config.world)
                    for campaigns in (search, fresh)
                )
                gains = gains_by_class(searching, measuring, population, index, config.strategies, rng)
                found["gains"] += [asdict(gain) for gain in gains]
            write_json(scratch / path, found)

        settings = config.model_dump(exclude={"rules", "populations", "define", "splits", "equilibrium"})
        inputs = {
            "population": asdict(population),
            "index": index,
            "rule": rule.model_dump(),
            "equilibria": equilibrium_keys,
            "settings": settings,
        }
        self.folder.stage(path.removesuffix(".json"), inputs, [path], build)

    def _campaigns(self, population: Population) -> tuple[list[Campaign], list[Campaign]]:
        """Return the campaigns to choose misreports on and the others to measure them on: the same for all rules."""
        config = self.config
        searching, measuring = part_rng(config.seed, f"audit {population.name}").spawn(2)
        return (
            draw_campaigns(population, config.rounds, config.search, searching, config.audit_rate),
            draw_campaigns(population, config.rounds, config.fresh, measuring, config.audit_rate),
        )


def best_by_search(gains: pd.DataFrame) -> pd.DataFrame:
    """Return, per population, rule, group and objective, the class that looked best where it was *searched*.

    Choosing by the measured gain instead would flatter it. What a group declares to do is not among the choices.
    """
    searched = gains[gains["strategy"] != "declared"]
    best = searched.groupby(["population", "rule", "group", "objective"], sort=False)["search_gain"].idxmax()
    return gains.loc[best].reset_index(drop=True)


def _path(population: Population, rule: RuleSpec, index: int) -> str:
    return f"gains/{population.name}/{rule.title}/{index}-{population.groups[index].kind}.json"
