"""A local LLM judge: the probabilities that a causal language model gives to the words of an answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.labelers.context import ReportContext
from truthful_rlhf.labelers.judges.answers import Answers
from truthful_rlhf.labelers.judges.ask import Told, make_ask
from truthful_rlhf.labelers.judges.hardware import Hardware
from truthful_rlhf.labelers.judges.kept import KeptAnswers, Numbers, Question, weights_name
from truthful_rlhf.labelers.judges.pointwise import LEAST_MASS, AnswerReader, judge_pointwise, shared_prefix
from truthful_rlhf.labelers.judges.prompt import (
    ANSWERS,
    MAX_CHARACTERS,
    Shown,
    both_orders,
    judge_messages,
    report_judge,
)
from truthful_rlhf.labelers.pairs import Pairs

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_SHORTEST = 16
_WORTH_SHARING = 32
"""Tokens from which on it pays to read what all prompts begin with only once."""

Encoded = tuple[tuple[int, ...], tuple[list[int], list[int]]]
"""A prompt's tokens, and the tokens that continue it with either letter, in all spellings."""


class LocalJudge:
    """An LLM judge with a persona.

    Asked to ``compare``, its belief is the first letter's share of the probability of both letters, in all their
    spellings as they are tokenised in context, averaged over both presentation orders (``labelers.judges.prompt``).
    Where they have next to none, it abstains. Asked in another way it sees one response at a time
    (``labelers.judges.ask``). It says which response the model names, and how firmly, not that this is calibrated.
    ``position_bias_`` holds the bias of the last batch (NaN where there is no place to prefer).

    Args:
        model: a local folder or Hub id (safetensors only, no remote code), or ``(model, tokenizer)``.
        persona: what the judge is told to be (the system message), with examples and words if it is a ``Told``, which
            the other ways to ask use.
        labeler_id: its name in reports.
        batch_size: prompts per forward pass.
        ask: ``compare``, ``score``, ``rate`` or ``channel``.
        scale: of a difference of scores, > 0; None: by their spread in the batch.
    """

    def __init__(
        self,
        model: str | tuple[PreTrainedModel, PreTrainedTokenizerBase],
        persona: str | Told = "",
        labeler_id: str = "judge",
        batch_size: int = 16,
        ask: str = "compare",
        scale: float | None = None,
    ) -> None:
        self.model = model
        self.told = persona if isinstance(persona, Told) else Told(persona)
        self.ask, self.scale = make_ask(ask), scale
        self.labeler_id = labeler_id
        self.batch_size = batch_size
        self.position_bias_ = float("nan")

    def belief(self, pairs: Pairs) -> FloatArray:
        """Return the probability that the judge prefers A, shape ``(n,)``."""
        answers = self._answered(pairs, self.labeler_id)
        self.position_bias_ = answers.position_bias
        if self.ask is None:
            report_judge(self.labeler_id, self.position_bias_)
        return answers.belief

    def answer(self, pairs: Pairs) -> Answers:
        """Return how every pair was answered in both orders; prints nothing."""
        return self._answered(pairs, "")

    def _answered(self, pairs: Pairs, title: str) -> Answers:
        chooser = load_chooser(self.model) if isinstance(self.model, str) else LetterChooser(*self.model)
        if self.ask is not None:
            return judge_pointwise(
                chooser.reader, self.ask, self.told, pairs, scale=self.scale, batch_size=self.batch_size, title=title
            )
        first, mass = chooser.first_preferred(both_orders(pairs), self.told.prompt, self.batch_size, title)
        little = f"the letters A and B have less than {LEAST_MASS:g} of the probability"
        return Answers.of_orders(first, mass, [little if np.isnan(share) else "" for share in first])

    def report(self, pairs: Pairs, context: ReportContext) -> FloatArray:
        """Return the beliefs: on its own a judge is truthful; a panel gives it a strategy."""
        return self.belief(pairs)


