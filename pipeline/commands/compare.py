"""``truthful-rlhf compare``: every rule under every panel, against training on the truth."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Optional

import typer

from truthful_rlhf.pipeline.storage.hub import LICENCES

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


def compare(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
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
) -> None:
    r"""Train one policy per rule and method (and on the truth), and measure the alignment gap of each rule.

    A killed run goes on where it was when the same command is given again.

    Examples:

        truthful-rlhf compare configs/quickstart.yaml --out runs/quickstart

        truthful-rlhf compare quickstart audit_rate=0.1 "rules=\[mean, online_weighted]" --seed 3

        truthful-rlhf compare evidence --engine ray --cpus-per-cell 1

        truthful-rlhf compare quickstart --push-to-hub my-team/policies --license apache-2.0
    """
    from truthful_rlhf.pipeline.experiment.conditions import GRID
    from truthful_rlhf.pipeline.experiment.grid import run_grid
    from truthful_rlhf.pipeline.experiment.ray_engine import RayEngine, threads_of_cells
    from truthful_rlhf.pipeline.experiment.session import opened
    from truthful_rlhf.pipeline.models.installed import check_hardware, check_installed
    from truthful_rlhf.pipeline.reports.card import NOTHING_TRAINED, push_policies
    from truthful_rlhf.pipeline.reports.gap_table import markdown_tables, terminal_table
    from truthful_rlhf.pipeline.reports.page import write_report
    from truthful_rlhf.pipeline.reports.summary import summarise_grid
    from truthful_rlhf.pipeline.storage import processes
    from truthful_rlhf.pipeline.storage.console import console, print_table
    from truthful_rlhf.pipeline.storage.threads import choose_threads
    from truthful_rlhf.pipeline.training.check import check_own_arguments

    on_ray = engine is Engine.ray
    choose = partial(threads_of_cells, cpus_per_cell, threads) if on_ray else partial(choose_threads, threads)
    with opened(config, overrides or [], out, seed, GRID, choose, push_to_hub) as experiment:
        check_installed(experiment.config.policy, experiment.config.sampling)
        hardware = check_hardware(experiment.config.model)
        check_own_arguments(experiment.config.policy, experiment.config.sampling, hardware)
        if on_ray:
            RayEngine(ray_address, cpus_per_cell, gpus_per_cell).run(experiment)
        else:
            run_grid(experiment)
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
