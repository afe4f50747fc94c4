"""``truthful-rlhf aggregate``: annotations in, soft labels, TRL data sets and a labeler report out."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from truthful_rlhf.pipeline.commands.annotation_options import (
    ColumnOption,
    DuplicatesOption,
    FileArgument,
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
    rule_options,
)
from truthful_rlhf.pipeline.storage.console import clear_errors, console, print_table, shown
from truthful_rlhf.pipeline.storage.hub import LICENCES, HubError, check_repository

if TYPE_CHECKING:
    from truthful_rlhf.pipeline.aggregate.measures import Analysis

RuleOption = Annotated[
    str | None,
    typer.Option(
        help="online_weighted, linear_weighted, hedge, examined, gold_vote, logistic, mean, median, trimmed_mean, "
        "majority, dawid_skene, glad or mace. Default: online_weighted if any outcome is known, otherwise mean."
    ),
]
LabelsOption = Annotated[
    str,
    typer.Option(
        help="final: re-aggregated with the last weights, audited pairs take their outcome; reweighted: audited "
        "pairs keep the panel's label; recalibrated: these, as sure as the outcomes warrant; stacked: a step from "
        "the weights to the labels, fitted to the outcomes; online: stated before each outcome."
    ),
]
AuditRateOption = Annotated[
    float, typer.Option(help="Share of the known outcomes that the rule may see; the rest measures the labels.")
]
EtaOption = Annotated[
    float | None, typer.Option(help="Step size of a learning rule, as --option eta=. Default: its schedule.")
]
RuleOptionsOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE", help="Option of the rule, repeatable: initial_weights=\\[1,1,2] or fixed_share=0.01."
    ),
]
OutOption = Annotated[Path, typer.Option(help="Folder for everything that is written.")]
SeedOption = Annotated[int, typer.Option(help="Of the choice of audited pairs.", min=0)]
ResampleOption = Annotated[
    int,
    typer.Option(
        metavar="K",
        min=0,
        help="For trainers without soft labels, write trl_preference_resampled.parquet, every pair K times with its "
        "winner drawn from the soft label, and trl_preference_weighted.parquet, both directions with their weights.",
    ),
]
PushOption = Annotated[
    str | None,
    typer.Option(
        metavar="OWNER/NAME", help="Upload labels and a card to this data set on the Hub; a new one is private."
    ),
]
LicenseOption = Annotated[str, typer.Option(help=f"Of the uploaded data, in its card: {LICENCES}")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what was read, and stop.")]


def aggregate(
    file: FileArgument,
    out: OutOption = Path("runs/aggregate"),
    rule: RuleOption = None,
    labels: LabelsOption = "final",
    gold_column: GoldOption = None,
    audit_rate: AuditRateOption = 1.0,
    order: OrderOption = None,
    topic_column: TopicOption = None,
    eta: EtaOption = None,
    option: RuleOptionsOption = None,
    seed: SeedOption = 0,
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
    resample: ResampleOption = 0,
    push_to_hub: PushOption = None,
    license: LicenseOption = "unknown",
    dry_run: DryRunOption = False,
) -> None:
    """Turn annotations from many labelers into TRL-ready soft labels and a report on the labelers.

    Reads JSONL, JSON, CSV, TSV or Parquet (one report per row; .gz and .zst too), exports of Argilla, Label Studio,
    Prodigy, Potato and Mechanical Turk, crowd-kit tables, arena logs, LLM judges' pair files, or a Hub data set, and
    says first what every value was taken to mean. Writes soft_labels.parquet, trl_preference.parquet,
    trl_preference_conversational.parquet, weights.parquet, labelers.json and report.html. The same file and options
    give the same bytes again.

    Examples:

      truthful-rlhf aggregate votes.jsonl --out runs/votes

      truthful-rlhf aggregate votes.csv --column labeler_id=annotator --column report=score --gold-column expert

      truthful-rlhf aggregate votes.csv --vote 1=A --vote 2=B --vote 0=tie --dry-run

      truthful-rlhf aggregate votes.csv --scale 1:7 --low A

      truthful-rlhf aggregate votes.parquet --audit-rate 0.1 --order created_at --topic-column category

      truthful-rlhf aggregate export.json --format argilla --rule dawid_skene

      truthful-rlhf aggregate votes.jsonl --resample 4 --push-to-hub my-team/votes --license cc-by-4.0

      truthful-rlhf aggregate hf://lmsys/mt_bench_human_judgments:human
    """
    from truthful_rlhf.labelers.recorded.errors import AnnotationError
    from truthful_rlhf.pipeline.aggregate.campaign import AggregationSettings
    from truthful_rlhf.pipeline.aggregate.card import push_data
    from truthful_rlhf.pipeline.aggregate.job import aggregate_into

    with clear_errors(AnnotationError, HubError, OSError):
        if push_to_hub:
            check_repository(push_to_hub)
        columns = column_mapping(column, outcome=gold_column, round=order, topic=topic_column)
        annotations = read_with_progress(
            file,
            format=format,
            columns=columns,
            scale=scale,
            low=low,
            duplicates=duplicates,
            pairs_by_text=pairs_by_text,
            **code_options(vote, outcome_vote, one_hot, only),
        )
        print_reading(annotations.reading)
        if dry_run:
            return
        settings = AggregationSettings(
            rule,
            labels,  # type: ignore[arg-type]  # checked there
            audit_rate,
            rule_options(option, eta),
            topic_column is not None,
            seed,
        )
        with console.status("aggregating") as status:
            result, analysis = aggregate_into(out, annotations, settings, file, columns, status.update, resample)
            if push_to_hub:
                status.update("uploading")
                command = shlex.join(["truthful-rlhf", *sys.argv[1:]])
                url = push_data(push_to_hub, out, result, analysis, command, license)
    _print_accuracy(result.rule.name, analysis)
    console.print(shown(f"{' '.join(analysis.findings)} Report: {out / 'report.html'}"))
    if push_to_hub:
        console.print(f"Uploaded: {url}")


def _print_accuracy(rule: str, analysis: Analysis) -> None:
    """Print the warnings, and how right each kind of labels is."""
    for warning in analysis.warnings:
        console.print(shown(f"Note: {warning}"), style="yellow")
    if analysis.accuracy:
        rows = [(r.name + " ←" * r.chosen, str(r.n), f"{r.accuracy:.3f}", f"{r.brier:.3f}") for r in analysis.accuracy]
        print_table(f"Rule {rule}", ("labels", "pairs", "accuracy", "Brier"), rows, n_text=1)
