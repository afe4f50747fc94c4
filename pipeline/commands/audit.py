"""``truthful-rlhf audit``: what a labeler could gain by misreporting."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from truthful_rlhf.pipeline.commands.compare import OverridesArgument
from truthful_rlhf.pipeline.commands.simulate import PanelOption

ANNOTATION_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".parquet", ".gz", ".zst")


def audit(
    source: Annotated[
        str, typer.Argument(help="A config (YAML file or shipped name), or an annotation file (JSONL, CSV, Parquet).")
    ] = "audit",
    overrides: OverridesArgument = None,
    panel: PanelOption = None,
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/audit"),
) -> None:
    r"""Measure how much each entry of a panel could gain by the best misreport found, per rule and objective.

    With an annotation file: what each of its labelers could have gained. Writes gains.csv, next_share.csv, audit.md and
    gains.png. A killed audit goes on where it was. No model is needed.

    Examples:

        truthful-rlhf audit

        truthful-rlhf audit "rules=\[online_weighted, mean]" --panel strategic rounds=2000

        truthful-rlhf audit annotations.jsonl "rules=\[online_weighted]" --out runs/audit-people
    """
    from truthful_rlhf.labelers.recorded.errors import AnnotationError
    from truthful_rlhf.pipeline.config.game import AuditConfig, split_arguments
    from truthful_rlhf.pipeline.config.loading import ConfigError, load_section
    from truthful_rlhf.pipeline.game.console import run_stages, write_config
    from truthful_rlhf.pipeline.storage.artifacts import RunFolder, RunFolderError
    from truthful_rlhf.pipeline.storage.console import clear_errors

    with clear_errors(ConfigError, RunFolderError, AnnotationError):
        name, changes = split_arguments(source, overrides, "audit", panel)
        recorded = name.lower().endswith(ANNOTATION_SUFFIXES)
        if recorded and panel:
            raise ConfigError(f"--panel says who is simulated, and the labelers of {name} are recorded: leave one out")
        settings = load_section("audit" if recorded else name, changes, AuditConfig)
        with RunFolder(out).locked() as folder:
            write_config(folder, settings)
            if recorded:
                from truthful_rlhf.pipeline.game.recorded_audit import audit_recorded

                audit_recorded(Path(name), settings, folder.root)
            else:
                from truthful_rlhf.pipeline.game.incentive_audit import IncentiveAudit
                from truthful_rlhf.pipeline.game.incentive_report import report_audit

                simulated = IncentiveAudit(settings, folder)
                run_stages(simulated.stages(), simulated.n_stages)
                report_audit(simulated)
