"""Nothing that a labeler gets depends on whether a pair is audited: not a byte, and no time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import Request
from scipy import stats

from tests.pipeline.live.web.browsing import PEOPLE, Visit, fields_of, small_campaign
from truthful_rlhf.pipeline.live.campaign import Campaign
from truthful_rlhf.pipeline.live.web import labeler
from truthful_rlhf.pipeline.live.web.access import Limiter

N = 80
LEVEL = 1e-3
Exchange = tuple[bool, str, float]
"""Whether the pair is audited, everything that the labeler got, and the seconds that it took."""


def campaign_in_progress(folder: Path) -> Campaign:
    """Return a campaign in which others have reported, and an expert has answered, before ann begins."""
    campaign = small_campaign(folder, N)
    for name in ("bob", "cem"):
        for k in range(N):
            task = campaign.next_task(name)
            assert task is not None
            campaign.report(name, task.pair_id, 0.5 + k % 5 / 10, 3.0, f"key {k}")
    audited = [pair_id for pair_id in (f"p{k}" for k in range(N)) if campaign.secrets.is_audited(pair_id, 0.5)]
    for pair_id in audited[::2]:  # an outcome may be there before the pair has closed
        assert campaign.outcome("expert", pair_id, True, f"key {pair_id}").accepted
    assert N / 4 < len(audited) < 3 * N / 4
    return campaign


def without_the_pair(text: str) -> str:
    """Return a text without what is of the pair (number, alias, sides), of this sending, and of progress."""
    text = re.sub(r"(good|bad) answer", "answer", text)
    text = re.sub(r"(question|answer) \d+", r"\1 N", text)
    text = re.sub(r'"(pair_id|key)":"[^"]*"|name="(pair|key|shown)" value="[^"]*"', r"\1\2", text)
    text = re.sub(r"<span class=.soft.>\d+ (s|min) spent</span>", "", text)
    text = re.sub(r"\d+( of \d+ done)|(<progress[^>]*value=)\"\d+\"", r"\1\2", text)
    return re.sub(r'"done":\d+', "done", text)


def exchanges(campaign: Campaign) -> list[Exchange]:
    """Let ann judge every pair in the browser; return what she got for each, and how long it took."""
    visit = Visit(campaign, "ann")
    found = []
    page = visit.client.get("/label")
    for k in range(N):
        fields = fields_of(page.text)
        audited = campaign.secrets.is_audited(visit.client.app.state.aliases.pair_id(fields["pair"], "ann"), 0.5)
        start = time.perf_counter()
        shown = visit.client.get("/label")
        said = fields | {"right": str(k % 81), "action": "report"}
        answer = visit.client.post("/label", data=said, headers={"X-Page": "1"})
        seconds = time.perf_counter() - start
        page = visit.client.get("/label")
        got = [f"{one.status_code} {one.headers.multi_items()} {one.text}" for one in (shown, answer)]
        lengths = re.sub(r"'content-length', '\d+'", "", " ".join(got))  # of texts that differ by themselves
        found.append((audited, without_the_pair(lengths), seconds))
    assert campaign.state().labelers[0].reports == N
    return found[:-1]  # behind the last pair comes the page that says so


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests ask faster than people do."""
    monkeypatch.setattr(Limiter, "allows", lambda self, sender: True)


def told_apart_by_bytes(found: list[Exchange]) -> bool:
    """Whether what came with audited pairs differs from what came with others; undo's button depends on neither."""
    kinds = [{got.replace(_UNDO, "") for audited, got, _ in found if audited == which} for which in (True, False)]
    return kinds[0] != kinds[1]


_UNDO = '    <button name="action" value="undo">Undo the last answer</button>\n'


def told_apart_by_time(found: list[Exchange]) -> bool:
    """Whether a rank test tells the times of audited pairs from those of others (Mann-Whitney, both directions)."""
    times = [np.array([seconds for audited, _, seconds in found if audited == which]) for which in (True, False)]
    return bool(stats.mannwhitneyu(*times).pvalue < LEVEL)


def leaking(leak: Callable[[Any], Any]) -> Callable[[Request, Any], dict[str, Any]]:
    """Return the labeler's page's texts with a leak for audited pairs in them."""
    honest = labeler.shown_texts

    def shown(request: Request, task: Any) -> dict[str, Any]:
        texts = honest(request, task)
        return leak(texts) if request.app.state.campaign.secrets.is_audited(task.pair_id, 0.5) else texts

    return shown


@pytest.mark.usefixtures("unhurried")
def test_no_byte_and_no_time_tells_audited_pairs_from_others(tmp_path: Path) -> None:
    found = exchanges(campaign_in_progress(tmp_path / "tea"))
    assert not told_apart_by_bytes(found)
    assert not told_apart_by_time(found)


@pytest.mark.usefixtures("unhurried")
def test_control_a_leak_of_one_blank_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labeler, "shown_texts", leaking(lambda texts: texts | {"prompt": texts["prompt"] + " "}))
    assert told_apart_by_bytes(exchanges(campaign_in_progress(tmp_path / "tea")))


@pytest.mark.usefixtures("unhurried")
def test_control_a_leak_of_some_milliseconds_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(texts: dict[str, Any]) -> dict[str, Any]:
        time.sleep(0.02)
        return texts

    monkeypatch.setattr(labeler, "shown_texts", leaking(slow))
    assert told_apart_by_time(exchanges(campaign_in_progress(tmp_path / "tea")))


@pytest.mark.usefixtures("unhurried")
def test_programs_get_the_same_bytes_as_well(tmp_path: Path) -> None:
    campaign = campaign_in_progress(tmp_path / "tea")
    visit = Visit(campaign, "ann")
    visit.client.headers["Authorization"] = f"Bearer {visit.token}"
    kinds: dict[bool, set[str]] = {True: set(), False: set()}
    for k in range(N):
        task = visit.client.post("/api/next")
        said = {"pair_id": task.json()["pair_id"], "left_is_better": 0.3, "key": f"key-number-{k}"}
        receipt = visit.client.post("/api/report", json=said)
        pair_id = visit.client.app.state.aliases.pair_id(said["pair_id"], "ann")
        kinds[campaign.secrets.is_audited(pair_id, 0.5)].add(without_the_pair(task.text + receipt.text))
    assert len(kinds[True] | kinds[False]) == 1


def test_what_others_reported_reaches_nobody(tmp_path: Path) -> None:
    """The same page, whatever the others said and whatever the expert found."""
    pages = set()
    for report, outcome in ((0.0, True), (1.0, False)):
        folder = tmp_path / str(report)
        campaign = small_campaign(folder, 6, reports_per_pair=5, audit_rate=1.0)
        for name in PEOPLE[1:]:
            while (task := campaign.next_task(name)) is not None:
                campaign.report(name, task.pair_id, report, 1.0, f"key {task.pair_id}")
        for k in range(6):
            campaign.outcome("expert", f"p{k}", outcome, f"key {k}")
        page = Visit(campaign, "ann").client.get("/label").text
        pages.add(re.sub(r'name="csrf" value="\w+"', "", without_the_pair(page)).replace(str(report), "tea"))
    assert len(pages) == 1
