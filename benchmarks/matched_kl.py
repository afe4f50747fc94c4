"""The alignment gap at matched KL: is a policy better, or did it only move further?

    python -m benchmarks.matched_kl sweep configs/evidence.yaml runs/evidence matched_kl.csv "seeds=[0, 1]"
    python -m benchmarks.matched_kl show matched_kl.csv

The scale of a trained adapter is swept at evaluation (``peft.helpers.rescale_adapter_scale``; 0 is the base policy,
1 the policy as it was trained), which gives each policy's curve of gold reward against KL without another training. For
every seed, panel and rule both curves, the rule's and the truth's, are read at the smaller of the KLs that the two
policies ended at. Between two scales gold reward is taken to be linear in the square root of the KL, as it nearly is
for small ones (Gao, Schulman and Hilton, arXiv 2210.10760, section 3.1).

The CSV has a row per seed, panel, rule and scale, with the gold reward on every held-out prompt; conditions that it has
are not swept again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from benchmarks.evidence import GOLD, KEYS, by_panel_and_rule, groups_of
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.pipeline.config.experiment import SHARED, load_config
from truthful_rlhf.pipeline.config.rule import TRUTH
from truthful_rlhf.pipeline.experiment.conditions import BASE, GRID, Condition
from truthful_rlhf.pipeline.experiment.context import Experiment
from truthful_rlhf.pipeline.experiment.methods import respond_with_model
from truthful_rlhf.pipeline.experiment.samples import EVALUATION_SEED, scored
from truthful_rlhf.pipeline.reports.gap_table import interval_text
from truthful_rlhf.pipeline.reports.summary import gap_with_interval, gold_by_prompt, measures_of
from truthful_rlhf.pipeline.storage.artifacts import RunFolder, write_text_atomically

SCALES = (0.4, 0.7)
"""Beside 0 and 1, which the run folder has."""


def sweep(experiment: Experiment, condition: Condition) -> Iterator[dict[str, Any]]:
    """Yield the gold reward by prompt and the KL of a trained condition at every scale."""
    seed, n = condition.seed, experiment.config.evaluation.responses_per_prompt
    kl = measures_of(experiment, condition).known()["kl"].mean
    yield {"scale": 1.0, **_row(gold_by_prompt(experiment, condition), kl)}
    from peft.helpers import rescale_adapter_scale

    policy = experiment.base.load(experiment.path(experiment.layout.of_condition(condition, "policy")))
    prompts = experiment.encoded(experiment.held_out(seed))
    for scale in SCALES:
        with rescale_adapter_scale(policy, scale):
            responses, divergence = respond_with_model(experiment, policy, prompts, EVALUATION_SEED + seed)
        gold = scored(experiment, seed, responses, divergence)["gold"].to_numpy(np.float64)
        yield {"scale": scale, **_row(gold.reshape(-1, n).mean(axis=1), float(np.mean(divergence)))}


def _row(gold: FloatArray, kl: float) -> dict[str, float]:
    return {"kl": kl, **{f"{GOLD}{k}": value for k, value in enumerate(gold)}}


def sweep_all(experiment: Experiment, csv: Path, method: str | None) -> None:
    """Sweep every condition of the run folder that the CSV lacks, writing after each.

    Raises:
        ValueError: the config has several methods and none is named, or nothing of it was evaluated.
    """
    table = pd.read_csv(csv) if csv.exists() else pd.DataFrame(columns=KEYS)
    done = set(table[KEYS].itertuples(index=False, name=None))
    there = [
        (group, condition)
        for group in groups_of(experiment.config, method)
        for condition in group.conditions
        if (condition.seed, group.panel, group.title) not in done
        and experiment.path(GRID.of_condition(condition, "evaluation.json")).exists()
    ]
    if not there and table.empty:
        raise ValueError(f"{experiment.folder.root}: no policy of this config was evaluated")
    for group, condition in tqdm(there, unit="policies"):
        rows: list[dict[str, Any]] = []
        if condition.rule is None:
            rows.append({"scale": 0.0, **_row(gold_by_prompt(experiment, condition), 0.0)})
        else:
            rows.extend(sweep(experiment, condition))
        keys = {"seed": condition.seed, "panel": group.panel, "rule": group.title}
        table = pd.concat([table, pd.DataFrame([keys | row for row in rows])], ignore_index=True)
        write_text_atomically(csv, table.to_csv(index=False, float_format="%.5g"))


def read_at(curve: pd.DataFrame, base: FloatArray, kl: float) -> FloatArray:
    """Return the gold reward by prompt at a KL, shape ``(n_prompts,)``.

    Args:
        curve: of one policy, a row per scale, with ``scale``, ``kl`` and the gold reward by prompt.
        base: the base policy's gold reward by prompt.
        kl: in nats, at most the curve's at scale 1. A curve that turns back is read where it first comes there.
    """
    rows = curve.sort_values("scale")
    distance = np.sqrt(np.maximum([0.0, *rows["kl"]], 0.0))
    gold = np.vstack([base, _gold(rows)])
    wanted = min(float(np.sqrt(max(kl, 0.0))), float(distance.max()))
    after = max(1, int(np.argmax(distance >= wanted)))
    start, end = distance[after - 1], distance[after]
    share = (wanted - start) / (end - start) if end > start else 1.0
    return np.asarray((1 - share) * gold[after - 1] + share * gold[after])


Golds = tuple[list[FloatArray], list[FloatArray], list[FloatArray]]
"""Gold reward by seed and prompt of the truth's policies, the rule's and the base policy."""


def matched(table: pd.DataFrame) -> dict[tuple[str, str], Golds]:
    """Return panel and rule -> gold rewards, those of truth and rule at the smaller of the KLs that they ended at.

    A seed counts that every condition has.
    """
    curves: dict[Any, pd.DataFrame] = dict(iter(table.groupby(KEYS, sort=False)))
    whole = whole_seeds(table)
    found: dict[tuple[str, str], Golds] = {}
    for (seed, panel, rule), curve in curves.items():
        if panel == SHARED or seed not in whole:
            continue
        base, truth = _gold(curves[seed, SHARED, BASE])[0], curves[seed, SHARED, TRUTH]
        kl = min(float(part.loc[part["scale"] == 1.0, "kl"].iloc[0]) for part in (truth, curve))
        for_truth, for_rule, for_base = found.setdefault((panel, rule), ([], [], []))
        for_truth.append(read_at(truth, base, kl))
        for_rule.append(read_at(curve, base, kl))
        for_base.append(base)
    return found


def whole_seeds(table: pd.DataFrame) -> list[int]:
    """Return the seeds of which every panel and rule of the table was swept."""
    conditions = table.drop_duplicates(KEYS)
    n = len(conditions.drop_duplicates(["panel", "rule"]))
    counts = conditions["seed"].value_counts()
    return sorted(int(seed) for seed in counts[counts == n].index)


def _gold(rows: pd.DataFrame) -> FloatArray:
    return rows[[name for name in rows if str(name).startswith(GOLD)]].to_numpy(np.float64)


def gap_table(table: pd.DataFrame) -> str:
    """Return the normalised gap at matched KL with its interval, as a Markdown table of panels and rules.

    Nothing is said where training on the truth gained nothing.
    """
    texts = {}
    for key, (truth, rule, base) in matched(table).items():
        gap = gap_with_interval(truth, rule, base)
        texts[key] = "–"
        if gap.normalised is not None and gap.normalised_interval is not None:
            texts[key] = f"{gap.normalised:.2f} {interval_text(*gap.normalised_interval)}"
    n = len(whole_seeds(table))
    return by_panel_and_rule(f"normalised gap at matched KL [95 %], {n} seed{'s' if n > 1 else ''}", texts)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.matched_kl",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    swept = commands.add_parser("sweep", help="sweep the finished policies of a run folder")
    swept.add_argument("config", help="the grid's config")
    swept.add_argument("run", type=Path, help="the run folder of compare")
    swept.add_argument("--method", help="which is swept, where the config trains with several")
    shown = commands.add_parser("show", help="print the table of a CSV")
    for command in (swept, shown):
        command.add_argument("csv", type=Path)
    swept.add_argument("overrides", nargs="*", metavar="key.sub=value")
    given = parser.parse_args(arguments)
    if given.command == "sweep":
        experiment = Experiment(load_config(given.config, given.overrides), RunFolder(given.run), GRID)
        try:
            sweep_all(experiment, given.csv, given.method)
        except ValueError as error:
            parser.error(str(error))
    print(gap_table(pd.read_csv(given.csv)))


if __name__ == "__main__":
    main()
