"""A second small model and a second gold reward, so that no conclusion hangs on one checkpoint and a word list.

    python -m benchmarks.second gold --out runs/second        # about 10 minutes of a core
    python -m benchmarks.second model --out runs/second       # about half an hour of a core
    truthful-rlhf compare configs/evidence.yaml "panels=[biased_majority]" "seeds=[0, 1, 2, 3, 4]" \\
        model.name_or_path=runs/second/model gold.name=runs/second/gold gold.kappa=KAPPA --out runs/second/run

(`benchmarks.evidence collect` takes the same overrides.)

*Gold*: a classifier that learned sentiment from people. The source archive of vaderSentiment (PyPI, MIT) has the 18,513
film reviews, product reviews and tweets that twenty people each rated from -4 to 4 for its paper (Hutto and Gilbert,
ICWSM 2014); the lexicon is not used. The first layers of SmolLM2 with one output are fine-tuned on nine tenths of the
mean ratings, divided by 4. Printed: correlation with the ratings of the other tenth, VADER's beside it, and the kappa
at which true preferences are as firm as VADER's with 5 (standard deviation of the log-odds on the base policy's pairs).

*Model*: SmolLM2 without six of its thirty layers, trained to say what the whole one says: on the bundled training
prompts with responses of the whole one. Printed: its loss on held-out prompts with such responses, before and after.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from truthful_rlhf.pipeline.models.load import load_model, load_tokenizer, resolve_model

SOURCE, ARCHIVE = "vaderSentiment==3.3.2", "additional_resources/hutto_ICWSM_2014.tar.gz"
TEXTS = ("movieReviewSnippets", "amazonReviewSnippets", "tweets")
GOLD_LAYERS, DROPPED = 8, range(20, 26)
GOLD_RATE, MODEL_RATE, BATCH = 1e-4, 2e-4, 32
N_PROMPTS = {"train": 448, "held_out": 192}
"""All that are bundled."""
N_RESPONSES, N_TOKENS = 8, 24
N_PAIRS, KAPPA = 160, 5.0
"""On which firmness is compared, and VADER's kappa in every config."""


def rated_texts(folder: Path) -> pd.DataFrame:
    """Return columns ``text`` and ``rating`` (mean of twenty people, divided by 4), from the source archive on PyPI."""
    found = sorted(folder.glob("vader*entiment-*.tar.gz"))
    if not found:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", SOURCE]
        subprocess.run([*command, "--dest", str(folder)], check=True)
        found = sorted(folder.glob("vader*entiment-*.tar.gz"))
    with tarfile.open(found[0]) as source:
        inner = source.extractfile(next(name for name in source.getnames() if name.endswith(ARCHIVE)))
        assert inner is not None
        with tarfile.open(fileobj=BytesIO(inner.read())) as texts:
            parts = [texts.extractfile(f"hutto_ICWSM_2014/{name}_GroundTruth.txt") for name in TEXTS]
            lines = [line for part in parts if part for line in part.read().decode("utf-8", "replace").splitlines()]
    rows = [line.split("\t", 2) for line in lines if line.count("\t") >= 2]
    return pd.DataFrame({"text": [row[2].strip() for row in rows], "rating": [float(row[1]) / 4.0 for row in rows]})


