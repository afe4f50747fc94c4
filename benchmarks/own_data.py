"""Is the estimate of ``compare --annotations`` any good? Beside the true gap, where the gold reward is known.

    python -m benchmarks.own_data --out runs/own_data --most 12    # the next twelve cells; the same again goes on
    python -m benchmarks own_data --out runs/bench                 # all cells that are missing, then the two figures

A cell is a simulated panel, a rule and a seed: one DPO policy of SmolLM2-135M. The *estimate* is what somebody without
a gold reward has: its accuracy on the held-out verdicts, one pair on each of 192 prompts. The truth is known here: the
*gap*, mean gold reward of the policy that was trained on the true preferences minus its own (64 responses), and its
accuracy on 2,000 fresh pairs of 56 other prompts. Verdicts and fresh pairs are decided by outcomes drawn from the true
preference.

Two questions: does the estimate rank the cells as the gap does (Spearman)? And do the 95 % intervals of the paired
differences between two rules of a panel and seed hold the same policies' difference on the fresh pairs?
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.statistics import wilson_interval
from truthful_rlhf.pipeline.config.experiment import SHARED, Config
from truthful_rlhf.pipeline.config.rule import TRUTH, RuleSection
from truthful_rlhf.pipeline.experiment.conditions import GRID, Condition
from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.experiment.data import build_outcomes
from truthful_rlhf.pipeline.experiment.evaluation import evaluate
from truthful_rlhf.pipeline.experiment.pairs import draw_outcomes, pair_off
from truthful_rlhf.pipeline.experiment.prompts import Prompt, load_prompts
from truthful_rlhf.pipeline.models.generate import Response, sample_responses
from truthful_rlhf.pipeline.models.log_probabilities import log_probabilities
from truthful_rlhf.pipeline.own_data.estimates import DIFFERENCE, Verdicts
from truthful_rlhf.pipeline.own_data.preferences import policy_preference
from truthful_rlhf.pipeline.reports.summary import gold_by_prompt
from truthful_rlhf.pipeline.storage.artifacts import RunFolder, write_text_atomically
from truthful_rlhf.pipeline.storage.inputs import ConfigSections, StageInputs
from truthful_rlhf.pipeline.storage.random import part_rng
from truthful_rlhf.pipeline.storage.tables import read_table, write_table

ABOUT = "the estimate of compare --annotations beside the true gap: 60 cells (about 5 minutes of a core each)"

PANELS = ("honest", "biased_majority", "first_seen", "exaggerators", "topic_liars")
RULES = ("mean", "majority", "logistic", "online_weighted")
SEEDS = (0, 1, 2)
N_FRESH_PROMPTS, N_FRESH_RESPONSES, N_FRESH = 56, 9, 2000
OUT = Path("runs/own_data")
CELLS = "cells.csv"


def make_config(model: str = "bundled", **changes: Any) -> Config:
    """Return the grid of the benchmark: small, so that a cell takes minutes on one core."""
    content: dict[str, Any] = {
        "seeds": list(SEEDS),
        "model": {"name_or_path": model},
        "prompts": {"source": "bundled", "n_train": 256, "n_held_out": 64},
        "sampling": {"max_new_tokens": 16},
        "pairs": {"responses_per_prompt": 2},
        "gold": {"name": "vader", "kappa": 5},
        "audit_rate": 0.2,
        "panels": list(PANELS),
        "rules": list(RULES),
        "policy": {"method": "dpo", "learning_rate": 1e-3, "batch_size": 8},
    }
    return Config.model_validate(content | changes)


def _inputs(experiment: Experiment, seed: int) -> StageInputs:
    return ConfigSections(
        sections={
            **experiment.sections("model", "sampling", "gold").as_json(),
            "seed": seed,
            "fresh": [N_FRESH_PROMPTS, N_FRESH_RESPONSES, N_FRESH],
            "n_train": experiment.config.prompts.n_train,
        },
        content={},
    )


def decided_pairs(experiment: Experiment, seed: int) -> pd.DataFrame:
    """Return the held-out verdicts and the fresh pairs of a seed, with token ids and the base's log-likelihoods.

    Columns: those of ``pair_off``; ``kind``, ``held out`` or ``fresh``; ``outcome``; ``log_p_a, log_p_b`` in nats.
    """
    output = f"seed-{seed}/decided.parquet"

    def build(scratch: Path) -> None:
        section, n = experiment.config.prompts, experiment.config.prompts.n_train
        rng = part_rng(seed, "prompts")
        train, held_out = load_prompts(section.source, section.column, n + N_FRESH_PROMPTS, 192, rng)
        fresh = train[n:]
        one = pair_off(held_out, *_sampled(experiment, held_out, 2, seed + 1), experiment.gold)
        many = _all_pairs(fresh, *_sampled(experiment, fresh, N_FRESH_RESPONSES, seed + 2), experiment)
        picked = part_rng(seed, "fresh pairs").permutation(len(many))[:N_FRESH]
        parts = [one.assign(kind="held out"), many.iloc[np.sort(picked)].assign(kind="fresh")]
        table = pd.concat(parts, ignore_index=True).assign(pair_id=lambda t: [f"d{k}" for k in range(len(t))])
        outcome = draw_outcomes(table, experiment.config.gold.kappa, 1.0, part_rng(seed, "verdicts"))["outcome"]
        write_table(scratch / output, table.assign(outcome=outcome, **_base(experiment, table)))

    experiment.folder.stage(f"seed-{seed}/decided", _inputs(experiment, seed), [output], build)
    return read_table(experiment.path(output), ["pair_id", "kind", "outcome", "log_p_a", "log_p_b"])


def _sampled(
    experiment: Experiment, prompts: list[Prompt], each: int, seed: int
) -> tuple[list[list[int]], list[Response]]:
    encoded = experiment.encoded(prompts)
    repeated = [ids for ids in encoded for _ in range(each)]
    sampling, model = experiment.config.sampling, experiment.base_model
    return encoded, sample_responses(model, experiment.tokenizer, repeated, sampling, 7919 * seed, "Decided pairs")


def _all_pairs(
    prompts: list[Prompt], encoded: list[list[int]], responses: list[Response], experiment: Experiment
) -> pd.DataFrame:
    """Return all pairs of different responses of each prompt, each of the two first as often as the other."""
    each = len(responses) // len(prompts)
    couples = list(itertools.combinations(range(each), 2))
    ordered = [
        responses[k * each + place]
        for k in range(len(prompts))
        for number, couple in enumerate(couples)
        for place in (couple if number % 2 == 0 else couple[::-1])
    ]
    return pair_off(prompts, encoded, ordered, experiment.gold)


def _base(experiment: Experiment, table: pd.DataFrame) -> dict[str, FloatArray]:
    prompts, responses = table["prompt_ids"].tolist(), [*table["ids_a"], *table["ids_b"]]
    both = log_probabilities(
        experiment.base_model,
        experiment.tokenizer,
        [*prompts, *prompts],
        responses,
        512,
        hardware=experiment.hardware,
    )
    log_p_a, log_p_b = np.split(both, 2)
    return {"log_p_a": log_p_a, "log_p_b": log_p_b}


def measured(experiment: Experiment, condition: Condition) -> dict[str, Any]:
    """Train one policy and return a row: the estimate, the truth, and what was right on every held-out verdict."""
    evaluate(experiment, condition)
    pairs = decided_pairs(experiment, condition.seed)
    likelihoods = pairs[["pair_id", "log_p_a", "log_p_b"]]
    said = policy_preference(experiment, condition, pairs, likelihoods)
    outcome = pairs["outcome"].to_numpy(dtype=np.float64)
    everyone = np.arange(len(pairs))
    right = Verdicts(outcome, np.ones(len(pairs)), everyone).hits(said)
    held_out, fresh = (pairs["kind"].to_numpy() == kind for kind in ("held out", "fresh"))
    samples = experiment.path(experiment.layout.of_condition(condition, "samples.parquet"))
    return {
        "seed": condition.seed,
        "panel": condition.panel,
        "rule": condition.title,
        "estimate": right[held_out].mean(),
        "fresh": right[fresh].mean(),
        "gold": gold_by_prompt(experiment, condition).mean(),
        "kl": read_table(samples, ["kl"])["kl"].mean(),
        "right": "".join(f"{2 * value:.0f}" for value in right[held_out]),
    }


def cells(config: Config) -> Iterator[Condition]:
    """Yield the truth of every seed, then its cells."""
    (policy,) = config.policy
    for seed in config.seeds:
        yield Condition(seed, SHARED, RuleSection(name=TRUTH), policy)
        for panel, rule in itertools.product(config.panels, config.rules):
            yield Condition(seed, panel, rule, policy)


def run_cells(config: Config, out: Path, most: int | None = None) -> pd.DataFrame:
    """Train and measure cells that are missing, writing each as it comes; return all that are there.

    Args:
        config: the grid.
        out: run folder, with the cells in ``cells.csv``.
        most: cells to add; None: all.
    """
    table, added = _written(out), 0
    with RunFolder(out).locked() as folder:
        experiment = Experiment(config, folder, GRID)
        for condition in cells(config):
            here = (table["seed"] == condition.seed) & (table["panel"] == condition.panel)
            if (here & (table["rule"] == condition.title)).any():
                continue
            if most is not None and added >= most:
                break
            build_outcomes(experiment, condition.seed)
            table = pd.concat([table, pd.DataFrame([measured(experiment, condition)])], ignore_index=True)
            write_text_atomically(out / CELLS, table.to_csv(index=False))
            added += 1
            print(table.drop(columns="right").tail(1).to_string(header=added == 1, index=False), flush=True)
    return table


def _written(out: Path) -> pd.DataFrame:
    if (out / CELLS).exists():
        return pd.read_csv(out / CELLS, dtype={"right": str})
    return pd.DataFrame(columns=["seed", "panel", "rule", "estimate", "fresh", "gold", "kl", "right"])


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return how well the estimate ranks the cells, and how often the intervals of differences hold."""
    truth = table[table["rule"] == TRUTH].set_index("seed")["gold"]
    ruled = table[(table["rule"] != TRUTH) & table["seed"].isin(truth.index)]
    ruled = ruled.assign(gap=truth.loc[ruled["seed"]].to_numpy() - ruled["gold"])
    columns = ["estimate", "fresh", "gap"]
    within = ruled[columns] - ruled.groupby("seed")[columns].transform("mean")
    inside, n = coverage(ruled)
    low, high = wilson_interval(inside / n if n else np.nan, n)
    return pd.DataFrame(
        [
            ("cells", f"{len(ruled)}"),
            ("Spearman, estimate and gap", _spearman(ruled, "estimate", "gap")),
            ("Spearman, estimate and accuracy on fresh pairs", _spearman(ruled, "estimate", "fresh")),
            ("Spearman, accuracy on fresh pairs and gap", _spearman(ruled, "fresh", "gap")),
            ("Spearman, estimate and gap, less the seed's means", _spearman(within, "estimate", "gap")),
            ("intervals of differences that hold", f"{inside} of {n} ({float(low):.2f} to {float(high):.2f})"),
        ],
        columns=["question", "answer"],
    )


