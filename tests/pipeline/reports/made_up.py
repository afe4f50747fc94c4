"""Rows of the table of gaps, made up by hand."""

from __future__ import annotations

from truthful_rlhf.pipeline.experiment.estimates import Estimate
from truthful_rlhf.pipeline.reports.rows import AlignmentGap, GapRow, Measures

NOTHING = Estimate(0.0, float("nan"))


def made_up_row(
    panel: str,
    rule: str,
    normalised: float | None = 0.0,
    interval: tuple[float | None, float | None] | None = None,
    gold: float = 0.0,
) -> GapRow:
    """Return a row of the method dpo (of none for the base policy) with what a test is about."""
    gap = AlignmentGap(0.0, normalised, (0.0, 0.0), interval)
    measures = Measures(gold=Estimate(gold, float("nan")), n_tokens=NOTHING, kl=NOTHING)
    return GapRow(panel, rule, None if rule == "base" else "dpo", measures, gap)
