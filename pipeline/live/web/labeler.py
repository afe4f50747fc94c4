"""The labeler's page: one pair, a slider, skip and undo.

Nothing here knows of audits, outcomes, weights or other people's reports: it sees what `Campaign.next_task` gives.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import Field

from truthful_rlhf.aggregation.rules import learns_online
from truthful_rlhf.pipeline.live.campaign import Campaign
from truthful_rlhf.pipeline.live.messages import Task
from truthful_rlhf.pipeline.live.web.access import Visitor, visits
from truthful_rlhf.pipeline.live.web.pages import AT_ONCE, NOTES, JudgeForm, hidden_fields, page, see, span, wants_page
from truthful_rlhf.pipeline.live.web.text import as_html

router = APIRouter(default_response_class=HTMLResponse)
Labeler = Annotated[Visitor, Depends(visits("labeler"))]

RIGHTMOST = 80
"""The slider's end: its ninths and its twentieths are whole numbers on both sides of the middle."""


class ReportForm(JudgeForm):
    """What the labeler's page sends."""

    action: Literal["report", "skip", "undo"] = "report"
    right: Annotated[int, Field(ge=0, le=RIGHTMOST)] = RIGHTMOST // 2


@router.get("/label")
def _labeler_page(request: Request, visitor: Labeler, note: str = "") -> Response:
    """Show the labeler's pair, the same one until it is answered or skipped."""
    campaign: Campaign = request.app.state.campaign
    name = visitor.person.id
    task = campaign.next_task(name)
    progress = campaign.progress(name)
    return page(
        request,
        "labeler.html",
        visitor,
        note=NOTES.get(note),
        task=shown_texts(request, task) if task else None,
        form=hidden_fields(visitor, request.app.state.aliases.of(task.pair_id) if task else "-"),
        progress=progress,
        spent=span(progress.seconds) if progress.seconds else None,
        why=request.app.state.why,
    )


@router.post("/label", status_code=303, response_class=RedirectResponse, responses=AT_ONCE)
def _answer(request: Request, visitor: Labeler, form: Annotated[ReportForm, Form()]) -> Response:
    """Take a report, a skip, or the last answer back."""
    visitor.check(form.csrf)
    note = _taken(request, visitor.person.id, form)
    return _labeler_page(request, visitor, note) if wants_page(request) else see("/label", note)


def _taken(request: Request, name: str, form: ReportForm) -> str:
    """Write what a form says; return the code of what became of it."""
    campaign: Campaign = request.app.state.campaign
    if form.action == "undo":
        return "undone" if campaign.undo(name) else "kept"
    pair_id = request.app.state.aliases.pair_id(form.pair, name)
    if form.action == "skip":
        return campaign.skip(name, pair_id, form.key).reason or "skipped"
    left_is_better = 1.0 - form.right / RIGHTMOST
    return campaign.report(name, pair_id, left_is_better, form.time_spent(), form.key).reason or "saved"


def shown_texts(request: Request, task: Task) -> dict[str, Any]:
    """Return a task with its texts as safe HTML."""
    markdown = request.app.state.campaign.settings.markdown
    texts = {name: as_html(getattr(task, name), markdown) for name in ("prompt", "left", "right")}
    return task._asdict() | texts | {"markdown": markdown}


def why_it_pays(campaign: Campaign) -> list[str]:
    """Return what may be said to labelers about this campaign's rule, and no more than is true of it."""
    settings = campaign.settings
    ask = (
        "Move the slider as far as you are sure: to 70\N{NO-BREAK SPACE}% where you would be right 7 times in 10. "
        "If you cannot tell, leave it in the middle."
    )
    is_checked = settings.audit_rate > 0.0 or campaign.state().counts.known > 0
    if not learns_online(settings.rule) or not is_checked:
        return [ask, "The result is as good as the answers: say what you believe."]
    influence = (
        "Some pairs are checked, by an expert or against an answer that is known. Your influence on the result grows "
        "with your accuracy on those pairs; you cannot know which they are."
    )
    if settings.rule not in ("online_weighted", "examined") or settings.stop_at is not None:
        return [ask, influence]
    best = (
        "With the scoring used here your influence after a pair is, on average, largest if you say exactly what you "
        "believe, whatever the others say. Overstating costs more when you are wrong than it brings when you are right."
    )
    return [ask, influence, best]
