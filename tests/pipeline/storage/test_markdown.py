"""Markdown tables hold what they are given, whatever it looks like."""

from __future__ import annotations

import re

import pytest

from truthful_rlhf.pipeline.storage.markdown import markdown_table, markdown_text


def cells_of(line: str) -> list[str]:
    """Split a row as a Markdown viewer does: at every bar that is not escaped."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


@pytest.mark.parametrize("name", ["a|b", "||", "two\nlines", "<b>bold</b>", "[text](http://x)"])
def test_a_name_stays_in_its_cell(name: str) -> None:
    lines = markdown_table(["labeler", "weight"], [[name, "0.5"]]).splitlines()
    assert len(lines) == 3
    assert [len(cells_of(line)) for line in lines] == [2, 2, 2]
    assert cells_of(lines[2])[1] == "0.5"
    assert "<b>" not in lines[2]
    assert "](" not in lines[2]


def test_the_check_sees_a_bar_that_is_not_escaped() -> None:
    assert len(cells_of("| a|b | 0.5 |")) == 3


def test_text_is_left_and_numbers_are_right() -> None:
    assert markdown_table(["panel", "rule", "gap"], [], n_text=2).splitlines()[1] == "| --- | --- | ---: |"


def test_plain_text_stays_as_it_is() -> None:
    assert markdown_text("gap [95 %] ± 0.1 – 3 * 4") == "gap [95 %] ± 0.1 – 3 * 4"
