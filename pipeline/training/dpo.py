"""The DPO stage: reference log-probabilities once per pair, then one adapter per condition."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from truthful_rlhf.labelers.judges.hardware import Hardware
from truthful_rlhf.pipeline.config.training import DPOSettings
from truthful_rlhf.pipeline.models.device import longest_sequence
from truthful_rlhf.pipeline.models.load import BasePolicy
from truthful_rlhf.pipeline.models.vllm_engine import release
from truthful_rlhf.pipeline.storage import processes
from truthful_rlhf.pipeline.training.trl_arguments import make_config, shared_arguments
from truthful_rlhf.reward_model.soft_labels import TOKENIZED

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import DPOConfig


def reference_log_probabilities(
    model: str | Path | BasePolicy, pairs: pd.DataFrame, settings: DPOSettings
) -> pd.DataFrame:
    """Return the base policy's log-probabilities of both responses of every pair.

    They depend on the pair only, not on its label: all panels and rules share them.

    Args:
        model: what ``from_pretrained`` takes.
        pairs: columns ``pair_id, prompt, response_a, response_b`` and `TOKEN_COLUMNS`.
        settings: ``max_length`` is read.

    Returns:
        Columns ``pair_id, ref_logps_a, ref_logps_b``, in nats; pairs whose prompt fills ``max_length`` are left out.
    """
    release()
    base = BasePolicy.of(model)
    from datasets import Dataset, load_from_disk

    from truthful_rlhf.pipeline.training.soft_dpo import SoftDPOTrainer
    from truthful_rlhf.reward_model.soft_labels import SOFT_LABEL

    names = {"response_a": "chosen", "response_b": "rejected", "ids_a": "chosen_ids", "ids_b": "rejected_ids"}
    table = pairs[["pair_id", "prompt", "prompt_ids", *names]].rename(columns=names).assign(**{SOFT_LABEL: 0.5})
    with tempfile.TemporaryDirectory() as own:
        scratch = processes.from_first(own)  # TRL's first process hands the values to the others through a file
        if processes.is_first():
            Dataset.from_pandas(table, preserve_index=False).save_to_disk(f"{scratch}/pairs")
        processes.wait()
        dataset = load_from_disk(f"{scratch}/pairs")
        with base.hardware.reading(_longest(dataset)):
            trainer = SoftDPOTrainer(
                model=base.load_to_train(),
                args=trl_config(settings.model_copy(update={"report_to": []}), base.hardware, scratch, 0, True),
                train_dataset=dataset,
                processing_class=base.tokenizer(),
            )
        shown = ["pair_id", "ref_chosen_logps", "ref_rejected_logps"]
        computed = trainer.train_dataset.select_columns(shown).to_pandas()
        processes.wait()
    return computed.rename(columns={"ref_chosen_logps": "ref_logps_a", "ref_rejected_logps": "ref_logps_b"})


def preference_dataset(labels: pd.DataFrame, reference: pd.DataFrame | None = None) -> Dataset:
    """Return the data set that ``train_dpo`` takes.

    Args:
        labels: the soft-label table, columns ``prompt, chosen, rejected, soft_label``, with a reference also
            ``pair_id, chosen_is_a``, and the token ids of `orient_tokens`; without them TRL encodes the texts and lets
            every response end.
        reference: the table of ``reference_log_probabilities``; pairs that it lacks are left out.
    """
    from datasets import Dataset

    columns = ["prompt", "chosen", "rejected", "soft_label", *(ids for ids in TOKENIZED if ids in labels)]
    if reference is None:
        return Dataset.from_pandas(labels[columns], preserve_index=False)
    joined = labels.merge(reference, on="pair_id", validate="one_to_one")
    a_first = joined["chosen_is_a"]
    joined["ref_chosen_logps"] = joined["ref_logps_a"].where(a_first, joined["ref_logps_b"])
    joined["ref_rejected_logps"] = joined["ref_logps_b"].where(a_first, joined["ref_logps_a"])
    return Dataset.from_pandas(joined[[*columns, "ref_chosen_logps", "ref_rejected_logps"]], preserve_index=False)


def train_dpo(
    model: str | Path | BasePolicy,
    preferences: Dataset,
    settings: DPOSettings,
    out: Path,
    seed: int,
    start: Path | None = None,
    checkpoints: Path | None = None,
) -> None:
    """Train a LoRA adapter on soft labels and save it, with the tokenizer and the metrics, to ``out``.

    Args:
        model: what ``from_pretrained`` takes: the base policy, which is also the reference.
        preferences: columns ``prompt, chosen, rejected, soft_label``; the base policy's log-probabilities are taken
            from ``ref_chosen_logps`` and ``ref_rejected_logps``, or computed at every step if these are not there.
        settings: the config's ``policy`` section.
        out: folder for ``adapter_model.safetensors``, the tokenizer and ``metrics.jsonl``.
        seed: of the adapter's initial weights, the order of the pairs, and drawn labels.
        start: folder of an adapter to go on from; the reference stays the base policy, whose log-probabilities
            ``preferences`` must then carry.
        checkpoints: folder of this training's checkpoints, to go on from the last and to write others; None: neither.
    """
    release()
    from peft import PeftModel
    from transformers import set_seed

    from truthful_rlhf.pipeline.models.lora import lora_config, save_adapter
    from truthful_rlhf.pipeline.training.checkpoints import train
    from truthful_rlhf.pipeline.training.log import follow
    from truthful_rlhf.pipeline.training.soft_dpo import REFERENCE, SoftDPOTrainer

    set_seed(seed)
    base = BasePolicy.of(model)
    policy = base.load_to_train()
    precomputed = set(REFERENCE) <= set(preferences.column_names)
    if start is not None and not precomputed:
        raise ValueError(f"to go on from an adapter, the preferences must have the columns {', '.join(REFERENCE)}")
    trainer = SoftDPOTrainer(
        model=policy if start is None else PeftModel.from_pretrained(policy, str(start), is_trainable=True),
        args=trl_config(settings, base.hardware, str(out), seed, precomputed),
        train_dataset=preferences,
        processing_class=base.tokenizer(),
        peft_config=lora_config(settings.lora_rank) if start is None else None,
        soft_label_loss=settings.loss,
    )
    follow(trainer, "DPO on soft labels", out)
    with base.hardware.reading(_longest(trainer.train_dataset)):
        train(trainer, checkpoints)
    save_adapter(trainer, trainer.accelerator.unwrap_model(trainer.model), out)


def _longest(dataset: Dataset) -> int:
    return max(longest_sequence(dataset, "prompt_ids", side) for side in ("chosen_ids", "rejected_ids"))


def trl_config(settings: DPOSettings, hardware: Hardware, folder: str, seed: int, precompute: bool) -> DPOConfig:
    """Return TRL's config.

    Args:
        settings: the config's section ``policy``.
        hardware: where it trains.
        folder: where it writes.
        seed: of the training.
        precompute: whether the reference log-probabilities are there, or to be computed beforehand.
    """
    from trl import DPOConfig

    ours = shared_arguments(settings, hardware, folder, seed) | {
        "beta": settings.beta,
        "num_train_epochs": settings.epochs,
        "max_length": settings.max_length,
        "precompute_ref_log_probs": precompute,
        "logging_steps": 1,
    }
    made: DPOConfig = make_config(DPOConfig, ours, settings.trl, "policy.trl")
    return made
