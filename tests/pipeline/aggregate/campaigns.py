"""Hand-made campaigns for the tests of this package."""

from __future__ import annotations

from typing import Any

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.labelers.recorded.table import Annotations, read_annotations


def rows_of(
    reports: FloatArray,
    outcomes: FloatArray | None = None,
    names: list[str] | None = None,
    topics: list[str] | None = None,
) -> list[dict[str, Any]]:
    """Return the annotation rows of a matrix of reports, shape (T, N), NaN where a labeler did not judge."""
    rows = []
    for t, i in np.argwhere(~np.isnan(reports)):
        row = {"pair_id": f"p{t:04}", "labeler_id": names[i] if names else f"l{i:02}", "report": float(reports[t, i])}
        row |= {"prompt": f"prompt {t}", "response_a": f"first {t}", "response_b": f"second {t}"}
        if outcomes is not None:
            row["outcome"] = None if np.isnan(outcomes[t]) else float(outcomes[t])
        if topics is not None:
            row["topic"] = topics[t]
        rows.append(row)
    return rows


def annotations_of(reports: FloatArray, outcomes: FloatArray | None = None, **other: Any) -> Annotations:
    """Return the annotations of a matrix of reports."""
    return read_annotations(rows_of(reports, outcomes, **other))


def votes(n_pairs: int, accuracies: list[float], rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Return independent votes, shape (T, N), of labelers with these accuracies, and the outcomes, shape (T,)."""
    outcomes = (rng.random(n_pairs) < 0.5).astype(np.float64)
    right = rng.random((n_pairs, len(accuracies))) < np.array(accuracies)
    return np.where(right, outcomes[:, None], 1.0 - outcomes[:, None]), outcomes
