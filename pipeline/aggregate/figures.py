"""Figures of the labeler report, as PNG bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray, IntArray
from truthful_rlhf.aggregation.statistics import Reliability
from truthful_rlhf.pipeline.storage.figures import COLOURS, as_png, new_figure

_NAMED_LINES = 7


def shorten(name: str, length: int = 22) -> str:
    """Return a labeler's name short enough for an axis."""
    return name if len(name) <= length else name[: length - 1] + "…"


def agreement_heatmap(names: Sequence[str], agreement: FloatArray) -> bytes:
    """Draw who agrees with whom.

    Args:
        names: K labelers.
        agreement: shape ``(K, K)``, in [0, 1], NaN where two labelers share too few pairs.
    """
    k = len(names)
    side = 2.0 + 0.19 * k
    figure, axes = new_figure(width=side + 0.9, height=side)
    low = float(np.nanmin(agreement)) if not np.isnan(agreement).all() else 0.0
    image = axes.imshow(np.ma.masked_invalid(agreement), cmap="cividis", vmin=min(low, 0.5), vmax=1.0)
    size = 7.5
    labels = [_plain(shorten(name)) for name in names]
    axes.set_xticks(range(k), labels, rotation=90, fontsize=size)
    axes.set_yticks(range(k), labels, fontsize=size)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_facecolor("#eceff3")
    figure.colorbar(image, ax=axes, shrink=0.7, label="agreement")
    return as_png(figure)


def weights_over_time(rounds: IntArray, history: FloatArray, names: Sequence[str]) -> bytes:
    """Draw the weights: the heaviest labelers and the lightest by name, the others in grey.

    Args:
        rounds: K recorded rounds.
        history: shape ``(K, N)``.
        names: N labelers.
    """
    figure, axes = new_figure(width=8.2, height=4.0)
    order = np.argsort(-history[-1], kind="stable")
    named = [*order[: _NAMED_LINES - 2], *order[-2:]] if len(order) > _NAMED_LINES else list(order)
    for i in order[:300]:
        if i not in named:
            axes.plot(rounds, history[:, i], color="#c9ced6", linewidth=0.7, zorder=1)
    for colour, i in zip(COLOURS, named, strict=False):
        axes.plot(rounds, history[:, i], color=colour, linewidth=1.6, label=_plain(shorten(names[i])), zorder=2)
    axes.axhline(1.0 / len(names), color="black", linewidth=0.7, linestyle=":")
    axes.set(xlabel="round (pair)", ylabel="weight", ylim=(0, None), xlim=(0, max(1, int(rounds[-1]))))
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return as_png(figure)


def calibration_panels(names: Sequence[str], bins: Sequence[Reliability]) -> bytes:
    """Draw one small calibration diagram per labeler: how often A was better against the report.

    Args:
        names: K labelers.
        bins: the reliability diagram of each of them, of its reports against outcomes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(6, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(1.65 * columns + 0.3, 1.85 * rows + 0.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    for axes, name, table in zip(grid.flat, names, bins, strict=False):
        axes.plot([0, 1], [0, 1], color="#9aa1ac", linewidth=0.8, linestyle=":")
        axes.plot(table.stated, table.observed, color=COLOURS[0], linewidth=0.8, alpha=0.5)
        sizes = 4 + 60 * table.count / table.count.sum()
        axes.scatter(table.stated, table.observed, s=sizes, color=COLOURS[0], linewidths=0)
        axes.set_title(_plain(shorten(name, 20)), fontsize=7.5)
        axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("report", fontsize=8)
    figure.supylabel("A was better", fontsize=8)
    return as_png(figure)


def soft_label_histogram(soft_labels: FloatArray) -> bytes:
    """Draw how sure the soft labels are.

    Args:
        soft_labels: of the likelier response, shape ``(n,)``, in [0.5, 1].
    """
    figure, axes = new_figure(width=6.0, height=2.3)
    axes.hist(soft_labels, bins=25, range=(0.5, 1.0), color=COLOURS[0])
    axes.set(xlabel="soft label of the likelier response", ylabel="pairs", xlim=(0.5, 1.0))
    return as_png(figure)


def _plain(name: str) -> str:
    """Return a name that matplotlib does not read as mathematics, without characters that no font draws."""
    return "".join(c if c.isprintable() else "?" for c in name).replace("$", r"\$")
