"""Random tables, configs and arrays: valid ones are accepted, spoilt ones are accepted or refused by a named error."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile.harness import Sandbox
from tests.rules import make_aggregator
from truthful_rlhf.aggregation import AGGREGATORS, final_labels, run_online
from truthful_rlhf.labelers.panel import Panel
from truthful_rlhf.labelers.recorded.codes import VOTES
from truthful_rlhf.labelers.recorded.errors import AnnotationError
from truthful_rlhf.labelers.recorded.table import read_annotations
from truthful_rlhf.pipeline.aggregate import aggregate_table
from truthful_rlhf.pipeline.config.experiment import Config, load_config
from truthful_rlhf.pipeline.config.game import SimulateConfig
from truthful_rlhf.pipeline.config.loading import ConfigError, load_section

QUICK = settings(
    deadline=None,
    derandomize=True,
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
MANY = settings(QUICK, max_examples=100)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.binary(max_size=4), st.dates()),
    st.sampled_from(["nan", "inf", "-0", "1e999", "\ud800", "", " ", "../x", "<script>", 10**400, "A", "tie"]),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)

REPORT_VALUES = st.floats(0, 1) | st.sampled_from([word for word, value in VOTES.items() if value == value]) | st.none()
OUTCOME_VALUES = st.sampled_from([0, 1, "A", "b", None, "", 0.5, True])


@st.composite
def tables(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw a valid annotation table: a sparse panel, any texts, the responses in either order."""
    labelers = draw(st.lists(TEXTS.filter(bool), min_size=1, max_size=3, unique=True))
    rows: list[dict[str, Any]] = []
    for pair in range(draw(st.integers(1, 3))):
        prompt, a, b = draw(TEXTS), f"first {pair}", f"second {pair}"
        outcome, topic = draw(OUTCOME_VALUES), draw(st.sampled_from([None, "law", "maths"]))
        for labeler in draw(st.lists(st.sampled_from(labelers), min_size=1, unique=True)):
            texts = {"prompt": prompt, "response_a": a, "response_b": b}
            report = {"labeler_id": labeler, "report": draw(REPORT_VALUES), "outcome": outcome, "topic": topic}
            rows.append({"pair_id": f"p{pair}", **texts, **report})
    rows[0]["report"] = 0.25  # somebody has to say something
    return rows


def check_labels(rows: Any, **options: Any) -> None:
    result = aggregate_table(rows, **options)
    labels = result.soft_labels["soft_label"].to_numpy()
    assert ((labels >= 0.5) & (labels <= 1.0)).all()
    assert result.weights["weight"].sum() == pytest.approx(1.0)


@QUICK
@given(
    rows=tables(), rule=st.sampled_from(["mean", "median", "online_weighted", "hedge", "examined", "dawid_skene", None])
)
def test_valid_tables_give_labels(rows: list[dict[str, Any]], rule: str | None) -> None:
    check_labels(rows, rule=rule)


