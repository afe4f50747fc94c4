"""Panels as data: a name, a file or the entries themselves, and always the same crowd.

A config's ``panels`` maps names to entries (``LabelerSpec``). In place of the entries may stand a panel that ships with
the package (``panels.yaml``) or a YAML file: a list of entries, or a config with ``panels`` of its own. ``compare``
trains on the panel that ``simulate`` and ``audit`` play with, because all three read it here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BeforeValidator, Field

from truthful_rlhf.aggregation.names import unknown
from truthful_rlhf.labelers.checked import NOT_YAML, UniqueKeyLoader, abridged, checked
from truthful_rlhf.labelers.features import GOLD
from truthful_rlhf.labelers.spec import LabelerSpec, distinct
from truthful_rlhf.labelers.strategies import TopicTrigger

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_SUFFIXES = (".yaml", ".yml")


@cache
def built_in_panels() -> Mapping[str, Any]:
    """Return the panels that ship with the package, as plain entries by name.

    Examples:
        >>> [entry["name"] for entry in built_in_panels()["honest"]]
        ['honest', 'expert']
    """
    content: Mapping[str, Any] = yaml.safe_load(
        files("truthful_rlhf.labelers").joinpath("panels.yaml").read_text(encoding="utf-8")
    )
    return content


def panels_of(value: Any) -> Any:
    """Return the entries of panels by name, whichever way a config writes them.

    Args:
        value: a mapping from names to entries, files or names of panels that ship; or a list of such files and names.

    Raises:
        ValueError: a panel or file that does not exist or is wrong, or two panels of one name.
    """
    return _resolved(value, ())


def _resolved(value: Any, within: tuple[Path, ...]) -> Any:
    """Return the entries by name; ``within``: the files that this value was read from."""
    if isinstance(value, list):
        found: dict[str, Any] = {}
        for text in value:
            if not isinstance(text, str):
                raise ValueError(
                    f"a list of panels holds files and names of panels that ship, got {abridged(text)};"
                    " entries need a name: panels={NAME: [...]}"
                )
            panels = _named(text, within)
            if twice := sorted(found.keys() & panels.keys()):
                raise ValueError(f"the panel {twice[0]!r} stands twice")
            found |= panels
        return found
    if isinstance(value, Mapping):
        for name in value:
            if not _NAME.fullmatch(str(name)):
                raise ValueError(f"{name!r} is not a valid name of a panel (letters, digits, - and _)")
        return {name: _one(given, within) if isinstance(given, str) else given for name, given in value.items()}
    return value


def _one(text: str, within: tuple[Path, ...]) -> Any:
    found = _named(text, within)
    if len(found) > 1:
        raise ValueError(f"{text} holds several panels ({', '.join(found)}): write panels=[{text}] to take all of them")
    return next(iter(found.values()))


def _named(text: str, within: tuple[Path, ...]) -> Mapping[str, Any]:
    """Return the panels that a name or a file stands for."""
    path = Path(text)
    if path.suffix in _SUFFIXES and path.is_file():
        return _read(path, within)
    if text in built_in_panels():
        return {text: built_in_panels()[text]}
    if path.suffix in _SUFFIXES:
        raise ValueError(f"panel file {text} does not exist")
    raise ValueError(f"{unknown('panel', text, built_in_panels())}; or a file that ends in .yaml")


def _read(path: Path, within: tuple[Path, ...]) -> Mapping[str, Any]:
    if path.resolve() in within:
        raise ValueError(f"panel file {path} stands for itself")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeyLoader)
    except (OSError, UnicodeDecodeError, *NOT_YAML) as error:
        raise ValueError(f"panel file {path}: {error}") from None
    panels = content.get("panels") if isinstance(content, Mapping) else {path.stem: content}
    try:
        found = _resolved(panels, (*within, path.resolve()))
        if not isinstance(found, Mapping) or not found:
            raise ValueError("expected a list of entries such as {name: me, persona: expert}, or 'panels'")
        return {name: _entries(name, entries) for name, entries in found.items()}
    except ValueError as error:
        raise ValueError(f"panel file {path}: {error}") from None


def _entries(name: str, entries: Any) -> list[LabelerSpec]:
    """Return the entries of one panel of a file, checked here, so that an error names the file."""
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"panel {name!r}: expected a list of entries such as {{name: me, persona: expert}}")
    found = []
    for number, entry in enumerate(entries, start=1):
        if isinstance(entry, LabelerSpec):  # of a file that this file stands on
            found.append(entry)
            continue
        fields = {"name": entry, "persona": entry} if isinstance(entry, str) else entry
        if not isinstance(fields, Mapping):
            raise ValueError(f"panel {name!r}, entry {number}: expected a mapping, got {abridged(entry)}")
        found.append(checked(LabelerSpec, f"panel {name!r}, entry {number}", fields))
    return found


Entries = Annotated[list[LabelerSpec], Field(min_length=1), AfterValidator(distinct)]
"""One panel: its entries."""
Panels = Annotated[dict[str, Entries], BeforeValidator(panels_of), Field(min_length=1)]
"""Panels by name, as the field of a config."""


def needs_texts(spec: LabelerSpec) -> str:
    """Return why an entry cannot judge pairs that have no texts, in words; empty if it can."""
    if spec.kind != "simulated" or spec.persona is None:
        return f"kind {spec.kind!r} reads texts or a file"
    features = [name for name, weight in spec.persona.taste.items() if weight and name != GOLD]
    return f"its persona has a taste for {', '.join(features)}, which only texts have" if features else ""


def topics_needed(spec: LabelerSpec) -> list[str]:
    """Return the topics that an entry's strategy or expertise waits for."""
    strategy = spec.make_strategy()
    topics = list(spec.persona.topic_noise) if spec.persona is not None else []
    if isinstance(strategy, TopicTrigger):
        topics += [strategy.topic] if isinstance(strategy.topic, str) else list(strategy.topic)
    return topics
