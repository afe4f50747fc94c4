"""What the best liar gains who reconsiders every round, exactly: games of two labelers by dynamic programming.

``aggregation.game.adaptive_lies``: every pair is audited, both are calibrated on the beliefs .1, .3, .5, .7, .9 (three
of them for the policy objective, whose state has a second dimension). Every row says how much its gain changes when the
grid is halved.

    python -m benchmarks adaptive_lies --out docs/evidence
"""

from __future__ import annotations

from typing import Literal

import pandas as pd
from tqdm import tqdm

from truthful_rlhf.aggregation.game.adaptive_lies import SmallGame, best_adaptive_lie

ABOUT = "what the best adaptive liar gains in games of two labelers, by rule, label and objective (about 4 minutes)"

RULES: tuple[tuple[str, str | None, float | Literal["auto"]], ...] = (
    ("mean", None, "auto"),
    ("median", None, "auto"),
    *(("online_weighted", label, "auto") for label in ("mean", "median", "quantile", "drawn")),
    ("linear_weighted", None, "auto"),
    ("hedge", None, 0.5),
    ("examined", None, "auto"),
)
LONG, SHORT = 60, 4
GRIDS = {"next share": 200, "influence": 200, "taste": 200, "policy": 20}
"""Intervals of the grid of weights, by objective."""
COARSE = (0.1, 0.5, 0.9)
"""Beliefs, and reports of the other, in the games of the policy objective."""


def run() -> pd.DataFrame:
    rows = []
    for (rule, label, eta), objective in tqdm([(rule, name) for rule in RULES for name in GRIDS]):
        policy = objective == "policy"
        game = SmallGame(SHORT, COARSE, COARSE) if policy else SmallGame(LONG)
        found = best_adaptive_lie(rule, objective, game, label=label, eta=eta, grid=GRIDS[objective])
        row = {"rule": rule, "label": found.label, "objective": objective, "rounds": found.n_rounds}
        rows.append({**row, "gain": found.gain, "grid change": found.grid_change, "best report off by": found.offset})
    return pd.DataFrame(rows)
