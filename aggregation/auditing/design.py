"""Audits whose chance is known: how they may be drawn, and what each of them then counts for.

**The condition of the theorem.** A report decides what an audit is worth to its labeler; it must not decide whether
there is one. "The belief maximises the expected next weight" (``aggregation.rules.online_weighted``) holds if, given
everything before the round, *the chance p_t of an audit is independent of the labeler's own report, or the update is
weighted by f / p_t with a floor f <= p_t that is independent of it*. With U(pi) the weights after a full update,

    pi' = pi + (f / p_t) (U(pi) - pi)  if the pair is audited,  pi' = pi  if it is not,

so E pi' = pi + f (E U(pi) - pi): the chance has gone, and E U is largest at the belief. Without the factor the chance
stays, and with it a reason to bend a report towards an audit or away from one. As f <= p_t the step is never larger
than the rule's own, which is at most 1/2; the weights stay on the simplex. What it costs: the updates are f / p_t as
large, so a plan that spreads a quarter of its budget evenly learns a quarter as fast on average.

**Chances.** A uniform draw of B of C candidates gives each the chance B / C. ``audit_chances`` gives more where an
outcome would teach more; a quarter of the budget is spread evenly, so f = B / 4C is a floor that no report moves (the
plan's smallest chance is moved by reports). These pairs are drawn *independently of one another*: B is the expected
number. Systematic sampling would tie audits together: a report that raises its pair's chance would lower a
neighbour's. What is left of that tie is the sum: chances add up to B, so a report moves the other pairs' chances a
little. Their expected updates do not depend on their chances either, given the weights before them.

**Waves.** Plans follow one another, and the second draws among the pairs that the first has left. A pair that was
likely to be drawn first is less likely to be left, and that depends on its reports again. One weight per wave cures it,
without knowing what chance a pair had in the wave that missed it. A pair drawn in wave v counts

    f_v / p_v + sum over the later waves of f_w,

because with two waves the expectation is p_1 (f_1 / p_1 + f_2) + (1 - p_1) p_2 (f_2 / p_2) = f_1 + f_2, whatever the
chances are (the step is divided by 1 + f_2 + f_3 + ..., so that it does not exceed the rule's own). In the same way the
estimates of all waves are unbiased for the same mean over all pairs: what wave w estimates is the sum over the pairs
audited before it plus the sum over its own of x / p (Raj 1956), and the waves are averaged by their number of audits.

**Estimates** from audited pairs weigh them by 1 / p (Horvitz and Thompson 1952), as ratios (Hajek).

References:
    Horvitz and Thompson, JASA 47 (1952). Raj, Some estimators in sampling with varying probabilities without
    replacement, JASA 51 (1956). Tillé, Sampling Algorithms (2006), chapter 5 (Poisson sampling).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.base import BoolArray, FloatArray, IntArray

EVEN_SHARE = 0.25
"""Part of a plan's budget that is spread evenly over the candidates, so that no pair is safe from an audit."""
MOST_LIKELY = 0.5
"""No pair is more likely than this to be drawn, unless more than half of all are to be audited."""


def audit_chances(values: ArrayLike, budget: int) -> FloatArray:
    """Return the chance of drawing each candidate, shape ``(C,)``; they add up to the budget.

    Args:
        values: what each candidate's outcome would teach, shape ``(C,)``, >= 0.
        budget: expected number of audits, 1 to C.

    Returns:
        At least ``EVEN_SHARE * budget / C``, at most ``max(MOST_LIKELY, budget / C)``.

    Raises:
        ValueError: a budget out of range.

    Examples:
        >>> audit_chances([0.0, 0.0, 1.0, 1.0], 1).tolist()
        [0.0625, 0.0625, 0.4375, 0.4375]
    """
    vector = np.asarray(values, dtype=np.float64)
    n = len(vector)
    if not 1 <= budget <= n:
        raise ValueError(f"the budget must be between 1 and the {n} pairs without an outcome, got {budget}")
    total = vector.sum()
    share = vector / total if total > 0 else np.full(n, 1.0 / n)
    share = (1.0 - EVEN_SHARE) * share + EVEN_SHARE / n
    most = max(MOST_LIKELY, budget / n)
    chances: FloatArray = np.minimum(budget * share, most)
    while (missing := budget - chances.sum()) > 1e-9:  # what the cap took is spread over the others
        free = chances < most
        if not free.any():
            break
        grown = chances[free] * (1.0 + missing / chances[free].sum())
        chances[free] = np.minimum(grown, most)
    return chances


