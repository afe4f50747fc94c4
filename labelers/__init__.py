"""Who judges: beliefs, strategies, LLM judges, recorded people, and the panel that mixes them.

Importing this package loads no model library: LLM judges load theirs when they judge.
"""

from __future__ import annotations

from labelers.context import Labeler, ReportContext
from labelers.judge import JudgeLabeler
from labelers.pairs import Pairs
from labelers.panel import LabelerSpec, Member, Panel
from labelers.personas import Persona
from labelers.recorded import RecordedLabeler
from labelers.remote_judge import RemoteJudge
from labelers.simulated import SimulatedLabeler
from labelers.sources import LABELERS
from labelers.strategies import STRATEGIES

__all__ = [
    "LABELERS",
    "STRATEGIES",
    "JudgeLabeler",
    "Labeler",
    "LabelerSpec",
    "Member",
    "Pairs",
    "Panel",
    "Persona",
    "RecordedLabeler",
    "RemoteJudge",
    "ReportContext",
    "SimulatedLabeler",
]
