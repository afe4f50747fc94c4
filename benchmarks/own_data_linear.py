"""The estimate of ``compare --annotations`` beside the true gap, with log-linear policies: all cells in minutes.

`benchmarks.own_data` asks its two questions of a language model, minutes a cell. Here responses are points x in 16
dimensions, the gold reward is a bent function of them in [-1, 1], and a policy chooses among sixteen candidates of a
prompt with chance proportional to exp(theta x / beta): the class in which DPO with a uniform reference is a logistic
regression of soft labels on differences of x (arXiv 2305.18290, section 4). No log-linear policy is the optimal one.
Panels, rules, audits, verdicts and both questions are the same; the interval and the test are those of the command.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from benchmarks.own_data import PANELS, RULES, summary
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.log_odds import sigmoid
from truthful_rlhf.labelers import Pairs, Panel, ReportContext
from truthful_rlhf.labelers.panels import built_in_panels
from truthful_rlhf.labelers.spec import LabelerSpec, distinct
from truthful_rlhf.pipeline.config.game import BUNDLED_TOPICS
from truthful_rlhf.pipeline.config.rule import TRUTH, RuleSection
from truthful_rlhf.pipeline.own_data.estimates import Verdicts
from truthful_rlhf.reward_model.gold import true_preference

ABOUT = "the same with log-linear policies: 400 cells, by the number of verdicts (a few minutes)"

DIMENSIONS, KAPPA, BETA, PENALTY = 16, 5.0, 0.1, 0.5
N_TRAIN, N_VERDICTS, N_FRESH, N_PROMPTS, N_CANDIDATES = 128, (27, 60, 192, 1000), 2000, 500, 16
AUDIT_RATE = 0.2
SEEDS = range(10)


class World:
    """A gold reward, and responses that are drawn from a seed.

    Args:
        seed: of the responses.
        gold_seed: of the gold reward.
    """

    def __init__(self, seed: int, gold_seed: int) -> None:
        self.rng = np.random.default_rng([seed, 20])
        self.linear, self.bend = np.random.default_rng([gold_seed, 22]).normal(size=(2, DIMENSIONS)) / np.sqrt(
            DIMENSIONS
        )

    def gold(self, x: FloatArray) -> FloatArray:
        """Return the gold reward of responses of shape ``(..., 16)``."""
        reward: FloatArray = np.tanh(0.5 * x @ self.linear + 0.4 * np.sin(2.0 * x @ self.bend))
        return reward

    def pairs(self, n: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the responses A and B of n pairs, and the true P(A better)."""
        a, b = self.rng.normal(size=(2, n, DIMENSIONS))
        return a, b, true_preference(self.gold(a), self.gold(b), KAPPA)


def fitted(differences: FloatArray, labels: FloatArray) -> FloatArray:
    """Return theta of the log-linear policy that DPO trains on soft labels, with an L2 penalty."""

    def loss(theta: FloatArray) -> tuple[float, FloatArray]:
        z = differences @ theta
        value = float((np.logaddexp(0.0, -z) + (1.0 - labels) * z).sum() + 0.5 * PENALTY * theta @ theta)
        return value, differences.T @ (sigmoid(z) - labels) + PENALTY * theta

    result: FloatArray = minimize(loss, np.zeros(DIMENSIONS), jac=True, method="L-BFGS-B").x
    return result


def seed_rows(seed: int, gold_seed: int) -> list[dict[str, Any]]:
    """Return the cells of a seed, the truth first, as `benchmarks.own_data.measured` does, with the most verdicts."""
    world = World(seed, gold_seed)
    a, b, p_truth = world.pairs(N_TRAIN)
    outcomes = (world.rng.random(N_TRAIN) < p_truth).astype(np.float64)
    audited = world.rng.permutation(N_TRAIN) < round(AUDIT_RATE * N_TRAIN)
    revealed = np.where(audited, outcomes, np.nan)
    topics = world.rng.choice(BUNDLED_TOPICS, N_TRAIN).tolist()
    blank = [""] * N_TRAIN
    pairs = Pairs(
        [f"pair-{k}" for k in range(N_TRAIN)],
        *(blank, blank, blank),
        gold_a=world.gold(a),
        gold_b=world.gold(b),
        topic=topics,
        kappa=KAPPA,
    )
    measured = [world.pairs(n) for n in (max(N_VERDICTS), N_FRESH)]
    decided = [(world.rng.random(len(p)) < p).astype(np.float64) for _, _, p in measured]
    candidates = world.rng.normal(size=(N_PROMPTS, N_CANDIDATES, DIMENSIONS))

    def row(panel: str, rule: str, labels: FloatArray) -> dict[str, Any]:
        judged = ~np.isnan(labels)
        theta = fitted((a - b)[judged], labels[judged])
        right = [
            Verdicts(y, np.ones(len(y)), np.arange(len(y))).hits(sigmoid((left - other) @ theta))
            for (left, other, _), y in zip(measured, decided, strict=True)
        ]
        score = candidates @ theta / BETA
        chance = np.exp(score - score.max(axis=1, keepdims=True))
        chance /= chance.sum(axis=1, keepdims=True)
        return {
            **{"seed": seed, "panel": panel, "rule": rule},
            "fresh": right[1].mean(),
            "gold": float((chance * world.gold(candidates)).sum(axis=1).mean()),
            "right": "".join(f"{2 * value:.0f}" for value in right[0]),
        }

    rows = [row("shared", TRUTH, p_truth)]
    for name in PANELS:
        specs = distinct([LabelerSpec.model_validate(entry) for entry in built_in_panels()[name]])
        for rule in (RuleSection(name=rule) for rule in RULES):
            context = ReportContext(rule=rule.name, rule_options={}, audit_rate=AUDIT_RATE, kappa=KAPPA)
            reports = Panel.from_specs(specs, np.random.default_rng([seed, 21])).report(pairs, context)
            labeled = rule.label(reports, revealed, topics, pair_ids=pairs.pair_id, seed=seed)
            rows.append(row(name, rule.title, labeled.soft_labels))
    return rows


def run() -> pd.DataFrame:
    """Return the summary for every number of held-out verdicts: the first ones of the same cells."""
    tables = []
    for which, gold_seeds in (("one gold reward", [0] * len(SEEDS)), ("one for each seed", SEEDS)):
        cells = pd.DataFrame([row for seed, g in zip(SEEDS, gold_seeds, strict=True) for row in seed_rows(seed, g)])
        columns = []
        for n in N_VERDICTS:
            right = cells["right"].str[:n]
            estimate = right.map(lambda digits: np.mean([int(digit) / 2 for digit in digits]))
            found = summary(cells.assign(right=right, estimate=estimate))
            columns.append(found.set_index("question")["answer"].rename(f"{n} verdicts"))
        tables.append(pd.concat(columns, axis=1).reset_index().assign(gold=which))
    table = pd.concat(tables, ignore_index=True)
    return table[["gold", *table.columns[:-1]]]
