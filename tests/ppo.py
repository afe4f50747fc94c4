"""PPO left TRL after 1.12: tests that run it are skipped, with that reason, where TRL has none."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

_TRL = importlib.util.find_spec("trl")
HAS_PPO = _TRL is not None and any(Path(p, "experimental/ppo").is_dir() for p in _TRL.submodule_search_locations or [])
needs_ppo = pytest.mark.skipif(
    not HAS_PPO, reason=f"TRL {importlib.metadata.version('trl') if _TRL else '(not installed)'} has no PPO"
)


def marked(cases: Iterable[Any]) -> list[Any]:
    """Return parameters of a test, those whose name ends in ``ppo`` marked as needing it."""
    return [pytest.param(c, marks=needs_ppo) if getattr(c, "stem", str(c)).endswith("ppo") else c for c in cases]
