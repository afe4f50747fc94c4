"""A changed file rebuilds the stages that depend on it, and no others."""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import BaseModel, TypeAdapter

from truthful_rlhf.labelers.checked import LocalPath
from truthful_rlhf.labelers.panels import Panels
from truthful_rlhf.pipeline.config.experiment import Config
from truthful_rlhf.pipeline.experiment.conditions import GRID, SINGLE, Condition
from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.experiment.data import build_labels
from truthful_rlhf.pipeline.experiment.evaluation import build_shared, evaluate
from truthful_rlhf.pipeline.experiment.grid import cells
from truthful_rlhf.pipeline.storage.artifacts import RunFolder, fingerprint
from truthful_rlhf.pipeline.storage.contents import contents

ROWS = [
    {
        **{"pair_id": f"p{k}", "prompt": f"opener {k}", "response_a": "good, great", "response_b": "bad, awful"},
        **{"labeler_id": "ann", "report": 0.2 + 0.1 * (k % 5)},
    }
    for k in range(10)
]
POLICY = [{"method": "dpo"}, {"method": "rloo"}, {"method": "best_of_n", "n": 2}]


class Plan(RunFolder):
    """A run folder that builds nothing: it notes the fingerprint of every stage."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.keys: dict[str, str] = {}

    def stage(self, name: str, inputs: Any, outputs: Any, build: Any, together: bool = False) -> str:
        self.keys[name] = fingerprint({"stage": name, **inputs.as_json()})
        return self.keys[name]


def planned(config: Config, root: Path) -> dict[str, str]:
    """Return the fingerprint of every stage of a config's grid."""
    plan = Plan(root)
    experiment = Experiment(config, plan, GRID)
    for seed in config.seeds:
        build_shared(experiment, seed)
        for cell in cells(config, seed):
            for condition in cell:
                evaluate(experiment, condition)
    return plan.keys


def model_folder(path: Path) -> Path:
    path.mkdir()
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(b"weights")
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Everything that a config can name: three models, prompts, pairs, and what one labeler reported."""
    found = {name: model_folder(tmp_path / name) / "model.safetensors" for name in ("base", "judge", "gold")}
    for name in ("panel", "pairs"):
        found[name] = tmp_path / f"{name}.jsonl"
        found[name].write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    found["prompts"] = tmp_path / "prompts.jsonl"
    found["prompts"].write_text('{"prompt": "The film was"}\n')
    return found


def config(files: dict[str, Path], **changes: Any) -> Config:
    folder = {name: str(files[name].parent) for name in ("base", "judge", "gold")}
    content = {
        "model": {"name_or_path": folder["base"]},
        "prompts": {"source": str(files["prompts"])},
        "gold": {"name": folder["gold"]},
        "panels": {
            "people": [{"name": "people", "kind": "recorded", "file": str(files["panel"])}],
            "models": [{"name": "llm", "kind": "judge", "model": folder["judge"]}],
        },
        "rules": ["mean"],
        "policy": POLICY,
    }
    return Config.model_validate(content | changes)


def rebuilt(files: dict[str, Path], changed: str, root: Path, **changes: Any) -> tuple[set[str], set[str]]:
    """Return the stages that are built again after a change of one file, and those that are kept."""
    before = planned(config(files, **changes), root)
    with files[changed].open("ab") as file:
        file.write(b"\n")
    after = planned(config(files, **changes), root)
    assert list(before) == list(after)
    again = {name for name in after if after[name] != before[name]}
    return again, set(after) - again


@pytest.mark.parametrize("changed", ["base", "prompts", "gold"])
def test_everything_depends_on_what_writes_and_scores_the_pairs(
    changed: str, files: dict[str, Path], tmp_path: Path
) -> None:
    again, kept = rebuilt(files, changed, tmp_path)
    assert len(again) > 20
    assert kept == set()


@pytest.mark.parametrize(("changed", "panel"), [("panel", "people"), ("judge", "models")])
def test_what_a_panel_reads_rebuilds_its_own_labels_and_policies(
    changed: str, panel: str, files: dict[str, Path], tmp_path: Path
) -> None:
    again, kept = rebuilt(files, changed, tmp_path)
    assert f"seed-0/{panel}/mean/labels" in again
    assert again == {name for name in again | kept if f"/{panel}/" in name}
    assert {"seed-0/pairs", "seed-0/outcomes", "seed-0/reference", "seed-0/base/evaluation"} <= kept


RECORDED = {"pairs", "outcomes", "reference", "labels", "reward_model", "policy", "evaluation", "best_of_n"}


@pytest.mark.parametrize(
    ("changed", "kinds", "kept_kinds"),
    [
        ("pairs", RECORDED, {"base/evaluation", "candidates"}),
        # recorded pairs were written by nobody here: a change of the model trains again, and asks no labeler again
        ("base", RECORDED - {"pairs", "outcomes", "labels"} | {"candidates"}, {"pairs", "outcomes", "labels"}),
        (
            "prompts",
            {"policy", "evaluation", "candidates", "best_of_n"},
            RECORDED - {"policy", "evaluation", "best_of_n"},
        ),
    ],
)
def test_recorded_pairs_depend_on_their_file(
    changed: str, kinds: set[str], kept_kinds: set[str], files: dict[str, Path], tmp_path: Path
) -> None:
    again, kept = rebuilt(files, changed, tmp_path, pairs={"file": str(files["pairs"])})
    assert {name.split("/")[-1] for name in again} == kinds
    assert kept_kinds <= {name.removeprefix("seed-0/").removeprefix("people/mean/") for name in kept}
    if changed == "prompts":  # DPO reads pairs alone
        assert {name for name in kept if name.endswith("/policy")} == {
            name for name in kept if name.endswith("/dpo/policy")
        }
        assert any(name.endswith("/rloo/policy") for name in again)


def test_the_loop_depends_on_prompts_and_model_though_its_first_pairs_are_recorded(
    files: dict[str, Path], tmp_path: Path
) -> None:
    changes = {"pairs": {"file": str(files["pairs"])}, "policy": [{"method": "online_dpo", "iterations": 2}]}
    again, kept = rebuilt(files, "prompts", tmp_path, **changes)
    assert {name for name in again if name.endswith("online/1/pairs")}
    assert {name for name in kept if name.endswith(("online/0/pairs", "online/0/reports", "online/0/policy"))}
    again, kept = rebuilt(files, "base", tmp_path, **changes)
    assert {name for name in again if name.endswith(("online/0/reference", "online/0/policy", "online/1/pairs"))}
    assert {name for name in kept if name.endswith(("online/0/pairs", "online/0/reports"))}


def test_nothing_is_rebuilt_by_what_the_config_does_not_name(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that are no paths, in a folder that has files of these names; and the server's name of a model."""
    monkeypatch.chdir(tmp_path)
    panel = [{"name": "api", "kind": "remote_judge", "model": "m", "base_url": "http://127.0.0.1:9/v1"}]
    content = {"panels": {"p": panel}, "rules": ["mean"], "policy": {"method": "dpo"}}
    for name in ("bundled", "vader", "m", "mean", "api", "dpo"):
        model_folder(tmp_path / name)
    assert contents(Config.model_validate(content)) == {}


