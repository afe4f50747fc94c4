"""The configuration of a run: one YAML per question, one section per stage, only fields that the run reads.

A config may hold several panels, rules and seeds: ``compare`` runs the whole grid, ``run`` one cell of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from truthful_rlhf.labelers.checked import LocalPath
from truthful_rlhf.labelers.panels import Panels
from truthful_rlhf.labelers.recorded.options import ReadOptions
from truthful_rlhf.pipeline.config.loading import Section, load_section
from truthful_rlhf.pipeline.config.rule import TRUTH, RuleSection
from truthful_rlhf.pipeline.config.training import DPOSettings, PolicySettings, SamplingSettings
from truthful_rlhf.reward_model.gold import NO_GOLD

SHARED = "shared"
OWN_PANEL = "people"
"""The panel of a config without a gold reward: whoever reported in the file of pairs."""
AUDITS = "audits"
"""Training on the audited outcomes alone."""
RESERVED = (TRUTH, AUDITS, "base")
"""Reference points of a comparison without a gold reward; no rule may be called so."""


class ModelSection(Section):
    """The base policy."""

    name_or_path: Annotated[str, LocalPath(names=("bundled",))] = Field(
        "bundled", description="'bundled' (SmolLM2-135M-Instruct), a local folder, or a Hub id"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="where it runs; auto: a GPU if there is one"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="precision of sampling and scoring; auto: bfloat16 on a GPU that has it, else float32"
    )
    load_in_4bit: bool = Field(False, description="keep the base weights in four bits (bitsandbytes, CUDA)")
    chat: bool = Field(
        False, description="prompts are messages in the tokenizer's chat template; false: a response continues the text"
    )
    system: str | None = Field(None, description="with chat: the system message of prompts that have none")

    @model_validator(mode="after")
    def _only_a_chat_has_a_system_message(self) -> ModelSection:
        if self.system is not None and not self.chat:
            raise ValueError("model.system: only a chat has a system message; set model.chat=true")
        return self


class PromptsSection(Section):
    """Where prompts come from."""

    source: Annotated[str, LocalPath(names=("bundled",))] = Field(
        "bundled", description="'bundled', a JSONL file, or hub:OWNER/NAME[:SPLIT]"
    )
    column: str = Field("prompt", description="the key that holds the prompt")
    n_train: int = Field(128, ge=1, description="prompts that pairs are generated from")
    n_held_out: int = Field(192, ge=2, description="prompts that the policy is evaluated on")


class PairsSection(Section):
    """Where the pairs come from: responses sampled per prompt and paired off, each used once, or an annotation file."""

    responses_per_prompt: int = Field(4, ge=2, multiple_of=2)
    file: Path | None = Field(
        None, description="an annotation file: its pairs are trained on, its outcomes are the truth where it has them"
    )
    read: ReadOptions = Field(ReadOptions(), description="how to read the file, such as {votes: {1: A, 2: B}}")


def _changed(section: Section, *used: str) -> list[str]:
    """Return the keys of a section, but for those that are used, that have another value than their default."""
    fields = type(section).model_fields
    return [name for name, field in fields.items() if name not in used and getattr(section, name) != field.default]


class GoldSection(Section):
    """The true utility, and how it becomes outcomes: y ~ Bernoulli(sigmoid(kappa (g_a - g_b)))."""

    name: Annotated[str, LocalPath(names=("vader", NO_GOLD))] = Field(
        "vader",
        description="'vader', 'none' (people's verdicts are all that is known), your own function by its import path"
        " (my_pkg.rewards:score), or a sequence classifier:"
        " a local folder or a Hub id",
    )
    label: str | None = Field(None, description="which label of a classifier is good (default: its last)")
    kappa: float = Field(5.0, gt=0, description="inverse temperature of the true preference")

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def is_known(self) -> bool:
        """Whether there is a gold reward at all."""
        return self.name != NO_GOLD

    @model_validator(mode="after")
    def _nothing_else_is_said_of_none(self) -> GoldSection:
        if not self.is_known and (others := _changed(self, "name")):
            raise ValueError(f"gold: none has no {others[0]}")
        return self


class EvaluationSection(Section):
    """How the trained policy is measured on the held-out prompts."""

    responses_per_prompt: int = Field(1, ge=1)
    n_samples: int = Field(5, ge=0, description="texts shown in the report, before and after")


class JudgesSection(Section):
    """LLM judges who compare the policies' responses where no gold reward does; they earn their weights on audits."""

    panel: Path = Field(description="a panel file, as for truthful-rlhf judge")
    rubric: Path | None = Field(None, description="a text that the judges are told")


