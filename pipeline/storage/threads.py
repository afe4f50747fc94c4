"""How many threads torch gets and how they wait: by what else runs on the machine, and the same when a run goes on.

A training step takes as long as its slowest thread, and the threads that wait for that one keep their cores busy. So
one thread that shares its core with another process delays all others. On two cores a DPO step took 3.0 s alone; with
one busy process beside it 9.7 s on two threads, 5.2 s where these wait passively (asleep), and 4.7 s on one thread.
Alone, passive waiting cost 45 %.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import sys
import time

import psutil

from truthful_rlhf.pipeline.storage import processes
from truthful_rlhf.pipeline.storage.console import console

BUSY_FRACTION = 0.25
"""The part of a core from which on it counts as busy. Between the times above, 3.0 s and 9.7 s, a straight line passes
the 4.7 s of one thread less at a quarter."""
CHOOSE = "--threads N or OMP_NUM_THREADS=N chooses"
OTHER_DIGITS = "figures may differ in their last digits"


@dataclasses.dataclass(frozen=True)
class Company:
    """What other processes take of the cores that this one may use."""

    cores: int
    """How many cores this process may use, at least 1."""
    load: float
    """CPU seconds that other processes use per second on them, 0 to ``cores``."""

    @property
    def busy(self) -> int:
        """How many cores count as busy, 0 to ``cores``."""
        return min(self.cores, max(0, math.ceil(self.load - BUSY_FRACTION)))

    def __str__(self) -> str:
        """Say it in words."""
        return f"{self.busy} of {self.cores} cores {'is' if self.busy == 1 else 'are'} busy"


def usable_cores() -> list[int]:
    """Return the numbers of the cores on which this process may run (all, where the system keeps no such list)."""
    process = psutil.Process()
    cores: list[int] = process.cpu_affinity() if hasattr(process, "cpu_affinity") else []
    return cores or list(range(os.cpu_count() or 1))


def own_cpu_seconds() -> float:
    """Return the CPU time that this process and its living children have used so far."""
    process = psutil.Process()
    seconds = 0.0
    for ours in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # it has just ended
            times = ours.cpu_times()
            seconds += times.user + times.system
    return seconds


def look_around(window: float = 0.5) -> Company:
    """Measure for ``window`` seconds what others run on our cores; what this process and its children use is left out.

    The cores are asked, not the processes: those of other users, of other containers and those that end within the
    window count as well.
    """
    cores = usable_cores()
    began, own = time.perf_counter(), own_cpu_seconds()
    percent = psutil.cpu_percent(window, percpu=True)
    own = (own_cpu_seconds() - own) / (time.perf_counter() - began)
    load = sum(percent[core] for core in cores if core < len(percent)) / 100 - own
    return Company(len(cores), min(float(len(cores)), max(0.0, load)))


def choose_threads(asked: int | None, began_with: int | None) -> int:
    """Give torch its threads for this command, say so where it is not torch's own choice, and return their number.

    The first of these that there is decides: ``asked``, the environment's ``OMP_NUM_THREADS`` (which torch obeys by
    itself), ``began_with``, and torch's own number less the busy cores. Where more threads than free cores are wanted,
    they wait passively. That has to be said before torch is loaded, and changes no figure.

    Args:
        asked: by ``--threads``, at least 1; None: not asked.
        began_with: threads of the run that goes on, at least 1; None: it begins.
    """
    in_environment = None if asked else number_in_environment()
    wanted = asked or in_environment or began_with
    company = Company(len(usable_cores()), 0.0)
    if wanted != 1 and not processes.several():  # one thread waits for none; processes would take each other for others
        company = look_around()
    competing = wanted is not None and company.busy > 0 and wanted > company.cores - company.busy
    passive = competing and wait_passively()
    import torch

    own = torch.get_num_threads()
    if asked:
        number, by = asked, "--threads"
    elif in_environment:
        number, by = own, "OMP_NUM_THREADS"
    elif began_with:
        number, by = min(began_with, company.cores), ""
    else:
        number, by = max(1, own - company.busy), ""
    if number != own:
        torch.set_num_threads(number)
    if by:
        say_if_other(by, began_with, number)
    elif began_with:
        _say_how_it_goes_on(began_with, number, own)
    elif number != own:
        _say(f"{company}: training on {_threads(number)}; {CHOOSE}")
    if passive:
        _say(f"{company}: the {_threads(number)} of this run wait passively (OMP_WAIT_POLICY)")
    return number


def number_in_environment() -> int | None:
    """Return the first number of ``OMP_NUM_THREADS`` (a list has one per nested level); None without a usable one."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


def wait_passively() -> bool:
    """Let OpenMP's threads sleep while they wait, unless the user has said how; False where it is too late for that."""
    if "torch" in sys.modules or "OMP_WAIT_POLICY" in os.environ:
        return False
    os.environ["OMP_WAIT_POLICY"] = "passive"
    return True


def say_if_other(by: str, began_with: int | None, number: int) -> None:
    """Say that a run goes on with another number of threads than before.

    Args:
        by: the option or variable that says so.
        began_with: threads of the run that goes on; None: it begins.
        number: threads from now on.
    """
    if began_with not in (None, number):
        _say(f"this run had {_threads(began_with)} so far and goes on with {number}, as {by} says: {OTHER_DIGITS}")


def _say_how_it_goes_on(began_with: int, number: int, own: int) -> None:
    if number < began_with:
        _say(f"this run had {_threads(began_with)} so far, but there are {number} cores here: {OTHER_DIGITS}")
    elif number != own:
        _say(f"going on with {_threads(number)}, as this run had so far, so that no figure changes; {CHOOSE}")


def _threads(number: int) -> str:
    return f"{number} thread{'' if number == 1 else 's'}"


def _say(line: str) -> None:
    if processes.is_first():
        console.print(line, soft_wrap=True)
