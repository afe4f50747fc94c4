"""Every rule and kind of label with the same audits: is what the outcomes buy under our rule what they buy elsewhere?

Panels: those that ship (``labelers/panels.yaml``) honest, biased majority, colluding bloc, sleepers and topic liars,
who judge pairs as in ``simulate``; *copies*, six accounts of one ordinary labeler beside an expert and three honest
ones; *judges*, thirty correlated LLM judges (``benchmarks.correlated_judges``). A and B are exchanged in a random half
of the pairs, so that no rule can learn which side a bias favours. Exactly the stated share of the pairs is audited, at
random. Two real crowds are added where their files are present (``benchmarks.real_annotations``).

Accuracy and log loss (labels clipped to [.01, .99]) of the labels on unaudited pairs against outcomes. Every draw is a
new campaign; of real crowds, a new order and a new choice of audits. Every number of draws is fixed beforehand.

*Loss against a peer*: how much worse our label (``online_weighted``, stacked) is than the peer's, paired by draw and
pair. Its one-sided 95 % bound is the 95 % point of a bootstrap. Of a real crowd the same pairs recur in all draws, and
draws and pairs are resampled (Owen 2007, the pigeonhole bootstrap). A simulated draw has pairs of its own, so to
resample draws is to resample pairs; to do so once more would triple the variance that comes from them. Targets, without
correction because every cell must pass: at most .01 in accuracy and .02 in log loss. *Better than final* in log loss:
one-sided, normal approximation with the bootstrap's standard error, corrected over all cells (Holm 1979) at 5 %.

Dawid-Skene is measured on the first 20 draws, GLAD and MACE (seconds per campaign, and no outcomes) on the first two.

    python -m benchmarks equal_audits --out docs/evidence
    python -m benchmarks.equal_audits docs/evidence/equal_audits.csv     # the tables of the documentation
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm
from tqdm import tqdm

from benchmarks.correlated_judges import panel as judges
from benchmarks.real_annotations import DATA, FILES, load
from truthful_rlhf.aggregation import AGGREGATORS, label_campaign, make_aggregator, recalibrate, run_online
from truthful_rlhf.aggregation.auditing.folds import held_out_labels
from truthful_rlhf.aggregation.base import BoolArray, FloatArray, IntArray
from truthful_rlhf.aggregation.rules.logistic import Logistic
from truthful_rlhf.aggregation.stacking import stack_labels
from truthful_rlhf.aggregation.statistics import hits
from truthful_rlhf.labelers import LabelerSpec, Panel, ReportContext
from truthful_rlhf.labelers.panels import built_in_panels
from truthful_rlhf.pipeline.config.game import BUNDLED_TOPICS
from truthful_rlhf.pipeline.game.campaigns import judge_pairs

ABOUT = "every rule and kind of label with equal audits, and the loss against each peer (about 40 minutes of one core)"

RATES = (0.05, 0.1, 0.2)
DRAWS = {144: 100, 500: 40, 419: 20}
"""Campaigns by their number of pairs; the standard error of a difference in accuracy is then .003 or less nearly
everywhere."""
REAL_DRAWS, N_RESAMPLES = 20, 1000
SLOW = {"dawid_skene": 20, "glad": 2, "mace": 2}
BLIND = ("glad", "mace")
"""They see no outcomes: a fit serves every audit rate."""
OURS, FINAL = "online_weighted, stacked", "online_weighted, final"
NOT_PEERS = ("online_weighted", "linear_weighted", "hedge", "examined", *BLIND)
"""Our own family, and rules that are measured on few draws."""
TARGETS = {"accuracy": 0.01, "log loss": 0.02}
COPIES = [
    {"name": "expert", "persona": "expert"},
    {"name": "honest", "count": 3, "persona": "noisy"},
    {"name": "copies", "count": 6, "persona": "noisy", "strategy": {"name": "collude", "scale": 1}},
]
PANELS = ("honest", "biased_majority", "colluding_bloc", "sleepers", "topic_liars", "copies")


@dataclass(frozen=True)
class Draw:
    """One campaign: reports ``(T, N)``, outcomes ``(T,)``, names of the pairs, and the order of their audits."""

    reports: FloatArray
    outcomes: FloatArray
    pairs: IntArray
    order: IntArray

    def audited(self, rate: float) -> BoolArray:
        """Return which pairs are audited: a share of those whose outcome is known."""
        return self.order < round(rate * int((~np.isnan(self.outcomes)).sum()))


def simulated(name: str, n_pairs: int, seed: int) -> Draw:
    """Draw a campaign of a panel with A and B exchanged in a random half of the pairs."""
    rng = np.random.default_rng([seed, n_pairs, PANELS.index(name)])
    specs = [LabelerSpec.model_validate(entry) for entry in {**built_in_panels(), "copies": COPIES}[name]]
    judged = judge_pairs(Panel.from_specs(specs, rng), n_pairs, 1, rng, topics=BUNDLED_TOPICS)
    reports, outcomes = judged.reports(ReportContext(rule="online_weighted")), judged.nature.outcomes
    turned = rng.random(n_pairs) < 0.5
    reports, outcomes = np.where(turned[:, None], 1.0 - reports, reports), np.abs(turned - outcomes)
    return Draw(reports, outcomes, seed * n_pairs + np.arange(n_pairs), rng.permutation(n_pairs))


def correlated(seed: int) -> Draw:
    rng = np.random.default_rng([seed, 0])
    votes, outcomes = judges(rng)
    return Draw(votes, outcomes, seed * len(outcomes) + np.arange(len(outcomes)), rng.permutation(len(outcomes)))


def real(reports: FloatArray, outcomes: FloatArray, seed: int) -> Draw:
    """Put a crowd into a random order, with a random order of audits among the pairs with an outcome."""
    rng = np.random.default_rng([seed, 0])
    pairs = rng.permutation(len(outcomes))
    known = rng.permutation(np.flatnonzero(~np.isnan(outcomes[pairs])))
    order = np.full(len(pairs), len(pairs))
    order[known] = np.arange(len(known))
    return Draw(reports[pairs], outcomes[pairs], pairs, order)


def crowds() -> Iterator[tuple[str, int, list[Draw]]]:
    """Yield panel, number of pairs with an outcome, and draws."""
    for name in PANELS:
        for n_pairs in (144, 500):
            yield name, n_pairs, [simulated(name, n_pairs, seed) for seed in range(DRAWS[n_pairs])]
    yield "judges", 419, [correlated(seed) for seed in range(DRAWS[419])]
    for file in FILES if DATA.is_dir() else ():
        crowd = load(DATA / file)
        yield file.split("_")[0], int((~np.isnan(crowd[1])).sum()), [real(*crowd, seed) for seed in range(REAL_DRAWS)]


# --- labels ---------------------------------------------------------------------------------------------------------


def final(rule: str, reports: FloatArray, revealed: FloatArray) -> FloatArray:
    """Return a rule's labels after it has seen all revealed outcomes; only those of unaudited pairs are measured."""
    if rule != "logistic":
        return label_campaign(reports, revealed, rule, "reweighted", keep_weights=False).soft_labels
    aggregator = Logistic(reports.shape[1])  # the state of its online run, without the refit at every audit
    aggregator.fit(reports, revealed)
    return aggregator.predict_many(reports)


