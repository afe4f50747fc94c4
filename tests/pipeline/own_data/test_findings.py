"""The sentences that a stranger reads first, from tables made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from truthful_rlhf.pipeline.own_data.estimates import Interval
from truthful_rlhf.pipeline.own_data.findings import findings
from truthful_rlhf.pipeline.own_data.summary import LONGER, Row, Table

LONGEST = Row(LONGER, None, True, accuracy=Interval(0.55, 0.45, 0.65))
MEAN = Row("mean", "dpo", False, accuracy=Interval(0.60, 0.50, 0.70))
BETTER = Row(
    *("logistic", "dpo", False),
    accuracy=Interval(0.72, 0.62, 0.81),
    ahead=Interval(0.12, 0.04, 0.20),
    p_value=0.01,
    differing=0.2,
)


def said(*rows: Row, n: int = 90, n_pairs: int = 400, seeds: int = 1, audited: float = 0.2) -> tuple[str, str]:
    table = Table((LONGEST, *rows), n, float(n), n // 2, seeds, None)
    found = findings(table, "mean", n_pairs, audited)
    assert found.is_shown == (not found.verdict.startswith("Nothing"))
    return found.verdict, " ".join(found.sentences)


def test_a_rule_that_was_shown_to_be_better() -> None:
    verdict, rest = said(MEAN, BETTER)
    assert verdict == (
        "Use logistic: its policy was right on 72% of the held-out verdicts,"
        " +12 points [+4, +20] against the plain mean."
    )
    assert "more" not in rest.replace("more than", "")


def test_a_difference_that_was_not_shown_says_how_many_more_audits_would_show_it() -> None:
    """8 * 0.2 / 0.12^2 = 111.1: 112 verdicts, 22 more than 90."""
    verdict, rest = said(MEAN, replace(BETTER, p_value=0.06))
    assert verdict.startswith("Nothing was shown")
    assert verdict.endswith("The highest was logistic, +12 points [+4, +20].")
    assert "12 points, takes 112 verdicts: audit 22 more pairs." in rest
    assert "there are now" in said(MEAN, replace(BETTER, p_value=0.06), n_pairs=100)[1]


def test_rules_that_do_worse_leave_the_mean() -> None:
    worse = replace(BETTER, ahead=Interval(-0.1, -0.2, -0.02), accuracy=Interval(0.5, 0.4, 0.6))
    assert said(MEAN, worse)[0].startswith("Keep the plain mean: logistic (-10 points) did worse")


def test_two_better_rules_are_not_ranked() -> None:
    verdict, _ = said(MEAN, BETTER, replace(BETTER, rule="gold_vote", ahead=Interval(0.1, 0.02, 0.18)))
    assert verdict.startswith("Use logistic")
    assert "gold_vote beat it as well; which of these is best was not tested." in verdict


def test_the_mean_alone_is_no_comparison() -> None:
    assert said(MEAN, replace(MEAN, method="best_of_n"))[0] == "Nothing was compared: mean stands alone."


def test_no_training_that_beats_length_is_said() -> None:
    long = replace(LONGEST, accuracy=Interval(0.8, 0.7, 0.9))
    table = Table((long, MEAN, BETTER), 90, 90.0, 45, 1, None)
    assert "No training beat the longer response (80% right" in " ".join(findings(table, "mean", 400, 0.2).sentences)
    assert "No training beat" not in said(MEAN, BETTER)[1]


@pytest.mark.parametrize(("audited", "warns"), [(1.0, True), (0.5, False)])
def test_rules_that_saw_everything_are_mentioned(audited: float, warns: bool) -> None:
    assert ("can hardly differ" in said(MEAN, BETTER, audited=audited)[1]) == warns


def test_one_seed_is_mentioned_and_three_are_not() -> None:
    assert "One seed" in said(MEAN, BETTER)[1]
    assert "One seed" not in said(MEAN, BETTER, seeds=3)[1]
