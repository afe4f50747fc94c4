"""The direction of dependence, and that ``import truthful_rlhf.aggregation`` is light."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import truthful_rlhf

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
    """Return which of the known modules a module imports: at the top, inside functions, and for types alone."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= whole & known or {node.module}
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


BELOW = {"config", "storage"}
ROOMS = {
    "config": set(),
    "storage": set(),
    "models": BELOW,
    "labels": BELOW,
    "training": {"models", *BELOW},
    "experiment": {"training", "labels", "models", *BELOW},
    "reports": {"experiment", "training", "labels", "models", *BELOW},
    "aggregate": {"labels", *BELOW},
    "game": {"labels", *BELOW},
    "judge": {"models", *BELOW},
    "own_data": {"reports", "judge", "experiment", "training", "labels", "models", *BELOW},
    "live": {"aggregate", "labels", *BELOW},
}
"""Which rooms of the pipeline a room may import; ``commands`` may import them all, and nothing imports it."""
MOST_FILES = 16
"""A folder with more modules than this (its ``__init__`` not counted) wants a room of its own for some of them."""


def room_of(module: str) -> str:
    """Return the room of a module of the pipeline; that of the package itself and of ``cli`` is ``pipeline``."""
    parts = module.split(".")
    return parts[2] if (ROOT / "pipeline" / parts[2]).is_dir() else "pipeline"


def rooms_against_the_rule(graph: dict[str, set[str]]) -> list[str]:
    """Return the imports between rooms of the pipeline that ``ROOMS`` does not allow."""
    inside = {name: others for name, others in graph.items() if name.startswith("truthful_rlhf.pipeline.")}
    return [
        f"{name} imports {other}"
        for name, others in inside.items()
        for other in others & set(inside)
        if room_of(name) in ROOMS and room_of(other) not in {room_of(name), *ROOMS[room_of(name)]}
    ]


def test_rooms_import_only_rooms_below_them() -> None:
    rooms = {path.name for path in (ROOT / "pipeline").iterdir() if (path / "__init__.py").exists()}
    assert rooms - {"configs", "commands"} == set(ROOMS)
    assert not rooms_against_the_rule(import_graph())
    list(TopologicalSorter(ROOMS).static_order())  # the rule itself has no circle


def test_the_check_of_rooms_sees_an_import_for_types_alone() -> None:
    known = {"truthful_rlhf.pipeline.storage.tables", "truthful_rlhf.pipeline.experiment.data"}
    source = "if TYPE_CHECKING:\n    from truthful_rlhf.pipeline.experiment.data import build_pairs"
    graph = {name: modules_imported_by(source, known) - {name} for name in known}
    assert rooms_against_the_rule(graph) == [
        "truthful_rlhf.pipeline.storage.tables imports truthful_rlhf.pipeline.experiment.data"
    ]


def test_no_folder_is_a_heap() -> None:
    for package in ("aggregation", "labelers", "reward_model", "pipeline"):
        for init in (ROOT / package).rglob("__init__.py"):
            modules = [path for path in init.parent.glob("*.py") if path != init]
            assert len(modules) <= MOST_FILES, f"{init.parent.relative_to(ROOT)} has {len(modules)} modules"


def test_no_ignore_rule_hides_a_module() -> None:
    modules = [str(path) for path in ROOT.rglob("*.py") if ".venv" not in path.parts]
    ignored = subprocess.run(
        ["git", "check-ignore", "--stdin"],
        input="\n".join(modules),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ignored.stdout.split() == []


def test_contributing_draws_the_imports_as_they_are() -> None:
    drawn = re.findall(r"^\| `(\w+)` \| (.*?) \|", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), flags=re.MULTILINE)
    imports: dict[str, set[str]] = {name: set() for name, _ in drawn}
    for module, others in import_graph().items():
        package = module.split(".")[1]
        imports[package] |= {other.split(".")[1] for other in others} - {package}
    assert {name: set(re.findall(r"`(\w+)`", cells)) for name, cells in drawn} == imports


TREE = re.compile(r"^( *)(\w+)/ {2,}\S", flags=re.MULTILINE)
"""A line of CONTRIBUTING's tree: a folder, then what it is for."""


def folders_drawn(text: str) -> set[str]:
    """Return the folders of a tree whose levels are two spaces apart."""
    above: list[str] = []
    drawn = set()
    for indent, name in TREE.findall(text):
        above = [*above[: len(indent) // 2], name]
        drawn.add("/".join(above))
    return drawn


def test_contributing_draws_every_room_and_no_other() -> None:
    packages = (*FORBIDDEN, "pipeline")
    rooms = {init.parent.relative_to(ROOT).as_posix() for p in packages for init in (ROOT / p).rglob("__init__.py")}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    at_the_top = {line.split("/")[0] for line in tracked.splitlines() if "/" in line and not line.startswith(".")}
    assert folders_drawn((ROOT / "CONTRIBUTING.md").read_text("utf-8")) == rooms - {"pipeline/configs"} | at_the_top


def test_the_check_of_the_tree_reads_levels() -> None:
    assert folders_drawn("a/   one\n  b/  two\n    c/  three\n  d/  four\ne/  five\n") == {
        "a",
        "a/b",
        "a/b/c",
        "a/d",
        "e",
    }


def test_contributing_says_which_room_may_import_which() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    lines = re.findall(rf"^({'|'.join(ROOMS)}) {{2,}}(.+)$", text, flags=re.MULTILINE)
    assert {room: set(re.findall(r"\w+", below)) for room, below in lines} == ROOMS


def test_the_check_of_cycles_sees_imports_inside_functions_and_for_types() -> None:
    known = {"a", "b", "b.c"}
    assert modules_imported_by("def f():\n    from b import c\n    import a", known) == {"a", "b.c"}
    assert modules_imported_by("if TYPE_CHECKING:\n    import a", known) == {"a"}
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


SHORT_ROAD = "import truthful_rlhf as t; found = {name: str(getattr(t, name)) for name in t.__all__}; "


def test_the_short_road_leads_to_every_name_it_lists() -> None:
    found = in_a_fresh_process(f"{SHORT_ROAD}import json; print(json.dumps(found))")
    wanted = {
        "SoftDPOTrainer",
        "SoftRewardTrainer",
        "aggregate_table",
        "label_campaign",
        "run_online",
        "OnlineWeighted",
    }
    assert wanted <= set(found)
    assert set(found) == set(truthful_rlhf._HOME)
    with pytest.raises(AttributeError, match="no attribute 'shortcut'"):
        _ = truthful_rlhf.shortcut


def test_the_short_road_loads_nothing_heavy_before_it_is_taken() -> None:
    loaded = in_a_fresh_process("import sys, json, truthful_rlhf; print(json.dumps(dict.fromkeys(sys.modules)))")
    assert not {"numpy", *HEAVY} & set(loaded)


def test_packages_say_what_they_are_called_elsewhere() -> None:
    """So that a search for the words of a neighbouring field finds the package."""
    for package in (*FORBIDDEN, "pipeline", "truthful_rlhf"):
        docstring = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text("utf-8"))) or ""
        assert "Known elsewhere as: " in docstring, package
