"""One file per rule from reports to a soft label, and what the rules share; ``AGGREGATORS`` names them all.

Imports the interface (``base``) and what every fit shares: ``audits``, ``log_odds``, ``map_logistic``, ``secret``.

Known elsewhere as: expert-advice algorithms (Hedge, weighted majority), opinion pools, truth-inference models
(Dawid-Skene, GLAD, MACE), wagering mechanisms.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from truthful_rlhf.aggregation.base import Aggregator
from truthful_rlhf.aggregation.names import unknown
from truthful_rlhf.aggregation.plugins import is_import_path, load_class
from truthful_rlhf.aggregation.rules.batch import BatchRule, DawidSkeneRule, GladRule, MaceRule
from truthful_rlhf.aggregation.rules.examined import Examined
from truthful_rlhf.aggregation.rules.gold_vote import GoldVote
from truthful_rlhf.aggregation.rules.hedge import Hedge
from truthful_rlhf.aggregation.rules.linear_weighted import LinearWeighted
from truthful_rlhf.aggregation.rules.logistic import Logistic
from truthful_rlhf.aggregation.rules.majority import Majority
from truthful_rlhf.aggregation.rules.mean import Mean
from truthful_rlhf.aggregation.rules.median import Median
from truthful_rlhf.aggregation.rules.multiplicative import MultiplicativeRule
from truthful_rlhf.aggregation.rules.online_weighted import OnlineWeighted
from truthful_rlhf.aggregation.rules.quantile_labels import LABELS, StatedLabel
from truthful_rlhf.aggregation.rules.trimmed_mean import TrimmedMean
from truthful_rlhf.aggregation.secret import input_secret

AGGREGATORS: dict[str, Any] = {
    "mean": Mean,
    "median": Median,
    "trimmed_mean": TrimmedMean,
    "majority": Majority,
    "online_weighted": OnlineWeighted,
    "linear_weighted": LinearWeighted,
    "hedge": Hedge,
    "examined": Examined,
    "gold_vote": GoldVote,
    "logistic": Logistic,
    "dawid_skene": DawidSkeneRule,
    "glad": GladRule,
    "mace": MaceRule,
}
"""Every rule by its name: ``AGGREGATORS[name](n_labelers, **options)``."""

_OF_AN_OWN_RULE = {"predict_one": ("reports", "key"), "learn_one": ("reports", "outcome", "sample_weight")}
_AN_OWN_RULE = (
    "a class of the protocol Aggregator, called with the number of labelers: weights_ of shape (n_labelers,),"
    " predict_one(reports, key=None), learn_one(reports, outcome, sample_weight=1.0)"
)


class UnknownOptionError(TypeError, ValueError):
    """A rule was given an option that it does not have."""


def is_rule(name: str) -> bool:
    """Return whether a name is that of a rule, or the import path of a user's own.

    Examples:
        >>> is_rule("mean"), is_rule("my_pkg.rules:MyRule"), is_rule("maen")
        (True, True, False)
    """
    return name in AGGREGATORS or is_import_path(name)


def rule_class(name: str) -> Any:
    """Return the class of a rule, by its name or the import path of a user's own.

    Raises:
        ValueError: there is no such rule, or the class does not have what a rule needs.
    """
    if name in AGGREGATORS:
        return AGGREGATORS[name]
    if is_import_path(name):
        return load_class(name, "rule", _OF_AN_OWN_RULE, _AN_OWN_RULE)
    raise ValueError(unknown("rule", str(name), AGGREGATORS))


def make_aggregator(name: str, n_labelers: int, /, **options: Any) -> Aggregator:
    """Return a fresh rule by name, with its options.

    Args:
        name: a key of ``AGGREGATORS``, or an import path such as ``my_pkg.rules:MyRule``.
        n_labelers: N, >= 1.
        **options: keyword arguments of the rule's class, such as ``eta``.

    Raises:
        ValueError: an unknown name or option (the message names the nearest valid one), or a value out of range.

    Examples:
        >>> make_aggregator("online_weighted", 3, eta=0.3).weights_.round(3).tolist()
        [0.333, 0.333, 0.333]
        >>> make_aggregator("online_wieghted", 3)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: unknown rule 'online_wieghted': did you mean 'online_weighted'? valid: mean, median, ...
    """
    rule = rule_class(name)
    valid = list(inspect.signature(rule).parameters)[1:]  # behind n_labelers
    for option in options:
        if option not in valid:
            raise UnknownOptionError(unknown(f"option of rule {name!r}:", option, valid))
    aggregator: Aggregator = rule(n_labelers, **options) if name in AGGREGATORS else _own(name, n_labelers, options)
    return aggregator


def _own(name: str, n_labelers: int, options: Mapping[str, Any]) -> Aggregator:
    try:
        made: Aggregator = rule_class(name)(n_labelers, **options)
    except TypeError as error:
        raise ValueError(f"rule={name}: {error}; expected {_AN_OWN_RULE}") from error
    if np.shape(getattr(made, "weights_", 0.0)) != (n_labelers,):
        raise ValueError(f"rule={name}: its weights_ have not the shape ({n_labelers},); expected {_AN_OWN_RULE}")
    return made


def check_options(name: str, n_labelers: int, options: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` if the rule or one of its options does not exist or has a bad value.

    Args:
        name: a key of ``AGGREGATORS``.
        n_labelers: N >= 1.
        options: as a user gave them; a secret that a campaign supplies itself may be missing.
    """
    missing = draws_from_a_secret(name, options) and "secret" not in options
    make_aggregator(name, n_labelers, **({**options, "secret": b"of the campaign"} if missing else options))


