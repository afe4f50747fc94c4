"""``truthful-rlhf campaign``: the verbs, what they print, and what they refuse."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner, Result

from tests.pipeline.live.campaigns import audit_all, judge_all
from truthful_rlhf.pipeline.cli import app
from truthful_rlhf.pipeline.live.campaign import Campaign
from truthful_rlhf.pipeline.live.settings import CampaignError, Person, read_people

NAMES = ["ann", "bob", "cem"]


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("people.csv").write_text("name,role\nann,\nbob,labeler\ncem,\ndr lee,expert\n", encoding="utf-8")
    pairs("pairs.jsonl", range(12))
    return tmp_path


def pairs(name: str, numbers: range | list[int]) -> None:
    rows = [{"pair_id": f"p{k}", "prompt": f"q{k}", "response_a": f"a{k}", "response_b": f"b{k}"} for k in numbers]
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["campaign", *arguments])
    assert result.exit_code == code, result.output
    return result


def init(*more: str, code: int = 0) -> Result:
    return run("init", "team", "--pairs", "pairs.jsonl", "--labelers", "people.csv", *more, code=code)


def test_from_init_to_export_and_verify() -> None:
    begun = init("--audit-rate", "0.5", "--option", "label=median", "--url", "https://label.example.org/")
    links = re.findall(r"^(.+?)\s+(labeler|expert|owner)\s+https://label.example.org/join/(\S+)$", begun.output, re.M)
    assert [(name, role) for name, role, _ in links] == [
        ("ann", "labeler"),
        ("bob", "labeler"),
        ("cem", "labeler"),
        ("dr lee", "expert"),
        ("owner", "owner"),
    ]
    campaign = Campaign.open("team")
    assert [campaign.role(token) for _, _, token in links] == campaign.people()
    assert campaign.settings.options == {"label": "median"}
    judge_all(campaign, NAMES, most=20)
    assert run("add-pairs", "team", "pairs.jsonl", code=2).output.count("row 1: pair 'p0' stands in the campaign") == 1
    pairs("more.jsonl", range(12, 15))
    assert "3 pairs added, 15 in all." in run("add-pairs", "team", "more.jsonl").output
    joined = run("invite", "team", "dee", "ann", "--url", "http://h")
    assert re.findall(r"^(\w+)\s+labeler\s+http://h/join/\S+$", joined.output, re.M) == ["dee", "ann"]
    judge_all(campaign, [*NAMES, "dee"], seed=1)
    status = run("status", "team").output
    assert re.search(r"reports +45 +of 45; 0 skipped", status)
    for name in [*NAMES, "dee"]:
        assert re.search(rf"{name} +0\.\d\d\d +\d+ +0 +\d+", status)
    run("export", "team", "--out", "out", "--resample", "2")
    assert len(pd.read_parquet("out/soft_labels.parquet")) == 15
    assert "none of them changed" in run("verify", "team", "--log", "out/log.jsonl").output


def test_a_tampered_log_fails_to_verify() -> None:
    init()
    campaign = Campaign.open("team")
    judge_all(campaign, NAMES, most=5)
    with campaign.store.writing() as connection:
        connection.exec_driver_sql("UPDATE events SET person = 'bob' WHERE kind = 'report'")
    assert "was changed" in run("verify", "team", code=1).output


def test_known_outcomes_and_topics() -> None:
    rows = [
        {"pair_id": f"p{k}", "prompt": "q", "response_a": "a", "response_b": f"{k}", "subject": f"t{k % 2}"}
        for k in range(6)
    ]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    Path("gold.csv").write_text("pair_id,outcome\np1,A\np2,0\np3,\n", encoding="utf-8")
    init("--known-outcomes", "gold.csv", "--per-topic", "--topic-column", "subject")
    campaign = Campaign.open("team")
    assert campaign.state().counts.known == 2
    judge_all(campaign, NAMES)
    rounds = campaign.state().rounds
    assert dict(zip(rounds.pair_ids, rounds.outcome.tolist(), strict=True))["p1"] == 1.0
    assert rounds.topic == [f"t{int(pair[1:]) % 2}" for pair in rounds.pair_ids]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rule", "online_wieghted"], "did you mean 'online_weighted'"),
        (["--option", "etta=0.3"], "did you mean 'eta'"),
        (["--option", "secret=x"], "the secret is the campaign's own"),
        (["--audit-rate", "1.5"], "audit_rate: Input should be less than or equal to 1"),
        (["--stop-at", "0.4"], "stop_at: Input should be greater than 0.5"),
        (["--max-labelers", "2"], "3 labelers, but the campaign's steps are fixed for 2"),
        (["--per-topic"], "weights per topic need a topic for every pair"),
        (["--labels", "stacked", "--rule", "mean"], "labels: stacked is a step from the weights of online_weighted"),
        (["--database", "postgres//x"], "the database's URL is not understood"),
        (["--known-outcomes", "pairs.jsonl"], "pairs.jsonl: row 1: no column 'outcome'"),
    ],
)
def test_what_init_refuses_before_anything_is_written(arguments: list[str], said: str) -> None:
    result = init(*arguments, code=2)
    assert said in " ".join(result.output.split())
    assert not Path("team").exists()


def test_a_pair_that_stands_twice_in_a_file_is_refused_by_its_row() -> None:
    pairs("pairs.jsonl", [0, 1, 2, 1])
    assert "pairs.jsonl: row 4: pair 'p1' stands in row 2 already" in init(code=2).output
    assert not Path("team").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "nobody is in it"),
        ("name,role\nann,boss\n", r"row 2: unknown role 'boss'"),
        ("ann\nbob\nann\n", r"row 3: the name 'ann' stands twice"),
        ("name\nann\n\x07\n", r"row 3: the name .* not printable"),
    ],
)
def test_a_bad_list_of_people_is_refused_by_its_row(text: str, said: str) -> None:
    Path("people.csv").write_text(text, encoding="utf-8")
    with pytest.raises(CampaignError, match=said):
        read_people(Path("people.csv"))


def test_lists_of_people() -> None:
    Path("people.csv").write_text("\ufeffLabeler_ID,Role\nann,\ndr lee,Expert\n", encoding="utf-8")
    assert read_people(Path("people.csv")) == [Person("ann", "labeler"), Person("dr lee", "expert")]
    Path("people.csv").write_text("ann\n\nbob\n", encoding="utf-8")
    assert read_people(Path("people.csv")) == [Person("ann", "labeler"), Person("bob", "labeler")]


def test_settings_are_written_with_what_they_are() -> None:
    init("--stop-at", "0.9")
    content = yaml.safe_load(Path("team/campaign.yaml").read_text())
    assert (content["stop_at"], content["rule"], content["max_labelers"]) == (0.9, "online_weighted", 50)


def test_help_says_what_stop_at_costs() -> None:
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", run("init", "--help").output).split())
    assert "so that the proof for the expected next weight does not hold" in text


def test_every_verb_has_help_with_an_example() -> None:
    for verb in ("init", "serve", "status", "add-pairs", "invite", "export", "verify"):
        assert f"truthful-rlhf campaign {verb}" in run(verb, "--help").output


def test_without_the_extra_the_line_to_type_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    assert "campaign needs sqlalchemy, which is not installed: pip install" in run("status", "team", code=2).output


def test_a_folder_without_a_campaign_is_named() -> None:
    assert "is no campaign: it has no campaign.yaml" in run("status", "nowhere", code=2).output


def test_an_export_at_any_moment() -> None:
    init("--audit-rate", "1")
    campaign = Campaign.open("team")
    assert "nobody has reported anything yet" in run("export", "team", "--out", "out", code=2).output
    judge_all(campaign, NAMES, most=7)
    run("export", "team", "--out", "out")
    first = pd.read_parquet("out/soft_labels.parquet")
    judge_all(campaign, NAMES, seed=1)
    with pytest.raises(CampaignError, match="no expert called 'expert'"):
        audit_all(campaign)
    run("export", "team", "--out", "out")
    assert len(pd.read_parquet("out/soft_labels.parquet")) == 12 > len(first)
