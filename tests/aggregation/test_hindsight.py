"""Regret and the best labeler, against hand-computed values."""

from __future__ import annotations

import numpy as np
import pytest

from truthful_rlhf.aggregation import best_labeler, regret

NAN = float("nan")


def test_regret_by_hand() -> None:
    """Losses of q: .25, .25, .25. Labeler 0: 0, 1, absent. Labeler 1: 1, 0, 0. Round 4 has no outcome.

    Excess over 0: .25, -.5, -.5; over 1: -.75, -.5, -.25. The best fixed labeler so far: .25, -.5, -.25, -.25.
    """
    reports = [[1.0, 0.0], [1.0, 0.0], [NAN, 1.0], [0.9, 0.9]]
    curve = regret([0.5] * 4, reports, [1, 0, 1, NAN])
    np.testing.assert_allclose(curve, [0.25, -0.5, -0.25, -0.25])


def test_regret_over_many_blocks_is_the_loss_less_the_best_labelers_loss() -> None:
    rng = np.random.default_rng(0)
    reports, outcomes = rng.random((50_000, 3)), (rng.random(50_000) < 0.5).astype(float)
    stated = rng.random(50_000)
    losses = ((reports - outcomes[:, None]) ** 2).sum(axis=0)
    total = regret(stated, reports, outcomes)[-1]
    assert total == pytest.approx(((stated - outcomes) ** 2).sum() - losses.min(), rel=1e-10)
    assert best_labeler(reports, outcomes) == losses.argmin()


def test_nobody_is_best_without_outcomes() -> None:
    with pytest.raises(ValueError, match="nobody is best"):
        best_labeler([[0.5, 0.5]], [NAN])
