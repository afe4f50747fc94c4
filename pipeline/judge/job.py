"""The job behind ``truthful-rlhf judge``: pairs and a jury in, reports out, resumable."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from truthful_rlhf.labelers.judges.answers import Answers
from truthful_rlhf.labelers.judges.server import JudgeError
from truthful_rlhf.labelers.pairs import Pairs
from truthful_rlhf.pipeline.judge.journal import Journal, Spent, outcomes_of, rounded
from truthful_rlhf.pipeline.judge.jury import Juror
from truthful_rlhf.pipeline.judge.pairs import PairFile
from truthful_rlhf.pipeline.storage.artifacts import write_text_atomically

BATCH = 32
"""Pairs that are asked about before their answers are written down."""


@dataclass(frozen=True)
class Files:
    """Where a jury's answers go.

    Examples:
        >>> Files(Path("runs/reports.jsonl")).journal.as_posix()
        'runs/reports.answers.jsonl'
    """

    reports: Path
    """The annotation table, which ``aggregate`` reads."""

    @property
    def journal(self) -> Path:
        """Everything that was said, with reasons."""
        return self.reports.with_name(f"{self.reports.stem}.answers.jsonl")

    @property
    def summary(self) -> Path:
        """The judges in figures."""
        return self.reports.with_name(f"{self.reports.stem}.summary.json")


def judge_all(
    jurors: Sequence[Juror], pairs: Pairs, journal: Journal, on_answers: Callable[[Juror, int], None]
) -> dict[str, str]:
    """Ask every judge for what it has not said yet, and write it down batch by batch.

    Args:
        jurors: one after the other.
        pairs: all pairs.
        journal: knows what was said; appended to.
        on_answers: told who has just answered how many pairs.

    Returns:
        Judges that had to stop, by name, with the reason; the others have been asked about every pair.
    """
    stopped: dict[str, str] = {}
    for juror in jurors:
        journal.take_seat(juror)
    for juror in jurors:
        waiting = journal.waiting(juror, pairs)
        size = max(BATCH, 4 * juror.spec.concurrency)
        for start in range(0, len(waiting), size):
            if juror.labeler_id in stopped:
                break
            batch = rows_of(pairs, waiting[start : start + size])
            before, began = _spent(juror), time.monotonic()
            try:
                answers = answers_of(juror.judge, batch)
            except (JudgeError, FileNotFoundError) as error:
                stopped[juror.labeler_id] = str(error)
                break
            journal.add(juror, batch, answers, _difference(_spent(juror), before, time.monotonic() - began))
            on_answers(juror, len(batch))
    return stopped


def answers_of(judge: Any, pairs: Pairs) -> Answers:
    """Return a judge's answers; those of one that only has beliefs say nothing of places and masses."""
    if hasattr(judge, "answer"):
        found: Answers = judge.answer(pairs)
        return found
    unknown = np.full(len(pairs), np.nan)
    return Answers(judge.belief(pairs), unknown, unknown, unknown, [""] * len(pairs), [False] * len(pairs))


def rows_of(pairs: Pairs, rows: Sequence[int]) -> Pairs:
    """Return the pairs of some rows."""
    columns = (pairs.pair_id, pairs.prompt, pairs.response_a, pairs.response_b)
    pair_id, prompt, response_a, response_b = ([column[k] for k in rows] for column in columns)
    topic = None if pairs.topic is None else [pairs.topic[k] for k in rows]
    return Pairs(pair_id, prompt, response_a, response_b, topic=topic)


def _spent(juror: Juror) -> Spent:
    usage = getattr(juror.judge, "usage_", None)
    if usage is None:
        return Spent()
    return Spent(usage.requests, usage.prompt_tokens, usage.completion_tokens)


def _difference(after: Spent, before: Spent, seconds: float) -> Spent:
    return replace(
        after,
        requests=after.requests - before.requests,
        prompt_tokens=after.prompt_tokens - before.prompt_tokens,
        completion_tokens=after.completion_tokens - before.completion_tokens,
        seconds=round(seconds, 2),
    )


def write_reports(files: Files, jurors: Sequence[Juror], found: PairFile, journal: Journal) -> int:
    """Write the annotation table of everything that was said; return its number of reports.

    A report is null where a judge gave no answer. With a rubric of aspects each is a topic; an outcome of the file is
    about the whole pair, so it is not written to them.

    Args:
        files: where to.
        jurors: who judged.
        found: the pairs.
        journal: what was said.
    """
    pairs, lines, n = found.pairs, [], 0
    answers = [journal.of(juror, pairs.pair_id) for juror in jurors]
    reports = [journal.reports(juror, pairs.pair_id, outcomes_of(juror, found.outcome)) for juror in jurors]
    for k, pair_id in enumerate(pairs.pair_id):
        texts = {name: getattr(pairs, name)[k] for name in ("prompt", "response_a", "response_b")}
        for juror, said, reported in zip(jurors, answers, reports, strict=True):
            if said[k] is None:
                continue
            report = None if np.isnan(reported[k]) else rounded(reported[k])
            row = {"pair_id": pair_id, **texts, "labeler_id": juror.labeler_id, "report": report}
            if juror.aspect:
                row["topic"] = juror.aspect
            elif pairs.topic is not None:
                row["topic"] = pairs.topic[k]
            if not juror.aspect and not np.isnan(found.outcome[k]):
                row["outcome"] = int(found.outcome[k])
            n += report is not None
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    if n:
        write_text_atomically(files.reports, "".join(lines))
    return n
