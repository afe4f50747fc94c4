"""Strategies: how a labeler turns its beliefs into reports, whatever the beliefs come from.

A strategy is a frozen dataclass with declared ``traits``; the tests hold every strategy to its traits. NaN beliefs (did
not judge) stay NaN under every strategy.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.game.campaigns import OBJECTIVES
from truthful_rlhf.aggregation.game.misreport import Misreport
from truthful_rlhf.aggregation.log_odds import logit, sigmoid
from truthful_rlhf.aggregation.names import unknown
from truthful_rlhf.aggregation.plugins import is_import_path, load_class
from truthful_rlhf.labelers.best_response import best_misreport, equilibrium_misreport
from truthful_rlhf.labelers.context import PublicProfile, ReportContext, StrategyContext


@dataclass(frozen=True)
class Traits:
    """What a strategy's reports depend on besides the labeler's own beliefs; all False: a fixed map of beliefs."""

    honest: bool = False
    """Every report equals the belief."""
    coordinated: bool = False
    """Depends on the beliefs of the labeler's bloc."""
    randomised: bool = False
    """Draws random numbers."""
    uses_rounds: bool = False
    """Depends on the round of the campaign."""
    uses_weights: bool = False
    """Depends on the labeler's weight, where weights are published; this is how past outcomes reach a strategy."""
    uses_topics: bool = False
    """Depends on the topics of the pairs."""
    uses_audits: bool = False
    """Depends on which pairs are audited, which nobody should know: a leak."""
    uses_impartial: bool = False
    """Depends on what the labeler expects of the outcomes, beside its own taste."""
    uses_rule: bool = False
    """Depends on the aggregation rule."""


class Strategy(ABC):
    """A map from beliefs to reports."""

    traits: ClassVar[Traits]

    def report(self, beliefs: FloatArray, situation: StrategyContext) -> FloatArray:
        """Return reports in [0, 1], shape ``(n,)``, NaN exactly where the belief is NaN.

        Args:
            beliefs: the labeler's own beliefs, shape ``(n,)``.
            situation: the batch and what the labeler may know.
        """
        return np.where(np.isnan(beliefs), np.nan, self._report(beliefs, situation))

    @abstractmethod
    def _report(self, beliefs: FloatArray, situation: StrategyContext) -> FloatArray: ...


def _check(name: str, value: float, low: float = -math.inf, high: float = math.inf) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{name} must be a number in [{low:g}, {high:g}], got {value!r}")


@dataclass(frozen=True)
class Truthful(Strategy):
    """Report the belief."""

    traits: ClassVar[Traits] = Traits(honest=True)

    def _report(self, beliefs: FloatArray, situation: StrategyContext) -> FloatArray:
        return beliefs


@dataclass(frozen=True)
class Exaggerate(Strategy):
    """Multiply the log-odds of every belief by ``scale`` > 0; below 1 it shades towards 1/2."""

    scale: float = 3.0
    traits: ClassVar[Traits] = Traits()

    def __post_init__(self) -> None:
        _check("scale", self.scale, low=0.0)

    def _report(self, beliefs: FloatArray, situation: StrategyContext) -> FloatArray:
        return Misreport(self.scale)(beliefs)


@dataclass(frozen=True)
class Flip(Strategy):
    """Report the opposite, 1 - belief."""

    traits: ClassVar[Traits] = Traits()

    def _report(self, beliefs: FloatArray, situation: StrategyContext) -> FloatArray:
        return 1.0 - beliefs


@dataclass(frozen=True)
class Random(Strategy):
    """Report a uniform random number: paid per click."""

    traits: ClassVar[Traits] = Traits(randomised=True)

    def _report(self, beliefs: FloatArray, situation: StrategyContext) -> FloatArray:
        return situation.rng.random(len(beliefs))


@dataclass(frozen=True)
class Constant(Strategy):
    """Report the same number ``value`` on every pair."""

    value: float = 0.5
    traits: ClassVar[Traits] = Traits()

    def __post_init__(self) -> None:
        _check("value", self.value, 0.0, 1.0)

    def _report(self, beliefs: FloatArray, situation: StrategyContext) -> FloatArray:
        return np.full(len(beliefs), self.value)


