from __future__ import annotations

import re

import krippendorff
import numpy as np

from tests.pipeline.aggregate.campaigns import annotations_of, votes
from truthful_rlhf.pipeline.aggregate.agreement import agreement_matrix, krippendorff_alpha


def test_alpha_equals_the_reference_implementation() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        reports = np.where(rng.random((60, 8)) < 0.5, rng.random((60, 8)), np.nan)
        reports[:, 0] = 0.5
        alpha, low, high = krippendorff_alpha(annotations_of(reports), rng, n_resamples=50)
        expected = krippendorff.alpha(reliability_data=reports.T, level_of_measurement="interval")
        np.testing.assert_allclose(alpha, expected, atol=1e-12)
        assert low <= alpha <= high


def test_alpha_of_copies_is_one_and_of_coins_about_zero() -> None:
    rng = np.random.default_rng(1)
    same = np.repeat(rng.random((50, 1)), 4, axis=1)
    assert krippendorff_alpha(annotations_of(same), rng, 20) == (1.0, 1.0, 1.0)
    _, low, high = krippendorff_alpha(annotations_of(rng.random((300, 4))), rng, 300)
    assert low < 0.0 < high
    assert np.isnan(krippendorff_alpha(annotations_of(np.full((5, 3), 0.5)), rng, 20)[0])


def test_the_interval_covers() -> None:
    """Alpha of independent votes with accuracy p is about (2p - 1)^2; the interval holds it about 95 times in 100."""
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        reports, _ = votes(150, [0.8] * 5, rng)
        _, low, high = krippendorff_alpha(annotations_of(reports), rng, 200)
        covered += low <= 0.36 <= high
    assert 52 <= covered <= 60


def test_agreement_is_symmetric_and_puts_similar_labelers_side_by_side() -> None:
    rng = np.random.default_rng(2)
    blocs = rng.random((100, 2))
    reports = np.clip(blocs[:, [0, 1, 0, 1, 0, 1]] + rng.normal(0, 0.05, (100, 6)), 0, 1)
    labelers, agreement = agreement_matrix(annotations_of(reports))
    assert sorted(labelers % 2) == [0, 0, 0, 1, 1, 1]
    assert len(set(labelers[:3] % 2)) == 1
    np.testing.assert_allclose(agreement, agreement.T)
    assert np.isnan(np.diag(agreement)).all()
    assert agreement[0, 1] > 0.9 > agreement[0, 5]


def test_labelers_without_common_pairs_are_left_out() -> None:
    reports = np.full((30, 4), np.nan)
    reports[:15, :2] = 0.4
    reports[15:, 2] = 0.4
    reports[0, 3] = 0.4
    labelers, agreement = agreement_matrix(annotations_of(reports))
    assert sorted(labelers) == [0, 1]
    assert agreement.shape == (2, 2)


def test_the_matrix_holds_as_many_labelers_as_its_docstring_says() -> None:
    rng = np.random.default_rng(3)
    labelers, agreement = agreement_matrix(annotations_of(rng.random((12, 50))))
    assert agreement_matrix.__doc__ is not None
    assert re.findall(r"K <= (\d+)", agreement_matrix.__doc__) == [str(len(labelers))]
    assert agreement.shape == (len(labelers), len(labelers))
    assert len(labelers) < 50
