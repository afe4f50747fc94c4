"""The same code on a real PostgreSQL: the same labels to the bit, and nothing lost when the server is."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.pipeline.live.campaigns import PEOPLE, audit_all, judge_all, made_up_pairs, new_campaign
from tests.pipeline.live.postgres import Server, running_server, why_not
from tests.pipeline.live.test_against_plain import AgainstPlain
from tests.pipeline.live.test_rounds import plain_of
from tests.pipeline.live.writers import check_nothing_lost, kill_and_start_again
from truthful_rlhf.pipeline.live.campaign import Campaign, CampaignError
from truthful_rlhf.pipeline.live.rounds import digest
from truthful_rlhf.pipeline.live.store import StoreError
from truthful_rlhf.pipeline.live.verify import verify_campaign

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


def test_labels_are_those_of_sqlite_to_the_bit(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = secrets.token_bytes  # the same key, and so the same audits and sides, in both
    monkeypatch.setattr(secrets, "token_bytes", lambda n: b"k" * n if n == 32 else drawn(n))
    found = []
    for name, database in (("sqlite", None), ("postgresql", server.new_database())):
        campaign = new_campaign(tmp_path / name, 20, known={"p2": 1.0}, database=database, options={"label": "drawn"})
        judge_all(campaign, PEOPLE, most=40)
        audit_all(campaign)
        campaign.add_pairs(made_up_pairs(5, first=20))
        campaign.invite(["eve"])
        judge_all(campaign, [*PEOPLE, "eve"], seed=1)
        audit_all(campaign, 1)
        plain_of(campaign).check(campaign)
        campaign.set_down()
        assert verify_campaign(Campaign.open(tmp_path / name)).holds
        found.append(digest(campaign.state().result))
    assert found[0] == found[1]


def test_any_sequence_of_requests(server: Server) -> None:
    class OnPostgres(AgainstPlain):
        def database(self) -> str:
            return server.new_database()

    run_state_machine_as_test(OnPostgres, settings=settings(max_examples=5, stateful_step_count=20, deadline=None))


def test_killed_writers_lose_nothing(tmp_path: Path, server: Server) -> None:
    people = ("ann", "bob", "cem")
    new_campaign(tmp_path / "c", 2000, people, database=server.new_database()).close()
    (tmp_path / "notes").mkdir()
    kill_and_start_again(tmp_path / "c", people, tmp_path / "notes", kills=10)
    campaign = Campaign.open(tmp_path / "c")
    assert check_nothing_lost(campaign, people, tmp_path / "notes") > 20
    plain_of(campaign).check(campaign)
    assert verify_campaign(campaign).holds


def test_a_server_that_dies_loses_nothing_that_was_acknowledged(tmp_path: Path, server: Server) -> None:
    campaign = new_campaign(tmp_path / "c", 20, database=server.new_database())
    judge_all(campaign, PEOPLE, most=10)
    task = campaign.next_task("ann")
    assert task is not None
    server.stop("immediate")
    try:
        for _ in range(2):
            with pytest.raises(StoreError, match="nothing that was acknowledged is lost"):
                campaign.report("ann", task.pair_id, 0.5, 1.0, "k")
            with pytest.raises(StoreError):
                campaign.next_task("bob")
    finally:
        server.start()
    assert campaign.report("ann", task.pair_id, 0.5, 1.0, "k").accepted
    assert campaign.state().counts.reports == 11
    plain_of(campaign).check(campaign)
    assert verify_campaign(Campaign.open(tmp_path / "c")).holds


def test_every_campaign_needs_a_database_of_its_own(tmp_path: Path, server: Server) -> None:
    database = server.new_database()
    new_campaign(tmp_path / "c", database=database)
    with pytest.raises(CampaignError, match=r"has a campaign already; give every campaign a database of its own"):
        new_campaign(tmp_path / "d", database=database)
