"""The dynamic Bayesian game: campaigns as arrays, and what labelers get in them.

Each round nature draws a pair's true log-odds d_t ~ N(0, spread^2) and its outcome y_t ~ Bernoulli(sigmoid(d_t)).
Every labeler gets a private noisy view of d_t and forms its *belief* p_ti, its own view of the pair. It reports; the
rule states the soft label q_t; if the pair is audited, the outcome is revealed and the weights move. Who the labelers
are is not known here: beliefs and reports come in as arrays. The payoff is one of three objectives:

- ``influence``: sum_t discount^(t-1) pi_{t+1,i} / sum_t discount^(t-1), the mean weight share after each round;
- ``taste``: - sum_t discount^(t-1) (q_t - p_ti)^2 / sum_t discount^(t-1): the soft label is to be near the labeler's
  own view p_ti (its belief, bias included), in this round and, through the weights that it will have, in later ones;
- ``policy_taste``: - sum_k w_k (mean of q_t - mean of p_ti over the pairs of topic k)^2, w_k the topic's share of the
  rounds: a policy learns from the labels of like pairs together, and it is their average that is to be near the
  labeler's own. Errors that cancel cost nothing; a push to one side pays even where no single label would be missed.

A payoff is an expectation *of the labeler who decides*. A biased labeler is sure of its belief, so its outcomes have
to be drawn from that belief and not from the truth: otherwise un-biasing its reports would look like a profitable
lie. With c_t the calibrated posterior of the outcome and p_t > c_t the belief, an outcome of 0 is turned into 1
with probability (p_t - c_t) / (1 - c_t) (and 1 into 0 symmetrically if p_t < c_t): the smallest change of the outcomes
that makes P(y_t = 1 | own view) = p_t. An unbiased labeler expects the outcomes as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from truthful_rlhf.aggregation.base import Aggregator, BoolArray, FloatArray, IntArray
from truthful_rlhf.aggregation.campaign import OnlineRun, run_online
from truthful_rlhf.aggregation.game.misreport import Misreport
from truthful_rlhf.aggregation.log_odds import sigmoid
from truthful_rlhf.aggregation.names import unknown

Rule = Callable[[int], Aggregator]
"""A rule as the labelers know it: from the number of labelers to a fresh aggregator."""

TRUTH = Misreport()
OBJECTIVES = ("influence", "taste", "policy_taste")
OUTCOME_MODELS = ("own", "true")
SPREAD = 1.5
"""Standard deviation of the pairs' true log-odds where nothing else is said."""


@dataclass(frozen=True)
class Nature:
    """What nature draws of n pairs before anybody judges them.

    Attributes:
        log_odds: d_t, true log-odds that A is better, shape ``(n,)``.
        outcomes: y_t in {0, 1}, shape ``(n,)``.
        audited: whether the outcome is revealed to the rule, shape ``(n,)``.
        coupling: uniform draws that turn outcomes into those that a biased labeler expects, shape ``(n,)``.
    """

    log_odds: FloatArray
    outcomes: FloatArray
    audited: BoolArray
    coupling: FloatArray

    @property
    def revealed(self) -> FloatArray:
        """The outcomes that the rule sees, shape ``(n,)``: NaN where the pair is not audited."""
        return np.where(self.audited, self.outcomes, np.nan)

    def campaigns(
        self,
        n_rounds: int,
        beliefs: FloatArray,
        reports: FloatArray,
        posteriors: FloatArray,
        topics: IntArray | None = None,
    ) -> list[Campaign]:
        """Return the pairs as campaigns of ``n_rounds`` each, in their order.

        Args:
            n_rounds: T; n is a multiple of it.
            beliefs: shape ``(n, N)``.
            reports: shape ``(n, N)``.
            posteriors: shape ``(n, N)``.
            topics: whole numbers >= 0, shape ``(n,)``; None: all pairs are of one topic.
        """
        topics = np.zeros(len(self.outcomes), dtype=np.int64) if topics is None else topics
        parts = (slice(k, k + n_rounds) for k in range(0, len(self.outcomes), n_rounds))
        return [
            Campaign(
                outcomes=self.outcomes[p],
                audited=self.audited[p],
                posteriors=posteriors[p],
                beliefs=beliefs[p],
                reports=reports[p],
                coupling=self.coupling[p],
                topics=topics[p],
            )
            for p in parts
        ]


