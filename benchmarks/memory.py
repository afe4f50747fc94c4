"""A hundred million reports in bounded memory: peak resident size of a fresh process that runs them in chunks."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

ABOUT = "peak memory of 1e6, 1e7 and 1e8 reports in chunks (about 20 seconds)"

# Not resource.getrusage: its ru_maxrss starts at the size of the process that spawned this one.
_JOB = """
import sys
import numpy as np
from truthful_rlhf.aggregation import OnlineWeighted, run_online
n_rounds, n_labelers, size = int(sys.argv[1]), 100, 10_000
def chunks():
    rng = np.random.default_rng(0)
    for first in range(0, n_rounds, size):
        yield rng.random((size, n_labelers)), (rng.random(size) < 0.5).astype(float)
rule = OnlineWeighted(n_labelers)
for reports, outcomes in chunks():
    assert len(run_online(rule, reports, outcomes, keep_weights=False).soft_labels) == size
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        print(int(line.split()[1]) / 1024)
"""


def run() -> pd.DataFrame | None:
    """Return peak memory and time by number of reports; None where the system does not tell the peak."""
    if not Path("/proc/self/status").exists():
        print("  skipped: peak memory is read from /proc/self/status, which only Linux has")
        return None
    rows = []
    for n_rounds in (10_000, 100_000, 1_000_000):
        start = time.perf_counter()
        result = subprocess.run([sys.executable, "-c", _JOB, str(n_rounds)], capture_output=True, text=True, check=True)
        rows.append(
            {
                "reports": 100 * n_rounds,
                "peak MB": float(result.stdout),
                "whole matrix MB": 100 * n_rounds * 8 / 2**20,
                "seconds (with drawing the reports)": time.perf_counter() - start,
            }
        )
    return pd.DataFrame(rows)
