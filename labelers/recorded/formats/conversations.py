"""Chat fields: a list of messages in place of a text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


class Conversation(str):
    """A prompt of several messages: as a text, what was said, turn by turn.

    Attributes:
        messages: the messages, each its role and content, as JSON.
    """

    __slots__ = ("messages",)
    messages: str


def said(messages: Iterable[tuple[str, str]]) -> str:
    """Return what labelers read of a conversation: a single message as it is, several turns with who said them.

    Args:
        messages: roles and contents; the system message is not for labelers.

    Examples:
        >>> said([("system", "Be brief."), ("user", "Why?")])
        'Why?'
        >>> said([("user", "Why?"), ("assistant", "So."), ("user", "How?")])
        'user: Why?\\n\\nassistant: So.\\n\\nuser: How?'
    """
    turns = [(role, content) for role, content in messages if role != "system"]
    if len(turns) == 1:
        return turns[0][1]
    return "\n\n".join(f"{role}: {content}" for role, content in turns)


def plain_text(value: Any) -> Any:
    """Return a text as text: chat fields hold a list of messages, and messages may hold a list of parts."""
    if isinstance(value, list) and value and isinstance(value[-1], dict) and "content" in value[-1]:
        return plain_text(value[-1]["content"])
    if isinstance(value, list) and value and all(isinstance(part, dict) and "type" in part for part in value):
        return "".join(part.get("text") or f"[{part['type']}]" for part in value)
    return value


def prompt_text(value: Any) -> Any:
    """Return a prompt as text, a `Conversation` where it is more than the user's one message.

    Raises:
        ValueError: the conversation ends with the assistant's turn, so that there is nothing to answer.
    """
    if not isinstance(value, list) or not all(isinstance(m, dict) and m.keys() >= {"role", "content"} for m in value):
        return plain_text(value)
    turns = [(str(message["role"]), plain_text(message["content"])) for message in value]
    if not turns or not all(isinstance(content, str) for _, content in turns):
        return plain_text(value)
    if turns[-1][0] == "assistant":
        raise ValueError("prompt: its last message is the assistant's; the responses answer the user's")
    if len(turns) == 1:
        return turns[0][1]
    conversation = Conversation(said(turns))
    conversation.messages = json.dumps([{"role": r, "content": c} for r, c in turns], ensure_ascii=False)
    return conversation


def messages_of(prompt: Any) -> str:
    """Return the messages of a conversation as JSON; empty for a text."""
    return prompt.messages if isinstance(prompt, Conversation) else ""
