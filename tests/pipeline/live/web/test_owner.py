"""The owner's page: what it says against what was put in, alarms that sound, metrics, and everything to take away."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.pipeline.live.web.browsing import PEOPLE, Visit, fields_of, small_campaign
from truthful_rlhf.pipeline.live.campaign import Campaign
from truthful_rlhf.pipeline.live.export import export_campaign
from truthful_rlhf.pipeline.live.web.dashboard import Dashboard


def played(folder: Path, n: int, liar: str | None = None, **settings: object) -> Campaign:
    """Return a campaign of people who mostly see what is better; a liar does so on the audited pairs only."""
    campaign = small_campaign(folder, n, **settings)
    rng = np.random.default_rng(0)
    for name in PEOPLE:
        while (task := campaign.next_task(name)) is not None:
            audited = campaign.secrets.is_audited(task.pair_id, campaign.settings.audit_rate)
            right = rng.random() < 0.8 if name != liar else audited
            left = 0.9 if (task.left.startswith("good")) == right else 0.1
            campaign.report(name, task.pair_id, left, 30.0, f"key {task.pair_id}")
    while (task := campaign.next_audit("expert")) is not None:
        campaign.outcome("expert", task.pair_id, task.left.startswith("good"), f"key {task.pair_id}")
    return campaign


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_before_the_first_report(campaign: Campaign) -> None:
    page = text_of(Visit(campaign, "owner").client.get("/owner").text)
    assert "0 of 8 pairs complete" in page
    assert "No pair has been judged yet" in page
    assert "not tested yet" in page
    assert "No pair is complete yet" in page


def test_figures_are_those_of_the_campaign(tmp_path: Path) -> None:
    campaign = played(tmp_path / "tea", 40)
    visit = Visit(campaign, "owner")
    html = visit.client.get("/owner?hourly=36").text
    page = text_of(html)
    counts = campaign.state().counts
    assert f"40 of 40 pairs complete 120 of 120 reports {counts.answered} of {counts.audited} checks answered" in page
    for name, weight in campaign.state().weights.items():
        assert re.search(rf"{name} {weight:.4f} 40 0 30 ", page)
    assert "1.5 minutes of work for a complete pair, which is 0.90 at 36 an hour" in page  # 3 x 30 s
    drawn = set(re.findall(r"/owner/figures/(\w+)\.png", html))
    assert {"weights", "soft_labels", "agreement"} <= drawn
    for name in drawn:
        answer = visit.client.get(f"/owner/figures/{name}.png")
        assert answer.headers["content-type"] == "image/png"
        assert answer.content.startswith(b"\x89PNG")
    assert visit.client.get("/owner/figures/none.png").status_code == 404
    bonuses = [row["bonus"] for row in visit.client.app.state.dashboard.now().labelers]
    assert sum(bonuses) == pytest.approx(0.0, abs=1e-9)
    assert max(bonuses) > 1.0


def test_the_leak_alarm_sounds_for_one_who_knows_the_audits_and_for_nobody_else(tmp_path: Path) -> None:
    leaky = played(tmp_path / "leaky", 150, liar="cem")
    found = Dashboard(leaky).now().leak
    assert found is not None
    assert found.status == "alarm"
    assert "Somebody may know which pairs are checked" in Visit(leaky, "owner").client.get("/owner").text
    honest = Dashboard(played(tmp_path / "honest", 150)).now().leak
    assert honest is not None
    assert honest.status != "alarm"


def test_patterns_are_named(tmp_path: Path) -> None:
    campaign = small_campaign(tmp_path / "tea", 60)
    for name in PEOPLE:
        while (task := campaign.next_task(name)) is not None:
            good_left = task.left.startswith("good")
            value = 0.9 if name == "cem" or good_left else 0.1  # cem always names the left one
            campaign.report(name, task.pair_id, value, 3.0, f"key {task.pair_id}")
    page = text_of(Visit(campaign, "owner").client.get("/owner").text)
    assert re.search(r"cem constant|cem position bias", page)
    assert not re.search(r"(ann|bob) (constant|position bias)", page)


def test_a_board_is_computed_again_only_when_it_is_old_and_something_happened(tmp_path: Path) -> None:
    campaign, now = played(tmp_path / "tea", 5), [0.0]
    board = Dashboard(campaign, lambda: now[0])
    first = board.now()
    now[0] = 100.0
    assert board.now() is first
    campaign.pause("ann", "k")
    now[0] = 105.0
    assert board.now() is first
    now[0] = 1000.0
    assert board.now().event > first.event


def test_pausing_from_the_page(campaign: Campaign) -> None:
    visit = Visit(campaign, "owner")
    html = visit.client.get("/owner").text
    fields = fields_of(html.replace('action="/owner/pause"', 'action="/owner/pause" id="judge"', 1))
    assert fields["labeler"] == "ann"
    for _ in range(2):  # a double click
        assert visit.client.post("/owner/pause", data=fields).status_code == 200
    assert [row.paused for row in campaign.state().labelers] == [True, False, False]
    assert visit.client.post("/owner/pause", data=fields | {"key": "k" * 12, "resume": "true"}).status_code == 200
    assert [row.paused for row in campaign.state().labelers] == [False] * 3
    unknown = visit.client.post("/owner/pause", data=fields | {"key": "k" * 13, "labeler": "nobody"})
    assert unknown.status_code == 409
    assert "nobody" in unknown.text


def test_the_download_is_the_export(tmp_path: Path) -> None:
    campaign = played(tmp_path / "tea", 6)
    answer = Visit(campaign, "owner").client.get("/owner/export.zip")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as zipped:
        zipped.extractall(tmp_path)
    export_campaign(campaign, tmp_path / "direct")
    names = {path.name for path in (tmp_path / "direct").iterdir()}
    assert {"soft_labels.parquet", "trl_preference.parquet", "report.html", "log.jsonl"} <= names
    assert {path.name for path in (tmp_path / "export").iterdir()} == names
    tables = [pd.read_parquet(tmp_path / folder / "soft_labels.parquet") for folder in ("export", "direct")]
    pd.testing.assert_frame_equal(*tables)


def test_there_is_nothing_to_download_before_the_first_report(campaign: Campaign) -> None:
    answer = Visit(campaign, "owner").client.get("/owner/export.zip")
    assert answer.status_code == 409
    assert "nobody has reported anything yet" in answer.text


def test_metrics_count_requests_and_the_campaign(campaign: Campaign) -> None:
    visit = Visit(campaign, "ann")
    visit.label(0)
    token = next(link.token for link in campaign.links if link.person.role == "owner")
    text = visit.client.get("/metrics", headers={"Authorization": f"Bearer {token}"}).text
    assert "campaign_reports 1.0" in text
    assert "campaign_pairs 8.0" in text
    assert 'campaign_requests_total{method="POST",route="/label",status="303"} 1.0' in text
    assert 'campaign_request_seconds_count{route="/label"}' in text
    assert visit.token not in text, "links are never labels"
    assert 'route="/join/{token}"' in text
