"""JSON for LLM judges and other programs: the labeler's page without the page, with a bearer token."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from truthful_rlhf.pipeline.live.campaign import Campaign
from truthful_rlhf.pipeline.live.web.access import Visitor, visits
from truthful_rlhf.pipeline.live.web.pages import MOST_SECONDS, Key, PairId

router = APIRouter(prefix="/api", tags=["programs"])
Judge = Annotated[Visitor, Depends(visits("labeler", program=True))]


class ApiTask(BaseModel):
    """A pair to judge, its responses in the order in which they are shown to this labeler."""

    pair_id: str
    """A name of the pair for programs, not the owner's."""
    prompt: str
    left: str
    right: str
    topic: str | None
    done: int
    total: int


class ApiReport(BaseModel):
    """What a labeler says of the pair that it was given."""

    model_config = ConfigDict(extra="forbid")

    pair_id: PairId
    left_is_better: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None
    """Probability that the left response is better; null: cannot judge, give me another pair."""
    seconds: Annotated[float, Field(ge=0, le=MOST_SECONDS, allow_inf_nan=False)] = 0.0
    key: Key


class ApiReceipt(BaseModel):
    """What became of a report; a key that has come before gets the first receipt again."""

    accepted: bool
    reason: str | None


@router.post("/next")
def _next_task(request: Request, visitor: Judge) -> ApiTask | None:
    """Return the pair to judge next, the same one until it is answered, or null if there is none just now."""
    task = request.app.state.campaign.next_task(visitor.person.id)
    if task is None:
        return None
    return ApiTask.model_validate(task._asdict() | {"pair_id": request.app.state.aliases.of(task.pair_id)})


@router.post("/report")
def _report(request: Request, visitor: Judge, said: ApiReport) -> ApiReceipt:
    """Take a report; it is on the disk when the receipt comes."""
    campaign: Campaign = request.app.state.campaign
    name = visitor.person.id
    pair_id = request.app.state.aliases.pair_id(said.pair_id, name)
    if said.left_is_better is None:
        receipt = campaign.skip(name, pair_id, said.key)
    else:
        receipt = campaign.report(name, pair_id, said.left_is_better, said.seconds, said.key)
    return ApiReceipt(accepted=receipt.accepted, reason=receipt.reason)
