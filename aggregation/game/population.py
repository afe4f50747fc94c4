"""Populations as data: named groups of simulated labelers.

A *group* is n labelers of one kind: how well they see (``noise``), what they favour (``bias``), and what they do with
their belief (``scale``, ``shift``, ``start``, ``topic``, or best-responding to an ``objective``). A *kind* only gives
the group's defaults; every field can be overridden. Pairs are oriented so that A is the response that a positive bias
favours; this loses nothing because swapping A and B maps every belief p to 1 - p.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from truthful_rlhf.aggregation.game.misreport import Misreport
from truthful_rlhf.aggregation.names import unknown

OBJECTIVES = ("influence", "taste")

KINDS: dict[str, dict[str, Any]] = {
    "expert": {"noise": 0.5},
    "noisy": {"noise": 2.0},
    "biased": {"noise": 1.0, "bias": 1.5},
    "colluding": {"noise": 1.0, "bias": 1.5, "shift": 2.0, "bloc": True},
    "sleeper": {"noise": 0.5, "bias": 1.5, "shift": 3.0, "start": 0.5},
    "topic_liar": {"noise": 0.5, "scale": -1.0, "topic": 0},
    "exaggerator": {"noise": 1.0, "bias": 0.5, "scale": 4.0},
    "best_responder": {"noise": 1.0, "bias": 1.0, "objective": "taste"},
}


@dataclass(frozen=True)
class Group:
    """n labelers of one kind.

    Attributes:
        kind: one of ``KINDS``; names the group in tables.
        n: number of labelers, >= 1.
        noise: standard deviation of the labeler's view of the true log-odds, >= 0.
        bias: added to the log-odds of the calibrated posterior: the belief is what the labeler *sincerely* thinks.
        scale: what the report does to the log-odds of the belief (``Misreport``); 1 is the truth.
        shift: added to the log-odds of the report; 0 is the truth.
        start: share of the campaign, in [0, 1], before which the labeler is honest.
        topic: misreport on pairs of this topic only; None: on all.
        bloc: the members share one view and report the same: a coalition that acts (and deviates) as one.
        objective: None, or the objective (``OBJECTIVES``) to which the group best-responds, replacing scale and shift.
    """

    kind: str
    n: int = 1
    noise: float = 1.0
    bias: float = 0.0
    scale: float = 1.0
    shift: float = 0.0
    start: float = 0.0
    topic: int | None = None
    bloc: bool = False
    objective: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(unknown("kind of labeler", self.kind, KINDS))
        if self.n < 1:
            raise ValueError(f"group {self.kind!r}: n must be >= 1, got {self.n}")
        if not self.noise >= 0:
            raise ValueError(f"group {self.kind!r}: noise must be >= 0, got {self.noise}")
        for name in ("bias", "scale", "shift"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"group {self.kind!r}: {name} must be finite, got {getattr(self, name)}")
        if not 0 <= self.start <= 1:
            raise ValueError(f"group {self.kind!r}: start must be a share of the campaign in [0, 1], got {self.start}")
        if self.objective is not None and self.objective not in OBJECTIVES:
            raise ValueError(unknown(f"objective of group {self.kind!r}:", self.objective, OBJECTIVES))

    def misreport(self, n_rounds: int) -> Misreport:
        """Return the group's declared misreport in a campaign of ``n_rounds``."""
        return Misreport(self.scale, self.shift, round(self.start * n_rounds))


