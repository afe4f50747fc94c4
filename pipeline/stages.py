"""The stages of an experiment, each building one artefact from earlier ones and skipped when it is there already.

    pairs -> outcomes -> labels(panel, rule) -> policy(panel, rule) -> evaluation(panel, rule)
      '----> reference log-probabilities ---------^

Everything of one seed is shared as far as it can be: all panels and rules see the same pairs, outcomes, audited pairs,
reference log-probabilities, held-out prompts and sampling seeds, so that conditions differ in their labels only.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from labelers import Panel, ReportContext
from pipeline.artifacts import RunFolder, checksum, write_json
from pipeline.config import SHARED, TRUTH, Config, ConfigError, RuleSection
from pipeline.evaluate import Estimate, kl_to_base, win_rate
from pipeline.generate import sample_responses
from pipeline.labels import Labels, apply_rule, label_quality, orient, truth_labels
from pipeline.model import load_model, load_tokenizer, resolve_model
from pipeline.pairs import PAIR_COLUMNS, as_labelers_see_them, draw_outcomes, pair_off, part_rng
from pipeline.prompts import BUNDLED, Prompt, load_prompts
from pipeline.tables import read_table, write_table
from reward_model.gold import GoldReward, make_gold

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EVALUATION_SEED = 1_000_003
BASE = "base"


@dataclass(frozen=True)
class Layout:
    """Where the artefacts of a seed and of a condition lie below the run folder."""

    seed: str
    condition: str

    def of_seed(self, seed: int, name: str) -> str:
        """Return the path of an artefact that all conditions of a seed share."""
        return self.seed.format(seed=seed) + name

    def of_condition(self, condition: Condition, name: str) -> str:
        """Return the path of an artefact of one condition; the base policy belongs to the seed."""
        if condition.rule is None:
            return self.of_seed(condition.seed, f"{BASE}/{name}")
        return self.condition.format(seed=condition.seed, panel=condition.panel, rule=condition.title) + name


GRID = Layout("seed-{seed}/", "seed-{seed}/{panel}/{rule}/")
SINGLE = Layout("", "")  # one condition: design, section 8


@dataclass(frozen=True)
class Condition:
    """One cell of the grid: a seed, a panel, and a rule; without a rule it is the base policy (nothing trained)."""

    seed: int
    panel: str
    rule: RuleSection | None

    @property
    def title(self) -> str:
        """Return the rule's title, or ``base``."""
        return BASE if self.rule is None else self.rule.title


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

    def pairs(self, seed: int) -> str:
        """Build ``pairs/pairs.parquet``: sampled responses, paired off, with their gold rewards."""
        output = self.layout.of_seed(seed, "pairs/pairs.parquet")
        inputs = {**self._sources, **self._sections("prompts", "sampling", "pairs", "gold"), "seed": seed}
        del inputs["gold"]["kappa"]

        def build(scratch: Path) -> None:
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
            write_table(scratch / output, draw_outcomes(pairs, self.config, part_rng(seed, "outcomes")))

        return self.folder.stage(self.layout.of_seed(seed, "outcomes"), inputs, [output], build)

    def reference(self, seed: int) -> str:
        """Build ``reference.parquet``: the base policy's log-probabilities of both responses of every pair."""
        from pipeline.dpo import reference_log_probabilities

        output = self.layout.of_seed(seed, "reference.parquet")
        inputs = {"pairs": self.pairs(seed), "max_length": self.config.policy.max_length}

        def build(scratch: Path) -> None:
            pairs = read_table(self.path(self.layout.of_seed(seed, "pairs/pairs.parquet")), PAIR_COLUMNS)
            table = reference_log_probabilities(
                resolve_model(self.config.model.name_or_path), pairs, self.config.policy
            )
            write_table(scratch / output, table)

        return self.folder.stage(self.layout.of_seed(seed, "reference"), inputs, [output], build)

    # --- one condition ------------------------------------------------------------------------------------------------

    def labels(self, condition: Condition) -> str:
        """Build ``reports``, ``soft_labels`` and ``weights`` (Parquet) of a condition, and ``labels.json``."""
        assert condition.rule is not None
        here = {
            name: self.layout.of_condition(condition, name)
            for name in ("reports.parquet", "soft_labels.parquet", "weights.parquet", "labels.json")
        }
        specs = [] if condition.rule.name == TRUTH else self.config.panels[condition.panel]
        inputs = {
            "outcomes": self.outcomes(condition.seed),
            "rule": condition.rule.model_dump(),
            "panel": [spec.model_dump(mode="json") for spec in specs],
        }

        def build(scratch: Path) -> None:
            pairs, outcomes = self._campaign(condition.seed)
            revealed = np.where(outcomes["audited"], outcomes["outcome"], np.nan)
            labeler_ids, reports, labels = self._judge(condition, pairs, revealed, outcomes["p_truth"].to_numpy())
            write_table(scratch / here["reports.parquet"], long_table(pairs, labeler_ids, reports, revealed))
            oriented = orient(
                pairs, labels.soft_labels, (~np.isnan(reports)).sum(axis=1), outcomes["audited"].to_numpy()
            )
            write_table(scratch / here["soft_labels.parquet"], oriented)
            weights = pd.DataFrame(labels.weights, columns=list(labeler_ids))
            write_table(scratch / here["weights.parquet"], weights)
            quality = label_quality(labels.soft_labels, outcomes["p_truth"].to_numpy(), outcomes["audited"].to_numpy())
            stated = {
                "stated": labels.stated.tolist(),
                "final_weights": dict(zip(labeler_ids, labels.weights[-1].tolist(), strict=True)),
            }
            write_json(scratch / here["labels.json"], {**quality, **stated})

        return self.folder.stage(self.layout.of_condition(condition, "labels"), inputs, list(here.values()), build)

    def _judge(
        self, condition: Condition, pairs: pd.DataFrame, revealed: np.ndarray[Any, Any], p_truth: np.ndarray[Any, Any]
    ) -> tuple[tuple[str, ...], np.ndarray[Any, Any], Labels]:
        """Let the condition's panel report, and aggregate; the truth needs no panel."""
        assert condition.rule is not None
        if condition.rule.name == TRUTH:
            return (), np.empty((len(pairs), 0)), truth_labels(p_truth)
        rng = part_rng(condition.seed, f"panel {condition.panel}")
        panel = Panel.from_specs(self.config.panels[condition.panel], rng)
        context = ReportContext(
            rule=condition.rule.name, audit_rate=self.config.audit_rate, kappa=self.config.gold.kappa
        )
        reports = panel.report(as_labelers_see_them(pairs), context)
        return panel.labeler_ids, reports, apply_rule(condition.rule, reports, revealed, pairs["topic"].tolist())

    def policy(self, condition: Condition) -> str:
        """Train the policy of a condition on its soft labels: ``policy/`` with the adapter and the training metrics."""
        from pipeline.dpo import preference_dataset, train_dpo

        output = self.layout.of_condition(condition, "policy")
        inputs = {
            "labels": self.labels(condition),
            "reference": self.reference(condition.seed),
            "policy": self.config.policy.model_dump(mode="json"),
        }

        def build(scratch: Path) -> None:
            labels = read_table(self.path(self.layout.of_condition(condition, "soft_labels.parquet")), ["soft_label"])
            reference = read_table(self.path(self.layout.of_seed(condition.seed, "reference.parquet")), ["pair_id"])
            train_dpo(
                resolve_model(self.config.model.name_or_path),
                preference_dataset(labels, reference),
                self.config.policy,
                scratch / output,
                condition.seed,
            )

        return self.folder.stage(self.layout.of_condition(condition, "policy"), inputs, [output], build)

    def evaluation(self, condition: Condition) -> str:
        """Measure a policy on the held-out prompts: ``evaluation.json`` and ``samples.parquet``."""
        here = [self.layout.of_condition(condition, name) for name in ("evaluation.json", "samples.parquet")]
        trained = condition.rule is not None
        base = Condition(condition.seed, SHARED, None)
        inputs: dict[str, Any] = {**self._sources, **self._sections("prompts", "sampling", "gold", "evaluation")}
        inputs |= (
            {"seed": condition.seed}
            if not trained
            else {"policy": self.policy(condition), "base": self.evaluation(base)}
        )
        adapter = self.path(self.layout.of_condition(condition, "policy")) if trained else None

        def build(scratch: Path) -> None:
            samples = self._sample_held_out(condition.seed, adapter)
            if trained:
                base_samples = self.path(self.layout.of_condition(base, "samples.parquet"))
                samples["gold_base"] = read_table(base_samples, ["gold"])["gold"]
            write_table(scratch / here[1], samples)
            write_json(scratch / here[0], summarise(samples, self.config.evaluation.responses_per_prompt))

        return self.folder.stage(self.layout.of_condition(condition, "evaluation"), inputs, here, build)

    def _sample_held_out(self, seed: int, adapter: Path | None) -> pd.DataFrame:
        """Sample, score and measure the divergence of a policy's responses to the held-out prompts."""
        _, held_out = self.prompts(seed)
        prompts = [p.text for p in held_out for _ in range(self.config.evaluation.responses_per_prompt)]
        policy = load_model(self.config.model.name_or_path, adapter) if adapter else self.base_model
        responses = sample_responses(
            policy, self.tokenizer, prompts, self.config.sampling, EVALUATION_SEED + seed, "Held-out responses"
        )
        texts = [response.text for response in responses]
        return pd.DataFrame(
            {
                "prompt": prompts,
                "topic": [p.topic for p in held_out for _ in range(self.config.evaluation.responses_per_prompt)],
                "response": texts,
                "gold": self.gold.score(prompts, texts),
                "n_tokens": [len(response.token_ids) for response in responses],
                "kl": kl_to_base(policy, self.base_model, self.tokenizer, prompts, responses) if adapter else 0.0,
            }
        )

    def _campaign(self, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        pairs = read_table(self.path(self.layout.of_seed(seed, "pairs/pairs.parquet")), PAIR_COLUMNS)
        outcomes = read_table(
            self.path(self.layout.of_seed(seed, "outcomes.parquet")), ["p_truth", "outcome", "audited"]
        )
        return pairs, outcomes

    def _sections(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self.config, name).model_dump(mode="json") for name in names}


