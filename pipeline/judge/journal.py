"""What every judge said about every pair, written down as it is said: a killed run asks for nothing twice.

A journal is JSON lines that are only ever appended: who was seated, what it said, what that took. A line that was cut
off by a killed process is dropped when the journal is opened again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.labelers.judges.answers import Answers
from truthful_rlhf.labelers.pairs import Pairs
from truthful_rlhf.pipeline.judge.jury import Juror
from truthful_rlhf.pipeline.judge.scale import scaled
from truthful_rlhf.pipeline.storage.artifacts import fingerprint

_DIGITS = 6


class JournalError(RuntimeError):
    """The journal belongs to other judges or pairs, or is in use."""


class Key(NamedTuple):
    """Which answer it is."""

    labeler_id: str
    aspect: str
    pair_id: str


@dataclass(frozen=True)
class Entry:
    """What one judge said about one pair; None where it did not say."""

    texts: str
    """Fingerprint of the pair's texts."""
    report: float | None
    """Of a judge that is scaled later (`pipeline.judge.scale`), at the scale of journals."""
    a_first: float | None
    b_first: float | None
    mass: float | None
    note: str
    cut: bool


@dataclass
class Spent:
    """What a judge took, over all runs."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0


class Journal:
    """The answers of a jury on disk.

    Args:
        path: the file; read if it is there.

    Raises:
        JournalError: the file is not a journal.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[Key, Entry] = {}
        self.spent: dict[tuple[str, str], Spent] = {}
        """By judge and aspect."""
        self._seated: dict[tuple[str, str], str] = {}
        for number, line in enumerate(self._lines(), start=1):
            try:
                self._read(json.loads(line))
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise JournalError(f"{path}: line {number} is not one of a journal of judges: {error}") from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the journal for this run."""
        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=0)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            held = lock.acquire()
        except Timeout:
            raise JournalError(f"another run is writing {self.path}; wait for it or choose another --out") from None
        with held:
            yield

    def _lines(self) -> list[str]:
        if not self.path.exists():
            return []
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        return whole.decode("utf-8").splitlines()

    def _read(self, row: dict[str, Any]) -> None:
        if "seated" in row:
            self._seated[row["seated"], row["aspect"]] = row["identity"]
        elif "spent" in row:
            total = self.spent.setdefault((row.pop("spent"), row.pop("aspect")), Spent())
            for name, value in row.items():
                setattr(total, name, getattr(total, name) + value)
        else:
            key = Key(row.pop("labeler_id"), row.pop("aspect"), row.pop("pair_id"))
            self.entries[key] = Entry(**row)

    def _append(self, rows: Iterable[dict[str, Any]]) -> None:
        rows = list(rows)
        if self.path.exists():
            content = self.path.read_bytes()[-1:]
            if content not in (b"", b"\n"):  # a line that a killed run did not finish
                with self.path.open("rb+") as file:
                    file.truncate(self.path.read_bytes().rfind(b"\n") + 1)
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, allow_nan=False) + "\n" for row in rows)
        for row in rows:
            self._read(dict(row))

    def take_seat(self, juror: Juror) -> None:
        """Write down who a judge is, before its first answer.

        Raises:
            JournalError: the journal has answers of another judge of this name.
        """
        identity, known = fingerprint(juror.identity), self._seated.get((juror.labeler_id, juror.aspect))
        if known is None:
            self._append([{"seated": juror.labeler_id, "aspect": juror.aspect, "identity": identity}])
        elif known != identity:
            raise JournalError(
                f"{self.path} has answers of another judge called {juror.labeler_id!r} (its model, persona, rubric or"
                " way of asking was changed): rename the judge, or choose another --out"
            )

    def waiting(self, juror: Juror, pairs: Pairs) -> list[int]:
        """Return the pairs that a judge has not answered yet; those that it could not answer are among them.

        Raises:
            JournalError: a pair had other texts when it was answered.
        """
        found = []
        for k, pair_id in enumerate(pairs.pair_id):
            entry = self.entries.get(Key(juror.labeler_id, juror.aspect, pair_id))
            if entry is not None and entry.texts != texts_of(pairs, k):
                raise JournalError(
                    f"{self.path}: pair {pair_id!r} had other texts when it was judged; choose another --out"
                )
            if entry is None or entry.report is None:
                found.append(k)
        return found

    def add(self, juror: Juror, pairs: Pairs, answers: Answers, spent: Spent) -> None:
        """Write down a batch of answers at once.

        Args:
            juror: who answered.
            pairs: the batch.
            answers: to these pairs.
            spent: what they took.
        """
        rows: list[dict[str, Any]] = []
        for k, pair_id in enumerate(pairs.pair_id):
            numbers = (answers.belief, answers.a_first, answers.b_first, answers.mass)
            report, a_first, b_first, mass = (_plain(values[k]) for values in numbers)
            entry = Entry(texts_of(pairs, k), report, a_first, b_first, mass, answers.note[k], bool(answers.cut[k]))
            rows.append({**Key(juror.labeler_id, juror.aspect, pair_id)._asdict(), **asdict(entry)})
        self._append([*rows, {"spent": juror.labeler_id, "aspect": juror.aspect, **asdict(spent)}])

    def of(self, juror: Juror, pair_ids: Sequence[str]) -> list[Entry | None]:
        """Return a judge's answers to some pairs, None where it was not asked."""
        return [self.entries.get(Key(juror.labeler_id, juror.aspect, pair_id)) for pair_id in pair_ids]

    def reports(self, juror: Juror, pair_ids: Sequence[str], outcome: FloatArray) -> FloatArray:
        """Return a judge's reports on n pairs, shape ``(n,)``, NaN where it has none.

        Args:
            juror: who judged.
            pair_ids: n pairs.
            outcome: 1 A better, 0 B better, NaN not known, shape ``(n,)``: what a scale is fitted to.
        """
        said = [None if entry is None else entry.report for entry in self.of(juror, pair_ids)]
        kept = np.array([np.nan if report is None else report for report in said])
        return scaled(kept, outcome) if juror.is_scaled_later else kept


def texts_of(pairs: Pairs, k: int) -> str:
    """Return a fingerprint of the texts of a pair."""
    whole = json.dumps([pairs.prompt[k], pairs.response_a[k], pairs.response_b[k]])
    return hashlib.blake2b(whole.encode(), digest_size=8).hexdigest()


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else rounded(value)


def outcomes_of(juror: Juror, outcome: FloatArray) -> FloatArray:
    """Return the outcomes that a judge's scale may be fitted to: one about the whole pair says nothing of an aspect."""
    return np.full(len(outcome), np.nan) if juror.aspect else outcome


def rounded(report: float) -> float:
    """Return a report with the digits that are written."""
    return round(float(report), _DIGITS)
