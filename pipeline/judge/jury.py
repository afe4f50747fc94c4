"""Who judges: the LLM judges of a panel file, and the rubric that they are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from truthful_rlhf.labelers.checked import NOT_YAML, UniqueKeyLoader
from truthful_rlhf.labelers.judges.ask import COMPARE, QUESTION, Channel
from truthful_rlhf.labelers.panels import panels_of
from truthful_rlhf.labelers.personas import Persona
from truthful_rlhf.labelers.sources import NEUTRAL_PROMPT, make_labelers
from truthful_rlhf.labelers.spec import LabelerSpec, distinct
from truthful_rlhf.pipeline.judge.scale import KEPT_SCALE

KINDS = ("judge", "remote_judge")
_HOW_FAST = {
    *("name", "count", "batch_size", "concurrency", "timeout", "price_in", "price_out", "max_failures"),
    *("requests_per_minute", "api_key_env", "strategy", "file", "labeler", "read"),
}
"""Keys of an entry that do not change what its judges say."""


class JuryError(ValueError):
    """The panel or the rubric cannot be used; the message says why."""


@dataclass(frozen=True)
class Juror:
    """One judge, asked about one aspect."""

    labeler_id: str
    aspect: str
    """Name of the aspect of the rubric; empty: the whole."""
    spec: LabelerSpec
    judge: Any

    @property
    def is_scaled_later(self) -> bool:
        """Whether its differences of scores get their scale when the reports are written."""
        return scaled_later(self.spec)

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides what it says, JSON-able."""
        kept = {"kept": KEPT_SCALE} if self.is_scaled_later else {}
        return {"labeler_id": self.labeler_id, **self.spec.model_dump(mode="json", exclude=_HOW_FAST), **kept}


def scaled_later(spec: LabelerSpec) -> bool:
    """Return whether an entry's judges are asked about one response at a time, and no scale is given."""
    return spec.kind == "judge" and spec.ask != COMPARE and spec.scale is None


def read_panel(file: Path) -> list[LabelerSpec]:
    """Return the entries of a panel file, all of them LLM judges who say what they believe.

    Raises:
        JuryError: the file is wrong, holds several panels, or seats somebody else.
    """
    try:
        panels = panels_of([str(file)])
    except ValueError as error:
        raise JuryError(str(error)) from None
    if len(panels) > 1:
        raise JuryError(f"{file} holds several panels ({', '.join(panels)}): give a file with one of them")
    entries = next(iter(panels.values()))
    specs = distinct([e if isinstance(e, LabelerSpec) else LabelerSpec.model_validate(e) for e in entries])
    for spec in specs:
        if spec.kind not in KINDS and not spec.is_own:
            raise JuryError(
                f"{file}: entry {spec.name!r} is {spec.kind} and no LLM judge: judge seats kinds {' and '.join(KINDS)},"
                " and import paths such as my_pkg.judges:MyJudge"
            )
        if spec.strategy["name"] != "truthful":
            raise JuryError(
                f"{file}: entry {spec.name!r} has the strategy {spec.strategy['name']!r}: `judge` writes down what the"
                " judges believe; strategies are played in compare, simulate and audit"
            )
    return specs


def read_rubric(file: Path | None) -> dict[str, str]:
    """Return aspect -> what judges are told about it; the aspect is empty where the file is about the whole.

    A ``.yaml`` file maps aspects to texts; any other file is one text.

    Raises:
        JuryError: the file cannot be read, is empty, or is no such mapping.
    """
    if file is None:
        return {"": ""}
    try:
        text = file.read_text(encoding="utf-8")
        content = yaml.load(text, Loader=UniqueKeyLoader) if file.suffix in (".yaml", ".yml") else text
    except (OSError, UnicodeDecodeError, *NOT_YAML) as error:
        raise JuryError(f"rubric {file}: {error}") from None
    if isinstance(content, str) and content.strip():
        return {"": content.strip()}
    if isinstance(content, Mapping) and content and all(isinstance(v, str) and v.strip() for v in content.values()):
        return {str(aspect): told.strip() for aspect, told in content.items()}
    raise JuryError(f"rubric {file}: expected a text, or in a .yaml file aspects and what judges are told about each")


def with_rubric(spec: LabelerSpec, rubric: str) -> LabelerSpec:
    """Return the entry with a rubric added to what its judges are told."""
    if not rubric:
        return spec
    if spec.ask == Channel.name:
        raise JuryError(f"judge {spec.name!r}: ask: channel reads examples, no rubric; ask: score, rate or compare")
    persona = spec.persona or Persona(name="neutral", prompt=NEUTRAL_PROMPT)
    prompt = f"{persona.prompt or NEUTRAL_PROMPT}\n\nJudge by this rubric only:\n{rubric}"
    return spec.model_copy(update={"persona": persona.model_copy(update={"prompt": prompt, "question": QUESTION})})


def seat(specs: Sequence[LabelerSpec], rubric: Mapping[str, str]) -> list[Juror]:
    """Return every judge, once per aspect; no model is loaded and no server asked."""
    jurors = []
    for aspect, told in rubric.items():
        for spec in (with_rubric(spec, told) for spec in specs):
            for labeler, _ in make_labelers(_resolved(spec), np.random.default_rng(0)):
                jurors.append(Juror(labeler.labeler_id, aspect, spec, labeler))
    return jurors


def _resolved(spec: LabelerSpec) -> LabelerSpec:
    if spec.kind != "judge":
        return spec
    if scaled_later(spec):
        spec = spec.model_copy(update={"scale": KEPT_SCALE})
    from truthful_rlhf.pipeline.models.load import resolve_model

    return spec.model_copy(update={"model": resolve_model(str(spec.model))})
