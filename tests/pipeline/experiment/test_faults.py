"""Runs that are killed, interrupted, out of disk or tampered with: a clear line, and the same numbers in the end."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.pipeline.experiment.test_compare import command
from truthful_rlhf.pipeline.cli import app, main
from truthful_rlhf.pipeline.storage.artifacts import checksum
from truthful_rlhf.pipeline.training import checkpoints

GRID = (
    *("rules=[online_weighted]", "gold.kappa=300", "panels.biased_majority=[{name: honest, count: 3, persona: noisy}]"),
    "policy=[{method: dpo, batch_size: 4, learning_rate: 0.1}, "
    "{method: best_of_n, n: 2, reward_model: {epochs: 2, lora_rank: 4}}]",
)
CELL = "seed-0/biased_majority/online_weighted"
NOT_NUMBERS = {"environment.json", "report.html", "metrics.jsonl", ".lock"}
"""Files that say when, how fast and by which command a run was made."""
PRELOADED = [
    *(
        "truthful_rlhf.pipeline.experiment.data",
        "truthful_rlhf.pipeline.training.dpo",
        "truthful_rlhf.pipeline.training.reward",
        "truthful_rlhf.pipeline.reports.summary",
        "truthful_rlhf.pipeline.reports.page",
        "pyarrow.dataset",
    ),
    *("datasets", "peft", "trl.trainer.dpo_trainer", "trl.trainer.reward_trainer", "matplotlib.backends.backend_agg"),
    *(
        "transformers.models.llama.modeling_llama",
        "truthful_rlhf.aggregation.rules.online_weighted",
        "truthful_rlhf.labelers",
    ),
]
"""What every start needs, so that it is loaded once."""

Compare = Callable[[Path], list[str]]


@pytest.fixture(scope="module")
def gold(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random classifier: VADER finds nothing to like or to dislike in what the tiny model says."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = tmp_path_factory.mktemp("gold")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AutoModelForSequenceClassification.from_pretrained(tiny_model_folder, num_labels=2)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model_folder).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def compare(tiny_model_folder: Path, gold: Path) -> Compare:
    """Return the arguments of the comparison that all tests make, for a run folder."""
    return lambda out: command(tiny_model_folder, out, f"gold.name={gold}", *GRID)


@pytest.fixture(scope="module")
def finished(compare: Compare, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of an undisturbed comparison, whose numbers could be other ones."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    result = CliRunner().invoke(app, compare(out))
    assert result.exit_code == 0, result.output
    assert pd.read_csv(out / "results.csv")["gold"].nunique() >= 3, "the control: conditions differ"
    return out


@pytest.fixture
def started(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def stages(out: Path) -> list[str]:
    """Return the manifests of a run folder, relative to it, in the order of their writing."""
    paths = sorted((out / "stages").rglob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    return [str(path.relative_to(out)) for path in paths]


def outputs(out: Path, manifest: str) -> dict[str, str]:
    """Return the outputs of a stage with their checksums."""
    content: dict[str, str] = json.loads((out / manifest).read_text())["outputs"]
    return content


def assert_what_counts_as_done_is_whole(out: Path) -> None:
    for manifest in stages(out):
        for output, expected in outputs(out, manifest).items():
            assert checksum(out / output) == expected, output


def numbers(out: Path) -> dict[str, bytes]:
    """Return the content of every file that has to be the same in each run of a config."""
    files = {str(path.relative_to(out)): path for path in out.rglob("*") if path.is_file()}
    return {
        name: path.read_bytes()
        for name, path in files.items()
        if path.name not in NOT_NUMBERS and not name.startswith("stages/")
    }


def assert_it_ends_as_if_undisturbed(arguments: list[str], out: Path, finished: Path) -> str:
    """Start the run again, compare all it has written with the undisturbed run, and return what was printed."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    ours, expected = numbers(out), numbers(finished)
    assert {"results.csv", "seed-0/outcomes.parquet", f"{CELL}/soft_labels.parquet"} <= set(expected)
    assert sorted(ours) == sorted(expected), "a file is missing or left over"
    assert [name for name in expected if ours[name] != expected[name]] == []
    assert sorted(stages(out)) == sorted(stages(finished))
    assert_what_counts_as_done_is_whole(out)
    return result.output


def assert_one_clear_line(output: str, *words: str) -> None:
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if line.startswith("Error:")]
    for word in words:
        assert word in line


