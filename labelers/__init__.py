"""Who judges: beliefs, strategies, LLM judges, recorded people, and the panel that mixes them."""

from labelers.pairs import Pairs

__all__ = ["Pairs"]
