"""``truthful-rlhf compare``: every rule under every panel, against training on the truth."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

ConfigArgument = Annotated[str, typer.Argument(help="A YAML file, or the name of a config that ships: quickstart, ...")]
OverridesArgument = Annotated[
    Optional[list[str]], typer.Argument(help="key.sub=value changes, for example policy.beta=0.2")  # noqa: UP045 (typer)
]
OutOption = Annotated[Optional[Path], typer.Option(help="Run folder; default runs/<config name>.")]  # noqa: UP045 (typer)
SeedOption = Annotated[Optional[int], typer.Option(help="Run this seed alone instead of the config's.")]  # noqa: UP045


def compare(
    config: ConfigArgument, overrides: OverridesArgument = None, out: OutOption = None, seed: SeedOption = None
) -> None:
    r"""Train one policy per rule (and one on the truth), and measure the alignment gap of each rule.

    A killed run goes on where it was when the same command is given again.

    Examples:

        truthful-rlhf compare configs/quickstart.yaml --out runs/quickstart

        truthful-rlhf compare quickstart audit_rate=0.1 "rules=\[mean, online_weighted]" --seed 3
    """
    from pipeline import processes
    from pipeline.compare import run_grid, summarise_grid, terminal_table
    from pipeline.console import console, print_table
    from pipeline.experiment import opened
    from pipeline.report import write_report
    from pipeline.stages import GRID

    with opened(config, overrides or [], out, seed, GRID) as experiment:
        run_grid(experiment)
        if not processes.is_first():
            return
        rows = summarise_grid(experiment)
        report = write_report(experiment, rows, shlex.join(["truthful-rlhf", *sys.argv[1:]]))
        columns, table = terminal_table(rows)
        print_table("Alignment gaps", columns, table, n_text=1 if columns[0] == "rule" else 2)
        console.print(f"Report: {report}")
