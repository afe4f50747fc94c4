"""Train and measure the policy of every condition: the one stage that knows all methods."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from truthful_rlhf.pipeline.experiment.conditions import Condition
from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.experiment.data import build_outcomes
from truthful_rlhf.pipeline.experiment.methods import METHODS
from truthful_rlhf.pipeline.experiment.samples import (
    EVALUATION_SEED,
    SAMPLES,
    evaluate_base,
    scored,
    write_samples,
)
from truthful_rlhf.pipeline.storage.inputs import StageInputs
from truthful_rlhf.pipeline.storage.tables import read_table


@dataclass(frozen=True, kw_only=True)
class EvaluationInputs(StageInputs):
    """What the measures of a policy depend on: the fingerprints of its training and of the base policy's measures."""

    policy: str
    base: str


def build_shared(experiment: Experiment, seed: int) -> None:
    """Build what all conditions of a seed share, so that they can then be built in any order, or side by side."""
    build_outcomes(experiment, seed)
    evaluate_base(experiment, seed)
    for policy in experiment.config.policy:
        METHODS[policy.method].build_shared(experiment, seed, policy)


def train_policy(experiment: Experiment, condition: Condition) -> str:
    """Build the policy of a condition with the config's method; return the fingerprint of its stage."""
    return METHODS[condition.method.method].train(experiment, condition)


def evaluate(experiment: Experiment, condition: Condition) -> str:
    """Train a condition's policy and measure it on the held-out prompts: ``evaluation.json``, ``samples.parquet``."""
    seed = condition.seed
    if condition.rule is None:
        return evaluate_base(experiment, seed)
    here = [experiment.layout.of_condition(condition, name) for name in SAMPLES]
    inputs = EvaluationInputs(policy=train_policy(experiment, condition), base=evaluate_base(experiment, seed))

    def build(scratch: Path) -> None:
        prompts = experiment.encoded(experiment.held_out(seed))
        responses, kl = METHODS[condition.method.method].respond(experiment, condition, prompts, EVALUATION_SEED + seed)
        samples = scored(experiment, seed, responses, kl)
        base_samples = experiment.path(experiment.layout.of_condition(experiment.untrained(seed), SAMPLES[1]))
        samples["gold_base"] = read_table(base_samples, ["gold"])["gold"]
        write_samples(experiment, samples, [scratch / name for name in here])

    stage = experiment.layout.of_condition(condition, "evaluation")
    return experiment.folder.stage(stage, inputs, here, build)
