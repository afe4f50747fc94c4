"""The core: the wheel with its own dependencies only runs five commands; what needs an extra says which line to type.

The environment has nothing but the wheel and the closure of its core requirements, linked from the one that runs the
tests: what is not in the closure cannot be imported, as in `pip install` of the wheel alone. Nothing is downloaded.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.test_wheel import installed

ROOT = Path(__file__).resolve().parents[1]
__all__ = ["installed"]
EXTRA_MODULES = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "openai",
    "crowdkit",
    "ray",
    "gguf",
    "sqlalchemy",
)
FILE = [str(ROOT / "examples/annotations.csv"), "--column", "labeler_id=annotator", "--gold-column", "expert_says"]
COMMANDS = {
    "aggregate": ["aggregate", *FILE, "--out", "labels"],
    "audit-plan": ["audit-plan", *FILE, "--budget", "5", "--out", "plan.csv"],
    "simulate": ["simulate", "rounds=[40, 80]", "seeds=2", "panels=[biased_majority]", "--out", "simulated"],
    "audit": ["audit", "rounds=40", "search=2", "fresh=3", "strategies=[scale]", "--out", "audited"],
    "validate": ["validate", "quickstart"],
}


def closure(requirements: list[str]) -> set[str]:
    """Return the names of the distributions that these requirements bring, those that apply here."""
    found: set[str] = set()
    waiting = [Requirement(line) for line in requirements]
    while waiting:
        requirement = waiting.pop()
        name = requirement.name.lower().replace("_", "-")
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        waiting += [Requirement(line) for line in importlib.metadata.requires(name) or []]
    return found


@pytest.fixture(scope="module")
def core(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment with the wheel and its core requirements."""
    folder = tmp_path_factory.mktemp("core")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    site = next((folder / "venv/lib").glob("python*")) / "site-packages"
    for entry in installed.glob("truthful_rlhf*"):
        (site / entry.name).symlink_to(entry)
    wheel = importlib.metadata.Distribution.at(next(installed.glob("truthful_rlhf-*.dist-info")))
    for name in closure(list(wheel.requires or [])):
        distribution = importlib.metadata.distribution(name)
        tops = {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            (site / top).symlink_to(Path(str(distribution.locate_file(top))))
    return folder / "venv/bin/python"


def run(python: Path, installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"COLUMNS": "400"}
    line = [python, installed / "bin/truthful-rlhf", *arguments]
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_the_core_environment_has_none_of_the_extras(core: Path) -> None:
    code = (
        f"import importlib.util as u; print([m for m in {EXTRA_MODULES} if u.find_spec(m)], bool(u.find_spec('numba')))"
    )
    result = subprocess.run([core, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[] True"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_of_the_core_runs_there(core: Path, installed: Path, tmp_path: Path, name: str) -> None:
    result = run(core, installed, tmp_path, *COMMANDS[name])
    assert result.returncode == 0, result.stdout + result.stderr
    written = {
        "aggregate": "labels/trl_preference.parquet",
        "audit-plan": "plan.csv",
        "simulate": "simulated/regret.csv",
        "audit": "audited/gains.csv",
    }
    if name in written:
        assert (tmp_path / written[name]).stat().st_size > 0
    else:
        assert "quickstart is valid: 1 seed(s) x 5 conditions" in result.stdout
        assert "Note: training needs torch, transformers, trl" in result.stdout


MISSING = {
    "training": (["compare", "quickstart", "--out", "out"], "training needs torch", "'torch>=2.8'"),
    "one policy": (["run", "quickstart", "--rule", "mean", "--out", "out"], "training needs torch", "'torch>=2.8'"),
    "a crowd rule": (
        ["aggregate", *FILE, "--rule", "dawid_skene", "--out", "out"],
        "rule dawid_skene needs crowdkit",
        "pip install 'crowd-kit>=1.4'",
    ),
    "a config with one": (
        ["simulate", "simulate_crowd", "--out", "out"],
        "rule dawid_skene needs crowdkit",
        "pip install 'crowd-kit>=1.4'",
    ),
    "an audit of one": (["audit", "rules=[glad]", "--out", "out"], "rule glad needs crowdkit", "'crowd-kit>=1.4'"),
    "a live campaign": (
        ["campaign", "init", "out", "--pairs", "pairs.jsonl", "--labelers", "people.csv"],
        "campaign needs fastapi, uvicorn, sqlalchemy",
        "'sqlalchemy<3,>=2.1'",
    ),
    "the Hub": (["aggregate", "hf://owner/name", "--out", "out"], "hf://owner/name needs", "'huggingface_hub<3,>=1.0'"),
}


@pytest.mark.parametrize("case", MISSING)
def test_what_needs_an_extra_says_in_one_sentence_what_to_type(
    core: Path, installed: Path, tmp_path: Path, case: str
) -> None:
    arguments, reason, line = MISSING[case]
    result = run(core, installed, tmp_path, *arguments)
    assert result.returncode == 2, result.stdout + result.stderr
    (sentence,) = result.stderr.strip().splitlines()
    assert sentence.startswith("Error: ")
    assert reason in sentence
    assert line in sentence
    assert not (tmp_path / "out").exists()


def test_in_python_too(core: Path) -> None:
    code = "from truthful_rlhf import SoftDPOTrainer"
    result = subprocess.run([core, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtraError: SoftDPOTrainer needs torch, transformers, trl" in result.stderr
    assert "pip install 'torch>=2.8'" in result.stderr


LOADED = f"""
import sys
from typer.testing import CliRunner
from truthful_rlhf.pipeline.cli import app
for arguments in {list(COMMANDS.values())[:4]!r}:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
print(sorted(set({EXTRA_MODULES}) & set(sys.modules)))
"""


def test_where_the_extras_are_there_the_commands_import_none_of_them(tmp_path: Path) -> None:
    """``validate`` aside, which looks for the model where it can be loaded."""
    result = subprocess.run(
        [sys.executable, "-c", LOADED],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.stdout.strip().splitlines()[-1] == "[]"
