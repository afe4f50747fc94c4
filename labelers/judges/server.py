"""The connection of one judge to its server for one batch of pairs: asks, remembers, counts."""

from __future__ import annotations

import math
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from truthful_rlhf.aggregation.extras import explained
from truthful_rlhf.labelers.judges.cache import ReplyCache, default_cache_file
from truthful_rlhf.labelers.judges.dialect import WAYS, Dialect
from truthful_rlhf.labelers.judges.gate import Gate
from truthful_rlhf.labelers.judges.prompt import Message, Shown
from truthful_rlhf.labelers.judges.replies import (
    Reply,
    Verdict,
    letter_answer,
    letter_probability,
    parse_verdict,
    plain_reply,
)
from truthful_rlhf.labelers.judges.usage import Usage

if TYPE_CHECKING:
    from openai import OpenAI

MOST_PROBES = 3
"""Prompts that are tried one way before the next way of answering is taken."""
_REFUSALS = (400, 404, 413, 422, 500, 501)
"""With a message about a parameter; llama-cpp-python answers 500 to one that it does not know."""
_FATAL = (401, 402, 403, 404, 407, 429)
"""After all tries: what would be answered in the same way for every pair."""
_MOST_SHOWN = 500


class JudgeError(RuntimeError):
    """The judge's server cannot be used; the message says what to do and never holds the key."""


class _Failure(Exception):
    """One prompt cannot be answered; the others may be."""


class _OtherWay(Exception):
    """The server refused this way of answering; another one is to be tried."""


@dataclass(frozen=True)
class Connection:
    """Where a judge's server is and how it may be used."""

    base_url: str
    model: str
    labeler_id: str
    api_key_env: str | None = None
    votes: int = 5
    concurrency: int = 8
    timeout: float = 60.0
    max_retries: int = 5
    max_tokens: int | None = None
    max_failures: int = 50
    requests_per_minute: float | None = None
    cache: Path | None = None
    seed: int = 0


@dataclass
class State:
    """What is learnt of a server, kept from batch to batch."""

    usage: Usage = field(default_factory=Usage)
    dialect: Dialect | None = None
    failures: dict[str, int] = field(default_factory=dict)
    """Reason -> prompts without an answer."""


