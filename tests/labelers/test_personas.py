"""The pool of personas, and what a config may say instead of a name."""

from __future__ import annotations

import re

import pytest

from truthful_rlhf.labelers import Persona
from truthful_rlhf.labelers.personas import make_persona, persona_pool


@pytest.mark.parametrize("name", persona_pool())
def test_every_persona_of_the_pool_can_be_simulated_and_prompted(name: str) -> None:
    persona = make_persona(name)
    assert persona.name == name
    assert persona.about
    assert persona.prompt.endswith(".")
    assert persona.describe().startswith(f"{name} (")


def test_the_pool_has_unbiased_and_biased_personas() -> None:
    unbiased = {name for name, persona in persona_pool().items() if persona.is_unbiased}
    assert {"expert", "noisy", "careless"} <= unbiased
    assert not {"contrarian", "verbose", "formal", "first_seen"} & unbiased


def test_like_starts_from_a_persona_of_the_pool() -> None:
    persona = make_persona({"like": "contrarian", "noise": 0.25})
    assert persona.taste == {"gold": -1.0}
    assert persona.noise == 0.25
    assert persona.name == "custom"


def test_a_persona_says_what_it_is() -> None:
    persona = Persona(name="x", taste={"gold": 0.5, "length": -1}, topic_noise={"films": 0.1}, bias=0.5)
    assert persona.describe() == "x (gold +0.5, length -1, noise 1, noise 0.1 on films, bias +0.5)"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("exprt", "unknown persona 'exprt': did you mean 'expert'?"),
        ({"like": "contarian"}, "did you mean 'contrarian'?"),
        ({"taste": {"lenght": 1}}, "unknown feature 'lenght': did you mean 'length'?"),
        ({"nois": 1}, "unknown option of persona: 'nois': did you mean 'noise'?"),
        ({"noise": -1}, "persona: noise: Input should be greater than or equal to 0, got -1"),
        ({"taste": {}}, "a taste needs at least one feature"),
        ({"taste": {"gold": float("nan")}}, "persona: taste.gold: Input should be a finite number"),
        (["expert"], "a persona is a name or a mapping, got ['expert']"),
    ],
)
def test_errors_name_the_nearest_choice(entry: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make_persona(entry)
