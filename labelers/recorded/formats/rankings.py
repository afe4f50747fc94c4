"""Preference pairs with a chosen response, and lists of responses with ranks or ratings (distilabel, UltraFeedback).

A rank of 1 is best; the highest rating is best. A list of n responses becomes n (n - 1) / 2 pairs, equal ranks a tie.
Of ratings only the order is used: how much better an 8 is than a 7 is not known.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from truthful_rlhf.labelers.recorded.codes import Understood
from truthful_rlhf.labelers.recorded.errors import WayOn, ways_on
from truthful_rlhf.labelers.recorded.formats.base import (
    PROMPTS,
    Columns,
    Importer,
    Record,
    Row,
    Sample,
    pairs_of_ranking,
    part_id,
)
from truthful_rlhf.labelers.recorded.formats.conversations import plain_text, prompt_text
from truthful_rlhf.labelers.recorded.names import LABELERS, plain_name
from truthful_rlhf.labelers.recorded.options import ReadOptions

_LISTS = ("generations", "responses", "completions", "outputs", "answers", "candidates")
_RANKS = ("ranking", "rankings", "rank", "ranks")
_RATINGS = ("rating", "ratings", "score", "scores")
_JUDGES = ("labelling_model", "model_name")


def is_list(sample: Sample, options: ReadOptions) -> bool:
    """Return whether records hold a list of responses, and a list of ranks or ratings of the same length."""
    return _list_columns(sample, options) is not None


def is_chosen(sample: Sample, options: ReadOptions) -> bool:
    """Return whether records say which response was chosen and which was rejected."""
    return sample.has("chosen", "rejected") and "report" not in options.columns


def _list_columns(sample: Sample, options: ReadOptions) -> tuple[str, str] | None:
    texts = [key for key in sample.keys if plain_name(key) in _LISTS]
    known = [key for key in sample.keys if plain_name(key) in (*_RANKS, *_RATINGS)]
    ranks = [options.columns["report"]] if "report" in options.columns else known
    for text in texts:
        for rank in ranks:
            for record in sample.records:
                a, b = _as_list(record.get(text)), _as_list(record.get(rank))
                if a and b and len(a) == len(b) > 1 and all(isinstance(v, int | float | None) for v in b):
                    return text, rank
    return None


def _as_list(value: Any) -> Any:
    if isinstance(value, str) and value[:1] == "[":
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if hasattr(value, "tolist"):
        value = value.tolist()
    return value if isinstance(value, list) else None


def make_list(sample: Sample, options: ReadOptions) -> Importer:
    """Return the importer of ranked or rated lists."""
    columns = Columns(options.columns)
    found = _list_columns(sample, options)
    assert found is not None
    text_column, rank_column = found
    sign = 1.0 if plain_name(rank_column) in _RANKS else -1.0
    noun = "response" if sign > 0 else "rating"
    who = _labeler(sample, options)
    prompt = options.columns.get("prompt") or next((k for k in PROMPTS if sample.has(k)), "prompt")
    identity = next((key for key in ("pair_id", "id", "idx") if sample.has(key)), "pair_id")

    def rows(record: Record) -> Iterator[Row]:
        texts, ranks = _as_list(record.get(text_column)) or [], _as_list(record.get(rank_column)) or []
        if len(texts) != len(ranks):
            raise ValueError(f"{len(texts)} in {text_column!r}, but {len(ranks)} in {rank_column!r}")
        for role in ("report", "prompt", "labeler_id"):
            columns.get(role, record)
        order = {k: sign * float(rank) for k, rank in enumerate(ranks) if rank is not None}
        names = {k: f"{noun} {k + 1}" for k in order}
        pair_id = columns.get("pair_id", record, default=record.get(identity))
        for i, j, report in pairs_of_ranking(order, names):
            extras = columns.extras(record)
            ids = part_id(pair_id, i, j, len(texts))
            text = prompt_text(record.get(prompt))
            yield Row(ids, text, plain_text(texts[i]), plain_text(texts[j]), record.get(who), report, *extras)

    return Importer("ranking", rows, rank_column, columns)


def make_chosen(sample: Sample, options: ReadOptions) -> Importer:
    """Return the importer of chosen and rejected responses: the chosen one is better."""
    columns = Columns(options.columns)
    who = _labeler(sample, options)
    prompt = options.columns.get("prompt") or next((k for k in PROMPTS if sample.has(k)), "prompt")
    chosen = Understood("chosen", 1.0)

    def rows(record: Record) -> Iterator[Row]:
        for role in ("prompt", "labeler_id"):
            columns.get(role, record)
        pair_id = columns.get("pair_id", record, default=record.get("pair_id"))
        asked = prompt_text(record.get(prompt)) if prompt in record else _asked(record["chosen"])
        texts = plain_text(record["chosen"]), plain_text(record["rejected"])
        yield Row(pair_id, asked, *texts, record.get(who), chosen, *columns.extras(record))

    return Importer("chosen_rejected", rows, "chosen/rejected", columns)


def _asked(messages: Any) -> Any:
    """Return what was asked in a conversation that contains its prompt."""
    if isinstance(messages, list) and len(messages) > 1:
        return prompt_text(messages[:-1])
    return None


def _labeler(sample: Sample, options: ReadOptions) -> str:
    """Return the column that says who judged; a judge model's column is known, a person's is asked for."""
    given = options.columns.get("labeler_id")
    if given is not None:
        return given
    known = next((key for key in ("labeler_id", *_JUDGES) if sample.has(key)), None)
    if known is not None:
        return known
    likely = [key for key in sample.keys if plain_name(key) in LABELERS]
    ways = [WayOn("if this column says who judged", ["--column", f"labeler_id={key}"]) for key in likely]
    raise ValueError("labeler_id is missing: no column says who judged" + ways_on(ways))
