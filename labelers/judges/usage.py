"""What a judge costs: counted while it judges, and estimated before anything is spent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

BYTES_PER_TOKEN = 4.0
"""Of English prose in UTF-8, roughly, for the tokenizers of today; other scripts have fewer bytes per token."""
TOKENS_OF_FORMAT = 12
"""That a chat template adds to a request, roughly."""
CUT = " [...]"
"""Stands at the end of a text that was cut."""

Prices = tuple[float | None, float | None]
"""Of a million prompt tokens and of a million completion tokens; None: not known."""


@dataclass
class Usage:
    """What a judge has used so far."""

    requests: int = 0
    cached: int = 0
    unusable: int = 0
    """Replies without an answer."""
    failed: int = 0
    """Requests that the server failed to answer."""
    cut: int = 0
    """Pairs whose texts were cut to the limit."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    price_in: float | None = None
    """Of a million prompt tokens."""
    price_out: float | None = None

    @property
    def cost(self) -> float | None:
        """Cost of the requests, in the unit of the prices; None where a price is not known."""
        return cost_of(self.prompt_tokens, self.completion_tokens, (self.price_in, self.price_out))

    def __str__(self) -> str:
        cost = "" if self.cost is None else f", cost {self.cost:.4f}"
        failed = f", {self.failed} failed requests" if self.failed else ""
        cut = f"; {self.cut} pairs had texts cut to the limit" if self.cut else ""
        return (
            f"{self.requests} requests ({self.cached} more from the cache, {self.unusable} unusable replies{failed}),"
            f" {self.prompt_tokens} + {self.completion_tokens} tokens{cost}{cut}"
        )


@dataclass(frozen=True)
class Estimate:
    """What judging some pairs will take at most, before it is asked for; tokens are estimated from the texts."""

    requests: int
    cached: int
    """Requests that are answered already."""
    prompt_tokens: int
    completion_tokens: int
    cut: int
    """Pairs with a text above the limit."""
    way: str
    """How the server answers; with a question mark where it was never asked."""
    cost: float | None


def cost_of(prompt_tokens: int, completion_tokens: int, prices: Prices) -> float | None:
    """Return the cost, in the unit of the prices; None where a price is not known.

    Args:
        prompt_tokens: >= 0.
        completion_tokens: >= 0.
        prices: of a million tokens each.
    """
    price_in, price_out = prices
    if price_in is None or price_out is None:
        return None
    return (prompt_tokens * price_in + completion_tokens * price_out) / 1e6


def estimated_tokens(texts: Sequence[str]) -> int:
    """Return about how many tokens a chat of these texts has.

    Examples:
        >>> estimated_tokens(["four words of English."])
        18
    """
    return TOKENS_OF_FORMAT + math.ceil(sum(len(text.encode("utf-8", "replace")) for text in texts) / BYTES_PER_TOKEN)


def cut_to_tokens(text: str, limit: int | None) -> str:
    """Return a text of at most about ``limit`` tokens, which says at its end that it was cut; None: no limit.

    Examples:
        >>> cut_to_tokens("word " * 100, 5), cut_to_tokens("short", 5)
        ('word word word word  [...]', 'short')
    """
    if limit is None:
        return text
    encoded = text.encode("utf-8", "replace")
    most = int(limit * BYTES_PER_TOKEN)
    return text if len(encoded) <= most else encoded[:most].decode("utf-8", "ignore") + CUT
