"""Command lines that have to be refused with one message, whatever they are made of."""

from __future__ import annotations

import pytest

from tests.hostile.harness import USAGE, Sandbox
from tests.hostile.tables import encoded, good_rows

# (arguments, error class, text of the message); votes.csv is a good table
CASES: list[tuple[str, str, str]] = [
    # which command, which option
    ("agregate votes.csv", USAGE, "No such command 'agregate'"),
    ("--aggregate", USAGE, "No such option"),
    ("aggregate", USAGE, "Missing argument"),
    ("aggregate votes.csv other.csv", USAGE, "unexpected extra argument"),
    ("aggregate votes.csv --rul mean", USAGE, "--rule"),
    ("aggregate votes.csv --out out --rule", USAGE, "requires an argument"),
    ("compare", USAGE, "which comparison?"),
    ("run", USAGE, "Missing argument"),
    ("validate", USAGE, "Missing argument"),
    ("run quickstart --seed one", USAGE, "Invalid value for '--seed'"),
    ("compare quickstart --panels x", USAGE, "No such option"),
    ("simulate --rounds 100", USAGE, "No such option"),
    # aggregate: names
    ("aggregate votes.csv --rule online_wieghted", "AnnotationError", "did you mean 'online_weighted'"),
    ("aggregate votes.csv --rule truth", "AnnotationError", "valid: mean, median"),
    ("aggregate votes.csv --rule ../mean", "AnnotationError", "did you mean 'mean'"),
    ("aggregate votes.csv --rule __class__", "AnnotationError", "valid: mean, median"),
    (
        "aggregate votes.csv --labels finale",
        "AnnotationError",
        "labels 'finale': valid are final, online, reweighted, recalibrated, stacked",
    ),
    ("aggregate votes.csv --format lnog", "AnnotationError", "did you mean 'long'"),
    ("aggregate votes.csv --format argilla", "AnnotationError", "row 1"),
    ("aggregate votes.csv --format labelstudio", "AnnotationError", "row 1: no 'data'"),
    ("aggregate votes.csv --format mtbench", "AnnotationError", "row 1: no 'model_a'"),
    ("aggregate votes.csv --format crowdkit", "AnnotationError", "row 1: no 'label'"),
    ("aggregate votes.csv --duplicates first", "AnnotationError", "duplicates 'first': valid are error, last and mean"),
    ("aggregate votes.csv --column report", "AnnotationError", "write NAME=SOURCE"),
    ("aggregate votes.csv --column =report", "AnnotationError", "write NAME=SOURCE"),
    ("aggregate votes.csv --column report=", "AnnotationError", "write NAME=SOURCE"),
    ("aggregate votes.csv --column reports=report", "AnnotationError", "did you mean 'report'"),
    ("aggregate votes.csv --column report=reports", "AnnotationError", "did you mean 'report'"),
    ("aggregate votes.csv --column report=labeler_id", "AnnotationError", "row 1: report"),
    ("aggregate votes.csv --gold-column outcomes", "AnnotationError", "(for outcome) (did you mean 'outcome'"),
    ("aggregate votes.csv --gold-column prompt", "AnnotationError", "row 1: outcome (pair 'p0')"),
    ("aggregate votes.csv --topic-column topics", "AnnotationError", "no column 'topics'"),
    ("aggregate votes.csv --topic-column labeler_id", "AnnotationError", "it is the column labeler_id"),
    ("aggregate votes.csv --order prompt", "AnnotationError", "neither a number nor an ISO 8601 time"),
    ("aggregate votes.csv --order when", "AnnotationError", "no column 'when' (for round)"),
    # aggregate: numbers
    ("aggregate votes.csv --audit-rate 0", "AnnotationError", "audit rate must be in (0, 1]"),
    ("aggregate votes.csv --audit-rate -1", "AnnotationError", "audit rate must be in (0, 1]"),
    ("aggregate votes.csv --audit-rate 1.01", "AnnotationError", "audit rate must be in (0, 1]"),
    ("aggregate votes.csv --audit-rate nan", "AnnotationError", "audit rate must be in (0, 1]"),
    ("aggregate votes.csv --audit-rate 1e-9", "AnnotationError", "reveals none of the 3 known outcomes"),
    ("aggregate votes.csv --audit-rate half", USAGE, "Invalid value for '--audit-rate'"),
    ("aggregate votes.csv --eta 0", "AnnotationError", "eta must be"),
    ("aggregate votes.csv --eta 0.51", "AnnotationError", "eta must be"),
    ("aggregate votes.csv --eta nan", "AnnotationError", "eta must be"),
    ("aggregate votes.csv --eta -inf --rule hedge", "AnnotationError", "eta must be"),
    ("aggregate votes.csv --eta 0.1 --rule mean", "AnnotationError", "unknown option of rule 'mean': 'eta'"),
    ("aggregate votes.csv --eta 0.1 --rule examined", "AnnotationError", "eta"),
    ("aggregate votes.csv --seed -1", USAGE, "Invalid value for '--seed'"),
    ("aggregate votes.csv --seed 1.5", USAGE, "Invalid value for '--seed'"),
    # where it may write
    ("aggregate votes.csv --out votes.csv", "FileExistsError", "votes.csv"),
    ("aggregate votes.csv --out votes.csv/below", "NotADirectoryError", "votes.csv"),
    ("aggregate votes.csv --out /proc/nothing", "FileNotFoundError", "/proc/nothing"),
    ("audit-plan open.csv --budget 1 --out votes.csv/plan.csv", "FileExistsError", "votes.csv"),
    ("audit-plan open.csv --budget 1 --out folder.csv", "IsADirectoryError", "folder.csv"),
    ("audit-plan open.csv --out plan.xlsx --budget 1", "AnnotationError", "written as .csv or .jsonl"),
    ("audit-plan open.csv --budget 1 --out plan", "AnnotationError", "written as .csv or .jsonl"),
    ("simulate --out votes.csv", "RunFolderError", "cannot write to votes.csv"),
    ("simulate --out /proc/nothing", "RunFolderError", "cannot write to /proc/nothing"),
    ("audit --out votes.csv", "RunFolderError", "cannot write to votes.csv"),
    ("audit votes.csv --out votes.csv", "RunFolderError", "cannot write to votes.csv"),
    ("compare quickstart --out votes.csv", "RunFolderError", "cannot write to votes.csv"),
    ("run quickstart --out votes.csv --rule mean", "RunFolderError", "cannot write to votes.csv"),
    # audit-plan
    ("audit-plan open.csv --budget 0", USAGE, "Invalid value for '--budget'"),
    ("audit-plan open.csv --budget -5", USAGE, "Invalid value for '--budget'"),
    ("audit-plan open.csv --budget 99", "AnnotationError", "between 1 and the 3 pairs without an outcome, got 99"),
    ("audit-plan votes.csv --budget 1", "AnnotationError", "every pair has its outcome already"),
    ("audit-plan open.csv --budget 1e3", USAGE, "Invalid value for '--budget'"),
    ("audit-plan open.csv --budget 1 --seed -1", USAGE, "Invalid value for '--seed'"),
    ("audit-plan nothing.csv", "AnnotationError", "nothing.csv: no such file"),
    # configs that are none
    ("validate votes.csv", "ConfigError", "votes.csv"),
    ("validate quikstart", "ConfigError", "did you mean 'quickstart'"),
    ("validate ../../etc/passwd", "ConfigError", "config ../../etc/passwd does not exist"),
    ("validate /etc/passwd", "ConfigError", "/etc/passwd"),
    ("validate folder.csv", "ConfigError", "config folder.csv does not exist"),
    ("validate simulate", "ConfigError", "simulate.yaml"),
    ("simulate quickstart", "ConfigError", "quickstart.yaml"),
    ("simulate audti", "ConfigError", "did you mean 'audit'"),
    ("audit simulate", "ConfigError", "simulate.yaml"),
    ("audit nothing.csv", "AnnotationError", "nothing.csv: no such file"),
    ("audit votes.csv", "AnnotationError", "no labeler has"),
    ("audit votes.csv rules=[men]", "ConfigError", "did you mean 'mean'"),
    ("audit votes.csv reports=[a]", "ConfigError", "reports: unknown key"),
    ("run quickstart --rule men", "ConfigError", "did you mean 'mean'"),
    ("run quickstart --rule mean --panel ../x", "ConfigError", "--panel ../x: the config has panels"),
    ("run quickstart", "ConfigError", "choose one with --rule"),
    ("compare quickstart --seed -1", "ConfigError", "seeds"),
]


@pytest.mark.parametrize(("arguments", "error", "text"), CASES)
def test_a_command_line(sandbox: Sandbox, arguments: str, error: str, text: str) -> None:
    sandbox.write("votes.csv", encoded(good_rows(), "csv"))
    sandbox.write("open.csv", encoded([row | {"outcome": ""} for row in good_rows()], "csv"))
    (sandbox.work / "folder.csv").mkdir()
    words = arguments.split()
    if "--out" not in words and words[0] in ("aggregate", "audit-plan", "simulate", "audit", "compare", "run"):
        words += ["--out", "out/plan.csv" if words[0] == "audit-plan" else "out"]
    sandbox.refuse(words, error, text)
