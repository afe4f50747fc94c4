"""Libraries that are installed on demand, and the sentence that says how where one is missing.

The core (``aggregate``, ``audit-plan``, ``simulate``, ``audit``, ``validate``) runs without them. The package is not on
PyPI, so the line to type names the libraries themselves, with the versions that the installed package asks for.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

DISTRIBUTION = "truthful-rlhf"
EXTRAS: dict[str, tuple[str, ...]] = {
    "train": ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "gguf", "vaderSentiment"),
    "crowd": ("crowdkit",),
    "judges": ("openai",),
    "hub": ("huggingface_hub", "datasets"),
    "ray": ("ray",),
    "serve": ("fastapi", "uvicorn", "sqlalchemy", "python_multipart", "nh3", "markdown_it", "prometheus_client"),
    "postgres": ("psycopg",),
}
"""Extra of the distribution -> the modules that it brings. PPO's (``ppo``) brings an older TRL, not another module."""


class MissingExtraError(ImportError):
    """Something that was asked for needs libraries that are not installed; the message says how to install them."""


def missing_modules(extra: str) -> list[str]:
    """Return the modules of an extra that are not installed; none of them is imported to find out."""
    return [module for module in EXTRAS[extra] if not _is_installed(module)]


def require(extra: str, what: str) -> None:
    """Raise unless the libraries of an extra are installed.

    Args:
        extra: a key of ``EXTRAS``.
        what: what needs them, such as ``rule dawid_skene``.

    Raises:
        MissingExtraError: with the line to type.
    """
    if missing := missing_modules(extra):
        raise MissingExtraError(sentence(extra, what, missing))


@contextmanager
def explained(what: str, extra: str | None = None) -> Iterator[None]:
    """Name the line to type where an import inside fails for want of an extra.

    Args:
        what: what needs the import.
        extra: the one to name where several have the module; by default the first.

    Raises:
        MissingExtraError: a module of an extra is not installed. Other failed imports stay as they are.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        root = (error.name or "").partition(".")[0]
        candidates = [name for name, modules in EXTRAS.items() if root in modules]
        if not candidates:
            raise
        chosen = extra if extra in candidates else candidates[0]
        raise MissingExtraError(sentence(str(chosen), what, missing_modules(str(chosen)) or [root])) from error


def sentence(extra: str, what: str, missing: list[str]) -> str:
    """Return what is missing, for what, and the line to type.

    Args:
        extra: a key of ``EXTRAS``.
        what: what needs it.
        missing: the modules that are not installed, at least one.
    """
    are = "is" if len(missing) == 1 else "are"
    return f"{what} needs {', '.join(missing)}, which {are} not installed: {install_line(extra)}"


def install_line(extra: str) -> str:
    """Return the line that installs the libraries of an extra.

    Examples:
        >>> install_line("ray")
        "pip install 'ray<3,>=2.50'"
    """
    names = requirements(extra)
    if not names:  # not installed as a distribution
        return f"pip install '.[{extra}]' from a clone of the project"
    return "pip install " + " ".join(f"'{name}'" for name in names)


def requirements(extra: str) -> list[str]:
    """Return what the installed distribution asks for in an extra, extras of its own resolved."""
    try:
        lines = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    found: list[str] = []
    for line in lines:
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        if marker.replace("'", '"') != f'extra == "{extra}"':
            continue
        if requirement.startswith(f"{DISTRIBUTION}["):
            inner = requirement.partition("[")[2].rstrip("]").split(",")
            found += [name for other in inner for name in requirements(other)]
        else:
            found.append(requirement)
    return list(dict.fromkeys(found))


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # a module without a spec, or None in its place: as good as absent
        return False