@dataclass(frozen=True)
class AuditDesign:
    """With which chance audited pairs were drawn; entries of pairs without a known outcome are not read.

    Attributes:
        probability: chance of the pair in its own wave, shape ``(T,)``, in (0, 1]; NaN: drawn uniformly, first of all.
        floor: a chance that no pair of the wave could fall below, whatever was reported, shape ``(T,)``, in
            (0, probability]; NaN: ``EVEN_SHARE`` times the share of audited pairs among those left to the wave. That
            is free of reports in expectation only; a chance below it counts as the floor.
        wave: whole numbers, shape ``(T,)``, in the order of the plans; NaN: 1.
    """

    probability: FloatArray
    floor: FloatArray
    wave: FloatArray

    @classmethod
    def make(
        cls, n_pairs: int, probability: ArrayLike | None, floor: ArrayLike | None = None, wave: ArrayLike | None = None
    ) -> AuditDesign | None:
        """Return a checked design, or None where every audit is uniform.

        Args:
            n_pairs: T.
            probability: see the class; None: all uniform.
            floor: shape ``(T,)``, or one number for all; None: NaN.
            wave: shape ``(T,)``, or one number for all; None: NaN.

        Raises:
            ValueError: another shape, or an entry out of range (the message names the first).
        """
        if probability is None:
            if floor is not None or wave is not None:
                raise ValueError("audit_floor and audit_wave say more about audit_probability: give that as well")
            return None
        chances = _vector("audit_probability", probability, n_pairs, spread=False)
        floors = _vector("audit_floor", np.nan if floor is None else floor, n_pairs, spread=True)
        waves = _vector("audit_wave", np.nan if wave is None else wave, n_pairs, spread=True)
        bad_waves = ~np.isnan(waves) & ~((waves >= 1.0) & (waves == np.floor(waves)))
        _refuse("audit_probability", chances, ~np.isnan(chances) & ~((chances > 0.0) & (chances <= 1.0)), "in (0, 1]")
        _refuse("audit_wave", waves, bad_waves, "whole numbers >= 1")
        _refuse("audit_floor", floors, ~np.isnan(floors) & ~(floors > 0.0), "> 0")
        # a spreadsheet may have rounded either
        above = floors > chances * (1.0 + 1e-6)
        _refuse("audit_floor", floors, above, "at most the pair's audit_probability")
        return cls(chances, np.minimum(floors, chances), waves)

    def of(self, pairs: IntArray) -> AuditDesign:
        """Return the chances of some pairs, or of all in another order, ``pairs`` of shape ``(K,)``."""
        return AuditDesign(self.probability[pairs], self.floor[pairs], self.wave[pairs])

    def arguments(self) -> dict[str, FloatArray]:
        """Return the arguments of ``label_campaign`` that say it."""
        return {"audit_probability": self.probability, "audit_floor": self.floor, "audit_wave": self.wave}

    def estimate_weights(self, known: BoolArray) -> FloatArray:
        """Return what every audited pair counts for in an estimate, shape ``(T,)``; about 1 on average.

        Args:
            known: pairs whose outcome is known, shape ``(T,)``; the others get 1.
        """
        waves = self._waves(known)
        rates = [number / max(1, left) for number, left in zip(*self._sizes(waves), strict=True)]
        chances = np.where(np.isnan(self.probability), rates[0], self.probability)
        return self._counted(waves, np.array(rates), chances, known)

    def step_fractions(self, known: BoolArray) -> FloatArray:
        """Return the part of a full update that every audited pair makes, shape ``(T,)``, in (0, 1].

        Args:
            known: pairs whose outcome is used, shape ``(T,)``; the others get 1.
        """
        waves = self._waves(known)
        numbers, left = self._sizes(waves)
        floors = EVEN_SHARE * numbers / np.maximum(1, left)
        for wave in range(1, len(floors)):
            given = self.floor[(waves == wave) & ~np.isnan(self.floor)]
            if len(given):
                floors[wave] = given.min()
        uniform = waves == 0
        own = np.where(np.isnan(self.floor), floors[np.maximum(waves, 0)], self.floor)
        chances = np.where(uniform, own, np.maximum(self.probability, own))
        counted = self._counted(waves, floors, chances, known, own)
        first = int(waves[known].min(initial=len(floors)))
        return np.where(known, counted / (1.0 + floors[first + 1 :].sum()), 1.0)

    def _waves(self, known: BoolArray) -> IntArray:
        """Return the rank of every known pair's wave, 0 for those drawn uniformly before all, -1 if not known."""
        wave = np.where(np.isnan(self.wave), 1.0, self.wave)
        wave = np.where(np.isnan(self.probability), 0.0, wave)
        planned = np.unique(wave[known & (wave > 0.0)])
        ranks = np.where(wave > 0.0, 1 + np.searchsorted(planned, wave), 0)
        return np.where(known, ranks, -1).astype(np.int64)

    @staticmethod
    def _sizes(waves: IntArray) -> tuple[IntArray, IntArray]:
        """Return the number of audits of every wave, from 0, and the number of pairs that were left to it."""
        numbers = np.bincount(waves[waves >= 0], minlength=1)
        return numbers, len(waves) - np.concatenate([[0], np.cumsum(numbers)[:-1]])

    @staticmethod
    def _counted(
        waves: IntArray, shares: FloatArray, chances: FloatArray, known: BoolArray, own: FloatArray | None = None
    ) -> FloatArray:
        """Return share / chance plus the shares of all later waves; 1 where not known.

        Args:
            waves: shape ``(T,)``.
            shares: of every wave.
            chances: of every pair, shape ``(T,)``, > 0 where known.
            known: shape ``(T,)``.
            own: in place of the share of the pair's own wave, shape ``(T,)``.
        """
        later = np.append(np.cumsum(shares[::-1])[::-1][1:], 0.0)
        rank = np.maximum(waves, 0)
        share = shares[rank] if own is None else own
        ratio = np.divide(share, chances, out=np.ones_like(chances), where=known)
        return np.where(known, ratio + later[rank], 1.0)


def _vector(name: str, values: ArrayLike, n_pairs: int, spread: bool) -> FloatArray:
    try:
        vector = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be numbers, one per pair, got {values!r:.80}") from None
    if spread and vector.ndim == 0:
        vector = np.full(n_pairs, float(vector))
    if vector.shape != (n_pairs,):
        raise ValueError(f"{name} must have one entry per pair ({n_pairs}), got shape {vector.shape}")
    return vector


def _refuse(name: str, values: FloatArray, bad: BoolArray, what: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"{name} must be {what}: pair {row} has {float(values[row])!r}")
