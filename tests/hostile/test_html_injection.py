"""Reports made of hostile texts, opened in a real browser: no script runs, and the text is there to be read."""

from __future__ import annotations

import functools
import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from tests.hostile.harness import WIDE
from tests.hostile.tables import encoded, good_rows
from truthful_rlhf.pipeline.cli import app
from truthful_rlhf.pipeline.storage.artifacts import checksum

MARK = "document.title='PWNED';document.documentElement.setAttribute('data-pwned','1')"
PAYLOADS = [
    f"<script>{MARK}</script>",
    f'"><img src=x onerror="{MARK}">',
    f'\'><svg onload="{MARK}">',
    f"</pre></td></table></title></style><script>{MARK}</script>",
    f'<a id=go href="javascript:{MARK}">x</a><script>document.getElementById("go").click()</script>',
    f"{{{{ ''.__class__ }}}}{{% raw %}}<script>{MARK}</script>",
    f'<iframe srcdoc="<script>parent.{MARK.replace(";", ";parent.")}</script>"></iframe>',
    f"--><script>{MARK}</script><!--",
    f"]]><script>{MARK}</script>",
]
ALL = " ".join(PAYLOADS)

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@functools.cache
def dom(path: Path) -> str:
    """Return a page as the browser has it after its scripts have run."""
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=1000", "--dump-dom"]
    profile = f"--user-data-dir={path.parent / 'profile'}"
    found = subprocess.run([CHROMIUM, *options, profile, path.as_uri()], capture_output=True, timeout=60, check=True)
    return found.stdout.decode("utf-8", "replace")


def check_page(path: Path) -> None:
    """Check that no script ran, none is in the page, and nothing is loaded from elsewhere."""
    page = dom(path)
    assert 'data-pwned="1"' not in page
    assert "<title>PWNED" not in page
    assert "<script" not in page
    assert not re.search(r"<[a-z][^>]*\son(error|load|click)=", page)
    assert not re.search(r"""<[a-z][^>]*\s(src|href)=["']?(javascript:|https?:|//|file:|x["' >])""", page)


@needs_browser
@pytest.mark.parametrize("payload", [PAYLOADS[0], PAYLOADS[1], PAYLOADS[3]])
def test_the_payloads_run_where_they_are_not_escaped(tmp_path: Path, payload: str) -> None:
    """The negative control: the browser and the check see a script that runs."""
    path = tmp_path / "page.html"
    path.write_text(f"<!doctype html><title>ours</title><body><pre>{payload}</pre>", encoding="utf-8")
    assert 'data-pwned="1"' in dom(path)
    with pytest.raises(AssertionError):
        check_page(path)


def invoke(*arguments: str) -> None:
    result = CliRunner().invoke(app, list(arguments), env=WIDE)
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output


@needs_browser
def test_the_labeler_report(tmp_path: Path) -> None:
    names = [f"{k}{payload}" for k, payload in enumerate(PAYLOADS)]
    rows = good_rows(40, names)
    for row in rows:  # some flip, so that there are findings with names in them
        wrong = names.index(row["labeler_id"]) % 3 == 0
        row["report"] = float(row["outcome"] != wrong)
        row |= {"pair_id": ALL + row["pair_id"], "prompt": ALL, "response_a": ALL + "a", "response_b": ALL + "b"}
        row |= {"topic": ALL, ALL: "of no use"}
    file = tmp_path / "votes<img src=x onerror=alert(1)>.jsonl"
    file.write_bytes(encoded(rows, "jsonl"))
    invoke("aggregate", str(file), "--out", str(tmp_path / "out"), "--topic-column", "topic")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert html.escape("0<script>document.title", quote=False) in page, "the control: the names are in the report"
    check_page(tmp_path / "out" / "report.html")


@needs_browser
def test_the_report_of_a_comparison(tmp_path: Path, tiny_model_folder: Path) -> None:
    """Prompts, personas, topics, sampled texts, the command and the config are hostile."""
    persona = {"like": "noisy", "name": ALL, "about": ALL, "prompt": ALL, "topic_noise": {ALL: 1.0}}
    config = {
        "model": {"name_or_path": str(tiny_model_folder)},
        "prompts": {"source": str(tmp_path / "prompts.jsonl"), "n_train": 4, "n_held_out": 2},
        "sampling": {"max_new_tokens": 2},
        "pairs": {"responses_per_prompt": 2},
        "audit_rate": 0.5,
        "panels": {"hostile": [{"name": "mob", "count": 2, "persona": persona}]},
        "rules": ["mean"],
        "policy": {"method": "dpo"},
        "evaluation": {"n_samples": 2},
    }
    prompts = [{"prompt": f"{k}{payload}", "topic": ALL} for k, payload in enumerate(PAYLOADS)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    path, out = tmp_path / "<svg onload=alert(1)>.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump(config))
    invoke("compare", str(path), "--out", str(out))
    # What the policy wrote is whatever a tiny model writes: make it hostile, as a trained one may be.
    for manifest_path in (out / "stages").rglob("*.json"):
        manifest = json.loads(manifest_path.read_text())
        for name in manifest["outputs"]:
            if name.endswith("samples.parquet"):
                samples = pd.read_parquet(out / name)
                samples.assign(response=ALL).to_parquet(out / name)
                manifest["outputs"][name] = checksum(out / name)
        manifest_path.write_text(json.dumps(manifest))
    invoke("compare", str(path), "--out", str(out))
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count(html.escape("<script>document.title", quote=False)) > 20, "the control: the texts are in it"
    check_page(out / "report.html")


@needs_browser
def test_the_markdown_of_simulate_and_audit(tmp_path: Path) -> None:
    """Markdown viewers pass HTML through: put into a page as it is, the text still runs nothing."""
    panels = json.dumps({"p": [{"name": "x", "persona": {"name": ALL}}, "expert"]})
    game = [f"panels={panels}", "rules=[mean]"]
    invoke("simulate", *game, "rounds=[20, 40]", "seeds=2", "--out", str(tmp_path / "simulate"))
    rows = good_rows(30, [f"{payload}|{k}\n" for k, payload in enumerate(PAYLOADS)])
    file = tmp_path / "votes.jsonl"
    file.write_bytes(encoded(rows, "jsonl"))
    invoke("audit", str(file), "rules=[mean]", "objectives=[taste]", "splits=1", "--out", str(tmp_path / "audit"))
    for name in ("simulate/growth.md", "audit/audit.md"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "document.title" in text, "the control: the names are in it"
        assert len({line.count("|") - line.count("\\|") for line in rows_of(text)}) == 1, "a name breaks its row"
        page = (tmp_path / name).with_suffix(".html")
        page.write_text(f"<!doctype html><title>ours</title><body>{text}", encoding="utf-8")
        check_page(page)


def rows_of(text: str) -> list[str]:
    """Return the rows of the last table of a Markdown text."""
    parts = text.strip().split("\n\n")
    return next(part.splitlines() for part in reversed(parts) if part.startswith("| "))


def test_cells_that_a_spreadsheet_would_run_are_text(tmp_path: Path) -> None:
    rows = good_rows(30, ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)"])
    file = tmp_path / "votes.jsonl"
    file.write_bytes(encoded(rows, "jsonl"))
    invoke("audit", str(file), "rules=[mean]", "objectives=[taste]", "splits=1", "--out", str(tmp_path / "audit"))
    labelers = pd.read_csv(tmp_path / "audit" / "gains.csv", dtype=str)["labeler_id"]
    assert set(labelers) == {"'=HYPERLINK(1)", "'+1", "'-1", "'@SUM(1)"}
