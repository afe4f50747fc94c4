"""How good are the tests of ``aggregation/``: what share of small faults planted in it do they notice?

    python -m benchmarks.mutation --sample 400 --jobs 2 --out runs/mutation

The faults (mutants) are cosmic-ray's: an operator, a comparison, a number or a decorator exchanged. Each is planted in
a copy of the project, and the tests that run its line (by coverage) are run until one fails. A mutant that only changes
what is never evaluated (type annotations) is left out. Compiled loops run uncompiled, so that their faults count too.
Every mutant has a process of its own, forked from one that has the libraries loaded.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Queue
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "aggregation"
TESTS = ("tests/aggregation", "tests/test_contracts.py")
TIMEOUT = 60.0
"""Seconds after which a mutant counts as noticed: it made something endless or far slower."""
OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore::RuntimeWarning")
"""Of pytest. Uncompiled loops warn of infinite reports where compiled ones are silent."""
PRELOADED = ("numpy", "pandas", "scipy.optimize", "scipy.stats", "hypothesis", "pytest", "numba", "yaml", "pydantic")


@dataclass(frozen=True)
class Mutant:
    """One planted fault."""

    module: str
    line: int
    operator: str
    before: str
    after: str
    code: str


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: ``killed``, ``survived``, or ``untested`` where no test runs its line."""

    mutant: Mutant
    outcome: str
    seconds: float


def mutants(path: Path) -> Iterator[Mutant]:
    """Yield every mutant of a module that changes what is evaluated."""
    import cosmic_ray.plugins
    from cosmic_ray.commands.init import _all_work_items
    from cosmic_ray.mutating import mutate_code

    source = path.read_text(encoding="utf-8")
    evaluated = _evaluated(source)
    for item in _all_work_items([path], {}):
        (spec,) = item.mutations
        operator = cosmic_ray.plugins.get_operator(spec.operator_name)(**spec.operator_args)
        code = mutate_code(source.encode(), operator, spec.occurrence)
        text = code.decode() if isinstance(code, bytes) else code
        if text is None or _evaluated(text) == evaluated:
            continue
        line = spec.start_pos[0]
        before, after = (t.splitlines()[line - 1].strip() for t in (source, text))
        yield Mutant(str(path.relative_to(ROOT)), line, spec.operator_name.removeprefix("core/"), before, after, text)