def _command_line(arguments: list[str], log: Path, last: Path | None, before: bool, seconds: float) -> None:
    """Be the command line in this process, and die as soon as ``last`` is put in place, or just before."""
    checkpoints.SECONDS_BETWEEN = seconds
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are born deaf to Ctrl-C
    replace = os.replace

    def replace_and_die(source: str | Path, target: str | Path) -> None:
        dies = Path(target) == last
        if not (dies and before):
            replace(source, target)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace_and_die  # type: ignore[assignment]
    sys.argv = ["truthful-rlhf", *arguments]
    main()


class Run:
    """The command in a process of its own, started from a server that has loaded the libraries already."""

    def __init__(
        self,
        arguments: list[str],
        log: Path,
        last: Path | None = None,
        before: bool = False,
        seconds: float = checkpoints.SECONDS_BETWEEN,
    ) -> None:
        processes, given = multiprocessing.get_context("forkserver"), (arguments, log, last, before, seconds)
        processes.set_forkserver_preload(PRELOADED)
        log.unlink(missing_ok=True)
        self.log = log
        self.process: BaseProcess = processes.Process(target=_command_line, args=given)
        self.process.start()

    @property
    def printed(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def wait_for(self, text: str) -> bool:
        """Wait until ``text`` has been printed; False where the run ended without it."""
        while text not in self.printed:
            if not self.process.is_alive():
                return text in self.printed
            time.sleep(0.005)
        return True

    def signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def end(self) -> int | None:
        """Wait for the end and return the exit code, which is negative after a signal."""
        self.process.join(120)
        return self.process.exitcode


def test_kill_nine_in_every_stage(compare: Compare, finished: Path, tmp_path: Path) -> None:
    """Every start dies in the next stage, right before or after one of its files, drawn by lot, is in its place."""
    rng, out = np.random.default_rng(0), tmp_path / "run"
    all_stages = stages(finished)
    assert len(all_stages) > 15
    for k, manifest in enumerate(all_stages):
        files = [*outputs(finished, manifest), manifest]
        last, before = files[rng.integers(len(files))], bool(rng.integers(2))
        run = Run(compare(out), tmp_path / "log", out / last, before)
        assert run.end() == -signal.SIGKILL, run.printed
        complete = last == manifest and not before
        assert set(stages(out)) == set(all_stages[: k + complete])
        assert_what_counts_as_done_is_whole(out)
    for last in ("config.yaml", "results.csv", "report.html"):
        assert Run(compare(out), tmp_path / "log", out / last, True).end() == -signal.SIGKILL
    assert_it_ends_as_if_undisturbed(compare(out), out, finished)


def test_kill_nine_at_random_times(compare: Compare, finished: Path, tmp_path: Path) -> None:
    """Unlike the kills between two files, these fall anywhere: into sampling, training, writing."""
    rng, out, deaths = np.random.default_rng(1), tmp_path / "run", 0
    for _ in range(8):
        run = Run(compare(out), tmp_path / "log")
        assert run.wait_for("▶") or deaths, run.printed
        time.sleep(rng.uniform(0, 0.8))
        run.process.kill()
        deaths += run.end() == -signal.SIGKILL
        assert_what_counts_as_done_is_whole(out)
    assert deaths >= 3
    assert_it_ends_as_if_undisturbed(compare(out), out, finished)


def test_ctrl_c_during_training(compare: Compare, finished: Path, started: Path, tmp_path: Path) -> None:
    (started / "stages" / CELL / "dpo/policy.json").unlink()
    run = Run(compare(started), tmp_path / "log")
    assert run.wait_for(f"▶ {CELL}/dpo/policy"), run.printed
    run.signal(signal.SIGINT)
    assert run.end() == 130
    assert "Traceback" not in run.printed
    assert run.printed.endswith("Stopped. Finished stages are kept: the same command goes on from there.\n")
    assert f"stages/{CELL}/dpo/policy.json" not in stages(started), "the control: training was not over"
    output = assert_it_ends_as_if_undisturbed(compare(started), started, finished)
    assert re.findall("▶ (.*)", output) == [f"{CELL}/dpo/policy"], "nothing else was lost"


TRAININGS = (f"{CELL}/dpo/policy", f"{CELL}/reward_model")


def checkpoint_of(out: Path, stage: str) -> list[str]:
    """Return the names of what is kept of an unfinished training."""
    return sorted(path.name for path in (out / "stages" / f"{stage}.unfinished").glob("*/checkpoint-*"))


@pytest.mark.parametrize("stage", TRAININGS)
def test_a_training_killed_half_way_goes_on(
    stage: str, compare: Compare, finished: Path, started: Path, tmp_path: Path
) -> None:
    (started / "stages" / f"{stage}.json").unlink()
    key = json.loads((finished / "stages" / f"{stage}.json").read_text())["fingerprint"]
    first = started / "stages" / f"{stage}.unfinished" / key / "checkpoint-1.json"
    assert Run(compare(started), tmp_path / "log", first, seconds=0.0).end() == -signal.SIGKILL
    assert "checkpoint-1" in checkpoint_of(started, stage), "the control: it was half-way"
    assert_it_ends_as_if_undisturbed(compare(started), started, finished)
    logged = (out / stage / "metrics.jsonl" for out in (started, finished))
    steps = [[json.loads(line)["step"] for line in path.read_text().splitlines()] for path in logged]
    assert steps[0] == steps[1], "the metrics of the updates before are kept"
    assert not list(started.rglob("*.unfinished"))


def test_a_checkpoint_of_other_inputs_is_not_used(
    compare: Compare, finished: Path, started: Path, tmp_path: Path
) -> None:
    """Half-way with another learning rate, then as the config says: as if the first had not been."""
    stage = TRAININGS[0]
    (started / "stages" / f"{stage}.json").unlink()
    other = [word.replace("learning_rate: 0.1", "learning_rate: 0.2") for word in compare(started)]
    assert other != compare(started)
    run = Run(other, tmp_path / "log", seconds=0.0)
    while not checkpoint_of(started, stage):
        assert run.process.is_alive(), run.printed
        time.sleep(0.001)
    run.process.kill()
    assert run.end() == -signal.SIGKILL
    assert checkpoint_of(started, stage), "the control: there is one"
    assert_it_ends_as_if_undisturbed(compare(started), started, finished)
    assert not list(started.rglob("*.unfinished"))


DAMAGED = {
    "truncated table": ("seed-0/pairs/pairs.parquet", lambda content: content[: len(content) // 2]),
    "flipped bit": (f"{CELL}/soft_labels.parquet", lambda c: c[:40] + bytes([c[40] ^ 1]) + c[41:]),
    "truncated weights": (f"{CELL}/dpo/policy/adapter_model.safetensors", lambda content: content[:-100]),
    "emptied evaluation": (f"{CELL}/best_of_n/evaluation.json", lambda content: b""),
    "half a manifest": (f"stages/{CELL}/reward_model.json", lambda content: content[: len(content) // 2]),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_corrupt_artefact_is_built_again(damage: str, started: Path, finished: Path, compare: Compare) -> None:
    name, spoil = DAMAGED[damage]
    content = (started / name).read_bytes()
    (started / name).write_bytes(spoil(content))
    assert (started / name).read_bytes() != content
    output = assert_it_ends_as_if_undisturbed(compare(started), started, finished)
    (stage,) = [s for s in stages(finished) if any(name.startswith(o) for o in [s, *outputs(finished, s)])]
    assert re.findall("▶ (.*)", output) == [stage.removeprefix("stages/").removesuffix(".json")]


def test_two_runs_into_one_folder(compare: Compare, finished: Path, started: Path, tmp_path: Path) -> None:
    """The second is refused while the first, which is stopped for a moment, has the folder; the first loses nothing."""
    (started / "stages" / CELL / "labels.json").unlink()
    first = Run(compare(started), tmp_path / "log")
    assert first.wait_for("▶"), first.printed
    first.signal(signal.SIGSTOP)
    before = {path: path.stat().st_mtime_ns for path in started.rglob("*")}
    second = CliRunner().invoke(app, compare(started))
    assert second.exit_code == 2
    assert_one_clear_line(second.output, "another run is writing to", str(started), "choose another --out")
    assert {path: path.stat().st_mtime_ns for path in started.rglob("*")} == before
    first.signal(signal.SIGCONT)
    assert first.end() == 0, first.printed
    assert "✓" in assert_it_ends_as_if_undisturbed(compare(started), started, finished)


class FullDisk:
    """A disk on which, from a file of this name on, no write succeeds; half of that file has been written."""

    def __init__(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.name, self.full, to_parquet, fsync = name, False, pd.DataFrame.to_parquet, os.fsync

        def write_table(table: pd.DataFrame, path: Path, **options: object) -> None:
            to_parquet(table, path, **options)  # type: ignore[call-overload]
            self.write(path.name, lambda: os.truncate(path, path.stat().st_size // 2))

        def flush(handle: int) -> None:
            scratch = os.readlink(f"/proc/self/fd/{handle}")
            self.write(scratch, lambda: os.truncate(handle, os.fstat(handle).st_size // 2))
            fsync(handle)

        monkeypatch.setattr(pd.DataFrame, "to_parquet", write_table)
        monkeypatch.setattr(os, "fsync", flush)

    def write(self, file: str, spoil: Callable[[], None]) -> None:
        self.full = self.full or self.name in file
        if self.full:
            spoil()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("config.yaml", "config.yaml"),
        ("reports.parquet", f"stage '{CELL}/labels'"),
        ("labels.json", f"stage '{CELL}/labels'"),
        ("results.csv", "results.csv"),
    ],
)
def test_a_disk_that_is_full_from_a_file_on(
    name: str, what: str, started: Path, finished: Path, compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    (started / "stages" / CELL / "labels.json").unlink()
    (started / "results.csv").unlink()
    with monkeypatch.context() as patch:
        FullDisk(name, patch)
        result = CliRunner().invoke(app, compare(started))
    assert result.exit_code == 2, result.output + repr(result.exception)
    assert_one_clear_line(result.output, "no space left", what, str(started), "finished stages are kept")
    assert not list(started.rglob(".scratch-*"))
    assert_what_counts_as_done_is_whole(started)
    assert_it_ends_as_if_undisturbed(compare(started), started, finished)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 KiB, to be enlarged by `remount`."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def remount(disk: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(disk)], check=True)


def test_a_disk_that_fills_up(small_disk: Path, finished: Path, compare: Compare) -> None:
    """The disk grows with every start, so that each start fails in another stage; the last one finishes."""
    out, failed_in, kilobytes = small_disk / "run", set(), 16
    while (result := CliRunner().invoke(app, compare(out))).exit_code != 0:
        assert result.exit_code == 2, result.output + repr(result.exception)
        assert_one_clear_line(result.output, "no space left", str(out), "finished stages are kept")
        assert not list(out.rglob(".scratch-*"))
        failed_in.add(re.sub(r".*▶ (\S+).*", r"\1", result.output, flags=re.DOTALL))
        kilobytes *= 2
        assert kilobytes < 100_000
        remount(small_disk, f"size={kilobytes}k")
    assert len(failed_in) >= 4, failed_in
    assert_it_ends_as_if_undisturbed(compare(out), out, finished)


def test_a_read_only_disk(small_disk: Path, compare: Compare) -> None:
    remount(small_disk, "ro")
    result = CliRunner().invoke(app, compare(small_disk / "run"))
    assert result.exit_code == 2
    assert_one_clear_line(result.output, "cannot write to", str(small_disk / "run"), "choose another --out")
    assert "▶" not in result.output, "it has begun to work"


@contextlib.contextmanager
def without_rights(folder: Path) -> Iterator[None]:
    """Take the right to write from a folder, also from root where its file system knows of immutable folders."""
    folder.chmod(0o555)
    immutable = os.geteuid() == 0
    try:
        if immutable and subprocess.run(["chattr", "+i", str(folder)], capture_output=True, check=False).returncode:
            pytest.skip("root writes wherever it wants here")
        yield
    finally:
        if immutable:
            subprocess.run(["chattr", "-i", str(folder)], capture_output=True, check=False)
        folder.chmod(0o755)


def test_a_finished_run_that_was_made_read_only(started: Path, finished: Path, compare: Compare) -> None:
    """Its lock can still be opened, for it is there already."""
    with without_rights(started):
        result = CliRunner().invoke(app, compare(started))
    assert result.exit_code == 2, repr(result.exception)
    assert_one_clear_line(result.output, "cannot write", "config.yaml", str(started), "choose another --out")
    assert "▶" not in result.output
    assert numbers(started) == numbers(finished)


@pytest.mark.parametrize("place", ["a file", "below a file", "/proc/run"])
def test_an_out_folder_that_cannot_be_one(place: str, tmp_path: Path, compare: Compare) -> None:
    (tmp_path / "file").write_text("mine")
    out = {"a file": tmp_path / "file", "below a file": tmp_path / "file/run"}.get(place, Path(place))
    result = CliRunner().invoke(app, compare(out))
    assert result.exit_code == 2
    assert_one_clear_line(result.output, "cannot write to", str(out))
    assert "▶" not in result.output
    assert (tmp_path / "file").read_text() == "mine"
    assert os.listdir(tmp_path) == ["file"]