def draw_nature(n: int, rng: np.random.Generator, spread: float = SPREAD, audit_rate: float = 1.0) -> Nature:
    """Draw the truth, the outcomes and the audits of n pairs.

    Args:
        n: number of pairs, >= 1.
        rng: source of randomness.
        spread: standard deviation of the true log-odds, >= 0 and finite.
        audit_rate: chance in [0, 1] that a pair's outcome is revealed to the rule.
    """
    if n < 1:
        raise ValueError(f"need at least one pair, got {n}")
    if not 0.0 <= spread < np.inf:
        raise ValueError(f"spread must be >= 0 and finite, got {spread}")
    if not 0.0 <= audit_rate <= 1.0:
        raise ValueError(f"audit_rate must be in [0, 1], got {audit_rate}")
    log_odds = rng.normal(0.0, spread, n)
    outcomes = (rng.random(n) < sigmoid(log_odds)).astype(np.float64)
    audited = rng.random(n) < audit_rate
    return Nature(log_odds, outcomes, audited, rng.random(n))


@dataclass(frozen=True)
class Campaign:
    """T rounds as nature drew them, for N labelers.

    Attributes:
        outcomes: y_t in {0, 1} of every pair, shape ``(T,)``, known to the evaluator.
        audited: whether the outcome is revealed to the rule, shape ``(T,)``.
        posteriors: what each labeler's view says of the outcome, calibrated: P(y_t = 1 | view), shape ``(T, N)``.
        beliefs: what each labeler sincerely holds, taste and bias included, shape ``(T, N)``.
        reports: what the labelers state if they do what they usually do, shape ``(T, N)``.
        coupling: uniform draws that turn outcomes into those that a biased labeler expects, shape ``(T,)``.
        topics: whole numbers >= 0, shape ``(T,)``: what ``policy_taste`` averages over.
    """

    outcomes: FloatArray
    audited: BoolArray
    posteriors: FloatArray
    beliefs: FloatArray
    reports: FloatArray
    coupling: FloatArray
    topics: IntArray

    @property
    def n_rounds(self) -> int:
        """The number of rounds T."""
        return len(self.outcomes)

    def revealed(self, outcomes: FloatArray | None = None) -> FloatArray:
        """Return the outcomes that the rule sees, shape ``(T,)``: NaN where the pair is not audited."""
        return np.where(self.audited, self.outcomes if outcomes is None else outcomes, np.nan)

    def expected_by(self, labeler: int) -> FloatArray:
        """Return outcomes, shape ``(T,)``, drawn so that P(y_t = 1 | the labeler's view) is its belief."""
        posterior, belief = self.posteriors[:, labeler], self.beliefs[:, labeler]
        room = np.where(belief >= posterior, 1.0 - posterior, posterior)  # chance of the outcome that it doubts
        moved = self.coupling * room < np.abs(belief - posterior)
        return np.where(moved, (belief >= posterior).astype(np.float64), self.outcomes)


def discount_factors(n_rounds: int, discount: float) -> FloatArray:
    """Return discount^(t-1) for t = 1..T, scaled to sum 1, shape ``(T,)``; discount 1 weighs all rounds alike."""
    if not 0.0 <= discount <= 1.0:
        raise ValueError(f"discount must be in [0, 1], got {discount}")
    factors = discount ** np.arange(n_rounds, dtype=np.float64)
    return factors / factors.sum()


