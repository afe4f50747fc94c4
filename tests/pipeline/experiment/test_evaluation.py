"""Evaluation arithmetic on hand-computed values, and the KL against its definition on a tiny model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.precision import EXACT, float32_error
from truthful_rlhf.pipeline.experiment.estimates import Estimate, alignment_gap, win_rate
from truthful_rlhf.pipeline.models.generate import Response
from truthful_rlhf.pipeline.models.kl import kl_to_base


def test_prompts_not_responses_are_the_independent_units() -> None:
    # prompt means 1 and 3: mean 2, sd sqrt(2), standard error sqrt(2)/sqrt(2) = 1; per response it would be smaller
    estimate = Estimate.over_prompts(np.array([1.0, 1.0, 3.0, 3.0]), responses_per_prompt=2)
    assert estimate == Estimate(2.0, 1.0)


def test_win_rate_counts_ties_half() -> None:
    np.testing.assert_array_equal(win_rate(np.array([1.0, 0.0, 0.5]), np.array([0.0, 1.0, 0.5])), [1.0, 0.0, 0.5])


def test_gap_is_zero_for_the_truth_one_for_the_base_and_above_one_below_it() -> None:
    assert alignment_gap(0.5, 0.5, 0.2)[1] == 0.0
    assert alignment_gap(0.5, 0.2, 0.2)[1] == pytest.approx(1.0)
    worse = alignment_gap(0.5, 0.1, 0.2)[1]
    assert worse is not None
    assert worse > 1.0
    assert alignment_gap(0.1, 0.1, 0.2)[1] is None


def kl_by_definition(policy: Any, base: Any, prompt_ids: list[int], response: Response) -> float:
    """Return the sum of the next-token KLs over the response's positions, one sequence at a time, without padding."""
    import torch

    whole = torch.tensor([prompt_ids + list(response.token_ids)])
    with torch.no_grad():
        p, b = (m(input_ids=whole).logits[0, len(prompt_ids) - 1 : -1].log_softmax(-1) for m in (policy, base))
    return float((p.exp() * (p - b)).sum())


def test_kl_is_zero_to_itself_positive_to_another_and_equals_its_definition(tiny_model_folder: Path) -> None:
    """In float64 to rounding; in float32, as in a run, within what its log-probabilities may be off.

    A next-token KL is sum p (log p - log b): an average of differences of two log-probabilities.
    """
    import torch

    from truthful_rlhf.pipeline.models.load import load_model, load_tokenizer

    tokenizer = load_tokenizer(str(tiny_model_folder))
    base, policy = (load_model(str(tiny_model_folder)).double() for _ in range(2))
    with torch.no_grad():
        policy.lm_head.weight.mul_(10)
    prompts = ["the film was", "my dog"]
    responses = [Response("", tuple(tokenizer(" a good day")["input_ids"])), Response("", (5, 6))]
    np.testing.assert_allclose(kl_to_base(base, base, tokenizer, prompts, responses), 0.0, atol=EXACT)
    expected = [
        kl_by_definition(policy, base, tokenizer(prompt)["input_ids"], response)
        for prompt, response in zip(prompts, responses, strict=True)
    ]
    assert min(expected) > 0.1
    np.testing.assert_allclose(kl_to_base(policy, base, tokenizer, prompts, responses), expected, rtol=0, atol=EXACT)
    with torch.no_grad():
        largest = max(float(policy(**tokenizer(prompt, return_tensors="pt")).logits.abs().max()) for prompt in prompts)
    longest = max(len(response.token_ids) for response in responses)
    tolerance = longest * 2 * float32_error(base.config.hidden_size, largest)
    assert tolerance < 0.01 * min(expected)
    in_a_run = kl_to_base(policy.float(), base.float(), tokenizer, prompts, responses)
    np.testing.assert_allclose(in_a_run, expected, rtol=0, atol=tolerance)
