"""Every route with every role; links, cookies, forms of other sites, sizes, rates and headers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from tests.pipeline.live.web.browsing import Visit, every_route, fields_of
from truthful_rlhf.pipeline.live.campaign import Campaign
from truthful_rlhf.pipeline.live.web import create_app
from truthful_rlhf.pipeline.live.web.access import BURST, HEADERS, MOST_BYTES, REQUESTS_PER_SECOND, Limiter, cookie_of

ROLES = {"nobody": None, "labeler": "ann", "expert": "expert", "owner": "owner"}
JUDGE = {"key": "k" * 20, "pair": "x", "shown": "0"}
API_REPORT = {"pair_id": "x", "left_is_better": 0.5, "key": "k" * 20}
ANYBODY = set(ROLES)
PAGES: dict[tuple[str, str], tuple[set[str], dict[str, str] | None]] = {
    ("GET", "/"): ({"labeler", "expert", "owner"}, None),
    ("GET", "/join/{token}"): (set(), None),  # for the token that is tried: nobody's
    ("POST", "/leave"): ({"labeler", "expert", "owner"}, {}),
    ("GET", "/label"): ({"labeler"}, None),
    ("POST", "/label"): ({"labeler"}, JUDGE),
    ("GET", "/expert"): ({"expert"}, None),
    ("POST", "/expert"): ({"expert"}, JUDGE | {"answer": "left"}),
    ("GET", "/owner"): ({"owner"}, None),
    ("GET", "/owner/figures/{name}.png"): ({"owner"}, None),
    ("GET", "/owner/export.zip"): ({"owner"}, None),
    ("POST", "/owner/pause"): ({"owner"}, {"labeler": "bob", "key": "k" * 20}),
    ("GET", "/docs"): (ANYBODY, None),
    ("GET", "/openapi.json"): (ANYBODY, None),
}
"""Route -> who may, by cookie, and the fields of its form beside the code against other sites."""
PROGRAMS: dict[tuple[str, str], tuple[set[str], Any]] = {
    ("POST", "/api/next"): ({"labeler"}, None),
    ("POST", "/api/report"): ({"labeler"}, API_REPORT),
    ("GET", "/metrics"): ({"owner"}, None),
}
"""Route -> who may, by bearer token, and its JSON."""


def address(path: str) -> str:
    return path.replace("{token}", "A" * 22).replace("{name}", "weights")


def csrf_of(visit: Visit) -> str:
    found = re.search(r'name="csrf" value="(\w+)"', visit.client.get("/").text)
    return found.group(1) if found else ""


def test_the_tables_have_every_route(campaign: Campaign) -> None:
    app = create_app(campaign, docs=True)
    assert every_route(app) == {*PAGES, *PROGRAMS}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("method", "path"), PAGES)
def test_pages_by_role(campaign: Campaign, role: str, method: str, path: str) -> None:
    allowed, fields = PAGES[method, path]
    visit = Visit(campaign, ROLES[role], docs=True)
    before = campaign.state().event
    data = None if fields is None else fields | {"csrf": csrf_of(visit)}
    answer = visit.client.request(method, address(path), data=data, follow_redirects=False)
    known = answer.status_code not in (401, 403)
    assert known == (role in allowed), answer.text
    assert answer.status_code < 500
    if not known:
        assert answer.status_code == (401 if role == "nobody" or "join" in path else 403)
        assert campaign.state().event == before
        for secret in ("good answer", "bad answer", "weight", "p0"):
            assert secret not in answer.text


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("method", "path"), PROGRAMS)
def test_programs_by_role(campaign: Campaign, role: str, method: str, path: str) -> None:
    allowed, json = PROGRAMS[method, path]
    visit = Visit(campaign, ROLES[role], docs=True)
    by_cookie = visit.client.request(method, path, json=json)
    assert by_cookie.status_code == 401, "a session that is open in a browser is no way in"
    answer = visit.client.request(method, path, json=json, headers={"Authorization": f"Bearer {visit.token}"})
    assert (answer.status_code == 200) == (role in allowed), answer.text
    if role not in allowed:
        assert answer.status_code == (401 if role == "nobody" else 403)


@pytest.mark.parametrize("path", [path for method, path in PAGES if method == "GET"])
def test_a_page_takes_no_bearer_token(campaign: Campaign, path: str) -> None:
    client = TestClient(create_app(campaign))
    allowed = PAGES["GET", path][0]
    for link in campaign.links:
        answer = client.get(address(path), headers={"Authorization": f"Bearer {link.token}"})
        assert (answer.status_code == 401) == (allowed != ANYBODY)


# ---- links and cookies


def test_a_link_becomes_a_cookie_that_scripts_and_other_sites_cannot_use(campaign: Campaign) -> None:
    client = TestClient(create_app(campaign))
    token = campaign.links[0].token
    answer = client.get(f"/join/{token}", follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/label", "the token is not in the address that stays"
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{cookie_of(campaign)}={token};")
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie
    assert (
        "Secure"
        in TestClient(create_app(campaign), base_url="https://x")
        .get(f"/join/{token}", follow_redirects=False)
        .headers["set-cookie"]
    )


def test_no_page_and_no_log_holds_a_token(campaign: Campaign, caplog: pytest.LogCaptureFixture) -> None:
    tokens = [link.token for link in campaign.links]
    for name in ("ann", "expert", "owner"):
        client = Visit(campaign, name).client
        pages = [client.get(path).text for path in ("/", "/label", "/expert", "/owner")]
        assert not [token for token in tokens for page in (*pages, caplog.text) if token in page]
    folder = campaign.folder
    campaign.close()
    stored = b"".join(path.read_bytes() for path in folder.iterdir())
    assert not [token for token in tokens if token.encode() in stored]


def test_two_campaigns_on_one_machine_do_not_share_a_cookie(campaign: Campaign, tmp_path: Any) -> None:
    from tests.pipeline.live.web.browsing import small_campaign

    assert cookie_of(campaign) != cookie_of(small_campaign(tmp_path / "coffee"))


def test_signing_out_forgets_the_token(campaign: Campaign) -> None:
    visit = Visit(campaign, "ann")
    assert "signed out" in visit.client.post("/leave", data={"csrf": csrf_of(visit)}).text
    assert visit.client.get("/label").status_code == 401


def test_a_renewed_link_ends_the_old_session(campaign: Campaign) -> None:
    visit = Visit(campaign, "ann")
    campaign.invite(["ann"])
    assert visit.client.get("/label").status_code == 401


# ---- forms of other sites, and of other people


@pytest.mark.parametrize("csrf", ["", "0" * 64, "é", "of bob"])
def test_a_form_without_the_visitors_own_code_changes_nothing(campaign: Campaign, csrf: str) -> None:
    visit = Visit(campaign, "ann")
    fields = fields_of(visit.client.get("/label").text)
    if csrf == "of bob":
        csrf = csrf_of(Visit(campaign, "bob"))
    before = campaign.state().event
    answer = visit.client.post("/label", data=fields | {"csrf": csrf, "action": "report"})
    assert answer.status_code == (403 if csrf else 422)
    assert campaign.state().event == before
    assert visit.client.post("/label", data=fields | {"action": "report"}).status_code == 200, "the control"


def test_a_labeler_writes_nothing_in_anothers_name(campaign: Campaign) -> None:
    ann, bob = Visit(campaign, "ann"), Visit(campaign, "bob")
    of_bob = fields_of(bob.client.get("/label").text)
    answer = ann.label(0, labeler="bob", person="bob", labeler_id="bob", key=of_bob["key"])
    assert answer.status_code == 200
    rows = {row.id: row.reports for row in campaign.state().labelers}
    assert rows == {"ann": 1, "bob": 0, "cem": 0}
    assert "Saved" in bob.client.post("/label", data=of_bob | {"action": "report"}).text, "its key was not used up"
    assert {row.id: row.reports for row in campaign.state().labelers}["bob"] == 1


def test_a_pair_that_was_not_given_cannot_be_answered(campaign: Campaign) -> None:
    visit = Visit(campaign, "ann")
    for pair in ("p7", "0" * 24, "🏴", "x" * 2000):
        assert "not on your list" in visit.label(0, pair=pair).text
        assert "not on your list" in visit.label(0, action="skip", pair=pair).text
    assert campaign.state().counts.reports == 0


# ---- sizes, rates, headers


def test_a_body_has_a_limit(campaign: Campaign) -> None:
    visit = Visit(campaign, "ann")
    for path in ("/label", "/api/report", "/nowhere"):
        assert visit.client.post(path, content=b"x" * (MOST_BYTES + 1)).status_code == 413
        assert visit.client.post(path, content=b"x" * MOST_BYTES).status_code != 413

    def chunks() -> Iterator[bytes]:
        for _ in range(MOST_BYTES // 1024 + 1):
            yield b"x" * 1024

    assert visit.client.post("/label", content=chunks()).status_code == 413, "no length is declared"
    assert visit.client.post("/label", headers={"Content-Length": "-1"}).status_code == 413


def test_rates_are_limited_by_person(campaign: Campaign) -> None:
    ann, bob = Visit(campaign, "ann"), Visit(campaign, "bob")
    bob.client = TestClient(ann.client.app, cookies=bob.client.cookies)  # on the same server
    answers = [ann.client.get("/label?note=x") for _ in range(int(1.5 * BURST) + 50)]
    slow = [answer for answer in answers if answer.status_code == 429]
    assert slow
    assert slow[0].headers["retry-after"] == "1"
    assert bob.client.get("/label").status_code == 200


def test_the_limiter_by_hand() -> None:
    now = [0.0]
    limiter = Limiter(lambda: now[0])
    assert sum(limiter.allows("a") for _ in range(200)) == BURST
    assert limiter.allows("b")
    now[0] = 2.0
    assert sum(limiter.allows("a") for _ in range(200)) == 2 * REQUESTS_PER_SECOND
    now[0] = 1e6
    assert sum(limiter.allows("a") for _ in range(200)) == BURST
    for k in range(20_000):  # addresses without end do not fill the memory
        now[0] += 1.0
        limiter.allows(f"address {k}")
    assert len(limiter._left) <= 10_001


@pytest.mark.parametrize("path", ["/", "/label", "/nowhere", "/static/live.js", "/static/../base.html", "/api/next"])
def test_every_answer_has_the_headers(campaign: Campaign, path: str) -> None:
    answer = Visit(campaign, "ann").client.get(path)
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    assert answer.headers.get("cache-control") == (None if path == "/static/live.js" else "no-store")


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere(campaign: Campaign) -> None:
    policy = HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"unsafe|\*|https?:|data:|blob:", policy)
    for name, path in (("ann", "/label"), ("expert", "/expert"), ("owner", "/owner"), (None, "/docs")):
        page = Visit(campaign, name, docs=True).client.get(path).text
        assert not re.search(r"<style|\sstyle=|<script(?! src=\"/static)|\son\w+=", page)
        assert not re.search(r"(src|href|action)=\"(?!/|#)", page)


def test_descriptions_are_off_by_default(campaign: Campaign) -> None:
    client = TestClient(create_app(campaign))
    assert [client.get(path).status_code for path in ("/docs", "/openapi.json", "/redoc")] == [404] * 3
    described = Visit(campaign, None, docs=True).client.get("/docs")
    assert "POST /api/report" in described.text
    assert "left_is_better" in described.text


def test_app_routes_are_found_by_the_helper(campaign: Campaign) -> None:
    """The control of the table: a route that is added is seen."""
    app = create_app(campaign)
    app.router.routes.append(APIRoute("/backdoor", lambda: None, methods=["GET"]))
    assert ("GET", "/backdoor") in every_route(app)