def long_table(
    pairs: pd.DataFrame, labeler_ids: tuple[str, ...], reports: np.ndarray[Any, Any], outcomes: np.ndarray[Any, Any]
) -> pd.DataFrame:
    """Return the annotation table (design, section 5): one report per row, with what was revealed of the outcome."""
    n = len(labeler_ids)
    rows = pairs[["pair_id", "prompt", "response_a", "response_b", "topic"]]
    table = rows.loc[rows.index.repeat(n)].reset_index(drop=True)
    table["labeler_id"] = list(labeler_ids) * len(pairs)
    table["report"] = reports.reshape(-1)
    table["outcome"] = np.repeat(outcomes, n)
    table["round"] = np.repeat(np.arange(len(pairs)), n)
    return table[table["report"].notna()]


def summarise(samples: pd.DataFrame, responses_per_prompt: int) -> Mapping[str, Any]:
    """Return means with standard errors over prompts."""
    columns = {"gold": samples["gold"], "n_tokens": samples["n_tokens"], "kl": samples["kl"]}
    if "gold_base" in samples:
        columns["win_rate"] = win_rate(samples["gold"].to_numpy(), samples["gold_base"].to_numpy())
    return {
        name: vars(Estimate.over_prompts(np.asarray(values, dtype=np.float64), responses_per_prompt))
        for name, values in columns.items()
    }


def choose_condition(config: Config, panel: str | None, rule: str | None) -> Condition:
    """Return one cell of a config's grid, by the names of its panel and rule; the only one needs no name.

    Raises:
        ConfigError: the name is not in the config, or there are several and none was named.
    """
    seed = _only("seeds", [str(s) for s in config.seeds], None, "--seed")
    panel_name = _only("panels", list(config.panels), panel, "--panel")
    rules = {entry.title: entry for entry in config.rules}
    if rule == TRUTH:
        return Condition(int(seed), SHARED, RuleSection(name=TRUTH))
    return Condition(int(seed), panel_name, rules[_only("rules", list(rules), rule, "--rule")])


def _only(what: str, names: list[str], wanted: str | None, option: str) -> str:
    if wanted is not None and wanted not in names:
        near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.0)
        raise ConfigError(f"{option} {wanted}: the config has {what} {', '.join(names)}; did you mean {near[0]!r}?")
    if wanted is None and len(names) > 1:
        raise ConfigError(f"the config has several {what} ({', '.join(names)}): choose one with {option}")
    return wanted if wanted is not None else names[0]