@dataclass(frozen=True)
class Collude(Strategy):
    """Agree with the bloc on one target: the mean log-odds of its members' beliefs, times ``scale``.

    The bloc is all labelers of one panel entry. Its members report the same on every pair that they judge.
    """

    scale: float = 3.0
    traits: ClassVar[Traits] = Traits(coordinated=True)

    def __post_init__(self) -> None:
        _check("scale", self.scale)

    def _report(self, beliefs: FloatArray, situation: StrategyContext) -> FloatArray:
        views = logit(situation.allies)
        judged = ~np.isnan(views)
        total = np.where(judged, views, 0.0).sum(axis=1)
        return sigmoid(self.scale * total / np.maximum(judged.sum(axis=1), 1))


@dataclass(frozen=True)
class Sleeper(Strategy):
    """Be honest until round ``start`` of the campaign, then multiply the log-odds by ``scale`` (-1: the opposite)."""

    start: int = 100
    scale: float = -1.0
    traits: ClassVar[Traits] = Traits(uses_rounds=True)

    def __post_init__(self) -> None:
        _check("start", self.start, low=0)
        _check("scale", self.scale)

    def _report(self, beliefs: FloatArray, situation: StrategyContext) -> FloatArray:
        return Misreport(self.scale, start=self.start)(beliefs, situation.context.first_round)


@dataclass(frozen=True)
class TopicTrigger(Strategy):
    """Be honest but on one ``topic`` or several, where the log-odds are multiplied by ``scale`` (-1: the opposite)."""

    topic: str | Sequence[str]
    scale: float = -1.0
    traits: ClassVar[Traits] = Traits(uses_topics=True)

    def __post_init__(self) -> None:
        _check("scale", self.scale)

    def _report(self, beliefs: FloatArray, situation: StrategyContext) -> FloatArray:
        if situation.pairs.topic is None:
            raise ValueError(f"strategy topic_trigger waits for topic {self.topic!r}, but the pairs have no topics")
        mine = {self.topic} if isinstance(self.topic, str) else set(self.topic)
        here = np.array([topic in mine for topic in situation.pairs.topic], dtype=bool)
        return np.where(here, Misreport(self.scale)(beliefs), beliefs)


@dataclass(frozen=True)
class AuditAware(Strategy):
    """Know which pairs are audited: be honest there, and multiply the other log-odds by ``scale`` (-1: the opposite).

    It stands for a leak, the worst attack on rules that learn from outcomes: honesty on the audited pairs earns the
    influence that is spent on the others.
    """

    scale: float = -1.0
    traits: ClassVar[Traits] = Traits(uses_audits=True)

    def __post_init__(self) -> None:
        _check("scale", self.scale)

    def _report(self, beliefs: FloatArray, situation: StrategyContext) -> FloatArray:
        if situation.pairs.audited is None:
            raise ValueError("strategy audit_aware knows the audited pairs, but nothing says which these are")
        return np.where(situation.pairs.audited, beliefs, Misreport(self.scale)(beliefs))


@dataclass(frozen=True)
class MimicThenExploit(Strategy):
    """Report what the outcomes will say until influence is earned, then push the own taste, exaggerated by ``scale``.

    Where weights are published, influence is earned while the own weight is at least ``threshold`` times the equal
    share 1/N: it goes back to mimicking when the weight falls. Where they are not, it exploits from round ``start`` on.
    """

    scale: float = 4.0
    threshold: float = 1.5
    start: int = 100
    traits: ClassVar[Traits] = Traits(uses_rounds=True, uses_weights=True, uses_impartial=True)

    def __post_init__(self) -> None:
        _check("scale", self.scale)
        _check("threshold", self.threshold, low=0.0)
        _check("start", self.start, low=0)

    def _report(self, beliefs: FloatArray, situation: StrategyContext) -> FloatArray:
        if situation.weight is None:
            exploit = situation.context.first_round + np.arange(len(beliefs)) >= self.start
        else:
            exploit = np.full(len(beliefs), situation.weight * len(situation.profiles) >= self.threshold)
        return np.where(exploit, Misreport(self.scale)(beliefs), situation.impartial)


