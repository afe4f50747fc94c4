"""Rules, strategies and labelers of a user's own, by import path, wherever the built-in ones are named."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from truthful_rlhf.aggregation import label_campaign, make_aggregator
from truthful_rlhf.labelers import LabelerSpec, Pairs, Panel, ReportContext
from truthful_rlhf.labelers.strategies import make_strategy
from truthful_rlhf.pipeline.cli import app
from truthful_rlhf.pipeline.config.rule import RuleSection
from truthful_rlhf.pipeline.storage.artifacts import RunFolder
from truthful_rlhf.pipeline.storage.inputs import ConfigSections

MODULE = "my_code_of_this_test"
CODE = """
import numpy as np
from truthful_rlhf.labelers.strategies import Traits

class MyMean:
    sees_outcomes = False

    def __init__(self, n_labelers, lean=0.0):
        if not -1 <= lean <= 1:
            raise ValueError(f"lean must be in [-1, 1], got {lean}")
        self.weights_ = np.full(n_labelers, 1 / n_labelers)
        self.lean = lean

    def predict_one(self, reports, key=None):
        present = reports[~np.isnan(reports)]
        return float(np.clip(present.mean() + self.lean, 0, 1)) if len(present) else 0.5

    def learn_one(self, reports, outcome, sample_weight=1.0):
        pass

class FollowTheLast(MyMean):
    "Everything to whoever came nearest to the last outcome."
    sees_outcomes = True

    def learn_one(self, reports, outcome, sample_weight=1.0):
        if not np.isnan(outcome):
            self.weights_ = np.eye(len(reports))[np.nanargmin(np.abs(reports - outcome))]

    def predict_one(self, reports, key=None):
        present = ~np.isnan(reports)
        weights = np.where(present, self.weights_, 0)
        return float(np.nansum(weights * reports) / weights.sum()) if weights.sum() else 0.5

class NoLearning:
    def __init__(self, n_labelers):
        self.weights_ = np.full(n_labelers, 1 / n_labelers)

    def predict_one(self, reports, key=None):
        return 0.5

class NoKey(NoLearning):
    def predict_one(self, reports):
        return 0.5

    learn_one = MyMean.learn_one

class TwoWeights(MyMean):
    def __init__(self, n_labelers):
        self.weights_ = np.array([0.5, 0.4, 0.1])

class Shade:
    traits = Traits()

    def __init__(self, towards=0.5):
        self.towards = towards

    def report(self, beliefs, situation):
        return 0.5 * beliefs + 0.5 * self.towards

class NoTraits:
    report = Shade.report

def longer(pairs, by=1.0):
    n = np.array([len(a) - len(b) for a, b in zip(pairs.response_a, pairs.response_b)])
    return 1 / (1 + np.exp(-by * n))

class Length:
    def __init__(self, by=1.0):
        self.by = by

    def belief(self, pairs):
        return longer(pairs, self.by)

def beyond(pairs):
    return np.full(len(pairs), 1.5)

number = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a module into the working folder, which is not on Python's path."""
    file = tmp_path / f"{MODULE}.py"
    file.write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", os.getcwd())])
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    return file


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "250", "NO_COLOR": "1"})


def fingerprints(out: Path) -> set[str]:
    return {json.loads(path.read_text())["fingerprint"] for path in (out / "stages").rglob("*.json")}


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=40)
    rows = [
        {
            **{"pair_id": f"p{t}", "prompt": "q", "response_a": f"a{t}", "response_b": f"b{t}"},
            **{"labeler_id": f"l{i}", "report": float(np.clip(0.5 + (y - 0.5) * (0.9 - 0.4 * i), 0, 1))},
            "outcome": int(y) if t % 3 == 0 else None,
        }
        for t, y in enumerate(truth)
        for i in range(3)
    ]
    path = tmp_path / "annotations.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_rule_labels_a_campaign_as_the_built_in_one_of_the_same_formula() -> None:
    rng = np.random.default_rng(1)
    reports, outcomes = rng.random((30, 4)), np.where(rng.random(30) < 0.3, 1.0, np.nan)
    reports[3] = np.nan
    own = label_campaign(reports, outcomes, f"{MODULE}:MyMean", "reweighted")
    mean = label_campaign(reports, outcomes, "mean", "reweighted")
    np.testing.assert_allclose(own.soft_labels, mean.soft_labels, atol=1e-12)
    leaning = label_campaign(reports, outcomes, f"{MODULE}:MyMean", "reweighted", lean=0.1)
    assert (
        leaning.soft_labels[~np.isnan(reports).all(axis=1)] > mean.soft_labels[~np.isnan(reports).all(axis=1)]
    ).all()


