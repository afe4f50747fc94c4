"""An LLM judge behind any OpenAI-compatible server: vLLM, Ollama, llama.cpp, or a hosted API."""

from __future__ import annotations

import math
import os
import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard
from urllib.parse import urlsplit

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.extras import explained
from truthful_rlhf.labelers.context import ReportContext
from truthful_rlhf.labelers.judges.cache import ReplyCache, default_cache_file
from truthful_rlhf.labelers.judges.prompt import (
    ANSWERS,
    Shown,
    belief_from_orders,
    both_orders,
    judge_messages,
    position_bias,
    report_judge,
)
from truthful_rlhf.labelers.pairs import Pairs

if TYPE_CHECKING:
    from openai import OpenAI

MAX_TOKENS = 4
TOP_LOGPROBS = 5
"""What servers commonly allow; the two letters are nearly always among them."""
MOST_PROBES = 5
_ROUNDING = 1e-3
"""Servers in half precision state log-probabilities a little above 0."""
_LETTER = re.compile(r"[\W_]*([ABab])(?![^\W\d_])")


class JudgeError(RuntimeError):
    """The judge's server cannot be used; the message says what to do and never holds the key."""


@dataclass
class Usage:
    """What a judge has used so far."""

    requests: int = 0
    cached: int = 0
    unusable: int = 0
    """Replies without an answer A or B."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    price_in: float | None = None
    """Of a million prompt tokens."""
    price_out: float | None = None

    @property
    def cost(self) -> float | None:
        """Cost of the requests, in the unit of the prices; None where a price is not known."""
        if self.price_in is None or self.price_out is None:
            return None
        return (self.prompt_tokens * self.price_in + self.completion_tokens * self.price_out) / 1e6

    def __str__(self) -> str:
        cost = "" if self.cost is None else f", cost {self.cost:.4f}"
        return (
            f"{self.requests} requests ({self.cached} more from the cache, {self.unusable} unusable replies),"
            f" {self.prompt_tokens} + {self.completion_tokens} tokens{cost}"
        )


class RemoteJudge:
    """An LLM judge behind an OpenAI-compatible chat server.

    Where the server gives log-probabilities, the belief is the softmax over the letters A and B among the likeliest
    first tokens. Elsewhere it is asked ``votes`` times per order and k of v votes count (k + 1/2) / (v + 1), so that a
    few equal votes are not certainty. Both presentation orders are averaged (``labelers.judges.prompt``). A pair whose
    replies hold no answer is NaN: not judged. Time-outs, dropped connections, rate limits (429) and server errors are
    tried again with exponential back-off.

    Args:
        base_url: such as ``http://localhost:8000/v1``.
        model: the server's name of the model.
        persona: what the judge is told to be; becomes the system message.
        labeler_id: its name in reports.
        api_key_env: the environment variable that holds the key; None: the server wants none.
        votes: per presentation order, where there are no log-probabilities.
        concurrency: requests at a time.
        timeout: seconds per request.
        max_retries: further tries of a failed request.
        cache: file that keeps the replies.
        prices: of a million prompt and completion tokens, for the usage line.
        seed: tells judges apart that are otherwise equal, so that they do not share cached votes.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        persona: str = "",
        labeler_id: str = "remote_judge",
        *,
        api_key_env: str | None = None,
        votes: int = 5,
        concurrency: int = 8,
        timeout: float = 60.0,
        max_retries: int = 5,
        cache: Path | None = None,
        prices: tuple[float | None, float | None] = (None, None),
        seed: int = 0,
    ) -> None:
        self.base_url = check_address(base_url)
        self.model = model
        self.persona = persona
        self.labeler_id = labeler_id
        self.api_key_env = api_key_env if api_key_env is None else check_variable(api_key_env)
        self.votes = votes
        self.concurrency = concurrency
        self.timeout = timeout
        self.max_retries = max_retries
        self.cache = cache
        self.seed = seed
        self.usage_ = Usage(price_in=prices[0], price_out=prices[1])
        self.position_bias_ = float("nan")

    def belief(self, pairs: Pairs) -> FloatArray:
        """Return the probability that the judge prefers A, shape ``(n,)``, NaN where it gave no usable answer.

        Raises:
            JudgeError: the server cannot be reached or refuses; replies so far are in the cache.
        """
        from tqdm.auto import tqdm

        shown = both_orders(pairs)
        with _Server(self) as server, ThreadPoolExecutor(self.concurrency) as pool:
            probes = server.probe(shown)
            answers = pool.map(server.first_preferred, shown[len(probes) :])
            bar = tqdm(answers, total=len(shown), initial=len(probes), desc=f"Judge {self.labeler_id}")
            try:
                first = np.array([*probes, *bar], dtype=np.float64)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # nothing more is paid for
                raise
        self.position_bias_ = position_bias(first)
        report_judge(self.labeler_id, self.position_bias_, str(self.usage_))
        if len(first) and np.isnan(first).all():
            raise JudgeError(f"{self.base_url}: model {self.model!r} never answered A or B ({self.usage_})")
        return belief_from_orders(first)

    def report(self, pairs: Pairs, context: ReportContext) -> FloatArray:
        """Return the beliefs: on its own a judge is truthful; a panel gives it a strategy."""
        return self.belief(pairs)


