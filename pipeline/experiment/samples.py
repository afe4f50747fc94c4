"""The held-out responses of a policy: sampled, scored and summed up; and those of the base policy, which all share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.experiment.estimates import Estimate, win_rate
from truthful_rlhf.pipeline.experiment.folds import build_training_pairs
from truthful_rlhf.pipeline.models.generate import Response, sample_responses
from truthful_rlhf.pipeline.models.tokens import END_AS_SAMPLED
from truthful_rlhf.pipeline.storage.artifacts import write_json
from truthful_rlhf.pipeline.storage.inputs import ConfigSections, StageInputs
from truthful_rlhf.pipeline.storage.tables import write_table

EVALUATION_SEED = 1_000_003
"""Added to a run's seed, so that held-out responses are not sampled as the training pairs are."""
SAMPLES = ("evaluation.json", "samples.parquet")


@dataclass(frozen=True, kw_only=True)
class BaseInputs(StageInputs):
    """What the base policy's responses and their measures depend on."""

    config: ConfigSections
    seed: int
    pairs: str | None = None
    """Fingerprint of a fold's pairs, where the held-out prompts are theirs."""
    tokens: str = END_AS_SAMPLED


def evaluate_base(experiment: Experiment, seed: int) -> str:
    """Build ``evaluation.json`` and ``samples.parquet`` of the policy before training."""
    here = [experiment.layout.of_condition(experiment.untrained(seed), name) for name in SAMPLES]

    def build(scratch: Path) -> None:
        prompts = experiment.encoded(experiment.held_out(seed))
        responses = sample_responses(
            experiment.base_model,
            experiment.tokenizer,
            prompts,
            experiment.config.sampling,
            EVALUATION_SEED + seed,
            "Held-out responses",
        )
        write_samples(experiment, scored(experiment, seed, responses, 0.0), [scratch / name for name in here])

    stage = experiment.layout.of_condition(experiment.untrained(seed), "evaluation")
    config = experiment.sections("model", "prompts", "sampling", "gold", "evaluation")
    pairs = None if experiment.fold is None else build_training_pairs(experiment, seed)
    inputs = BaseInputs(config=config, seed=seed, pairs=pairs)
    return experiment.folder.stage(stage, inputs, here, build)


def scored(experiment: Experiment, seed: int, responses: Sequence[Response], kl: FloatArray | float) -> pd.DataFrame:
    """Return one row per held-out response.

    Args:
        experiment: whose prompts and gold reward.
        seed: of the run.
        responses: one per held-out prompt, in its order.
        kl: of each response to the base policy in nats, shape ``(n,)``, or one number for all.

    Returns:
        Columns ``prompt, topic, response, gold, n_tokens, kl``.
    """
    prompts = experiment.held_out(seed)
    texts = [response.text for response in responses]
    return pd.DataFrame(
        {
            "prompt": [prompt.text for prompt in prompts],
            "topic": [prompt.topic for prompt in prompts],
            "response": texts,
            "gold": experiment.gold.score([prompt.text for prompt in prompts], texts),
            "n_tokens": [len(response.token_ids) for response in responses],
            "kl": kl,
        }
    )


def write_samples(experiment: Experiment, samples: pd.DataFrame, paths: Sequence[Path]) -> None:
    """Write the summary (JSON) and the samples (Parquet) to the two ``paths``.

    Args:
        experiment: the experiment.
        samples: as ``scored`` returns them, with ``gold_base`` for a trained policy.
        paths: of the JSON and of the Parquet file.
    """
    write_table(paths[1], samples)
    write_json(paths[0], summarise(samples, experiment.config.evaluation.responses_per_prompt))


def summarise(samples: pd.DataFrame, responses_per_prompt: int) -> Mapping[str, Any]:
    """Return means with standard errors over prompts."""
    columns: dict[str, Any] = {"gold": samples["gold"], "n_tokens": samples["n_tokens"], "kl": samples["kl"]}
    if samples["gold"].isna().all():  # nobody knows it
        del columns["gold"]
    elif "gold_base" in samples:
        columns["win_rate"] = win_rate(samples["gold"].to_numpy(), samples["gold_base"].to_numpy())
    return {
        name: vars(Estimate.over_prompts(np.asarray(values, dtype=np.float64), responses_per_prompt))
        for name, values in columns.items()
    }
