"""The owner's page: everything about the campaign, and everything of it to take away."""

from __future__ import annotations

import json
import secrets
import tempfile
from pathlib import Path
from typing import Annotated, Any
from zipfile import ZIP_STORED, ZipFile

from fastapi import APIRouter, Depends, Form, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.background import BackgroundTask

from truthful_rlhf.pipeline.live.web.access import Visitor, visits
from truthful_rlhf.pipeline.live.web.dashboard import Dashboard
from truthful_rlhf.pipeline.live.web.pages import NOTES, Key, page, see

router = APIRouter(default_response_class=HTMLResponse)
docs_router = APIRouter()
Owner = Annotated[Visitor, Depends(visits("owner"))]
OwnersProgram = Annotated[Visitor, Depends(visits("owner", program=True))]
Wage = Annotated[float, Query(ge=0, le=1e6, allow_inf_nan=False)]


@router.get("/owner")
def _dashboard(request: Request, visitor: Owner, hourly: Wage = 0.0, note: str = "") -> Response:
    """Show how the campaign stands; ``hourly`` is what an hour of work costs."""
    board: Dashboard = request.app.state.dashboard
    key = secrets.token_urlsafe(16)
    return page(
        request, "owner.html", visitor, note=NOTES.get(note), board=board.now(), hourly=hourly, key=key, wide=True
    )


@router.get("/owner/figures/{name}.png", response_class=Response)
def _figure(request: Request, visitor: Owner, name: str) -> Response:
    """Return a figure of the owner's page."""
    board: Dashboard = request.app.state.dashboard
    drawn = board.now().images.get(name)
    if drawn is None:
        raise HTTPException(404)
    return Response(drawn, media_type="image/png")


@router.get("/metrics", response_class=PlainTextResponse)
def _metrics(request: Request, visitor: OwnersProgram) -> Response:
    """Return the figures of server and campaign for Prometheus; the owner's token comes as a bearer token."""
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE_LATEST)


@router.post("/owner/pause", status_code=303, response_class=RedirectResponse)
def _pause(
    request: Request,
    visitor: Owner,
    csrf: Annotated[str, Form(min_length=1, max_length=100)],
    labeler: Annotated[str, Form(min_length=1, max_length=200)],
    key: Annotated[Key, Form()],
    resume: Annotated[bool, Form()] = False,
) -> Response:
    """Pause a labeler, or let it go on."""
    visitor.check(csrf)
    request.app.state.campaign.pause(labeler, key, paused=not resume)
    return see("/owner")


@router.get("/owner/export.zip", response_class=FileResponse)
def _download(request: Request, visitor: Owner) -> Response:
    """Return the files of ``campaign export``."""
    from truthful_rlhf.pipeline.live.export import export_campaign

    folder = tempfile.TemporaryDirectory()
    out = Path(folder.name) / "export"
    export_campaign(request.app.state.campaign, out)
    whole = Path(folder.name) / "export.zip"
    with ZipFile(whole, "w", ZIP_STORED) as zipped:  # Parquet and PNG are compressed already
        for path in sorted(out.rglob("*")):
            zipped.write(path, path.relative_to(out.parent))
    return FileResponse(
        whole, media_type="application/zip", filename="export.zip", background=BackgroundTask(folder.cleanup)
    )


@docs_router.get("/docs", include_in_schema=False)
def _describe(request: Request) -> Response:
    """Show the OpenAPI description; nothing is loaded from elsewhere."""
    whole = request.app.openapi()
    schemas = whole["components"]["schemas"]
    routes = []
    for path, methods in sorted(whole["paths"].items(), key=lambda item: not item[0].startswith("/api/")):
        for method, route in methods.items():
            body: dict[str, Any] = route.get("requestBody", {}).get("content", {})
            answer: dict[str, Any] = route["responses"].get("200", {}).get("content", {})
            parts = [("Body", body), ("Answer", {kind: of for kind, of in answer.items() if kind.endswith("json")})]
            said = [
                (title, kind, _as_text(of.get("schema"), schemas)) for title, all in parts for kind, of in all.items()
            ]
            routes.append({"name": f"{method.upper()} {path}", "about": route.get("description", ""), "said": said})
    return page(request, "docs.html", title="Routes", routes=routes)


def _as_text(schema: dict[str, Any] | None, schemas: dict[str, Any]) -> str:
    """Return a schema as JSON, with the one that it refers to in its place."""
    if not schema:
        return ""
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    return json.dumps(schemas[name]["properties"] if name else schema, indent=1)
