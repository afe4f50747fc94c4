"""What a simulation says: regret curves as a figure, and one table per panel of how regret grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from truthful_rlhf.aggregation.statistics import log_log_slope
from truthful_rlhf.labelers.best_response import STAND_IN
from truthful_rlhf.pipeline.game.simulation import Simulation
from truthful_rlhf.pipeline.storage.artifacts import write_bytes_atomically, write_text_atomically
from truthful_rlhf.pipeline.storage.console import console, print_table
from truthful_rlhf.pipeline.storage.figures import COLOURS, as_png
from truthful_rlhf.pipeline.storage.markdown import markdown_table, markdown_text
from truthful_rlhf.pipeline.storage.random import part_rng

NOT_RUN = "-"
BEST = "*"


def known_horizon_bound(n_rounds: float, n_labelers: int, audit_rate: float) -> float:
    """Return 2 sqrt(T ln N / audit_rate): what ``online_weighted`` with eta = sqrt(ln N / T) promises in expectation.

    If all T rounds are audited this is 2 sqrt(T ln N). If each round is audited with probability a, whatever the pair,
    soft labels are stated before that is known: against a fixed labeler the expected regret on all rounds is 1 / a
    times the one on the audited rounds, and these are a T in expectation. No audit, no promise: infinite.

    Args:
        n_rounds: T, at least 1.
        n_labelers: N, at least 1.
        audit_rate: a, in [0, 1].
    """
    return 2.0 * float(np.sqrt(n_rounds * np.log(n_labelers) / audit_rate)) if audit_rate > 0 else float("inf")


def growth(regrets: pd.DataFrame, audit_rate: float, seed: int) -> pd.DataFrame:
    """Return one row per panel and rule: regret at its greatest length and how it grew.

    Columns: ``regret`` (mean over seeds at the greatest length run), ``per_1000`` pairs, ``bound`` at that length,
    ``worst_of_bound`` (largest regret / bound over all campaigns), ``slope, slope_low, slope_high`` of log regret on
    log T, NaN where regret is not positive at every length (better than the best labeler), and ``best``: lowest mean
    regret of the panel at the greatest length of all.

    Args:
        regrets: one row per panel, rule, seed and length.
        audit_rate: in [0, 1]; the bound depends on it.
        seed: of the bootstrap.
    """
    rows: list[dict[str, Any]] = []
    for (panel, rule), mine in regrets.groupby(["panel", "rule"], sort=False):
        table = mine.pivot(index="seed", columns="rounds", values="regret")
        lengths = [int(length) for length in table.columns]
        longest = lengths[-1]
        bounds = [known_horizon_bound(length, int(mine["n_labelers"].iloc[0]), audit_rate) for length in lengths]
        slope = _slope(table, part_rng(seed, f"slope {panel} {rule}"))
        rows.append(
            {
                "panel": panel,
                "rule": rule,
                "rounds": longest,
                "seeds": len(table),
                "regret": float(table[longest].mean()),
                "per_1000": float(table[longest].mean()) / longest * 1000,
                "bound": bounds[-1],
                "worst_of_bound": float((table / bounds).to_numpy().max()),
                **dict(zip(("slope", "slope_low", "slope_high"), slope, strict=True)),
            }
        )
    result = pd.DataFrame(rows)
    at_longest = result[result["rounds"] == regrets["rounds"].max()]
    lowest = at_longest.groupby("panel")["regret"].transform("min")
    result["best"] = result.index.isin(at_longest.index[at_longest["regret"] == lowest])
    return result


def _slope(table: pd.DataFrame, rng: np.random.Generator) -> tuple[float, float, float]:
    """Return slope and interval for regrets by seed (rows) and length (columns), or NaN where there is none."""
    if table.shape[1] < 2 or not (table.mean() > 0).all():
        return (np.nan, np.nan, np.nan)
    return log_log_slope(table.columns.to_numpy(), table.to_numpy(), rng)


def report_simulation(simulation: Simulation) -> None:
    """Write ``regret.csv, growth.csv, growth.md, best_responses.csv, regret.png``, and print the tables."""
    config, root = simulation.config, simulation.folder.root
    regrets, responses = simulation.regrets(), simulation.responses()
    grown = growth(regrets, config.audit_rate, config.seed)
    write_text_atomically(root / "regret.csv", regrets.to_csv(index=False))
    write_text_atomically(root / "growth.csv", grown.to_csv(index=False))
    write_text_atomically(root / "best_responses.csv", responses.to_csv(index=False))
    write_bytes_atomically(root / "regret.png", regret_figure(regrets, list(config.panels), config.audit_rate))
    pages = []
    for panel, specs in config.panels.items():
        columns, rows = _growth_table(panel, regrets, grown)
        who = "; ".join(spec.describe() for spec in specs)
        print_table(f"{panel}: {who}", columns, rows, n_text=1)
        about = markdown_text(f"**{panel}**: {who}")
        pages.append(f"{about}\n\n{markdown_table(columns, rows)}")
    notes = [*_reading(simulation, grown), *_how_they_respond(responses)]
    for note in notes:
        console.print(note, markup=False)
    write_text_atomically(root / "growth.md", "\n".join([*pages, *(f"- {note}" for note in notes)]) + "\n")
    console.print(f"Written to {root}: regret.png, growth.md, regret.csv, growth.csv, best_responses.csv")


def _growth_table(panel: str, regrets: pd.DataFrame, grown: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Return mean regret by rule and length, and slope, as texts."""
    mine = regrets[regrets["panel"] == panel]
    means = mine.pivot_table(index="rule", columns="rounds", values="regret", sort=False)
    lengths = sorted(means.columns)
    columns = ["rule", *(f"T = {length:,}" for length in lengths), "per 1,000 pairs", "slope [95 %]", "worst / bound"]
    rows = []
    for row in grown[grown["panel"] == panel].to_dict("records"):
        regret = means.loc[row["rule"]].reindex(lengths)
        slope = "below 0"
        if not np.isnan(row["slope"]):
            slope = f"{row['slope']:.2f} [{row['slope_low']:.2f}, {row['slope_high']:.2f}]"
        rows.append(
            [
                row["rule"] + (f" {BEST}" if row["best"] else ""),
                *(NOT_RUN if np.isnan(value) else f"{value:,.1f}" for value in regret),
                f"{row['per_1000']:+.2f}",
                slope,
                f"{row['worst_of_bound']:.2f}",
            ]
        )
    return columns, rows


