"""How good are the tests of ``aggregation/``: what share of small faults planted in it do they notice?

    python -m tools.mutation --sample 400 --jobs 2 --out runs/mutation

The faults (mutants) are cosmic-ray's: an operator, a comparison, a number or a decorator exchanged. Each is planted in
a copy of the project, and the tests that run its line (by coverage) are run until one fails. Left out is a mutant that
only changes what is never evaluated (type annotations), or that is no Python any more. Compiled loops run uncompiled,
so that their faults count too (mutmut 3.8 leaves functions with decorators alone, and with them all compiled loops).
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

from tools.coverage_plugin import DURATIONS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "aggregation"
TESTS = ("tests/aggregation", "tests/test_contracts.py")
BUDGET = 30.0
"""Seconds of tests that a mutant is tried on: slower tests are not asked, so the share killed is a lower bound."""
OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore::RuntimeWarning")
"""Of pytest. Uncompiled loops warn of infinite reports where compiled ones are silent."""
OUTCOMES = ("killed", "endless", "survived", "untested")
NOTICED = OUTCOMES[:2]
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
    """What became of a mutant: ``killed``, ``endless`` (far slower than without it), ``survived``, ``untested``."""

    mutant: Mutant
    outcome: str
    seconds: float


def mutants(path: Path) -> Iterator[Mutant]:
    """Yield every mutant of a module that changes what is evaluated and can be parsed."""
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
        if text is None or _evaluated(text) in (evaluated, None):
            continue
        line = spec.start_pos[0]
        before, after = (t.splitlines()[line - 1].strip() for t in (source, text))
        yield Mutant(str(path.relative_to(ROOT)), line, spec.operator_name.removeprefix("core/"), before, after, text)


def _evaluated(source: str) -> str | None:
    """Return the syntax tree without annotations, which are never evaluated here; None for what is no Python."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            if getattr(node, name, None) is not None:
                setattr(node, name, ast.Constant(None))
    return ast.dump(tree)


@dataclass(frozen=True)
class Tests:
    """Which tests run a line, quickest first, and how long they take without any mutant."""

    by_line: dict[str, dict[int, list[str]]]
    """Module -> line -> node ids."""
    by_module: dict[str, list[str]]
    """Module -> node ids of the test files that run any of it: what runs at import belongs to no single test."""
    seconds: dict[str, float]

    def of(self, mutant: Mutant) -> list[str]:
        """Return the quickest tests of the mutant's line, as many as ``BUDGET`` seconds allow, at least one."""
        chosen: list[str] = []
        total = 0.0
        everything = self.by_module.get(mutant.module, [])
        for node in self.by_line.get(mutant.module, {}).get(mutant.line) or everything:
            total += self.seconds[node]
            if chosen and total > BUDGET:
                break
            chosen.append(node)
        return chosen


def find_tests(folder: Path) -> Tests:
    """Run the tests once under coverage, uncompiled, and note which lines each of them runs."""
    import coverage

    data_file, settings, durations = folder / ".coverage", folder / ".coveragerc", folder / "durations.json"
    settings.write_text(f"[run]\ndata_file={data_file}\nsource={PACKAGE}\n")
    command = [sys.executable, "-m", "coverage", "run", f"--rcfile={settings}", "-m", "pytest"]
    command += ["-p", "tools.coverage_plugin", *OPTIONS, *TESTS]
    environment = {**_environment(folder), DURATIONS: str(durations)}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit("the tests fail without any mutant:\n" + result.stdout[-3000:])
    seconds = json.loads(durations.read_text(encoding="utf-8"))

    def quickest(node: str) -> tuple[float, str]:
        return seconds[node], node

    data = coverage.CoverageData(basename=str(data_file))
    data.read()
    by_line: dict[str, dict[int, list[str]]] = {}
    by_module = {}
    for file in data.measured_files():
        lines = {line: {c for c in contexts if c} for line, contexts in data.contexts_by_lineno(file).items()}
        module = str(Path(file).relative_to(folder.resolve()))
        by_line[module] = {line: sorted(nodes, key=quickest) for line, nodes in lines.items()}
        test_files = {node.partition("::")[0] for node in set().union(*lines.values())}
        by_module[module] = sorted((n for n in seconds if n.partition("::")[0] in test_files), key=quickest)
    return Tests(by_line, by_module, seconds)


