"""The leak alarm: how often it sounds when 30 % know the audited pairs, how often when nobody does, and what then.

Panels of N = 10, 30, 117: a tenth experts (view with noise .5), the others ordinary (noise 1.5), all sincere and all
present. A further panel has 117 labelers, a tenth of them on each pair. 29 of 144 or 50 of 500 pairs are audited, and
fewer, to see where "cannot tell" begins. *uniform*: any set of as many pairs; *planned*: pairs with more disagreement
get a higher chance, as ``audit-plan`` gives it, each drawn independently. The liars, a random 30 %, know the audited
pairs, are honest there and state the opposite elsewhere.

*heard*: share of 100 such panels in which the alarm sounds (target: at least 95 %); *false alarms*: share of honest
panels in which it does (target: at most 2 %); *cannot tell*: share of twenty honest panels with that answer.

The last columns are for the panels in which it sounds: accuracy of labels on unaudited pairs of the leaked panels
(twenty).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks.equal_audits import final, stacked
from truthful_rlhf.aggregation.auditing.design import audit_chances
from truthful_rlhf.aggregation.base import BoolArray, FloatArray
from truthful_rlhf.aggregation.game.beliefs import calibrated_beliefs
from truthful_rlhf.aggregation.game.campaigns import draw_nature
from truthful_rlhf.aggregation.leak_alarm import SHARE, leak_alarm
from truthful_rlhf.aggregation.statistics import accuracy

ABOUT = "how often the leak alarm sounds with and without a leak, by panel and audits (about 10 minutes of one core)"

PANELS = ((10, 1.0), (30, 1.0), (117, 1.0), (117, 0.1))
"""Number of labelers, and the chance that a labeler judges a pair."""
AUDITS = ((144, 29, "uniform"), (144, 29, "planned"), (500, 50, "uniform"), (500, 50, "planned"))
FEW = ((144, 4, "uniform"), (144, 7, "uniform"), (144, 14, "uniform"), (500, 25, "uniform"))
N_LEAKED, N_HONEST, N_HONEST_FEW, N_LABELLED = 100, 1000, 100, 20
N_REDRAWS = 299
MOST_LABELLED = 30
_BATCH = 20
LABELS = ("mean", "median", "majority", "dawid_skene", "logistic", "online_weighted")


@dataclass(frozen=True)
class Case:
    """Labelers, the chance that one judges a pair, pairs, audited pairs (expected where planned), and how drawn."""

    labelers: int
    present: float
    pairs: int
    audited: int
    plan: str


def honest_panels(case: Case, n_panels: int) -> Iterator[tuple[FloatArray, FloatArray, np.random.Generator]]:
    """Yield sincere reports, shape ``(T, N)``, outcomes, and a generator for what else is drawn, panel by panel."""
    n_experts = round(0.1 * case.labelers)
    noises = [0.5] * n_experts + [1.5] * (case.labelers - n_experts)
    for first in range(0, n_panels, _BATCH):  # a posterior costs more to set up than to evaluate
        rng = np.random.default_rng([first, case.labelers, case.pairs, case.audited])
        count = min(_BATCH, n_panels - first)
        nature = draw_nature(case.pairs * count, rng)
        beliefs = np.column_stack([calibrated_beliefs(nature.log_odds, noise, rng) for noise in noises])
        for part in (slice(k * case.pairs, (k + 1) * case.pairs) for k in range(count)):
            present = rng.random((case.pairs, case.labelers)) < case.present
            yield np.where(present, beliefs[part], np.nan), nature.outcomes[part], rng


def audits(reports: FloatArray, n_audits: int, plan: str, rng: np.random.Generator) -> Any:
    """Return which pairs are audited, shape ``(T,)``, and their chances (None: a uniform draw)."""
    n_pairs = len(reports)
    if plan == "uniform":
        return rng.permutation(n_pairs) < n_audits, None
    present = np.maximum((~np.isnan(reports)).sum(axis=1), 1)
    values = np.nansum((reports - (np.nansum(reports, axis=1) / present)[:, None]) ** 2, axis=1)
    chances = audit_chances(values, n_audits)
    return rng.random(n_pairs) < chances, chances


def leaked(reports: FloatArray, audited: BoolArray, rng: np.random.Generator) -> FloatArray:
    """Return the reports when a random 30 % lie wherever a pair is not audited."""
    n_labelers = reports.shape[1]
    liars = rng.permutation(n_labelers) < round(SHARE * n_labelers)
    return np.where(np.outer(~audited, liars), 1.0 - reports, reports)


def alarms(case: Case, n_honest: int) -> dict[str, float]:
    """Return how often the alarm sounds with and without a leak, and how often it cannot tell."""
    honest, heard = [], []
    for k, (reports, _, rng) in enumerate(honest_panels(case, n_honest)):
        audited, chances = audits(reports, case.audited, case.plan, rng)
        n_simulated = 20 if k < N_LABELLED else 1
        honest.append(leak_alarm(reports, audited, rng, chances, N_REDRAWS, n_simulated).status)
        if k < N_LEAKED:
            lying = leaked(reports, audited, rng)
            heard.append(leak_alarm(lying, audited, rng, chances, N_REDRAWS, 1).status == "alarm")
    return {
        "heard": float(np.mean(heard)),
        "false alarms": float(np.mean([status == "alarm" for status in honest])),
        "honest panels": n_honest,
        "cannot tell": float(np.mean([status == "cannot tell" for status in honest[:N_LABELLED]])),
    }


def label_accuracies(case: Case) -> dict[str, float]:
    """Return the mean accuracy of labels on the unaudited pairs of leaked panels."""
    scores: dict[str, list[float]] = {}
    for reports, outcomes, rng in honest_panels(case, N_LABELLED):
        audited, _ = audits(reports, case.audited, case.plan, rng)
        lying, revealed = leaked(reports, audited, rng), np.where(audited, outcomes, np.nan)
        labels = {rule: final(rule, lying, revealed) for rule in LABELS}
        labels["dawid_skene, outcomes withheld"] = final("dawid_skene", lying, np.full(case.pairs, np.nan))
        labels["online_weighted, stacked"] = stacked(lying, revealed)
        for name, q in labels.items():
            scores.setdefault(name, []).append(accuracy(np.nan_to_num(q, nan=0.5), np.where(audited, np.nan, outcomes)))
    return {name: float(np.mean(values)) for name, values in scores.items()}


def rows() -> Iterator[dict[str, Any]]:
    for labelers, present in PANELS:
        for pairs, audited, plan in (*AUDITS, *FEW):
            case = Case(labelers, present, pairs, audited, plan)
            few = (pairs, audited, plan) in FEW
            row = asdict(case) | alarms(case, N_HONEST_FEW if few else N_HONEST)
            labelled = not few and plan == "uniform" and labelers <= MOST_LABELLED
            yield row | (label_accuracies(case) if labelled else {})


def run() -> pd.DataFrame:
    total = len(PANELS) * (len(AUDITS) + len(FEW))
    return pd.DataFrame(list(tqdm(rows(), total=total, unit="case")))
