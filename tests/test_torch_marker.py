"""No test that computes with torch is left out of ``make test-avx2``, and that target changes what torch does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

from tests.torch_marker import operations

ROOT = Path(__file__).resolve().parents[1]

FILES = {
    "test_marked.py": "import torch\n\ndef test_it():\n    assert torch.ones(2).sum() == 2\n",
    "test_hidden.py": (
        "import sys\n\ndef test_computes():\n    assert sys.modules['torch'].ones(2).sum() == 2\n"
        "\ndef test_does_not():\n    assert sys.modules['torch'].__version__\n"
    ),
}


def pytest_on(folder: Path, *options: str) -> str:
    """Run pytest with the marker on some files and return what it prints."""
    command = [sys.executable, "-m", "pytest", "-p", "tests.torch_marker", "-p", "no:cacheprovider", "-q", *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, str(folder)], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    return done.stdout


def test_a_test_that_computes_unmarked_fails_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = torch\n")
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    everything = pytest_on(tmp_path, "-rA")
    assert "FAILED test_hidden.py::test_computes" in everything
    assert "import torch at the top of its module" in everything
    assert "1 failed, 2 passed" in everything, "the control: the marked one, and one that does not compute"
    assert "1 passed, 2 deselected" in pytest_on(tmp_path, "-m", "torch")


def test_operations_are_seen_and_loading_torch_is_none() -> None:
    with operations() as seen:
        torch.ones(2) + 1
    assert any("add" in name for name in seen)
    with operations() as seen:
        assert torch.__version__
    assert seen == []


def test_the_target_runs_them_under_other_instructions() -> None:
    rule = (ROOT / "Makefile").read_text(encoding="utf-8").split("\ntest-avx2: ")[1].split("\n\n")[0]
    assert "ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2" in rule
    assert "pytest -n 2 -m torch" in rule
    both = "ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 make test-newest"
    assert both in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def capability(**environment: str) -> str:
    """Return which instructions torch chooses in a process with these variables."""
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    own = {name: value for name, value in os.environ.items() if name != "ATEN_CPU_CAPABILITY"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=own | environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_setting_reaches_torch() -> None:
    own = capability()
    assert capability(ATEN_CPU_CAPABILITY="default") == "DEFAULT"
    if own in ("AVX2", "AVX512"):
        assert capability(ATEN_CPU_CAPABILITY="avx2") == "AVX2"
