"""How each method of the section ``policy`` turns the soft labels of a condition into a policy, and how that responds.

dpo                 soft labels, reference log-probabilities -> adapter
ppo, rloo           soft labels -> reward model -> adapter
best_of_n           soft labels -> reward model, which picks among the base policy's responses
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from truthful_rlhf.aggregation.base import BoolArray, FloatArray
from truthful_rlhf.pipeline.config.training import BestOfNSettings, DPOSettings, PolicySettings
from truthful_rlhf.pipeline.experiment.best_of_n import candidates, choose, chosen
from truthful_rlhf.pipeline.experiment.conditions import Condition
from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.experiment.data import ReferenceInputs, build_labels, build_pairs
from truthful_rlhf.pipeline.experiment.folds import RECORDED, build_recorded
from truthful_rlhf.pipeline.experiment.online import train_online
from truthful_rlhf.pipeline.experiment.pairs import PAIR_COLUMNS
from truthful_rlhf.pipeline.models.generate import Response, sample_responses
from truthful_rlhf.pipeline.models.kl import kl_to_base
from truthful_rlhf.pipeline.models.tokens import orient_tokens, with_token_ids
from truthful_rlhf.pipeline.models.vllm_engine import release
from truthful_rlhf.pipeline.storage import processes
from truthful_rlhf.pipeline.storage.artifacts import write_bytes_atomically
from truthful_rlhf.pipeline.storage.inputs import ConfigSections, StageInputs
from truthful_rlhf.pipeline.storage.random import part_rng
from truthful_rlhf.pipeline.storage.tables import read_table, write_table
from truthful_rlhf.pipeline.training.best_of_n import best_of_n_kl

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Method:
    """What a method does in an experiment."""

    build_shared: Callable[[Experiment, int, Any], object]
    """Builds what all conditions of a seed share, given the method's settings."""
    train: Callable[[Experiment, Condition], str]
    """Builds the policy's artefacts; returns the fingerprint of the stage."""
    respond: Callable[[Experiment, Condition, list[list[int]], int], tuple[list[Response], FloatArray]]
    """Samples a response per prompt, given as token ids, with a seed; returns them and their KL to the base policy."""


@dataclass(frozen=True, kw_only=True)
class DPOInputs(StageInputs):
    """What a policy that DPO trains depends on: fingerprints of its labels and reference, and the settings."""

    labels: str
    reference: str
    policy: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class RewardModelInputs(StageInputs):
    """What a reward model depends on, with the fingerprint of its labels."""

    labels: str
    config: ConfigSections
    settings: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class OnRewardModelInputs(StageInputs):
    """What a policy that is trained on a reward model depends on, with that one's fingerprint."""

    reward_model: str
    policy: Mapping[str, Any]
    config: ConfigSections


_NOT_TRAINED_ON = {
    "called",
    "report_to",
    "reward_model",
}  # names and trackers change nothing; the last has its own stage


def _trained_with(settings: PolicySettings) -> dict[str, Any]:
    """Return the settings that the trained policy depends on."""
    return settings.model_dump(mode="json", exclude=_NOT_TRAINED_ON)


def _soft_labels(experiment: Experiment, condition: Condition) -> pd.DataFrame:
    """Return the soft labels of a condition's pairs, with the token ids of both responses."""
    path = experiment.path(experiment.layout.of_labels(condition, "soft_labels.parquet"))
    labels = read_table(path, ["pair_id", "prompt", "chosen", "rejected", "soft_label", "chosen_is_a"])
    pairs = read_table(experiment.path(experiment.layout.of_seed(condition.seed, "pairs/pairs.parquet")), PAIR_COLUMNS)
    return orient_tokens(labels, with_token_ids(pairs, experiment.encoder))


def _reference_of(experiment: Experiment, seed: int) -> str:
    """Return the path of the reference: recorded pairs have one for all folds and seeds."""
    name = "reference.parquet"
    return name if experiment.fold is not None else experiment.layout.of_seed(seed, name)


def reference(experiment: Experiment, seed: int, settings: DPOSettings) -> str:
    """Build ``reference.parquet``: the base policy's log-probabilities of both responses of every pair.

    Args:
        experiment: the experiment.
        seed: of the run.
        settings: of the method; ``max_length`` tokens are read.
    """
    from truthful_rlhf.pipeline.training.dpo import reference_log_probabilities

    of_a_fold, model, output = (
        experiment.fold is not None,
        experiment.sections("model"),
        _reference_of(experiment, seed),
    )
    file = RECORDED if of_a_fold else experiment.layout.of_seed(seed, "pairs/pairs.parquet")
    pairs = build_recorded(experiment) if of_a_fold else build_pairs(experiment, seed)
    inputs = ReferenceInputs(pairs=pairs, config=model, max_length=settings.max_length)

    def build(scratch: Path) -> None:
        pairs = read_table(experiment.path(file), PAIR_COLUMNS)
        table = reference_log_probabilities(experiment.base, with_token_ids(pairs, experiment.encoder), settings)
        if processes.is_first():
            write_table(scratch / output, table)

    return experiment.folder.stage(output.removesuffix(".parquet"), inputs, [output], build, together=True)


