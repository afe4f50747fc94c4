"""Publish a grid that was run in pieces: collect its finished seeds into one CSV, and make tables and figures of that.

    python -m benchmarks.evidence collect configs/evidence.yaml runs/evidence docs/evidence/grid.csv
    python -m benchmarks.evidence show docs/evidence/grid.csv
    python -m benchmarks.evidence figures docs/evidence

The CSV has a row per seed, panel and rule with every measure and the gold reward on each held-out prompt: whoever
has it can recompute each gap and its interval. Seeds of several machines are collected into the same file, one folder
after the other; a condition that is collected again takes the place of the old one. ``figures`` remakes every figure
of the results pages from the CSVs of a folder, and prints the tables of the five questions
(`benchmarks.evidence_figures`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.statistics import ratio_interval
from truthful_rlhf.pipeline.config.experiment import SHARED, Config, load_config
from truthful_rlhf.pipeline.config.rule import TRUTH
from truthful_rlhf.pipeline.experiment.conditions import BASE, GRID, Condition
from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.experiment.estimates import Estimate
from truthful_rlhf.pipeline.experiment.grid import Group, groups
from truthful_rlhf.pipeline.reports import figures
from truthful_rlhf.pipeline.reports.gap_table import COLUMNS, cells, interval_text, markdown_tables
from truthful_rlhf.pipeline.reports.rows import MEASURES, GapRow, Measures
from truthful_rlhf.pipeline.reports.summary import (
    gap_with_interval,
    gold_by_prompt,
    mean_over_seeds,
    measures_of,
    resampled_means,
)
from truthful_rlhf.pipeline.storage.artifacts import RunFolder, write_bytes_atomically, write_text_atomically
from truthful_rlhf.pipeline.storage.markdown import markdown_table
from truthful_rlhf.pipeline.storage.tables import read_table

KEYS = ["seed", "panel", "rule"]
GOLD = "gold on prompt "
FIRMNESS = "firmness"
"""Of the labels: the mean probability that they give to the response that they prefer."""


def finished(config_name: str, run: Path, method: str | None = None, overrides: Sequence[str] = ()) -> pd.DataFrame:
    """Return one row per condition of every seed whose conditions were all evaluated.

    Args:
        config_name: of the grid.
        run: its run folder.
        method: the method that is collected, as the table calls it; may be left out where the config has one.
        overrides: of the config, as ``compare`` was given them.

    Raises:
        ValueError: the config has several methods, or not this one.
    """
    config = load_config(config_name, overrides)
    experiment = Experiment(config, RunFolder(run), GRID)
    collected = groups_of(config, method)
    rows = []
    for k, seed in enumerate(config.seeds):
        conditions = [(group, group.conditions[k]) for group in collected]
        if not all(experiment.path(GRID.of_condition(c, "evaluation.json")).exists() for _, c in conditions):
            continue
        for group, condition in conditions:
            measures = {name: e.mean for name, e in measures_of(experiment, condition).known().items()}
            measures[FIRMNESS] = _firmness(experiment, condition)
            gold = {f"{GOLD}{i}": value for i, value in enumerate(gold_by_prompt(experiment, condition))}
            rows.append({"seed": seed, "panel": group.panel, "rule": group.title, **measures, **gold})
    return pd.DataFrame(rows)


def groups_of(config: Config, method: str | None) -> list[Group]:
    """Return the base policy's group and those of one method.

    Raises:
        ValueError: the config has several methods and none is named, or not the one that is.
    """
    methods = [policy.title for policy in config.policy]
    if (method is None and len(methods) > 1) or method not in (None, *methods):
        raise ValueError(f"the config trains with {', '.join(methods)}: say which with --method")
    return [group for group in groups(config) if group.method in (None, method or methods[0])]


def _firmness(experiment: Experiment, condition: Condition) -> float:
    if condition.rule is None:
        return float("nan")
    path = experiment.path(experiment.layout.of_labels(condition, "soft_labels.parquet"))
    return float(read_table(path, ["soft_label"])["soft_label"].mean())


def merged(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Return all rows, the new one where both have a condition, in the order of seeds and else of their coming."""
    table = pd.concat([old, new], ignore_index=True)
    return table.drop_duplicates(KEYS, keep="last").sort_values("seed", kind="stable", ignore_index=True)


def summary(table: pd.DataFrame) -> list[GapRow]:
    """Return the rows that `reports.summary.summarise_grid` makes of a run folder, over the seeds of a collection."""
    gold = gold_by_condition(table)
    conditions: dict[Any, pd.DataFrame] = dict(iter(table.groupby(["panel", "rule"], sort=False)))
    return [
        GapRow(
            panel=panel,
            rule=rule,
            method=None,
            measures=mean_over_seeds([_measures(row) for row in rows.to_dict("records")]),
            gap=gap_with_interval(gold[SHARED, TRUTH], gold[panel, rule], gold[SHARED, BASE]),
        )
        for (panel, rule), rows in conditions.items()
    ]


