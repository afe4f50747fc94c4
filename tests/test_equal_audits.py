"""The table of equal audits and that of the leak alarm: measures by hand, and one small run of each."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks import equal_audits, leak_alarm
from truthful_rlhf.aggregation import AGGREGATORS


def test_losses_by_hand() -> None:
    """A miss counts 1, one half and no label count 1/2; chances end at .01 and .99."""
    misses, log_losses = equal_audits.losses(
        np.array([0.8, 0.2, 0.5, np.nan, 1.0]), np.array([1.0, 1.0, 0.0, 1.0, 0.0])
    )
    assert misses.tolist() == [0.0, 1.0, 0.5, 0.5, 1.0]
    np.testing.assert_allclose(np.exp(-log_losses), [0.8, 0.2, 0.5, 0.5, 0.01])


def test_holm_by_hand() -> None:
    """.01 <= .05 / 4, .015 <= .05 / 3, .03 > .05 / 2: the third ends it, though .04 <= .05."""
    assert equal_audits.holm(np.array([0.03, 0.01, 0.04, 0.015])).tolist() == [False, True, False, True]


def test_verdicts() -> None:
    assert [equal_audits.verdict(*case, 0.01) for case in ((0.0, 0.01), (0.01, 0.02), (0.011, 0.02))] == [
        "met",
        "not shown",
        "missed",
    ]


@pytest.mark.parametrize("shared", [False, True])
def test_resamples_spread_like_the_mean_of_draws_and_pairs(shared: bool) -> None:
    """Pure noise per pair: 20 draws of 50 pairs count 1000, or, if the pairs recur with the same noise, 50."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(1 if shared else 20, 50))
    tables = [noise[0 if shared else d][:, None] for d in range(20)]
    pairs = [np.arange(50) + (0 if shared else 50 * d) for d in range(20)]
    means, samples = equal_audits.resampled(tables, pairs, rng)
    assert means[0] == pytest.approx(noise.mean())
    expected = noise.std() / np.sqrt(noise.size)
    assert samples[:, 0].std() == pytest.approx(expected, rel=0.4 if not shared else 0.15)  # 20 draws know it to 16 %


def test_draws_are_audited_exactly_and_sides_are_exchanged() -> None:
    draw = equal_audits.simulated("biased_majority", 144, 0)
    assert [int(draw.audited(rate).sum()) for rate in equal_audits.RATES] == [7, 14, 29]
    assert (draw.audited(0.05) <= draw.audited(0.2)).all()
    others = [equal_audits.simulated("biased_majority", 500, seed) for seed in range(3)]
    assert abs(np.mean([d.reports.mean() for d in others]) - 0.5) < 0.03  # the bias favours neither A nor B


def test_a_row_per_cell_and_method(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = [equal_audits.simulated("biased_majority", 144, seed) for seed in range(3)]
    monkeypatch.setattr(equal_audits, "crowds", lambda: iter([("biased_majority", 144, draws)]))
    monkeypatch.setattr(equal_audits, "RATES", (0.2,))
    monkeypatch.setattr(equal_audits, "SLOW", {"dawid_skene": 1, "glad": 0, "mace": 0})
    few = {name: function for name, function in equal_audits.methods().items() if name not in ("glad", "mace")}
    assert {name.split(",")[0] for name in equal_audits.methods()} == set(AGGREGATORS)
    monkeypatch.setattr(equal_audits, "methods", lambda: few)
    table = equal_audits.run()
    assert table["rule, label"].tolist() == list(few)
    ours = table.set_index("rule, label").loc[equal_audits.OURS]
    assert ours[["accuracy: loss", "log loss: loss", "log loss: bound"]].tolist() == [0.0, 0.0, 0.0]
    rows = table[table["draws"] == 3].set_index("rule, label")  # Dawid-Skene is compared on fewer
    np.testing.assert_allclose(rows["accuracy: loss"], rows["accuracy"] - ours["accuracy"], atol=1e-9)
    np.testing.assert_allclose(rows["log loss: loss"], ours["log loss"] - rows["log loss"], atol=1e-9)
    cells = equal_audits.targets(table)
    assert len(cells) == 1
    assert set(cells["accuracy: target"]) <= {"met", "not shown", "missed"}


def test_the_leak_alarms_table_has_a_row_per_case(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"N_LEAKED": 2, "N_HONEST": 3, "N_HONEST_FEW": 3, "N_LABELLED": 2}.items():
        monkeypatch.setattr(leak_alarm, name, value)
    monkeypatch.setattr(leak_alarm, "PANELS", ((10, 1.0),))
    monkeypatch.setattr(leak_alarm, "LABELS", ("mean", "online_weighted"))
    table: pd.DataFrame = leak_alarm.run()
    assert len(table) == 8
    assert table["heard"].iloc[0] == 1.0
    assert table["mean"].iloc[0] < 0.85  # three of ten state the opposite
    assert table["online_weighted"].notna().tolist() == [True, False, True, *[False] * 5]
