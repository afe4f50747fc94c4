"""A user's own arguments for TRL's trainers, beside those that a config's keys decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from truthful_rlhf.aggregation.names import nearest
from truthful_rlhf.labelers.judges.hardware import Hardware
from truthful_rlhf.pipeline.config.loading import ConfigError
from truthful_rlhf.pipeline.config.training import DPOSettings, PPOSettings, RewardModelSettings, RLOOSettings
from truthful_rlhf.pipeline.models.device import training_arguments


def make_config(config_class: Any, ours: Mapping[str, Any], own: Mapping[str, Any], key: str) -> Any:
    """Return TRL's config with our arguments and the user's own.

    Args:
        config_class: one of TRL's, a dataclass.
        ours: what the config's own keys decide.
        own: what the user adds.
        key: where that stands in the config, for messages.

    Raises:
        ConfigError: an argument that TRL's class does not have, that is ours, or whose value TRL refuses.
    """
    names = [field.name for field in fields(config_class) if field.init]
    for name in own:
        if name in ours:
            raise ConfigError(f"{key}.{name}: this argument follows from the config's other keys; leave it out")
        if name not in names:
            raise ConfigError(f"{key}.{name}: {config_class.__name__} has no such argument{nearest(name, names)}")
    try:
        return config_class(**ours, **own)
    except (TypeError, ValueError) as error:
        if not own:
            raise
        raise ConfigError(f"{key}: {config_class.__name__} refuses it: {error}") from error


def shared_arguments(
    settings: DPOSettings | PPOSettings | RLOOSettings | RewardModelSettings, hardware: Hardware, folder: str, seed: int
) -> dict[str, Any]:
    """Return what every trainer's config has of a method's settings.

    Args:
        settings: of a method, or of the reward model, which logs to no tracker.
        hardware: where it trains.
        folder: where it writes.
        seed: of the training.
    """
    return training_arguments(
        folder,
        hardware,
        settings.batch_size,
        settings.micro_batch_size,
        settings.gradient_checkpointing,
        () if isinstance(settings, RewardModelSettings) else settings.report_to,
    ) | {"seed": seed, "learning_rate": settings.learning_rate}
