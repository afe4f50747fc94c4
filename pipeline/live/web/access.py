"""Who may do what: links and cookies, cross-site requests, the size of a body, the rate of requests, headers.

A personal link carries a random token of 128 bits. Opening it puts the token into a cookie that scripts cannot read;
programs send it as ``Authorization: Bearer``. A form carries a code that is derived from the cookie's token, so that no
other site can send one, and that tells nothing about the token.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.responses import PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from truthful_rlhf.pipeline.live.campaign import Campaign
from truthful_rlhf.pipeline.live.settings import Person, Role
from truthful_rlhf.pipeline.live.web.metrics import Metrics

COOKIE = "campaign"
MOST_BYTES = 64 * 1024
REQUESTS_PER_SECOND, BURST = 20.0, 100.0
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


@dataclass(frozen=True)
class Visitor:
    """Who sent a request, and the token by which it was known."""

    person: Person
    token: str

    @property
    def csrf(self) -> str:
        """The code that this visitor's forms carry."""
        return hmac.new(self.token.encode(), b"form", hashlib.sha256).hexdigest()

    def check(self, csrf: str) -> None:
        """Refuse a form that does not come from a page of this visitor's.

        Raises:
            HTTPException: 403.
        """
        if not hmac.compare_digest(self.csrf.encode(), csrf.encode("utf-8", "replace")):
            raise HTTPException(403, "This form has expired. Go back, load the page again, and send it once more.")


class Limiter:
    """A token bucket per sender: ``BURST`` requests at once, ``REQUESTS_PER_SECOND`` in the long run."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._left: dict[str, tuple[float, float]] = {}

    def allows(self, sender: str) -> bool:
        """Count one request of a sender; False if it is one too many."""
        now = self._clock()
        with self._lock:
            if len(self._left) > 10_000:  # those that have been quiet long enough to have their whole burst again
                old = now - BURST / REQUESTS_PER_SECOND
                self._left = {who: value for who, value in self._left.items() if value[1] > old}
            left, then = self._left.get(sender, (BURST, now))
            left = min(BURST, left + (now - then) * REQUESTS_PER_SECOND)
            self._left[sender] = (max(0.0, left - 1.0), now)
            return left >= 1.0


def cookie_of(campaign: Campaign) -> str:
    """Return the name of a campaign's cookie: browsers share cookies between the ports of a machine."""
    return f"{COOKIE}_{hashlib.sha256(str(campaign.folder.resolve()).encode()).hexdigest()[:8]}"


_bearer = HTTPBearer(auto_error=False, description="The token of a personal link: what stands behind /join/.")
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def visits(role: Role, *, program: bool = False) -> Callable[..., Visitor]:
    """Return the dependency that lets one role in: by the cookie of a page, or by a program's bearer token.

    A program's token is never read from the cookie, so that no other site can use an open session.
    """

    def by_cookie(request: Request) -> Visitor:
        return _of_role(known_by_cookie(request), role)

    def by_bearer(request: Request, given: Bearer) -> Visitor:
        return _of_role(_known(request, given.credentials if given else ""), role)

    return by_bearer if program else by_cookie


def known_by_cookie(request: Request) -> Visitor:
    """Return whose browser it is.

    Raises:
        HTTPException: 401, or 429 for too many requests.
    """
    return _known(request, request.cookies.get(cookie_of(request.app.state.campaign), ""))


def check_rate(request: Request, person: Person | None) -> None:
    """Count a request of a person, or of an address where nobody is known.

    Raises:
        HTTPException: 429 for one too many.
    """
    address = request.client.host if request.client else "?"
    sender = f"address {address}" if person is None else f"person {person.id}"
    if not request.app.state.limiter.allows(sender):
        raise HTTPException(429, "Too many requests. Wait a moment, then try again.", {"Retry-After": "1"})


def _known(request: Request, token: str) -> Visitor:
    person = request.app.state.campaign.role(token) if token else None
    check_rate(request, person)
    if person is None:
        raise HTTPException(401, "Open your personal link to come in.", {"WWW-Authenticate": "Bearer"})
    return Visitor(person, token)


def _of_role(visitor: Visitor, role: Role) -> Visitor:
    if visitor.person.role != role:
        raise HTTPException(403, f"This is not a page for the role of your link, {visitor.person.role}.")
    return visitor


class Shield:
    """ASGI middleware: refuses bodies above ``MOST_BYTES``, sets the security headers of every answer, counts."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; anything but HTTP passes through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if not scope["path"].startswith("/static/"):
                    headers["Cache-Control"] = "no-store"
            await send(message)

        body = await _body(receive, scope)
        try:
            if body is None:
                answer = PlainTextResponse("413: a request may have at most 65,536 bytes", 413, {"Connection": "close"})
                await answer(scope, receive, send_on)
            else:
                await self.app(scope, _replayed(body, receive), send_on)
        finally:
            self.metrics.observe(scope, status, time.perf_counter() - start)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that was read already, and then what comes after it."""
    left = [body]

    async def again() -> Message:
        return {"type": "http.request", "body": left.pop(), "more_body": False} if left else await receive()

    return again


async def _body(receive: Receive, scope: Scope) -> bytes | None:
    """Return the whole body, or None as soon as it is known to be too long."""
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if not declared.isdigit() or int(declared) > MOST_BYTES:
        return None
    if scope["method"] in ("GET", "HEAD") and declared == b"0":
        return b""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MOST_BYTES:
            return None
        if not message.get("more_body", False):
            return bytes(body)
