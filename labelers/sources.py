"""From an entry of a panel to its labelers: where the beliefs come from, by kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from truthful_rlhf.labelers.context import Labeler
from truthful_rlhf.labelers.judges.ask import Told
from truthful_rlhf.labelers.judges.local import LocalJudge
from truthful_rlhf.labelers.judges.remote import RemoteJudge
from truthful_rlhf.labelers.own import OwnLabeler
from truthful_rlhf.labelers.recorded.labeler import RecordedLabeler
from truthful_rlhf.labelers.recorded.table import read_annotations
from truthful_rlhf.labelers.simulated import SimulatedLabeler
from truthful_rlhf.labelers.spec import LabelerSpec

LABELERS: dict[str, type[Any]] = {
    "simulated": SimulatedLabeler,
    "judge": LocalJudge,
    "remote_judge": RemoteJudge,
    "recorded": RecordedLabeler,
}

NEUTRAL_PROMPT = "You are a fair judge. Prefer the response that is better overall."
"""What a judge is told whose persona has no prompt."""


def make_labelers(spec: LabelerSpec, rng: np.random.Generator) -> list[tuple[Labeler, int]]:
    """Return the labelers of an entry, each with a seed for its strategy.

    Args:
        spec: the entry.
        rng: spawned per labeler, so that no labeler's randomness depends on how many others there are.
    """
    if spec.kind == "recorded":
        recorded = _recorded(spec)
        return [
            (labeler, _seeds(stream)[1]) for labeler, stream in zip(recorded, rng.spawn(len(recorded)), strict=True)
        ]
    make = _own if spec.is_own else _MAKERS[spec.kind]
    labelers: list[tuple[Labeler, int]] = []
    for number, (labeler_id, stream) in enumerate(zip(spec.labeler_ids, rng.spawn(spec.count), strict=True)):
        belief_seed, strategy_seed = _seeds(stream)
        labelers.append((make(spec, labeler_id, belief_seed, number), strategy_seed))
    return labelers


def _seeds(stream: np.random.Generator) -> tuple[int, int]:
    belief_seed, strategy_seed = stream.integers(1 << 62, size=2)
    return int(belief_seed), int(strategy_seed)


def _simulated(spec: LabelerSpec, labeler_id: str, seed: int, number: int) -> Labeler:
    assert spec.persona is not None
    return SimulatedLabeler(spec.persona, seed, labeler_id)


def _prompt(spec: LabelerSpec) -> str:
    return (spec.persona.prompt if spec.persona is not None else "") or NEUTRAL_PROMPT


def _judge(spec: LabelerSpec, labeler_id: str, seed: int, number: int) -> Labeler:
    assert spec.model is not None
    told = replace(Told() if spec.persona is None else spec.persona.told(), prompt=_prompt(spec))
    return LocalJudge(spec.model, told, labeler_id, batch_size=spec.batch_size, ask=spec.ask, scale=spec.scale)


def _remote_judge(spec: LabelerSpec, labeler_id: str, seed: int, number: int) -> Labeler:
    assert spec.model is not None
    assert spec.base_url is not None
    return RemoteJudge(
        spec.base_url,
        spec.model,
        _prompt(spec),
        labeler_id,
        api_key_env=spec.api_key_env,
        votes=spec.votes,
        concurrency=spec.concurrency,
        timeout=spec.timeout,
        max_tokens=spec.max_tokens,
        max_text_tokens=spec.max_text_tokens,
        max_failures=spec.max_failures,
        requests_per_minute=spec.requests_per_minute,
        prices=(spec.price_in, spec.price_out),
        seed=number,  # not the random seed: the cache must know the same votes again under another seed of the run
    )


def _own(spec: LabelerSpec, labeler_id: str, seed: int, number: int) -> Labeler:
    return OwnLabeler(spec.kind, spec.options, labeler_id)


_MAKERS: dict[str, Callable[[LabelerSpec, str, int, int], Labeler]] = {
    "simulated": _simulated,
    "judge": _judge,
    "remote_judge": _remote_judge,
}


def _recorded(spec: LabelerSpec) -> list[Labeler]:
    """Return one recorded labeler, or all of the file, under their own names."""
    annotations = read_annotations(spec.file, **spec.read.model_dump())
    names = annotations.labeler_ids if spec.labeler is None else [spec.labeler]
    return [RecordedLabeler(annotations, name) for name in names]
