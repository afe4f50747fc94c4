"""The incentive audit of simulated panels: one stage per panel, rule and entry, and one per rule for exact games."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd

from truthful_rlhf.aggregation.game.campaigns import Campaign, LabelerPosition, Objective
from truthful_rlhf.aggregation.game.incentives import gains_by_class, next_share_gain
from truthful_rlhf.labelers import LabelerSpec
from truthful_rlhf.pipeline.config.game import NEXT_SHARE, AuditConfig
from truthful_rlhf.pipeline.config.rule import Rule
from truthful_rlhf.pipeline.game.adaptive_audit import adaptive_path, adaptive_stages, solved_rules
from truthful_rlhf.pipeline.game.campaigns import context_of, deviators, judge_pairs, make_panel
from truthful_rlhf.pipeline.storage.artifacts import RunFolder, write_json
from truthful_rlhf.pipeline.storage.inputs import StageInputs
from truthful_rlhf.pipeline.storage.random import part_rng

Drawn = tuple[dict[str, slice], list[Campaign]]
"""The columns that deviate together, by entry, and the campaigns."""


@dataclass(frozen=True, kw_only=True)
class GainInputs(StageInputs):
    """What the gains of an entry of a panel against a rule depend on."""

    panel: Sequence[Mapping[str, Any]]
    name: str
    entry: str
    rule: Mapping[str, Any]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class IncentiveAudit:
    """One ``truthful-rlhf audit`` of simulated panels: its config and the run folder that it writes to."""

    config: AuditConfig
    folder: RunFolder

    @property
    def n_stages(self) -> int:
        """How many stages there are."""
        n_entries = sum(len(specs) for specs in self.config.panels.values())
        return len(self.config.rules) * n_entries + len(solved_rules(self.config))

    def stages(self) -> Iterator[str]:
        """Build stage after stage; each one's name is yielded before it is built."""
        yield from adaptive_stages(self.config, self.folder)
        for panel, specs in self.config.panels.items():
            for rule in self.config.rules:
                drawn = cache(partial(self._draw, panel, rule))  # once for all entries, and only if a stage is built
                for spec in specs:
                    yield f"{panel}: {spec.name} against {rule.title}"
                    self._stage(panel, rule, spec, drawn)

    def rows(self, table: str) -> pd.DataFrame:
        """Return one table of all stages: ``gains`` (whole campaigns) or ``next_share`` (one round, exact)."""
        rows: list[dict[str, Any]] = []
        for panel, specs in self.config.panels.items():
            for rule in self.config.rules:
                for spec in specs:
                    path = self.folder.root / _path(panel, rule, spec)
                    found = json.loads(path.read_text(encoding="utf-8"))[table]
                    rows += [{"panel": panel, "rule": rule.title, "entry": spec.name, **row} for row in found]
        return pd.DataFrame(rows)

    def adaptive_rows(self) -> pd.DataFrame:
        """Return what the best adaptive liar gains in the games of two labelers, a row per rule and objective."""
        paths = [self.folder.root / adaptive_path(rule) for rule in solved_rules(self.config)]
        return pd.DataFrame([row for path in paths for row in json.loads(path.read_text(encoding="utf-8"))])

    def _draw(self, panel: str, rule: Rule) -> Drawn:
        """Return the entries' columns, and the campaigns, whose pairs and beliefs are the same for all rules."""
        config = self.config
        judges = make_panel(config, panel, config.seed)
        judged = judge_pairs(
            judges,
            config.rounds,
            config.search + config.fresh,
            part_rng(config.seed, "audit"),
            spread=config.spread,
            topics=config.topics,
            audit_rate=config.audit_rate,
        )
        return deviators(judges), judged.campaigns(context_of(config, rule))

    def _stage(self, panel: str, rule: Rule, spec: LabelerSpec, drawn: Callable[[], Drawn]) -> None:
        config, path = self.config, _path(panel, rule, spec)

        def build(scratch: Path) -> None:
            columns, campaigns = drawn()
            search, fresh = campaigns[: config.search], campaigns[config.search :]
            found: dict[str, list[dict[str, Any]]] = {"gains": [], NEXT_SHARE: []}
            for name in config.objectives:
                rng = part_rng(config.seed, f"audit {panel} {rule.title} {spec.name} {name}")
                if name == NEXT_SHARE:
                    found[name].append(asdict(next_share_gain(rule.make, fresh, columns[spec.name], rng)))
                    continue
                searching, measuring = (
                    LabelerPosition(
                        rule.make, part, columns[spec.name], Objective(name, config.discount), config.outcome_model
                    )
                    for part in (search, fresh)
                )
                declared = "" if spec.make_strategy().traits.honest else spec.describe_strategy()
                gains = gains_by_class(searching, measuring, config.strategies, rng, declared)
                found["gains"] += [asdict(gain) for gain in gains]
            write_json(scratch / path, found)

        inputs = GainInputs(
            panel=[entry.model_dump(mode="json") for entry in config.panels[panel]],
            name=panel,
            entry=spec.name,
            rule=rule.model_dump(),
            settings=config.model_dump(mode="json", exclude={"rules", "panels", "splits", "exact_rounds"}),
        )
        self.folder.stage(path.removesuffix(".json"), inputs, [path], build)


def best_by_search(gains: pd.DataFrame) -> pd.DataFrame:
    """Return, per panel, rule, entry and objective, the class that looked best where it was *searched*.

    Choosing by the measured gain instead would flatter it. What an entry declares to do is not among the choices.
    """
    searched = gains[gains["strategy"] != "declared"]
    best = searched.groupby(["panel", "rule", "entry", "objective"], sort=False)["search_gain"].idxmax()
    return gains.loc[best].reset_index(drop=True)


def _path(panel: str, rule: Rule, spec: LabelerSpec) -> str:
    return f"gains/{panel}/{rule.title}/{spec.name}.json"