def train_with_dpo(experiment: Experiment, condition: Condition) -> str:
    """Build ``policy/`` with DPO on the soft labels."""
    from truthful_rlhf.pipeline.training.dpo import preference_dataset, train_dpo

    assert isinstance(condition.method, DPOSettings)
    settings = condition.method
    output = experiment.layout.of_condition(condition, "policy")
    inputs = DPOInputs(
        labels=build_labels(experiment, condition),
        reference=reference(experiment, condition.seed, settings),
        policy=_trained_with(settings),
    )

    def build(scratch: Path) -> None:
        table = experiment.path(_reference_of(experiment, condition.seed))
        data = preference_dataset(_soft_labels(experiment, condition), read_table(table, ["pair_id"]))
        checkpoints = experiment.folder.checkpoints(output, inputs)
        train_dpo(experiment.base, data, settings, scratch / output, condition.seed, checkpoints=checkpoints)

    return experiment.folder.stage(output, inputs, [output], build, together=True)


def train_with_ppo(experiment: Experiment, condition: Condition) -> str:
    """Build ``policy/`` with PPO on a reward model."""
    from truthful_rlhf.pipeline.training.ppo import train_ppo

    return _train_on_reward_model(experiment, condition, train_ppo, goes_on=False)


def train_with_rloo(experiment: Experiment, condition: Condition) -> str:
    """Build ``policy/`` with RLOO on a reward model."""
    from truthful_rlhf.pipeline.training.rloo import train_rloo

    return _train_on_reward_model(experiment, condition, train_rloo, goes_on=True)


def _train_on_reward_model(
    experiment: Experiment, condition: Condition, train: Callable[..., None], goes_on: bool
) -> str:
    output = experiment.layout.of_condition(condition, "policy")
    inputs = OnRewardModelInputs(
        reward_model=reward_model(experiment, condition),
        policy=_trained_with(condition.method),
        config=experiment.sections("prompts", "sampling"),
    )

    def build(scratch: Path) -> None:
        checkpoints = {"checkpoints": experiment.folder.checkpoints(output, inputs)} if goes_on else {}
        train(
            experiment.base,
            experiment.path(experiment.layout.of_labels(condition, "reward_model")),
            experiment.training_prompts(condition.seed),
            condition.method,
            experiment.config.sampling,
            scratch / output,
            condition.seed,
            experiment.known_gold,
            **checkpoints,
        )

    return experiment.folder.stage(output, inputs, [output], build, together=True)


def reward_model(experiment: Experiment, condition: Condition) -> str:
    """Build ``reward_model/`` from the soft labels, and its calibration on the pairs of held-out prompts.

    Outputs: ``reward_model/`` (an ordinary sequence classifier), ``calibration.parquet`` (against the held-out soft
    labels and against the true preference) and ``reliability.png``.
    """
    from truthful_rlhf.pipeline.training.dpo import preference_dataset
    from truthful_rlhf.pipeline.training.reward import train_reward_model

    assert not isinstance(condition.method, DPOSettings)
    settings = condition.method.reward_model
    names = ("reward_model", "calibration.parquet", "reliability.png")
    output, table, figure = (experiment.layout.of_labels(condition, name) for name in names)
    inputs = RewardModelInputs(
        labels=build_labels(experiment, condition),
        config=experiment.sections("model"),
        settings=settings.model_dump(mode="json"),
    )

    def build(scratch: Path) -> None:
        labels = _soft_labels(experiment, condition)
        held_out = _held_out(labels, settings.held_out, condition.seed)
        data = preference_dataset(labels[~held_out])
        checkpoints = experiment.folder.checkpoints(output, inputs)
        train_reward_model(experiment.base, data, settings, scratch / output, condition.seed, checkpoints)
        if processes.is_first():
            _calibrate(experiment, condition, labels[held_out], scratch / output, scratch / table, scratch / figure)

    return experiment.folder.stage(output, inputs, [output, table, figure], build, together=True)


