"""The RLOO stage: REINFORCE with a leave-one-out baseline (arXiv 2402.14740), with TRL's ``RLOOTrainer``.

The method that TRL keeps where it dropped PPO: no value model, several responses per prompt, each judged against its
siblings. The objective is PPO's: the reward model's log-odds less ``kl_coef`` times the KL to the base policy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING, Any

from truthful_rlhf.labelers.judges.hardware import Hardware
from truthful_rlhf.pipeline.config.training import RLOOSettings, SamplingSettings
from truthful_rlhf.pipeline.models.load import BasePolicy
from truthful_rlhf.pipeline.models.tokens import TrainingPrompts, joined
from truthful_rlhf.pipeline.models.vllm_engine import release
from truthful_rlhf.pipeline.training.trl_arguments import make_config, shared_arguments
from truthful_rlhf.reward_model.gold import ClassifierGold, GoldReward

if TYPE_CHECKING:
    from trl import RLOOConfig


def train_rloo(
    model: str | Path | BasePolicy,
    reward_model_folder: str | Path,
    prompts: TrainingPrompts,
    settings: RLOOSettings,
    sampling: SamplingSettings,
    out: Path,
    seed: int,
    gold: GoldReward | None = None,
    checkpoints: Path | None = None,
) -> None:
    """Train a LoRA adapter with RLOO and save it, with the tokenizer and the metrics of every update, to ``out``.

    Args:
        model: the base policy, which is also the reference.
        reward_model_folder: a sequence classifier with one output that shares the policy's tokenizer.
        prompts: what to respond to; conversations in the tokenizer's chat template.
        settings: the config's ``policy`` section.
        sampling: ``max_new_tokens``, ``temperature`` and ``top_p`` of the responses.
        out: folder for ``adapter_model.safetensors``, the tokenizer and ``metrics.jsonl``.
        seed: of the adapter's initial weights, the prompts' order and the responses.
        gold: logged for every update with weight zero, never trained on.
        checkpoints: folder of this training's checkpoints, to go on from the last and to write others; None: neither.

    Raises:
        PolicyDivergedError: the KL or the clipped fraction left the range in which the method can be trusted.
    """
    release()
    from datasets import Dataset
    from transformers import set_seed

    from truthful_rlhf.pipeline.models.lora import lora_config, save_adapter
    from truthful_rlhf.pipeline.training.checkpoints import last_checkpoint, passes_over_data, train
    from truthful_rlhf.pipeline.training.guards import DivergenceGuard, Limit
    from truthful_rlhf.pipeline.training.log import follow

    set_seed(seed)
    base = BasePolicy.of(model)
    rewards = [
        _on_tokens(ClassifierGold(str(reward_model_folder), device=base.hardware.device)),
        *([_on_texts(gold)] if gold else []),
    ]
    before = None if checkpoints is None else last_checkpoint(checkpoints)
    trainer = _trainer_class()(
        0 if before is None else passes_over_data(before),
        model=base.load_to_train(),
        reward_funcs=rewards,
        args=trl_config(settings, sampling, base.hardware, str(out), seed, reward_weights=[1.0, 0.0][: len(rewards)]),
        train_dataset=Dataset.from_dict({"prompt": prompts.written, "shown": prompts.shown, "read": prompts.ids}),
        processing_class=base.tokenizer(),
        peft_config=lora_config(settings.lora_rank),
    )
    follow(trainer, "RLOO", out)
    trainer.add_callback(DivergenceGuard(Limit("KL", sequence_kl, settings.max_kl, "policy.kl_coef")))
    train(trainer, checkpoints, _updates_per_generation(trainer.args))
    save_adapter(trainer, trainer.accelerator.unwrap_model(trainer.model), out)


def _trainer_class() -> Any:
    from trl import RLOOTrainer

    class ContinuedRLOOTrainer(RLOOTrainer):
        """TRL's trainer, which draws the order of the prompts anew in every pass, with the passes before a checkpoint.

        TRL begins with the order of the first pass wherever a training goes on.
        """

        def __init__(self, passes: int, **kwargs: Any) -> None:
            self._passes = passes
            super().__init__(**kwargs)

        def _get_train_sampler(self, dataset: Any = None) -> Any:
            sampler = super()._get_train_sampler(dataset)
            for _ in range(self._passes):
                deque(sampler, maxlen=0)
            return sampler

    return ContinuedRLOOTrainer


def _updates_per_generation(args: RLOOConfig) -> int:
    """Return after how many updates TRL has used up the responses that it keeps in memory."""
    used = args.steps_per_generation * args.num_iterations
    return lcm(args.gradient_accumulation_steps, used) // args.gradient_accumulation_steps


def sequence_kl(logs: Mapping[str, float]) -> float | None:
    """Return the KL of whole responses, in nats, from TRL's log of it per token."""
    return logs["kl"] * logs["completions/mean_length"] if "kl" in logs else None


def _on_tokens(reward: ClassifierGold) -> Callable[..., list[float]]:
    def reward_model(read: list[list[int]], completion_ids: list[list[int]], **kwargs: Any) -> list[float]:
        return [float(value) for value in reward.score_tokens(joined(read, completion_ids))]

    return reward_model  # TRL logs under this name


def _on_texts(reward: GoldReward) -> Callable[..., list[float]]:
    def gold(shown: list[str], completions: list[Any], **kwargs: Any) -> list[float]:
        texts = [answer if isinstance(answer, str) else answer[0]["content"] for answer in completions]
        return [float(value) for value in reward.score(shown, texts)]

    return gold


def trl_config(
    settings: RLOOSettings,
    sampling: SamplingSettings,
    hardware: Hardware,
    folder: str,
    seed: int,
    reward_weights: list[float],
) -> RLOOConfig:
    """Return TRL's config.

    Args:
        settings: the config's section ``policy``.
        sampling: the config's section ``sampling``.
        hardware: where it trains.
        folder: where it writes.
        seed: of the training.
        reward_weights: of the reward functions.
    """
    from trl import RLOOConfig

    ours = shared_arguments(settings, hardware, folder, seed) | {
        "max_steps": settings.updates,
        "lr_scheduler_type": "constant",
        "num_generations": settings.responses_per_prompt,
        "beta": settings.kl_coef,
        "max_completion_length": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": 0,
        "reward_weights": reward_weights,
        "logging_steps": 1,
    }
    made: RLOOConfig = make_config(RLOOConfig, ours, settings.trl, "policy.trl")
    return made
