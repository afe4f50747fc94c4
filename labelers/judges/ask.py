"""Ways to ask a judge: what it is shown, which words are its answer, and how they become a belief that A is better.

``compare`` shows both responses and asks for a letter, in both orders (`labelers.judges.prompt`). ``score`` shows one
response at a time and asks which of two words fits; ``rate`` shows one at a time and asks for a number from 1 to 10.
These two have no position bias by construction: with s the log-odds of the liked word, or the expected number,

    belief = sigmoid(scale (s_a - s_b)),        scale = 1 / root mean square of s_a - s_b, unless it is given.

Small models are moved far more by examples than by a description: a persona's ``likes`` and ``dislikes`` are shown with
the answers that it would give.

Answers have a prior that no content explains. ``calibrated`` divides it out: with p the probabilities of the answers to
a question and p0 their mean over content-free texts, q = p / p0, normalised (Zhao et al. 2021, arXiv 2102.09690, with
W = diag(p0)^-1, b = 0).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.log_odds import sigmoid
from truthful_rlhf.aggregation.names import unknown
from truthful_rlhf.labelers.judges.prompt import MAX_CHARACTERS
from truthful_rlhf.labelers.pairs import Pairs

CONTENT_FREE = ("N/A", "", "[MASK]")
"""Texts without content (Zhao et al. 2021, section 5)."""
RATINGS = tuple(str(number) for number in range(1, 11))
PRIOR_SPREAD, PRIOR_PAIRS = 1.0, 10
"""Root mean square of a difference that is assumed before any is seen, and as from how many pairs."""

Texts = tuple[str, ...]
"""A prompt and the responses that are shown with it."""
Clean = Callable[[str], str]


@dataclass(frozen=True)
class Told:
    """What a judge is told besides the question.

    Attributes:
        prompt: what it is, or by what it judges; may be empty.
        likes: responses that it would like; shown as examples.
        dislikes: responses that it would not like.
        words: what it calls a response that it likes, and one that it dislikes (``score``).
    """

    prompt: str = ""
    likes: tuple[str, ...] = ()
    dislikes: tuple[str, ...] = ()
    words: tuple[str, str] = ("good", "bad")

    def examples(self) -> list[tuple[str, bool]]:
        """Return examples and whether it likes them, in turns, so that neither side stands nearer to the question."""
        both = [[(text, True) for text in self.likes], [(text, False) for text in self.dislikes]]
        longest = max(map(len, both))
        return [side[k] for k in range(longest) for side in (both if k % 2 else both[::-1]) if k < len(side)]


class Ask(Protocol):
    """A way to ask about one response at a time. All are stateless and importable without torch."""

    name: ClassVar[str]

    def answers(self, told: Told) -> tuple[str, ...]:
        """Return the k words that are read as answers."""
        ...

    def task(self, told: Told) -> str:
        """Return what the judge is asked to do with every text."""
        ...

    def examples(self, told: Told) -> tuple[str, str]:
        """Return its answer to an example that it likes, and to one that it dislikes."""
        ...

    def belief(self, probabilities: FloatArray, scale: float | None = None) -> FloatArray:
        """Return the beliefs that A is better, shape ``(n,)``.

        Args:
            probabilities: of the k answers to everything in ``shown``, shape ``(2 n, k)``, each row sums to 1 or is
                NaN: no answer.
            scale: of a difference, > 0; None: by the spread of the differences.
        """
        ...


class Score:
    """Show one response, ask which of two words fits: log-odds of the words."""

    name: ClassVar[str] = "score"

    def answers(self, told: Told) -> tuple[str, ...]:
        """Return the persona's word for what it likes, then for what it dislikes."""
        return told.words

    def task(self, told: Told) -> str:
        """Return the question for a word."""
        return f"Say whether each text is {told.words[0]} or {told.words[1]}."

    def examples(self, told: Told) -> tuple[str, str]:
        """Return the words themselves."""
        return told.words

    def belief(self, probabilities: FloatArray, scale: float | None = None) -> FloatArray:
        """Return sigmoid of the scaled difference of log-odds."""
        logs = np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), 1e-12))
        return belief_from_scores(logs[:, 0] - logs[:, 1], scale)


