"""What is made of soft labels: how good they are, and the table that trains."""

from __future__ import annotations

import numpy as np
import pandas as pd

from truthful_rlhf.aggregation import LabeledCampaign
from truthful_rlhf.aggregation.base import BoolArray, FloatArray
from truthful_rlhf.aggregation.statistics import accuracy, mean_squared_error

LABEL_ARTEFACTS = ("reports.parquet", "soft_labels.parquet", "weights.parquet", "labels.json")


def revealed(outcomes: pd.DataFrame) -> FloatArray:
    """Return the outcomes of audited pairs and NaN for the others, shape ``(T,)``."""
    return np.where(outcomes["audited"], outcomes["outcome"], np.nan).astype(np.float64)


def orient(pairs: pd.DataFrame, soft_labels: FloatArray, n_labelers: FloatArray, audited: BoolArray) -> pd.DataFrame:
    """Return the soft-label table, one row per pair: the likelier response is ``chosen``, its probability >= 0.5.

    Args:
        pairs: columns ``pair_id, prompt, response_a, response_b``, T rows.
        soft_labels: P(A better), shape ``(T,)``; NaN for a pair that nobody judged, which is left out.
        n_labelers: labelers who judged the pair, shape ``(T,)``.
        audited: whether the pair's outcome was revealed, shape ``(T,)``.
    """
    judged = ~np.isnan(soft_labels)
    a_better = soft_labels >= 0.5
    table = pd.DataFrame(
        {
            "prompt": pairs["prompt"],
            "chosen": np.where(a_better, pairs["response_a"], pairs["response_b"]),
            "rejected": np.where(a_better, pairs["response_b"], pairs["response_a"]),
            "soft_label": np.where(a_better, soft_labels, 1.0 - soft_labels),
            "pair_id": pairs["pair_id"],
            "n_labelers": n_labelers.astype(np.int64),
            "audited": audited,
            "chosen_is_a": a_better,
        }
    )
    return table if judged.all() else table[judged].reset_index(drop=True)


def label_quality(soft_labels: FloatArray, p_truth: FloatArray, audited: BoolArray) -> dict[str, float | None]:
    """Measure soft labels against the true preference: accuracy of the direction, and mean squared error.

    A soft label of 1/2 counts half; equally good responses have no direction and count in the error only. Unaudited
    pairs are measured apart, because final labels of audited pairs are their outcomes.

    Args:
        soft_labels: P(A better), shape ``(T,)``; NaN for a pair that nobody judged, which is left out.
        p_truth: the true P(A better), shape ``(T,)``; NaN where it is not known.
        audited: whether the pair's outcome was revealed, shape ``(T,)``.

    Returns:
        ``label_accuracy`` and ``label_accuracy_unaudited``, None without any direction, and the mean squared error to
        the true probability. Its key is ``brier``, the name that it has in the files of a run; outcomes play no part.
    """
    judged = ~np.isnan(soft_labels)
    soft_labels, p_truth, audited = soft_labels[judged], p_truth[judged], audited[judged]
    better = np.where((p_truth == 0.5) | np.isnan(p_truth), np.nan, p_truth > 0.5)
    measures = {
        "label_accuracy": accuracy(soft_labels, better),
        "label_accuracy_unaudited": accuracy(soft_labels, np.where(audited, np.nan, better)),
        "brier": mean_squared_error(soft_labels, p_truth),
    }
    return {name: None if np.isnan(value) else value for name, value in measures.items()}


def mechanism_quality(labels: LabeledCampaign, reports: FloatArray, outcomes: FloatArray) -> dict[str, float | None]:
    """Measure what a rule made of its labelers, on all outcomes, revealed or not; None where there are none.

    ``regret``: cumulative squared loss of the stated labels minus that of the best fixed labeler, over all outcomes
    (over those that the rule saw: ``regret_revealed``). ``best_weight``: the final weight of that labeler.
    ``minority_loss``: mean squared distance of the soft label from the reports of those who were outvoted
    (on the other side of 1/2 than most of the pair's labelers): what accuracy weighting, which takes one truth for
    granted, may cost those who see it otherwise.

    Args:
        labels: of the campaign.
        reports: shape ``(T, N)``, NaN where a labeler did not judge.
        outcomes: shape ``(T,)``, 0 or 1, NaN where not known.
    """
    judged = ~np.isnan(reports) & ~np.isnan(outcomes)[:, None]
    if not judged.any():
        return {"regret": None, "best_weight": None, "minority_loss": None}
    from truthful_rlhf.aggregation import regret

    sums = np.where(judged, (reports - outcomes[:, None]) ** 2, 0.0).sum(axis=0)
    losses = np.divide(sums, judged.sum(axis=0), out=np.full(len(sums), np.nan), where=judged.any(axis=0))
    sides = np.sign(np.where(np.isnan(reports), 0.0, reports - 0.5))
    outvoted = sides * np.sign(sides.sum(axis=1, keepdims=True)) < 0
    distances = (reports - labels.soft_labels[:, None]) ** 2
    return {
        "regret": float(regret(labels.stated, reports, outcomes)[-1]),
        "best_weight": float(labels.last_weights[np.nanargmin(losses)]),
        "minority_loss": float(distances[outvoted].mean()) if outvoted.any() else None,
    }


def truth_labels(p_truth: FloatArray) -> LabeledCampaign:
    """Return the reference: the true preference probabilities, without any labeler; NaN where they are not known."""
    stated = np.where(np.isnan(p_truth), 0.5, p_truth)
    return LabeledCampaign(p_truth, stated, np.empty((len(p_truth) + 1, 0)), np.empty(0))
