"""A lost database and a full disk: a clear page, the same form to send again, and nothing acknowledged is lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.pipeline.live.web.browsing import Visit, fields_of, small_campaign
from truthful_rlhf.pipeline.live.campaign import Campaign
from truthful_rlhf.pipeline.live.verify import verify_campaign


@contextmanager
def database_lost(campaign: Campaign) -> Iterator[None]:
    """Let every statement fail, as it does when a database server is gone."""

    def gone(connection: Any) -> None:
        raise sa.exc.OperationalError("BEGIN", {}, ConnectionError("server closed the connection unexpectedly"))

    sa.event.listen(campaign.store.engine, "begin", gone, insert=True)
    try:
        yield
    finally:
        sa.event.remove(campaign.store.engine, "begin", gone)


@contextmanager
def disk_full(campaign: Campaign) -> Iterator[None]:
    """Let SQLite find no more room, by its own means."""

    def no_room(connection: Any) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")  # it stays at what there is

    sa.event.listen(campaign.store.engine, "begin", no_room, insert=True)
    try:
        yield
    finally:
        sa.event.remove(campaign.store.engine, "begin", no_room)
        campaign.store.engine.dispose()


def until_full(visit: Visit) -> tuple[Any, dict[str, str], int]:
    """Answer with a nearly full disk until that is refused; return the refusal, what was sent, and what was saved."""
    page, saved = visit.client.get("/label").text, 0
    while True:
        fields = fields_of(page) | {"right": "0", "action": "report"}
        answer = visit.client.post("/label", data=fields)
        if answer.status_code == 503:
            return answer, fields, saved
        assert "Saved" in answer.text
        page, saved = answer.text, saved + 1


def test_a_lost_database_gives_a_page_with_the_answer_in_it(campaign: Campaign) -> None:
    visit = Visit(campaign, "ann")
    page = visit.client.get("/label").text
    assert "Saved" in visit.label(0, page=page).text
    fields = fields_of(visit.client.get("/label").text) | {"right": "80", "action": "report"}
    with database_lost(campaign):
        lost = visit.client.post("/label", data=fields)
        assert lost.status_code == 503
        assert lost.headers["retry-after"] == "5"
        assert "is not saved" in lost.text.replace("\n", " ")
        assert "Send it again" in lost.text
        for name, value in fields.items():
            assert f'name="{name}" value="{value}"' in lost.text
        shown = visit.client.get("/label")
        assert shown.status_code == 503
        assert "Send it again" not in shown.text
        bearer = {"Authorization": f"Bearer {visit.token}"}
        program = visit.client.post("/api/next", headers=bearer)
        assert program.status_code == 503
        assert "not saved" in program.json()["detail"]
        assert Visit(campaign, None).client.get("/label").status_code == 401, "who has no cookie is nobody anyway"
    assert campaign.state().counts.reports == 1
    again = [visit.client.post("/label", data=fields) for _ in range(2)]
    assert all("Saved" in answer.text for answer in again)
    assert campaign.state().counts.reports == 2
    assert verify_campaign(campaign).holds


def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    visit = Visit(small_campaign(tmp_path / "tea", 200), "ann")
    campaign = visit.campaign
    visit.label(0)
    with disk_full(campaign):
        answer, fields, saved = until_full(visit)
        assert "full" in answer.text
    assert campaign.state().counts.reports == 1 + saved
    assert "Saved" in visit.client.post("/label", data=fields).text
    assert campaign.state().counts.reports == 2 + saved
    assert verify_campaign(campaign).holds
    assert Campaign.open(campaign.folder).state().counts.reports == 2 + saved


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """The same on a file system of one megabyte."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr.decode().strip()}")
    try:
        visit = Visit(small_campaign(small / "tea", 500), "ann")
        campaign = visit.campaign
        (small / "ballast").write_bytes(b"x" * max(0, os.statvfs(small).f_bavail * os.statvfs(small).f_bsize - 65_536))
        answer, fields, saved = until_full(visit)
        assert "full" in answer.text
        (small / "ballast").unlink()
        assert campaign.state().counts.reports == saved
        assert "Saved" in visit.client.post("/label", data=fields).text
        assert verify_campaign(campaign).holds
        campaign.close()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)
