"""``truthful-rlhf compare``: every rule under every panel, against training on the truth."""

from __future__ import annotations

import json
import shlex
import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from truthful_rlhf.pipeline.commands.annotation_options import (
    ColumnOption,
    DuplicatesOption,
    FormatOption,
    GoldOption,
    LowOption,
    OneHotOption,
    OnlyOption,
    OrderOption,
    OutcomeVoteOption,
    PairsByTextOption,
    ScaleOption,
    TopicOption,
    VoteOption,
    code_options,
    column_mapping,
    print_reading,
    read_with_progress,
)
from truthful_rlhf.pipeline.storage.hub import LICENCES

if TYPE_CHECKING:
    from truthful_rlhf.pipeline.experiment.context import Experiment
    from truthful_rlhf.pipeline.experiment.ray_engine import RayEngine

ConfigArgument = Annotated[str, typer.Argument(help="A YAML file, or the name of a config that ships: quickstart, ...")]
OverridesArgument = Annotated[
    Optional[list[str]], typer.Argument(help="key.sub=value changes, for example policy.beta=0.2")  # noqa: UP045 (typer)
]
OutOption = Annotated[Optional[Path], typer.Option(help="Run folder; default runs/<config name>.")]  # noqa: UP045 (typer)
SeedOption = Annotated[Optional[int], typer.Option(help="Run this seed alone instead of the config's.")]  # noqa: UP045
ThreadsOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(min=1, help="CPU threads; default: those of the run that goes on, else one per core that is free."),
]

PushOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        metavar="OWNER/NAME", help="Upload the adapters and a card to this model on the Hub; a new one is private."
    ),
]
LicenseOption = Annotated[str, typer.Option(help=f"Of the uploaded policies, in their card: {LICENCES}")]


class Engine(StrEnum):
    """Who runs the cells of the grid."""

    local = "local"
    ray = "ray"


OWN = "own_annotations"
"""The config that ``--annotations`` stands for."""


def compare(
    config: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help=f"A YAML file, or the name of a config that ships; with --annotations: {OWN}."),
    ] = None,
    overrides: OverridesArgument = None,
    annotations: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="Compare rules on your own annotations: a file that aggregate reads, with experts' verdicts."
        ),
    ] = None,
    rules: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Rules to compare, as in mean,logistic,online_weighted; replaces the config's."),
    ] = None,
    out: OutOption = None,
    seed: SeedOption = None,
    threads: ThreadsOption = None,
    engine: Annotated[Engine, typer.Option(help="local: one cell after another; ray: side by side.")] = Engine.local,
    ray_address: Annotated[
        Optional[str], typer.Option(help="A Ray cluster that sees the run folder; default: Ray on this machine.")  # noqa: UP045
    ] = None,
    cpus_per_cell: Annotated[int, typer.Option(help="With ray: cores of one cell.")] = 2,
    gpus_per_cell: Annotated[float, typer.Option(help="With ray: GPUs of one cell; 0.5 lets two share one.")] = 0,
    push_to_hub: PushOption = None,
    license: LicenseOption = "unknown",
    gold_column: GoldOption = None,
    order: OrderOption = None,
    topic_column: TopicOption = None,
    format: FormatOption = "auto",
    column: ColumnOption = None,
    vote: VoteOption = None,
    outcome_vote: OutcomeVoteOption = None,
    scale: ScaleOption = None,
    low: LowOption = None,
    one_hot: OneHotOption = None,
    only: OnlyOption = None,
    duplicates: DuplicatesOption = "error",
    pairs_by_text: PairsByTextOption = False,
) -> None:
    r"""Train one policy per rule and method (and on the truth), and measure the alignment gap of each rule.

    With --annotations there is no gold reward: experts' verdicts in the file (column outcome) are held out, fold by
    fold, and say which rule's policies are right. The options from --gold-column on say how to read the file, as in
    aggregate. A killed run goes on where it was when the same command is given again.

    Examples:

        truthful-rlhf compare configs/quickstart.yaml --out runs/quickstart

        truthful-rlhf compare quickstart audit_rate=0.1 "rules=\[mean, online_weighted]" --seed 3

        truthful-rlhf compare --annotations mine.jsonl --rules mean,logistic,online_weighted --out runs/own

        truthful-rlhf compare evidence --engine ray --cpus-per-cell 1

        truthful-rlhf compare quickstart --push-to-hub my-team/policies --license apache-2.0
    """
    from truthful_rlhf.labelers.recorded.errors import AnnotationError
    from truthful_rlhf.pipeline.config.loading import ConfigError
    from truthful_rlhf.pipeline.experiment.conditions import GRID
    from truthful_rlhf.pipeline.experiment.ray_engine import RayEngine, threads_of_cells
    from truthful_rlhf.pipeline.experiment.session import opened
    from truthful_rlhf.pipeline.models.installed import check_hardware, check_installed
    from truthful_rlhf.pipeline.storage.console import clear_errors
    from truthful_rlhf.pipeline.storage.threads import choose_threads
    from truthful_rlhf.pipeline.training.check import check_own_arguments

    on_ray = engine is Engine.ray
    choose = partial(threads_of_cells, cpus_per_cell, threads) if on_ray else partial(choose_threads, threads)
    with clear_errors(AnnotationError, ConfigError):
        read = {
            "columns": column_mapping(column, outcome=gold_column, round=order, topic=topic_column),
            **{"format": format, "scale": scale, "low": low, "duplicates": duplicates, "pairs_by_text": pairs_by_text},
            **code_options(vote, outcome_vote, one_hot, only),
        }
        name, changes = _config_and_changes(config, overrides, annotations, rules, read)
    with opened(name, changes, out, seed, GRID, choose, push_to_hub) as experiment:
        check_installed(experiment.config.policy, experiment.config.sampling)
        hardware = check_hardware(experiment.config.model)
        check_own_arguments(experiment.config.policy, experiment.config.sampling, hardware)
        ray = RayEngine(ray_address, cpus_per_cell, gpus_per_cell) if on_ray else None
        if experiment.config.gold.is_known:
            _compare_by_gold_reward(experiment, ray, push_to_hub, license)
        elif push_to_hub:
            raise ConfigError("of your own annotations nothing is uploaded; leave out --push-to-hub")
        else:
            _compare_by_verdicts(experiment, ray)


