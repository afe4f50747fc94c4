"""Personas as data: what a labeler likes, how well it sees, and how an LLM judge is told to be it.

A persona's *utility* of a response is a weighted sum of normalised features (``labelers.features``). An unbiased
persona weighs ``gold`` alone, with 1; one that prefers the opposite weighs it with -1; one that loves long answers adds
``length``. The pool that ships with the package is ``personas.yaml``; a config may also describe a persona inline.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from truthful_rlhf.aggregation.names import unknown
from truthful_rlhf.labelers.checked import abridged, checked
from truthful_rlhf.labelers.features import FEATURES, GOLD
from truthful_rlhf.labelers.judges.ask import QUESTION, Told

Noise = Annotated[float, Field(ge=0, le=1000)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z]{1,30}$")]
Words = Annotated[tuple[Word, ...], Field(min_length=1, max_length=32)]
Example = Annotated[str, Field(min_length=1, max_length=2000)]


class Persona(BaseModel):
    """What a labeler likes and how well it sees it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("custom", description="in reports; a persona of the pool has its key")
    about: str = Field("", description="one sentence for people")
    taste: dict[str, Finite] = Field(
        {GOLD: 1.0}, description="weights of the utility: 'gold' and features; gold: 1 alone is unbiased"
    )
    noise: Noise = Field(1.0, description="standard deviation of the labeler's view of its utility, in log-odds")
    topic_noise: dict[str, Noise] = Field(default_factory=dict, description="noise on single topics (expertise)")
    bias: Finite = Field(0.0, description="added to the log-odds of every belief: favours the response shown first")
    prompt: str = Field("", description="what an LLM judge with this persona is told")
    words: tuple[Words, Words] = Field(
        (("good",), ("bad",)),
        description="local LLM judge, score and rate: its words for what it likes and dislikes, one or more opposites",
    )
    likes: tuple[Example, ...] = Field(
        (), max_length=32, description="score, rate and channel: responses that it would like"
    )
    dislikes: tuple[Example, ...] = Field((), max_length=32, description="the same: responses that it would dislike")
    question: str = Field(
        QUESTION,
        max_length=2000,
        description="score and rate: how a text is shown, with {text} in its place, up to the answer",
    )

    @field_validator("taste")
    @classmethod
    def _features_exist(cls, taste: dict[str, float]) -> dict[str, float]:
        for name in taste:
            if name != GOLD and name not in FEATURES:
                raise ValueError(unknown("feature", name, [GOLD, *FEATURES]))
        if not any(taste.values()):
            raise ValueError("a taste needs at least one feature with a weight other than 0")
        return taste

    @field_validator("words", mode="before")
    @classmethod
    def _word_alone(cls, value: Any) -> Any:
        sides = value if isinstance(value, list | tuple) else [value]
        return [[side] if isinstance(side, str) else side for side in sides]

    @field_validator("question")
    @classmethod
    def _one_place_for_the_text(cls, value: str) -> str:
        if value.count("{text}") != 1:
            raise ValueError("a question needs {text} once, where the judged text is to stand")
        return value

    @model_validator(mode="after")
    def _examples_of_both(self) -> Persona:
        liked, disliked = ([word.lower() for word in side] for side in self.words)
        if len(liked) != len(disliked):
            raise ValueError(f"words: {len(liked)} for what the persona likes, {len(disliked)} for what it dislikes")
        if twice := [word for word in liked if word in disliked]:
            raise ValueError(f"words: the persona calls what it likes and what it dislikes {twice[0]!r}")
        if bool(self.likes) != bool(self.dislikes):
            given, missing = ("likes", "dislikes") if self.likes else ("dislikes", "likes")
            raise ValueError(f"a persona with {given} needs {missing} as well: examples of one kind teach one answer")
        return self

    @property
    def is_unbiased(self) -> bool:
        """Whether the persona wants what the truth wants."""
        others = [weight for name, weight in self.taste.items() if name != GOLD]
        return self.taste.get(GOLD) == 1.0 and not any(others) and self.bias == 0.0

    def told(self) -> Told:
        """Return what an LLM judge with this persona is told."""
        return Told(self.prompt, self.likes, self.dislikes, self.words, self.question)

    def describe(self) -> str:
        """Return the persona in a few words, for reports."""
        taste = ", ".join(f"{name} {weight:+g}" for name, weight in self.taste.items() if weight)
        parts = [taste, f"noise {self.noise:g}"]
        parts += [f"noise {noise:g} on {topic}" for topic, noise in self.topic_noise.items()]
        parts += [f"bias {self.bias:+g}"] if self.bias else []
        return f"{self.name} ({', '.join(parts)})"


@cache
def persona_pool() -> Mapping[str, Persona]:
    """Return the personas that ship with the package, by name."""
    text = files("truthful_rlhf.labelers").joinpath("personas.yaml").read_text(encoding="utf-8")
    return {name: Persona(name=name, **entry) for name, entry in yaml.safe_load(text).items()}


def make_persona(entry: Any) -> Persona:
    """Return the persona that an entry of a panel means.

    Args:
        entry: a name of the pool, or a mapping of fields; ``like: NAME`` starts from a persona of the pool.

    Raises:
        ValueError: an unknown name, field or feature (the nearest valid one is named), or a value out of range.

    Examples:
        >>> make_persona({"like": "expert", "noise": 0.7}).describe()
        'custom (gold +1, noise 0.7)'
    """
    if isinstance(entry, Persona):
        return entry
    if isinstance(entry, str):
        if entry not in persona_pool():
            raise ValueError(unknown("persona", entry, persona_pool()))
        return persona_pool()[entry]
    if not isinstance(entry, Mapping):
        raise ValueError(f"a persona is a name or a mapping, got {abridged(entry)}")
    fields = dict(entry)
    if "like" in fields:
        fields = {**make_persona(fields.pop("like")).model_dump(exclude={"name", "about"}), **fields}
    return checked(Persona, "persona", fields)
