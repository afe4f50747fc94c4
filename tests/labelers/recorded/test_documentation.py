"""The page on annotation files: every command of a tool's section runs on its fixture, and reads what is in it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from truthful_rlhf.pipeline.commands.aggregate import aggregate
from truthful_rlhf.pipeline.commands.audit_plan import audit_plan

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/how-to/annotations.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if "exports/" in line
]
TOOLS = ("Label Studio", "Argilla", "Prodigy", "Potato", "Mechanical Turk", "crowd-kit", "MT-Bench", "LLM judges")


def test_every_tool_has_a_section_with_a_command() -> None:
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    for tool in TOOLS:
        assert any(section.startswith(tool) and "exports/" in section for section in sections), tool
    assert len(COMMANDS) >= 16


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs_on_its_fixture(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "exports").symlink_to(ROOT / "tests/labelers/recorded/tools")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("truthful_rlhf.pipeline.aggregate.job.write_html", lambda *_: None)
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command("aggregate")(aggregate)
    app.command("audit-plan")(audit_plan)
    arguments = shlex.split(command)[1:]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    labels = pd.read_parquet(Path(arguments[arguments.index("--out") + 1]) / "soft_labels.parquet")
    assert len(labels) >= 1
    assert labels["soft_label"].between(0.5, 1).all()
