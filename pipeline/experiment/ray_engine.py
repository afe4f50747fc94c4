"""Run the cells of a grid side by side on Ray: on this machine, or on a cluster that shares the run folder's disk.

Ray does the scheduling. A seed's shared work is one task, and each of its cells is a task that waits for it. Every task
builds its stages in the run folder as the plain loop does. So a killed grid goes on with either engine, and with the
same number of threads the numbers are the same.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from truthful_rlhf.aggregation.extras import explained
from truthful_rlhf.pipeline.config.experiment import Config
from truthful_rlhf.pipeline.config.loading import ConfigError
from truthful_rlhf.pipeline.experiment.conditions import Condition, Layout
from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.experiment.evaluation import build_shared, evaluate
from truthful_rlhf.pipeline.experiment.grid import cells
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

    def run(self, experiment: Experiment) -> None:
        """Run every stage of every condition; what is there already is skipped.

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
            self._run(ray, experiment)
        finally:
            ray.shutdown()

    def _run(self, ray: Any, experiment: Experiment) -> None:
        resources = {"num_cpus": self.cpus_per_cell, "num_gpus": self.gpus_per_cell, "max_retries": 0}
        build, run_cell = ray.remote(**resources)(_build_shared), ray.remote(**resources)(_run_cell)
        work = (experiment.config, str(experiment.folder.root.resolve()), experiment.layout)
        names: dict[Any, str] = {}
        for seed in experiment.config.seeds:
            shared = build.remote(*work, seed)
            names[shared] = f"seed {seed}: pairs and base policy"
            for cell in cells(experiment.config, seed):
                names[run_cell.remote(*work, cell, shared)] = f"seed {seed}: {cell[0].panel}, {cell[0].title}"
        _follow(ray, names)


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


def _experiment(config: Config, root: str, layout: Layout) -> Experiment:
    """Open the run folder in a worker: the run that started it holds the lock."""
    from truthful_rlhf.pipeline.experiment.session import quiet_libraries

    quiet_libraries()
    return Experiment(config, RunFolder(Path(root)), layout)


def _build_shared(config: Config, root: str, layout: Layout, seed: int) -> None:
    build_shared(_experiment(config, root, layout), seed)


def _run_cell(config: Config, root: str, layout: Layout, cell: tuple[Condition, ...], shared: None) -> None:
    experiment = _experiment(config, root, layout)
    for condition in cell:
        evaluate(experiment, condition)
