"""The expert's page: the pairs that were drawn for a check, and nothing about what labelers said of them."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from truthful_rlhf.pipeline.live.web.access import Visitor, visits
from truthful_rlhf.pipeline.live.web.labeler import shown_texts
from truthful_rlhf.pipeline.live.web.pages import AT_ONCE, NOTES, JudgeForm, hidden_fields, page, see, wants_page

router = APIRouter(default_response_class=HTMLResponse)
Expert = Annotated[Visitor, Depends(visits("expert"))]
_OUTCOMES = {"left": True, "right": False, "unknown": None}


class OutcomeForm(JudgeForm):
    """What the expert's page sends."""

    answer: Literal["left", "right", "unknown"]


@router.get("/expert")
def _expert_page(request: Request, visitor: Expert, note: str = "") -> Response:
    """Show the next pair to check."""
    task = request.app.state.campaign.next_audit(visitor.person.id)
    form = hidden_fields(visitor, task.pair_id) if task else None
    shown = shown_texts(request, task) if task else None
    return page(request, "expert.html", visitor, note=NOTES.get(note), task=shown, form=form)


@router.post("/expert", status_code=303, response_class=RedirectResponse, responses=AT_ONCE)
def _answer(request: Request, visitor: Expert, form: Annotated[OutcomeForm, Form()]) -> Response:
    """Take an expert's outcome."""
    visitor.check(form.csrf)
    left_is_better = _OUTCOMES[form.answer]
    receipt = request.app.state.campaign.outcome(visitor.person.id, form.pair, left_is_better, form.key)
    note = receipt.reason or "saved"
    return _expert_page(request, visitor, note) if wants_page(request) else see("/expert", note)
