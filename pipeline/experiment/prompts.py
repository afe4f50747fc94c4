"""Load prompts: the bundled openers, any JSONL file, or a data set on the Hub, split into train and held out."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from truthful_rlhf.aggregation.extras import explained
from truthful_rlhf.aggregation.names import nearest
from truthful_rlhf.labelers.recorded.formats.conversations import said

BUNDLED = "bundled"
SPLITS = ("train", "held_out")
ROLES = ("system", "user", "assistant")


class PromptsError(ValueError):
    """The prompts cannot be read; the message names the source and the row."""


@dataclass(frozen=True)
class Prompt:
    """What is responded to, and the topic it belongs to (empty: none).

    Attributes:
        text: as labelers and rewards see it: of a conversation what was said, without the system message.
        topic: empty for none.
        messages: the conversation, each message its role and content; empty for a plain text.
    """

    text: str
    topic: str = ""
    messages: tuple[tuple[str, str], ...] = ()

    @property
    def written(self) -> str | list[dict[str, str]]:
        """The text, or the messages, as the policy's `Encoder` takes them."""
        return [{"role": role, "content": content} for role, content in self.messages] or self.text


def load_prompts(
    source: str, column: str, n_train: int, n_held_out: int, rng: np.random.Generator
) -> tuple[list[Prompt], list[Prompt]]:
    """Return ``n_train`` training and ``n_held_out`` held-out prompts, drawn without replacement.

    Args:
        source: ``bundled``, a path to a JSONL file, or ``hub:OWNER/NAME[:SPLIT]``.
        column: the key that holds the prompt.
        n_train: number of prompts to generate pairs from.
        n_held_out: number of prompts to evaluate on.
        rng: draws the subset, and the split where the rows have no ``split`` key.

    Raises:
        PromptsError: a bad row, an unknown column, a split on some rows only, or fewer prompts than asked for.
    """
    rows = list(_parse(_rows(source), column, source))
    if any(split for _, _, split in rows):
        _check_every_row_has_a_split({number: split for number, _, split in rows}, source)
        pools = [[prompt for _, prompt, split in rows if split == name] for name in SPLITS]
    else:
        unique = list(dict.fromkeys(prompt for _, prompt, _ in rows))
        order = rng.permutation(len(unique))
        held_out = round(len(unique) * n_held_out / max(1, n_train + n_held_out))
        pools = [[unique[k] for k in order[held_out:]], [unique[k] for k in order[:held_out]]]
    return _draw(pools[0], n_train, "train", source, rng), _draw(pools[1], n_held_out, "held_out", source, rng)


def _check_every_row_has_a_split(splits: dict[int, str], source: str) -> None:
    """Refuse to guess what the rows without a split, by their numbers, are for."""
    without = [number for number, split in splits.items() if not split]
    if without:
        given = next(number for number, split in splits.items() if split)
        raise PromptsError(
            f"{source} row {without[0]}: no split, though row {given} has one ({len(without)} of {len(splits)} rows"
            f" have none); give every row a 'split' ({' or '.join(SPLITS)}), or none: then they are split at random"
        )


def _draw(pool: list[Prompt], n: int, split: str, source: str, rng: np.random.Generator) -> list[Prompt]:
    if n > len(pool):
        raise PromptsError(f"{source} has {len(pool)} {split} prompts, the config asks for {n}")
    return [pool[k] for k in rng.permutation(len(pool))[:n]]


def _rows(source: str) -> Iterable[tuple[int, Any]]:
    if source == BUNDLED:
        text = (
            importlib.resources.files("truthful_rlhf.pipeline")
            .joinpath("data/prompts.jsonl")
            .read_text(encoding="utf-8")
        )
        return ((number, json.loads(line)) for number, line in enumerate(text.splitlines(), 1))
    if source.startswith("hub:"):
        return _hub_rows(source)
    return _file_rows(Path(source).expanduser())


def _file_rows(path: Path) -> Iterator[tuple[int, Any]]:
    if not path.is_file():
        raise PromptsError(f"prompts file {path} does not exist (bundled openers: prompts.source=bundled)")
    with open(path, encoding="utf-8", errors="strict") as file:
        try:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, json.loads(line)
        except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, a number of 5000 digits
            raise PromptsError(f"{path}: a row is not valid UTF-8 JSON: {error}") from error


def _hub_rows(source: str) -> Iterator[tuple[int, Any]]:
    with explained(f"prompts.source={source}"):
        from datasets import load_dataset

    name, _, split = source.removeprefix("hub:").partition(":")
    try:
        data = load_dataset(name, split=split or "train")
    except Exception as error:  # the Hub client raises many classes
        reason = str(error).strip().splitlines()[0]
        raise PromptsError(
            f"cannot load {source}: {reason} (offline: prompts.source=bundled or a JSONL file)"
        ) from error
    yield from enumerate(data, 1)


def _parse(rows: Iterable[tuple[int, Any]], column: str, source: str) -> Iterator[tuple[int, Prompt, str]]:
    """Yield the number, the prompt and the split (empty: none) of every row."""
    for number, row in rows:
        if not isinstance(row, dict):
            raise PromptsError(f"{source} row {number}: expected an object with key {column!r}")
        if column not in row:
            hint = nearest(column, map(str, row)) or f"; it has {', '.join(map(str, row))}"
            raise PromptsError(f"{source} row {number}: no key {column!r}{hint}")
        text, split = row[column], row.get("split") or ""
        messages: tuple[tuple[str, str], ...] = ()
        if isinstance(text, list):
            messages = _messages(text, column, f"{source} row {number}")
            text = said(messages)
        if not isinstance(text, str) or not text.strip():
            raise PromptsError(f"{source} row {number}: {column!r} must be a text that is not empty")
        if split not in ("", *SPLITS):
            raise PromptsError(f"{source} row {number}: split {split!r} is not one of {', '.join(SPLITS)}")
        topic = row.get("topic") or ""
        if not isinstance(topic, str | int | float):
            raise PromptsError(f"{source} row {number}: topic must be a text, got {topic!r:.60}")
        prompt = Prompt(text.rstrip(), str(topic), messages)
        try:
            f"{prompt.text}{prompt.topic}{prompt.messages}".encode()
        except UnicodeEncodeError:
            raise PromptsError(f"{source} row {number}: half of a surrogate pair, which is not text") from None
        yield number, prompt, split


def _messages(value: list[Any], column: str, where: str) -> tuple[tuple[str, str], ...]:
    """Return a conversation as roles and contents; it must leave the next turn to the assistant."""
    for turn in value:
        if not isinstance(turn, dict) or turn.get("role") not in ROLES or not isinstance(turn.get("content"), str):
            raise PromptsError(
                f"{where}: every message of {column!r} needs a 'role' ({', '.join(ROLES)}) and a 'content' that is"
                f" text, got {turn!r:.80}"
            )
    if not value or value[-1]["role"] != "user":
        raise PromptsError(f"{where}: the last message of {column!r} must be the user's, for the policy to answer")
    return tuple((turn["role"], turn["content"]) for turn in value)
