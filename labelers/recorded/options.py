"""How to read an annotation file: the options that the command line, Python and a panel's config share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from truthful_rlhf.aggregation.names import nearest
from truthful_rlhf.labelers.recorded.errors import AnnotationError

Duplicates = Literal["error", "last", "mean"]

AUDIT_ROLES = ("audit_probability", "audit_floor", "audit_wave")
"""With which chance a pair was audited (`labelers.recorded.audit_cells`)."""
EXTRA_ROLES = ("outcome", "round", "topic", *AUDIT_ROLES)
"""Columns that need no mapping where they have these very names, in every format."""
ROLES = ("pair_id", "prompt", "response_a", "response_b", "labeler_id", "report", *EXTRA_ROLES)
"""The columns of the annotation table."""

_DUPLICATES = ("error", "last", "mean")
_VOTES = ("A", "B", "tie", "none")
_SIDES = ("A", "B", "tie")


class ReadOptions(BaseModel):
    """How the columns and values of a source are to be understood. Everything is optional.

    Attributes:
        format: ``auto``, or a key of `labelers.recorded.formats.FORMATS`.
        columns: name of the annotation table -> name in the source. A dotted name reaches into nested records, a ``*``
            in ``report`` names several columns, one per labeler.
        votes: code of the report column -> ``A``, ``B``, ``tie`` or ``none`` (did not judge).
        outcome_votes: code of the outcome column -> ``A``, ``B`` or ``none`` (not revealed).
        scale: ``LOW:HIGH``, the ends of a graded scale of the report column (`labelers.recorded.codes.graded`).
        low: the response that the low end of the scale prefers, ``A`` or ``B``.
        one_hot: ``A``, ``B`` or ``tie`` -> the column that holds 1 (or true) where this was chosen.
        only: column -> value: other rows are left out; ``*`` keeps the rows in which the column is not empty.
        duplicates: when a labeler judged a pair twice: refuse, keep the last report, or take their mean.
        pairs_by_text: recognise a pair by its prompt and its two responses, in either order, instead of by its id.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    format: str = Field("auto", description="auto, or the format of the file")
    columns: dict[str, str] = Field(default_factory=dict, description="our column name: the file's")
    votes: dict[str, str] = Field(default_factory=dict, description="code: A, B, tie or none")
    outcome_votes: dict[str, str] = Field(default_factory=dict, description="code: A, B or none")
    scale: str | None = Field(None, description="LOW:HIGH of a graded scale")
    low: str | None = Field(None, description="which response the low end of the scale prefers: A or B")
    one_hot: dict[str, str] = Field(default_factory=dict, description="A, B or tie: column that is 1 where chosen")
    only: dict[str, str] = Field(default_factory=dict, description="column: value of the rows that are kept")
    duplicates: str = Field("error", description="error, last or mean")
    pairs_by_text: bool = Field(False, description="recognise pairs by their texts, not by their ids")

    @classmethod
    def make(cls, **options: Any) -> ReadOptions:
        """Check options; raise AnnotationError with the first thing that is wrong."""
        try:
            return cls(**options)
        except ValidationError as error:
            first = error.errors()[0]
            reason = first.get("ctx", {}).get("error") or f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise AnnotationError(str(reason)) from None

    @field_validator("votes", "outcome_votes", "columns", "one_hot", "only", mode="before")
    @classmethod
    def _text_keys(cls, value: Any) -> Any:
        # YAML reads 1: A with a number as its key, and yes: A with a boolean
        if not isinstance(value, Mapping):
            return value
        return {_code_text(key): _code_text(item) for key, item in value.items()}

    @field_validator("columns")
    @classmethod
    def _known_roles(cls, value: dict[str, str]) -> dict[str, str]:
        for key in value:
            if key not in ROLES:
                raise ValueError(f"--column {key}=...: no such column{nearest(key, ROLES)}; valid: {', '.join(ROLES)}")
        for role in ("labeler_id", "report"):
            if "topic" in value and value["topic"] == value.get(role, role):
                reason = "each pair would be another one for each of its values"
                raise ValueError(f"--topic-column {value['topic']}: it is the column {role}, and {reason}")
        return value

    @field_validator("votes", "outcome_votes")
    @classmethod
    def _known_votes(cls, value: dict[str, str], info: Any) -> dict[str, str]:
        valid = _VOTES if info.field_name == "votes" else ("A", "B", "none")
        option = "--vote" if info.field_name == "votes" else "--outcome-vote"
        for code, vote in value.items():
            if vote not in valid:
                raise ValueError(f"{option} {code}={vote}: a code means one of {', '.join(valid)}")
        return value

    @field_validator("one_hot")
    @classmethod
    def _known_sides(cls, value: dict[str, str]) -> dict[str, str]:
        for side in value:
            if side not in _SIDES:
                raise ValueError(f"--one-hot {side}={value[side]}: write A=COLUMN, B=COLUMN or tie=COLUMN")
        if value and not {"A", "B"} <= set(value):
            raise ValueError("--one-hot needs a column for A and one for B (and one for tie, if there are ties)")
        return value

    @field_validator("duplicates")
    @classmethod
    def _known_duplicates(cls, value: str) -> str:
        if value not in _DUPLICATES:
            raise ValueError(f"duplicates {value!r}: valid are error, last and mean")
        return value

    @model_validator(mode="after")
    def _scale_has_a_side(self) -> ReadOptions:
        if self.scale is not None:
            low, high = self.scale_ends
            if self.low not in ("A", "B"):
                raise ValueError(
                    f"--scale {self.scale}: say which response the low end prefers: --low A ({low:g} = the first is "
                    f"better) or --low B ({low:g} = the second is better)"
                )
            if not low < high:
                raise ValueError(f"--scale {self.scale}: LOW must be below HIGH; --low says which side is which")
        elif self.low is not None:
            raise ValueError("--low says which side a graded scale begins with: it needs --scale LOW:HIGH")
        return self

    @property
    def scale_ends(self) -> tuple[float, float]:
        """The ends of the graded scale."""
        low, colon, high = (self.scale or "").partition(":")
        try:
            ends = float(low), float(high)
        except ValueError:
            ends = math.nan, math.nan
        if not colon or not all(map(math.isfinite, ends)):
            raise ValueError(f"--scale {self.scale}: write LOW:HIGH, for example --scale 1:7")
        return ends


def _code_text(code: Any) -> Any:
    if isinstance(code, bool):
        return str(code).lower()
    return str(code) if isinstance(code, int | float) else code
