"""What a soft label adds to the Bradley-Terry loss that TRL computes for a hard one.

Notation: z, shape ``(n,)``, is the score difference of the chosen and the rejected response (a reward model's reward
difference, or DPO's beta times the difference of log-ratios); q in [0, 1], shape ``(n,)``, is the soft label,
P(chosen better). TRL minimises the mean of ``-log sigmoid(z)``. A *term* is what must be added to it, per pair:

    soft BCE    -q log sigmoid(z) - (1 - q) log sigmoid(-z)  =  -log sigmoid(z) + (1 - q) z

because log sigmoid(-z) = log sigmoid(z) - z. So the term is linear in z, vanishes at q = 1, and at q = 1/2 cancels
the gradient -1/2 of the hard loss at z = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from truthful_rlhf.aggregation.names import unknown

if TYPE_CHECKING:
    from torch import Tensor

    Term = Callable[[Tensor, Tensor], Tensor]


def soft_bce(z: Tensor, q: Tensor) -> Tensor:
    """Return ``(1 - q) z``: the total is the cross-entropy, whose optimum is ``sigmoid(z) = q``.

    Args:
        z: score differences, shape ``(n,)``.
        q: soft labels, shape ``(n,)``, in [0, 1].

    Returns:
        The term per pair, shape ``(n,)``.
    """
    return (1.0 - q) * z


def gdpo(z: Tensor, q: Tensor) -> Tensor:
    """Return ``-log sigmoid((2q - 1) z) + log sigmoid(z)``: the total is the geometric-averaged loss.

    A pair's gradient is scaled by its certainty 2q - 1, so that an undecided pair (q = 1/2) teaches nothing at any z
    and no pair has a finite optimum: made for policies, not for calibrated rewards.

    References:
        Geometric-averaged preference optimization, arXiv 2409.06691.
    """
    from torch.nn.functional import logsigmoid

    return logsigmoid(z) - logsigmoid((2.0 * q - 1.0) * z)


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


class Redraw:
    """The soft BCE term of hard labels drawn from Bernoulli(q) each time a pair is seen.

    Unbiased for soft BCE, since the term is linear in the label; what it adds is the variance of the draw.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def __call__(self, z: Tensor, q: Tensor) -> Tensor:
        """Draw one hard label per pair and return its term, shape ``(n,)``."""
        drawn = self.rng.random(len(q)) < q.detach().cpu().double().numpy()
        return soft_bce(z, z.new_tensor(drawn))


LOSSES: dict[str, Callable[[np.random.Generator], Term]] = {
    "soft_bce": lambda rng: soft_bce,
    "gdpo": lambda rng: gdpo,
    "hard": lambda rng: hard,
    "robust": lambda rng: robust,
    "redraw": Redraw,
}
"""Name -> maker of the term; the generator is used by the losses that draw."""


def make_term(name: str, rng: np.random.Generator) -> Term:
    """Return the term called ``name``, one of ``LOSSES``."""
    if name not in LOSSES:
        raise ValueError(unknown("soft-label loss", name, LOSSES))
    return LOSSES[name](rng)
