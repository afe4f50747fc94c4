"""Nothing that was acknowledged is lost: killed writers, a full disk, answers that never arrived, many at once."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.pipeline.live.campaigns import PEOPLE, judge_all, new_campaign
from tests.pipeline.live.test_rounds import plain_of
from tests.pipeline.live.writers import check_nothing_lost, kill_and_start_again
from truthful_rlhf.pipeline.live.campaign import Campaign, Task
from truthful_rlhf.pipeline.live.store import StoreError
from truthful_rlhf.pipeline.live.verify import verify_campaign


def test_killed_writers_lose_nothing(tmp_path: Path) -> None:
    """Twenty SIGKILLs at random moments; benchmarks/live_campaign.py has more of them, through the server."""
    people = ("ann", "bob", "cem")
    new_campaign(tmp_path / "c", 2000, people).close()
    (tmp_path / "notes").mkdir()
    kill_and_start_again(tmp_path / "c", people, tmp_path / "notes", kills=20)
    campaign = Campaign.open(tmp_path / "c")
    assert check_nothing_lost(campaign, people, tmp_path / "notes") > 100
    plain_of(campaign).check(campaign)
    campaign.set_down()
    found = verify_campaign(campaign)
    assert found.holds, found.problems


def test_the_check_would_notice_a_report_that_is_lost(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    campaign = new_campaign(tmp_path / "c", people=("ann", "bob"))
    task = campaign.next_task("ann")
    assert task is not None
    campaign.report("ann", task.pair_id, 0.5, 1.0, "k")
    notes = tmp_path / "notes/ann"
    notes.write_text(f'["sent", "ann", "{task.pair_id}", 0.5, 1.0, "k"]\n["answered", "k", true]\n')
    assert check_nothing_lost(campaign, ("ann",), tmp_path / "notes") == 1
    whole = notes.read_text()
    notes.write_text(whole + '["answered", "another", true]\n')
    with pytest.raises(AssertionError, match="was acknowledged and is lost"):
        check_nothing_lost(campaign, ("ann",), tmp_path / "notes")
    notes.write_text('["answered", "k", true]\n')
    with pytest.raises(AssertionError, match="was never sent"):
        check_nothing_lost(campaign, ("ann",), tmp_path / "notes")


@contextmanager
def no_more_pages(campaign: Campaign) -> Iterator[None]:
    """Let SQLite have no page more than it has: it then says that the disk is full."""

    def limit(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # never below what is used

    sa.event.listen(campaign.store.engine, "connect", limit)
    campaign.store.engine.dispose()
    yield
    sa.event.remove(campaign.store.engine, "connect", limit)
    campaign.store.engine.dispose()


@contextmanager
def no_larger_files(campaign: Campaign) -> Iterator[None]:
    """Let no file of this process grow beyond what the log's journal has now, as a quota would."""
    journal = campaign.folder / "campaign.sqlite-wal"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.stat().st_size, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("full", [no_more_pages, no_larger_files])
def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path, full: Any) -> None:
    campaign = new_campaign(tmp_path / "c", 300)
    judge_all(campaign, PEOPLE, most=20)
    acknowledged, errors, refused = 20, [], []
    with full(campaign):
        for k in range(400):
            name, request = PEOPLE[k % 4], None
            try:
                if (task := campaign.next_task(name)) is not None:
                    request = (name, task.pair_id, 0.5, 1.0, f"full {k}")
                    acknowledged += campaign.report(*request).accepted
            except StoreError as error:
                errors.append(str(error))
                refused += [request] if request else []
            if len(errors) == 4:  # one of everybody
                break
    assert len(errors) == 4
    assert all("nothing that was acknowledged is lost" in error for error in errors)
    for same in (campaign, Campaign.open(tmp_path / "c")):
        assert same.state().counts.reports == acknowledged
        plain_of(same).check(same)
    for request in refused:  # there is space again
        assert campaign.report(*request).accepted
    assert campaign.state().counts.reports == acknowledged + len(refused)
    assert verify_campaign(campaign).holds


def test_an_answer_that_never_arrived_is_given_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database lets go right after it has written: nobody knows, until the request comes again."""
    campaign = new_campaign(tmp_path / "c")
    task = campaign.next_task("ann")
    assert task is not None
    whole = campaign.store.writing

    @contextmanager
    def broken() -> Iterator[Any]:
        with whole() as connection:
            yield connection
        raise StoreError("the connection is gone")

    monkeypatch.setattr(campaign.store, "writing", broken)
    with pytest.raises(StoreError):
        campaign.report("ann", task.pair_id, 0.5, 1.0, "k")
    monkeypatch.setattr(campaign.store, "writing", whole)
    assert campaign.report("ann", task.pair_id, 0.5, 1.0, "k").accepted
    assert campaign.state().counts.reports == 1
    plain_of(campaign).check(campaign)


def test_many_threads_and_two_processes_worth_of_them(tmp_path: Path) -> None:
    people = [f"l{k}" for k in range(12)]
    first = new_campaign(tmp_path / "c", 24, people, max_labelers=12)
    campaigns = [first, Campaign.open(tmp_path / "c")]
    tasks: list[Task] = []
    errors: list[BaseException] = []

    def work(k: int) -> None:
        try:
            campaign = campaigns[k % 2]
            while (task := campaign.next_task(people[k])) is not None:
                tasks.append(task)
                receipts = {campaign.report(people[k], task.pair_id, 0.5, 1.0, task.pair_id) for _ in range(2)}
                assert receipts == {(True, None)}
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(tasks) == 24 * 3
    for campaign in campaigns:
        assert campaign.state().counts.closed == 24
        plain_of(campaign).check(campaign)
    assert verify_campaign(first).holds
