"""One entry of a panel, as a config describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from truthful_rlhf.aggregation.names import nearest, unknown
from truthful_rlhf.aggregation.plugins import is_import_path
from truthful_rlhf.labelers.checked import LocalPath
from truthful_rlhf.labelers.context import PublicProfile
from truthful_rlhf.labelers.features import GOLD
from truthful_rlhf.labelers.judges.server import check_address, check_variable
from truthful_rlhf.labelers.own import OwnLabeler
from truthful_rlhf.labelers.personas import Persona, make_persona
from truthful_rlhf.labelers.recorded.options import ReadOptions
from truthful_rlhf.labelers.strategies import Equilibrium, Exaggerate, Flip, Strategy, make_strategy

_COMMON = ("name", "kind", "strategy")
_KEYS: dict[str, tuple[str, ...]] = {
    "simulated": ("count", "persona"),
    "judge": ("persona", "model", "batch_size", "ask", "scale"),
    "remote_judge": (
        *("count", "persona", "model", "base_url", "api_key_env", "votes", "concurrency", "timeout"),
        *("price_in", "price_out", "max_tokens", "max_text_tokens", "max_failures", "requests_per_minute"),
    ),
    "recorded": ("file", "labeler", "read"),
}
"""Which keys an entry of each kind may have, besides the common ones."""
_KEYS_OF_OWN = ("count", "options")
_NEEDED = {
    "simulated": ("persona",),
    "judge": ("model",),
    "remote_judge": ("model", "base_url"),
    "recorded": ("file",),
}


class LabelerSpec(BaseModel):
    """One entry of a panel: ``count`` labelers of one kind, persona and strategy.

    Examples:
        >>> spec = LabelerSpec(name="bloc", count=6, persona="contrarian", strategy={"name": "exaggerate", "scale": 4})
        >>> spec.persona.taste, spec.make_strategy().scale
        ({'gold': -1.0}, 4)
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", description="labeler id, numbered where count > 1")
    kind: str = Field(
        "simulated", description=f"one of {', '.join(_KEYS)}, or an import path such as my_pkg.judges:MyJudge"
    )
    count: int = Field(1, ge=1, le=100_000, description="how many labelers")
    persona: Persona | None = Field(None, description="a name of the pool (labelers/personas.yaml), or inline")
    strategy: dict[str, Any] = Field({"name": "truthful"}, description="a name, or {name: ..., options}")
    model: Annotated[str | None, LocalPath(names=("bundled",), applies=lambda spec: spec.kind == "judge")] = Field(
        None, description="judges: model folder or Hub id; or the server's name of the model"
    )
    options: dict[str, Any] = Field({}, description="of a labeler by its import path: arguments of its class")
    batch_size: int = Field(16, ge=1, description="judge: prompts per forward pass")
    ask: Literal["compare", "score", "rate", "channel"] = Field(
        "compare",
        description="judge: both responses by a letter, or one at a time by words, a number, or its likelihood",
    )
    scale: float | None = Field(
        None, gt=0, description="judge, all but compare: of a difference of scores; default: by their spread"
    )
    base_url: str | None = Field(None, description="remote judge: OpenAI-compatible server, such as http://host/v1")
    api_key_env: str | None = Field(None, description="remote judge: environment variable that holds the key")
    votes: int = Field(
        5, ge=1, description="remote judge: votes per order where there are neither log-probabilities nor JSON"
    )
    concurrency: int = Field(8, ge=1, le=256, description="remote judge: requests at a time")
    timeout: float = Field(60.0, gt=0, description="remote judge: seconds per request")
    price_in: float | None = Field(None, ge=0, description="remote judge: price of a million prompt tokens")
    price_out: float | None = Field(None, ge=0, description="remote judge: price of a million completion tokens")
    max_tokens: int | None = Field(
        None,
        ge=1,
        description="remote judge: tokens of a reply, thoughts included (default: 4, in JSON 300, 4096 if it thinks)",
    )
    max_text_tokens: int | None = Field(
        None, ge=1, description="remote judge: tokens of each text, about; longer ones are cut (default: never)"
    )
    max_failures: int = Field(50, ge=0, description="remote judge: prompts without an answer before it stops")
    requests_per_minute: float | None = Field(None, gt=0, description="remote judge: at most so many")
    file: Path | None = Field(None, description="recorded: annotation file")
    labeler: str | None = Field(None, description="recorded: one labeler of the file (default: all)")
    read: ReadOptions = Field(
        ReadOptions(), description="recorded: how to read the file, such as {votes: {1: A, 2: B}}"
    )

    @model_validator(mode="before")
    @classmethod
    def _persona_alone(cls, value: Any) -> Any:
        return {"name": value, "persona": value} if isinstance(value, str) else value

    @field_validator("persona", mode="before")
    @classmethod
    def _look_up(cls, value: Any) -> Any:
        # resolved here, so that a run's config holds the whole persona and a changed pool changes the run
        return None if value is None else make_persona(value)

    @field_validator("strategy", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("strategy")
    @classmethod
    def _strategy_exists(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(value.get("name"), str):
            raise ValueError("a strategy is a name or a mapping with a 'name', such as {name: exaggerate, scale: 4}")
        make_strategy(**value)
        return value

    @field_validator("base_url")
    @classmethod
    def _no_password(cls, value: str | None) -> str | None:
        return value if value is None else check_address(value)

    @field_validator("api_key_env")
    @classmethod
    def _not_the_key(cls, value: str | None) -> str | None:
        return value if value is None else check_variable(value)

    @model_validator(mode="after")
    def _keys_apply(self) -> LabelerSpec:
        if self.is_own:
            OwnLabeler(self.kind, self.options, self.name)
        elif self.kind not in _KEYS:
            raise ValueError(f"entry {self.name!r}: {unknown('kind of labeler', self.kind, _KEYS)}")
        valid = (*_COMMON, *(_KEYS_OF_OWN if self.is_own else _KEYS[self.kind]))
        if self.kind == "remote_judge" and self.ask != "compare":
            raise ValueError(
                f"entry {self.name!r}: ask: {self.ask} reads the probabilities of words that servers do not give; leave"
                " ask out (a server is shown both responses in both orders), or use kind: judge with a local model"
            )
        for key in sorted(self.model_fields_set):
            if key not in valid and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(
                    f"entry {self.name!r}: {key!r} does not apply to kind {self.kind!r}{nearest(key, valid)}"
                    f" (valid: {', '.join(valid)})"
                )
        for key in () if self.is_own else _NEEDED[self.kind]:
            if getattr(self, key) is None:
                raise ValueError(f"entry {self.name!r}: kind {self.kind!r} needs {key!r}")
        if self.ask == "channel" and (self.persona is None or not self.persona.likes):
            raise ValueError(f"entry {self.name!r}: ask: channel needs a persona with likes and dislikes")
        return self

    @property
    def is_own(self) -> bool:
        """Whether its labelers are a user's own, by their import path."""
        return is_import_path(self.kind)

    @property
    def labeler_ids(self) -> tuple[str, ...]:
        """The entry's labelers: its name, or NAME-1, NAME-2, ... where there are several."""
        return (self.name,) if self.count == 1 else tuple(f"{self.name}-{k}" for k in range(1, self.count + 1))

    def describe(self) -> str:
        """Return the entry in a few words, for reports."""
        who = {
            "simulated": "",
            "judge": f"LLM judge {self.model}, ",
            "remote_judge": f"LLM judge {self.model} at {self.base_url}, ",
            "recorded": f"recorded in {self.file}, ",
        }.get(self.kind, f"{self.kind}, ")
        persona = "" if self.persona is None else f"{self.persona.describe()}, "
        return f"{self.count} x {self.name}: {who}{persona}{self.describe_strategy()}"

    def describe_strategy(self) -> str:
        """Return the entry's strategy and its options in a few words."""
        options = ", ".join(f"{key} {value}" for key, value in self.strategy.items() if key != "name")
        return self.strategy["name"] + (f" ({options})" if options else "")

    def make_strategy(self) -> Strategy:
        """Return a new strategy of this entry."""
        return make_strategy(**self.strategy)

    def profile(self) -> PublicProfile:
        """Return what is publicly known of the entry's labelers: their declared taste, noise, and how they report."""
        strategy = self.make_strategy()
        scale = strategy.scale if isinstance(strategy, Exaggerate) else -1.0 if isinstance(strategy, Flip) else 1.0
        objective = strategy.objective if isinstance(strategy, Equilibrium) else None
        if self.persona is None or self.kind != "simulated":
            return PublicProfile(scale=scale, objective=objective)
        other = sum(weight**2 for name, weight in self.persona.taste.items() if name != GOLD) ** 0.5
        gold, noise, bias = self.persona.taste.get(GOLD, 0.0), self.persona.noise, self.persona.bias
        return PublicProfile(gold, other, noise, scale, bias, objective)


def distinct(specs: list[LabelerSpec]) -> list[LabelerSpec]:
    """Return the entries of a panel if no two labelers have the same name (recorded ones are known later)."""
    seen: set[str] = set()
    for spec in specs:
        for name in () if spec.kind == "recorded" else spec.labeler_ids:
            if name in seen:
                raise ValueError(f"two labelers are called {name!r}; give the entries different names")
            seen.add(name)
    return specs