@MANY
@given(rows=tables(), data=st.data())
def test_spoilt_tables_give_labels_or_a_named_error(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    columns = [*rows[0], "round"]
    for _ in range(data.draw(st.integers(1, 2))):
        row = data.draw(st.sampled_from([row for row in rows if isinstance(row, dict)]))
        kind = data.draw(st.sampled_from(["replace", "replace", "replace", "drop", "add", "repeat", "foreign"]))
        if kind == "replace":
            row[data.draw(st.sampled_from(columns))] = data.draw(ANYTHING)
        elif kind == "drop" and row:
            del row[data.draw(st.sampled_from(sorted(row, key=str)))]
        elif kind == "add":
            row[data.draw(TEXTS)] = data.draw(ANYTHING)
        elif kind == "repeat":
            rows.append(dict(row))
        else:
            rows.insert(data.draw(st.integers(0, len(rows))), data.draw(ANYTHING))
    with suppress(AnnotationError):
        check_labels(rows)


@QUICK
@given(content=st.binary(max_size=60), kind=st.sampled_from(["jsonl", "json", "csv", "tsv", "parquet"]))
def test_random_bytes_are_no_table(sandbox: Sandbox, content: bytes, kind: str) -> None:
    head = {"json": b"[", "parquet": b"PAR1"}.get(kind, b"")
    with pytest.raises(AnnotationError, match=rf"a\.{kind}"):
        read_annotations(sandbox.write(f"a.{kind}", head + content))


NUMBERS = st.floats() | st.sampled_from([0.0, 1.0, 0.5, np.nextafter(1.0, 2.0), -0.0, 5e-324])


@QUICK
@given(data=st.data(), name=st.sampled_from(list(AGGREGATORS)))
def test_arrays_give_labels_or_a_value_error(data: st.DataObject, name: str) -> None:
    n_rounds, n_labelers = data.draw(st.integers(0, 6)), data.draw(st.integers(1, 4))
    size = n_rounds * n_labelers
    reports = np.array(data.draw(st.lists(NUMBERS, min_size=size, max_size=size))).reshape(n_rounds, n_labelers)
    outcomes = np.array(
        data.draw(st.lists(st.sampled_from([0.0, 1.0, np.nan, 0.5]), min_size=n_rounds, max_size=n_rounds))
    )
    valid = not ((reports < 0) | (reports > 1)).any() and not (outcomes == 0.5).any()
    aggregator = make_aggregator(name, n_labelers)
    if not valid:
        with pytest.raises(ValueError, match=r"round \d"):
            run_online(aggregator, reports, outcomes)
        return
    run = run_online(aggregator, reports, outcomes)
    final = final_labels(aggregator, reports, outcomes)
    for labels in (run.soft_labels, final):
        assert labels.shape == (n_rounds,)
        assert ((labels >= 0.0) & (labels <= 1.0)).all()
    assert aggregator.weights_.sum() == pytest.approx(1.0)


RULES = st.sampled_from(
    ["mean", "median", {"name": "online_weighted", "options": {"eta": 0.3}}, {"name": "mean", "called": "m"}]
)
STRATEGIES = st.sampled_from(["truthful", "flip", {"name": "exaggerate", "scale": 2}, {"name": "constant", "value": 1}])
ENTRIES = st.fixed_dictionaries(
    {"name": st.from_regex(r"[A-Za-z0-9_.-]{1,8}", fullmatch=True), "persona": st.sampled_from(["expert", "noisy"])},
    optional={"count": st.integers(1, 3), "strategy": STRATEGIES},
)
RUNS = st.fixed_dictionaries(
    {
        "panels": st.dictionaries(
            st.from_regex(r"[a-z]{1,5}", fullmatch=True).filter(lambda name: name != "shared"),
            st.lists(ENTRIES, min_size=1, max_size=2, unique_by=lambda entry: entry["name"].split("-")[0]),
            min_size=1,
            max_size=2,
        ),
        "rules": st.lists(RULES, min_size=1, max_size=3, unique_by=str),
        "policy": st.fixed_dictionaries({"method": st.just("dpo")}, optional={"beta": st.floats(0.01, 1)}),
    },
    optional={
        "seeds": st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True),
        "audit_rate": st.floats(0, 1),
        "gold": st.fixed_dictionaries({"kappa": st.floats(0.1, 10)}),
    },
)
GAMES = st.fixed_dictionaries(
    {
        "rules": st.lists(st.sampled_from(["mean", "hedge"]), min_size=1, unique=True),
        "panels": st.just(["honest"]) | st.dictionaries(st.sampled_from("pq"), st.just(["expert"]), min_size=1),
        "rounds": st.lists(st.integers(1, 1000), min_size=1, max_size=3),
    }
)


@QUICK
@given(content=RUNS)
def test_valid_configs_are_accepted(sandbox: Sandbox, content: dict[str, Any]) -> None:
    config = load_config(str(sandbox.write("c.yaml", yaml.safe_dump(content))))
    for specs in config.panels.values():
        assert Panel.from_specs(specs, np.random.default_rng(0)).labeler_ids


def spoil(data: st.DataObject, content: Any) -> None:
    """Replace, drop or add something at a random place of a config."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    walk(content)
    node, key = data.draw(st.sampled_from(places))
    kind = data.draw(st.sampled_from(["replace", "replace", "drop", "add"]))
    if kind == "replace":
        node[key] = data.draw(ANYTHING)
    elif kind == "drop":
        del node[key]
    elif isinstance(node, dict):
        node[data.draw(st.text(max_size=5) | st.sampled_from(["options", "called", "kind", "strategy", "loss"]))] = (
            data.draw(ANYTHING)
        )
    else:
        node.append(data.draw(ANYTHING))


@MANY
@given(content=st.one_of(RUNS, GAMES), data=st.data())
def test_spoilt_configs_are_valid_or_a_config_error(
    sandbox: Sandbox, content: dict[str, Any], data: st.DataObject
) -> None:
    schema: Any = SimulateConfig if "rounds" in content else Config
    content = copy.deepcopy(content)
    spoil(data, content)
    text = yaml.safe_dump(content, allow_unicode=True).encode("utf-8", "surrogatepass")
    with suppress(ConfigError):
        load_section(str(sandbox.write("c.yaml", text)), [], schema)


@QUICK
@given(override=st.text(max_size=30) | st.builds("{}={}".format, st.sampled_from(["rules", "seeds"]), TEXTS))
def test_random_overrides_are_valid_or_a_config_error(sandbox: Sandbox, override: str) -> None:
    path = sandbox.write("c.yaml", "{panels: {a: [noisy]}, rules: [mean], policy: {method: dpo}}")
    with suppress(ConfigError):
        load_config(str(path), [override])
