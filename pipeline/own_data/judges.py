"""Who writes better, as LLM judges see it: win rates against the base policy and between every two rules' policies.

The judges are those of ``truthful-rlhf judge``: every pair in both orders, every answer kept, nothing asked twice. They
first judge the pairs that were audited. A judge that is not better than a coin there is asked nothing else; the others
earn weights there (`online_weighted`), and a comparison is won where their weighted mean is above 1/2. Judges train
nothing, so one jury serves all folds. How often the jury agrees with the audited outcomes, each judged before it was
used, stands beside every win rate: judges who are right on 60 % of pairs say little about policies that are close.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from truthful_rlhf.aggregation import label_campaign
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.statistics import hits, wilson_interval
from truthful_rlhf.labelers.judges.server import JudgeError
from truthful_rlhf.labelers.pairs import Pairs
from truthful_rlhf.pipeline.config.experiment import Config
from truthful_rlhf.pipeline.experiment.conditions import BASE, Condition
from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.experiment.folds import read_recorded
from truthful_rlhf.pipeline.judge.job import judge_all, rows_of
from truthful_rlhf.pipeline.judge.journal import Journal, texts_of
from truthful_rlhf.pipeline.judge.jury import Juror, JuryError, read_panel, read_rubric, seat
from truthful_rlhf.pipeline.judge.summary import advice
from truthful_rlhf.pipeline.own_data.cells import Grid, conditions, fold_experiments
from truthful_rlhf.pipeline.own_data.estimates import SHARE, Interval, Verdicts
from truthful_rlhf.pipeline.storage.artifacts import write_json
from truthful_rlhf.pipeline.storage.inputs import ConfigSections, StageInputs
from truthful_rlhf.pipeline.storage.tables import read_table, write_table

WINS = "judges/wins.parquet"
JUDGES = "judges/judges.json"
_JOURNAL = "judges/answers.jsonl"
_COLUMNS = ("rule", "method", "against", "prompt", "win")


@dataclass(frozen=True, kw_only=True)
class WinInputs(StageInputs):
    """What the win rates depend on: the fingerprints of all measured policies, and the judges."""

    policies: Sequence[str]
    config: ConfigSections
    compared: str = "every two rules"


@dataclass(frozen=True)
class JudgeRow:
    """One judge, or the jury (each label stated before its outcome), on the audited pairs."""

    name: str
    pairs: int
    accuracy: float | None
    low: float | None
    high: float | None
    weight: float
    advice: str


@dataclass(frozen=True)
class Wins:
    """What the judges said."""

    judges: tuple[JudgeRow, ...]
    jury: JudgeRow | None
    """None: no judge is worth asking."""
    table: pd.DataFrame
    """Columns ``rule, method, against, prompt, win``."""

    def of(self, rule: str, method: str) -> dict[str, Interval]:
        """Return the win rates of a rule and method by whom it was compared with."""
        own = self.table[(self.table["rule"] == rule) & (self.table["method"] == method)]
        return {str(against): _rate(rows) for against, rows in own.groupby("against")}

    def between(self, rule: str, other: str, method: str) -> Interval | None:
        """Return a rule's win rate against another one; None where they were not compared.

        Args:
            rule: title of the one.
            other: title of the other.
            method: title of the method that trained both.
        """
        same = self.table[self.table["method"] == method]
        forward = same[(same["rule"] == rule) & (same["against"] == other)]
        backward = same[(same["rule"] == other) & (same["against"] == rule)]
        rows = pd.concat([forward, backward.assign(win=1.0 - backward["win"])])
        return _rate(rows) if len(rows) else None


def _rate(rows: pd.DataFrame) -> Interval:
    prompts = np.unique(rows["prompt"], return_inverse=True)[1]
    ones, wins = np.ones(len(rows)), rows["win"].to_numpy(dtype=np.float64)
    return Verdicts(ones, ones, prompts).interval(wins[None, :], SHARE)


def seated(config: Config) -> list[Juror]:
    """Return the config's judges, none if it has no such section; no model is loaded and no server asked.

    Raises:
        JuryError: a panel or rubric that cannot be used.
    """
    if config.judges is None:
        return []
    rubric = read_rubric(config.judges.rubric)
    if list(rubric) != [""]:
        raise JuryError(f"rubric {config.judges.rubric}: policies are compared on the whole: one text, no aspects")
    return seat(read_panel(config.judges.panel), rubric)


def build_wins(experiment: Experiment, grid: Grid, policies: Sequence[str]) -> None:
    """Ask the config's judges, if it has any: ``judges/wins.parquet`` and ``judges/judges.json``.

    Args:
        experiment: the whole, all folds of which are measured.
        grid: what was trained.
        policies: fingerprints of what was measured.

    Raises:
        JuryError: a panel or rubric that cannot be used.
        JudgeError: a judge had to stop; the same command goes on from there.
    """
    if experiment.config.judges is None:
        return
    inputs = WinInputs(policies=policies, config=experiment.sections("judges"))

    def build(scratch: Path) -> None:
        jurors = seated(experiment.config)
        asked = _Asked(jurors, Journal(experiment.path(_JOURNAL)))
        judges, jury = _weighed(jurors, asked, _audited(experiment))
        rows = [] if jury is None else _comparisons(experiment, grid)
        table = pd.DataFrame(rows, columns=[*_COLUMNS, "response", "other"])
        if len(table):
            table["win"] = _won(asked, judges, table)
        write_table(scratch / WINS, table[list(_COLUMNS)])
        found = {"judges": [asdict(row) for row in judges], "jury": None if jury is None else asdict(jury)}
        write_json(scratch / JUDGES, found)

    experiment.folder.stage("judges", inputs, [WINS, JUDGES], build)


def read_wins(experiment: Experiment) -> Wins | None:
    """Return what the judges said; None where the config has no judges."""
    if experiment.config.judges is None:
        return None
    found = json.loads(experiment.path(JUDGES).read_text(encoding="utf-8"))
    jury = None if found["jury"] is None else JudgeRow(**found["jury"])
    return Wins(
        tuple(JudgeRow(**row) for row in found["judges"]), jury, read_table(experiment.path(WINS), list(_COLUMNS))
    )


class _Asked:
    """A jury with its journal; the texts of a pair are its name, so that the same question is asked once."""

    def __init__(self, jurors: Sequence[Juror], journal: Journal) -> None:
        self.jurors, self.journal = jurors, journal

    def reports(self, table: pd.DataFrame, jurors: Sequence[Juror] | None = None) -> FloatArray:
        """Return P(A better) by pair and judge, NaN where a judge gave no answer.

        Args:
            table: columns ``prompt, response_a, response_b``, n rows.
            jurors: who is asked; None: all.
        """
        asked = self.jurors if jurors is None else jurors
        prompt, a, b = (table[name].tolist() for name in ("prompt", "response_a", "response_b"))
        given = Pairs([""] * len(table), prompt, a, b)
        ids = [texts_of(given, k) for k in range(len(table))]
        unique = rows_of(Pairs(ids, prompt, a, b), [ids.index(name) for name in dict.fromkeys(ids)])
        self.journal.path.parent.mkdir(parents=True, exist_ok=True)
        for name, reason in judge_all(asked, unique, self.journal, lambda juror, n: None).items():
            raise JudgeError(f"judge {name} stopped: {reason}")
        entries = [self.journal.of(juror, ids) for juror in asked]
        said = [[None if entry is None else entry.report for entry in column] for column in entries]
        return np.array(said, dtype=np.float64).T


def _audited(experiment: Experiment) -> pd.DataFrame:
    """Return the recorded pairs that were audited in some seed and fold."""
    audited: set[str] = set()
    for seed, inside in fold_experiments(experiment):
        outcomes = read_table(inside.path(inside.layout.of_seed(seed, "outcomes.parquet")), ["pair_id", "audited"])
        audited.update(outcomes["pair_id"][outcomes["audited"]])
    table = read_recorded(experiment)
    return table[table["pair_id"].isin(audited)].reset_index(drop=True)


def _weighed(jurors: Sequence[Juror], asked: _Asked, audited: pd.DataFrame) -> tuple[list[JudgeRow], JudgeRow | None]:
    """Return every judge on the audited pairs, and the jury of those who are worth asking."""
    if audited.empty:
        return [
            JudgeRow(juror.labeler_id, 0, None, None, None, 0.0, "audit some pairs to know") for juror in jurors
        ], None
    outcomes = audited["recorded_outcome"].to_numpy(dtype=np.float64)
    reports = asked.reports(audited)
    rows = [_row(juror.labeler_id, reports[:, k], outcomes) for k, juror in enumerate(jurors)]
    kept = [k for k, row in enumerate(rows) if row.advice == "keep"]
    if not kept:
        return rows, None
    labeled = label_campaign(reports[:, kept], outcomes, "online_weighted", "online", keep_weights=False)
    for weight, k in zip(labeled.last_weights, kept, strict=True):
        rows[k] = JudgeRow(**{**asdict(rows[k]), "weight": float(weight)})
    return rows, _row("the jury", labeled.stated, outcomes)


def _row(name: str, reports: FloatArray, outcomes: FloatArray) -> JudgeRow:
    judged = ~np.isnan(reports)
    n = int(judged.sum())
    figures: dict[str, Any] = {"answered": n, "abstained": len(reports) - n}
    if n:
        right = float(hits(reports[judged], outcomes[judged]).mean())
        ends = (float(end) for end in wilson_interval(right, n))
        figures |= {"accuracy": right, **dict(zip(("accuracy_low", "accuracy_high"), ends, strict=True))}
    accuracy, low, high = (figures.get(key) for key in ("accuracy", "accuracy_low", "accuracy_high"))
    return JudgeRow(name, n, accuracy, low, high, 0.0, advice(figures))


def _comparisons(experiment: Experiment, grid: Grid) -> list[dict[str, Any]]:
    """Return a row per seed, fold, rule, method, opponent and held-out prompt, with both responses.

    Opponents are the base policy and, of every two rules, one; reference points are compared with the plain mean.
    """
    rows: list[dict[str, Any]] = []
    rules = [grid.mean, *(rule.title for rule in grid.rules if rule.title != grid.mean)]
    for seed, inside in fold_experiments(experiment):
        base = _responses(inside, inside.untrained(seed))
        trained = {(c.title, c.method.title): _responses(inside, c) for c in conditions(inside.config, grid, seed)}
        for (rule, method), own in trained.items():
            before = rules[: rules.index(rule)] if rule in rules else [grid.mean]
            for against, theirs in {BASE: base, **{other: trained[other, method] for other in before}}.items():
                for (prompt, response), (_, other) in zip(own, theirs, strict=True):
                    row = {"rule": rule, "method": method, "against": against, "prompt": prompt}
                    rows.append({**row, "win": np.nan, "response": response, "other": other})
    return rows


def _responses(experiment: Experiment, condition: Condition) -> list[tuple[str, str]]:
    path = experiment.path(experiment.layout.of_condition(condition, "samples.parquet"))
    table = read_table(path, ["prompt", "response"])
    return list(zip(table["prompt"], table["response"], strict=True))


def _won(asked: _Asked, judges: Sequence[JudgeRow], table: pd.DataFrame) -> FloatArray:
    """Return 1 where the response is judged better than the other, 1/2 where equally good or by nobody, shape (n,)."""
    seats = [k for k, row in enumerate(judges) if row.weight > 0.0]
    weights = np.array([judges[k].weight for k in seats])
    different = (table["response"] != table["other"]).to_numpy()
    pairs = table[different].rename(columns={"response": "response_a", "other": "response_b"})
    belief = np.full(len(table), 0.5)
    if len(pairs):
        reports = asked.reports(pairs, [asked.jurors[k] for k in seats])
        present = np.where(np.isnan(reports), 0.0, weights)
        total = present.sum(axis=1)
        pooled = (present * np.nan_to_num(reports)).sum(axis=1) / np.where(total > 0, total, 1.0)
        belief[different] = np.where(total > 0, pooled, 0.5)
    return hits(belief, np.ones(len(belief)))
