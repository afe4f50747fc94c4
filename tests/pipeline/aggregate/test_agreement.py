from __future__ import annotations

import re

import numpy as np

from tests.pipeline.aggregate.campaigns import annotations_of
from truthful_rlhf.pipeline.aggregate.agreement import agreement_matrix


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
