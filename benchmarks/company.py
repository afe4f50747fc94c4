"""What a busy neighbour costs a training step, and what the choice of threads saves: `pipeline.storage.threads`.

A policy is trained by DPO on pairs of SmolLM2 responses, as the pipeline does it, alone and beside one process that
keeps a core busy; with torch's own number of threads, and with the number that the command line chooses after a look
at the machine. Each of the four has a process of its own, and all of them follow one another in every round, so that a
slow spell of the machine hits all. The ratios are to torch's own threads alone in the same round. Targets: beside the
neighbour, with our choice, at most 1.8; alone, with our choice, 1 (nothing lost). Run it on a machine that is idle:
what else runs counts as company, also in the rows that say "alone" (the column ``load before`` shows it).
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import training
from truthful_rlhf.pipeline.storage.threads import choose_threads, look_around

ABOUT = "a DPO step alone and beside a busy process, with and without our choice of threads (about 8 minutes)"

N_ROUNDS, N_UPDATES = 3, 5
ALONE, BESIDE = "alone", "beside one busy process"
OWN, CHOSEN = "torch's own", "chosen"
VARIANTS = [(around, threads) for around in (ALONE, BESIDE) for threads in (OWN, CHOSEN)]
TARGETS = {(ALONE, CHOSEN): 1.0, (BESIDE, CHOSEN): 1.8}
_BUSY = """
import os, sys, threading
threading.Thread(target=lambda: os._exit(bool(sys.stdin.read())), daemon=True).start()  # its parent has ended
while True:
    pass
"""
_DECIDED_BY_USER = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS")


def run() -> pd.DataFrame:
    """Return the time of a step in each variant, and its ratio to torch's own threads alone in the same round."""
    with tempfile.TemporaryDirectory() as folder:
        pairs = Path(folder) / "pairs.json"
        training.in_a_process("benchmarks.training", "pairs", str(pairs))
        return ratios([measured(pairs, folder, n, *variant) for n in range(N_ROUNDS) for variant in VARIANTS])


def measured(pairs: Path, folder: str, n_round: int, around: str, threads: str) -> dict[str, Any]:
    """Return what one training process measured, and which variant it was."""
    load = look_around().load
    with busy_process() if around == BESIDE else contextlib.nullcontext():
        result = training.in_a_process("benchmarks.company", threads, str(pairs), folder, without=_DECIDED_BY_USER)
    return {"round": n_round, "around": around, "choice": threads, "load before": load, **result}


def ratios(results: list[dict[str, Any]]) -> pd.DataFrame:
    """Return one row per variant: medians over the rounds, and the ratios within each with their range."""
    table = pd.DataFrame(results)
    alone = table[(table["around"] == ALONE) & (table["choice"] == OWN)].set_index("round")["seconds per step"]
    table["times alone"] = table["seconds per step"] / table["round"].map(alone)
    grouped = table.groupby(["around", "choice"], sort=False)
    rows = grouped[["load before", "threads", "seconds per step", "times alone"]].median()
    rows["lowest"], rows["highest"] = grouped["times alone"].min(), grouped["times alone"].max()
    rows["target"] = [TARGETS.get(variant, float("nan")) for variant in rows.index]
    return rows.reset_index()


@contextlib.contextmanager
def busy_process() -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that does nothing but use one core, and ends when this one does, however that ends."""
    neighbour = subprocess.Popen([sys.executable, "-c", _BUSY], stdin=subprocess.PIPE)
    try:
        yield neighbour
    finally:
        neighbour.kill()
        neighbour.communicate()


def _train(threads: str, pairs: Path, folder: str) -> dict[str, Any]:
    if threads == CHOSEN:
        choose_threads(None, None)
    import torch
    import transformers
    from datasets import Dataset
    from transformers import set_seed

    transformers.logging.set_verbosity_error()
    set_seed(0)
    data = training.with_reference(Dataset.from_dict(json.loads(pairs.read_text(encoding="utf-8"))))
    trainer = training.make_trainer("dpo", training.SHARED, data, folder)
    trainer.args.max_steps = N_UPDATES
    return {"threads": torch.get_num_threads(), "seconds per step": training.seconds_per_update(trainer)}


if __name__ == "__main__":
    choice, pairs_file, scratch = sys.argv[1:]
    print(json.dumps(_train(choice, Path(pairs_file), scratch)))
