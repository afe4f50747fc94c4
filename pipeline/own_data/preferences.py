"""What policies, reward models and labels say about pairs whose verdict was held out from them.

DPO's policy pi prefers A to B with probability sigmoid(h), h = beta [(log pi(A) - log ref(A)) - (log pi(B) -
log ref(B))] (arXiv 2305.18290, equation 7): its *implicit preference*. The optimum of training on a reward with a KL
penalty has the same form, with the penalty's coefficient as beta, so PPO and RLOO are read in this way as well. The
base policy's own implicit preference is 1/2 everywhere; what it finds likelier is measured by log-likelihoods.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.log_odds import sigmoid
from truthful_rlhf.labelers.recorded.options import AUDIT_ROLES
from truthful_rlhf.pipeline.config.rule import TRUTH
from truthful_rlhf.pipeline.config.training import BestOfNSettings, DPOSettings, PolicySettings
from truthful_rlhf.pipeline.experiment.conditions import Condition
from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.experiment.data import aggregate, ask_panel, read_campaign
from truthful_rlhf.pipeline.experiment.evaluation import train_policy
from truthful_rlhf.pipeline.experiment.folds import build_recorded, held_out_verdicts, read_recorded
from truthful_rlhf.pipeline.models.log_probabilities import log_probabilities
from truthful_rlhf.pipeline.models.tokens import joined, with_token_ids
from truthful_rlhf.pipeline.storage.inputs import ConfigSections, StageInputs
from truthful_rlhf.pipeline.storage.tables import read_table, write_table
from truthful_rlhf.reward_model.calibration import preference_probability
from truthful_rlhf.reward_model.gold import ClassifierGold

LIKELIHOODS = "likelihoods.parquet"
PREFERENCES = "preferences.parquet"


@dataclass(frozen=True, kw_only=True)
class LikelihoodInputs(StageInputs):
    """What the base policy's log-likelihoods depend on, with the fingerprint of the recorded pairs."""

    recorded: str
    config: ConfigSections
    max_length: int


@dataclass(frozen=True, kw_only=True)
class PreferenceInputs(StageInputs):
    """What the preferences of a condition depend on: the fingerprints of its policy and of the base's likelihoods."""

    policy: str
    likelihoods: str


def longest(policies: list[PolicySettings]) -> int:
    """Return how many tokens of prompt and response the methods read at most."""
    return max(p.max_length if isinstance(p, DPOSettings) else p.reward_model.max_length for p in policies)


def implicit_beta(policy: PolicySettings) -> float | None:
    """Return the factor of a method's implicit preference; None where the policy is the base's, chosen among."""
    if isinstance(policy, BestOfNSettings):
        return None
    return policy.beta if isinstance(policy, DPOSettings) else policy.kl_coef


def build_likelihoods(experiment: Experiment) -> str:
    """Build ``likelihoods.parquet``: how likely the base policy finds both responses of every pair with a verdict.

    Columns: ``pair_id``, ``log_p_a, log_p_b`` in nats, ``n_tokens_a, n_tokens_b``.
    """
    most = longest(experiment.config.policy)
    inputs = LikelihoodInputs(recorded=build_recorded(experiment), config=experiment.sections("model"), max_length=most)

    def build(scratch: Path) -> None:
        table = read_recorded(experiment)
        pairs = with_token_ids(table[table["recorded_outcome"].notna()].reset_index(drop=True), experiment.encoder)
        prompts, responses = pairs["prompt_ids"].tolist(), [*pairs["ids_a"], *pairs["ids_b"]]
        both = log_probabilities(
            experiment.base_model,
            experiment.tokenizer,
            [*prompts, *prompts],
            responses,
            most,
            hardware=experiment.hardware,
        )
        log_p_a, log_p_b = np.split(both, 2)
        lengths = {f"n_tokens_{side}": pairs[f"ids_{side}"].map(len) for side in "ab"}
        columns = {"pair_id": pairs["pair_id"], "log_p_a": log_p_a, "log_p_b": log_p_b, **lengths}
        write_table(scratch / LIKELIHOODS, pd.DataFrame(columns))

    return experiment.folder.stage("likelihoods", inputs, [LIKELIHOODS], build)


def read_likelihoods(experiment: Experiment) -> pd.DataFrame:
    """Return the base policy's log-likelihoods of the pairs with a verdict, in the order of the recorded pairs."""
    return read_table(experiment.path(LIKELIHOODS), ["pair_id", "log_p_a", "log_p_b", "n_tokens_a", "n_tokens_b"])


