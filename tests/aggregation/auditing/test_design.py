"""Audits with a known chance: with weights the truth is the best report, without them it is not, and estimates hold."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from truthful_rlhf.aggregation import OnlineWeighted, label_campaign, make_aggregator, run_online
from truthful_rlhf.aggregation.auditing.design import EVEN_SHARE, AuditDesign, audit_chances
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.statistics import accuracy, brier

GRID = np.linspace(0.0, 1.0, 201)
NAN = float("nan")


def variances(reports: FloatArray) -> FloatArray:
    """What the outcomes would teach under equal weights, shape ``(T,)``."""
    return reports.var(axis=1)


def expected_next_weight(
    report: float, belief: float, others: FloatArray, elsewhere: FloatArray, eta: float, weighting: str
) -> float:
    """Return labeler 0's expected weight after the first of T pairs, over audit and outcome, exactly.

    Args:
        report: of labeler 0 on the first pair.
        belief: its P(A better).
        others: reports of the others on it, shape ``(N - 1,)``.
        elsewhere: everybody's reports on the other pairs, shape ``(T - 1, N)``: they share the budget.
        eta: step size.
        weighting: ``floor`` (what is claimed), ``none``, or ``smallest`` (the plan's smallest chance in place of f).
    """
    reports = np.vstack([[report, *others], elsewhere])
    n_pairs, budget = len(reports), max(1, len(reports) // 4)
    chances = audit_chances(variances(reports), budget)
    floor = {"floor": EVEN_SHARE * budget / n_pairs, "none": None, "smallest": float(chances.min())}[weighting]
    expected = (1.0 - chances[0]) / reports.shape[1]
    for outcome, chance in ((1.0, belief), (0.0, 1.0 - belief)):
        outcomes = np.full(n_pairs, NAN)
        outcomes[0] = outcome
        given_ = {} if floor is None else {"audit_probability": chances, "audit_floor": floor}
        labeled = label_campaign(reports, outcomes, eta=eta, **given_)
        assert labeled.weights is not None
        expected += chance * chances[0] * labeled.weights[1, 0]
    return float(expected)


def best_report(belief: float, others: FloatArray, elsewhere: FloatArray, eta: float, weighting: str) -> float:
    values = [expected_next_weight(r, belief, others, elsewhere, eta, weighting) for r in GRID]
    return float(GRID[int(np.argmax(values))])


def case(seed: int) -> tuple[float, FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    n_labelers = int(rng.integers(3, 7))
    return (
        float(rng.integers(10, 191) / 200),
        rng.random(n_labelers - 1),
        rng.random((int(rng.integers(3, 9)), n_labelers)),
    )


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.3, 0.5]))
def test_with_weighted_audits_the_belief_is_the_best_report(seed: int, eta: float) -> None:
    """The theorem: E pi' = pi + f (E U(pi) - pi), whatever the others report and whatever the plan prefers."""
    belief, others, elsewhere = case(seed)
    assert best_report(belief, others, elsewhere, eta, "floor") == pytest.approx(belief, abs=1e-9)


@pytest.mark.parametrize(("weighting", "least"), [("none", 0.03), ("smallest", 0.002)])
def test_without_the_weights_or_with_a_floor_that_reports_move_it_is_not(weighting: str, least: float) -> None:
    """Negative controls: the unweighted plan, and the plan's own smallest chance as the floor."""
    errors = []
    for seed in range(12):
        belief, others, elsewhere = case(seed)
        errors.append(abs(best_report(belief, others, elsewhere, 0.5, weighting) - belief))
    assert np.mean(errors) > least, errors


def test_uniform_audits_need_no_weights() -> None:
    """A chance that no report moves scales the gain and leaves the best report where it is."""
    belief, others, _ = case(3)
    rule = OnlineWeighted(len(others) + 1, eta=0.5)
    values = []
    for report in GRID:
        reports = np.array([[report, *others]])
        after = [
            float(
                run_online(
                    make_aggregator("online_weighted", rule.n_labelers, eta=0.5),
                    np.vstack([reports, reports]),
                    [y, NAN],
                ).weights[1, 0]
            )
            for y in (1.0, 0.0)
        ]
        values.append(belief * after[0] + (1 - belief) * after[1])
    assert GRID[int(np.argmax(values))] == pytest.approx(belief)


@settings(deadline=None, max_examples=50)
@given(
    st.floats(0.05, 1.0),
    st.floats(0.05, 1.0),
    st.floats(0.01, 1.0),
    st.floats(0.01, 1.0),
    st.sampled_from(["auto", 0.2]),
)
def test_two_waves_go_the_same_way_whatever_the_chances(
    p1: float, p2: float, f1: float, f2: float, eta: object
) -> None:
    """Expected part of a step: f_1 + f_2 over 1 + f_2, not a function of the pair's chances in either wave."""
    f1, f2 = f1 * p1, f2 * p2
    # pair 0 is in question; pair 1 stands for the rest of both waves, so that both are known to have been
    known, rest = np.ones(3, dtype=bool), ([p1, p2], [f1, f2], [1.0, 2.0])
    first = AuditDesign.make(3, [p1, *rest[0]], [f1, *rest[1]], [1.0, *rest[2]])
    second = AuditDesign.make(3, [p2, *rest[0]], [f2, *rest[1]], [2.0, *rest[2]])
    assert first is not None
    assert second is not None
    parts = first.step_fractions(known)[0], second.step_fractions(known)[0]
    assert max(parts) <= 1.0 + 1e-12
    expected = p1 * parts[0] + (1.0 - p1) * p2 * parts[1]
    assert expected == pytest.approx((f1 + f2) / (1.0 + f2))
    assert p1 * f1 / p1 + (1.0 - p1) * p2 * f2 / p2 != pytest.approx(f1 + f2, abs=1e-6) or p1 * f2 < 1e-6, "the control"


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.data())
def test_chances_add_up_to_the_budget_and_keep_the_floor(values: list[float], data: st.DataObject) -> None:
    budget = data.draw(st.integers(1, len(values)))
    chances = audit_chances(values, budget)
    assert chances.sum() == pytest.approx(budget)
    assert (chances >= EVEN_SHARE * budget / len(values) - 1e-12).all()
    assert (chances <= max(0.5, budget / len(values)) + 1e-9).all()