def _held_out(labels: pd.DataFrame, fraction: float, seed: int) -> BoolArray:
    """Hold out all pairs of a fraction of the prompts, the same ones in every condition of a seed."""
    prompts = sorted(set(labels["prompt"]))
    chosen = part_rng(seed, "reward model held out").permutation(len(prompts))[: max(1, round(fraction * len(prompts)))]
    held_out: BoolArray = labels["prompt"].isin([prompts[k] for k in chosen]).to_numpy()
    return held_out


def _calibrate(
    experiment: Experiment, condition: Condition, held_out: pd.DataFrame, model: Path, table: Path, figure: Path
) -> None:
    import io

    from truthful_rlhf.pipeline.training.reward import evaluate_reward_model
    from truthful_rlhf.reward_model.calibration import reliability_figure

    outcomes = experiment.path(experiment.layout.of_seed(condition.seed, "outcomes.parquet"))
    joined = held_out.merge(read_table(outcomes, ["pair_id", "p_truth"]), on="pair_id", validate="one_to_one")
    truth = np.where(joined["chosen_is_a"], joined["p_truth"], 1 - joined["p_truth"])
    targets = {"soft labels": joined["soft_label"].to_numpy(dtype=np.float64)}
    if experiment.config.gold.is_known:
        targets["truth"] = truth
    names = {"chosen": "response_a", "rejected": "response_b", "chosen_ids": "ids_a", "rejected_ids": "ids_b"}
    pairs = joined.rename(columns=names)
    predicted, rows = evaluate_reward_model(model, pairs, targets, experiment.hardware.device)
    write_table(table, rows)
    image = io.BytesIO()
    reliability_figure({name: (predicted, target) for name, target in targets.items()}).savefig(image, dpi=150)
    write_bytes_atomically(figure, image.getvalue())


def choose_by_reward_model(experiment: Experiment, condition: Condition) -> str:
    """Train the reward model and let it score the candidates."""
    assert isinstance(condition.method, BestOfNSettings)
    return choose(experiment, condition, reward_model(experiment, condition), condition.method.n)


def respond_with_adapter(
    experiment: Experiment, condition: Condition, prompts: list[list[int]], seed: int
) -> tuple[list[Response], FloatArray]:
    """Sample from the trained adapter; its KL is estimated along the responses.

    Args:
        experiment: the experiment.
        condition: whose policy.
        prompts: token ids of n held-out prompts.
        seed: of the sampling.
    """
    adapter = experiment.path(experiment.layout.of_condition(condition, "policy"))
    return respond_with_model(experiment, experiment.base.load(adapter), prompts, seed)


def respond_with_model(
    experiment: Experiment, policy: PreTrainedModel, prompts: list[list[int]], seed: int
) -> tuple[list[Response], FloatArray]:
    """Sample from a policy; its KL to the base policy is estimated along the responses.

    Args:
        experiment: whose base policy and sampling.
        policy: with a trained adapter.
        prompts: token ids of n prompts.
        seed: of the sampling.

    Returns:
        n responses and their KL in nats, shape ``(n,)``.
    """
    sampling, tokenizer = experiment.config.sampling, experiment.tokenizer
    responses = sample_responses(policy, tokenizer, prompts, sampling, seed, "Held-out responses")
    release()  # the KL needs the memory
    with experiment.hardware.reading(max(map(len, prompts)) + sampling.max_new_tokens):
        return responses, kl_to_base(policy, experiment.base_model, tokenizer, prompts, responses, sampling)


def respond_with_best_of_n(
    experiment: Experiment, condition: Condition, prompts: list[list[int]], seed: int
) -> tuple[list[Response], FloatArray]:
    """Let the reward model pick among n responses of the base policy; the KL is its upper bound, `best_of_n_kl`.

    Args:
        experiment: the experiment.
        condition: whose reward model.
        prompts: token ids of n held-out prompts, those of ``candidates``.
        seed: not used: the candidates are sampled already.
    """
    assert isinstance(condition.method, BestOfNSettings)
    n = condition.method.n
    return chosen(experiment, condition, n), np.full(len(prompts), best_of_n_kl(n))


def _nothing(experiment: Experiment, seed: int, settings: PolicySettings) -> None:
    """Share nothing beside the pairs, their outcomes and the base policy's responses."""


def _candidates(experiment: Experiment, seed: int, settings: BestOfNSettings) -> str:
    return candidates(experiment, seed, settings.n)


METHODS: dict[str, Method] = {
    "dpo": Method(reference, train_with_dpo, respond_with_adapter),
    "online_dpo": Method(_nothing, train_online, respond_with_adapter),
    "ppo": Method(_nothing, train_with_ppo, respond_with_adapter),
    "rloo": Method(_nothing, train_with_rloo, respond_with_adapter),
    "best_of_n": Method(_candidates, choose_by_reward_model, respond_with_best_of_n),
}
