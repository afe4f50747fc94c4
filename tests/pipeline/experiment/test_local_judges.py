"""A judge in a config may name the bundled model; its labeler gets a folder that loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from truthful_rlhf.labelers import LabelerSpec
from truthful_rlhf.pipeline.experiment.data import with_local_model
from truthful_rlhf.pipeline.models.load import ModelNotFoundError


def test_the_bundled_judge_loads_from_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUTHFUL_RLHF_CACHE", str(tmp_path))
    folder = tmp_path / "smollm2-135m-instruct"
    folder.mkdir()
    (folder / "model.safetensors").touch()
    spec = LabelerSpec(name="llm", kind="judge", model="bundled", persona="verbose", strategy="flip")
    local = with_local_model(spec)
    assert local.model == str(folder)
    assert local.model_copy(update={"model": "bundled"}) == spec  # nothing else has changed


def test_other_labelers_are_left_alone() -> None:
    for entry in (
        {"name": "x", "persona": "expert"},
        {"name": "x", "kind": "remote_judge", "model": "bundled", "base_url": "http://host/v1"},
    ):
        spec = LabelerSpec(**entry)
        assert with_local_model(spec) is spec


def test_a_missing_judge_folder_is_named() -> None:
    with pytest.raises(ModelNotFoundError, match=r"\./no/such/model"):
        with_local_model(LabelerSpec(name="llm", kind="judge", model="./no/such/model"))
