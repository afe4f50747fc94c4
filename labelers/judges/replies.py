"""What a chat server's reply says: a letter, log-probabilities of letters, or a verdict in JSON. Nothing is trusted.

A reply is text of a model that has read untrusted text. It is read as one letter, as probabilities of two letters, or
as one JSON object of three known fields, and never as anything else.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from truthful_rlhf.labelers.judges.prompt import ANSWERS

LEAST_MASS = 0.1
"""Probability that the letters A and B need together: below it the model is saying something else."""
_ROUNDING = 1e-3
"""Servers in half precision state log-probabilities a little above 0."""
_LETTER = re.compile(r"[\W_]*([ABab])(?![^\W\d_])")
_ARTICLE = re.compile(r"\s+(?!(?:is|was|has|wins|because|since|as)\b)[a-z]")
"""What follows the letter in 'A good answer', where it is no answer but a word."""
_THOUGHTS_END = re.compile(r"</(?:think|thinking|thought|reasoning)>")
_THOUGHTS_BEGIN = re.compile(r"\s*<(?:think|thinking|thought|reasoning)>")
_FENCE = re.compile(r"\A```(?:json)?\s*(.*?)\s*```\Z", re.DOTALL)
_MOST_REASON = 300

VERDICT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "reason": {"type": "string"},
        "winner": {"type": "string", "enum": [*ANSWERS, "tie"]},
        "probability": {"type": "number", "enum": [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]},
    },
    "required": ["reason", "winner", "probability"],
    "additionalProperties": False,
}
"""JSON schema of a verdict. The reason comes first, so that it can move the verdict; nothing is stated as certain."""


class Reply(NamedTuple):
    """What is kept of a completion."""

    text: str
    """Without the model's thoughts."""
    logprobs: list[tuple[str, float]]
    """The likeliest first tokens; empty if the server gives none."""
    thinks: bool
    """Whether the model reasons before it answers."""
    is_cut: bool
    """Whether the reply came to the end of its tokens."""
    prompt_tokens: int
    completion_tokens: int

    @property
    def is_empty(self) -> bool:
        """Whether nothing was said: another try may do better."""
        return not self.text and not self.logprobs


class Verdict(NamedTuple):
    """How one prompt was answered."""

    first: float
    """Probability that the response shown first is better, in [0, 1]; NaN: no answer."""
    mass: float = math.nan
    """Probability that the model gave to the two letters; NaN where it does not say."""
    note: str = ""
    """The judge's reason, or why there is no answer."""
    is_failure: bool = False
    """Whether the server failed, so that asking again may help."""


def plain_reply(completion: Any) -> Reply:
    """Return what is kept of a completion of the client, which may have any shape."""
    choice = _first(getattr(completion, "choices", None))
    message = getattr(choice, "message", None)
    content = getattr(message, "content", None)
    raw = content if isinstance(content, str) else ""
    hidden = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
    usage = getattr(completion, "usage", None)
    details = getattr(usage, "completion_tokens_details", None)
    is_cut = getattr(choice, "finish_reason", None) == "length"
    thinks = bool(hidden) or _count(getattr(details, "reasoning_tokens", None)) > 0 or has_thoughts(raw)
    return Reply(
        without_thoughts(raw),
        _log_probabilities(choice),
        thinks or (is_cut and not raw),
        is_cut,
        _count(getattr(usage, "prompt_tokens", None)),
        _count(getattr(usage, "completion_tokens", None)),
    )


def _log_probabilities(choice: Any) -> list[tuple[str, float]]:
    token = _first(getattr(getattr(choice, "logprobs", None), "content", None))
    top = getattr(token, "top_logprobs", None)
    entries = [(getattr(e, "token", None), getattr(e, "logprob", None)) for e in top or ()] if _first(top) else []
    if not entries:
        entries = [(getattr(token, "token", None), getattr(token, "logprob", None))]
    return [(name, float(p)) for name, p in entries if isinstance(name, str) and _is_log_probability(p)]


def _first(values: Any) -> Any:
    return values[0] if isinstance(values, list | tuple) and values else None


