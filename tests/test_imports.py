"""The direction of dependence (design, section 3), and that ``import aggregation`` is light."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FORBIDDEN = {
    "aggregation": {"labelers", "reward_model", "pipeline", "torch", "transformers", "trl"},
    "labelers": {"pipeline"},
    "reward_model": {"pipeline"},
}
HEAVY = {"torch", "pandas", "numba", "scipy", "crowdkit", "krippendorff", "pyarrow", "transformers", "matplotlib"}


def imported_by(source: str) -> set[str]:
    """Return the top-level packages that a module imports anywhere, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_direction_of_dependence(package: str) -> None:
    modules = sorted((ROOT / package).rglob("*.py"))
    assert modules
    for module in modules:
        assert not imported_by(module.read_text()) & FORBIDDEN[package], module.relative_to(ROOT)


def test_the_check_sees_imports_inside_functions() -> None:
    assert imported_by("def f():\n    import torch.nn\n    from pipeline.x import y") == {"torch", "pipeline"}


def in_a_fresh_process(code: str) -> dict[str, object]:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded: dict[str, object] = json.loads(result.stdout)
    return loaded


def test_importing_aggregation_loads_nothing_heavy() -> None:
    code = "import sys, json, aggregation; print(json.dumps({m.split('.')[0]: 1 for m in sys.modules}))"
    loaded = in_a_fresh_process(code)
    assert "numpy" in loaded
    assert not HEAVY & set(loaded)


def test_importing_aggregation_costs_well_under_a_second_beside_numpy() -> None:
    """CPU time, the best of three processes, so that a busy machine does not fail it."""
    code = (
        "import time, json, numpy; start = time.process_time(); import aggregation;"
        "print(json.dumps({'seconds': time.process_time() - start}))"
    )
    seconds = min(float(str(in_a_fresh_process(code)["seconds"])) for _ in range(3))
    assert seconds < 0.3
