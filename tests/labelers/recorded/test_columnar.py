"""The two roads of a plain table, by column and by row, give the same annotations, reading and errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from truthful_rlhf.labelers.recorded import columnar
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.table import Annotations, read_annotations


@pytest.fixture(autouse=True)
def small_tables_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columnar, "_FEW_ROWS", 1)


def by_row(path: Path, **options: Any) -> Annotations:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columnar, "read_parts", lambda *_: None)
        return read_annotations(path, **options)


def outcome_of(read: Callable[..., Annotations], path: Path, **options: Any) -> Any:
    """Everything that a reading gives, or its error."""
    try:
        found = read(path, **options)
    except AnnotationError as error:
        return str(error)
    fields = {f.name: getattr(found, f.name) for f in dataclasses.fields(found) if f.name not in ("texts", "text_row")}
    fields["pair texts"] = found.texts.take(found.text_row).to_pylist()
    return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in fields.items()}


def same(left: Any, right: Any) -> None:
    if isinstance(left, dict) and isinstance(right, dict):
        for key in left:
            if key in ("outcome", "report"):
                np.testing.assert_array_equal(left[key], right[key])
            else:
                assert left[key] == right[key], key
    else:
        assert left == right


def rows(n: int, seed: int = 0, texts: bool = True) -> list[dict[str, Any]]:
    """A table with pairs in both orders, abstentions, outcomes, times, topics and an unused column."""
    rng = np.random.default_rng(seed)
    table = []
    for t in range(n):
        for who in rng.permutation(5)[: rng.integers(1, 5)]:
            a, b = f"first {t}", f"second {t}"
            report = rng.choice([0.2, 0.75, 1.0, None])
            outcome = t % 2 if t % 3 else None
            row = {"pair_id": f"p{t}", "labeler_id": f"w{who}", "report": report, "outcome": outcome}
            row |= {
                "round": int(rng.integers(1000)),
                "topic": "law" if t % 2 else "maths",
                "mood": f"m{rng.integers(3)}",
            }
            if texts:
                row |= {"prompt": f"prompt {t // 2}", "response_a": a, "response_b": b}
                if rng.random() < 0.3:
                    row |= {"response_a": b, "response_b": a, "outcome": None if outcome is None else 1 - outcome}
            table.append(row)
    return table


def write(table: list[dict[str, Any]], path: Path) -> Path:
    frame = pd.DataFrame(table)
    for name in ("outcome", "round"):
        if name in frame:
            frame[name] = frame[name].astype("Int64")
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize("texts", [True, False])
def test_both_roads_give_the_same_table(
    kind: str, texts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(rows(60, texts=texts), tmp_path / f"a.{kind}")
    taken = []
    original = columnar.read_parts
    monkeypatch.setattr(columnar, "read_parts", lambda *a: taken.append(original(*a)) or taken[-1])
    fast = outcome_of(read_annotations, path)
    assert taken[0] is not None, "the fast road was taken"
    assert isinstance(fast, dict)
    same(fast, outcome_of(by_row, path))
    assert fast["reading"].swapped > 0 if texts else fast["reading"].swapped == 0


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_large_texts_are_read_row_by_row(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is packed into a small Parquet file counts unpacked."""
    table = [row | {"response_a": f"{row['response_a']} " + "a" * 200} for row in rows(60, seed=3)]
    table = [row | {"pair_id": f"p{k}", "outcome": None, "topic": "law"} for k, row in enumerate(table)]
    path = write(table, tmp_path / f"a.{kind}")
    taken = []
    original = columnar.read_parts
    monkeypatch.setattr(columnar, "read_parts", lambda *a: taken.append(original(*a)) or taken[-1])
    assert read_annotations(path).n_pairs == len(table)
    monkeypatch.setattr(columnar, "MAX_BYTES_OF_TEXTS", 10_000)
    assert read_annotations(path).n_pairs == len(table)
    assert [parts is None for parts in taken] == [False, True]


SPOILT: list[dict[str, Any]] = [
    {"report": "1.5"},
    {"report": "maybe"},
    {"report": "0,5"},
    {"outcome": "0.7"},
    {"outcome": "B", "pair_id": "p1"},
    {"labeler_id": ""},
    {"labeler_id": "nan"},
    {"prompt": "another"},
    {"topic": "another"},
    {"round": "yesterday"},
    {"report": 'a "quoted" word'},
]


@pytest.mark.parametrize("cells", SPOILT)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_both_roads_give_the_same_errors(cells: dict[str, str], kind: str, tmp_path: Path) -> None:
    table = [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows(20)]
    table[7] |= cells
    path = tmp_path / f"a.{kind}"
    frame = pd.DataFrame(table)
    frame.to_parquet(path) if kind == "parquet" else frame.to_csv(path, index=False)
    fast = outcome_of(read_annotations, path)
    same(fast, outcome_of(by_row, path))
    assert isinstance(fast, str)
    assert path.name in fast


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cells=st.lists(
        st.tuples(
            st.sampled_from(["p", "q", "1", "1.0", "r"]),
            st.sampled_from(["ann", "bob", "1", "1.0"]),
            st.sampled_from(["A", "b", "tie", "", "0.25", "1", "0", "70%", "2", "x", "A>>B", " 0.5"]),
            st.sampled_from(["", "1", "0", "A", "0.5", "tie"]),
        ),
        min_size=1,
        max_size=12,
    ),
    duplicates=st.sampled_from(["error", "last", "mean"]),
    ending=st.sampled_from(["\n", "\r\n", "\n\n"]),
)
def test_any_plain_csv(cells: list[tuple[str, ...]], duplicates: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    lines = ["pair_id,labeler_id,report,outcome", *(",".join(row) for row in cells)]
    path.write_bytes((ending.join(lines) + ending).encode())
    options = {"duplicates": duplicates}
    same(outcome_of(read_annotations, path, **options), outcome_of(by_row, path, **options))


def test_a_wrong_fast_road_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: reports of the wrong side make the comparison fail."""
    path = write(rows(20), tmp_path / "a.csv")
    original = columnar.read_parts

    def turned(*arguments: Any) -> Any:
        parts = original(*arguments)
        return dataclasses.replace(parts, report=1.0 - parts.report)

    monkeypatch.setattr(columnar, "read_parts", turned)
    with pytest.raises(AssertionError):
        same(outcome_of(read_annotations, path), outcome_of(by_row, path))


def test_packed_reports_give_rules_without_memory_the_same_labels() -> None:
    from truthful_rlhf.aggregation import make_aggregator, run_online

    annotations = read_annotations(rows(40))
    unknown = np.full(annotations.n_pairs, np.nan)
    for rule in ("mean", "majority", "median"):
        packed, dense = annotations.packed(), annotations.matrix()
        labels = [run_online(make_aggregator(rule, m.shape[1]), m, unknown).soft_labels for m in (packed, dense)]
        np.testing.assert_allclose(labels[0], labels[1], rtol=0, atol=1e-15)
    chosen = np.array([3, 0])
    np.testing.assert_array_equal(annotations.matrix(labelers=chosen), annotations.matrix()[:, chosen])
