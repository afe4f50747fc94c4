"""The incentive audit of an annotation file: what each of its labelers could have gained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from truthful_rlhf.aggregation.game.campaigns import Objective
from truthful_rlhf.aggregation.game.incentives import describe
from truthful_rlhf.aggregation.game.recorded_gains import FEWEST_REPORTS, gains_on_recorded
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.reading import Reading
from truthful_rlhf.labelers.recorded.table import Annotations
from truthful_rlhf.pipeline.config.game import NEXT_SHARE, AuditConfig
from truthful_rlhf.pipeline.game.console import percent, progress_bar
from truthful_rlhf.pipeline.storage.artifacts import write_text_atomically
from truthful_rlhf.pipeline.storage.console import console, print_table
from truthful_rlhf.pipeline.storage.markdown import markdown_table, markdown_text
from truthful_rlhf.pipeline.storage.random import part_rng
from truthful_rlhf.pipeline.storage.tables import harmless_cell

SHOWN = 10
"""Labelers per rule and objective in the terminal; the files have all of them."""

_SUMMARY = ["rule", "objective", "audited", "median gain", "largest", "above 1 % in all halves", "median in hindsight"]
_DETAIL = ["labeler", "audited reports", "gain [all halves]", "in hindsight", "best misreport in hindsight"]


def audit_recorded(annotations: Annotations, config: AuditConfig, out: Path) -> None:
    """Audit every labeler of an annotation table; write ``gains.csv`` and ``audit.md``, and print tables.

    Args:
        annotations: what was recorded.
        config: rules, objectives, random halvings and seed.
        out: folder of the two files.

    Raises:
        AnnotationError: nobody has enough reports on pairs with an outcome.
    """
    reports, outcomes = annotations.matrix(), annotations.outcome
    rows = []
    objectives = [name for name in config.objectives if name != NEXT_SHARE]
    with progress_bar() as progress:
        task = progress.add_task("", total=len(config.rules) * len(objectives) * annotations.n_labelers)
        for rule in config.rules:
            for name in objectives:
                progress.update(task, description=f"{name} under {rule.title}")
                found = gains_on_recorded(
                    reports,
                    outcomes,
                    rule.make,
                    Objective(name, config.discount),
                    rng=part_rng(config.seed, f"audit {annotations.source}"),
                    n_splits=config.splits,
                    sample_weights=rule.sample_weights(annotations.audit_design, ~np.isnan(outcomes)),
                    on_labeler=lambda _: progress.advance(task),
                )
                rows += [
                    {
                        "rule": rule.title,
                        "objective": name,
                        "labeler_id": annotations.labeler_ids[gain.labeler],
                        "n_audited": gain.n_audited,
                        "gain": gain.gain,
                        "low": gain.low,
                        "high": gain.high,
                        "hindsight": gain.hindsight,
                        "misreport": describe(gain.misreport, 1),
                    }
                    for gain in found
                ]
    _report(pd.DataFrame(rows), annotations.reading, config, out, _notes(rows, config))


def _report(gains: pd.DataFrame, reading: Reading, config: AuditConfig, out: Path, notes: list[str]) -> None:
    audited = gains.dropna(subset="gain")
    if audited.empty:
        raise AnnotationError(
            f"{reading.source}: no labeler has {FEWEST_REPORTS} reports on pairs with an outcome: there is nothing to"
            " audit on"
        )
    cells = gains.assign(labeler_id=gains["labeler_id"].map(harmless_cell))
    write_text_atomically(out / "gains.csv", cells.to_csv(index=False))
    groups = list(audited.groupby(["rule", "objective"], sort=False))
    summary = [_summary_row(rule, objective, rows) for (rule, objective), rows in groups]
    print_table(f"{reading.source}: what labelers could have gained by misreporting", _SUMMARY, summary)
    pages = [markdown_table(_SUMMARY, summary, n_text=2)]
    for (rule, objective), rows in groups:
        detail = _detail(rows)
        title = f"{objective} under {rule}"
        if rule == config.rules[0].title:
            more = f", the {SHOWN} largest of {len(detail)}" if len(detail) > SHOWN else ""
            print_table(title + more, _DETAIL, detail[:SHOWN], n_text=1)
        pages.append(f"**{title}**\n\n{markdown_table(_DETAIL, detail)}")
    for note in notes:
        console.print(note, markup=False)
    lines = "\n".join(f"- {markdown_text(line)}" for line in str(reading).splitlines() if line.strip())
    read = f"What was read:\n\n{lines}\n"
    write_text_atomically(out / "audit.md", "\n".join([read, *pages, *(f"- {note}" for note in notes)]) + "\n")
    console.print(f"Written to {out}: audit.md and gains.csv (all labelers, rules and objectives)")


def _summary_row(rule: object, objective: object, rows: pd.DataFrame) -> list[str]:
    """Return the cells of one rule and objective in the summary."""
    return [
        str(rule),
        str(objective),
        str(len(rows)),
        f"{100 * rows['gain'].median():+.1f} %",
        f"{100 * rows['gain'].max():+.1f} %",
        str(int((rows["low"] > 0.01).sum())),
        f"{100 * rows['hindsight'].median():+.1f} %",
    ]


def _detail(rows: pd.DataFrame) -> list[list[str]]:
    """Return the cells of each labeler, the largest gain first."""
    return [
        [
            str(row["labeler_id"]),
            str(row["n_audited"]),
            percent(row["gain"], row["low"], row["high"]),
            f"{100 * row['hindsight']:+.1f} %",
            str(row["misreport"]),
        ]
        for row in rows.sort_values("gain", ascending=False).to_dict("records")
    ]


def _notes(rows: list[dict[str, Any]], config: AuditConfig) -> list[str]:
    notes = [
        "Gain: the best of constant scales, shifts and a flip, chosen on a random half of the pairs and measured on"
        f" the other half, mean [smallest, largest] of {config.splits} random halvings; relative to what the recorded"
        " reports earned. The range is over halvings of this one campaign: it is no confidence interval for another.",
        "What was recorded is taken for the belief. A gain by xS with S below 1 says that the labeler is overconfident:"
        " better calibration would have earned it. A large gain by a flip: it may read the scale the wrong way round.",
    ]
    n_skipped = len({row["labeler_id"] for row in rows if np.isnan(row["gain"])})
    if n_skipped:
        notes.append(f"{n_skipped} labelers have fewer than {FEWEST_REPORTS} reports with an outcome: not audited.")
    return notes
