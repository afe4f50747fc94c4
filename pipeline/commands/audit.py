"""``truthful-rlhf audit``: what a labeler could gain by misreporting."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from truthful_rlhf.pipeline.commands.compare import OverridesArgument
from truthful_rlhf.pipeline.commands.simulate import PanelOption

if TYPE_CHECKING:
    from truthful_rlhf.pipeline.config.game import AuditConfig

ANNOTATION_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".parquet", ".gz", ".zst")


def audit(
    source: Annotated[
        str, typer.Argument(help="A config (YAML file or shipped name), or an annotation file (JSONL, CSV, Parquet).")
    ] = "audit",
    overrides: OverridesArgument = None,
    panel: PanelOption = None,
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/audit"),
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
    r"""Measure how much each entry of a panel could gain by the best misreport found, per rule and objective.

    With an annotation file: what each of its labelers could have gained; what its values mean is said as to aggregate,
    and what was read is printed first. Writes gains.csv, next_share.csv, audit.md and gains.png. A killed audit goes on
    where it was. No model is needed.

    Examples:

        truthful-rlhf audit

        truthful-rlhf audit "rules=\[online_weighted, mean]" --panel strategic rounds=2000

        truthful-rlhf audit annotations.jsonl "rules=\[online_weighted]" --out runs/audit-people

        truthful-rlhf audit votes.csv --vote 1=A --vote 2=B --gold-column expert --duplicates last
    """
    from truthful_rlhf.labelers.recorded.errors import AnnotationError
    from truthful_rlhf.pipeline.config.game import split_arguments
    from truthful_rlhf.pipeline.config.loading import ConfigError
    from truthful_rlhf.pipeline.storage.artifacts import RunFolderError
    from truthful_rlhf.pipeline.storage.console import clear_errors

    with clear_errors(ConfigError, RunFolderError, AnnotationError):
        name, changes = split_arguments(source, overrides, "audit", panel)
        reading = {
            "format": format,
            "columns": column_mapping(column, outcome=gold_column, round=order, topic=topic_column),
            "scale": scale,
            "low": low,
            "duplicates": duplicates,
            "pairs_by_text": pairs_by_text,
            **code_options(vote, outcome_vote, one_hot, only),
        }
        if name.lower().endswith(ANNOTATION_SUFFIXES) or name.startswith("hf://"):
            if panel:
                raise ConfigError(
                    f"--panel says who is simulated, and the labelers of {name} are recorded: leave one out"
                )
            _audit_file(name, reading, _settings("audit", changes), out)
        else:
            _refuse_reading(name, reading)
            _audit_panel(_settings(name, changes), out)


def _settings(name: str, changes: list[str]) -> AuditConfig:
    """Return the config, if the libraries that its rules need are installed."""
    from truthful_rlhf.pipeline.config.game import AuditConfig
    from truthful_rlhf.pipeline.config.loading import load_section
    from truthful_rlhf.pipeline.models.installed import check_rules

    settings = load_section(name, changes, AuditConfig)
    check_rules([rule.name for rule in settings.rules])
    return settings


def _refuse_reading(name: str, reading: dict[str, Any]) -> None:
    """Refuse options that say how an annotation file is read where there is none."""
    from truthful_rlhf.pipeline.config.loading import ConfigError

    given = [key for key, value in reading.items() if value not in (None, False, {}, "auto", "error")]
    if given:
        raise ConfigError(
            f"{name} is a config, and {', '.join(given)} say how an annotation file is read: name the file "
            f"({', '.join(ANNOTATION_SUFFIXES)}), or leave these options out"
        )


def _audit_file(name: str, reading: dict[str, Any], settings: AuditConfig, out: Path) -> None:
    from truthful_rlhf.pipeline.game.console import write_config
    from truthful_rlhf.pipeline.game.recorded_audit import audit_recorded
    from truthful_rlhf.pipeline.storage.artifacts import RunFolder

    annotations = read_with_progress(name, **reading)
    print_reading(annotations.reading)
    with RunFolder(out).locked() as folder:
        write_config(folder, settings)
        audit_recorded(annotations, settings, folder.root)


def _audit_panel(settings: AuditConfig, out: Path) -> None:
    from truthful_rlhf.pipeline.game.console import run_stages, write_config
    from truthful_rlhf.pipeline.game.incentive_audit import IncentiveAudit
    from truthful_rlhf.pipeline.game.incentive_report import report_audit
    from truthful_rlhf.pipeline.storage.artifacts import RunFolder

    with RunFolder(out).locked() as folder:
        write_config(folder, settings)
        simulated = IncentiveAudit(settings, folder)
        run_stages(simulated.stages(), simulated.n_stages)
        report_audit(simulated)
