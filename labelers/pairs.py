"""A batch of pairs as labelers see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from truthful_rlhf.aggregation.base import BoolArray, FloatArray


@dataclass(frozen=True)
class Pairs:
    """A batch of n pairs: a prompt and two responses each.

    ``gold_a`` and ``gold_b`` (shape ``(n,)``) are the true utilities of the responses, and A is truly better with
    log-odds ``kappa * (gold_a - gold_b)``. They exist in experiments only, and only a *simulated* labeler may look at
    them (through the noise of its belief); judges and trainers never do. ``audited`` (bool, shape ``(n,)``) says whose
    outcome will be revealed; it exists in experiments only, and only a strategy that stands for a leak looks at it.
    """

    pair_id: Sequence[str]
    prompt: Sequence[str]
    response_a: Sequence[str]
    response_b: Sequence[str]
    gold_a: FloatArray | None = None
    gold_b: FloatArray | None = None
    topic: Sequence[str] | None = None
    kappa: float = 1.0
    audited: BoolArray | None = None

    def __post_init__(self) -> None:
        n = len(self.pair_id)
        for name in ("prompt", "response_a", "response_b", "gold_a", "gold_b", "topic", "audited"):
            column = getattr(self, name)
            if column is not None and len(column) != n:
                raise ValueError(f"pairs: column {name!r} has {len(column)} entries, pair_id has {n}")

    def __len__(self) -> int:
        return len(self.pair_id)

    def part(self, rows: slice) -> Pairs:
        """Return the pairs of some rows."""
        columns = ("pair_id", "prompt", "response_a", "response_b", "gold_a", "gold_b", "topic", "audited")
        values = {name: getattr(self, name) for name in columns}
        return replace(self, **{name: value[rows] for name, value in values.items() if value is not None})
