"""The direction of dependence (design, section 3), and that ``import truthful_rlhf.aggregation`` is light."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
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
    """Return the top-level packages (ours without the prefix) that a module imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
    return {name.removeprefix("truthful_rlhf.").split(".")[0] for name in names}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_direction_of_dependence(package: str) -> None:
    modules = sorted((ROOT / package).rglob("*.py"))
    assert modules
    for module in modules:
        assert not imported_by(module.read_text()) & FORBIDDEN[package], module.relative_to(ROOT)


def modules_imported_by(source: str, known: set[str]) -> set[str]:
    """Return which of the known modules a module imports when it runs, also inside functions (not for types alone)."""
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= whole & known or {node.module}
        waiting.extend(ast.iter_child_nodes(node))
    return names & known


def import_graph() -> dict[str, set[str]]:
    """Return module -> the project's modules that it imports."""
    files = {
        "truthful_rlhf." + ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in ("aggregation", "labelers", "reward_model", "pipeline")
        for path in (ROOT / package).rglob("*.py")
    }
    return {name: modules_imported_by(path.read_text(), set(files)) - {name} for name, path in files.items()}


def test_no_module_imports_itself_through_others() -> None:
    graph = import_graph()
    assert len(graph) > 100
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert (
        order.index("truthful_rlhf.aggregation.base")
        < order.index("truthful_rlhf.pipeline.labels.apply")
        < order.index("truthful_rlhf.pipeline.reports.page")
    )


def test_contributing_draws_the_imports_as_they_are() -> None:
    drawn = re.findall(r"^\| `(\w+)` \| (.*?) \|", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), flags=re.MULTILINE)
    imports: dict[str, set[str]] = {name: set() for name, _ in drawn}
    for module, others in import_graph().items():
        package = module.split(".")[1]
        imports[package] |= {other.split(".")[1] for other in others} - {package}
    assert {name: set(re.findall(r"`(\w+)`", cells)) for name, cells in drawn} == imports


def test_the_check_of_cycles_sees_imports_inside_functions() -> None:
    known = {"a", "b", "b.c"}
    assert modules_imported_by("def f():\n    from b import c\n    import a", known) == {"a", "b.c"}
    assert modules_imported_by("if TYPE_CHECKING:\n    import a", known) == set()
    with pytest.raises(CycleError):
        list(TopologicalSorter({"a": {"b"}, "b": {"a"}}).static_order())


def test_every_package_says_what_it_is_for() -> None:
    for init in ROOT.glob("*/**/__init__.py"):
        package = init.parent.relative_to(ROOT)
        if package.parts[0] in (*FORBIDDEN, "pipeline", "benchmarks", "configs"):
            assert ast.get_docstring(ast.parse(init.read_text())), f"{package}/__init__.py has no sentence"


def test_the_check_sees_imports_inside_functions() -> None:
    code = "def f():\n    import torch.nn\n    from truthful_rlhf.pipeline.x import y"
    assert imported_by(code) == {"torch", "pipeline"}


def in_a_fresh_process(code: str) -> dict[str, object]:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded: dict[str, object] = json.loads(result.stdout)
    return loaded


def test_importing_aggregation_loads_nothing_heavy() -> None:
    code = "import sys, json, truthful_rlhf.aggregation; print(json.dumps({m.split('.')[0]: 1 for m in sys.modules}))"
    loaded = in_a_fresh_process(code)
    assert "numpy" in loaded
    assert not HEAVY & set(loaded)


def test_importing_aggregation_costs_well_under_a_second_beside_numpy() -> None:
    """CPU time, the best of three processes, so that a busy machine does not fail it."""
    code = (
        "import time, json, numpy; start = time.process_time(); import truthful_rlhf.aggregation;"
        "print(json.dumps({'seconds': time.process_time() - start}))"
    )
    seconds = min(float(str(in_a_fresh_process(code)["seconds"])) for _ in range(3))
    assert seconds < 0.3
