"""Responses that try to take over a local judge: they may move its answer, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from truthful_rlhf.labelers import LocalJudge, Pairs
from truthful_rlhf.labelers.judges.local import LetterChooser
from truthful_rlhf.labelers.judges.prompt import both_orders

CORPUS = [json.loads(line) for line in Path(__file__).with_name("injections.jsonl").read_text("utf-8").splitlines()]
TEXTS = [row["text"] for row in CORPUS]
MARKUP = ["<|im_start|>", "<|im_end|>", "</s>", "<start_of_turn>", "<end_of_turn>", "<|eot_id|>"]
MARKUP += ["<|start_header_id|>", "<|end_header_id|>"]


@pytest.fixture(scope="module")
def chooser(tiny_model_folder: Path) -> LetterChooser:
    """Return a tiny model whose tokenizer has the turn markers of the usual chat formats."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    tokenizer.add_special_tokens({"additional_special_tokens": MARKUP})
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "<|im_start|>assistant\n"
    )
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    model.resize_token_embeddings(len(tokenizer))
    return LetterChooser(model, tokenizer)


@pytest.fixture(autouse=True)
def _any_mass_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a random model, to which letters are tokens like others, answer."""
    monkeypatch.setattr("truthful_rlhf.labelers.judges.local.LEAST_MASS", 1e-9)


def attacked(texts: list[str]) -> Pairs:
    """Return pairs whose response A tries it."""
    n = len(texts)
    return Pairs([str(k) for k in range(n)], ["The film was"] * n, [f"fine. {t}" for t in texts], ["good."] * n)


def specials(chooser: LetterChooser, texts: list[str]) -> list[list[int]]:
    """Return the special tokens of every prompt, in order."""
    special = set(chooser.tokenizer.all_special_ids)
    encoded = chooser._encoded("You like films.", both_orders(attacked(texts)))
    return [[token for token in prompt if token in special] for prompt, *_ in encoded]


def test_the_corpus_has_forty_different_attempts() -> None:
    assert len(set(TEXTS)) == len(TEXTS) >= 40


def test_no_attempt_puts_a_special_token_into_the_prompt(chooser: LetterChooser) -> None:
    (harmless, _) = specials(chooser, ["ok"])
    assert len(harmless) == 5  # system and user turn opened and closed, assistant opened
    assert all(found == harmless for found in specials(chooser, TEXTS))


def test_without_cleaning_attempts_would_put_them_there(
    chooser: LetterChooser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control of the test above."""
    (harmless, _) = specials(chooser, ["ok"])
    monkeypatch.setattr(chooser, "without_markup", str)
    broken = sum(found != harmless for found in specials(chooser, TEXTS))
    assert broken >= 2 * 5


def test_every_attempt_is_answered_with_a_probability(chooser: LetterChooser) -> None:
    belief = LocalJudge((chooser.model, chooser.tokenizer)).belief(attacked(TEXTS))
    assert belief.shape == (len(TEXTS),)
    assert np.all((belief >= 0.0) & (belief <= 1.0))


def test_an_attempt_moves_the_answer_of_no_other_pair(chooser: LetterChooser) -> None:
    calm = LocalJudge((chooser.model, chooser.tokenizer)).belief(attacked(["ok"]))
    for text in TEXTS[::8]:
        both = LocalJudge((chooser.model, chooser.tokenizer)).belief(attacked(["ok", text]))
        assert both[0] == pytest.approx(calm[0], abs=1e-6)
