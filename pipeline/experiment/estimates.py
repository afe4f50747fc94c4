"""Estimates on held-out prompts: means with standard errors, win rate, alignment gap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray


@dataclass(frozen=True)
class Estimate:
    """A mean over prompts with its standard error."""

    mean: float
    standard_error: float

    @classmethod
    def over_prompts(cls, values: FloatArray, responses_per_prompt: int) -> Estimate:
        """Average one value per response, grouped by prompt: prompts, not responses, are the independent units."""
        means = np.asarray(values, dtype=np.float64).reshape(-1, responses_per_prompt).mean(axis=1)
        return cls(float(means.mean()), float(means.std(ddof=1) / np.sqrt(len(means))))


def win_rate(gold: FloatArray, gold_base: FloatArray) -> FloatArray:
    """Return 1 where the policy's response beats the base policy's on the same prompt, 0.5 for ties, shape ``(n,)``."""
    result: FloatArray = np.where(gold > gold_base, 1.0, np.where(gold == gold_base, 0.5, 0.0))
    return result


def alignment_gap(truth: float, rule: float, base: float) -> tuple[float, float | None]:
    """Return the alignment gap J(truth) - J(rule), raw and divided by what training on the truth gained.

    0: nothing lost; 1: everything lost; above 1: worse than not training. The normalised gap is None (unknown) where
    training on the truth gained nothing, because then nothing could be lost.

    Args:
        truth: J(truth), the mean gold reward of the policy trained on the true preferences.
        rule: J(rule), that of the policy trained on the labels of a panel and rule.
        base: J(base), that of the policy before training.
    """
    gained = truth - base
    return truth - rule, (truth - rule) / gained if gained > 0 else None
