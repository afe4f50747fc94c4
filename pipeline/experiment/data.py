"""The stages of an experiment, each building one artefact from earlier ones and skipped when it is there already.

    pairs -> outcomes -> labels(panel, rule) -> policy(panel, rule, method) -> evaluation(panel, rule, method)
      '----> reference log-probabilities ---------^

Everything of one seed is shared as far as it can be: all panels and rules see the same pairs, outcomes, audited pairs,
reference log-probabilities, held-out prompts and sampling seeds, so that conditions differ in their labels only; and
the methods of one panel and rule share its labels and its reward model.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from truthful_rlhf.labelers import LabelerSpec, Panel, ReportContext
from truthful_rlhf.pipeline.config.experiment import SHARED, TRUTH, Config
from truthful_rlhf.pipeline.experiment.conditions import Condition, Layout
from truthful_rlhf.pipeline.experiment.evaluation import Estimate, FloatArray, win_rate
from truthful_rlhf.pipeline.experiment.methods import METHODS
from truthful_rlhf.pipeline.experiment.pairs import (
    PAIR_COLUMNS,
    as_labelers_see_them,
    draw_outcomes,
    pair_off,
    part_rng,
    recorded_pairs,
)
from truthful_rlhf.pipeline.experiment.prompts import BUNDLED, Prompt, load_prompts
from truthful_rlhf.pipeline.labels.apply import (
    LABEL_ARTEFACTS,
    Labels,
    apply_rule,
    label_quality,
    mechanism_quality,
    orient,
    revealed,
    truth_labels,
)
from truthful_rlhf.pipeline.models.generate import sample_responses
from truthful_rlhf.pipeline.models.load import load_model, load_tokenizer, resolve_model
from truthful_rlhf.pipeline.storage.artifacts import RunFolder, checksum, write_json
from truthful_rlhf.pipeline.storage.tables import read_table, write_table
from truthful_rlhf.reward_model.gold import GoldReward, make_gold

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EVALUATION_SEED = 1_000_003


class Experiment:
    """The stages of one config in one run folder."""

    def __init__(self, config: Config, folder: RunFolder, layout: Layout) -> None:
        """Keep the config and the folder; models are loaded when a stage needs them."""
        self.config = config
        self.folder = folder
        self.layout = layout

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The policy's tokenizer."""
        return load_tokenizer(self.config.model.name_or_path)

    @cached_property
    def base_model(self) -> PreTrainedModel:
        """The policy before training."""
        return load_model(self.config.model.name_or_path)

    @cached_property
    def gold(self) -> GoldReward:
        """The gold reward."""
        return make_gold(self.config.gold.name, self.config.gold.label)

    @cached_property
    def _sources(self) -> dict[str, str]:
        """What the run reads from outside: the prompts file and a local model folder count by their content."""
        sources = {"model": self.config.model.name_or_path, "prompts": self.config.prompts.source}
        if Path(sources["prompts"]).is_file():
            sources["prompts_sha256"] = checksum(Path(sources["prompts"]))
        if self.config.pairs.file is not None and self.config.pairs.file.is_file():
            sources["pairs_sha256"] = checksum(self.config.pairs.file)
        if sources["model"] != BUNDLED and Path(resolve_model(sources["model"])).is_dir():
            sources["model_sha256"] = checksum(Path(sources["model"]))
        return sources

    def path(self, relative: str) -> Path:
        """Return the absolute path of an artefact."""
        return self.folder.root / relative

    # --- shared by all conditions of a seed ---------------------------------------------------------------------------

    def prompts(self, seed: int) -> tuple[list[Prompt], list[Prompt]]:
        """Return the training and the held-out prompts of a seed."""
        section = self.config.prompts
        return load_prompts(
            section.source, section.column, section.n_train, section.n_held_out, part_rng(seed, "prompts")
        )

    def held_out(self, seed: int) -> list[Prompt]:
        """Return the held-out prompts, each as often as it is responded to."""
        return [p for p in self.prompts(seed)[1] for _ in range(self.config.evaluation.responses_per_prompt)]

    @staticmethod
    def base(seed: int) -> Condition:
        """Return the condition of the base policy, which all panels and rules share."""
        return Condition(seed, SHARED, None, None)

    def pairs(self, seed: int) -> str:
        """Build ``pairs/pairs.parquet``: sampled responses, paired off, or recorded ones, with their gold rewards."""
        output = self.layout.of_seed(seed, "pairs/pairs.parquet")
        inputs = {**self._sources, **self._sections("prompts", "sampling", "pairs", "gold"), "seed": seed}
        del inputs["gold"]["kappa"]

        def build(scratch: Path) -> None:
            if self.config.pairs.file is not None:
                write_table(scratch / output, recorded_pairs(self.config.pairs.file, self.gold, self.config.pairs.read))
                return
            prompts, _ = self.prompts(seed)
            n = self.config.pairs.responses_per_prompt
            repeated = [prompt.text for prompt in prompts for _ in range(n)]
            responses = sample_responses(
                self.base_model, self.tokenizer, repeated, self.config.sampling, seed, "Generating responses"
            )
            texts = [response.text for response in responses]
            grouped = [texts[k : k + n] for k in range(0, len(texts), n)]
            write_table(scratch / output, pair_off(prompts, grouped, self.gold))

        return self.folder.stage(self.layout.of_seed(seed, "pairs"), inputs, [output], build)

    def outcomes(self, seed: int) -> str:
        """Build ``outcomes.parquet``: the true preference, the outcome of every pair, and which pairs are audited."""
        output = self.layout.of_seed(seed, "outcomes.parquet")
        inputs = {"pairs": self.pairs(seed), "kappa": self.config.gold.kappa, "audit_rate": self.config.audit_rate}

        def build(scratch: Path) -> None:
            pairs = read_table(self.path(self.layout.of_seed(seed, "pairs/pairs.parquet")), PAIR_COLUMNS)
            write_table(scratch / output, self._draw_outcomes(seed, pairs, self.config.audit_rate))

        return self.folder.stage(self.layout.of_seed(seed, "outcomes"), inputs, [output], build)

    def share(self, seed: int) -> None:
        """Build what all conditions of a seed share, so that they can then be built in any order, or side by side."""
        self.outcomes(seed)
        self.evaluation(self.base(seed))
        for policy in self.config.policy:
            METHODS[policy.method].share(self, seed, policy)

    # --- one condition ------------------------------------------------------------------------------------------------

    def audit_rate(self, condition: Condition) -> float:
        """Return the share of the pairs that is audited for a condition: its rule's, or that of all."""
        own = None if condition.rule is None else condition.rule.audit_rate
        return self.config.audit_rate if own is None else own

    def labels(self, condition: Condition) -> str:
        """Build ``reports``, ``soft_labels`` and ``weights`` (Parquet) of a condition, and ``labels.json``."""
        inputs = {"outcomes": self.outcomes(condition.seed), **self.judgement(condition)}

        def build(scratch: Path) -> None:
            pairs, outcomes = self.campaign(condition)
            self.write_labels(scratch, condition, pairs, outcomes, self.reports(condition, pairs))

        outputs = [self.layout.of_labels(condition, name) for name in LABEL_ARTEFACTS]
        return self.folder.stage(self.layout.of_labels(condition, "labels"), inputs, outputs, build)

    def judgement(self, condition: Condition) -> dict[str, Any]:
        """Return what the labels of a condition depend on beside its pairs: the rule, and the panel if it needs one."""
        assert condition.rule is not None
        specs = [] if condition.rule.name == TRUTH else self.config.panels[condition.panel]
        rule = condition.rule.model_dump(exclude={"called", "loss"}, exclude_none=True)
        return {"rule": rule, "panel": [spec.model_dump(mode="json") for spec in specs]}

    def reports(
        self, condition: Condition, pairs: pd.DataFrame, first_round: int = 0, weights: FloatArray | None = None
    ) -> pd.DataFrame:
        """Let the condition's panel report: one row per pair, one column per labeler (none for the truth).

        Args:
            condition: whose panel and rule.
            pairs: columns ``PAIR_COLUMNS``.
            first_round: the round of the first pair, where a campaign comes in batches.
            weights: the present weights, where they are known to the labelers.
        """
        assert condition.rule is not None
        if condition.rule.name == TRUTH:
            return pd.DataFrame(index=pairs.index)
        rng = part_rng(condition.seed, f"panel {condition.panel}")
        panel = Panel.from_specs([with_local_model(spec) for spec in self.config.panels[condition.panel]], rng)
        context = ReportContext(
            rule=condition.rule.name,
            rule_options=condition.rule.options,
            audit_rate=self.audit_rate(condition),
            kappa=self.config.gold.kappa,
            first_round=first_round,
            weights=weights,
        )
        reports = panel.report(as_labelers_see_them(pairs), context)
        return pd.DataFrame(reports, columns=list(panel.labeler_ids), index=pairs.index)

    def aggregate(
        self, condition: Condition, pairs: pd.DataFrame, outcomes: pd.DataFrame, reports: pd.DataFrame
    ) -> Labels:
        """Apply the condition's rule to a campaign, or take the truth."""
        assert condition.rule is not None
        if condition.rule.name == TRUTH:
            return truth_labels(outcomes["p_truth"].to_numpy())
        matrix = reports.to_numpy(dtype=np.float64)
        return apply_rule(condition.rule, matrix, revealed(outcomes), pairs["topic"].tolist())

    def write_labels(
        self,
        scratch: Path,
        condition: Condition,
        pairs: pd.DataFrame,
        outcomes: pd.DataFrame,
        reports: pd.DataFrame,
    ) -> None:
        """Write ``LABEL_ARTEFACTS`` of a whole campaign into a stage's scratch folder."""
        here = {name: scratch / self.layout.of_labels(condition, name) for name in LABEL_ARTEFACTS}
        labels = self.aggregate(condition, pairs, outcomes, reports)
        labeler_ids, audited = tuple(reports.columns), outcomes["audited"].to_numpy(dtype=bool)
        matrix = reports.to_numpy(dtype=np.float64)
        write_table(here["reports.parquet"], long_table(pairs, labeler_ids, matrix, revealed(outcomes)))
        n_labelers = (~np.isnan(matrix)).sum(axis=1)
        write_table(here["soft_labels.parquet"], orient(pairs, labels.soft_labels, n_labelers, audited))
        write_table(here["weights.parquet"], pd.DataFrame(labels.weights, columns=list(labeler_ids)))
        quality = label_quality(labels.soft_labels, outcomes["p_truth"].to_numpy(), audited)
        mechanism = mechanism_quality(labels, matrix, outcomes["outcome"].to_numpy(dtype=np.float64))
        final_weights = dict(zip(labeler_ids, labels.weights[-1].tolist(), strict=True))
        stated = {"stated": labels.stated.tolist(), "final_weights": final_weights}
        write_json(here["labels.json"], {**quality, **mechanism, **stated})

    def policy(self, condition: Condition) -> str:
        """Train the policy of a condition on its soft labels, with the config's method."""
        return METHODS[condition.method.method].train(self, condition)

    def evaluation(self, condition: Condition) -> str:
        """Measure a policy on the held-out prompts: ``evaluation.json`` and ``samples.parquet``."""
        here = [self.layout.of_condition(condition, name) for name in ("evaluation.json", "samples.parquet")]
        trained = condition.rule is not None
        base = self.base(condition.seed)
        inputs: dict[str, Any] = {**self._sources, **self._sections("prompts", "sampling", "gold", "evaluation")}
        inputs |= (
            {"seed": condition.seed}
            if not trained
            else {"policy": self.policy(condition), "base": self.evaluation(base)}
        )

        def build(scratch: Path) -> None:
            samples = self._sample_held_out(condition)
            if trained:
                base_samples = self.path(self.layout.of_condition(base, "samples.parquet"))
                samples["gold_base"] = read_table(base_samples, ["gold"])["gold"]
            write_table(scratch / here[1], samples)
            write_json(scratch / here[0], summarise(samples, self.config.evaluation.responses_per_prompt))

        return self.folder.stage(self.layout.of_condition(condition, "evaluation"), inputs, here, build)

    def _sample_held_out(self, condition: Condition) -> pd.DataFrame:
        """Sample, score and measure the divergence of a policy's responses to the held-out prompts."""
        repeated = self.held_out(condition.seed)
        prompts = [p.text for p in repeated]
        seed = EVALUATION_SEED + condition.seed
        kl: FloatArray | float = 0.0
        if condition.rule is None:
            sampling = self.config.sampling
            responses = sample_responses(self.base_model, self.tokenizer, prompts, sampling, seed, "Held-out responses")
        else:
            responses, kl = METHODS[condition.method.method].respond(self, condition, prompts, seed)
        texts = [response.text for response in responses]
        return pd.DataFrame(
            {
                "prompt": prompts,
                "topic": [p.topic for p in repeated],
                "response": texts,
                "gold": self.gold.score(prompts, texts),
                "n_tokens": [len(response.token_ids) for response in responses],
                "kl": kl,
            }
        )

    def campaign(self, condition: Condition) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return pairs and outcomes; a rule with an audit rate of its own has the seed's outcomes, other audits."""
        seed, rate = condition.seed, self.audit_rate(condition)
        pairs = read_table(self.path(self.layout.of_seed(seed, "pairs/pairs.parquet")), PAIR_COLUMNS)
        if rate != self.config.audit_rate:
            return pairs, self._draw_outcomes(seed, pairs, rate)
        outcomes = read_table(
            self.path(self.layout.of_seed(seed, "outcomes.parquet")), ["pair_id", "p_truth", "outcome", "audited"]
        )
        return pairs, outcomes

    def _draw_outcomes(self, seed: int, pairs: pd.DataFrame, audit_rate: float) -> pd.DataFrame:
        return draw_outcomes(pairs, self.config.gold.kappa, audit_rate, part_rng(seed, "outcomes"))

    def _sections(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self.config, name).model_dump(mode="json") for name in names}


