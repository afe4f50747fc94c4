"""How a judge answered a batch of pairs: more than a belief, for summaries and for what to audit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.labelers.judges.prompt import belief_from_orders


@dataclass(frozen=True)
class Answers:
    """A judge's answers to n pairs.

    Attributes:
        belief: that A is better, shape ``(n,)``, in [0, 1], NaN where the judge gave no answer.
        a_first: probability that the response shown first was preferred when A stood first, shape ``(n,)``; NaN where
            the judge did not answer, or does not see both responses at once.
        b_first: the same when B stood first.
        mass: probability that the model gave to the words that were read as its answer, shape ``(n,)``; NaN where it
            does not say.
        note: the judge's reason, or why there is no answer, n texts.
        cut: whether a text of the pair was cut, n values.
    """

    belief: FloatArray
    a_first: FloatArray
    b_first: FloatArray
    mass: FloatArray
    note: list[str]
    cut: list[bool]

    @classmethod
    def of_orders(
        cls, first: ArrayLike, mass: ArrayLike, notes: Sequence[str], cut: Sequence[bool] | None = None
    ) -> Answers:
        """Return the answers of a judge that was shown every pair in both orders (`labelers.judges.prompt`).

        Args:
            first: probability that the response shown first is preferred, shape ``(2 n,)``, NaN: no answer.
            mass: shape ``(2 n,)``; a pair has the smaller of its two.
            notes: 2 n texts.
            cut: n values; None: nothing was cut.

        Examples:
            >>> answers = Answers.of_orders([0.9, 0.3], [1.0, 0.8], ["", "B is rude."])
            >>> answers.belief.round(12).tolist(), answers.position_bias, answers.note
            ([0.8], 0.1, ['B is rude.'])
        """
        preferred, masses = np.asarray(first, dtype=np.float64), np.asarray(mass, dtype=np.float64)
        a_first, b_first = np.split(preferred, 2)
        n = len(a_first)
        joined = [" | ".join(dict.fromkeys(filter(None, (notes[k], notes[n + k])))) for k in range(n)]
        return cls(
            belief_from_orders(preferred),
            a_first,
            b_first,
            np.minimum(*np.split(masses, 2)),
            joined,
            list(cut) if cut is not None else [False] * n,
        )

    @property
    def position_bias(self) -> float:
        """Mean excess of the place shown first, in [-1/2, 1/2]; NaN if no pair was answered in both orders."""
        both = (self.a_first + self.b_first) / 2.0 - 0.5
        answered = both[~np.isnan(both)]
        return round(float(answered.mean()), 12) if len(answered) else float("nan")
