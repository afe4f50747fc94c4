"""Small local judges: personas asked to score or compare likelihoods, on pairs of SmolLM2-135M's own responses.

Questions, words and examples were chosen on the pairs of the first 48 of 260 bundled prompts (in the order of seed 18,
responses of sampling seed 1). These are the pairs of 172 bundled prompts that are not among the 260, with responses of
another seed. The truth is the gold reward's order, VADER's sentiment, itself a crude judge; pairs with equal gold are
left out. *follows*: correlation of the reports' log-odds with the difference of the feature that the persona is said to
like most, with its 95 % interval (Fisher). One response is judged at a time, so there is no place to prefer.

Answers are kept in the cache folder: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.log_odds import logit
from truthful_rlhf.aggregation.statistics import accuracy, wilson_interval
from truthful_rlhf.aggregation.statistics.intervals import Z
from truthful_rlhf.labelers import LocalJudge, Pairs
from truthful_rlhf.labelers.features import GOLD, normalised_difference
from truthful_rlhf.labelers.judges.answers import Answers
from truthful_rlhf.labelers.personas import Persona, make_persona

ABOUT = "SmolLM2-135M as a judge of its own responses, by persona (about 20 minutes of one idle core)"

SINCERE = ("expert", "noisy", "careless", "specialist", "first_seen")
OPPOSITE = ("contrarian",)
STYLE = ("verbose", "formal", "plain", "cautious", "flatterer")
ASK = {**dict.fromkeys((*SINCERE, *OPPOSITE), "score"), **dict.fromkeys(STYLE, "channel")}
SEEN, N_PROMPTS, N_RESPONSES = 260, 172, 8
MOST_STYLE = 160
"""Pairs that judges of style are asked about: they read every response twice."""


def run() -> pd.DataFrame:
    """Sample the pairs and return one row per persona, then the mean of the sincere ones."""
    return measured(sampled_pairs())


def sampled_pairs() -> pd.DataFrame:
    """Return the pairs with different gold of prompts that nothing was chosen on."""
    from truthful_rlhf.pipeline.config.training import SamplingSettings
    from truthful_rlhf.pipeline.experiment.pairs import pair_off
    from truthful_rlhf.pipeline.experiment.prompts import load_prompts
    from truthful_rlhf.pipeline.models.generate import sample_responses
    from truthful_rlhf.pipeline.models.load import load_model, load_tokenizer
    from truthful_rlhf.pipeline.models.tokens import Encoder
    from truthful_rlhf.reward_model.gold import make_gold

    seen, held_out = load_prompts("bundled", "prompt", SEEN, 1, np.random.default_rng(18))
    known = {prompt.text for prompt in (*seen, *held_out)}
    everything, _ = load_prompts("bundled", "prompt", SEEN + N_PROMPTS + 1, 1, np.random.default_rng(19))
    prompts = [prompt for prompt in everything if prompt.text not in known][:N_PROMPTS]
    model, tokenizer = load_model("bundled"), load_tokenizer("bundled")
    encoded = [Encoder(tokenizer).prompt(prompt.text) for prompt in prompts]
    repeated = [ids for ids in encoded for _ in range(N_RESPONSES)]
    responses = sample_responses(model, tokenizer, repeated, SamplingSettings(max_new_tokens=16), 3, "Pairs")
    table = pair_off(prompts, encoded, responses, make_gold("vader"))
    return table[table["gold_a"] != table["gold_b"]].reset_index(drop=True)


def measured(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per persona, and one for the mean of the sincere ones.

    Args:
        table: columns ``pair_id, prompt, response_a, response_b, gold_a, gold_b``, all with different gold.
    """
    from truthful_rlhf.pipeline.models.load import resolve_model

    rows, beliefs = [], {}
    for name, ask in ASK.items():
        persona, part = make_persona(name), table[:MOST_STYLE] if name in STYLE else table
        prompts, a, b = (part[column].tolist() for column in ("prompt", "response_a", "response_b"))
        pairs = Pairs(part["pair_id"].tolist(), prompts, a, b)
        answers = LocalJudge(resolve_model("bundled"), persona.told(), name, batch_size=32, ask=ask).answer(pairs)
        beliefs[name] = answers.belief
        mass = float(np.nanmean(answers.mass)) if not np.isnan(answers.mass).all() else np.nan
        rows.append(
            {
                "judge": name,
                "ask": ask,
                **_right(answers.belief, part),
                **follows(persona, answers, pairs),
                "mass": mass,
            }
        )
        print(pd.DataFrame(rows[-1:]).to_string(header=len(rows) == 1), flush=True)
    mean = np.nanmean([beliefs[name] for name in SINCERE], axis=0)
    rows.append({"judge": f"mean of {len(SINCERE)} sincere", "ask": "score", **_right(mean, table)})
    return pd.DataFrame(rows)


def follows(persona: Persona, answers: Answers, pairs: Pairs) -> dict[str, object]:
    """Return the correlation of the reports' log-odds with the liked feature's difference, with its interval."""
    feature = max((name for name in persona.taste if name != GOLD), key=lambda n: abs(persona.taste[n]), default=None)
    if feature is None:
        return {}
    liked = np.sign(persona.taste[feature]) * normalised_difference(feature, pairs)
    known = ~np.isnan(answers.belief)
    r = float(np.corrcoef(logit(answers.belief[known]), liked[known])[0, 1])
    width = Z / np.sqrt(known.sum() - 3)
    low, high = (float(np.tanh(np.arctanh(r) + side * width)) for side in (-1, 1))
    return {"feature": feature, "differs": int((liked != 0.0).sum()), "follows": r, "from": low, "to": high}


def _right(belief: FloatArray, table: pd.DataFrame) -> dict[str, object]:
    judged = ~np.isnan(belief)
    better = (table["gold_a"] > table["gold_b"]).to_numpy().astype(np.float64)
    right, n = accuracy(belief[judged], better[judged]), int(judged.sum())
    low, high = wilson_interval(right, n)
    return {"pairs": n, "accuracy": right, "low": float(low), "high": float(high)}
