"""A live campaign under load, and killed at random: `truthful-rlhf campaign serve` as a process of its own.

Two hundred simulated labelers judge ten thousand pairs through the real pages: each sends its form, as the page's
script does, gets the next page for an answer, reads (a pause, so that all of them together would send ``PACE`` reports
a second), and so on; then the same without pauses, and through the JSON API. A report's time is that of the form until
the whole next page is there, which says that the report is on the disk. The labelers share the machine with the server,
and whatever else runs on it slows both: the row ``load before`` says what did. The server's processor time per report
depends on that little; a core that is the server's alone carries a thousand divided by it.

Then the server is killed ``KILLS`` times with SIGKILL while the labelers work, and started again; a labeler whose
answer was not acknowledged sends it again with its key. Counted in the log: acknowledged reports that are missing or
there twice, and reports that nobody sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import psutil

from truthful_rlhf.labelers.pairs import Pairs
from truthful_rlhf.pipeline.live.campaign import Campaign
from truthful_rlhf.pipeline.live.settings import CampaignSettings
from truthful_rlhf.pipeline.live.verify import verify_campaign

ABOUT = "200 labelers on 10,000 pairs: reports a second and their time; 100 SIGKILLs under load (about 15 minutes)"

N_LABELERS, N_PAIRS = 200, 10_000
SECONDS = 45.0
PACE = 120.0
KILLS = 100
ALIVE_SECONDS = (0.2, 2.0)
TARGETS = {"reports a second": ">= 100", "report p95, ms": "< 200"}
_FORM = "application/x-www-form-urlencoded"
_FIELD = re.compile(r'name="(csrf|key|pair|shown)" value="([^"]*)"')


def run() -> pd.DataFrame:
    """Return what was measured, a row each, with the target where there is one."""
    rows = []
    for way, pace in (("pages, with pauses", PACE), ("pages, no pauses", None), ("JSON, no pauses", None)):
        with tempfile.TemporaryDirectory() as folder:
            campaign = begin(Path(folder) / "load", N_PAIRS, N_LABELERS)
            load = os.getloadavg()[0]
            figures = asyncio.run(loaded(campaign, "JSON" in way, pace, SECONDS))
            rows += [
                {"what": f"{way}: {name}", "value": value, "target": target(name, pace)} for name, value in figures
            ]
            rows.append({"what": f"{way}: load before", "value": load, "target": ""})
    with tempfile.TemporaryDirectory() as folder:
        counts = asyncio.run(killed(begin(Path(folder) / "kills", N_PAIRS, N_LABELERS), KILLS, ALIVE_SECONDS))
        rows += [{"what": name, "value": value, "target": goal} for name, value, goal in counts]
    return pd.DataFrame(rows)


def target(name: str, pace: float | None) -> str:
    """Return the target of a figure: throughput without pauses, time at the pace that is asked for."""
    return TARGETS.get(name, "") if (name == "reports a second") == (pace is None) else ""


def begin(folder: Path, n_pairs: int, n_labelers: int) -> Campaign:
    """Begin a campaign with made-up texts of a usual length."""
    text = "The harbour was quiet, and the keeper climbed the stairs once more to look at the lamp. " * 6
    names = [f"pair {k}" for k in range(n_pairs)]
    a, b = ([f"{side} {k}: {text}" for k in range(n_pairs)] for side in ("first", "second"))
    people = [f"labeler {k}" for k in range(n_labelers)]
    settings = CampaignSettings(max_labelers=n_labelers, audit_rate=0.1)
    return Campaign.create(folder, Pairs(names, names, a, b), people, settings)


# ---- the server


@dataclass
class Server:
    """The command `campaign serve` on a port of its own."""

    folder: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        command = [sys.executable, "-m", "truthful_rlhf.pipeline.cli", "campaign", "serve", str(self.folder)]
        self.process = subprocess.Popen([*command, "--port", str(self.port)], stdout=subprocess.DEVNULL)
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended by itself with status {self.process.returncode}")
            await asyncio.sleep(0.05)

    def cpu_seconds(self) -> float:
        """Return the processor time that it has used."""
        used = psutil.Process(self.process.pid).cpu_times() if self.process else (0.0, 0.0)
        return float(used[0] + used[1])

    def kill(self) -> None:
        """End it at once, without a chance to tidy up."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@dataclass
