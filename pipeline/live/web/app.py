"""The server: the way in and out, and what a visitor is told when something goes wrong."""

from __future__ import annotations

import logging
from importlib import resources
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Form, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.staticfiles import StaticFiles

from truthful_rlhf.pipeline.live.campaign import Campaign
from truthful_rlhf.pipeline.live.settings import CampaignError
from truthful_rlhf.pipeline.live.store import StoreError
from truthful_rlhf.pipeline.live.web import api, expert, labeler, owner
from truthful_rlhf.pipeline.live.web.access import Limiter, Shield, Visitor, check_rate, cookie_of, known_by_cookie
from truthful_rlhf.pipeline.live.web.aliases import Aliases
from truthful_rlhf.pipeline.live.web.dashboard import Dashboard
from truthful_rlhf.pipeline.live.web.metrics import Metrics
from truthful_rlhf.pipeline.live.web.pages import message, see

logger = logging.getLogger(__name__)

_COOKIE_SECONDS = 90 * 86_400
_HOMES = {"labeler": "/label", "expert": "/expert", "owner": "/owner"}
_TITLES = {
    401: "Open your personal link",
    403: "Not for you",
    404: "No such page",
    405: "No such page",
    409: "Not possible in this campaign",
    413: "Too long",
    422: "That was not understood",
    429: "A little slower, please",
    503: "Not saved: the server cannot write just now",
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": _TITLES[status]} for status in (401, 403, 404, 409, 413, 422, 429, 503)
}
router = APIRouter(default_response_class=HTMLResponse)
Known = Annotated[Visitor, Depends(known_by_cookie)]


def create_app(campaign: Campaign, docs: bool = False) -> FastAPI:
    """Return the server of a campaign, an ASGI application.

    Args:
        campaign: whose pages it serves.
        docs: whether ``/docs`` and ``/openapi.json`` describe the routes.
    """
    app = FastAPI(
        title="truthful-rlhf campaign",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if docs else None,
        responses=_ERRORS,
    )
    app.state.campaign, app.state.limiter = campaign, Limiter()
    app.state.aliases, app.state.why = Aliases(campaign), labeler.why_it_pays(campaign)
    app.state.dashboard, app.state.metrics = Dashboard(campaign), Metrics(campaign)
    for part in (router, labeler.router, expert.router, owner.router, api.router):
        app.include_router(part)
    if docs:
        app.include_router(owner.docs_router)
    static = resources.files("truthful_rlhf.pipeline") / "templates" / "live" / "static"
    app.mount("/static", StaticFiles(directory=str(static)))
    app.add_exception_handler(AnyHTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(CampaignError, _on_campaign_error)
    app.add_exception_handler(StoreError, _on_lost_store)
    app.add_middleware(Shield, metrics=app.state.metrics)
    return app


@router.get("/", status_code=303, response_class=RedirectResponse)
def _home(visitor: Known) -> Response:
    """Lead to the page of the visitor's role."""
    return see(_HOMES[visitor.person.role])


@router.get("/join/{token}", status_code=303, response_class=RedirectResponse)
def _join(request: Request, token: str) -> Response:
    """Open a personal link: remember its token in a cookie, and lead on to an address without it."""
    campaign: Campaign = request.app.state.campaign
    check_rate(request, None)
    person = campaign.role(token)
    if person is None:
        raise HTTPException(401, "This link is not known. It may be cut off, or replaced by a newer one.")
    answer = see(_HOMES[person.role])
    secure = request.url.scheme == "https"
    answer.set_cookie(cookie_of(campaign), token, max_age=_COOKIE_SECONDS, httponly=True, secure=secure, samesite="lax")
    return answer


@router.post("/leave")
def _leave(request: Request, visitor: Known, csrf: Annotated[str, Form(min_length=1, max_length=100)]) -> Response:
    """Forget the visitor's token."""
    visitor.check(csrf)
    answer = message(request, 200, "You are signed out", "Open your personal link to come back.")
    answer.delete_cookie(cookie_of(request.app.state.campaign), httponly=True, samesite="lax")
    return answer


# ---- when something goes wrong


def _for_program(request: Request) -> bool:
    return request.url.path.startswith(("/api/", "/metrics", "/openapi.json"))


def _refusal(request: Request, status: int, reason: str, headers: Any = None) -> Response:
    if _for_program(request):
        return JSONResponse({"detail": reason}, status, headers)
    answer = message(request, status, _TITLES.get(status, "That did not work"), reason)
    answer.headers.update(headers or {})
    return answer


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AnyHTTPException)
    known = {404: "Nothing is at this address.", 405: "Nothing is at this address."}
    return _refusal(request, error.status_code, known.get(error.status_code, str(error.detail)), error.headers)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "the request"
    return _refusal(request, 422, f"{where}: {first['msg']}")


async def _on_campaign_error(request: Request, error: Exception) -> Response:
    return _refusal(request, 409, str(error))


async def _on_lost_store(request: Request, error: Exception) -> Response:
    """Say what is true: this one is not saved, all that was acknowledged is; and offer to send it again."""
    logger.error("%s", error)
    reason = (
        "The database cannot be reached or its disk is full. What was saved before is safe; what you have just sent is "
        "not saved. The owner of the campaign has to look after it."
    )
    if _for_program(request):
        return JSONResponse({"detail": reason}, 503, {"Retry-After": "5"})
    fields = await request.form() if request.method == "POST" else None
    again = None
    if fields:
        texts = [(name, value) for name, value in fields.multi_items() if isinstance(value, str)]
        again = {"action": request.url.path, "fields": texts}
    answer = message(request, 503, _TITLES[503], reason, again=again, back=None if again else request.url.path)
    answer.headers["Retry-After"] = "5"
    return answer
