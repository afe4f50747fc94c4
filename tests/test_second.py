"""The second model and gold reward of the evidence, made small: from an archive of the same shape and a tiny model."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import torch

from benchmarks import second
from truthful_rlhf.pipeline.models.load import load_model
from truthful_rlhf.reward_model.gold import ClassifierGold


@pytest.fixture
def folder(tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the archive of ratings, where the bundled model is a tiny one."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "smollm2-135m-instruct").symlink_to(tiny_model_folder)
    monkeypatch.setenv("TRUTHFUL_RLHF_CACHE", str(cache))
    learned_at_once = {"GOLD_RATE": 0.02, "BATCH": 4}
    small = {"N_PAIRS": 4, "N_TOKENS": 3, "N_RESPONSES": 2, "DROPPED": range(1, 2), "GOLD_LAYERS": 1}
    for name, value in (small | learned_at_once).items():
        monkeypatch.setattr(second, name, value)
    lines = "".join(f"{k}\t{4 if k % 2 else -4}\ta {'good' if k % 2 else 'bad'} day\r\n" for k in range(60))
    inner = archive({f"hutto_ICWSM_2014/{name}_GroundTruth.txt": lines.encode() for name in second.TEXTS})
    content = archive({f"vaderSentiment-3.3.2/{second.ARCHIVE}": inner})
    (tmp_path / "vaderSentiment-3.3.2.tar.gz").write_bytes(content)
    return tmp_path


def archive(files: dict[str, bytes]) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as out:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    return whole.getvalue()


def test_ratings_are_read_as_shares_of_the_scale(folder: Path) -> None:
    rated = second.rated_texts(folder)
    assert len(rated) == 60 * len(second.TEXTS)
    assert set(zip(rated["text"], rated["rating"], strict=True)) == {("a good day", 1.0), ("a bad day", -1.0)}


def test_the_gold_reward_is_learned_and_loads_as_one(folder: Path) -> None:
    found = second.train_gold(folder)
    assert set(found) == {"correlation with people", "VADER's", "kappa"}
    assert found["VADER's"] == pytest.approx(1.0)
    assert found["kappa"] >= 0, "VADER is silent about gibberish"
    gold = ClassifierGold(str(folder / "gold"))
    assert gold.model.config.num_hidden_layers == 1
    good, bad = gold.score(["", ""], ["a good day", "a bad day"])
    assert good > bad


def test_the_second_model_is_shorter_and_still_speaks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second, "N_PROMPTS", {"train": 40, "held_out": 10})
    torch.manual_seed(0)
    found = second.train_model(folder)
    assert found["layers"] == 1
    assert found["loss after"] < found["loss before"]
    assert load_model(str(folder / "model")).config.num_hidden_layers == 1
