"""Best-of-n: the cheapest policy from a reward model, with a KL whose bound is known.

The policy draws n responses from the base policy and returns the one that the reward model likes best. Its KL to the
base policy is at most log n - (n - 1)/n whatever the reward model is (``best_of_n_kl``). So the gold reward against n
shows what optimising this reward model harder and harder would do: over-optimisation is where the curve turns down (Gao
et al., arXiv 2210.10760).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import gammaln

from truthful_rlhf.aggregation.base import FloatArray, IntArray


def best_of_n_kl(n: int) -> float:
    """Return log n - (n - 1)/n, in nats: the KL of best-of-n to the base policy is at most this.

    It is less by what n draws repeat or leave tied, and comes near where responses are long and rewards differ
    (Beirami et al., arXiv 2401.01879, theorem 3.1).

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
        best = expected_of_best(rewards, gold, n)
        error = float(best.std(ddof=1) / np.sqrt(len(best)))
        reward = float(expected_of_best(rewards, rewards, n).mean())
        rows.append((n, best_of_n_kl(n), reward, float(best.mean()), error))
    return pd.DataFrame(rows, columns=["n", "kl", "reward", "gold", "gold_standard_error"])
