"""With which chance a pair was audited: three columns of a plan, one value per pair each.

| column | | empty |
|---|---|---|
| ``audit_probability`` | chance of the pair in its plan, in (0, 1] | drawn uniformly |
| ``audit_floor`` | chance that no report could bring a pair of the plan below, > 0 | not known |
| ``audit_wave`` | number of the plan, where several followed one another, 1, 2, ... | 1 |

`aggregation.auditing.design` has what they are for.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np

from truthful_rlhf.aggregation.auditing.design import AuditDesign
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.labelers.recorded.cells import number_of, shown_value
from truthful_rlhf.labelers.recorded.errors import WayOn, ways_on
from truthful_rlhf.labelers.recorded.options import AUDIT_ROLES

_CHANCE, _FLOOR, _WAVE = AUDIT_ROLES
_ROUNDING = 1e-6


def read_cell(role: str, value: Any, column: str) -> float:
    """Return what a cell says, NaN if it is empty.

    Args:
        role: one of ``AUDIT_ROLES``.
        value: of the cell; ``30%`` is 0.3.
        column: what the source calls the column.

    Raises:
        ValueError: no number, or out of range; without the row.
    """
    number = math.nan if isinstance(value, str) and not value.strip() else number_of(value)
    if number is None or math.isinf(number):
        raise ValueError(f"{column}: {shown_value(value)} is not a number" + _elsewhere(role))
    if role == _WAVE and not (math.isnan(number) or (number >= 1.0 and number.is_integer())):
        raise ValueError(f"{column}: {shown_value(value)} is not the number of a plan, 1, 2, ..." + _elsewhere(role))
    if role != _WAVE and not (math.isnan(number) or 0.0 < number <= 1.0):
        raise ValueError(f"{column}: {shown_value(value)} is not a chance in (0, 1]" + _elsewhere(role))
    return number


def _elsewhere(role: str) -> str:
    return ways_on([WayOn("if it stands in another column", ["--column", f"{role}=COLUMN"])])


class AuditCells:
    """Collects the three columns row by row.

    Args:
        names: role -> column of the source.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = [names.get(role, role) for role in AUDIT_ROLES]
        self.values = [array("d") for _ in AUDIT_ROLES]
        self.row = array("q")  # in which each pair's chance stands, 0: nowhere yet

    def append(self) -> None:
        """Add a pair of which nothing is known."""
        for values in self.values:
            values.append(math.nan)
        self.row.append(0)

    def add(self, number: int, pair: int, pair_id: str, cells: tuple[Any, Any, Any]) -> None:
        """Read a row's cells.

        Args:
            number: of the row, from 1.
            pair: index of its pair.
            pair_id: its name.
            cells: in the order of ``AUDIT_ROLES``.

        Raises:
            ValueError: bad cells, or others than in an earlier row of the pair; without the row.
        """
        found = [read_cell(*given) for given in zip(AUDIT_ROLES, cells, self.names, strict=True)]
        if all(map(math.isnan, found)):
            return
        chance, floor, _ = found
        if math.isnan(chance):
            raise ValueError(
                f"{self.names[0]} of pair {pair_id!r} is empty, and {self.names[1]} or {self.names[2]} is not"
            )
        if floor > chance * (1.0 + _ROUNDING):
            raise ValueError(f"{self.names[1]} of pair {pair_id!r} is {floor:g}, above its {self.names[0]}, {chance:g}")
        for name, values, value in zip(self.names, self.values, found, strict=True):
            known = values[pair]
            if not (math.isnan(value) or math.isnan(known) or value == known):
                raise ValueError(
                    f"{name} of pair {pair_id!r} is {value:g} here and {known:g} in row {self.row[pair]}: give every"
                    " row of a pair the same one, or leave it empty in all but one"
                )
            values[pair] = known if math.isnan(value) else value
        self.row[pair] = self.row[pair] or number

    def design(self) -> AuditDesign | None:
        """Return the chances of all pairs, shape ``(T,)``, or None where there are none."""
        return as_design([np.frombuffer(values, dtype=np.float64) for values in self.values])


def as_design(columns: list[FloatArray]) -> AuditDesign | None:
    """Return the design of three arrays, shape ``(T,)``, in the order of ``AUDIT_ROLES``; None without any chance."""
    chances, floors, waves = columns
    return None if np.isnan(chances).all() else AuditDesign.make(len(chances), chances, floors, waves)
