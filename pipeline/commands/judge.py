"""``truthful-rlhf judge``: pairs and a jury of LLM judges in, reports out."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from truthful_rlhf.pipeline.commands.annotation_options import (
    ColumnOption,
    FormatOption,
    GoldOption,
    LowOption,
    OneHotOption,
    OnlyOption,
    OutcomeVoteOption,
    PairsByTextOption,
    ScaleOption,
    TopicOption,
    VoteOption,
    code_options,
    column_mapping,
)
from truthful_rlhf.pipeline.storage.console import clear_errors, console, error_console, print_table, shown

if TYPE_CHECKING:
    from truthful_rlhf.pipeline.judge.job import Files
    from truthful_rlhf.pipeline.judge.journal import Journal
    from truthful_rlhf.pipeline.judge.jury import Juror
    from truthful_rlhf.pipeline.judge.pairs import PairFile
    from truthful_rlhf.pipeline.judge.summary import JudgeSummary

_EVERY = 10.0
"""Seconds between two lines of progress where there is no terminal."""


def judge(
    panel: Annotated[Path, typer.Option(help="The jury: a YAML file with entries of kind judge and remote_judge.")],
    file: Annotated[
        str | None,
        typer.Argument(help="Pairs: any file that aggregate reads, or that nobody has judged; not with --campaign."),
    ] = None,
    campaign: Annotated[
        str | None,
        typer.Option(
            metavar="LINK|FILE",
            help="Take part in a live campaign instead: the link of the panel's one judge, or a file with the lines"
            " that campaign init and invite print, where each judge finds its own.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The reports, a .jsonl file; answers and summary go beside it.")] = Path(
        "runs/reports.jsonl"
    ),
    rubric: Annotated[
        Path | None,
        typer.Option(help="What to judge by: a text file; or a .yaml file of aspects, each judged as a topic."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count requests and tokens, say what they cost, and stop.")
    ] = False,
    gold_column: GoldOption = None,
    topic_column: TopicOption = None,
    format: FormatOption = "auto",
    column: ColumnOption = None,
    vote: VoteOption = None,
    outcome_vote: OutcomeVoteOption = None,
    scale: ScaleOption = None,
    low: LowOption = None,
    one_hot: OneHotOption = None,
    only: OnlyOption = None,
    pairs_by_text: PairsByTextOption = False,
) -> None:
    """Have pairs judged by a jury of LLMs, local models and servers, without training anything.

    Writes one report per pair and judge to --out, which aggregate reads, and beside it every answer with its reason
    (.answers.jsonl) and the judges in figures (.summary.json). A run that was killed goes on where it was: the same
    command asks for nothing twice. A judge that cannot answer a pair abstains there, and is reported.

    With --campaign each judge is a labeler of a live campaign: it is given its pairs one by one, and its reports go to
    the campaign's server. Nothing is written here.

    Examples:

      truthful-rlhf judge pairs.jsonl --panel jury.yaml --dry-run

      truthful-rlhf judge pairs.jsonl --panel jury.yaml --out runs/jury/reports.jsonl

      truthful-rlhf judge pairs.csv --panel jury.yaml --rubric rubric.txt --gold-column expert

      truthful-rlhf judge pairs.jsonl --panel jury.yaml --rubric aspects.yaml --out runs/aspects.jsonl

      truthful-rlhf judge --panel jury.yaml --campaign links.txt
    """
    from truthful_rlhf.labelers.judges.server import JudgeError
    from truthful_rlhf.labelers.recorded.errors import AnnotationError
    from truthful_rlhf.pipeline.judge.job import Files
    from truthful_rlhf.pipeline.judge.journal import Journal, JournalError
    from truthful_rlhf.pipeline.judge.jury import JuryError, read_panel, read_rubric, seat
    from truthful_rlhf.pipeline.judge.pairs import read_pair_file

    if (file is None) == (campaign is None):
        raise typer.BadParameter("give either a file of pairs, or --campaign")
    with clear_errors(AnnotationError, JuryError, JournalError, JudgeError, OSError):
        if campaign is not None:
            _take_part(seat(read_panel(panel), read_rubric(rubric)), campaign)
            return
        found = read_pair_file(
            str(file),
            format=format,
            columns=column_mapping(column, outcome=gold_column, topic=topic_column),
            scale=scale,
            low=low,
            pairs_by_text=pairs_by_text,
            **code_options(vote, outcome_vote, one_hot, only),
        )
        console.print(shown(f"Read {found.source}: {found.summary}."), soft_wrap=True)
        jurors = seat(read_panel(panel), read_rubric(rubric))
        files = Files(out)
        journal = Journal(files.journal)
        if dry_run:
            _print_estimates(jurors, found, journal)
            return
        _judge_file(jurors, found, journal, files)


def _judge_file(jurors: Sequence[Juror], found: PairFile, journal: Journal, files: Files) -> None:
    """Have a jury judge the pairs of a file, write what it said, and say what each judge did."""
    from truthful_rlhf.pipeline.judge.job import judge_all, write_reports

    with journal.locked():
        waiting = sum(len(journal.waiting(juror, found.pairs)) for juror in jurors)
        with _progress(waiting, len(jurors) * len(found.pairs)) as tick:
            stopped = judge_all(jurors, found.pairs, journal, tick)
        written = write_reports(files, jurors, found, journal)
    _print_summary(jurors, found, journal, files)
    _print_stopped(stopped)
    if written:
        _print_next(files, jurors, found)
    if stopped or not written:
        raise typer.Exit(1)


def _take_part(jurors: Sequence[Juror], campaign: str) -> None:
    """Have a jury judge in a live campaign, and say what each judge did."""
    from truthful_rlhf.pipeline.judge.live import judge_campaign, seats_of

    seats = seats_of(campaign, jurors)
    with console.status("judging") as busy:
        parts, stopped = judge_campaign(
            jurors, seats, lambda juror, part: busy.update(f"{juror.labeler_id}: {part.answered:,} answers")
        )
    rows = [(part.labeler_id, f"{part.answered:,}", f"{part.abstained:,}", f"{part.refused:,}") for part in parts]
    print_table("Judged", ("judge", "answered", "abstained", "too late"), rows, n_text=1)
    console.print("The campaign has no pair for them just now; the same command goes on when it has.")
    _print_stopped(stopped)
    if stopped:
        raise typer.Exit(1)


def _print_stopped(stopped: Mapping[str, str]) -> None:
    for labeler_id, reason in stopped.items():
        error_console.print(f"[bold red]{labeler_id} stopped:[/bold red] {_escaped(reason)}", soft_wrap=True)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(shown(text))


@contextmanager
def _progress(waiting: int, total: int) -> Iterator[Any]:
    """Show how many answers have come and how long the rest will take; lines where there is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if waiting < total:
        console.print(f"{total - waiting:,} of {total:,} answers are there already.")
    if error_console.is_terminal:
        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
        with Progress(*columns, console=error_console, transient=True) as bar:
            task = bar.add_task("judging", total=waiting)
            yield lambda juror, n: bar.update(task, advance=n, description=juror.labeler_id)
        return
    done, began, last = 0, time.monotonic(), 0.0

    def tick(juror: Juror, n: int) -> None:
        nonlocal done, last
        done += n
        now = time.monotonic()
        if now - last >= _EVERY or done == waiting:
            left = (now - began) / done * (waiting - done)
            error_console.print(f"{juror.labeler_id}: {done:,} of {waiting:,} answers, about {left:.0f} s left")
            last = now

    yield tick


