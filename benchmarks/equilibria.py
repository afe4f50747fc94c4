"""What people who want the label near their own view play against each label, when all of them do: equilibria.

Two crowds: that of the panels ``strategic`` and ``equilibrium``, six of whom want the opposite of the truth and know
the difference, and ``honest``, whose own views are their beliefs. Everybody answers what the others declare
(``best_response``), or answers the answers (``equilibrium``), with the objectives ``taste`` and ``policy_taste``, under
the mean and every label of ``online_weighted``. A scale of 1 is the truth, above 1 exaggerates, 0 says nothing. *Left*:
what one more best response gains in fresh campaigns, with its interval (0.01 is 1 %). Every pair is audited, campaigns
have 200 pairs.

    python -m benchmarks equilibria --out docs/evidence
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from truthful_rlhf.aggregation.rules.quantile_labels import LABELS
from truthful_rlhf.labelers import LabelerSpec, Panel, ReportContext
from truthful_rlhf.pipeline.game.responses import best_responses

ABOUT = "what strategic panels play against each label, and what is left to gain (about 5 minutes)"

CROWDS = {
    "contrarians": (("bloc", 6, "contrarian"), ("honest", 3, "noisy"), ("expert", 1, "expert")),
    "honest": (("honest", 9, "noisy"), ("expert", 1, "expert")),
}
COLUMNS = ("entry", "scale", "converged", "turns", "at_edge", "left", "left_low", "left_high")


def panel(crowd: str, strategy: str, objective: str) -> Panel:
    """Return a crowd whose members all play a strategy.

    Args:
        crowd: of ``CROWDS``.
        strategy: ``best_response`` or ``equilibrium``.
        objective: of everybody.
    """
    chosen = {"name": strategy, "objective": objective}
    specs: list[dict[str, Any]] = [
        {"name": name, "count": count, "persona": persona, "strategy": chosen} for name, count, persona in CROWDS[crowd]
    ]
    return Panel.from_specs([LabelerSpec.model_validate(spec) for spec in specs], np.random.default_rng(0))


def run() -> pd.DataFrame:
    rules = [("mean", {}), *(("online_weighted", {"label": label}) for label in LABELS)]
    rows = []
    cases = list(product(CROWDS, ("taste", "policy_taste"), ("best_response", "equilibrium"), rules))
    for crowd, objective, strategy, (rule, options) in tqdm(cases):
        where = {"crowd": crowd, "strategy": strategy, "objective": objective, "rule": rule}
        context = ReportContext(rule=rule, rule_options=options, audit_rate=1.0)
        rows += [
            {**where, "label": options.get("label", "mean"), **{name: row[name] for name in COLUMNS}}
            for row in best_responses(panel(crowd, strategy, objective), context)
        ]
    return pd.DataFrame(rows)
