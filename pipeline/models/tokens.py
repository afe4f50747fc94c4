"""Texts to token ids: the one place that says what models read, and where a response ends.

A sampled response keeps the ids that were sampled, so that nothing has to guess them from its text again: the
end-of-text token stands last where the policy chose to end, and is missing where the response was cut at its longest.
A recorded response is taken as whole, so it gets the token.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

END_AS_SAMPLED = "end as sampled"
"""Stands in the inputs of stages that keep token ids: an older run folder's are not taken for these."""
TOKEN_COLUMNS = ("prompt_ids", "ids_a", "ids_b")
"""Of a table of pairs: what the policy read, and what it wrote as A and as B."""


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """Return the token ids that a response goes on from."""
    return list(tokenizer(prompt)["input_ids"])


def encode_response(tokenizer: PreTrainedTokenizerBase, prompt: str, response: str) -> list[int]:
    """Return the token ids of a whole response after its prompt, with the end-of-text token.

    Args:
        tokenizer: of the policy.
        prompt: the text that the response goes on from.
        response: its text.
    """
    start, whole = encode_prompt(tokenizer, prompt), list(tokenizer(prompt + response)["input_ids"])
    if whole[: len(start)] == start:
        ids = whole[len(start) :]
    else:  # a token would span the seam, and the policy never reads that one
        ids = list(tokenizer(response, add_special_tokens=False)["input_ids"])
    end = tokenizer.eos_token_id
    return ids if ids[-1:] == [end] else [*ids, end]


def with_token_ids(pairs: pd.DataFrame, tokenizer: PreTrainedTokenizerBase) -> pd.DataFrame:
    """Return the pairs with `TOKEN_COLUMNS`: as sampled, or encoded where they were recorded.

    Args:
        pairs: columns ``prompt, response_a, response_b``, and all of `TOKEN_COLUMNS` or none.
        tokenizer: of the policy.
    """
    if set(TOKEN_COLUMNS) <= set(pairs.columns):
        return pairs
    prompts = pairs["prompt"].tolist()
    encoded = {
        f"ids_{side}": [
            encode_response(tokenizer, prompt, response)
            for prompt, response in zip(prompts, pairs[f"response_{side}"], strict=True)
        ]
        for side in "ab"
    }
    return pairs.assign(prompt_ids=[encode_prompt(tokenizer, prompt) for prompt in prompts], **encoded)


def orient_tokens(labels: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the soft-label table with ``prompt_ids, chosen_ids, rejected_ids`` of its pairs.

    Args:
        labels: columns ``pair_id, chosen_is_a`` and others.
        pairs: columns ``pair_id`` and `TOKEN_COLUMNS`, every pair of the table once.
    """
    table = labels.merge(pairs[["pair_id", *TOKEN_COLUMNS]], on="pair_id", validate="one_to_one")
    a_first = table["chosen_is_a"]
    table["chosen_ids"] = table["ids_a"].where(a_first, table["ids_b"])
    table["rejected_ids"] = table["ids_b"].where(a_first, table["ids_a"])
    return table.drop(columns=["ids_a", "ids_b"])


def joined(prompts: Iterable[Sequence[int]], responses: Iterable[Sequence[int]]) -> list[list[int]]:
    """Return each prompt's token ids followed by its response's."""
    both = zip(prompts, responses, strict=True)
    return [[int(token) for token in (*prompt, *response)] for prompt, response in both]


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the tokens that end a response: those that stop the model's sampling, and the tokenizer's own."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    several = configured if isinstance(configured, list) else [configured]
    return frozenset(end for end in (*several, tokenizer.eos_token_id) if end is not None)


def pad_apart_from_end(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let the tokenizer pad with another token than the one that ends a text, if it has one to spare.

    A sequence classifier reads the last token that is no padding. Where padding and end-of-text are one token, a reward
    model cannot see whether a response ended.
    """
    if tokenizer.pad_token_id not in (None, tokenizer.eos_token_id):
        return
    named = set(tokenizer.all_special_ids)
    spare = [k for k, token in tokenizer.added_tokens_decoder.items() if token.special and k not in named]
    if spare:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(max(spare))
    elif tokenizer.unk_token_id not in (None, tokenizer.eos_token_id):
        tokenizer.pad_token = tokenizer.unk_token
    elif tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
