"""Two processes over gloo train as one process with the doubled share: the same losses and the same adapter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.ppo import marked
from tests.precision import LOGGED

ROOT = Path(__file__).resolve().parents[3]

SCRIPT = """
import json, sys
from pathlib import Path
from accelerate import PartialState
from datasets import Dataset
from truthful_rlhf.pipeline.training.dpo import train_dpo
from truthful_rlhf.pipeline.training.reward import train_reward_model
from truthful_rlhf.pipeline.config.training import DPOSettings, RewardModelSettings
from truthful_rlhf.reward_model.soft_labels import SoftLabelCollator
from tests.ppo import marked
from tests.precision import double_precision

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
collate, examples = SoftLabelCollator.__call__, 0

def counting(self, rows):
    global examples
    examples += len(rows)
    return collate(self, rows)

SoftLabelCollator.__call__ = counting
dpo = DPOSettings(batch_size=8, epochs=2, learning_rate=1e-2)
with double_precision():
    train_dpo(model, given, dpo, out / "dpo_given_reference", seed=0)
    train_dpo(model, data, dpo, out / "dpo", seed=0)
    train_reward_model(model, data, RewardModelSettings(batch_size=8, lora_rank=4), out / "reward_model", seed=0)
state = PartialState()
report = {"processes": state.num_processes, "examples": examples}
(out / f"rank-{state.process_index}.json").write_text(json.dumps(report))
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
def test_each_of_the_two_processes_trained_on_its_half(folders: tuple[Path, Path]) -> None:
    one, two = ({path.name: json.loads(path.read_text()) for path in folder.glob("rank-*.json")} for folder in folders)
    whole = one["rank-0.json"]["examples"]
    assert whole >= 3 * 2 * 32
    assert one == {"rank-0.json": {"processes": 1, "examples": whole}}
    assert two == {f"rank-{rank}.json": {"processes": 2, "examples": whole // 2} for rank in (0, 1)}


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["dpo_given_reference", "dpo", "reward_model"])
def test_two_processes_equal_one(stage: str, folders: tuple[Path, Path]) -> None:
    """In float64, where sums in another order differ by 1e-15 or so.

    Losses: two logged ones, and the mean of two processes is rounded once more. Weights: Adam divides a gradient by its
    root mean square + 1e-8, so that where a gradient vanishes its rounding error e becomes a step of 1e-2 * e / 1e-8;
    eight of them stay below 1e-7. In float32 (e about 1e-8) they could be as long as a real step.
    """
    from safetensors.numpy import load_file

    one, two = (losses(folder / stage) for folder in folders)
    assert len(one) == 8
    assert max(one) - min(one) > 1e-3  # it has learnt something, so that equality says something
    np.testing.assert_allclose(two, one, rtol=0, atol=2 * LOGGED)
    first, second = (load_file(next((folder / stage).glob("*.safetensors"))) for folder in folders)
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_allclose(second[key], first[key], rtol=0, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("method", marked(["online_dpo", "ppo", "rloo"]))
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