def _print_estimates(jurors: Sequence[Juror], found: PairFile, journal: Journal) -> None:
    """Print what the jury would be asked and what that would cost at most."""
    from truthful_rlhf.pipeline.judge.estimate import estimate

    rows, costs = [], []
    for juror in jurors:
        plan = estimate(juror, found.pairs, journal.waiting(juror, found.pairs))
        costs.append(plan.cost)
        rows.append(
            (
                *(juror.labeler_id, juror.aspect, plan.way, f"{plan.requests:,}", f"{plan.cached:,}"),
                *(f"{plan.prompt_tokens:,}", f"{plan.completion_tokens:,}", f"{plan.cut:,}"),
                "" if plan.cost is None else f"{plan.cost:.4f}",
            )
        )
    columns = ("judge", "aspect", "answers by", "requests", "cached", "tokens in", "out, at most", "pairs cut", "cost")
    print_table("To be asked (tokens are estimated from the texts)", columns, rows, n_text=3)
    known = [cost for cost in costs if cost is not None]
    if known:
        console.print(f"Together at most {sum(known):.4f}, in the unit of price_in and price_out.")
    if any(row[2].endswith("?") for row in rows):
        console.print("? never asked: without log-probabilities it takes JSON (300 tokens a reply) or several votes.")
    console.print("Nothing was asked. Without --dry-run the jury judges.")