def test_a_changed_panel_file_gives_new_labels(files: dict[str, Path], tmp_path: Path) -> None:
    """From the file to the artefact: what was read before is not in the labels any more."""
    changes = {"pairs": {"file": str(files["pairs"])}, "gold": {"name": "vader"}}

    def labels() -> list[float]:
        checked = config(files, **changes)
        experiment = Experiment(checked, RunFolder(tmp_path / "run"), SINGLE)
        experiment.folder.root.mkdir(exist_ok=True)
        build_labels(experiment, Condition(0, "people", checked.rules[0], checked.policy[0]))
        return pd.read_parquet(tmp_path / "run" / "reports.parquet")["report"].tolist()

    assert labels() == pytest.approx([row["report"] for row in ROWS])
    files["panel"].write_text("".join(json.dumps(row | {"report": 0.9}) + "\n" for row in ROWS))
    assert labels() == pytest.approx([0.9] * len(ROWS))


INLINED = {"Config.panels"}
"""Keys whose file is read when the config is loaded: the config, and so every fingerprint of it, holds its content."""


def test_the_content_of_a_panel_file_is_in_the_config(tmp_path: Path) -> None:
    path = tmp_path / "crowd.yaml"

    def loaded(persona: str) -> dict[str, Any]:
        path.write_text(f"[{{name: someone, persona: {persona}}}]")
        panels = TypeAdapter(Panels).validate_python([str(path)])
        assert str(path) not in str(panels)
        return dict(panels)

    assert loaded("expert") == loaded("expert")
    assert loaded("expert") != loaded("noisy")


def test_a_key_that_is_said_to_name_a_file_or_folder_is_walked() -> None:
    """Whoever adds such a key and forgets the mark is told here."""
    named = {
        key
        for key, field in _fields(Config)
        if re.search(r"(?<!the )\b(file|folder)\b", field.description or "") or Path in _types(field.annotation)
    }
    marked = {
        key
        for key, field in _fields(Config)
        if Path in _types(field.annotation) or any(isinstance(data, LocalPath) for data in field.metadata)
    }
    assert named - marked == INLINED
    assert marked <= named
    assert named >= {"ModelSection.name_or_path", "PromptsSection.source", "GoldSection.name", "LabelerSpec.model"}


def _types(annotation: Any) -> set[Any]:
    inner = typing.get_args(annotation)
    return {annotation} | {found for part in inner for found in _types(part)}


def _fields(model: type[BaseModel], seen: set[Any] | None = None) -> Iterator[tuple[str, Any]]:
    """Yield every field of a model and of the models below it."""
    seen = set() if seen is None else seen
    if model in seen:
        return
    seen.add(model)
    for name, field in model.model_fields.items():
        yield f"{model.__name__}.{name}", field
        for inner in _types(field.annotation):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _fields(inner, seen)
