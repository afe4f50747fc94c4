"""``truthful-rlhf audit-plan``: which pairs to have checked next."""

from __future__ import annotations

import secrets
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
)
from truthful_rlhf.pipeline.storage.console import clear_errors, console, shown

if TYPE_CHECKING:
    import numpy as np

    from truthful_rlhf.labelers.recorded.table import Annotations


def audit_plan(
    file: FileArgument,
    budget: Annotated[int, typer.Option(help="Number of pairs to audit (planned: on average).", min=1)] = 50,
    design: Annotated[
        str,
        typer.Option(
            help="uniform: every pair is equally likely; planned: disagreement raises a pair's chance, and outcomes "
            "are weighted by its inverse."
        ),
    ] = "uniform",
    labels_within: Annotated[
        float | None,
        typer.Option(
            help="Draw nothing; say how many more audits bring the labels this close to the panel's best accuracy."
        ),
    ] = None,
    labeler: Annotated[str | None, typer.Option(help="Whose accuracy --accuracy-within is about.")] = None,
    accuracy_within: Annotated[
        float | None,
        typer.Option(help="Draw nothing; say how many more audits tell --labeler's accuracy to +- this."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The plan: a .csv or a .jsonl file.")] = Path("runs/audit_plan.csv"),
    gold_column: GoldOption = None,
    order: OrderOption = None,
    topic_column: TopicOption = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Repeats a plan. Keep it secret: who knows it knows the plan. Default: drawn.", min=0),
    ] = None,
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
    """Draw the pairs whose outcome an expert should tell.

    A fixed list could be predicted, and whoever can predict the audits can lie on all other pairs. So pairs are drawn
    with a secret seed, and topics get their share. Write the outcomes into the annotation file (column outcome),
    together with the plan's columns audit_probability, audit_floor and audit_wave, and run aggregate.

    In the CSV, cells that a spreadsheet would run as a formula get a leading apostrophe; the JSONL is exact.

    Examples:

      truthful-rlhf audit-plan votes.jsonl --budget 50 --out runs/plan.csv

      truthful-rlhf audit-plan votes.parquet --budget 200 --topic-column category --out runs/plan.jsonl

      truthful-rlhf audit-plan votes.jsonl --budget 50 --design planned --out runs/plan.csv

      truthful-rlhf audit-plan votes.jsonl --labels-within 0.02

      truthful-rlhf audit-plan votes.jsonl --labeler ann --accuracy-within 0.1
    """
    import numpy as np

    from truthful_rlhf.labelers.recorded.errors import AnnotationError
    from truthful_rlhf.pipeline.aggregate.audit_plan import plan_audit, write_plan
    from truthful_rlhf.pipeline.aggregate.campaign import AggregationSettings, run_campaign

    with clear_errors(AnnotationError, OSError):
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
        seed = secrets.randbits(63) if seed is None else seed
        if labels_within is not None or accuracy_within is not None or labeler is not None:
            _say_how_many(annotations, labels_within, labeler, accuracy_within, np.random.default_rng(seed))
            return
        weights = run_campaign(annotations, AggregationSettings()).weights
        plan = plan_audit(annotations, budget, np.random.default_rng(seed), weights, design)  # type: ignore[arg-type]
        write_plan(plan, annotations, out)
    console.print(f"{len(plan.rounds)} pairs of {annotations.n_pairs:,} drawn into {out}. Secret seed: {seed}")


def _say_how_many(
    annotations: Annotations,
    labels_within: float | None,
    labeler: str | None,
    accuracy_within: float | None,
    rng: np.random.Generator,
) -> None:
    """Print how many more audits a target needs."""
    from truthful_rlhf.labelers.recorded.errors import AnnotationError
    from truthful_rlhf.pipeline.aggregate.how_many import how_many_for_labeler, how_many_for_labels

    if (labeler is None) != (accuracy_within is None):
        raise AnnotationError("write both: --labeler NAME --accuracy-within 0.1")
    if labeler is not None and accuracy_within is not None:
        console.print(shown(how_many_for_labeler(annotations, labeler, accuracy_within)))
    if labels_within is not None:
        with console.status("trying numbers of audits"):
            sentence = how_many_for_labels(annotations, labels_within, rng)
        console.print(shown(sentence))
