"""What a soft label adds to the Bradley-Terry loss that TRL computes for a hard one.

Notation: z, shape ``(n,)``, is the score difference of the chosen and the rejected response (a reward model's reward
difference, or DPO's beta times the difference of log-ratios); q in [0, 1], shape ``(n,)``, is the soft label,
P(chosen better). TRL minimises the mean of ``-log sigmoid(z)``. Our losses add a *term* to every pair of that mean:

    soft BCE    -q log sigmoid(z) - (1 - q) log sigmoid(-z)  =  -log sigmoid(z) + (1 - q) z

because log sigmoid(-z) = log sigmoid(z) - z. The term is linear in z. It is 0 at q = 1. At q = 1/2 it cancels the
gradient -1/2 that the hard loss has at z = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from truthful_rlhf.aggregation.names import unknown

if TYPE_CHECKING:
    from torch import Tensor

Term = Callable[["Tensor", "Tensor"], "Tensor"]
"""From score differences z and soft labels q, each of shape ``(n,)``, to what is added to each pair's loss."""


def soft_bce(z: Tensor, q: Tensor) -> Tensor:
    """Return ``(1 - q) z``: the total is the cross-entropy, whose optimum is ``sigmoid(z) = q``.

    Args:
        z: score differences, shape ``(n,)``.
        q: soft labels, shape ``(n,)``, in [0, 1].

    Returns:
        The term per pair, shape ``(n,)``.
    """
    return (1.0 - q) * z


def hard(z: Tensor, q: Tensor) -> Tensor:
    """Return the soft BCE term of the labels' directions, 1 from q = 1/2 on: TRL's own loss where q >= 1/2."""
    return soft_bce(z, _direction(q))


ROBUST_FLIP_RATE = 0.1
"""The share of flipped labels that ``robust`` assumes: one number for all pairs."""


def robust(z: Tensor, q: Tensor) -> Tensor:
    """Return the term of hard labels d with a known flip rate e: the total is TRL's ``robust`` loss.

    ((1 - e) l(z, d) - e l(z, 1 - d)) / (1 - 2e), where l is the hard loss: linear in the label, so it is the soft BCE
    term of the label (d - e) / (1 - 2e), outside [0, 1], whose expectation over flips is the label without flips.

    References:
        Provably robust DPO, arXiv 2403.00409.
    """
    return soft_bce(z, (_direction(q) - ROBUST_FLIP_RATE) / (1.0 - 2.0 * ROBUST_FLIP_RATE))


def _direction(q: Tensor) -> Tensor:
    return (q >= 0.5).to(q.dtype)


LOSSES: dict[str, Term] = {"soft_bce": soft_bce, "hard": hard, "robust": robust}
"""Name -> term."""


def make_term(name: str) -> Term:
    """Return the term called ``name``, one of ``LOSSES``.

    Raises:
        ValueError: an unknown name; the nearest valid one is named.
    """
    if name not in LOSSES:
        raise ValueError(unknown("soft-label loss", name, LOSSES))
    return LOSSES[name]
