"""An LLM judge behind any OpenAI-compatible server: vLLM, Ollama, llama.cpp, or a hosted API."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.labelers.context import ReportContext
from truthful_rlhf.labelers.judges.answers import Answers
from truthful_rlhf.labelers.judges.cache import ReplyCache, default_cache_file
from truthful_rlhf.labelers.judges.dialect import BUDGET, THINKING_BUDGET, Dialect
from truthful_rlhf.labelers.judges.prompt import Message, Shown, both_orders, judge_messages, report_judge
from truthful_rlhf.labelers.judges.replies import Verdict
from truthful_rlhf.labelers.judges.server import (
    Connection,
    Server,
    State,
    about_dialect,
    check_address,
    check_variable,
    request_name,
)
from truthful_rlhf.labelers.judges.usage import Estimate, Prices, Usage, cost_of, cut_to_tokens, estimated_tokens
from truthful_rlhf.labelers.pairs import Pairs

_LETTER_QUESTION = "Answer with one letter only: A or B."
_VERDICT_QUESTION = (
    'Answer with one JSON object only: {"reason": one short sentence, "winner": "A", "B" or "tie", "probability": from'
    " 0.5 (a guess) to 0.99 (almost certain) that the winner is better}."
)


class RemoteJudge:
    """An LLM judge behind an OpenAI-compatible chat server.

    What the server can do is found out with the first prompts (``labelers.judges.dialect``). Where it gives
    log-probabilities, the belief is the share of the letters A and B in the likeliest first tokens. Elsewhere it is
    asked for a verdict in JSON, and where it has no structured output either, for ``votes`` letters per order, of which
    k of v count (k + 1/2) / (v + 1), so that a few equal votes are not certainty. Both presentation orders are averaged
    (``labelers.judges.prompt``). Reasoning models get a budget of tokens for their thoughts, which are not read.

    Time-outs, dropped connections, rate limits (429, with ``Retry-After`` for all requests) and server errors are tried
    again with exponential back-off. A pair whose requests fail, or whose replies hold no answer, is NaN: not judged.

    Args:
        base_url: such as ``http://localhost:8000/v1``.
        model: the server's name of the model.
        persona: what the judge is told to be; becomes the system message.
        labeler_id: its name in reports.
        api_key_env: the environment variable that holds the key; None: the server wants none.
        votes: per presentation order, where the server has neither log-probabilities nor JSON.
        concurrency: requests at a time.
        timeout: seconds per request.
        max_retries: further tries of a failed request.
        max_tokens: that a reply may have, thoughts included; None: 4 for a letter, 300 for JSON, 4096 for a reasoning
            model.
        max_text_tokens: of each text that is shown, about; longer ones are cut, visibly and counted. None: never.
        max_failures: prompts without an answer before the judge stops.
        requests_per_minute: at most; None: as many as ``concurrency`` allows.
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
        max_tokens: int | None = None,
        max_text_tokens: int | None = None,
        max_failures: int = 50,
        requests_per_minute: float | None = None,
        cache: Path | None = None,
        prices: Prices = (None, None),
        seed: int = 0,
    ) -> None:
        self.persona = persona
        self.labeler_id = labeler_id
        self.max_text_tokens = max_text_tokens
        self.connection = Connection(
            base_url=check_address(base_url),
            model=model,
            labeler_id=labeler_id,
            api_key_env=api_key_env if api_key_env is None else check_variable(api_key_env),
            votes=votes,
            concurrency=concurrency,
            timeout=timeout,
            max_retries=max_retries,
            max_tokens=max_tokens,
            max_failures=max_failures,
            requests_per_minute=requests_per_minute,
            cache=cache,
            seed=seed,
        )
        self._state = State(Usage(price_in=prices[0], price_out=prices[1]))
        self.position_bias_ = float("nan")

    @property
    def usage_(self) -> Usage:
        """What has been used so far."""
        return self._state.usage

    @property
    def way_(self) -> str:
        """How the server answers: ``logprobs``, ``json`` or ``votes``; empty before it was asked."""
        return "" if self._state.dialect is None else self._state.dialect.way

    @property
    def failures_(self) -> dict[str, int]:
        """Prompts without an answer, by reason."""
        return dict(self._state.failures)

    def answer(self, pairs: Pairs, on_prompt: Callable[[], None] = lambda: None) -> Answers:
        """Return how every pair was answered in both orders.

        Args:
            pairs: a batch of n pairs.
            on_prompt: told of every prompt that has been dealt with, 2 n in all.

        Raises:
            JudgeError: the server cannot be reached or refuses, or too many prompts failed; replies so far are kept.
        """
        shown = both_orders(pairs)
        cut = [self._cut(texts) != texts for texts in shown[: len(pairs)]]
        self._state.usage.cut += sum(cut)
        with Server(self.connection, self._state, self._messages) as server:
            verdicts = dict(server.probe(shown))
            for _ in verdicts:
                on_prompt()
            for number, verdict in self._asked_at_once(server, shown, verdicts):
                verdicts[number] = verdict
                on_prompt()
        in_order = [verdicts[number] for number in range(len(shown))]
        return Answers.of_orders(
            [verdict.first for verdict in in_order],
            [verdict.mass for verdict in in_order],
            [verdict.note for verdict in in_order],
            cut,
        )

    def _asked_at_once(
        self, server: Server, shown: list[Shown], done: dict[int, Verdict]
    ) -> Iterator[tuple[int, Verdict]]:
        """Yield the answers to the other prompts as they arrive."""
        pool = ThreadPoolExecutor(self.connection.concurrency)
        waiting = {pool.submit(server.answer, texts): k for k, texts in enumerate(shown) if k not in done}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        except BaseException as error:  # nothing more is paid for; Ctrl-C does not wait for what is under way
            pool.shutdown(wait=isinstance(error, Exception), cancel_futures=True)
            raise
        pool.shutdown()

    def belief(self, pairs: Pairs) -> FloatArray:
        """Return the probability that the judge prefers A, shape ``(n,)``, NaN where it gave no usable answer.

        Raises:
            JudgeError: as `answer`.
        """
        from tqdm.auto import tqdm

        with tqdm(total=2 * len(pairs), desc=f"Judge {self.labeler_id}") as bar:
            answers = self.answer(pairs, lambda: bar.update() and None)
        self.position_bias_ = answers.position_bias
        report_judge(self.labeler_id, self.position_bias_, str(self.usage_))
        return answers.belief

    def report(self, pairs: Pairs, context: ReportContext) -> FloatArray:
        """Return the beliefs: on its own a judge is truthful; a panel gives it a strategy."""
        return self.belief(pairs)

    def estimate(self, pairs: Pairs) -> Estimate:
        """Return what judging these pairs will take, without asking for anything.

        Where the server was never asked, it is taken to give log-probabilities.
        """
        where = self.connection
        cache = ReplyCache(where.cache or default_cache_file())
        known = self._state.dialect or Dialect.of(cache.get(about_dialect(where)))
        dialect = known or Dialect()
        seeds = [where.votes * where.seed + vote for vote in range(where.votes)] if dialect.way == "votes" else [None]
        budget = where.max_tokens or (THINKING_BUDGET if dialect.thinks else BUDGET[dialect.way])
        requests = cached = tokens = 0
        shown = both_orders(pairs)
        for texts in shown:
            messages = self._messages(texts, dialect.way)
            for seed in seeds:
                if cache.get(request_name(where, dialect.request(messages, where.max_tokens, seed))) is not None:
                    cached += 1
                    continue
                requests += 1
                tokens += estimated_tokens([message["content"] for message in messages])
        cache.close()
        cut = sum(self._cut(texts) != texts for texts in shown[: len(pairs)])
        prices = (self.usage_.price_in, self.usage_.price_out)
        cost = cost_of(tokens, requests * budget, prices)
        way = dialect.way if known else f"{dialect.way}?"
        return Estimate(requests, cached, tokens, requests * budget, cut, way, cost)

    def _cut(self, texts: Shown) -> Shown:
        prompt, first, second = (cut_to_tokens(text, self.max_text_tokens) for text in texts)
        return prompt, first, second

    def _messages(self, texts: Shown, way: str) -> list[Message]:
        messages = judge_messages(self.persona, self._cut(texts), limit=sys.maxsize)
        if way == "json":
            question = messages[-1]["content"].removesuffix(_LETTER_QUESTION) + _VERDICT_QUESTION
            messages[-1] = {**messages[-1], "content": question}
        return messages