class Config(Section):
    """A whole run."""

    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        [0], min_length=1, description="one paired repetition of everything per seed"
    )
    model: ModelSection = ModelSection()
    prompts: PromptsSection = PromptsSection()
    sampling: SamplingSettings = SamplingSettings()
    pairs: PairsSection = PairsSection()
    gold: GoldSection = GoldSection()
    audit_rate: float = Field(0.2, ge=0, le=1, description="fraction of the pairs whose outcome is revealed")
    panels: Panels = Field({}, description="who judges: name -> entries, a panel that ships, or a YAML file")
    judges: JudgesSection | None = Field(None, description="with gold: none, who compares the policies' responses")
    rules: list[RuleSection] = Field(min_length=1)
    policy: list[PolicySettings] = Field(min_length=1, description="one method, or a list of them")
    evaluation: EvaluationSection = EvaluationSection()

    @field_validator("policy", mode="before")
    @classmethod
    def _one_method_alone(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    @model_validator(mode="before")
    @classmethod
    def _people_of_the_file(cls, value: Any) -> Any:
        """Seat whoever reported in the file of pairs, where there is no gold reward."""
        gold = value.get("gold") if isinstance(value, dict) else None
        if (gold.get("name") if isinstance(gold, dict) else gold) != NO_GOLD:
            return value
        pairs = value.get("pairs")
        if not isinstance(pairs, dict) or pairs.get("file") is None:
            raise ValueError("gold: none needs annotations: pairs.file=mine.jsonl, or compare --annotations mine.jsonl")
        entry = {"name": OWN_PANEL, "kind": "recorded", "file": pairs["file"], "read": pairs.get("read", {})}
        own = {OWN_PANEL: [entry]}
        if (given := value.get("panels")) and (not isinstance(given, dict) or list(given) != [OWN_PANEL]):
            raise ValueError("panels: with gold: none the labelers are those of pairs.file")
        return {**value, "panels": own}

    @model_validator(mode="after")
    def _fits_the_gold_reward(self) -> Config:
        if self.gold.is_known:
            if not self.panels:
                raise ValueError("panels: who judges? name -> entries, a panel that ships, or a YAML file")
            if self.judges is not None:
                raise ValueError("judges: a gold reward compares the responses; they are for gold: none")
            return self
        if ignored := _changed(self.prompts, "n_held_out"):
            raise ValueError(f"prompts.{ignored[0]}: with gold: none the prompts are those of pairs.file")
        if any(entry.method == "online_dpo" for entry in self.policy):
            raise ValueError("policy: online_dpo needs labelers who can judge new pairs; recorded people cannot")
        for rule in self.rules:
            if rule.name == TRUTH or rule.title in RESERVED:
                raise ValueError(
                    f"rules: with gold: none {rule.title!r} is added where outcomes allow it; leave it out"
                )
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> Config:
        for section, entries in (("rules", self.rules), ("policy", self.policy)):
            titles = [entry.title for entry in entries]
            if len(set(titles)) < len(titles):
                raise ValueError(
                    f"{section}: two entries have the same name: {', '.join(titles)}; tell them apart with 'called'"
                )
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: a seed stands twice, which would count one run as two: {self.seeds}")
        if SHARED in self.panels:
            raise ValueError(f"panels: {SHARED!r} is not a valid name: it is the folder of what all panels share")
        return self

    @model_validator(mode="after")
    def _rules_fit_the_panels(self) -> Config:
        for name, panel in self.panels.items():
            n_labelers = sum(spec.count for spec in panel)
            known = all(spec.kind != "recorded" for spec in panel)
            for rule in self.rules:
                if known and rule.n_initial_weights not in (None, n_labelers):
                    raise ValueError(
                        f"rules: {rule.title!r} has {rule.n_initial_weights} initial_weights,"
                        f" panel {name!r} has {n_labelers} labelers"
                    )
        return self

    @model_validator(mode="after")
    def _ppo_samples_from_the_policy_itself(self) -> Config:
        if self.sampling.top_p < 1 and any(entry.method == "ppo" for entry in self.policy):
            raise ValueError(
                f"sampling.top_p: TRL's PPO cannot cut off the tail, so it would train on other responses than are"
                f" evaluated; set it to 1, or take the method rloo, got {self.sampling.top_p:g}"
            )
        return self

    @model_validator(mode="after")
    def _methods_share_what_they_build_on(self) -> Config:
        reward_models = [entry.reward_model for entry in self.policy if hasattr(entry, "reward_model")]
        if any(other != reward_models[0] for other in reward_models):
            raise ValueError("policy: the methods of one config train on one reward model; give all the same settings")
        if sum(entry.method == "best_of_n" for entry in self.policy) > 1:
            raise ValueError("policy: best_of_n stands twice; the curve of the larger n has the smaller ones in it")
        lengths = {entry.max_length for entry in self.policy if isinstance(entry, DPOSettings)}
        if len(lengths) > 1:
            raise ValueError(f"policy: the DPO methods of one config share one max_length, got {sorted(lengths)}")
        return self


def load_config(name: str, overrides: Sequence[str] = ()) -> Config:
    """Read, override and validate the config of a run; see `load_section`."""
    return load_section(name, overrides, Config)
