"""The remote judge against a real HTTP server on loopback that fails in the ways servers fail."""

from __future__ import annotations

import logging
import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.labelers.judges.judge_server import Answer, Request, completion, serve
from truthful_rlhf.labelers import LabelerSpec, Pairs, Panel, RemoteJudge, ReportContext
from truthful_rlhf.labelers.judges.replies import parse_letter
from truthful_rlhf.labelers.judges.server import JudgeError
from truthful_rlhf.labelers.judges.usage import Usage

ROOT = Path(__file__).resolve().parents[3]
N = 6
PAIRS = Pairs([f"p{k}" for k in range(N)], ["q"] * N, [f"good{k}" for k in range(N)], [f"bad{k}" for k in range(N)])
KEY = "sk-very-secret-key-0123456789"


def good_first(request: Request) -> bool:
    """Return whether the server was shown a good response in place A."""
    question = request["messages"][-1]["content"]
    return bool(question.index("good") < question.index("bad"))


def fair(request: Request, _: int) -> Answer:
    """Answer as a judge of content with 0.8 for the good response, with log-probabilities."""
    p = 0.8 if good_first(request) else 0.2
    # a letter may be spelled in several ways, and other tokens hold mass too
    return 200, completion("A", {" A": math.log(p / 4), "A": math.log(p / 4), "B": math.log((1 - p) / 2), "The": -0.7})


def voter(request: Request, _: int) -> Answer:
    """Answer for the good response, without log-probabilities."""
    return 200, completion("A." if good_first(request) else "**B**")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "replies.sqlite"


def judge(url: str, cache: Path, **options: Any) -> RemoteJudge:
    return RemoteJudge(url, "m", "You like good.", cache=cache, **{"timeout": 5.0, **options})


def test_log_probabilities_are_normalised_over_the_letters_in_both_orders(cache: Path) -> None:
    with serve(fair) as server:
        remote = judge(server.url, cache)
        np.testing.assert_allclose(remote.belief(PAIRS), np.full(N, 0.8))
    assert len(server.requests) == 2 * N
    assert remote.position_bias_ == pytest.approx(0.0)
    assert remote.usage_.requests == 2 * N
    assert (remote.usage_.prompt_tokens, remote.usage_.completion_tokens) == (20 * N, 2 * N)
    assert server.requests[0]["messages"][0] == {"role": "system", "content": "You like good."}


def test_a_server_that_always_prefers_the_first_place_has_no_opinion(cache: Path) -> None:
    with serve(lambda r, k: (200, completion("A", {"A": -0.1, "B": -3.0}))) as server:
        remote = judge(server.url, cache)
        np.testing.assert_allclose(remote.belief(PAIRS), np.full(N, 0.5))
    assert remote.position_bias_ == pytest.approx(1 / (1 + math.exp(-2.9)) - 0.5)


def test_without_log_probabilities_votes_are_counted(cache: Path) -> None:
    """k = 3 of v = 3 votes for A in one order and 0 of 3 in the other: (3.5/4 + 1 - 0.5/4) / 2 = 0.875."""
    with serve(voter) as server:
        np.testing.assert_allclose(judge(server.url, cache, votes=3, concurrency=1).belief(PAIRS), np.full(N, 0.875))
    asked_for_logprobs = [r for r in server.requests if r.get("logprobs")]
    assert len(asked_for_logprobs) == 1  # it notices and stops asking
    in_json = [r for r in server.requests if "response_format" in r]
    assert len(in_json) == 3  # and it gives JSON three tries
    assert {r["temperature"] for r in server.requests if "seed" in r} == {1.0}
    assert len({r["seed"] for r in server.requests if "seed" in r}) == 3


def test_a_server_that_refuses_log_probabilities_is_asked_for_votes(cache: Path) -> None:
    def refuse(request: Request, number: int) -> Answer:
        if "logprobs" in request:
            return 400, {"error": {"message": "unknown field logprobs"}}
        return voter(request, number)

    with serve(refuse) as server:
        np.testing.assert_allclose(judge(server.url, cache, votes=3).belief(PAIRS), np.full(N, 0.875))


