"""Who judges: beliefs, strategies, LLM judges, recorded people, and the panel that mixes them.

Importing this package loads no model library: LLM judges load theirs when they judge.

Known elsewhere as: a *labeler* is an annotator, rater, worker, expert or forecaster; its *report* an annotation,
vote, rating or forecast; its *belief* a subjective probability; an *LLM judge* an LLM as a judge or AI feedback
(RLAIF).
"""

from __future__ import annotations

from truthful_rlhf.labelers.context import Labeler, ReportContext
from truthful_rlhf.labelers.judges.local import LocalJudge
from truthful_rlhf.labelers.judges.remote import RemoteJudge
from truthful_rlhf.labelers.pairs import Pairs
from truthful_rlhf.labelers.panel import LabelerSpec, Member, Panel
from truthful_rlhf.labelers.personas import Persona
from truthful_rlhf.labelers.recorded.annotations import Annotations
from truthful_rlhf.labelers.recorded.labeler import RecordedLabeler
from truthful_rlhf.labelers.recorded.reading import Reading
from truthful_rlhf.labelers.recorded.table import read_annotations
from truthful_rlhf.labelers.simulated import SimulatedLabeler
from truthful_rlhf.labelers.sources import LABELERS
from truthful_rlhf.labelers.strategies import STRATEGIES

__all__ = [
    "LABELERS",
    "STRATEGIES",
    "Annotations",
    "Labeler",
    "LabelerSpec",
    "LocalJudge",
    "Member",
    "Pairs",
    "Panel",
    "Persona",
    "Reading",
    "RecordedLabeler",
    "RemoteJudge",
    "ReportContext",
    "SimulatedLabeler",
    "read_annotations",
]
