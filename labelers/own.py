"""A labeler of a user's own, by its import path: a judge of another library, or what is no language model at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.plugins import load_function
from truthful_rlhf.labelers.context import ReportContext
from truthful_rlhf.labelers.pairs import Pairs


class OwnLabeler:
    """Beliefs of a user's own code: a function ``belief(pairs)``, or a class or an object with such a method.

    It gets ``Pairs`` (``prompt``, ``response_a``, ``response_b``, ...) and returns one probability per pair that A is
    better, NaN where it does not judge.
    """

    def __init__(self, path: str, options: Mapping[str, Any], labeler_id: str) -> None:
        """Import it.

        Args:
            path: ``my_pkg.judges:MyJudge``.
            options: keyword arguments of the class, or of the function.
            labeler_id: its name.
        """
        self.path = path
        self.labeler_id = labeler_id
        self._belief = load_function(path, "kind", "belief", options)

    def belief(self, pairs: Pairs) -> FloatArray:
        """Return what the user's code says, checked: shape ``(n,)``, in [0, 1] or NaN."""
        beliefs = np.asarray(self._belief(pairs), dtype=np.float64)
        if beliefs.shape != (len(pairs),):
            raise ValueError(f"{self.path} returned shape {beliefs.shape} for {len(pairs)} pairs")
        if not (np.isnan(beliefs) | ((beliefs >= 0.0) & (beliefs <= 1.0))).all():
            raise ValueError(f"{self.path} returned a belief that is neither in [0, 1] nor NaN")
        return beliefs

    def report(self, pairs: Pairs, context: ReportContext) -> FloatArray:
        """Return the beliefs: what a strategy makes of them is the panel's affair."""
        return self.belief(pairs)
