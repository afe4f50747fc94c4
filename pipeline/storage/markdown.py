"""Tables and lines of Markdown, with whatever could be taken for markup escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]], n_text: int = 1) -> str:
    """Return a Markdown table whose first ``n_text`` columns are text and whose others are numbers.

    Args:
        columns: headers, one per column.
        rows: the texts of the cells, one sequence per row.
        n_text: so many columns are aligned to the left, the others to the right.

    Examples:
        >>> print(markdown_table(["labeler", "weight"], [["a|b", "0.5"]]), end="")
        | labeler | weight |
        | --- | ---: |
        | a\\|b | 0.5 |
    """
    rule = ["---" if k < n_text else "---:" for k in range(len(columns))]
    lines = ([markdown_text(cell) for cell in cells] for cells in (columns, rule, *rows))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def markdown_text(text: str) -> str:
    """Return one line of text that no Markdown viewer takes for HTML, a link or the end of a table's cell."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|").replace("](", "]\\(")
