"""Where the rules hold and where they break: labels and the attackers' gain under every attack, with equal audits.

Every rule and kind of label gets the same reports and the same revealed outcomes; MACE, which can read none, mean,
median and majority make no use of theirs. GLAD is left out: it reads no outcomes either and takes 4 seconds per fit.

Panels of twenty: the attackers, one expert, and ordinary annotators (persona ``noisy``); under ``split into accounts``
one attacker, the expert, and eighteen ordinary annotators, whatever the number of accounts. 500 pairs in five topics,
outcomes drawn from the true preference, a tenth audited. Mean and 95 % interval (Student's t over seeds) of

- *accuracy*: how often the labels of unaudited pairs point to the truly better response;
- *gain*: how far the attack moves the labels to what the attackers want, the opposite of the true preference: the mean
  of (q' - (1 - p))^2 - (q - (1 - p))^2 over the unaudited pairs, with p the true preference, q the labels under attack
  and q' those of the same panel, pairs and noise when the attackers state their own beliefs instead, each through one
  account. Positive: the attack pays.

Twenty seeds; MACE, half a second per fit, has two (its interval is wide, and the column ``seeds`` says so).

The attackers of ``exaggerate``, ``collude`` and ``split into accounts`` sincerely prefer the opposite (persona
``contrarian``): to be honest is already to push that way. The others see the truth and want it reversed: honest, they
would have been useful, so a rule that merely ignores them from then on still shows a gain. The copiers of an ordinary
labeler, the correlated and the random reporters save themselves the work: there the gain is mere damage.

The *adaptive coalition* (persona ``expert``) knows the rule, the kind of label and the panel, but neither this
campaign's reports nor which pairs are audited. Against each rule, and for each size, it rehearses every strategy of
``REHEARSED`` on campaigns of its own and plays the one with the largest mean gain; the column ``played`` names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student
from tqdm import tqdm

from benchmarks.equal_audits import final, stacked
from truthful_rlhf.aggregation import label_campaign, make_aggregator
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.log_odds import logit, sigmoid
from truthful_rlhf.aggregation.rules import fits_all_at_once
from truthful_rlhf.aggregation.statistics import accuracy
from truthful_rlhf.labelers import LabelerSpec, Pairs, Panel, ReportContext
from truthful_rlhf.reward_model.gold import true_preference

ABOUT = "accuracy of every rule and kind of label, and attackers' gain, under attacks (about 10 minutes of one core)"

N_PAIRS, N_LABELERS, N_SEEDS, AUDIT_RATE, KAPPA = 500, 20, 20, 0.1, 2.0
SLOW = {"mace": 2}
"""Seeds of rules that are slow."""
SHARES = (0.3, 0.6)
ACCOUNTS = (1, 10)
REHEARSALS = (1001, 1002, 1003)
"""Seeds of the adaptive coalition's own campaigns."""
SHARED_ERROR = 0.8
EXPERT, ORDINARY = 0, 1  # columns of the panel; the attackers come last


@dataclass(frozen=True)
class Campaign:
    """What the rules are given, and what their labels are measured on."""

    pairs: Pairs
    p_truth: FloatArray
    outcomes: FloatArray
    revealed: FloatArray


def campaign(rng: np.random.Generator) -> Campaign:
    """Draw pairs with gold rewards, outcomes from their true preferences, and the pairs that are audited."""
    gold_a, gold_b = rng.normal(size=(2, N_PAIRS))
    p_truth = true_preference(gold_a, gold_b, KAPPA)
    ids = [f"p{k}" for k in range(N_PAIRS)]
    topics = [f"topic-{k % 5}" for k in rng.permutation(N_PAIRS)]
    pairs = Pairs(ids, ids, ["a"] * N_PAIRS, ["b"] * N_PAIRS, gold_a, gold_b, topic=topics, kappa=KAPPA)
    outcomes = (rng.random(N_PAIRS) < p_truth).astype(np.float64)
    return Campaign(pairs, p_truth, outcomes, np.where(rng.random(N_PAIRS) < AUDIT_RATE, outcomes, np.nan))


# --- attacks --------------------------------------------------------------------------------------------------------


def copy_ordinary(reports: FloatArray, n_attackers: int, revealed: FloatArray) -> FloatArray:
    """Let every attacker repeat the reports of the same ordinary labeler; return these, shape ``(T, n_attackers)``."""
    return np.repeat(reports[:, [ORDINARY]], n_attackers, axis=1)


