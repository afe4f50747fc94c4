"""The stages of an experiment, each building one artefact from earlier ones and skipped when it is there already.

    pairs -> outcomes -> labels(panel, rule) -> policy(panel, rule, method) -> evaluation(panel, rule, method)
      '----> reference log-probabilities ---------^

Everything of one seed is shared as far as it can be: all panels and rules see the same pairs, outcomes, audited pairs,
reference log-probabilities, held-out prompts and sampling seeds, so that conditions differ in their labels only; and
the methods of one panel and rule share its labels and its reward model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from truthful_rlhf.aggregation import LabeledCampaign
from truthful_rlhf.aggregation.auditing.design import AuditDesign
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.labelers import LabelerSpec, Panel, ReportContext
from truthful_rlhf.labelers.recorded.options import AUDIT_ROLES
from truthful_rlhf.labelers.recorded.texts import MESSAGES
from truthful_rlhf.pipeline.config.rule import TRUTH
from truthful_rlhf.pipeline.experiment.conditions import Condition
from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.experiment.folds import build_training_pairs
from truthful_rlhf.pipeline.experiment.pairs import (
    PAIR_COLUMNS,
    as_labelers_see_them,
    draw_audits,
    draw_outcomes,
    pair_off,
    recorded_pairs,
)
from truthful_rlhf.pipeline.labels.apply import (
    LABEL_ARTEFACTS,
    label_quality,
    mechanism_quality,
    orient,
    revealed,
    truth_labels,
)
from truthful_rlhf.pipeline.models.generate import sample_responses
from truthful_rlhf.pipeline.models.load import resolve_model
from truthful_rlhf.pipeline.models.tokens import CONVERSATIONS, END_AS_SAMPLED, ChatError
from truthful_rlhf.pipeline.storage.artifacts import write_json
from truthful_rlhf.pipeline.storage.contents import contents
from truthful_rlhf.pipeline.storage.inputs import ConfigSections, StageInputs
from truthful_rlhf.pipeline.storage.random import part_rng
from truthful_rlhf.pipeline.storage.tables import read_table, write_table


@dataclass(frozen=True, kw_only=True)
class PairInputs(StageInputs):
    """What the pairs depend on."""

    config: ConfigSections
    seed: int
    tokens: str = END_AS_SAMPLED


@dataclass(frozen=True, kw_only=True)
class OutcomeInputs(StageInputs):
    """What the outcomes depend on.

    Attributes:
        pairs: fingerprint of the pairs.
        kappa: sharpness of the true preference.
        audit_rate: share of the pairs that is audited, in [0, 1].
    """

    pairs: str
    kappa: float | None
    audit_rate: float


@dataclass(frozen=True, kw_only=True)
class JudgementInputs(StageInputs):
    """What reports and labels depend on beside the pairs: the rule, the panel, the content of files that it names."""

    rule: Mapping[str, Any]
    panel: Sequence[Mapping[str, Any]]
    content: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class CampaignInputs(StageInputs):
    """What the labels of a condition depend on, with the fingerprint of the outcomes."""

    outcomes: str
    judged: JudgementInputs


@dataclass(frozen=True, kw_only=True)
class ReferenceInputs(StageInputs):
    """What the base policy's log-probabilities depend on: pairs (fingerprint), model, and how many tokens are read."""

    pairs: str
    config: ConfigSections
    max_length: int


def build_pairs(experiment: Experiment, seed: int) -> str:
    """Build ``pairs/pairs.parquet``: sampled responses, paired off, or recorded ones, with their gold rewards."""
    if experiment.fold is not None:
        return build_training_pairs(experiment, seed)
    output = experiment.layout.of_seed(seed, "pairs/pairs.parquet")
    recorded = experiment.config.pairs.file is not None
    sampled = () if recorded else ("model", "prompts", "sampling")
    config = experiment.sections(*sampled, "pairs", "gold")
    del config.sections["gold"]["kappa"]  # says what the outcomes are, not how the pairs are made
    inputs = PairInputs(config=config, seed=seed)

    def build(scratch: Path) -> None:
        if experiment.config.pairs.file is not None:
            table = recorded_pairs(experiment.config.pairs.file, experiment.gold, experiment.config.pairs.read)
            if MESSAGES in table and not experiment.config.model.chat:
                raise ChatError(f"{experiment.config.pairs.file}: {CONVERSATIONS}")
            write_table(scratch / output, table)
            return
        prompts, _ = experiment.prompts(seed)
        n = experiment.config.pairs.responses_per_prompt
        encoded = experiment.encoded(prompts)
        responses = sample_responses(
            experiment.base_model,
            experiment.tokenizer,
            [ids for ids in encoded for _ in range(n)],
            experiment.config.sampling,
            seed,
            "Generating responses",
        )
        write_table(scratch / output, pair_off(prompts, encoded, responses, experiment.gold))

    return experiment.folder.stage(experiment.layout.of_seed(seed, "pairs"), inputs, [output], build)


