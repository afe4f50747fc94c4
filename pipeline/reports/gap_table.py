"""The table of alignment gaps, as CSV, as Markdown, for the terminal and for the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from truthful_rlhf.pipeline.config.experiment import SHARED
from truthful_rlhf.pipeline.storage.markdown import markdown_table


def results_csv(rows: list[dict[str, Any]]) -> str:
    """Return the summary as CSV, with all measures at full precision."""
    return str(pd.DataFrame(rows).to_csv(index=False))


COLUMNS = {
    "panel": "panel",
    "rule": "rule",
    "method": "method",
    "label_accuracy_unaudited": "label acc.",
    "brier": "MSE",  # to the true probability, not to outcomes; results.csv has called it brier from the start
    "gold": "gold reward",
    "gap": "gap",
    "normalised_gap": "normalised [95 %]",
    "win_rate": "win rate",
    "kl": "KL",
    "n_tokens": "tokens",
}


TEXTS = ("panel", "rule", "method")
"""The columns that are no numbers."""
IN_THE_TERMINAL = ("panel", "rule", "method", "label_accuracy_unaudited", "gold", "gap", "normalised_gap", "kl")
MECHANISM_COLUMNS = (
    "panel",
    "rule",
    "label acc.",
    "MSE",
    "regret, all outcomes",
    "weight on the best",
    "minority loss",
)


def columns(rows: list[dict[str, Any]]) -> list[str]:
    """Return the names of the columns that the table of these rows needs: without the panel or method if it has one."""
    varying = {name: len({row[name] for row in rows} - {SHARED, None}) > 1 for name in ("panel", "method")}
    return [name for name in COLUMNS if varying.get(name, True)]


def terminal_table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return headers and cells of what fits eighty columns."""
    shown = [name for name in columns(rows) if name in IN_THE_TERMINAL]
    return [COLUMNS[name] for name in shown], [cells(row, shown) for row in rows]


def cells(row: dict[str, Any], shown: Sequence[str]) -> list[str]:
    """Return a summary row as the texts of some of the columns ``COLUMNS``."""
    interval = row["normalised_gap_interval"]
    bounds = "" if interval is None else f" {interval_text(*interval)}"
    texts = {
        "panel": "–" if row["panel"] == SHARED else row["panel"],
        "rule": row["rule"],
        "method": row["method"] or "–",
        "label_accuracy_unaudited": _number(row, "label_accuracy_unaudited"),
        "brier": _number(row, "brier"),
        "gold": _with_error(row, "gold"),
        "gap": _number(row, "gap"),
        "normalised_gap": _number(row, "normalised_gap", 2) + bounds,
        "win_rate": _with_error(row, "win_rate", 2),
        "kl": _number(row, "kl", 2),
        "n_tokens": _number(row, "n_tokens", 1),
    }
    return [texts[name] for name in shown]


def interval_text(low: float | None, high: float | None) -> str:
    """Return an interval as text; an end that is None has no bound.

    >>> interval_text(0.25, 1.5), interval_text(0.25, None), interval_text(None, None)
    ('[0.25, 1.50]', '[0.25, ∞)', '(-∞, ∞)')
    """
    return ("(-∞" if low is None else f"[{low:.2f}") + ", " + ("∞)" if high is None else f"{high:.2f}]")


def _number(row: dict[str, Any], name: str, digits: int = 3) -> str:
    return "–" if row[name] is None else f"{row[name]:.{digits}f}"


def _with_error(row: dict[str, Any], name: str, digits: int = 3) -> str:
    error = row[f"{name}_se"] if row[name] is not None else None
    return _number(row, name, digits) + ("" if error is None else f" ± {error:.{digits}f}")


def mechanism_table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return cells under ``MECHANISM_COLUMNS``: what each rule made of its labelers, one row per panel and rule."""
    first: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        if row["panel"] != SHARED:
            first.setdefault((row["panel"], row["rule"]), row)
    return [
        [
            *(row["panel"], row["rule"]),
            *(_with_error(row, name) for name in ("label_accuracy_unaudited", "brier")),
            *(_with_error(row, "regret", 1), _with_error(row, "best_weight", 2), _with_error(row, "minority_loss")),
        ]
        for row in first.values()
    ]


def markdown_tables(rows: list[dict[str, Any]]) -> str:
    """Return the summary as two Markdown tables: the policies, and what each rule made of its labelers."""
    shown = columns(rows)
    n_text = sum(name in TEXTS for name in shown)
    policies = markdown_table([COLUMNS[name] for name in shown], [cells(row, shown) for row in rows], n_text)
    return policies + "\n" + markdown_table(MECHANISM_COLUMNS, mechanism_table(rows), n_text=2)
