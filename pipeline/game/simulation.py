"""Regret curves: rules x populations x campaign lengths, every cell a stage that a killed simulation does not repeat.

All rules meet the same campaigns (paired). A best-responding group plays against each rule what it found against that
rule on short simulated campaigns (``equilibrium.rounds``), with its start at the same share of the campaign. Batch
rules that re-estimate everything are too slow to be searched against: there it plays what pays against a stand-in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from truthful_rlhf.aggregation import regret, run_online
from truthful_rlhf.aggregation.game.campaigns import Campaign, draw_campaigns, reports_in
from truthful_rlhf.aggregation.game.population import Population
from truthful_rlhf.aggregation.statistics import brier
from truthful_rlhf.pipeline.config.game import RuleSpec, SimulateConfig
from truthful_rlhf.pipeline.game.equilibria import Equilibria
from truthful_rlhf.pipeline.storage.artifacts import RunFolder, write_json
from truthful_rlhf.pipeline.storage.random import part_rng


@dataclass(frozen=True)
class Simulation:
    """One ``truthful-rlhf simulate``: its config and the run folder that it writes to."""

    config: SimulateConfig
    folder: RunFolder

    @property
    def equilibria(self) -> Equilibria:
        """What best-responding groups play."""
        return Equilibria(self.folder, self.config.equilibrium, self.config.seed, self.config.audit_rate)

    @property
    def n_stages(self) -> int:
        """How many stages there are."""
        rules, equilibria = self.config.rules, self.equilibria
        searches = sum(len(equilibria.searched(population, rules)) for population in self.config.find_populations())
        return searches + len(self.config.populations) * len(self.config.rounds)

    def stages(self) -> Iterator[str]:
        """Build stage after stage; each one's name is yielded before it is built."""
        for population in self.config.find_populations():
            keys = yield from self.equilibria.stages(population, self.config.rules)
            for n_rounds in self.config.rounds:
                yield f"{population.name}: {n_rounds:,} pairs"
                self._regret_stage(population, n_rounds, keys)

    def regrets(self) -> pd.DataFrame:
        """Return one row per population, rule, campaign length and seed."""
        rows: list[dict[str, Any]] = []
        for name in self.config.populations:
            for n_rounds in self.config.rounds:
                rows += json.loads((self.folder.root / _path(name, n_rounds)).read_text(encoding="utf-8"))
        return pd.DataFrame(rows)

    def plays(self) -> pd.DataFrame:
        """Return one row per best-responding group and rule; empty if there are none."""
        equilibria = self.equilibria
        populations = self.config.find_populations()
        return pd.DataFrame(
            [row for population in populations for row in equilibria.rows(population, self.config.rules)]
        )

    def _regret_stage(self, population: Population, n_rounds: int, equilibrium_keys: dict[str, str]) -> None:
        config, path = self.config, _path(population.name, n_rounds)
        rules = [rule for rule in config.rules if n_rounds <= config.max_rounds.get(rule.name, n_rounds)]

        def build(scratch: Path) -> None:
            rows = []
            for seed in range(config.seed, config.seed + config.seeds):
                rng = part_rng(seed, f"campaign {population.name} {n_rounds}")
                campaign = draw_campaigns(population, n_rounds, 1, rng, config.audit_rate)[0]
                rows += [self._row(population, rule, seed, campaign) for rule in rules]
            write_json(scratch / path, rows)

        inputs = {
            "population": asdict(population),
            "rules": [(rule.model_dump(), self.equilibria.faced(rule).title) for rule in rules],
            "equilibria": equilibrium_keys,
            "rounds": n_rounds,
            "seeds": [config.seed, config.seeds],
            "audit_rate": config.audit_rate,
        }
        self.folder.stage(path.removesuffix(".json"), inputs, [path], build)

    def _row(self, population: Population, rule: RuleSpec, seed: int, campaign: Campaign) -> dict[str, Any]:
        plan = self.equilibria.plan(population, rule, campaign.n_rounds)
        reports = reports_in(population, campaign, plan)
        aggregator, keys = rule.make(population.n_labelers, seed), range(campaign.n_rounds)
        run = run_online(aggregator, reports, campaign.revealed(), keys, keep_weights=False)
        return {
            "population": population.name,
            "rule": rule.title,
            "rounds": campaign.n_rounds,
            "seed": seed,
            "n_labelers": population.n_labelers,
            "regret": float(regret(run.soft_labels, reports, campaign.outcomes)[-1]),
            "brier": brier(run.soft_labels, campaign.outcomes),
        }


def _path(population: str, n_rounds: int) -> str:
    return f"cells/{population}/{n_rounds}.json"
