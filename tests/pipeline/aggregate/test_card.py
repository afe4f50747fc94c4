"""``aggregate --push-to-hub``: what arrives at the Hub, and what is said where it cannot."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner, Result

from tests.hub_server import Hub, running_hub
from truthful_rlhf.pipeline.cli import app

FILE = str(Path(__file__).parents[3] / "examples/annotations.csv")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub(monkeypatch) as server:
        yield server


def aggregate(out: Path, *more: str) -> Result:
    names = ("--column", "labeler_id=annotator", "--gold-column", "expert_says")
    return CliRunner().invoke(app, ["aggregate", FILE, *names, "--out", str(out), *more], env={"COLUMNS": "300"})


def test_tables_and_card_arrive_in_a_private_repository(hub: Hub, tmp_path: Path) -> None:
    result = aggregate(tmp_path, "--resample", "3", "--push-to-hub", "my-team/votes", "--license", "cc-by-4.0")
    assert result.exit_code == 0, result.output
    assert "Uploaded: http://127.0.0.1" in result.output
    made = hub.repositories["dataset/my-team/votes"]
    assert made.get("visibility") == "private" or made["private"]  # huggingface_hub 2 or 1
    assert hub.tokens == {"Bearer a-token-of-the-tests"}
    files = hub.files["dataset/my-team/votes"]
    tables = {name for name in files if name.endswith(".parquet")}
    assert tables == {path.name for path in tmp_path.glob("*.parquet")} - {"weights.parquet"}
    for name in tables:
        assert files[name] == (tmp_path / name).read_bytes()
    data = pd.read_parquet(io.BytesIO(files["trl_preference.parquet"]))
    assert list(data) == ["prompt", "chosen", "rejected", "soft_label"]


def test_the_card_says_rule_audits_labelers_command_and_licence(hub: Hub, tmp_path: Path) -> None:
    assert aggregate(tmp_path, "--push-to-hub", "my-team/votes", "--license", "mit").exit_code == 0
    _, front, body = hub.files["dataset/my-team/votes"]["README.md"].decode().split("---\n", 2)
    fields = yaml.safe_load(front)
    assert fields["license"] == "mit"
    assert {"preference", "trl"} <= set(fields["tags"])
    subsets = {subset["config_name"]: subset["data_files"] for subset in fields["configs"]}
    assert subsets["default"] == "trl_preference.parquet"
    assert set(subsets.values()) == set(hub.files["dataset/my-team/votes"]) - {"README.md"}
    annotations = pd.read_csv(FILE)
    for labeler in annotations["annotator"].unique():
        assert f"| {labeler} |" in body
    audited = annotations.groupby("pair_id")["expert_says"].first().notna().sum()
    for text in ("Rule online_weighted", f"{audited} audited pairs", "truthful-rlhf", 'load_dataset("my-team/votes"'):
        assert text in body


@pytest.mark.parametrize("name", ["votes", "a/b/c", "https://host/x", "../x"])
def test_a_wrong_name_is_refused_before_any_work(hub: Hub, tmp_path: Path, name: str) -> None:
    result = aggregate(tmp_path / "out", "--push-to-hub", name)
    assert result.exit_code == 2
    assert "expected owner/name" in result.output
    assert not (tmp_path / "out").exists()


def test_without_a_login_it_says_what_to_type(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    result = aggregate(tmp_path / "out", "--push-to-hub", "my-team/votes")
    assert result.exit_code == 2
    assert "hf auth login" in result.output


def test_a_refusal_of_the_hub_is_one_line_and_everything_is_on_disk(hub: Hub, tmp_path: Path) -> None:
    hub.refuses = True
    result = aggregate(tmp_path, "--push-to-hub", "my-team/votes")
    assert result.exit_code == 2
    assert "cannot upload to my-team/votes on the Hub" in result.output
    assert (tmp_path / "trl_preference.parquet").is_file()
    assert not hub.files
