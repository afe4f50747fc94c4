"""Best-of-n against brute force, its KL against enumeration, and over-optimisation where it must appear."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from truthful_rlhf.pipeline.reports.figures import over_optimisation_figure
from truthful_rlhf.pipeline.training.best_of_n import best_of_n_curve, best_of_n_kl, expected_of_best


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6])
def test_the_estimator_is_the_mean_over_all_subsets(n: int) -> None:
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(4, 6)), rng.normal(size=(4, 6))
    brute = [
        np.mean([values[p, max(subset, key=lambda k: rewards[p, k])] for subset in combinations(range(6), n)])
        for p in range(4)
    ]
    np.testing.assert_allclose(expected_of_best(rewards, values, n), brute)


def test_the_kl_is_that_of_the_best_of_n_uniform_draws() -> None:
    """The quantile u of the chosen response has density n u^(n-1): its KL to the uniform is E[log n + (n-1) log u]."""
    rng = np.random.default_rng(1)
    for n in (2, 4, 16):
        u = rng.random((200_000, n)).max(axis=1)
        assert best_of_n_kl(n) == pytest.approx(np.mean(np.log(n) + (n - 1) * np.log(u)), abs=0.01)
    with pytest.raises(ValueError, match="n >= 1"):
        best_of_n_kl(0)


def test_the_kl_is_less_where_responses_repeat_and_comes_near_where_they_do_not() -> None:
    """Responses with chances p, sorted by reward: the k-th is the best of n with probability F_k^n - F_(k-1)^n."""
    rng = np.random.default_rng(3)

    def exact_kl(p: np.ndarray, n: int) -> float:
        below = np.concatenate([[0.0], p.cumsum()])
        best = np.diff(below**n)
        return float(best @ np.log(best / p))

    for n in (2, 4, 16):
        assert all(exact_kl(rng.dirichlet(np.ones(5)), n) < best_of_n_kl(n) - 1e-3 for _ in range(20))
        fine = exact_kl(np.full(100_000, 1e-5), n)
        assert best_of_n_kl(n) - 1e-3 < fine < best_of_n_kl(n)
    assert exact_kl(np.full(2, 0.5), 16) <= np.log(2) < best_of_n_kl(16)  # two responses: at most log 2, whatever n


def test_a_true_reward_climbs_and_a_reward_with_a_loophole_turns_down() -> None:
    rng = np.random.default_rng(2)
    gold = rng.normal(size=(400, 64))
    loophole = rng.random((400, 64)) < 0.03  # a rare kind of response that the reward model overrates
    gold_of = np.where(loophole, gold - 3.0, gold)
    ns = (1, 4, 16, 64)
    honest = best_of_n_curve(gold_of, gold_of, ns)
    hacked = best_of_n_curve(np.where(loophole, gold + 3.0, gold), gold_of, ns)
    assert (np.diff(honest["gold"]) > 0).all()
    assert (np.diff(hacked["reward"]) > 0).all()  # the reward model sees nothing wrong
    assert hacked["gold"].iloc[1] > hacked["gold"].iloc[0]
    assert hacked["gold"].iloc[3] < hacked["gold"].iloc[1]
    np.testing.assert_allclose(honest["kl"], [best_of_n_kl(n) for n in ns])
    assert len(over_optimisation_figure({"honest": honest, "hacked": hacked}).axes[0].containers) == 2


def test_n_beyond_the_responses_is_refused() -> None:
    with pytest.raises(ValueError, match="between 1 and the 3 responses"):
        expected_of_best(np.zeros((2, 3)), np.zeros((2, 3)), 4)
