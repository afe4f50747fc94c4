"""Figures of the report, as PNG bytes. Every function takes numbers and draws one figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.statistics.intervals import Z
from truthful_rlhf.pipeline.reports.rows import GapRow
from truthful_rlhf.pipeline.storage.figures import COLOURS, as_png, new_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Points = tuple[Any, Any]


def lines(panels: Mapping[str, Mapping[str, Points]], xlabel: str, whole_numbers: bool = False) -> bytes:
    """Draw several quantities side by side, each with one line per condition.

    Args:
        panels: quantity -> condition -> (x, y) of its line.
        xlabel: of every panel.
        whole_numbers: label whole numbers on the x axis only.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    n_columns = min(2, len(panels)) or 1
    n_rows = -(-len(panels) // n_columns) or 1
    figure = Figure(figsize=(4.0 * n_columns, 2.6 * n_rows), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    for position, (title, curves) in enumerate(panels.items()):
        axes = figure.add_subplot(n_rows, n_columns, position + 1)
        for name, (x, y) in curves.items():
            axes.plot(x, y, color=COLOURS[names.index(name) % len(COLOURS)], label=name, marker=".", linewidth=1.3)
        axes.set(xlabel=xlabel, title=title)
        axes.spines[["top", "right"]].set_visible(False)
        if whole_numbers:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if position == 0:
            figure.legend(loc="outside upper center", ncols=len(curves), frameon=False)
    return as_png(figure)


def gold_by_condition(rows: Sequence[GapRow]) -> bytes:
    """Draw the gold reward of every condition with 95 % bars; the base policy and the truth are the two lines."""
    gold = [row.measures.gold for row in rows]
    spans = [(e.mean - Z * e.standard_error, e.mean + Z * e.standard_error) for e in gold]
    references = [row.measures.gold.mean for row in rows if row.is_reference]
    means = [e.mean for e in gold]
    return _forest(rows, means, spans, references, "gold reward on held-out prompts (mean, 95 % interval)")


def gap_forest(rows: Sequence[GapRow]) -> bytes:
    """Draw the normalised alignment gap of every panel and rule with its 95 % interval.

    Args:
        rows: of rules, whose normalised gap is known; its interval may be None, and so may an end of it, which then
            has no bound.
    """
    label = "normalised alignment gap (0: nothing lost, 1: all that training gained)"
    gaps, spans = [row.gap.known() for row in rows], [row.gap.normalised_interval for row in rows]
    return _forest(rows, gaps, spans, [0.0, 1.0], label)


def _forest(
    rows: Sequence[GapRow],
    values: Sequence[float],
    spans: Sequence[tuple[float | None, float | None] | None],
    references: Sequence[float],
    label: str,
) -> bytes:
    """Draw a point and its interval per row, first row on top; panels are set apart by colour, base and truth grey."""
    crowded = len(rows) > 12
    figure, axes = new_figure(width=9.0 if crowded else 7.0, height=1.1 + (0.26 if crowded else 0.38) * len(rows))
    panels = list(dict.fromkeys(row.panel for row in rows if not row.is_reference))
    for position, (row, value, span) in enumerate(zip(rows, values, spans, strict=True)):
        colour = COLOURS[6] if row.is_reference else COLOURS[panels.index(row.panel) % 6]
        if span is not None:
            ends = [value if end is None else end for end in span]
            axes.plot(ends, [position, position], color=colour, linewidth=1.6)
        axes.plot(value, position, "o", color=colour)
    for level in references:
        axes.axvline(level, color=COLOURS[6], linestyle=":", linewidth=1)
    for position, (value, span) in enumerate(zip(values, spans, strict=True)):
        for end, edge in zip(span or (), axes.get_xlim(), strict=False):
            if end is None:  # no bound: an arrow to the edge of what all the others need
                axes.annotate("", (edge, position), (value, position), arrowprops={"arrowstyle": "->"})
    axes.set_yticks(range(len(rows)), _names(rows))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel(label)
    return as_png(figure)


def gap_heat_map(rows: Sequence[GapRow]) -> bytes:
    """Draw the normalised alignment gap as a grid of panels (and methods) and rules.

    Args:
        rows: of rules; where the normalised gap is None the cell is left white.
    """
    lines = _names(rows, with_rule=False)
    names, rules = list(dict.fromkeys(lines)), list(dict.fromkeys(row.rule for row in rows))
    grid = np.full((len(names), len(rules)), np.nan)
    for name, row in zip(lines, rows, strict=True):
        if row.gap.normalised is not None:
            grid[names.index(name), rules.index(row.rule)] = row.gap.normalised
    figure, axes = new_figure(width=2.2 + 1.1 * len(rules), height=1.6 + 0.5 * len(names))
    image = axes.imshow(grid, cmap="cividis", vmin=0.0, vmax=1.2, aspect="auto")
    for (row_index, column), value in np.ndenumerate(grid):
        if not np.isnan(value):
            colour = "black" if value > 0.6 else "white"
            axes.text(column, row_index, f"{value:.2f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(rules)), rules, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="normalised gap", extend="both")
    return as_png(figure)


def _names(rows: Sequence[GapRow], with_rule: bool = True) -> list[str]:
    """Return a name per row from what tells rows apart: panel and method only where there are several, then the rule.

    Without the rule, a row of which nothing else is left is named by its rule all the same.
    """
    several_panels = len({row.panel for row in rows if not row.is_reference}) > 1
    several_methods = len({row.method for row in rows} - {None}) > 1
    names = []
    for row in rows:
        panel = row.panel if several_panels and not row.is_reference else None
        parts = (panel, row.method if several_methods else None, row.rule if with_rule else None)
        names.append(": ".join(part for part in parts if part is not None) or row.rule)
    return names


def kl_frontier(rows: Sequence[GapRow]) -> bytes:
    """Draw gold reward against the square root of the KL: a colour per rule, a marker per panel (and method).

    Args:
        rows: the base policy first, joined with the truth by dotted lines.
    """
    figure, axes = new_figure(width=8.0, height=4.4)
    judged = [row for row in rows if not row.is_reference]
    rules = list(dict.fromkeys(row.rule for row in judged))
    crowds = list(dict.fromkeys((row.panel, row.method) for row in judged))
    markers = "osD^vP*X<>hp"
    points = [(np.sqrt(max(0.0, row.measures.kl.mean)), row.measures.gold.mean) for row in rows]  # -1e-9 by rounding
    for row, point in zip(rows, points, strict=True):
        if row.is_reference:
            axes.plot(*point, "o", color="black", markersize=8, fillstyle="none")
            axes.annotate(_names([row])[0], point, xytext=(6, 5), textcoords="offset points")
            axes.plot(*zip(points[0], point, strict=True), ":", color="black", linewidth=1)
            continue
        marker = markers[crowds.index((row.panel, row.method)) % len(markers)]
        axes.plot(*point, marker, color=COLOURS[rules.index(row.rule) % len(COLOURS)], alpha=0.85)
    for rule in rules:
        axes.plot([], [], "o", color=COLOURS[rules.index(rule) % len(COLOURS)], label=rule)
    if len(crowds) > 1:
        for k, name in enumerate(dict.fromkeys(_names(judged, with_rule=False))):
            axes.plot([], [], markers[k % len(markers)], color=COLOURS[6], fillstyle="none", label=name)
    axes.set(xlabel="square root of KL to the base policy (nats)", ylabel="gold reward on held-out prompts")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return as_png(figure)


def weights_over_rounds(weights: Mapping[str, FloatArray], title: str) -> bytes:
    """Draw the weight of every labeler before each round.

    Args:
        weights: labeler -> weights, shape ``(T + 1,)``.
        title: the rule.
    """
    figure, axes = new_figure()
    groups = sorted({_group(name) for name in weights})
    labelled: set[str] = set()
    # the legend in the order in which the lines end
    for name, series in sorted(weights.items(), key=lambda item: -item[1][-1]):
        group = _group(name)
        again, colour = divmod(groups.index(group), len(COLOURS))
        axes.step(
            np.arange(len(series)),
            series,
            where="post",
            color=COLOURS[colour],
            linestyle=("-", "--", ":")[min(again, 2)],
            linewidth=1.3,
            label=None if group in labelled else group,
        )
        labelled.add(group)
    axes.axhline(1 / len(weights), color=COLOURS[6], linestyle=":", linewidth=1)
    axes.set(xlabel="round (pair)", ylabel="weight", title=title, ylim=(0, None))
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return as_png(figure)


def _group(labeler_id: str) -> str:
    """Return a labeler's group: the labelers of one entry of a panel are numbered."""
    return labeler_id.rstrip("0123456789").rstrip("-_ ") or labeler_id


def cumulative_regret(curves: Mapping[str, FloatArray], bounds: Mapping[str, FloatArray | None]) -> bytes:
    """Draw the regret on revealed outcomes against the best fixed labeler, with the bounds that are proved.

    Args:
        curves: rule -> ``regret_revealed``, shape ``(T,)``.
        bounds: rule -> its bound, shape ``(T,)``, or None where none is proved.
    """
    figure, axes = new_figure()
    for k, (name, curve) in enumerate(curves.items()):
        rounds, colour, bound = np.arange(1, len(curve) + 1), COLOURS[k % len(COLOURS)], bounds[name]
        axes.plot(rounds, curve, color=colour, label=name, linewidth=1.5)
        if bound is not None:
            axes.plot(rounds, bound, color=colour, linestyle=":", label=f"{name}, bound", linewidth=1)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set(xlabel="round (pair)", ylabel="regret on revealed outcomes")
    axes.legend(frameon=False)
    return as_png(figure)


def over_optimisation_figure(curves: dict[str, pd.DataFrame]) -> Figure:
    """Draw gold reward against the square root of the KL, one line with error bars per rule.

    Args:
        curves: rule -> table of ``best_of_n_curve``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.8), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.errorbar(np.sqrt(curve["kl"]), curve["gold"], yerr=curve["gold_standard_error"], label=name, capsize=2)
    axes.set(xlabel="square root of KL to the base policy (nats)", ylabel="gold reward of best-of-n")
    axes.legend(frameon=False)
    return figure
