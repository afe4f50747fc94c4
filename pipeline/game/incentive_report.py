"""What an audit says: tables by objective with the rules side by side, every class in detail, and a figure."""

from __future__ import annotations

import numpy as np
import pandas as pd

from truthful_rlhf.pipeline.config.game import NEXT_SHARE, AuditConfig
from truthful_rlhf.pipeline.game.console import percent
from truthful_rlhf.pipeline.game.incentive_audit import IncentiveAudit, best_by_search
from truthful_rlhf.pipeline.storage.artifacts import write_bytes_atomically, write_text_atomically
from truthful_rlhf.pipeline.storage.console import console, print_table
from truthful_rlhf.pipeline.storage.figures import COLOURS, as_png
from truthful_rlhf.pipeline.storage.markdown import markdown_table

Table = tuple[str, list[str], list[list[str]]]
"""Title, column names, rows."""

ROUNDING = 1e-12
"""Exact gains below this are the rounding of float64 sums, not incentives."""


def report_audit(audit: IncentiveAudit) -> None:
    """Write the tables as CSV, ``audit.md`` and ``gains.png``, and print the tables."""
    config, root = audit.config, audit.folder.root
    gains, next_share, adaptive = audit.rows("gains"), audit.rows(NEXT_SHARE), audit.adaptive_rows()
    summaries, details = [], []
    if len(adaptive):
        write_text_atomically(root / "adaptive.csv", adaptive.to_csv(index=False))
        summaries.append(_adaptive_table(adaptive))
    if len(next_share):
        write_text_atomically(root / "next_share.csv", next_share.to_csv(index=False))
        summaries += [_next_share_table(name, next_share) for name in config.panels]
    if len(gains):
        write_text_atomically(root / "gains.csv", gains.to_csv(index=False))
        best = best_by_search(gains)
        write_bytes_atomically(root / "gains.png", gains_figure(best))
        for name in config.panels:
            for objective in best["objective"].unique():
                summaries.append(_best_table(name, objective, best))
                details += [_class_table(name, rule, objective, gains) for rule in gains["rule"].unique()]
    for title, columns, rows in [*summaries, *details[:1]]:
        print_table(title, columns, rows, n_text=1)
    notes = reading(config)
    for note in notes:
        console.print(note, markup=False)
    pages = [f"**{title}**\n\n{markdown_table(columns, rows)}" for title, columns, rows in [*summaries, *details]]
    write_text_atomically(root / "audit.md", "\n".join([*pages, *(f"- {note}" for note in notes)]) + "\n")
    console.print(
        f"Written to {root}: audit.md (every rule, objective and class), gains.png, gains.csv, next_share.csv,"
        " adaptive.csv"
    )


def _adaptive_table(adaptive: pd.DataFrame) -> Table:
    objectives = list(adaptive["objective"].unique())
    rows = []
    for rule, group in adaptive.groupby("rule", sort=False):
        cells = group.set_index("objective")
        rows.append([str(rule), *(_adaptive_cell(cells.loc[name]) for name in objectives)])
    lengths = adaptive.groupby("objective")["n_rounds"].first()
    columns = [f"{name}, T = {1 if name == NEXT_SHARE else lengths[name]}" for name in objectives]
    return "two labelers: gain of the best adaptive lie, exact up to grids", ["rule", *columns], rows


def _adaptive_cell(row: pd.Series) -> str:
    if abs(row["gain"]) < ROUNDING:
        return "0"
    return f"{100 * row['gain']:+.2g} % (grid: {100 * row['grid_change']:.1g})"


def _next_share_table(panel: str, next_share: pd.DataFrame) -> Table:
    mine = next_share[next_share["panel"] == panel]
    rules = list(mine["rule"].unique())
    rows = []
    for entry, group in mine.groupby("entry", sort=False):
        cells = group.set_index("rule")
        rows.append([str(entry), *(_next_share_cell(cells.loc[rule]) for rule in rules)])
    return f"{panel}: expected share after one round, largest exact gain of any report", ["entry", *rules], rows


