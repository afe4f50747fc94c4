"""Both searchers find maxima that are known, and neither invents a lie where the truth is best."""

from __future__ import annotations

import numpy as np
import pytest

from tests.aggregation.game.crowd import Judge, drawn
from truthful_rlhf.aggregation import AGGREGATORS
from truthful_rlhf.aggregation.game.best_response import (
    SCALES,
    SHIFTS,
    STRATEGY_CLASSES,
    best_response,
    grid_search,
    spsa_search,
)
from truthful_rlhf.aggregation.game.campaigns import TRUTH, LabelerPosition, Objective
from truthful_rlhf.aggregation.game.misreport import Misreport

N_ROUNDS = 100


def peak_at(scale: float, shift: float, share: float = 0.0):  # type: ignore[no-untyped-def]
    """Return payoffs (two paired campaigns) with one smooth maximum."""

    def payoffs(misreport: Misreport) -> np.ndarray:
        distance = (misreport.scale - scale) ** 2 + (misreport.shift - shift) ** 2
        distance += 4.0 * (misreport.start / N_ROUNDS - share) ** 2
        return np.array([1.0, 3.0]) - distance

    return payoffs


@pytest.mark.parametrize(("scale", "shift"), [(1.7, 0.3), (0.4, -1.2), (3.1, 0.0), (-1.0, 2.5)])
def test_grid_search_refines_to_the_maximum(scale: float, shift: float) -> None:
    found = grid_search(peak_at(scale, shift), STRATEGY_CLASSES["any"], N_ROUNDS)
    assert (found.scale, found.shift, found.start) == (
        pytest.approx(scale, abs=0.06),
        pytest.approx(shift, abs=0.06),
        0,
    )


@pytest.mark.parametrize(("scale", "shift", "share"), [(1.7, 0.3, 0.0), (0.4, -1.2, 0.3), (3.1, 0.5, 0.5)])
def test_spsa_climbs_to_the_maximum(scale: float, shift: float, share: float) -> None:
    payoffs = peak_at(scale, shift, share)
    found = spsa_search(payoffs, N_ROUNDS, np.random.default_rng(0), steps=300)
    lost = payoffs(Misreport(scale, shift, round(share * N_ROUNDS))) - payoffs(found)
    from_truth = payoffs(Misreport(scale, shift, round(share * N_ROUNDS))) - payoffs(TRUTH)
    assert (lost < 0.05 * from_truth).all()


def test_spsa_is_reproducible_and_stays_inside_its_bounds() -> None:
    tried = []

    def greedy(misreport: Misreport) -> np.ndarray:
        tried.append(misreport)
        return np.array([misreport.scale + misreport.shift])

    found, again = (spsa_search(greedy, N_ROUNDS, np.random.default_rng(3), steps=400) for _ in range(2))
    assert found == again
    assert max(m.scale for m in tried) == 8.0
    assert max(m.shift for m in tried) == 4.0
    assert max(m.start for m in tried) < N_ROUNDS


def test_the_truth_is_returned_where_no_lie_is_better() -> None:
    assert best_response(peak_at(1.0, 0.0), N_ROUNDS).is_truthful
    assert spsa_search(peak_at(1.0, 0.0), N_ROUNDS, np.random.default_rng(0)).is_truthful
    assert not best_response(peak_at(1.2, 0.0), N_ROUNDS).is_truthful  # control


def test_a_family_never_contains_the_truth() -> None:
    for family in STRATEGY_CLASSES.values():
        assert family.lies(N_ROUNDS)
        assert not any(lie.is_truthful for lie in family.lies(N_ROUNDS))


def test_both_searchers_exaggerate_against_the_mean_and_agree_on_what_it_gains() -> None:
    """Under the mean, moving q to one's own view p needs r = p + (N - 1)(p - mean of the others): an exaggeration."""
    campaigns = drawn((Judge(1.0), *(Judge(1.0),) * 3), N_ROUNDS, 16, seed=1)
    position = LabelerPosition(AGGREGATORS["mean"], campaigns, slice(0, 1), Objective("taste"))
    by_grid = best_response(position.payoffs, N_ROUNDS)
    by_spsa = spsa_search(position.payoffs, N_ROUNDS, np.random.default_rng(2), steps=100)
    gain_grid, gain_spsa = (float((position.payoffs(m) - position.payoffs(TRUTH)).mean()) for m in (by_grid, by_spsa))
    assert by_grid.scale > 1.2
    assert by_spsa.scale > 1.2
    assert gain_spsa == pytest.approx(gain_grid, rel=0.1)
    assert gain_grid > 0


def test_families_hold_what_they_say() -> None:
    """Pushes go both ways alike, sleepers are honest first, and the widest family spans all of them."""
    scale, shift, sleep, widest = (STRATEGY_CLASSES[name] for name in ("scale", "shift", "sleep", "any"))
    assert (min(scale.scales), max(scale.scales)) == (0.0, SCALES[1])
    assert (min(shift.shifts), max(shift.shifts)) == SHIFTS
    for family in (shift, sleep):
        assert sorted(-value for value in family.shifts) == sorted(family.shifts)
    assert all(0.0 < start < 1.0 for start in sleep.starts)
    assert set(sleep.starts) | {0.0} == set(widest.starts)
    assert set(sleep.scales) <= set(widest.scales)
    assert (min(widest.scales), max(widest.scales), max(widest.shifts)) == (-1.0, SCALES[1], SHIFTS[1])


def test_spsa_begins_where_it_is_told_to() -> None:
    tried: list[Misreport] = []

    def flat(misreport: Misreport) -> np.ndarray:
        tried.append(misreport)
        return np.zeros(2)

    start = Misreport(2.0, -1.0, 50)
    assert spsa_search(flat, N_ROUNDS, np.random.default_rng(0), start=start, steps=5) == start
    for misreport in tried:  # one width of every parameter at most
        assert abs(misreport.scale - 2.0) <= 0.3 + 1e-9
        assert abs(misreport.shift + 1.0) <= 0.3 + 1e-9
        assert abs(misreport.start - 50) <= 10
    assert {misreport.start for misreport in tried} > {50}
