"""The parts of a run: what is built before what, and what may be built side by side.

Work is described by functions of the experiment that can be pickled (of a module, or `functools.partial` of one), so
that another process can do it in the same run folder. Here it is done in this process, one cell after another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from truthful_rlhf.pipeline.experiment.context import Experiment

Work = Callable[[Experiment], list[str]]
"""Builds stages, those that are there already excepted, and returns the fingerprints that whoever asked needs."""


@dataclass(frozen=True)
class Part:
    """A part of a run that needs no other one.

    Attributes:
        shared: what its cells need, with its name.
        cells: what can then be built in any order, or side by side, by name.
    """

    shared: tuple[str, Work]
    cells: Mapping[str, Work]


def run_here(experiment: Experiment, parts: Sequence[Part], first: Work | None = None) -> list[str]:
    """Do all work in this process, in order, and return what the cells returned.

    Args:
        experiment: where.
        parts: of the run.
        first: what all of them need.
    """
    if first is not None:
        first(experiment)
    found = []
    for part in parts:
        part.shared[1](experiment)
        for work in part.cells.values():
            found.extend(work(experiment))
    return found
