"""Go on with a training that was interrupted, from its last checkpoint, to the same result.

A checkpoint is TRL's own: adapter or model (safetensors), optimizer, schedule, random numbers, metrics so far. It
counts once its checksum stands beside it, so that one that was being written when the process died is never read. PPO
cannot go on: TRL's ``PPOTrainer.train`` takes no checkpoint.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback

from truthful_rlhf.pipeline.storage import processes
from truthful_rlhf.pipeline.storage.artifacts import checksum, write_json

SECONDS_BETWEEN = 600.0
"""Trainings that are shorter write no checkpoint."""
_STATE = "trainer_state.json"


class Checkpoints(TrainerCallback):
    """Ask for a checkpoint every ten minutes, vouch for it when it is written, and remove the one before."""

    def __init__(self, folder: Path, updates: int = 1) -> None:
        """Keep checkpoints in a folder, after multiples of a number of updates only."""
        self.folder = folder
        self.updates = updates
        self._last = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for one where it is time; the first process's clock counts."""
        if state.global_step % self.updates == 0 and state.global_step < state.max_steps:
            control.should_save = processes.from_first(time.monotonic() - self._last >= SECONDS_BETWEEN)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the checksum when all processes have written their part."""
        self._last = time.monotonic()
        processes.wait()
        if processes.is_first():
            new = self.folder / f"checkpoint-{state.global_step}"
            write_json(_checksum_file(new), {"sha256": checksum(new)})
            for old in self.folder.glob("checkpoint-*"):
                if old not in (new, _checksum_file(new)):
                    _remove(old)


def last_checkpoint(folder: Path) -> Path | None:
    """Return the latest whole checkpoint in a folder, or None; others are removed."""
    whole: Path | None = None
    if processes.is_first():
        found = sorted((path for path in folder.glob("checkpoint-*") if path.is_dir()), key=_updates_before)
        whole = next((path for path in reversed(found) if _is_whole(path)), None)
        for path in folder.glob("checkpoint-*"):
            if whole is None or path not in (whole, _checksum_file(whole)):
                _remove(path)
    return processes.from_first(whole)


def passes_over_data(checkpoint: Path) -> int:
    """Return how many whole passes over its data a training had behind it."""
    return int(json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))["epoch"])


def train(trainer: Trainer, folder: Path | None, updates: int = 1) -> None:
    """Train to the end, from the last checkpoint where there is one.

    Args:
        trainer: of TRL, the same as the one that wrote the checkpoints.
        folder: of the checkpoints of this very training; None: neither read nor write any.
        updates: checkpoints are written after multiples of so many updates.
    """
    if folder is None:
        trainer.train()
        return
    trainer._get_output_dir = lambda trial: str(folder)  # not args.output_dir: trackers log there
    trainer.add_callback(Checkpoints(folder, updates))
    last = last_checkpoint(folder)
    trainer.train(resume_from_checkpoint=None if last is None else str(last))


def _checksum_file(checkpoint: Path) -> Path:
    return checkpoint.with_name(f"{checkpoint.name}.json")


def _updates_before(checkpoint: Path) -> int:
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def _is_whole(checkpoint: Path) -> bool:
    try:
        noted = json.loads(_checksum_file(checkpoint).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(noted == {"sha256": checksum(checkpoint)})


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