class Server:
    """Asks a server.

    Args:
        connection: where it is.
        state: what is known of it; changed.
        messages: the chat of a pair as it is shown, in one of the `WAYS` of answering.
    """

    def __init__(self, connection: Connection, state: State, messages: Callable[[Shown, str], list[Message]]) -> None:
        self._connection, self._state, self._messages = connection, state, messages
        self._key = api_key(connection.api_key_env)
        self._lock = threading.Lock()
        self._dialect = Dialect()

    def __enter__(self) -> Server:
        with explained(f"judge {self._connection.model} of a server"):
            from openai import DefaultHttpxClient, OpenAI

        where = self._connection
        gate = Gate(where.requests_per_minute)
        self._cache = ReplyCache(where.cache or default_cache_file())
        self._client: OpenAI = OpenAI(
            base_url=where.base_url,
            api_key=self._key,
            timeout=where.timeout,
            max_retries=where.max_retries,
            http_client=DefaultHttpxClient(
                base_url=where.base_url,
                timeout=where.timeout,
                event_hooks={"request": [gate.before], "response": [gate.after]},
            ),
        )
        known = self._state.dialect or Dialect.of(self._cache.get(about_dialect(where)))
        self._is_known, self._dialect = known is not None, known or Dialect()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()
        self._cache.close()

    # ---- how the server answers

    def probe(self, shown: Sequence[Shown]) -> dict[int, Verdict]:
        """Find out how the server answers with the first prompts, one by one; return the answers that count.

        Decided before the others are asked at once: how a pair is judged must not depend on which reply came first.

        Raises:
            JudgeError: the server answers none of these prompts.
        """
        if self._is_known or not shown:
            return {}
        answers = {}
        for number, pair in enumerate(shown[:MOST_PROBES]):
            answers[number] = self._probe_one(pair)
            if not math.isnan(answers[number].first):
                break
        else:
            self._give_up_this_way(answers)
            return self.probe(shown)
        self._is_known, self._state.dialect = True, self._dialect
        self._cache.put(about_dialect(self._connection), self._dialect.as_dict())
        # one vote is no answer yet; it is in the cache
        return {} if self._dialect.way == "votes" else {number: answers[number]}

    def _probe_one(self, shown: Shown) -> Verdict:
        """Return the answer to one prompt; goes on to another way where the server has none of this one."""
        while True:
            before = self._dialect
            answer = self.answer(shown, is_probe=True)
            if self._dialect == before:
                return answer

    def _give_up_this_way(self, answers: Mapping[int, Verdict]) -> None:
        """Go on to the next way of answering, or raise."""
        notes = "; ".join(sorted({answer.note for answer in answers.values()}))
        if all(answer.is_failure for answer in answers.values()):
            raise self._explained(f"the first {len(answers)} prompts failed: {notes}")
        if self._dialect.way == WAYS[-1]:
            raise self._explained(f"never answered A or B ({self._state.usage}): {notes}")
        self._dialect = self._dialect.next_way()

    # ---- one prompt

    def answer(self, shown: Shown, is_probe: bool = False) -> Verdict:
        """Return how a pair was answered; a prompt that fails is counted and has no answer.

        Raises:
            JudgeError: the server cannot be used at all, or too many prompts have failed.
        """
        try:
            votes = 1 if is_probe else self._connection.votes
            answer = self._voted(shown, votes) if self._dialect.way == "votes" else self._asked_once(shown, is_probe)
        except _OtherWay:
            return Verdict(math.nan)  # is asked again
        except _Failure as failure:
            answer = Verdict(math.nan, note=str(failure), is_failure=True)
        if math.isnan(answer.first) and not is_probe:
            self._count_failure(answer)
        return answer

    def _count_failure(self, answer: Verdict) -> None:
        state = self._state
        with self._lock:
            reason = answer.note[:120]
            state.failures[reason] = state.failures.get(reason, 0) + 1
            state.usage.failed += answer.is_failure
            total = sum(state.failures.values())
        if total > self._connection.max_failures:
            often = max(state.failures, key=lambda reason: state.failures[reason])
            raise self._explained(
                f"stopped after {total} prompts without an answer (max_failures: {self._connection.max_failures}), "
                f"most often: {often}"
            )

    def _asked_once(self, shown: Shown, is_probe: bool) -> Verdict:
        way = self._dialect.way
        reply = self._reply(shown, None, is_probe)
        answer = letter_probability(reply.logprobs) if way == "logprobs" else parse_verdict(reply.text)
        if not math.isnan(answer.first):
            return answer
        self._count_unusable(1)
        if is_probe:
            self._adapt(reply)
        if reply.is_cut and way == "json":
            answer = answer._replace(note=f"{answer.note}: it was cut at its limit of tokens (max_tokens)")
        return answer

    def _adapt(self, reply: Reply) -> None:
        """Change the way of asking if a reply without an answer shows that the server wants another."""
        dialect = self._dialect
        if not dialect.thinks and (reply.thinks or (dialect.way == "json" and reply.is_cut)):
            self._dialect = dialect.thinking()
        elif dialect.way == "logprobs" and not reply.logprobs and not reply.is_empty:
            self._dialect = dialect.next_way()

    def _voted(self, shown: Shown, votes: int) -> Verdict:
        """Return (k + 1/2) / (v + 1) for k of v votes for the response shown first."""
        first = self._connection.votes * self._connection.seed
        replies = [self._reply(shown, first + vote, is_probe=False) for vote in range(votes)]
        if not self._dialect.thinks and any(reply.thinks for reply in replies):
            with self._lock:
                self._dialect = self._dialect.thinking()
                self._state.dialect = self._dialect if self._is_known else None
            return self._voted(shown, votes)
        letters = [letter_answer(reply.text).first for reply in replies]
        named = [letter for letter in letters if not math.isnan(letter)]
        self._count_unusable(votes - len(named))
        if not named:
            return Verdict(math.nan, note="no vote was a letter A or B")
        return Verdict((sum(named) + 0.5) / (len(named) + 1.0), note=f"{sum(named):.0f} of {len(named)} votes")

    def _count_unusable(self, n: int) -> None:
        with self._lock:
            self._state.usage.unusable += n

    # ---- one request

    def _reply(self, shown: Shown, vote: int | None, is_probe: bool) -> Reply:
        """Return the reply to a prompt, from the cache or the server, in the dialect that the server takes."""
        where = self._connection
        while True:
            dialect = self._dialect
            request = dialect.request(self._messages(shown, dialect.way), where.max_tokens, vote)
            named = request_name(where, request)
            kept = self._cache.get(named)
            if kept is not None:
                with self._lock:
                    self._state.usage.cached += 1
                return Reply(**{**kept, "logprobs": [(token, value) for token, value in kept["logprobs"]]})
            reply = self._ask(request, dialect, is_probe)
            if reply is None and self._dialect.way != dialect.way:
                raise _OtherWay
            if reply is None:
                continue
            if not reply.is_empty and not (reply.is_cut and dialect.way == "json"):  # may do better next time
                self._cache.put(named, reply._asdict())
            return reply

    def _ask(self, request: dict[str, Any], dialect: Dialect, is_probe: bool) -> Reply | None:
        """Return the server's reply; None if it refused the dialect and another is to be tried."""
        from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAIError

        try:
            reply = plain_reply(self._client.chat.completions.create(model=self._connection.model, **request))
        except APIStatusError as error:
            other = dialect.after_refusal(str(error)) if error.status_code in _REFUSALS else None
            if other is not None and (is_probe or other.way == dialect.way):
                with self._lock:
                    self._dialect = other
                    self._state.dialect = other if self._is_known else None
                return None
            reason = f"status {error.status_code}: {error}"
            if error.status_code in _FATAL:
                raise self._explained(reason) from None
            raise _Failure(self._without_key(reason)) from None
        except APITimeoutError:
            raise _Failure(f"no reply within {self._connection.timeout:g} s") from None
        except APIConnectionError as error:
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            raise self._explained(f"{error}{cause}") from None
        except OpenAIError as error:
            raise self._explained(str(error)) from None
        except ValueError:  # a body that is not JSON
            reply = plain_reply(None)
        with self._lock:
            usage = self._state.usage
            usage.requests += 1
            usage.prompt_tokens += reply.prompt_tokens
            usage.completion_tokens += reply.completion_tokens
        return reply

    def _without_key(self, reason: str) -> str:
        """Return a message without the key, which some servers echo."""
        reason = reason.replace(self._key, "***") if self._connection.api_key_env else reason
        return reason[:_MOST_SHOWN]

    def _explained(self, reason: str) -> JudgeError:
        where = self._connection
        return JudgeError(
            f"judge {where.labeler_id!r}: model {where.model!r} at {where.base_url}: {self._without_key(reason)}"
            " (replies so far are kept: start again to go on)"
        )


def request_name(where: Connection, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the cache knows a reply by: all that decides it."""
    return {"base_url": where.base_url, "model": where.model, "reply": 2, **request}


def about_dialect(where: Connection) -> dict[str, Any]:
    """Return what the cache knows the dialect of a server and model by."""
    return {"base_url": where.base_url, "model": where.model, "dialect": 1}


def check_address(base_url: str) -> str:
    """Return the address of a server if it is http(s) without a password in it, or raise ``ValueError``."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("base_url must be the address of a server, such as http://localhost:8000/v1")
    if "@" in parts.netloc or parts.query:
        raise ValueError("base_url must not hold a key or password: name an environment variable in api_key_env")
    return base_url


def check_variable(name: str) -> str:
    """Return the name of an environment variable, or raise ``ValueError`` without showing what may be the key."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name):
        raise ValueError("api_key_env must be the name of an environment variable that holds the key, not the key")
    return name


def api_key(variable: str | None) -> str:
    """Return the key that an environment variable holds; ``none`` where the server wants none."""
    if variable is None:
        return "none"
    key = os.environ.get(variable, "").strip()
    if not key:
        raise JudgeError(f"the environment variable {variable} (api_key_env) is not set: it has to hold the key")
    return key