def test_server_errors_are_tried_again(cache: Path) -> None:
    failed: set[str] = set()

    def flaky(request: Request, number: int) -> Answer:
        question = request["messages"][-1]["content"]
        if question not in failed and len(failed) < 3:
            failed.add(question)
            return 500, {"error": {"message": "overloaded"}}
        return fair(request, number)

    with serve(flaky) as server:
        np.testing.assert_allclose(judge(server.url, cache).belief(PAIRS), np.full(N, 0.8))
    assert len(server.requests) == 2 * N + 3


def test_a_time_out_is_tried_again(cache: Path) -> None:
    def slow_once(request: Request, number: int) -> Answer:
        if number == 0:
            time.sleep(1.5)
        return fair(request, number)

    with serve(slow_once) as server:
        np.testing.assert_allclose(judge(server.url, cache, timeout=0.5).belief(PAIRS), np.full(N, 0.8))
    assert len(server.requests) == 2 * N + 1


@pytest.mark.parametrize(
    "body",
    [
        completion(None),
        completion("I would rather not say."),
        {"choices": []},
        {"error": "?"},
        [],
        b"this is not JSON",
        b"",
    ],
    ids=["no-text", "prose", "no-choices", "other-object", "list", "not-json", "empty"],
)
def test_malformed_replies_leave_the_pair_unjudged_and_the_others_judged(cache: Path, body: Any) -> None:
    def broken_for_pair_2(request: Request, number: int) -> Answer:
        return (200, body) if "good2" in request["messages"][-1]["content"] else fair(request, number)

    with serve(broken_for_pair_2) as server:
        remote = judge(server.url, cache)
        expected = np.full(N, 0.8)
        expected[2] = np.nan
        np.testing.assert_allclose(remote.belief(PAIRS), expected)
    assert remote.usage_.unusable == 2  # one in each order
    assert sum(remote.failures_.values()) == 2


def test_a_server_that_never_answers_with_a_letter_is_an_error(cache: Path) -> None:
    with serve(lambda r, k: (200, completion("Apples"))) as server, pytest.raises(JudgeError, match="never answered"):
        judge(server.url, cache, votes=1).belief(PAIRS)


def test_a_killed_run_pays_for_nothing_twice(cache: Path) -> None:
    """The server refuses after five replies; the second run asks for the other seven only, the third for none."""
    credit = 5

    def limited(request: Request, number: int) -> Answer:
        return fair(request, number) if number < credit else (402, {"error": {"message": "no credit"}})

    with serve(limited) as server:
        with pytest.raises(JudgeError, match=r"no credit.*start again to go on"):
            judge(server.url, cache, concurrency=1).belief(PAIRS)
        assert len(server.requests) >= 6
        credit, paid_before = 10**6, len(server.requests)
        second = judge(server.url, cache)
        np.testing.assert_allclose(second.belief(PAIRS), np.full(N, 0.8))
        assert (second.usage_.requests, second.usage_.cached) == (2 * N - 5, 5)
        assert len(server.requests) == paid_before + 2 * N - 5
        third = judge(server.url, cache)
        np.testing.assert_allclose(third.belief(PAIRS), np.full(N, 0.8))
        assert (third.usage_.requests, third.usage_.cached) == (0, 2 * N)
        # negative control: another persona, another question, is not in the cache
        other = RemoteJudge(server.url, "m", "You like bad.", cache=cache)
        other.belief(PAIRS)
        assert other.usage_.cached == 0


KILLED = """
import sys
from pathlib import Path
from truthful_rlhf.labelers import RemoteJudge
from tests.labelers.judges.test_remote import PAIRS

RemoteJudge(sys.argv[1], "m", "You like good.", cache=Path(sys.argv[2]), concurrency=2).belief(PAIRS)
"""


def test_kill_nine_loses_no_reply_that_was_paid_for(cache: Path) -> None:
    """The server kills the client without warning at its seventh request: two are under way, the rest is kept."""
    client: subprocess.Popen[bytes] | None = None

    def kill_at_six(request: Request, number: int) -> Answer:
        if number == 6 and client is not None:
            client.kill()
            client.wait()
        return fair(request, number)

    with serve(kill_at_six) as server:
        client = subprocess.Popen(
            [sys.executable, "-c", KILLED, server.url, str(cache)], cwd=ROOT, stderr=subprocess.DEVNULL
        )
        assert client.wait(timeout=60) == -signal.SIGKILL
        client = None
        second = judge(server.url, cache)
        np.testing.assert_allclose(second.belief(PAIRS), np.full(N, 0.8))
    assert second.usage_.cached >= 4
    assert second.usage_.cached + second.usage_.requests == 2 * N