def _evaluated(source: str) -> str:
    """Return the syntax tree without annotations, which are never evaluated here; unparsable code is its own text."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return source
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            if getattr(node, name, None) is not None:
                setattr(node, name, ast.Constant(None))
    return ast.dump(tree)


def tests_by_line(folder: Path) -> dict[str, dict[int, list[str]]]:
    """Run the tests once under coverage and return module -> line -> node ids of the tests that run it."""
    import coverage

    data_file, settings = folder / ".coverage", folder / ".coveragerc"
    settings.write_text(f"[run]\ndata_file={data_file}\nsource={PACKAGE}\ndynamic_context=test_function\n")
    command = [sys.executable, "-m", "coverage", "run", f"--rcfile={settings}", "-m", "pytest", *OPTIONS, *TESTS]
    result = subprocess.run(command, cwd=folder, env=_environment(folder), capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit("the tests fail without any mutant:\n" + result.stdout[-3000:])
    data = coverage.CoverageData(basename=str(data_file))
    data.read()
    found: dict[str, dict[int, list[str]]] = {}
    for file in data.measured_files():
        lines = data.contexts_by_lineno(file)
        everything = sorted({_node_id(folder, c) for contexts in lines.values() for c in contexts if c})
        found[str(Path(file).relative_to(folder.resolve()))] = {
            # what runs when the module is imported belongs to no test: any test of the module may notice
            line: sorted({_node_id(folder, c) for c in contexts if c}) or everything
            for line, contexts in lines.items()
        }
    return found


def _node_id(folder: Path, context: str) -> str:
    """Return pytest's id of a test from coverage's context, ``package.module.Class.function``."""
    parts = context.split(".")
    for k in range(len(parts) - 1, 0, -1):
        file = Path(*parts[:k]).with_suffix(".py")
        if (folder / file).is_file():
            return "::".join([str(file), *parts[k:]])
    raise ValueError(f"no test file for {context}")


def judge(mutant: Mutant, folder: Path, nodes: list[str]) -> Verdict:
    """Plant the mutant in a copy of the project, run the tests of its line, and take it out again."""
    if not nodes:
        return Verdict(mutant, "untested", 0.0)
    path = folder / mutant.module
    original = path.read_text(encoding="utf-8")
    start = time.monotonic()
    path.write_text(mutant.code, encoding="utf-8")
    try:
        survived = _run_in_a_fork(folder, nodes)
    finally:
        path.write_text(original, encoding="utf-8")
    return Verdict(mutant, "survived" if survived else "killed", time.monotonic() - start)


def _run_in_a_fork(folder: Path, nodes: list[str]) -> bool:
    """Whether all tests pass in a child process, which is killed when it takes too long."""
    child = os.fork()
    if child == 0:
        os.setsid()
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
        os.chdir(folder)
        os.environ.update(_environment(folder))
        sys.path.insert(0, str(folder))
        for name in [n for n in sys.modules if n.split(".")[0] in (PACKAGE, "benchmarks", "tests")]:
            del sys.modules[name]
        import pytest

        os._exit(int(pytest.main([*OPTIONS, *nodes])))
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def _environment(folder: Path) -> dict[str, str]:
    threads = {"OMP_NUM_THREADS": "1", "NUMBA_DISABLE_JIT": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return {**os.environ, **threads, "PYTHONPATH": str(folder)}


@contextlib.contextmanager
def copies(n: int) -> Iterator[list[Path]]:
    """Give n copies of the project to plant mutants in."""
    skipped = shutil.ignore_patterns(".venv*", ".git", "runs", "site", ".*_cache", "__pycache__", "docs")
    with tempfile.TemporaryDirectory(prefix="mutation-") as scratch:
        folders = [Path(scratch).resolve() / str(k) for k in range(n)]
        for folder in folders:
            shutil.copytree(ROOT, folder, ignore=skipped)
        yield folders


def run(sample: int | None, jobs: int, out: Path, seed: int) -> list[Verdict]:
    """Judge all mutants, or a random sample of them; a killed run goes on from ``verdicts.jsonl``."""
    import importlib

    from tqdm import tqdm

    os.environ["NUMBA_DISABLE_JIT"] = "1"  # numba reads it when it is imported
    for name in PRELOADED:
        importlib.import_module(name)
    everything = [mutant for path in sorted((ROOT / PACKAGE).glob("*.py")) for mutant in mutants(path)]
    chosen = everything if sample is None else random.Random(seed).sample(everything, min(sample, len(everything)))
    print(f"{len(everything)} mutants, {len(chosen)} of them tried")
    journal = out / "verdicts.jsonl"
    known = {}
    if journal.exists():
        known = {_key(row): row for row in map(json.loads, journal.read_text().splitlines())}
    verdicts = []
    with copies(jobs) as folders, open(journal, "a", encoding="utf-8") as file:
        lines = tests_by_line(folders[0])
        free: Queue[Path] = Queue()
        for folder in folders:
            free.put(folder)

        def one(mutant: Mutant) -> Verdict:
            row = known.get(_key(asdict(mutant)))
            if row is not None:
                return Verdict(mutant, row["outcome"], row["seconds"])
            folder = free.get()
            try:
                return judge(mutant, folder, lines.get(mutant.module, {}).get(mutant.line, []))
            finally:
                free.put(folder)

        with ThreadPoolExecutor(jobs) as pool:
            for verdict in tqdm(pool.map(one, chosen), total=len(chosen), desc="Mutants"):
                verdicts.append(verdict)
                if _key(asdict(verdict.mutant)) not in known:
                    row = {**asdict(verdict.mutant), "outcome": verdict.outcome, "seconds": verdict.seconds}
                    file.write(json.dumps({k: v for k, v in row.items() if k != "code"}) + "\n")
                    file.flush()
    return verdicts


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("module", "line", "operator", "before", "after"))


def report(verdicts: list[Verdict]) -> str:
    """Return a Markdown table by module, and every mutant that nothing noticed."""
    lines = ["| module | mutants | killed | survived | untested |", "|---|---|---|---|---|"]
    for module in [*sorted({v.mutant.module for v in verdicts}), None]:
        counts = Counter(v.outcome for v in verdicts if module in (None, v.mutant.module))
        numbers = [sum(counts.values()), *(counts[outcome] for outcome in ("killed", "survived", "untested"))]
        lines.append(f"| {module or '**all**'} | " + " | ".join(map(str, numbers)) + " |")
    killed = sum(v.outcome == "killed" for v in verdicts)
    lines += ["", f"Killed: {killed} of {len(verdicts)} ({killed / len(verdicts):.1%}).", ""]
    for v in verdicts:
        if v.outcome != "killed":
            lines.append(f"- {v.mutant.module}:{v.mutant.line} {v.outcome}: `{v.mutant.before}` -> `{v.mutant.after}`")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read the command line, judge, and write ``mutation.md``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, help="try so many mutants, drawn at random (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time (default: 2)")
    parser.add_argument("--out", type=Path, default=Path("runs/mutation"), help="folder for the verdicts")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = report(run(arguments.sample, arguments.jobs, arguments.out, arguments.seed))
    (arguments.out / "mutation.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
