"""Who judges: beliefs, strategies, LLM judges, recorded people, and the panel that mixes them.

Importing this package loads no model library: LLM judges load theirs when they judge.
"""

from __future__ import annotations

from typing import Any

from labelers.context import ReportContext
from labelers.pairs import Pairs
from labelers.panel import LabelerSpec, Member, Panel
from labelers.personas import Persona
from labelers.recorded import RecordedLabeler
from labelers.simulated import SimulatedLabeler
from labelers.strategies import STRATEGIES

LABELERS: dict[str, type[Any]] = {
    "simulated": SimulatedLabeler,
    "recorded": RecordedLabeler,
}

__all__ = [
    "LABELERS",
    "STRATEGIES",
    "LabelerSpec",
    "Member",
    "Pairs",
    "Panel",
    "Persona",
    "RecordedLabeler",
    "ReportContext",
    "SimulatedLabeler",
]
