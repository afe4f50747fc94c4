"""Populations are data: the built-in ones parse, and a mistake is answered with the nearest valid name."""

from __future__ import annotations

import importlib.resources
from typing import Any

import pytest
import yaml

from truthful_rlhf.aggregation.game.population import KINDS, Group, Population, population_from_mapping

BUILT_IN = yaml.safe_load(
    (importlib.resources.files("truthful_rlhf.aggregation.game") / "populations.yaml").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_population_parses_and_says_what_it_is(name: str) -> None:
    population = population_from_mapping(name, BUILT_IN[name])
    assert population.n_labelers >= 2
    assert population.about


def test_every_kind_of_labeler_occurs_in_some_built_in_population() -> None:
    kinds = {group["kind"] for population in BUILT_IN.values() for group in population["groups"]}
    assert kinds == set(KINDS)


def test_kind_gives_defaults_and_keys_override_them() -> None:
    population = population_from_mapping("p", {"groups": [{"kind": "biased", "n": 2}, {"kind": "biased", "bias": -1}]})
    assert [group.bias for group in population.groups] == [KINDS["biased"]["bias"], -1]
    assert population.n_labelers == 3


def test_columns_of_groups_and_who_deviates() -> None:
    population = Population("p", (Group("expert", 2), Group("colluding", 3, bloc=True), Group("noisy", 2)))
    assert [population.members(i) for i in range(3)] == [slice(0, 2), slice(2, 5), slice(5, 7)]
    assert [population.deviators(i) for i in range(3)] == [slice(0, 1), slice(2, 5), slice(5, 6)]  # a bloc acts as one


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"groups": [{"kind": "expert", "nois": 1}]}, "did you mean 'noise'"),
        ({"groups": [{"kind": "experts"}]}, "did you mean 'expert'"),
        ({"group": []}, "did you mean 'groups'"),
        ({"groups": [{"n": 3}]}, "mapping with a 'kind'"),
        ({"groups": []}, "no groups"),
        ({"groups": "expert"}, "list of groups"),
        ({"groups": [{"kind": "expert", "n": 0}]}, "group 1: .*n must be >= 1"),
        ({"groups": [{"kind": "expert", "n": 1.5}]}, "whole number"),
        ({"groups": [{"kind": "expert", "n": True}]}, "whole number"),
        ({"groups": [{"kind": "expert", "noise": "low"}]}, "noise must be a number"),
        ({"groups": [{"kind": "expert", "noise": -1}]}, "noise must be >= 0"),
        ({"groups": [{"kind": "expert", "noise": float("nan")}]}, "noise must be >= 0"),
        ({"groups": [{"kind": "expert", "bias": float("inf")}]}, "bias must be finite"),
        ({"groups": [{"kind": "sleeper", "start": 1.5}]}, "share of the campaign"),
        ({"groups": [{"kind": "sleeper", "start": -0.5}]}, "share of the campaign"),
        ({"groups": [{"kind": "topic_liar", "topic": 4}], "topics": 4}, r"lies on topic 4, but the topics are 0\.\.3"),
        ({"groups": [{"kind": "topic_liar", "topic": -1}], "topics": 5}, "lies on topic -1"),
        ({"groups": [{"kind": "expert"}], "spread": -0.5}, "spread must be >= 0"),
        ({"groups": [{"kind": "expert"}], "spread": float("inf")}, "spread must be >= 0 and finite"),
        ({"groups": [{"kind": "topic_liar", "topic": "math"}]}, "topic must be"),
        ({"groups": [{"kind": "expert", "bloc": "yes"}]}, "true or false"),
        ({"groups": [{"kind": "best_responder", "objective": "tast"}]}, "did you mean 'taste'"),
        ({"groups": [{"kind": "expert"}], "topics": 0}, "topics must be >= 1"),
        ({"groups": [{"kind": "expert"}], "spread": "wide"}, "spread must be"),
        (["expert"], "must be a mapping"),
    ],
)
def test_mistakes_are_named(mapping: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        population_from_mapping("p", mapping)
