"""What no file of the repository may do: cite what readers do not have, claim too much, need one system."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_imports import imported_by

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("aggregation", "labelers", "reward_model", "pipeline", "configs")
NOT_OURS = {"build", "dist", "runs", "site"}
"""Folders that commands write; .gitignore names them."""
READ = {".py", ".md", ".yaml", ".yml", ".toml", ".html", ".css", ""}
"""Endings of sources and documents; Makefile and .ci/run have none."""


def files() -> Iterator[Path]:
    """Yield every source and document of the repository, this file aside: it has to name what it looks for."""
    for top in sorted(ROOT.iterdir()):
        if (top.name.startswith(".") and top.name != ".ci") or top.name in NOT_OURS or top.suffix == ".egg-info":
            continue
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and path.suffix in READ and "__pycache__" not in path.parts and path != Path(__file__):
                yield path


SOURCES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in files()}


def test_the_sources_are_read() -> None:
    assert {".ci/run", "Makefile", "README.md", "pyproject.toml", "pipeline/cli.py", "docs/index.md"} <= set(SOURCES)
    assert len(SOURCES) > 200


# --- citations ------------------------------------------------------------------------------------------------------

WRITTEN = {"audit.md", "growth.md", "mutation.md", "results.md"}
"""Pages that commands write into a run folder."""
PLACEHOLDERS = {"FOLDER/NAME.md"}
SECTION = re.compile(r"\(?\bdesign, section \d|\[checked\]|\[lead\]|\bof the design\b")


def absent_citations(text: str, is_test: bool = False) -> list[str]:
    """Return what a text cites although it is not in the repository.

    Args:
        text: a source or a document.
        is_test: tests may look for third-party data beside the checkout, and say so when they skip.
    """
    pages = {path for path in SOURCES if path.endswith(".md")}
    cited = set(re.findall(r"[\w./-]+\.md\b", text)) - PLACEHOLDERS
    gone = {name for name in cited if not any(f"/{page}".endswith("/" + name.lstrip("./")) for page in pages)}
    beside = re.sub(r"\.\./shared/data\b(?!/)", "", text) if is_test else text
    return sorted(
        {name for name in gone if Path(name).name not in WRITTEN}
        | set(SECTION.findall(text))
        | set(re.findall(r"\.\./shared\b", beside))
    )


def test_nothing_is_cited_that_readers_do_not_have() -> None:
    absent = {path: absent_citations(text, path.startswith("tests/")) for path, text in SOURCES.items()}
    assert {path: cited for path, cited in absent.items() if cited} == {}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Notation (design, section 2): round t", ["(design, section 2"]),
        ("theory.md: truth is exactly best", ["theory.md"]),
        ("as ../shared/theory.md marks [checked].", ["../shared", "../shared/theory.md", "[checked]"]),
        ("on ../shared/data, unaudited pairs", ["../shared"]),
        ("The public names of the design, by package.", ["of the design"]),
        ("see docs/how-to/nowhere.md", ["docs/how-to/nowhere.md"]),
        ("see ../how-to/resume.md, README.md and runs/x/audit.md", []),
    ],
)
def test_control_the_check_sees_each_kind_of_citation(text: str, found: list[str]) -> None:
    assert absent_citations(text) == found


def test_only_tests_may_look_beside_the_checkout() -> None:
    skip = 'pytest.skip("../shared/data is not here")'
    assert absent_citations(skip, is_test=True) == []
    assert absent_citations(skip) == ["../shared"]


# --- sentences ------------------------------------------------------------------------------------------------------

TOO_MUCH = re.compile(r"\bKL (?:is )?(?:known )?exact")
"""Of best-of-n: log n - (n - 1)/n is an upper bound (arXiv 2401.01879)."""
STRAY_QUOTE = re.compile(r'"\s*\n\s*"')


def docstrings(source: str) -> Iterator[str]:
    """Yield every docstring of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def test_no_page_calls_the_kl_of_best_of_n_exact() -> None:
    assert [path for path, text in SOURCES.items() if TOO_MUCH.search(text)] == []
    assert TOO_MUCH.search("responses of the base policy; the KL is exact.")
    assert not TOO_MUCH.search("the exact KL between two next-token distributions")


def test_no_docstring_has_quotes_left_from_joining_its_lines() -> None:
    modules = {path: text for path, text in SOURCES.items() if path.endswith(".py")}
    assert [path for path, text in modules.items() if any(map(STRAY_QUOTE.search, docstrings(text)))] == []
    left_over = 'def f():\n    """intervals are 95 %, ``None`` where "\n    "undefined."""'
    assert any(map(STRAY_QUOTE.search, docstrings(left_over)))


# --- every operating system -----------------------------------------------------------------------------------------

UNIX_ONLY = {"crypt", "curses", "fcntl", "grp", "nis", "ossaudiodev", "posix", "pty", "pwd", "resource", "spwd"}
UNIX_ONLY |= {"readline", "syslog", "termios", "tty"}
"""Modules of the standard library that are not on Windows, by its documentation."""


def test_no_package_imports_what_only_unix_has() -> None:
    """Not in functions either: a command that imports it when it runs dies there all the same."""
    modules = {p: text for p, text in SOURCES.items() if p.endswith(".py") and p.split("/")[0] in PACKAGES}
    assert len(modules) > 100
    assert {path: found for path, text in modules.items() if (found := imported_by(text) & UNIX_ONLY)} == {}


def test_control_the_check_sees_an_import_at_the_top_and_one_in_a_function() -> None:
    assert imported_by("import errno\nimport fcntl\n") & UNIX_ONLY == {"fcntl"}
    assert imported_by("def peak():\n    from resource import getrusage\n") & UNIX_ONLY == {"resource"}
