"""How many threads a command that trains gives torch: by its company, by the user, and as before when a run goes on."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmarks.company import busy_process
from tests.pipeline.experiment.test_compare import command
from truthful_rlhf.pipeline.cli import app
from truthful_rlhf.pipeline.storage import threads
from truthful_rlhf.pipeline.storage.environment import recorded_threads, write_environment
from truthful_rlhf.pipeline.storage.threads import Company, choose_threads, look_around, own_cpu_seconds

IDLE, ONE_BUSY = Company(2, 0.03), Company(2, 1.0)
Said = Callable[[], str]


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let torch's own number be two, as on two cores, and the user say nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    return lambda: capsys.readouterr().out


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Callable[[Company], None]:
    """Let a machine have this company."""

    def set_company(company: Company) -> None:
        monkeypatch.setattr(threads, "look_around", lambda: company)
        monkeypatch.setattr(threads, "usable_cores", lambda: list(range(company.cores)))

    return set_company


# --- what is measured -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("load", "busy"),
    [(0.0, 0), (0.2, 0), (0.25, 0), (0.3, 1), (1.0, 1), (1.2, 1), (1.5, 2), (2.0, 2), (4.0, 4)],
)
def test_a_core_is_busy_when_more_than_a_quarter_of_it_is_taken(load: float, busy: int) -> None:
    assert Company(4, load).busy == busy


@given(st.integers(1, 64), st.floats(0, 1))
def test_busy_cores_are_the_load_within_a_core(cores: int, part: float) -> None:
    company = Company(cores, part * cores)
    assert 0 <= company.busy <= cores
    assert abs(company.busy - company.load) <= 0.75 + 1e-12
    assert company.busy >= math.floor(company.load)


def machine(monkeypatch: pytest.MonkeyPatch, percent: list[float], cores: list[int], own: float) -> None:
    """Let the machine's cores be used so, of which this process may run on some and uses ``own`` of one itself."""
    now = iter((10.0, 12.0))
    seconds = iter((5.0, 5.0 + 2.0 * own))
    monkeypatch.setattr(threads, "usable_cores", lambda: cores)
    monkeypatch.setattr(threads, "own_cpu_seconds", lambda: next(seconds))
    monkeypatch.setattr(threads.time, "perf_counter", lambda: next(now))
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval, percpu: percent)


@pytest.mark.parametrize(
    ("percent", "cores", "own", "load"),
    [
        ([100.0, 50.0], [0, 1], 0.0, 1.5),
        ([100.0, 50.0], [0, 1], 0.5, 1.0),  # what we and our children use is no company
        ([100.0, 50.0, 0.0, 25.0], [1, 3], 0.0, 0.75),  # nor is what runs where we may not
        ([10.0, 0.0], [0, 1], 0.2, 0.0),
        ([100.0], [0, 5], 0.0, 1.0),  # a container that shows fewer cores than may be used
    ],
)
def test_load_by_hand(
    percent: list[float], cores: list[int], own: float, load: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, percent, cores, own)
    company = look_around()
    assert company.cores == len(cores)
    assert company.load == pytest.approx(load)


def test_a_neighbour_is_company_and_a_child_is_not() -> None:
    """A sibling of the process that looks around keeps a core busy; then the same process is its child.

    Of the child only the time that is subtracted is asked for: that holds beside other company as well.
    """
    looks = "from truthful_rlhf.pipeline.storage.threads import look_around; print(look_around(1.0).load)"
    with busy_process() as neighbour:
        done = subprocess.run([sys.executable, "-c", looks], capture_output=True, text=True, check=True)
        assert psutil.Process(neighbour.pid).cpu_times().user > 0.2, "the control: somebody was busy"
        assert float(done.stdout) > 0.25  # so much that a core counts as busy
        before = own_cpu_seconds()
        deadline = time.monotonic() + 60
        while own_cpu_seconds() - before < 0.2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert own_cpu_seconds() - before >= 0.2, "a child's time is our own"
    after = own_cpu_seconds()
    time.sleep(0.3)
    assert own_cpu_seconds() - after < 0.2, "the control: without the child there is none"


