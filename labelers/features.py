"""Features of a response that a labeler's taste may weigh: named functions from a text to a number.

Raw features have incomparable units (words, shares, grade levels). A taste therefore weighs *differences* between the
two responses, each divided by its root mean square over the pool of pairs: one unit of any feature is one typical
difference. The difference is not centred, because A and B are arbitrary: swapping them has to flip its sign exactly.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.labelers.pairs import Pairs

GOLD = "gold"

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
# Responses are untrusted: these patterns take linear time on any text, hence the look-behind and no \s at a start.
_SENTENCE_END = re.compile(r"(?<![.!?])[.!?]++(?=\s|$)")
_VOWELS = re.compile(r"[aeiouy]+")
_LIST_ITEM = re.compile(r"^[ \t]*+(?:[-*•]|\d++[.)])[ \t]", re.MULTILINE)
_CONTRACTION = re.compile(r"\w['’](?:t|s|re|ve|ll|d|m)\b", re.IGNORECASE)
_HEDGES = re.compile(
    r"\b(?:maybe|perhaps|possibly|probably|might|may|could|seems?|appears?|somewhat|likely|unsure|i think|i believe"
    r"|i guess|sort of|kind of)\b",
    re.IGNORECASE,
)
_INFORMAL = re.compile(
    r"\b(?:yeah|yep|nope|gonna|wanna|gotta|kinda|sorta|lol|omg|hey|guys?|cool|awesome|stuff|totally|super|ok|okay)\b",
    re.IGNORECASE,
)
_POLITE = re.compile(
    r"\b(?:please|thank you|thanks|welcome|sorry|glad|happy to|of course|great question)\b", re.IGNORECASE
)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _per_word(count: int, text: str) -> float:
    return count / max(1, len(_words(text)))


def length(text: str) -> float:
    """Return the number of words.

    >>> length("It's a good film.")
    4.0
    """
    return float(len(_words(text)))


def formality(text: str) -> float:
    """Return minus the share of informal words, contractions and exclamation marks per word: 0 is fully formal."""
    informal = len(_INFORMAL.findall(text)) + len(_CONTRACTION.findall(text)) + text.count("!")
    return -_per_word(informal, text)


def readability(text: str) -> float:
    """Return the Flesch reading ease, 206.835 - 1.015 words/sentence - 84.6 syllables/word; 0 for a wordless text.

    Syllables are groups of vowels; a final silent e does not count.
    """
    words = _words(text)
    if not words:
        return 0.0
    syllables = sum(max(1, len(_VOWELS.findall(re.sub(r"(?<=[^aeiouyl])e$", "", word)))) for word in words)
    sentences = max(1, len(_SENTENCE_END.findall(text)))
    return 206.835 - 1.015 * len(words) / sentences - 84.6 * syllables / len(words)


def hedging(text: str) -> float:
    """Return the hedging expressions ("maybe", "I think") per word."""
    return _per_word(len(_HEDGES.findall(text)), text)


def politeness(text: str) -> float:
    """Return the polite expressions ("please", "thank you") per word."""
    return _per_word(len(_POLITE.findall(text)), text)


def structure(text: str) -> float:
    """Return the number of list items."""
    return float(len(_LIST_ITEM.findall(text)))


FEATURES: dict[str, Callable[[str], float]] = {
    "length": length,
    "formality": formality,
    "readability": readability,
    "hedging": hedging,
    "politeness": politeness,
    "structure": structure,
}
"""Features of a text; ``gold``, the true utility that comes with the pairs, is known beside them."""


@lru_cache(maxsize=1 << 16)
def _value(name: str, text: str) -> float:
    """Return a feature of a text; remembered, because all labelers of a panel read the same texts."""
    return FEATURES[name](text)


def raw_difference(name: str, pairs: Pairs) -> FloatArray:
    """Return feature(A) - feature(B) in the feature's own unit, shape ``(n,)``.

    Raises:
        ValueError: ``gold`` is asked of pairs whose true utility is not known.
    """
    if name == GOLD:
        if pairs.gold_a is None or pairs.gold_b is None:
            raise ValueError(
                "a taste for 'gold' needs pairs with gold rewards: simulated labelers exist in experiments only"
                " (let an LLM judge or recorded people judge these pairs)"
            )
        return np.asarray(pairs.gold_a, dtype=np.float64) - np.asarray(pairs.gold_b, dtype=np.float64)
    differences = [_value(name, a) - _value(name, b) for a, b in zip(pairs.response_a, pairs.response_b, strict=True)]
    return np.array(differences, dtype=np.float64)


def root_mean_square(values: FloatArray) -> float:
    """Return sqrt(mean(values^2)), 0 for no values."""
    return float(np.sqrt(np.mean(np.square(values)))) if len(values) else 0.0


def normalised_difference(name: str, pairs: Pairs) -> FloatArray:
    """Return feature(A) - feature(B) over its root mean square in this pool, shape ``(n,)``; 0 where it never varies.

    Args:
        name: ``gold`` or a key of ``FEATURES``.
        pairs: the pool.
    """
    difference = raw_difference(name, pairs)
    unit = root_mean_square(difference)
    return difference / unit if unit > 0 else difference
