"""Figures that summarise a grid: nothing is drawn for a gap that is not known, and every panel is named."""

from __future__ import annotations

from pipeline import figures

ROWS = [
    {"panel": panel, "rule": rule, "normalised_gap": gap, "normalised_gap_interval": interval}
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
    assert figures._names([{"panel": "shared", "rule": "truth"}, *ROWS[:2]]) == ["truth", "mean", "online_weighted"]
