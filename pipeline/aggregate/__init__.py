"""Annotations that people already have: from a table of reports to soft labels, TRL data sets and a labeler report.

In a notebook, from a pandas table to a trained policy:

    from datasets import Dataset
    from truthful_rlhf import SoftDPOTrainer, aggregate_table

    result = aggregate_table(table, columns={"labeler_id": "annotator", "outcome": "expert"})
    result.soft_labels                      # DataFrame: prompt, chosen, rejected, soft_label, ...
    result.weights                          # DataFrame: labeler_id, weight, heaviest first
    print(result.reading)                   # what every value was taken to mean
    SoftDPOTrainer(model, train_dataset=result.to_trl(), ...).train()

Known elsewhere as: annotation quality control, label aggregation, annotator reports. An *audited pair* is a gold
question, honeypot, control or test question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from truthful_rlhf.aggregation.extras import explained
from truthful_rlhf.aggregation.labeling import SoftLabelKind
from truthful_rlhf.labelers.recorded.reading import Reading
from truthful_rlhf.labelers.recorded.table import Duplicates, read_annotations
from truthful_rlhf.labelers.recorded.texts import MESSAGES
from truthful_rlhf.pipeline.aggregate.campaign import AggregationSettings, CampaignResult, run_campaign
from truthful_rlhf.pipeline.aggregate.exports import conversational, soft_label_frames

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["AggregatedTable", "aggregate_table"]


@dataclass(frozen=True)
class AggregatedTable:
    """The soft labels of an annotation table."""

    soft_labels: pd.DataFrame
    """``prompt, chosen, rejected, soft_label`` (>= 0.5), ``pair_id, n_labelers, audited, chosen_is_a``, by round."""
    weights: pd.DataFrame
    """``labeler_id, weight`` after the last round, heaviest first."""
    campaign: CampaignResult

    @property
    def reading(self) -> Reading:
        """What was read: counts, what every value was taken to mean, notes."""
        return self.campaign.annotations.reading

    def to_trl(self, format: Literal["plain", "conversational"] = "plain") -> Dataset:
        """Return a ``datasets.Dataset`` that `SoftDPOTrainer` and `SoftRewardTrainer` train on."""
        with explained("to_trl"):
            from datasets import Dataset

        if not self.campaign.annotations.has_texts:
            raise ValueError("the annotations have no prompts or responses: there is nothing to train on")
        if format == "conversational":
            frames = pd.concat(map(conversational, soft_label_frames(self.campaign)), ignore_index=True)
            return Dataset.from_pandas(frames, preserve_index=False)
        plain = self.soft_labels[["prompt", "chosen", "rejected", "soft_label"]]
        return Dataset.from_pandas(plain, preserve_index=False)


def aggregate_table(
    table: pd.DataFrame | Dataset | str | Path | Any,
    *,
    rule: str | None = None,
    labels: SoftLabelKind = "final",
    columns: Mapping[str, str] | None = None,
    format: str = "auto",
    votes: Mapping[Any, str] | None = None,
    outcome_votes: Mapping[Any, str] | None = None,
    scale: str | None = None,
    low: str | None = None,
    one_hot: Mapping[str, str] | None = None,
    only: Mapping[str, Any] | None = None,
    duplicates: Duplicates = "error",
    pairs_by_text: bool = False,
    audit_rate: float = 1.0,
    options: Mapping[str, Any] | None = None,
    per_topic: bool = False,
    seed: int = 0,
) -> AggregatedTable:
    """Aggregate annotations: one soft label per pair.

    Args:
        table: a DataFrame, a ``datasets.Dataset``, a path, a Hub id, or any iterable of dicts; one report per row.
        rule: a key of ``aggregation.AGGREGATORS``; by default ``online_weighted`` if any outcome is known, else
            ``mean``.
        labels: ``final`` re-aggregates every pair with the last weights and labels audited pairs with their outcome;
            ``reweighted`` leaves audited pairs the panel's label (where an outcome is one person's noisy verdict);
            ``recalibrated`` makes these as sure as the outcomes warrant; ``online`` keeps what was stated before each
            outcome.
        columns: canonical name -> the table's name, e.g. ``{"labeler_id": "annotator", "outcome": "gold"}``.
        format: ``auto`` or a key of `labelers.recorded.formats.FORMATS`.
        votes: code of the report column -> ``A``, ``B``, ``tie`` or ``none``.
        outcome_votes: code of the outcome column -> ``A``, ``B`` or ``none``.
        scale: ``LOW:HIGH`` of a graded scale, with ``low``, the response that its low end prefers.
        low: ``A`` or ``B``.
        one_hot: ``A``, ``B`` and perhaps ``tie`` -> the column that holds 1 where that was chosen.
        only: column -> value of the rows that are read.
        duplicates: ``error``, ``last`` or ``mean``, when a labeler judged a pair twice.
        pairs_by_text: recognise pairs by their texts instead of their ids.
        audit_rate: share of the known outcomes that the rule may see.
        options: of the rule, such as ``{"eta": 0.3}``.
        per_topic: keep one set of weights per topic.
        seed: of the choice of audited pairs.

    Raises:
        AnnotationError: with the row, the key and the nearest valid choice.

    Examples:
        >>> rows = [("p1", "ann", 0.9, 1), ("p1", "bob", 0.4, 1), ("p2", "ann", 0.2, None), ("p2", "bob", 0.6, None)]
        >>> table = pd.DataFrame(rows, columns=["pair_id", "labeler_id", "report", "outcome"])
        >>> result = aggregate_table(table)
        >>> result.weights["labeler_id"].tolist()  # ann was nearer to the outcome of p1
        ['ann', 'bob']
        >>> result.soft_labels["chosen_is_a"].tolist(), bool(result.soft_labels["soft_label"][1] > 0.6)
        ([True, False], True)
    """
    annotations = read_annotations(
        table,
        format=format,
        columns=columns,
        votes=votes,
        outcome_votes=outcome_votes,
        scale=scale,
        low=low,
        one_hot=one_hot,
        only=only,
        duplicates=duplicates,
        pairs_by_text=pairs_by_text,
    )
    settings = AggregationSettings(rule, labels, audit_rate, options or {}, per_topic, seed)
    campaign = run_campaign(annotations, settings)
    weights = pd.DataFrame({"labeler_id": annotations.labeler_ids, "weight": campaign.weights})
    return AggregatedTable(
        soft_labels=pd.concat(soft_label_frames(campaign), ignore_index=True).drop(columns=MESSAGES),
        weights=weights.sort_values("weight", ascending=False, kind="stable", ignore_index=True),
        campaign=campaign,
    )
