"""What a labeler, an expert and the owner can do, and what each is told."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.live.campaigns import PEOPLE, a_better, judge_all, made_up_pairs, new_campaign
from truthful_rlhf.pipeline.live import allocation
from truthful_rlhf.pipeline.live.campaign import Campaign, CampaignError, CampaignSettings, Person


def report(campaign: Campaign, name: str, value: float, key: str) -> str:
    """Report on the pair on somebody's screen; return its id."""
    task = campaign.next_task(name)
    assert task is not None
    assert campaign.report(name, task.pair_id, a_better(campaign, name, task.pair_id, value), 1.0, key).accepted
    return task.pair_id


def test_the_same_pair_until_it_is_answered_or_skipped(tmp_path: Path) -> None:
    campaign = new_campaign(tmp_path / "c")
    first = campaign.next_task("ann")
    assert first is not None
    assert campaign.next_task("ann") == first
    assert Campaign.open(tmp_path / "c").next_task("ann") == first
    assert campaign.skip("ann", first.pair_id, "s").accepted
    second = campaign.next_task("ann")
    assert second is not None
    assert second.pair_id != first.pair_id
    assert campaign.skip("ann", first.pair_id, "s").accepted  # the same request once more
    assert campaign.next_task("ann") == second
    assert not campaign.skip("ann", first.pair_id, "t").accepted


def test_sides_are_swapped_per_labeler_and_turned_back(tmp_path: Path) -> None:
    campaign = new_campaign(tmp_path / "c", 40)
    lefts = set()
    for k in range(20):
        task = campaign.next_task("ann")
        assert task is not None
        number = task.pair_id.removeprefix("p")
        a_left = task.left == f"first of {number}"
        assert {task.left, task.right} == {f"first of {number}", f"second of {number}"}
        lefts.add(a_left)
        assert campaign.report("ann", task.pair_id, 0.75, 1.0, f"k{k}").accepted
        assert campaign.state().rounds.pair_ids[-1] == task.pair_id
        assert campaign.state().rounds.report[-1] == (0.75 if a_left else 0.25)
    assert lefts == {True, False}


def test_a_request_that_is_sent_twice_is_written_once(tmp_path: Path) -> None:
    campaign = new_campaign(tmp_path / "c")
    task = campaign.next_task("ann")
    assert task is not None
    receipts = [campaign.report("ann", task.pair_id, 0.9, 1.0, "one key") for _ in range(3)]
    assert receipts == [(True, None)] * 3
    assert campaign.state().counts.reports == 1
    assert campaign.report("ann", task.pair_id, 0.1, 1.0, "another key") == (False, "answered")
    assert campaign.report("ann", task.pair_id, 0.1, 1.0, "another key") == (False, "answered")
    other = campaign.next_task("bob")
    assert other is not None
    assert campaign.report("bob", other.pair_id, 0.5, 1.0, "one key").accepted  # keys are each labeler's own
    assert campaign.state().counts.reports == 2


def test_a_labeler_cannot_choose_its_pairs(tmp_path: Path) -> None:
    campaign = new_campaign(tmp_path / "c")
    task = campaign.next_task("ann")
    assert task is not None
    for pair_id in {f"p{k}" for k in range(12)} - {task.pair_id} | {"no such pair"}:
        assert campaign.report("ann", pair_id, 0.5, 1.0, f"k {pair_id}") == (False, "not yours")
        assert campaign.skip("ann", pair_id, f"s {pair_id}") == (False, "not yours")
    with pytest.raises(CampaignError, match="no labeler called 'owner'"):
        campaign.next_task("owner")


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), True, "0.5"])
def test_a_report_is_a_probability(tmp_path: Path, value: Any) -> None:
    campaign = new_campaign(tmp_path / "c")
    with pytest.raises(CampaignError, match="a report is a probability"):
        campaign.report("ann", "p0", value, 1.0, "k")
    with pytest.raises(CampaignError, match="seconds must be"):
        campaign.report("ann", "p0", 0.5, -1.0, "k")
    with pytest.raises(CampaignError, match="a request needs a key"):
        campaign.report("ann", "p0", 0.5, 1.0, "k" * 201)


