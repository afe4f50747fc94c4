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
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks.equal_audits import final, stacked
from truthful_rlhf.aggregation.base import BoolArray, FloatArray
from truthful_rlhf.aggregation.game.campaigns import draw_campaigns
from truthful_rlhf.aggregation.game.population import Group, Population
from truthful_rlhf.aggregation.leak_alarm import SHARE, leak_alarm
from truthful_rlhf.aggregation.statistics import accuracy

ABOUT = "how often the leak alarm sounds with and without a leak, by panel and audits (about 15 minutes)"

PANELS = ((10, 1.0), (30, 1.0), (117, 1.0), (117, 0.1))
"""Number of labelers, and the chance that a labeler judges a pair."""
AUDITS = ((144, 29, "uniform"), (144, 29, "planned"), (500, 50, "uniform"), (500, 50, "planned"))
FEW = ((144, 4, "uniform"), (144, 7, "uniform"), (144, 14, "uniform"), (500, 25, "uniform"))
N_LEAKED, N_HONEST, N_HONEST_FEW, N_LABELLED = 100, 1000, 100, 20
N_REDRAWS = 299
LABELS = ("mean", "median", "majority", "dawid_skene", "logistic", "online_weighted")


def honest_panel(n_labelers: int, participation: float, n_pairs: int, rng: np.random.Generator) -> Any:
    """Return sincere reports, shape ``(T, N)``, and the outcomes."""
    n_experts = round(0.1 * n_labelers)
    groups = (Group("expert", n=n_experts, noise=0.5), Group("noisy", n=n_labelers - n_experts, noise=1.5))
    campaign = draw_campaigns(Population("panel", groups), n_pairs, 1, rng)[0]
    present = rng.random(campaign.beliefs.shape) < participation
    return np.where(present, campaign.beliefs, np.nan), campaign.outcomes


def audits(reports: FloatArray, n_audits: int, plan: str, rng: np.random.Generator) -> Any:
    """Return which pairs are audited, shape ``(T,)``, and their chances (None: a uniform draw)."""
    n_pairs = len(reports)
    if plan == "uniform":
        return rng.permutation(n_pairs) < n_audits, None
    present = ~np.isnan(reports)
    centred = (
        np.where(present, reports, 0.0)
        - (np.where(present, reports, 0.0).sum(axis=1) / np.maximum(present.sum(axis=1), 1))[:, None]
    )
    spread = np.where(present, centred**2, 0.0).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
    chances = np.minimum(n_audits * (0.25 / n_pairs + 0.75 * spread / spread.sum()), 0.5)
    return rng.random(n_pairs) < chances, chances


def leaked(reports: FloatArray, audited: BoolArray, rng: np.random.Generator) -> FloatArray:
    """Return the reports when a random 30 % lie wherever a pair is not audited."""
    n_labelers = reports.shape[1]
    liars = rng.permutation(n_labelers) < round(SHARE * n_labelers)
    return np.where(np.outer(~audited, liars), 1.0 - reports, reports)


def one(n_labelers: int, participation: float, case: tuple[int, int, str], seed: int) -> tuple[str, str]:
    """Return the status of an honest panel, and of the same panel with a leak."""
    n_pairs, n_audits, plan = case
    rng = np.random.default_rng([seed, n_labelers, int(100 * participation), n_pairs, n_audits])
    reports, _ = honest_panel(n_labelers, participation, n_pairs, rng)
    audited, chances = audits(reports, n_audits, plan, rng)
    n_simulated = 20 if seed < N_LABELLED else 1
    statuses = [leak_alarm(reports, audited, rng, chances, N_REDRAWS, n_simulated).status]
    if seed < N_LEAKED:
        lying = leaked(reports, audited, rng)
        statuses.append(leak_alarm(lying, audited, rng, chances, N_REDRAWS, 1).status)
    return statuses[0], statuses[-1] if seed < N_LEAKED else ""


def label_accuracies(n_labelers: int, participation: float, case: tuple[int, int, str]) -> dict[str, float]:
    """Return the mean accuracy of labels on the unaudited pairs of leaked panels."""
    n_pairs, n_audits, plan = case
    scores: dict[str, list[float]] = {}
    for seed in range(N_LABELLED):
        rng = np.random.default_rng([seed, n_labelers, int(100 * participation), n_pairs, n_audits])
        reports, outcomes = honest_panel(n_labelers, participation, n_pairs, rng)
        audited, _ = audits(reports, n_audits, plan, rng)
        lying, revealed = leaked(reports, audited, rng), np.where(audited, outcomes, np.nan)
        labels = {rule: final(rule, lying, revealed) for rule in LABELS}
        labels["dawid_skene, outcomes withheld"] = final("dawid_skene", lying, np.full(n_pairs, np.nan))
        labels["online_weighted, stacked"] = stacked(lying, revealed)
        for name, q in labels.items():
            scores.setdefault(name, []).append(accuracy(np.nan_to_num(q, nan=0.5), np.where(audited, np.nan, outcomes)))
    return {name: float(np.mean(values)) for name, values in scores.items()}


def rows() -> Iterator[dict[str, Any]]:
    for n_labelers, participation in PANELS:
        for case in (*AUDITS, *FEW):
            n_honest = N_HONEST if case in AUDITS else N_HONEST_FEW
            pairs = [one(n_labelers, participation, case, seed) for seed in range(n_honest)]
            row = dict(zip(("pairs", "audited", "audits"), case, strict=True))
            row = {"labelers": n_labelers, "present": participation, **row}
            row["heard"] = float(np.mean([leak == "alarm" for _, leak in pairs[:N_LEAKED]]))
            row["false alarms"] = float(np.mean([status == "alarm" for status, _ in pairs]))
            row["honest panels"] = n_honest
            row["cannot tell"] = float(np.mean([status == "cannot tell" for status, _ in pairs[:N_LABELLED]]))
            yield row | (label_accuracies(n_labelers, participation, case) if case[2] == "uniform" else {})


def run() -> pd.DataFrame:
    total = len(PANELS) * (len(AUDITS) + len(FEW))
    return pd.DataFrame(list(tqdm(rows(), total=total, unit="case")))
