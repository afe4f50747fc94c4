"""Random numbers: every part of a run has a generator of its own."""

from __future__ import annotations

import zlib

import numpy as np


def part_rng(seed: int, part: str) -> np.random.Generator:
    """Return the generator of one named part of a run, independent of all other parts and seeds."""
    return np.random.default_rng([seed, zlib.crc32(part.encode())])
