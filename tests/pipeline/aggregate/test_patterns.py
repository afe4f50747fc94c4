"""Each pattern is found when it is planted, and (the negative control) in nobody else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.pipeline.aggregate.campaigns import annotations_of, rows_of, votes
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.labelers.recorded.table import read_annotations
from truthful_rlhf.pipeline.aggregate.patterns import Flag, mean_of_others, suspicious_patterns

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "annotations.csv"
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


def first_known(outcomes: FloatArray, n: int = 12) -> FloatArray:
    """Return the outcomes of the first pairs alone: too few to be tested against."""
    return np.where(np.arange(len(outcomes)) < n, outcomes, np.nan)


def accused(reports: FloatArray, outcomes: FloatArray, n_known: int) -> set[str]:
    """Return the patterns of the last labeler."""
    flags = suspicious_patterns(annotations_of(reports), first_known(outcomes, n_known))
    return {flag.pattern for flag in flags if flag.labeler == reports.shape[1] - 1}


class TestTheOutcomesContradict:
    """Seven labelers of whom the last is nearly always right, while the six others mislead.

    Every test has two controls. Where nothing is known the pattern is there: only the outcomes speak against it. And
    the same reports are flagged with as many outcomes where these do speak against the labeler.
    """

    def honest(self, seed: int = 0, n: int = 200) -> tuple[FloatArray, FloatArray]:
        return votes(n, [0.2] * 6 + [0.95], np.random.default_rng(seed))

    def test_flipping(self) -> None:
        reports, outcomes = self.honest()
        assert accused(reports, outcomes, 12) == set()
        assert accused(reports, outcomes, 0) == {"flipping"}
        assert accused(reports, 1.0 - outcomes, 12) == {"flipping"}

    def test_position_bias(self) -> None:
        reports, outcomes = self.honest()
        lazy = np.random.default_rng(1).random((len(reports), 6)) < 0.8
        reports[:, :6] = np.where(lazy, 0.0, 1.0 - reports[:, :6])  # the others click on the second response
        assert accused(reports, outcomes, 12) == set()
        assert accused(reports, outcomes, 0) == {"position bias"}
        good, truth = votes(200, [*HONEST, 0.8], np.random.default_rng(0))
        good[np.random.default_rng(1).random(200) < 0.5, 6] = 1.0
        assert accused(good, truth, 12) == {"position bias"}

    def test_honest_then_not(self) -> None:
        reports, outcomes = self.honest()
        reports[:100, :6] = 1.0 - reports[:100, :6]  # the others turn, the last one does not
        late = np.where(np.arange(200) >= 180, outcomes, np.nan)  # twenty outcomes, all after the others' turn
        flags = suspicious_patterns(annotations_of(reports), late)
        assert [flag for flag in flags if flag.labeler == 6] == []
        assert accused(reports, outcomes, 0) == {"honest, then not"}
        good, truth = planted()
        good[100:, 6] = 1.0 - good[100:, 6]
        assert (6, "honest, then not") in found(good, np.where(np.isnan(late), np.nan, truth), True)

    def test_constant(self) -> None:
        """Nearly all first responses are better, and the last labeler says so: outcomes are as constant as it is."""
        rng = np.random.default_rng(3)
        reports = (rng.random((200, 7)) < 0.3).astype(np.float64)
        reports[:, 6] = 1.0
        always, varied = np.ones(200), (rng.random(200) < 0.5).astype(np.float64)
        assert "constant" not in accused(reports, always, 12)
        assert "constant" in accused(reports, always, 0)
        assert "constant" in accused(reports, varied, 12)

    def test_copying(self) -> None:
        """Two experts who agree on what is right, where the others are wrong, have copied nothing."""
        reports, outcomes = votes(200, [0.2] * 5 + [0.995, 0.995], np.random.default_rng(4))
        assert "copying" not in accused(reports, outcomes, 12)
        assert "copying" in accused(reports, outcomes, 0)
        assert "copying" in accused(reports, 1.0 - outcomes, 12)


def test_the_example_accuses_nobody_who_is_right() -> None:
    """Its outcomes say of the expert that 13 of 15 reports were right, of the bloc that at most 6 were."""
    columns = {"labeler_id": "annotator", "outcome": "expert_says"}
    annotations = read_annotations(EXAMPLE, columns=columns)
    flags = suspicious_patterns(annotations, annotations.outcome)
    assert not [flag for flag in flags if not annotations.labeler_ids[flag.labeler].startswith("bloc")]


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
