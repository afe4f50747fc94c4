"""Identities hold in any precision; tests state them in float64, where rounding is far below any wrong formula."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

EXACT = 1e-10
"""How far two float64 computations of one number of size up to 100 may differ.

One rounding is 1.1e-16 relative; the tiny model's longest chain of sums and products has some thousand of them, so that
even if all went the same way the number would be off by 100 x 1e3 x 1.1e-16 = 1e-11. A wrong formula is off by 1e-3.
"""

LOGGED = 2**-23
"""How far two logged losses below 2 may differ: transformers' ``Trainer`` keeps each as float32, off by up to 2^-24."""


def float32_error(hidden_size: int, largest_logit: float) -> float:
    """Return by how much a log-probability that a float32 model states may be off, in nats.

    A logit of size s comes out of a product of ``hidden_size`` terms: off by up to hidden_size * eps * s if all
    roundings go the same way, which leaves room for the layers before it, where they do not. A log-probability is a
    logit less the logarithm of the normaliser, which is off by no more than the logits are: twice that.
    """
    return 2 * hidden_size * 2**-23 * largest_logit


@contextmanager
def double_precision() -> Iterator[None]:
    """Load every model in float64 meanwhile, whatever precision the code asks for."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    def in_double(load: Any) -> Any:
        return lambda *args, **options: load(*args, **options | {"dtype": torch.float64})

    with pytest.MonkeyPatch.context() as patch:
        for auto in (AutoModelForCausalLM, AutoModelForSequenceClassification):
            patch.setattr(auto, "from_pretrained", in_double(auto.from_pretrained))
        yield
