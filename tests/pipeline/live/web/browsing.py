"""What tests of the pages share: a campaign, its server, and somebody who fills in forms as a browser does."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import Response

from truthful_rlhf.labelers.pairs import Pairs
from truthful_rlhf.pipeline.live.campaign import Campaign
from truthful_rlhf.pipeline.live.settings import CampaignSettings
from truthful_rlhf.pipeline.live.web import create_app

PEOPLE = ("ann", "bob", "cem")


def some_pairs(n: int, text: str = "") -> Pairs:
    """Return n pairs whose first response is the better one, as its text says."""
    names = [f"p{k}" for k in range(n)]
    return Pairs(
        names,
        [f"question {k} {text}" for k in range(n)],
        [f"good answer {k} {text}" for k in range(n)],
        [f"bad answer {k} {text}" for k in range(n)],
    )


def small_campaign(folder: Path, n: int = 8, text: str = "", **settings: Any) -> Campaign:
    """Begin a campaign of three labelers, an expert and an owner."""
    given = {"audit_rate": 0.5, "max_labelers": 5} | settings
    return Campaign.create(folder, some_pairs(n, text), PEOPLE, CampaignSettings(**given))


class _Fields(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "input" and given.get("name") and given.get("type") in ("hidden", "range"):
            self.found[str(given["name"])] = given.get("value") or ""


def fields_of(html: str, form: str = "judge") -> dict[str, str]:
    """Return the hidden fields and the slider of a form, by name."""
    whole = re.search(rf'<form[^>]*id="{form}".*?</form>', html, flags=re.DOTALL)
    assert whole is not None, html
    fields = _Fields()
    fields.feed(whole.group())
    return fields.found


def every_route(app: FastAPI) -> set[tuple[str, str]]:
    """Return method and path of all routes but the static files."""
    found, waiting = set(), list(app.routes)
    while waiting:
        route: Any = waiting.pop()
        included = getattr(route, "original_router", None)  # how FastAPI keeps the routers that it was given
        waiting += included.routes if included is not None else []
        found |= {(method, route.path) for method in getattr(route, "methods", ()) if method != "HEAD"}
    return found


class Visit:
    """Somebody's browser, without scripts."""

    def __init__(self, campaign: Campaign, name: str | None, docs: bool = False) -> None:
        """Open the personal link of somebody, or come without one, on a server of their own."""
        self.campaign, self.name = campaign, name
        self.client = TestClient(create_app(campaign, docs), raise_server_exceptions=False)
        self.token = next((link.token for link in campaign.links if link.person.id == name), "")
        if name is not None:
            assert self.client.get(f"/join/{self.token}").status_code == 200

    def label(self, right: int = 40, action: str = "report", page: str | None = None, **changes: str) -> Response:
        """Fill in the labeler's page that is open, or a new one, and send it."""
        fields = fields_of(page or self.client.get("/label").text)
        return self.client.post("/label", data={**fields, "right": str(right), "action": action, **changes})

    def check(self, answer: str) -> Response:
        """Fill in the expert's page and send it."""
        return self.client.post("/expert", data={**fields_of(self.client.get("/expert").text), "answer": answer})

    def side_of_good(self) -> int:
        """Return where the slider goes for the better response on the labeler's page: 0 left, 80 right."""
        page = self.client.get("/label").text
        return 0 if page.index("good answer") < page.index("bad answer") else 80
