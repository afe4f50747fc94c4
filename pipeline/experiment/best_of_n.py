"""The stages of best-of-n: candidates of the base policy, and the reward model that picks among them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from truthful_rlhf.pipeline.experiment.conditions import Condition
from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.experiment.samples import evaluate_base
from truthful_rlhf.pipeline.models.generate import Response, sample_responses
from truthful_rlhf.pipeline.models.tokens import joined
from truthful_rlhf.pipeline.storage.inputs import StageInputs
from truthful_rlhf.pipeline.storage.random import part_rng
from truthful_rlhf.pipeline.storage.tables import read_table, write_table
from truthful_rlhf.pipeline.training.best_of_n import best_of_n_curve

CANDIDATES = "candidates.parquet"
CANDIDATE_REWARDS = "candidate_rewards.parquet"
CURVE = "best_of_n.parquet"


@dataclass(frozen=True, kw_only=True)
class CandidateInputs(StageInputs):
    """What the candidates depend on: the fingerprint of the base policy's responses, and n candidates per prompt."""

    base: str
    n: int


@dataclass(frozen=True, kw_only=True)
class ChoiceInputs(StageInputs):
    """What the choice depends on: the fingerprints of the reward model's training and of the candidates."""

    reward_model: str
    candidates: str


def candidates(experiment: Experiment, seed: int, n: int) -> str:
    """Build ``candidates.parquet``: n responses of the base policy to every held-out prompt, in its order.

    Shared by all conditions of a seed: they differ in what they choose by, not in what they choose from.
    Columns: ``prompt, response, prompt_ids, token_ids, gold``.

    Args:
        experiment: the experiment.
        seed: of the run.
        n: candidates per prompt, >= 1.
    """
    output = experiment.layout.of_seed(seed, CANDIDATES)
    inputs = CandidateInputs(base=evaluate_base(experiment, seed), n=n)

    def build(scratch: Path) -> None:
        prompts = experiment.held_out(seed)
        repeated = [prompt.text for prompt in prompts for _ in range(n)]
        encoded = [ids for ids in experiment.encoded(prompts) for _ in range(n)]
        draw = int(part_rng(seed, "best of n").integers(2**31))
        sampling = experiment.config.sampling
        responses = sample_responses(
            experiment.base_model, experiment.tokenizer, encoded, sampling, draw, f"{n} candidates per prompt"
        )
        texts = [response.text for response in responses]
        gold = experiment.gold.score(repeated, texts)
        token_ids = [list(response.token_ids) for response in responses]
        columns = {"prompt": repeated, "response": texts, "prompt_ids": encoded, "token_ids": token_ids, "gold": gold}
        write_table(scratch / output, pd.DataFrame(columns))

    return experiment.folder.stage(experiment.layout.of_seed(seed, "candidates"), inputs, [output], build)


def choose(experiment: Experiment, condition: Condition, reward_model: str, n: int) -> str:
    """Build ``candidate_rewards.parquet`` (the reward model's score of every candidate) and ``best_of_n.parquet``.

    Args:
        experiment: the experiment.
        condition: whose reward model judges.
        reward_model: fingerprint of the stage that trained it.
        n: candidates per prompt; the curve has n = 1, 2, 4, ... up to it.
    """
    from truthful_rlhf.reward_model.gold import ClassifierGold

    outputs = [experiment.layout.of_condition(condition, name) for name in (CANDIDATE_REWARDS, CURVE)]
    inputs = ChoiceInputs(reward_model=reward_model, candidates=candidates(experiment, condition.seed, n))

    def build(scratch: Path) -> None:
        table = read_table(experiment.path(experiment.layout.of_seed(condition.seed, CANDIDATES)), ["gold"])
        folder = experiment.path(experiment.layout.of_labels(condition, "reward_model"))
        judge = ClassifierGold(str(folder), device=experiment.hardware.device)
        rewards = judge.score_tokens(joined(table["prompt_ids"], table["token_ids"]))
        write_table(scratch / outputs[0], pd.DataFrame({"reward": rewards}))
        powers = [2**k for k in range(n.bit_length()) if 2**k < n]
        gold = table["gold"].to_numpy(dtype=np.float64).reshape(-1, n)
        write_table(scratch / outputs[1], best_of_n_curve(rewards.reshape(-1, n), gold, [*powers, n]))

    stage = experiment.layout.of_condition(condition, "best_of_n")
    return experiment.folder.stage(stage, inputs, outputs, build)


def chosen(experiment: Experiment, condition: Condition, n: int) -> list[Response]:
    """Return each held-out prompt's best candidate.

    Args:
        experiment: the experiment.
        condition: whose reward model chose.
        n: candidates per prompt, as in ``candidates``.
    """
    table = read_table(experiment.path(experiment.layout.of_seed(condition.seed, CANDIDATES)), ["response"])
    path = experiment.path(experiment.layout.of_condition(condition, CANDIDATE_REWARDS))
    rewards = read_table(path, ["reward"])["reward"].to_numpy(dtype=np.float64).reshape(-1, n)
    rows = np.arange(len(rewards)) * n + rewards.argmax(axis=1)
    return [Response(table["response"][row], tuple(table["token_ids"][row])) for row in rows]
