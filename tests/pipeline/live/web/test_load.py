"""The benchmark under load, small: what it counts is counted right, and a server that is killed loses nothing."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from benchmarks import live_campaign as load


@pytest.mark.slow
def test_a_server_that_is_killed_under_load_loses_nothing(tmp_path: Path) -> None:
    random.seed(0)
    counts = asyncio.run(load.killed(load.begin(tmp_path / "tea", 200, 8), 2, (0.3, 0.6)))
    found = {name: value for name, value, _ in counts}
    assert found["acknowledged reports"] > 20
    for name, value, goal in counts:
        assert not goal or value == float(goal), name


@pytest.mark.slow
@pytest.mark.parametrize("by_json", [False, True])
def test_the_load_is_one_of_reports_that_arrive(tmp_path: Path, by_json: bool) -> None:
    campaign = load.begin(tmp_path / "tea", 200, 8)
    figures = dict(asyncio.run(load.loaded(campaign, by_json, 40.0, 2.0)))
    assert figures["other answers"] == 0
    assert 0 < figures["reports a second"] * 2.0 <= campaign.state().counts.reports
    assert 0 < figures["report p50, ms"] <= figures["report p95, ms"] <= figures["report p99, ms"]


def test_what_is_lost_doubled_or_made_up_is_counted(tmp_path: Path) -> None:
    """The control: accounts of labelers that the log does not bear out."""
    campaign = load.begin(tmp_path / "tea", 10, 3)
    me = load.labelers_of(campaign, 0, "cookie")[0]
    for key in ("one", "two"):
        task = campaign.next_task(me.name)
        assert task is not None
        campaign.report(me.name, task.pair_id, 0.25, 1.0, key)

    def counted(sent: dict[str, float], acknowledged: set[str]) -> list[float]:
        me.sent, me.acknowledged = sent, acknowledged
        return [value for _, value, goal in load.in_the_log(campaign, [me], 0) if goal]

    assert counted({"one": 0.25, "two": 0.25}, {"one", "two"}) == [0, 0, 0, 0, 1]
    assert counted({"one": 0.25, "two": 0.25, "three": 0.5}, {"one", "two", "three"}) == [1, 0, 0, 0, 1]
    assert counted({"one": 0.75, "two": 0.25}, {"one", "two"}) == [0, 0, 1, 0, 1]
    assert counted({"one": 0.25}, {"one"}) == [0, 0, 0, 1, 1]
