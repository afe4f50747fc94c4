"""What people who want the label near their own view play against each label, when all of them do: equilibria.

The panels ``strategic`` (everybody answers what the others declare) and ``equilibrium`` (everybody answers the answers),
with the objectives ``taste`` and ``policy_taste``, under the mean and every label of ``online_weighted``. A scale of 1
is the truth, above 1 exaggerates, 0 says nothing. *Left*: what one more best response gains in fresh campaigns, in
per cent with its interval.

    python -m benchmarks equilibria --out docs/evidence
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from truthful_rlhf.aggregation.rules.quantile_labels import LABELS
from truthful_rlhf.labelers import LabelerSpec, Panel, ReportContext
from truthful_rlhf.pipeline.game.responses import best_responses

ABOUT = "what strategic panels play against each label, and what is left to gain (about 5 minutes)"

CROWD = (("bloc", 6, "contrarian"), ("honest", 3, "noisy"), ("expert", 1, "expert"))
COLUMNS = ("entry", "scale", "converged", "turns", "at_edge", "left", "left_low", "left_high")


def panel(strategy: str, objective: str) -> Panel:
    """Return the crowd of the panels ``strategic`` and ``equilibrium``, with an objective.

    Args:
        strategy: ``best_response`` or ``equilibrium``.
        objective: of everybody.
    """
    chosen = {"name": strategy, "objective": objective}
    specs: list[dict[str, Any]] = [
        {"name": name, "count": count, "persona": persona, "strategy": chosen} for name, count, persona in CROWD
    ]
    return Panel.from_specs([LabelerSpec.model_validate(spec) for spec in specs], np.random.default_rng(0))


def run() -> pd.DataFrame:
    rules = [("mean", {}), *(("online_weighted", {"label": label}) for label in LABELS)]
    cases = [(a, b, c) for b in ("taste", "policy_taste") for a in ("best_response", "equilibrium") for c in rules]
    rows = []
    for strategy, objective, (rule, options) in tqdm(cases):
        where = {"strategy": strategy, "objective": objective, "rule": rule, "label": options.get("label", "mean")}
        context = ReportContext(rule=rule, rule_options=options, audit_rate=1.0)
        rows += [
            {**where, **{name: row[name] for name in COLUMNS}}
            for row in best_responses(panel(strategy, objective), context)
        ]
    return pd.DataFrame(rows)
