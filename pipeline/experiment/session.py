"""Open an experiment from the command line: the way in that ``run`` and ``compare`` share."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import yaml

from truthful_rlhf.labelers.judges.server import JudgeError
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.pipeline.config.experiment import Config, load_config
from truthful_rlhf.pipeline.config.loading import ConfigError, find_config
from truthful_rlhf.pipeline.experiment.conditions import Layout
from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.experiment.prompts import PromptsError
from truthful_rlhf.pipeline.models.installed import check_extras
from truthful_rlhf.pipeline.models.load import ModelNotFoundError
from truthful_rlhf.pipeline.models.tokens import ChatError
from truthful_rlhf.pipeline.models.vllm_engine import EngineNotFoundError
from truthful_rlhf.pipeline.storage import processes
from truthful_rlhf.pipeline.storage.artifacts import RunFolder, RunFolderError, write_text_atomically
from truthful_rlhf.pipeline.storage.console import StageReporter, clear_errors
from truthful_rlhf.pipeline.storage.environment import recorded_threads, write_environment
from truthful_rlhf.pipeline.storage.hub import HubError, check_repository
from truthful_rlhf.pipeline.storage.tables import ArtefactError

EXPECTED_ERRORS = (
    *(ConfigError, HubError, RunFolderError, ModelNotFoundError, PromptsError, ChatError, ArtefactError),
    *(EngineNotFoundError, JudgeError, AnnotationError),  # of a panel's labelers
)


@contextlib.contextmanager
def opened(
    name: str,
    overrides: Sequence[str],
    out: Path | None,
    seed: int | None,
    layout: Layout,
    choose_threads: Callable[[int | None], int],
    repository: str | None = None,
) -> Iterator[Experiment]:
    """Open the experiment of a config, hold its run folder, and explain expected errors in one line.

    Args:
        name: a YAML file, or the name of a config that ships.
        overrides: ``key.sub=value`` changes.
        out: the run folder, by default ``runs/<config name>``.
        seed: replaces the config's seeds.
        layout: where artefacts lie below the run folder.
        choose_threads: gets the number of threads of the run that goes on, or None, and returns that of this command;
            torch may not be loaded before.
        repository: ``owner/name`` on the Hub that the result will be uploaded to.
    """
    with clear_errors(*EXPECTED_ERRORS):
        config = load_config(name, [*overrides, *([] if seed is None else [f"seeds=[{seed}]"])])
        check_extras(config)
        if repository:
            check_repository(repository)
        reporter = StageReporter()
        with RunFolder(out or Path("runs") / find_config(name).stem, reporter).locked() as folder:
            environment = folder.root / "environment.json"
            threads = choose_threads(processes.from_first(recorded_threads(environment)))
            quiet_libraries()
            if processes.is_first():
                _write_config(config, folder.root)
                write_environment(environment, threads)
            yield Experiment(config, folder, layout)
            reporter.finish()


def _write_config(config: Config, root: Path) -> None:
    resolved = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    write_text_atomically(root / "config.yaml", resolved)


def quiet_libraries() -> None:
    """Keep the libraries' own progress bars and advice out of the way: the stages have bars of their own.

    Their deprecation warnings are about calls between the libraries, which ``make test-newest`` watches.
    """
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft)\.")
    import datasets
    import transformers

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
