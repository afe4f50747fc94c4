"""Regret on the outcomes that a rule saw, and the bound that is proved for it.

A rule learns from revealed outcomes only, so bounds are proved for these only. ``regret_revealed`` is the regret
(``aggregation.regret``) summed over them. The measure ``regret`` is summed over all outcomes, revealed or not. It says
how good the labels are; no bound holds for it in a single campaign.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from truthful_rlhf.aggregation import regret
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.rules.step_size import regret_bound
from truthful_rlhf.pipeline.config.rule import RuleSection


def campaign_matrix(reports: pd.DataFrame, n_rounds: int) -> tuple[FloatArray, FloatArray]:
    """Return the reports ``(T, N)`` and the revealed outcomes ``(T,)`` of a campaign, NaN where there is none.

    Args:
        reports: the annotation table, columns ``round, labeler_id, report, outcome``; a round that nobody judged has
            no row.
        n_rounds: T.
    """
    rounds = range(n_rounds)
    wide = reports.pivot(index="round", columns="labeler_id", values="report").reindex(rounds)
    outcomes = reports.groupby("round")["outcome"].first().reindex(rounds)
    return wide.to_numpy(dtype=np.float64), outcomes.to_numpy(dtype=np.float64)


def regret_revealed(stated: FloatArray, reports: FloatArray, revealed: FloatArray) -> FloatArray:
    """Return the cumulative regret on the revealed outcomes, shape ``(T,)``, NaN throughout without labelers.

    Args:
        stated: the labels, each stated before its outcome, shape ``(T,)``.
        reports: shape ``(T, N)``, NaN where a labeler did not judge.
        revealed: the outcomes that the rule saw, shape ``(T,)``, NaN elsewhere.
    """
    return regret(stated, reports, revealed) if reports.shape[1] else np.full(len(stated), np.nan)


def proved_bound(rule: RuleSection, reports: FloatArray, revealed: FloatArray) -> FloatArray | None:
    """Return the bound on ``regret_revealed`` after each round, shape ``(T,)``, or None where none is proved.

    With n outcomes revealed so far and N labelers: ln N / eta + eta n for a constant step, and
    ``aggregation.rules.step_size.regret_bound`` for ``eta: auto``. Proved for ``online_weighted`` with equal initial
    weights, for all labelers present at every revealed outcome, and for one mechanism for all topics.

    Args:
        rule: of the labels.
        reports: shape ``(T, N)``, NaN where a labeler did not judge.
        revealed: shape ``(T,)``, NaN where the rule saw no outcome.
    """
    known, n_labelers = ~np.isnan(revealed), reports.shape[1]
    if (
        rule.name != "online_weighted"
        or rule.per_topic
        or set(rule.options) - {"eta"}
        or np.isnan(reports[known]).any()
    ):
        return None
    n_revealed = np.cumsum(known)
    eta = rule.options.get("eta", "auto")
    if eta == "auto":
        return np.array([regret_bound(n_labelers, n) for n in range(n_revealed[-1] + 1)])[n_revealed]
    bound: FloatArray = np.log(n_labelers) / eta + eta * n_revealed
    return bound
