"""The run folder: what is done is skipped, what changed is built again, what broke is never read."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from truthful_rlhf.pipeline.storage.artifacts import (
    RunFolder,
    RunFolderError,
    fingerprint,
    write_json,
    write_text_atomically,
)
from truthful_rlhf.pipeline.storage.inputs import ConfigSections, StageInputs


@dataclass(frozen=True, kw_only=True)
class Number(StageInputs):
    """A stage that depends on a number."""

    k: int | None


@dataclass(frozen=True, kw_only=True)
class Both(StageInputs):
    """A stage that depends on two parts."""

    number: Number
    k: int | None = None


class CountedBuild:
    """Writes ``a/data.txt`` and counts how often it was asked to."""

    def __init__(self, text: str = "x") -> None:
        self.calls = 0
        self.text = text

    def __call__(self, scratch: Path) -> None:
        self.calls += 1
        (scratch / "a").mkdir()
        (scratch / "a" / "data.txt").write_text(self.text)


def test_a_stage_is_built_once_and_again_when_its_inputs_change(tmp_path: Path) -> None:
    folder, build = RunFolder(tmp_path), CountedBuild()
    first = folder.stage("s", Number(k=1), ["a/data.txt"], build)
    assert folder.stage("s", Number(k=1), ["a/data.txt"], build) == first
    assert build.calls == 1
    assert folder.stage("s", Number(k=2), ["a/data.txt"], build) != first
    assert build.calls == 2


@pytest.mark.parametrize("damage", ["truncate", "delete", "manifest"])
def test_a_damaged_artefact_is_built_again(tmp_path: Path, damage: str) -> None:
    folder, build = RunFolder(tmp_path), CountedBuild("content")
    folder.stage("s", StageInputs(), ["a/data.txt"], build)
    if damage == "truncate":
        (tmp_path / "a/data.txt").write_text("cont")
    elif damage == "delete":
        (tmp_path / "a/data.txt").unlink()
    else:
        (tmp_path / "stages/s.json").write_text('{"fingerprint": ')
    folder.stage("s", StageInputs(), ["a/data.txt"], build)
    assert build.calls == 2
    assert (tmp_path / "a/data.txt").read_text() == "content"


def test_a_folder_artefact_notices_an_added_file(tmp_path: Path) -> None:
    folder, build = RunFolder(tmp_path), CountedBuild()
    folder.stage("s", StageInputs(), ["a"], build)
    (tmp_path / "a" / "other.txt").write_text("smuggled in")
    folder.stage("s", StageInputs(), ["a"], build)
    assert build.calls == 2
    assert not (tmp_path / "a" / "other.txt").exists()


def test_a_build_that_fails_leaves_no_artefact_and_no_scratch(tmp_path: Path) -> None:
    def fails(scratch: Path) -> None:
        (scratch / "a").mkdir()
        (scratch / "a" / "data.txt").write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        RunFolder(tmp_path).stage("s", StageInputs(), ["a/data.txt"], fails)
    assert list(tmp_path.rglob("*")) == []


def test_a_full_disk_is_explained_and_loses_nothing(tmp_path: Path) -> None:
    def full(scratch: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder, build = RunFolder(tmp_path), CountedBuild()
    folder.stage("first", StageInputs(), ["a/data.txt"], build)
    with pytest.raises(RunFolderError, match="no space left on the disk while writing stage 'second'"):
        folder.stage("second", StageInputs(), ["b.txt"], full)
    folder.stage("first", StageInputs(), ["a/data.txt"], build)
    assert build.calls == 1


def test_two_runs_into_one_folder_are_refused(tmp_path: Path) -> None:
    second = RunFolder(tmp_path).locked()
    with RunFolder(tmp_path).locked(), pytest.raises(RunFolderError, match="another run is writing"), second:
        pass
    with RunFolder(tmp_path).locked():  # free again
        pass


def test_a_refused_run_touches_nothing(tmp_path: Path) -> None:
    def state() -> dict[Path, tuple[int, int, bytes]]:
        seen = [tmp_path, *tmp_path.rglob("*")]
        content = {path: path.read_bytes() if path.is_file() else b"" for path in seen}
        return {path: (path.stat().st_mtime_ns, path.stat().st_size, content[path]) for path in seen}

    with RunFolder(tmp_path).locked():
        (tmp_path / ".scratch-x").write_text("the first run is at work")
        (tmp_path / ".lock").write_text("what another program may have left")
        before = state()
        with pytest.raises(RunFolderError, match="another run"), RunFolder(tmp_path).locked():
            pass
        assert state() == before
    with RunFolder(tmp_path).locked():
        assert not (tmp_path / ".scratch-x").exists(), "the control: a run that is not refused tidies up"


def test_a_killed_process_frees_the_folder(tmp_path: Path) -> None:
    code = (
        "import sys, time; from truthful_rlhf.pipeline.storage.artifacts import RunFolder\n"
        "with RunFolder(sys.argv[1]).locked():\n    print('held', flush=True)\n    time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunFolderError, match="another run is writing"), RunFolder(tmp_path).locked():
            pass
    finally:
        holder.kill()
        holder.communicate()
    with RunFolder(tmp_path).locked():  # nobody tidied up behind the killed process
        pass


@pytest.mark.parametrize("place", [".", "figures", "stages/seed-0"])
def test_leftovers_of_a_killed_run_are_removed(place: str, tmp_path: Path) -> None:
    """Scratch folders of stages, and files that have no name yet; a folder of somebody else's below is not touched."""
    folder, others = tmp_path / place, tmp_path / "inner-run"
    for path in (folder, others):
        path.mkdir(parents=True, exist_ok=True)
        (path / ".scratch-dead").mkdir()
        (path / ".scratch-report.html-x1").write_text("half a rep")
    with RunFolder(tmp_path).locked():
        assert not list(folder.glob(".scratch-*"))
        assert len(list(others.iterdir())) == 2


