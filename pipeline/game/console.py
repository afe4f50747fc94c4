"""What ``simulate`` and ``audit`` have in common in the terminal and in their run folders."""

from __future__ import annotations

from collections.abc import Iterator

import yaml
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from truthful_rlhf.pipeline.config.loading import Section
from truthful_rlhf.pipeline.storage.artifacts import RunFolder, write_text_atomically
from truthful_rlhf.pipeline.storage.console import console


def write_config(folder: RunFolder, config: Section) -> None:
    """Write the resolved config into the run folder."""
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    write_text_atomically(folder.root / "config.yaml", text)


def progress_bar() -> Progress:
    """Return a bar with what is being done, how far, for how long and for how much longer; it leaves no trace."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True)


def run_stages(stages: Iterator[str], n_stages: int) -> None:
    """Run stages that announce themselves before they are built, under a progress bar."""
    with progress_bar() as progress:
        task = progress.add_task("", total=n_stages)
        for done, name in enumerate(stages):
            progress.update(task, completed=done, description=escape(name))
        progress.update(task, completed=n_stages)


def percent(gain: float, low: float, high: float) -> str:
    """Return a relative gain with its interval, in per cent.

    Args:
        gain: relative: 0.1 is 10 %.
        low: lower end of the interval, in the same unit.
        high: upper end.
    """
    return f"{100 * gain:+.1f} % [{100 * low:+.1f}, {100 * high:+.1f}]"