def test_equal_judges_of_one_entry_do_not_share_their_votes(cache: Path) -> None:
    with serve(voter) as server:
        for seed in (0, 1):
            remote = judge(server.url, cache, votes=3, seed=seed)
            remote.belief(PAIRS)
    assert remote.usage_.requests == 2 * N * 3
    assert remote.usage_.cached == 0


def test_no_more_requests_at_once_than_allowed(cache: Path) -> None:
    def slow(request: Request, number: int) -> Answer:
        time.sleep(0.03)
        return fair(request, number)

    with serve(slow) as server:
        judge(server.url, cache, concurrency=3).belief(PAIRS)
    assert 2 <= server.most_at_once <= 3


def test_the_key_comes_from_the_environment_and_reaches_the_server_only(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither the cache, nor the log, nor an error of a server that echoes the key holds it."""
    monkeypatch.setenv("MY_JUDGE_KEY", KEY)
    caplog.set_level(logging.DEBUG)

    def echo_once_paid(request: Request, number: int) -> Answer:
        if number < 4:
            return fair(request, number)
        return 401, {"error": {"message": f"the key {KEY} has no credit"}}

    with serve(echo_once_paid) as server, pytest.raises(JudgeError) as error:
        judge(server.url, cache, api_key_env="MY_JUDGE_KEY", concurrency=1).belief(PAIRS)
    assert server.authorizations[0] == f"Bearer {KEY}"
    assert "***" in str(error.value)
    assert error.value.__suppress_context__
    shown = str(error.value) + caplog.text + "".join(capfd.readouterr())
    assert KEY not in shown
    for file in cache.parent.iterdir():
        assert KEY.encode() not in file.read_bytes()


def test_a_missing_key_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_JUDGE_KEY", raising=False)
    with pytest.raises(JudgeError, match="environment variable MY_JUDGE_KEY"):
        judge("http://127.0.0.1:9/v1", cache, api_key_env="MY_JUDGE_KEY").belief(PAIRS)


def test_a_server_that_is_not_there_is_named(cache: Path) -> None:
    with pytest.raises(JudgeError, match=r"model 'm' at http://127\.0\.0\.1:9/v1"):
        judge("http://127.0.0.1:9/v1", cache, max_retries=0).belief(PAIRS)


def test_one_line_tells_position_bias_and_usage(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with serve(fair) as server:
        judge(server.url, cache, prices=(1000.0, 0.0)).belief(PAIRS)
    # 12 requests of 10 prompt tokens at 1000 per million cost 0.12
    assert "position bias +0.00; 12 requests (0 more from the cache, 0 unusable replies)" in capfd.readouterr().err


def test_usage_counts_the_cost() -> None:
    """3 million prompt tokens at 0.5 and 1 million completion tokens at 2 cost 3.5."""
    usage = Usage(requests=7, prompt_tokens=3_000_000, completion_tokens=1_000_000, price_in=0.5, price_out=2.0)
    assert usage.cost == pytest.approx(3.5)
    assert "7 requests" in str(usage)
    assert "cost 3.5000" in str(usage)
    assert Usage(price_in=1.0).cost is None


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("A", "A"),
        (" B.", "B"),
        ("(a)", "A"),
        ("**B** is better", "B"),
        ("A: because", "A"),
        ("Answer A", None),
        ("About", None),
        ("", None),
        ("C", None),
        ("Ä", None),
        ("1 B", None),
        ("__import__('os')", None),
    ],
)
def test_an_answer_is_a_letter_of_its_own_at_the_beginning(text: str, letter: str | None) -> None:
    assert parse_letter(text) == letter


def test_a_panel_seats_several_remote_judges(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUTHFUL_RLHF_CACHE", str(cache.parent))
    with serve(voter) as server:
        spec = LabelerSpec(name="llm", count=2, kind="remote_judge", model="m", base_url=server.url, votes=1)
        reports = Panel.from_specs([spec], np.random.default_rng(0)).report(PAIRS, ReportContext(rule="mean"))
    np.testing.assert_allclose(reports, np.full((N, 2), 0.75))
    assert (cache.parent / "judge-replies.sqlite").is_file()
