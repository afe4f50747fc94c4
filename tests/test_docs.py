"""The documentation's site builds without a warning or the network, and what it tells to type is run, small.

Every shell command and Python snippet of a page runs in the page's order, as the README's do (`tests.test_readme`), in
a folder where the bundled model is a tiny one. Parsed only, with its config, is what the README's test runs, what needs
Ray or a GPU, and the second and later grids of a page, which differ from the first in their overrides.
"""

from __future__ import annotations

import contextlib
import html
import io
import re
import shlex
import shutil
import subprocess
import sys
import typing
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
import typer
import yaml
from typer.testing import CliRunner

from tests.test_readme import COMMANDS as README_COMMANDS
from tests.test_readme import README, ROOT, commands, small
from truthful_rlhf import aggregation, labelers, pipeline, reward_model
from truthful_rlhf.pipeline.cli import COMMANDS, app
from truthful_rlhf.pipeline.config.experiment import Config, load_config
from truthful_rlhf.pipeline.config.rule import RuleSection
from truthful_rlhf.pipeline.config.training import PolicySettings, RewardModelSettings

DOCS = ROOT / "docs"
PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
WITH_CODE = [page for page in PAGES if "```" in (DOCS / page).read_text(encoding="utf-8")]
PUBLIC = {
    aggregation: ("AGGREGATORS", "OnlineWeighted", "run_online", "regret"),
    labelers: ("LABELERS", "STRATEGIES", "Panel", "LocalJudge", "RecordedLabeler"),
    reward_model: ("SoftRewardTrainer",),
    pipeline: ("SoftDPOTrainer",),
}
"""The names that users import, by package."""


class Block(NamedTuple):
    """A fenced block of a page; without a language it is what the block before it prints."""

    language: str
    text: str


def blocks_of(page: str) -> list[Block]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)]


# --- the site -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does, with every proxy pointing nowhere."""
    out = tmp_path_factory.mktemp("site")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "NO_MKDOCS_2_WARNING": "1", **nowhere},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    return out


class Assets(HTMLParser):
    """Collect what a page loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the address of a script, a style sheet or an image."""
        address = dict(attrs).get("href" if tag == "link" else "src")
        if tag in ("script", "link", "img", "iframe") and address:
            self.loaded.append(address)


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(PAGES)  # and the page for what is not found
    for page in pages:
        assets = Assets()
        assets.feed(page.read_text(encoding="utf-8"))
        assert assets.loaded
        assert not [address for address in assets.loaded if re.match(r"(https?:)?//", address)], page


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert sorted(re.findall(r"([\w/-]+\.md)\n", text.split("nav:")[1].split("theme:")[0])) == PAGES


@pytest.mark.parametrize("package", PUBLIC, ids=lambda package: package.__name__)
def test_the_reference_has_every_public_name(site: Path, package: Any) -> None:
    name_of_page = package.__name__.removeprefix("truthful_rlhf.") + ".html"
    page = (site / "reference" / name_of_page).read_text(encoding="utf-8")
    for name in PUBLIC[package]:
        assert hasattr(package, name)
        assert f'id="{package.__name__}.{name}"' in page
    for name in (*aggregation.AGGREGATORS, *labelers.STRATEGIES):
        if package in (aggregation, labelers) and name in getattr(package, "AGGREGATORS", labelers.STRATEGIES):
            assert name in page


