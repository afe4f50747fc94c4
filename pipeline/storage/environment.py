"""What a run was made with: versions, device and commit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from truthful_rlhf.pipeline.storage.artifacts import write_text_atomically


def write_environment(path: Path, threads: int) -> None:
    """Write what a run uses, and with which commits and numbers of threads its earlier parts were made.

    Args:
        path: of the JSON file; what it says of earlier parts is kept.
        threads: of torch, in each process that trains.
    """
    import importlib.metadata
    import os
    import platform
    import subprocess

    import torch

    packages = ("truthful-rlhf", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "numpy")
    here = Path(__file__).parent
    commit = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    content: dict[str, Any] = {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": threads,
        "wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "cores": os.cpu_count(),
        "commit": commit.stdout.strip() or None,
    }
    before = _read(path)
    for name, earlier in (("commit", "earlier_commits"), ("threads", "earlier_threads")):
        values = (*before.get(earlier, []), before.get(name))
        content[earlier] = [value for value in values if value not in (None, content[name])]
    write_text_atomically(path, json.dumps(content, indent=2) + "\n")


def recorded_threads(path: Path) -> int | None:
    """Return the number of threads that an environment file names, at least 1; None if there is no readable one."""
    threads = _read(path).get("threads")
    return threads if type(threads) is int and threads > 0 else None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