def _next_share_cell(row: pd.Series) -> str:
    if row["largest"] < ROUNDING:
        return "0"
    return f"{100 * row['largest']:+.2g} % (off by {row['offset']:.3f})"


def _best_table(panel: str, objective: str, best: pd.DataFrame) -> Table:
    mine = best[(best["panel"] == panel) & (best["objective"] == objective)]
    rules = list(mine["rule"].unique())
    rows = []
    for entry, group in mine.groupby("entry", sort=False):
        cells = group.set_index("rule")
        rows.append([str(entry), *(_best_cell(cells.loc[rule]) for rule in rules)])
    return f"{panel}: gain in {objective} by the best misreport found", ["entry", *rules], rows


def _best_cell(row: pd.Series) -> str:
    if row["search_gain"] <= 0.0:
        return "no lie paid in the search"
    return f"{percent(row['gain'], row['low'], row['high'])} {row['misreport']}"


def _class_table(panel: str, rule: str, objective: str, gains: pd.DataFrame) -> Table:
    mine = gains[(gains["panel"] == panel) & (gains["rule"] == rule) & (gains["objective"] == objective)]
    classes = list(mine["strategy"].unique())
    rows = []
    for entry, group in mine.groupby("entry", sort=False):
        cells = group.set_index("strategy")
        texts = [percent(*cells.loc[name, ["gain", "low", "high"]]) if name in cells.index else "" for name in classes]
        rows.append([str(entry), *texts])
    return f"{panel}: gain in {objective} against {rule}, by strategy class", ["entry", *classes], rows


def reading(config: AuditConfig) -> list[str]:
    """Return how to read the tables."""
    world = "in the world as the labeler expects it" if config.outcome_model == "own" else "in the true world"
    exact = [
        "Two labelers, every pair audited: the best strategy that reconsiders every round, by dynamic programming, over"
        " beliefs .1, .3, .5, .7, .9 of both. 'grid' is how much the gain changes when the grid is halved, in points."
        " Rules with options that change their weights otherwise, and batch rules, are not solved."
    ]
    return [
        *(exact if config.exact_rounds else []),
        f"Gain: relative to the truthful payoff {world}, mean of {config.fresh} fresh campaigns of {config.rounds}"
        f" pairs with a 95 % bootstrap interval; the misreport was chosen on {config.search} other campaigns."
        " Negative: the best lie of the class costs. It is a lower bound on what a cleverer lie could gain.",
        "influence: mean share of weight over the campaign. taste: minus the squared distance of the soft labels"
        " from the labeler's own belief. policy_taste: minus the squared difference of the mean soft label and the mean"
        " belief, per topic. xS, shift D: report = sigmoid(S * log-odds + D); 'from': honest before. A bloc"
        " deviates as one, on the view of its first member; 'declared' is what the entry does in the panel.",
    ]


def gains_figure(best: pd.DataFrame) -> bytes:
    """Draw the gain of the best misreport found, with its interval: one part per panel and objective."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = list(best.groupby(["panel", "objective"], sort=False))
    rules = list(best["rule"].unique())
    n_entries = max(rows["entry"].nunique() for _, rows in panels)
    figure = Figure(figsize=(5.0 * len(panels), 1.3 + 0.45 * n_entries), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, ((panel, objective), rows) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        places = {entry: -place for place, entry in enumerate(rows["entry"].unique())}
        for k, rule in enumerate(rules):
            mine = rows[rows["rule"] == rule]
            height = np.array([places[entry] for entry in mine["entry"]]) + 0.12 * ((len(rules) - 1) / 2 - k)
            middle = 100 * mine["gain"].to_numpy()
            reach = np.abs(100 * mine[["low", "high"]].to_numpy().T - middle)
            axes.errorbar(middle, height, xerr=reach, fmt="o", markersize=4, capsize=2, color=COLOURS[k], label=rule)
        axes.axvline(0, color="black", linewidth=0.6)
        axes.set_yticks(list(places.values()), list(places))
        axes.set_title(f"{panel}: {objective}", fontsize=10)
        axes.set_xlabel("gain over the truth, %", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=9)
    return as_png(figure)
