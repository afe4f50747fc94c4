"""People's verdicts, split for cross-fitting: what is held out, what the rules and the training may see.

    recorded pairs -> split (per seed: five folds of prompts) -> per fold: the pairs that train

Where no gold reward is known, verdicts (recorded outcomes) are all that a policy can be measured on. They are dealt
into five folds *by prompt*, and prompts that contain one another, such as the turns of a conversation, go together. A
fold's verdicts are held out from everything: all pairs of its prompts stay out of the fold's training, so neither rules
nor policies have seen them, nor anything else about these prompts. Pairs of prompts without any verdict train in every
fold.

The split depends on prompts, on where there are verdicts and on the seed; never on what a verdict says.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from truthful_rlhf.aggregation.base import BoolArray, IntArray
from truthful_rlhf.pipeline.experiment.context import FOLD_PROMPTS, N_FOLDS, Experiment
from truthful_rlhf.pipeline.experiment.pairs import recorded_pairs
from truthful_rlhf.pipeline.storage.inputs import ConfigSections, StageInputs
from truthful_rlhf.pipeline.storage.random import part_rng
from truthful_rlhf.pipeline.storage.tables import read_table, write_table

RECORDED = "recorded/pairs.parquet"
SPLIT = "split.parquet"
_KEY = 24
"""Characters by which a prompt is looked for in longer ones."""


@dataclass(frozen=True, kw_only=True)
class RecordedInputs(StageInputs):
    """What the recorded pairs depend on: the file and how it is read."""

    config: ConfigSections


@dataclass(frozen=True, kw_only=True)
class SplitInputs(StageInputs):
    """What the split depends on, with the fingerprint of the recorded pairs."""

    recorded: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class FoldInputs(StageInputs):
    """What the pairs of a fold depend on, with the fingerprint of the split."""

    split: str
    fold: int
    n_held_out: int


def prompt_groups(prompts: Sequence[str]) -> IntArray:
    """Return the group of every prompt, shape ``(n,)``: prompts that contain one another are in one group.

    Case and spaces do not count, and a prompt is contained where no letter or digit stands directly beside it.

    Args:
        prompts: n texts.

    Returns:
        Numbers from 0 in the order in which groups appear.

    Examples:
        >>> two_turns = "user: Name a tree. assistant: Oak. user: Another?"
        >>> prompt_groups(["Name a tree.", "Name a fish.", two_turns]).tolist()
        [0, 1, 0]
    """
    texts = [" ".join(prompt.casefold().split()) for prompt in prompts]
    unique = list(dict.fromkeys(texts))
    parent = list(range(len(unique)))

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k

    for inner, outer in _contained(unique):
        low, high = sorted((root(inner), root(outer)))
        parent[high] = low
    number: dict[int, int] = {}
    of_text = {text: number.setdefault(root(k), len(number)) for k, text in enumerate(unique)}
    return np.array([of_text[text] for text in texts], dtype=np.int64)


def _contained(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Return (inner, outer) of every text that stands whole in another one; all texts differ."""
    by_start: dict[str, list[int]] = defaultdict(list)
    short: list[int] = []
    for k, text in enumerate(texts):
        (by_start[text[:_KEY]] if len(text) >= _KEY else short).append(k)
    found = []
    for outer, text in enumerate(texts):
        for place in range(len(text) - _KEY + 1):
            for inner in by_start.get(text[place : place + _KEY], ()):
                if inner != outer and _stands_at(texts[inner], text, place):
                    found.append((inner, outer))
    for inner in short:
        for outer, text in enumerate(texts):
            places = (match.start() for match in re.finditer(f"(?={re.escape(texts[inner])})", text))
            if inner != outer and any(_stands_at(texts[inner], text, place) for place in places):
                found.append((inner, outer))
    return found


def _stands_at(inner: str, text: str, place: int) -> bool:
    """Whether a text holds another one at a place, and neither of its ends is within a word."""
    end = place + len(inner)
    within_word = (place and text[place - 1].isalnum() and inner[:1].isalnum()) or (
        end < len(text) and text[end].isalnum() and inner[-1:].isalnum()
    )
    return text.startswith(inner, place) and not within_word


