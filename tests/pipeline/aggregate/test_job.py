"""The whole job: replay byte for byte, hostile content harmless, and both real files."""

from __future__ import annotations

import html.parser
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.pipeline.aggregate.campaigns import rows_of, votes
from truthful_rlhf.labelers.recorded.table import read_annotations
from truthful_rlhf.pipeline.aggregate.campaign import AggregationSettings, CampaignResult, run_campaign
from truthful_rlhf.pipeline.aggregate.job import aggregate_into
from truthful_rlhf.pipeline.aggregate.measures import Analysis, analyse

DATA = Path(__file__).parents[4] / "shared" / "data"


def campaign_rows(n: int = 150, known: bool = True) -> list[dict[str, Any]]:
    reports, outcomes = votes(n, [0.9, 0.8, 0.7, 0.6], np.random.default_rng(0))
    reports[:, 3] = 1.0 - reports[:, 3]
    return rows_of(reports, outcomes if known else None)


def run(
    out: Path, rows: Any, settings: AggregationSettings | None = None, **reading: Any
) -> tuple[CampaignResult, Analysis]:
    annotations = read_annotations(rows, **reading)
    return aggregate_into(out, annotations, settings or AggregationSettings(), rows, {})


def test_replay_is_byte_identical(tmp_path: Path) -> None:
    source = tmp_path / "votes.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in campaign_rows()))
    for name in ("first", "second"):
        run(tmp_path / name, source, AggregationSettings(audit_rate=0.5))
    files = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert files == [
        "labelers.json",
        "report.html",
        "soft_labels.parquet",
        "trl_preference.parquet",
        "trl_preference_conversational.parquet",
        "weights.parquet",
    ]
    for name in files:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name
    run(tmp_path / "other", source, AggregationSettings(audit_rate=0.5, seed=1))
    assert (tmp_path / "other" / "report.html").read_bytes() != (tmp_path / "first" / "report.html").read_bytes()