class TestUndo:
    """The last report can be taken back while its pair is open and nothing else was answered."""

    def test_a_new_report_replaces_the_old_one(self, tmp_path: Path) -> None:
        campaign = new_campaign(tmp_path / "c")
        pair = report(campaign, "ann", 0.9, "1")
        following = campaign.next_task("ann")
        back = campaign.undo("ann")
        assert back is not None
        assert back.pair_id == pair
        assert campaign.undo("ann") == back
        assert campaign.next_task("ann") == back
        assert campaign.state().rounds.report.tolist() == [0.9]  # it stands until another comes
        report(campaign, "ann", 0.25, "2")
        assert campaign.state().rounds.report.tolist() == [0.25]
        assert campaign.state().counts.reports == 1
        assert campaign.next_task("ann") == following

    def test_skipping_what_was_taken_back_leaves_no_report(self, tmp_path: Path) -> None:
        campaign = new_campaign(tmp_path / "c")
        pair = report(campaign, "ann", 0.9, "1")
        assert campaign.undo("ann") is not None
        assert campaign.skip("ann", pair, "2").accepted
        assert campaign.state().counts.reports == 0
        assert campaign.state().result is None
        assert not campaign.progress("ann").can_undo

    @pytest.mark.parametrize("go_on", ["report", "skip"])
    def test_who_has_gone_on_cannot_take_back(self, tmp_path: Path, go_on: str) -> None:
        campaign = new_campaign(tmp_path / "c")
        first = report(campaign, "ann", 0.9, "1")
        task = campaign.next_task("ann")
        assert task is not None
        assert campaign.progress("ann").can_undo
        if go_on == "skip":
            assert campaign.skip("ann", task.pair_id, "2").accepted
            assert campaign.undo("ann") is None
        else:
            report(campaign, "ann", 0.1, "2")
            back = campaign.undo("ann")
            assert back is not None
            assert back.pair_id == task.pair_id != first

    def test_a_closed_pair_cannot_be_taken_back(self, tmp_path: Path) -> None:
        campaign = new_campaign(tmp_path / "c", 1)
        for name in ("ann", "bob", "cem"):
            report(campaign, name, 0.9, "1")
        assert not campaign.progress("cem").can_undo
        assert campaign.undo("cem") is None
        assert [event.kind for event in events_of(campaign)].count("revision_refused") == 1

    def test_a_pair_that_closes_while_it_is_taken_back_keeps_the_old_report(self, tmp_path: Path) -> None:
        campaign = new_campaign(tmp_path / "c", 1)
        report(campaign, "ann", 0.9, "1")
        report(campaign, "bob", 0.5, "1")
        assert campaign.undo("ann") is not None
        report(campaign, "cem", 0.5, "1")
        assert campaign.report("ann", "p0", 0.1, 1.0, "2") == (False, "closed")
        assert campaign.report("ann", "p0", 0.1, 1.0, "2") == (False, "closed")
        assert 0.9 in campaign.state().rounds.report
        assert campaign.next_task("ann") is None
        assert [event.kind for event in events_of(campaign)].count("revision_refused") == 1


def events_of(campaign: Campaign) -> list[Any]:
    with campaign.store.reading() as connection:
        return campaign.store.events_after(connection, 0)