def deal_folds(groups: IntArray, verdicts: BoolArray, rng: np.random.Generator) -> IntArray:
    """Return the fold in which every pair is held out, shape ``(n,)``; -1 for groups of prompts without a verdict.

    Groups are shuffled, and dealt the largest first to the fold with the fewest verdicts: folds are about equal.

    Args:
        groups: of the pairs' prompts, shape ``(n,)``.
        verdicts: whether a pair has one, shape ``(n,)``.
        rng: shuffles the groups.
    """
    sizes = np.bincount(groups, weights=verdicts).astype(np.int64)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    of_group, filled = np.full(len(sizes), -1), np.zeros(N_FOLDS, dtype=np.int64)
    for group in order[sizes[order] > 0]:
        of_group[group] = filled.argmin()
        filled[of_group[group]] += sizes[group]
    folds: IntArray = of_group[groups]
    return folds


def build_recorded(experiment: Experiment) -> str:
    """Build ``recorded/pairs.parquet``: every pair of the file once, its verdict, and the group of its prompt."""
    inputs = RecordedInputs(config=experiment.sections("pairs"))

    def build(scratch: Path) -> None:
        assert experiment.config.pairs.file is not None
        table = recorded_pairs(experiment.config.pairs.file, experiment.gold, experiment.config.pairs.read)
        write_table(scratch / RECORDED, table.assign(group=prompt_groups(table["prompt"].tolist())))

    return experiment.folder.stage("recorded", inputs, [RECORDED], build)


def read_recorded(experiment: Experiment) -> pd.DataFrame:
    """Return the recorded pairs, which were built before."""
    return read_table(experiment.path(RECORDED), ["pair_id", "recorded_outcome", "weight", "group"])


def build_split(experiment: Experiment, seed: int) -> str:
    """Build ``split.parquet`` of a seed: columns ``pair_id, fold``, the fold in which a pair is held out or -1."""
    output = f"seed-{seed}/{SPLIT}"
    inputs = SplitInputs(recorded=build_recorded(experiment), seed=seed)

    def build(scratch: Path) -> None:
        table = read_recorded(experiment)
        verdicts = table["recorded_outcome"].notna().to_numpy()
        folds = deal_folds(table["group"].to_numpy(), verdicts, part_rng(seed, "folds"))
        write_table(scratch / output, pd.DataFrame({"pair_id": table["pair_id"], "fold": folds}))

    return experiment.folder.stage(f"seed-{seed}/split", inputs, [output], build)


def read_folds(experiment: Experiment, seed: int) -> IntArray:
    """Return the fold in which every recorded pair is held out, shape ``(n,)``, in the order of `read_recorded`."""
    folds: IntArray = read_table(experiment.path(f"seed-{seed}/{SPLIT}"), ["fold"])["fold"].to_numpy()
    return folds


def build_training_pairs(experiment: Experiment, seed: int) -> str:
    """Build ``pairs/pairs.parquet`` of the experiment's fold, the recorded pairs that are not held out in it.

    Beside it ``prompts.parquet``: those of these pairs, and at most ``prompts.n_held_out`` of the held-out ones, drawn
    from the seed, which policies respond to.
    """
    assert experiment.fold is not None
    outputs = [experiment.layout.of_seed(seed, name) for name in ("pairs/pairs.parquet", FOLD_PROMPTS)]
    most = experiment.config.prompts.n_held_out
    inputs = FoldInputs(split=build_split(experiment, seed), fold=experiment.fold, n_held_out=most)

    def build(scratch: Path) -> None:
        table, held_out = read_recorded(experiment), read_folds(experiment, seed) == experiment.fold
        write_table(scratch / outputs[0], table[~held_out].reset_index(drop=True))
        train, rest = (list(dict.fromkeys(table["prompt"][rows])) for rows in (~held_out, held_out))
        order = part_rng(seed, f"held-out prompts of fold {experiment.fold}").permutation(len(rest))
        prompts = [*train, *(rest[k] for k in np.sort(order[:most]))]
        whether = np.arange(len(prompts)) >= len(train)
        write_table(scratch / outputs[1], pd.DataFrame({"prompt": prompts, "held_out": whether}))

    return experiment.folder.stage(experiment.layout.of_seed(seed, "pairs"), inputs, outputs, build)


def held_out_verdicts(experiment: Experiment, seed: int) -> pd.DataFrame:
    """Return the recorded pairs whose verdict is held out in the experiment's fold."""
    table = read_recorded(experiment)
    here = (read_folds(experiment, seed) == experiment.fold) & table["recorded_outcome"].notna()
    return table[here].reset_index(drop=True)
