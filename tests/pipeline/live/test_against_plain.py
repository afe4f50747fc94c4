"""Any sequence of requests: every acknowledged report is there exactly once, and labels are those of `label_campaign`.

Hypothesis makes the requests up: reports, the same request again, skips, undos, late and early outcomes, pauses, people
and pairs that come later, and other processes that have the same campaign open.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings, strategies
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.pipeline.live.campaigns import a_better, made_up_pairs, new_campaign
from tests.pipeline.live.plain import PlainCampaign
from truthful_rlhf.pipeline.live.campaign import Campaign
from truthful_rlhf.pipeline.live.verify import verify_campaign

PEOPLE = ("ann", "bob", "cem", "dee")
LABELS = ("mean", "median", "quantile")
who = strategies.sampled_from(PEOPLE)
reports = strategies.sampled_from([0.0, 0.1, 0.25, 0.5, 0.8, 1.0])


class AgainstPlain(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.keys = 0
        self.sent: list[tuple[tuple[Any, ...], Any]] = []

    @initialize(
        known=strategies.booleans(),
        wanted=strategies.integers(1, 3),
        label=strategies.sampled_from(["mean", "median", "quantile"]),
    )
    def begin(self, known: bool, wanted: int, label: str) -> None:
        gold = {"p1": 1.0, "p4": 0.0} if known else {}
        self.path = Path(self.folder.name) / "c"
        given = {"reports_per_pair": wanted, "audit_rate": 0.7, "options": {"label": label, "eta": 0.4}}
        self.campaign = new_campaign(self.path, 6, PEOPLE[:3], gold, database=self.database(), **given)
        self.plain = PlainCampaign(wanted, 6, gold, list(PEOPLE[:3]))
        self.plain.add(*(f"p{k}" for k in range(6)))

    def database(self) -> str | None:
        return None

    def key(self) -> str:
        self.keys += 1
        return f"k{self.keys}"

    def is_here(self, name: str) -> bool:
        return name in self.plain.labelers

    def said(self, name: str, pair: str, value: float) -> tuple[float, float]:
        """Return what to say on one's own sides, and the report that is stored for it."""
        shown = a_better(self.campaign, name, pair, value)
        return shown, a_better(self.campaign, name, pair, shown)

    @rule(name=who, value=reports)
    def answers(self, name: str, value: float) -> None:
        if not self.is_here(name) or (task := self.campaign.next_task(name)) is None:
            return
        shown, stored = self.said(name, task.pair_id, value)
        request = (name, task.pair_id, shown, 1.0, self.key())
        receipt = self.campaign.report(*request)
        assert receipt.accepted
        self.sent.append((request, receipt))
        self.plain.report(name, task.pair_id, stored)

    @precondition(lambda self: self.sent)
    @rule(data=strategies.data())
    def sends_again(self, data: Any) -> None:
        request, receipt = data.draw(strategies.sampled_from(self.sent))
        assert self.campaign.report(*request) == receipt

    @rule(name=who, value=reports, data=strategies.data())
    def answers_what_it_should_not(self, name: str, value: float, data: Any) -> None:
        """A pair that is not on the screen: accepted only if it was once given to the labeler, and is open."""
        if not self.is_here(name):
            return
        task = self.campaign.next_task(name)
        pair = data.draw(strategies.sampled_from(self.plain.pairs))
        if task is not None and pair == task.pair_id:
            return
        shown, stored = self.said(name, pair, value)
        receipt = self.campaign.report(name, pair, shown, 1.0, self.key())
        if receipt.accepted:
            assert pair not in self.plain.closed
            assert name not in self.plain.standing[pair]
            self.plain.report(name, pair, stored)

    @rule(name=who)
    def skips(self, name: str) -> None:
        if not self.is_here(name) or (task := self.campaign.next_task(name)) is None:
            return
        assert self.campaign.skip(name, task.pair_id, self.key()).accepted
        if name in self.plain.standing[task.pair_id]:
            self.plain.take_away(name, task.pair_id)

    @rule(name=who)
    def takes_back(self, name: str) -> None:
        if self.is_here(name):
            before = self.campaign.progress(name).can_undo
            task = self.campaign.undo(name)
            assert task is not None or not before
            assert task is None or (name in self.plain.standing[task.pair_id] and task.pair_id not in self.plain.closed)

    @rule(data=strategies.data(), says=strategies.sampled_from([True, False, None]))
    def expert_answers(self, data: Any, says: bool | None) -> None:
        pair = data.draw(strategies.sampled_from(self.plain.pairs))
        drawn = pair not in self.plain.known and self.campaign.secrets.is_audited(pair, 0.7)
        receipt = self.campaign.outcome("expert", pair, says, self.key())
        assert receipt.accepted == (drawn and pair not in self.plain.outcomes)
        if receipt.accepted:
            a_left = self.campaign.secrets.a_is_left("expert", pair)
            self.plain.outcome(pair, None if says is None else float(says == a_left))

    @rule(name=who, paused=strategies.booleans())
    def pauses(self, name: str, paused: bool) -> None:
        if self.is_here(name):
            assert self.campaign.pause(name, self.key(), paused).accepted

    @precondition(lambda self: len(self.plain.labelers) == 3)
    @rule()
    def somebody_joins(self) -> None:
        self.campaign.invite(["dee"])
        self.plain.labelers.append("dee")

    @precondition(lambda self: len(self.plain.pairs) < 10)
    @rule()
    def pairs_come(self) -> None:
        n = len(self.plain.pairs)
        self.campaign.add_pairs(made_up_pairs(2, first=n))
        self.plain.add(f"p{n}", f"p{n + 1}")

    @rule()
    def another_process_goes_on(self) -> None:
        self.campaign.close()
        self.campaign = Campaign.open(self.path)

    @invariant()
    def it_is_what_was_acknowledged(self) -> None:
        if hasattr(self, "plain"):
            self.plain.check(self.campaign)

    def teardown(self) -> None:
        if hasattr(self, "plain"):
            self.campaign.set_down()
            found = verify_campaign(Campaign.open(self.path))
            assert found.holds, found.problems
            assert found.stated == 2
        self.folder.cleanup()


def test_any_sequence_of_requests() -> None:
    run_state_machine_as_test(AgainstPlain, settings=settings(max_examples=25, stateful_step_count=25, deadline=None))
