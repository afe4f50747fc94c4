"""Judge one response at a time with a local model: the words of an answer, read as probabilities.

For ``score`` and ``rate`` (`labelers.judges.ask`). A response's score does not depend on what it is compared with, so
there is no place to prefer, and n responses take n answers, whatever pairs they stand in. The question is one text to
be continued, without a chat template: small models are better at that, instruct models too.

The probability of an answer is summed over its spellings (with a space before it, capitalised), by those that are one
token, else by the first. A token that begins two answers ("1" and "10") is told apart by one step more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.labelers.judges.answers import Answers
from truthful_rlhf.labelers.judges.ask import (
    CONTENT_FREE,
    AskForWords,
    Channel,
    Score,
    Told,
    belief_from_scores,
    calibrated,
    shown_responses,
)
from truthful_rlhf.labelers.judges.kept import KeptAnswers
from truthful_rlhf.labelers.pairs import Pairs

LEAST_MASS = 1e-3
"""Less probability than this on all answers together is no answer."""


def judge_pointwise(
    reader: AnswerReader,
    ask: AskForWords | Channel,
    told: Told,
    pairs: Pairs,
    *,
    scale: float | None,
    batch_size: int,
    title: str,
) -> Answers:
    """Return how a judge answers n pairs, one response at a time.

    Args:
        reader: of the model.
        ask: the way to ask.
        told: persona, examples, words.
        pairs: the batch.
        scale: of a difference of scores, > 0; None: by the spread of this batch.
        batch_size: prompts per forward pass.
        title: of the progress bar; empty: none.
    """
    if isinstance(ask, Channel):
        return _by_likelihood(reader, ask, told, pairs, scale, batch_size, title)
    return _by_words(reader, ask, told, pairs, scale, batch_size, title)


def _by_likelihood(
    reader: AnswerReader, ask: Channel, told: Told, pairs: Pairs, scale: float | None, batch_size: int, title: str
) -> Answers:
    sides = zip(*(ask.documents(told, texts, reader.clean) for texts in shown_responses(pairs)), strict=True)
    liked, disliked = (reader.log_likelihoods(list(side), batch_size, title) for side in sides)
    n, nothing = len(pairs), np.full(len(pairs), np.nan)
    return Answers(belief_from_scores(liked - disliked, scale), nothing, nothing, nothing, [""] * n, [False] * n)


def _by_words(
    reader: AnswerReader, ask: AskForWords, told: Told, pairs: Pairs, scale: float | None, batch_size: int, title: str
) -> Answers:
    if isinstance(ask, Score):
        told = reader.with_words_told_apart(told)
    words = ask.answers(told)
    asked = [text for texts in shown_responses(pairs) for text in ask.documents(told, texts, reader.clean)]
    empty = [text for free in CONTENT_FREE for text in ask.documents(told, ("", free), reader.clean)]
    masses = reader.probabilities([*asked, *empty], words, batch_size, title)
    total = masses.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(total[:, None] >= LEAST_MASS, masses / total[:, None], np.nan)
    corrected = shares[: len(asked)]
    if not np.isnan(shares[len(asked) :]).any():
        corrected = calibrated(corrected, shares[len(asked) :])
    n, mass = len(pairs.pair_id), np.minimum(*np.split(total[: len(asked)], 2))
    unanswered = f"the answers {', '.join(words[:2])} have less than {LEAST_MASS:g} of the probability"
    belief = ask.belief(corrected, scale)
    notes = [unanswered if missing else "" for missing in np.isnan(belief)]
    nothing = np.full(n, np.nan)
    return Answers(belief, nothing, nothing, mass, notes, [False] * n)


def shared_prefix(prompts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return what all prompts begin with, but for the last token of the shortest.

    >>> shared_prefix([(1, 2, 3), (1, 2)])
    (1,)
    """
    if not prompts:
        return ()
    first, last = min(prompts), max(prompts)  # in the order of words, all others lie between
    longest = min(map(len, prompts)) - 1
    n = next((k for k in range(longest) if first[k] != last[k]), longest)
    return first[:n]