def _compare_by_gold_reward(
    experiment: Experiment, ray: RayEngine | None, push_to_hub: str | None, license: str
) -> None:
    """Run the grid, measure every rule's alignment gap, and print and write the table."""
    from truthful_rlhf.pipeline.experiment.grid import parts
    from truthful_rlhf.pipeline.experiment.parts import run_here
    from truthful_rlhf.pipeline.reports.card import NOTHING_TRAINED, push_policies
    from truthful_rlhf.pipeline.reports.gap_table import markdown_tables, terminal_table
    from truthful_rlhf.pipeline.reports.page import write_report
    from truthful_rlhf.pipeline.reports.summary import summarise_grid
    from truthful_rlhf.pipeline.storage import processes
    from truthful_rlhf.pipeline.storage.console import console, print_table

    run = run_here if ray is None else ray.run
    run(experiment, parts(experiment.config))
    if not processes.is_first():
        return
    rows = summarise_grid(experiment)
    command = shlex.join(["truthful-rlhf", *sys.argv[1:]])
    report = write_report(experiment, rows, command)
    columns, table = terminal_table(rows)
    print_table("Alignment gaps", columns, table, n_text=columns.index("label acc."))
    console.print(f"Report: {report}")
    if push_to_hub:
        url = push_policies(experiment, push_to_hub, markdown_tables(rows), command, license)
        console.print(f"Uploaded: {url}" if url else NOTHING_TRAINED)


def _config_and_changes(
    config: str | None, overrides: list[str] | None, annotations: Path | None, rules: str | None, read: dict[str, Any]
) -> tuple[str, list[str]]:
    """Return the config's name and the changes to it that the options of the command line mean."""
    from truthful_rlhf.labelers.recorded.options import ReadOptions
    from truthful_rlhf.pipeline.config.loading import ConfigError

    changes = list(overrides or [])
    if config is not None and "=" in config and not Path(config).is_file():  # an override: the config was left out
        changes, config = [config, *changes], None
    given = ReadOptions.make(**read).model_dump(exclude_defaults=True)
    if annotations is None:
        if config is None:
            raise ConfigError("which comparison? truthful-rlhf compare CONFIG, or compare --annotations mine.jsonl")
        if given:
            raise ConfigError(f"options such as {', '.join(given)} say how to read --annotations, and none are given")
    else:
        files = [f"pairs.file={json.dumps(str(annotations))}", *([f"pairs.read={json.dumps(given)}"] if given else [])]
        changes = ["gold=none", *files, *changes]
    if rules is not None:
        changes = [f"rules=[{rules}]", *changes]
    return config or OWN, changes


def _compare_by_verdicts(experiment: Experiment, ray: RayEngine | None) -> None:
    """Read the annotations, say what was read, train and measure every fold, and print and write what came out."""
    from truthful_rlhf.pipeline.experiment.parts import run_here
    from truthful_rlhf.pipeline.judge.journal import JournalError
    from truthful_rlhf.pipeline.judge.jury import JuryError
    from truthful_rlhf.pipeline.own_data.cells import build_first, check_verdicts, make_grid, parts
    from truthful_rlhf.pipeline.own_data.findings import findings
    from truthful_rlhf.pipeline.own_data.judges import build_wins, seated
    from truthful_rlhf.pipeline.own_data.report import table_of, write_report
    from truthful_rlhf.pipeline.own_data.summary import audited_share, summarise
    from truthful_rlhf.pipeline.storage import processes
    from truthful_rlhf.pipeline.storage.console import clear_errors, console, print_table, shown

    pairs = experiment.config.pairs
    annotations = read_with_progress(str(pairs.file), **pairs.read.model_dump())
    if processes.is_first():
        print_reading(annotations.reading)
    check_verdicts(annotations)
    all_known = annotations.reading.outcomes == annotations.n_pairs
    grid = make_grid(experiment.config, all_known)
    with clear_errors(JuryError, JournalError):
        seated(experiment.config)
        run = run_here if ray is None else ray.run
        build_wins(experiment, grid, run(experiment, parts(experiment.config, grid), build_first))
    if not processes.is_first():
        return
    table = summarise(experiment, grid)
    found = findings(table, grid.mean, annotations.n_pairs, audited_share(experiment))
    command = shlex.join(["truthful-rlhf", *sys.argv[1:]])
    report = write_report(experiment, table, found, annotations.reading, command)
    columns, body, n_text = table_of(table.rows, terminal=True)
    print_table("On the held-out verdicts", columns, body, n_text)
    console.print(shown(found.verdict), style="bold", soft_wrap=True)
    for sentence in found.sentences:
        console.print(shown(sentence), soft_wrap=True)
    console.print(f"Report: {report}")
