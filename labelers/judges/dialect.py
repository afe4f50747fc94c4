"""How a server wants to be asked: which way of answering it has, and which parameters it takes.

The ways, the best first. A judge begins with the first and goes on to the next where the server refuses it or does not
give it; what is then known is kept for all other pairs.

| way | what is asked for | belief |
|---|---|---|
| ``logprobs`` | one letter, with log-probabilities | the letters' share of the probability |
| ``json`` | ``response_format`` with a JSON schema | winner (A, B or tie) and its stated probability |
| ``votes`` | one letter, several times | (k + 1/2) / (v + 1) of v votes |

Reasoning models think before they answer. Their first token is no answer, so ``logprobs`` is not for them, their budget
of tokens is larger, and their temperature is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from truthful_rlhf.labelers.judges.prompt import Message
from truthful_rlhf.labelers.judges.replies import VERDICT_SCHEMA

WAYS = ("logprobs", "json", "votes")
BUDGET = {"logprobs": 4, "json": 300, "votes": 4}
"""Tokens that a reply may have, by way."""
THINKING_BUDGET = 4096
"""Tokens that a reply of a reasoning model may have, thoughts included."""
_MANY, _FEW = 20, 5
"""Log-probabilities per token: what most servers allow, and what nearly all allow."""
_TOO_LONG = ("context length", "context_length", "too long", "too large", "context window")


@dataclass(frozen=True)
class Dialect:
    """What one server and model take.

    Examples:
        >>> refused = "Unsupported parameter: 'max_tokens' is not supported with this model."
        >>> Dialect().after_refusal(refused).budget_key
        'max_completion_tokens'
        >>> Dialect(way="votes").after_refusal("content filter") is None
        True
    """

    way: str = WAYS[0]
    thinks: bool = False
    budget_key: str = "max_tokens"
    takes_temperature: bool = True
    takes_system: bool = True
    takes_seed: bool = True
    takes_json_schema: bool = True
    """Otherwise ``json_object``, with the schema beside it (llama-cpp-python, Together)."""
    top_logprobs: int = _MANY

    def request(self, messages: Sequence[Message], max_tokens: int | None, vote: int | None) -> dict[str, Any]:
        """Return the parameters of a request.

        Args:
            messages: the chat.
            max_tokens: that the reply may have; None: enough for the way.
            vote: seed of a vote; None in the other ways, which are asked once.
        """
        chat = [dict(message) for message in messages]
        if not self.takes_system and chat[0]["role"] == "system":
            chat = [{"role": "user", "content": f"{chat[0]['content']}\n\n{chat[1]['content']}"}, *chat[2:]]
        budget = max_tokens or (THINKING_BUDGET if self.thinks else BUDGET[self.way])
        request: dict[str, Any] = {"messages": chat, self.budget_key: budget}
        if self.way == "logprobs":
            request |= {"logprobs": True, "top_logprobs": self.top_logprobs}
        if self.way == "json":
            request["response_format"] = (
                {
                    "type": "json_schema",
                    "json_schema": {"name": "verdict", "strict": True, "schema": VERDICT_SCHEMA},
                }
                if self.takes_json_schema
                else {"type": "json_object", "schema": VERDICT_SCHEMA}
            )
        if self.takes_temperature and not self.thinks and self.way != "logprobs":
            request["temperature"] = 0.0 if vote is None else 1.0
        if self.takes_seed and vote is not None:
            request["seed"] = vote
        return request

    def after_refusal(self, message: str) -> Dialect | None:
        """Return the dialect to try next after a request was refused with this message; None: it is not the dialect."""
        said = message.lower()
        if any(words in said for words in _TOO_LONG):  # such a message also names max_tokens
            return None
        no_schema = {"takes_json_schema": False} if self.takes_json_schema else {"way": "votes"}
        steps: tuple[tuple[str, bool, dict[str, Any]], ...] = (
            ("top_logprobs", self.way == "logprobs" and self.top_logprobs > _FEW, {"top_logprobs": _FEW}),
            ("logprobs", self.way == "logprobs", {"way": "json"}),
            *((word, self.way == "json", no_schema) for word in ("response_format", "json_schema", "structured")),
            ("max_tokens", self.budget_key == "max_tokens", {"budget_key": "max_completion_tokens"}),
            ("temperature", self.takes_temperature, {"takes_temperature": False}),
            ("seed", self.takes_seed and self.way == "votes", {"takes_seed": False}),
            ("system role", self.takes_system, {"takes_system": False}),
        )
        for word, applies, change in steps:
            if applies and word in said:
                return replace(self, **change)
        return None

    def next_way(self) -> Dialect:
        """Return the dialect with the next way of answering; votes are the last."""
        return replace(self, way=WAYS[min(WAYS.index(self.way) + 1, len(WAYS) - 1)])

    def thinking(self) -> Dialect:
        """Return the dialect of a reasoning model."""
        return replace(self, thinks=True, way="json" if self.way == "logprobs" else self.way)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, JSON-able."""
        return asdict(self)

    @classmethod
    def of(cls, fields: Mapping[str, Any] | None) -> Dialect | None:
        """Return the dialect of such fields; None if there are none, or those of another version."""
        try:
            return None if fields is None else cls(**fields)
        except TypeError:
            return None