def test_a_rule_learns_in_aggregate(annotations: Path, tmp_path: Path) -> None:
    labels = {}
    for rule in ("FollowTheLast", "MyMean"):
        out = tmp_path / rule
        result = run("aggregate", str(annotations), "--rule", f"{MODULE}:{rule}", "--out", str(out))
        assert result.exit_code == 0, result.output + repr(result.exception)
        assert f"{MODULE}:{rule}" in result.output
        labels[rule] = pd.read_parquet(out / "soft_labels.parquet")["soft_label"].to_numpy()
    assert (labels["FollowTheLast"] >= 0.94).all(), "the first labeler, who says .95, has everything"
    assert labels["MyMean"].min() < 0.94, "the control"


def test_a_rule_plays_in_simulate_and_audit_and_a_change_of_it_is_noticed(module: Path, tmp_path: Path) -> None:
    rules = f"rules=[{MODULE}:FollowTheLast, mean]"
    simulated = ("simulate", rules, "panels=[honest]", "rounds=[50]", "seeds=1", "--out", str(tmp_path / "s"))
    result = run(*simulated)
    assert result.exit_code == 0, result.output + repr(result.exception)
    assert set(pd.read_csv(tmp_path / "s/regret.csv")["rule"]) == {f"{MODULE}.FollowTheLast", "mean"}
    before = fingerprints(tmp_path / "s")
    run(*simulated)
    assert fingerprints(tmp_path / "s") == before
    module.write_text(CODE + "\n# changed\n")
    run(*simulated)
    assert fingerprints(tmp_path / "s").isdisjoint(before), "the code is part of the fingerprint"
    small = ("rounds=20", "search=2", "fresh=2", "exact_rounds=0", "objectives=[influence]", "strategies=[scale]")
    audited = run("audit", rules, "panels=[honest]", *small, "--out", str(tmp_path / "a"))
    assert audited.exit_code == 0, audited.output + repr(audited.exception)
    assert f"{MODULE}.FollowTheLast" in pd.read_csv(tmp_path / "a/gains.csv")["rule"].tolist()


def test_a_rule_may_stand_in_a_comparison(module: Path) -> None:
    section = RuleSection.model_validate({"name": f"{MODULE}:MyMean", "options": {"lean": 0.1}})
    assert section.title == f"{MODULE}.MyMean lean=0.1", "a name that a folder can have"
    result = run("validate", "quickstart", f"rules=[{{name: {MODULE}:MyMean}}]")
    assert result.exit_code == 0, result.output
    inputs = ConfigSections(sections={"rules": [section.model_dump()]}, content={})
    folder = RunFolder(Path("run"))
    before = folder.checkpoints("labels", inputs)
    module.write_text(CODE.replace("+ self.lean", "- self.lean"))
    assert folder.checkpoints("labels", inputs) != before, "the code is part of a stage's fingerprint"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (f"{MODULE}:Nothing", f"rule={MODULE}:Nothing: the module {MODULE} has no 'Nothing'; expected a class of the "),
        ("no_such_module_here:X", "there is no module 'no_such_module_here'"),
        (f"{MODULE}:number", "this is a int; expected a class of the protocol Aggregator"),
        (f"{MODULE}:NoLearning", "the class has no method 'learn_one'; expected a class of the protocol Aggregator"),
        (f"{MODULE}:NoKey", r"it cannot be called as predict_one\(reports, key\): too many positional arguments"),
        (f"{MODULE}:TwoWeights", r"its weights_ have not the shape \(2,\)"),
    ],
)
def test_what_is_no_rule_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_aggregator(name, 2)
    result = run("validate", "quickstart", f"rules=[{{name: {name}}}]")
    assert result.exit_code == 2
    assert "Error:" in result.output
    assert "Traceback" not in result.output
    (line,) = [line for line in result.output.splitlines() if "rules" in line]
    assert name in line


