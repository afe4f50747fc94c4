"""Where the rules hold and where they break: labels, regret and the attackers' gain under every attack.

Panels of twenty: the attackers, one expert, and ordinary annotators (persona ``noisy``); under ``split into accounts``
one attacker, the expert, and eighteen ordinary annotators, whatever the number of accounts. 500 pairs in five topics,
outcomes drawn from the true preference, a tenth audited. Mean and standard error over ten seeds of

- *accuracy*: how often the final labels of unaudited pairs point to the truly better response;
- *regret* against the best labeler of the panel (``aggregation.regret``): of the labels stated online, over all 500
  pairs, audited or not; negative where the rule beats every single labeler;
- *gain*: how far the attack moves the final labels to what the attackers want, the opposite of the true preference:
  the mean of (q' - (1 - p))^2 - (q - (1 - p))^2 over the unaudited pairs on which the attackers' reports are not their
  honest ones, with p the true preference, q the labels under attack and q' those of the same panel, pairs and noise
  when the attackers state their own beliefs instead, each through one account. Positive: the attack pays.

The attackers of ``exaggerate``, ``collude`` and ``split into accounts`` sincerely prefer the opposite (persona
``contrarian``): to be honest is already to push that way. The others see the truth and want it reversed: honest, they
would have been useful, so a rule that merely ignores them from then on still shows a gain. The copiers of an ordinary
labeler and the random reporters save themselves the work: there the gain is mere damage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from truthful_rlhf.aggregation import label_campaign, regret
from truthful_rlhf.aggregation.base import FloatArray
from truthful_rlhf.aggregation.statistics import accuracy
from truthful_rlhf.labelers import LabelerSpec, Pairs, Panel, ReportContext
from truthful_rlhf.reward_model.gold import true_preference

ABOUT = "accuracy, regret and attackers' gain of the rules under attacks by 0 to 60 % of the panel (about 4 minutes)"

N_PAIRS, N_LABELERS, N_SEEDS, AUDIT_RATE, KAPPA = 500, 20, 10, 0.1, 2.0
SHARES = (0.1, 0.3, 0.5, 0.6)
ACCOUNTS = (1, 2, 5, 10)
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
    "know the audited pairs, lie on the rest": Attack("expert", scheme=lie_unless_audited),
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


def attacked(attack: Attack, share: float, data: Campaign, seed: int) -> tuple[FloatArray, FloatArray]:
    """Return the panel's reports without and with the attack by a share of its twenty labelers."""
    n_attackers = round(share * N_LABELERS)
    size = N_LABELERS - n_attackers, n_attackers
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


Rule = Callable[[Campaign, FloatArray], tuple[FloatArray, FloatArray]]


def plain(rule: str, **options: Any) -> Rule:
    """Return a function from a campaign and reports to the rule's labels, online and final."""

    def labels(data: Campaign, reports: FloatArray) -> tuple[FloatArray, FloatArray]:
        labeled = label_campaign(reports, data.revealed, rule, keep_weights=False, **options)
        return labeled.stated, labeled.soft_labels

    return labels


def by_topic(data: Campaign, reports: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the labels of one online weighted mechanism per topic, online and final."""
    assert data.pairs.topic is not None
    labeled = label_campaign(reports, data.revealed, topics=data.pairs.topic, keep_weights=False)
    return labeled.stated, labeled.soft_labels


def one_person(data: Campaign, reports: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the labels when it is known that all labelers after the first nineteen are one person."""
    n_honest = N_LABELERS - 1
    n_accounts = reports.shape[1] - n_honest
    initial = np.append(np.ones(n_honest), np.full(n_accounts, 1.0 / n_accounts))
    return plain("online_weighted", initial_weights=initial)(data, reports)


RULES: dict[str, Rule] = {
    name: plain(name) for name in ("mean", "median", "majority", "dawid_skene", "online_weighted")
}
RULES["online_weighted per_topic"] = by_topic
SPLIT_RULES = {**RULES, "online_weighted, accounts known": one_person}

# --- measures -------------------------------------------------------------------------------------------------------


def measured(
    data: Campaign, lying: FloatArray, stated: FloatArray, final: FloatArray, without: FloatArray, honest: FloatArray
) -> dict[str, float]:
    """Return accuracy, regret and gain of a rule, from its labels ``final`` with the attack and ``without`` it."""
    unaudited = np.isnan(data.revealed)
    lied = (honest != lying[:, :N_LABELERS]).any(axis=1)  # of several accounts, the first stands for all
    closer = (without - (1.0 - data.p_truth)) ** 2 - (final - (1.0 - data.p_truth)) ** 2
    truth = np.where(unaudited, (data.p_truth > 0.5).astype(np.float64), np.nan)
    return {
        "accuracy": accuracy(final, truth),
        "regret": regret(stated, lying, data.outcomes)[-1],
        "gain": closer[unaudited & lied].mean() if lied.any() else 0.0,
    }


def cases(data: Campaign, seed: int) -> Iterator[tuple[str, str, FloatArray, FloatArray, dict[str, Rule]]]:
    """Yield attack, attackers, reports without and with it, and the rules to measure, for one seed."""
    nobody = panel_reports(data.pairs, N_LABELERS, 0, "noisy", None, seed)
    yield "nobody attacks", "0%", nobody, nobody, RULES
    for title, attack in ATTACKS.items():
        for share in SHARES:
            yield title, f"{share:.0%}", *attacked(attack, share, data, seed), RULES
    for n_accounts in ACCOUNTS:
        yield SPLIT, f"1 as {n_accounts}", *split(n_accounts, data.pairs, seed), SPLIT_RULES


def one_seed(seed: int) -> Iterator[dict[str, Any]]:
    """Yield a row per attack, number of attackers and rule."""
    data = campaign(np.random.default_rng(seed))
    without: dict[tuple[str, bytes], FloatArray] = {}  # many attacks share an honest panel, and Dawid-Skene is slow
    for attack, attackers, honest, lying, rules in cases(data, seed):
        for rule, labels in rules.items():
            key = rule, honest.tobytes()
            if key not in without:
                without[key] = labels(data, honest)[1]
            stated, final = labels(data, lying)
            values = measured(data, lying, stated, final, without[key], honest)
            yield {"attack": attack, "attackers": attackers, "rule": rule, **values}


def run() -> pd.DataFrame:
    n_rows = (1 + len(ATTACKS) * len(SHARES)) * len(RULES) + len(ACCOUNTS) * len(SPLIT_RULES)
    rows = []
    with tqdm(total=N_SEEDS * n_rows, unit="row") as progress:
        for seed in range(N_SEEDS):
            for row in one_seed(seed):
                rows.append(row)
                progress.update()
    groups = pd.DataFrame(rows).groupby(["attack", "attackers", "rule"], sort=False)
    table = pd.DataFrame(index=groups.size().index)
    for measure in ("accuracy", "regret", "gain"):
        table[measure] = groups[measure].mean()
        table[f"{measure} s.e."] = groups[measure].sem()
    return table.reset_index()
