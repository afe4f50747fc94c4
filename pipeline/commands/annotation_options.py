"""Options that ``aggregate`` and ``audit-plan`` share: how to read an annotation file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

if TYPE_CHECKING:
    from truthful_rlhf.labelers.recorded.table import Annotations

FileArgument = Annotated[str, typer.Argument(help="Annotation file, or hf://owner/name[:split].", show_default=False)]
FormatOption = Annotated[
    str, typer.Option(help="auto, long, crowdkit, argilla, labelstudio or mtbench; auto looks at the first record.")
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=SOURCE",
        help="Where a column of the annotation table (pair_id, prompt, response_a, response_b, labeler_id, report, "
        "outcome, round, topic) is found in the file. Repeatable.",
    ),
]
OrderOption = Annotated[
    str | None,
    typer.Option(
        help="Column with a number or a time: pairs go in the order of their last report. Default: file order."
    ),
]
TopicOption = Annotated[
    str | None, typer.Option(help="Column with each pair's topic: weights are kept per topic, audits are stratified.")
]
DuplicatesOption = Annotated[
    str, typer.Option(help="A labeler judged a pair twice: error refuses the file, last keeps the later report.")
]
PairsByTextOption = Annotated[
    bool,
    typer.Option("--pairs-by-text", help="Recognise pairs by prompt and responses (in either order), not by pair_id."),
]


def column_mapping(given: Sequence[str] | None, **shortcuts: str | None) -> dict[str, str]:
    """Return the column mapping of ``--column NAME=SOURCE`` options and of the options that name one column."""
    from truthful_rlhf.labelers.recorded.read import AnnotationError

    columns = {}
    for entry in given or ():
        name, equals, source = entry.partition("=")
        if not (name and equals and source):
            raise AnnotationError(f"--column {entry}: write NAME=SOURCE, for example --column labeler_id=annotator")
        columns[name] = source
    return columns | {name: source for name, source in shortcuts.items() if source is not None}


def read_with_progress(
    source: str, format: str, columns: dict[str, str], duplicates: str, pairs_by_text: bool
) -> Annotations:
    """Read annotations, with a progress bar where the size is known."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from truthful_rlhf.labelers.recorded.read import is_file
    from truthful_rlhf.labelers.recorded.table import read_annotations
    from truthful_rlhf.pipeline.storage.console import error_console

    total = os.path.getsize(source) if is_file(source) and os.path.isfile(source) else None
    shown = [TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn()]
    with Progress(*shown, console=error_console, transient=True) as bar:
        task = bar.add_task("reading", total=total)
        return read_annotations(
            source,
            format=format,
            columns=columns,
            duplicates=duplicates,  # type: ignore[arg-type]  # checked there
            pairs_by_text=pairs_by_text,
            progress=lambda n: bar.advance(task, n),
        )


def rule_options(given: list[str] | None, eta: float | None) -> dict[str, Any]:
    """Return the options of a rule from ``NAME=VALUE`` texts, whose values are YAML, and from ``--eta``.

    Raises:
        AnnotationError: not of that form, not YAML, or an option given twice.
    """
    from truthful_rlhf.labelers.recorded.read import AnnotationError

    options: dict[str, Any] = {} if eta is None else {"eta": eta}
    for text in given or []:
        name, separator, value = text.partition("=")
        if not separator or not name.isidentifier():
            raise AnnotationError(f"--option {text}: expected NAME=VALUE, such as --option eta=0.3")
        if name in options:
            raise AnnotationError(f"--option {name} is given twice")
        try:
            options[name] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise AnnotationError(f"--option {text}: the value is not valid YAML") from error
    return options