def with_local_model(spec: LabelerSpec) -> LabelerSpec:
    """Return the entry with what its judge's model loads from: ``bundled`` is a name of the pipeline's only."""
    if spec.kind != "judge" or spec.model is None:
        return spec
    return spec.model_copy(update={"model": resolve_model(spec.model)})


def long_table(
    pairs: pd.DataFrame, labeler_ids: tuple[str, ...], reports: np.ndarray[Any, Any], outcomes: np.ndarray[Any, Any]
) -> pd.DataFrame:
    """Return the annotation table (design, section 5): one report per row, with what was revealed of the outcome."""
    n = len(labeler_ids)
    rows = pairs[["pair_id", "prompt", "response_a", "response_b", "topic"]]
    table = rows.loc[rows.index.repeat(n)].reset_index(drop=True)
    table["labeler_id"] = list(labeler_ids) * len(pairs)
    table["report"] = reports.reshape(-1)
    table = table.assign(outcome=np.repeat(outcomes, n))
    table["round"] = np.repeat(np.arange(len(pairs)), n)
    return table[table["report"].notna()]


def summarise(samples: pd.DataFrame, responses_per_prompt: int) -> Mapping[str, Any]:
    """Return means with standard errors over prompts."""
    columns: dict[str, Any] = {"gold": samples["gold"], "n_tokens": samples["n_tokens"], "kl": samples["kl"]}
    if "gold_base" in samples:
        columns["win_rate"] = win_rate(samples["gold"].to_numpy(), samples["gold_base"].to_numpy())
    return {
        name: vars(Estimate.over_prompts(np.asarray(values, dtype=np.float64), responses_per_prompt))
        for name, values in columns.items()
    }
