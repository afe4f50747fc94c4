"""The extras in pyproject.toml and those that error messages know are the same, and a missing one is explained."""

from __future__ import annotations

import importlib.metadata
import sys
import tomllib
from pathlib import Path

import pytest

from truthful_rlhf.aggregation.extras import (
    EXTRAS,
    MissingExtraError,
    explained,
    install_line,
    missing_modules,
    require,
    requirements,
)

DECLARED = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
DISTRIBUTIONS = {
    "crowdkit": "crowd-kit",
    "python_multipart": "python-multipart",
    "markdown_it": "markdown-it-py",
    "prometheus_client": "prometheus-client",
    "psycopg": "psycopg[binary]",
    "uvicorn": "uvicorn[standard]",
}
"""Module -> distribution, where they are called differently."""


def test_every_extra_names_the_modules_of_its_requirements() -> None:
    for extra, modules in EXTRAS.items():
        names = [line.partition(">")[0] for line in DECLARED["optional-dependencies"][extra]]
        assert [DISTRIBUTIONS.get(module, module) for module in modules] == names


def test_no_extra_is_a_requirement_of_the_core() -> None:
    core = " ".join(DECLARED["dependencies"]).lower()
    for modules in EXTRAS.values():
        for module in modules:
            assert DISTRIBUTIONS.get(module, module).lower() not in core


def test_the_line_to_type_is_what_the_distribution_asks_for() -> None:
    assert install_line("crowd") == "pip install 'crowd-kit>=1.4'"
    assert "trl<1.13,>=1.12" in requirements("ppo")
    assert set(requirements("crowd")) | set(requirements("train")) <= set(requirements("all"))
    assert requirements("no-such-extra") == []


def test_without_metadata_the_clone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", absent)
    assert install_line("train") == "pip install '.[train]' from a clone of the project"


def test_a_missing_module_is_explained_and_another_failure_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "crowdkit", None)
    assert missing_modules("crowd") == ["crowdkit"]
    with pytest.raises(MissingExtraError, match=r"^rule x needs crowdkit, which is not installed: pip install 'crowd"):
        require("crowd", "rule x")
    with pytest.raises(MissingExtraError, match="a thing needs crowdkit"), explained("a thing"):
        import crowdkit.aggregation  # noqa: F401
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), explained("a thing"):
        import no_such_module  # noqa: F401
