"""Read a config: YAML with overrides into a schema, or an error that names file, key and the nearest valid one."""

from __future__ import annotations

import importlib.resources
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from truthful_rlhf.aggregation.names import nearest
from truthful_rlhf.labelers.checked import NOT_YAML, UniqueKeyLoader, abridged


class ConfigError(ValueError):
    """The config is wrong; the message names the file, the key, and the nearest valid choice."""


class Section(BaseModel):
    """A section refuses keys that it does not know, and cannot change after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


SectionT = TypeVar("SectionT", bound=Section)


def find_config(name: str) -> Path:
    """Return the path of a config: a file, or one that ships with the package, by name (``quickstart``)."""
    path = Path(name)
    if path.is_file():
        return path
    shipped = Path(str(importlib.resources.files("truthful_rlhf.pipeline.configs")))
    packaged = shipped / f"{path.stem}.yaml"
    if packaged.is_file() and path.suffix in ("", ".yaml"):
        return packaged
    names = sorted(p.stem for p in shipped.glob("*.yaml"))
    raise ConfigError(
        f"config {name} does not exist{nearest(path.stem, names)}; those that ship with the package: {', '.join(names)}"
    )


def load_section(name: str, overrides: Sequence[str], schema: type[SectionT]) -> SectionT:
    """Read, override and validate a config of any schema.

    Args:
        name: a YAML file, or the name of a config that ships with the package.
        overrides: ``key.sub=value`` entries; values are YAML, so ``rules=[mean, median]`` works.
        schema: what the file describes.

    Raises:
        ConfigError: with the file, the key and the nearest valid choice.
    """
    path = find_config(name)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeyLoader)
    except (*NOT_YAML, UnicodeDecodeError, ConfigError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, got {type(content).__name__}")
    for override in overrides:
        _apply(content, override)
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}:\n" + "\n".join(_explain(error, schema, content))) from error


def _apply(content: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r} is not of the form key.sub=value")
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise ConfigError(f"override {override!r}: {parent!r} is not a section")
    try:
        content[last] = yaml.safe_load(text)
    except NOT_YAML as error:
        raise ConfigError(f"override {override!r}: the value is not valid YAML") from error


def _explain(error: ValidationError, schema: type[BaseModel], content: dict[str, Any]) -> Iterator[str]:
    tags = _tags(schema)  # pydantic puts the tag of a union into the location; it is no key of the config
    for problem in error.errors(include_url=False):
        location = [part for part in problem["loc"] if part not in tags]
        if location[:2] == ["policy", 0] and isinstance(content["policy"], dict):
            del location[1]  # the only method was given without a list
        key = ".".join(str(part) for part in location)
        if problem["type"] == "extra_forbidden":
            valid = sorted(_fields_at(schema, problem["loc"][:-1]))
            hint = nearest(str(problem["loc"][-1]), valid) or f"; valid keys: {', '.join(valid)}"
            yield f"  {key}: unknown key{hint}"
        else:
            says_it_all = problem["type"] in ("missing", "value_error")
            text = problem["msg"].removeprefix("Value error, ")
            yield f"  {key or 'config'}: {text}" + ("" if says_it_all else f", got {abridged(problem['input'])}")


def _fields_at(annotation: Any, location: Sequence[Any]) -> set[str]:
    """Return the valid keys of the section at a location of the config, following lists, mappings and unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields
        if not location:
            return set(fields)
        if location[0] in fields:
            return _fields_at(fields[location[0]].annotation, location[1:])
        return _fields_at(annotation, location[1:])  # the tag of a union
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) in (list, dict):
        return _fields_at(arguments[-1], location[1:])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, Annotated):
        tagged = [a for a in arguments if _tag(a) is not None and location and _tag(a) == location[0]]
        return set().union(*(_fields_at(a, location) for a in tagged or arguments if not isinstance(a, str)))
    return set()


def _tag(annotation: Any) -> Any:
    """Return the method that selects this member of a union of policy settings."""
    fields = getattr(annotation, "model_fields", {})
    return fields["method"].default if "method" in fields else None


def _tags(annotation: Any) -> set[Any]:
    """Return the methods that a schema's unions choose between."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        own = _tag(annotation)
        return set().union({own} - {None}, *(_tags(field.annotation) for field in annotation.model_fields.values()))
    return set().union(*(_tags(part) for part in typing.get_args(annotation) if not isinstance(part, str)))
