"""Calibration measures on hand-computed values and on models that are calibrated, or not, by construction."""

import numpy as np
import pytest

from truthful_rlhf.reward_model.calibration import calibrate, preference_probability, reliability_figure


def test_measures_of_two_pairs_by_hand() -> None:
    # pair 1: predicted .9, target 1.0, right; pair 2: predicted .6, target .3, wrong
    # mean squared error: (.01 + .09) / 2 = .05
    # log loss: pair 1: -ln .9 = .10536; pair 2: -.3 ln .6 - .7 ln .4 = .15325 + .64140 = .79465; mean .45001
    # entropy: pair 1: 0; pair 2: -.3 ln .3 - .7 ln .7 = .61086; mean .30543
    # ece: four bins of one entry each, gaps .1 .1 .3 .3: mean .2
    result = calibrate(np.array([0.9, 0.6]), np.array([1.0, 0.3]))
    assert result.accuracy == 0.5
    assert result.mean_squared_error == pytest.approx(0.05)
    assert result.log_loss == pytest.approx(0.45001, abs=1e-5)
    assert result.entropy == pytest.approx(0.30543, abs=1e-5)
    assert result.ece == pytest.approx(0.2)


def test_the_names_of_the_responses_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    p, t = rng.random(200), rng.random(200)
    swapped = rng.random(200) < 0.5
    one = calibrate(p, t)
    other = calibrate(np.where(swapped, 1 - p, p), np.where(swapped, 1 - t, t))
    for name in ("accuracy", "mean_squared_error", "log_loss", "entropy"):
        assert getattr(one, name) == pytest.approx(getattr(other, name))


def test_a_calibrated_model_has_no_calibration_error_and_an_overconfident_one_has() -> None:
    rng = np.random.default_rng(1)
    margin = rng.normal(size=20_000)
    truth = preference_probability(margin, np.zeros(20_000))
    outcomes = (rng.random(20_000) < truth).astype(float)
    calibrated = calibrate(truth, outcomes)
    overconfident = calibrate(preference_probability(3 * margin, np.zeros(20_000)), outcomes)
    assert calibrated.ece < 0.02
    assert overconfident.ece > 0.1
    assert overconfident.accuracy == calibrated.accuracy  # the ranking is the same: accuracy cannot see it
    assert overconfident.log_loss > calibrated.log_loss


def test_the_log_loss_is_least_for_the_target_itself() -> None:
    target = np.random.default_rng(2).random(100)
    best = calibrate(target, target)
    assert best.log_loss == pytest.approx(best.entropy)
    assert best.ece == pytest.approx(0.0, abs=1e-12)
    assert calibrate(np.clip(target + 0.05, 0, 1), target).log_loss > best.log_loss


def test_ties_count_half() -> None:
    assert calibrate(np.array([0.5, 0.9]), np.array([0.8, 0.9])).accuracy == 0.75


def test_certain_and_wrong_is_finite() -> None:
    assert np.isfinite(calibrate(np.array([1.0]), np.array([0.0])).log_loss)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        calibrate(np.array([0.5]), np.array([0.5, 0.5]))
    with pytest.raises(ValueError, match="one length"):
        calibrate(np.array([]), np.array([]))
    with pytest.raises(ValueError, match="predicted must be"):
        calibrate(np.array([1.5]), np.array([0.5]))
    with pytest.raises(ValueError, match="target must be"):
        calibrate(np.array([0.5]), np.array([np.nan]))


def test_the_figure_has_the_diagonal_and_one_line_per_curve() -> None:
    p = np.random.default_rng(3).random(50)
    axes = reliability_figure({"soft labels": (p, p), "truth": (p, 1 - p)}).axes[0]
    assert len(axes.lines) == 3
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["soft labels", "truth"]