def test_a_file_killed_before_it_got_its_name_is_a_leftover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(SystemExit))
        patch.setattr(os, "unlink", lambda *_: None)  # a killed process does not clean up
        with pytest.raises(SystemExit):
            write_text_atomically(tmp_path / "report.html", "new")
    (leftover,) = tmp_path.iterdir()
    with RunFolder(tmp_path).locked():
        assert not leftover.exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask to speak of")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_file_has_the_mode_that_the_umask_leaves(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_text_atomically(tmp_path / "report.html", "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "report.html").stat().st_mode) == mode


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="choose another --out"), RunFolder(tmp_path / "file" / "run").locked():
        pass


def test_fingerprints_ignore_key_order_and_refuse_nan() -> None:
    assert fingerprint({"a": 1, "b": [1.5]}) == fingerprint({"b": [1.5], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    with pytest.raises(ValueError, match="JSON"):
        fingerprint({"a": float("nan")})


def test_atomic_write_keeps_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "f.json"
    write_json(target, {"old": True})

    def no_replace(*_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(os, "replace", no_replace)
    with pytest.raises(OSError, match="no"):
        write_text_atomically(target, "new")
    assert json.loads(target.read_text()) == {"old": True}
    assert list(tmp_path.iterdir()) == [target]


def test_inputs_are_flat_and_a_name_stands_for_one_of_them() -> None:
    assert Both(number=Number(k=1)).as_json() == {"k": 1}
    assert Both(number=Number(k=None)).as_json() == {}, "None: the stage does not depend on it"
    sections = ConfigSections(sections={"gold": {"name": "vader"}}, content={})
    assert sections.as_json() == {"gold": {"name": "vader"}, "content": {}}
    with pytest.raises(ValueError, match="more than one input is called 'k'"):
        Both(number=Number(k=1), k=2).as_json()
