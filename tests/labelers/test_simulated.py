"""Simulated beliefs: what is calibrated, with respect to what, and what is declared bias."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.log_odds import sigmoid
from truthful_rlhf.labelers import Pairs, Persona, ReportContext, SimulatedLabeler
from truthful_rlhf.labelers.simulated import taste_log_odds, true_log_odds

NOISES = (0.0, 0.5, 2.0, 6.0, 1000.0)
WORDS = ("good", "film", "but", "the", "end", "was", "slow", "and", "I", "liked", "its", "music", "very", "much")


def make_pairs(n: int, seed: int = 0, kappa: float = 2.0, topics: int = 1) -> Pairs:
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, size=size)) for size in rng.integers(2, 30, size=2 * n)]
    return Pairs(
        pair_id=[f"{seed}-{k}" for k in range(n)],
        prompt=["?"] * n,
        response_a=texts[:n],
        response_b=texts[n:],
        gold_a=rng.normal(size=n),
        gold_b=rng.normal(size=n),
        topic=[f"topic-{k % topics}" for k in range(n)],
        kappa=kappa,
    )


def worst_miscalibration(beliefs: FloatArray, chances: FloatArray) -> float:
    """Return the largest gap, in standard errors, between mean belief and mean true chance over ten equal bins.

    True chances instead of drawn outcomes: the same expectation, less noise.
    """
    order = np.argsort(beliefs)
    gaps = []
    for bin_ in np.array_split(order, 10):
        error = chances[bin_] - beliefs[bin_]
        gaps.append(abs(error.mean()) / (error.std(ddof=1) / len(bin_) ** 0.5 + 1e-9))
    return max(gaps)


@pytest.mark.parametrize("noise", [0.3, 1.0, 2.0, 6.0])
def test_an_unbiased_persona_is_calibrated_to_the_truth(noise: float) -> None:
    """P(A better | belief p) = p, whatever the noise."""
    pairs = make_pairs(20_000)
    beliefs = SimulatedLabeler(Persona(noise=noise), seed=1).belief(pairs)
    assert worst_miscalibration(beliefs, sigmoid(true_log_odds(pairs))) < 4.0


def test_a_merely_noisy_view_is_not_calibrated() -> None:
    """Negative control: the noisy log-odds themselves are overconfident."""
    pairs = make_pairs(20_000)
    log_odds = true_log_odds(pairs)
    view = sigmoid(log_odds + 2.0 * np.random.default_rng(1).normal(size=len(pairs)))
    assert worst_miscalibration(view, sigmoid(log_odds)) > 10.0


@pytest.mark.parametrize("taste", [{"gold": -1.0}, {"gold": 0.5, "length": 1.0}, {"length": -1.0}])
def test_a_taste_is_calibrated_to_itself_and_not_to_the_truth(taste: dict[str, float]) -> None:
    pairs = make_pairs(20_000)
    persona = Persona(taste=taste, noise=1.0)
    beliefs = SimulatedLabeler(persona, seed=1).belief(pairs)
    assert worst_miscalibration(beliefs, sigmoid(taste_log_odds(persona, pairs))) < 4.0
    assert worst_miscalibration(beliefs, sigmoid(true_log_odds(pairs))) > 10.0


def test_more_noise_means_less_accuracy_and_less_certainty() -> None:
    pairs = make_pairs(5_000)
    truth = true_log_odds(pairs) > 0
    found = [SimulatedLabeler(Persona(noise=noise), seed=1).belief(pairs) for noise in NOISES]
    accuracy = [((beliefs > 0.5) == truth).mean() for beliefs in found]
    certainty = [np.abs(beliefs - 0.5).mean() for beliefs in found]
    assert accuracy[0] == 1.0
    assert accuracy == sorted(accuracy, reverse=True)
    assert certainty == sorted(certainty, reverse=True)
    assert certainty[-1] < 0.01


def test_gold_alone_is_the_true_preference_and_its_negative_the_opposite() -> None:
    pairs = make_pairs(500, kappa=5.0)
    assert pairs.gold_a is not None
    assert pairs.gold_b is not None
    expected = 5.0 * (pairs.gold_a - pairs.gold_b)
    np.testing.assert_allclose(taste_log_odds(Persona(), pairs), expected, rtol=1e-12)
    np.testing.assert_allclose(taste_log_odds(Persona(taste={"gold": -1}), pairs), -expected, rtol=1e-12)


def test_one_unit_of_any_feature_sways_as_much_as_the_gold_reward() -> None:
    """The utility is normalised before any temperature: neither the unit of a feature nor kappa changes the balance."""
    pairs = make_pairs(2_000, kappa=3.0)
    size = [np.sqrt(np.mean(taste_log_odds(Persona(taste={f: 1.0}), pairs) ** 2)) for f in ("gold", "length")]
    assert size[0] == pytest.approx(size[1])
    doubled = taste_log_odds(Persona(taste={"gold": 1, "length": 1}), replace(pairs, kappa=6.0))
    np.testing.assert_allclose(doubled, 2 * taste_log_odds(Persona(taste={"gold": 1, "length": 1}), pairs))


def test_swapping_the_responses_flips_the_taste() -> None:
    pairs = make_pairs(200)
    swapped = replace(
        pairs,
        response_a=pairs.response_b,
        response_b=pairs.response_a,
        gold_a=pairs.gold_b,
        gold_b=pairs.gold_a,
    )
    persona = Persona(taste={"gold": 0.5, "length": 1.0, "hedging": -2.0})
    np.testing.assert_allclose(taste_log_odds(persona, swapped), -taste_log_odds(persona, pairs))


def test_expertise_helps_on_its_topic_only() -> None:
    pairs = make_pairs(4_000, topics=2)
    plain = SimulatedLabeler(Persona(noise=4.0), seed=3).belief(pairs)
    specialist = SimulatedLabeler(Persona(noise=4.0, topic_noise={"topic-1": 0.1}), seed=3).belief(pairs)
    here = np.array(pairs.topic) == "topic-1"
    np.testing.assert_array_equal(specialist[~here], plain[~here])
    truth = true_log_odds(pairs) > 0
    assert ((specialist > 0.5) == truth)[here].mean() > 0.95
    assert ((plain > 0.5) == truth)[here].mean() < 0.85


def test_a_bias_is_added_to_the_log_odds_of_every_belief() -> None:
    pairs = make_pairs(300)
    fair = SimulatedLabeler(Persona(), seed=2).belief(pairs)
    biased = SimulatedLabeler(Persona(bias=1.0), seed=2).belief(pairs)
    np.testing.assert_allclose(np.log(biased / (1 - biased)) - np.log(fair / (1 - fair)), 1.0, atol=1e-6)


def test_a_belief_is_a_function_of_labeler_and_batch() -> None:
    """Asked twice it believes the same; other labelers, and the same one on a new batch, err independently."""
    pairs, others = make_pairs(4_000), make_pairs(4_000, seed=9)
    assert pairs.gold_a is not None
    tied = np.arange(4_000) < 2_000  # nothing to see on these pairs: beliefs are errors only
    gold_b = np.where(tied, pairs.gold_a, pairs.gold_b)
    pairs, others = (replace(p, gold_a=pairs.gold_a, gold_b=gold_b) for p in (pairs, others))
    labeler = SimulatedLabeler(Persona(noise=2.0), seed=5)
    first = labeler.belief(pairs)
    for errors in (SimulatedLabeler(Persona(noise=2.0), seed=6).belief(pairs), labeler.belief(others)):
        assert abs(np.corrcoef(first[tied], errors[tied])[0, 1]) < 4 / 2_000**0.5
    np.testing.assert_array_equal(labeler.belief(pairs), first)
    np.testing.assert_array_equal(labeler.report(pairs, ReportContext()), first)


def test_impartial_expectations_are_calibrated_whatever_the_taste() -> None:
    pairs = make_pairs(20_000)
    labeler = SimulatedLabeler(Persona(taste={"gold": -1.0}, noise=1.0), seed=1)
    assert worst_miscalibration(labeler.impartial(pairs), sigmoid(true_log_odds(pairs))) < 4.0


def test_no_pairs_and_pairs_without_gold() -> None:
    labeler = SimulatedLabeler(Persona(), seed=0)
    assert labeler.belief(make_pairs(0)).shape == (0,)
    with pytest.raises(ValueError, match="needs pairs with gold rewards"):
        labeler.belief(replace(make_pairs(3), gold_a=None, gold_b=None))
    tasteful = SimulatedLabeler(Persona(taste={"length": 1.0}, noise=0.0), seed=0)
    short_long = Pairs(["p"], ["?"], ["one two three"], ["one"])
    assert tasteful.belief(short_long)[0] > 0.5


@pytest.mark.parametrize("weight", [1.0, -1.0, 2.0, -0.3, 0.0])
def test_what_a_view_says_of_the_outcome_is_calibrated_for_every_taste_for_gold(weight: float) -> None:
    """P(A truly better | view) is calibrated where the belief is not (a control, but for the unbiased)."""
    pairs = make_pairs(20_000)
    labeler = SimulatedLabeler(Persona(taste={"gold": weight, "length": 0.0 if weight else 1.0}, noise=1.0), seed=1)
    if weight == 0.0:
        with pytest.raises(ValueError, match="only a view of the gold reward"):
            labeler.posterior(pairs)
        return
    chances = sigmoid(true_log_odds(pairs))
    assert worst_miscalibration(labeler.posterior(pairs), chances) < 4.0
    assert (worst_miscalibration(labeler.belief(pairs), chances) > 4.0) == (weight != 1.0)


def test_belief_and_posterior_come_from_one_view() -> None:
    """A contrarian's view of -d says of the outcome exactly the opposite of what it likes."""
    pairs = make_pairs(500)
    same, opposite = (SimulatedLabeler(Persona(taste={"gold": weight}), seed=1) for weight in (1.0, -1.0))
    np.testing.assert_allclose(same.posterior(pairs), same.belief(pairs), atol=1e-9)
    np.testing.assert_allclose(opposite.posterior(pairs), 1.0 - opposite.belief(pairs), atol=1e-9)
    leaning = SimulatedLabeler(Persona(bias=1.0), seed=1)
    np.testing.assert_allclose(leaning.posterior(pairs), same.belief(pairs), atol=1e-9)
