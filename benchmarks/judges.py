"""Small local judges: personas asked to score one response at a time, on pairs of SmolLM2-135M's own responses.

Prompts, examples and the way of asking were chosen on the pairs of the first 48 prompts (of the bundled openers in the
order of seed 18); these are the pairs of the 200 prompts after them. The truth is the gold reward's order, VADER's
sentiment, itself a crude judge; pairs with equal gold are left out. *follows*: correlation of the reports' log-odds
with the difference of the feature that the persona is said to like most. There is no place to prefer in ``score``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.log_odds import logit
from truthful_rlhf.aggregation.statistics import accuracy, wilson_interval
from truthful_rlhf.labelers import LocalJudge, Pairs
from truthful_rlhf.labelers.features import GOLD, normalised_difference
from truthful_rlhf.labelers.personas import Persona, make_persona

ABOUT = "SmolLM2-135M as a judge of its own responses, by persona (about 15 minutes of two idle cores)"

SINCERE = ("expert", "noisy", "careless", "specialist", "first_seen")
BIASED = ("contrarian", "verbose", "terse", "formal", "flatterer", "cautious")
CHOSEN_ON, N_PROMPTS, N_RESPONSES = 48, 200, 8


def run() -> pd.DataFrame:
    """Sample the pairs and return one row per persona, then the mean of the sincere ones."""
    return measured(sampled_pairs(), (*SINCERE, *BIASED))


def sampled_pairs() -> pd.DataFrame:
    """Return the pairs of the prompts that nothing was chosen on, with their gold rewards."""
    from truthful_rlhf.pipeline.config.training import SamplingSettings
    from truthful_rlhf.pipeline.experiment.pairs import pair_off
    from truthful_rlhf.pipeline.experiment.prompts import load_prompts
    from truthful_rlhf.pipeline.models.generate import sample_responses
    from truthful_rlhf.pipeline.models.load import load_model, load_tokenizer
    from truthful_rlhf.pipeline.models.tokens import Encoder
    from truthful_rlhf.reward_model.gold import make_gold

    prompts = load_prompts("bundled", "prompt", 260, 1, np.random.default_rng(18))[0]
    prompts = prompts[CHOSEN_ON : CHOSEN_ON + N_PROMPTS]
    model, tokenizer = load_model("bundled"), load_tokenizer("bundled")
    encoded = [Encoder(tokenizer).prompt(prompt.text) for prompt in prompts]
    repeated = [ids for ids in encoded for _ in range(N_RESPONSES)]
    responses = sample_responses(model, tokenizer, repeated, SamplingSettings(max_new_tokens=16), 2, "Pairs")
    return pair_off(prompts, encoded, responses, make_gold("vader"))


def measured(table: pd.DataFrame, names: tuple[str, ...], ask: str = "score") -> pd.DataFrame:
    """Return one row per persona, and one for the mean of the sincere ones among them.

    Args:
        table: columns ``pair_id, prompt, response_a, response_b, gold_a, gold_b``.
        names: of personas of the pool.
        ask: how they are asked.
    """
    from truthful_rlhf.pipeline.models.load import resolve_model

    table = table[table["gold_a"] != table["gold_b"]]
    prompts, a, b = (table[name].tolist() for name in ("prompt", "response_a", "response_b"))
    pairs = Pairs(table["pair_id"].tolist(), prompts, a, b)
    better: FloatArray = (table["gold_a"] > table["gold_b"]).to_numpy().astype(np.float64)
    rows, beliefs = [], {}
    for name in names:
        persona = make_persona(name)
        judge = LocalJudge(resolve_model("bundled"), persona.told(), name, batch_size=48, ask=ask)
        answers = judge.answer(pairs)
        beliefs[name] = answers.belief
        mass = float(np.nanmean(answers.mass)) if not np.isnan(answers.mass).all() else np.nan
        rows.append(
            _row(name, answers.belief, better) | {"follows": follows(persona, answers.belief, pairs), "mass": mass}
        )
    sincere = [beliefs[name] for name in SINCERE if name in beliefs]
    if len(sincere) > 1:
        rows.append(_row(f"mean of {len(sincere)} sincere", np.nanmean(sincere, axis=0), better))
    return pd.DataFrame(rows)


def follows(persona: Persona, belief: FloatArray, pairs: Pairs) -> float:
    """Return the correlation of the reports' log-odds with the liked feature's difference; NaN where that is gold."""
    feature = max((name for name in persona.taste if name != GOLD), key=lambda n: abs(persona.taste[n]), default=None)
    if feature is None:
        return float("nan")
    liked = np.sign(persona.taste[feature]) * normalised_difference(feature, pairs)
    known = ~np.isnan(belief)
    return float(np.corrcoef(logit(belief[known]), liked[known])[0, 1])


def _row(name: str, belief: FloatArray, better: FloatArray) -> dict[str, object]:
    right = accuracy(belief, np.where(np.isnan(belief), np.nan, better))
    n = int((~np.isnan(belief)).sum())
    low, high = wilson_interval(right, n)
    return {"judge": name, "pairs": n, "accuracy": right, "low": float(low), "high": float(high)}
