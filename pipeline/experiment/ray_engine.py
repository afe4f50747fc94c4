"""Run the parts of an experiment side by side on Ray: here, or on a cluster that shares the run folder's disk.

Ray does the scheduling. The shared work of a part (a seed of the grid, a fold of people's verdicts) is one task, and
each of its cells is a task that waits for it. Every task builds its stages in the run folder as the plain loop does. So
a killed run goes on with either engine, and with the same number of threads the numbers are the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from truthful_rlhf.aggregation.extras import explained
from truthful_rlhf.pipeline.config.experiment import Config
from truthful_rlhf.pipeline.config.loading import ConfigError
from truthful_rlhf.pipeline.experiment.conditions import Layout
from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.experiment.parts import Part, Work
from truthful_rlhf.pipeline.storage.artifacts import RunFolder
from truthful_rlhf.pipeline.storage.threads import number_in_environment, say_if_other


@dataclasses.dataclass(frozen=True)
class RayEngine:
    """Where the cells run, and how much of it each gets."""

    address: str | None = None
    """Of a cluster that is there already; None starts Ray on this machine for the run alone."""
    cpus_per_cell: int = 2
    """Cores (and threads) of one cell."""
    gpus_per_cell: float = 0
    """GPUs of one cell; a fraction lets cells share one."""

    def __post_init__(self) -> None:
        """Refuse what Ray would only refuse later."""
        if self.cpus_per_cell < 1 or self.gpus_per_cell < 0:
            raise ConfigError("a cell needs at least one core, and not less than no GPU")

    def run(self, experiment: Experiment, parts: Sequence[Part], first: Work | None = None) -> list[str]:
        """Do all work, what all parts need first; return what the cells returned, in the order of `parts.run_here`.

        Raises:
            ConfigError: there is no Ray at the address.
            MissingExtraError: Ray is not installed.
            Exception: what a cell raised, as it raised it; the cells under way then are stopped.
        """
        ray = _import_ray()
        try:
            # no dashboard: nothing here needs one, and it opens a port
            ray.init(address=self.address, include_dashboard=None if self.address else False, log_to_driver=False)
        except (ConnectionError, ValueError) as error:
            raise ConfigError(f"no Ray cluster at {self.address}: {error}") from error
        try:
            return self._run(ray, experiment, parts, first)
        finally:
            ray.shutdown()

    def _run(self, ray: Any, experiment: Experiment, parts: Sequence[Part], first: Work | None) -> list[str]:
        resources = {"num_cpus": self.cpus_per_cell, "num_gpus": self.gpus_per_cell, "max_retries": 0}
        task = ray.remote(**resources)(_work)
        where = (experiment.config, str(experiment.folder.root.resolve()), experiment.layout)
        names: dict[Any, str] = {}

        def begin(name: str, work: Work, *after: Any) -> Any:
            begun = task.remote(*where, work, *after)
            names[begun] = name
            return begun

        before = [] if first is None else [begin("what all need", first)]
        begun: list[Any] = []
        for part in parts:
            shared = begin(*part.shared, *before)
            begun.extend(begin(name, work, shared) for name, work in part.cells.items())
        _follow(ray, names)
        return [key for keys in ray.get(begun) for key in keys]


def threads_of_cells(cpus_per_cell: int, asked: int | None, began_with: int | None) -> int:
    """Return the number of threads that Ray gives each cell, and say so where a run goes on with other ones.

    Args:
        cpus_per_cell: cores of one cell; Ray gives it as many threads where ``OMP_NUM_THREADS`` does not say otherwise.
        asked: by ``--threads``, which is not for Ray.
        began_with: threads of the run that goes on; None: it begins.

    Raises:
        ConfigError: threads were asked for.
    """
    if asked is not None:
        raise ConfigError(f"--threads is for the engine local; with ray, type --cpus-per-cell {asked}")
    in_environment = number_in_environment()
    number = in_environment or cpus_per_cell
    say_if_other("OMP_NUM_THREADS" if in_environment else "--cpus-per-cell", began_with, number)
    return number


def _follow(ray: Any, names: dict[Any, str]) -> None:
    """Wait for all tasks with a progress bar; the first failure stops the others."""
    from tqdm.auto import tqdm

    waiting = list(names)
    with tqdm(total=len(waiting), desc="Cells on Ray", unit="cell") as progress:
        while waiting:
            (done, *_), waiting = ray.wait(waiting)
            try:
                ray.get(done)
            except ray.exceptions.RayTaskError as error:
                for task in waiting:
                    ray.cancel(task, force=True)
                progress.write(f"failed: {names[done]}")
                raise error.cause from error
            progress.set_postfix_str(names[done])
            progress.update()


def _import_ray() -> Any:
    with explained("--engine ray"):
        import ray
    return ray


def _work(config: Config, root: str, layout: Layout, work: Work, *after: list[str]) -> list[str]:
    """Do work in a worker, which opens the run folder without its lock: the run that started it holds that."""
    from truthful_rlhf.pipeline.experiment.session import quiet_libraries

    quiet_libraries()
    return work(Experiment(config, RunFolder(Path(root)), layout))
