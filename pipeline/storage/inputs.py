"""What a stage depends on: one dataclass per stage, so that nothing is left out of a fingerprint by a slip of a key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


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