def stacked(reports: FloatArray, revealed: FloatArray) -> FloatArray:
    def last_weights(told: FloatArray) -> FloatArray:
        rule = make_aggregator("online_weighted", reports.shape[1])
        run_online(rule, reports, told, keep_weights=False)
        return rule.weights_

    return stack_labels(reports, revealed, last_weights)


def recalibrated(rule: str) -> Callable[[FloatArray, FloatArray], FloatArray]:
    def labels(reports: FloatArray, revealed: FloatArray) -> FloatArray:
        held_out = held_out_labels(lambda told: final(rule, reports, told), revealed)
        return recalibrate(final(rule, reports, revealed), revealed, held_out)

    return labels


def online(reports: FloatArray, revealed: FloatArray) -> FloatArray:
    return run_online(make_aggregator("online_weighted", reports.shape[1]), reports, revealed).soft_labels


def methods() -> dict[str, Callable[[FloatArray, FloatArray], FloatArray]]:
    """Return all rules (their final labels) and the kinds of label of the mechanism."""

    def of(rule: str) -> Callable[[FloatArray, FloatArray], FloatArray]:
        return lambda reports, revealed: final(rule, reports, revealed)

    kinds = {"online": online, "final": of("online_weighted"), "stacked": stacked}
    kinds["recalibrated"] = recalibrated("online_weighted")
    labels = {f"online_weighted, {kind}": function for kind, function in kinds.items()}
    labels |= {"mean, recalibrated": recalibrated("mean")}
    return labels | {rule: of(rule) for rule in AGGREGATORS if rule != "online_weighted"}


