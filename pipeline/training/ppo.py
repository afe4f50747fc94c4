"""The PPO stage: TRL's ``PPOTrainer`` on a trained reward model.

The only file that imports PPO: it left TRL after 1.12, so when the pin moves, this file is what has to change.

The reward is the reward model's score r(x, y), a log-odds, less ``kl_coef`` times the KL to the base policy in nats.
With the same number for DPO's ``beta`` both methods have the same optimum, proportional to base(y | x) exp(r / beta).

Three choices matter for a small model:

- the value model is the reward model itself with its backbone frozen: its head starts by predicting the reward of what
  is written so far, and costs no backward pass;
- the padding token is not the end-of-text token, so that reward model and value model read the end of a response where
  the policy chose to end, and the last token of the text where it was cut (a tokenizer without another special token
  to pad with hides the choice from both);
- sampling is from the policy itself (no top-k, no top-p): otherwise the KL estimate is biased and can turn negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING

from truthful_rlhf.labelers.judges.hardware import Hardware
from truthful_rlhf.pipeline.config.training import PPOSettings, SamplingSettings
from truthful_rlhf.pipeline.models.load import BasePolicy
from truthful_rlhf.pipeline.models.tokens import TrainingPrompts
from truthful_rlhf.pipeline.models.vllm_engine import release
from truthful_rlhf.pipeline.storage import processes
from truthful_rlhf.pipeline.training.trl_arguments import make_config, shared_arguments

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel
    from trl.experimental.ppo import PPOConfig

    from truthful_rlhf.reward_model.gold import GoldReward


def train_ppo(
    model: str | Path | BasePolicy,
    reward_model_folder: str | Path,
    prompts: TrainingPrompts,
    settings: PPOSettings,
    sampling: SamplingSettings,
    out: Path,
    seed: int,
    gold: GoldReward | None = None,
) -> None:
    """Train a LoRA adapter with PPO and save it, with the tokenizer and the metrics of every update, to ``out``.

    Args:
        model: the base policy, which is also the reference.
        reward_model_folder: a sequence classifier with one output that shares the policy's tokenizer.
        prompts: what to respond to; drawn anew in every pass over them.
        settings: the config's ``policy`` section.
        sampling: ``max_new_tokens`` and ``temperature`` of the responses.
        out: folder for ``adapter_model.safetensors``, the tokenizer and ``metrics.jsonl``.
        seed: of the adapter's initial weights, the prompts' order and the responses.
        gold: logged for every update, never trained on.

    Raises:
        PolicyDivergedError: the KL or the clipped fraction left the range in which PPO can be trusted.
    """
    release()
    from transformers import set_seed
    from trl.experimental.ppo import PPOTrainer

    from truthful_rlhf.pipeline.models.lora import lora_config, save_adapter
    from truthful_rlhf.pipeline.training.guards import DivergenceGuard, Limit
    from truthful_rlhf.pipeline.training.log import GoldLog, follow

    set_seed(seed)
    base = BasePolicy.of(model)
    tokenizer = base.tokenizer()
    reward_model = _load_reward_model(reward_model_folder)
    trainer = PPOTrainer(
        args=trl_config(settings, sampling, base.hardware, str(out), seed),
        processing_class=tokenizer,
        model=base.load_to_train(),
        # The base policy is the model with its adapter switched off; TRL cannot do that with several processes.
        ref_model=base.load_to_train() if processes.several() else None,
        reward_model=reward_model,
        value_model=_value_model(reward_model_folder),
        train_dataset=_filling(prompts.ids, settings.batch_size),
        peft_config=lora_config(settings.lora_rank),
    )
    if gold is not None:
        trainer.add_callback(GoldLog(gold, reward_model, tokenizer))
    follow(trainer, "PPO", out)
    trainer.add_callback(
        DivergenceGuard(
            Limit("KL", methodcaller("get", "objective/kl"), settings.max_kl, "policy.kl_coef"),
            Limit(
                "clipped fraction",
                methodcaller("get", "policy/clipfrac_avg"),
                settings.max_clip_fraction,
                "policy.ppo_epochs",
            ),
        )
    )
    trainer.train()
    save_adapter(trainer, trainer.accelerator.unwrap_model(trainer.model).policy, out)


def _load_reward_model(folder: str | Path) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(
        str(folder), dtype=torch.float32, trust_remote_code=False, use_safetensors=True
    )
    if model.config.num_labels != 1:
        raise ValueError(f"reward model {folder} has {model.config.num_labels} outputs, PPO needs one")
    return model.eval()


def _value_model(folder: str | Path) -> PreTrainedModel:
    """Return the reward model with only its head left to train."""
    model = _load_reward_model(folder)
    getattr(model, model.base_model_prefix).requires_grad_(False)
    return model


def _filling(prompts: Sequence[Sequence[int]], batch_size: int) -> Dataset:
    """Return the prompts, repeated if they do not fill one batch (TRL drops incomplete batches)."""
    from datasets import Dataset

    repeats = -(-batch_size // len(prompts))
    return Dataset.from_dict({"input_ids": [list(prompt) for prompt in prompts] * repeats})


def trl_config(
    settings: PPOSettings, sampling: SamplingSettings, hardware: Hardware, folder: str, seed: int
) -> PPOConfig:
    """Return TRL's config.

    Args:
        settings: the config's section ``policy``.
        sampling: the config's section ``sampling``.
        hardware: where it trains.
        folder: where it writes.
        seed: of the training.
    """
    from trl.experimental.ppo import PPOConfig

    ours = shared_arguments(settings, hardware, folder, seed) | {
        "total_episodes": settings.updates * settings.batch_size,
        "lr_scheduler_type": "constant",
        "num_ppo_epochs": settings.ppo_epochs,
        "kl_coef": settings.kl_coef,
        "response_length": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "stop_token": "eos",
        "num_sample_generations": 0,
    }
    made: PPOConfig = make_config(PPOConfig, ours, settings.trl, "policy.trl")
    return made
