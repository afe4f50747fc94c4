"""The README's commands and snippets run as written (on a tiny model; small sizes where the real ones take minutes)."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
from datasets import Dataset
from typer.testing import CliRunner

from tests.pipeline.experiment.test_compare import SMALL
from truthful_rlhf.pipeline.cli import app
from truthful_rlhf.pipeline.models.load import load_model, load_tokenizer

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SIMULATION = ["rounds=[50,100]", "seeds=2", "max_rounds={dawid_skene: 50}", "panels=[honest]"]
SEARCH = ["rounds=50", "search=2", "fresh=4"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[str]:
    """Return the commands of a shell block, one per line, without comments."""
    return [line.split("#")[0].strip() for line in block.replace("\\\n", " ").splitlines()]


COMMANDS = [line for block in blocks("sh") for line in commands(block) if line.startswith(("truthful-rlhf", "make"))]


def small(arguments: list[str], model: Path | str) -> list[str]:
    """Return the arguments with sizes that take seconds."""
    name = arguments[0]
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
    targets = re.findall(r"make (\w+)", "\n".join([*COMMANDS, *re.findall(r"`(make [\w ]+)`", README)]))
    assert {"quickstart", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


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
    ours = [line for line in COMMANDS if line.startswith("truthful-rlhf")]
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
    snippet = next(block for block in blocks("python") if "run_online" in block)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(snippet, {})
    assert printed.getvalue().strip() in README
