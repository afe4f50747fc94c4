"""Best-of-n: the cheapest policy from a reward model, with a KL that is known exactly.

The policy draws n responses from the base policy and returns the one that the reward model likes best. Its KL to the
base policy is log n - (n - 1)/n whatever the reward model is (exact where no two responses tie). So the gold reward
against n shows what optimising this reward model harder and harder would do: over-optimisation is where the curve turns
down (Gao et al., arXiv 2210.10760).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import gammaln

from truthful_rlhf.aggregation.base import FloatArray, IntArray
from truthful_rlhf.pipeline.experiment.evaluation import Estimate
from truthful_rlhf.pipeline.experiment.pairs import part_rng
from truthful_rlhf.pipeline.models.generate import Response, sample_responses
from truthful_rlhf.pipeline.storage.tables import read_table, write_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from truthful_rlhf.pipeline.experiment.conditions import Condition
    from truthful_rlhf.pipeline.experiment.data import Experiment

CANDIDATES = "candidates.parquet"
CANDIDATE_REWARDS = "candidate_rewards.parquet"
CURVE = "best_of_n.parquet"


def best_of_n_kl(n: int) -> float:
    """Return the KL of best-of-n to the base policy in nats, log n - (n - 1)/n.

    >>> [round(best_of_n_kl(n), 3) for n in (1, 2, 4, 64)]
    [0.0, 0.193, 0.636, 3.175]
    """
    if n < 1:
        raise ValueError(f"best of n needs n >= 1, got {n}")
    return float(np.log(n) - (n - 1) / n)


def expected_of_best(rewards: FloatArray, values: FloatArray, n: int) -> FloatArray:
    """Return the expected value of the response with the highest reward among n, per prompt, shape ``(p,)``.

    All m >= n responses of a prompt are used: the one of rank k (1 is the worst) is the best of a random subset of size
    n with probability C(k - 1, n - 1) / C(m, n). Unbiased, and much less noisy than one subset.

    Args:
        rewards: shape ``(p, m)``, what the response is chosen by.
        values: shape ``(p, m)``, what is averaged, such as the gold reward.
        n: 1 <= n <= m.
    """
    m = rewards.shape[1]
    if not 1 <= n <= m:
        raise ValueError(f"n must be between 1 and the {m} responses per prompt, got {n}")
    rank = np.arange(1, m + 1)
    chance = np.zeros(m)
    eligible = rank >= n
    chance[eligible] = np.exp(_log_choose(rank[eligible] - 1, n - 1) - _log_choose(np.array(m), n))
    ordered = np.take_along_axis(values, np.argsort(rewards, axis=1, kind="stable"), axis=1)
    result: FloatArray = ordered @ chance
    return result


def _log_choose(n: IntArray, k: int) -> FloatArray:
    result: FloatArray = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return result


def best_of_n_curve(rewards: FloatArray, gold: FloatArray, ns: Sequence[int]) -> pd.DataFrame:
    """Return reward and gold reward of best-of-n for several n.

    Args:
        rewards: the reward model's scores, shape ``(p, m)``.
        gold: the gold rewards of the same responses, shape ``(p, m)``.
        ns: the n of the rows, each at most m.

    Returns:
        Columns ``n, kl, reward, gold, gold_standard_error`` (over prompts).
    """
    rows = []
    for n in ns:
        estimate = Estimate.over_prompts(expected_of_best(rewards, gold, n), responses_per_prompt=1)
        reward = float(expected_of_best(rewards, rewards, n).mean())
        rows.append((n, best_of_n_kl(n), reward, estimate.mean, estimate.standard_error))
    return pd.DataFrame(rows, columns=["n", "kl", "reward", "gold", "gold_standard_error"])


def candidates(experiment: Experiment, seed: int, n: int) -> str:
    """Build ``candidates.parquet``: n responses of the base policy to every held-out prompt, in its order.

    Shared by all conditions of a seed: they differ in what they choose by, not in what they choose from.
    Columns: ``prompt, response, token_ids, gold``.
    """
    output = experiment.layout.of_seed(seed, CANDIDATES)
    inputs = {"base": experiment.evaluation(experiment.base(seed)), "n": n}

    def build(scratch: Path) -> None:
        prompts = experiment.held_out(seed)
        repeated = [prompt.text for prompt in prompts for _ in range(n)]
        draw = int(part_rng(seed, "best of n").integers(2**31))
        sampling = experiment.config.sampling
        responses = sample_responses(
            experiment.base_model, experiment.tokenizer, repeated, sampling, draw, f"{n} candidates per prompt"
        )
        texts = [response.text for response in responses]
        gold = experiment.gold.score(repeated, texts)
        token_ids = [list(response.token_ids) for response in responses]
        columns = {"prompt": repeated, "response": texts, "token_ids": token_ids, "gold": gold}
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
    inputs = {"reward_model": reward_model, "candidates": candidates(experiment, condition.seed, n)}

    def build(scratch: Path) -> None:
        table = read_table(experiment.path(experiment.layout.of_seed(condition.seed, CANDIDATES)), ["gold"])
        judge = ClassifierGold(str(experiment.path(experiment.layout.of_labels(condition, "reward_model"))))
        rewards = judge.score(table["prompt"].tolist(), table["response"].tolist())
        write_table(scratch / outputs[0], pd.DataFrame({"reward": rewards}))
        powers = [2**k for k in range(n.bit_length()) if 2**k < n]
        gold = table["gold"].to_numpy(dtype=np.float64).reshape(-1, n)
        write_table(scratch / outputs[1], best_of_n_curve(rewards.reshape(-1, n), gold, [*powers, n]))

    stage = experiment.layout.of_condition(condition, "best_of_n")
    return experiment.folder.stage(stage, inputs, outputs, build)


def chosen(experiment: Experiment, condition: Condition, n: int) -> list[Response]:
    """Return each held-out prompt's best candidate."""
    table = read_table(experiment.path(experiment.layout.of_seed(condition.seed, CANDIDATES)), ["response"])
    path = experiment.path(experiment.layout.of_condition(condition, CANDIDATE_REWARDS))
    rewards = read_table(path, ["reward"])["reward"].to_numpy(dtype=np.float64).reshape(-1, n)
    rows = np.arange(len(rewards)) * n + rewards.argmax(axis=1)
    return [Response(table["response"][row], tuple(table["token_ids"][row])) for row in rows]


def over_optimisation_figure(curves: dict[str, pd.DataFrame]) -> Figure:
    """Draw gold reward against the square root of the KL, one line with error bars per rule.

    Args:
        curves: rule -> table of ``best_of_n_curve``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.8), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.errorbar(np.sqrt(curve["kl"]), curve["gold"], yerr=curve["gold_standard_error"], label=name, capsize=2)
    axes.set(xlabel="square root of KL to the base policy (nats)", ylabel="gold reward of best-of-n")
    axes.legend(frameon=False)
    return figure
