"""A small made-up annotation file: four people, some experts' verdicts, responses that are good or bad."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

N_PAIRS, N_VERDICTS = 44, 34


def rows(n_pairs: int = N_PAIRS, n_verdicts: int = N_VERDICTS) -> list[dict[str, Any]]:
    """Return one row per report; every third pair is about the prompt of the pair before."""
    rng = np.random.default_rng(0)
    found = []
    for k in range(n_pairs):
        y = int(rng.random() < 0.5)
        texts = [f"a good day {k} and great food", f"a bad day {k} and poor service"]
        a, b = texts if y else texts[::-1]
        for person, skill in (("ann", 0.9), ("bob", 0.8), ("cid", 0.4), ("dot", 0.3)):
            report = y if rng.random() < skill else 1 - y
            row = {
                "pair_id": f"p{k}",
                "prompt": f"Visit number {k - k % 3}: how was it?",
                "response_a": a,
                "response_b": b,
                "labeler_id": person,
                "report": report,
            }
            found.append(row | ({"outcome": y} if k < n_verdicts else {}))
    return found


def write(path: Path, content: list[dict[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    return path
