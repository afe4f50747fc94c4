"""Carry the column ``soft_label`` from a data set through TRL's trainers to their loss, or fail.

The failure to fear is a silent fall-back to hard labels, so a column that is missing, out of range or lost on the way
raises at the first place where that can be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from truthful_rlhf.aggregation.names import closest

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from torch import Tensor

SOFT_LABEL = "soft_label"
TOKENIZED = ("prompt_ids", "chosen_ids", "rejected_ids")
"""Columns of a data set whose texts are token ids already."""


def check_soft_labels(dataset: Dataset | IterableDataset, name: str) -> None:
    """Raise ``ValueError`` unless the data set has a column ``soft_label`` of numbers in [0, 1].

    A streamed data set is checked by its first row here and by every batch in ``SoftLabelCollator``.
    """
    columns = list(dataset.column_names or next(iter(dataset), ()))
    if SOFT_LABEL not in columns:
        found = closest(SOFT_LABEL, columns)
        hint = f"; rename {found!r}?" if found is not None else ""
        raise ValueError(f"the {name} data set has no column {SOFT_LABEL!r}{hint} It has: {', '.join(columns)}")
    values = dataset[SOFT_LABEL] if hasattr(dataset, "__len__") else [next(iter(dataset))[SOFT_LABEL]]
    _as_probabilities(values, f"{name} data set")


def _as_probabilities(values: Iterable[Any], where: str) -> list[float]:
    checked = []
    for row, value in enumerate(values):
        if not isinstance(value, int | float | np.number) or not 0.0 <= value <= 1.0:
            raise ValueError(f"{where}, row {row}: {SOFT_LABEL} must be a probability in [0, 1], got {value!r}")
        checked.append(float(value))
    return checked


@dataclass
class SoftLabelCollator:
    """A collator that adds the soft labels, shape ``(n,)``, to the batch that another collator makes."""

    collate: Callable[[list[dict[str, Any]]], dict[str, Any]]

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Collate, and add the column."""
        import torch

        missing = next((row for row, example in enumerate(examples) if SOFT_LABEL not in example), None)
        if missing is not None:
            raise ValueError(
                f"a batch reached the collator without {SOFT_LABEL!r} (example {missing} of {len(examples)})"
            )
        labels = _as_probabilities((example[SOFT_LABEL] for example in examples), "batch")
        return {**self.collate(examples), SOFT_LABEL: torch.tensor(labels, dtype=torch.float32)}


def split_soft_labels(inputs: Mapping[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """Return the soft labels of a batch, shape ``(n,)``, and a new batch without them."""
    if SOFT_LABEL not in inputs:
        raise ValueError(f"the batch has no {SOFT_LABEL!r}: a collator or a data loader has dropped the column")
    return inputs[SOFT_LABEL], {key: value for key, value in inputs.items() if key != SOFT_LABEL}