class AnswerReader:
    """Reads the probabilities of answer words; answers are remembered: a rule swapped in costs nothing.

    Args:
        chooser: a loaded model and its tokenizer, with its formats (`labelers.judges.local.LetterChooser`).
    """

    def __init__(self, chooser: Any) -> None:
        self._chooser = chooser
        self._kept: KeptAnswers = chooser.kept

    def clean(self, text: str) -> str:
        """Remove what the tokenizer would read as its own markup."""
        cleaned: str = self._chooser.without_markup(text)
        return cleaned

    def probabilities(self, asked: list[str], words: tuple[str, ...], batch_size: int, title: str) -> FloatArray:
        """Return the probability of every answer to every question, shape ``(n, k)``; a row sums to at most 1.

        Args:
            asked: n texts that end where the answer begins.
            words: the k answers.
            batch_size: prompts per forward pass.
            title: of the progress bar; empty: none.

        Raises:
            ValueError: two answers cannot be told apart by their tokens.
        """
        firsts, longer = self._tokens(words)
        alike = [answer for k, answer in enumerate(words) if not firsts[k] and k not in longer]
        if alike:
            raise ValueError(f"the judge model's tokenizer does not tell the answer {alike[0]!r} from the others")
        prompts = [self._chooser.encode_document(text) for text in asked]
        questions = [("words", prompt, words) for prompt in prompts]
        missing = self._kept.missing(questions)
        todo = [prompt for _, prompt, _ in missing]
        read = self._chooser.next_tokens(todo, batch_size, title)
        rows = [[float(chances[tokens].sum()) for tokens in firsts] for chances in read]
        for word, (short, begin, rest) in longer.items():
            further = self._chooser.next_tokens([(*prompt, begin) for prompt in todo], batch_size, "")
            for found, chances in zip(rows, further, strict=True):
                found[word] = found[short] * float(chances[rest])
                found[short] -= found[word]
        self._kept.put(dict(zip(missing, map(tuple, rows), strict=True)))
        return np.array([self._kept[question] for question in questions])

    def log_likelihoods(self, texts: list[str], batch_size: int, title: str) -> FloatArray:
        """Return the log-likelihood of every text, shape ``(n,)``, after the tokens that all of them begin with.

        Args:
            texts: n texts.
            batch_size: prompts per forward pass.
            title: of the progress bar; empty: none.
        """
        encoded = [self._chooser.encode_document(text) for text in texts]
        before = len(shared_prefix(encoded))
        questions = [(f"likelihood after {before}", tokens, ()) for tokens in encoded]
        missing = self._kept.missing(questions)
        read = self._chooser.log_likelihoods([tokens for _, tokens, _ in missing], before, batch_size, title)
        self._kept.put({question: (found,) for question, found in zip(missing, read, strict=True)})
        return np.array([self._kept[question][0] for question in questions])

    def _tokens(self, words: tuple[str, ...]) -> tuple[list[list[int]], dict[int, tuple[int, int, int]]]:
        """Return the first tokens of every answer's spellings, and answers that another one begins.

        The latter by position: which answer it is longer than, that one's token, and the token that comes after it.
        """
        spelled = [self._spellings(word) for word in words]
        firsts = [sorted({tokens[0] for tokens in spellings}) for spellings in spelled]
        longer: dict[int, tuple[int, int, int]] = {}
        for k, spellings in enumerate(spelled):
            for other, tokens in enumerate(firsts):
                shared = [s for s in spellings if len(s) > 1 and s[0] in tokens and other != k]
                if shared and words[k] != words[other] and words[k].startswith(words[other]):
                    longer[k] = (other, shared[0][0], shared[0][1])
                    firsts[k] = []
        taken = [token for tokens in firsts for token in tokens]
        return [[token for token in tokens if taken.count(token) == 1] for tokens in firsts], longer

    def with_words_told_apart(self, told: Told) -> Told:
        """Return what a judge is told without the last pairs of opposites whose tokens are those of other words.

        All words are there in the vocabularies of common models; a small one may split them into letters.
        """
        opposites = list(zip(*told.words, strict=True))
        while len(opposites) > 1:
            liked, disliked = (tuple(side) for side in zip(*opposites, strict=True))
            firsts, _ = self._tokens((*liked, *disliked))
            alike = {k % len(opposites) for k, tokens in enumerate(firsts) if not tokens}
            if not alike:
                return replace(told, words=(liked, disliked))
            del opposites[max(alike)]
        return replace(told, words=((opposites[0][0],), (opposites[0][1],)))

    def _spellings(self, word: str) -> list[list[int]]:
        forms = dict.fromkeys(before + form for before in ("", " ") for form in (word, word.capitalize()))
        encoded = [self._chooser.tokenizer.encode(form, add_special_tokens=False) for form in forms]
        whole = [tokens for tokens in encoded if len(tokens) == 1]
        return whole or [tokens for tokens in encoded if tokens]
