"""``truthful-rlhf simulate``: how regret grows with the number of pairs, by rule and population."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from truthful_rlhf.pipeline.commands.compare import OverridesArgument


def simulate(
    config: Annotated[str, typer.Argument(help="A YAML file, or the name of a config that ships.")] = "simulate",
    overrides: OverridesArgument = None,
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/simulate"),
) -> None:
    r"""Play rules against populations of labelers and show how regret grows with the number of pairs.

    Writes regret.csv, growth.csv, equilibria.csv, growth.md and regret.png. A killed simulation goes on where it was.
    No model is needed.

    Examples:

        truthful-rlhf simulate

        truthful-rlhf simulate audit_rate=0.1 "rules=\[mean, online_weighted]" "populations=\[strategic, honest]"

        truthful-rlhf simulate configs/simulate.yaml "rounds=[1000, 10000, 100000, 1000000]" --out runs/simulate-large
    """
    from truthful_rlhf.pipeline.config.game import SimulateConfig, split_arguments
    from truthful_rlhf.pipeline.config.loading import ConfigError, load_section
    from truthful_rlhf.pipeline.game.console import run_stages, write_config
    from truthful_rlhf.pipeline.game.simulation import Simulation
    from truthful_rlhf.pipeline.game.simulation_report import report_simulation
    from truthful_rlhf.pipeline.storage.artifacts import RunFolder, RunFolderError
    from truthful_rlhf.pipeline.storage.console import clear_errors

    with clear_errors(ConfigError, RunFolderError):
        settings = load_section(*split_arguments(config, overrides, "simulate"), SimulateConfig)
        with RunFolder(out).locked() as folder:
            write_config(folder, settings)
            simulation = Simulation(settings, folder)
            run_stages(simulation.stages(), simulation.n_stages)
            report_simulation(simulation)