def test_options_of_a_rule_are_checked_by_its_class() -> None:
    with pytest.raises(ValueError, match="did you mean 'lean'"):
        make_aggregator(f"{MODULE}:MyMean", 2, leen=0.1)
    with pytest.raises(ValueError, match=r"lean must be in \[-1, 1\]"):
        make_aggregator(f"{MODULE}:MyMean", 2, lean=7)


def test_a_module_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_broken_code_of_this_test.py").write_text("1 / 0\n")
    with pytest.raises(ValueError, match="the module my_broken_code_of_this_test fails: ZeroDivisionError"):
        make_aggregator("my_broken_code_of_this_test:X", 2)


PAIRS = Pairs(["1", "2"], ["q", "q"], ["long answer", "x"], ["no", "y"], np.array([1.0, 1.0]), np.array([0.0, 0.0]))


def test_a_strategy_and_a_labeler_of_a_panel() -> None:
    specs = [
        LabelerSpec(name="own", kind=f"{MODULE}:Length", count=2, options={"by": 2.0}),
        LabelerSpec(name="function", kind=f"{MODULE}:longer", strategy={"name": f"{MODULE}:Shade", "towards": 1.0}),
    ]
    panel = Panel.from_specs(specs, np.random.default_rng(0))
    assert panel.labeler_ids == ("own-1", "own-2", "function")
    reports = panel.report(PAIRS, ReportContext())
    own, function = 1 / (1 + np.exp(-2.0 * np.array([9, 0]))), 1 / (1 + np.exp(-1.0 * np.array([9, 0])))
    np.testing.assert_allclose(reports, np.column_stack([own, own, 0.5 * function + 0.5]))
    assert f"{MODULE}:Length" in specs[0].describe()


def test_a_labeler_judges_a_file(tmp_path: Path) -> None:
    rows = [{"pair_id": k, "prompt": "q", "response_a": "a" * k, "response_b": "bb"} for k in range(1, 5)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "jury.yaml").write_text(f"- {{name: own, kind: '{MODULE}:longer', options: {{by: 0.5}}}}\n")
    result = run("judge", "pairs.jsonl", "--panel", "jury.yaml", "--out", "reports.jsonl")
    assert result.exit_code == 0, result.output + repr(result.exception)
    reports = [json.loads(line)["report"] for line in (tmp_path / "reports.jsonl").read_text().splitlines()]
    np.testing.assert_allclose(reports, 1 / (1 + np.exp(-0.5 * np.array([-1, 0, 1, 2]))), atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": f"{MODULE}:Nothing"}, "kind=.*has no 'Nothing'; expected a function, or a class"),
        ({"kind": f"{MODULE}:number"}, "neither a function nor an object with a method belief"),
        ({"kind": f"{MODULE}:Length", "options": {"bye": 1}}, "unexpected keyword argument 'bye'"),
        ({"kind": f"{MODULE}:Length", "model": "x"}, "'model' does not apply to kind"),
        ({"persona": "expert", "strategy": f"{MODULE}:NoTraits"}, "strategy.name=.*no traits; expected a class with"),
        ({"persona": "expert", "strategy": f"{MODULE}:Length"}, "no method 'report'; expected a class with traits"),
        ({"persona": "expert", "options": {"by": 1}}, "'options' does not apply to kind 'simulated'"),
    ],
)
def test_what_is_no_labeler_or_strategy_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelerSpec(name="own", **fields)


def test_wrong_beliefs_are_refused() -> None:
    panel = Panel.from_specs([LabelerSpec(name="own", kind=f"{MODULE}:beyond")], np.random.default_rng(0))
    with pytest.raises(ValueError, match=rf"{MODULE}:beyond returned a belief that is neither in \[0, 1\] nor NaN"):
        panel.report(PAIRS, ReportContext())


def test_strategies_by_name_are_as_before() -> None:
    """The control: a name without a colon is looked up, and never imported."""
    with pytest.raises(ValueError, match="unknown strategy 'my_code_of_this_test'"):
        make_strategy(MODULE)