@dataclass(frozen=True)
class Objective:
    """What a labeler wants: a name of ``OBJECTIVES`` (module docstring), with a discount per round in [0, 1]."""

    name: str
    discount: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in OBJECTIVES:
            raise ValueError(unknown("objective", self.name, OBJECTIVES))
        if not 0.0 <= self.discount <= 1.0:
            raise ValueError(f"discount must be in [0, 1], got {self.discount}")

    def payoff(
        self,
        run: OnlineRun,
        final_weights: FloatArray,
        members: slice,
        view: FloatArray,
        topics: IntArray | None = None,
    ) -> float:
        """Return what the labelers in columns ``members`` get from one campaign.

        Args:
            run: the campaign under the rule.
            final_weights: weights after the last round, shape ``(N,)``.
            members: one labeler, or a bloc, which counts its joint share.
            view: the common own view p_t, shape ``(T,)``; NaN where the labeler did not judge (no taste there).
            topics: of the pairs, whole numbers >= 0, shape ``(T,)``; None: all are of one topic.
        """
        if self.name == "influence":
            share = np.append(run.weights[1:, members].sum(axis=1), final_weights[members].sum())
            return float(discount_factors(len(share), self.discount) @ share)
        judged = ~np.isnan(view)
        difference = run.soft_labels[judged] - view[judged]
        factors = discount_factors(len(difference), self.discount)
        if self.name == "taste":
            return -float(factors @ difference**2)
        places = np.zeros(len(difference), dtype=np.int64) if topics is None else topics[judged]
        shares = np.bincount(places, factors)  # a topic's part of the campaign
        sums = np.bincount(places, factors * difference)
        present = shares > 0.0
        return -float((sums[present] ** 2 / shares[present]).sum())


class LabelerPosition:
    """The position of a labeler (or of a bloc) that weighs its misreports against the rule, in simulation.

    It knows the rule and the distribution of the others' reports. It holds simulated campaigns, never the aggregator or
    the reports of the campaign that is really played. All misreports meet the same campaigns (common random numbers),
    so that their differences are paired.
    """

    def __init__(
        self,
        rule: Rule,
        campaigns: Sequence[Campaign],
        columns: slice,
        objective: Objective,
        outcome_model: str = "own",
    ) -> None:
        """Take a position.

        Args:
            rule: from the number of labelers to a fresh aggregator.
            campaigns: simulated campaigns, all of one length.
            columns: the labelers that deviate: one, or a bloc, which acts on the view of its first member.
            objective: what the labeler wants.
            outcome_model: ``own``: outcomes follow the labeler's belief (what it expects); ``true``: they are as they
                are (what it will get). The two differ for labelers with a bias or a taste of their own only.
        """
        if outcome_model not in OUTCOME_MODELS:
            raise ValueError(unknown("outcome model", outcome_model, OUTCOME_MODELS))
        self.rule = rule
        self.objective = objective
        self.columns = columns
        self._first = columns.start
        self._cases = [
            (
                campaign,
                campaign.revealed(campaign.expected_by(self._first) if outcome_model == "own" else campaign.outcomes),
            )
            for campaign in campaigns
        ]
        self._votes_only = bool(getattr(rule(campaigns[0].reports.shape[1]), "votes_only", False))
        self._played: dict[bytes, FloatArray] = {}

    @property
    def n_rounds(self) -> int:
        """The length of the campaigns."""
        return self._cases[0][0].n_rounds

    def payoffs(self, misreport: Misreport) -> FloatArray:
        """Return the payoff of a misreport in every simulated campaign, shape ``(n_campaigns,)``.

        Under a rule that sees votes only (``votes_only``), misreports that cast the same votes are played once.
        """

        def deviating(campaign: Campaign) -> FloatArray:
            reports = campaign.reports.copy()
            reports[:, self.columns] = misreport(campaign.beliefs[:, self._first])[:, None]
            return reports

        if not self._votes_only:
            return self._payoffs(deviating)
        stated = np.concatenate([misreport(campaign.beliefs[:, self._first]) for campaign, _ in self._cases])
        votes = np.nan_to_num(np.sign(stated - 0.5), nan=2.0).astype(np.int8).tobytes()
        if votes not in self._played:
            self._played[votes] = self._payoffs(deviating)
        return self._played[votes].copy()

    def usual_payoffs(self) -> FloatArray:
        """Return the payoff of what the labeler usually does (``Campaign.reports``), shape ``(n_campaigns,)``."""
        return self._payoffs(lambda campaign: campaign.reports)

    def _payoffs(self, reports_in: Callable[[Campaign], FloatArray]) -> FloatArray:
        result = np.empty(len(self._cases))
        for k, (campaign, outcomes) in enumerate(self._cases):
            aggregator = self.rule(campaign.reports.shape[1])
            run = run_online(aggregator, reports_in(campaign), outcomes, range(len(outcomes)))
            view = campaign.beliefs[:, self._first]
            result[k] = self.objective.payoff(run, aggregator.weights_, self.columns, view, campaign.topics)
        return result
