"""``compare --annotations`` from the command line to the report, on a tiny model, with judges on loopback."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.labelers.judges.judge_server import Answer, JudgeServer, Request, completion, serve
from tests.pipeline.own_data import made_up
from truthful_rlhf.pipeline.cli import app
from truthful_rlhf.pipeline.own_data.judges import Wins

SMALL = ("sampling.max_new_tokens=3", "prompts.n_held_out=2", "policy.epochs=0.5", "policy.learning_rate=0.05")


def by_persona(request: Request, number: int) -> Answer:
    """Play a judge who knows good from bad, and one who prefers the opposite."""
    question = request["messages"][-1]["content"]
    first = question.find("good day") < question.find("bad day") if "good day" in question else len(question) % 2 == 0
    right = first != ("contrary" in request["messages"][0]["content"])
    return 200, completion("A", {"A": -0.1, "B": -2.4} if right else {"A": -2.4, "B": -0.1})


@pytest.fixture(scope="module")
def server() -> Iterator[JudgeServer]:
    with serve(by_persona) as state:
        yield state


def jury(folder: Path, server: JudgeServer, *names: str) -> Path:
    lines = [
        f'- {{name: {name}, kind: remote_judge, model: m, base_url: "{server.url}",'
        f' persona: {{prompt: "Be {name}."}}}}\n'
        for name in names
    ]
    path = folder / f"{'-'.join(names)}.yaml"
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def command(tiny_model_folder: Path, server: JudgeServer, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the arguments of a comparison with judges, but for --out."""
    folder = tmp_path_factory.mktemp("own")
    file = made_up.write(folder / "mine.jsonl", made_up.rows())
    panel = jury(folder, server, "good", "contrary")
    judges = (f"model.name_or_path={tiny_model_folder}", f"judges={{panel: {panel}}}")
    return ["compare", "--annotations", str(file), "--rules", "online_weighted", *SMALL, *judges]


