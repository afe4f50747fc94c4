"""``truthful-rlhf simulate``: how regret grows with the number of pairs, by rule and panel."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from truthful_rlhf.pipeline.commands.compare import OverridesArgument

PanelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--panel",
        help="Who judges: a YAML file, or a panel that ships; may be repeated. In place of the config's panels.",
    ),
]


def simulate(
    config: Annotated[str, typer.Argument(help="A YAML file, or the name of a config that ships.")] = "simulate",
    overrides: OverridesArgument = None,
    panel: PanelOption = None,
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/simulate"),
) -> None:
    r"""Play rules against panels of labelers and show how regret grows with the number of pairs.

    Writes regret.csv, growth.csv, best_responses.csv, growth.md and regret.png. A killed simulation goes on where it
    was. No model is needed: a panel judges pairs that have a truth and no texts, and is otherwise that of compare.

    Examples:

        truthful-rlhf simulate

        truthful-rlhf simulate audit_rate=0.1 "rules=\[mean, online_weighted]" "panels=\[strategic, honest]"

        truthful-rlhf simulate --panel my-panel.yaml --panel honest

        truthful-rlhf simulate simulate_crowd --out runs/simulate-crowd

        truthful-rlhf simulate configs/simulate.yaml "rounds=[1000, 10000, 100000, 1000000]" --out runs/simulate-large
    """
    from truthful_rlhf.pipeline.config.game import SimulateConfig, split_arguments
    from truthful_rlhf.pipeline.config.loading import ConfigError, load_section
    from truthful_rlhf.pipeline.game.console import run_stages, write_config
    from truthful_rlhf.pipeline.game.simulation import Simulation
    from truthful_rlhf.pipeline.game.simulation_report import report_simulation
    from truthful_rlhf.pipeline.models.installed import check_rules
    from truthful_rlhf.pipeline.storage.artifacts import RunFolder, RunFolderError
    from truthful_rlhf.pipeline.storage.console import clear_errors

    with clear_errors(ConfigError, RunFolderError):
        settings = load_section(*split_arguments(config, overrides, "simulate", panel), SimulateConfig)
        check_rules([rule.name for rule in settings.rules])
        with RunFolder(out).locked() as folder:
            write_config(folder, settings)
            simulation = Simulation(settings, folder)
            run_stages(simulation.stages(), simulation.n_stages)
            report_simulation(simulation)
