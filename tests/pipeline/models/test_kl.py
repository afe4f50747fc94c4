"""The KL to the base policy: against its definition on a tiny model, and exactly on a model that can be enumerated."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.precision import EXACT, float32_error
from truthful_rlhf.pipeline.config.training import SamplingSettings
from truthful_rlhf.pipeline.models.generate import Response
from truthful_rlhf.pipeline.models.kl import kl_to_base

PLAIN = SamplingSettings()


def kl_by_definition(policy: Any, base: Any, prompt_ids: list[int], response: Response) -> float:
    """Return the sum of the next-token KLs over the response's positions, one sequence at a time, without padding."""
    import torch

    whole = torch.tensor([prompt_ids + list(response.token_ids)])
    with torch.no_grad():
        logits = [m(input_ids=whole).logits[0, len(prompt_ids) - 1 : -1] for m in (policy, base)]
        for scores in logits:
            scores[0, policy.generation_config.eos_token_id] = -torch.inf  # nothing ends before its first token
        p, b = (scores.log_softmax(-1) for scores in logits)
    return float(torch.where(p.isneginf(), 0.0, p.exp() * (p - b)).sum())


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
    prompts = [tokenizer(text)["input_ids"] for text in ("the film was", "my dog")]
    responses = [Response("", tuple(tokenizer(" a good day")["input_ids"])), Response("", (5, 6))]
    np.testing.assert_allclose(kl_to_base(base, base, tokenizer, prompts, responses, PLAIN), 0.0, atol=EXACT)
    expected = [
        kl_by_definition(policy, base, prompt, response) for prompt, response in zip(prompts, responses, strict=True)
    ]
    assert min(expected) > 0.1
    np.testing.assert_allclose(
        kl_to_base(policy, base, tokenizer, prompts, responses, PLAIN), expected, rtol=0, atol=EXACT
    )
    with torch.no_grad():
        largest = max(float(policy(torch.tensor([prompt])).logits.abs().max()) for prompt in prompts)
    longest = max(len(response.token_ids) for response in responses)
    tolerance = longest * 2 * float32_error(base.config.hidden_size, largest)
    assert tolerance < 0.01 * min(expected)
    in_a_run = kl_to_base(policy.float(), base.float(), tokenizer, prompts, responses, PLAIN)
    np.testing.assert_allclose(in_a_run, expected, rtol=0, atol=tolerance)


END, WORDS, LONGEST = 0, (1, 2, 3, 4), 3


class Markov(torch.nn.Module):
    """A language model of five tokens whose next token depends on the last one only: all responses can be listed."""

    device = torch.device("cpu")
    generation_config = SimpleNamespace(eos_token_id=END)

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.table = torch.from_numpy(np.random.default_rng(seed).normal(0.0, 1.5, (5, 5)))

    def forward(self, input_ids: Any, **arguments: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=self.table[input_ids])

    def chances(self, sampling: SamplingSettings, first: bool, cut: bool) -> Any:
        """Return P(next | last), shape ``(5, 5)``, computed without the code under test."""
        chances = np.exp(self.table.numpy() / sampling.temperature)
        if first:
            chances[:, END] = 0.0
        chances /= chances.sum(axis=1, keepdims=True)
        if cut:
            for row in chances:
                order = np.argsort(-row)
                row[order[np.cumsum(row[order]) - row[order] >= sampling.top_p]] = 0.0
            chances /= chances.sum(axis=1, keepdims=True)
        return chances


def every_response() -> Iterator[tuple[int, ...]]:
    """Yield all responses of at most ``LONGEST`` tokens that do not end before their first word."""
    for n in range(1, LONGEST + 1):
        for words in itertools.product(WORDS, repeat=n):
            yield words if n == LONGEST else (*words, END)


def chance_of(model: Markov, sampling: SamplingSettings, response: tuple[int, ...], cut: bool) -> float:
    chance, last = 1.0, 1  # the prompt ends with token 1
    for place, token in enumerate(response):
        chance *= model.chances(sampling, first=place == 0, cut=cut)[last, token]
        last = token
    return chance


@pytest.mark.parametrize(
    "sampling",
    [PLAIN, SamplingSettings(temperature=0.7), SamplingSettings(temperature=1.3, top_p=0.8)],
    ids=["plain", "cold", "nucleus"],
)
def test_the_expected_estimate_is_the_kl_of_whole_responses(sampling: SamplingSettings) -> None:
    """sum_y p(y) estimate(y) = sum_y p(y) log p(y) / b(y), the decision to end included."""
    policy, base, tokenizer = Markov(1), Markov(2), SimpleNamespace(pad_token_id=END, eos_token_id=END)
    responses = list(every_response())
    p = np.array([chance_of(policy, sampling, response, cut=True) for response in responses])
    b = np.array([chance_of(base, sampling, response, cut=False) for response in responses])
    np.testing.assert_allclose([p.sum(), b.sum()], 1.0, atol=EXACT)
    possible = p > 0.0
    exact = float((p[possible] * np.log(p[possible] / b[possible])).sum())

    def expected(settings: SamplingSettings, shown: list[tuple[int, ...]]) -> float:
        given = [Response("", response) for response in shown]
        return float(p @ kl_to_base(policy, base, tokenizer, [[2, 1]] * len(given), given, settings))  # type: ignore[arg-type]

    assert expected(sampling, responses) == pytest.approx(exact, abs=1e-12)
    without_the_end = [tuple(token for token in response if token != END) for response in responses]
    assert abs(expected(sampling, without_the_end) - exact) > 0.05, "control: the decision to end counts"
    if sampling != PLAIN:
        assert abs(expected(PLAIN, responses) - exact) > 0.05, "control: so does how it was sampled"
