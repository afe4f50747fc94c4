"""Every YAML that ships validates, says how to run it, and the small ones run from prompts to report."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from tests.ppo import marked
from truthful_rlhf.pipeline.cli import app
from truthful_rlhf.pipeline.config.experiment import load_config

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
EXPERIMENTS = sorted(path for path in CONFIGS.glob("*.yaml") if "policy" in yaml.safe_load(path.read_text()))
FAST = [path for path in EXPERIMENTS if path.stem.startswith("fast_")]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_it_validates(path: Path) -> None:
    config = load_config(str(path))
    assert config.panels


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_commands_of_its_header_parse(path: Path) -> None:
    header = path.read_text(encoding="utf-8").split("\n\n")[0]
    commands = re.findall(r"^#\s+(truthful-rlhf [^(\n]+)", header, flags=re.MULTILINE)
    assert commands, "the header says no command"
    for line in commands:
        _, name, *arguments = shlex.split(line)
        command = get_command(app).commands[name]  # type: ignore[attr-defined]
        command.make_context(name, arguments)


def test_every_method_has_a_config_and_a_fast_variant() -> None:
    names = {path.stem for path in EXPERIMENTS}
    for method in ("ppo", "rloo", "online_dpo", "best_of_n"):
        assert {method, f"fast_{method}"} <= names
        full, fast = (load_config(str(CONFIGS / f"{name}.yaml")) for name in (method, f"fast_{method}"))
        assert full.policy[0].method == fast.policy[0].method == method
        assert full.panels == fast.panels
        assert full.rules == fast.rules


@pytest.mark.slow
@pytest.mark.parametrize("path", marked(FAST), ids=lambda path: path.stem)
def test_a_fast_variant_runs_to_the_report(path: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    arguments = ["compare", str(path), f"model.name_or_path={tiny_model_folder}", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "results.csv")
    assert table["rule"].tolist() == ["base", "truth", "mean", "online_weighted"]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    figure = {"ppo": "training", "rloo": "training", "online_dpo": "online", "best_of_n": "best_of_n"}
    method = path.stem.removeprefix("fast_")
    assert (
        tmp_path / "figures" / f"{figure[method]}_biased_majority{'' if method == 'best_of_n' else f'_{method}'}.png"
    ).stat().st_size > 5000
    assert ("Reward models on pairs" in page) == (method != "online_dpo")
    assert ("at the end of each iteration" in page) == (method == "online_dpo")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "mine.csv: no such file"),
        ("pair_id,labeler_id,report\np1,ann,0.7\np2,ann,0.2\n", "every pair needs prompt, response_a, response_b"),
    ],
)
def test_validate_reads_the_file_of_pairs(content: str | None, text: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    result = CliRunner().invoke(app, ["validate", "recorded_people", f"pairs.file={file}"])
    assert result.exit_code != 0
    assert text in " ".join(result.output.split())
    texts = "pair_id,prompt,response_a,response_b,labeler_id,report\np1,How?,well,badly,ann,0.7\n"
    file.write_text(texts, encoding="utf-8")
    assert CliRunner().invoke(app, ["validate", "recorded_people", f"pairs.file={file}"]).exit_code == 0
