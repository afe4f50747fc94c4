"""Simulated labelers: calibrated beliefs about a persona's own taste.

The true preference of a pair has log-odds d = kappa (g_a - g_b). A persona with taste w judges by its own utility,
whose difference in log-odds is

    u = s sum_f w_f z_f,      z_f: normalised difference of feature f,      s: root mean square of d over the pool,

so that gold: 1 alone gives u = d exactly, gold: -1 the opposite, and one unit of any other feature weighs as much as a
typical difference in gold. It sees u with Gaussian noise and believes the posterior P(own choice is A | what it sees)
(``aggregation.game.beliefs``), to which its declared bias is added in log-odds.

What is calibrated: the belief of an unbiased persona, with respect to the outcomes; the belief of any persona without
bias, with respect to choices drawn from its *own* taste. A biased persona is not calibrated with respect to the
outcomes, and this is what its declared taste means.
"""

from __future__ import annotations

import hashlib

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.game.beliefs import calibrated_beliefs, with_bias
from truthful_rlhf.labelers.context import ReportContext
from truthful_rlhf.labelers.features import GOLD, normalised_difference, raw_difference, root_mean_square
from truthful_rlhf.labelers.pairs import Pairs
from truthful_rlhf.labelers.personas import Persona

SPREAD_WITHOUT_GOLD = 1.5
"""Log-odds of one unit of utility where the pairs have no gold reward to take the unit from."""


def batch_rng(seed: int, pairs: Pairs) -> np.random.Generator:
    """Return a labeler's random stream for a batch: a function of the labeler's seed and the pair ids only."""
    digest = hashlib.sha256("\0".join(pairs.pair_id).encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


def true_log_odds(pairs: Pairs) -> FloatArray:
    """Return kappa (g_a - g_b), the log-odds that A is truly better, shape ``(n,)``."""
    return pairs.kappa * raw_difference(GOLD, pairs)


def taste_log_odds(persona: Persona, pairs: Pairs) -> FloatArray:
    """Return the log-odds u of the persona's own preference for A, shape ``(n,)`` (module docstring)."""
    spread = SPREAD_WITHOUT_GOLD if pairs.gold_a is None else root_mean_square(true_log_odds(pairs))
    utility = np.zeros(len(pairs))
    for feature, weight in persona.taste.items():
        if weight:
            utility += weight * normalised_difference(feature, pairs)
    return spread * utility


class SimulatedLabeler:
    """A labeler that a persona describes.

    A belief depends on the persona, the seed and the batch, and on nothing else: asking twice gives the same answer.

    Args:
        persona: taste, noise and bias.
        seed: of the labeler's own noise.
        labeler_id: its name in reports.
    """

    def __init__(self, persona: Persona, seed: int, labeler_id: str = "simulated") -> None:
        self.persona = persona
        self.seed = seed
        self.labeler_id = labeler_id

    def belief(self, pairs: Pairs) -> FloatArray:
        """Return the posterior that A suits the labeler better, plus its bias, shape ``(n,)``."""
        posterior = self._posterior(taste_log_odds(self.persona, pairs), pairs)
        return with_bias(posterior, self.persona.bias) if self.persona.bias else posterior

    def impartial(self, pairs: Pairs) -> FloatArray:
        """Return what it expects of the outcomes, taste and bias aside, shape ``(n,)``; needs gold rewards."""
        return self._posterior(true_log_odds(pairs), pairs)

    def posterior(self, pairs: Pairs) -> FloatArray:
        r"""Return what its view says of the outcomes, P(A is truly better | its view), shape ``(n,)``.

        For a taste for gold alone: a view of w d with some noise is one of d with the noise divided by \|w\|, and of -d
        where w < 0. It is calibrated for every persona; the belief is only where taste and truth are the same.

        Raises:
            ValueError: the persona has a taste for features of texts, through which nothing is known of the outcome.
        """
        if any(weight for name, weight in self.persona.taste.items() if name != GOLD):
            raise ValueError(f"labeler {self.labeler_id!r}: only a view of the gold reward says something of outcomes")
        weight = self.persona.taste.get(GOLD, 0.0)
        if weight == 0.0:
            return np.full(len(pairs), 0.5)
        seen = self._posterior(np.sign(weight) * true_log_odds(pairs), pairs, 1.0 / abs(weight))
        return seen if weight > 0.0 else 1.0 - seen

    def report(self, pairs: Pairs, context: ReportContext | None = None) -> FloatArray:
        """Return the beliefs: on its own it is truthful; a panel gives it a strategy."""
        return self.belief(pairs)

    def _posterior(self, log_odds: FloatArray, pairs: Pairs, factor: float = 1.0) -> FloatArray:
        """Return calibrated beliefs; on topics of its expertise, through less (or more) of the same noise."""
        beliefs = calibrated_beliefs(log_odds, factor * self.persona.noise, batch_rng(self.seed, pairs))
        topics = np.array(pairs.topic if pairs.topic is not None else [], dtype=object)
        for topic, noise in self.persona.topic_noise.items():
            if (here := topics == topic).any():
                beliefs[here] = calibrated_beliefs(log_odds, factor * noise, batch_rng(self.seed, pairs))[here]
        return beliefs
