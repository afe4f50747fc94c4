"""Parquet tables of a run: written whole, read back with their column names checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd


class ArtefactError(RuntimeError):
    """An artefact cannot be read: it is missing, truncated, or has other columns than expected."""


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet (the caller's folder is a stage's scratch folder, so the write need not be atomic)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path, index=False)


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a Parquet table that has at least ``columns``."""
    try:
        table = pd.read_parquet(path)
    except FileNotFoundError as error:
        raise ArtefactError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}") from error
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ArtefactError(f"{path} has no column {missing[0]!r}; it has {', '.join(map(str, table.columns))}")
    return table


def harmless_cell(value: object) -> object:
    """Return a CSV cell that no spreadsheet runs as a formula: such texts get a leading apostrophe."""
    return "'" + value if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
