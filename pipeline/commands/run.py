"""``truthful-rlhf run``: one panel, one rule, one seed, from prompts to an evaluated policy."""

from __future__ import annotations

import shlex
import sys
from functools import partial
from typing import Annotated, Optional

import typer

from truthful_rlhf.pipeline.commands.compare import (
    ConfigArgument,
    LicenseOption,
    OutOption,
    OverridesArgument,
    PushOption,
    SeedOption,
    ThreadsOption,
)


def run(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    rule: Annotated[Optional[str], typer.Option(help="Which of the config's rules (default: its only one).")] = None,  # noqa: UP045
    panel: Annotated[Optional[str], typer.Option(help="Which of its panels (default: its only one).")] = None,  # noqa: UP045
    method: Annotated[Optional[str], typer.Option(help="Which of its methods (default: its only one).")] = None,  # noqa: UP045
    out: OutOption = None,
    seed: SeedOption = None,
    threads: ThreadsOption = None,
    push_to_hub: PushOption = None,
    license: LicenseOption = "unknown",
) -> None:
    """Run the pipeline once: prompts, pairs, reports, soft labels, policy, evaluation.

    The run folder holds reports.parquet, soft_labels.parquet, weights.parquet, policy/ and evaluation.json.

    Examples:

        truthful-rlhf run configs/quickstart.yaml --rule online_weighted --out runs/one

        truthful-rlhf run quickstart --rule truth policy.learning_rate=1e-4
    """
    from truthful_rlhf.pipeline.config.loading import ConfigError
    from truthful_rlhf.pipeline.experiment.conditions import SINGLE, choose_condition
    from truthful_rlhf.pipeline.experiment.evaluation import evaluate
    from truthful_rlhf.pipeline.experiment.session import opened
    from truthful_rlhf.pipeline.models.installed import check_hardware, check_installed
    from truthful_rlhf.pipeline.reports.card import NOTHING_TRAINED, push_policies
    from truthful_rlhf.pipeline.reports.summary import read_json
    from truthful_rlhf.pipeline.storage import processes
    from truthful_rlhf.pipeline.storage.console import console, print_table
    from truthful_rlhf.pipeline.storage.markdown import markdown_table
    from truthful_rlhf.pipeline.storage.threads import choose_threads
    from truthful_rlhf.pipeline.training.check import check_own_arguments

    with opened(
        config, overrides or [], out, seed, SINGLE, partial(choose_threads, threads), push_to_hub
    ) as experiment:
        if not experiment.config.gold.is_known:
            raise ConfigError(f"gold: none has no single run: truthful-rlhf compare {config}")
        condition = choose_condition(experiment.config, panel, rule, method)
        check_installed([condition.method], experiment.config.sampling)
        hardware = check_hardware(experiment.config.model)
        check_own_arguments([condition.method], experiment.config.sampling, hardware)
        evaluate(experiment, condition)
        if not processes.is_first():
            return
        measures = read_json(experiment, condition, "evaluation.json")
        rows = [[name, f"{e['mean']:.3f}", f"{e['standard_error']:.3f}"] for name, e in measures.items()]
        print_table(f"Held-out prompts, rule {condition.title}", ["measure", "mean", "standard error"], rows, n_text=1)
        console.print(f"Run folder: {experiment.folder.root}")
        if push_to_hub:
            table = markdown_table(["measure", "mean", "standard error"], rows)
            command = shlex.join(["truthful-rlhf", *sys.argv[1:]])
            url = push_policies(experiment, push_to_hub, table, command, license)
            console.print(f"Uploaded: {url}" if url else NOTHING_TRAINED)
