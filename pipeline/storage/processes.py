"""One process or several (``accelerate launch``): the first does what needs doing once, all of them train.

Every process walks through the same stages. The first decides which are done, and builds those that are not training;
in between the others wait. Without a launcher nothing here costs anything, and torch is not loaded.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from accelerate import PartialState

T = TypeVar("T")


def several() -> bool:
    """Whether a launcher started more than one process."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return int(os.environ.get("RANK", "0")) == 0


def wait() -> None:
    """Wait until every process is here."""
    if several():
        _state().wait_for_everyone()


def from_first(value: T) -> T:
    """Return the first process's value in every process."""
    if not several():
        return value
    import torch.distributed

    _state()
    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return values[0]


def _state() -> PartialState:
    import torch
    from accelerate import PartialState

    # The others wait as long as the first generates: gloo's half hour would end a long run.
    return PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=7))