def measure(experiment: Experiment, condition: Condition) -> str:
    """Build ``preferences.parquet`` of a condition: P(A better) of the pairs whose verdict its fold holds out.

    Columns: ``pair_id``; ``policy``, its implicit preference; ``reward_model``; ``label``, the rule's own label of the
    pair from its reports, its outcome not revealed. NaN where a condition has no such thing.

    Args:
        experiment: of a fold.
        condition: trained on the other folds.
    """
    output = experiment.layout.of_condition(condition, PREFERENCES)
    inputs = PreferenceInputs(policy=train_policy(experiment, condition), likelihoods=build_likelihoods(experiment))

    def build(scratch: Path) -> None:
        pairs = held_out_verdicts(experiment, condition.seed)
        encoded = with_token_ids(pairs, experiment.encoder)
        columns = {
            "pair_id": pairs["pair_id"],
            "policy": policy_preference(experiment, condition, encoded),
            "reward_model": reward_preference(experiment, condition, encoded),
            "label": _labels(experiment, condition, pairs),
        }
        write_table(scratch / output, pd.DataFrame(columns))

    stage = experiment.layout.of_condition(condition, "preferences")
    return experiment.folder.stage(stage, inputs, [output], build)


def policy_preference(
    experiment: Experiment, condition: Condition, pairs: pd.DataFrame, base: pd.DataFrame | None = None
) -> FloatArray:
    """Return the implicit preference of a trained policy, P(A better), shape ``(n,)``; NaN where it has none.

    Args:
        experiment: of the condition.
        condition: whose policy.
        pairs: columns ``pair_id`` and `TOKEN_COLUMNS`, n rows.
        base: the base policy's log-likelihoods of these pairs, as `read_likelihoods` has them; None: those.
    """
    beta = implicit_beta(condition.method)
    if beta is None:
        return np.full(len(pairs), np.nan)
    known = (read_likelihoods(experiment) if base is None else base).set_index("pair_id").loc[pairs["pair_id"]]
    policy = experiment.base.load(experiment.path(experiment.layout.of_condition(condition, "policy")))
    prompts, responses = pairs["prompt_ids"].tolist(), [*pairs["ids_a"], *pairs["ids_b"]]
    most = longest(experiment.config.policy)
    own = log_probabilities(
        policy, experiment.tokenizer, [*prompts, *prompts], responses, most, hardware=experiment.hardware
    )
    ratio_a, ratio_b = np.split(own - np.concatenate([known["log_p_a"], known["log_p_b"]]), 2)
    return sigmoid(beta * (ratio_a - ratio_b))


def reward_preference(experiment: Experiment, condition: Condition, pairs: pd.DataFrame) -> FloatArray:
    """Return what a condition's reward model says, P(A better), shape ``(n,)``; NaN where it has none.

    Args:
        experiment: of the condition.
        condition: whose reward model.
        pairs: columns `TOKEN_COLUMNS`, n rows.
    """
    if isinstance(condition.method, DPOSettings):
        return np.full(len(pairs), np.nan)
    folder = experiment.path(experiment.layout.of_labels(condition, "reward_model"))
    reward, most = ClassifierGold(str(folder), device=experiment.hardware.device), longest(experiment.config.policy)
    texts = [joined(pairs["prompt_ids"], pairs[side]) for side in ("ids_a", "ids_b")]
    return preference_probability(*(reward.score_tokens([ids[:most] for ids in side]) for side in texts))


def _labels(experiment: Experiment, condition: Condition, pairs: pd.DataFrame) -> FloatArray:
    """Return the rule's labels of held-out pairs: their reports are read, their outcomes are not."""
    assert condition.rule is not None
    if condition.rule.name == TRUTH:
        return np.full(len(pairs), np.nan)
    everything = read_recorded(experiment)
    _, outcomes = read_campaign(experiment, condition)
    seen = everything[["pair_id", *(role for role in AUDIT_ROLES if role in everything)]].merge(
        outcomes[["pair_id", "outcome", "audited"]], on="pair_id", how="left", validate="one_to_one"
    )
    seen["audited"] = seen["audited"].eq(True)
    reports = ask_panel(experiment, condition, everything, seen["audited"])
    labels = pd.Series(aggregate(experiment, condition, everything, seen, reports).soft_labels, everything["pair_id"])
    return np.asarray(labels.loc[pairs["pair_id"]], dtype=np.float64)