class Connection:
    """One browser's connection: HTTP/1.1, as little of it as it takes, so that the load costs little itself."""

    port: int
    headers: str
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: bytes = b"", kind: str = "") -> tuple[int, str]:
        """Send a request; return status and body, or raise `OSError` if no whole answer comes."""
        try:
            if self.streams is None:
                self.streams = await asyncio.open_connection("127.0.0.1", self.port)
            reader, writer = self.streams
            head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{self.headers}"
            more = f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n" if method == "POST" else ""
            writer.write(f"{head}{more}\r\n".encode() + body)
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            length = next(int(line[15:]) for line in lines if line.lower().startswith("content-length:"))
            return int(lines[0].split()[1]), (await reader.readexactly(length)).decode()
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            raise ConnectionError(str(error)) from error

    def close(self) -> None:
        """Let go of the connection."""
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


# ---- the labelers


@dataclass
class Labeler:
    """A simulated labeler, and what it has seen of the server."""

    name: str
    token: str
    connection: Connection
    sent: dict[str, float] = field(default_factory=dict)
    """Key -> what was reported in the pair shown, P(left is better)."""
    acknowledged: set[str] = field(default_factory=set)
    report_seconds: list[float] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    """Answers that are neither a receipt nor a page, by status."""


def labelers_of(campaign: Campaign, port: int, cookie: str) -> list[Labeler]:
    """Return everybody with a connection that carries the cookie, and the token for programs."""
    found = []
    for link in campaign.links:
        if link.person.role == "labeler":
            headers = f"X-Page: 1\r\nCookie: {cookie}={link.token}\r\nAuthorization: Bearer {link.token}\r\n"
            found.append(Labeler(link.person.id, link.token, Connection(port, headers)))
    return found


async def judges_pages(me: Labeler, rest: Callable[[], Awaitable[None]]) -> None:
    """Judge pairs through the pages until there are none; as the page's script, take the next page as the answer."""
    page = await patient(me, lambda: me.connection.ask("GET", "/label"))
    while 'name="right"' in page:
        await rest()
        fields = dict(_FIELD.findall(page))
        right = random.randrange(81)
        me.sent[fields["key"]] = 1.0 - right / 80
        body = urlencode(fields | {"right": right, "action": "report", "seconds": "3"}).encode()
        start = time.perf_counter()
        page = await patient(me, functools.partial(me.connection.ask, "POST", "/label", body, _FORM))
        me.report_seconds.append(time.perf_counter() - start)
        me.acknowledged.add(fields["key"])


async def judges_json(me: Labeler, rest: Callable[[], Awaitable[None]]) -> None:
    """Judge pairs through the JSON API until there are none."""

    def post(path: str, content: Any) -> Callable[[], Awaitable[tuple[int, str]]]:
        return lambda: me.connection.ask("POST", path, json.dumps(content).encode(), "application/json")

    while (task := json.loads(await patient(me, post("/api/next", {})))) is not None:
        await rest()
        key, left = f"key-{random.getrandbits(96):x}", random.random()
        me.sent[key] = left
        said = {"pair_id": task["pair_id"], "left_is_better": left, "seconds": 3.0, "key": key}
        start = time.perf_counter()
        receipt = json.loads(await patient(me, post("/api/report", said)))
        me.report_seconds.append(time.perf_counter() - start)
        if receipt["accepted"]:
            me.acknowledged.add(key)


async def patient(me: Labeler, ask: Callable[[], Awaitable[tuple[int, str]]]) -> str:
    """Ask until there is an answer, as the page's script does; the key makes a second arrival harmless."""
    while True:
        try:
            status, body = await ask()
        except ConnectionError:  # killed, or a connection that the server had closed because it was idle
            await asyncio.sleep(0.05 + 0.1 * random.random())
            continue
        if status in (200, 303):
            return body
        me.others[str(status)] += 1
        await asyncio.sleep(0.5)