@pytest.fixture(scope="module")
def finished(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compared") / "run"
    result = CliRunner().invoke(app, [*command, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "44 pairs, 4 labelers, 176 reports, 34 known outcomes" in result.output
    assert "What the values were taken to mean" in result.output
    return out


@pytest.mark.slow
def test_the_table_is_what_the_artefacts_say(finished: Path) -> None:
    """The accuracy of every policy, recomputed here from its preferences and the file's verdicts."""
    table = pd.read_csv(finished / "results.csv").set_index("rule")
    likely, longer = "base model, log-likelihood per token", "the longer response"
    assert table.index.tolist() == [likely, longer, "audits", "mean", "online_weighted"]
    verdicts = {row["pair_id"]: row["outcome"] for row in made_up.rows() if "outcome" in row}
    rights = {}
    for rule in ("audits", "mean", "online_weighted"):
        parts = [pd.read_parquet(finished / f"seed-0/fold-{k}/{rule}/dpo/preferences.parquet") for k in range(5)]
        said = pd.concat(parts).set_index("pair_id")["policy"]
        assert sorted(said.index) == sorted(verdicts), "every verdict is held out once"
        y = np.array([verdicts[pair] for pair in said.index])
        rights[rule] = pd.Series((said > 0.5).to_numpy() == (y == 1), said.index)
        assert table.loc[rule, "accuracy"] == pytest.approx(rights[rule].mean())
        chance = np.where(y == 1, said, 1 - said)
        assert table.loc[rule, "log_loss"] == pytest.approx(-np.log(chance).mean())
    ahead = rights["online_weighted"].mean() - rights["mean"].mean()
    assert table.loc["online_weighted", "ahead"] == pytest.approx(ahead)
    assert table.loc["online_weighted", "ahead_low"] <= ahead <= table.loc["online_weighted", "ahead_high"]
    (pair,) = pd.read_csv(finished / "differences.csv").to_dict("records")
    assert (pair["rule"], pair["other"]) == ("mean", "online_weighted")
    assert pair["accuracy"] == pytest.approx(-ahead)
    assert pair["log_loss"] == pytest.approx(table.loc["online_weighted", "log_loss"] - table.loc["mean", "log_loss"])
    assert table["p_value"].notna().tolist() == [False, False, False, False, True]
    assert table["gap"].isna().all()  # ten pairs have no outcome: there is no truth


@pytest.mark.slow
def test_held_out_prompts_train_nothing(finished: Path) -> None:
    prompts = {row["pair_id"]: row["prompt"] for row in made_up.rows()}
    for fold in range(5):
        held_out = pd.read_parquet(finished / f"seed-0/fold-{fold}/mean/dpo/preferences.parquet")["pair_id"]
        trained = pd.read_parquet(finished / f"seed-0/fold-{fold}/mean/soft_labels.parquet")["pair_id"]
        assert not {prompts[pair] for pair in held_out} & {prompts[pair] for pair in trained}
        audits = pd.read_parquet(finished / f"seed-0/fold-{fold}/audits/soft_labels.parquet")
        assert set(audits["soft_label"]) == {1.0}
        assert audits["audited"].all()


@pytest.mark.slow
def test_the_page_says_what_was_shown_and_stands_alone(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert re.search(r"<p><b>(Use |Keep |Nothing was shown)", page)
    assert not re.search(r"""(src|href)=["']?(https?:|//|file:)""", page)
    assert "34 verdicts on" in page
    assert "ann on pair p0" in page  # what was read
    assert (finished / "figures/accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert "policy right" in (finished / "results.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_judges_earn_their_weight_on_the_audited_pairs(finished: Path) -> None:
    found = json.loads((finished / "judges/judges.json").read_text())
    good, contrary = found["judges"]
    assert (good["advice"], good["accuracy"], good["weight"]) == ("keep", 1.0, 1.0)
    assert (contrary["advice"], contrary["weight"]) == ("drop: worse than a coin", 0.0)
    assert found["jury"]["pairs"] == made_up.N_VERDICTS
    wins = pd.read_parquet(finished / "judges/wins.parquet")
    assert set(zip(wins["rule"], wins["against"], strict=True)) == {
        *(("audits", "base"), ("mean", "base"), ("online_weighted", "base")),
        *(("audits", "mean"), ("online_weighted", "mean")),
    }
    table = pd.read_csv(finished / "results.csv").set_index("rule")
    own = wins[(wins["rule"] == "mean") & (wins["against"] == "base")]["win"]
    assert len(own) == 5 * 2
    assert table.loc["mean", "wins_base"] == pytest.approx(own.mean())
    (pair,) = pd.read_csv(finished / "differences.csv").to_dict("records")
    ours = wins[(wins["rule"] == "online_weighted") & (wins["against"] == "mean")]["win"]
    assert pair["wins"] == pytest.approx(1 - ours.mean()), "mean's against online_weighted: the other side of the same"
    assert pair["wins_low"] <= pair["wins"] <= pair["wins_high"]


def test_a_win_rate_is_the_same_read_from_either_side() -> None:
    rows = [("b", "a", f"p{k}", float(k < 30)) for k in range(40)] + [("c", "a", "p0", 0.5)]
    table = pd.DataFrame(rows, columns=["rule", "against", "prompt", "win"]).assign(method="dpo")
    wins = Wins((), None, table)
    forward, backward = wins.between("b", "a", "dpo"), wins.between("a", "b", "dpo")
    assert forward is not None
    assert backward is not None
    assert (forward.mean, backward.mean) == (0.75, 0.25)
    assert (backward.low, backward.high) == pytest.approx((1 - forward.high, 1 - forward.low), abs=0.05)
    assert wins.between("b", "c", "dpo") is None
    assert wins.between("b", "a", "ppo") is None


@pytest.mark.slow
def test_a_second_start_builds_and_asks_nothing(finished: Path, command: list[str], server: JudgeServer) -> None:
    asked = len(server.requests)
    result = CliRunner().invoke(app, [*command, "--out", str(finished)])
    assert result.exit_code == 0
    assert "▶" not in result.output
    assert len(server.requests) == asked


@pytest.mark.slow
def test_ray_gives_the_same_numbers_and_goes_on_from_the_loop(
    finished: Path, command: list[str], server: JudgeServer, tmp_path: Path
) -> None:
    """Ray runs three folds of five that a copy of the loop's run folder lacks, and asks no judge again."""
    pytest.importorskip("ray")
    out = shutil.copytree(finished, tmp_path / "run")
    for part in ("seed-0", "stages/seed-0"):
        for fold in (1, 3, 4):
            shutil.rmtree(out / part / f"fold-{fold}")
    (out / "results.csv").unlink()
    asked = len(server.requests)
    result = CliRunner().invoke(app, [*command, "--engine", "ray", "--cpus-per-cell", "1", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert len(server.requests) == asked
    compared = [*finished.glob("seed-0/*/*/*/*.parquet"), *finished.glob("seed-0/*/*/*/evaluation.json")]
    assert len(compared) == 5 * 3 * 3, "preferences, samples and measures of three rules"
    for path in [*compared, finished / "results.csv"]:
        assert (out / path.relative_to(finished)).read_bytes() == path.read_bytes(), path


@pytest.mark.slow
def test_no_judge_that_is_worth_asking(finished: Path, command: list[str], server: JudgeServer, tmp_path: Path) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "run"))
    others = [part for part in command if not part.startswith("judges=")]
    asked = len(server.requests)
    panel = jury(tmp_path, server, "contrary")
    result = CliRunner().invoke(app, [*others, f"judges={{panel: {panel}}}", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert len(server.requests) == asked, "it has said what it thinks of the audited pairs, and is asked nothing else"
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "No judge that is worth asking" in page
    assert "wins against base" not in page


def invoke(tmp_path: Path, rows: list[dict[str, object]], *more: str) -> str:
    file = made_up.write(tmp_path / "mine.jsonl", rows)
    result = CliRunner().invoke(app, ["compare", "--annotations", str(file), *more, "--out", str(tmp_path / "run")])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.output


def test_a_file_that_cannot_show_30_points_is_refused_with_the_number_that_would_do(tmp_path: Path) -> None:
    output = invoke(tmp_path, made_up.rows(n_verdicts=26))
    assert "26 known outcomes cannot show a difference of 30 points" in output
    assert "27 would do (1 more), 60 show 20 points" in output
    assert "audit-plan FILE --budget 1" in output
    assert not (tmp_path / "run" / "seed-0").exists()


def test_verdicts_on_too_few_prompts_are_refused(tmp_path: Path) -> None:
    rows = [row | {"prompt": f"prompt {int(str(row['pair_id'])[1:]) % 4}"} for row in made_up.rows()]
    assert "4 groups of prompts" in invoke(tmp_path, rows)


def test_pairs_without_texts_are_refused(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k not in ("prompt", "response_a", "response_b")} for row in made_up.rows()]
    assert "needs prompt, response_a and response_b" in invoke(tmp_path, rows)


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        (["--rules", "truth"], "is added where outcomes allow it"),
        (["--rules", "meen"], "mean"),
        (["policy={method: online_dpo}"], "online_dpo needs labelers who can judge new pairs"),
        (["prompts.n_train=5"], "the prompts are those of pairs.file"),
        (["judges={panel: nowhere.yaml}"], "nowhere.yaml"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(more: list[str], wanted: str, tmp_path: Path) -> None:
    assert wanted in invoke(tmp_path, made_up.rows(), *more)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [([], "compare --annotations mine.jsonl"), (["quickstart", "--vote", "1=A"], "say how to read --annotations")],
)
def test_a_comparison_of_nothing_is_refused(arguments: list[str], wanted: str) -> None:
    result = CliRunner().invoke(app, ["compare", *arguments])
    assert result.exit_code == 2
    assert wanted in result.output


def test_validate_says_what_would_run_and_run_has_no_single_policy(tiny_model_folder: Path, tmp_path: Path) -> None:
    file = made_up.write(tmp_path / "mine.jsonl", made_up.rows())
    changes = [f"pairs.file={file}", f"model.name_or_path={tiny_model_folder}"]
    result = CliRunner().invoke(app, ["validate", "own_annotations", *changes])
    assert result.exit_code == 0, result.output
    assert "1 seed(s) x 5 folds" in result.output
    assert "mean, logistic, online_weighted" in result.output
    result = CliRunner().invoke(app, ["run", "own_annotations", *changes, "--out", str(tmp_path / "run")])
    assert result.exit_code == 2
    assert "truthful-rlhf compare own_annotations" in result.output
