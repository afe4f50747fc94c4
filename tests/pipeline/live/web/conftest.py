"""Campaigns and their pages, where the extra ``serve`` is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from truthful_rlhf.aggregation.extras import missing_modules

if TYPE_CHECKING:
    from truthful_rlhf.pipeline.live.campaign import Campaign

collect_ignore_glob = ["test_*.py"] if missing_modules("serve") else []


@pytest.fixture
def campaign(tmp_path: Path) -> Iterator[Campaign]:
    """A campaign of eight pairs."""
    from tests.pipeline.live.web.browsing import small_campaign

    begun = small_campaign(tmp_path / "tea")
    yield begun
    begun.close()