def test_every_command_and_config_is_listed() -> None:
    page = (DOCS / "reference/command-line.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert f"| `{command.replace('_', '-')} " in page
    for config in (ROOT / "configs").glob("*.yaml"):
        assert f"`{config.stem}`" in page, config


def test_every_config_key_is_listed_with_its_meaning(site: Path) -> None:
    page = html.unescape((site / "reference/configs.html").read_text(encoding="utf-8"))
    sections = [field.annotation for field in Config.model_fields.values() if hasattr(field.annotation, "model_fields")]
    methods = typing.get_args(typing.get_args(PolicySettings)[0])
    assert len(sections) == 6
    assert len(methods) == 5
    models: list[Any] = [
        Config,
        labelers.LabelerSpec,
        RuleSection,
        RewardModelSettings,
        *sections,
        *methods,
    ]
    for model in models:
        for key, field in model.model_fields.items():
            assert f"<code>{key}</code>" in page
            assert (field.description or "") in page


def test_make_docs_is_what_is_tested() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^docs: .*\n\tNO_MKDOCS_2_WARNING=1 .*mkdocs build --strict$", makefile, flags=re.MULTILINE)


def figures(text: str) -> set[str]:
    """Return decimal numbers and percentages of a text, without code and arXiv numbers."""
    prose = re.sub(r"```.*?```|`[^`\n]*`|arXiv\s\d+\.\d+", "", text, flags=re.DOTALL)
    return {re.sub(r"\s", "", number) for number in re.findall(r"\d+\.\d+|\d+ ?%", prose)}


PLANS = ("evidence/plan.md",)
"""What is written before anything is measured: its figures are aims."""
MEASURED = tuple(page for page in PAGES if page.startswith("results"))


@pytest.mark.parametrize("page", [page for page in PAGES if page not in (*PLANS, *MEASURED)])
def test_no_page_has_a_figure_of_its_own(page: str) -> None:
    """What was measured stands in the README or in the results, with its command."""
    measured = figures(README).union(*(figures((DOCS / page).read_text(encoding="utf-8")) for page in MEASURED))
    assert figures((DOCS / page).read_text(encoding="utf-8")) <= measured
    assert not figures("0.1234 and 98.7 %") <= measured


# --- what the pages tell to type ------------------------------------------------------------------------------------


@pytest.fixture
def workplace(tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout to work in, with a tiny bundled model and the reader's own annotations."""
    for name in ("configs", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "smollm2-135m-instruct").symlink_to(tiny_model_folder)
    monkeypatch.setenv("TRUTHFUL_RLHF_CACHE", str(cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    table = pd.read_csv(ROOT / "examples/annotations.csv")
    table = table.rename(columns={"annotator": "labeler_id", "expert_says": "outcome"})
    for name in ("annotations.jsonl", "mine.jsonl"):
        table.to_json(tmp_path / name, orient="records", lines=True)
    (tmp_path / "exports").symlink_to(ROOT / "tests/labelers/recorded/tools")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


OUT_OF_REACH = ("--engine ray", "sampling.engine=vllm", "campaign serve")
"""tests/pipeline/experiment/test_grid.py runs Ray, vLLM wants a GPU, and a server does not end by itself."""
RUN_ELSEWHERE = (*README_COMMANDS, "truthful-rlhf compare configs/quickstart.yaml --out runs/quickstart")
"""The last one is `make quickstart`."""
SMALLER = {"compare": ["seeds=[0]", "rules=[online_weighted]"], "audit": ["strategies=[scale]"]}
NOT_OURS = (
    "make setup",
    "source .venv/bin/activate",
    "accelerate launch",
    "tensorboard --logdir",
)


def parse(arguments: list[str]) -> None:
    """Check the options of a command, and the config that it names with its overrides."""
    group = typer.main.get_command(app)
    context = group.commands[arguments[0]].make_context(arguments[0], arguments[1:])  # type: ignore[attr-defined]
    if arguments[0] in ("compare", "run", "validate"):
        file = context.params.get("annotations")
        changes = [*(context.params["overrides"] or []), *([f"pairs.file={file}"] if file else [])]
        load_config("own_annotations" if file else context.params["config"], changes)


def run(arguments: list[str]) -> str:
    """Run a command of ours, small, and return what it prints."""
    result = CliRunner().invoke(app, [*small(arguments, "bundled"), *SMALLER.get(arguments[0], [])])
    assert result.exit_code == 0, f"{arguments}\n{result.output}"
    return result.output


def printed_by(lines: list[str], seen: list[str]) -> str:
    """Run the commands of a block, or parse them; ``seen`` collects what has been run on the page."""
    output = ""
    for line in lines:
        name, *_ = arguments = shlex.split(line)[1:]
        parse(arguments)
        if line in RUN_ELSEWHERE or any(part in line for part in OUT_OF_REACH) or (name == "compare" and name in seen):
            continue
        seen.append(name)
        output += run(arguments)
    return output


def check_yaml(text: str) -> None:
    """Write a whole config, panel or rubric where the page says; check a section in the quickstart's config."""
    content = yaml.safe_load(text)
    name = re.match(r"# ([\w-]+\.yaml):", text)
    if name is not None:
        Path(name.group(1)).write_text(text, encoding="utf-8")
    else:
        assert not isinstance(content, list)
        assert "rules" not in content
        Config.model_validate(yaml.safe_load(Path("configs/quickstart.yaml").read_text()) | content)


def words(text: str) -> str:
    return " ".join(text.replace("─", " ").split())


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_CODE)
def test_a_page_runs_in_its_order_and_prints_what_it_says(page: str, workplace: Path) -> None:
    scope: dict[str, Any] = {}
    seen: list[str] = []
    output = ""
    for block in blocks_of(page):
        if block.language == "sh":
            lines = [line for line in commands(block.text) if line and not line.startswith(NOT_OURS)]
            ours = [line for line in lines if line.startswith("truthful-rlhf")]
            assert len(ours) + lines.count("make quickstart") == len(lines), lines
            output = printed_by(ours, seen)
        elif block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as stream:
                exec(block.text, scope)
            output = stream.getvalue()
        elif block.language == "yaml":
            check_yaml(block.text)
        elif output:
            assert words(block.text) in words(output)
            output = ""
