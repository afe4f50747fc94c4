"""Texts to token ids: the one place that says what models read, where chat templates are applied, and where a
response ends.

A sampled response keeps the ids that were sampled, so that nothing has to guess them from its text again: the
end-of-text token stands last where the policy chose to end, and is missing where the response was cut at its longest.
A recorded response is taken as whole, so it gets the token.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

END_AS_SAMPLED = "end as sampled"
"""Stands in the inputs of stages that keep token ids: an older run folder's are not taken for these."""
TOKEN_COLUMNS = ("prompt_ids", "ids_a", "ids_b")
"""Of a table of pairs: what the policy read, and what it wrote as A and as B."""


Message = Mapping[str, str]
"""``role`` (system, user or assistant) and ``content``."""
PromptText = str | Sequence[Message]
"""A prompt as it is written: a text, or a conversation that ends with the user's turn."""


class ChatError(ValueError):
    """Prompts and model do not go together: conversations for a model of texts, or a chat without a template."""


CONVERSATIONS = "the prompts are conversations, which only a chat model answers; set model.chat=true"


@dataclass(frozen=True)
class Encoder:
    """How a policy reads prompts and whole responses.

    Attributes:
        tokenizer: of the policy.
        chat: a prompt is a conversation in the tokenizer's chat template, and a response the assistant's next turn;
            otherwise a response goes on where the prompt's text ends.
        system: first message of a conversation that has no system message of its own.

    Raises:
        ChatError: a chat, but the tokenizer has no chat template.
    """

    tokenizer: PreTrainedTokenizerBase
    chat: bool = False
    system: str | None = None

    def __post_init__(self) -> None:
        if self.chat and not self.tokenizer.chat_template:
            name = getattr(self.tokenizer, "name_or_path", "the model")
            raise ChatError(f"model.chat: the tokenizer of {name} has no chat template; set model.chat=false")

    def conversation(self, prompt: PromptText) -> list[dict[str, str]]:
        """Return a prompt as messages; a text is the user's."""
        given = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(turn) for turn in prompt]
        if self.system is None or given[0]["role"] == "system":
            return given
        return [{"role": "system", "content": self.system}, *given]

    def prompt(self, prompt: PromptText) -> list[int]:
        """Return the token ids that a response goes on from."""
        if not self.chat:
            if not isinstance(prompt, str):
                raise ChatError(CONVERSATIONS)
            return list(self.tokenizer(prompt)["input_ids"])
        ids = self.tokenizer.apply_chat_template(
            self.conversation(prompt), add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return list(ids)

    def response(self, prompt: PromptText, response: str) -> list[int]:
        """Return the token ids of a whole response after its prompt, with the end-of-text token.

        Args:
            prompt: what it responds to.
            response: its text.
        """
        ids = list(self.tokenizer(response, add_special_tokens=False)["input_ids"])
        if not self.chat and isinstance(prompt, str):
            start, whole = self.prompt(prompt), list(self.tokenizer(prompt + response)["input_ids"])
            if whole[: len(start)] == start:  # otherwise a token would span the seam, which the policy never reads
                ids = whole[len(start) :]
        end = self.tokenizer.eos_token_id
        return ids if ids[-1:] == [end] else [*ids, end]


@dataclass(frozen=True)
class TrainingPrompts:
    """What a policy responds to while it is trained, n prompts.

    Attributes:
        written: as texts, or as conversations.
        shown: as rewards on texts see them.
        ids: as the policy reads them.
    """

    written: list[str] | list[list[dict[str, str]]]
    shown: list[str]
    ids: list[list[int]]

    @classmethod
    def of_texts(cls, texts: Sequence[str], encoder: Encoder) -> TrainingPrompts:
        """Return texts that a response goes on from."""
        return cls(list(texts), list(texts), [encoder.prompt(text) for text in texts])


def with_token_ids(pairs: pd.DataFrame, encoder: Encoder) -> pd.DataFrame:
    """Return the pairs with `TOKEN_COLUMNS`: as sampled, or encoded where they were recorded.

    Args:
        pairs: columns ``prompt, response_a, response_b``, and all of `TOKEN_COLUMNS` or none; ``messages``, JSON, where
            prompts are conversations.
        encoder: of the policy.
    """
    if set(TOKEN_COLUMNS) <= set(pairs.columns):
        return pairs
    prompts: list[PromptText] = pairs["prompt"].tolist()
    if "messages" in pairs:
        prompts = [json.loads(given) if given else text for text, given in zip(prompts, pairs["messages"], strict=True)]
    encoded = {"prompt_ids": [encoder.prompt(prompt) for prompt in prompts]}
    for side in "ab":
        both = zip(prompts, pairs[f"response_{side}"], strict=True)
        encoded[f"ids_{side}"] = [encoder.response(prompt, response) for prompt, response in both]
    return pd.concat([pairs, pd.DataFrame(encoded, index=pairs.index)], axis=1)


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