# --- what is chosen -------------------------------------------------------------------------------------------------


def test_alone_nothing_is_changed_and_nothing_said(beside: Callable[[Company], None], said: Said) -> None:
    beside(IDLE)
    assert choose_threads(None, None) == torch.get_num_threads() == 2
    assert said() == ""


@pytest.mark.parametrize(("cores", "load", "number"), [(2, 1.0, 1), (2, 2.0, 1), (8, 3.0, 5), (8, 8.0, 1)])
def test_one_thread_less_per_busy_core(
    cores: int, load: float, number: int, beside: Callable[[Company], None], said: Said
) -> None:
    torch.set_num_threads(cores)
    beside(Company(cores, load))
    assert choose_threads(None, None) == torch.get_num_threads() == number
    (line,) = said().splitlines()
    assert line.startswith(f"{round(load)} of {cores} cores")
    assert f"training on {number} thread" in line
    assert line.endswith("; --threads N or OMP_NUM_THREADS=N chooses")


def test_the_line_of_two_cores(beside: Callable[[Company], None], said: Said) -> None:
    beside(ONE_BUSY)
    choose_threads(None, None)
    assert said() == "1 of 2 cores is busy: training on 1 thread; --threads N or OMP_NUM_THREADS=N chooses\n"


def test_the_user_decides(beside: Callable[[Company], None], said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flag over the variable, which torch has obeyed by itself, over what runs beside."""
    beside(ONE_BUSY)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert choose_threads(None, None) == torch.get_num_threads() == 2
    assert choose_threads(1, None) == torch.get_num_threads() == 1
    assert said() == ""
    monkeypatch.setenv("OMP_NUM_THREADS", "many")  # OpenMP ignores it as well
    torch.set_num_threads(2)
    assert choose_threads(None, None) == 1


@pytest.mark.parametrize(
    ("text", "number"), [("3", 3), (" 4,2 ", 4), ("0", None), ("-1", None), ("x", None), ("", None)]
)
def test_the_number_in_the_environment(text: str, number: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert threads.number_in_environment() == number


def test_a_run_that_goes_on_keeps_its_threads(beside: Callable[[Company], None], said: Said) -> None:
    beside(IDLE)
    assert choose_threads(None, 1) == torch.get_num_threads() == 1
    assert "going on with 1 thread, as this run had so far" in said()
    torch.set_num_threads(2)
    beside(ONE_BUSY)
    assert choose_threads(None, 2) == torch.get_num_threads() == 2
    assert said() == ""


def test_another_number_for_a_run_that_goes_on_is_told(
    beside: Callable[[Company], None], said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside(IDLE)
    assert choose_threads(2, 1) == 2
    expected = "this run had 1 thread so far and goes on with 2, as --threads says: figures may differ"
    assert said().startswith(expected)
    assert choose_threads(2, 2) == 2
    assert said() == ""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert choose_threads(None, 1) == 2
    assert "as OMP_NUM_THREADS says" in said()
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert choose_threads(None, 32) == 2  # begun on a larger machine
    assert "this run had 32 threads so far, but there are 2 cores here" in said()


def test_processes_of_a_launcher_do_not_count_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(threads, "look_around", lambda: pytest.fail("the other process is one of ours"))
    assert choose_threads(None, None) == 2


_CHOOSES = """
import sys
from truthful_rlhf.pipeline.storage import threads
threads.look_around = lambda: threads.Company(2, float(sys.argv[1]))
threads.usable_cores = lambda: [0, 1]
assert "torch" not in sys.modules
threads.choose_threads(int(sys.argv[2]), None)
"""


@pytest.mark.parametrize(
    ("load", "asked", "given", "passive"),
    [
        ("1.0", "2", {}, True),
        ("0.0", "2", {}, False),
        ("1.0", "1", {}, False),
        ("1.0", "2", {"OMP_WAIT_POLICY": "active"}, False),
    ],
)
def test_threads_that_share_cores_wait_passively(load: str, asked: str, given: dict[str, str], passive: bool) -> None:
    """libgomp itself says so: threads that wait passively do not spin, and it read the policy after it was set."""
    done = subprocess.run(
        [sys.executable, "-c", _CHOOSES, load, asked],
        env={**os.environ, "OMP_DISPLAY_ENV": "VERBOSE", **given},
        capture_output=True,
        text=True,
        check=True,
    )
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("torch's OpenMP is not GNU's here, which alone says how long threads spin")
    assert ("GOMP_SPINCOUNT = '0'" in done.stderr) == passive
    assert ("2 threads of this run wait passively" in done.stdout) == passive


# --- from the command line ------------------------------------------------------------------------------------------


def test_the_environment_names_threads_now_and_before(tmp_path: Path) -> None:
    path = tmp_path / "environment.json"
    assert recorded_threads(path) is None
    for number, earlier in ((1, []), (1, []), (2, [1]), (2, [1]), (3, [1, 2])):
        write_environment(path, number)
        assert recorded_threads(path) == number
        assert json.loads(path.read_text())["earlier_threads"] == earlier


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"threads": "2"}', '{"threads": 0}', '{"threads": true}', "[" * 50_000]
)
def test_a_file_that_names_no_threads(content: str, tmp_path: Path) -> None:
    path = tmp_path / "environment.json"
    path.write_text(content)
    assert recorded_threads(path) is None


def test_threads_are_not_for_ray(tiny_model_folder: Path, tmp_path: Path) -> None:
    arguments = command(tiny_model_folder, tmp_path / "run")
    result = CliRunner().invoke(app, [*arguments, "--engine", "ray", "--threads", "3"])
    assert result.exit_code == 2
    assert "with ray, type --cpus-per-cell 3" in result.output
    assert CliRunner().invoke(app, [*arguments, "--threads", "0"]).exit_code == 2


_BEGUN_AND_KILLED = """
import os, signal, sys
import torch
torch.set_num_threads(2)
from truthful_rlhf.pipeline.storage import threads
from truthful_rlhf.pipeline.cli import main
threads.look_around = lambda: threads.Company(2, 1.0)
threads.usable_cores = lambda: [0, 1]
replace = os.replace
def replace_and_die(source, target):
    replace(source, target)
    if str(target).endswith("pairs.json"):
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace_and_die
main()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 here")
def test_a_killed_run_goes_on_with_its_threads_on_a_machine_that_is_idle_by_now(
    tiny_model_folder: Path, tmp_path: Path, beside: Callable[[Company], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun beside a busy process on one thread of two and killed; every later stage is built on one thread as well.

    The control is `test_alone_nothing_is_changed_and_nothing_said`: a run that begins on the idle machine has two.
    """
    arguments = command(tiny_model_folder, tmp_path, "rules=[mean]")
    begun = subprocess.run(
        [sys.executable, "-c", _BEGUN_AND_KILLED, *arguments], capture_output=True, text=True, check=False
    )
    assert begun.returncode == -signal.SIGKILL, begun.stderr
    assert "1 of 2 cores is busy: training on 1 thread" in begun.stdout
    beside(IDLE)
    replace = os.replace
    used: dict[str, int] = {}

    def replace_and_note(source: str | Path, target: str | Path) -> None:
        replace(source, target)
        used[Path(target).name] = torch.get_num_threads()

    monkeypatch.setattr(os, "replace", replace_and_note)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "going on with 1 thread" in result.output
    assert {"policy", "samples.parquet", "results.csv"} <= used.keys()
    assert set(used.values()) == {1}
    assert recorded_threads(tmp_path / "environment.json") == 1
