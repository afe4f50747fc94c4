"""Panels: any belief with any strategy, common random numbers, absences."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.labelers.test_simulated import make_pairs
from truthful_rlhf.labelers import STRATEGIES, LabelerSpec, Member, Pairs, Panel, ReportContext, SimulatedLabeler
from truthful_rlhf.labelers.strategies import make_strategy

CONTEXT = ReportContext(rule="mean", audit_rate=0.2)


def make_panel(*entries: dict[str, Any] | str, seed: int = 0) -> Panel:
    return Panel.from_specs([LabelerSpec.model_validate(entry) for entry in entries], np.random.default_rng(seed))


class Reader:
    """A labeler with beliefs given by hand; NaN: it does not judge the pair."""

    def __init__(self, labeler_id: str, beliefs: list[float]) -> None:
        self.labeler_id = labeler_id
        self.beliefs = np.array(beliefs)

    def belief(self, pairs: Pairs) -> np.ndarray:
        return self.beliefs.copy()

    def report(self, pairs: Pairs, context: ReportContext) -> np.ndarray:
        return self.beliefs.copy()


def test_ids_are_numbered_within_an_entry() -> None:
    panel = make_panel({"name": "bloc", "count": 3, "persona": "contrarian"}, "expert")
    assert panel.labeler_ids == ("bloc-1", "bloc-2", "bloc-3", "expert")
    assert panel.report(make_pairs(7), CONTEXT).shape == (7, 4)


def test_two_labelers_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two labelers are called 'expert'"):
        make_panel("expert", "expert")
    with pytest.raises(ValueError, match="at least one labeler"):
        Panel([])


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_a_strategy_never_changes_a_belief(name: str) -> None:
    """Common random numbers: the same beliefs, and the same reports of everybody else, whatever one labeler plays."""
    pairs = replace(make_pairs(50, topics=2), audited=np.arange(50) % 5 == 0)
    strategy = {"name": name, **({"topic": "topic-1"} if name == "topic_trigger" else {})}
    truthful = make_panel({"name": "x", "count": 2, "persona": "noisy"}, "expert")
    lying = make_panel({"name": "x", "count": 2, "persona": "noisy", "strategy": strategy}, "expert")
    np.testing.assert_array_equal(truthful.beliefs(pairs), lying.beliefs(pairs))
    np.testing.assert_array_equal(truthful.report(pairs, CONTEXT)[:, 2], lying.report(pairs, CONTEXT)[:, 2])
    np.testing.assert_array_equal(lying.report(pairs, CONTEXT), lying.report(pairs, CONTEXT))


def test_the_size_of_an_entry_changes_no_other_belief() -> None:
    pairs = make_pairs(50)
    small = make_panel({"name": "x", "count": 2, "persona": "noisy"}, "expert").beliefs(pairs)
    large = make_panel({"name": "x", "count": 5, "persona": "noisy"}, "expert").beliefs(pairs)
    np.testing.assert_array_equal(small[:, :2], large[:, :2])
    np.testing.assert_array_equal(small[:, 2], large[:, 5])


def test_seeds_and_labelers_differ() -> None:
    pairs = make_pairs(50)
    one, other = (make_panel({"name": "x", "count": 2, "persona": "noisy"}, seed=s).beliefs(pairs) for s in (0, 1))
    assert not np.allclose(one, other)
    assert not np.allclose(one[:, 0], one[:, 1])


def test_an_absent_labeler_stays_absent_under_every_strategy() -> None:
    pairs = replace(make_pairs(3, topics=2), audited=np.array([True, False, False]))
    for name in STRATEGIES:
        strategy = make_strategy(name, **({"topic": "topic-1"} if name == "topic_trigger" else {}))
        members = [Member(Reader("r", [0.9, np.nan, 0.2]), strategy), Member(Reader("s", [0.6] * 3), strategy)]
        reports = Panel(members).report(pairs, CONTEXT)
        np.testing.assert_array_equal(np.isnan(reports), [[False, False], [True, False], [False, False]], err_msg=name)


def test_blocs_are_the_entries() -> None:
    """Colluders of one entry report the same; those of another entry have a target of their own."""
    collude = {"name": "collude", "scale": 2.0}
    panel = make_panel(
        {"name": "x", "count": 3, "persona": "noisy", "strategy": collude},
        {"name": "y", "count": 2, "persona": "contrarian", "strategy": collude},
    )
    reports = panel.report(make_pairs(40), CONTEXT)
    assert np.ptp(reports[:, :3], axis=1).max() < 1e-12
    assert np.ptp(reports[:, 3:], axis=1).max() < 1e-12
    assert np.corrcoef(reports[:, 0], reports[:, 3])[0, 1] < 0.0


def test_a_contrarian_mimic_is_right_until_it_is_trusted() -> None:
    pairs = make_pairs(400, kappa=4.0)
    assert pairs.gold_a is not None
    truth = np.greater(pairs.gold_a, pairs.gold_b)
    strategy = {"name": "mimic_then_exploit", "start": 200}
    reports = make_panel({"name": "m", "persona": "contrarian", "strategy": strategy}).report(pairs, CONTEXT)
    right = (reports[:, 0] > 0.5) == truth
    assert right[:200].mean() > 0.75
    assert right[200:].mean() < 0.25


def test_a_strategy_sees_its_own_weight() -> None:
    pairs = make_pairs(20)
    panel = make_panel("noisy", {"name": "m", "persona": "contrarian", "strategy": "mimic_then_exploit"})
    poor, rich = (
        panel.report(pairs, ReportContext(weights=np.array(weights)))[:, 1] for weights in ([0.9, 0.1], [0.1, 0.9])
    )
    mimic = panel.members[1].labeler
    assert isinstance(mimic, SimulatedLabeler)
    np.testing.assert_array_equal(poor, mimic.impartial(pairs))
    np.testing.assert_array_equal(rich > 0.5, mimic.belief(pairs) > 0.5)
    assert np.abs(rich - 0.5).sum() > np.abs(mimic.belief(pairs) - 0.5).sum()


def test_kappa_of_the_context_is_the_one_that_counts() -> None:
    panel = make_panel({"name": "clear", "persona": {"noise": 0.0}})
    pairs = make_pairs(20, kappa=1.0)
    sharp = panel.report(pairs, ReportContext(kappa=10.0))
    np.testing.assert_allclose(sharp, panel.beliefs(make_pairs(20, kappa=10.0)))
    assert np.abs(sharp - 0.5).sum() > np.abs(panel.report(pairs, ReportContext()) - 0.5).sum()


@pytest.mark.parametrize("wrong", [{"audit_rate": 1.5}, {"kappa": 0.0}, {"kappa": float("nan")}, {"first_round": -1}])
def test_a_context_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ReportContext(**wrong)


def test_importing_labelers_loads_no_model_library() -> None:
    heavy = ("torch", "transformers", "openai", "pandas")
    code = f"import truthful_rlhf.labelers, sys; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
