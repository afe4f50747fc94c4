"""What every hostile case has in common: how a command is run, and what being refused means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib.font_manager  # noqa: F401  # its cache of fonts belongs into the real home
import pytest
from typer.testing import CliRunner, Result

from truthful_rlhf.pipeline.cli import app

USAGE = "usage"
"""Stands for the error classes of the command-line parser, which are not ours."""

WIDE = {"COLUMNS": "400", "TERMINAL_WIDTH": "400"}


def snapshot(folder: Path, besides: Path) -> dict[str, tuple[int, int]]:
    """Return every path below ``folder`` with its size and time of change, leaving out what is below ``besides``."""
    paths = (path for path in folder.rglob("*") if path != besides and besides not in path.parents)
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in paths if not path.is_dir()}


class Sandbox:
    """A working folder and a home of their own; whatever a command leaves outside ``out`` is found."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.work, self.home = root / "work", root / "home"
        self.root, self.out = root, root / "work" / "out"
        for folder in (self.work, self.home):
            folder.mkdir()
        monkeypatch.chdir(self.work)
        monkeypatch.setenv("HOME", str(self.home))
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # a Hub id must not cost a time-out
        for name in ("TRUTHFUL_RLHF_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.work / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        return path

    def run(self, *arguments: str) -> Result:
        """Run a command; nothing may be written outside ``out``."""
        before = snapshot(self.root, self.out)
        result = CliRunner().invoke(app, list(arguments), env=WIDE)
        assert snapshot(self.root, self.out) == before, "something was written outside --out"
        return result

    def refuse(self, arguments: Sequence[str], error: str, *texts: str) -> None:
        """Run a command that has to fail with one clear message of the expected error class."""
        result = self.run(*arguments)
        refused(result, error, *texts)


def refused(result: Result, error: str, *texts: str) -> None:
    """Check that a command ended in an explained error: exit code, class, message, and no traceback."""
    output = result.output
    assert isinstance(result.exception, SystemExit), f"not explained: {result.exception!r}\n{output}"
    assert result.exit_code not in (0, 1), output
    assert "Traceback" not in output
    assert output.count("Error") == 1, f"not one message:\n{output}"
    if error == USAGE:
        assert result.exit_code == 2, output
    else:
        assert type(cause(result.exception)).__name__ == error, f"{cause(result.exception)!r}\n{output}"
    for text in texts:
        assert text in output, f"{text!r} is not in:\n{output}"
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", output), "control characters reach the terminal"
    assert len(output) < 3000, "nobody reads a message of that length"


def cause(error: BaseException) -> BaseException:
    """Return the error that a command gave up for: behind ``SystemExit`` and ``typer.Exit``."""
    behind = error.__context__
    assert behind is not None
    return behind.__cause__ or behind