# --- losses ---------------------------------------------------------------------------------------------------------


def losses(labels: FloatArray, outcomes: FloatArray) -> FloatArray:
    """Return miss (1/2 counts half) and log loss of every pair, shape ``(2, n)``; a pair without a label counts 1/2."""
    q = np.where(np.isnan(labels), 0.5, labels)
    chance = np.clip(np.where(outcomes == 1.0, q, 1.0 - q), 0.01, 0.99)
    return np.stack([1.0 - hits(q, outcomes), -np.log(chance)])


def resampled(
    tables: list[FloatArray], pairs: list[IntArray], rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Return means over pairs, shape ``(K,)``, and their resamples, shape ``(N_RESAMPLES, K)``.

    Draws are resampled with multinomial weights, and pairs that recur in several draws with Poisson(1) weights, which
    are the same in all draws.

    Args:
        tables: per draw, losses of K methods on its n_d measured pairs, shape ``(n_d, K)``.
        pairs: per draw, the names of these pairs, shape ``(n_d,)``.
        rng: source of the weights.
    """
    names, index = np.unique(np.concatenate(pairs), return_inverse=True)
    recurring = len(names) < len(index)
    weights = np.ones((N_RESAMPLES if recurring else 1, len(names)), dtype=np.float32)
    if recurring:
        weights = rng.poisson(1.0, weights.shape).astype(np.float32)
    draws = rng.multinomial(len(tables), np.full(len(tables), 1.0 / len(tables)), N_RESAMPLES)
    total, number, first = np.zeros((N_RESAMPLES, tables[0].shape[1])), np.zeros(N_RESAMPLES), 0
    for d, table in enumerate(tables):
        own = weights[:, index[first : first + len(table)]]
        total += draws[:, d, None] * (own @ table.astype(np.float32))
        number += draws[:, d] * own.sum(axis=1)
        first += len(table)
    return np.concatenate(tables).mean(axis=0), total / np.maximum(number, 1.0)[:, None]


def cell(draws: list[Draw], rate: float, cache: dict[tuple[str, int], FloatArray]) -> Iterator[dict[str, Any]]:
    """Yield a row per method: accuracy, log loss, and what our label loses against it."""
    tables: dict[str, list[FloatArray]] = {name: [] for name in methods()}
    pairs = []
    for d, draw in enumerate(draws):
        audited = draw.audited(rate)
        revealed = np.where(audited, draw.outcomes, np.nan)
        measured = ~audited & ~np.isnan(draw.outcomes)
        pairs.append(draw.pairs[measured])
        for name, labels in methods().items():
            if d >= SLOW.get(name, len(draws)):
                continue
            if name in BLIND and (name, d) not in cache:
                cache[name, d] = labels(draw.reports, revealed)
            given = cache[name, d] if name in BLIND else labels(draw.reports, revealed)
            tables[name].append(losses(given[measured], draw.outcomes[measured]).T)
    for name, own in tables.items():
        ours = tables[OURS][: len(own)]
        both = [np.hstack([a, b, a - b]) for a, b in zip(ours, own, strict=True)]
        means, samples = resampled(both, pairs[: len(own)], np.random.default_rng(0))
        row = {"rule, label": name, "accuracy": 1.0 - means[2], "log loss": means[3], "draws": len(own)}
        for k, measure in ((4, "accuracy"), (5, "log loss")):
            row |= {f"{measure}: loss": means[k], f"{measure}: s.e.": samples[:, k].std()}
            row |= {f"{measure}: bound": float(np.quantile(samples[:, k], 0.95))}
        yield row


def run() -> pd.DataFrame:
    rows = []
    with tqdm(total=len(PANELS) * 2 + 1 + (len(FILES) if DATA.is_dir() else 0), unit="crowd") as progress:
        for panel, n_pairs, draws in crowds():
            cache: dict[tuple[str, int], FloatArray] = {}
            for rate in RATES:
                where = {"panel": panel, "pairs": n_pairs, "audited": f"{rate:.0%}"}
                rows += [{**where, **row} for row in cell(draws, rate, cache)]
            progress.update()
    return pd.DataFrame(rows)


# --- tables ---------------------------------------------------------------------------------------------------------

CELL = ["panel", "pairs", "audited"]
SHOWN = ("mean", "majority", "gold_vote", "logistic", "dawid_skene", FINAL, "online_weighted, recalibrated", OURS)


def targets(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per cell: the peer against which most is lost, by measure, and whether the targets are met."""
    peers = table[~table["rule, label"].str.split(",").str[0].isin(NOT_PEERS)]
    finals = table[table["rule, label"] == FINAL].set_index(CELL)
    better = holm(norm.cdf(finals["log loss: loss"] / finals["log loss: s.e."].clip(lower=1e-12)))
    rows = []
    for k, (where, group) in enumerate(peers.groupby(CELL, sort=False)):
        row = dict(zip(CELL, where, strict=True)) if isinstance(where, tuple) else {}
        for measure, limit in TARGETS.items():
            worst = group.iloc[int(group[f"{measure}: bound"].to_numpy().argmax())]
            row[f"{measure}: worst peer"] = worst["rule, label"]
            row[f"{measure}: loss (bound)"] = f"{worst[f'{measure}: loss']:+.3f} ({worst[f'{measure}: bound']:+.3f})"
            row[f"{measure}: target"] = verdict(worst[f"{measure}: loss"], worst[f"{measure}: bound"], limit)
        row["log loss against final"] = f"{finals['log loss: loss'].iloc[k]:+.3f}" + ("*" if better[k] else "")
        rows.append(row)
    return pd.DataFrame(rows)


def overview(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per cell, with accuracy and log loss of the labels that the documentation shows."""
    table = table.assign(text=[f"{a:.3f} {q:.3f}" for a, q in zip(table["accuracy"], table["log loss"], strict=True)])
    wide = table.pivot(index=CELL, columns="rule, label", values="text")
    order = list(dict.fromkeys(table[CELL].itertuples(index=False, name=None)))
    return wide.reindex(order)[list(SHOWN)].reset_index()


def verdict(loss: float, bound: float, limit: float) -> str:
    """Return whether a target is met, missed, or not shown: the loss is within the limit, its bound is not."""
    return "met" if bound <= limit else "not shown" if loss <= limit else "missed"


def holm(p_values: FloatArray, level: float = 0.05) -> BoolArray:
    """Return which hypotheses are rejected with a family-wise error of at most ``level`` (Holm 1979)."""
    order = np.argsort(p_values)
    passed = np.cumprod(np.asarray(p_values)[order] <= level / np.arange(len(p_values), 0, -1)).astype(bool)
    rejected = np.zeros(len(p_values), dtype=bool)
    rejected[order] = passed
    return rejected


def main(path: str) -> None:
    """Print the tables of the documentation, and what recalibration does to the log loss, from the benchmark's CSV."""
    from benchmarks.__main__ import markdown

    table = pd.read_csv(path)
    print(f"{markdown(overview(table))}\n\n{markdown(targets(table))}")
    wide = table.pivot(index=CELL, columns="rule, label", values="log loss")
    for rule, before in (("mean", "mean"), ("online_weighted", FINAL)):
        change = (wide[f"{rule}, recalibrated"] - wide[before]).groupby("panel").mean().round(3)
        print(f"\n{rule}, recalibrated: change of the log loss by panel {change.to_dict()}")


if __name__ == "__main__":
    main(sys.argv[1])
