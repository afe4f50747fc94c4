"""A pytest plugin for `tools.mutation`: coverage learns which test runs, and how long each took is written down.

coverage's own ``dynamic_context`` goes by function names, which hypothesis hides.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import coverage
import pytest

DURATIONS = "MUTATION_DURATIONS"
"""The environment variable that names the file for node id -> seconds."""
_durations: dict[str, float] = {}


def pytest_runtest_logstart(nodeid: str) -> None:
    measuring = coverage.Coverage.current()
    if measuring is not None:
        measuring.switch_context(nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _durations[report.nodeid] = _durations.get(report.nodeid, 0.0) + report.duration


def pytest_sessionfinish() -> None:
    Path(os.environ[DURATIONS]).write_text(json.dumps(_durations), encoding="utf-8")
