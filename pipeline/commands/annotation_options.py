"""Options that ``aggregate``, ``audit-plan`` and ``audit`` share: how to read an annotation file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

if TYPE_CHECKING:
    from truthful_rlhf.labelers.recorded.reading import Reading
    from truthful_rlhf.labelers.recorded.table import Annotations

FileArgument = Annotated[str, typer.Argument(help="Annotation file, or hf://owner/name[:split].", show_default=False)]
FormatOption = Annotated[
    str,
    typer.Option(
        help="The tool that wrote the file; auto looks at the first records. Wrong names list the valid ones."
    ),
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=SOURCE",
        help="Where a column of the annotation table (pair_id, prompt, response_a, response_b, labeler_id, report, "
        "outcome, round, topic) is found in the file. Repeatable.",
    ),
]
GoldOption = Annotated[
    str | None, typer.Option(help="Column with the known outcomes (1 or A: A is better). Default: outcome.")
]
OrderOption = Annotated[
    str | None,
    typer.Option(
        help="Column with a number or a time: pairs go in the order of their last report. Default: file order."
    ),
]
TopicOption = Annotated[
    str | None,
    typer.Option(
        help="Column with each pair's topic: weights are kept per topic, audits are stratified. A pair with several "
        "topics becomes one pair per topic."
    ),
]
DuplicatesOption = Annotated[
    str,
    typer.Option(
        help="A labeler judged a pair twice: error refuses the file, last keeps the later report (by --order or the "
        "tool's own time), mean averages them."
    ),
]
VoteOption = Annotated[
    list[str] | None,
    typer.Option(metavar="CODE=A|B|tie|none", help="What a code of the report column means. Repeatable."),
]
OutcomeVoteOption = Annotated[
    list[str] | None,
    typer.Option(metavar="CODE=A|B|none", help="What a code of the outcome column means. Repeatable."),
]
ScaleOption = Annotated[
    str | None,
    typer.Option(
        metavar="LOW:HIGH",
        help="Reports are on a graded scale with these ends: P(A) = 1/(1 + 19^-x), x from -1 to 1. Needs --low.",
    ),
]
LowOption = Annotated[str | None, typer.Option(metavar="A|B", help="Which response the low end of --scale prefers.")]
OneHotOption = Annotated[
    list[str] | None,
    typer.Option(metavar="A=COLUMN", help="Column that is 1 where A was chosen; also for B and tie. Repeatable."),
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN=VALUE", help="Read only these rows; * stands for any value. Repeatable."),
]
PairsByTextOption = Annotated[
    bool,
    typer.Option("--pairs-by-text", help="Recognise pairs by prompt and responses (in either order), not by pair_id."),
]


def column_mapping(given: Sequence[str] | None, **shortcuts: str | None) -> dict[str, str]:
    """Return the column mapping of ``--column NAME=SOURCE`` options and of the options that name one column."""
    from truthful_rlhf.labelers.recorded.errors import AnnotationError

    columns = {}
    for entry in given or ():
        name, equals, source = entry.partition("=")
        if not (name and equals and source):
            raise AnnotationError(f"--column {entry}: write NAME=SOURCE, for example --column labeler_id=annotator")
        columns[name] = source
    return columns | {name: source for name, source in shortcuts.items() if source is not None}


def code_options(
    vote: Sequence[str] | None,
    outcome_vote: Sequence[str] | None,
    one_hot: Sequence[str] | None,
    only: Sequence[str] | None,
) -> dict[str, dict[str, str]]:
    """Return what ``CODE=MEANING`` options say, as `read_annotations` takes it."""
    from truthful_rlhf.labelers.recorded.codes import parse_pairs

    return {
        "votes": parse_pairs(vote, "--vote", "CODE=A, CODE=B, CODE=tie or CODE=none", at_last=True),
        "outcome_votes": parse_pairs(outcome_vote, "--outcome-vote", "CODE=A, CODE=B or CODE=none", at_last=True),
        "one_hot": parse_pairs(one_hot, "--one-hot", "A=COLUMN, B=COLUMN or tie=COLUMN"),
        "only": parse_pairs(only, "--only", "COLUMN=VALUE"),
    }


def read_with_progress(source: str, **options: Any) -> Annotations:
    """Read annotations, with a progress bar where the size is known; ``options`` are those of `read_annotations`."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from truthful_rlhf.labelers.recorded.files.source import is_file
    from truthful_rlhf.labelers.recorded.table import read_annotations
    from truthful_rlhf.pipeline.storage.console import error_console

    total = os.path.getsize(source) if is_file(source) and os.path.isfile(source) else None
    shown = [TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn()]
    with Progress(*shown, console=error_console, transient=True) as bar:
        task = bar.add_task("reading", total=total)
        return read_annotations(source, progress=lambda n: bar.advance(task, n), **options)


def print_reading(reading: Reading) -> None:
    """Print what was read, before anything is made of it."""
    from truthful_rlhf.pipeline.storage.console import console, print_table, shown

    console.print(shown(f"Read {reading.source} ({reading.format} format): {reading.summary}."), soft_wrap=True)
    rows = [(value.column, value.value, value.meaning, f"{value.rows:,}") for value in reading.values]
    print_table("What the values were taken to mean", ("column", "value", "taken to mean", "rows"), rows, n_text=3)
    console.print(shown(f"Example: {reading.example}"), soft_wrap=True)
    for note in reading.notes:
        console.print(shown(f"Note: {note}"), style="yellow", soft_wrap=True)


def rule_options(given: list[str] | None, eta: float | None) -> dict[str, Any]:
    """Return the options of a rule from ``NAME=VALUE`` texts, whose values are YAML, and from ``--eta``.

    Raises:
        AnnotationError: not of that form, not YAML, or an option given twice.
    """
    from truthful_rlhf.labelers.recorded.errors import AnnotationError

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