def judge(mutant: Mutant, folder: Path, tests: Tests) -> Verdict:
    """Plant the mutant in a copy of the project, run the tests of its line, and take it out again."""
    nodes = tests.of(mutant)
    if not nodes:
        return Verdict(mutant, "untested", 0.0)
    path = folder / mutant.module
    original = path.read_text(encoding="utf-8")
    start = time.monotonic()
    path.write_text(mutant.code, encoding="utf-8")
    try:
        outcome = _run_in_a_fork(folder, nodes, 20.0 + 4.0 * sum(tests.seconds[node] for node in nodes))
    finally:
        path.write_text(original, encoding="utf-8")
    return Verdict(mutant, outcome, time.monotonic() - start)


def _run_in_a_fork(folder: Path, nodes: list[str], timeout: float) -> str:
    """Run tests in a child process, which is killed when it takes too long, and return the verdict."""
    child = os.fork()
    if child == 0:
        os.setsid()
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
        os.chdir(folder)
        os.environ.update(_environment(folder))
        sys.path.insert(0, str(folder))
        for name in [n for n in sys.modules if n.split(".")[0] in ("truthful_rlhf", "benchmarks", "tests")]:
            del sys.modules[name]
        import pytest

        os._exit(int(pytest.main([*OPTIONS, *nodes])))
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "survived" if os.waitstatus_to_exitcode(status) == 0 else "killed"
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "endless"


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
            shutil.copytree(ROOT, folder, symlinks=True, ignore=skipped)  # truthful_rlhf/ holds links to the packages
        yield folders


def run(sample: int | None, jobs: int, out: Path, seed: int) -> list[Verdict]:
    """Judge all mutants, or a random sample of them; a killed run goes on from ``verdicts.jsonl``."""
    import importlib

    from tqdm import tqdm

    os.environ["NUMBA_DISABLE_JIT"] = "1"  # numba reads it when it is imported
    for name in PRELOADED:
        importlib.import_module(name)
    everything = [mutant for path in sorted((ROOT / PACKAGE).rglob("*.py")) for mutant in mutants(path)]
    chosen = everything if sample is None else random.Random(seed).sample(everything, min(sample, len(everything)))
    print(f"{len(everything)} mutants, {len(chosen)} of them tried")
    journal = out / "verdicts.jsonl"
    known = {}
    if journal.exists():
        known = {_key(row): row for row in map(json.loads, journal.read_text().splitlines())}
    verdicts = []
    with copies(jobs) as folders, open(journal, "a", encoding="utf-8") as file:
        tests = find_tests(folders[0])
        free: Queue[Path] = Queue()
        for folder in folders:
            free.put(folder)

        def one(mutant: Mutant) -> Verdict:
            row = known.get(_key(asdict(mutant)))
            if row is not None:
                return Verdict(mutant, row["outcome"], row["seconds"])
            folder = free.get()
            try:
                return judge(mutant, folder, tests)
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
    lines = ["| module | mutants | killed | endless | survived | untested |", "|---|---|---|---|---|---|"]
    for module in [*sorted({v.mutant.module for v in verdicts}), None]:
        counts = Counter(v.outcome for v in verdicts if module in (None, v.mutant.module))
        numbers = [sum(counts.values()), *(counts[outcome] for outcome in OUTCOMES)]
        lines.append(f"| {module or '**all**'} | " + " | ".join(map(str, numbers)) + " |")
    killed = sum(v.outcome in NOTICED for v in verdicts)
    lines += ["", f"Killed: {killed} of {len(verdicts)} ({killed / len(verdicts):.1%}).", ""]
    for v in verdicts:
        if v.outcome not in NOTICED:
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
