"""A small campaign and its server, and browsers of everybody in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest



from fastapi.testclient import TestClient

from tests.pipeline.live.web.browsing import Visit
from truthful_rlhf.labelers.pairs import Pairs
from truthful_rlhf.pipeline.live.campaign import Campaign
from truthful_rlhf.pipeline.live.settings import CampaignSettings
from truthful_rlhf.pipeline.live.web import create_app