def test_estimates_from_two_waves_are_unbiased() -> None:
    """Horvitz and Thompson, and Raj for the second wave: exactly, over every possible pair of draws."""
    values = np.array([0.0, 1.0, 1.0, 0.0])
    first = np.array([0.2, 0.5, 0.4, 0.3])
    mean = naive = 0.0
    for drawn in itertools.product([False, True], repeat=4):
        one = np.array(drawn)
        chance_one = float(np.prod(np.where(one, first, 1.0 - first)))
        left = ~one
        second = np.where(left, 0.25 + 0.5 * first * (1.0 + one.mean()), 0.0)  # depends on what the first found
        for also in itertools.product([False, True], repeat=4):
            two = np.array(also)
            chance = chance_one * float(np.prod(np.where(two, second, 1.0 - second)))
            if chance == 0.0:
                continue
            known = one | two
            design = AuditDesign.make(
                4, np.where(one, first, np.where(two, second, NAN)), None, np.where(one, 1.0, 2.0)
            )
            assert design is not None
            # the shares of the waves are their sizes, which are random: unbiased given them, so take them as fixed
            counted = AuditDesign._counted(
                np.where(one, 0, np.where(two, 1, -1)), np.array([0.3, 0.7]), np.where(one, first, second), known
            )
            mean += chance * float((counted * values)[known].sum()) / 4
            naive += chance * float((values[known] / np.where(one, first, second)[known]).sum()) / 4
    assert mean == pytest.approx(values.mean() * 1.0)
    assert abs(naive - values.mean()) > 0.05, "adding up both waves' totals counts the second wave's pairs twice"


def test_weighted_estimates_find_the_truth_where_plain_ones_do_not() -> None:
    """A plan that prefers disputed pairs makes everybody look worse than on all pairs."""
    rng = np.random.default_rng(0)
    right = rng.random(4000) < np.where(np.arange(4000) < 1000, 0.5, 0.9)
    labels, outcomes = np.full(4000, 0.8), right.astype(np.float64)
    chances = np.where(np.arange(4000) < 1000, 0.4, 0.04)
    plain, weighted = [], []
    for seed in range(60):
        known = np.random.default_rng(seed).random(4000) < chances
        design = AuditDesign.make(4000, np.where(known, chances, NAN))
        assert design is not None
        told = np.where(known, outcomes, NAN)
        plain.append(accuracy(labels, told))
        weighted.append(
            (
                accuracy(labels, told, design.estimate_weights(known)),
                brier(labels, told, design.estimate_weights(known)),
            )
        )
    means = np.mean(weighted, axis=0)
    assert means[0] == pytest.approx(right.mean(), abs=0.01)
    assert means[1] == pytest.approx(((labels - outcomes) ** 2).mean(), abs=0.01)
    assert abs(np.mean(plain) - right.mean()) > 0.1, "the control"


RULES = ("online_weighted", "linear_weighted", "hedge", "examined", "gold_vote", "logistic", "dawid_skene", "mean")


