"""Figures and sentences that summarise a grid claim no more than the rows say."""

from __future__ import annotations

from truthful_rlhf.pipeline.reports import figures
from truthful_rlhf.pipeline.reports.page import findings

ROWS = [
    {"panel": panel, "rule": rule, "method": "dpo", "normalised_gap": gap, "normalised_gap_interval": interval}
    for panel, rule, gap, interval in (
        ("honest", "mean", 0.02, [-0.1, 0.2]),
        ("honest", "online_weighted", 0.03, None),
        ("biased", "mean", 0.9, [0.7, 1.1]),
        ("biased", "online_weighted", None, None),
    )
]


def test_the_same_rows_give_the_same_bytes() -> None:
    known = [row for row in ROWS if row["normalised_gap"] is not None]
    assert figures.gap_forest(known) == figures.gap_forest(known)
    assert figures.gap_forest(known) != figures.gap_forest(known[:2])
    assert figures.gap_heat_map(ROWS).startswith(b"\x89PNG")


def test_panels_are_named_only_where_there_are_several() -> None:
    assert figures._names(ROWS)[0] == "honest: mean"
    assert figures._names([{"panel": "shared", "rule": "truth", "method": "dpo"}, *ROWS[:2]]) == [
        "truth",
        "mean",
        "online_weighted",
    ]


def test_worse_than_no_training_needs_the_whole_interval() -> None:
    base = {"panel": "shared", "rule": "base", "method": None, "gold": 0.1}
    references = [base, {**base, "rule": "truth", "method": "dpo", "gold": 0.5, "normalised_gap": 0.0}]
    unsure = {
        "panel": "p",
        "rule": "mean",
        "method": "dpo",
        "normalised_gap": 1.01,
        "normalised_gap_interval": [0.84, 1.22],
    }
    sure = {**unsure, "rule": "median", "normalised_gap": 1.2, "normalised_gap_interval": [1.1, 1.3]}
    _, mean, median = findings([*references, unsure, sure])
    assert "worse than not training" not in mean
    assert "worse than not training" in median


def test_several_panels_get_one_sentence_each_that_names_both_ends() -> None:
    base = {"panel": "shared", "rule": "base", "method": None, "gold": 0.1}
    truth = {**base, "rule": "truth", "method": "dpo", "gold": 0.5, "normalised_gap": 0.0}
    gaps = {("a", "mean"): 1.4, ("a", "median"): 0.3, ("a", "majority"): 0.9, ("b", "mean"): -0.1, ("b", "median"): 0.2}
    rows = [
        {
            **truth,
            "panel": panel,
            "rule": rule,
            "normalised_gap": gap,
            "normalised_gap_interval": [gap - 0.2, gap + 0.2],
        }
        for (panel, rule), gap in gaps.items()
    ]
    _, first, second = findings([base, truth, *rows])
    assert "panel a, the labels of median lost 30%" in first
    assert "those of mean lost 140% of that, which is worse than not training" in first
    assert "majority" not in first
    assert "mean gained 10%" in second
