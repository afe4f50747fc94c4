"""Rules as the tests make them: with a secret where a rule needs one, and a label that needs no keys."""

from __future__ import annotations

from typing import Any

from truthful_rlhf.aggregation import Aggregator
from truthful_rlhf.aggregation import make_aggregator as make

NEEDED: dict[str, dict[str, Any]] = {"examined": {"label": "median", "secret": b"a secret of the tests"}}


def make_aggregator(name: str, n_labelers: int, /, **options: Any) -> Aggregator:
    """Return a fresh rule by name, as ``aggregation.make_aggregator`` does."""
    return make(name, n_labelers, **{**NEEDED.get(name, {}), **options})