@dataclass(frozen=True)
class Population:
    """Groups of labelers who judge the same pairs; ``spread`` is the standard deviation of the pairs' true log-odds."""

    name: str
    groups: tuple[Group, ...]
    spread: float = 1.5
    topics: int = 1
    about: str = ""

    def __post_init__(self) -> None:
        if not self.groups:
            raise ValueError(f"population {self.name!r} has no groups")
        if not 0 <= self.spread < math.inf:
            raise ValueError(f"population {self.name!r}: spread must be >= 0 and finite, got {self.spread}")
        if self.topics < 1:
            raise ValueError(f"population {self.name!r}: topics must be >= 1, got {self.topics}")
        for group in self.groups:
            if group.topic is not None and not 0 <= group.topic < self.topics:
                raise ValueError(
                    f"population {self.name!r}: group {group.kind!r} lies on topic {group.topic},"
                    f" but the topics are 0..{self.topics - 1} (set 'topics')"
                )

    @property
    def n_labelers(self) -> int:
        """The number of labelers in all groups."""
        return sum(group.n for group in self.groups)

    def members(self, index: int) -> slice:
        """Return the columns of group ``index`` in every (T, N) matrix of this population."""
        first = sum(group.n for group in self.groups[:index])
        return slice(first, first + self.groups[index].n)

    def deviators(self, index: int) -> slice:
        """Return the columns that deviate together when group ``index`` does: a whole bloc, or one labeler."""
        members = self.members(index)
        return members if self.groups[index].bloc else slice(members.start, members.start + 1)

    @property
    def best_responders(self) -> tuple[int, ...]:
        """The indices of the groups that choose their misreport by best response."""
        return tuple(i for i, group in enumerate(self.groups) if group.objective is not None)


def _refuse_unknown_keys(where: str, mapping: Mapping[str, Any], valid: Iterable[str]) -> None:
    valid = set(valid)
    for key in mapping:
        if key not in valid:
            raise ValueError(unknown(f"key in {where}:", str(key), valid))


_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "float": ((int, float), "a number"),
    "int": ((int,), "a whole number"),
    "int | None": ((int, type(None)), "a whole number"),
    "bool": ((bool,), "true or false"),
    "str": ((str,), "a text"),
    "str | None": ((str, type(None)), "a text"),
}


def _check_type(where: str, key: str, value: Any, annotation: str) -> None:
    valid, words = _TYPES[annotation]
    if not isinstance(value, valid) or (isinstance(value, bool) and bool not in valid):
        raise ValueError(f"{where}: {key} must be {words}, got {value!r}")


def group_from_mapping(where: str, mapping: Mapping[str, Any]) -> Group:
    """Return the group that a plain mapping describes: its kind's defaults, overridden by the other keys.

    Raises:
        ValueError: no kind, an unknown kind or key (the nearest valid one is named), or a value out of range or type.
    """
    if not isinstance(mapping, Mapping) or "kind" not in mapping:
        raise ValueError(f"{where}: every group is a mapping with a 'kind', one of: {', '.join(sorted(KINDS))}")
    types = {field.name: field.type for field in fields(Group)}
    _refuse_unknown_keys(where, mapping, types)
    if not isinstance(mapping["kind"], str) or mapping["kind"] not in KINDS:
        raise ValueError(unknown(f"kind in {where}:", str(mapping["kind"]), KINDS))
    values = {**KINDS[mapping["kind"]], **mapping}
    for key, value in values.items():
        _check_type(where, key, value, str(types[key]))
    try:
        return Group(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def population_from_mapping(name: str, mapping: Mapping[str, Any]) -> Population:
    """Return the population that a plain mapping (as read from YAML) describes.

    Examples:
        >>> panel = population_from_mapping("panel", {"groups": [{"kind": "expert", "n": 2}, {"kind": "noisy"}]})
        >>> panel.n_labelers, panel.groups[1].noise
        (3, 2.0)
    """
    where = f"population {name!r}"
    if not isinstance(mapping, Mapping):
        raise ValueError(f"{where} must be a mapping with 'groups', got {type(mapping).__name__}")
    _refuse_unknown_keys(where, mapping, {"groups", "spread", "topics", "about"})
    groups = mapping.get("groups")
    if not isinstance(groups, list | tuple):
        raise ValueError(f"{where}: 'groups' must be a list of groups")
    types = {field.name: field.type for field in fields(Population)}
    for key, value in mapping.items():
        if key != "groups":
            _check_type(where, key, value, str(types[key]))
    return Population(
        name=name,
        groups=tuple(group_from_mapping(f"{where}, group {i}", group) for i, group in enumerate(groups, start=1)),
        **{key: value for key, value in mapping.items() if key != "groups"},
    )
