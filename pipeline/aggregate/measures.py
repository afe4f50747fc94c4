"""What the report says about a campaign, as numbers and sentences: accuracy, labelers, flags, warnings, findings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from truthful_rlhf.aggregation import AGGREGATORS
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.game.campaigns import Objective
from truthful_rlhf.aggregation.game.recorded_gains import RecordedGain, gains_on_recorded
from truthful_rlhf.aggregation.rules import fits_all_at_once, learns_online
from truthful_rlhf.aggregation.statistics import krippendorff_alpha
from truthful_rlhf.pipeline.aggregate.accuracy import AccuracyRow, accuracy_table
from truthful_rlhf.pipeline.aggregate.campaign import CampaignResult
from truthful_rlhf.pipeline.aggregate.patterns import suspicious_patterns
from truthful_rlhf.pipeline.aggregate.profiles import labeler_profiles

_GAIN_LABELERS = 60
_GAIN_ROUNDS = 1000
_FEW_OUTCOMES = 30


@dataclass(frozen=True)
class Analysis:
    """Everything that the report shows; plain numbers and texts."""

    accuracy: list[AccuracyRow]
    labelers: list[dict[str, Any]]
    """One dict per labeler, heaviest first."""
    flags: list[dict[str, Any]]
    alpha: tuple[float, float, float]
    warnings: list[str]
    findings: list[str]
    bonus_text: str | None
    gains_text: str | None


def analyse(
    result: CampaignResult, on_labeler: Callable[[int], None] = lambda labeler: None, with_gains: bool = True
) -> Analysis:
    """Measure a campaign.

    Args:
        result: of the campaign.
        on_labeler: told of every labeler whose incentives have been audited.
        with_gains: whether to search for what lying would have brought, which takes the longest.
    """
    annotations = result.annotations
    rng = np.random.default_rng([result.settings.seed, 1])
    names = annotations.labeler_ids
    flags = [
        {"labeler_id": names[f.labeler], "pattern": f.pattern, "evidence": f.evidence, "p_value": f.p_value}
        for f in suspicious_patterns(annotations, result.revealed)
    ]
    accuracy = accuracy_table(result)
    audited = bool((~np.isnan(result.revealed)).any())
    alpha = krippendorff_alpha(annotations.report, annotations.round_of_report, annotations.n_pairs, rng)
    gains = _gains(result, rng, on_labeler) if with_gains else {}
    paid = result.payouts if learns_online(result.rule.name) and audited else None
    return Analysis(
        accuracy=accuracy,
        labelers=_labeler_rows(result, flags, gains, paid),
        flags=flags,
        alpha=alpha,
        warnings=[*_warnings(result), *_alpha_warning(alpha)],
        findings=_findings(result, accuracy, flags),
        bonus_text=_BONUS_TEXT if paid is not None else None,
        gains_text=_gains_text(result, gains),
    )


_BONUS_TEXT = (
    "the sum over audited pairs of weight × (own score − weighted mean score of those present), in thousandths. "
    "Pay-outs of a round sum to 0 over the labelers, so a bonus proportional to them on top of equal base pay never "
    "costs more than the base pay, and reporting one's belief maximises its expectation."
)


def _gains(
    result: CampaignResult, rng: np.random.Generator, on_labeler: Callable[[int], None]
) -> dict[int, RecordedGain]:
    """Return what the labelers with the most scored reports could have gained, for a rule that learns."""
    audited = np.flatnonzero(~np.isnan(result.revealed))
    if not learns_online(result.rule.name) or len(audited) < _FEW_OUTCOMES:
        return {}
    audited = audited[:_GAIN_ROUNDS]
    annotations = result.annotations
    reports = annotations.matrix(audited)
    counts = (~np.isnan(reports)).sum(axis=0)
    chosen = np.argsort(-counts, kind="stable")[:_GAIN_LABELERS]
    # Labelers without a report here cannot change anything: leaving them out makes the audit faster.
    present = np.flatnonzero(counts > 0)
    columns = np.searchsorted(present, [i for i in chosen if counts[i] > 0])
    counts_for_rule = result.rule.sample_weights(annotations.audit_design, ~np.isnan(result.revealed))
    gains = gains_on_recorded(
        reports[:, present],
        result.revealed[audited],
        result.rule.make,
        Objective("influence"),
        rng=rng,
        labelers=[int(c) for c in columns],
        sample_weights=None if counts_for_rule is None else counts_for_rule[audited],
        on_labeler=on_labeler,
    )
    return {int(present[g.labeler]): g for g in gains if not np.isnan(g.gain)}


def _gains_text(result: CampaignResult, gains: dict[int, RecordedGain]) -> str | None:
    if not gains:
        return None
    return (
        "how much more influence (mean weight over the campaign) the labeler would have had with the best constant "
        "exaggeration, shading, shift or flip of all its reports, the others unchanged; chosen on random halves of the "
        "audited pairs and measured on the other halves (range over halves in brackets). Around or below 0: nothing to "
        "gain. A gain by shading is overconfidence: better calibration would have earned it honestly. Measured for the "
        f"{len(gains)} labelers with the most scored reports, on the first {_GAIN_ROUNDS:,} audited pairs at most; a "
        "lower bound, since cleverer lies were not tried."
    )


def _labeler_rows(
    result: CampaignResult, flags: list[dict[str, Any]], gains: dict[int, RecordedGain], paid: FloatArray | None
) -> list[dict[str, Any]]:
    profiles = labeler_profiles(result.annotations, result.revealed)
    columns = {name: getattr(profiles, name).tolist() for name in profiles.__dataclass_fields__}
    patterns: dict[str, list[str]] = {}
    for flag in flags:
        known = patterns.setdefault(flag["labeler_id"], [])
        if flag["pattern"] not in known:
            known.append(flag["pattern"])
    rows = []
    for i in np.argsort(-result.weights, kind="stable").tolist():
        name = result.annotations.labeler_ids[i]
        gain = gains.get(i)
        row = {"labeler_id": name, "weight": float(result.weights[i])}
        row |= {key: values[i] for key, values in columns.items()}
        row["bonus"] = None if paid is None else 1000.0 * float(paid[i])
        row |= {
            "gain": None if gain is None else gain.gain,
            "gain_low": None if gain is None else gain.low,
            "gain_high": None if gain is None else gain.high,
        }
        row["patterns"] = patterns.get(name, [])
        rows.append(row)
    return rows


def _warnings(result: CampaignResult) -> list[str]:
    annotations = result.annotations
    warnings = []
    known = int((~np.isnan(annotations.outcome)).sum())
    audited = int((~np.isnan(result.revealed)).sum())
    if known == 0:
        batch_rules = ", ".join(filter(fits_all_at_once, AGGREGATORS))
        ignored = f" The rule {result.rule.name} learns from outcomes: here it equals its starting weights." * (
            learns_online(result.rule.name)
        )
        warnings.append(
            "No outcome is known. Who is accurate, whether the majority is right and what a liar could gain cannot be "
            f"known from reports alone; only agreement can.{ignored} The batch rules ({batch_rules}) "
            "estimate reliability from agreement: they help when errors are independent, and do harm when many "
            "labelers share a mistake. Auditing a few pairs is worth more: truthful-rlhf audit-plan FILE --budget 50 "
            "draws the ones that would teach most."
        )
    elif audited < _FEW_OUTCOMES and learns_online(result.rule.name):
        warnings.append(
            f"Only {audited} pairs are audited: the weights rest on few outcomes and the labelers' figures are "
            "wide. truthful-rlhf audit-plan FILE --budget 50 draws the pairs whose outcome would teach most."
        )
    if not annotations.has_texts:
        warnings.append(
            "The source has no prompts or responses: soft labels are given by pair_id, and no TRL data set is written."
        )
    unjudged = int((np.diff(annotations.start) == 0).sum())
    if unjudged:
        warnings.append(f"{unjudged:,} pairs have no report (every labeler abstained) and get no soft label.")
    return warnings


def _alpha_warning(alpha: tuple[float, float, float]) -> list[str]:
    """Return a warning if labelers contradict each other more than chance would."""
    if not alpha[2] < 0.0:
        return []
    return [
        f"Labelers contradict each other more than chance would: alpha's interval [{alpha[1]:.2f}, {alpha[2]:.2f}] "
        "lies below 0. Often the two responses change places between the rows of one pair (map response_a and "
        "response_b), or the column that tells pairs apart is another one (pair_id)."
    ]


def _findings(result: CampaignResult, accuracy: list[AccuracyRow], flags: list[dict[str, Any]]) -> list[str]:
    findings = []
    chosen = next((row for row in accuracy if row.chosen), None)
    mean = next((row for row in accuracy if row.name == "mean"), None)
    if chosen is not None and mean is not None:
        rule, _, kind = chosen.name.partition(", ")
        sentence = f"The {kind} labels of {rule} are".replace("  ", " ")
        sentence += f" on the right side of {chosen.accuracy:.1%} of {chosen.n:,} pairs"
        if chosen is not mean:
            sentence += f", those of the plain mean of {mean.accuracy:.1%}"
        findings.append(f"{sentence}.")
    who = len({flag["labeler_id"] for flag in flags})
    noun = "labelers show" if who > 1 else "labeler shows"
    findings.append(f"{who or 'No'} {noun} a suspicious pattern.")
    return findings
