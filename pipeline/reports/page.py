"""The report of a comparison: one self-contained HTML page, its figures as PNG, and the tables as CSV and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from truthful_rlhf.pipeline.config.experiment import SHARED
from truthful_rlhf.pipeline.config.rule import TRUTH, RuleSection
from truthful_rlhf.pipeline.experiment.conditions import BASE, Condition
from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.experiment.grid import Group, groups
from truthful_rlhf.pipeline.labels.regret_curves import campaign_matrix, proved_bound, regret_revealed
from truthful_rlhf.pipeline.reports import figures
from truthful_rlhf.pipeline.reports.gap_table import (
    COLUMNS,
    MECHANISM_COLUMNS,
    TEXTS,
    cells,
    columns,
    interval_text,
    markdown_tables,
    mechanism_table,
    results_csv,
)
from truthful_rlhf.pipeline.reports.methods import campaign_outcomes, method_section
from truthful_rlhf.pipeline.reports.rows import AlignmentGap, GapRow
from truthful_rlhf.pipeline.reports.summary import read_labels
from truthful_rlhf.pipeline.storage.artifacts import write_bytes_atomically, write_json, write_text_atomically
from truthful_rlhf.pipeline.storage.html import render
from truthful_rlhf.pipeline.storage.tables import read_table

_CAPTIONS = {
    "gold_reward": "Dotted lines: the base policy and the policy trained on the true preferences.",
    "kl_frontier": "Gold reward against the square root of the KL to the base policy; the dotted line joins the base"
    " policy and the truth. Low and far right: much moved, little gained.",
    "gaps": "Normalised alignment gap, 95 % interval (an arrow: no bound on that side). Dotted lines: as good as the"
    " truth, as bad as no training.",
    "gap_grid": "Normalised alignment gap by panel and rule; white where training on the truth gained nothing.",
}


def write_report(experiment: Experiment, rows: Sequence[GapRow], command: str) -> Path:
    """Write ``report.html``, ``figures/*.png``, ``results.csv``, ``results.md`` and ``evaluation.json``.

    Args:
        experiment: the experiment.
        rows: the base policy first, as ``summarise_grid`` returns them.
        command: what made the run, shown on the page.
    """
    folder = experiment.folder.root
    seed = experiment.config.seeds[0]
    images = _overview(rows)
    shown = list(images)
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
        columns=[COLUMNS[name] for name in columns(rows)],
        n_text=sum(name in TEXTS for name in columns(rows)),
        table=[{"cells": cells(row, columns(rows)), "reference": row.is_reference} for row in rows],
        mechanism_columns=MECHANISM_COLUMNS,
        mechanism=mechanism_table(rows),
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
    write_text_atomically(folder / "results.md", markdown_tables(rows))
    write_json(folder / "evaluation.json", [row.record() for row in rows])
    write_text_atomically(folder / "report.html", page)
    return folder / "report.html"


def _overview(rows: Sequence[GapRow]) -> dict[str, bytes]:
    """Draw what concerns all panels together; the names are those of ``_CAPTIONS``."""
    gaps = [row for row in rows if not row.is_reference and row.gap.normalised is not None]
    images = {}
    if len({(row.panel, row.method) for row in gaps}) > 1:
        images["gap_grid"] = figures.gap_heat_map(gaps)
    if gaps:
        images["gaps"] = figures.gap_forest(gaps)
    return {**images, "gold_reward": figures.gold_by_condition(rows), "kl_frontier": figures.kl_frontier(rows)}


def findings(rows: Sequence[GapRow]) -> list[str]:
    """Return what was lost, in sentences, from the table alone: one per rule, or one per panel where there are many."""
    base, truths = rows[0], {row.method: row for row in rows if row.rule == TRUTH}
    panels = list(dict.fromkeys(row.panel for row in rows if not row.is_reference))
    sentences = []
    for method, truth in truths.items():
        by = f" with {method}" if len(truths) > 1 else ""
        moved = f"Training on the true preferences{by} moved the gold reward from {base.measures.gold.mean:.3f} to"
        sentences.append(f"{moved} {truth.measures.gold.mean:.3f}.")
        if truth.gap.normalised is None:
            sentences.append("That is no gain, so nothing could be lost and the normalised gap is unknown.")
            continue
        for panel in panels:
            judged = [row for row in rows if row.method == method and row.panel == panel]
            sentences += [_panel_finding(panel, judged)] if len(panels) > 1 else map(_finding, judged)
    return sentences


def _finding(row: GapRow) -> str:
    return f"The labels of {row.rule} {_loss(row.gap)}."


def _panel_finding(panel: str, rows: Sequence[GapRow]) -> str:
    """Return the two ends of a panel's rules; whether they differ is what the intervals of the table say."""
    ordered = sorted(rows, key=lambda row: row.gap.known())
    best, worst = ordered[0], ordered[-1]
    sentence = f"With the panel {panel}, the labels of {best.rule} {_loss(best.gap)}"
    return f"{sentence}; those of {worst.rule} {_loss(worst.gap)}." if len(rows) > 1 else f"{sentence}."


def _loss(gap: AlignmentGap) -> str:
    """Return what was lost, or that no loss was shown, by whether the interval holds 0 and 1."""
    low, high = gap.normalised_interval or (None, None)
    if low is not None and low > 0:
        return f"lost {gap.known():.0%} of that" + (", which is worse than not training" if low > 1 else "")
    if high is not None and high < 0:
        return f"gained {-gap.known():.0%} more than that"
    return f"are not shown to have lost any of that ({gap.known():.2f} {interval_text(low, high)})"


def _setting(experiment: Experiment) -> str:
    config = experiment.config
    n_pairs = len(campaign_outcomes(experiment, _truths(experiment)[0]))
    methods = ", ".join(entry.title.upper() for entry in config.policy)
    varied = any(rule.audit_rate is not None for rule in config.rules)
    return (
        f"Model {config.model.name_or_path}, {methods} on {n_pairs} pairs,"
        f" {config.audit_rate:.0%} of them audited{' unless the rule has its own rate' if varied else ''},"
        f" {config.prompts.n_held_out} held-out prompts, gold reward {config.gold.name},"
        f" seed{'s' if len(config.seeds) > 1 else ''} {', '.join(map(str, config.seeds))}."
    )


def _truths(experiment: Experiment) -> list[Condition]:
    """Return the truth of the first seed under every method."""
    truth, seed = RuleSection(name=TRUTH), experiment.config.seeds[0]
    return [Condition(seed, SHARED, truth, policy) for policy in experiment.config.policy]


def _panel_section(
    experiment: Experiment, panel: str, panel_groups: list[Group], images: dict[str, bytes]
) -> dict[str, Any]:
    """Draw a panel's figures for the first seed into ``images`` and return the section's content.

    Labels and weights are shown for the first method: those after it share them.
    """
    truths = _truths(experiment)
    by_method = {
        truth.method.title: [group.conditions[0] for group in panel_groups if group.method == truth.method.title]
        for truth in truths
    }
    firsts = by_method[truths[0].method.title]
    curves, bounds, final_weights, drawn = {}, {}, {}, []
    for condition in firsts:
        labels = read_labels(experiment, condition)
        reports = read_table(experiment.path(experiment.layout.of_labels(condition, "reports.parquet")), ["report"])
        stated = np.array(labels["stated"])
        matrix, outcomes = campaign_matrix(reports, len(stated))
        assert condition.rule is not None
        curves[condition.title] = regret_revealed(stated, matrix, outcomes)
        bounds[condition.title] = proved_bound(condition.rule, matrix, outcomes)
        final_weights[condition.title] = labels["final_weights"]
        weights = read_table(experiment.path(experiment.layout.of_labels(condition, "weights.parquet")), [])
        if np.ptp(weights.to_numpy(), axis=0).max() > 0:  # rules that never learn have nothing to show
            name = f"weights_{panel}_{condition.title}"
            series = {str(column): weights[column].to_numpy() for column in weights}
            images[name] = figures.weights_over_rounds(series, condition.title)
            drawn.append((name, f"Weights under {condition.title}; the dotted line is an equal share."))
    images[f"regret_revealed_{panel}"] = figures.cumulative_regret(curves, bounds)
    drawn.append(
        (
            f"regret_revealed_{panel}",
            "Regret on the revealed outcomes, which are all that the rules saw: squared loss of the labels, each stated"
            " before its outcome, minus that of the labeler who was best on these pairs. Dotted, in the rule's colour:"
            " what is proved for it after as many revealed outcomes; it jumps where an epoch of smaller steps begins."
            " The regret on all outcomes is in the table above.",
        )
    )
    labelers = list(next(iter(final_weights.values())))
    return {
        "methods": [
            method_section(experiment, panel, [truth, *by_method[truth.method.title]], images) for truth in truths
        ],
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
    several = len(experiment.config.policy) > 1
    names = [
        "before (base)" if g.title == BASE else f"after ({g.title}{f', {g.method}' if several else ''})" for g in shown
    ]
    return {"samples": rows, "sample_names": names}
