"""What the stages of an experiment share: config, run folder, layout, models. It knows no stage and no method."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from truthful_rlhf.labelers.judges.hardware import Hardware
from truthful_rlhf.pipeline.config.experiment import SHARED, Config
from truthful_rlhf.pipeline.experiment.conditions import Condition, Layout
from truthful_rlhf.pipeline.experiment.prompts import Prompt, load_prompts
from truthful_rlhf.pipeline.models.load import BasePolicy, load_tokenizer, resolve_model
from truthful_rlhf.pipeline.models.tokens import Encoder, TrainingPrompts
from truthful_rlhf.pipeline.storage.artifacts import RunFolder
from truthful_rlhf.pipeline.storage.contents import contents
from truthful_rlhf.pipeline.storage.inputs import ConfigSections
from truthful_rlhf.pipeline.storage.random import part_rng
from truthful_rlhf.pipeline.storage.tables import read_table
from truthful_rlhf.reward_model.gold import GoldReward, make_gold

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

N_FOLDS = 5
"""Of cross-fitting, where people's verdicts take the place of a gold reward."""
FOLD_PROMPTS = "prompts.parquet"
"""Of a fold: columns ``prompt``, and ``held_out``, whether policies are measured on it."""


class Experiment:
    """One config in one run folder.

    Attributes:
        fold: without a gold reward, the fold of verdicts that is held out here; None: the whole.
    """

    def __init__(self, config: Config, folder: RunFolder, layout: Layout, fold: int | None = None) -> None:
        """Keep the config and the folder; models are loaded when a stage needs them."""
        self.config = config
        self.folder = folder
        self.layout = layout
        self.fold = fold
        self._whole = self

    def in_fold(self, fold: int) -> Experiment:
        """Return the experiment in which a fold of verdicts is held out; the base policy is loaded once for all."""
        own = copy.copy(self)
        start = f"seed-{{seed}}/fold-{fold}/"
        own.layout, own.fold = Layout(start, start + "{rule}/", start + "{rule}/{method}/"), fold
        return own

    @cached_property
    def hardware(self) -> Hardware:
        """Where models run."""
        return Hardware.choose(self.config.model.device, self.config.model.dtype)

    @cached_property
    def base(self) -> BasePolicy:
        """The policy before training, and where it runs."""
        model = self.config.model
        return BasePolicy(resolve_model(model.name_or_path), self.hardware, model.load_in_4bit)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The policy's tokenizer."""
        return load_tokenizer(self.config.model.name_or_path)

    @cached_property
    def encoder(self) -> Encoder:
        """How the policy reads prompts and whole responses."""
        return Encoder(self.tokenizer, self.config.model.chat, self.config.model.system)

    @cached_property
    def base_model(self) -> PreTrainedModel:
        """The policy before training."""
        return self.base.load() if self._whole is self else self._whole.base_model

    @cached_property
    def gold(self) -> GoldReward:
        """The gold reward."""
        gold, chat = self.config.gold, self.config.model.chat
        return make_gold(gold.name, gold.label, chat=chat, device=self.hardware.device)

    @property
    def known_gold(self) -> GoldReward | None:
        """The gold reward, or None where nobody knows it."""
        return self.gold if self.config.gold.is_known else None

    def sections(self, *names: str) -> ConfigSections:
        """Return what a stage depends on that reads these sections: their values, and the content of what they name."""
        parts = {name: getattr(self.config, name) for name in names}
        values = {name: part.model_dump(mode="json") for name, part in parts.items()}
        return ConfigSections(sections=values, content=contents(parts))

    def path(self, relative: str) -> Path:
        """Return the absolute path of an artefact."""
        return self.folder.root / relative

    def prompts(self, seed: int) -> tuple[list[Prompt], list[Prompt]]:
        """Return the training and the held-out prompts of a seed."""
        if self.fold is not None:
            table = read_table(self.path(self.layout.of_seed(seed, FOLD_PROMPTS)), ["prompt", "held_out"])
            held_out = table["held_out"].astype(bool)
            train, rest = ([Prompt(text) for text in table["prompt"][rows]] for rows in (~held_out, held_out))
            return train, rest
        section = self.config.prompts
        return load_prompts(
            section.source, section.column, section.n_train, section.n_held_out, part_rng(seed, "prompts")
        )

    def encoded(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Return what the policy reads of prompts, as token ids."""
        return [self.encoder.prompt(prompt.written) for prompt in prompts]

    def training_prompts(self, seed: int) -> TrainingPrompts:
        """Return what the policies of a seed respond to while they are trained."""
        prompts, _ = self.prompts(seed)
        shown = [prompt.text for prompt in prompts]
        if not self.config.model.chat:
            return TrainingPrompts(shown, shown, self.encoded(prompts))
        written = [self.encoder.conversation(prompt.written) for prompt in prompts]
        return TrainingPrompts(written, shown, self.encoded(prompts))

    def held_out(self, seed: int) -> list[Prompt]:
        """Return the held-out prompts, each as often as it is responded to."""
        return [p for p in self.prompts(seed)[1] for _ in range(self.config.evaluation.responses_per_prompt)]

    @staticmethod
    def untrained(seed: int) -> Condition:
        """Return the condition of the base policy, which all panels and rules share."""
        return Condition(seed, SHARED, None, None)

    def audit_rate(self, condition: Condition) -> float:
        """Return the share of the pairs that is audited for a condition: its rule's, or that of all."""
        own = None if condition.rule is None else condition.rule.audit_rate
        return self.config.audit_rate if own is None else own
