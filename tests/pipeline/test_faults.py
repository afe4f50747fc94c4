"""Runs that are killed, interrupted, out of disk or tampered with: a clear line, and the same numbers in the end."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from tests.pipeline.test_compare import command

SAME = ("results.csv", "results.md", "seed-0/outcomes.parquet", "seed-0/pairs/pairs.parquet")


@pytest.fixture(scope="module")
def finished(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of an undisturbed comparison."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    result = CliRunner().invoke(app, command(tiny_model_folder, out))
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture
def started(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def assert_it_ends_as_if_undisturbed(arguments: list[str], out: Path, finished: Path) -> str:
    """Start the run again, compare its numbers with the undisturbed run's, and return what was printed."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    for name in SAME:
        assert (out / name).read_bytes() == (finished / name).read_bytes(), name
    assert not list(out.glob(".scratch-*"))
    assert not [path for path in out.rglob(".*") if path.name != ".lock"], "half-written files"
    return result.output


def assert_one_clear_line(output: str, *words: str) -> None:
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if line.startswith("Error:")]
    for word in words:
        assert word in line


def _compare(arguments: list[str]) -> None:
    raise SystemExit(CliRunner().invoke(app, arguments).exit_code)


@pytest.mark.slow
def test_kill_nine_at_random_times(finished: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    """Unlike the kills of test_compare, between two files, these fall anywhere: into sampling, training, writing."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["pipeline.stages", "pipeline.dpo", "pipeline.compare", "pipeline.report"])
    rng, out, deaths, patience = np.random.default_rng(1), tmp_path / "run", 0, 2.0
    arguments = command(tiny_model_folder, out)
    while True:
        child = processes.Process(target=_compare, args=(arguments,))
        child.start()
        child.join(rng.uniform(0.5, 1.5) * patience)
        if child.exitcode is not None:
            assert child.exitcode == 0
            break
        child.kill()
        child.join()
        deaths += 1
        patience *= 1.2  # a stage that takes longer than any start lives would never be finished
    assert deaths >= 4
    assert_it_ends_as_if_undisturbed(arguments, out, finished)


def test_ctrl_c_during_training(finished: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = command(tiny_model_folder, out)
    line = [sys.executable, "-u", "-m", "pipeline.cli", *arguments]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        printed = ""
        for text in process.stdout:
            printed += text
            if re.match(r"▶ .*truth/dpo/policy", text):
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    assert "Traceback" not in printed
    assert "Stopped. Finished stages are kept: the same command goes on from there." in printed
    assert "✓ seed-0/pairs (already there)" in assert_it_ends_as_if_undisturbed(arguments, out, finished)


DAMAGED = {
    "truncated table": ("seed-0/pairs/pairs.parquet", lambda content: content[: len(content) // 2]),
    "flipped byte in labels": ("seed-0/biased_majority/mean/soft_labels.parquet", lambda c: c[:40] + b"?" + c[41:]),
    "truncated weights": ("seed-0/shared/truth/dpo/policy/adapter_model.safetensors", lambda content: content[:-100]),
    "emptied evaluation": ("seed-0/biased_majority/mean/dpo/evaluation.json", lambda content: b""),
    "half a manifest": ("stages/seed-0/shared/truth/dpo/policy.json", lambda content: content[: len(content) // 2]),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_corrupt_artefact_is_built_again(damage: str, started: Path, finished: Path, tiny_model_folder: Path) -> None:
    name, spoil = DAMAGED[damage]
    path = started / name
    path.write_bytes(spoil(path.read_bytes()))
    assert path.read_bytes() != (finished / name).read_bytes()
    output = assert_it_ends_as_if_undisturbed(command(tiny_model_folder, started), started, finished)
    assert "▶" in output, "the control: something was built again"
    assert path.stat().st_size == (finished / name).stat().st_size


def test_two_runs_into_one_folder(started: Path, finished: Path, tiny_model_folder: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", f"""if True:
            import time
            from pipeline.artifacts import RunFolder
            with RunFolder({str(started)!r}).locked():
                print("held", flush=True)
                time.sleep(60)"""],
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        before = (started / "results.csv").stat().st_mtime_ns
        result = CliRunner().invoke(app, command(tiny_model_folder, started))
        assert result.exit_code == 2
        assert_one_clear_line(result.output, "another run is writing to", str(started))
        assert (started / "results.csv").stat().st_mtime_ns == before
    finally:
        holder.kill()
        holder.wait()
    # a lock dies with its process
    assert_it_ends_as_if_undisturbed(command(tiny_model_folder, started), started, finished)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 KiB, to be enlarged by `grow`."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def grow(disk: Path, kilobytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(disk)], check=True)


def test_a_disk_that_fills_up(small_disk: Path, finished: Path, tiny_model_folder: Path) -> None:
    """The disk grows a little with every start, so that each start fails in another stage; the last one finishes."""
    out = small_disk / "run"
    arguments = command(tiny_model_folder, out)
    failed_in, kilobytes = set(), 16
    while True:
        result = CliRunner().invoke(app, arguments)
        if result.exit_code == 0:
            break
        assert result.exit_code == 2, result.output + repr(result.exception)
        assert_one_clear_line(result.output, "no space left", str(out), "finished stages are kept")
        assert not list(out.glob(".scratch-*"))
        failed_in.add(re.sub(r".*▶ (\S+).*", r"\1", result.output, flags=re.DOTALL))
        kilobytes = int(kilobytes * 1.5)
        assert kilobytes < 100_000
        grow(small_disk, kilobytes)
    assert len(failed_in) >= 4, failed_in
    assert_it_ends_as_if_undisturbed(arguments, out, finished)


def test_a_read_only_disk(small_disk: Path, tiny_model_folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    start = time.monotonic()
    result = CliRunner().invoke(app, command(tiny_model_folder, small_disk / "run"))
    assert result.exit_code == 2
    assert_one_clear_line(result.output, "cannot write to", str(small_disk / "run"), "choose another --out")
    assert "▶" not in result.output, "it has begun to work"
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("place", ["a file", "below a file", "/proc/run"])
def test_an_out_folder_that_cannot_be_one(place: str, tmp_path: Path, tiny_model_folder: Path) -> None:
    (tmp_path / "file").write_text("mine")
    out = {"a file": tmp_path / "file", "below a file": tmp_path / "file/run"}.get(place, Path(place))
    result = CliRunner().invoke(app, command(tiny_model_folder, out))
    assert result.exit_code == 2
    assert_one_clear_line(result.output, "cannot write to", str(out))
    assert "▶" not in result.output
    assert (tmp_path / "file").read_text() == "mine"
    assert os.listdir(tmp_path) == ["file"]
