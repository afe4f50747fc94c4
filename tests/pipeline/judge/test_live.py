"""``truthful-rlhf judge --campaign``: LLM judges are labelers of a real campaign's server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.labelers.judges.judge_server import Answer, Request, completion
from tests.labelers.judges.judge_server import serve as serve_judge
from tests.pipeline.judge.test_judge import by_persona, jury
from truthful_rlhf.aggregation.extras import missing_modules
from truthful_rlhf.pipeline.cli import app

if missing := missing_modules("serve"):
    pytest.skip(f"the extra serve is not installed: {', '.join(missing)}", allow_module_level=True)

import uvicorn

from truthful_rlhf.labelers.pairs import Pairs
from truthful_rlhf.pipeline.live.campaign import Campaign, CampaignSettings
from truthful_rlhf.pipeline.live.web import create_app


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRUTHFUL_RLHF_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def campaign() -> Campaign:
    """Eight pairs whose better response is A where the number is even."""
    names, first, second = [f"p{k}" for k in range(8)], [], []
    for k in range(8):
        responses = [f"good{k}", f"bad{k}"]
        first.append(responses[k % 2])
        second.append(responses[1 - k % 2])
    pairs = Pairs(names, [f"q{k}" for k in range(8)], first, second)
    settings = CampaignSettings(reports_per_pair=2, max_labelers=3)
    return Campaign.create("team", pairs, ["good", "contrary", "ann"], settings)


@contextmanager
def served(campaign: Campaign) -> Iterator[str]:
    """Serve a campaign on loopback; give its address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(create_app(campaign), log_level="error"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["judge", *arguments])


def links(campaign: Campaign, base: str) -> str:
    """Write everybody's link as ``campaign init`` prints it."""
    lines = [f"{link.person.id}    {link.person.role} {link.url(base)}\n" for link in campaign.links]
    Path("links.txt").write_text("Links (shown this once):\n" + "".join(lines), encoding="utf-8")
    return "links.txt"


def reports_of(campaign: Campaign) -> dict[str, dict[str, float]]:
    rounds = campaign.state().rounds
    found: dict[str, dict[str, float]] = {}
    for who, t, report in zip(rounds.labeler, rounds.round_of_report, rounds.report, strict=True):
        found.setdefault(rounds.labeler_ids[who], {})[rounds.pair_ids[t]] = report
    return found


def test_two_judges_take_part_and_a_second_run_has_nothing_to_do(campaign: Campaign) -> None:
    with serve_judge(by_persona) as server, served(campaign) as base:
        arguments = ("--panel", jury(server, "good", "contrary"), "--campaign", links(campaign, base))
        result = run(*arguments)
        assert result.exit_code == 0, result.output
        again = run(*arguments)
        assert again.exit_code == 0
    found = reports_of(campaign)
    assert campaign.state().counts.closed == 8
    for pair, report in found["good"].items():
        assert (report > 0.5) == (int(pair[1:]) % 2 == 0)
        assert (found["contrary"][pair] > 0.5) != (report > 0.5)
    assert {name: len(of) for name, of in found.items()} == {"good": 8, "contrary": 8}
    assert "token" not in result.output.lower()
    for link in campaign.links:
        assert link.token not in result.output


def test_one_link_is_one_judge(campaign: Campaign) -> None:
    with serve_judge(by_persona) as server, served(campaign) as base:
        link = campaign.links[0].url(base)
        result = run("--panel", jury(server, "good"), "--campaign", link)
        assert result.exit_code == 0, result.output
        two = run("--panel", jury(server, "good", "contrary"), "--campaign", link)
    assert len(reports_of(campaign)["good"]) == 8
    assert two.exit_code == 2
    assert "one link is one judge's, and the panel seats 2" in two.output


def test_a_judge_that_gives_no_answer_passes_the_pair_over(campaign: Campaign) -> None:
    def at_times(request: Request, number: int) -> Answer:
        if "good3" in request["messages"][-1]["content"]:
            return 200, completion("I would rather not say.")
        return by_persona(request, number)

    with serve_judge(at_times) as server, served(campaign) as base:
        result = run("--panel", jury(server, "good"), "--campaign", campaign.links[0].url(base))
    assert result.exit_code == 0, result.output
    assert (campaign.state().counts.reports, campaign.state().counts.skipped) == (7, 1)


def test_what_is_wrong_with_links_is_said(campaign: Campaign) -> None:
    with serve_judge(by_persona) as server, served(campaign) as base:
        panel = jury(server, "good", "stranger")
        unknown = run("--panel", panel, "--campaign", links(campaign, base))
        panel = jury(server, "good")
        bad_link = run("--panel", panel, "--campaign", f"{base}/join/{'x' * 22}")
        owners = run("--panel", panel, "--campaign", campaign.links[-1].url(base))
        no_link = run("--panel", panel, "--campaign", base)
        neither = run("--panel", panel)
    assert "truthful-rlhf campaign invite DIR stranger" in unknown.output
    for result in (bad_link, owners):
        assert result.exit_code == 1
        assert "does not know this link as a labeler's" in result.output
    assert "a link is written http://HOST/join/TOKEN" in no_link.output
    assert "give either a file of pairs, or --campaign" in neither.output
    assert campaign.state().counts.reports == 0


def test_a_server_that_is_away_for_a_moment(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    with serve_judge(by_persona) as server:
        result = run("--panel", jury(server, "good"), "--campaign", "http://127.0.0.1:9/join/abcdefghij")
    assert result.exit_code == 1
    assert "cannot be reached" in result.output
    assert "the same command goes on from here" in result.output
    assert [round(seconds, 1) for seconds in waited] == [0.2, 0.4, 0.8, 1.6, 3.2]


def test_a_token_is_never_sent_to_where_a_redirect_leads(campaign: Campaign) -> None:
    seen: list[Any] = []

    def elsewhere(request: Request, number: int) -> Answer:
        seen.append(request)
        return 200, {}

    with serve_judge(elsewhere) as thief:

        def redirect(request: Request, number: int) -> Answer:
            return 307, {}, {"Location": f"{thief.url}/api/next"}

        with serve_judge(redirect) as server, serve_judge(by_persona) as judges:
            base = server.url.removesuffix("/v1")
            result = run("--panel", jury(judges, "good"), "--campaign", f"{base}/join/abcdefghij")
    assert "answers 307" in result.output
    assert not seen
    assert not thief.authorizations
