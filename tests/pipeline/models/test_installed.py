"""A method or engine that the installed libraries lack is refused at the start, not when its turn comes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from typer.testing import CliRunner

from tests.ppo import needs_ppo
from truthful_rlhf.pipeline.cli import app
from truthful_rlhf.pipeline.config.experiment import load_config
from truthful_rlhf.pipeline.config.training import SamplingSettings
from truthful_rlhf.pipeline.models.installed import TRL_WITH_PPO, check_installed

CONTENT = {
    "prompts": {"n_train": 4, "n_held_out": 4},
    "panels": {"honest": [{"name": "honest", "count": 2, "persona": "noisy"}]},
    "rules": ["mean"],
    "policy": [{"method": "dpo"}, {"method": "ppo"}],
}


@pytest.fixture
def config(tiny_model_folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "methods.yaml"
    path.write_text(yaml.safe_dump(CONTENT | {"model": {"name_or_path": str(tiny_model_folder)}}))
    return path


@pytest.fixture
def trl_without_ppo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a TRL 1.16.0 with experimental trainers, but no PPO, before the one that is installed."""
    site = tmp_path / "site"
    (site / "trl" / "experimental").mkdir(parents=True)
    (site / "trl" / "__init__.py").write_text("")
    (site / "trl" / "experimental" / "__init__.py").write_text("")
    (site / "trl-1.16.0.dist-info").mkdir()
    (site / "trl-1.16.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: trl\nVersion: 1.16.0\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "trl", raising=False)


def answer(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "400"})
    assert result.exit_code == 2, result.output
    return result.output


@pytest.mark.usefixtures("trl_without_ppo")
@pytest.mark.parametrize("command", ["validate", "compare", "run"])
def test_ppo_is_refused_before_any_work_where_trl_has_none(command: str, config: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    more = {"validate": [], "compare": ["--out", str(out)], "run": ["--method", "ppo", "--out", str(out)]}[command]
    output = answer(command, str(config), *more)
    assert "Error: policy ppo: PPO needs TRL >=1.12,<1.13, and 1.16.0 is installed" in output
    assert "pip install 'trl>=1.12,<1.13'" in output
    assert "▶" not in output
    assert not (out / "stages").exists()


@pytest.mark.usefixtures("trl_without_ppo")
def test_the_other_methods_are_not_refused_there(config: Path) -> None:
    check_installed(load_config(str(config)).policy[:1], SamplingSettings())


@needs_ppo
def test_ppo_is_not_refused_where_trl_has_it(config: Path) -> None:
    """The control of the tests above. It needs a TRL of the range that the message names."""
    trl = pytest.importorskip("trl")
    assert trl.__version__ in SpecifierSet(TRL_WITH_PPO)
    from trl.experimental.ppo import PPOTrainer  # noqa: F401 (the claim itself)

    check_installed(load_config(str(config)).policy, SamplingSettings())


def test_vllm_is_refused_by_validate_where_it_is_missing(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    output = answer("validate", str(config), "sampling.engine=vllm", "policy={method: dpo}")
    assert "vLLM is not installed: pip install vllm" in output