class Tags(html.parser.HTMLParser):
    """Collects every tag and attribute of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


ATTACKS = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "$\\frac{x", "a\u202eb\n\x00c"]


def test_hostile_names_and_texts_stay_text(tmp_path: Path) -> None:
    rows = campaign_rows()
    who = {f"l{k:02}": attack for k, attack in enumerate(ATTACKS[:4])}
    for row in rows:
        row["labeler_id"] = who[row["labeler_id"]]
        row["prompt"] += ATTACKS[0] + ATTACKS[4]
        row["pair_id"] += ATTACKS[1]
        row["topic"] = ATTACKS[1]
        row[ATTACKS[1]] = 1  # a column name
    _, analysis = run(tmp_path, rows)
    page = (tmp_path / "report.html").read_text()
    parsed = Tags()
    parsed.feed(page)
    assert not {"script", "iframe", "object", "link", "form"} & parsed.tags
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]
    loaded = [value for name, value in parsed.attributes if name in ("src", "href")]
    assert loaded
    assert all(value.startswith("data:image/png;base64,") for value in loaded), "works offline, leaks nothing"
    assert "&lt;script&gt;" in page
    assert "{{ 7 * 7 }}" in page
    table = pd.read_parquet(tmp_path / "soft_labels.parquet")
    assert table["prompt"][0] == f"prompt 0{ATTACKS[0]}{ATTACKS[4]}", "data sets hold the exact text"
    assert {row["labeler_id"] for row in analysis.labelers} == set(who.values())


def test_the_report_says_what_cannot_be_known(tmp_path: Path) -> None:
    result, analysis = run(tmp_path, campaign_rows(known=False))
    assert result.rule.name == "mean"
    assert analysis.accuracy == []
    page = (tmp_path / "report.html").read_text()
    for text in ("No outcome is known", "dawid_skene", "audit-plan FILE --budget 50", "only who agrees"):
        assert text in page
    assert "Calibration</h2>" not in page
    content = json.loads((tmp_path / "labelers.json").read_text())
    assert all(row["accuracy"] is None and row["n_scored"] == 0 for row in content["labelers"])


def test_labelers_json_has_what_the_page_shows(tmp_path: Path) -> None:
    result, analysis = run(tmp_path, campaign_rows(), AggregationSettings(audit_rate=0.5))
    content = json.loads((tmp_path / "labelers.json").read_text())
    assert content["campaign"]["pairs"] == 150
    assert content["campaign"]["audited_pairs"] == 75
    weights = [row["weight"] for row in content["labelers"]]
    assert weights == sorted(weights, reverse=True)
    assert sum(weights) == pytest.approx(1.0)
    assert content["labelers"][0]["labeler_id"] == "l00"
    assert content["labelers"][-1]["patterns"] == ["flipping"]
    assert [row["name"] for row in content["accuracy"] if row["chosen"]] == ["online_weighted, final"]
    assert {row["n"] for row in content["accuracy"]} == {75}
    page = (tmp_path / "report.html").read_text()
    for flag in analysis.flags:
        assert flag["evidence"] in page
    assert result.annotations.n_labelers == 4


def test_what_was_read_stands_first(tmp_path: Path) -> None:
    rows = campaign_rows(20, known=False)
    for row in rows:
        row["report"] = {0.0: "right", 1.0: "left"}[row["report"]]
    result, _ = run(tmp_path, rows)
    reading = json.loads((tmp_path / "labelers.json").read_text())["reading"]
    assert reading == json.loads(json.dumps(result.annotations.reading.as_dict()))
    assert {value["value"]: value["meaning"] for value in reading["values"]} == {
        "left": "response A better",
        "right": "response B better",
    }
    page = (tmp_path / "report.html").read_text()
    assert page.index("What was read") < page.index("<h2>Soft labels</h2>")
    assert '<td class="text">left</td>' in page


def test_disagreement_beyond_chance_is_said(tmp_path: Path) -> None:
    """Two who always contradict each other; then two who agree."""
    reports = np.array([[t % 2, 1 - t % 2] for t in range(40)], dtype=float)
    _, analysis = run(tmp_path / "a", rows_of(reports))
    assert any("contradict each other more than chance" in warning for warning in analysis.warnings)
    _, analysis = run(tmp_path / "b", rows_of(reports[:, [0, 0]]))
    assert not any("contradict each other" in warning for warning in analysis.warnings)


def test_gains_and_bonuses_are_reported_for_the_mechanism_only() -> None:
    annotations = read_annotations(campaign_rows())
    learned = analyse(run_campaign(annotations, AggregationSettings()))
    flipper = next(row for row in learned.labelers if row["labeler_id"] == "l03")
    assert flipper["gain"] > 0, "someone who states the opposite of what it knows gains by flipping back"
    assert learned.labelers[0]["bonus"] > 0 > flipper["bonus"]
    assert sum(row["bonus"] for row in learned.labelers) == pytest.approx(0.0, abs=1e-9)
    plain = analyse(run_campaign(annotations, AggregationSettings(rule="mean")))
    assert plain.gains_text is None
    assert plain.bonus_text is None


def test_unaudited_pairs_measure_final_labels_and_audited_ones_never_do() -> None:
    annotations = read_annotations(campaign_rows())
    full = analyse(run_campaign(annotations, AggregationSettings()))
    assert [row.name for row in full.accuracy] == ["mean", "majority", "median", "online_weighted, online"]
    assert {row.n for row in full.accuracy} == {150}
    half = analyse(run_campaign(annotations, AggregationSettings(audit_rate=0.4)))
    assert half.accuracy[-1].name == "online_weighted, final"
    assert {row.n for row in half.accuracy} == {90}
    for row in half.accuracy:
        assert row.accuracy_low <= row.accuracy <= row.accuracy_high
        assert row.brier_low <= row.brier <= row.brier_high


@pytest.mark.parametrize(
    ("file", "reading", "n_pairs", "known"),
    [
        ("mtbench_human.jsonl", {"columns": {"topic": "category"}}, 1633, 285),
        ("nyu_debate.jsonl", {"columns": {"round": "time_ms"}, "duplicates": "last"}, 305, 305),
    ],
)
def test_on_healthy_crowds_nothing_is_lost(
    file: str, reading: dict[str, Any], n_pairs: int, known: int, tmp_path: Path
) -> None:
    """Within one point of the mean, online on all known outcomes and final on unaudited ones (mean over ten seeds)."""
    if not DATA.is_dir():
        pytest.skip("../shared/data is not here")
    annotations = read_annotations(DATA / file, **reading)
    _, analysis = aggregate_into(tmp_path, annotations, AggregationSettings(), DATA / file, {})
    rows = {row.name: row for row in analysis.accuracy}
    assert (annotations.n_pairs, rows["mean"].n) == (n_pairs, known)
    assert rows["online_weighted, online"].accuracy >= rows["mean"].accuracy - 0.01
    differences = []
    for seed in range(10):
        result = run_campaign(annotations, AggregationSettings(audit_rate=0.5, seed=seed))
        rest = np.isnan(result.revealed) & ~np.isnan(annotations.outcome)
        mean = run_campaign(annotations, AggregationSettings(rule="mean", audit_rate=0.5, seed=seed))
        y = annotations.outcome[rest]
        hits = [
            np.where(q[rest] == 0.5, 0.5, (q[rest] > 0.5) == (y > 0.5)).mean()
            for q in (result.soft_labels, mean.soft_labels)
        ]
        differences.append(hits[0] - hits[1])
    assert np.mean(differences) >= -0.01
