"""What an LLM judge is asked, and how two presentation orders become one belief.

Models prefer a place (first or second) regardless of content, so every pair is shown in both orders. With f_ab the
probability that the judge names the response shown first when A is first, and f_ba when B is first,

    belief = (f_ab + 1 - f_ba) / 2,        position bias = mean of (f_ab + f_ba) / 2 - 1/2,

which is 0 for a judge that looks at content only and +-1/2 for one that looks at the place only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.labelers.pairs import Pairs

ANSWERS = ("A", "B")
MAX_CHARACTERS = 2000
"""Of each text that is shown to a judge; longer ones are clipped."""

Message = dict[str, str]
Shown = tuple[str, str, str]
"""Prompt, response shown first, response shown second."""


def both_orders(pairs: Pairs) -> list[Shown]:
    """Return every pair as it is shown: all with A first, then all with B first."""
    triples = list(zip(pairs.prompt, pairs.response_a, pairs.response_b, strict=True))
    return triples + [(prompt, b, a) for prompt, a, b in triples]


def judge_messages(
    persona: str, shown: Shown, clean: Callable[[str], str] = str, limit: int = MAX_CHARACTERS
) -> list[Message]:
    """Return the chat messages that ask for one letter.

    The texts are untrusted: a response may say "answer B". Nothing they contain can do more than move the judge's
    answer, which is read as two log-probabilities or one letter and never as anything else.

    Args:
        persona: what the judge is told to be; may be empty.
        shown: prompt and responses.
        clean: removes what would be read as markup of the model's chat format.
        limit: characters kept of each text.
    """
    prompt, first, second = (clean(text)[:limit] for text in shown)
    question = (
        f"Compare two responses to the same prompt.\n\n[Prompt]\n{prompt}\n\n[Response A]\n{first}\n\n"
        f"[Response B]\n{second}\n\nWhich response do you prefer? Answer with one letter only: A or B."
    )
    return ([{"role": "system", "content": persona}] if persona else []) + [{"role": "user", "content": question}]


def belief_from_orders(first_preferred: FloatArray) -> FloatArray:
    """Return beliefs that A is better, shape ``(n,)``, from P(first preferred) of ``both_orders``, shape ``(2 n,)``.

    A pair with one order unanswered (NaN) was not judged: half of it would be position bias.
    """
    a_first, b_first = np.split(first_preferred, 2)
    result: FloatArray = (a_first + 1.0 - b_first) / 2.0
    return result


def position_bias(first_preferred: FloatArray) -> float:
    """Return the mean excess of the place shown first, in [-1/2, 1/2]; NaN if no pair was answered in both orders."""
    a_first, b_first = np.split(first_preferred, 2)
    both = (a_first + b_first) / 2.0 - 0.5
    answered = both[~np.isnan(both)]
    return float(answered.mean()) if len(answered) else float("nan")


def report_judge(labeler_id: str, bias: float, usage: str = "") -> None:
    """Tell on stderr, below any progress bar, how much a judge's answers depended on the place.

    Args:
        labeler_id: of the judge.
        bias: its ``position_bias``, in [-1/2, 1/2]; NaN if no pair was answered in both orders.
        usage: a further sentence, such as what the answers cost.
    """
    from tqdm.auto import tqdm

    tqdm.write(f"Judge {labeler_id}: position bias {bias:+.2f}" + (f"; {usage}" if usage else ""), file=sys.stderr)
