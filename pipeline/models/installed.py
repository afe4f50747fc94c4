"""What a config needs of the libraries that are installed, checked before anything is generated or trained."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from truthful_rlhf.aggregation.extras import missing_modules, require
from truthful_rlhf.aggregation.plugins import is_import_path
from truthful_rlhf.aggregation.rules import extra_of, is_rule
from truthful_rlhf.labelers.judges.hardware import Hardware, HardwareError
from truthful_rlhf.pipeline.config.experiment import Config, ModelSection
from truthful_rlhf.pipeline.config.loading import ConfigError
from truthful_rlhf.pipeline.config.training import PolicySettings, SamplingSettings
from truthful_rlhf.pipeline.models.vllm_engine import NOT_INSTALLED, EngineNotFoundError
from truthful_rlhf.reward_model.gold import make_gold

TRL_WITH_PPO = ">=1.12,<1.13"
"""The versions of TRL that have PPO (``trl.experimental.ppo``) and that our trainers run on."""


def check_installed(policies: Sequence[PolicySettings], sampling: SamplingSettings) -> None:
    """Refuse methods and engines that the installed libraries do not have.

    Args:
        policies: the methods that will be run.
        sampling: the config's section ``sampling``.

    Raises:
        ConfigError: PPO, with a TRL that has none.
        EngineNotFoundError: the engine vLLM, without vLLM.
    """
    ppo = [policy.title for policy in policies if policy.method == "ppo"]
    if ppo and not missing_modules("train") and not _trl_has_ppo():
        raise ConfigError(
            f"policy {ppo[0]}: PPO needs TRL {TRL_WITH_PPO}, and {importlib.metadata.version('trl')} is installed:"
            f" pip install 'trl{TRL_WITH_PPO}', or take the method rloo"
        )
    if sampling.engine == "vllm" and importlib.util.find_spec("vllm") is None:
        raise EngineNotFoundError(NOT_INSTALLED)


def check_hardware(model: ModelSection) -> Hardware:
    """Return where the model runs; refuse a device, a precision or four bits that this machine cannot do.

    Raises:
        ConfigError: naming the key.
    """
    try:
        hardware = Hardware.choose(model.device, model.dtype)
    except HardwareError as error:
        raise ConfigError(str(error)) from error
    if not model.load_in_4bit:
        return hardware
    if hardware.device != "cuda":
        raise ConfigError("model.load_in_4bit needs a CUDA GPU, and torch sees none here; set model.load_in_4bit=false")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError("model.load_in_4bit: bitsandbytes is not installed; pip install bitsandbytes")
    return hardware


def check_extras(config: Config) -> None:
    """Refuse a config that needs libraries which are not installed, or code of the user's own that is not there.

    Raises:
        MissingExtraError: with the line to type.
        ConfigError: a gold reward by import path cannot be used.
    """
    if is_import_path(config.gold.name):
        try:
            make_gold(config.gold.name, config.gold.label)
        except ValueError as error:
            raise ConfigError(str(error)) from error
    require("train", "training")
    check_rules([rule.name for rule in config.rules])
    for name, entries in config.panels.items():
        if any(entry.kind == "remote_judge" for entry in entries):
            require("judges", f"panel {name}: a judge on a server")


def check_rules(names: Sequence[str]) -> None:
    """Refuse rules whose libraries are not installed.

    Args:
        names: of rules.

    Raises:
        MissingExtraError: with the line to type.
    """
    for name in names:
        if is_rule(name) and (extra := extra_of(name)):
            require(extra, f"rule {name}")


def _trl_has_ppo() -> bool:
    """Whether the folder of PPO is there: to look for it is faster than to import TRL, and warns of nothing."""
    spec = importlib.util.find_spec("trl")
    places = [] if spec is None else spec.submodule_search_locations or []
    return any(Path(place, "experimental", "ppo").is_dir() for place in places)