def copy_expert_then_lie(reports: FloatArray, n_attackers: int, revealed: FloatArray) -> FloatArray:
    """Let every attacker repeat the expert's reports through the first half, and state their opposite from then on."""
    copied = reports[:, [EXPERT]].copy()
    copied[N_PAIRS // 2 :] = 1.0 - copied[N_PAIRS // 2 :]
    return np.repeat(copied, n_attackers, axis=1)


def lie_unless_audited(reports: FloatArray, n_attackers: int, revealed: FloatArray) -> FloatArray:
    """Let the attackers be honest on the audited pairs, which they recognise, and state the opposite on the rest."""
    honest = reports[:, -n_attackers:]
    return np.where(np.isnan(revealed)[:, None], 1.0 - honest, honest)


def share_an_error(reports: FloatArray, n_attackers: int, revealed: FloatArray) -> FloatArray:
    """Let attackers lean on the first of them: ``SHARED_ERROR`` of its log-odds, the rest their own."""
    views = logit(reports[:, -n_attackers:])
    return sigmoid(SHARED_ERROR * views[:, :1] + (1.0 - SHARED_ERROR) * views)


Scheme = Callable[[FloatArray, int, FloatArray], FloatArray]


@dataclass(frozen=True)
class Attack:
    """Who attacks, and how: a strategy of ``labelers``, or a scheme that needs to know more than a strategy may."""

    persona: str
    strategy: dict[str, Any] | None = None
    scheme: Scheme | None = None


ATTACKS = {
    "exaggerate": Attack("contrarian", {"name": "exaggerate", "scale": 4}),
    "flip": Attack("noisy", {"name": "flip"}),
    "collude": Attack("contrarian", {"name": "collude"}),
    "sleep, then lie": Attack("expert", {"name": "sleeper", "start": N_PAIRS // 2}),
    "lie on one topic of five": Attack("expert", {"name": "topic_trigger", "topic": "topic-0"}),
    "random": Attack("noisy", {"name": "random"}),
    "copy an ordinary labeler": Attack("noisy", scheme=copy_ordinary),
    "copy the expert, then lie": Attack("noisy", scheme=copy_expert_then_lie),
    "mediocre, with one shared error": Attack("noisy", scheme=share_an_error),
    "know the audited pairs, lie on the rest": Attack("expert", scheme=lie_unless_audited),
}
ADAPTIVE = "adaptive coalition"
REHEARSED: dict[str, dict[str, Any]] = {
    "flip": {"name": "flip"},
    "collude, opposite": {"name": "collude", "scale": -1},
    "collude, opposite, exaggerated": {"name": "collude", "scale": -4},
    "lie from 50 %": {"name": "sleeper", "start": N_PAIRS // 2},
    "lie from 80 %": {"name": "sleeper", "start": 4 * N_PAIRS // 5},
    "lie from 50 %, exaggerated": {"name": "sleeper", "start": N_PAIRS // 2, "scale": -4},
    "lie on one topic": {"name": "topic_trigger", "topic": "topic-0"},
    "lie on two topics": {"name": "topic_trigger", "topic": ["topic-0", "topic-1"]},
}
SPLIT = "split into accounts"


def panel_reports(
    pairs: Pairs, n_honest: int, n_attackers: int, persona: str, strategy: dict[str, Any] | None, seed: int
) -> FloatArray:
    """Return the reports of an expert, ordinary labelers and attackers, who are truthful without a strategy."""
    entries: list[dict[str, Any]] = [{"name": "expert", "persona": "expert"}]
    entries += [{"name": "honest", "count": n_honest - 1, "persona": "noisy"}]
    attackers = {"name": "attacker", "count": n_attackers, "persona": persona}
    entries += [{**attackers, "strategy": strategy or "truthful"}] if n_attackers else []
    panel = Panel.from_specs([LabelerSpec.model_validate(entry) for entry in entries], np.random.default_rng(seed))
    return panel.report(pairs, ReportContext(rule="mean", audit_rate=AUDIT_RATE, kappa=KAPPA))


def attacked(
    attack: Attack, share: float, data: Campaign, seed: int, honest: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Return the panel's reports without and with the attack by a share of its twenty labelers.

    Args:
        attack: who attacks, and how.
        share: of the panel.
        data: the campaign.
        seed: of the panel.
        honest: the reports without the attack, where they were drawn before.
    """
    n_attackers = round(share * N_LABELERS)
    size = N_LABELERS - n_attackers, n_attackers
    if honest is None:
        honest = panel_reports(data.pairs, *size, attack.persona, None, seed)
    if attack.scheme is not None:
        return honest, np.hstack([honest[:, :-n_attackers], attack.scheme(honest, n_attackers, data.revealed)])
    return honest, panel_reports(data.pairs, *size, attack.persona, attack.strategy, seed)


def split(n_accounts: int, pairs: Pairs, seed: int) -> tuple[FloatArray, FloatArray]:
    """Return the reports with one honest account, and with ``n_accounts`` identical ones that exaggerate."""
    attack, size = ATTACKS["exaggerate"], (N_LABELERS - 1, 1)
    honest = panel_reports(pairs, *size, attack.persona, None, seed)
    lying = panel_reports(pairs, *size, attack.persona, attack.strategy, seed)
    return honest, np.hstack([lying[:, :-1], np.repeat(lying[:, -1:], n_accounts, axis=1)])


# --- rules ----------------------------------------------------------------------------------------------------------


Rule = Callable[[Campaign, FloatArray], FloatArray]


def plain(rule: str, **options: Any) -> Rule:
    """Return a function from a campaign and reports to the final labels of a rule.

    Args:
        rule: a key of ``AGGREGATORS``.
        **options: of the rule, and ``kind`` of labels.
    """

    def labels(data: Campaign, reports: FloatArray) -> FloatArray:
        if fits_all_at_once(rule):  # without what it would have stated of audited pairs: ten more fits
            posteriors: FloatArray = make_aggregator(rule, reports.shape[1]).fit(reports, data.revealed)  # type: ignore[attr-defined]
            return posteriors
        if not options:
            return final(rule, reports, data.revealed)
        return label_campaign(reports, data.revealed, rule, keep_weights=False, **options).soft_labels

    return labels


def online(data: Campaign, reports: FloatArray) -> FloatArray:
    """Return what the online weighted mechanism states of each pair before its outcome is used."""
    return label_campaign(reports, data.revealed, keep_weights=False).stated


def by_topic(data: Campaign, reports: FloatArray) -> FloatArray:
    """Return the final labels of one online weighted mechanism per topic."""
    return label_campaign(reports, data.revealed, topics=data.pairs.topic, keep_weights=False).soft_labels


def one_person(data: Campaign, reports: FloatArray) -> FloatArray:
    """Return the final labels when it is known that all labelers after the first nineteen are one person."""
    n_honest = N_LABELERS - 1
    n_accounts = reports.shape[1] - n_honest
    initial = np.append(np.ones(n_honest), np.full(n_accounts, 1.0 / n_accounts))
    return plain("online_weighted", initial_weights=initial)(data, reports)


PEERS = (
    *("mean", "median", "trimmed_mean", "majority", "gold_vote", "logistic", "dawid_skene", "mace"),
    *("hedge", "linear_weighted"),
)
RULES: dict[str, Rule] = {
    **{name: plain(name) for name in PEERS},
    "examined": plain("examined"),
    "online_weighted, online": online,
    "online_weighted, final": plain("online_weighted"),
    "online_weighted, stacked": lambda data, reports: stacked(reports, data.revealed),
    "online_weighted, recalibrated": plain("online_weighted", kind="recalibrated"),
    "online_weighted, label=median": plain("online_weighted", label="median"),
    "online_weighted, label=quantile": plain("online_weighted", label="quantile"),
    "online_weighted, label=drawn": plain("online_weighted", label="drawn"),
    "online_weighted, per topic": by_topic,
}
SPLIT_RULES = {**RULES, "online_weighted, accounts known": one_person}

# --- measures -------------------------------------------------------------------------------------------------------


def measured(data: Campaign, labels: FloatArray, without: FloatArray) -> dict[str, float]:
    """Return accuracy and gain on the unaudited pairs, from the labels with the attack and ``without`` it."""
    unaudited = np.isnan(data.revealed)
    closer = (without - (1.0 - data.p_truth)) ** 2 - (labels - (1.0 - data.p_truth)) ** 2
    truth = np.where(unaudited, (data.p_truth > 0.5).astype(np.float64), np.nan)
    return {"accuracy": accuracy(labels, truth), "gain": float(closer[unaudited].mean())}


@cache
def rehearsal(strategy: str, n_attackers: int, seed: int) -> tuple[Campaign, FloatArray, FloatArray]:
    """Return a campaign of the adaptive coalition's own, with the reports when it is honest and when it plays."""
    data = campaign(np.random.default_rng(seed))
    size = N_LABELERS - n_attackers, n_attackers
    honest = panel_reports(data.pairs, *size, "expert", None, seed)
    return data, honest, panel_reports(data.pairs, *size, "expert", REHEARSED[strategy], seed)


@cache
def adapted(rule: str, n_attackers: int) -> str:
    """Return the strategy that gains most against a rule in the coalition's rehearsals."""
    labels = RULES[rule]
    without = {seed: labels(*rehearsal("flip", n_attackers, seed)[:2]) for seed in REHEARSALS[: SLOW.get(rule)]}

    def gain(strategy: str) -> float:
        gains = []
        for seed, honest in without.items():
            data, _, lying = rehearsal(strategy, n_attackers, seed)
            gains.append(measured(data, labels(data, lying), honest)["gain"])
        return float(np.mean(gains))

    return max(REHEARSED, key=gain)


def cases(data: Campaign, seed: int) -> Iterator[tuple[str, str, FloatArray, FloatArray, dict[str, Rule]]]:
    """Yield attack, attackers, reports without and with it, and the rules to measure, for one seed."""
    nobody = panel_reports(data.pairs, N_LABELERS, 0, "noisy", None, seed)
    yield "nobody attacks", "0%", nobody, nobody, RULES
    honest: dict[tuple[str, float], FloatArray] = {}  # a posterior costs more than most rules
    for title, attack in ATTACKS.items():
        for share in SHARES:
            reports = attacked(attack, share, data, seed, honest.get((attack.persona, share)))
            honest[attack.persona, share] = reports[0]
            yield title, f"{share:.0%}", *reports, RULES
    for n_accounts in ACCOUNTS:
        yield SPLIT, f"1 as {n_accounts}", *split(n_accounts, data.pairs, seed), SPLIT_RULES
    for share in SHARES:
        played: dict[str, tuple[FloatArray, FloatArray]] = {}
        for rule, labels in RULES.items():
            if seed < SLOW.get(rule, N_SEEDS):
                strategy = adapted(rule, round(share * N_LABELERS))
                if strategy not in played:
                    played[strategy] = attacked(
                        Attack("expert", REHEARSED[strategy]), share, data, seed, honest.get(("expert", share))
                    )
                yield ADAPTIVE, f"{share:.0%}", *played[strategy], {rule: labels}


def one_seed(seed: int) -> Iterator[dict[str, Any]]:
    """Yield a row per attack, number of attackers and rule."""
    data = campaign(np.random.default_rng(seed))
    known: dict[tuple[str, bytes], FloatArray] = {}  # many attacks share a panel, and some rules are slow

    def labels_of(rule: str, labels: Rule, reports: FloatArray) -> FloatArray:
        key = rule, reports.tobytes()
        if key not in known:
            known[key] = labels(data, reports)
        return known[key]

    for attack, attackers, honest, lying, rules in cases(data, seed):
        for rule, labels in rules.items():
            if seed < SLOW.get(rule, N_SEEDS):
                values = measured(data, labels_of(rule, labels, lying), labels_of(rule, labels, honest))
                played = adapted(rule, lying_columns(attackers)) if attack == ADAPTIVE else ""
                yield {"attack": attack, "attackers": attackers, "rule": rule, "played": played, **values}


def lying_columns(attackers: str) -> int:
    """Return the number of attackers that a share such as ``30%`` stands for."""
    return round(float(attackers.rstrip("%")) / 100.0 * N_LABELERS)


def run() -> pd.DataFrame:
    rows = [row for seed in tqdm(range(N_SEEDS), unit="seed") for row in one_seed(seed)]
    groups = pd.DataFrame(rows).groupby(["attack", "attackers", "rule", "played"], sort=False)
    table = pd.DataFrame(index=groups.size().index)
    table["seeds"] = groups.size()
    quantile = student.ppf(0.975, table["seeds"] - 1)
    for measure in ("accuracy", "gain"):
        table[measure] = groups[measure].mean()
        table[f"{measure} +-"] = quantile * groups[measure].sem()
    return table.reset_index()
