"""Two million reports from a CSV file to labels and a report, beside pandas and crowd-kit's MajorityVote on the same
file.

The file has 400,000 pairs, 1,000 labelers, five reports a pair, and outcomes on a tenth of the pairs. Each way runs
in a process of its own with one thread, so that seconds of CPU and the peak of memory are its own; on a machine that
does other things too, seconds of CPU say more than seconds. The peer reads the file with pandas, rounds reports to
votes, and writes the majority of each pair; it measures no labeler and draws no report.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

ABOUT = "two million reports to labels and report, beside pandas + crowd-kit (about a minute, 1 GB)"

N_PAIRS, N_LABELERS, PER_PAIR = 400_000, 1_000, 5
_AUDITED = 0.1
_PEER = """
import sys
import pandas as pd
from crowdkit.aggregation import MajorityVote
table = pd.read_csv(sys.argv[1])
table["label"] = (table["report"] > 0.5).astype(int)
table = table.rename(columns={"pair_id": "task", "labeler_id": "worker"})[["task", "worker", "label"]]
MajorityVote().fit_predict(table).to_frame("label").to_parquet(sys.argv[2] + "/labels.parquet")
"""
_ONLY_READING = """
import sys
from truthful_rlhf.labelers.recorded.table import read_annotations
read_annotations(sys.argv[1])
"""


def run(n_pairs: int = N_PAIRS, n_labelers: int = N_LABELERS) -> pd.DataFrame:
    """Return one row per way: seconds, seconds of CPU and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "reports.csv"
        write_reports(file, n_pairs, n_labelers)
        ours = [sys.executable, "-m", "truthful_rlhf.pipeline.cli", "aggregate", str(file), "--out", folder]
        ways = {
            "truthful-rlhf aggregate: labels and report": ours,
            "of this, reading": [sys.executable, "-c", _ONLY_READING, str(file)],
            "pandas + crowd-kit MajorityVote: labels": [sys.executable, "-c", _PEER, str(file), folder],
        }
        size = {"reports": n_pairs * PER_PAIR, "MB of CSV": file.stat().st_size / 1e6}
        return pd.DataFrame([{"way": name, **size, **measured(command)} for name, command in ways.items()])


def write_reports(path: Path, n_pairs: int, n_labelers: int, seed: int = 0) -> None:
    """Write the file: ``pair_id, labeler_id, report, outcome``, the pairs in random order."""
    rng = np.random.default_rng(seed)
    outcome = rng.random(n_pairs) < 0.5
    first = rng.integers(0, n_labelers, (n_pairs, 1))
    step = rng.integers(1, max(2, n_labelers // PER_PAIR), (n_pairs, 1))
    labeler = (first + step * np.arange(PER_PAIR)) % n_labelers  # five different ones
    accuracy = rng.uniform(0.55, 0.95, n_labelers)
    side = np.where(rng.random(labeler.shape) < accuracy[labeler], outcome[:, None], ~outcome[:, None])
    sure = rng.beta(4, 2, labeler.shape) / 2 + 0.5
    table = pd.DataFrame(
        {
            "pair_id": np.repeat([f"pair-{t:06d}" for t in range(n_pairs)], PER_PAIR),
            "labeler_id": [f"labeler-{i:04d}" for i in labeler.ravel().tolist()],
            "report": np.where(side, sure, 1 - sure).round(3).ravel(),
            "outcome": np.repeat(np.where(rng.random(n_pairs) < _AUDITED, outcome, np.nan), PER_PAIR),
        }
    )
    table["outcome"] = table["outcome"].astype("Int64")
    table.to_csv(path, index=False)


def measured(command: list[str]) -> dict[str, float]:
    """Run a command alone with one thread; return seconds, seconds of CPU and peak memory in MB.

    Raises:
        RuntimeError: the command failed.
    """
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    began = time.monotonic()
    process = subprocess.Popen(command, env={**os.environ, **threads}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    return {"seconds": time.monotonic() - began, "CPU seconds": usage.ru_utime + usage.ru_stime, "peak MB": peak}
