"""The labeler report: ``labelers.json`` with every figure, and ``report.html`` for people."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from truthful_rlhf.aggregation.rules import fits_all_at_once, learns_online
from truthful_rlhf.aggregation.statistics import reliability
from truthful_rlhf.pipeline.aggregate import figures
from truthful_rlhf.pipeline.aggregate.agreement import agreement_matrix
from truthful_rlhf.pipeline.aggregate.campaign import CampaignResult
from truthful_rlhf.pipeline.aggregate.measures import Analysis
from truthful_rlhf.pipeline.storage.artifacts import write_json, write_text_atomically
from truthful_rlhf.pipeline.storage.html import render

_TABLE_ROWS = 200
_CALIBRATION_LABELERS = 18
_CALIBRATION_REPORTS = 20
_BAR_REM = 4.0

Provenance = list[tuple[str, str]]


def write_labelers_json(result: CampaignResult, analysis: Analysis, provenance: Provenance, out: Path) -> Path:
    """Write ``labelers.json``: the campaign, the accuracy table, every labeler (heaviest first) and every flag.

    Args:
        result: of the campaign.
        analysis: what was measured of its labelers.
        provenance: what was read, and by which command.
        out: folder of the file.
    """
    content = {
        "reading": result.annotations.reading.as_dict(),
        "campaign": {
            "source": result.annotations.source,
            "format": result.annotations.format,
            **facts(result),
            "rows": result.annotations.reading.rows,
            "abstentions": result.annotations.reading.abstained,
            "duplicates_replaced": result.annotations.reading.replaced,
            "reports_in_swapped_order": result.annotations.reading.swapped,
            "ignored_columns": list(result.annotations.reading.ignored_columns),
            "rule": result.rule.name,
            "labels": result.settings.labels,
            "warnings": analysis.warnings,
            "alpha": dict(zip(("value", "low", "high"), analysis.alpha, strict=True)),
            **dict(provenance),
        },
        "accuracy": [asdict(row) for row in analysis.accuracy],
        "labelers": analysis.labelers,
        "flags": analysis.flags,
    }
    path = out / "labelers.json"
    write_json(path, _without_nan(content))
    return path


def write_html(result: CampaignResult, analysis: Analysis, provenance: Provenance, out: Path) -> Path:
    """Write the self-contained ``report.html``; everything from the annotations is escaped.

    Args:
        result: of the campaign.
        analysis: what was measured of its labelers.
        provenance: what was read, and by which command.
        out: folder of the file.
    """
    annotations = result.annotations
    images = figures_of(result)
    shown = [_without_nan(row) for row in analysis.labelers[:_TABLE_ROWS]]
    heaviest = max(row["weight"] for row in analysis.labelers)
    page = render(
        "labelers.html",
        images,
        title=f"Labelers of {annotations.source}",
        source=annotations.source,
        reading=annotations.reading,
        setting=setting_text(result),
        facts=[(name.replace("_", " "), f"{value:,}") for name, value in facts(result).items()],
        warnings=analysis.warnings,
        findings=analysis.findings,
        soft_label_text=soft_label_text(result),
        accuracy=[asdict(row) for row in analysis.accuracy],
        accuracy_text=_accuracy_text(result),
        labelers=[{**row, "bar": _BAR_REM * row["weight"] / heaviest} for row in shown],
        labelers_text=_labelers_text(result),
        equal_weight=1.0 / annotations.n_labelers,
        n_hidden=max(0, annotations.n_labelers - _TABLE_ROWS),
        has_patterns=bool(analysis.flags),
        has_bonus=analysis.bonus_text is not None,
        bonus_text=analysis.bonus_text,
        has_gains=analysis.gains_text is not None,
        gains_text=analysis.gains_text,
        flags=analysis.flags,
        alpha_text=_alpha_text(analysis.alpha),
        has_heatmap="agreement" in images,
        has_calibration="calibration" in images,
        has_weights="weights" in images,
        weights_text=_weights_text(result),
        claims=_claims(result),
        provenance=provenance,
    )
    path = out / "report.html"
    write_text_atomically(path, page)
    return path


def facts(result: CampaignResult) -> dict[str, int]:
    """Return the sizes of a campaign."""
    annotations = result.annotations
    return {
        "pairs": annotations.n_pairs,
        "labelers": annotations.n_labelers,
        "reports": len(annotations.report),
        "known_outcomes": int((~np.isnan(annotations.outcome)).sum()),
        "audited_pairs": int((~np.isnan(result.revealed)).sum()),
    }


def figures_of(result: CampaignResult) -> dict[str, bytes]:
    """Return the figures of a campaign that has reports, name -> PNG bytes; what cannot be drawn yet is left out."""
    annotations = result.annotations
    labels = result.soft_labels[~np.isnan(result.soft_labels)]
    images = {"soft_labels": figures.soft_label_histogram(np.maximum(labels, 1.0 - labels))}
    if annotations.n_labelers > 1:
        shown, agreement = agreement_matrix(annotations)
        if len(shown) > 1:
            images["agreement"] = figures.agreement_heatmap([annotations.labeler_ids[i] for i in shown], agreement)
    if np.ptp(result.history, axis=0).max() > 0:
        images["weights"] = figures.weights_over_time(result.history_rounds, result.history, annotations.labeler_ids)
    if panels := _calibration(result):
        images["calibration"] = figures.calibration_panels(*zip(*panels, strict=True))
    return images


def _calibration(result: CampaignResult) -> list[tuple[str, Any]]:
    annotations = result.annotations
    outcome = result.revealed[annotations.round_of_report]
    scored = ~np.isnan(outcome)
    weights = annotations.outcome_weights
    heavy = np.ones(len(outcome)) if weights is None else weights[annotations.round_of_report]
    counts = np.bincount(annotations.labeler[scored], minlength=annotations.n_labelers)
    panels = []
    for i in np.argsort(-counts, kind="stable")[:_CALIBRATION_LABELERS]:
        if counts[i] >= _CALIBRATION_REPORTS:
            own = scored & (annotations.labeler == i)
            panels.append((annotations.labeler_ids[i], reliability(annotations.report[own], outcome[own], heavy[own])))
    return panels


# ---- sentences


def setting_text(result: CampaignResult) -> str:
    """Return the rule, its options, and the kind of labels."""
    settings = result.settings
    options = "".join(f", {name}={value}" for name, value in sorted(settings.options.items()))
    topics = ", weights per topic" if settings.per_topic else ""
    how = f"Rule {result.rule.name}{options}{topics}; {settings.labels} labels"
    return f"{how}; audit rate {settings.audit_rate:g}; seed {settings.seed}."


def soft_label_text(result: CampaignResult) -> str:
    """Return what the exported labels have seen of the outcomes."""
    if result.settings.labels == "online":
        return "Every label was stated before its pair's outcome was used (online labels)."
    if result.settings.labels in ("reweighted", "recalibrated"):
        moved = ["the weights"] if learns_online(result.rule.name) else []
        moved += ["how sure all labels are"] if result.settings.labels == "recalibrated" else []
        return (
            f"{result.settings.labels.capitalize()} labels: every pair, audited or not, has the label that the rule "
            f"gives it in the end; outcomes move {' and '.join(moved) or 'nothing'}. Accuracy can only be measured on "
            "pairs that were not audited."
        )
    if learns_online(result.rule.name):
        return (
            "Final labels: every pair is aggregated again with the last weights, and an audited pair is labeled with "
            "its outcome. They are the better training data; their accuracy can only be measured on pairs that were "
            "not audited."
        )
    return "The rule does not learn from outcomes; an audited pair is labeled with its outcome."


def _accuracy_text(result: CampaignResult) -> str:
    known = ~np.isnan(result.annotations.outcome)
    if (known & np.isnan(result.revealed)).any():
        return (
            "Measured on the outcomes that were kept from the rule (chosen at random before anything was aggregated). "
            "The plain rules are measured on the same pairs; the shaded row is what was exported."
        )
    return (
        "Every known outcome was revealed to the rule, so only labels stated before their outcome can be measured "
        "(online labels). Run again with --audit-rate 0.5 to measure the final labels on outcomes that the rule never "
        "saw."
    )


def _labelers_text(result: CampaignResult) -> str:
    if learns_online(result.rule.name):
        return (
            "Sorted by weight. A labeler gains weight by being closer to the revealed outcomes than the others on the "
            "same pairs, and keeps its weight on pairs that it did not judge."
        )
    if fits_all_at_once(result.rule.name):
        return "Sorted by weight, which for this rule comes from agreement with its own consensus, not from outcomes."
    return "The rule gives every report the same influence whatever its labeler's record."


def _weights_text(result: CampaignResult) -> str:
    n = int((~np.isnan(result.revealed)).sum())
    return f"Weights move only on the {n:,} rounds with a revealed outcome, among the labelers who judged that pair."


def _alpha_text(alpha: tuple[float, float, float]) -> str:
    value, low, high = alpha
    if math.isnan(value):
        return "Krippendorff's alpha is undefined: too few pairs have two reports, or all reports are equal."
    meaning = "substantial" if value >= 0.667 else "moderate" if value >= 0.4 else "low"
    return (
        f"Krippendorff's alpha (interval data): {value:.2f}, 95 % interval [{low:.2f}, {high:.2f}], {meaning} "
        "agreement. 1 is perfect, 0 is what chance gives. Agreement is not truth: a panel can agree on a shared "
        "mistake."
    )


def _claims(result: CampaignResult) -> list[str]:
    claims = []
    if result.rule.name == "online_weighted":
        claims.append(
            "Reporting one's belief exactly maximises a labeler's expected weight in the next round, for every belief "
            f"and whatever the others report, {_condition(result)}. For labelers who look further ahead or care about "
            "the labels themselves, the gain from lying is only measured. Whoever can tell which pairs are audited "
            "can lie on the others."
        )
    elif learns_online(result.rule.name):
        claims.append(
            f"The rule {result.rule.name} is not exactly truthful for the next-round weight; online_weighted is."
        )
    else:
        claims.append(f"The rule {result.rule.name} gives labelers no reason to report truthfully.")
    if np.isnan(result.annotations.outcome).all():
        claims.append("Without outcomes there is no ground truth: nothing here says who is right, only who agrees.")
    claims.append(
        "Outcomes are taken as the truth and one truth is assumed: where tastes legitimately differ, weighting by "
        "accuracy silences minorities."
    )
    claims.append("Figures describe this campaign; a labeler's past accuracy need not hold on other kinds of pairs.")
    return claims


def _condition(result: CampaignResult) -> str:
    """Return the condition of the theorem as it holds for this campaign's audits."""
    design = result.annotations.audit_design
    if design is None:
        return "if whether a pair was audited did not depend on its reports (audit-plan --design uniform)"
    if np.isnan(design.floor[~np.isnan(result.revealed) & ~np.isnan(design.probability)]).any():
        return "approximately: audits are weighted by their chance, but the plan's audit_floor is not known"
    return "because audits are weighted by their chance"


def _without_nan(content: Any) -> Any:
    """Return JSON-able content with NaN as None."""
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    if isinstance(content, float) and math.isnan(content):
        return None
    return content
