"""Whether TRL takes the arguments of every method, before any work starts."""

from __future__ import annotations

from collections.abc import Sequence

from truthful_rlhf.labelers.judges.hardware import Hardware
from truthful_rlhf.pipeline.config.loading import ConfigError
from truthful_rlhf.pipeline.config.training import (
    BestOfNSettings,
    DPOSettings,
    PolicySettings,
    PPOSettings,
    RLOOSettings,
    SamplingSettings,
)

_NOWHERE = "."
"""Nothing is written there: TRL's configs only note the folder."""


def check_own_arguments(policies: Sequence[PolicySettings], sampling: SamplingSettings, hardware: Hardware) -> None:
    """Make TRL's config of every method that has arguments of the user's own.

    Args:
        policies: the methods that will be run.
        sampling: the config's section ``sampling``.
        hardware: where they are trained.

    Raises:
        ConfigError: an argument that TRL does not have, that is decided elsewhere, or whose value TRL refuses.
    """
    for policy in policies:
        if not isinstance(policy, BestOfNSettings) and policy.trl:
            _make(policy, sampling, hardware)
        if not isinstance(policy, DPOSettings) and policy.reward_model.trl:
            from truthful_rlhf.pipeline.training import reward

            reward.trl_config(policy.reward_model, hardware, _NOWHERE, 0)


def _make(policy: DPOSettings | PPOSettings | RLOOSettings, sampling: SamplingSettings, hardware: Hardware) -> None:
    from truthful_rlhf.pipeline.training import dpo, ppo, rloo
    from truthful_rlhf.pipeline.training.soft_dpo import check_arguments

    if isinstance(policy, DPOSettings):
        made = dpo.trl_config(policy, hardware, _NOWHERE, 0, True)
        try:
            check_arguments(made)
        except ValueError as error:
            raise ConfigError(f"policy.trl: {error}") from error
    elif isinstance(policy, PPOSettings):
        ppo.trl_config(policy, sampling, hardware, _NOWHERE, 0)
    else:
        rloo.trl_config(policy, sampling, hardware, _NOWHERE, 0, [1.0])
