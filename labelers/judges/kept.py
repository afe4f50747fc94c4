"""Answers of a local model that are kept, so that a rule swapped in, or a run that goes on, asks for nothing twice."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from truthful_rlhf.labelers.judges.cache import ReplyCache, cache_folder

Question = tuple[str, tuple[int, ...], tuple[str, ...]]
"""What is read (such as ``words``), the tokens that the model has read, and the answers to choose from."""
Numbers = tuple[float, ...]


class KeptAnswers:
    """A map from questions to a model's numbers: in memory, and on disk where the model has a name.

    Args:
        model: names the weights (`weights_name`); None: answers are kept in memory only.
    """

    def __init__(self, model: str | None = None) -> None:
        self._model = model
        self._known: dict[Question, Numbers] = {}
        self._disk: ReplyCache | None = None
        if model is not None:
            with contextlib.suppress(OSError, sqlite3.Error):  # where nothing can be written, nothing is kept
                self._disk = ReplyCache(cache_folder() / "judge-answers.sqlite")

    def missing(self, questions: Iterable[Question]) -> list[Question]:
        """Return the different questions without an answer, those with fewer tokens first."""
        return sorted({one for one in questions if not self._find(one)}, key=lambda one: (len(one[1]), one))

    def _find(self, question: Question) -> bool:
        if question in self._known:
            return True
        found = self._disk.get(self._row(question)) if self._disk is not None else None
        if found is not None:
            self._known[question] = tuple(found["numbers"])
        return found is not None

    def __getitem__(self, question: Question) -> Numbers:
        """Return a known answer."""
        return self._known[question]

    def put(self, answers: Mapping[Question, Numbers]) -> None:
        """Keep answers."""
        self._known.update(answers)
        if self._disk is not None:
            self._disk.put_all((self._row(one), {"numbers": numbers}) for one, numbers in answers.items())

    def _row(self, question: Question) -> dict[str, Any]:
        kind, tokens, answers = question
        return {"model": self._model, "kind": kind, "tokens": tokens, "answers": answers, "version": 1}


def weights_name(folder: str, dtype: str) -> str | None:
    """Return a name of a model folder's weights, which another file or another date changes; None for no folder.

    Args:
        folder: with safetensors.
        dtype: that the model computes in.
    """
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        return None
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return f"{Path(folder).resolve()} {stats} {dtype}"
