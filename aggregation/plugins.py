"""Code of a user's own, named in a config by its import path: ``my_pkg.rewards:score``.

Whoever writes a config with such a name decides what runs: read it before you run a stranger's config.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
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


def load(name: str, what: str) -> Any:
    """Import an attribute; modules of the working folder are found behind those that are installed.

    Args:
        name: of the form ``package.module:attribute``.
        what: what it is for, for the error, such as ``gold.name``.

    Raises:
        ValueError: there is no such module or attribute.
    """
    _see_working_folder()
    module, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(f"{what}={name}: there is no module {error.name!r} here or in {os.getcwd()}") from error
    if not hasattr(found, attribute):
        raise ValueError(f"{what}={name}: the module {module} has no {attribute!r}")
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
