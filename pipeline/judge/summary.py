"""A jury in figures: how each judge answered, how right it was, and which judges to drop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.statistics import hits, krippendorff_alpha, wilson_interval
from truthful_rlhf.labelers.judges.answers import Answers
from truthful_rlhf.labelers.judges.usage import cost_of
from truthful_rlhf.labelers.pairs import Pairs
from truthful_rlhf.pipeline.judge.journal import Entry, Journal, Spent, outcomes_of
from truthful_rlhf.pipeline.judge.jury import Juror

MOST_BIAS = 0.25
"""Mean excess of the place shown first beyond which a judge is said to look at the place."""
LEAST_MASS = 0.3
"""Mean probability on the answer below which a judge is said not to answer."""
SAME_VOICE = 0.95
"""Correlation of reports from which two judges are said to be one voice."""
_FEWEST = 10
"""Pairs that two judges must share before their correlation is mentioned."""


@dataclass(frozen=True)
class JudgeSummary:
    """One judge, about one aspect; None where a figure has no meaning."""

    labeler_id: str
    aspect: str
    asked: int
    answered: int
    abstained: int
    ties: int
    cut: int
    position_bias: float | None
    """Mean excess of the place shown first, in [-1/2, 1/2]."""
    changes_with_order: float | None
    """Share of pairs whose winner changes when the responses change places."""
    mass: float | None
    """Mean probability that the model gave to what was read as its answer."""
    agreement: float | None
    """Share of pairs on which it takes the side of the mean of the others; a tie is half."""
    outcomes: int
    """Pairs with a known outcome that it judged."""
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    requests: int
    tokens: int
    seconds: float
    cost: float | None
    why_not: str
    """The most frequent reason for abstaining."""
    advice: str


def summarise(
    jurors: Sequence[Juror], pairs: Pairs, outcome: FloatArray, journal: Journal
) -> tuple[list[JudgeSummary], list[str]]:
    """Return every judge in figures, and what is to be said of the jury.

    Args:
        jurors: who judged.
        pairs: all n pairs.
        outcome: 1 A better, 0 B better, NaN not known, shape ``(n,)``.
        journal: what was said.
    """
    rows: list[JudgeSummary] = []
    findings: list[str] = []
    for aspect in dict.fromkeys(juror.aspect for juror in jurors):
        here = [juror for juror in jurors if juror.aspect == aspect]
        said = [journal.of(juror, pairs.pair_id) for juror in here]
        reports = np.array(
            [journal.reports(juror, pairs.pair_id, outcomes_of(juror, outcome)) for juror in here]
        ).reshape(len(here), len(pairs))
        for k, juror in enumerate(here):
            spent = journal.spent.get((juror.labeler_id, juror.aspect), Spent())
            rows.append(_of_judge(juror, said[k], reports, k, outcome, spent))
        findings += _of_jury(aspect, [juror.labeler_id for juror in here], reports)
    return rows, findings


def _number(entry: Entry | None, name: str) -> float:
    value = None if entry is None else getattr(entry, name)
    return np.nan if value is None else float(value)


def _of_judge(
    juror: Juror, said: list[Entry | None], reports: FloatArray, k: int, outcome: FloatArray, spent: Spent
) -> JudgeSummary:
    own = reports[k]
    asked = [entry for entry in said if entry is not None]
    a_first, b_first, mass = (
        np.array([_number(entry, name) for entry in said]) for name in ("a_first", "b_first", "mass")
    )
    places = Answers(own, a_first, b_first, mass, [], [])
    both = ~np.isnan(a_first + b_first)
    changes = (a_first > 0.5) == (b_first > 0.5)
    judged = ~np.isnan(own)
    known = judged & ~np.isnan(outcome)
    accuracy, low, high = _accuracy(own[known], outcome[known])
    reasons = Counter(entry.note for entry in asked if entry.report is None and entry.note)
    figures: dict[str, Any] = {
        "asked": len(asked),
        "answered": int(judged.sum()),
        "abstained": len(asked) - int(judged.sum()),
        "ties": int((own == 0.5).sum()),
        "cut": sum(entry.cut for entry in asked),
        "position_bias": _known(places.position_bias),
        "changes_with_order": _known(float(changes[both].mean())) if both.any() else None,
        "mass": _known(float(np.nanmean(mass))) if (~np.isnan(mass)).any() else None,
        "agreement": _agreement(reports, k),
        "outcomes": int(known.sum()),
        "accuracy": accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "why_not": reasons.most_common(1)[0][0] if reasons else "",
    }
    tokens = spent.prompt_tokens + spent.completion_tokens
    prices = (juror.spec.price_in, juror.spec.price_out)
    return JudgeSummary(
        juror.labeler_id,
        juror.aspect,
        **figures,
        requests=spent.requests,
        tokens=tokens,
        seconds=round(spent.seconds, 1),
        cost=cost_of(spent.prompt_tokens, spent.completion_tokens, prices),
        advice=advice(figures),
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)


def _accuracy(reports: FloatArray, outcomes: FloatArray) -> tuple[float | None, float | None, float | None]:
    if not len(reports):
        return None, None, None
    right = float(hits(reports, outcomes).mean())
    low, high = wilson_interval(right, len(reports))
    return round(right, 4), round(float(low), 4), round(float(high), 4)


def _agreement(reports: FloatArray, k: int) -> float | None:
    """Return how often a judge takes the side of the mean of the others, where these take one."""
    others = np.delete(reports, k, axis=0)
    present = (~np.isnan(others)).sum(axis=0)
    mean = np.nansum(others, axis=0) / np.maximum(present, 1)
    use = (present > 0) & (mean != 0.5) & ~np.isnan(reports[k])
    if not use.any():
        return None
    return round(float(hits(reports[k][use], (mean[use] > 0.5).astype(np.float64)).mean()), 4)


def advice(figures: Mapping[str, Any]) -> str:
    """Return what to do with a judge: its outcomes decide, and without any what its answers look like.

    Args:
        figures: fields of a `JudgeSummary`.

    Examples:
        >>> known = {"answered": 50, "abstained": 0, "accuracy": 0.8, "accuracy_low": 0.67, "accuracy_high": 0.89}
        >>> advice(known)
        'keep'
        >>> advice(known | {"accuracy": 0.3, "accuracy_low": 0.19, "accuracy_high": 0.44})
        'drop: worse than a coin'
        >>> advice(known | {"accuracy": 0.55, "accuracy_low": 0.41, "accuracy_high": 0.68})
        'no better than a coin so far: drop, or audit more pairs'
    """
    if not figures["answered"]:
        return "drop: never answered"
    low, high = figures.get("accuracy_low"), figures.get("accuracy_high")
    if low is not None and high is not None:
        if high < 0.5:
            return "drop: worse than a coin"
        return "keep" if low > 0.5 else "no better than a coin so far: drop, or audit more pairs"
    if figures["abstained"] > figures["answered"]:
        return "look: answers fewer than half of the pairs"
    bias, mass = figures.get("position_bias"), figures.get("mass")
    if bias is not None and abs(bias) > MOST_BIAS:
        return "look: prefers a place, not a response"
    if mass is not None and mass < LEAST_MASS:
        return "look: mostly says something else than an answer"
    return "audit some pairs to know"


def _of_jury(aspect: str, names: Sequence[str], reports: FloatArray) -> list[str]:
    """Return the agreement of a jury, and judges that are one voice."""
    about = f" on {aspect}" if aspect else ""
    judge, pair = np.nonzero(~np.isnan(reports))
    alpha, low, high = krippendorff_alpha(
        reports[judge, pair], pair, reports.shape[1], np.random.default_rng(0), n_resamples=200
    )
    found = []
    if not np.isnan(alpha):
        found.append(
            f"The judges{about} agree with Krippendorff's alpha {alpha:.2f} ({low:.2f} to {high:.2f}; 1 is full"
            " agreement, 0 is chance)."
        )
    for a in range(len(names)):
        for b in range(a + 1, len(names)):
            both = ~np.isnan(reports[a] + reports[b])
            x, y = reports[a][both], reports[b][both]
            if both.sum() < _FEWEST or x.std() == 0.0 or y.std() == 0.0:
                continue
            correlation = float(np.corrcoef(x, y)[0, 1])
            if correlation >= SAME_VOICE:
                found.append(f"{names[a]} and {names[b]}{about} are nearly one voice (correlation {correlation:.2f}).")
    return found


def as_rows(summaries: Sequence[JudgeSummary]) -> list[dict[str, Any]]:
    """Return summaries as JSON-able data."""
    return [asdict(summary) for summary in summaries]
