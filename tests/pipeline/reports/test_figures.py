"""Figures and sentences that summarise a grid claim no more than the rows say."""

from __future__ import annotations

import pytest

from tests.pipeline.reports.made_up import made_up_row
from truthful_rlhf.pipeline.reports import figures
from truthful_rlhf.pipeline.reports.page import findings

ROWS = [
    made_up_row("honest", "mean", 0.02, (-0.1, 0.2)),
    made_up_row("honest", "online_weighted", 0.03),
    made_up_row("biased", "mean", 0.9, (0.7, 1.1)),
    made_up_row("biased", "online_weighted", None),
]
BASE, TRUTH = made_up_row("shared", "base", 1.0, gold=0.1), made_up_row("shared", "truth", gold=0.5)


def test_the_same_rows_give_the_same_bytes() -> None:
    known = [row for row in ROWS if row.gap.normalised is not None]
    assert figures.gap_forest(known) == figures.gap_forest(known)
    assert figures.gap_forest(known) != figures.gap_forest(known[:2])
    assert figures.gap_heat_map(ROWS).startswith(b"\x89PNG")


def test_panels_are_named_only_where_there_are_several() -> None:
    assert figures._names(ROWS)[0] == "honest: mean"
    assert figures._names([TRUTH, *ROWS[:2]]) == ["truth", "mean", "online_weighted"]


def test_worse_than_no_training_needs_the_whole_interval() -> None:
    unsure, sure = made_up_row("p", "mean", 1.01, (0.84, 1.22)), made_up_row("p", "median", 1.2, (1.1, 1.3))
    _, mean, median = findings([BASE, TRUTH, unsure, sure])
    assert "worse than not training" not in mean
    assert "worse than not training" in median


def test_several_panels_get_one_sentence_each_that_names_both_ends() -> None:
    gaps = {("a", "mean"): 1.4, ("a", "median"): 0.3, ("a", "majority"): 0.9, ("b", "mean"): -0.1, ("b", "median"): 0.2}
    rows = [made_up_row(panel, rule, gap, (gap - 0.2, gap + 0.2)) for (panel, rule), gap in gaps.items()]
    _, first, second = findings([BASE, TRUTH, *rows])
    assert "panel a, the labels of median lost 30%" in first
    assert "those of mean lost 140% of that, which is worse than not training" in first
    assert "majority" not in first
    assert "mean are not shown to have lost any of that (-0.10 [-0.30, 0.10])" in second


@pytest.mark.parametrize(
    ("gap", "interval", "said"),
    [
        (0.3, (0.1, 0.5), "lost 30% of that."),
        (0.3, (-0.1, 0.7), "are not shown to have lost any of that (0.30 [-0.10, 0.70])."),
        (0.3, (None, None), "are not shown to have lost any of that (0.30 (-∞, ∞))."),
        (-0.3, (-0.7, 0.1), "are not shown to have lost any of that (-0.30 [-0.70, 0.10])."),
        (-0.3, (-0.5, -0.1), "gained 30% more than that."),
        (1.5, (1.1, None), "lost 150% of that, which is worse than not training."),
    ],
)
def test_what_the_interval_does_not_show_is_not_said(
    gap: float, interval: tuple[float | None, float | None], said: str
) -> None:
    assert findings([BASE, TRUTH, made_up_row("p", "mean", gap, interval)])[-1] == f"The labels of mean {said}"
