"""Run benchmarks: ``python -m benchmarks [NAME ...] [--out FOLDER]``.

Each benchmark is a module of this package with ``ABOUT`` (a line) and ``run() -> pandas.DataFrame``; add one by adding
its name to ``BENCHMARKS``. Results go to ``FOLDER/NAME.csv`` and ``FOLDER/NAME.md``.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from truthful_rlhf.pipeline.storage.markdown import markdown_table

BENCHMARKS = (
    *(
        "aggregation",
        "memory",
        "real_annotations",
        "correlated_judges",
        "judges",
        "injections",
        "attacks",
        "audit_rates",
        "training",
    ),
    *(
        "equal_audits",
        "audit_plans",
        "leak_alarm",
        "examined",
        "company",
        "reading",
        "label_taste",
        "step_sizes",
        "label_prices",
        "adaptive_lies",
        "equilibria",
        "own_data",
        "own_data_linear",
        "live_campaign",
    ),
)


def main() -> None:
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in BENCHMARKS}
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure the software beside its peers.",
        epilog="benchmarks:\n"
        + "\n".join(f"  {name:18} {module.ABOUT}" for name, module in modules.items())
        + "\n\nexample: python -m benchmarks aggregation --out runs/bench",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which to run; all by default")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder for CSV and Markdown")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in BENCHMARKS:
            parser.error(f"unknown benchmark {name!r}; choose from {', '.join(BENCHMARKS)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for name in arguments.names or BENCHMARKS:
        print(f"\n{name}: {modules[name].ABOUT}")
        table = modules[name].run()
        if table is None:
            continue
        text = markdown(table)
        print(text)
        for suffix, content in ((".csv", table.to_csv(index=False)), (".md", text)):
            scratch = arguments.out / f".{name}{suffix}"
            scratch.write_text(content)
            os.replace(scratch, arguments.out / f"{name}{suffix}")


def markdown(table: pd.DataFrame) -> str:
    """Return a data frame as a Markdown table; floats with four digits."""
    cells = [[f"{value:.4g}" if isinstance(value, float) else str(value) for value in row] for row in table.to_numpy()]
    numbers = [is_numeric_dtype(table[name]) for name in table]
    return markdown_table(list(map(str, table.columns)), cells, n_text=[*numbers, True].index(True))


if __name__ == "__main__":
    main()
