"""``truthful-rlhf simulate``: what it computes, what it writes, that it goes on, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from truthful_rlhf.pipeline.cli import app
from truthful_rlhf.pipeline.config.game import SimulateConfig
from truthful_rlhf.pipeline.game.campaigns import judge_pairs, make_panel
from truthful_rlhf.pipeline.game.simulation import Simulation
from truthful_rlhf.pipeline.game.simulation_report import growth, known_horizon_bound
from truthful_rlhf.pipeline.storage.artifacts import RunFolder

SMALL = [
    "rounds=[100, 400]",
    "seeds=2",
    "rules=[mean, online_weighted]",
    "panels={biased_majority: biased_majority, pair: [expert, {name: rivals, count: 2, persona: first_seen,"
    " strategy: equilibrium}]}",
]


def simulate(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["simulate", *arguments], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("simulate")
    return folder, simulate(*SMALL, "--out", str(folder))


def test_it_prints_and_writes_tables_figure_and_config(run: tuple[Path, Result]) -> None:
    folder, result = run
    assert result.exit_code == 0, result.output
    for text in ("biased_majority", "2 x rivals", "T = 400", "slope", "pair, rivals against mean"):
        assert text in result.output
    assert (folder / "regret.png").read_bytes().startswith(b"\x89PNG")
    assert "online_weighted" in (folder / "growth.md").read_text(encoding="utf-8")
    assert "audit_rate: 1.0" in (folder / "config.yaml").read_text(encoding="utf-8")
    regrets = pd.read_csv(folder / "regret.csv")
    assert len(regrets) == 2 * 2 * 2 * 2  # panels, rules, lengths, seeds
    responses = pd.read_csv(folder / "best_responses.csv").set_index(["panel", "rule", "entry"])
    assert set(responses.index) == {("pair", rule, "rivals") for rule in ("mean", "online_weighted")}
    assert responses.loc[("pair", "mean", "rivals"), "scale"] > 1.0
    assert responses["converged"].all()


def test_the_mean_loses_to_a_biased_majority_and_the_mechanism_does_not(run: tuple[Path, Result]) -> None:
    grown = pd.read_csv(run[0] / "growth.csv").set_index(["panel", "rule"])
    mean, online = (grown.loc[("biased_majority", rule)] for rule in ("mean", "online_weighted"))
    assert mean["slope"] > 0.8
    assert online["regret"] < 0.3 * mean["regret"]
    assert online["worst_of_bound"] < 1.0
    assert online["best"]
    assert not mean["best"]


def test_every_seed_draws_lots_of_its_own(tmp_path: Path) -> None:
    """The same campaign under two seeds: only what the rule's lottery draws differs."""
    config = SimulateConfig(rules=["examined", "hedge"], panels=["biased_majority"], rounds=[100])
    judged = judge_pairs(make_panel(config, "biased_majority", 0), 100, 1, np.random.default_rng(0))
    simulation = Simulation(config, RunFolder(tmp_path))
    examined, hedge = ([simulation._row(rule, seed, judged)["brier"] for seed in (0, 0, 1)] for rule in config.rules)
    assert examined[0] == examined[1] != examined[2]
    assert len(set(hedge)) == 1


def test_a_killed_simulation_goes_on_with_the_same_result(run: tuple[Path, Result], tmp_path: Path) -> None:
    folder, _ = run
    finished = sorted((folder / "cells").rglob("*.json"))
    before = {path: path.stat().st_mtime_ns for path in finished}
    results = (folder / "regret.csv").read_bytes()
    lost = folder / "cells" / "pair" / "400.json"
    lost.unlink()
    assert simulate(*SMALL, "--out", str(folder)).exit_code == 0
    assert (folder / "regret.csv").read_bytes() == results
    assert {path for path in finished if path.stat().st_mtime_ns != before[path]} == {lost}


