"""Read plain mappings into models, with errors of one line that name the nearest valid key."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from truthful_rlhf.aggregation.names import unknown

ModelT = TypeVar("ModelT", bound=BaseModel)

NOT_YAML = (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError)
"""What PyYAML raises: its own errors, and whatever a bad date, number or key makes Python raise."""

_short = reprlib.Repr()
_short.maxlevel, _short.maxstring, _short.maxother = 2, 80, 80


@dataclass(frozen=True)
class LocalPath:
    """Marks a text field that may name a file or folder on this machine: what reads it depends on the content.

    Attributes:
        names: values that stand for something else, even where a file is called so.
        applies: from the model that has the field to whether it can name a local one there.

    Examples:
        >>> from typing import Annotated
        >>> class Section(BaseModel):
        ...     name_or_path: Annotated[str, LocalPath(names=("bundled",))] = "bundled"
    """

    names: tuple[str, ...] = ()
    applies: Callable[[Any], bool] = lambda model: True


class UniqueKeyLoader(yaml.SafeLoader):
    """Refuse a key that is given twice, where plain YAML silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping; a ValueError names the line and the key that is given twice."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if key in seen:
                raise ValueError(f"line {key_node.start_mark.line + 1}: key {key!r} is given twice")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def abridged(value: Any) -> str:
    """Return the ``repr`` of a value from outside in at most 80 characters, in no more time than these take.

    YAML aliases make a value of 500 bytes whose whole ``repr`` has gigabytes.

    >>> abridged([[["x"] * 10] * 10] * 10)
    '[[[...], [...], [...], [...], [...], [...], ...], [[...], [...], [...], [...], ['
    """
    return _short.repr(value)[:80]


def checked(model: type[ModelT], what: str, fields: Mapping[str, Any]) -> ModelT:
    """Return ``model(**fields)``.

    Args:
        model: the class that checks the fields.
        what: what the fields describe, for the error.
        fields: key -> value, as read from a file.

    Raises:
        ValueError: an unknown key (the nearest valid one is named) or a bad value; one line that begins with ``what``.
    """
    for key in fields:
        if key not in model.model_fields:
            raise ValueError(unknown(f"option of {what}:", str(key), model.model_fields))
    try:
        return model.model_validate(dict(fields))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        text = problem["msg"].removeprefix("Value error, ")
        got = "" if problem["type"] in ("missing", "value_error") else f", got {abridged(problem['input'])}"
        raise ValueError(f"{what}: {place}: {text}{got}" if place else f"{what}: {text}{got}") from None
