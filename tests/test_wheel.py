"""The wheel works outside the checkout: its command finds configs, prompts, personas and templates in the package."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.experiment.test_compare import SMALL

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("aggregation", "labelers", "reward_model", "pipeline")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the wheel of `make wheel` installed by the line that it prints, without dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    # built in a copy: setuptools leaves an egg-info behind, and what lies in dist/ is the reader's
    source = folder / "source"
    for name in ("truthful_rlhf", *PACKAGES, "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
    for name in ("pyproject.toml", "README.md", "LICENSE", "Makefile", "constraints.txt"):
        shutil.copy(ROOT / name, source)
    (source / "build" / "lib" / "truthful_rlhf").mkdir(parents=True)
    (source / "build" / "lib" / "truthful_rlhf" / "stale.py").touch()
    stamp = f"{sys.prefix}/.installed"
    make = ["make", "--silent", "--old-file", stamp, "wheel", f"VENV={sys.prefix}"]
    printed = subprocess.run(make, cwd=source, check=True, capture_output=True, text=True).stdout
    plain, most, everything = (shlex.split(line) for line in printed.strip().splitlines()[-3:])
    assert most == [*plain[:2], f"{plain[2]}[all]"]
    assert everything == [*plain[:2], f"{plain[2]}[all,ppo]"]
    assert plain[:2] == ["pip", "install"]
    options = ["--disable-pip-version-check", "--quiet", "--no-deps", "--target", str(folder / "site")]
    subprocess.run([sys.executable, "-m", *most[:2], *options, most[2]], check=True)
    return folder / "site"


def command(installed: Path, cwd: Path, *arguments: str) -> str:
    """Run the installed command in a folder that is not the checkout and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "COLUMNS": "200"}
    line = [sys.executable, str(installed / "bin/truthful-rlhf"), *arguments]
    result = subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_every_package_comes_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    names = sorted(
        ".".join(("truthful_rlhf", *init.parent.relative_to(ROOT).parts))
        for package in PACKAGES
        for init in (ROOT / package).rglob("__init__.py")
    )
    names.append("truthful_rlhf.pipeline.configs")
    code = f"import importlib as i\nfor n in {names!r}: print(*i.import_module(n).__path__)"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    run = [sys.executable, "-c", code]
    result = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    folders = result.stdout.split()
    assert len(folders) == len(names) > 15
    assert all(folder.startswith(str(installed)) for folder in folders), folders


def test_an_old_build_does_not_get_into_the_wheel(installed: Path) -> None:
    assert (installed / "truthful_rlhf" / "pipeline" / "cli.py").exists()
    assert not (installed / "truthful_rlhf" / "stale.py").exists()


def test_every_config_of_the_checkout_travels_and_is_valid(installed: Path, tmp_path: Path) -> None:
    for config in sorted((ROOT / "configs").glob("*.yaml")):
        assert (installed / "truthful_rlhf/pipeline/configs" / config.name).read_bytes() == config.read_bytes()
    command(installed, tmp_path, "validate", "quickstart")


def test_the_pages_of_a_campaign_travel_with_their_files(installed: Path) -> None:
    here = ROOT / "pipeline/templates"
    files = [path.relative_to(here) for path in here.rglob("*") if path.is_file()]
    assert {"live.css", "live.js", "labeler.html"} <= {path.name for path in files}
    for path in files:
        assert (installed / "truthful_rlhf/pipeline/templates" / path).read_bytes() == (here / path).read_bytes()


@pytest.mark.slow
def test_the_main_job_runs_from_the_wheel(installed: Path, tmp_path: Path, tiny_model_folder: Path) -> None:
    model = f"model.name_or_path={tiny_model_folder}"
    command(installed, tmp_path, "compare", "quickstart", "--out", "out", model, *SMALL)
    assert "online_weighted" in (tmp_path / "out/results.md").read_text(encoding="utf-8")
    assert (tmp_path / "out/report.html").stat().st_size > 10_000


BESIDE = """
import pipeline, aggregation, labelers.mine
assert pipeline.MINE == aggregation.MINE == labelers.mine.MINE == "the user's"
import truthful_rlhf, sys
assert not {"torch", "pandas", "numba", "pipeline.storage"} & set(sys.modules), "import truthful_rlhf is light"
from truthful_rlhf import OnlineWeighted, aggregate_table, label_campaign, run_online
from truthful_rlhf.labelers import Panel
rows = [{"pair_id": "p", "labeler_id": name, "report": r, "outcome": 1} for name, r in (("ann", 0.9), ("bob", 0.4))]
assert list(aggregate_table(rows).weights["labeler_id"]) == ["ann", "bob"]
assert run_online(OnlineWeighted(2, eta=0.5), [[0.9, 0.2]], [1]).soft_labels.round(2).tolist() == [0.55]
assert label_campaign([[0.9, 0.2]], [1], rule="mean").stated.round(2).tolist() == [0.55]
import truthful_rlhf.pipeline.cli
print(truthful_rlhf.__file__)
"""


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """Return a user's folder that has modules of its own called as our folders are."""
    (tmp_path / "labelers").mkdir()
    for name in ("pipeline.py", "aggregation.py", "labelers/__init__.py", "labelers/mine.py", "reward_model.py"):
        (tmp_path / name).write_text('MINE = "the user\'s"\n')
    (tmp_path / "script.py").write_text(BESIDE)
    return tmp_path


def test_a_script_beside_modules_of_our_folders_names_runs_from_the_wheel(installed: Path, beside: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f".{os.pathsep}{installed}"}
    result = subprocess.run(
        [sys.executable, "script.py"], cwd=beside, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().startswith(str(installed))
    assert "online_weighted" in command(installed, beside, "aggregate", "--help")


def test_and_from_the_editable_install(beside: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": "."}
    for line in (["script.py"], ["-m", "truthful_rlhf.pipeline.cli", "--help"]):
        result = subprocess.run(
            [sys.executable, *line], cwd=beside, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr


def test_nothing_says_the_old_import_names() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    texts = [ROOT / name for name in listed if name.endswith((".py", ".md", ".yaml", ".toml", ".yml"))]
    old = re.compile(rf"^\s*(?:>>> )?(?:from|import) (?:{'|'.join(PACKAGES)})\b", flags=re.MULTILINE)
    assert old.search("    from pipeline import SoftDPOTrainer")
    assert [
        path for path in texts if path.is_file() and path != Path(__file__) and old.search(path.read_text("utf-8"))
    ] == []
