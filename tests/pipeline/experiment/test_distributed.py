"""Two processes over gloo train as one process with the doubled share: the same losses and the same adapter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]

SCRIPT = """
import sys
from pathlib import Path
from datasets import Dataset
from truthful_rlhf.pipeline.training.dpo import train_dpo
from truthful_rlhf.pipeline.training.reward import train_reward_model
from truthful_rlhf.pipeline.config.training import DPOSettings, RewardModelSettings

model, out = sys.argv[1], Path(sys.argv[2])
words = [" a wonderful surprise", " terrible, slow", " great food", " late again", " happy", " awful soup"]
columns = {
    "prompt": ["The film was"] * 32,
    "chosen": [words[k % 6] for k in range(32)],
    "rejected": [words[(k + 1 + k // 6) % 6] for k in range(32)],
    "soft_label": [0.5 + k / 64 for k in range(32)],
}
data = Dataset.from_dict(columns)
given = Dataset.from_dict(columns | {"ref_chosen_logps": [-20.0] * 32, "ref_rejected_logps": [-22.0] * 32})
dpo = DPOSettings(batch_size=8, epochs=2, learning_rate=1e-2)
train_dpo(model, given, dpo, out / "dpo_given_reference", seed=0)
train_dpo(model, data, dpo, out / "dpo", seed=0)
train_reward_model(model, data, RewardModelSettings(batch_size=8, lora_rank=4), out / "reward_model", seed=0)
"""


def losses(folder: Path) -> list[float]:
    logged = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [entry["loss"] for entry in logged if "loss" in entry]


@pytest.fixture(scope="module")
def folders(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Train everything once in one process, and once in two that ``accelerate launch`` starts."""
    folder = tmp_path_factory.mktemp("distributed")
    script = folder / "train.py"
    script.write_text(SCRIPT)
    two_cpu = ["accelerate.commands.launch", "--config_file", str(ROOT / "configs" / "accelerate" / "two_cpu.yaml")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for name, launcher in (("one", []), ("two", ["-m", *two_cpu, "--main_process_port", "0"])):
        command = [sys.executable, *launcher, str(script), str(tiny_model_folder), str(folder / name)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr[-3000:]
    return folder / "one", folder / "two"


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["dpo_given_reference", "dpo", "reward_model"])
def test_two_processes_equal_one(stage: str, folders: tuple[Path, Path]) -> None:
    from safetensors.numpy import load_file

    one, two = (losses(folder / stage) for folder in folders)
    assert len(one) == 8
    assert max(one) - min(one) > 1e-3  # it has learnt something, so that equality says something
    assert one != two  # the sums were taken in another order: there really were two processes
    np.testing.assert_allclose(two, one, rtol=2e-4)
    first, second = (load_file(next((folder / stage).glob("*.safetensors"))) for folder in folders)
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_allclose(second[key], first[key], atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["online_dpo", "ppo", "rloo"])
def test_the_command_runs_under_accelerate_launch(method: str, tiny_model_folder: Path, tmp_path: Path) -> None:
    """Two processes walk through every stage of the command; the first alone writes tables, report and terminal."""
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(ROOT / "configs/accelerate/two_cpu.yaml")]
    command = ["compare", f"configs/fast_{method}.yaml", "rules=[mean]", f"model.name_or_path={tiny_model_folder}"]
    done = subprocess.run(
        [
            sys.executable,
            *launch,
            "--main_process_port",
            "0",
            "-m",
            "truthful_rlhf.pipeline.cli",
            *command,
            "--out",
            str(tmp_path),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Alignment gaps") == 1
    assert "mean" in (tmp_path / "results.md").read_text()
    assert not list(tmp_path.glob(".scratch-*"))
