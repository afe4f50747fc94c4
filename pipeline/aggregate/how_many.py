"""How many more audits an annotation file needs, in a sentence: for labels, or for one labeler's accuracy."""

from __future__ import annotations

import math

import numpy as np

from truthful_rlhf.aggregation.auditing.number import AuditNumber, audits_for_accuracy, audits_for_labels
from truthful_rlhf.aggregation.names import nearest
from truthful_rlhf.aggregation.statistics import effective_size, hits
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.table import Annotations

MOST_PAIRS = 2000
"""Labels are tried on a random part of larger campaigns: what audits teach does not depend on the number of pairs."""


def how_many_for_labels(annotations: Annotations, within: float, rng: np.random.Generator) -> str:
    """Return how many more audits bring the labels to at most ``within`` below the panel's best, in accuracy.

    Args:
        annotations: the campaign so far, with at least 5 known outcomes.
        within: accepted loss of accuracy, in (0, 1).
        rng: draws outcomes and orders of audits.
    """
    rounds, known = np.arange(annotations.n_pairs), ~np.isnan(annotations.outcome)
    if len(rounds) > MOST_PAIRS:
        others = rng.permutation(np.flatnonzero(~known))[: max(0, MOST_PAIRS - int(known.sum()))]
        rounds = np.sort(np.concatenate([np.flatnonzero(known)[:MOST_PAIRS], others]))
    try:
        number = audits_for_labels(annotations.matrix(rounds), annotations.outcome[rounds], within, rng)
    except ValueError as error:
        raise AnnotationError(f"{annotations.source}: {error}. Draw them: truthful-rlhf audit-plan FILE") from None
    goal = f"final labels of online_weighted are at most {within:g} below the best accuracy that they can have"
    return _sentence(number, goal, int((~known).sum()))


def how_many_for_labeler(annotations: Annotations, labeler: str, within: float) -> str:
    """Return how many more audits tell one labeler's accuracy to +- ``within``.

    Args:
        annotations: the campaign so far.
        labeler: its id.
        within: half-width of the 95 % interval, in (0, 1/2).
    """
    if labeler not in annotations.labeler_ids:
        near = nearest(labeler, annotations.labeler_ids)
        raise AnnotationError(f"{annotations.source}: --labeler {labeler}: nobody is called that{near}")
    own = annotations.labeler == annotations.labeler_ids.index(labeler)
    outcome = annotations.outcome[annotations.round_of_report[own]]
    known = ~np.isnan(outcome)
    n_left = int(np.isnan(annotations.outcome).sum())
    if not (~known).any():
        raise AnnotationError(f"{annotations.source}: every report of {labeler} is checked already")
    counts = annotations.outcome_weights
    heavy = np.ones(len(known)) if counts is None else counts[annotations.round_of_report[own]]
    right = hits(annotations.report[own][known], outcome[known])
    share = float(np.average(right, weights=heavy[known])) if known.any() else math.nan
    size = float(effective_size(heavy[known], np.zeros(int(known.sum()), dtype=np.int64), 1)[0]) if known.any() else 0.0
    try:
        number = audits_for_accuracy(share, size, float((~known).sum()) / n_left, within)
    except ValueError as error:
        raise AnnotationError(f"--accuracy-within {within:g}: {error}") from None
    return _sentence(number, f"the accuracy of {labeler} is known to +-{within:g}", n_left)


def _sentence(number: AuditNumber, goal: str, n_left: int) -> str:
    low, high = (f"{min(end, n_left):,.0f}" for end in (number.low, number.high))
    text = f"Until {goal}: about {min(number.estimate, n_left):,.0f} more audits, 95 % interval {low} to {high}"
    if number.high > n_left:
        text += f" (there are {n_left:,} pairs left, and they may not be enough)"
    return f"{text}."
