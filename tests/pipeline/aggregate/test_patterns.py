"""Each pattern is found when it is planted, and (the negative control) in nobody else."""

from __future__ import annotations

import numpy as np
import pytest

from tests.pipeline.aggregate.campaigns import annotations_of, rows_of, votes
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.labelers.recorded.table import read_annotations
from truthful_rlhf.pipeline.aggregate.patterns import Flag, mean_of_others, suspicious_patterns

HONEST = [0.85, 0.8, 0.75, 0.8, 0.7, 0.9]


def planted(seed: int = 0, n: int = 200) -> tuple[FloatArray, FloatArray]:
    return votes(n, [*HONEST, 0.8], np.random.default_rng(seed))


def found(reports: FloatArray, outcomes: FloatArray, known: bool) -> set[tuple[int, str]]:
    revealed = outcomes if known else np.full(len(outcomes), np.nan)
    return {(f.labeler, f.pattern) for f in suspicious_patterns(annotations_of(reports), revealed)}


@pytest.mark.parametrize("known", [True, False], ids=["with outcomes", "without outcomes"])
def test_nobody_is_accused_in_an_honest_panel(known: bool) -> None:
    for seed in range(10):
        assert found(*planted(seed), known) == set()


@pytest.mark.parametrize("known", [True, False], ids=["with outcomes", "without outcomes"])
class TestPlanted:
    def test_constant(self, known: bool) -> None:
        reports, outcomes = planted()
        for value in (1.0, 0.0, 0.5, 0.7):
            reports[:, 6] = value
            assert (6, "constant") in found(reports, outcomes, known)

    def test_flipping(self, known: bool) -> None:
        reports, outcomes = planted()
        reports[:, 6] = 1.0 - reports[:, 6]
        assert found(reports, outcomes, known) == {(6, "flipping")}

    def test_position_bias(self, known: bool) -> None:
        reports, outcomes = planted()
        lazy = np.random.default_rng(1).random(len(reports)) < 0.5
        reports[lazy, 6] = 1.0
        assert found(reports, outcomes, known) == {(6, "position bias")}

    def test_honest_then_not(self, known: bool) -> None:
        reports, outcomes = planted()
        reports[100:, 6] = 1.0 - reports[100:, 6]
        flags = suspicious_patterns(annotations_of(reports), outcomes if known else np.full(200, np.nan))
        assert {(f.labeler, f.pattern) for f in flags} == {(6, "honest, then not")}
        change = int(flags[0].evidence.split("until report ")[1].split()[0])
        assert abs(change - 100) <= 15

    def test_copying(self, known: bool) -> None:
        reports, outcomes = planted()
        reports[:, 6] = reports[:, 0]
        assert found(reports, outcomes, known) == {(0, "copying"), (6, "copying")}


def test_position_bias_is_seen_in_the_order_that_was_shown() -> None:
    """Someone who always leans to the response on the left, with the order shuffled, has no lean towards A or B."""
    rng = np.random.default_rng(3)
    reports, outcomes = planted()
    rows = rows_of(reports)
    for row in rows:
        if rng.random() < 0.5:
            row["response_a"], row["response_b"] = row["response_b"], row["response_a"]
            row["report"] = 1.0 - row["report"]
        if row["labeler_id"] == "l06" and rng.random() < 0.6:
            row["report"] = 1.0
    flags = suspicious_patterns(read_annotations(rows), outcomes)
    assert [(f.labeler, f.pattern) for f in flags] == [(6, "position bias")]
    assert "shown first" in flags[0].evidence


def test_labelers_with_few_reports_are_not_tested() -> None:
    reports, outcomes = planted()
    reports[:, 6] = 1.0 - reports[:, 6]
    reports[15:, 6] = np.nan
    assert found(reports, outcomes, True) == set()


def test_two_good_labelers_are_not_copies_of_each_other() -> None:
    reports, outcomes = votes(400, [0.97, 0.97, 0.6, 0.6, 0.6], np.random.default_rng(5))
    assert found(reports, outcomes, True) == set()
    assert found(reports, outcomes, False) == set()


def test_mean_of_others_leaves_the_labeler_out() -> None:
    reports = np.array([[0.2, 0.4, 0.9], [0.5, np.nan, np.nan]])
    np.testing.assert_allclose(mean_of_others(annotations_of(reports)), [0.65, 0.55, 0.3, np.nan])


def test_flags_name_the_evidence() -> None:
    reports, outcomes = planted()
    reports[:, 6] = 1.0 - outcomes
    flag = suspicious_patterns(annotations_of(reports), outcomes)[0]
    assert flag == Flag(6, "flipping", "on the side of the outcome on 0 of 200 pairs (0%)", pytest.approx(0.5**200))
