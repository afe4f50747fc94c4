"""Gold rewards: the true utility g(x, y) of a response, known in experiments and never shown to labelers or trainers.

The offline default is VADER's compound sentiment of prompt and response together, in [-1, 1]: a
small model with a computable gold reward, after the controlled-sentiment study of DPO (arXiv 2305.18290). Any Hugging
Face sequence classifier serves as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.extras import explained
from truthful_rlhf.aggregation.log_odds import sigmoid
from truthful_rlhf.aggregation.plugins import is_import_path, load_function

if TYPE_CHECKING:
    from torch import Tensor


BETWEEN_TURNS = "\n\n"
NO_GOLD = "none"
"""The name of a gold reward that nobody knows."""


class GoldReward(Protocol):
    """The true utility of responses."""

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> FloatArray:
        """Return one finite utility per response, shape ``(n,)``; a response goes on where its prompt ends."""
        ...


class VaderGold:
    """VADER's compound sentiment of prompt + response, in [-1, 1]; higher is more positive.

    >>> VaderGold().score(["The film was"], [" a wonderful surprise."]).round(2)
    array([0.7])
    """

    def __init__(self, chat: bool = False) -> None:
        """Load the word list; in a chat an empty line stands between prompt and response."""
        self._between = BETWEEN_TURNS if chat else ""
        with explained("gold reward vader"):
            from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        self._analyzer = SentimentIntensityAnalyzer()

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> FloatArray:
        """Return the compound sentiment of each text, shape ``(n,)``."""
        texts = (prompt + self._between + response for prompt, response in zip(prompts, responses, strict=True))
        return np.array([self._analyzer.polarity_scores(text)["compound"] for text in texts], dtype=np.float64)


class ClassifierGold:
    """The score of a Hugging Face sequence classifier on prompt + response.

    With one output (a reward model) the score is its logit; with several it is the log-odds of ``label``, by default
    the classifier's last label (for two-class sentiment models, the positive one).
    """

    def __init__(
        self, name_or_path: str, label: str | None = None, batch_size: int = 32, chat: bool = False, device: str = "cpu"
    ) -> None:
        """Load the classifier (safetensors only, no remote code) from a local folder or the Hub.

        Args:
            name_or_path: a local folder or a Hub id.
            label: which label is good; None: the last.
            batch_size: texts per forward pass.
            chat: prompt and response are two turns of a conversation: in the classifier's own chat template if it has
                one, otherwise apart by an empty line.
            device: where it runs, as torch calls it.
        """
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
        self.model = (
            AutoModelForSequenceClassification.from_pretrained(
                name_or_path, trust_remote_code=False, use_safetensors=True
            )
            .eval()
            .to(device)
        )
        labels = [self.model.config.id2label[k] for k in range(self.model.config.num_labels)]
        if label is not None and label not in labels:
            raise ValueError(f"gold.label {label!r} is not a label of {name_or_path}; it has {', '.join(labels)}")
        self._index = labels.index(label) if label is not None else len(labels) - 1
        self.batch_size = batch_size
        self.chat = chat

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> FloatArray:
        """Return the classifier's score of each text, shape ``(n,)``."""
        texts = [self._text(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]
        return self._score(texts, lambda part: self.tokenizer(part, padding=True, truncation=True, return_tensors="pt"))

    def score_tokens(self, sequences: Sequence[Sequence[int]]) -> FloatArray:
        """Return the classifier's score of texts that are token ids of its own already, shape ``(n,)``.

        So a reward model reads what the policy wrote, its end-of-text token too.
        """
        return self._score(
            sequences,
            lambda part: self.tokenizer.pad(
                {"input_ids": [list(row) for row in part]}, padding_side="right", return_tensors="pt"
            ),
        )

    def _text(self, prompt: str, response: str) -> str:
        if self.chat and self.tokenizer.chat_template:
            turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False))
        return prompt + (BETWEEN_TURNS if self.chat else "") + response

    def _score(self, texts: Sequence[Any], encode: Callable[[Any], Any]) -> FloatArray:
        import torch
        from tqdm.auto import tqdm

        scores: list[FloatArray] = []
        starts = range(0, len(texts), self.batch_size)
        with torch.no_grad():
            for start in tqdm(starts, desc="Scoring rewards", disable=len(starts) < 3):
                batch = encode(texts[start : start + self.batch_size])
                logits = self.model(**batch.to(self.model.device)).logits.double()
                scores.append(self._scalar(logits).cpu().numpy())
        return np.concatenate(scores) if scores else np.empty(0)

    def _scalar(self, logits: Tensor) -> Tensor:
        if logits.shape[1] == 1:
            return logits[:, 0]
        log_probabilities = logits.log_softmax(dim=1)
        rest = log_probabilities.clone()
        rest[:, self._index] = -np.inf
        return log_probabilities[:, self._index] - rest.logsumexp(dim=1)


class FunctionGold:
    """A gold reward of a user's own, by its import path.

    Behind the path is a function ``score(prompts, responses)``, or a class without arguments or an object with such a
    method; it returns one finite number per response, higher for better.
    """

    def __init__(self, path: str) -> None:
        """Import it: ``my_pkg.rewards:score``."""
        self.path = path
        self._score = load_function(path, "gold.name", "score")

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> FloatArray:
        """Return what the user's code says, checked: shape ``(n,)``, finite."""
        scores = np.asarray(self._score(list(prompts), list(responses)), dtype=np.float64)
        if scores.shape != (len(responses),):
            raise ValueError(f"{self.path} returned shape {scores.shape} for {len(responses)} responses")
        if not np.isfinite(scores).all():
            raise ValueError(f"{self.path} returned a reward that is no finite number")
        return scores


class UnknownGold:
    """No gold reward: people's verdicts on pairs are all that is known."""

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> FloatArray:
        """Return NaN for every response, shape ``(n,)``."""
        return np.full(len(responses), np.nan)


def make_gold(name: str, label: str | None = None, chat: bool = False, device: str = "cpu") -> GoldReward:
    """Return the gold reward called ``vader``, a user's own, or the sequence classifier in a folder or on the Hub.

    Args:
        name: ``vader``, ``none`` (nobody knows it: NaN), an import path such as ``my_pkg.rewards:score``, a folder, or
            a Hub id.
        label: which label of a classifier is good; None: the last.
        chat: a response answers its prompt; otherwise it goes on where its prompt ends.
        device: where a classifier runs, as torch calls it.
    """
    if is_import_path(name):
        if label is not None:
            raise ValueError("gold.label belongs to a classifier; a function of your own has no labels")
        return FunctionGold(name)
    if name == NO_GOLD:
        return UnknownGold()
    if name == "vader":
        if label is not None:
            raise ValueError("gold.label belongs to a classifier; gold.name=vader has no labels")
        return VaderGold(chat)
    return ClassifierGold(name, label, chat=chat, device=device)


def true_preference(gold_a: FloatArray, gold_b: FloatArray, kappa: float) -> FloatArray:
    """Return P(A better) = sigmoid(kappa (g_a - g_b)), shape ``(n,)``: Bradley-Terry with temperature 1 / kappa.

    Args:
        gold_a: gold rewards of the responses A, shape ``(n,)``.
        gold_b: of the responses B, shape ``(n,)``.
        kappa: per unit of gold reward, > 0.
    """
    return sigmoid(kappa * (gold_a - gold_b))