def _print_summary(jurors: Sequence[Juror], found: PairFile, journal: Journal, files: Files) -> None:
    """Print and write the judges in figures."""
    from truthful_rlhf.pipeline.judge.summary import as_rows, summarise
    from truthful_rlhf.pipeline.storage.artifacts import write_json

    summaries, findings = summarise(jurors, found.pairs, found.outcome, journal)
    write_json(files.summary, {"judges": as_rows(summaries), "findings": findings})
    columns = ("judge", "aspect", "answered", "abstained", "ties", "bias", "order", "mass", "agrees", "cost", "s")
    print_table("The jury", columns, [_row(summary) for summary in summaries], n_text=2)
    console.print(
        "bias: excess of the place shown first; order: share of winners that change with it; mass: probability on the"
        " answer; agrees: with the mean of the others.",
        style="dim",
        soft_wrap=True,
    )
    if any(summary.outcomes for summary in summaries):
        rows = [
            (
                s.labeler_id,
                s.aspect,
                f"{s.accuracy:.3f}",
                f"{s.accuracy_low:.3f} to {s.accuracy_high:.3f}",
                str(s.outcomes),
            )
            for s in summaries
            if s.accuracy is not None
        ]
        print_table("Right on the known outcomes", ("judge", "aspect", "share", "95 %", "pairs"), rows)
    for summary in summaries:
        about = f" ({summary.aspect})" if summary.aspect else ""
        why = f"; abstained most often because {summary.why_not}" if summary.why_not else ""
        console.print(shown(f"{summary.labeler_id}{about}: {summary.advice}{why}"), soft_wrap=True)
        if summary.cut:
            console.print(
                shown(f"{summary.labeler_id}: {summary.cut} pairs had a text cut to the limit"), style="yellow"
            )
    for finding in findings:
        console.print(shown(finding), soft_wrap=True)


def _row(s: JudgeSummary) -> tuple[str, ...]:
    def cell(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    return (
        *(s.labeler_id, s.aspect, f"{s.answered:,}", f"{s.abstained:,}", f"{s.ties:,}"),
        *(cell(s.position_bias, "+.2f"), cell(s.changes_with_order, ".0%"), cell(s.mass, ".2f")),
        *(cell(s.agreement, ".0%"), cell(s.cost, ".4f"), f"{s.seconds:.0f}"),
    )


def _print_next(files: Files, jurors: Sequence[Juror], found: PairFile) -> None:
    """Print what was written and the commands that go on from there."""
    has_topics = any(juror.aspect for juror in jurors) or found.pairs.topic is not None
    topics = ["--topic-column", "topic"] if has_topics else []
    folder = files.reports.with_suffix("")
    names = ", ".join(str(path) for path in (files.reports, files.journal, files.summary))
    console.print(shown(f"Written: {names}"), soft_wrap=True)
    console.print("Next:", style="bold")
    commands = [["aggregate", str(files.reports), *topics, "--out", str(folder)]]
    if not (found.outcome == found.outcome).any():
        plan = str(files.reports.with_name(f"{files.reports.stem}.audits.csv"))
        commands.append(["audit-plan", str(files.reports), *topics, "--budget", "50", "--out", plan])
    for command in commands:
        console.print(shown(f"  truthful-rlhf {shlex.join(command)}"), soft_wrap=True)
