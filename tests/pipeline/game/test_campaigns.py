"""One panel, two roads: ``simulate`` and ``compare`` hear the same reports on pairs with the same gold differences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.aggregation.game.crowd import Judge, drawn
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.game.campaigns import draw_nature
from truthful_rlhf.labelers import LabelerSpec, Panel, ReportContext
from truthful_rlhf.labelers.panels import built_in_panels, needs_texts
from truthful_rlhf.pipeline.config.experiment import Config
from truthful_rlhf.pipeline.config.game import BUNDLED_TOPICS, SimulateConfig
from truthful_rlhf.pipeline.experiment.conditions import SINGLE, choose_condition
from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.experiment.data import ask_panel
from truthful_rlhf.pipeline.game.campaigns import (
    JudgedPairs,
    context_of,
    deviators,
    judge_pairs,
    make_panel,
    pairs_without_texts,
)
from truthful_rlhf.pipeline.storage.artifacts import RunFolder

N = 192
KAPPA = 5.0
AUDITED = np.arange(N) % 5 == 0
PANELS = sorted(built_in_panels())


def pairs_with_texts(log_odds: FloatArray, topics: list[str]) -> pd.DataFrame:
    """Return pairs as ``compare`` makes them: texts of different lengths, gold rewards of both responses."""
    gold_b = np.random.default_rng(1).normal(size=N)
    return pd.DataFrame(
        {
            "pair_id": [f"pair-{k:06d}" for k in range(N)],
            "prompt": "?",
            "topic": topics,
            "response_a": ["word " * (k % 9 + 1) for k in range(N)],
            "response_b": ["other words " * (k % 5 + 1) for k in range(N)],
            "gold_a": gold_b + log_odds / KAPPA,
            "gold_b": gold_b,
        }
    )


def reports_in_compare(panels: dict[str, Any], name: str, pairs: pd.DataFrame, folder: Path) -> FloatArray:
    """Return what the panel reports in an experiment, through the experiment's own stage."""
    rules = ["mean", "online_weighted"]
    config = Config.model_validate(
        {"panels": panels, "rules": rules, "policy": {"method": "dpo"}, "gold": {"kappa": KAPPA}, "audit_rate": 0.2}
    )
    experiment = Experiment(config, RunFolder(folder), SINGLE)
    condition = choose_condition(config, name, "online_weighted")
    return ask_panel(experiment, condition, pairs, pd.Series(AUDITED)).to_numpy()


def reports_in_simulate(panels: dict[str, Any], name: str, log_odds: FloatArray, topics: list[str]) -> FloatArray:
    """Return what the panel reports in a simulation of pairs with these true log-odds."""
    config = SimulateConfig.model_validate(
        {"panels": panels, "rules": ["online_weighted"], "rounds": [N], "audit_rate": 0.2}
    )
    panel, pairs = make_panel(config, name, 0), pairs_without_texts(log_odds, topics, AUDITED)
    nature = draw_nature(N, np.random.default_rng(0))
    judged = JudgedPairs(panel, nature, pairs, panel.views(pairs), N)
    return judged.reports(context_of(config, config.rules[0]))


@pytest.mark.parametrize("name", PANELS)
def test_a_built_in_panel_reports_the_same_on_both_roads(name: str, tmp_path: Path) -> None:
    """Same labelers, same seeds, same differences in gold: the same reports, to the rounding of kappa (g_a - g_b)."""
    rng = np.random.default_rng(2)
    log_odds, topics = rng.normal(0.0, 2.0, N), [str(topic) for topic in rng.choice(BUNDLED_TOPICS, N)]
    pairs = pairs_with_texts(log_odds, topics)
    panels = {name: built_in_panels()[name]}
    in_compare = reports_in_compare(panels, name, pairs, tmp_path)
    np.testing.assert_allclose(reports_in_simulate(panels, name, log_odds, topics), in_compare, rtol=0, atol=1e-10)


def test_control_another_crowd_of_that_name_reports_something_else(tmp_path: Path) -> None:
    """Nine who lean to the first response and an expert were once called ``biased_majority`` by ``simulate`` alone."""
    rng = np.random.default_rng(2)
    log_odds, topics = rng.normal(0.0, 2.0, N), [str(topic) for topic in rng.choice(BUNDLED_TOPICS, N)]
    entries = [{"name": "biased", "count": 9, "persona": {"noise": 1.0, "bias": 1.5}}, "expert"]
    in_simulate = reports_in_simulate({"biased_majority": entries}, "biased_majority", log_odds, topics)
    panels = {"biased_majority": built_in_panels()["biased_majority"]}
    in_compare = reports_in_compare(panels, "biased_majority", pairs_with_texts(log_odds, topics), tmp_path)
    assert in_simulate.shape == in_compare.shape
    assert np.abs(in_simulate - in_compare).mean() > 0.2


