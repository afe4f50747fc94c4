"""Labelers as processes, killed at any moment, that write down what they sent and what came back."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from truthful_rlhf.pipeline.live.campaign import Campaign

_WORK_BYTES = 800
_FORK = multiprocessing.get_context("fork")


def _judge_forever(folder: Path, name: str, notes: Path, seed: int) -> None:
    """Judge until killed; an unanswered request is sent again first, with its key."""
    rng, campaign = np.random.default_rng(seed), Campaign.open(folder)
    with open(notes, "ab", buffering=0) as file:
        for request in unanswered(notes):
            receipt = campaign.report(*request)
            file.write(json.dumps(["answered", request[-1], receipt.accepted]).encode() + b"\n")
        number = 0
        while True:
            task = campaign.next_task(name)
            if task is None:
                time.sleep(0.01)
                continue
            number += 1
            request = [name, task.pair_id, float(rng.integers(0, 5)) / 4, 1.0, f"{seed} {number}"]
            file.write(json.dumps(["sent", *request]).encode() + b"\n")
            receipt = campaign.report(*request)
            file.write(json.dumps(["answered", request[-1], receipt.accepted]).encode() + b"\n")


def notes_of(path: Path) -> tuple[dict[str, list[Any]], dict[str, bool]]:
    """Return key -> what was sent, and key -> whether it was acknowledged as accepted."""
    sent, answered = {}, {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            kind, *rest = json.loads(line)
        except ValueError:
            continue  # killed while it wrote that down: it was not sent
        if kind == "sent":
            sent[rest[-1]] = rest
        else:
            answered[rest[0]] = rest[1]
    return sent, answered


def unanswered(path: Path) -> list[list[Any]]:
    sent, answered = notes_of(path)
    return [request for key, request in sent.items() if key not in answered]


def kill_and_start_again(folder: Path, people: tuple[str, ...], notes: Path, kills: int, seed: int = 0) -> int:
    """Have everybody judge in a process, and kill a random one again and again; return how many were killed."""
    rng = np.random.default_rng(seed)
    running: dict[str, Any] = {}
    starts = 0
    for _ in range(kills):
        for name in people:
            if name not in running:
                starts += 1
                arguments = (folder, name, notes / name, 1000 * (seed + 1) + starts)
                running[name] = _FORK.Process(target=_judge_forever, args=arguments, daemon=True)
                running[name].start()
        _wait_for_work(notes, people)
        time.sleep(float(rng.uniform(0.0, 0.1)))
        victim = running.pop(str(rng.choice(people)))
        os.kill(victim.pid, signal.SIGKILL)
        victim.join()
        assert victim.exitcode == -signal.SIGKILL  # it had not ended by itself
    for process in running.values():
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    return kills


def _wait_for_work(notes: Path, people: tuple[str, ...]) -> None:
    """Wait until a few requests were sent and answered since the last kill."""

    def written() -> int:
        return sum((notes / name).stat().st_size for name in people if (notes / name).exists())

    wanted, give_up = written() + _WORK_BYTES, time.monotonic() + 60.0
    while written() < wanted and time.monotonic() < give_up:
        time.sleep(0.01)


def check_nothing_lost(campaign: Campaign, people: tuple[str, ...], notes: Path) -> int:
    """Assert that every acknowledged report is in the log once, and none that was not sent; return their number."""
    with campaign.store.reading() as connection:
        events = campaign.store.events_after(connection, 0)
    found: dict[tuple[str, str], Any] = {}
    for event in events:
        if event.kind in ("report", "report_refused"):
            name, key = json.loads(str(event.key))
            assert (name, key) not in found
            found[name, key] = event
    n = 0
    for name in people:
        sent, answered = notes_of(notes / name)
        for key, accepted in answered.items():
            assert (name, key) in found, f"{name} {key} was acknowledged and is lost"
            assert (found[name, key].kind == "report") == accepted
            n += 1
        for _, key in (both for both in found if both[0] == name):
            event = found[name, key]
            assert key in sent, f"{name} {key} was never sent"
            _, pair, value, _, _ = sent[key]
            assert event.pair_id == pair
            assert event.data["report"] == (value if event.data["a_left"] else 1.0 - value)
    return n
