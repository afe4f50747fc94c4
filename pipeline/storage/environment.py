"""What a run was made with: versions, device and commit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from truthful_rlhf.pipeline.storage.artifacts import write_text_atomically


def write_environment(path: Path) -> None:
    """Write the versions, the device and the commit that a run uses, and the commits that it was begun with."""
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
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "commit": commit.stdout.strip() or None,
    }
    content["earlier_commits"] = [earlier for earlier in _commits(path) if earlier != content["commit"]]
    write_text_atomically(path, json.dumps(content, indent=2) + "\n")


def _commits(path: Path) -> list[str]:
    """Return the commits in an environment file, oldest first; none if there is no readable file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [commit for commit in (*content.get("earlier_commits", []), content.get("commit")) if commit]
