"""With which chance a pair was audited: read back by both roads, one value per pair, and refused with the row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.labelers.recorded.test_columnar import by_row, rows
from truthful_rlhf.labelers.recorded import columnar
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.table import Annotations, read_annotations


def with_chances(n: int) -> list[dict[str, Any]]:
    """A table in which every third pair has a chance, on its rows or on one of them only."""
    table = rows(n)
    for row in table:
        t = int(row["pair_id"][1:])
        if t % 3 == 1:
            row |= {"audit_probability": 0.1 + t / 100, "audit_floor": 0.05, "audit_wave": 1 + t % 2}
    return table


def chances(annotations: Annotations) -> dict[str, tuple[float, float, float]]:
    design = annotations.audit_design
    assert design is not None
    columns = zip(design.probability, design.floor, design.wave, strict=True)
    return {pair: values for pair, values in zip(annotations.pair_ids, columns, strict=True) if values[0] == values[0]}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_both_roads_read_the_same_chances(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columnar, "_FEW_ROWS", 0)
    frame, path = pd.DataFrame(with_chances(30)), tmp_path / f"a.{kind}"
    frame.to_parquet(path) if kind == "parquet" else frame.to_csv(path, index=False)
    fast, slow = chances(read_annotations(path)), chances(by_row(path))
    assert fast == slow
    assert fast["p4"] == pytest.approx((0.14, 0.05, 1.0))
    assert len(fast) == 10


def test_columns_may_have_other_names_and_rounds_another_order() -> None:
    table = [{**row, "p": row.pop("audit_probability", None)} for row in with_chances(12)]
    read = chances(read_annotations(table, columns={"audit_probability": "p", "round": "round"}))
    assert read["p4"] == pytest.approx((0.14, 0.05, 1.0))


@pytest.mark.parametrize("format", ["crowdkit", "mtbench"])
def test_tools_with_a_chance_beside_their_own_columns(format: str) -> None:
    record: dict[str, Any] = {"audit_probability": "30%", "outcome": 1}
    if format == "crowdkit":
        record |= {"task": "t", "worker": "w", "label": "A"}
    else:
        record |= {"question_id": 1, "model_a": "x", "model_b": "y", "winner": "model_a", "judge": "j"}
    annotations = read_annotations([record], format=format)
    assert annotations.audit_design is not None
    assert annotations.audit_design.probability.tolist() == [0.3]


def test_no_chance_means_uniform() -> None:
    assert read_annotations(rows(5)).audit_design is None
    assert read_annotations(rows(5)).outcome_weights is None


BAD: list[tuple[dict[str, Any], str]] = [
    ({"audit_probability": 0}, r"row 2: audit_probability: 0 is not a chance in \(0, 1\]"),
    ({"audit_probability": 1.5}, r"not a chance in \(0, 1\]"),
    ({"audit_probability": "often"}, "'often' is not a number"),
    ({"audit_probability": 0.4}, r"audit_probability of pair 'p' is 0.4 here and 0.2 in row 1"),
    (
        {"audit_probability": 0.2, "audit_floor": 0.3},
        "audit_floor of pair 'p' is 0.3, above its audit_probability, 0.2",
    ),
    ({"audit_floor": 0.1}, "audit_probability of pair 'p' is empty"),
    ({"audit_probability": 0.2, "audit_wave": 0.5}, "not the number of a plan"),
]


@pytest.mark.parametrize(("cells", "message"), BAD)
@pytest.mark.parametrize("kind", ["table", "csv"])
def test_bad_chances_are_refused_with_file_row_and_what_to_type(
    cells: dict[str, Any], message: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columnar, "_FEW_ROWS", 0)
    good = {"pair_id": "p", "labeler_id": "a", "report": 1.0, "audit_probability": 0.2, "audit_floor": None}
    table = [good, {**good, "labeler_id": "b", "audit_probability": None, **cells}]
    source: Any = table
    if kind == "csv":
        source = tmp_path / "votes.csv"
        pd.DataFrame(table).to_csv(source, index=False)
    with pytest.raises(AnnotationError, match=message if kind == "table" else "votes.csv: row 2: audit_") as caught:
        read_annotations(source)
    if "not a chance" in message:
        assert "--column audit_probability=COLUMN" in str(caught.value)


def test_weights_are_those_of_the_design() -> None:
    annotations = read_annotations(with_chances(30))
    weights, design = annotations.outcome_weights, annotations.audit_design
    assert weights is not None
    assert design is not None
    np.testing.assert_array_equal(weights, design.estimate_weights(~np.isnan(annotations.outcome)))
    assert np.ptp(weights) > 0.5
