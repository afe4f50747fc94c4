"""What a person sees in the terminal: stages with their times, tables, and errors of one clear line."""

from __future__ import annotations

import contextlib
import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from truthful_rlhf.aggregation.extras import MissingExtraError

# A pipe or a log file has no width of its own: a table must not be cut to the 80 columns of an unknown terminal.
# Names and paths come from outside: brackets in them are no markup unless a call says that its text has some.
# emoji=False: rich would turn the :X: of "my_pkg:X: there is no ..." into a picture
console = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 140)
error_console = Console(stderr=True, highlight=False, emoji=False)


class StageReporter:
    """Print one line per stage when it starts, and how long the one before it took."""

    def __init__(self) -> None:
        """Start the clock."""
        self._started: float | None = None
        self._seen: set[str] = set()

    def __call__(self, name: str, skipped: bool) -> None:
        """Announce a stage; one that several others need is announced once."""
        self.finish()
        if skipped:
            if name not in self._seen:
                console.print(f"[dim]✓ {escape(name)} (already there)[/dim]", markup=True)
        else:
            console.print(f"[bold]▶ {escape(name)}[/bold]", markup=True)
            self._started = time.monotonic()
        self._seen.add(name)

    def finish(self) -> None:
        """Print the time of the stage that has just ended, if one was running."""
        if self._started is not None:
            console.print(f"[dim]  done in {time.monotonic() - self._started:.0f} s[/dim]", markup=True)
            self._started = None


def shown(text: str) -> str:
    """Return text from outside with its control characters spelt out: none moves the cursor or clears the screen."""
    visible = (c if c in "\n\t" or unicodedata.category(c)[0] != "C" else repr(c)[1:-1] for c in text)
    return "".join(visible)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], n_text: int = 2) -> None:
    """Print a table whose first ``n_text`` columns are text and whose others are numbers.

    Args:
        title: above the table.
        columns: headers.
        rows: cells, each row as long as ``columns``.
        n_text: number of columns, from the left, that are text.
    """
    table = Table(title=shown(title), title_justify="left", header_style="bold", box=SIMPLE_HEAD, collapse_padding=True)
    for k, column in enumerate(columns):
        table.add_column(shown(column), justify="left" if k < n_text else "right", no_wrap=k < n_text)
    for row in rows:
        table.add_row(*(shown(cell) for cell in row))
    console.print(table)


@contextlib.contextmanager
def clear_errors(*expected: type[Exception]) -> Iterator[None]:
    """Turn the expected errors, and Ctrl-C, into one message and a non-zero exit code instead of a traceback."""
    caught: tuple[type[Exception], ...] = (*expected, MissingExtraError)
    try:
        yield
    except caught as error:
        # soft_wrap: a path that is broken into lines can neither be read nor copied
        error_console.print(f"[bold red]Error:[/bold red] {escape(shown(str(error)))}", soft_wrap=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as error:
        error_console.print("[bold]Stopped.[/bold] Finished stages are kept: the same command goes on from there.")
        raise typer.Exit(130) from error