@lru_cache(maxsize=2)
def load_chooser(name_or_path: str) -> LetterChooser:
    """Load a judge model once, for all personas that share it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    hardware = Hardware.choose()
    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            name_or_path,
            dtype=getattr(torch, hardware.dtype),
            trust_remote_code=False,
            use_safetensors=True,
        )
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise FileNotFoundError(
            f"cannot load the judge model {name_or_path!r}: {reason} (give a local folder, or a Hub id where the Hub"
            " can be reached)"
        ) from error
    kept = KeptAnswers(weights_name(name_or_path, hardware.dtype))
    return LetterChooser(model.to(hardware.device), tokenizer, kept)


def _pair(shown: Shown) -> Shown:
    """Return what a pair is known by in both of its orders."""
    prompt, *responses = shown
    first, second = sorted(responses)
    return prompt, first, second


class LetterChooser:
    """A model and its tokenizer, asked for one of two letters. Answers are remembered: a rule swapped in costs nothing.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        kept: its answers so far; None: none are known.
    """

    def __init__(self, model: Any, tokenizer: Any, kept: KeptAnswers | None = None) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        markup = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
        self._markup = sorted((token for token in markup if token.strip()), key=len, reverse=True)
        self._room = int(getattr(model.config, "max_position_embeddings", 0) or 2048)
        self.kept = kept or KeptAnswers()
        self.reader = AnswerReader(self)

    def first_preferred(
        self, shown: list[Shown], persona: str, batch_size: int, title: str
    ) -> tuple[FloatArray, FloatArray]:
        """Return P(the response shown first is named), and the probability of both letters, ``(len(shown),)`` each.

        The former is NaN where the latter is below ``LEAST_MASS``.

        Args:
            shown: pairs in the order of presentation.
            persona: what the judge is told to be; becomes the system message.
            batch_size: prompts per forward pass.
            title: of the progress bar; empty: none.
        """
        from tqdm.auto import tqdm

        encoded = self._encoded(persona, shown)
        letters = dict(encoded)
        questions: list[Question] = [("spelled letters", prompt, ANSWERS) for prompt, _ in encoded]
        missing = self.kept.missing(questions)  # neighbours of equal length waste little padding
        batches = range(0, len(missing), batch_size)
        for start in tqdm(batches, desc=f"Judge {title}", disable=not title or len(batches) < 3):
            batch = missing[start : start + batch_size]
            prompts = [prompt for _, prompt, _ in batch]
            answers = self._forward(prompts, [letters[prompt] for prompt in prompts])
            self.kept.put(dict(zip(batch, answers, strict=True)))
        a, b = np.array([self.kept[question] for question in questions], dtype=np.float64).reshape(-1, 2).T
        mass = a + b
        return np.where(mass >= LEAST_MASS, a / np.maximum(mass, LEAST_MASS), np.nan), mass

    def _encoded(self, persona: str, shown: list[Shown]) -> list[Encoded]:
        """Return every prompt; the two orders of a pair are clipped alike, though one may have a token more.

        Otherwise the judge would be asked about two different pairs, and the orders would not cancel its position bias.
        """
        fitting = [self._encode(persona, texts, MAX_CHARACTERS) for texts in shown]
        limits: dict[Shown, int] = {}
        for texts, (_, limit) in zip(shown, fitting, strict=True):
            limits[_pair(texts)] = min(limit, limits.get(_pair(texts), limit))
        return [
            encoded if limit == limits[_pair(texts)] else self._encode(persona, texts, limits[_pair(texts)])[0]
            for texts, (encoded, limit) in zip(shown, fitting, strict=True)
        ]

    def _encode(self, persona: str, shown: Shown, limit: int) -> tuple[Encoded, int]:
        """Return the prompt, its texts clipped to ``limit`` characters or less until it fits, and the limit then."""
        while True:
            text = self._format(judge_messages(persona, shown, self.without_markup, limit))
            a, b = (self._tokens_of(text + self._before_answer + letter) for letter in ANSWERS)
            if len(a) <= self._room or limit <= _SHORTEST:
                break
            limit //= 2
        if len(a) > self._room:
            raise ValueError(f"the judge's persona leaves no room for a pair in a context of {self._room} tokens")
        if a[:-1] != b[:-1] or a[-1] == b[-1]:
            raise ValueError("the judge model's tokenizer does not end an answer A or B with one token of its own")
        spelled = [[tokens[-1]] for tokens in (a, b)]
        for letter, tokens in zip(ANSWERS, spelled, strict=True):
            other = self._tokens_of(text + ("" if self._before_answer else " ") + letter)
            tokens += [other[-1]] if other[:-1] == a[:-1] and other[-1] not in (a[-1], b[-1]) else []
        return (tuple(a[:-1]), (spelled[0], spelled[1])), limit

    def without_markup(self, text: str) -> str:
        """Remove what the tokenizer would read as its own markup: a response must not end the user's turn."""
        before = None
        while before != text:  # removing one token may put another together
            before = text
            for token in self._markup:
                text = text.replace(token, "")
        return text

    @property
    def _before_answer(self) -> str:
        """What stands between the prompt and an answer: base models write a space after the colon."""
        return "" if self.tokenizer.chat_template else " "

    def _tokens_of(self, text: str) -> list[int]:
        """Return the tokens of a formatted text; a chat template brings its own first token."""
        if not self.tokenizer.chat_template:
            return self._plain_tokens_of(text)
        tokens: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return tokens

    def _plain_tokens_of(self, text: str) -> list[int]:
        """Return the tokens of a text without template, with what the tokenizer puts before it and not after it."""
        tokens: list[int] = self.tokenizer.encode(text)
        return tokens[:-1] if tokens and tokens[-1] == self.tokenizer.eos_token_id else tokens

    def encode_document(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text that the model continues with its answer.

        Raises:
            ValueError: it does not fit into the model's context.
        """
        tokens = tuple(self._plain_tokens_of(text))
        if len(tokens) >= self._room:
            raise ValueError(
                f"a question of {len(tokens)} tokens does not fit into the judge's context of {self._room}"
            )
        return tokens

    def next_tokens(self, prompts: list[tuple[int, ...]], batch_size: int, title: str) -> Iterator[FloatArray]:
        """Yield the probabilities of the next token after every prompt, shape ``(vocabulary,)`` each.

        Args:
            prompts: token ids; neighbours of equal length waste little padding.
            batch_size: prompts per forward pass.
            title: of the progress bar; empty: none.
        """
        from tqdm.auto import tqdm

        shared = shared_prefix(prompts)
        batches = range(0, len(prompts), batch_size)
        layers = self._read_ahead(shared) if len(batches) > 1 and len(shared) >= _WORTH_SHARING else []
        n = len(shared) if layers else 0
        for start in tqdm(batches, desc=f"Judge {title}", disable=not title or len(batches) < 3):
            logits = self._logits([prompt[n:] for prompt in prompts[start : start + batch_size]], n, layers)
            yield from logits.softmax(dim=1).numpy()

    def log_likelihoods(
        self, prompts: list[tuple[int, ...]], before: int, batch_size: int, title: str
    ) -> Iterator[float]:
        """Yield the log-likelihood of every text's tokens given its first ``before`` ones, which all texts share.

        Args:
            prompts: token ids; neighbours of equal length waste little padding.
            before: >= 0.
            batch_size: texts per forward pass.
            title: of the progress bar; empty: none.
        """
        import torch
        from tqdm.auto import tqdm

        ahead = max(before - 1, 0)  # the last shared token predicts the first that is not
        layers = self._read_ahead(prompts[0][:ahead]) if prompts and ahead else []
        batches = range(0, len(prompts), batch_size)
        for start in tqdm(batches, desc=f"Judge {title}", disable=not title or len(batches) < 3):
            batch = [prompt[ahead:] for prompt in prompts[start : start + batch_size]]
            logits = self._logits(batch, ahead, layers, keep=0)
            for row, tokens in zip(logits, batch, strict=True):
                predicted = row[len(row) - len(tokens) : -1].log_softmax(dim=1)
                yield float(predicted.gather(1, torch.tensor(tokens[1:])[:, None]).sum())

    def _read_ahead(self, shared: tuple[int, ...]) -> list[tuple[Any, Any]]:
        """Return the keys and values of every layer for what all prompts begin with: it is read once."""
        import torch

        with torch.inference_mode():
            ids = torch.tensor([shared], device=self.model.device)
            cache = self.model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
        return [(layer.keys, layer.values) for layer in cache.layers]

    def _format(self, messages: list[dict[str, str]]) -> str:
        if self.tokenizer.chat_template:
            return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        return "\n\n".join([*(message["content"] for message in messages), "Answer:"]).lstrip()

    def _forward(self, prompts: list[tuple[int, ...]], letters: list[tuple[list[int], list[int]]]) -> list[Numbers]:
        """Return the probabilities of the two letters after each prompt."""
        chances = self._logits(prompts).softmax(dim=1)
        return [(float(row[a].sum()), float(row[b].sum())) for row, (a, b) in zip(chances, letters, strict=True)]

    def _logits(
        self, prompts: list[tuple[int, ...]], n_before: int = 0, layers: Sequence[tuple[Any, Any]] = (), keep: int = 1
    ) -> Any:
        """Return the logits after each prompt's last tokens; padded on the left, so that the ends align.

        Args:
            prompts: token ids, without what was read ahead.
            n_before: how many tokens that was.
            layers: its keys and values; empty: nothing was read ahead.
            keep: how many last tokens; 0: all, with the padding.
        """
        import torch
        from transformers import DynamicCache

        width = max(map(len, prompts))
        tokens = torch.zeros((len(prompts), width), dtype=torch.long)
        mask = torch.zeros_like(tokens)
        for row, prompt in enumerate(prompts):
            tokens[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0) + n_before
        attention = torch.cat([torch.ones((len(prompts), n_before), dtype=mask.dtype), mask], dim=1)
        cache = DynamicCache()
        for number, (keys, values) in enumerate(layers):
            shape = (len(prompts), -1, -1, -1)
            cache.update(keys.expand(shape), values.expand(shape), number)
        device = self.model.device
        with torch.inference_mode():
            logits = self.model(
                input_ids=tokens.to(device),
                attention_mask=attention.to(device),
                position_ids=positions.to(device),
                past_key_values=cache if layers else None,
                logits_to_keep=keep,
                use_cache=bool(layers),
            ).logits
        if keep == 1:
            return logits[:, -1].double().cpu()
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).cpu()
