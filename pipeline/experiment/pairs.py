"""Make pairs: sample responses to the training prompts, pair them off, score them with the gold reward."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from truthful_rlhf.labelers import Pairs
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.options import AUDIT_ROLES, ReadOptions
from truthful_rlhf.labelers.recorded.table import Annotations
from truthful_rlhf.labelers.recorded.texts import MESSAGES
from truthful_rlhf.labelers.unjudged import read_pairs
from truthful_rlhf.pipeline.experiment.prompts import Prompt
from truthful_rlhf.pipeline.models.generate import Response
from truthful_rlhf.reward_model.gold import GoldReward, true_preference

PAIR_COLUMNS = ("pair_id", "prompt", "topic", "response_a", "response_b", "gold_a", "gold_b")


def pair_off(
    prompts: list[Prompt],
    prompt_ids: list[list[int]],
    responses: list[Response],
    gold: GoldReward,
    first_id: int = 0,
) -> pd.DataFrame:
    """Pair a prompt's responses off, each used once; two equal responses make no pair.

    Args:
        prompts: n prompts.
        prompt_ids: their token ids.
        responses: n times an even number of responses, a prompt's next to each other; they are exchangeable, so
            neighbours make pairs.
        gold: scores the responses.
        first_id: number of the first pair.

    Returns:
        One row per pair with the columns ``PAIR_COLUMNS`` and ``TOKEN_COLUMNS``.
    """
    each = len(responses) // len(prompts)
    rows = [
        (k // each, responses[k], responses[k + 1])
        for k in range(0, len(responses), 2)
        if responses[k].text != responses[k + 1].text
    ]
    texts = [prompts[n].text for n, _, _ in rows]
    table = {
        "pair_id": [f"pair-{first_id + k:06d}" for k in range(len(rows))],
        "prompt": texts,
        "topic": [prompts[n].topic for n, _, _ in rows],
        "response_a": [a.text for _, a, _ in rows],
        "response_b": [b.text for _, _, b in rows],
    }
    return pd.DataFrame(
        {
            **table,
            "gold_a": gold.score(texts, table["response_a"]),
            "gold_b": gold.score(texts, table["response_b"]),
            "prompt_ids": [prompt_ids[n] for n, _, _ in rows],
            "ids_a": [list(a.token_ids) for _, a, _ in rows],
            "ids_b": [list(b.token_ids) for _, _, b in rows],
        }
    )


def recorded_pairs(path: Path, gold: GoldReward, read: ReadOptions | None = None) -> pd.DataFrame:
    """Return the pairs of a file, each once.

    Columns: ``PAIR_COLUMNS``; ``recorded_outcome`` (NaN: not known); ``weight``, what a known outcome counts for in an
    estimate; where audits had known chances, those of `AUDIT_ROLES`; and where a prompt is a conversation,
    ``messages``, JSON, empty for a text.

    Args:
        path: of an annotation file, or of pairs that nobody has judged, TRL's preference formats among them.
        gold: the gold reward of prompt and response.
        read: how to read the file.

    Raises:
        AnnotationError: the file is not readable, or a pair lacks its texts.
    """
    annotations = read_recorded_file(path, read)
    table = annotations.texts.take(annotations.text_row).to_pandas()
    topics = annotations.topic or [""] * annotations.n_pairs
    table = table.assign(pair_id=annotations.pair_ids, topic=topics, recorded_outcome=annotations.outcome)
    for side in "ab":
        table[f"gold_{side}"] = gold.score(table["prompt"].tolist(), table[f"response_{side}"].tolist())
    weights = annotations.outcome_weights
    table["weight"] = 1.0 if weights is None else weights
    design = {} if annotations.audit_design is None else annotations.audit_design.arguments()
    conversations = [MESSAGES] if (table[MESSAGES] != "").any() else []
    table = table[[*PAIR_COLUMNS, "recorded_outcome", "weight", *conversations]]
    return table.assign(**design)


def read_recorded_file(path: Path, read: ReadOptions | None = None) -> Annotations:
    """Return what a file of pairs holds, without scoring it.

    Args:
        path: as `recorded_pairs` takes it.
        read: how to read the file.

    Raises:
        AnnotationError: the file is not readable, or a pair lacks its texts.
    """
    annotations, _ = read_pairs(str(path), **(read or ReadOptions()).model_dump())
    if not annotations.has_texts:
        raise AnnotationError(f"{path}: a policy is trained on texts: every pair needs prompt, response_a, response_b")
    return annotations


def draw_audits(pairs: pd.DataFrame, audit_rate: float, rng: np.random.Generator) -> pd.DataFrame:
    """Draw which of the recorded outcomes are audited, where there is no gold reward: the others stay hidden.

    Args:
        pairs: as `recorded_pairs` returns them, n rows.
        audit_rate: share of the known outcomes, in [0, 1]; those of a lower rate are among those of a higher one.
        rng: draws them.

    Returns:
        As `draw_outcomes`, ``outcome`` and ``p_truth`` NaN where no outcome is known; chances of audits, if any.
    """
    outcome = pairs["recorded_outcome"].to_numpy(dtype=np.float64)
    known = np.flatnonzero(~np.isnan(outcome))
    audited = np.zeros(len(pairs), dtype=bool)
    audited[rng.permutation(known)[: round(audit_rate * len(known))]] = True
    design = {role: pairs[role] for role in AUDIT_ROLES if role in pairs}
    columns = {"pair_id": pairs["pair_id"], "p_truth": outcome, "outcome": outcome, "audited": audited}
    return pd.DataFrame(columns | design)


def draw_outcomes(pairs: pd.DataFrame, kappa: float, audit_rate: float, rng: np.random.Generator) -> pd.DataFrame:
    """Draw every pair's outcome from the true preference, and which pairs are audited.

    A recorded outcome is taken as it is: it is then the true preference. The same state of ``rng`` gives the same
    outcomes at every audit rate, and the pairs audited at a lower rate are among those audited at a higher one.

    Args:
        pairs: columns ``PAIR_COLUMNS``, n rows.
        kappa: of the true preference, per unit of gold reward, > 0.
        audit_rate: share of the pairs that is audited, in [0, 1].
        rng: draws outcomes, then audits.

    Returns:
        Columns ``pair_id``, ``p_truth`` (true P(A better)), ``outcome`` (drawn for all pairs), ``audited``: exactly
        ``round(audit_rate * n)`` pairs, chosen uniformly, so that labelers cannot predict them.
    """
    p_truth = true_preference(pairs["gold_a"].to_numpy(), pairs["gold_b"].to_numpy(), kappa)
    outcomes = (rng.random(len(pairs)) < p_truth).astype(np.float64)
    if "recorded_outcome" in pairs:
        recorded = pairs["recorded_outcome"].to_numpy(dtype=np.float64)
        p_truth, outcomes = (np.where(np.isnan(recorded), drawn, recorded) for drawn in (p_truth, outcomes))
    audited = np.zeros(len(pairs), dtype=bool)
    audited[rng.permutation(len(pairs))[: round(audit_rate * len(pairs))]] = True
    return pd.DataFrame({"pair_id": pairs["pair_id"], "p_truth": p_truth, "outcome": outcomes, "audited": audited})


def as_labelers_see_them(pairs: pd.DataFrame, audited: pd.Series[bool]) -> Pairs:
    """Return the batch that a panel judges; which pairs are audited is seen by strategies that stand for a leak."""
    return Pairs(
        pair_id=pairs["pair_id"].tolist(),
        prompt=pairs["prompt"].tolist(),
        response_a=pairs["response_a"].tolist(),
        response_b=pairs["response_b"].tolist(),
        gold_a=pairs["gold_a"].to_numpy(dtype=np.float64),
        gold_b=pairs["gold_b"].to_numpy(dtype=np.float64),
        topic=pairs["topic"].tolist(),
        audited=audited.to_numpy(dtype=bool),
    )