class Rate:
    """Show one response, ask for a number from 1 to 10: its expected value."""

    name: ClassVar[str] = "rate"

    def answers(self, told: Told) -> tuple[str, ...]:
        """Return the numbers from 1 to 10."""
        return RATINGS

    def task(self, told: Told) -> str:
        """Return the question for a number."""
        liked, disliked = told.words
        return f"Rate each text from 1 ({disliked}) to 10 ({liked})."

    def examples(self, told: Told) -> tuple[str, str]:
        """Return 9 and 2."""
        return ("9", "2")

    def belief(self, probabilities: FloatArray, scale: float | None = None) -> FloatArray:
        """Return sigmoid of the scaled difference of expected ratings."""
        return belief_from_scores(np.asarray(probabilities) @ np.arange(1.0, 11.0), scale)


COMPARE = "compare"
"""The way to ask that shows both responses: by a letter, in both orders (`labelers.judges.prompt`)."""
ASKS: dict[str, Ask] = {ask.name: ask for ask in (Score(), Rate())}
"""The ways to ask that show one response at a time."""


def make_ask(name: str) -> Ask | None:
    """Return a way to ask by its name; None for ``compare``, which is no matter of one response.

    Raises:
        ValueError: there is no such way; the nearest is named.
    """
    if name != COMPARE and name not in ASKS:
        raise ValueError(unknown("way to ask", name, [COMPARE, *ASKS]))
    return ASKS.get(name)


def shown_responses(pairs: Pairs) -> list[Texts]:
    """Return what is shown of n pairs: all responses A, then all responses B, each with its prompt."""
    both = (pairs.response_a, pairs.response_b)
    return [texts for responses in both for texts in zip(pairs.prompt, responses, strict=True)]


def document(ask: Ask, told: Told, texts: Texts, clean: Clean = str, limit: int = MAX_CHARACTERS) -> str:
    """Return task, examples with their answers, and the prompt with one response, up to where the answer follows.

    Args:
        ask: how the judge is asked.
        told: persona, examples, words.
        texts: prompt and response; untrusted.
        clean: removes what would be read as markup of the model's chat format.
        limit: characters kept of each text.
    """
    prompt, response = (clean(text)[:limit] for text in texts)
    head = f"{told.prompt} {ask.task(told)}".strip()
    answers = ask.examples(told)
    shown = [f"Text: {text.strip()}\nThis is: {answers[0 if liked else 1]}" for text, liked in told.examples()]
    return "\n\n".join([head, *shown, f"Text: {f'{prompt}{response}'.strip()}\nThis is:"])


def calibrated(probabilities: FloatArray, content_free: FloatArray) -> FloatArray:
    """Return the probabilities of answers without the prior that no content explains, shape ``(n, k)``.

    Args:
        probabilities: of the k answers to n questions, shape ``(n, k)``.
        content_free: of the answers to questions without content, shape ``(m, k)``.

    Examples:
        >>> calibrated(np.array([[0.8, 0.2]]), np.array([[0.7, 0.3], [0.9, 0.1]])).round(12).tolist()
        [[0.5, 0.5]]
    """
    weighted = probabilities / np.maximum(np.mean(content_free, axis=0), 1e-12)
    result: FloatArray = weighted / weighted.sum(axis=1, keepdims=True)
    return result


def belief_from_scores(scores: FloatArray, scale: float | None = None) -> FloatArray:
    """Return sigmoid(scale (s_a - s_b)), shape ``(n,)``, from the scores of all responses A, then B, shape ``(2 n,)``.

    Args:
        scores: NaN: not judged.
        scale: > 0; None: ``spread_scale`` of these pairs.
    """
    a, b = np.split(np.asarray(scores, dtype=np.float64), 2)
    factor = spread_scale(a - b) if scale is None else scale
    return sigmoid(factor * (a - b))


def spread_scale(differences: FloatArray) -> float:
    """Return 1 / root mean square of the differences, steadied where there are few by a prior of ten pairs."""
    known = differences[~np.isnan(differences)]
    total = float(np.sum(np.square(known))) + PRIOR_PAIRS * PRIOR_SPREAD**2
    return float((total / (len(known) + PRIOR_PAIRS)) ** -0.5)
