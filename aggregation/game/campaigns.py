"""The dynamic Bayesian game: campaigns drawn from a population, what labelers report in them, and what they get.

Each round nature draws a pair's true log-odds d_t ~ N(0, spread^2) and its outcome y_t ~ Bernoulli(sigmoid(d_t)).
Every labeler gets a private noisy view of d_t and forms a calibrated posterior, to which it adds its declared bias:
the sum is its *belief* p_ti, its own view of the pair. It reports; the rule states the soft label q_t; if the pair is
audited, the outcome is revealed and the weights move. A strategy maps beliefs to reports; the payoff is one of two
objectives:

- ``influence``: sum_t discount^(t-1) pi_{t+1,i} / sum_t discount^(t-1), the mean weight share after each round;
- ``taste``: - sum_t discount^(t-1) (q_t - p_ti)^2 / sum_t discount^(t-1): the soft label is to be near the labeler's
  own view p_ti (its belief, bias included), in this round and, through the weights that it will have, in later ones.

A payoff is an expectation *of the labeler who decides*. A biased labeler is sure of its belief, so its outcomes have
to be drawn from that belief and not from the truth: otherwise un-biasing its reports would look like a profitable
lie. With c_t the calibrated posterior and p_t = sigmoid(logit c_t + bias) > c_t, an outcome of 0 is turned into 1
with probability (p_t - c_t) / (1 - c_t) (and 1 into 0 symmetrically if p_t < c_t): the smallest change of the world
that makes P(y_t = 1 | own view) = p_t. An unbiased labeler expects the world as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from truthful_rlhf.aggregation.base import Aggregator, BoolArray, FloatArray, IntArray
from truthful_rlhf.aggregation.campaign import OnlineRun, run_online
from truthful_rlhf.aggregation.game.beliefs import calibrated_beliefs, with_bias
from truthful_rlhf.aggregation.game.misreport import Misreport
from truthful_rlhf.aggregation.game.population import OBJECTIVES, Population
from truthful_rlhf.aggregation.log_odds import sigmoid
from truthful_rlhf.aggregation.names import unknown

Rule = Callable[[int], Aggregator]
"""A rule as the labelers know it: from the number of labelers to a fresh aggregator."""

Plan = Mapping[int, Misreport]
"""The misreports of groups (by index) that do not follow their declared strategy: the best-responders."""

TRUTH = Misreport()
WORLDS = ("own", "true")


@dataclass(frozen=True)
class Campaign:
    """T rounds as nature drew them, for N labelers.

    Attributes:
        outcomes: y_t in {0, 1} of every pair, shape ``(T,)``, known to the evaluator.
        audited: whether the outcome is revealed to the rule, shape ``(T,)``.
        topics: topic of every pair, shape ``(T,)``.
        posteriors: calibrated posteriors, shape ``(T, N)``.
        beliefs: the same with the labelers' biases, shape ``(T, N)``.
        coupling: uniform draws that turn outcomes into those that a biased labeler expects, shape ``(T,)``.
    """

    outcomes: FloatArray
    audited: BoolArray
    topics: IntArray
    posteriors: FloatArray
    beliefs: FloatArray
    coupling: FloatArray

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


def draw_campaigns(
    population: Population, n_rounds: int, n_campaigns: int, rng: np.random.Generator, audit_rate: float = 1.0
) -> list[Campaign]:
    """Draw independent campaigns of a population.

    Args:
        population: who judges.
        n_rounds: T >= 1.
        n_campaigns: how many, >= 1; all are drawn at once, because a posterior costs more to set up than to evaluate.
        rng: source of randomness, spawned per part and per group, so that one group never shifts another's draws.
        audit_rate: chance in [0, 1] that a pair's outcome is revealed to the rule.
    """
    if n_rounds < 1 or n_campaigns < 1:
        raise ValueError(f"need at least one round and one campaign, got {n_rounds} and {n_campaigns}")
    if not 0.0 <= audit_rate <= 1.0:
        raise ValueError(f"audit_rate must be in [0, 1], got {audit_rate}")
    total = n_rounds * n_campaigns
    nature, audits, *seats = rng.spawn(2 + len(population.groups))
    log_odds = nature.normal(0.0, population.spread, total)
    outcomes = (nature.random(total) < sigmoid(log_odds)).astype(np.float64)
    coupling = nature.random(total)
    topics = nature.integers(population.topics, size=total)
    audited = audits.random(total) < audit_rate
    posteriors = np.empty((total, population.n_labelers))
    beliefs = np.empty_like(posteriors)
    for index, (group, seat) in enumerate(zip(population.groups, seats, strict=True)):
        members = population.members(index)
        for column in range(members.start, members.stop):
            if not group.bloc or column == members.start:
                view = calibrated_beliefs(log_odds, group.noise, seat)
            posteriors[:, column] = view
            beliefs[:, column] = with_bias(view, group.bias) if group.bias else view
    parts = (slice(k * n_rounds, (k + 1) * n_rounds) for k in range(n_campaigns))
    return [Campaign(outcomes[p], audited[p], topics[p], posteriors[p], beliefs[p], coupling[p]) for p in parts]


def lie(misreport: Misreport, beliefs: FloatArray, topics: IntArray, topic: int | None) -> FloatArray:
    """Return one labeler's reports, shape ``(T,)``: misreports on pairs of ``topic`` (None: all), else its beliefs."""
    reports = misreport(beliefs)
    return reports if topic is None else np.where(topics == topic, reports, beliefs)


