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

QUESTION = "Text: {text}\nThis is:"
"""How a text is shown where a persona has no question of its own, which then follows what the judge is told."""

Words = tuple[str, ...]
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
        words: what it calls a response that it likes, and one that it dislikes (``score``): as many of each, which are
            opposites in their order.
        question: how a text is shown, up to where the answer follows; ``{text}`` stands for the text.
    """

    prompt: str = ""
    likes: tuple[str, ...] = ()
    dislikes: tuple[str, ...] = ()
    words: tuple[Words, Words] = (("good",), ("bad",))
    question: str = QUESTION

    def examples(self) -> list[tuple[str, bool]]:
        """Return examples and whether it likes them, in turns, so that neither side stands nearer to the question."""
        both = [[(text, True) for text in self.likes], [(text, False) for text in self.dislikes]]
        longest = max(map(len, both))
        return [side[k] for k in range(longest) for side in (both if k % 2 else both[::-1]) if k < len(side)]


class Ask(Protocol):
    """A way to ask about one response at a time. All are stateless and importable without torch."""

    name: ClassVar[str]

    def documents(self, told: Told, texts: Texts, clean: Clean = str) -> tuple[str, ...]:
        """Return what the model reads to judge one response.

        Args:
            told: persona, examples, words.
            texts: prompt and response; untrusted.
            clean: removes what would be read as markup of the model's chat format.
        """
        ...


class AskForWords(Ask, Protocol):
    """A way to ask that reads the probabilities of answers."""

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


class _Question(AskForWords, Protocol):
    """A way to ask by one question about one response."""

    def documents(self, told: Told, texts: Texts, clean: Clean = str) -> tuple[str, ...]:
        """Return the question.

        Args:
            told: persona, examples, words.
            texts: prompt and response; untrusted.
            clean: removes what would be read as markup of the model's chat format.
        """
        return (document(self, told, texts, clean),)


class Score(_Question):
    """Show one response, ask which of two words fits: log-odds of the words, the mean over pairs of opposites."""

    name: ClassVar[str] = "score"

    def answers(self, told: Told) -> tuple[str, ...]:
        """Return the persona's words for what it likes, then for what it dislikes."""
        return (*told.words[0], *told.words[1])

    def task(self, told: Told) -> str:
        """Return the question for a word."""
        return f"Say whether each text is {told.words[0][0]} or {told.words[1][0]}."

    def examples(self, told: Told) -> tuple[str, str]:
        """Return the first word of each side."""
        return told.words[0][0], told.words[1][0]

    def belief(self, probabilities: FloatArray, scale: float | None = None) -> FloatArray:
        """Return sigmoid of the scaled difference of log-odds."""
        logs = np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), 1e-12))
        liked, disliked = np.split(logs, 2, axis=1)
        return belief_from_scores((liked - disliked).mean(axis=1), scale)


class Rate(_Question):
    """Show one response, ask for a number from 1 to 10: its expected value."""

    name: ClassVar[str] = "rate"

    def answers(self, told: Told) -> tuple[str, ...]:
        """Return the numbers from 1 to 10."""
        return RATINGS

    def task(self, told: Told) -> str:
        """Return the question for a number."""
        (liked, *_), (disliked, *_) = told.words
        return f"Rate each text from 1 ({disliked}) to 10 ({liked})."

    def examples(self, told: Told) -> tuple[str, str]:
        """Return 9 and 2."""
        return ("9", "2")

    def belief(self, probabilities: FloatArray, scale: float | None = None) -> FloatArray:
        """Return sigmoid of the scaled difference of expected ratings."""
        return belief_from_scores(np.asarray(probabilities) @ np.arange(1.0, 11.0), scale)


class Channel:
    """Ask nothing: the likelihood of the response among texts that the judge likes, against those that it dislikes.

    The log-likelihood ratio of prompt and response together; what the prompt contributes is the same for both
    responses of a pair.
    """

    name: ClassVar[str] = "channel"

    def documents(self, told: Told, texts: Texts, clean: Clean = str) -> tuple[str, ...]:
        """Return the response at the end of a list of what the judge likes, and at the end of what it dislikes.

        Args:
            told: examples of both.
            texts: prompt and response; untrusted.
            clean: removes what would be read as markup of the model's chat format.

        Raises:
            ValueError: the judge has no examples.
        """
        if not told.likes or not told.dislikes:
            raise ValueError("ask: channel reads a persona's examples: give it likes and dislikes, or ask: score")
        text = _shown(texts, clean, MAX_CHARACTERS)
        sides = (told.likes, told.dislikes)
        return tuple("".join(f"- {example.strip()}\n" for example in side) + f"- {text}" for side in sides)


COMPARE = "compare"
"""The way to ask that shows both responses: by a letter, in both orders (`labelers.judges.prompt`)."""
ASKS: dict[str, AskForWords | Channel] = {ask.name: ask for ask in (Score(), Rate(), Channel())}
"""The ways to ask that show one response at a time."""


def make_ask(name: str) -> AskForWords | Channel | None:
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


def document(ask: AskForWords, told: Told, texts: Texts, clean: Clean = str, limit: int = MAX_CHARACTERS) -> str:
    """Return task, examples with their answers, and the prompt with one response, up to where the answer follows.

    A persona with a question of its own is told no more than that: small models are thrown off by a description.

    Args:
        ask: how the judge is asked.
        told: persona, examples, words, question.
        texts: prompt and response; untrusted.
        clean: removes what would be read as markup of the model's chat format.
        limit: characters kept of each text.
    """
    head = [f"{told.prompt} {ask.task(told)}".strip()] if told.question == QUESTION else []
    answers = ask.examples(told)
    shown = [
        f"{told.question.replace('{text}', text.strip())} {answers[0 if liked else 1]}"
        for text, liked in told.examples()
    ]
    return "\n\n".join([*head, *shown, told.question.replace("{text}", _shown(texts, clean, limit))])


def _shown(texts: Texts, clean: Clean, limit: int) -> str:
    """Return prompt and response as one text."""
    return "".join(clean(text)[:limit] for text in texts).strip()


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