@dataclass(frozen=True)
class BestResponse(Strategy):
    """Report the misreport that pays best against the rule in simulation (``labelers.best_response``).

    ``objective`` is ``taste`` (soft labels near the own belief), ``policy_taste`` (their averages near its own) or
    ``influence`` (a high mean weight).
    """

    objective: str = "taste"
    traits: ClassVar[Traits] = Traits(uses_rule=True)

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {self.objective!r}")

    def _report(self, beliefs: FloatArray, situation: StrategyContext) -> FloatArray:
        return self.misreport(situation.context, situation.profiles, situation.position)(beliefs)

    def misreport(self, context: ReportContext, profiles: tuple[PublicProfile, ...], position: int) -> Misreport:
        """Return the misreport that the labeler at a position plays; what the others do is what is known of them.

        Args:
            context: the rule, its options and the audit rate.
            profiles: all N labelers as they are known publicly.
            position: of the labeler among them, from 0.
        """
        return best_misreport(self.objective, context, profiles, position)


@dataclass(frozen=True)
class Equilibrium(BestResponse):
    """Report the misreport that pays best while all others of the panel with this strategy do the same.

    ``best_response`` takes the others for what they declare; this one expects them to respond as well, and plays an
    approximate equilibrium (``aggregation.game.equilibrium``) of scales of the log-odds.
    """

    def misreport(self, context: ReportContext, profiles: tuple[PublicProfile, ...], position: int) -> Misreport:
        """Return what the labeler at a position plays in the equilibrium.

        Args:
            context: the rule, its options and the audit rate.
            profiles: all N labelers as they are known publicly.
            position: of the labeler among them, from 0.
        """
        return equilibrium_misreport(self.objective, context, profiles, position)


STRATEGIES: dict[str, type[Any]] = {
    "truthful": Truthful,
    "exaggerate": Exaggerate,
    "flip": Flip,
    "random": Random,
    "constant": Constant,
    "collude": Collude,
    "sleeper": Sleeper,
    "topic_trigger": TopicTrigger,
    "audit_aware": AuditAware,
    "mimic_then_exploit": MimicThenExploit,
    "best_response": BestResponse,
    "equilibrium": Equilibrium,
}


_WANTED = {"str": "a text", "str | Sequence[str]": "a text or a list of texts"}


def _kinds(value: object) -> tuple[str, ...]:
    """Return what the value of an option may stand for."""
    if isinstance(value, str):
        return ("a text", "a text or a list of texts")
    if isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
        return ("a text or a list of texts",)
    return ("a number",) if isinstance(value, int | float) and not isinstance(value, bool) else ()


_AN_OWN_STRATEGY = (
    "a class with traits (labelers.strategies.Traits) and report(beliefs, situation), as labelers.strategies.Strategy"
)


def _own_strategy(name: str, options: Mapping[str, Any]) -> Strategy:
    made = load_class(name, "strategy.name", {"report": ("beliefs", "situation")}, _AN_OWN_STRATEGY)
    if not isinstance(getattr(made, "traits", None), Traits):
        raise ValueError(f"strategy.name={name}: the class has no traits; expected {_AN_OWN_STRATEGY}")
    try:
        strategy: Strategy = made(**options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"strategy.name={name}: {error}") from error
    return strategy


def make_strategy(name: str, **options: Any) -> Strategy:
    """Return the strategy called ``name``, one of ``STRATEGIES``, or of an import path, ``my_pkg.lies:MyLie``.

    Raises:
        ValueError: unknown name or option (the nearest valid one is named), a missing option, or one out of range.
    """
    if is_import_path(name):
        return _own_strategy(name, options)
    if name not in STRATEGIES:
        raise ValueError(unknown("strategy", name, STRATEGIES))
    parameters = inspect.signature(STRATEGIES[name]).parameters
    for option, value in options.items():
        if option not in parameters:
            raise ValueError(unknown(f"option of strategy {name!r}:", option, parameters))
        wanted = _WANTED.get(parameters[option].annotation, "a number")
        if wanted not in _kinds(value):
            raise ValueError(f"strategy {name!r}: {option} must be {wanted}: {value!r}")
    missing = [name for name, p in parameters.items() if p.default is inspect.Parameter.empty and name not in options]
    if missing:
        raise ValueError(f"strategy {name!r} needs the option {missing[0]!r}")
    try:
        strategy: Strategy = STRATEGIES[name](**options)
    except ValueError as error:
        raise ValueError(f"strategy {name!r}: {error}") from error
    return strategy
