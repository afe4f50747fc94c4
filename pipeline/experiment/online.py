"""The online loop: iteration after iteration, the current policy writes the pairs that train the next one.

    base policy -> pairs 0 -> reports 0 -> labels -> policy 1 -> pairs 1 -> reports 1 -> labels -> policy 2 -> ...
                                  '------ the mechanism's weights carry over -----'

The setting of the paper that the project starts from: a dynamic game in which influence is earned over time. The
mechanism is not pickled between iterations but replayed over all rounds so far, which gives the same weights and lets a
killed run go on. Old pairs are trained on with their present labels; the reference is always the base policy.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from truthful_rlhf.aggregation import LabeledCampaign
from truthful_rlhf.pipeline.config.training import OnlineDPOSettings
from truthful_rlhf.pipeline.experiment.conditions import Condition
from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.experiment.data import (
    JudgementInputs,
    ReferenceInputs,
    aggregate,
    ask_panel,
    build_outcomes,
    judgement_inputs,
    read_campaign,
    write_labels,
)
from truthful_rlhf.pipeline.experiment.pairs import PAIR_COLUMNS, draw_outcomes, pair_off
from truthful_rlhf.pipeline.labels.apply import LABEL_ARTEFACTS, label_quality, orient, revealed
from truthful_rlhf.pipeline.labels.regret_curves import regret_revealed
from truthful_rlhf.pipeline.models.tokens import orient_tokens, with_token_ids
from truthful_rlhf.pipeline.storage import processes
from truthful_rlhf.pipeline.storage.inputs import ConfigSections, StageInputs
from truthful_rlhf.pipeline.storage.random import part_rng
from truthful_rlhf.pipeline.storage.tables import read_table, write_table


@dataclass(frozen=True, kw_only=True)
class NewPairInputs(StageInputs):
    """What the pairs of an iteration and their outcomes depend on.

    Attributes:
        before: fingerprint of the policy that writes them; of the outcomes of all conditions in the first iteration.
        kappa: sharpness of the true preference.
        audit_rate: share of the pairs that is audited, in [0, 1].
        config: None in the first iteration: recorded pairs, which it may be trained on, depend on no section.
    """

    before: str
    kappa: float | None
    audit_rate: float
    config: ConfigSections | None


@dataclass(frozen=True, kw_only=True)
class ReportInputs(StageInputs):
    """What the reports of an iteration depend on, with the fingerprint of its pairs."""

    pairs: str
    judged: JudgementInputs


@dataclass(frozen=True, kw_only=True)
class IterationInputs(StageInputs):
    """What the policy of an iteration depends on: fingerprints of its data, and the training's settings."""

    reports: str
    reference: str
    policy: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class LoopInputs(StageInputs):
    """What the result of the loop depends on: the fingerprint of its last policy."""

    last: str


