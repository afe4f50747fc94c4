"""What all pages share: templates, who the page is for, the hidden fields of a form, sentences by code."""

from __future__ import annotations

import functools
import secrets
import time
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict, Field

from truthful_rlhf.pipeline.live.web.access import Visitor

MOST_SECONDS = 3600.0
"""Longer than this nobody looks at one pair: they went away."""

Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{8,64}$", description="a new one per answer, sent again with it")]
PairId = Annotated[str, Field(min_length=1, max_length=2000)]


class Note(NamedTuple):
    """A sentence above the page, and whether it is bad news."""

    text: str
    tone: str = ""


NOTES = {
    "saved": Note("Saved."),
    "skipped": Note("Skipped. Nobody is paid or blamed for a pair that was skipped."),
    "undone": Note("Taken back. Answer this pair again."),
    "kept": Note("Your last answer can no longer be changed: its pair is complete.", "bad"),
    "closed": Note("Others have completed that pair in the meantime: your answer was no longer needed.", "bad"),
    "answered": Note("That pair had your answer already, perhaps from another window. The first one stands.", "bad"),
    "not yours": Note("That answer was not taken: its pair is not on your list.", "bad"),
    "paused": Note("That answer was not taken: the owner has paused your part of this campaign.", "bad"),
}
"""By the code in the address, so that an address can show no other sentence."""


class JudgeForm(BaseModel):
    """The hidden fields of a form about a pair."""

    model_config = ConfigDict(extra="ignore")

    csrf: Annotated[str, Field(min_length=1, max_length=100)]
    key: Key
    pair: PairId
    shown: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """When the page was made, in seconds since 1970."""
    seconds: Annotated[str, Field(max_length=20)] = ""
    """How long the pair was in sight, if the browser could tell."""

    def time_spent(self) -> float:
        """Return the seconds spent on the pair, in [0, ``MOST_SECONDS``]: the browser's, or since the page was made."""
        try:
            spent = float(self.seconds)
        except ValueError:
            spent = time.time() - self.shown
        return min(MOST_SECONDS, max(0.0, spent)) if spent == spent else 0.0


@functools.cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("truthful_rlhf.pipeline"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


def page(
    request: Request, template: str, visitor: Visitor | None = None, status: int = 200, **content: Any
) -> HTMLResponse:
    """Return a page with every value escaped.

    Args:
        request: what it answers.
        template: file name below ``templates/live``.
        visitor: whose page it is.
        status: of HTTP.
        **content: variables of the template.
    """
    who = {"person": visitor.person, "csrf": visitor.csrf} if visitor else {}
    name = request.app.state.campaign.folder.resolve().name
    return HTMLResponse(_templates().get_template(f"live/{template}").render(campaign=name, **who, **content), status)


def message(request: Request, status: int, title: str, *sentences: str, **content: Any) -> HTMLResponse:
    """Return a page that only says something.

    Args:
        request: what it answers.
        status: of HTTP.
        title: its heading.
        *sentences: a paragraph each.
        **content: ``back``, where to go on, or ``again``, a form to send once more.
    """
    known = {"again": None, "back": None} | content
    return page(request, "message.html", status=status, title=title, sentences=sentences, **known)


def hidden_fields(visitor: Visitor, pair_id: str) -> dict[str, str]:
    """Return the hidden fields of a form about a pair, with a key of its own."""
    return {
        "csrf": visitor.csrf,
        "key": secrets.token_urlsafe(16),
        "pair": pair_id,
        "shown": f"{time.time():.3f}",
    }


AT_ONCE: dict[int | str, dict[str, Any]] = {200: {"description": "The next page", "content": {"text/html": {}}}}
"""What a form may also be answered with."""


def wants_page(request: Request) -> bool:
    """Whether our script sent the form: it takes the next page as the answer, which saves a request."""
    return "x-page" in request.headers


def see(path: str, note: str | None = None) -> RedirectResponse:
    """Return the way to a page, so that loading it again sends nothing twice."""
    return RedirectResponse(f"{path}?note={quote(note)}" if note else path, 303)


def span(seconds: float) -> str:
    """Return a time in words.

    Examples:
        >>> span(42.4), span(125), span(3725)
        ('42 s', '2 min', '1 h 2 min')
    """
    minutes = int(seconds // 60)
    if minutes == 0:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
