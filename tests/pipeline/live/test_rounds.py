"""The log as rounds: what counts, when, and for whom; labels are those of `label_campaign`, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pipeline.live.campaigns import PEOPLE, a_better, audit_all, judge_all, new_campaign
from tests.pipeline.live.plain import PlainCampaign
from truthful_rlhf.aggregation import label_campaign
from truthful_rlhf.pipeline.live.campaign import Campaign
from truthful_rlhf.pipeline.live.rounds import digest

SETTINGS: list[Any] = [
    {},
    {"options": {"label": "median", "eta": 0.3}, "labels": "online"},
    {"options": {"label": "drawn"}},
    {"per_topic": True, "topics": 3, "labels": "recalibrated"},
    {"labels": "stacked"},
    {"rule": "examined"},
    {"rule": "hedge", "labels": "reweighted"},
    {"rule": "logistic"},
    {"rule": "gold_vote"},
    {"rule": "majority"},
    pytest.param({"rule": "dawid_skene"}, marks=pytest.mark.slow),
]


def plain_of(campaign: Campaign) -> PlainCampaign:
    """Return the plain campaign of what was acknowledged, as the log has it."""
    plain = PlainCampaign(campaign.settings.reports_per_pair, campaign.settings.max_labelers)
    plain.labelers = [person.id for person in campaign.people() if person.role == "labeler"]
    with campaign.store.reading() as connection:
        events = campaign.store.events_after(connection, 0)
        for row in campaign.store.pairs(connection, 0, 10**6):
            plain.add(row.pair_id)
            if row.known is not None:
                plain.known[row.pair_id] = row.known
    for event in events:
        if event.kind == "report":
            plain.report(str(event.person), str(event.pair_id), event.data["report"])
        elif event.kind == "outcome":
            plain.outcome(str(event.pair_id), event.data["outcome"])
    return plain


@pytest.mark.parametrize("given", SETTINGS, ids=str)
def test_labels_are_those_of_label_campaign(tmp_path: Path, given: dict[str, object]) -> None:
    campaign = new_campaign(tmp_path / "c", 32, known={"p3": 1.0, "p7": 0.0}, **given)  # type: ignore[arg-type]
    for step in range(4):
        judge_all(campaign, PEOPLE, most=16, seed=step)
        audit_all(campaign, step)
    plain_of(campaign).check(campaign)
    result = campaign.state().result
    assert result is not None
    again = Campaign.open(tmp_path / "c").state().result
    assert digest(again) == digest(result)
    if given.get("rule") not in ("majority", "dawid_skene"):
        assert np.ptp(result.weights) > 0  # outcomes were used


def said(campaign: Campaign, name: str, pair: str, report: float) -> None:
    task = campaign.next_task(name)
    assert task is not None
    assert task.pair_id == pair
    assert campaign.report(name, pair, a_better(campaign, name, pair, report), 1.0, f"{pair}").accepted


class TestOutcomes:
    """One pair, three reports of 0.875, 0.25 and 0.5, and an outcome of A that comes at different times."""

    def of_one_pair(self, tmp_path: Path, after: int, n_pairs: int = 1) -> Campaign:
        campaign = new_campaign(tmp_path / str(after), n_pairs, audit_rate=1.0)
        for k, (name, report) in enumerate((("ann", 0.875), ("bob", 0.25), ("cem", 0.5))):
            if k == after:
                self.answer(campaign)
            said(campaign, name, "p0", report)
        if after == 3:
            self.answer(campaign)
        return campaign

    def answer(self, campaign: Campaign) -> None:
        assert campaign.outcome("expert", "p0", campaign.secrets.a_is_left("expert", "p0"), "o").accepted

    def test_reports_after_the_outcome_do_not_count_but_close_the_pair(self, tmp_path: Path) -> None:
        for after, counted in ((3, [0.875, 0.25, 0.5]), (1, [0.875]), (0, [])):
            state = self.of_one_pair(tmp_path, after).state()
            assert state.counts.closed == 1
            assert state.rounds.report.tolist() == counted
            assert state.rounds.outcome.tolist() == [1.0]
            assert state.counts.reports == 3

    def test_an_outcome_waits_for_its_pair_to_close(self, tmp_path: Path) -> None:
        campaign = new_campaign(tmp_path / "c", 1, audit_rate=1.0)
        said(campaign, "ann", "p0", 0.875)
        said(campaign, "bob", "p0", 0.25)
        self.answer(campaign)
        assert np.isnan(campaign.state().rounds.outcome).all()
        assert campaign.state().weights["ann"] == campaign.state().weights["bob"]
        said(campaign, "cem", "p0", 0.5)
        assert campaign.state().rounds.outcome.tolist() == [1.0]
        assert campaign.state().weights["ann"] > campaign.state().weights["cem"] > campaign.state().weights["bob"]

    def test_whoever_reports_after_the_outcome_earns_nothing_by_it(self, tmp_path: Path) -> None:
        campaign = new_campaign(tmp_path / "c", 1, audit_rate=1.0)
        said(campaign, "ann", "p0", 0.875)
        said(campaign, "bob", "p0", 0.25)
        self.answer(campaign)
        back = campaign.undo("bob")  # bob has heard of it
        assert back is not None
        assert campaign.report("bob", "p0", a_better(campaign, "bob", "p0", 1.0), 1.0, "again").accepted
        said(campaign, "cem", "p0", 1.0)
        assert campaign.state().rounds.report.tolist() == [0.875, 0.25]

    def test_a_late_outcome_moves_only_what_comes_later(self, tmp_path: Path) -> None:
        campaign = new_campaign(tmp_path / "c", 12, audit_rate=1.0, labels="online")
        judge_all(campaign, PEOPLE, most=26)
        before = campaign.state()
        assert before.result is not None
        pair = before.rounds.pair_ids[0]
        said_left = campaign.secrets.a_is_left("expert", pair)
        assert campaign.outcome("expert", pair, said_left, "o").accepted
        state = campaign.state()
        closed = state.counts.closed
        assert state.result is not None
        assert state.live.outcome_after[0] == closed
        assert 1 < closed < 12
        assert state.result.stated[:closed].tolist() == before.result.stated[:closed].tolist()
        assert state.result.stated[closed:].tolist() != before.result.stated[closed:].tolist()

    def test_an_expert_who_cannot_tell_changes_nothing(self, tmp_path: Path) -> None:
        campaign = new_campaign(tmp_path / "c", 1, audit_rate=1.0)
        said(campaign, "ann", "p0", 0.875)
        assert campaign.outcome("expert", "p0", None, "o").accepted
        said(campaign, "bob", "p0", 0.25)
        said(campaign, "cem", "p0", 0.5)
        assert campaign.state().rounds.report.tolist() == [0.875, 0.25, 0.5]
        assert np.isnan(campaign.state().rounds.outcome).all()
        assert campaign.state().counts.waiting == 0

    def test_known_outcomes_exclude_nobody(self, tmp_path: Path) -> None:
        campaign = new_campaign(tmp_path / "c", known={f"p{k}": float(k % 2) for k in range(12)}, audit_rate=1.0)
        judge_all(campaign, PEOPLE)
        state = campaign.state()
        assert len(state.rounds.report) == 36
        assert not np.isnan(state.rounds.outcome).any()
        assert (state.live.outcome_after == np.arange(1, 13)).all()
        assert (state.counts.audited, state.counts.waiting) == (0, 0)


def test_who_joins_later_changes_no_earlier_label(tmp_path: Path) -> None:
    campaign = new_campaign(tmp_path / "c", 40, ["ann", "bob", "cem"], labels="online")
    judge_all(campaign, ["ann", "bob", "cem"], most=60)
    audit_all(campaign)
    before, closed = campaign.state().result, campaign.state().counts.closed
    assert before is not None
    assert closed > 10
    campaign.invite(["dee", "eve"])
    at_once = campaign.state().result
    assert at_once is not None
    assert at_once.soft_labels.tobytes() == before.soft_labels.tobytes()
    judge_all(campaign, ["ann", "bob", "cem", "dee", "eve"], seed=1)
    audit_all(campaign, 1)
    state = campaign.state()
    assert state.result is not None
    assert state.result.soft_labels[:closed].tobytes() == before.soft_labels[:closed].tobytes()
    assert state.weights["dee"] > 0
    assert abs(sum(state.weights.values()) - 1.0) < 1e-12


def test_it_is_the_schedule_that_keeps_earlier_labels(tmp_path: Path) -> None:
    """The negative control: with a column per labeler who is there, another labeler changes earlier labels."""
    campaign = new_campaign(tmp_path / "c", 40, ["ann", "bob", "cem"], audit_rate=1.0, max_labelers=60)
    judge_all(campaign, ["ann", "bob", "cem"])
    audit_all(campaign)
    rounds = campaign.state().rounds
    reports = rounds.matrix()
    wider = np.column_stack([reports, np.full((40, 57), np.nan)])
    stated = [label_campaign(matrix, rounds.outcome).stated for matrix in (reports, wider)]
    assert (stated[0] != stated[1]).any()


def test_weights_over_time_are_shares_of_those_who_joined(tmp_path: Path) -> None:
    campaign = new_campaign(tmp_path / "c", 30, audit_rate=1.0)
    judge_all(campaign, PEOPLE)
    audit_all(campaign)
    result = campaign.state().result
    assert result is not None
    assert result.history.shape == (31, 4)
    assert np.allclose(result.history.sum(axis=1), 1.0, atol=1e-12)
    assert result.history[0].tolist() == [0.25] * 4
    assert abs(result.payouts.sum()) < 1e-12  # they only change hands


def test_a_state_is_computed_once_per_change(tmp_path: Path) -> None:
    campaign = new_campaign(tmp_path / "c")
    judge_all(campaign, PEOPLE, most=5)
    state = campaign.state()
    assert campaign.next_task("dee") is not None  # handing out a pair changes no label
    assert campaign.state() is state
    judge_all(campaign, PEOPLE, most=1, seed=1)
    assert campaign.state() is not state
