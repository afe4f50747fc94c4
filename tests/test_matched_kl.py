"""Gaps at matched KL: read from curves that are known, and swept from a real run of a tiny model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.matched_kl import SCALES, gap_table, main, matched, read_at
from tests.pipeline.experiment.test_grid import compare, write_grid

SWEPT = (0.0, 0.25, 0.5, 0.75, 1.0)


def curve(seed: int, panel: str, rule: str, slope: float, furthest: float) -> pd.DataFrame:
    """Return a policy's curve: a gold reward of 0.1 + slope * sqrt(KL) on three prompts."""
    scales = (0.0,) if rule == "base" else SWEPT[1:]
    rows = [
        {"seed": seed, "panel": panel, "rule": rule, "scale": scale, "kl": furthest * scale**2}
        | {f"gold on prompt {k}": 0.1 + slope * scale * furthest**0.5 for k in range(3)}
        for scale in scales
    ]
    return pd.DataFrame(rows)


def table(slope: float, furthest: float) -> pd.DataFrame:
    """Return the curves of a seed: the truth ends at a KL of 4 with a slope of 0.2, the rule as given."""
    return pd.concat(
        [
            curve(0, "shared", "base", 0.0, 0.0),
            curve(0, "shared", "truth", 0.2, 4.0),
            curve(0, "crowd", "rule", slope, furthest),
        ],
        ignore_index=True,
    )


@given(st.floats(0.05, 0.5), st.floats(0.5, 30.0))
def test_the_gap_compares_slopes_wherever_the_policies_ended(slope: float, furthest: float) -> None:
    truth, rule, base = (values[0].mean() for values in matched(table(slope, furthest))["crowd", "rule"])
    assert (truth - rule) / (truth - base) == pytest.approx(1 - slope / 0.2, abs=1e-9)


def test_a_policy_that_only_moved_less_loses_nothing_at_matched_kl() -> None:
    assert "0.00 [0.00, 0.00]" in gap_table(table(0.2, 1.0))
    assert "0.50 [0.50, 0.50]" in gap_table(table(0.1, 1.0)), "and one that is worse at every KL does"


def test_a_seed_that_lacks_a_condition_is_left_out() -> None:
    whole, other = table(0.1, 1.0), table(0.2, 1.0).assign(seed=1)
    both = pd.concat([whole, other], ignore_index=True)
    assert len(matched(both)["crowd", "rule"][0]) == 2
    assert "2 seeds" in gap_table(both)
    lacking = both[(both["seed"] == 0) | (both["rule"] != "rule")]
    assert len(matched(lacking)["crowd", "rule"][0]) == 1
    assert "0.50 [0.50, 0.50]" in gap_table(lacking)


def test_a_curve_that_turns_back_is_read_where_it_first_comes_there() -> None:
    back = pd.DataFrame({"scale": [0.5, 1.0], "kl": [9.0, 4.0], "gold on prompt 0": [0.6, 1.0]})
    assert read_at(back, np.array([0.0]), 4.0) == pytest.approx([0.4])


def test_the_sweep_begins_at_the_base_policy_and_ends_at_the_trained_one(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    config = write_grid(tmp_path, tiny_model_folder, policy={"method": "dpo", "learning_rate": 3e-2})
    run, csv = compare(config, tmp_path / "run", "seeds=[0]"), tmp_path / "curves.csv"
    main(["sweep", str(config), str(run), str(csv), "seeds=[0]"])
    assert "| bloc |" in capsys.readouterr().out
    rows = pd.read_csv(csv)
    trained = rows[rows["rule"] != "base"]
    assert set(trained["scale"]) == {*SCALES, 1.0}
    kl = trained.pivot_table(index=["panel", "rule"], columns="scale", values="kl")
    assert (kl.diff(axis=1).iloc[:, 1:].mean() > 0).all(), "the further the scale, the further from the base policy"
    assert kl[1.0].to_numpy() == pytest.approx(
        pd.read_csv(run / "results.csv").set_index(["panel", "rule"])["kl"].reindex(kl.index).to_numpy(), rel=1e-3
    )
    with pytest.raises(SystemExit):
        main(["sweep", str(config), str(tmp_path / "elsewhere"), str(tmp_path / "none.csv")])
    assert "no policy of this config was evaluated" in capsys.readouterr().err
    content = csv.read_text(encoding="utf-8")
    main(["sweep", str(config), str(run), str(csv), "seeds=[0]"])
    assert csv.read_text(encoding="utf-8") == content, "what is there is not swept again"
