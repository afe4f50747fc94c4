"""Campaigns and their pages, where the extra ``serve`` is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from truthful_rlhf.aggregation.extras import missing_modules

if missing := missing_modules("serve"):
    pytest.skip(f"the extra serve is not installed: {', '.join(missing)}", allow_module_level=True)

from tests.pipeline.live.web.browsing import small_campaign
from truthful_rlhf.pipeline.live.campaign import Campaign


@pytest.fixture
def campaign(tmp_path: Path) -> Iterator[Campaign]:
    """A campaign of eight pairs."""
    begun = small_campaign(tmp_path / "tea")
    yield begun
    begun.close()
