"""The server against its own OpenAPI description, with requests that schemathesis makes up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi import Response
from hypothesis import HealthCheck, Phase, given, settings

from tests.pipeline.live.web.browsing import small_campaign
from truthful_rlhf.pipeline.live.verify import verify_campaign
from truthful_rlhf.pipeline.live.web import create_app
from truthful_rlhf.pipeline.live.web.access import Limiter, cookie_of

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

REPRODUCIBLE = settings(
    max_examples=15,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("role", ["nobody", "labeler", "expert", "owner"])
def test_made_up_requests_find_no_fault(tmp_path: Path, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server error, no status, type or body that the description does not have; and the log stays whole."""
    monkeypatch.setattr(Limiter, "allows", lambda self, sender: True)
    campaign = small_campaign(tmp_path / "tea")
    app = create_app(campaign, docs=True)
    token = next((link.token for link in campaign.links if link.person.role == role), "")
    headers = {"Cookie": f"{cookie_of(campaign)}={token}", "Authorization": f"Bearer {token}"} if token else {}
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    seen = set()
    for result in schema.get_all_operations():
        operation = result.ok()
        seen.add(operation.label)

        @REPRODUCIBLE
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            case.call_and_validate(headers=headers)

        check()
    assert {"POST /api/report", "POST /label", "GET /owner"} <= seen
    assert verify_campaign(campaign).holds


def test_the_check_sees_an_answer_that_is_not_described(tmp_path: Path) -> None:
    """The control: a route that says it answers with a number and does not."""
    app = create_app(small_campaign(tmp_path / "tea"), docs=True)
    app.get("/number", response_model=None, responses={200: {"content": {"application/json": {}}}})(
        lambda: Response("x")
    )
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    with pytest.raises(schemathesis.core.failures.FailureGroup):
        schema["/number"]["GET"].Case().call_and_validate()