def train_gold(out: Path) -> dict[str, float]:
    """Fine-tune the classifier into ``out/gold``; the archive is kept in ``out``.

    Returns:
        Correlations with the ratings of texts that were held out, and the kappa to use.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    rated = rated_texts(out).sample(frac=1.0, random_state=0, ignore_index=True)
    held_out, train = rated[: len(rated) // 10], rated[len(rated) // 10 :]
    tokenizer = load_tokenizer("bundled")
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        resolve_model("bundled"),
        num_labels=1,
        problem_type="regression",
        num_hidden_layers=GOLD_LAYERS,
        dtype=torch.float32,
        trust_remote_code=False,
        use_safetensors=True,
    )
    model.config.pad_token_id = tokenizer.pad_token_id
    ids = tokenizer(train["text"].tolist(), truncation=True, max_length=64)["input_ids"]
    rows = [{"input_ids": row, "labels": float(rating)} for row, rating in zip(ids, train["rating"], strict=True)]
    _fit(model, tokenizer, rows, out / "gold", GOLD_RATE)
    return _of_gold(out / "gold", held_out)


def _of_gold(folder: Path, held_out: pd.DataFrame) -> dict[str, float]:
    from truthful_rlhf.reward_model.gold import ClassifierGold, VaderGold

    texts, empty = held_out["text"].tolist(), [""] * len(held_out)
    gold, vader = ClassifierGold(str(folder)), VaderGold()
    prompts, responses = _responses("train", 2, N_PAIRS)
    sizes = [np.std(np.diff(one.score(prompts, responses).reshape(-1, 2))) for one in (gold, vader)]
    return {
        "correlation with people": float(np.corrcoef(gold.score(empty, texts), held_out["rating"])[0, 1]),
        "VADER's": float(np.corrcoef(vader.score(empty, texts), held_out["rating"])[0, 1]),
        "kappa": float(KAPPA * sizes[1] / sizes[0]),
    }


def train_model(out: Path) -> dict[str, float]:
    """Train the shorter model into ``out/model``; return its loss on held-out texts, before and after."""
    model, tokenizer = load_model("bundled"), load_tokenizer("bundled")
    kept = [layer for k, layer in enumerate(model.model.layers) if k not in DROPPED]
    train, held_out = _as_rows(*_responses("train", N_RESPONSES)), _as_rows(*_responses("held_out", 1))
    model.model.layers = type(model.model.layers)(kept)
    model.config.num_hidden_layers = len(kept)
    for k, layer in enumerate(kept):
        layer.self_attn.layer_idx = k
    before = _loss(model, held_out)
    _fit(model, tokenizer, train, out / "model", MODEL_RATE)
    return {"layers": float(len(kept)), "loss before": before, "loss after": _loss(model, held_out)}


def _responses(split: str, n: int, n_prompts: int | None = None) -> tuple[list[str], list[str]]:
    """Return the bundled prompts of a split (or some of them), each n times, and the bundled model's responses."""
    from truthful_rlhf.pipeline.config.training import SamplingSettings
    from truthful_rlhf.pipeline.experiment.prompts import BUNDLED, SPLITS, load_prompts
    from truthful_rlhf.pipeline.models.generate import sample_responses
    from truthful_rlhf.pipeline.models.tokens import Encoder

    tokenizer = load_tokenizer("bundled")
    n_train, n_held_out = (N_PROMPTS[name] for name in SPLITS)
    drawn = load_prompts(BUNDLED, "prompt", n_train, n_held_out, np.random.default_rng(0))[SPLITS.index(split)]
    prompts = [prompt.text for prompt in drawn[:n_prompts] for _ in range(n)]
    encoded = [Encoder(tokenizer).prompt(text) for text in prompts]
    settings = SamplingSettings(max_new_tokens=N_TOKENS, batch_size=64)
    sampled = sample_responses(load_model("bundled"), tokenizer, encoded, settings, 0, f"Responses, {split}")
    return prompts, [response.text for response in sampled]


def _as_rows(prompts: Sequence[str], responses: Sequence[str]) -> list[dict[str, Any]]:
    tokenizer = load_tokenizer("bundled")
    texts = [prompt + response for prompt, response in zip(prompts, responses, strict=True)]
    return [{"input_ids": row, "labels": row} for row in tokenizer(texts)["input_ids"]]


def _loss(model: Any, rows: Sequence[dict[str, Any]]) -> float:
    """Return the mean negative log-likelihood per token, in nats."""
    import torch

    total, n = 0.0, 0
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor([row["input_ids"]], device=model.device)
            total += float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
            n += ids.shape[1] - 1
    return total / n


def _fit(model: Any, tokenizer: Any, rows: list[dict[str, Any]], out: Path, learning_rate: float) -> None:
    """Fine-tune all weights for an epoch and save model and tokenizer."""
    from datasets import Dataset
    from transformers import DataCollatorForSeq2Seq, DataCollatorWithPadding, Trainer, TrainingArguments

    from truthful_rlhf.labelers.judges.hardware import Hardware

    arguments = TrainingArguments(
        output_dir=str(out),
        per_device_train_batch_size=BATCH,
        learning_rate=learning_rate,
        num_train_epochs=1,
        lr_scheduler_type="linear",
        warmup_steps=len(rows) // BATCH // 20,
        save_strategy="no",
        report_to="none",
        use_cpu=Hardware.choose().device == "cpu",
        seed=0,
    )
    is_language_model = isinstance(rows[0]["labels"], list)
    tokenizer.padding_side = "right"
    collator = DataCollatorForSeq2Seq(tokenizer) if is_language_model else DataCollatorWithPadding(tokenizer)
    trainer = Trainer(model=model, args=arguments, train_dataset=Dataset.from_list(rows), data_collator=collator)
    with Hardware.choose().reading(max(len(row["input_ids"]) for row in rows)):
        trainer.train()
    model.eval()
    model.save_pretrained(str(out))
    tokenizer.save_pretrained(str(out))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.second", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("gold", "model"))
    parser.add_argument("--out", type=Path, required=True, help="folder for what is trained")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    for name, value in (train_gold if given.what == "gold" else train_model)(given.out).items():
        print(f"{name}: {value:.3f}")


if __name__ == "__main__":
    main()