class _Server:
    """The connection of one judge for one batch: asks, remembers, counts."""

    def __init__(self, judge: RemoteJudge) -> None:
        self._judge = judge
        self._key = _api_key(judge.api_key_env)
        self._lock = threading.Lock()
        self._gives_logprobs: bool | None = None  # not known yet

    def __enter__(self) -> _Server:
        with explained(f"judge {self._judge.model} of a server"):
            from openai import OpenAI

        self._cache = ReplyCache(self._judge.cache or default_cache_file())
        self._client: OpenAI = OpenAI(
            base_url=self._judge.base_url,
            api_key=self._key,
            timeout=self._judge.timeout,
            max_retries=self._judge.max_retries,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._cache.close()

    def probe(self, shown: Sequence[Shown]) -> list[float]:
        """Answer the first prompts one by one until it is clear whether the server gives log-probabilities.

        Decided before the others are asked at once: how a pair is judged must not depend on which reply came first.
        """
        answers: list[float] = []
        while self._gives_logprobs is None and len(answers) < len(shown):
            answers.append(self.first_preferred(shown[len(answers)]))
            if len(answers) == MOST_PROBES and self._gives_logprobs is None:
                self._gives_logprobs = False
        return answers

    def first_preferred(self, shown: Shown) -> float:
        """Return P(the response shown first is named), or NaN."""
        messages = judge_messages(self._judge.persona, shown)
        if self._gives_logprobs is not False:
            reply = self._reply({"messages": messages, "logprobs": True, "top_logprobs": TOP_LOGPROBS})
            probability = None if reply is None else _softmax_of_letters(reply["logprobs"])
            if self._gives_logprobs is None and (reply is None or reply["logprobs"] or parse_letter(reply["text"])):
                self._gives_logprobs = reply is not None and bool(reply["logprobs"])
            if probability is not None:
                return probability
        replies = (
            self._reply({"messages": messages, "temperature": 1.0, "seed": vote + self._judge.votes * self._judge.seed})
            for vote in range(self._judge.votes)
        )
        letters = [parse_letter(reply["text"]) for reply in replies if reply is not None]
        named = [letter == ANSWERS[0] for letter in letters if letter is not None]
        with self._lock:
            self._judge.usage_.unusable += self._judge.votes - len(named)
        return (sum(named) + 0.5) / (len(named) + 1.0) if named else math.nan

    def _reply(self, options: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the reply to a request, from the cache or the server; None if the server does not support it."""
        request = {"model": self._judge.model, "max_tokens": MAX_TOKENS, **options}
        named = {"base_url": self._judge.base_url, **request}
        reply = self._cache.get(named)
        if reply is None:
            reply = self._ask(request)
            if reply is not None and (reply["text"] or reply["logprobs"]):  # an empty one may do better next time
                self._cache.put(named, reply)
        else:
            with self._lock:
                self._judge.usage_.cached += 1
        return reply

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        from openai import APIConnectionError, APIStatusError, OpenAIError

        try:
            completion = self._client.chat.completions.create(**request)
        except APIStatusError as error:
            if "logprobs" in request and error.status_code in (400, 404, 422, 501) and "logprobs" in str(error):
                return None
            raise self._explained(f"status {error.status_code}: {error}") from None
        except APIConnectionError as error:
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            raise self._explained(f"{error}{cause}") from None
        except (OpenAIError, ValueError) as error:  # a body that is not JSON
            reply = _plain_reply(None)
            if isinstance(error, OpenAIError):
                raise self._explained(str(error)) from None
        else:
            reply = _plain_reply(completion)
        with self._lock:
            usage = self._judge.usage_
            usage.requests += 1
            usage.prompt_tokens += reply["prompt_tokens"]
            usage.completion_tokens += reply["completion_tokens"]
        return reply

    def _explained(self, reason: str) -> JudgeError:
        """Return an error without the key, which some servers echo."""
        reason = reason.replace(self._key, "***") if self._judge.api_key_env else reason
        return JudgeError(
            f"judge {self._judge.labeler_id!r}: model {self._judge.model!r} at {self._judge.base_url}: {reason[:500]}"
            " (replies so far are kept: start again to go on)"
        )


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


def _api_key(variable: str | None) -> str:
    if variable is None:
        return "none"
    key = os.environ.get(variable, "").strip()
    if not key:
        raise JudgeError(f"the environment variable {variable} (api_key_env) is not set: it has to hold the key")
    return key


def _plain_reply(completion: Any) -> dict[str, Any]:
    """Return what is kept of a completion: text, log-probabilities of the first token, usage; nothing is trusted."""
    choice = _first(getattr(completion, "choices", None))
    text = getattr(getattr(choice, "message", None), "content", None)
    token = _first(getattr(getattr(choice, "logprobs", None), "content", None))
    top = getattr(token, "top_logprobs", None)
    entries = [(getattr(e, "token", None), getattr(e, "logprob", None)) for e in top or ()] if _first(top) else []
    if not entries:
        entries = [(getattr(token, "token", None), getattr(token, "logprob", None))]
    usage = getattr(completion, "usage", None)
    return {
        "text": text if isinstance(text, str) else "",
        "logprobs": [[name, float(p)] for name, p in entries if isinstance(name, str) and _is_log_probability(p)],
        "prompt_tokens": _count(getattr(usage, "prompt_tokens", None)),
        "completion_tokens": _count(getattr(usage, "completion_tokens", None)),
    }


def _first(values: Any) -> Any:
    return values[0] if isinstance(values, list | tuple) and values else None


def _is_log_probability(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and -math.inf < value <= _ROUNDING


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _softmax_of_letters(logprobs: Sequence[tuple[str, float]]) -> float | None:
    """Return P(A) / (P(A) + P(B)) over all spellings of a letter among the likeliest tokens; None without either."""
    mass = dict.fromkeys(ANSWERS, 0.0)
    for token, logprob in logprobs:
        letter = parse_letter(token)
        if letter is not None and math.isfinite(logprob):
            mass[letter] += math.exp(logprob)
    total = sum(mass.values())
    return mass[ANSWERS[0]] / total if total > 0.0 else None


def parse_letter(text: str) -> str | None:
    """Return the answer ``A`` or ``B`` that a reply begins with, or None.

    >>> parse_letter(" A"), parse_letter("**B**."), parse_letter("b)"), parse_letter("Apples"), parse_letter("")
    ('A', 'B', 'B', None, None)
    """
    match = _LETTER.match(text)
    return match[1].upper() if match else None
