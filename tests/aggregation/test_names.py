"""Errors about names: the nearest valid one is named, and nothing is where nothing is near."""

import pytest

from truthful_rlhf.aggregation.names import closest, nearest, unknown

RULES = ("mean", "median", "online_weighted")


@pytest.mark.parametrize(
    ("given", "expected"), [("meen", "mean"), ("online_wieghted", "online_weighted"), ("median", "median")]
)
def test_a_slip_of_the_finger_is_answered_with_what_was_meant(given: str, expected: str) -> None:
    assert closest(given, RULES) == expected
    assert nearest(given, RULES) == f" (did you mean {expected!r}?)"
    assert unknown("rule", given, RULES) == (
        f"unknown rule {given!r}: did you mean {expected!r}? valid: mean, median, online_weighted"
    )


@pytest.mark.parametrize("given", ["", "xyz", "kl"])
def test_what_is_like_nothing_gets_no_suggestion(given: str) -> None:
    assert closest(given, RULES) is None
    assert nearest(given, RULES) == ""
    assert unknown("rule", given, RULES) == f"unknown rule {given!r}: valid: mean, median, online_weighted"


def test_where_nothing_is_valid_the_error_says_so() -> None:
    assert unknown("option of rule 'mean':", "eta", []) == "unknown option of rule 'mean': 'eta': valid: none"
