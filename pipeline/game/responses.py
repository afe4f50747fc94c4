"""What the best-responding entries of a panel play against a rule, as rows of ``best_responses.csv``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from truthful_rlhf.labelers import LabelerSpec, Panel, ReportContext
from truthful_rlhf.labelers.best_response import equilibrium_play
from truthful_rlhf.labelers.strategies import BestResponse, Equilibrium

NOT_ITERATED: dict[str, None] = dict.fromkeys(
    (
        *("converged", "turns", "at_edge"),
        *("over_truth", "over_truth_low", "over_truth_high", "left", "left_low", "left_high"),
    )
)
"""Of an entry that answers what the others declare, and does not wait for their answers."""


def has_responders(specs: Sequence[LabelerSpec]) -> bool:
    """Return whether an entry of a panel chooses its reports by best response."""
    return any(isinstance(spec.make_strategy(), BestResponse) for spec in specs)


def best_responses(panel: Panel, context: ReportContext) -> list[dict[str, Any]]:
    """Return one row per best-responding entry: what its first labeler plays.

    Args:
        panel: who judges.
        context: the rule and the audit rate.
    """
    rows: list[dict[str, Any]] = []
    for position, member in enumerate(panel.members):
        strategy = member.strategy
        if not isinstance(strategy, BestResponse) or member.bloc in {row["entry"] for row in rows}:
            continue
        misreport = strategy.misreport(context, panel.profiles, position)
        rows.append(
            {
                "entry": member.bloc,
                "objective": strategy.objective,
                "scale": misreport.scale,
                **(
                    _iterated(strategy, context, panel, position) if isinstance(strategy, Equilibrium) else NOT_ITERATED
                ),
            }
        )
    return rows


def _iterated(strategy: Equilibrium, context: ReportContext, panel: Panel, position: int) -> dict[str, Any]:
    play, found = equilibrium_play(strategy.objective, context, panel.profiles, position)
    return {
        "converged": found.converged,
        "turns": found.n_turns,
        "at_edge": play.at_edge,
        **dict(zip(("over_truth", "over_truth_low", "over_truth_high"), play.over_truth, strict=True)),
        **dict(zip(("left", "left_low", "left_high"), play.left, strict=True)),
    }