class TestAllocation:
    """Fewest reports first, everybody with everybody, and nobody for nothing."""

    def test_every_two_labelers_share_pairs(self, tmp_path: Path) -> None:
        people = [f"l{k}" for k in range(8)]
        campaign = new_campaign(tmp_path / "c", 60, people, max_labelers=8)
        judge_all(campaign, people)
        rounds = campaign.state().rounds
        judged = (~(rounds.matrix() != rounds.matrix())).astype(int)  # NaN is not equal to itself
        shared = judged.T @ judged
        pairs = [shared[i, j] for i, j in itertools.combinations(range(8), 2)]
        assert sum(pairs) == 60 * 3
        assert min(pairs) >= 3  # 6.4 on average
        assert max(judged.sum(axis=0)) - min(judged.sum(axis=0)) <= 1

    def test_pairs_close_as_people_work(self, tmp_path: Path) -> None:
        people = [f"l{k}" for k in range(4)]
        campaign = new_campaign(tmp_path / "c", 200, people)
        judge_all(campaign, people, most=120)
        assert campaign.state().counts.closed >= 30  # of 40 that could have closed

    def test_no_more_people_than_a_pair_wants(self, tmp_path: Path) -> None:
        campaign = new_campaign(tmp_path / "c", 2, [f"l{k}" for k in range(6)])
        tasks = [campaign.next_task(f"l{k}") for k in range(6)]
        given = [task.pair_id for task in tasks if task is not None]
        assert sorted(given) == ["p0"] * 3 + ["p1"] * 3
        for k, task in enumerate(tasks):
            assert task is not None
            assert campaign.report(f"l{k}", task.pair_id, 0.5, 1.0, "k").accepted
        assert campaign.state().counts.closed == 2

    def test_a_pair_goes_to_others_when_somebody_has_left(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        campaign = new_campaign(tmp_path / "c", 1)
        for name in ("ann", "bob", "cem"):
            assert campaign.next_task(name) is not None
        assert campaign.next_task("dee") is None
        monkeypatch.setattr(allocation, "HELD_SECONDS", 0.0)
        assert campaign.next_task("dee") is not None
        for name in ("bob", "cem", "dee"):
            assert campaign.report(name, "p0", 0.5, 1.0, "k").accepted
        assert campaign.report("ann", "p0", 0.5, 1.0, "k") == (False, "closed")
        assert campaign.next_task("ann") is None

    def test_a_paused_labeler_gets_none(self, tmp_path: Path) -> None:
        campaign = new_campaign(tmp_path / "c")
        pair = report(campaign, "ann", 0.9, "1")
        task = campaign.next_task("ann")
        assert task is not None
        assert campaign.pause("ann", "p").accepted
        assert campaign.next_task("ann") is None
        assert campaign.undo("ann") is None
        assert campaign.report("ann", task.pair_id, 0.5, 1.0, "2") == (False, "paused")
        assert campaign.state().rounds.pair_ids == [pair]
        assert campaign.pause("ann", "q", paused=False).accepted
        assert campaign.next_task("ann") is not None

    def test_audits_change_nothing_in_it(self, tmp_path: Path) -> None:
        """The same people get the same pairs whether none or all of them are audited (ids are the order)."""
        orders = []
        for rate in (0.0, 1.0):
            campaign = new_campaign(tmp_path / str(rate), audit_rate=rate)
            orders.append([report(campaign, name, 0.5, f"{k}") for k in range(6) for name in PEOPLE])
            assert campaign.state().counts.audited == 12 * rate
        assert orders[0] == orders[1]


class TestStopAt:
    def test_certain_pairs_close_early_and_uncertain_ones_are_asked_about_again(self, tmp_path: Path) -> None:
        people = [f"l{k}" for k in range(6)]
        campaign = new_campaign(tmp_path / "c", 2, people, stop_at=0.9)
        for name in people:  # p0 is clear, p1 is not
            while (task := campaign.next_task(name)) is not None:
                value = 0.95 if task.pair_id == "p0" else 0.5
                said = a_better(campaign, name, task.pair_id, value)
                assert campaign.report(name, task.pair_id, said, 1.0, task.pair_id).accepted
        state = campaign.state()
        assert state.counts.closed == 2
        n = dict(zip(state.rounds.pair_ids, (state.rounds.start[1:] - state.rounds.start[:-1]).tolist(), strict=True))
        assert n == {"p0": 2, "p1": 6}
        assert "does not hold" in state.rounds.reading.notes[0]

    def test_it_is_off_by_default(self) -> None:
        assert CampaignSettings().stop_at is None


class TestExperts:
    def test_only_drawn_pairs_that_have_closed_are_shown(self, tmp_path: Path) -> None:
        campaign = new_campaign(tmp_path / "c", 30)
        assert campaign.next_audit("expert") is None
        judge_all(campaign, PEOPLE)
        audited = [f"p{k}" for k in range(30) if campaign.secrets.is_audited(f"p{k}", 0.5)]
        seen = []
        while (task := campaign.next_audit("expert")) is not None:
            assert campaign.next_audit("expert") == task
            assert task.total == len(audited)
            seen.append(task.pair_id)
            assert campaign.outcome("expert", task.pair_id, True, f"k{len(seen)}").accepted
        assert sorted(seen) == sorted(audited)
        assert 5 < len(audited) < 25

    def test_the_side_is_turned_back(self, tmp_path: Path) -> None:
        campaign = new_campaign(tmp_path / "c", 30, audit_rate=1.0)
        judge_all(campaign, PEOPLE)
        for k in range(30):
            task = campaign.next_audit("expert")
            assert task is not None
            campaign.outcome("expert", task.pair_id, task.left.startswith("first"), f"k{k}")
        assert campaign.state().rounds.outcome.tolist() == [1.0] * 30

    def test_what_is_refused(self, tmp_path: Path) -> None:
        campaign = new_campaign(tmp_path / "c", audit_rate=1.0, known={"p1": 1.0})
        assert campaign.outcome("expert", "p1", True, "1") == (False, "not yours")
        assert campaign.outcome("expert", "no such pair", True, "2") == (False, "not yours")
        assert campaign.outcome("expert", "p0", None, "3").accepted
        assert campaign.outcome("expert", "p0", None, "3").accepted
        assert campaign.outcome("expert", "p0", True, "4") == (False, "answered")
        with pytest.raises(CampaignError, match="no expert called 'ann'"):
            campaign.outcome("ann", "p0", True, "5")
        unaudited = new_campaign(tmp_path / "d", audit_rate=0.0)
        assert unaudited.outcome("expert", "p0", True, "1") == (False, "not yours")

    def test_two_experts_begin_at_different_pairs(self, tmp_path: Path) -> None:
        people = [*PEOPLE, Person("eve", "expert"), Person("fay", "expert")]
        campaign = new_campaign(tmp_path / "c", people=people, audit_rate=1.0)
        judge_all(campaign, PEOPLE)
        shown = [campaign.next_audit(name) for name in ("eve", "fay")]
        assert shown[0] is not None
        assert shown[1] is not None
        assert shown[0].pair_id != shown[1].pair_id


class TestPeople:
    def test_a_link_is_a_person_and_only_its_hash_is_kept(self, tmp_path: Path) -> None:
        campaign = new_campaign(tmp_path / "c")
        assert [link.person for link in campaign.links] == campaign.people()
        assert {person.role for person in campaign.people()} == {"labeler", "expert", "owner"}
        stored = b"".join(path.read_bytes() for path in (tmp_path / "c").iterdir())
        for link in campaign.links:
            assert campaign.role(link.token) == link.person
            assert len(link.token) >= 22  # 128 bits
            assert link.token.encode() not in stored
        assert campaign.role("") is None
        assert campaign.role(campaign.links[0].token[:-1]) is None
        assert Campaign.open(tmp_path / "c").links == []

    def test_a_new_link_ends_the_old_one(self, tmp_path: Path) -> None:
        campaign = new_campaign(tmp_path / "c")
        (renewed, joined) = campaign.invite(["ann", "eve"])
        assert campaign.role(campaign.links[0].token) is None
        assert campaign.role(renewed.token) == ("ann", "labeler")
        assert campaign.role(joined.token) == ("eve", "labeler")
        assert campaign.next_task("eve") is not None

    def test_who_cannot_join(self, tmp_path: Path) -> None:
        campaign = new_campaign(tmp_path / "c")
        with pytest.raises(CampaignError, match="nobody has two roles"):
            campaign.invite([Person("ann", "expert")])
        with pytest.raises(CampaignError, match=r"7 labelers, but the campaign's steps are fixed for 6"):
            campaign.invite(["eve", "fay", "gus"])
        with pytest.raises(CampaignError, match="stands twice"):
            campaign.invite(["eve", "eve"])
        assert len(campaign.people()) == 6
        with pytest.raises(CampaignError, match="steps are fixed for 6"):
            new_campaign(tmp_path / "d", people=[f"l{k}" for k in range(7)])
        assert not (tmp_path / "d").exists()


class TestPairs:
    def test_a_pair_that_is_there_is_refused_by_its_row(self, tmp_path: Path) -> None:
        campaign = new_campaign(tmp_path / "c")
        with pytest.raises(CampaignError, match=r"row 3: pair 'p2' stands in the campaign already"):
            campaign.add_pairs(_mixed())
        assert campaign.add_pairs(made_up_pairs(5, first=12), {"p13": 0.0}) == 17
        assert campaign.state().counts.known == 1
        with pytest.raises(CampaignError, match="pair 'p17' is not among these"):
            campaign.add_pairs(made_up_pairs(1, first=20), {"p17": 1.0})
        with pytest.raises(CampaignError, match=r"neither 1 \(A better\) nor 0"):
            campaign.add_pairs(made_up_pairs(1, first=20), {"p20": 0.5})

    def test_another_process_sees_what_was_added(self, tmp_path: Path) -> None:
        campaign, other = new_campaign(tmp_path / "c", 1), Campaign.open(tmp_path / "c")
        for name in ("ann", "bob", "cem"):
            report(campaign, name, 0.5, "1")
        assert other.next_task("dee") is None
        campaign.add_pairs(made_up_pairs(1, first=1))
        assert other.next_task("dee") is not None

    def test_a_text_that_a_database_cannot_hold_is_refused(self, tmp_path: Path) -> None:
        for bad in ("zero \0 byte", "half a pair \ud800"):
            pairs = made_up_pairs(2)
            pairs.prompt[1] = bad  # type: ignore[index]
            with pytest.raises(CampaignError, match="row 2: pair 'p1' has a text"):
                Campaign.create(tmp_path / "c", pairs, PEOPLE)


def _mixed() -> Any:
    pairs = made_up_pairs(3, first=20)
    pairs.pair_id[2] = "p2"  # type: ignore[index]
    return pairs


class TestFolder:
    def test_a_campaign_is_never_begun_over_another(self, tmp_path: Path) -> None:
        new_campaign(tmp_path / "c")
        key = (tmp_path / "c/secret.key").read_bytes()
        with pytest.raises(CampaignError, match=r"has a campaign.yaml already"):
            new_campaign(tmp_path / "c")
        assert (tmp_path / "c/secret.key").read_bytes() == key

    def test_secrets_are_readable_by_their_owner_alone(self, tmp_path: Path) -> None:
        new_campaign(tmp_path / "c")
        for name in ("secret.key", "campaign.yaml"):
            assert (tmp_path / "c" / name).stat().st_mode & 0o077 == 0

    def test_settings_cannot_be_changed_later(self, tmp_path: Path) -> None:
        new_campaign(tmp_path / "c")
        path = tmp_path / "c/campaign.yaml"
        path.write_text(path.read_text().replace("audit_rate: 0.5", "audit_rate: 0.9"))
        with pytest.raises(CampaignError, match=r"audit_rate is 0.9, but the campaign was begun with 0.5"):
            Campaign.open(tmp_path / "c")

    def test_what_is_missing_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(CampaignError, match="truthful-rlhf campaign init"):
            Campaign.open(tmp_path / "nothing")
        new_campaign(tmp_path / "c")
        (tmp_path / "c/secret.key").unlink()
        with pytest.raises(CampaignError, match=r"secret.key: No such file"):
            Campaign.open(tmp_path / "c")