def _is_log_probability(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and -math.inf < value <= _ROUNDING


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def has_thoughts(text: str) -> bool:
    """Return whether a reply holds thoughts between tags; some templates write the opening tag themselves."""
    return bool(_THOUGHTS_BEGIN.match(text) or _THOUGHTS_END.search(text))


def without_thoughts(text: str) -> str:
    """Return what a reply says after its thoughts; nothing if it did not come to their end.

    Examples:
        >>> without_thoughts("<think>A is longer.</think> B"), without_thoughts("<think>Let me see")
        (' B', '')
    """
    ends = list(_THOUGHTS_END.finditer(text))
    if ends:
        return text[ends[-1].end() :]
    return "" if _THOUGHTS_BEGIN.match(text) else text


def parse_letter(text: str) -> str | None:
    """Return the answer ``A`` or ``B`` that a reply begins with, or None.

    Examples:
        >>> parse_letter(" A"), parse_letter("**B**."), parse_letter("b)"), parse_letter("Apples"), parse_letter("")
        ('A', 'B', 'B', None, None)
        >>> parse_letter("A is better"), parse_letter("A good answer is B")
        ('A', None)
    """
    match = _LETTER.match(text)
    if match is None or (match[1] in "Aa" and _ARTICLE.match(text, match.end())):
        return None
    return match[1].upper()


def letter_answer(text: str) -> Verdict:
    """Return 1 for the letter A and 0 for B."""
    letter = parse_letter(text)
    if letter is None:
        return Verdict(math.nan, note="the reply is no letter A or B")
    return Verdict(float(letter == ANSWERS[0]))


def letter_probability(logprobs: Sequence[tuple[str, float]]) -> Verdict:
    """Return P(A) / (P(A) + P(B)) over all spellings of the letters among the likeliest first tokens.

    A letter that is not listed has at most the probability of the least likely token that is, and at most what the
    list leaves over. This bound is put in its place: it keeps the answer from being more certain than what was seen.
    Where the letters together have less than `LEAST_MASS` there is no answer.

    Examples:
        >>> round(letter_probability([("A", math.log(0.6)), (" B", math.log(0.2)), ("The", math.log(0.1))]).first, 12)
        0.75
        >>> letter_probability([("The", math.log(0.9)), ("A", math.log(0.0055))]).first
        nan
        >>> round(letter_probability([("A", math.log(0.6)), ("The", math.log(0.2))]).first, 12)
        0.75
    """
    mass = dict.fromkeys(ANSWERS, 0.0)
    listed = [(token, math.exp(min(value, 0.0))) for token, value in logprobs if math.isfinite(value)]
    for token, probability in listed:
        letter = parse_letter(token)
        if letter is not None:
            mass[letter] += probability
    total = sum(mass.values())
    if total < LEAST_MASS:
        return Verdict(math.nan, total, f"the letters A and B have {total:.0%} of the probability")
    left = max(0.0, 1.0 - sum(probability for _, probability in listed))
    bound = min(left, min(probability for _, probability in listed))
    a, b = (mass[letter] or bound for letter in ANSWERS)
    return Verdict(a / (a + b), total)


def parse_verdict(text: str) -> Verdict:
    """Return what a reply in JSON says: a winner, and how probable it is that the winner is better.

    The whole reply must be one object; JSON inside prose may have been copied from a response. A tie is 1/2.

    Examples:
        >>> parse_verdict('{"reason": "It is shorter.", "winner": "B", "probability": 0.9}').first
        0.1
        >>> parse_verdict('I choose {"winner": "B", "probability": 0.9}').first
        nan
    """
    fenced = _FENCE.match(text.strip())
    try:
        content = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return Verdict(math.nan, note="the reply is not JSON")
    if not isinstance(content, Mapping):
        return Verdict(math.nan, note="the reply is no JSON object")
    winner, probability, said = (content.get(name) for name in ("winner", "probability", "reason"))
    reason = said[:_MOST_REASON] if isinstance(said, str) else ""
    if winner == "tie":
        return Verdict(0.5, note=reason)
    if winner not in ANSWERS:
        return Verdict(math.nan, note="the JSON names no winner A, B or tie")
    if isinstance(probability, bool) or not isinstance(probability, int | float) or not 0.5 <= probability <= 1.0:
        return Verdict(math.nan, note="the JSON gives its winner no probability from 0.5 to 1")
    first = float(probability) if winner == ANSWERS[0] else round(1.0 - float(probability), 12)
    return Verdict(first, note=reason)