def test_batch_rules_are_capped_and_the_output_says_so(tmp_path: Path) -> None:
    result = simulate(
        "rounds=[30, 60]",
        "seeds=1",
        "rules=[mean, dawid_skene]",
        "max_rounds={dawid_skene: 30}",
        "panels=[honest]",
        "--out",
        str(tmp_path),
    )
    assert result.exit_code == 0, result.output
    assert "not run beyond T = 30" in result.output
    regrets = pd.read_csv(tmp_path / "regret.csv")
    assert set(regrets.loc[regrets["rule"] == "dawid_skene", "rounds"]) == {30}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["audit_rat=0.5"], "did you mean 'audit_rate'"),
        (["audit_rate=2"], "less than or equal to 1"),
        (["rules=[online_weighed]"], "did you mean 'online_weighted'"),
        (["rules=[{name: online_weighted, options: {etta: 1}}]"], "did you mean 'eta'"),
        (["rules=[mean, mean]"], "must differ"),
        (["panels=[honnest]"], "did you mean 'honest'"),
        (["panels={x: [{name: y, persona: {nois: 1}}]}"], "did you mean 'noise'"),
        (["panels={x: [verbose]}"], "panel 'x', entry 'verbose': its persona has a taste for length, which only texts"),
        (["panels={x: [{name: j, kind: judge, model: m}]}"], "kind 'judge' reads texts or a file; there are no texts"),
        (["panels=[topic_liars]", "topics=[films]"], "unknown topic 'film': did you mean 'films'?"),
        (["populations=[honest]"], "unknown key; valid keys: audit_rate, max_rounds, panels"),
        (["rounds=[0]"], "must be >= 1"),
        (["max_rounds={dawid_sken: 5}"], "did you mean 'dawid_skene'"),
        (["--panel", "honnest"], "did you mean 'honest'"),
        (["--panel", "mine.yaml"], "panel file mine.yaml does not exist"),
        (["nothing.yaml"], "does not exist"),
    ],
)
def test_mistakes_are_named_in_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = simulate(*arguments, "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_help_has_examples() -> None:
    result = simulate("--help")
    assert result.exit_code == 0
    assert "truthful-rlhf simulate audit_rate=0.1" in result.output


def curves(**by_rule: list[float]) -> pd.DataFrame:
    """Return regrets of one panel at T = 100, 1000, 10000, the same for two seeds but for 1 %."""
    lengths = (100, 1000, 10_000)
    return pd.DataFrame(
        {
            "panel": "p",
            "rule": rule,
            "rounds": n,
            "seed": seed,
            "n_labelers": 10,
            "regret": value * (1 + seed / 100),
        }
        for rule, values in by_rule.items()
        for n, value in zip(lengths, values, strict=False)
        for seed in (0, 1)
    )


def test_growth_by_hand() -> None:
    regrets = curves(linear=[10, 100, 1000], root=[10, 31.622776, 100], better=[5, -5, -500], short=[1, 10])
    grown = growth(regrets, 1.0, seed=0).set_index("rule")
    assert grown.loc["linear", "slope"] == pytest.approx(1.0, abs=1e-6)
    assert grown.loc["root", "slope"] == pytest.approx(0.5, abs=1e-6)
    assert np.isnan(grown.loc["better", "slope"])
    assert grown.loc["linear", "regret"] == pytest.approx(1005.0)
    assert grown.loc["linear", "per_1000"] == pytest.approx(100.5)
    assert grown.loc["linear", "worst_of_bound"] == pytest.approx(1010 / (2 * np.sqrt(10_000 * np.log(10))))
    assert grown["best"].to_dict() == {"linear": False, "root": False, "better": True, "short": False}


def test_bound_grows_as_audits_get_rare() -> None:
    assert known_horizon_bound(10_000, 10, 1.0) == pytest.approx(200 * np.sqrt(np.log(10)))
    assert known_horizon_bound(10_000, 10, 0.25) == pytest.approx(2 * known_horizon_bound(10_000, 10, 1.0))
    assert known_horizon_bound(10_000, 10, 0.0) == np.inf