@pytest.mark.parametrize("kind", ["online", "final", "recalibrated"])
@pytest.mark.parametrize("rule", RULES)
def test_a_uniform_chance_changes_nothing(rule: str, kind: str) -> None:
    rng = np.random.default_rng(1)
    reports, outcomes = rng.random((60, 4)), np.where(rng.random(60) < 0.5, (rng.random(60) < 0.5) * 1.0, NAN)
    options = {"secret": b"kept", "lotteries": 20} if rule == "examined" else {}
    topics = ["x", "y"] * 30
    plain = label_campaign(reports, outcomes, rule, kind, topics=topics, **options)
    same = label_campaign(
        reports, outcomes, rule, kind, topics=topics, audit_probability=np.full(60, 0.3), audit_floor=0.3, **options
    )
    np.testing.assert_allclose(same.soft_labels, plain.soft_labels, atol=1e-9)
    np.testing.assert_allclose(same.last_weights, plain.last_weights, atol=1e-9)


@pytest.mark.parametrize(
    ("rule", "kind"), [*((r, "final") for r in RULES[:6]), ("online_weighted", "stacked"), ("mean", "recalibrated")]
)
def test_unequal_chances_reach_every_rule_and_kind(rule: str, kind: str) -> None:
    rng = np.random.default_rng(2)
    outcomes = (rng.random(80) < 0.5) * 1.0
    reports = np.clip(0.5 + (outcomes[:, None] - 0.5) * rng.uniform(-0.5, 1.0, (80, 4)), 0, 1)
    told = np.where(np.arange(80) % 2, outcomes, NAN)
    options = {"secret": b"kept"} if rule == "examined" else {}
    chances = rng.uniform(0.1, 0.9, 80)
    plain = label_campaign(reports, told, rule, kind, **options).soft_labels
    weighted = label_campaign(reports, told, rule, kind, audit_probability=chances, **options).soft_labels
    assert np.abs(weighted - plain).max() > 1e-3
    by_topic = label_campaign(
        reports, told, rule, kind, audit_probability=chances, topics=list("ab") * 40, **options
    ).soft_labels
    assert np.isfinite(by_topic).all()


@pytest.mark.parametrize("rule", ["online_weighted", "linear_weighted", "hedge", "examined", "gold_vote", "logistic"])
def test_the_loop_and_the_array_road_agree_on_weights(rule: str) -> None:
    rng = np.random.default_rng(3)
    reports, outcomes = rng.random((150, 5)), (rng.random(150) < 0.5) * 1.0
    reports[rng.random((150, 5)) < 0.2] = NAN
    parts = rng.uniform(0.05, 1.0, 150)
    options = {"secret": b"kept"} if rule == "examined" else {"fixed_share": 0.05} if rule == "online_weighted" else {}
    fast, slow = (make_aggregator(rule, 5, **options) for _ in range(2))
    run_online(fast, reports, outcomes, range(150), sample_weights=parts)
    for row, outcome, part in zip(reports, outcomes, parts, strict=True):
        slow.learn_one(row, float(outcome), float(part))
    np.testing.assert_allclose(fast.weights_, slow.weights_, atol=1e-12)
    late = label_campaign(
        reports,
        outcomes,
        rule,
        "final",
        audit_probability=parts,
        outcome_after=np.minimum(np.arange(150) + 7, 150),
        **options,
    )
    assert np.isfinite(late.soft_labels).all()


@pytest.mark.parametrize("fixed_share", [0.0, 0.2])
def test_a_part_of_an_update_goes_that_part_of_the_way(fixed_share: float) -> None:
    whole, part = (OnlineWeighted(3, eta=0.4, fixed_share=fixed_share) for _ in range(2))
    whole.weights_ = part.weights_ = np.array([0.5, 0.3, 0.2])
    whole.learn_one([0.9, 0.4, 0.1], 1.0)
    part.learn_one([0.9, 0.4, 0.1], 1.0, 0.25)
    start = np.array([0.5, 0.3, 0.2])
    np.testing.assert_allclose(part.weights_, start + 0.25 * (whole.weights_ - start))


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"audit_probability": [0.5, 0.5]}, "one entry per pair"),
        ({"audit_probability": [0.5, 0.0, 0.5]}, "pair 1 has 0.0"),
        ({"audit_probability": [0.5, 1.2, 0.5]}, "in (0, 1]"),
        ({"audit_probability": [0.5] * 3, "audit_floor": 0.6}, "at most"),
        ({"audit_probability": [0.5] * 3, "audit_wave": 1.5}, "whole numbers"),
        ({"audit_floor": 0.1}, "give that as well"),
        ({"audit_probability": ["x"] * 3}, "must be numbers"),
    ],
)
def test_chances_that_cannot_be(given_: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        label_campaign(np.full((3, 2), 0.5), [1, 0, NAN], **given_)  # type: ignore[arg-type]


def test_a_step_is_never_larger_than_the_rules_own() -> None:
    with pytest.raises(ValueError, match=r"in \(0, 1\]"):
        run_online(OnlineWeighted(2), [[0.5, 0.2]], [1.0], sample_weights=[1.5])