@dataclass(frozen=True)
class OnlineLoop:
    """The stages of one condition's loop; iteration k has the folder ``online/k/``."""

    experiment: Experiment
    condition: Condition
    settings: OnlineDPOSettings

    def run(self) -> str:
        """Run all iterations; build ``policy/``, the labels of the whole campaign, and ``online.parquet``."""
        layout, last = self.experiment.layout, self.settings.iterations - 1
        names = ("policy", "online.parquet", *LABEL_ARTEFACTS)
        outputs = [layout.of_condition(self.condition, name) for name in names]

        def build(scratch: Path) -> None:
            shutil.copytree(self._path(last, "policy"), scratch / outputs[0])
            write_labels(self.experiment, scratch, self.condition, *self._campaign(self.settings.iterations))
            write_table(scratch / outputs[1], self._by_iteration())

        inputs = LoopInputs(last=self._policy(last))
        return self.experiment.folder.stage(layout.of_condition(self.condition, "policy"), inputs, outputs, build)

    def _name(self, k: int, name: str) -> str:
        return self.experiment.layout.of_condition(self.condition, f"online/{k}/{name}")

    def _path(self, k: int, name: str) -> Path:
        return self.experiment.path(self._name(k, name))

    def _pairs(self, k: int) -> str:
        """Build the pairs that policy k - 1 writes (the base policy's, shared by all conditions, for k = 0)."""
        outputs = [self._name(k, name) for name in ("pairs.parquet", "outcomes.parquet")]
        seed = self.condition.seed
        inputs = NewPairInputs(
            before=self._policy(k - 1) if k else build_outcomes(self.experiment, seed),
            kappa=self.experiment.config.gold.kappa,
            audit_rate=self.experiment.audit_rate(self.condition),
            config=self.experiment.sections("model", "prompts", "sampling", "pairs", "gold") if k else None,
        )

        def build(scratch: Path) -> None:
            if k == 0:
                pairs, outcomes = read_campaign(self.experiment, self.condition)
            else:
                pairs = self._write_pairs(k)
                kappa, rng = self.experiment.config.gold.kappa, part_rng(seed, f"outcomes {k}")
                outcomes = draw_outcomes(pairs, kappa, self.experiment.audit_rate(self.condition), rng)
            for output, table in zip(outputs, (pairs, outcomes), strict=True):
                write_table(scratch / output, table)

        return self.experiment.folder.stage(self._name(k, "pairs"), inputs, outputs, build)

    def _reference(self, k: int) -> str:
        """Build the base policy's log-probabilities of pairs k."""
        output = self._name(k, "reference.parquet")
        config, max_length = self.experiment.sections("model"), self.settings.max_length
        inputs = ReferenceInputs(pairs=self._pairs(k), config=config, max_length=max_length)

        def build(scratch: Path) -> None:
            from truthful_rlhf.pipeline.training.dpo import reference_log_probabilities

            pairs = with_token_ids(read_table(self._path(k, "pairs.parquet"), []), self.experiment.encoder)
            table = reference_log_probabilities(self.experiment.base, pairs, self.settings)
            if processes.is_first():
                write_table(scratch / output, table)

        return self.experiment.folder.stage(self._name(k, "reference"), inputs, [output], build, together=True)

    def _write_pairs(self, k: int) -> pd.DataFrame:
        from truthful_rlhf.pipeline.models.generate import sample_responses

        config, seed = self.experiment.config, self.condition.seed
        prompts, _ = self.experiment.prompts(seed)
        n = config.pairs.responses_per_prompt
        encoded = self.experiment.encoded(prompts)
        repeated = [ids for ids in encoded for _ in range(n)]
        policy = self.experiment.base.load(self._path(k - 1, "policy"))
        draw = int(part_rng(seed, f"responses {k}").integers(2**31))
        responses = sample_responses(
            policy, self.experiment.tokenizer, repeated, config.sampling, draw, f"Iteration {k}"
        )
        return pair_off(prompts, encoded, responses, self.experiment.gold, first_id=self._n_pairs(k))

    def _reports(self, k: int) -> str:
        """Build the panel's reports on pairs k, given what it may know: the round and the weights so far."""
        output = self._name(k, "reports.parquet")
        inputs = ReportInputs(pairs=self._pairs(k), judged=judgement_inputs(self.experiment, self.condition))

        def build(scratch: Path) -> None:
            pairs = read_table(self._path(k, "pairs.parquet"), PAIR_COLUMNS)
            audited = read_table(self._path(k, "outcomes.parquet"), ["audited"])["audited"]
            weights = self._labels(k).last_weights if k else None
            reports = ask_panel(self.experiment, self.condition, pairs, audited, self._n_pairs(k), weights)
            reports.insert(0, "pair_id", pairs["pair_id"])  # the truth has no labelers, but as many rows
            write_table(scratch / output, reports)

        return self.experiment.folder.stage(self._name(k, "reports"), inputs, [output], build)

    def _table(self, name: str, iterations: int) -> pd.DataFrame:
        """Return a table of the first iterations (at least one), concatenated in the order of rounds."""
        tables = [pd.read_parquet(self._path(k, f"{name}.parquet")) for k in range(iterations)]
        return pd.concat(tables, ignore_index=True)

    def _n_pairs(self, iterations: int) -> int:
        """Return the number of rounds of the first iterations."""
        return len(self._table("pairs", iterations)) if iterations else 0

    def _campaign(self, iterations: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        pairs, outcomes, reports = (self._table(name, iterations) for name in ("pairs", "outcomes", "reports"))
        return pairs, outcomes, reports.drop(columns="pair_id")

    def _labels(self, iterations: int) -> LabeledCampaign:
        """Replay the rule over all rounds of the first iterations."""
        return aggregate(self.experiment, self.condition, *self._campaign(iterations))

    def _policy(self, k: int) -> str:
        """Train policy k on pairs k and a replay of older ones, from policy k - 1."""
        output = self._name(k, "policy")
        inputs = IterationInputs(
            reports=self._reports(k),
            reference=self._reference(k),
            policy=self.settings.model_dump(mode="json", exclude={"iterations", "called", "report_to"}),
        )

        def build(scratch: Path) -> None:
            from truthful_rlhf.pipeline.training.dpo import preference_dataset, train_dpo

            data = preference_dataset(self._training_pairs(k), self._table("reference", k + 1))
            before = self._path(k - 1, "policy") if k else None
            checkpoints = self.experiment.folder.checkpoints(output, inputs)
            seed = self.condition.seed
            train_dpo(self.experiment.base, data, self.settings, scratch / output, seed, before, checkpoints)

        return self.experiment.folder.stage(output, inputs, [output], build, together=True)

    def _training_pairs(self, k: int) -> pd.DataFrame:
        """Return the oriented pairs of iteration k and a random sample of older ones, all with present labels."""
        pairs, outcomes, reports = self._campaign(k + 1)
        n_labelers = reports.notna().sum(axis=1).to_numpy()
        audited = outcomes["audited"].to_numpy(dtype=bool)
        n_old = self._n_pairs(k)
        n_replayed = min(n_old, round(self.settings.replay * (len(pairs) - n_old)))
        replayed = part_rng(self.condition.seed, f"replay {k}").permutation(n_old)[:n_replayed]
        rows = np.concatenate([np.arange(n_old, len(pairs)), replayed])
        table = pairs.iloc[rows].reset_index(drop=True)
        labels = orient(table, self._labels(k + 1).soft_labels[rows], n_labelers[rows], audited[rows])
        return orient_tokens(labels, with_token_ids(table, self.experiment.encoder))

    def _by_iteration(self) -> pd.DataFrame:
        """Return one row per iteration.

        ``gold`` is that of the pairs, written by the policy of the iteration before; ``label_accuracy`` and ``brier``
        are of the labels as stated before the outcomes; ``regret_revealed`` (on the audited pairs of all iterations so
        far) and weights are those at the iteration's end.
        """
        pairs, outcomes, reports = self._campaign(self.settings.iterations)
        labels = self._labels(self.settings.iterations)
        matrix = reports.to_numpy(dtype=np.float64)
        cumulative = regret_revealed(labels.stated, matrix, revealed(outcomes))
        history = labels.weights
        assert history is not None
        rows: list[dict[str, Any]] = []
        for k in range(self.settings.iterations):
            part = slice(self._n_pairs(k), self._n_pairs(k + 1))
            truth, audited = outcomes["p_truth"].to_numpy()[part], outcomes["audited"].to_numpy(dtype=bool)[part]
            quality = label_quality(labels.stated[part], truth, audited)
            row = {
                "iteration": k,
                "n_pairs": len(truth),
                "gold": float(pairs[["gold_a", "gold_b"]].to_numpy()[part].mean()),
                "label_accuracy": quality["label_accuracy"],
                "brier": quality["brier"],
                "regret_revealed": float(cumulative[part.stop - 1]),
            }
            weights = dict(zip(reports.columns, history[part.stop].tolist(), strict=True))
            rows.append(row | {f"weight {name}": weight for name, weight in weights.items()})
        return pd.DataFrame(rows)


def train_online(experiment: Experiment, condition: Condition) -> str:
    """Run the online loop of a condition; return the fingerprint of its last stage."""
    assert isinstance(condition.method, OnlineDPOSettings)
    return OnlineLoop(experiment, condition, condition.method).run()