def gold_by_condition(table: pd.DataFrame) -> dict[tuple[str, str], list[FloatArray]]:
    """Return panel and rule -> gold reward by seed and prompt, as `reports.summary.gap_with_interval` takes it.

    Raises:
        ValueError: a condition lacks a seed that others have, so that it could not be paired with them.
    """
    names = [name for name in table if str(name).startswith(GOLD)]
    by_condition: dict[Any, pd.DataFrame] = dict(iter(table.groupby(["panel", "rule"], sort=False)))
    seeds = {condition: sorted(rows["seed"]) for condition, rows in by_condition.items()}
    for condition, found in seeds.items():
        if found != seeds[SHARED, BASE]:
            raise ValueError(f"{condition} has seeds {found}, the base policy {seeds[SHARED, BASE]}")
    return {c: list(rows.sort_values("seed")[names].to_numpy(np.float64)) for c, rows in by_condition.items()}


def _measures(row: dict[Any, Any]) -> Measures:
    return Measures(**{name: Estimate(row[name], float("nan")) for name in MEASURES if not np.isnan(row[name])})


def gap_table(rows: Sequence[GapRow]) -> str:
    """Return the normalised gaps with their intervals as a Markdown table of panels and rules."""
    texts = {(row.panel, row.rule): cells(row, ["normalised_gap"])[0] for row in rows}
    return by_panel_and_rule(COLUMNS["normalised_gap"], texts)


def ahead_table(table: pd.DataFrame, other: str) -> str:
    """Return by how much of the truth's gain each rule ended ahead of another one (its gap minus the rule's), paired.

    The interval is a `ratio_interval`; nothing is said where the truth gained nothing.

    Raises:
        ValueError: a panel has no rule of that name.
    """
    gold = gold_by_condition(table)
    texts = {}
    for panel, rule in gold:
        if panel == SHARED or rule == other:
            continue
        if (panel, other) not in gold:
            raise ValueError(
                f"panel {panel} has no rule {other!r}; it has {', '.join(r for p, r in gold if p == panel)}"
            )
        groups = [gold[panel, rule], gold[panel, other], gold[SHARED, TRUTH], gold[SHARED, BASE]]
        of_rule, of_other, truth, base = np.mean(groups, axis=(1, 2))
        if truth > base:
            draws, ahead = resampled_means(groups), (of_rule - of_other) / (truth - base)
            ends = ratio_interval(draws[:, 0] - draws[:, 1], draws[:, 2] - draws[:, 3], ahead)
            texts[panel, rule] = f"{ahead:.2f} {interval_text(*(e if np.isfinite(e) else None for e in ends))}"
    return by_panel_and_rule(f"ahead of {other} [95 %]", texts)


def firmness_table(table: pd.DataFrame) -> str:
    """Return the mean firmness of the labels of each rule (and, for comparison, of the truth)."""
    means = table.groupby(["panel", "rule"], sort=False)[FIRMNESS].mean()
    truth = means[SHARED, TRUTH]
    return by_panel_and_rule(f"firmness (truth: {truth:.2f})", {key: f"{mean:.2f}" for key, mean in means.items()})


def by_panel_and_rule(title: str, texts: dict[Any, str]) -> str:
    """Return texts by panel and rule as a Markdown table, without what the panels share."""
    judged = [key for key in texts if key[0] != SHARED]
    panels, rules = (list(dict.fromkeys(key[k] for key in judged)) for k in (0, 1))
    body = [[panel, *(texts.get((panel, rule), "–") for rule in rules)] for panel in panels]
    return markdown_table([title, *rules], body)


def write_figures(rows: Sequence[GapRow], folder: Path, stem: str) -> None:
    """Draw the gaps as a heat map (where there are several panels) and with their intervals."""
    judged = [row for row in rows if not row.is_reference and row.gap.normalised is not None]
    if len({row.panel for row in judged}) > 1:
        write_bytes_atomically(folder / f"{stem}_map.png", figures.gap_heat_map(judged))
    write_bytes_atomically(folder / f"{stem}_gaps.png", figures.gap_forest(judged))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    collect = commands.add_parser("collect", help="add the finished seeds of a run folder to a CSV")
    collect.add_argument("config", help="the grid's config")
    collect.add_argument("run", type=Path, help="the run folder of compare")
    collect.add_argument("--method", help="which is collected, where the config trains with several")
    show = commands.add_parser("show", help="print the tables of a CSV")
    show.add_argument("--against", default="mean", help="the rule that the others are compared with (default: mean)")
    for command in (collect, show):
        command.add_argument("csv", type=Path)
    collect.add_argument("overrides", nargs="*", metavar="key.sub=value", help="as compare was given them")
    remade = commands.add_parser("figures", help="remake every figure of the results pages")
    remade.add_argument("folder", type=Path, help="of the CSVs: docs/evidence")
    given = parser.parse_args(arguments)
    if given.command == "figures":
        from benchmarks.evidence_figures import remake

        return remake(given.folder)
    old = pd.read_csv(given.csv) if given.csv.exists() else pd.DataFrame(columns=KEYS)
    if given.command == "collect":
        try:
            new = finished(given.config, given.run, given.method, given.overrides)
        except ValueError as error:
            parser.error(str(error))
        if new.empty:
            parser.error(f"{given.run}: no seed has all of its conditions; collect with the overrides of the run")
        table = merged(old, new)
        write_text_atomically(given.csv, table.to_csv(index=False, float_format="%.5g"))
        print(f"{given.csv}: seeds {sorted(set(table['seed']))}, {len(table)} conditions")
        return
    try:
        rows = summary(old)
        tables = [gap_table(rows), ahead_table(old, given.against), firmness_table(old), markdown_tables(rows)]
    except ValueError as error:
        parser.error(str(error))
    print(*tables, sep="\n")


if __name__ == "__main__":
    main()
