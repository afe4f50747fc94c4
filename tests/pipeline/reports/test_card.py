"""``compare --push-to-hub`` and ``run --push-to-hub``: adapters and their card arrive, no path of this machine does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tests.hub_server import Hub, running_hub
from tests.pipeline.experiment.test_compare import SMALL
from truthful_rlhf.pipeline.cli import app


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub(monkeypatch) as server:
        yield server


@pytest.mark.parametrize("command", ["compare", "run"])
def test_adapters_and_card_arrive(command: str, hub: Hub, tiny_model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    more = ["rules=[mean]"] if command == "compare" else ["--rule", "mean"]
    arguments = [command, "quickstart", f"model.name_or_path={tiny_model_folder}", *SMALL, *more, "--out", str(out)]
    upload = ["--push-to-hub", "my-team/policies", "--license", "apache-2.0"]
    result = CliRunner().invoke(app, [*arguments, *upload])
    assert result.exit_code == 0, result.output
    files = hub.files["model/my-team/policies"]
    trained = {path.relative_to(out).as_posix(): path for path in out.rglob("adapter_model.safetensors")}
    assert len(trained) == (2 if command == "compare" else 1)
    for name, path in trained.items():
        assert files[name] == path.read_bytes()
        config = json.loads(files[name.replace("adapter_model.safetensors", "adapter_config.json")])
        assert config["base_model_name_or_path"] == tiny_model_folder.name
    assert len(files) == 2 * len(trained) + 1
    _, front, body = files["README.md"].decode().split("---\n", 2)
    fields = yaml.safe_load(front)
    assert fields["license"] == "apache-2.0"
    assert {"trl", "preference", "dpo"} <= set(fields["tags"])
    if command == "compare":
        table = (out / "results.md").read_text(encoding="utf-8").strip()
        assert table in body
    assert "truthful-rlhf" in body
    for name in trained:
        assert f"`{name.removesuffix('/adapter_model.safetensors')}`" in body


def test_a_wrong_name_is_refused_before_any_work(hub: Hub, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["compare", "quickstart", "--out", str(tmp_path / "o"), "--push-to-hub", "x"])
    assert result.exit_code == 2
    assert "expected owner/name" in result.output
    assert not (tmp_path / "o").exists()
