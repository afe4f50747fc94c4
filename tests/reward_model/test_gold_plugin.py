"""A gold reward of the user's own, by its import path."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from truthful_rlhf.pipeline.cli import app
from truthful_rlhf.pipeline.config.experiment import GoldSection
from truthful_rlhf.pipeline.storage.inputs import ConfigSections, with_own_code
from truthful_rlhf.reward_model.gold import make_gold

CODE = """
def score(prompts, responses):
    return [len(response) for response in responses]

class Shortest:
    def score(self, prompts, responses):
        return [-len(response) for response in responses]

def too_few(prompts, responses):
    return [1.0]

def endless(prompts, responses):
    return [float("inf")] * len(responses)

text = "no function"
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a module into the working folder, which is not on Python's path."""
    (tmp_path / "my_rewards_of_this_test.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", os.getcwd())])
    monkeypatch.delitem(sys.modules, "my_rewards_of_this_test", raising=False)
    return tmp_path / "my_rewards_of_this_test.py"


def test_a_function_and_a_class_score() -> None:
    texts = (["a", "b"], [" long text", " x"])
    assert make_gold("my_rewards_of_this_test:score").score(*texts).tolist() == [10.0, 2.0]
    assert make_gold("my_rewards_of_this_test:Shortest").score(*texts).tolist() == [-10.0, -2.0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_rewards_of_this_test:scor", "has no 'scor'"),
        ("no_such_module_here:score", "there is no module 'no_such_module_here'"),
        ("my_rewards_of_this_test:text", "neither a function nor an object"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_gold(name)


@pytest.mark.parametrize(("name", "message"), [("too_few", "returned shape"), ("endless", "no finite number")])
def test_wrong_rewards_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_gold(f"my_rewards_of_this_test:{name}").score(["a", "b"], ["c", "d"])


def test_a_change_of_the_code_changes_the_fingerprint(module: Path) -> None:
    """So that a run does not go on with the rewards of the code before."""
    section = GoldSection(name="my_rewards_of_this_test:score").model_dump(mode="json")
    inputs = ConfigSections(sections={"gold": section}, content={})
    before = with_own_code(inputs)
    assert list(before["own_code"]) == ["my_rewards_of_this_test:score"]
    module.write_text(CODE.replace("len(response)", "2 * len(response)"))
    assert with_own_code(inputs) != before


def test_validate_refuses_what_is_not_there_in_one_line() -> None:
    result = CliRunner().invoke(app, ["validate", "quickstart", "gold.name=my_rewards_of_this_test:scor"])
    assert result.exit_code == 2
    assert (
        "Error: gold.name=my_rewards_of_this_test:scor: the module my_rewards_of_this_test has no 'scor'"
        in result.output
    )