def build_outcomes(experiment: Experiment, seed: int) -> str:
    """Build ``outcomes.parquet``: the true preference, the outcome of every pair, and which pairs are audited."""
    output = experiment.layout.of_seed(seed, "outcomes.parquet")
    inputs = OutcomeInputs(
        pairs=build_pairs(experiment, seed),
        kappa=experiment.config.gold.kappa if experiment.config.gold.is_known else None,
        audit_rate=experiment.config.audit_rate,
    )

    def build(scratch: Path) -> None:
        pairs = read_table(experiment.path(experiment.layout.of_seed(seed, "pairs/pairs.parquet")), PAIR_COLUMNS)
        write_table(scratch / output, _draw_outcomes(experiment, seed, pairs, experiment.config.audit_rate))

    return experiment.folder.stage(experiment.layout.of_seed(seed, "outcomes"), inputs, [output], build)


def build_labels(experiment: Experiment, condition: Condition) -> str:
    """Build ``reports``, ``soft_labels`` and ``weights`` (Parquet) of a condition, and ``labels.json``."""
    outcomes = build_outcomes(experiment, condition.seed)
    inputs = CampaignInputs(outcomes=outcomes, judged=judgement_inputs(experiment, condition))

    def build(scratch: Path) -> None:
        pairs, outcomes = read_campaign(experiment, condition)
        reports = ask_panel(experiment, condition, pairs, outcomes["audited"])
        write_labels(experiment, scratch, condition, pairs, outcomes, reports)

    outputs = [experiment.layout.of_labels(condition, name) for name in LABEL_ARTEFACTS]
    return experiment.folder.stage(experiment.layout.of_labels(condition, "labels"), inputs, outputs, build)


def judgement_inputs(experiment: Experiment, condition: Condition) -> JudgementInputs:
    """Return what the labels of a condition depend on beside its pairs: the rule, and the panel if it needs one."""
    assert condition.rule is not None
    specs = [] if condition.rule.name == TRUTH else experiment.config.panels[condition.panel]
    rule = condition.rule.model_dump(exclude={"called", "loss"}, exclude_none=True)
    panel = [spec.model_dump(mode="json") for spec in specs]
    return JudgementInputs(rule=rule, panel=panel, content=contents(specs))


def ask_panel(
    experiment: Experiment,
    condition: Condition,
    pairs: pd.DataFrame,
    audited: pd.Series[bool],
    first_round: int = 0,
    weights: FloatArray | None = None,
) -> pd.DataFrame:
    """Let the condition's panel report: one row per pair, one column per labeler (none for the truth).

    Args:
        experiment: the experiment.
        condition: whose panel and rule.
        pairs: columns ``PAIR_COLUMNS``, n rows.
        audited: whose outcome is revealed, length n: for strategies that stand for a leak.
        first_round: the round of the first pair, where a campaign comes in batches.
        weights: the present weights, where they are known to the labelers.
    """
    assert condition.rule is not None
    if condition.rule.name == TRUTH:
        return pd.DataFrame(index=pairs.index)
    rng = part_rng(condition.seed, f"panel {condition.panel}")
    panel = Panel.from_specs([with_local_model(spec) for spec in experiment.config.panels[condition.panel]], rng)
    context = ReportContext(
        rule=condition.rule.name,
        rule_options=condition.rule.options,
        audit_rate=experiment.audit_rate(condition),
        kappa=experiment.config.gold.kappa,
        first_round=first_round,
        weights=weights,
    )
    reports = panel.report(as_labelers_see_them(pairs, audited), context)
    return pd.DataFrame(reports, columns=list(panel.labeler_ids), index=pairs.index)


def aggregate(
    experiment: Experiment, condition: Condition, pairs: pd.DataFrame, outcomes: pd.DataFrame, reports: pd.DataFrame
) -> LabeledCampaign:
    """Apply the condition's rule to a campaign, or take the truth.

    Args:
        experiment: the experiment.
        condition: whose rule.
        pairs: columns ``PAIR_COLUMNS``, T rows.
        outcomes: columns ``pair_id, p_truth, outcome, audited``, T rows.
        reports: shape ``(T, N)``, one column per labeler.
    """
    assert condition.rule is not None
    if condition.rule.name == TRUTH:
        # without a gold reward the truth of a pair is its outcome, and is not known where that is not
        return truth_labels(outcomes["p_truth"].to_numpy() if experiment.config.gold.is_known else revealed(outcomes))
    matrix = reports.to_numpy(dtype=np.float64)
    topics, ids = pairs["topic"].tolist(), pairs["pair_id"].tolist()
    chances = {role: outcomes[role].to_numpy(dtype=np.float64) for role in AUDIT_ROLES if role in outcomes}
    design = AuditDesign.make(len(pairs), *chances.values()) if chances else None
    return condition.rule.label(
        matrix, revealed(outcomes), topics, pair_ids=ids, audit_design=design, seed=condition.seed
    )