def _spearman(table: pd.DataFrame, a: str, b: str) -> str:
    from scipy.stats import spearmanr

    return f"{spearmanr(table[a], table[b]).statistic:.3f}"


def coverage(ruled: pd.DataFrame) -> tuple[int, int]:
    """Return how many intervals of paired differences hold the difference on fresh pairs, of how many."""
    inside = n = 0
    for _, of_panel in ruled.groupby(["seed", "panel"]):
        for one, other in itertools.combinations(of_panel.to_dict("records"), 2):
            right = [np.array([int(c) / 2 for c in row["right"]]) for row in (one, other)]
            same = np.arange(len(right[0]))
            verdicts = Verdicts(np.ones(len(same)), np.ones(len(same)), same)
            interval = verdicts.interval((right[0] - right[1])[None, :], DIFFERENCE)
            inside += interval.low <= one["fresh"] - other["fresh"] <= interval.high
            n += 1
    return inside, n


def run() -> pd.DataFrame:
    """Run what is missing in ``runs/own_data`` and return the summary."""
    return summary(run_cells(make_config(), OUT))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.own_data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT, help="run folder")
    parser.add_argument(
        "--seed", type=int, action="append", help="only this one (again for others): seeds side by side"
    )
    parser.add_argument("--most", type=int, help="cells to add; 0 only shows those that are there")
    given = parser.parse_args(arguments)
    config = make_config(seeds=given.seed or list(SEEDS))
    print(summary(run_cells(config, given.out, given.most)).to_string(index=False))


if __name__ == "__main__":
    main()
