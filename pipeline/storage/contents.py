"""The content of the files and local folders that a config names, for the fingerprints of the stages that read them.

They are found by walking the config: a field of type ``Path``, and a text that is marked with ``LocalPath`` because it
may name a file or a model folder on this machine. What is elsewhere (a Hub id, a judge's server) counts by its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from truthful_rlhf.labelers.checked import LocalPath
from truthful_rlhf.pipeline.storage.artifacts import checksum


def contents(part: Any) -> dict[str, str]:
    """Return the SHA-256 of every file and local model folder that a part of a config names, by its key.

    What does not exist is left out: the stage that reads it will say so.

    Args:
        part: a model, or a list or mapping of models.
    """
    found = ((key, _existing(path)) for key, path in _paths(part, ""))
    return {key: _content(path) for key, path in found if path is not None}


def _paths(part: Any, key: str) -> Iterator[tuple[str, Path]]:
    if isinstance(part, Path):
        yield key, part
    elif isinstance(part, BaseModel):
        for name, field in type(part).model_fields.items():
            value, inner = getattr(part, name), f"{key}.{name}".lstrip(".")
            mark = next((data for data in field.metadata if isinstance(data, LocalPath)), None)
            if mark is None:
                yield from _paths(value, inner)
            elif value is not None and value not in mark.names and mark.applies(part):
                yield inner, Path(value)
    elif isinstance(part, Mapping | list | tuple):
        items = part.items() if isinstance(part, Mapping) else enumerate(part)
        for place, value in items:
            yield from _paths(value, f"{key}.{place}".lstrip("."))


def _existing(path: Path) -> Path | None:
    """Return a file, or a folder with a model, that is there: any other folder is refused by what would read it."""
    try:
        path = path.expanduser()
        return path if path.is_file() or (path / "config.json").is_file() else None
    except (OSError, RuntimeError):  # a name that is too long, the home of nobody
        return None


def _content(path: Path) -> str:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    stats = [file.stat() for file in files]
    return _checksum(path, tuple((str(f), s.st_size, s.st_mtime_ns) for f, s in zip(files, stats, strict=True)))


@lru_cache
def _checksum(path: Path, state: tuple[tuple[str, int, int], ...]) -> str:
    """Return the checksum; as long as names, sizes and times stand, a model is read once for all stages."""
    return checksum(path)
