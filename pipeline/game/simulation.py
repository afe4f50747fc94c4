"""Regret curves: rules x panels x campaign lengths, every cell a stage that a killed simulation does not repeat.

All rules and panels meet the same pairs (paired). A panel has the random streams that it has in ``compare`` under the
same seed. What best-responding labelers play depends on the rule, so reports do where a panel has such labelers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from truthful_rlhf.aggregation import regret, run_online
from truthful_rlhf.aggregation.statistics import brier
from truthful_rlhf.pipeline.config.game import SimulateConfig
from truthful_rlhf.pipeline.config.rule import Rule
from truthful_rlhf.pipeline.game.campaigns import JudgedPairs, context_of, judge_pairs, make_panel
from truthful_rlhf.pipeline.game.responses import best_responses, has_responders
from truthful_rlhf.pipeline.storage.artifacts import RunFolder, write_json
from truthful_rlhf.pipeline.storage.inputs import StageInputs
from truthful_rlhf.pipeline.storage.random import part_rng


@dataclass(frozen=True, kw_only=True)
class CrowdInputs(StageInputs):
    """What a panel's reports depend on, beside pairs and rules."""

    panel: Sequence[Mapping[str, Any]]
    name: str
    audit_rate: float


@dataclass(frozen=True, kw_only=True)
class ResponseInputs(StageInputs):
    """What the best responses of a panel depend on."""

    crowd: CrowdInputs
    rules: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class RegretInputs(StageInputs):
    """What the regrets of a panel at one campaign length depend on.

    Attributes:
        crowd: the panel.
        rules: those that are played at this length.
        rounds: T.
        seeds: the first one, and how many.
        pairs: spread of their true log-odds, then the topics.
    """

    crowd: CrowdInputs
    rules: Sequence[Mapping[str, Any]]
    rounds: int
    seeds: tuple[int, int]
    pairs: tuple[float | str, ...]


@dataclass(frozen=True)
class Simulation:
    """One ``truthful-rlhf simulate``: its config and the run folder that it writes to."""

    config: SimulateConfig
    folder: RunFolder

    @property
    def n_stages(self) -> int:
        """How many stages there are."""
        return sum(len(self.config.rounds) + has_responders(specs) for specs in self.config.panels.values())

    def stages(self) -> Iterator[str]:
        """Build stage after stage; each one's name is yielded before it is built."""
        for panel, specs in self.config.panels.items():
            if has_responders(specs):
                yield f"{panel}: best responses"
                self._response_stage(panel)
            for n_rounds in self.config.rounds:
                yield f"{panel}: {n_rounds:,} pairs"
                self._regret_stage(panel, n_rounds)

    def regrets(self) -> pd.DataFrame:
        """Return one row per panel, rule, campaign length and seed."""
        paths = [_cell(panel, n_rounds) for panel in self.config.panels for n_rounds in self.config.rounds]
        return pd.DataFrame([row for path in paths for row in self._load(path)])

    def responses(self) -> pd.DataFrame:
        """Return one row per best-responding entry and rule; empty if there are none."""
        panels = [panel for panel, specs in self.config.panels.items() if has_responders(specs)]
        return pd.DataFrame([row for panel in panels for row in self._load(_responses(panel))])

    def _load(self, path: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads((self.folder.root / path).read_text(encoding="utf-8"))
        return rows

    def _response_stage(self, panel: str) -> None:
        config, path = self.config, _responses(panel)

        def build(scratch: Path) -> None:
            judges = make_panel(config, panel, config.seed)
            rows = [
                {"panel": panel, "rule": rule.title, **row}
                for rule in config.rules
                for row in best_responses(judges, context_of(config, rule))
            ]
            write_json(scratch / path, rows)

        inputs = ResponseInputs(crowd=self._crowd(panel), rules=[rule.model_dump() for rule in config.rules])
        self.folder.stage(path.removesuffix(".json"), inputs, [path], build)

    def _regret_stage(self, panel: str, n_rounds: int) -> None:
        config, path = self.config, _cell(panel, n_rounds)
        rules = [rule for rule in config.rules if n_rounds <= config.max_rounds.get(rule.name, n_rounds)]

        def build(scratch: Path) -> None:
            rows = []
            for seed in range(config.seed, config.seed + config.seeds):
                judged = judge_pairs(
                    make_panel(config, panel, seed),
                    n_rounds,
                    1,
                    part_rng(seed, f"campaign {n_rounds}"),
                    spread=config.spread,
                    topics=config.topics,
                    audit_rate=config.audit_rate,
                )
                rows += [{"panel": panel, **self._row(rule, seed, judged)} for rule in rules]
            write_json(scratch / path, rows)

        inputs = RegretInputs(
            crowd=self._crowd(panel),
            rules=[rule.model_dump() for rule in rules],
            rounds=n_rounds,
            seeds=(config.seed, config.seeds),
            pairs=(config.spread, *config.topics),
        )
        self.folder.stage(path.removesuffix(".json"), inputs, [path], build)

    def _crowd(self, panel: str) -> CrowdInputs:
        specs = [spec.model_dump(mode="json") for spec in self.config.panels[panel]]
        return CrowdInputs(panel=specs, name=panel, audit_rate=self.config.audit_rate)

    def _row(self, rule: Rule, seed: int, judged: JudgedPairs) -> dict[str, Any]:
        reports, outcomes = judged.reports(context_of(self.config, rule)), judged.nature.outcomes
        aggregator, keys = rule.make(reports.shape[1], seed), range(len(reports))
        run = run_online(aggregator, reports, judged.nature.revealed, keys, keep_weights=False)
        return {
            "rule": rule.title,
            "rounds": len(reports),
            "seed": seed,
            "n_labelers": reports.shape[1],
            "regret": float(regret(run.soft_labels, reports, outcomes)[-1]),
            "brier": brier(run.soft_labels, outcomes),
        }


def _cell(panel: str, n_rounds: int) -> str:
    return f"cells/{panel}/{n_rounds}.json"


def _responses(panel: str) -> str:
    return f"best_responses/{panel}.json"