def reports_in(population: Population, campaign: Campaign, plan: Plan) -> FloatArray:
    """Return all reports of a campaign, shape ``(T, N)``.

    Groups in ``plan`` play the misreport given there; the others play the one that they declare (the truth by default).
    """
    reports = campaign.beliefs.copy()
    for index, group in enumerate(population.groups):
        misreport = plan.get(index, group.misreport(campaign.n_rounds))
        topic = None if index in plan else group.topic
        if not misreport.is_truthful:
            for column in range(*population.members(index).indices(population.n_labelers)):
                reports[:, column] = lie(misreport, campaign.beliefs[:, column], campaign.topics, topic)
    return reports


def discount_factors(n_rounds: int, discount: float) -> FloatArray:
    """Return discount^(t-1) for t = 1..T, scaled to sum 1, shape ``(T,)``; discount 1 weighs all rounds alike."""
    if not 0.0 <= discount <= 1.0:
        raise ValueError(f"discount must be in [0, 1], got {discount}")
    factors = discount ** np.arange(n_rounds, dtype=np.float64)
    return factors / factors.sum()


@dataclass(frozen=True)
class Objective:
    """What a labeler wants: ``influence`` or ``taste`` (module docstring), with a discount per round in [0, 1]."""

    name: str
    discount: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in OBJECTIVES:
            raise ValueError(unknown("objective", self.name, OBJECTIVES))
        if not 0.0 <= self.discount <= 1.0:
            raise ValueError(f"discount must be in [0, 1], got {self.discount}")

    def payoff(self, run: OnlineRun, final_weights: FloatArray, members: slice, view: FloatArray) -> float:
        """Return what the labelers in columns ``members`` get from one campaign.

        Args:
            run: the campaign under the rule.
            final_weights: weights after the last round, shape ``(N,)``.
            members: one labeler, or a bloc, which counts its joint share.
            view: the common own view p_t, shape ``(T,)``; NaN where the labeler did not judge (no taste there).
        """
        if self.name == "influence":
            share = np.append(run.weights[1:, members].sum(axis=1), final_weights[members].sum())
            return float(discount_factors(len(share), self.discount) @ share)
        judged = ~np.isnan(view)
        distance = (run.soft_labels[judged] - view[judged]) ** 2
        return -float(discount_factors(len(distance), self.discount) @ distance)


class Seat:
    """The seat of a labeler (or of a bloc) that weighs its misreports against the rule, in simulation.

    It knows the rule, the population that it belongs to and what the other groups play, hence the distribution of the
    others' reports. It holds simulated campaigns, never the aggregator or the reports of the campaign that is really
    played. All misreports meet the same campaigns (common random numbers), so that their differences are paired.
    """

    def __init__(
        self,
        rule: Rule,
        population: Population,
        index: int,
        campaigns: Sequence[Campaign],
        objective: Objective,
        plan: Plan | None = None,
        world: str = "own",
    ) -> None:
        """Take a seat.

        Args:
            rule: from the number of labelers to a fresh aggregator.
            population: who judges.
            index: the group that the labeler belongs to.
            campaigns: simulated campaigns of this population, all of one length.
            objective: what the labeler wants.
            plan: what best-responding groups play, its own group included; the truth by default.
            world: ``own``: outcomes follow the labeler's belief (what it expects); ``true``: they are as they are (what
                it will get). The two differ for biased labelers only.
        """
        if world not in WORLDS:
            raise ValueError(unknown("world", world, WORLDS))
        self.rule = rule
        self.objective = objective
        self.columns = population.deviators(index)
        self._first = self.columns.start
        self._worlds = [
            (
                campaign,
                reports_in(population, campaign, plan or {}),
                campaign.revealed(campaign.expected_by(self._first) if world == "own" else campaign.outcomes),
            )
            for campaign in campaigns
        ]

    @property
    def n_rounds(self) -> int:
        """The length of the campaigns."""
        return self._worlds[0][0].n_rounds

    def payoffs(self, misreport: Misreport, topic: int | None = None) -> FloatArray:
        """Return the payoff of a misreport in every simulated campaign, shape ``(n_campaigns,)``."""
        result = np.empty(len(self._worlds))
        for k, (campaign, reports, outcomes) in enumerate(self._worlds):
            view = campaign.beliefs[:, self._first]
            reports[:, self.columns] = lie(misreport, view, campaign.topics, topic)[:, None]
            aggregator = self.rule(reports.shape[1])
            run = run_online(aggregator, reports, outcomes, range(len(reports)))
            result[k] = self.objective.payoff(run, aggregator.weights_, self.columns, view)
        return result
