"""What is public says what it takes; functions and files stay small enough to be read at once."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("aggregation", "labelers", "reward_model", "pipeline", "truthful_rlhf")
MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 50
"""From ``def`` to the last statement, the docstring not counted: what it takes and returns may need room."""
MEDIAN_LINES_OF_A_FILE = 120

IS_HELP = "pipeline/commands/"
"""Here every argument has its help beside it, which ``--help`` prints. A line per option is no length."""
PROTOCOLS = {"run": "aggregation/base.py"}
"""Methods of a protocol, which says what they take, and its file."""
HOOKS = {"compute_loss", "on_log", "on_save", "on_step_end", "on_train_begin", "on_train_end"}
"""Methods that TRL and transformers call; what they take is written there."""


def sources() -> dict[str, str]:
    """Return path -> source of every module of the packages, each once (``truthful_rlhf`` holds links to the rest)."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    own = [
        path
        for path in paths
        if path.relative_to(ROOT).parts[:1] != ("truthful_rlhf",) or len(path.parts) == len(ROOT.parts) + 2
    ]
    return {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in own}


def functions(source: str) -> list[ast.FunctionDef]:
    """Return every function and method, nested ones too."""
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]


def public_functions(node: ast.AST) -> Iterator[ast.FunctionDef]:
    """Yield the functions and methods that a user can call: no leading underscore, not inside another function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef) and child.name.startswith("_"):
            continue
        if isinstance(child, ast.FunctionDef):
            yield child
        else:
            yield from public_functions(child)


def parameters(function: ast.FunctionDef) -> list[str]:
    """Return the names of the parameters beside ``self`` and ``cls``."""
    given = function.args
    optional = [arg for arg in (given.vararg, given.kwarg) if arg is not None]
    names = [arg.arg for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs, *optional)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def without_args(source: str) -> list[str]:
    """Return the public functions of three or more parameters whose docstring lacks one of them under ``Args:``."""
    found = []
    for function in public_functions(ast.parse(source)):
        names = parameters(function)
        told = (ast.get_docstring(function) or "").partition("Args:\n")[2]
        if len(names) >= 3 and not all(f"    {name}: " in told.replace("*", "") for name in names):
            found.append(function.name)
    return found


def length(function: ast.FunctionDef) -> int:
    """Return the number of lines from ``def`` to the end, without the docstring."""
    first, last = function.body[0], function.end_lineno or 0
    docstring = 0 if ast.get_docstring(function) is None else (first.end_lineno or 0) - first.lineno + 1
    return last - function.lineno + 1 - docstring


def test_public_functions_say_what_they_take() -> None:
    new = []
    for path, source in sources().items():
        for name in without_args(source):
            if not path.startswith(IS_HELP) and name not in HOOKS and PROTOCOLS.get(name, path) == path:
                new.append(f"{path}: {name}")
    assert not new, "these functions need Args with shapes and units"


def test_no_function_is_too_long() -> None:
    found = {
        f"{path}: {function.name}"
        for path, source in sources().items()
        for function in functions(source)
        if length(function) - path.startswith(IS_HELP) * len(parameters(function)) > MOST_LINES_OF_A_FUNCTION
    }
    assert not found


def test_files_are_short() -> None:
    lines = {path: source.count("\n") for path, source in sources().items()}
    assert len(lines) > 100
    assert not {path for path, n in lines.items() if n > MOST_LINES_OF_A_FILE}
    assert statistics.median(lines.values()) <= MEDIAN_LINES_OF_A_FILE


TOLD = '    """Do it.\n\n    Args:\n        a: one.\n        b: two.\n        c: three.\n    """\n'


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (f"def f(a, b, c):\n{TOLD}", []),
        (f"def f(a, b, *, c, **d):\n{TOLD}", ["f"]),  # d is not told
        ('def f(a, b, c):\n    """Do it."""', ["f"]),
        ("def f(a, b): ...", []),
        ("class C:\n    def f(self, a, b): ...\n    def g(self, a, b, *c): ...", ["g"]),
        ("class _C:\n    def f(self, a, b, c): ...", []),
        ("def _f(a, b, c): ...\ndef g():\n    def h(a, b, c): ...", []),
    ],
)
def test_the_check_of_args_sees_what_is_missing(source: str, found: list[str]) -> None:
    assert without_args(source) == found


def test_the_measure_of_length_leaves_out_the_docstring_only() -> None:
    source = 'def f(\n    a,\n):\n    """One.\n\n    Two.\n    """\n    return a\n\n\ndef g():\n    return 1'
    assert [length(function) for function in functions(source)] == [4, 2]
