"""The table of alignment gaps, as CSV, as Markdown, for the terminal and for the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd

from truthful_rlhf.pipeline.experiment.estimates import Estimate
from truthful_rlhf.pipeline.reports.rows import GapRow, Measures
from truthful_rlhf.pipeline.storage.markdown import markdown_table


class Recorded(Protocol):
    """A row of a table of results."""

    def record(self) -> dict[str, Any]:
        """Return it flat, None where nothing is known."""
        ...


def results_csv(rows: Sequence[Recorded]) -> str:
    """Return the summary as CSV, with all measures at full precision."""
    return str(pd.DataFrame([row.record() for row in rows]).to_csv(index=False))


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


def columns(rows: Sequence[GapRow]) -> list[str]:
    """Return the names of the columns that the table of these rows needs: without the panel or method if it has one."""
    varying = {
        "panel": len({row.panel for row in rows if not row.is_reference}) > 1,
        "method": len({row.method for row in rows} - {None}) > 1,
    }
    return [name for name in COLUMNS if varying.get(name, True)]


def terminal_table(rows: Sequence[GapRow]) -> tuple[list[str], list[list[str]]]:
    """Return headers and cells of what fits eighty columns."""
    shown = [name for name in columns(rows) if name in IN_THE_TERMINAL]
    return [COLUMNS[name] for name in shown], [cells(row, shown) for row in rows]


def cells(row: GapRow, shown: Sequence[str]) -> list[str]:
    """Return a summary row as the texts of some of the columns ``COLUMNS``."""
    measures, gap = row.measures, row.gap
    bounds = "" if gap.normalised_interval is None else f" {interval_text(*gap.normalised_interval)}"
    texts = {
        "panel": "–" if row.is_reference else row.panel,
        "rule": row.rule,
        "method": row.method or "–",
        "label_accuracy_unaudited": _mean(measures.label_accuracy_unaudited),
        "brier": _mean(measures.brier),
        "gold": _with_error(measures.gold),
        "gap": _number(gap.raw),
        "normalised_gap": _number(gap.normalised, 2) + bounds,
        "win_rate": _with_error(measures.win_rate, 2),
        "kl": _mean(measures.kl, 2),
        "n_tokens": _mean(measures.n_tokens, 1),
    }
    return [texts[name] for name in shown]


def interval_text(low: float | None, high: float | None) -> str:
    """Return an interval as text; an end that is None has no bound.

    >>> interval_text(0.25, 1.5), interval_text(0.25, None), interval_text(None, None)
    ('[0.25, 1.50]', '[0.25, ∞)', '(-∞, ∞)')
    """
    return ("(-∞" if low is None else f"[{low:.2f}") + ", " + ("∞)" if high is None else f"{high:.2f}]")


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _mean(estimate: Estimate | None, digits: int = 3) -> str:
    return _number(None if estimate is None else estimate.mean, digits)


def _with_error(estimate: Estimate | None, digits: int = 3) -> str:
    known = estimate is not None and not np.isnan(estimate.standard_error)
    return _mean(estimate, digits) + (f" ± {estimate.standard_error:.{digits}f}" if estimate and known else "")


def mechanism_table(rows: Sequence[GapRow]) -> list[list[str]]:
    """Return cells under ``MECHANISM_COLUMNS``: what each rule made of its labelers, one row per panel and rule."""
    first: dict[tuple[str, str], Measures] = {}
    for row in rows:
        if not row.is_reference:
            first.setdefault((row.panel, row.rule), row.measures)
    return [
        [
            *(panel, rule),
            *(_with_error(measures.label_accuracy_unaudited), _with_error(measures.brier)),
            *(_with_error(measures.regret, 1), _with_error(measures.best_weight, 2)),
            _with_error(measures.minority_loss),
        ]
        for (panel, rule), measures in first.items()
    ]


def markdown_tables(rows: Sequence[GapRow]) -> str:
    """Return the summary as two Markdown tables: the policies, and what each rule made of its labelers."""
    shown = columns(rows)
    n_text = sum(name in TEXTS for name in shown)
    policies = markdown_table([COLUMNS[name] for name in shown], [cells(row, shown) for row in rows], n_text)
    return policies + "\n" + markdown_table(MECHANISM_COLUMNS, mechanism_table(rows), n_text=2)
