"""What a stage depends on: one dataclass per stage, so that nothing is left out of a fingerprint by a slip of a key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from truthful_rlhf.aggregation.plugins import is_import_path, source_file


@dataclass(frozen=True, kw_only=True)
class StageInputs:
    """All that the result of a stage depends on, with the fingerprints of earlier stages.

    A subclass has one field per input: anything that JSON can hold, or other inputs, whose fields then count as its
    own. A field of None says that the stage does not depend on it.
    """

    def as_json(self) -> dict[str, Any]:
        """Return the inputs by name, as the fingerprint and the manifest take them."""
        found: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            part = value.as_json() if isinstance(value, StageInputs) else {field.name: value}
            if twice := found.keys() & part.keys():
                raise ValueError(f"{type(self).__name__}: more than one input is called {min(twice)!r}")
            found |= part
        return found


@dataclass(frozen=True, kw_only=True)
class ConfigSections(StageInputs):
    """Sections of a config.

    Attributes:
        sections: by name, as JSON.
        content: SHA-256 of every file that they name, by key (`contents`).
    """

    sections: Mapping[str, Any]
    content: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return every section under its own name."""
        return {**self.sections, "content": self.content}


def with_own_code(inputs: StageInputs) -> dict[str, Any]:
    """Return the inputs by name, with the SHA-256 of every module of the user's own that they name by import path."""
    given = inputs.as_json()
    files = {name: source_file(name) for name in _own_code(given)}
    sums = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items() if file is not None}
    return {**given, "own_code": sums} if sums else given


def _own_code(part: Any) -> Iterator[str]:
    """Yield the import paths that stand under the keys that may hold one."""
    if isinstance(part, Mapping):
        for key, value in part.items():
            if key in ("name", "kind") and isinstance(value, str) and is_import_path(value):
                yield value
            else:
                yield from _own_code(value)
    elif isinstance(part, list | tuple):
        for value in part:
            yield from _own_code(value)
