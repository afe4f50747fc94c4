"""Policies trained on real annotations, rule by rule, measured on experts' verdicts: two files, no gold reward.

    python -m benchmarks.real_policies debates --out runs/debates
    python -m benchmarks.real_policies chat --out runs/chat "seeds=[0, 1, 2]"

*debates*: people judge a debate about a story that they cannot read; the right answer is known for all 305 pairs, and a
tenth of the verdicts that are not held out is shown to the rules. *chat*: experts vote between two chat answers; the
verdict is a second opinion of the benchmark's authors, for 285 of 1,633 pairs, and all of those that are not held out
are shown.

Without a GPU, chat takes the pairs in which no text is longer than 400 characters: 221 pairs, 33 of them with a
verdict. The limit was set before anything was trained, from lengths alone; with 600 (423 pairs, 71 verdicts) the 90
trainings would take nine hours of a core. --longest changes it. 33 verdicts show a difference of 27 points, 305 one of
9.

Everything else is `compare --annotations`, with its resumable run folder: 5 folds of 9 or 10 conditions, each with DPO
and a reward model. Further arguments are overrides, as of compare. The data are third-party and not part of the project
(`benchmarks.real_annotations`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks.real_annotations import DATA
from truthful_rlhf.pipeline.storage.artifacts import write_text_atomically

RULES = (
    "mean, majority, dawid_skene, gold_vote, logistic, {name: online_weighted, called: online_weighted final},"
    " {name: online_weighted, labels: stacked, called: online_weighted stacked},"
    " {name: online_weighted, options: {label: median}, called: online_weighted median}"
)
METHODS = "[{method: dpo, learning_rate: 1.0e-3, batch_size: 8}, {method: best_of_n, n: 2}]"


@dataclass(frozen=True)
class Real:
    """A file, and how it is compared."""

    file: str
    audit_rate: float
    longest: int | None
    """Characters of the longest text of a pair; None: all pairs."""


FILES = {
    "debates": Real("nyu_debate.jsonl", 0.1, None),
    "chat": Real("mtbench_human.jsonl", 1.0, 400),
}


def subset(source: Path, longest: int | None) -> str:
    """Return the lines of a long table whose pair has no text of more than ``longest`` characters."""
    lines = source.read_text(encoding="utf-8").splitlines()
    if longest is None:
        return "".join(f"{line}\n" for line in lines)
    table = pd.DataFrame([json.loads(line) for line in lines])
    texts = table[["prompt", "response_a", "response_b"]].map(len).max(axis=1)
    short = texts.groupby(table["pair_id"]).transform("max") <= longest
    return "".join(f"{line}\n" for line, keep in zip(lines, short, strict=True) if keep)


def main(arguments: Sequence[str] | None = None) -> None:
    from truthful_rlhf.pipeline.cli import main as truthful_rlhf

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.real_policies",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=FILES)
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value")
    parser.add_argument("--out", type=Path, required=True, help="run folder")
    parser.add_argument("--longest", type=int, help="characters of the longest text of a pair")
    given = parser.parse_intermixed_args(arguments)
    real = FILES[given.name]
    if not (DATA / real.file).exists():
        parser.error(f"{DATA / real.file} is not here")
    # beside the run folder's artefacts; written only where it changes, since stages depend on its content
    content = subset(DATA / real.file, real.longest if given.longest is None else given.longest)
    file = given.out.with_suffix(".jsonl")
    if not file.exists() or file.read_text(encoding="utf-8") != content:
        write_text_atomically(file, content)
    command = ["compare", "--annotations", str(file), "--rules", RULES, "--duplicates", "last", "--out", str(given.out)]
    sys.argv = ["truthful-rlhf", *command, f"audit_rate={real.audit_rate}", f"policy={METHODS}", *given.overrides]
    truthful_rlhf()


if __name__ == "__main__":
    main()
