"""A log that was tampered with is noticed, and exports say what the log says."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.pipeline.live.campaigns import PEOPLE, audit_all, judge_all, new_campaign
from truthful_rlhf.pipeline.live.campaign import Campaign, CampaignError
from truthful_rlhf.pipeline.live.export import export_campaign
from truthful_rlhf.pipeline.live.verify import verify_campaign


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    campaign = new_campaign(tmp_path / "c", 10, known={"p1": 1.0})
    judge_all(campaign, PEOPLE, most=20)
    audit_all(campaign)
    export_campaign(campaign, tmp_path / "early")
    judge_all(campaign, PEOPLE, seed=1)
    audit_all(campaign, 1)
    return campaign


def tamper(campaign: Campaign, *statements: str) -> tuple[str, ...]:
    """Change the database behind the campaign's back; return what is found by a fresh process."""
    campaign.close()
    connection = sqlite3.connect(campaign.folder / "campaign.sqlite")
    for statement in statements:
        assert connection.execute(statement).rowcount > 0, statement
    connection.commit()
    connection.close()
    return verify_campaign(Campaign.open(campaign.folder), campaign.folder.parent / "early/log.jsonl").problems


A_REPORT = "(SELECT max(id) FROM events WHERE kind = 'report' AND id < 60)"


def test_an_untouched_log_holds(campaign: Campaign, tmp_path: Path) -> None:
    found = verify_campaign(campaign, tmp_path / "early/log.jsonl")
    assert found.holds
    assert found.stated == 2  # by the export, and by the campaign as it is now
    again = verify_campaign(Campaign.open(campaign.folder))
    assert (again.events, again.last_hash) == (found.events, found.last_hash)


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (f"UPDATE events SET data = replace(data, '2.0', '3.0') WHERE id = {A_REPORT}", "was changed"),
        (f"UPDATE events SET person = 'bob' WHERE id = {A_REPORT} AND person <> 'bob'", "was changed"),
        (f"UPDATE events SET at = at + 1 WHERE id = {A_REPORT}", "was changed"),
        (f"DELETE FROM events WHERE id = {A_REPORT}", "is missing"),
        ("UPDATE pairs SET response_a = 'another' WHERE pair_id = 'p3'", "the pairs that it added were changed"),
        ("UPDATE pairs SET known = 0 WHERE pair_id = 'p1'", "the pairs that it added were changed"),
    ],
)
def test_what_was_tampered_with_is_noticed(campaign: Campaign, statement: str, problem: str) -> None:
    assert any(problem in found for found in tamper(campaign, statement))


def test_two_events_that_changed_places_are_noticed(campaign: Campaign) -> None:
    found = tamper(
        campaign,
        "UPDATE events SET id = -1 WHERE id = 20",
        "UPDATE events SET id = 20 WHERE id = 21",
        "UPDATE events SET id = 21 WHERE id = -1",
    )
    assert any("event 20" in problem for problem in found)


def test_a_cut_off_end_shows_beside_an_earlier_export(campaign: Campaign, tmp_path: Path) -> None:
    events = len((tmp_path / "early/log.jsonl").read_text().splitlines())
    found = tamper(campaign, f"DELETE FROM events WHERE id >= {events}")
    assert found == (f"event {events} of {tmp_path / 'early/log.jsonl'} is missing: the end of the log was cut off",)


def test_labels_that_were_stated_otherwise_are_noticed(campaign: Campaign) -> None:
    with campaign._log.writing() as writing:
        writing.append("stated", after=campaign.state().event, sha256="0" * 64)
    found = verify_campaign(Campaign.open(campaign.folder))
    assert any("labels and weights are not those that were stated" in problem for problem in found.problems)


def test_an_export_is_what_aggregate_writes_and_the_log(campaign: Campaign, tmp_path: Path) -> None:
    result, _ = export_campaign(campaign, tmp_path / "out", copies=2)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"soft_labels.parquet", "trl_preference.parquet", "weights.parquet", "labelers.json", "report.html"}
    table = pd.read_parquet(tmp_path / "out/soft_labels.parquet")
    state = campaign.state()
    assert state.result is not None
    assert table["pair_id"].tolist() == state.rounds.pair_ids
    soft = np.where(table["chosen_is_a"], table["soft_label"], 1.0 - table["soft_label"])
    assert np.allclose(soft, state.result.soft_labels, atol=1e-15)
    chosen = table[table["chosen_is_a"]]
    assert (chosen["chosen"] == "first of " + chosen["pair_id"].str.removeprefix("p")).all()
    assert result.weights.tobytes() == state.result.weights.tobytes()
    lines = [json.loads(line) for line in (tmp_path / "out/log.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == list(range(1, len(lines) + 1))
    assert lines[-1]["kind"] == "stated"
    secret = campaign.secrets.label_secret()
    for path in (tmp_path / "out").iterdir():
        content = path.read_bytes()
        assert secret not in content
        assert secret.hex().encode() not in content


def test_nothing_to_export_and_no_copy_of_a_log_are_said(tmp_path: Path) -> None:
    campaign = new_campaign(tmp_path / "c")
    with pytest.raises(CampaignError, match="nobody has reported anything yet"):
        export_campaign(campaign, tmp_path / "out")
    (tmp_path / "wrong.jsonl").write_text('{"prompt": "x"}\n')
    with pytest.raises(CampaignError, match="line 1 is no event"):
        verify_campaign(campaign, tmp_path / "wrong.jsonl")
