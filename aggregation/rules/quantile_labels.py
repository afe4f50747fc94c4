"""Labels that nobody gains by bending: weighted quantiles of the reports, at a point that is secret.

The weights of a rule say who was accurate. The *label* that they give was a weighted mean, which every labeler moves
with every report: who wants the label near its own view exaggerates. A weighted quantile is moved by a report only
across it. With the weights w of those present (scaled to sum 1) and u in (0, 1) the label is the report at which the
cumulative weight of the sorted reports passes u; where it meets u exactly, 1/2 clamped between the two neighbours.

    label      u                                                       needs
    mean       (the weighted mean, no quantile)                        nothing
    median     1/2                                                     nothing
    quantile   uniform on [1/4, 3/4], secret                           a secret, a key per round
    drawn      uniform on [0, 1], secret: labeler i's report with      a secret, a key per round
               probability w_i

u is an HMAC of the round's key under the secret (``aggregation.secret``): replay gives the same bytes, and no labeler
knows u when it reports.

**Nobody gains within the round** (objective: any single-peaked taste for this round's label, whatever its peak; any
panel size; one labeler alone, not a coalition). Fix u, the weights and the others' reports. The quantile is the
smallest report r with w(reports <= r) >= u: a minimum over coalitions S with w(S) >= u of the maximum of their reports.
The neighbour above is such a minimum too, with > u. The median of 1/2 and these two again consists of minima and
maxima. As a function of one report r_i it is therefore a clamp med(a, r_i, b), where a <= b depend on the others alone
(Moulin 1980). If the labeler reports its peak p, the label is p or the end nearest to p. No other report gives a label
between p and that end. This holds for every u, so also in expectation over u. The weighted mean has no such clamp:
labeler i moves it by w_i per unit, and a labeler that wants the label elsewhere exaggerates. (The coalitions are
compared in whole numbers, ``aggregation.rules.compiled.quantiles``: no rounding, no dependence on the order of the
reports.)

**Weights do not see the label**, so what is proved of the next weight holds as it stands, and adds up: a labeler that
cares for its next weight and for this round's label, and whose taste is its belief, reports its belief.

**This round and the next under ``drawn``** (objective: the expected sum of -(label - own view)^2 over this round and
the next; own view = belief; all present in both rounds; ``online_weighted`` weights; beliefs and reports of the next
round independent of this outcome). The expected distance of the next label is sum_j pi'_j d_j with d_j = (r'_j - p')^2
and d_i = 0 for the own truthful report: it is *linear* in the next weights pi'. The own loss l_i enters pi'_j = pi_j (1
- eta (l_j - Lbar)) of the others only through Lbar, as + eta pi_i l_i pi_j. So the next distance is constant + eta pi_i
l_i sum_(j != i) pi_j d_j, which rises with the own loss at a rate that does not depend on the outcome; E l_i is least
at the belief, and so is this round's distance. With absences in the next round the weights are divided by the sum of
those present, which depends on the report: linear no more, and the best report leaves the belief (by a little;
tests/aggregation/test_label_incentives.py). Beyond two rounds nothing is proved; ``aggregation.rules.examined`` is the
rule for that.

**Loss.** Given the weights, E (drawn - y)^2 = sum_i w_i (r_i - y)^2 = Lbar, the very sum that the regret bound of the
weights is about: it holds for ``drawn`` in expectation, at every horizon and panel size. The weighted median's loss is
at most 2 Lbar: for y = 1 at least half of the weight reports at most the median m, and each of these loses at least (1
- m)^2; y = 0 alike (a phantom that is the label stands between such halves). At any u the same argument gives Lbar / u
for y = 1 and Lbar / (1 - u) for y = 0, so ``quantile`` has at most 2 ln(3) Lbar = 2.2 Lbar in expectation. What labels
lose in practice against the weighted mean is measured (``benchmarks``).

**Turning A and B round** sends the quantile at u of the reports r to 1 minus the quantile at 1 - u of 1 - r: under
``median`` label by label, under the others in distribution, because u and 1 - u are equally likely.

**Not cured.** A taste for the *average* label of many pairs; coalitions; with two or three labelers the heaviest one
decides alone under ``median``; and gains through later weights, which are measured (``aggregation.game.incentives``,
``aggregation.game.adaptive_lies``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.secret import Secret

Label = Literal["mean", "median", "quantile", "drawn"]
LABELS: dict[str, float | None] = {"mean": None, "median": 0.5, "quantile": 0.25, "drawn": 0.0}
"""Every label by its name: a, where the point u is uniform on [a, 1 - a]; None for the weighted mean."""


class StatedLabel:
    """How a rule with weights states its label: the mean, or a quantile at points that a secret draws."""

    def __init__(self, label: str, secret: bytes | None) -> None:
        """Take a name of ``LABELS`` and the secret, which ``quantile`` and ``drawn`` need.

        Raises:
            ValueError: an unknown label, or no secret where one is needed.
        """
        if not isinstance(label, str) or label not in LABELS:
            raise ValueError(f"label must be one of {', '.join(LABELS)}, got {label!r}")
        if self.is_secret(label) and secret is None:
            raise ValueError(
                f"label={label!r} needs a secret that no labeler has: secret=secrets.token_bytes(32), kept by the owner"
            )
        self.label = label
        self.secret = None if secret is None else Secret(secret)

    @staticmethod
    def is_secret(label: str) -> bool:
        """Return whether this label's point is drawn from a secret."""
        return LABELS[label] is not None and LABELS[label] != 0.5

    def points(self, keys: Iterable[object] | None, n_rounds: int) -> FloatArray:
        """Return the point u of every round, shape ``(T,)``; empty for the weighted mean.

        Args:
            keys: one per round (the pair's id), read by ``quantile`` and ``drawn`` only.
            n_rounds: T.

        Raises:
            ValueError: no key, or not one per round, where keys are needed.
        """
        edge = LABELS[self.label]
        if edge is None:
            return np.empty(0)
        if not self.is_secret(self.label):
            return np.full(n_rounds, edge)
        assert self.secret is not None  # the constructor saw to it
        return edge + (1.0 - 2.0 * edge) * self.secret.uniforms("label", self._checked(keys, n_rounds))

    def _checked(self, keys: Iterable[object] | None, n_rounds: int) -> list[object]:
        if keys is None:
            raise ValueError(
                f"label={self.label!r} draws one secret point per pair and needs the pair's id: "
                "predict_one(reports, key=...), run_online(..., keys=...), final_labels(..., keys=...)"
            )
        # numpy scalars are slow to encode one by one
        listed = keys.tolist() if isinstance(keys, np.ndarray) else list(keys)
        if len(listed) != n_rounds:
            raise ValueError(f"keys must have one entry per round: {n_rounds} rounds, {len(listed)} keys")
        return listed


def weighted_quantiles(reports: FloatArray, weights: FloatArray, points: FloatArray) -> FloatArray:
    """Return the weighted quantile of the reports present in every round, shape ``(T,)``; 0.5 where nobody judged.

    Args:
        reports: shape ``(T, N)``, in [0, 1], NaN where absent.
        weights: shape ``(N,)``, >= 0.
        points: u in (0, 1), shape ``(T,)``.

    Examples:
        >>> weighted_quantiles(np.array([[0.1, 0.4, 0.9]] * 3), np.array([0.3, 0.4, 0.3]), np.array([0.2, 0.5, 0.9]))
        array([0.1, 0.4, 0.9])
    """
    from truthful_rlhf.aggregation.rules.compiled.quantiles import quantile_labels

    soft_labels = np.empty(len(reports))
    quantile_labels(np.ascontiguousarray(reports), weights, points, soft_labels)
    return soft_labels
