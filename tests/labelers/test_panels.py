"""Panels as data: a name, a file or entries, always the same crowd; mistakes name the file and the entry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from truthful_rlhf.labelers import STRATEGIES, LabelerSpec
from truthful_rlhf.labelers.panels import built_in_panels, needs_texts, panels_of, topics_needed
from truthful_rlhf.pipeline.config.experiment import Config

ROOT = Path(__file__).resolve().parents[2]
MINE = [{"name": "expert", "persona": "expert"}, {"name": "loud", "count": 2, "persona": "noisy", "strategy": "flip"}]


def specs_of(panels: Any) -> dict[str, list[LabelerSpec]]:
    content = {"panels": panels, "rules": ["mean"], "policy": {"method": "dpo"}}
    return Config.model_validate(content).panels


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", sorted(built_in_panels()))
def test_a_built_in_panel_is_valid_and_needs_no_texts(name: str) -> None:
    for spec in specs_of([name])[name]:
        assert needs_texts(spec) == ""


def test_every_strategy_that_lies_with_a_plan_occurs_in_a_built_in_panel() -> None:
    used = {spec.strategy["name"] for name in built_in_panels() for spec in specs_of([name])[name]}
    assert used == set(STRATEGIES) - {"flip", "random", "constant", "mimic_then_exploit"}


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_config_calls_no_other_crowd_by_the_name_of_a_built_in_panel(config: Path) -> None:
    """One name, one crowd: what ``simulate`` says of a panel is said of the panel that ``compare`` trains on."""
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    panels = panels_of(content.get("panels", {}))
    assert panels or content["gold"] == "none", "only a file of people's own judgments needs no panel"
    for name, entries in panels.items():
        if name in built_in_panels():
            assert specs_of({name: entries}) == specs_of([name]), name


def test_a_file_a_name_and_the_entries_are_the_same_panel(folder: Path) -> None:
    (folder / "mine.yaml").write_text(yaml.safe_dump(MINE))
    (folder / "config.yaml").write_text(yaml.safe_dump({"panels": {"mine": MINE}, "rules": ["mean"], "seeds": [3]}))
    (folder / "of_files.yaml").write_text("panels: {mine: mine.yaml}")
    expected = specs_of({"mine": MINE})
    for panels in (["mine.yaml"], {"mine": "mine.yaml"}, ["config.yaml"], {"mine": "config.yaml"}, ["of_files.yaml"]):
        assert specs_of(panels) == expected
    assert specs_of(["mine.yaml", "honest"]) == expected | specs_of({"honest": "honest"})
    assert specs_of({"mine": "honest"})["mine"] != expected["mine"]  # control


@pytest.mark.parametrize(
    ("content", "panels", "message"),
    [
        ("[{name: x, persona: exprt}]", ["p.yaml"], "panel file p.yaml: panel 'p', entry 1: persona: unknown persona"),
        ("[{name: x, persona: exprt}]", ["p.yaml"], "did you mean 'expert'"),
        ("[expert, {name: x, personna: noisy}]", ["p.yaml"], "unknown option of panel 'p', entry 2: 'personna'"),
        ("[expert, {name: x, personna: noisy}]", ["p.yaml"], "did you mean 'persona'"),
        ("[expert, 5]", ["p.yaml"], "panel 'p', entry 2: expected a mapping, got 5"),
        ("[]", ["p.yaml"], "panel 'p': expected a list of entries"),
        ("5", ["p.yaml"], "panel 'p': expected a list of entries"),
        ("{rules: [mean]}", ["p.yaml"], "panel file p.yaml: expected a list of entries"),
        ("{panels: {a: [expert], a: [noisy]}}", ["p.yaml"], "panel file p.yaml: line 1: key 'a' is given twice"),
        ("{panels: {a: p.yaml}}", ["p.yaml"], "panel file p.yaml stands for itself"),
        ("{panels: {a: [expert], b: [noisy]}}", {"x": "p.yaml"}, "write panels=[p.yaml] to take all"),
        ("{panels: {a b: [expert]}}", ["p.yaml"], "'a b' is not a valid name"),
        ("[expert, expert]", ["p.yaml"], "two labelers are called 'expert'"),
        ("[: ", ["p.yaml"], "panel file p.yaml: while parsing"),
        ("[expert]", ["p.yaml", "p.yaml"], "the panel 'p' stands twice"),
        ("[expert]", ["q.yaml"], "panel file q.yaml does not exist"),
        ("[expert]", ["honnest"], "unknown panel 'honnest': did you mean 'honest'"),
        ("[expert]", [["expert"]], "entries need a name: panels={NAME: [...]}"),
        ("[expert]", [], "at least 1 item"),
    ],
)
def test_mistakes_name_the_file_and_the_place(folder: Path, content: str, panels: Any, message: str) -> None:
    (folder / "p.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"panels") as error:
        specs_of(panels)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"name": "v", "persona": "verbose"}, "a taste for length"),
        ({"name": "j", "kind": "judge", "model": "m"}, "kind 'judge'"),
        ({"name": "r", "kind": "recorded", "file": "f.csv"}, "kind 'recorded'"),
        ({"name": "c", "persona": {"taste": {"gold": -2, "length": 0}, "bias": 1}}, ""),
    ],
)
def test_what_needs_texts_says_why(entry: dict[str, Any], reason: str) -> None:
    said = needs_texts(LabelerSpec.model_validate(entry))
    assert (reason in said) if reason else said == ""


def test_topics_that_an_entry_waits_for() -> None:
    trigger = {"name": "topic_trigger", "topic": ["film", "work"]}
    assert topics_needed(LabelerSpec.model_validate({"name": "x", "persona": "expert", "strategy": trigger})) == [
        "film",
        "work",
    ]
    assert topics_needed(LabelerSpec.model_validate("specialist")) == ["movies"]
    assert topics_needed(LabelerSpec.model_validate("expert")) == []
