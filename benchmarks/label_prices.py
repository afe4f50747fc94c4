"""What truthful labels cost in quality: the weighted mean, the secret quantiles and ``stacked`` with the same audits.

Weights do not see the label, so the four labels of ``online_weighted`` and ``stacked`` stand on the same weights.
Panels: the four of the evidence grid, ``copies`` and the correlated judges of ``equal_audits``; real crowds where their
files are present. The audits are a uniform draw of the stated number of pairs. In the panel ``strategic`` everybody
answers the label in force (``stacked`` is answered as the mean).

Measured are the last weights' labels on the pairs that were not audited. Simulated pairs have a true probability p: a
label is right if it is on the side of p (1/2 counts half), and the Brier score and the log loss are expectations over
the outcome, p (q - 1)^2 + (1 - p) q^2 and -p ln q - (1 - p) ln(1 - q), q clipped to [.01, .99] for the log loss alone.
Judges and real crowds are measured against their outcomes. *Loss*: the mean label's accuracy less this one's, and this
one's Brier score less the mean's, paired by campaign, with the standard error over campaigns (of real crowds: orders of
the same pairs).

    python -m benchmarks label_prices --out docs/evidence
    python -m benchmarks.label_prices docs/evidence/label_prices.csv     # the table of the documentation
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks.equal_audits import COPIES, correlated, real, stacked
from benchmarks.real_annotations import DATA, FILES, load
from truthful_rlhf.aggregation import label_campaign
from truthful_rlhf.aggregation.base import FloatArray, IntArray
from truthful_rlhf.aggregation.log_odds import sigmoid
from truthful_rlhf.aggregation.rules.quantile_labels import LABELS
from truthful_rlhf.aggregation.statistics import hits, log_loss
from truthful_rlhf.labelers import LabelerSpec, Panel, ReportContext
from truthful_rlhf.labelers.panels import built_in_panels
from truthful_rlhf.pipeline.config.game import BUNDLED_TOPICS
from truthful_rlhf.pipeline.game.campaigns import judge_pairs

ABOUT = "accuracy, Brier score and log loss of each label of online_weighted, and of stacked, at 7 to 300 audits"

PANELS = ("honest", "biased_majority", "strategic", "topic_liars", "copies")
AUDITS = (7, 14, 29, 72, 300)
N_PAIRS, DRAWS, REAL_DRAWS = 600, 40, 20
METHODS = (*LABELS, "stacked", "plain mean")
"""The labels of ``online_weighted``, the label step, and the rule ``mean``, which ignores the audits."""


def simulated(name: str, seed: int) -> tuple[dict[str, FloatArray], FloatArray, FloatArray, IntArray]:
    """Return reports ``(T, N)`` by method, outcomes ``(T,)``, true probabilities ``(T,)``, and an order of the pairs.

    Args:
        name: of a panel.
        seed: >= 0, of the campaign.
    """
    rng = np.random.default_rng([seed, PANELS.index(name)])
    specs = [LabelerSpec.model_validate(entry) for entry in {**built_in_panels(), "copies": COPIES}[name]]
    judged = judge_pairs(Panel.from_specs(specs, rng), N_PAIRS, 1, rng, topics=BUNDLED_TOPICS)
    reports = {}
    for method in METHODS:
        options = {"label": method} if LABELS.get(method) is not None else {}
        rule = "mean" if method == "plain mean" else "online_weighted"
        reports[method] = judged.reports(ReportContext(rule=rule, rule_options=options))
    return reports, judged.nature.outcomes, sigmoid(judged.nature.log_odds), rng.permutation(N_PAIRS)


def labels_by(method: str, reports: FloatArray, revealed: FloatArray) -> FloatArray:
    """Return the last labels of a method, shape ``(T,)``; only those of pairs without an audit are measured.

    Args:
        method: of ``METHODS``.
        reports: shape ``(T, N)``.
        revealed: shape ``(T,)``, NaN where not audited.
    """
    if method == "stacked":
        return stacked(reports, revealed)
    if method == "plain mean":
        return label_campaign(reports, revealed, "mean", "reweighted", keep_weights=False).soft_labels
    return label_campaign(
        reports, revealed, "online_weighted", "reweighted", keep_weights=False, label=method
    ).soft_labels


def scores(labels: FloatArray, truth: FloatArray) -> tuple[float, float, float]:
    """Return accuracy, Brier score and log loss against true probabilities, or outcomes, all of shape ``(T,)``."""
    distance = truth * (labels - 1.0) ** 2 + (1.0 - truth) * labels**2  # the Brier score that outcomes have on average
    return float(hits(labels, truth).mean()), float(distance.mean()), log_loss(np.clip(labels, 0.01, 0.99), truth)


Crowd = tuple[dict[str, FloatArray], FloatArray, FloatArray, IntArray]


def crowds() -> Iterator[tuple[str, list[Crowd]]]:
    """Yield a name and campaigns: simulated panels, correlated judges, real crowds in new orders."""
    for name in PANELS:
        yield name, [simulated(name, seed) for seed in range(DRAWS)]
    drawn = [correlated(seed) for seed in range(DRAWS)]
    yield "judges", [(dict.fromkeys(METHODS, d.reports), d.outcomes, d.outcomes, d.order) for d in drawn]
    for file in FILES if DATA.is_dir() else ():
        crowd = load(DATA / file)
        drawn = [real(*crowd, seed) for seed in range(REAL_DRAWS)]
        yield file.split("_")[0], [(dict.fromkeys(METHODS, d.reports), d.outcomes, d.outcomes, d.order) for d in drawn]


def cell(campaigns: list[Crowd], n_audits: int) -> Iterator[dict[str, Any]]:
    """Yield a row per method."""
    found: dict[str, list[tuple[float, float, float]]] = {method: [] for method in METHODS}
    for reports, outcomes, truth, order in campaigns:
        audited = order < n_audits
        measured = ~audited & ~np.isnan(truth)
        revealed = np.where(audited, outcomes, np.nan)
        for method in METHODS:
            labels = labels_by(method, reports[method], revealed)
            there = measured & ~np.isnan(labels)
            found[method].append(scores(labels[there], truth[there]))
    base = np.array(found["mean"])
    for method, values in found.items():
        table = np.array(values)
        lost = (table - base) * np.array([-1.0, 1.0, 1.0])
        error = lost.std(axis=0, ddof=1) / len(lost) ** 0.5
        row = dict(zip(("accuracy", "brier", "log loss"), table.mean(axis=0), strict=True))
        for k, measure in enumerate(("accuracy", "brier", "log loss")):
            row |= {f"{measure}: loss": lost[:, k].mean(), f"{measure}: s.e.": error[k]}
        yield {"label": method, **row, "campaigns": len(table)}


def run() -> pd.DataFrame:
    rows = []
    with tqdm(total=len(PANELS) + 1 + (len(FILES) if DATA.is_dir() else 0), unit="crowd") as progress:
        for panel, campaigns in crowds():
            known = int((~np.isnan(campaigns[0][1])).sum())
            for n_audits in AUDITS:
                if n_audits <= known * 0.75:  # enough pairs are left to measure on
                    where = {"panel": panel, "pairs": known, "audits": n_audits}
                    rows += [{**where, **row} for row in cell(campaigns, n_audits)]
            progress.update()
    return pd.DataFrame(rows).round(5)


def overview(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per panel and number of audits: accuracy / Brier score / log loss of every method."""
    columns = zip(table["accuracy"], table["brier"], table["log loss"], strict=True)
    table = table.assign(text=[f"{a:.3f} {b:.3f} {c:.3f}" for a, b, c in columns])
    wide = table.pivot(index=["panel", "audits"], columns="label", values="text")
    order = list(dict.fromkeys(table[["panel", "audits"]].itertuples(index=False, name=None)))
    return wide.reindex(order)[list(METHODS)].reset_index()


def main(path: str) -> None:
    """Print the table of the documentation, and the target at 29 audits, from the benchmark's CSV."""
    from benchmarks.__main__ import markdown

    table = pd.read_csv(path)
    print(markdown(overview(table)))
    target = table[(table["audits"] == 29) & (table["label"] == "median")]
    print(f"\n{markdown(target[['panel', 'accuracy: loss', 'accuracy: s.e.', 'brier: loss', 'brier: s.e.']])}")


if __name__ == "__main__":
    main(sys.argv[1])
