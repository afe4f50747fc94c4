"""Uniform, planned and weighted planned audits at the same budget: which labels are better?

*uniform*: exactly the budget, every pair equally likely. *planned*: disagreement raises a pair's chance
(``aggregation.auditing.design.audit_chances``), pairs are drawn independently, and outcomes count alike, which breaks
the condition under which the truth is the best report. *weighted*: the same draw, outcomes weighted by the inverse
chance.

Panels as in ``benchmarks.equal_audits``, and real crowds where their files are present; of these only pairs with an
outcome are taken. Labels of ``online_weighted``, final and stacked. Accuracy and log loss (labels clipped to [.01,
.99]), over *all* pairs, with labels that the audited pairs would have had without their own outcome counted as their
outcome's: what is delivered is measured. Over the unaudited pairs alone a plan would look good for leaving the easy
ones. A draw is a new campaign (of a real crowd: a new order and new audits); differences are paired by campaign, with
the normal 95 % interval over draws.

    python -m benchmarks audit_plans --out docs/evidence
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks.equal_audits import PANELS, Draw, correlated, losses, real, simulated
from benchmarks.real_annotations import DATA, FILES, load
from truthful_rlhf.aggregation import label_campaign
from truthful_rlhf.aggregation.auditing.design import EVEN_SHARE, audit_chances
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.labeling import SoftLabelKind
from truthful_rlhf.aggregation.statistics import mean_interval

ABOUT = "labels by uniform, planned and weighted planned audits at equal budgets (about a minute)"

DRAWS = {144: 60, 500: 30, 419: 30}
N_ORDERS = 30
BUDGETS = (0.05, 0.1, 0.2)
KINDS: tuple[SoftLabelKind, ...] = ("final", "stacked")
DESIGNS = ("uniform", "planned", "weighted")


def crowds() -> Iterator[tuple[str, list[Draw]]]:
    """Yield panel and draws."""
    for name in PANELS:
        for n_pairs in (144, 500):
            yield name, [simulated(name, n_pairs, seed) for seed in range(DRAWS[n_pairs])]
    yield "judges", [correlated(seed) for seed in range(DRAWS[419])]
    for file in FILES if DATA.is_dir() else ():
        reports, outcomes = load(DATA / file)
        known = ~np.isnan(outcomes)
        yield file.split("_")[0], [real(reports[known], outcomes[known], seed) for seed in range(N_ORDERS)]


def values(reports: FloatArray) -> FloatArray:
    """Return what each outcome would teach under equal weights, shape ``(T,)``: share present times variance."""
    present = ~np.isnan(reports)
    number = np.maximum(present.sum(axis=1), 1)
    mean = np.where(present, reports, 0.0).sum(axis=1) / number
    squares = np.where(present, (reports - mean[:, None]) ** 2, 0.0)
    spread: FloatArray = squares.sum(axis=1) / reports.shape[1]
    return spread


def measured(draw: Draw, share: float, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Yield a row per design and kind of label."""
    n_pairs = len(draw.outcomes)
    budget = round(share * n_pairs)
    chances = audit_chances(values(draw.reports), budget)
    drawn = rng.random(n_pairs) < chances
    weights = {"audit_probability": chances, "audit_floor": EVEN_SHARE * budget / n_pairs}
    for design in DESIGNS:
        audited = draw.order < budget if design == "uniform" else drawn
        revealed = np.where(audited, draw.outcomes, np.nan)
        for kind in KINDS:
            given: dict[str, Any] = weights if design == "weighted" else {}
            labels = label_campaign(draw.reports, revealed, "online_weighted", kind, keep_weights=False, **given)
            miss, loss = losses(labels.soft_labels, draw.outcomes).mean(axis=1)
            rest = losses(labels.soft_labels, draw.outcomes)[:, ~audited].mean(axis=1)
            yield {
                "design": design,
                "labels": kind,
                "accuracy": 1.0 - miss,
                "log loss": loss,
                "unaudited": 1.0 - rest[0],
                "audits": int(audited.sum()),
            }


def run() -> pd.DataFrame:
    rows = []
    with tqdm(total=2 * len(PANELS) + 1 + (len(FILES) if DATA.is_dir() else 0), unit="crowd") as progress:
        for panel, draws in crowds():
            for share in BUDGETS:
                for seed, draw in enumerate(draws):
                    rng = np.random.default_rng([seed, round(1000 * share)])
                    case = {"panel": panel, "pairs": len(draw.outcomes), "budget": round(share * len(draw.outcomes))}
                    rows += [{**case, "draw": seed, **row} for row in measured(draw, share, rng)]
            progress.update()
    return summary(pd.DataFrame(rows))


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row per case and kind: the means, and weighted and planned minus uniform with their intervals."""
    table = []
    for case, group in rows.groupby(["panel", "pairs", "budget", "labels"], sort=False):
        wide = group.pivot_table(index="draw", columns="design", values=["accuracy", "log loss", "unaudited", "audits"])
        row: dict[str, Any] = dict(zip(("panel", "pairs", "budget", "labels"), case, strict=True))
        row |= {"draws": len(wide)}
        for measure in ("accuracy", "log loss", "unaudited"):
            row |= {f"{measure}, {design}": wide[measure, design].mean() for design in DESIGNS}
        for measure in ("accuracy", "log loss"):
            for design in DESIGNS[1:]:
                difference = (wide[measure, design] - wide[measure, "uniform"]).to_numpy()
                names = [f"{measure}: {design} - uniform{end}" for end in ("", ", low", ", high")]
                row |= dict(zip(names, mean_interval(difference), strict=True))
        table.append(row)
    return pd.DataFrame(table)
