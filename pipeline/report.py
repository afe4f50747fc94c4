"""The report of a comparison: one self-contained HTML page, its figures as PNG, and the tables as CSV and Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import figures
from pipeline.artifacts import write_bytes_atomically, write_json, write_text_atomically
from pipeline.compare import COLUMNS, Group, cells, groups, markdown_table, read_json, results_csv
from pipeline.config import SHARED, TRUTH, RuleSection
from pipeline.html import render
from pipeline.method_report import campaign_outcomes, method_section
from pipeline.stages import BASE, Condition, Experiment
from pipeline.tables import read_table

_CAPTIONS = {
    "gold_reward": "Dotted lines: the base policy and the policy trained on the true preferences.",
    "gaps": "Normalised alignment gap, 95 % interval. Dotted lines: as good as the truth, as bad as no training.",
    "gap_grid": "Normalised alignment gap by panel and rule.",
}


def write_report(experiment: Experiment, rows: list[dict[str, Any]], command: str) -> Path:
    """Write ``report.html``, ``figures/*.png``, ``results.csv``, ``results.md`` and ``evaluation.json``."""
    folder = experiment.folder.root
    seed = experiment.config.seeds[0]
    images = {"gold_reward": figures.gold_by_condition(rows)}
    gaps = [row for row in rows if row["panel"] != SHARED and row["normalised_gap"] is not None]
    shown = ["gold_reward"]
    if gaps:
        images["gaps"] = figures.gap_forest(gaps)
        shown.append("gaps")
    if len(experiment.config.panels) > 1 and gaps:
        images["gap_grid"] = figures.gap_heat_map(gaps)
        shown.append("gap_grid")
    panels = {}
    for panel in experiment.config.panels:
        panel_groups = [group for group in groups(experiment.config) if group.panel == panel]
        panels[panel] = _panel_section(experiment, panel, panel_groups, images)
    n_seeds = len(experiment.config.seeds)
    over = (
        f"{n_seeds} seeds and held-out prompts" if n_seeds > 1 else "held-out prompts of one seed (not over training)"
    )
    page = render(
        "compare.html",
        images,
        title="What the aggregation rule costs the policy",
        setting=_setting(experiment),
        findings=findings(rows),
        columns=list(COLUMNS.values()),
        table=[{"cells": cells(row), "reference": row["panel"] == SHARED} for row in rows],
        interval_over=over,
        error_over=f"{n_seeds} seeds" if n_seeds > 1 else "held-out prompts",
        overview=[(name, _CAPTIONS[name]) for name in shown],
        panels=panels,
        sample_seed=seed,
        **_samples(experiment),
        command=command,
        config=(folder / "config.yaml").read_text(encoding="utf-8"),
        environment=(folder / "environment.json").read_text(encoding="utf-8"),
    )
    for name, image in images.items():
        write_bytes_atomically(folder / "figures" / f"{name}.png", image)
    write_text_atomically(folder / "results.csv", results_csv(rows))
    write_text_atomically(folder / "results.md", markdown_table(rows))
    write_json(folder / "evaluation.json", rows)
    write_text_atomically(folder / "report.html", page)
    return folder / "report.html"


def findings(rows: list[dict[str, Any]]) -> list[str]:
    """Return one sentence per rule on what was lost, from the table alone."""
    base, truth = rows[0]["gold"], rows[1]["gold"]
    sentences = [f"Training on the true preferences moved the gold reward from {base:.3f} to {truth:.3f}."]
    for row in rows[2:]:
        gap = row["normalised_gap"]
        if gap is None:
            return [*sentences, "That is no gain, so nothing could be lost and the normalised gap is unknown."]
        verb = "lost" if gap >= 0 else "gained"
        where = f" with the panel {row['panel']}" if len({r["panel"] for r in rows}) > 2 else ""
        interval = row["normalised_gap_interval"]
        worse = ", which is worse than not training" if interval is not None and interval[0] > 1 else ""
        sentences.append(f"The labels of {row['rule']}{where} {verb} {abs(gap):.0%} of that{worse}.")
    return sentences


def _setting(experiment: Experiment) -> str:
    config = experiment.config
    n_pairs = len(campaign_outcomes(experiment, _truth(config.seeds[0])))
    return (
        f"Model {config.model.name_or_path}, {config.policy.method.upper()} on {n_pairs} pairs,"
        f" {config.audit_rate:.0%} of them audited,"
        f" {config.prompts.n_held_out} held-out prompts, gold reward {config.gold.name},"
        f" seed{'s' if len(config.seeds) > 1 else ''} {', '.join(map(str, config.seeds))}."
    )


def _truth(seed: int) -> Condition:
    return Condition(seed, SHARED, RuleSection(name=TRUTH))


def _panel_section(
    experiment: Experiment, panel: str, panel_groups: list[Group], images: dict[str, bytes]
) -> dict[str, Any]:
    """Draw a panel's figures for the first seed into ``images`` and return the section's content."""
    from aggregation import regret

    firsts = [group.conditions[0] for group in panel_groups]
    curves, final_weights, drawn = {}, {}, []
    for condition in firsts:
        labels = read_json(experiment, condition, "labels.json")
        reports = read_table(experiment.path(experiment.layout.of_condition(condition, "reports.parquet")), ["report"])
        wide = reports.pivot(index="round", columns="labeler_id", values="report")
        outcomes = campaign_outcomes(experiment, condition)
        matrix = wide.reindex(range(len(outcomes))).to_numpy()  # a round that nobody judged has no row
        curves[condition.title] = regret(np.array(labels["stated"]), matrix, outcomes)
        final_weights[condition.title] = labels["final_weights"]
        weights = read_table(experiment.path(experiment.layout.of_condition(condition, "weights.parquet")), [])
        if np.ptp(weights.to_numpy(), axis=0).max() > 0:  # rules that never learn have nothing to show
            name = f"weights_{panel}_{condition.title}"
            series = {str(column): weights[column].to_numpy() for column in weights}
            images[name] = figures.weights_over_rounds(series, condition.title)
            drawn.append((name, f"Weights under {condition.title}; the dotted line is an equal share."))
    n_labelers = len(next(iter(final_weights.values())))
    rounds = np.arange(1, max(len(curve) for curve in curves.values()) + 1)
    images[f"regret_{panel}"] = figures.cumulative_regret(curves, 2 * np.sqrt(rounds * np.log(max(2, n_labelers))))
    drawn.append(
        (
            f"regret_{panel}",
            "Cumulative regret of the labels stated before each outcome, against the best fixed labeler, on all"
            " outcomes (the rules saw the audited ones only).",
        )
    )
    labelers = list(next(iter(final_weights.values())))
    return {
        "method": method_section(experiment, panel, [_truth(firsts[0].seed), *firsts], images),
        "figures": drawn,
        "description": "; ".join(spec.describe() for spec in experiment.config.panels[panel]),
        "rules": list(final_weights),
        "weights": [(name, [f"{final_weights[rule][name]:.3f}" for rule in final_weights]) for name in labelers],
    }


def _samples(experiment: Experiment) -> dict[str, Any]:
    """Return a few held-out prompts with the responses of every condition of the first seed and panel."""
    first_panel = next(iter(experiment.config.panels))
    shown = [group for group in groups(experiment.config) if group.panel in (SHARED, first_panel)]
    tables = [
        read_table(
            experiment.path(experiment.layout.of_condition(g.conditions[0], "samples.parquet")), ["response", "gold"]
        )
        for g in shown
    ]
    every = max(1, len(tables[0]) // max(1, experiment.config.evaluation.n_samples))
    chosen = range(0, len(tables[0]), every)[: experiment.config.evaluation.n_samples]
    rows = [
        {
            "prompt": tables[0]["prompt"][k],
            "responses": [(table["response"][k], table["gold"][k]) for table in tables],
        }
        for k in chosen
    ]
    names = ["before (base)" if g.title == BASE else f"after ({g.title})" for g in shown]
    return {"samples": rows, "sample_names": names}


def write_environment(path: Path) -> None:
    """Write the versions, the device and the commit that a run uses, and the commits that it was begun with."""
    import importlib.metadata
    import os
    import platform
    import subprocess

    import torch

    packages = ("truthful-rlhf", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "numpy")
    here = Path(__file__).parent
    commit = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    content: dict[str, Any] = {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "commit": commit.stdout.strip() or None,
    }
    content["earlier_commits"] = [earlier for earlier in _commits(path) if earlier != content["commit"]]
    write_text_atomically(path, json.dumps(content, indent=2) + "\n")


def _commits(path: Path) -> list[str]:
    """Return the commits in an environment file, oldest first; none if there is no readable file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [commit for commit in (*content.get("earlier_commits", []), content.get("commit")) if commit]