def judged(*entries: Any, n_rounds: int = 40, n_campaigns: int = 3, **options: Any) -> JudgedPairs:
    panel = Panel.from_specs([LabelerSpec.model_validate(entry) for entry in entries], np.random.default_rng(0))
    return judge_pairs(panel, n_rounds, n_campaigns, np.random.default_rng(1), **options)


SLEEPER = {"name": "late", "persona": "expert", "strategy": {"name": "sleeper", "start": 30}}
BLOC = {"name": "bloc", "count": 3, "persona": "noisy", "strategy": {"name": "collude", "scale": 2}}


def test_every_campaign_begins_at_round_zero() -> None:
    drawn_pairs = judged("expert", SLEEPER)
    for campaign in drawn_pairs.campaigns(ReportContext()):
        lies = campaign.reports[:, 1] != campaign.beliefs[:, 1]
        assert not lies[:30].any()
        assert lies[30:].all()


def test_a_bloc_deviates_as_one_and_everybody_else_alone() -> None:
    drawn_pairs = judged("expert", BLOC, {"name": "honest", "count": 2, "persona": "noisy"})
    assert deviators(drawn_pairs.panel) == {"expert": slice(0, 1), "bloc": slice(1, 4), "honest": slice(4, 5)}
    (campaign,) = judged("expert", BLOC, n_campaigns=1).campaigns(ReportContext())
    assert np.ptp(campaign.beliefs[:, 1:], axis=1).max() == 0.0  # it acts on the view of its first member
    assert np.ptp(campaign.reports[:, 1:], axis=1).max() < 1e-12


def test_campaigns_have_the_panels_beliefs_and_the_truth_of_nature() -> None:
    """An unbiased labeler expects the outcomes as they are; a contrarian does not (control)."""
    first, *others = judged("expert", "contrarian", n_rounds=2000).campaigns(ReportContext())
    np.testing.assert_array_equal(first.expected_by(0), first.outcomes)
    assert (first.expected_by(1) != first.outcomes).mean() > 0.1
    assert len(others) == 2
    right = ((first.beliefs > 0.5) == first.outcomes[:, None]).mean(axis=0)
    assert right[0] > 0.7
    assert right[1] < 0.4


def test_the_beliefs_of_a_persona_are_those_of_the_game_in_distribution() -> None:
    """The same quantiles as calibrated posteriors of N(0, 1.5^2) drawn by hand; another noise has others (control)."""
    quantiles = np.linspace(0.05, 0.95, 19)
    persona = judged({"name": "x", "persona": {"noise": 1.0}}, n_rounds=20_000, n_campaigns=1).views.beliefs[:, 0]
    by_hand, control = (drawn((Judge(noise),), 20_000, 1)[0].beliefs[:, 0] for noise in (1.0, 2.0))
    assert np.abs(np.quantile(persona, quantiles) - np.quantile(by_hand, quantiles)).max() < 0.02
    assert np.abs(np.quantile(persona, quantiles) - np.quantile(control, quantiles)).max() > 0.05


def test_topics_and_audits_come_at_their_rates() -> None:
    drawn_pairs = judged("expert", n_rounds=4000, n_campaigns=1, topics=["a", "b"], audit_rate=0.25)
    assert drawn_pairs.pairs.topic is not None
    assert list(drawn_pairs.pairs.topic).count("a") / 4000 == pytest.approx(0.5, abs=0.03)
    assert drawn_pairs.nature.audited.mean() == pytest.approx(0.25, abs=0.03)


def test_impossible_campaigns_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one round and one campaign"):
        judged("expert", n_rounds=0)
    with pytest.raises(ValueError, match="at least one round and one campaign"):
        judged("expert", n_campaigns=0)


def test_the_topics_of_a_simulation_are_those_of_the_bundled_prompts() -> None:
    prompts = Path(__file__).resolve().parents[3] / "pipeline" / "data" / "prompts.jsonl"
    assert set(pd.read_json(prompts, lines=True)["topic"]) == set(BUNDLED_TOPICS)


def test_a_taste_for_texts_is_not_silently_dropped() -> None:
    spec = LabelerSpec.model_validate("verbose")
    assert needs_texts(spec)
    with pytest.raises(ValueError, match="only a view of the gold reward"):
        judged("verbose").campaigns(ReportContext())
