"""The configuration of a run: one YAML per question, one section per stage, only fields that the run reads.

A config may hold several panels, rules and seeds: ``compare`` runs the whole grid, ``run`` one cell of it.
"""

from __future__ import annotations

import difflib
import importlib.resources
import re
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from truthful_rlhf.aggregation import AGGREGATORS, make_aggregator
from truthful_rlhf.aggregation.campaign import SoftLabelKind
from truthful_rlhf.labelers.checked import abridged
from truthful_rlhf.labelers.recorded.options import ReadOptions
from truthful_rlhf.labelers.spec import LabelerSpec, distinct
from truthful_rlhf.pipeline.config.training import NAME, DPOSettings, PolicySettings, SoftLabelLoss
from truthful_rlhf.pipeline.models.generate import SamplingSettings

TRUTH = "truth"
SHARED = "shared"
NOT_YAML = (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError)
"""What PyYAML raises: its own errors, and whatever a bad date, number or key makes Python raise."""


class ConfigError(ValueError):
    """The config is wrong; the message names the file, the key, and the nearest valid choice."""


class Section(BaseModel):
    """A section refuses keys that it does not know, and cannot change after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


SectionT = TypeVar("SectionT", bound=Section)


class ModelSection(Section):
    """The base policy."""

    name_or_path: str = Field("bundled", description="'bundled' (SmolLM2-135M-Instruct), a local folder, or a Hub id")


class PromptsSection(Section):
    """Where prompts come from."""

    source: str = Field("bundled", description="'bundled', a JSONL file, or hub:OWNER/NAME[:SPLIT]")
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

    name: str = Field("vader", description="'vader', or a sequence classifier: a local folder or a Hub id")
    label: str | None = Field(None, description="which label of a classifier is good (default: its last)")
    kappa: float = Field(5.0, gt=0, description="inverse temperature of the true preference")


class RuleSection(Section):
    """An aggregation rule, and which of its soft labels train the policy."""

    name: str = Field(description=f"one of {', '.join(AGGREGATORS)}, or {TRUTH}")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the rule, such as eta: 0.3")
    per_topic: bool = Field(False, description="one mechanism per topic of the prompts")
    labels: SoftLabelKind = Field(
        "final",
        description="online: q_t, stated before the pair's outcome is known; final: all pairs"
        " re-aggregated with the last weights, audited pairs labeled with their outcome; reweighted: audited pairs"
        " re-aggregated as well (an outcome is one noisy draw, and has moved the weights); recalibrated: these, with"
        " their log-odds times one factor fitted to the outcomes",
    )
    audit_rate: float | None = Field(
        None, ge=0, le=1, description="share of the pairs that is audited for this rule, if not that of all rules"
    )
    loss: SoftLabelLoss | None = Field(
        None, description="what trains on this rule's labels in place of the method's own loss, such as hard or robust"
    )
    called: str | None = Field(None, pattern=NAME, description="name in tables and folders; default: rule and options")

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _exists(self) -> RuleSection:
        if self.name != TRUTH:
            # names the nearest valid rule and option
            make_aggregator(self.name, self.n_initial_weights or 2, **self.options)
        elif self.model_fields_set - {"name", "labels"}:
            raise ValueError("the truth has no options: it is the reference of all rules")
        return self

    @property
    def n_initial_weights(self) -> int | None:
        """How many labelers the option ``initial_weights`` is for, if it is given."""
        given = self.options.get("initial_weights")
        return len(given) if isinstance(given, list) else None

    @property
    def title(self) -> str:
        """Return a name that tells this rule from the config's others, and is a valid folder name."""
        if self.called:
            return self.called
        parts = [self.name, *(f"{key}={value}" for key, value in sorted(self.options.items()))]
        parts += ["per_topic"] if self.per_topic else []
        parts += [self.labels] if self.labels in ("reweighted", "recalibrated") else []
        parts += [f"audit_rate={self.audit_rate}"] if self.audit_rate is not None else []
        parts += [self.loss] if self.loss else []
        return " ".join(parts).replace("/", "_")


class EvaluationSection(Section):
    """How the trained policy is measured on the held-out prompts."""

    responses_per_prompt: int = Field(1, ge=1)
    n_samples: int = Field(5, ge=0, description="texts shown in the report, before and after")