def write_labels(
    experiment: Experiment,
    scratch: Path,
    condition: Condition,
    pairs: pd.DataFrame,
    outcomes: pd.DataFrame,
    reports: pd.DataFrame,
) -> None:
    """Write ``LABEL_ARTEFACTS`` of a whole campaign into a stage's scratch folder.

    Args:
        experiment: the experiment.
        scratch: the stage's folder.
        condition: whose rule and labels.
        pairs: columns ``PAIR_COLUMNS``, T rows.
        outcomes: columns ``pair_id, p_truth, outcome, audited``, T rows.
        reports: shape ``(T, N)``, one column per labeler.
    """
    here = {name: scratch / experiment.layout.of_labels(condition, name) for name in LABEL_ARTEFACTS}
    labels = aggregate(experiment, condition, pairs, outcomes, reports)
    labeler_ids, audited = tuple(reports.columns), outcomes["audited"].to_numpy(dtype=bool)
    matrix = reports.to_numpy(dtype=np.float64)
    write_table(here["reports.parquet"], long_table(pairs, labeler_ids, matrix, revealed(outcomes)))
    n_labelers = (~np.isnan(matrix)).sum(axis=1)
    write_table(here["soft_labels.parquet"], orient(pairs, labels.soft_labels, n_labelers, audited))
    write_table(here["weights.parquet"], pd.DataFrame(labels.weights, columns=list(labeler_ids)))
    quality = label_quality(labels.soft_labels, outcomes["p_truth"].to_numpy(), audited)
    mechanism = mechanism_quality(labels, matrix, outcomes["outcome"].to_numpy(dtype=np.float64))
    final_weights = dict(zip(labeler_ids, labels.last_weights.tolist(), strict=True))
    stated = {"stated": labels.stated.tolist(), "final_weights": final_weights}
    write_json(here["labels.json"], {**quality, **mechanism, **stated})


def read_campaign(experiment: Experiment, condition: Condition) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return pairs and outcomes; a rule with an audit rate of its own has the seed's outcomes, other audits."""
    seed, rate = condition.seed, experiment.audit_rate(condition)
    pairs = read_table(experiment.path(experiment.layout.of_seed(seed, "pairs/pairs.parquet")), PAIR_COLUMNS)
    if rate != experiment.config.audit_rate:
        return pairs, _draw_outcomes(experiment, seed, pairs, rate)
    outcomes = read_table(
        experiment.path(experiment.layout.of_seed(seed, "outcomes.parquet")),
        ["pair_id", "p_truth", "outcome", "audited"],
    )
    return pairs, outcomes


def _draw_outcomes(experiment: Experiment, seed: int, pairs: pd.DataFrame, audit_rate: float) -> pd.DataFrame:
    if not experiment.config.gold.is_known:
        return draw_audits(pairs, audit_rate, part_rng(seed, "audits"))
    return draw_outcomes(pairs, experiment.config.gold.kappa, audit_rate, part_rng(seed, "outcomes"))


def with_local_model(spec: LabelerSpec) -> LabelerSpec:
    """Return the entry with what its judge's model loads from: ``bundled`` is a name of the pipeline's only."""
    if spec.kind != "judge" or spec.model is None:
        return spec
    return spec.model_copy(update={"model": resolve_model(spec.model)})


def long_table(
    pairs: pd.DataFrame, labeler_ids: tuple[str, ...], reports: np.ndarray[Any, Any], outcomes: np.ndarray[Any, Any]
) -> pd.DataFrame:
    """Return the long table that ``aggregate`` reads: one report per row, with what was revealed of the outcome.

    Args:
        pairs: columns ``PAIR_COLUMNS``, T rows.
        labeler_ids: length N.
        reports: shape ``(T, N)``, NaN where a labeler did not judge: no row.
        outcomes: shape ``(T,)``, 0 or 1, NaN where not revealed.
    """
    n = len(labeler_ids)
    rows = pairs[["pair_id", "prompt", "response_a", "response_b", "topic"]]
    table = rows.loc[rows.index.repeat(n)].reset_index(drop=True)
    table["labeler_id"] = list(labeler_ids) * len(pairs)
    table["report"] = reports.reshape(-1)
    table = table.assign(outcome=np.repeat(outcomes, n))
    table["round"] = np.repeat(np.arange(len(pairs)), n)
    return table[table["report"].notna()]