def with_lottery(name: str, options: Mapping[str, Any], seed: Sequence[int]) -> dict[str, Any]:
    """Return the options of a rule, with a generator of its own if it draws lots and is not told how.

    Args:
        name: a key of ``AGGREGATORS``; an unknown one is left for ``make_aggregator`` to refuse.
        options: as given; an ``rng`` among them stands.
        seed: numbers >= 0 that name the lottery: a rule that is run again with them draws the same lots.

    Examples:
        >>> with_lottery("mean", {}, [7])
        {}
    """
    draws = is_rule(name) and "rng" in inspect.signature(rule_class(name)).parameters
    return {"rng": np.random.default_rng(seed), **options} if draws else dict(options)


def draws_from_a_secret(name: str, options: Mapping[str, Any]) -> bool:
    """Return whether a rule with these options needs a secret.

    Examples:
        >>> draws_from_a_secret("online_weighted", {"label": "drawn"}), draws_from_a_secret("online_weighted", {})
        (True, False)
    """
    parameters = inspect.signature(rule_class(name)).parameters if is_rule(name) else {}
    if "secret" not in parameters or name not in AGGREGATORS:
        return False
    label = options.get("label", parameters["label"].default)
    return AGGREGATORS[name].always_secret or (label in LABELS and StatedLabel.is_secret(label))


def simulated_rule(name: str, options: Mapping[str, Any], seed: int = 0) -> Callable[[int], Aggregator]:
    """Return a rule as a simulation plays it: from the number of labelers to a fresh aggregator.

    Args:
        name: a key of ``AGGREGATORS``.
        options: of the rule.
        seed: >= 0, of its lotteries and of its secret, where it has one: no simulated labeler looks at it. Searches
            leave it, so that a lie and the truth meet the same lots.
    """
    given = with_lottery(name, options, [seed, 2])
    if draws_from_a_secret(name, given) and "secret" not in given:
        given["secret"] = input_secret([f"simulation {seed}"])
    return lambda n_labelers: make_aggregator(name, n_labelers, **given)


def moves_by_steps(name: str) -> bool:
    """Return whether an outcome moves a rule's weights by a step, of which it may then go a part only.

    Examples:
        >>> moves_by_steps("online_weighted"), moves_by_steps("logistic"), moves_by_steps("mean")
        (True, False, False)
    """
    return issubclass(rule_class(name), MultiplicativeRule | Examined)


def extra_of(name: str) -> str | None:
    """Return the extra of the distribution whose libraries a rule needs, if it needs any.

    Examples:
        >>> extra_of("dawid_skene"), extra_of("mean")
        ('crowd', None)
    """
    extra: str | None = getattr(rule_class(name), "extra", None)
    return extra


def fits_all_at_once(name: str) -> bool:
    """Return whether a rule fits a model of all reports at once, so that it has no online labels and no wagers."""
    return issubclass(rule_class(name), BatchRule)


def learns_online(name: str) -> bool:
    """Return whether a rule learns from outcomes round by round, so that its weights pay accuracy.

    A user's own rule does unless it says ``sees_outcomes = False``.

    Examples:
        >>> learns_online("online_weighted"), learns_online("mean"), learns_online("dawid_skene")
        (True, False, False)
    """
    return getattr(rule_class(name), "sees_outcomes", True) and not fits_all_at_once(name)
