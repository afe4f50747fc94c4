"""Fixtures that several parts of the tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import torch_marker
from tests.precision import double_precision

# Tiny models gain nothing from threads, and the threads of parallel tests would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config: pytest.Config) -> None:
    """Mark the tests that compute with torch."""
    config.pluginmanager.register(torch_marker)


SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

SENTENCES = [
    "The film was a wonderful surprise and we loved every minute of it.",
    "My dog is happy, but the train was late again and the soup was awful.",
    "I bought this phone last month and it has been terrible, slow and ugly.",
    "Which response is better, A or B? Answer with one letter.",
    "user system assistant: a good day, a bad day, great food, poor service.",
]


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny, randomly initialised Llama with a tokenizer of its own; nothing is downloaded."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-model")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    backend.train_from_iterator(SENTENCES, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|pad|>")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def in_float64() -> Iterator[None]:
    """Load every model in float64 while a test runs, whatever precision the code asks for: identities hold there."""
    with double_precision():
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real annotations, or skip: they are third-party data and not part of the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real annotations are not here: {SHARED_DATA} does not exist")
    return SHARED_DATA
