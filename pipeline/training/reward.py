"""The reward-model stage: train on soft labels, save an ordinary sequence classifier, measure its probabilities."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.labelers.judges.hardware import Hardware
from truthful_rlhf.pipeline.config.training import RewardModelSettings
from truthful_rlhf.pipeline.models.device import longest_sequence
from truthful_rlhf.pipeline.models.load import BasePolicy, answers_in_float32
from truthful_rlhf.pipeline.models.tokens import Encoder, joined, with_token_ids
from truthful_rlhf.pipeline.models.vllm_engine import release
from truthful_rlhf.pipeline.training.trl_arguments import make_config, shared_arguments
from truthful_rlhf.reward_model.calibration import calibrate, preference_probability

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl import RewardConfig


def train_reward_model(
    model: str | Path | BasePolicy,
    preferences: Dataset,
    settings: RewardModelSettings,
    out: Path,
    seed: int,
    checkpoints: Path | None = None,
) -> None:
    """Train a reward model on soft labels and save it to ``out`` for ``AutoModelForSequenceClassification``.

    It scores a text by its last token: the end-of-text token where the policy sampled one, the last token of the text
    where a response was cut at its longest.

    Args:
        model: the causal language model to start from; its head is replaced by one that starts at zero.
        preferences: columns ``prompt, chosen, rejected, soft_label`` and the token ids of `orient_tokens`; without
            these the texts are encoded, and every response ends.
        settings: the section ``policy.reward_model`` of a config.
        out: folder for the model (adapter merged), the tokenizer and ``metrics.jsonl``.
        seed: of the adapter's initial weights, the order of the pairs, and drawn labels.
        checkpoints: folder of this training's checkpoints, to go on from the last and to write others; None: neither.
    """
    release()
    from transformers import set_seed

    from truthful_rlhf.pipeline.models.lora import lora_config
    from truthful_rlhf.pipeline.training.checkpoints import train
    from truthful_rlhf.pipeline.training.log import follow
    from truthful_rlhf.reward_model import SoftRewardTrainer

    set_seed(seed)
    base = BasePolicy.of(model)
    classifier, tokenizer = _fresh(base)
    peft_config = None
    if settings.lora_rank is not None:
        peft_config = lora_config(settings.lora_rank, task="SEQ_CLS", modules_to_save=["score"])
    trainer = SoftRewardTrainer(
        model=classifier,
        args=trl_config(settings, base.hardware, str(out), seed),
        train_dataset=_tokenized(preferences, tokenizer),
        processing_class=tokenizer,
        peft_config=peft_config,
        soft_label_loss=settings.loss,
    )
    follow(trainer, "Reward model on soft labels", out)
    longest = max(longest_sequence(trainer.train_dataset, side) for side in ("chosen_ids", "rejected_ids"))
    with base.hardware.reading(longest):
        train(trainer, checkpoints)
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        trained = trainer.accelerator.unwrap_model(trainer.model)
        merged = trained if peft_config is None else trained.merge_and_unload()
        merged.save_pretrained(str(out), safe_serialization=True)
        tokenizer.save_pretrained(str(out))
    trainer.accelerator.wait_for_everyone()


def evaluate_reward_model(
    reward_model_folder: str | Path, pairs: pd.DataFrame, targets: dict[str, FloatArray], device: str = "cpu"
) -> tuple[FloatArray, pd.DataFrame]:
    """Measure a reward model's probabilities on pairs that it was not trained on.

    Args:
        reward_model_folder: what ``train_reward_model`` saved.
        pairs: columns ``prompt, response_a, response_b``, and `TOKEN_COLUMNS` where they were sampled; n rows.
        targets: name (``soft labels``, ``truth``) -> target P(A better), shape ``(n,)``.
        device: where it is measured, as torch calls it.

    Returns:
        The predicted P(A better) = sigmoid(r(A) - r(B)), shape ``(n,)``, and one row of ``Calibration`` per target.
    """
    from truthful_rlhf.reward_model.gold import ClassifierGold

    reward = ClassifierGold(str(reward_model_folder), device=device)
    encoded = with_token_ids(pairs, Encoder(reward.tokenizer))
    rewards = [reward.score_tokens(joined(encoded["prompt_ids"], encoded[side])) for side in ("ids_a", "ids_b")]
    predicted = preference_probability(*rewards)
    rows = [{"target": name, **asdict(calibrate(predicted, target))} for name, target in targets.items()]
    return predicted, pd.DataFrame(rows)


def _fresh(base: BasePolicy) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    import torch
    from transformers import AutoModelForSequenceClassification
    from trl.trainer.reward_trainer import suppress_seqcls_warning

    with suppress_seqcls_warning():
        model = AutoModelForSequenceClassification.from_pretrained(
            base.folder, num_labels=1, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
        )
    torch.nn.init.zeros_(model.score.weight)  # no preference before training
    tokenizer = base.tokenizer()
    model.config.pad_token_id = tokenizer.pad_token_id
    return answers_in_float32(model, base.hardware), tokenizer


def _tokenized(preferences: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Join prompts and responses here, because TRL would append an end-of-text token to every response."""

    encoder, sides = Encoder(tokenizer), ("chosen", "rejected")

    def tokenize(row: dict[str, Any]) -> dict[str, Any]:
        if "prompt_ids" in row:
            return {f"{side}_ids": [*row["prompt_ids"], *row[f"{side}_ids"]] for side in sides}
        prompt = row["prompt"]
        return {f"{side}_ids": [*encoder.prompt(prompt), *encoder.response(prompt, row[side])] for side in sides}

    return preferences.map(tokenize, desc="Tokenizing")


def trl_config(settings: RewardModelSettings, hardware: Hardware, folder: str, seed: int) -> RewardConfig:
    """Return TRL's config.

    Args:
        settings: the config's section ``policy.reward_model``.
        hardware: where it trains.
        folder: where it writes.
        seed: of the training.
    """
    from trl import RewardConfig

    ours = shared_arguments(settings, hardware, folder, seed) | {
        "num_train_epochs": settings.epochs,
        "max_length": settings.max_length,
        "logging_steps": 1,
    }
    made: RewardConfig = make_config(RewardConfig, ours, settings.trl, "policy.reward_model.trl")
    return made
