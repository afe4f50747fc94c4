"""Entries of a panel: which keys they may have, and what they become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from truthful_rlhf.labelers import (
    LABELERS,
    LabelerSpec,
    LocalJudge,
    Pairs,
    Panel,
    RecordedLabeler,
    RemoteJudge,
    ReportContext,
)
from truthful_rlhf.labelers.judges.ask import ASKS
from truthful_rlhf.labelers.sources import NEUTRAL_PROMPT, make_labelers

REMOTE = {"name": "api", "kind": "remote_judge", "model": "m", "base_url": "http://host/v1"}


def labelers_of(**entry: Any) -> list[Any]:
    return [labeler for labeler, _ in make_labelers(LabelerSpec(**entry), np.random.default_rng(0))]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "x", "persona": "expart"}, "did you mean 'expert'"),
        ({"name": "x", "persona": "expert", "strategy": "exagerate"}, "did you mean 'exaggerate'"),
        ({"name": "x", "persona": "expert", "strategy": {"name": "exaggerate", "scal": 2}}, "'scale'"),
        ({"name": "x", "persona": "expert", "kind": "juge"}, "did you mean 'judge'"),
        ({"name": "x", "persona": "expert", "model": "m"}, "'model' does not apply to kind 'simulated'"),
        ({"name": "x", "kind": "judge", "model": "m", "count": 3}, "'count' does not apply to kind 'judge'"),
        ({"name": "x"}, "kind 'simulated' needs 'persona'"),
        ({"name": "x", "kind": "judge"}, "kind 'judge' needs 'model'"),
        ({"name": "x", "kind": "remote_judge", "model": "m"}, "needs 'base_url'"),
        ({"name": "x", "kind": "recorded"}, "kind 'recorded' needs 'file'"),
        ({"name": "x", "persona": "expert", "count": 0}, "greater than or equal to 1"),
        ({"name": "a/b", "persona": "expert"}, "pattern"),
        ({"name": "x", "persona": "expert", "colour": 1}, "Extra inputs"),
        ({**REMOTE, "base_url": "ftp://host"}, "address of a server"),
    ],
)
def test_a_wrong_entry_is_refused_with_the_nearest_valid_choice(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LabelerSpec(**entry)


@pytest.mark.parametrize(
    "entry",
    [
        {**REMOTE, "api_key_env": "sk-proj-0123456789"},
        {**REMOTE, "base_url": "https://user:sk-proj-0123456789@host/v1"},
        {**REMOTE, "base_url": "https://host/v1?key=sk-proj-0123456789"},
    ],
)
def test_a_key_in_the_config_is_refused_without_being_shown(entry: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as error:
        LabelerSpec(**entry)
    (problem,) = error.value.errors(include_url=False)
    assert problem["type"] == "value_error"  # the config reader shows the message of these, not the input
    assert "sk-proj" not in problem["msg"]


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "bloc", "count": 6, "persona": "contrarian", "strategy": {"name": "exaggerate", "scale": 4}},
        {"name": "odd", "persona": {"like": "expert", "taste": {"gold": 0.5, "length": -1}}},
        {"name": "llm", "kind": "judge", "model": "folder", "persona": "verbose", "batch_size": 2},
        {**REMOTE, "count": 2, "votes": 3, "api_key_env": "KEY"},
        {"name": "people", "kind": "recorded", "file": "a.jsonl", "labeler": "ann"},
        {"name": "people", "kind": "recorded", "file": "a.jsonl", "read": {"votes": {1: "A", 2: "B"}}},
    ],
)
def test_the_resolved_config_describes_the_same_entry(entry: dict[str, Any]) -> None:
    spec = LabelerSpec(**entry)
    assert LabelerSpec(**json.loads(json.dumps(spec.model_dump(mode="json")))) == spec


def test_the_resolved_config_holds_the_whole_persona_but_never_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "sk-secret")
    dump = LabelerSpec(**REMOTE, persona="contrarian", api_key_env="KEY").model_dump(mode="json")
    assert dump["persona"]["taste"] == {"gold": -1.0}
    assert "sk-secret" not in json.dumps(dump)


def test_every_kind_makes_its_class() -> None:
    assert set(LABELERS) == {"simulated", "judge", "remote_judge", "recorded"}
    (judge,) = labelers_of(name="llm", kind="judge", model="folder", persona="verbose", batch_size=2)
    assert isinstance(judge, LocalJudge)
    assert (judge.model, judge.batch_size, judge.labeler_id) == ("folder", 2, "llm")
    assert "longer" in judge.told.prompt
    (scoring,) = labelers_of(name="llm", kind="judge", model="folder", persona="expert", ask="score", scale=2.0)
    assert (scoring.ask is ASKS["score"], scoring.scale, scoring.told.words[0][0]) == (True, 2.0, "happy")
    assert scoring.told.likes
    assert "{text}" in scoring.told.question
    first, second = labelers_of(**REMOTE, count=2, votes=3, api_key_env="KEY", price_in=1.0, price_out=2.0)
    assert isinstance(first, RemoteJudge)
    assert (first.labeler_id, second.labeler_id) == ("api-1", "api-2")
    assert (first.connection.votes, first.connection.api_key_env, first.usage_.price_out) == (3, "KEY", 2.0)
    assert first.connection.seed != second.connection.seed
    assert first.persona == NEUTRAL_PROMPT


def test_a_server_is_not_asked_for_the_probabilities_of_words() -> None:
    for ask in ("score", "rate", "channel"):
        with pytest.raises(ValueError, match=r"servers do not give; leave ask out .* or use kind: judge"):
            LabelerSpec(**REMOTE, ask=ask)
    assert LabelerSpec(**REMOTE, ask="compare").ask == "compare"


def test_a_channel_needs_examples() -> None:
    judge = {"name": "llm", "kind": "judge", "model": "folder", "ask": "channel"}
    with pytest.raises(ValueError, match="needs a persona with likes and dislikes"):
        LabelerSpec(**judge, persona="noisy")
    assert LabelerSpec(**judge, persona="formal").persona is not None


def test_recorded_people_sit_on_a_panel_under_their_own_names(tmp_path: Path) -> None:
    """Ann judged both pairs (0.9, 0.2) and flips; bob judged the second only (0.7)."""
    row = {"prompt": "q", "response_a": "x", "response_b": "y"}
    rows = [
        {**row, "pair_id": "p1", "labeler_id": "ann", "report": 0.9},
        {**row, "pair_id": "p2", "labeler_id": "ann", "report": 0.2},
        {**row, "pair_id": "p2", "labeler_id": "bob", "report": 0.7},
    ]
    file = tmp_path / "people.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    pairs = Pairs(["p1", "p2"], ["q", "q"], ["x", "x"], ["y", "y"])
    everybody = LabelerSpec(name="crowd", kind="recorded", file=file, strategy="flip")
    panel = Panel.from_specs([everybody], np.random.default_rng(0))
    assert panel.labeler_ids == ("ann", "bob")
    np.testing.assert_allclose(panel.report(pairs, ReportContext(rule="mean")), [[0.1, np.nan], [0.8, 0.3]], atol=1e-12)
    only_bob = labelers_of(name="b", kind="recorded", file=file, labeler="bob")
    assert [type(labeler) for labeler in only_bob] == [RecordedLabeler]
    with pytest.raises(ValueError, match="did you mean 'bob'"):
        labelers_of(name="b", kind="recorded", file=file, labeler="bobb")


def test_a_recorded_entry_says_how_its_file_is_to_be_read(tmp_path: Path) -> None:
    """Votes 1 and 2 mean nothing by themselves; the entry says that 1 is the first response."""
    rows = "".join(f'{{"pair_id": "p{k}", "who": "ann", "vote": {k}}}\n' for k in (1, 2))
    file = tmp_path / "people.jsonl"
    file.write_text(rows, encoding="utf-8")
    entry = yaml.safe_load(
        f"{{name: people, kind: recorded, file: {file}, "
        "read: {columns: {labeler_id: who, report: vote}, votes: {1: A, 2: B}}}"
    )
    (ann,) = labelers_of(**entry)
    assert ann.belief(Pairs(["p1", "p2"], ["", ""], ["", ""], ["", ""])).tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="--vote 1=first: a code means one of A, B, tie, none"):
        LabelerSpec(name="x", kind="recorded", file=file, read={"votes": {1: "first"}})
    with pytest.raises(ValueError, match="'read' does not apply to kind 'judge'"):
        LabelerSpec(name="x", kind="judge", model="m", read={"votes": {1: "A"}})