def _reading(simulation: Simulation, grown: pd.DataFrame) -> list[str]:
    config = simulation.config
    notes = [
        f"Regret: squared loss of the soft labels minus that of the best single labeler, mean of {config.seeds}"
        " seeds, over all pairs, audited or not. Slope: of log regret on log T; 1 is linear, 1/2 is the square root."
        " 'below 0': better than the best labeler at some length, so there is no slope.",
        "worst / bound: largest regret over all campaigns, relative to 2 sqrt(T ln N / audit rate), audit rate"
        f" {config.audit_rate:g}: proved for online_weighted with eta = sqrt(ln N / T); its default eta needs no T"
        f" and has a larger proved bound (aggregation/rules/step_size.py). {BEST}: lowest regret at the greatest T.",
    ]
    capped = {rule.title: config.max_rounds[rule.name] for rule in config.rules if rule.name in config.max_rounds}
    for title, cap in capped.items():
        if cap < max(config.rounds):
            notes.append(f"{title} re-estimates everything and is not run beyond T = {cap:,} (max_rounds).")
    return notes


def _how_they_respond(responses: pd.DataFrame) -> list[str]:
    """Return a sentence per best-responding entry and rule."""
    notes = []
    for row in responses.to_dict("records"):
        who = f"{row['panel']}, {row['entry']} against {row['rule']}"
        note = f"{who}: x{row['scale']:.2f} in log-odds for {row['objective']}"
        if pd.isna(row["left"]):
            notes.append(f"{note} (best response to what the others declare).")
            continue
        state = "equilibrium after" if row["converged"] else "NO equilibrium in"
        edge = ", at the edge of the family" if row["at_edge"] else ""
        stand_in = STAND_IN.get(row["rule"].partition("(")[0])
        instead = f", found against {stand_in}" if stand_in else ""
        notes.append(
            f"{note} ({state} {row['turns']:.0f} turns{edge}{instead}; over the truth {100 * row['over_truth']:+.1f} %,"
            f" still to gain {100 * row['left']:+.1f} %)."
        )
    return notes


def regret_figure(regrets: pd.DataFrame, panels: Sequence[str], audit_rate: float) -> bytes:
    """Draw regret against the number of pairs: one part per panel, a line per rule (band: all seeds), the bound.

    Both axes are logarithmic, the vertical one linear between -10 and 10: below zero is better than the best labeler.

    Args:
        regrets: one row per panel, rule, seed and length.
        panels: names, in the order of the parts.
        audit_rate: in [0, 1]; the bound depends on it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n_columns = min(4, len(panels))
    n_rows = -(-len(panels) // n_columns)
    figure = Figure(figsize=(3.1 * n_columns + 0.6, 2.7 * n_rows + 0.7), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    parts = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).ravel()
    colours = {rule: COLOURS[k % len(COLOURS)] for k, rule in enumerate(regrets["rule"].unique())}
    lengths = np.geomspace(regrets["rounds"].min(), regrets["rounds"].max(), 50)
    for axes, panel in zip(parts, panels, strict=False):
        mine = regrets[regrets["panel"] == panel]
        for rule, rows in mine.groupby("rule", sort=False):
            by_length = rows.groupby("rounds")["regret"]
            low, middle, high = by_length.min(), by_length.mean(), by_length.max()
            axes.fill_between(middle.index, low, high, color=colours[rule], alpha=0.15, linewidth=0)
            axes.plot(middle.index, middle, marker="o", markersize=3, linewidth=1.5, color=colours[rule], label=rule)
        bound = [known_horizon_bound(length, int(mine["n_labelers"].iloc[0]), audit_rate) for length in lengths]
        axes.plot(lengths, bound, color="black", linestyle="--", linewidth=1, label="2 sqrt(T ln N / audit rate)")
        axes.axhline(0, color="black", linewidth=0.5)
        axes.set_xscale("log")
        axes.set_yscale("symlog", linthresh=10)
        axes.set_title(panel, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in parts[len(panels) :]:
        axes.set_visible(False)
    for axes in parts[: len(panels)][-n_columns:]:  # the lowest part of each column
        axes.tick_params(labelbottom=True)
    figure.supxlabel("pairs T", fontsize=10)
    figure.supylabel("regret against the best labeler", fontsize=10)
    handles, labels = parts[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(6, len(labels)), frameon=False, fontsize=9)
    return as_png(figure)
