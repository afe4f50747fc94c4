"""Code of a user's own, named by its import path, ``my_pkg.rewards:score``: rules, strategies, labelers, gold rewards.

Whoever writes a config with such a name decides what runs: read it before you run a stranger's config.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_PATH = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def is_import_path(name: str) -> bool:
    """Return whether a name is of the form ``package.module:attribute``.

    Examples:
        >>> is_import_path("my_pkg.rewards:score"), is_import_path("vader"), is_import_path("owner/name")
        (True, False, False)
    """
    return _PATH.fullmatch(name) is not None


def load_class(name: str, what: str, methods: Mapping[str, Sequence[str]], expected: str) -> Any:
    """Import a class that has some methods.

    Args:
        name: of the form ``package.module:attribute``.
        what: what it is for, for the error, such as ``rule``.
        methods: name -> the arguments that it will be called with.
        expected: what should be there, in words, for the error.

    Raises:
        ValueError: there is no such module or attribute, or it is no class with these methods.
    """
    found = _load(name, what, expected)
    if not isinstance(found, type):
        raise ValueError(f"{what}={name}: this is a {type(found).__name__}; expected {expected}")
    for method, arguments in methods.items():
        function = getattr(found, method, None)
        if not callable(function):
            raise ValueError(f"{what}={name}: the class has no method {method!r}; expected {expected}")
        try:
            inspect.signature(function).bind(None, *arguments)
        except TypeError as error:
            called = f"{method}({', '.join(arguments)})"
            raise ValueError(f"{what}={name}: it cannot be called as {called}: {error}; expected {expected}") from error
    return found


def load_function(name: str, what: str, method: str, options: Mapping[str, Any] | None = None) -> Callable[..., Any]:
    """Import a function, or the method of an object or of a class, which is made first.

    Args:
        name: of the form ``package.module:attribute``.
        what: what it is for, for the error, such as ``gold.name``.
        method: of the object.
        options: keyword arguments of the class, or of the function at every call.

    Raises:
        ValueError: there is no such module or attribute, it cannot be made with the options, or cannot be called.
    """
    expected = f"a function, or a class or an object with a method {method!r}"
    found, given = _load(name, what, expected), dict(options or {})
    try:
        if isinstance(found, type):
            found, given = found(**given), {}
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}={name}: {error}") from error
    function = getattr(found, method, found)
    if not callable(function):
        raise ValueError(
            f"{what}={name} is neither a function nor an object with a method {method}; expected {expected}"
        )
    return functools.partial(function, **given) if given else function


def _load(name: str, what: str, expected: str) -> Any:
    """Import an attribute; modules of the working folder are found behind those that are installed."""
    _see_working_folder()
    module, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{what}={name}: there is no module {error.name!r} here or in {os.getcwd()}; expected {expected}"
        ) from error
    except Exception as error:  # whatever the user's module raises
        raise ValueError(f"{what}={name}: the module {module} fails: {type(error).__name__}: {error}") from error
    if not hasattr(found, attribute):
        raise ValueError(f"{what}={name}: the module {module} has no {attribute!r}; expected {expected}")
    return getattr(found, attribute)


def source_file(name: str) -> Path | None:
    """Return the file of the module that an import path names, without running it; None if there is none."""
    _see_working_folder()
    try:
        spec = importlib.util.find_spec(name.partition(":")[0])
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


def _see_working_folder() -> None:
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
