"""Log-probabilities of responses: those of TRL's trainer, and of a softmax by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from truthful_rlhf.labelers.judges.hardware import Hardware
from truthful_rlhf.pipeline.config.training import DPOSettings
from truthful_rlhf.pipeline.models.load import BasePolicy, load_model, load_tokenizer
from truthful_rlhf.pipeline.models.log_probabilities import log_probabilities
from truthful_rlhf.pipeline.models.tokens import Encoder, with_token_ids
from truthful_rlhf.pipeline.training.dpo import reference_log_probabilities

PAIRS = pd.DataFrame(
    {
        "pair_id": ["p0", "p1", "p2"],
        "prompt": ["The film was", "My dog is", "How was the food?"],
        "response_a": [" a wonderful surprise.", " happy.", " Great food, poor service."],
        "response_b": [" awful.", " late again and the soup was awful.", " A good day."],
    }
)


@pytest.mark.parametrize("max_length", [512, 14])
def test_they_are_those_of_the_trainer(tiny_model_folder: Path, max_length: int) -> None:
    """Float32 on both sides; sums of at most 40 log-probabilities of about 6 nats: 1e-3 is far above rounding."""
    tokenizer = load_tokenizer(str(tiny_model_folder))
    encoded = with_token_ids(PAIRS, Encoder(tokenizer))
    base = BasePolicy(str(tiny_model_folder), Hardware("cpu", "float32"))
    theirs = reference_log_probabilities(base, encoded, DPOSettings(max_length=max_length))
    model = load_model(str(tiny_model_folder))
    for side in "ab":
        prompts, responses = encoded["prompt_ids"].tolist(), encoded[f"ids_{side}"].tolist()
        ours = log_probabilities(model, tokenizer, prompts, responses, max_length, batch_size=2)
        known = encoded["pair_id"].isin(theirs["pair_id"]).to_numpy()
        np.testing.assert_allclose(ours[known], theirs[f"ref_logps_{side}"], atol=1e-3)


def test_by_hand(tiny_model_folder: Path, in_float64: None) -> None:
    tokenizer, model = load_tokenizer(str(tiny_model_folder)), load_model(str(tiny_model_folder))
    prompt, response = [5, 6, 7], [8, 9]
    with torch.no_grad():
        log_p = model(input_ids=torch.tensor([[*prompt, *response]])).logits[0].log_softmax(dim=-1)
    expected = float(log_p[2, 8] + log_p[3, 9])
    longer = [*response, 10, 11, 12]
    both = log_probabilities(model, tokenizer, [prompt, prompt], [response, longer], 512)
    assert both[0] == pytest.approx(expected, abs=1e-9)
    assert both[1] < both[0]
    cut = log_probabilities(model, tokenizer, [prompt, prompt], [response, longer], 5)
    assert cut.tolist() == pytest.approx([expected, expected], abs=1e-9)
    assert log_probabilities(model, tokenizer, [prompt], [response], 3).tolist() == [0.0]
