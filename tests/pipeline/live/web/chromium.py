"""A real server and a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from truthful_rlhf.pipeline.live.campaign import Campaign
from truthful_rlhf.pipeline.live.web import create_app

CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)


def needed() -> Any:
    """Return Playwright, or skip with what is missing."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    return pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")


@contextmanager
def served(campaign: Campaign, docs: bool = False) -> Iterator[str]:
    """Serve a campaign on a free port of loopback; give its address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(create_app(campaign, docs), log_level="warning", access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=20)


@contextmanager
def browser() -> Iterator[Any]:
    """Give a headless Chromium."""
    with needed().sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield running
        finally:
            running.close()


def opened(running: Any, base: str, campaign: Campaign, name: str, **options: Any) -> Any:
    """Open somebody's personal link in a browser window of its own; what goes wrong in it is kept in ``faults``.

    Args:
        running: the browser.
        base: address of the server.
        campaign: which has just begun.
        name: whose link.
        **options: of the window.
    """
    page = running.new_context(**options).new_page()
    page.set_default_timeout(90_000)  # a busy machine
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
    token = next(link.token for link in campaign.links if link.person.id == name)
    page.goto(f"{base}/join/{token}")
    return page
