"""Figures of the report, as PNG bytes. Every function takes numbers and draws one figure."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]
# Okabe and Ito's colours, told apart by colour-blind readers
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#000000")


def new_figure(width: float = 7.0, height: float = 3.6) -> tuple[Figure, Axes]:
    """Return a figure and its axes, without the global state of pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def as_png(figure: Figure) -> bytes:
    """Return the figure as PNG bytes that depend on nothing but the figure (no date, no version)."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


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


def gold_by_condition(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw the gold reward of every condition with 95 % bars; the base policy and the truth are the two lines."""
    figure, axes = new_figure(height=1.0 + 0.42 * len(rows))
    for position, row in enumerate(reversed(rows)):
        reference = row["rule"] in ("base", "truth")
        axes.errorbar(
            row["gold"],
            position,
            xerr=1.96 * row["gold_se"],
            fmt="o",
            color=COLOURS[6] if reference else COLOURS[0],
            capsize=3,
        )
    for row in rows:
        if row["rule"] in ("base", "truth"):
            axes.axvline(row["gold"], color=COLOURS[6], linestyle=":", linewidth=1)
    axes.set_yticks(range(len(rows)), _names(list(reversed(rows))))
    axes.set_xlabel("gold reward on held-out prompts (mean, 95 % interval)")
    return as_png(figure)


def gap_forest(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw the normalised alignment gap of every panel and rule with its 95 % interval.

    Args:
        rows: of rules, with ``panel, rule, normalised_gap, normalised_gap_interval`` (the interval may be None).
    """
    figure, axes = new_figure(height=1.1 + 0.36 * len(rows))
    for position, row in enumerate(reversed(rows)):
        gap, interval = row["normalised_gap"], row["normalised_gap_interval"]
        if interval is not None:
            axes.plot(interval, [position, position], color=COLOURS[0], linewidth=1.6)
        axes.plot(gap, position, "o", color=COLOURS[0])
    for level in (0.0, 1.0):
        axes.axvline(level, color=COLOURS[6], linestyle=":", linewidth=1)
    axes.set_yticks(range(len(rows)), _names(list(reversed(rows))))
    axes.set_xlabel("normalised alignment gap (0: nothing lost, 1: all that training gained)")
    return as_png(figure)


def gap_heat_map(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw the normalised alignment gap as a grid of panels and rules.

    Args:
        rows: of rules, with ``panel, rule, normalised_gap`` (may be None: left white).
    """
    panels, rules = (list(dict.fromkeys(row[key] for row in rows)) for key in ("panel", "rule"))
    grid = np.full((len(panels), len(rules)), np.nan)
    for row in rows:
        if row["normalised_gap"] is not None:
            grid[panels.index(row["panel"]), rules.index(row["rule"])] = row["normalised_gap"]
    figure, axes = new_figure(width=2.2 + 1.1 * len(rules), height=1.6 + 0.5 * len(panels))
    image = axes.imshow(grid, cmap="cividis", vmin=0.0, vmax=1.2, aspect="auto")
    for (row_index, column), value in np.ndenumerate(grid):
        if not np.isnan(value):
            colour = "black" if value > 0.6 else "white"
            axes.text(column, row_index, f"{value:.2f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(rules)), rules, rotation=30, ha="right")
    axes.set_yticks(range(len(panels)), panels)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="normalised gap", extend="both")
    return as_png(figure)


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    several_panels = len({row["panel"] for row in rows} - {"shared"}) > 1
    return [f"{row['panel']}: {row['rule']}" if several_panels else row["rule"] for row in rows]


def weights_over_rounds(weights: Mapping[str, FloatArray], title: str) -> bytes:
    """Draw the weight of every labeler before each round.

    Args:
        weights: labeler -> weights, shape ``(T + 1,)``.
        title: the rule.
    """
    figure, axes = new_figure()
    groups = sorted({_group(name) for name in weights})
    labelled: set[str] = set()
    for name, series in weights.items():
        group = _group(name)
        axes.step(
            np.arange(len(series)),
            series,
            where="post",
            color=COLOURS[groups.index(group) % len(COLOURS)],
            linewidth=1.3,
            label=None if group in labelled else group,
        )
        labelled.add(group)
    axes.axhline(1 / len(weights), color=COLOURS[6], linestyle=":", linewidth=1)
    axes.set(xlabel="round (pair)", ylabel="weight", title=title, ylim=(0, None))
    axes.legend(frameon=False)
    return as_png(figure)


def _group(labeler_id: str) -> str:
    """Return a labeler's group: the labelers of one entry of a panel are numbered."""
    return labeler_id.rstrip("0123456789").rstrip("-_ ") or labeler_id


def cumulative_regret(curves: Mapping[str, FloatArray], bound: FloatArray) -> bytes:
    """Draw cumulative regret against the best fixed labeler, with the bound 2 sqrt(t ln N) of the online mechanism.

    Args:
        curves: rule -> cumulative regret, shape ``(T,)``.
        bound: shape ``(T,)``.
    """
    figure, axes = new_figure()
    for k, (name, curve) in enumerate(curves.items()):
        axes.plot(np.arange(1, len(curve) + 1), curve, color=COLOURS[k % len(COLOURS)], label=name, linewidth=1.5)
    axes.plot(np.arange(1, len(bound) + 1), bound, color=COLOURS[6], linestyle=":", label="2 sqrt(t ln N)", linewidth=1)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set(xlabel="round (pair)", ylabel="cumulative regret")
    axes.legend(frameon=False)
    return as_png(figure)
