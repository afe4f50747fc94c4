"""``truthful-rlhf judge``: a jury on loopback judges files, is killed, goes on, fails, and is measured."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tests.labelers.judges.judge_server import Answer, JudgeServer, Request, completion, serve
from tests.labelers.judges.test_remote import fair, good_first
from truthful_rlhf.labelers.recorded.table import read_annotations
from truthful_rlhf.pipeline.cli import app
from truthful_rlhf.pipeline.judge.pairs import read_pair_file
from truthful_rlhf.pipeline.judge.summary import advice

N = 40
OUT = "out/reports.jsonl"


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRUTHFUL_RLHF_CACHE", str(tmp_path / "cache"))
    return tmp_path


def pair(k: int, **more: Any) -> dict[str, Any]:
    """Return a pair whose better response is A if k is even."""
    responses = [f"good{k}", f"bad{k}"]
    a, b = responses if k % 2 == 0 else responses[::-1]
    return {"pair_id": f"p{k}", "prompt": f"q{k}", "response_a": a, "response_b": b, **more}


def write(name: str, rows: list[dict[str, Any]]) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


def jury(server: JudgeServer, *entries: str, **options: Any) -> str:
    """Write a jury of judges on one server; the persona tells the server who is asked."""
    more = "".join(f", {key}: {value}" for key, value in options.items())
    lines = [
        f'- {{name: {name}, kind: remote_judge, model: m, base_url: "{server.url}",'
        f' persona: {{prompt: "You are {name}."}}{more}}}\n'
        for name in entries
    ]
    Path("jury.yaml").write_text("".join(lines), encoding="utf-8")
    return "jury.yaml"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["judge", *arguments])


def by_persona(request: Request, number: int) -> Answer:
    """Play a good judge, one that prefers the opposite, and one that names the first place."""
    persona = request["messages"][0]["content"]
    if "first" in persona:
        return 200, completion("A", {"A": -0.05, "B": -3.0})
    right = good_first(request) != ("contrary" in persona)
    return 200, completion("A", {"A": -0.1, "B": -2.4} if right else {"A": -2.4, "B": -0.1})


def test_outcomes_say_whom_to_keep_and_aggregate_reads_the_reports() -> None:
    pairs = write("pairs.jsonl", [pair(k, outcome=(k + 1) % 2) for k in range(N)])
    with serve(by_persona) as server:
        result = run(pairs, "--panel", jury(server, "good", "contrary", "first"), "--out", OUT)
    assert result.exit_code == 0, result.output
    assert "good: keep" in result.output
    assert "contrary: drop: worse than a coin" in result.output
    assert "first: no better than a coin so far" in result.output
    judges = {row["labeler_id"]: row for row in json.loads(Path("out/reports.summary.json").read_text())["judges"]}
    assert [judges[name]["accuracy"] for name in ("good", "contrary", "first")] == [1.0, 0.0, 0.5]
    # s = 1 and n = 40: Wilson's low end is 1 / (1 + z^2 / n)
    assert judges["good"]["accuracy_low"] == pytest.approx(1 / (1 + 1.96**2 / N), abs=1e-4)
    assert judges["first"]["changes_with_order"] == 1.0
    assert judges["first"]["ties"] == N
    assert judges["good"]["position_bias"] == 0.0
    found = read_annotations(OUT)
    assert (found.n_pairs, found.labeler_ids, len(found.report)) == (N, ["good", "contrary", "first"], 3 * N)
    good = found.matrix()[:, 0]
    assert ((good > 0.5) == (found.outcome == 1.0)).all()
    command = re.search(r"truthful-rlhf (aggregate .*)", result.output)
    assert command is not None
    aggregated = CliRunner().invoke(app, command[1].split())
    assert aggregated.exit_code == 0, aggregated.output
    assert Path("out/reports/soft_labels.parquet").is_file()


def test_a_second_run_asks_for_nothing_and_says_the_same() -> None:
    pairs = write("pairs.jsonl", [pair(k) for k in range(N)])
    with serve(by_persona) as server:
        panel = jury(server, "good")
        first = run(pairs, "--panel", panel, "--out", OUT)
        content, asked = Path(OUT).read_bytes(), len(server.requests)
        second = run(pairs, "--panel", panel, "--out", OUT)
        assert (len(server.requests), Path(OUT).read_bytes()) == (asked, content)
        more = write("more.jsonl", [pair(k) for k in range(N + 3)])
        run(more, "--panel", panel, "--out", OUT)
        assert len(server.requests) == asked + 2 * 3
    assert asked == 2 * N
    assert f"{N} of {N} answers are there already" in second.output
    assert "there already" not in first.output
    assert "audit-plan" in first.output


KILLED = "import sys\nfrom truthful_rlhf.pipeline.cli import app\napp(sys.argv[1:])"


def test_kill_nine_loses_no_answer(workplace: Path) -> None:
    """The server kills the command at its 75th request; the journal may end within a line. Nothing is paid twice."""
    root = Path(__file__).resolve().parents[3]
    client: subprocess.Popen[bytes] | None = None

    def kill_late(request: Request, number: int) -> Answer:
        if number == 75 and client is not None:
            client.kill()
            client.wait()
        return fair(request, number)

    pairs = write("pairs.jsonl", [pair(k) for k in range(N)])
    with serve(kill_late) as server:
        arguments = ["judge", pairs, "--panel", jury(server, "good", concurrency=2), "--out", OUT]
        environment = {
            "PYTHONPATH": str(root),
            "PATH": "/usr/bin:/bin",
            "TRUTHFUL_RLHF_CACHE": str(workplace / "cache"),
        }
        client = subprocess.Popen(
            [sys.executable, "-c", KILLED, *arguments], env=environment, stderr=subprocess.DEVNULL
        )
        assert client.wait(timeout=120) == -signal.SIGKILL
        client = None
        journal = Path("out/reports.answers.jsonl")
        assert journal.read_text().count('"report"') == 32  # the first batch
        assert not Path(OUT).exists()
        with journal.open("a") as file:
            file.write('{"labeler_id": "good", "asp')  # as if it had been killed while it wrote
        asked = len(server.requests)
        result = run(*arguments[1:])
        assert result.exit_code == 0, result.output
        assert len(server.requests) - asked <= 2 * N - 73  # two were under way
    assert read_annotations(OUT).n_pairs == N


def test_a_judge_that_stops_leaves_the_others_and_goes_on_later() -> None:
    is_broken = True

    def breaks(request: Request, number: int) -> Answer:
        if is_broken and "weak" in request["messages"][0]["content"]:
            return 402, {"error": {"message": "no credit [red]left"}}
        return fair(request, number)

    pairs = write("pairs.jsonl", [pair(k) for k in range(N)])
    with serve(breaks) as server:
        panel = jury(server, "weak", "good")
        result = run(pairs, "--panel", panel, "--out", OUT)
        assert result.exit_code == 1
        assert "weak stopped:" in result.output
        assert "no credit [red]left" in result.output
        assert read_annotations(OUT).labeler_ids == ["good"]
        is_broken, asked = False, len(server.requests)
        assert run(pairs, "--panel", panel, "--out", OUT).exit_code == 0
        assert len(server.requests) == asked + 2 * N
    assert sorted(read_annotations(OUT).labeler_ids) == ["good", "weak"]


def test_a_pair_without_an_answer_is_an_abstention_with_its_reason() -> None:
    def silent_on_three(request: Request, number: int) -> Answer:
        if "good3" in request["messages"][-1]["content"]:
            return 200, completion("I", {"I": -0.01})
        return fair(request, number)

    pairs = write("pairs.jsonl", [pair(k) for k in range(8)])
    with serve(silent_on_three) as server:
        result = run(pairs, "--panel", jury(server, "good"), "--out", OUT)
    assert result.exit_code == 0, result.output
    assert "abstained most often because the letters A and B have 0% of the probability" in result.output
    found = read_annotations(OUT)
    assert (found.reading.abstained, len(found.report)) == (1, 7)


def test_a_rubric_of_aspects_makes_topics_and_keeps_the_outcome_of_the_whole_apart() -> None:
    pairs = write("pairs.jsonl", [pair(k, outcome=1) for k in range(4)])
    Path("rubric.yaml").write_text("kind: Is it kind?\nshort: Is it short?\n", encoding="utf-8")
    with serve(fair) as server:
        result = run(pairs, "--panel", jury(server, "good"), "--rubric", "rubric.yaml", "--out", OUT)
        told = {request["messages"][0]["content"] for request in server.requests}
    assert result.exit_code == 0, result.output
    assert told == {f"You are good.\n\nJudge by this rubric only:\nIs it {aspect}?" for aspect in ("kind", "short")}
    found = read_annotations(OUT, columns={"topic": "topic"})
    assert found.topic is not None
    assert sorted(found.topic) == ["kind"] * 4 + ["short"] * 4
    assert np.isnan(found.outcome).all()
    assert "--topic-column topic" in result.output


def test_a_text_as_rubric_is_about_the_whole() -> None:
    pairs = write("pairs.jsonl", [pair(k, outcome=1, topic="t") for k in range(4)])
    Path("rubric.txt").write_text("Kindness counts.\n", encoding="utf-8")
    with serve(fair) as server:
        assert run(pairs, "--panel", jury(server, "good"), "--rubric", "rubric.txt", "--out", OUT).exit_code == 0
        assert server.requests[0]["messages"][0]["content"].endswith("rubric only:\nKindness counts.")
    assert {row["topic"] for row in map(json.loads, Path(OUT).read_text().splitlines())} == {"t"}


def test_a_dry_run_counts_and_asks_nothing() -> None:
    pairs = write("pairs.jsonl", [pair(k) for k in range(4)])
    with serve(fair) as server:
        result = run(pairs, "--panel", jury(server, "good", price_in=1, price_out=1), "--out", OUT, "--dry-run")
        assert not server.requests
    assert result.exit_code == 0, result.output
    assert re.search(r"good +logprobs\? +8 ", result.output)
    assert "Together at most 0.00" in result.output
    assert not Path("out").exists()


@pytest.mark.parametrize("change", ["persona", "texts"])
def test_answers_of_another_judge_or_pair_are_not_mixed_in(change: str) -> None:
    rows = [pair(k) for k in range(4)]
    with serve(fair) as server:
        panel = jury(server, "good")
        assert run(write("pairs.jsonl", rows), "--panel", panel, "--out", OUT).exit_code == 0
        # negative control: what only changes the speed may be changed
        assert run("pairs.jsonl", "--panel", jury(server, "good", concurrency=3), "--out", OUT).exit_code == 0
        if change == "persona":
            Path(panel).write_text(Path(panel).read_text().replace("You are good.", "You are bad."))
            wanted = "answers of another judge called 'good'"
        else:
            write("pairs.jsonl", [rows[0], {**rows[1], "response_a": "other"}])
            wanted = "pair 'p1' had other texts"
        asked = len(server.requests)
        result = run("pairs.jsonl", "--panel", panel, "--out", OUT)
        assert len(server.requests) == asked
    assert result.exit_code == 2
    assert wanted in result.output


MAPPED = {"columns": {"prompt": "q", "response_a": "one", "response_b": "two"}}


@pytest.mark.parametrize(
    ("rows", "options", "n", "known"),
    [
        ([pair(0), pair(1)], {}, 2, 0),
        ([pair(0, outcome="B"), pair(1)], {"outcome_votes": {"B": "B"}}, 2, 1),
        ([{"prompt": "q", "response_a": "x", "response_b": "y"}], {}, 1, 0),
        ([{"prompt": "q", "chosen": "x", "rejected": "y"}], {}, 1, 0),
        ([{"q": "q", "one": "x", "two": "y"}], MAPPED, 1, 0),
        ([pair(0, labeler_id=who, report="A", outcome=0) for who in "xy"], {}, 1, 1),
        ([{"model_a": "a", "model_b": "b", "winner": "model_a", "judge": "j", "conversation_a": [
            {"role": "user", "content": "q"}, {"role": "assistant", "content": "x"}], "conversation_b": [
            {"role": "user", "content": "q"}, {"role": "assistant", "content": "y"}], "question_id": 1, "turn": 1}],
         {}, 1, 0),
    ],
    ids=["pairs", "outcomes", "no-ids", "chosen-rejected", "mapped", "annotations", "arena"],
)  # fmt: skip
def test_any_pair_file_is_read(rows: list[dict[str, Any]], options: dict[str, Any], n: int, known: int) -> None:
    found = read_pair_file(write("pairs.jsonl", rows), **options)
    assert (len(found.pairs), int((~np.isnan(found.outcome)).sum())) == (n, known)
    assert found.pairs.prompt[0].startswith("q")
    assert (found.pairs.response_a[0], found.pairs.response_b[0]) in {("x", "y"), ("good0", "bad0")}


@pytest.mark.parametrize(
    ("panel", "wanted"),
    [
        ("- {name: bloc, persona: expert}", "'bloc' is simulated and no LLM judge"),
        ("- {name: j, kind: judge, model: bundled, strategy: flip}", "strategy 'flip'"),
        (
            "panels: {a: [{name: a, kind: judge, model: m}], b: [{name: b, kind: judge, model: m}]}",
            "several panels (a, b)",
        ),
        ("- {name: j, kind: judg}", "did you mean 'judge'"),
    ],
)
def test_a_panel_that_cannot_judge_is_refused_in_one_line(panel: str, wanted: str) -> None:
    Path("jury.yaml").write_text(panel, encoding="utf-8")
    result = run(write("pairs.jsonl", [pair(0)]), "--panel", "jury.yaml", "--out", OUT)
    assert result.exit_code == 2
    assert wanted in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("content", ["", "a: ''", "a: [1]", "[1, 2]", "a: 1\na: 2"])
def test_a_rubric_that_says_nothing_is_refused(content: str) -> None:
    Path("jury.yaml").write_text('- {name: j, kind: remote_judge, model: m, base_url: "http://127.0.0.1:9/v1"}')
    Path("rubric.yaml").write_text(content, encoding="utf-8")
    pairs = write("pairs.jsonl", [pair(0)])
    result = run(pairs, "--panel", "jury.yaml", "--rubric", "rubric.yaml", "--out", OUT)
    assert result.exit_code == 2
    assert "rubric rubric.yaml" in result.output


def test_pairs_without_texts_cannot_be_judged() -> None:
    Path("jury.yaml").write_text('- {name: j, kind: remote_judge, model: m, base_url: "http://127.0.0.1:9/v1"}')
    result = run(write("pairs.jsonl", [{"pair_id": 1, "labeler_id": 1, "report": "A"}]), "--panel", "jury.yaml")
    assert result.exit_code == 2
    assert "a judge reads texts" in result.output


def test_without_outcomes_the_answers_themselves_give_a_judge_away() -> None:
    usual = {"answered": 50, "abstained": 0, "position_bias": 0.1, "mass": 0.9}
    assert advice(usual).startswith("audit")
    assert "place" in advice(usual | {"position_bias": -0.4})
    assert "something else" in advice(usual | {"mass": 0.2})
    assert "fewer than half" in advice(usual | {"abstained": 51})
    assert "never" in advice(usual | {"answered": 0})


def test_the_command_loads_no_torch_for_servers() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from truthful_rlhf.pipeline.cli import app\n"
        "CliRunner().invoke(app, ['judge', 'pairs.jsonl', '--panel', 'jury.yaml', '--out', 'o/r.jsonl'])\n"
        "import pathlib; assert pathlib.Path('o/r.jsonl').is_file()\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    write("pairs.jsonl", [pair(k) for k in range(2)])
    with serve(fair) as server:
        jury(server, "good")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