@contextlib.asynccontextmanager
async def at_work(
    campaign: Campaign, by_json: bool, rest: Callable[[], Awaitable[None]]
) -> AsyncIterator[tuple[Server, list[Labeler]]]:
    """Start a server and let everybody judge; they stop where they are when the block ends."""
    from truthful_rlhf.pipeline.live.web.access import cookie_of

    server = Server(campaign.folder)
    await server.start()
    people = labelers_of(campaign, server.port, cookie_of(campaign))
    judges = judges_json if by_json else judges_pages
    tasks = [asyncio.create_task(judges(me, rest)) for me in people]
    try:
        yield server, people
        for task in tasks:
            if task.done() and not task.cancelled():
                task.result()  # raises what went wrong in it
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for me in people:
            me.connection.close()
        server.kill()


# ---- what is measured


async def loaded(campaign: Campaign, by_json: bool, pace: float | None, seconds: float) -> list[tuple[str, float]]:
    """Return the figures of some seconds of work, after a tenth of them to begin with.

    Args:
        campaign: which has just begun.
        by_json: whether labelers use the JSON API, not the pages.
        pace: reports a second that all of them would send if answers took no time; None: no pauses.
        seconds: how long.
    """
    pause = 0.0 if pace is None else len(campaign.links) / pace

    async def rest() -> None:
        if pause:
            await asyncio.sleep(random.expovariate(1.0 / pause))

    async with at_work(campaign, by_json, rest) as (server, people):
        await asyncio.sleep(0.1 * seconds)
        before = server.cpu_seconds()
        for me in people:
            me.report_seconds.clear()
        start = time.perf_counter()
        await asyncio.sleep(seconds)
        took = time.perf_counter() - start
        worked = server.cpu_seconds() - before
        reports = np.concatenate([me.report_seconds for me in people])
    figures = [("reports a second", len(reports) / took)]
    figures.append(("processor time of the server, ms a report", 1000 * worked / max(1, len(reports))))
    figures += [(f"report p{p}, ms", 1000 * float(np.percentile(reports, p))) for p in (50, 95, 99)]
    figures.append(("other answers", float(sum(sum(me.others.values()) for me in people))))
    return figures


async def killed(campaign: Campaign, kills: int, alive: tuple[float, float]) -> list[tuple[str, float, str]]:
    """Kill the server at random while people judge; return what the log says afterwards, with the targets.

    Args:
        campaign: which has just begun.
        kills: how often.
        alive: shortest and longest time from its first answer to the next kill, in seconds.
    """

    async def rest() -> None:
        await asyncio.sleep(random.expovariate(10.0))

    async with at_work(campaign, False, rest) as (server, people):
        for _ in range(kills):
            await asyncio.sleep(random.uniform(*alive))
            server.kill()
            await server.start()
        await asyncio.sleep(2.0)
    return in_the_log(campaign, people, kills)


def in_the_log(campaign: Campaign, people: list[Labeler], kills: int) -> list[tuple[str, float, str]]:
    """Compare what labelers sent and what was acknowledged with what is in the log.

    Args:
        campaign: whose log is read again.
        people: who took part.
        kills: how often the server was killed.
    """
    again = Campaign.open(campaign.folder)
    with again.store.reading() as connection:
        events = [event for event in again.store.events_after(connection, 0) if event.kind == "report"]
    written = Counter(event.key for event in events)
    said = {event.key: event.data["report"] if event.data["a_left"] else 1 - event.data["report"] for event in events}
    stored = {json.dumps([me.name, key]): value for me in people for key, value in me.sent.items()}
    acknowledged = {json.dumps([me.name, key]) for me in people for key in me.acknowledged}
    refused = {event.key for event in _refusals(again)}
    wrong = sum(abs(said[key] - value) > 1e-12 for key, value in stored.items() if key in said)
    return [
        ("SIGKILLs", kills, ""),
        ("acknowledged reports", len(acknowledged), ""),
        ("of them not in the log", len(acknowledged - set(written) - refused), "0"),
        ("in the log twice", sum(count > 1 for count in written.values()), "0"),
        ("in the log with another value", wrong, "0"),
        ("in the log though nobody sent them", len(set(written) - set(stored)), "0"),
        ("campaign verify holds", float(verify_campaign(again).holds), "1"),
    ]


def _refusals(campaign: Campaign) -> list[Any]:
    with campaign.store.reading() as connection:
        return [event for event in campaign.store.events_after(connection, 0) if event.kind.endswith("_refused")]
