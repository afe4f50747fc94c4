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
from truthful_rlhf.pipeline.config.rule import RuleSection
from truthful_rlhf.pipeline.config.training import DPOSettings, PolicySettings, SamplingSettings

SHARED = "shared"


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


class GoldSection(Section):
    """The true utility, and how it becomes outcomes: y ~ Bernoulli(sigmoid(kappa (g_a - g_b)))."""

    name: Annotated[str, LocalPath(names=("vader",))] = Field(
        "vader",
        description="'vader', your own function by its import path (my_pkg.rewards:score), or a sequence classifier:"
        " a local folder or a Hub id",
    )
    label: str | None = Field(None, description="which label of a classifier is good (default: its last)")
    kappa: float = Field(5.0, gt=0, description="inverse temperature of the true preference")


class EvaluationSection(Section):
    """How the trained policy is measured on the held-out prompts."""

    responses_per_prompt: int = Field(1, ge=1)
    n_samples: int = Field(5, ge=0, description="texts shown in the report, before and after")


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
    panels: Panels = Field(description="who judges: name -> entries, a panel that ships, or a YAML file")
    rules: list[RuleSection] = Field(min_length=1)
    policy: list[PolicySettings] = Field(min_length=1, description="one method, or a list of them")
    evaluation: EvaluationSection = EvaluationSection()

    @field_validator("policy", mode="before")
    @classmethod
    def _one_method_alone(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

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