Panel = Annotated[list[LabelerSpec], Field(min_length=1), AfterValidator(distinct)]


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
    panels: dict[str, Panel] = Field(min_length=1, description="who judges: name -> labelers")
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
        for name in self.panels:
            if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or name == SHARED:
                raise ValueError(f"panels: {name!r} is not a valid name (letters, digits, - and _; not {SHARED!r})")
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


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuse a key that is given twice, where plain YAML silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if key in seen:
                raise ConfigError(f"line {key_node.start_mark.line + 1}: key {key!r} is given twice")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def find_config(name: str) -> Path:
    """Return the path of a config: a file, or one that ships with the package, by name (``quickstart``)."""
    path = Path(name)
    if path.is_file():
        return path
    shipped = Path(str(importlib.resources.files("pipeline.configs")))
    packaged = shipped / f"{path.stem}.yaml"
    if packaged.is_file() and path.suffix in ("", ".yaml"):
        return packaged
    near = difflib.get_close_matches(path.stem, [p.stem for p in shipped.glob("*.yaml")], n=1)
    hint = f"; did you mean {near[0]!r}, which ships with the package?" if near else ""
    raise ConfigError(f"config {name} does not exist{hint}")


def load_config(name: str, overrides: Sequence[str] = ()) -> Config:
    """Read, override and validate the config of a run; see `load_section`."""
    return load_section(name, overrides, Config)


def load_section(name: str, overrides: Sequence[str], schema: type[SectionT]) -> SectionT:
    """Read, override and validate a config of any schema.

    Args:
        name: a YAML file, or the name of a config that ships with the package.
        overrides: ``key.sub=value`` entries; values are YAML, so ``rules=[mean, median]`` works.
        schema: what the file describes.

    Raises:
        ConfigError: with the file, the key and the nearest valid choice.
    """
    path = find_config(name)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except (*NOT_YAML, UnicodeDecodeError, ConfigError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, got {type(content).__name__}")
    for override in overrides:
        _apply(content, override)
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}:\n" + "\n".join(_explain(error, schema, content))) from error


def _apply(content: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r} is not of the form key.sub=value")
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise ConfigError(f"override {override!r}: {parent!r} is not a section")
    try:
        content[last] = yaml.safe_load(text)
    except NOT_YAML as error:
        raise ConfigError(f"override {override!r}: the value is not valid YAML") from error


_METHODS = {member.model_fields["method"].default for member in typing.get_args(typing.get_args(PolicySettings)[0])}
"""Where a policy section is wrong, pydantic puts the method into the location; it is no key of the config."""


def _explain(error: ValidationError, schema: type[BaseModel], content: dict[str, Any]) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        location = [part for part in problem["loc"] if part not in _METHODS]
        if location[:2] == ["policy", 0] and isinstance(content["policy"], dict):
            del location[1]  # the only method was given without a list
        key = ".".join(str(part) for part in location)
        if problem["type"] == "extra_forbidden":
            valid = sorted(_fields_at(schema, problem["loc"][:-1]))
            near = difflib.get_close_matches(str(problem["loc"][-1]), valid, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"valid keys: {', '.join(valid)}"
            yield f"  {key}: unknown key; {hint}"
        else:
            says_it_all = problem["type"] in ("missing", "value_error")
            text = problem["msg"].removeprefix("Value error, ")
            yield f"  {key or 'config'}: {text}" + ("" if says_it_all else f", got {abridged(problem['input'])}")


def _fields_at(annotation: Any, location: Sequence[Any]) -> set[str]:
    """Return the valid keys of the section at a location of the config, following lists, mappings and unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields
        if not location:
            return set(fields)
        if location[0] in fields:
            return _fields_at(fields[location[0]].annotation, location[1:])
        return _fields_at(annotation, location[1:])  # the tag of a union
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) in (list, dict):
        return _fields_at(arguments[-1], location[1:])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, Annotated):
        tagged = [a for a in arguments if _tag(a) is not None and location and _tag(a) == location[0]]
        return set().union(*(_fields_at(a, location) for a in tagged or arguments if not isinstance(a, str)))
    return set()


def _tag(annotation: Any) -> Any:
    """Return the method that selects this member of a union of policy settings."""
    fields = getattr(annotation, "model_fields", {})
    return fields["method"].default if "method" in fields else None
