"""The marker ``torch``: which tests compute with torch, so that they can be run as on another processor.

A test has it where it uses the fixture ``tiny_model_folder`` or its module imports torch. One without it that computes
with torch all the same fails and says so; otherwise a setting that is meant for all of them would miss it unseen.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests."""
    for item in items:
        names = vars(getattr(item, "module", None) or ModuleType("none"))
        if "tiny_model_folder" in getattr(item, "fixturenames", ()) or isinstance(names.get("torch"), ModuleType):
            item.add_marker("torch")


@contextmanager
def operations() -> Iterator[list[str]]:
    """Collect the names of the operations that torch computes meanwhile, in this thread."""
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: list[str] = []

    class Collect(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "lift_fresh" not in str(function):  # a constant that a library makes when it is imported
                seen.append(str(function))
            return function(*args, **(kwargs or {}))

    with Collect():
        yield seen


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a test that computes with torch unmarked. Where torch is not loaded before the test this is not seen."""
    if item.get_closest_marker("torch") or "torch" not in sys.modules:
        return (yield)
    with operations() as seen:
        result = yield
    if seen:
        pytest.fail(f"it computes with torch ({seen[0]}) without the marker: import torch at the top of its module")
    return result
