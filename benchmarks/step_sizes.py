"""Larger steps on short campaigns: what a step of the online weighted mechanism above 1/2 wins and loses.

The next weight is linear in the own score with the coefficient eta pi_i (1 - pi_i / pi(S)) >= 0 for every step up to 1
that no report moves, so the belief maximises it there too. The proof of the regret bound uses ln(1 + z) >= z - z^2,
which holds down to z = -.68; beyond it the constant grows, and at a step of 1 one certain mistake can take a weight to
zero, from where no bound brings it back. So ``eta`` ends at 1/2, and this measures what that costs.

Panels as in ``benchmarks.equal_audits`` (144 pairs), the same with three reports in ten kept (*sparse*), 117 ordinary
labelers and experts of whom a tenth judges each of 500 pairs (``benchmarks.leak_alarm``), and the real crowds where
their files are present. *fast start*: the first eight updates at .9, then the schedule ``auto``. Accuracy of final
labels on unaudited pairs against outcomes, and the difference to ``auto`` with its 95 % interval over draws, paired; of
a real crowd the pairs are the same in all draws, so the interval is over orders and choices of audits alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t as student

from benchmarks.equal_audits import Draw, real, simulated
from benchmarks.leak_alarm import Case, honest_panels
from benchmarks.real_annotations import DATA, FILES, load
from truthful_rlhf.aggregation import OnlineWeighted, run_online
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.rules.step_size import AnytimeStep, ConstantStep, Schedule
from truthful_rlhf.aggregation.statistics import accuracy

ABOUT = "accuracy of online_weighted with steps up to 1, on short hostile campaigns and sparse crowds (about 1 minute)"

PANELS = ("biased_majority", "colluding_bloc", "sleepers", "topic_liars", "honest")
AUDITS = (7, 14, 29)
N_DRAWS, N_REAL, KEPT = 100, 20, 0.3
STEPS = ("auto", "0.5", "0.68", "0.8", "0.9", "1", "fast start")


@dataclass(frozen=True)
class FastStart:
    """A large step for the first updates, then the schedule ``auto``."""

    then: AnytimeStep
    eta: float = 0.9
    n_updates: int = 8

    def steps(self, first: int, count: int) -> tuple[FloatArray, FloatArray]:
        """Return steps and mixing shares of the ``count`` updates from number ``first``, shape ``(count,)`` each."""
        etas, shares = self.then.steps(0, first + count)
        fast = np.full(self.n_updates, self.eta), np.zeros(self.n_updates)
        both = (np.concatenate([a, b])[first : first + count] for a, b in zip(fast, (etas, shares), strict=True))
        return next(both), next(both)


def schedule(name: str, n_labelers: int) -> Schedule:
    """Return the schedule that one of ``STEPS`` stands for."""
    auto = AnytimeStep(n_labelers)
    if name == "auto":
        return auto
    return FastStart(auto) if name == "fast start" else ConstantStep(float(name))


def labels(step: str, reports: FloatArray, revealed: FloatArray) -> FloatArray:
    """Return the labels of the last weights, shape ``(T,)``."""
    rule = OnlineWeighted(reports.shape[1])
    rule._schedule = schedule(step, reports.shape[1])  # the option ``eta`` ends at 1/2
    run_online(rule, reports, revealed, keep_weights=False)
    return rule.predict_many(reports)


def sparse(draw: Draw, seed: int) -> Draw:
    """Return a draw in which every report is kept with the chance ``KEPT``."""
    kept = np.random.default_rng([seed, 9]).random(draw.reports.shape) < KEPT
    return Draw(np.where(kept, draw.reports, np.nan), draw.outcomes, draw.pairs, draw.order)


def crowds() -> Iterator[tuple[str, list[Draw], tuple[int, ...]]]:
    """Yield crowd, draws, and numbers of audited pairs."""
    for name in PANELS:
        draws = [simulated(name, 144, seed) for seed in range(N_DRAWS)]
        yield name, draws, AUDITS
        yield f"{name}, sparse", [sparse(draw, seed) for seed, draw in enumerate(draws)], AUDITS
    many = honest_panels(Case(117, 0.1, 500, 50, "uniform"), N_DRAWS)
    yield (
        "117 labelers, sparse",
        [Draw(r, y, np.arange(len(y)), rng.permutation(len(y))) for r, y, rng in many],
        (7, 25, 50),
    )
    for file in FILES if DATA.is_dir() else ():
        crowd = load(DATA / file)
        known = int((~np.isnan(crowd[1])).sum())
        draws = [real(*crowd, seed) for seed in range(N_REAL)]
        yield file.split("_")[0], draws, tuple(round(rate * known) for rate in (0.05, 0.1, 0.2))


def scores(draws: list[Draw], n_audits: int, step: str) -> FloatArray:
    """Return the accuracy on unaudited pairs of every draw."""
    result = []
    for draw in draws:
        audited = draw.order < n_audits
        q = labels(step, draw.reports, np.where(audited, draw.outcomes, np.nan))
        result.append(accuracy(q, np.where(audited, np.nan, draw.outcomes)))
    return np.array(result)


def run() -> pd.DataFrame:
    rows = []
    for crowd, draws, numbers in crowds():
        for n_audits in numbers:
            auto = scores(draws, n_audits, "auto")
            for step in STEPS:
                own = scores(draws, n_audits, step)
                half = student.ppf(0.975, len(own) - 1) * (own - auto).std(ddof=1) / len(own) ** 0.5
                where = {"crowd": crowd, "audited pairs": n_audits, "step": step, "draws": len(own)}
                rows.append({**where, "accuracy": own.mean(), "minus auto": (own - auto).mean(), "+-": half})
    return pd.DataFrame(rows)
